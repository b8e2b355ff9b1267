"""``MictlanXCopyOperator``: one object and a prefix, between buckets and between connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mictlanx.batches.runner import BatchError
from airflow_provider_mictlanx.client.errors import BallConflictError, NotFoundError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXCopyOperator
from tests.support.operator_runs import run, store
from tests.support.vss import LocalVSS

ONE = {"bucket_id", "key", "ball_id", "size", "checksum", "num_chunks", "replicas", "uploaded", "response_time"}


def copied(bucket_id: str, dest_bucket_id: str, **arguments: Any) -> Any:
    arguments = {"max_tries": 2, "max_backoff": 0.05, **arguments}
    return run(MictlanXCopyOperator(task_id="copy", bucket_id=bucket_id, dest_bucket_id=dest_bucket_id, **arguments))


def test_one_object(hook: MictlanXHook, bucket_id: str, told: Callable[[], list[str]]) -> None:
    dest = f"{bucket_id}-2"
    hook.put(bucket_id, "a/b.txt", "¡hola!", tags={"run": "r1"})
    result = copied(bucket_id, dest, key="a/b.txt", dest_key="c/d.txt", rf=2)
    assert set(result) == ONE | {"source_bucket_id", "source_key"}
    assert (result["bucket_id"], result["key"], result["source_key"]) == (dest, "c/d.txt", "a/b.txt")
    assert (result["uploaded"], result["replicas"]) == (True, 2)
    assert hook.get(dest, "c/d.txt").decode() == "¡hola!"
    assert hook.get_metadata(dest, "c/d.txt")["tags"]["run"] == "r1"
    assert copied(bucket_id, dest, key="a/b.txt", dest_key="c/d.txt")["uploaded"] is False
    first, second = told()[-2:]
    assert first.startswith(f"Copied {bucket_id}/a/b.txt to {dest}/c/d.txt: 7 bytes in 1 chunk, ")
    assert second == f"Nothing to copy: {dest}/c/d.txt: 7 bytes in 1 chunk is stored already"


def test_other_content_fails_at_once_unless_replaced(hook: MictlanXHook, bucket_id: str) -> None:
    store(hook, bucket_id, "a", "b")
    with pytest.raises(AirflowFailException, match="BallConflictError") as caught:
        copied(bucket_id, bucket_id, key="a", dest_key="b")
    assert isinstance(caught.value.__context__, BallConflictError)
    assert copied(bucket_id, bucket_id, key="a", dest_key="b", replace=True)["uploaded"]
    assert hook.get(bucket_id, "b") == b"a"
    with pytest.raises(NotFoundError):
        copied(bucket_id, bucket_id, key="nothing", dest_key="c")


def test_prefix_with_empty_objects(hook: MictlanXHook, bucket_id: str) -> None:
    hook.put(bucket_id, "in/_SUCCESS", "", tags={"run": "r1"})
    hook.put(bucket_id, "in/1", "1")
    options = {"prefix": "in/", "dest_prefix": "out/"}
    assert copied(bucket_id, bucket_id, **options)["copied"] == 2
    assert hook.list_keys(bucket_id, prefix="out/") == ["out/1", "out/_SUCCESS"]
    assert hook.get_metadata(bucket_id, "out/_SUCCESS")["tags"]["run"] == "r1"
    again = copied(bucket_id, bucket_id, **options)
    assert (again["copied"], again["skipped"]) == (0, 2)


def test_prefix_to_another_space(
    hook: MictlanXHook,
    own_vss: Callable[..., LocalVSS],
    connect: Callable[..., None],
    bucket_id: str,
    told: Callable[[], list[str]],
) -> None:
    connect(own_vss(peers=1), "other_space")
    other = MictlanXHook("other_space")
    store(hook, bucket_id, "in/1", "in/sub/2", "in/3", "else")
    store(other, bucket_id, "arrived/1")
    other.delete(bucket_id, "arrived/1")
    options = {"prefix": "in/", "dest_prefix": "arrived/", "dest_conn_id": "other_space"}
    result = copied(bucket_id, bucket_id, **options)
    assert result.pop("response_time") > 0
    assert result == {
        "bucket_id": bucket_id,
        "prefix": "in/",
        "dest_bucket_id": bucket_id,
        "dest_prefix": "arrived/",
        "total_balls": 3,
        "copied": 3,
        "skipped": 0,
        "failed": 0,
        "copied_size": 16,
        "failures": [],
    }
    assert other.list_keys(bucket_id) == ["arrived/1", "arrived/3", "arrived/sub/2"]
    assert other.get(bucket_id, "arrived/sub/2") == b"in/sub/2"
    begin, line = told()[-2:]
    assert begin == "Copying 3 objects, 16 bytes"
    assert line.startswith(
        f"Copying in/* of bucket {bucket_id} to arrived/* of bucket {bucket_id}: 3 objects copied, 16 bytes in "
    )
    hook.put(bucket_id, "in/4", "four")
    again = copied(bucket_id, bucket_id, **options)
    assert (again["copied"], again["skipped"]) == (1, 3)
    assert copied(bucket_id, bucket_id, prefix="", dest_conn_id="other_space")["copied"] == 5
    assert copied(bucket_id, bucket_id, prefix="nothing", dest_conn_id="other_space")["total_balls"] == 0


def test_prefix_with_one_conflict(hook: MictlanXHook, bucket_id: str) -> None:
    store(hook, bucket_id, "in/1", "in/2")
    hook.put(bucket_id, "out/1", "something else")
    result = copied(bucket_id, bucket_id, prefix="in/", dest_prefix="out/", fail_on_error=False)
    assert (result["copied"], result["failed"]) == (1, 1)
    assert [(failure["key"], failure["code"]) for failure in result["failures"]] == [("in/1", 405)]
    with pytest.raises(AirflowFailException, match=r"1 of 2 objects failed: in/1: .*No retry can fix this") as caught:
        copied(bucket_id, bucket_id, prefix="in/", dest_prefix="out/")
    assert isinstance(caught.value.__context__, BatchError)
    assert caught.value.__context__.result["skipped"] == 1
    assert copied(bucket_id, bucket_id, prefix="in/", dest_prefix="out/", replace=True)["copied"] == 1
    assert hook.get(bucket_id, "out/1") == b"in/1"


@pytest.mark.parametrize(("prefix", "dest_prefix"), [("a/", "a/a/"), ("a/", "")])
def test_copies_replace_no_original(hook: MictlanXHook, bucket_id: str, prefix: str, dest_prefix: str) -> None:
    store(hook, bucket_id, "a/1", "a/a/1")
    with pytest.raises(AirflowFailException, match="copies must not replace other originals"):
        copied(bucket_id, bucket_id, prefix=prefix, dest_prefix=dest_prefix, replace=True)
    assert hook.list_keys(bucket_id) == ["a/1", "a/a/1"]
    result = copied(bucket_id, bucket_id, prefix=prefix, dest_prefix=dest_prefix, fail_on_error=False)
    assert (result["copied"], result["failed"]) == (1, 1)


def test_copy_never_gets_an_empty_key(hook: MictlanXHook, bucket_id: str) -> None:
    """It once got the original's key, and replaced what was there."""
    dest = f"{bucket_id}-2"
    store(hook, bucket_id, "a", "ab")
    hook.put(dest, "a", "something else")
    result = copied(bucket_id, dest, prefix="a", dest_prefix="", replace=True, fail_on_error=False)
    assert [(failure["key"], "empty key" in failure["message"]) for failure in result["failures"]] == [("a", True)]
    assert (hook.get(dest, "a"), hook.get(dest, "b")) == (b"something else", b"ab")


def test_what_may_pass_is_retried(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str
) -> None:
    vss = own_vss(peers=1)
    connect(vss)
    store(MictlanXHook(), bucket_id, "in/1", "in/2")
    with vss.fault("status", method="POST", status=500), pytest.raises(BatchError, match="Run it again") as caught:
        copied(bucket_id, bucket_id, prefix="in/", dest_prefix="out/")
    assert not caught.value.permanent
    assert copied(bucket_id, bucket_id, prefix="in/", dest_prefix="out/")["copied"] == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "a"},
        {"prefix": "a"},
        {"prefix": ""},
        {"key": "a", "dest_key": ""},
        {"key": "", "dest_key": "b"},
        {"key": "a", "dest_bucket_id": "a.b"},
        {"prefix": "a", "dest_bucket_id": "a.b"},
        {"prefix": "a", "dest_prefix": "b", "max_concurrency": 0},
        {"key": "a", "dest_key": "b", "max_concurrency": 0},
        {"key": "a", "dest_key": "b", "rf": 0},
        {"key": "a", "dest_conn_id": "nobody_knows_it"},
    ],
)
def test_bad_input_is_refused_before_the_first_request(vss: LocalVSS, hook: MictlanXHook, wrong: Any) -> None:
    vss.reset_requests()
    with pytest.raises(AirflowFailException):
        copied(**{"bucket_id": "bucket", "dest_bucket_id": "bucket", **wrong})
    assert vss.requests() == []


@pytest.mark.parametrize("selection", [{"key": "a"}, {"prefix": "a"}])
@pytest.mark.parametrize("conn_id", ["", 5, "\ud800"])
def test_wrong_dest_conn_id_is_named(hook: MictlanXHook, bucket_id: str, selection: Any, conn_id: Any) -> None:
    with pytest.raises(AirflowFailException, match="dest_conn_id must be a non-empty Unicode str"):
        copied(bucket_id, f"{bucket_id}-2", **selection, dest_conn_id=conn_id)


@pytest.mark.parametrize(
    "given",
    [{}, {"key": "a", "prefix": "a"}, {"key": "a", "dest_prefix": "b"}, {"prefix": "a", "dest_key": "b"}],
)
def test_one_object_or_a_prefix(given: Any) -> None:
    with pytest.raises(ValueError, match=r"MictlanXCopyOperator \(task_id: copy\): .* must be given"):
        MictlanXCopyOperator(task_id="copy", bucket_id="bucket", dest_bucket_id="bucket", **given)


def test_what_renders_to_nothing_copies_nothing(hook: MictlanXHook, bucket_id: str) -> None:
    """As ``key=task.output`` of a task that returned None; it once copied the whole bucket."""
    store(hook, bucket_id, "a", "b")
    dest = f"{bucket_id}-2"
    for given, rendered in (("key", None), ("prefix", None)):
        operator = MictlanXCopyOperator(task_id="copy", bucket_id=bucket_id, dest_bucket_id=dest, **{given: "a"})
        setattr(operator, given, rendered)
        with pytest.raises(AirflowFailException, match="exactly one of key and prefix must be given, got none"):
            run(operator)
    assert hook.list_keys(dest) == []


@pytest.mark.parametrize("name", ["dest_key", "dest_conn_id"])
def test_destination_that_renders_to_none_copies_nothing(hook: MictlanXHook, bucket_id: str, name: str) -> None:
    store(hook, bucket_id, "a")
    dest = f"{bucket_id}-2"
    operator = MictlanXCopyOperator(task_id="copy", bucket_id=bucket_id, dest_bucket_id=dest, key="a", **{name: "b"})
    setattr(operator, name, None)
    with pytest.raises(AirflowFailException, match=f"{name} must not be None after rendering"):
        run(operator)
    assert hook.list_keys(dest) == []


@pytest.mark.parametrize("dest_prefix", [7, ["a/"]])
def test_prefix_of_the_copies_is_a_text(hook: MictlanXHook, bucket_id: str, dest_prefix: Any) -> None:
    with pytest.raises(AirflowFailException, match=r"ValidationError: .*: dest_prefix must be str"):
        copied(bucket_id, f"{bucket_id}-2", prefix="a", dest_prefix=dest_prefix)
