"""``MictlanXGetToFolderOperator``: a bucket, a part of it, a bulk; resumable, and never outside of its folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mictlanx.batches.runner import BatchError
from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.client.errors import DeadlineExceededError, ValidationError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXGetToFolderOperator
from tests.support.operator_runs import run, store
from tests.support.vss import LocalVSS


def read(output_path: Path, **arguments: Any) -> Any:
    arguments = {"max_tries": 2, "max_backoff": 0.05, **arguments}
    return run(MictlanXGetToFolderOperator(task_id="get", output_path=str(output_path), **arguments))


def files_in(folder: Path) -> dict[str, str]:
    """Everything in a folder, hidden and half-written files included."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_empty_objects_become_empty_files(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    hook.put(bucket_id, "out/_SUCCESS", "")
    store(hook, bucket_id, "out/1")
    assert read(tmp_path, bucket_id=bucket_id, prefix="out/")["downloaded"] == 2
    assert files_in(tmp_path) == {"out/_SUCCESS": "", "out/1": "out/1"}
    assert read(tmp_path, bucket_id=bucket_id, prefix="out/")["skipped"] == 2


def test_bucket_and_parts_of_it(
    hook: MictlanXHook, bucket_id: str, tmp_path: Path, told: Callable[[], list[str]]
) -> None:
    store(hook, bucket_id, "a", "b/1.csv", "b/c/2.csv", "/abs/3.txt")
    whole = read(tmp_path / "whole", bucket_id=bucket_id)
    assert whole.pop("response_time") > 0
    assert whole == {
        "bucket_id": bucket_id,
        "prefix": "",
        "glob": "",
        "bulk_id": None,
        "output_path": str(tmp_path / "whole"),
        "total_balls": 4,
        "downloaded": 4,
        "skipped": 0,
        "failed": 0,
        "downloaded_size": 27,
        "failures": [],
        "unverified": 0,
    }
    assert files_in(tmp_path / "whole") == {
        "a": "a",
        "b/1.csv": "b/1.csv",
        "b/c/2.csv": "b/c/2.csv",
        "abs/3.txt": "/abs/3.txt",
    }
    assert "Reading 4 objects, 27 bytes" in told()
    (line,) = (line for line in told() if "objects read" in line)
    assert line.startswith(f"Reading * of bucket {bucket_id} into {tmp_path / 'whole'}: 4 objects read, 27 bytes in ")
    assert read(tmp_path / "part", bucket_id=bucket_id, prefix="b/c")["total_balls"] == 1
    assert read(tmp_path / "part", bucket_id=bucket_id, glob="*.csv")["total_balls"] == 2
    assert set(files_in(tmp_path / "part")) == {"b/1.csv", "b/c/2.csv"}
    assert read(tmp_path / "none", bucket_id=bucket_id, prefix="x")["total_balls"] == 0


def test_second_run_reads_what_is_missing(hook: MictlanXHook, vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    store(hook, bucket_id, "a/1", "a/2", "a/3")
    read(tmp_path, bucket_id=bucket_id)
    (tmp_path / "a" / "2").unlink()
    vss.reset_requests()
    again = read(tmp_path, bucket_id=bucket_id)
    assert (again["downloaded"], again["skipped"], again["failed"], again["downloaded_size"]) == (1, 2, 0, 3)
    assert len(vss.requests("GET", rf"/buckets/{bucket_id}/\w+_0$")) == 1
    vss.reset_requests()
    assert read(tmp_path, bucket_id=bucket_id)["skipped"] == 3
    assert {request["path"].partition("/buckets/")[2] for request in vss.requests()} <= {f"{bucket_id}/metadata", ""}


def test_file_with_other_content_is_left_unless_replaced(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    store(hook, bucket_id, "a", "b")
    (tmp_path / "a").write_text("A")
    with pytest.raises(AirflowFailException, match=r"1 of 2 objects failed: a: .*exists with other content"):
        read(tmp_path, bucket_id=bucket_id)
    assert files_in(tmp_path) == {"a": "A", "b": "b"}
    result = read(tmp_path, bucket_id=bucket_id, fail_on_error=False)
    assert (result["failed"], result["skipped"], result["failures"][0]["code"]) == (1, 1, 405)
    assert read(tmp_path, bucket_id=bucket_id, replace=True)["downloaded"] == 1
    assert files_in(tmp_path) == {"a": "a", "b": "b"}


@pytest.mark.parametrize(
    ("impossible", "why"),
    [
        (["../../up"], r"plain file name.*'\.\.'"),
        (["a/b", "a//b"], "would be the same file"),
        (["a/b"], "it would be a folder, since .*/a/b/c"),
        (["back\\slash"], "plain file name"),
        (["/"], "it contains no file name"),
        (["nul\0character"], "plain file name"),
        ([f"long/{'x' * 256}"], "at most 255 bytes"),
        (["d/" * 2100 + "deep"], "File name too long"),
    ],
)
def test_key_that_can_not_be_a_file_fails_alone(
    hook: MictlanXHook, vss: LocalVSS, bucket_id: str, tmp_path: Path, impossible: list[str], why: str
) -> None:
    """One object must not stop the others, whoever wrote it."""
    possible = ["fine", "z/fine", *(["a/b/c"] if impossible == ["a/b"] else [])]
    store(hook, bucket_id, *possible, *impossible)
    vss.reset_requests()
    result = read(tmp_path / "out", bucket_id=bucket_id, fail_on_error=False)
    assert (result["total_balls"], result["downloaded"], result["failed"]) == (
        len(possible) + len(impossible),
        len(possible),
        len(impossible),
    )
    assert sorted(failure["key"] for failure in result["failures"]) == sorted(
        key[:199] + "…" if len(key) > 200 else key for key in impossible
    )
    for failure in result["failures"]:
        assert set(failure) == {"bucket_id", "key", "code", "message"}
        assert (failure["bucket_id"], failure["code"]) == (bucket_id, 400)
    assert files_in(tmp_path) == {f"out/{key}": key for key in possible}
    # With fail_on_error the others are read as well, and the error tells which could not be, and that no retry helps.
    with pytest.raises(
        AirflowFailException, match=f"(?s){len(impossible)} of .* objects failed.*{why}.*No retry can fix this"
    ):
        read(tmp_path / "again", bucket_id=bucket_id)
    assert files_in(tmp_path / "again") == {key: key for key in possible}


def test_loop_of_links_fails_alone(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    store(hook, bucket_id, "fine", "loop/1")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    result = read(tmp_path, bucket_id=bucket_id, fail_on_error=False)
    assert (result["downloaded"], [failure["key"] for failure in result["failures"]]) == (1, ["loop/1"])


def test_link_that_leads_out_of_the_folder_is_not_followed(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    store(hook, bucket_id, "in/1", "out/2")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "out").symlink_to(tmp_path / "elsewhere")
    result = read(tmp_path / "folder", bucket_id=bucket_id, fail_on_error=False)
    assert (result["downloaded"], result["failed"]) == (1, 1)
    assert "a symbolic link must not lead out of the folder" in result["failures"][0]["message"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_lost_data_fails_alone_and_is_retried(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str, tmp_path: Path
) -> None:
    vss = own_vss(peers=1)
    connect(vss)
    store(MictlanXHook(), bucket_id, "a", "b", "c")
    broken = vss.set_fault("status", method="GET", path="/b_0$", status=404)
    with pytest.raises(BatchError, match=r"1 of 3 objects failed: b: .*Run it again") as caught:
        read(tmp_path, bucket_id=bucket_id)
    assert caught.value.result["downloaded"] == 2
    assert files_in(tmp_path) == {"a": "a", "c": "c"}
    broken.off()
    assert read(tmp_path, bucket_id=bucket_id)["downloaded"] == 1
    assert files_in(tmp_path) == {"a": "a", "b": "b", "c": "c"}


def test_deadline(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str, tmp_path: Path
) -> None:
    vss = own_vss(peers=1)
    connect(vss)
    store(MictlanXHook(), bucket_id, "a")
    vss.set_fault("latency", key="a_0", seconds=15)
    with pytest.raises(DeadlineExceededError, match="reading"):
        read(tmp_path, bucket_id=bucket_id, deadline=1)
    assert files_in(tmp_path) == {}


# Bulks


@pytest.fixture
def bulk_id(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> str:
    """A bulk of two files and an empty one, in a bucket in which there is more."""
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "a").write_text("1")
    (source / "sub" / "b").write_text("22")
    (source / "empty").touch()
    store(hook, bucket_id, "not of the bulk")
    hook.put_bulk(bucket_id, bucket_id, source, key_prefix="up/")
    return bucket_id


def test_bulk(hook: MictlanXHook, bulk_id: str, tmp_path: Path) -> None:
    result = read(tmp_path / "out", bulk_id=bulk_id)
    assert (result["bulk_id"], result["bucket_id"], result["total_balls"]) == (bulk_id, None, 3)
    assert files_in(tmp_path / "out") == {"up/a": "1", "up/sub/b": "22", "up/empty": ""}
    assert read(tmp_path / "out", bulk_id=bulk_id)["skipped"] == 3


def test_bulk_that_was_awaited_is_read_by_its_kept_items(hook: MictlanXHook, bulk_id: str, tmp_path: Path) -> None:
    hook.await_bulk(bulk_id, timeout=0, include_items=True, remove_on_completion=True)
    assert read(tmp_path / "out", bulk_id=bulk_id)["downloaded"] == 3


def test_bulk_that_was_closed_without_items_is_not_known(hook: MictlanXHook, bulk_id: str, tmp_path: Path) -> None:
    hook.await_bulk(bulk_id, timeout=0, remove_on_completion=True)
    with pytest.raises(AirflowFailException, match="closed by an await without include_items"):
        read(tmp_path / "out", bulk_id=bulk_id)


def test_other_bytes_than_the_bulk_uploaded_are_not_read(hook: MictlanXHook, bulk_id: str, tmp_path: Path) -> None:
    hook.put(bulk_id, "up/a", "2", replace=True)
    with pytest.raises(BatchError, match=r"up/a: .*so it was replaced"):
        read(tmp_path / "out", bulk_id=bulk_id)
    assert files_in(tmp_path / "out") == {"up/sub/b": "22", "up/empty": ""}


def test_bulk_that_is_not_complete(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    with pytest.raises(BulkFailedError, match=r"it is not finished\. .*is not planned yet"):
        read(tmp_path / "out", bulk_id=bucket_id)
    hook.put(bucket_id, "a", "another")
    balls = [{"key": "a", "data": "1"}, {"key": "b", "data": "2"}]
    hook.put_bulk(bucket_id, bucket_id, balls=balls, fail_on_error=False)
    with pytest.raises(AirflowFailException, match="failed: 1 of its 2 objects are not stored"):
        read(tmp_path / "out", bulk_id=bucket_id)
    assert files_in(tmp_path / "out") == {}


def test_bulk_that_failed_before_its_plan_says_why(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    bulk_id = f"none-{bucket_id}"
    with pytest.raises(ValidationError, match="has no objects"):
        hook.put_bulk(bulk_id, bucket_id, balls=[])
    with pytest.raises(BulkFailedError, match=r"0 of its 0 objects are not stored: .*the list has no objects"):
        hook.get_to_folder(tmp_path, bulk_id=bulk_id)


def test_one_key_in_two_buckets(hook: MictlanXHook, bucket_id: str, tmp_path: Path) -> None:
    balls = [{"bucket_id": f"{bucket_id}-{number}", "key": "a", "data": f"{number}"} for number in range(2)]
    hook.put_bulk(bucket_id, balls=balls)
    with pytest.raises(AirflowFailException, match=r"2 of 2 objects failed.*-1/a' would be the same file"):
        read(tmp_path / "out", bulk_id=bucket_id)
    assert files_in(tmp_path / "out") == {}


# Bad input


@pytest.mark.parametrize(
    "wrong",
    [
        {"output_path": ""},
        {"output_path": "/proc/no/folder"},
        {"bucket_id": "a.b"},
        {"bucket_id": "bucket", "prefix": "a", "glob": "b"},
        {"bucket_id": "bucket", "max_concurrency": 0},
        {"bucket_id": "bucket", "request_timeout": -1},
        {"bulk_id": "bulk", "prefix": "a"},
        {"bulk_id": ""},
    ],
)
def test_bad_input_is_refused_before_the_first_request(
    vss: LocalVSS, hook: MictlanXHook, tmp_path: Path, wrong: Any
) -> None:
    vss.reset_requests()
    which = {} if {"bucket_id", "bulk_id"} & set(wrong) else {"bucket_id": "bucket"}
    arguments = {"output_path": str(tmp_path / "out"), **which, **wrong}
    with pytest.raises(AirflowFailException):
        run(MictlanXGetToFolderOperator(task_id="get", **arguments))
    assert vss.requests() == []


@pytest.mark.parametrize("given", [{}, {"bucket_id": "bucket", "bulk_id": "bulk"}])
def test_a_bucket_or_a_bulk(given: Any, hook: MictlanXHook) -> None:
    with pytest.raises(ValueError, match="exactly one of bucket_id and bulk_id"):
        MictlanXGetToFolderOperator(task_id="get", output_path=os.sep, **given)
