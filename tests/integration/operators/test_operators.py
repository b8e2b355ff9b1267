"""Every operator's ``execute`` against the local VSS; bad input is refused before the first request."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_mictlanx.client.errors import (
    BallConflictError,
    ConnectFailedError,
    MictlanXError,
    NotFoundError,
    ValidationError,
)
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXDeleteBucketOperator,
    MictlanXDeleteOperator,
    MictlanXGetToFileOperator,
    MictlanXPutOperator,
)
from tests.support.vss import LocalVSS


def run(operator: BaseOperator) -> Any:
    result = operator.execute({})
    json.dumps(result)
    return result


def put(bucket_id: str, key: str, **arguments: Any) -> Any:
    return run(MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key=key, **arguments))


def get(bucket_id: str, key: str, output_path: Any, **arguments: Any) -> Any:
    operator = MictlanXGetToFileOperator(
        task_id="get", bucket_id=bucket_id, key=key, output_path=output_path, **arguments
    )
    return run(operator)


@pytest.fixture(autouse=True)
def _connected(connected: LocalVSS) -> None:
    pass


def test_put_get_delete(bucket_id: str, tmp_path: Path) -> None:
    source = tmp_path / "report.bin"
    source.write_bytes(os.urandom(700_000))
    stored = put(bucket_id, "2026/report.bin", file_path=source, rf=2, tags={"run": "r1"}, chunk_size="100kb")
    assert (stored["num_chunks"], stored["replicas"], stored["uploaded"]) == (7, 2, True)
    got = get(bucket_id, "2026/report.bin", tmp_path / "out")
    assert got["checksum"] == stored["checksum"]
    assert got["path"] == str(tmp_path / "out" / "report.bin")
    assert Path(got["path"]).read_bytes() == source.read_bytes()
    deleted = run(MictlanXDeleteOperator(task_id="delete", bucket_id=bucket_id, key="2026/report.bin"))
    assert deleted["n_deletes"] == 14
    again = run(MictlanXDeleteOperator(task_id="delete", bucket_id=bucket_id, key="2026/report.bin"))
    assert again["n_deletes"] == 0, "deleting what is not there is success"


@pytest.mark.parametrize("data", ["¡hola!", "¡hola!".encode(), "", b""])
def test_put_data(bucket_id: str, data: str | bytes) -> None:
    put(bucket_id, "key", data=data)
    assert MictlanXHook().get(bucket_id, "key") == (data.encode() if isinstance(data, str) else data)


def test_empty_file_is_stored_found_and_read_back(bucket_id: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    stored = put(bucket_id, "empty", file_path=str(tmp_path / "empty"))
    assert (stored["size"], stored["num_chunks"], stored["uploaded"]) == (0, 1, True)
    hook = MictlanXHook()
    assert hook.exists(bucket_id, "empty")
    assert [ball["key"] for ball in hook.list_balls(bucket_id)] == ["empty"]
    assert Path(get(bucket_id, "empty", tmp_path / "out")["path"]).read_bytes() == b""


def test_retry_of_a_finished_put_sends_nothing(bucket_id: str, vss: LocalVSS) -> None:
    put(bucket_id, "key", data="x" * 1000)
    vss.reset_requests()
    assert put(bucket_id, "key", data="x" * 1000)["uploaded"] is False
    assert not vss.requests("POST", "/buckets/data/")


def test_other_content_fails_at_once_unless_replaced(bucket_id: str, tmp_path: Path) -> None:
    put(bucket_id, "key", data="one")
    with pytest.raises(AirflowFailException, match="BallConflictError") as caught:
        put(bucket_id, "key", data="two")
    assert isinstance(caught.value.__context__, BallConflictError)
    get(bucket_id, "key", tmp_path)
    assert put(bucket_id, "key", data="two", replace=True)["uploaded"]
    with pytest.raises(AirflowFailException, match="FileAlreadyExists"):
        get(bucket_id, "key", tmp_path)
    assert (tmp_path / "key").read_text() == "one"
    get(bucket_id, "key", tmp_path, replace=True)
    assert (tmp_path / "key").read_text() == "two"


def test_what_is_not_there_may_be_there_later(bucket_id: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        get(bucket_id, "nothing", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_router_that_is_away_is_retried_by_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_AWAY", "mictlanx://r0@127.0.0.1:1/?protocol=http&connect_patience=0")
    with pytest.raises(ConnectFailedError):
        put("bucket", "key", data="x", mictlanx_conn_id="mictlanx_away", max_tries=1, deadline=20)


def test_delete_bucket(bucket_id: str) -> None:
    for n in range(5):
        put(bucket_id, f"key-{n}", data=f"{n}")
    result = run(MictlanXDeleteBucketOperator(task_id="delete", bucket_id=bucket_id))
    assert result.pop("response_time") > 0
    assert result == {"bucket_id": bucket_id, "deleted": 5, "failed": 0, "total": 5}
    assert run(MictlanXDeleteBucketOperator(task_id="delete", bucket_id=bucket_id))["total"] == 0


def test_delete_bucket_that_fails_in_part(
    bucket_id: str,
    own_vss: Callable[..., LocalVSS],
    connect: Callable[..., None],
    logged: Callable[[], list[str]],
) -> None:
    vss = own_vss(peers=1)
    connect(vss)
    for key in ("stays", "goes"):
        put(bucket_id, key, data=key)
    vss.set_fault("status", method="DELETE", path="stays", status=500)
    operator = {"task_id": "delete", "bucket_id": bucket_id, "deadline": 60, "mictlanx_conn_id": "mictlanx_default"}
    with pytest.raises(MictlanXError, match=rf"deleting 1 of \d+ objects of bucket '{bucket_id}' failed") as caught:
        run(MictlanXDeleteBucketOperator(**operator))
    assert not caught.value.permanent
    assert any(line.startswith(f"Deleting {bucket_id}/stays failed: ") for line in logged())
    result = run(MictlanXDeleteBucketOperator(**operator, fail_on_error=False))
    assert (result["failed"], set(result)) == (1, {"bucket_id", "deleted", "failed", "total", "response_time"})


def test_every_id_path_and_tag_is_templated(bucket_id: str, tmp_path: Path, connected: LocalVSS) -> None:
    context = {"ds": "2026-05-01", "name": "default", "folder": str(tmp_path)}
    (tmp_path / "2026-05-01").write_text("a file")
    conn_id = "mictlanx_{{ name }}"
    operators = [
        MictlanXPutOperator(
            task_id="file",
            bucket_id=bucket_id + "-{{ name }}",
            key="{{ ds }}/file",
            file_path="{{ folder }}/{{ ds }}",
            tags={"day": "{{ ds }}"},
            mictlanx_conn_id=conn_id,
        ),
        MictlanXPutOperator(task_id="data", bucket_id=bucket_id, key="k", data="on {{ ds }}", mictlanx_conn_id=conn_id),
        MictlanXGetToFileOperator(
            task_id="get",
            bucket_id=bucket_id + "-{{ name }}",
            key="{{ ds }}/file",
            output_path="{{ folder }}/out",
            filename="{{ ds }}.txt",
            mictlanx_conn_id=conn_id,
        ),
        MictlanXDeleteOperator(task_id="d", bucket_id=bucket_id, key="{{ 'k' }}", mictlanx_conn_id=conn_id),
        MictlanXDeleteBucketOperator(task_id="b", bucket_id=bucket_id + "-{{ name }}", mictlanx_conn_id=conn_id),
    ]
    results = []
    for operator in operators:
        operator.render_template_fields(context)
        results.append(run(operator))
        if operator.task_id == "file":
            found = MictlanXHook().get_metadata(f"{bucket_id}-default", "2026-05-01/file")
            assert found["tags"]["day"] == "2026-05-01"
        if operator.task_id == "data":
            assert MictlanXHook().get(bucket_id, "k") == b"on 2026-05-01"
    assert results[2]["path"] == f"{tmp_path}/out/2026-05-01.txt"
    assert results[3]["n_deletes"] == 1
    assert results[4]["deleted"] == 1


def test_transfers_log_start_and_end_others_one_line(
    bucket_id: str, tmp_path: Path, logged: Callable[[], list[str]]
) -> None:
    put(bucket_id, "key", data="x" * 300_000, chunk_size="100kb")
    get(bucket_id, "key", tmp_path)
    run(MictlanXDeleteOperator(task_id="delete", bucket_id=bucket_id, key="key"))
    run(MictlanXDeleteBucketOperator(task_id="delete", bucket_id=bucket_id))
    texts = [line for line in logged() if bucket_id in line]
    for start in (f"Putting {bucket_id}/key: 300 KB", f"Reading {bucket_id}/key: 300 KB"):
        texts.remove(start)
    assert len(texts) == 4, texts
    assert texts[0].startswith(f"Stored {bucket_id}/key: 300 KB in 3 chunks, ")
    assert texts[0].endswith("/s, 1 replica")
    assert texts[1].startswith(f"Read {bucket_id}/key: 300 KB in 3 chunks, ")
    assert texts[1].endswith(f"/s into {tmp_path}/key")
    assert texts[2] == f"Deleted {bucket_id}/key: 3 replicas of its chunks"
    assert texts[3].startswith(f"Deleted 0 objects of bucket {bucket_id} in ")


# Bad input


def test_nothing_is_looked_up_when_a_dag_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"mictlanx_conn_id": "no_such_connection"}
    MictlanXPutOperator(task_id="a", bucket_id="", key="", data="", **missing)
    MictlanXGetToFileOperator(task_id="b", bucket_id="", key="", output_path="", **missing)
    MictlanXDeleteOperator(task_id="c", bucket_id="", key="", **missing)
    MictlanXDeleteBucketOperator(task_id="d", bucket_id="", **missing)


@pytest.mark.parametrize("given", [{}, {"data": "", "file_path": ""}, {"data": b"", "file_path": Path("x")}])
def test_either_data_or_file(given: dict[str, Any]) -> None:
    got = "data and file_path" if given else "none"
    with pytest.raises(ValueError, match=f"task_id: put.*exactly one of data and file_path must be given, got {got}"):
        MictlanXPutOperator(task_id="put", bucket_id="b", key="k", **given)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"file_path": "{tmp}/missing"}, "missing"),
        ({"file_path": "{tmp}"}, "folder|directory|regular"),
        ({"file_path": ""}, "file|path"),
        ({"data": "x", "chunk_size": "abc"}, "abc"),
        ({"data": "x", "chunk_size": "0"}, "chunk_size|chunk size"),
        ({"data": "x", "chunk_size": 0}, "chunk_size|chunk size"),
        ({"data": "x", "rf": 0}, "rf"),
        ({"data": "x", "rf": "2"}, "rf"),
        ({"data": "x", "max_tries": 0}, "max_tries"),
        ({"data": "x", "max_concurrency": 0}, "max_concurrency"),
        ({"data": "x", "request_timeout": 0}, "timeout"),
        ({"data": "x", "max_backoff": -1}, "max_backoff|waiting times"),
        ({"data": "x", "deadline": 0}, "deadline"),
        ({"data": "x", "bucket_id": ""}, "bucket_id"),
        ({"data": "x", "bucket_id": "a.b c"}, "got 'a.b c'"),
        ({"data": "x", "bucket_id": "a__b"}, "safe id"),
        ({"data": "x", "key": ""}, "key"),
        ({"data": "x", "tags": {"n": 1}}, "tag"),
        ({"data": "x", "tags": {1: "n"}}, "tag"),
        ({"data": "x", "tags": "run=1"}, "tag"),
        ({"data": 7}, "data must be str or bytes, got int"),
        ({"data": "\ud800"}, "data must be valid Unicode"),
    ],
)
def test_bad_put_is_refused_before_the_first_request(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, arguments: dict[str, Any], why: str
) -> None:
    arguments = {"bucket_id": bucket_id, "key": "key", **arguments}
    if isinstance(arguments.get("file_path"), str):
        arguments["file_path"] = arguments["file_path"].replace("{tmp}", str(tmp_path))
    vss.reset_requests()
    with pytest.raises(AirflowFailException, match=why) as caught:
        run(MictlanXPutOperator(task_id="put", **arguments))
    assert isinstance(caught.value.__context__, ValidationError)
    assert vss.requests() == []


@contextmanager
def as_somebody_who_is_not_root() -> Iterator[None]:
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_unreadable_file_is_refused(vss: LocalVSS, bucket_id: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        secret = Path(folder, "mine")
        secret.write_text("x")
        secret.chmod(0)
        operator = MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="key", file_path=secret)
        assert operator.hook.settings
        vss.reset_requests()
        with as_somebody_who_is_not_root(), pytest.raises(AirflowFailException, match=r"mine.*[Pp]ermission"):
            operator.execute({})
        assert vss.requests() == []


def test_output_folder_that_can_not_be_written_is_refused(vss: LocalVSS, bucket_id: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for output_path in (folder, f"{folder}/new"):
            operator = MictlanXGetToFileOperator(task_id="g", bucket_id=bucket_id, key="k", output_path=output_path)
            assert operator.hook.settings
            vss.reset_requests()
            with as_somebody_who_is_not_root(), pytest.raises(AirflowFailException, match=r"[Pp]ermission"):
                operator.execute({})
            assert vss.requests() == []


def test_data_and_file_that_render_to_nothing(vss: LocalVSS, bucket_id: str) -> None:
    operator = MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="key", data="x")
    operator.data = None
    with pytest.raises(AirflowFailException, match="exactly one of data and file_path must be given, got none"):
        operator.execute({})


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"output_path": "{tmp}/file"}, "file"),
        ({"output_path": "{tmp}/file/folder"}, "file"),
        ({"output_path": "/proc/no/folder"}, "/proc/no/folder"),
        ({"filename": ""}, "filename must not be empty"),
        ({"filename": "../up"}, r"\.\./up"),
        ({"filename": "a/b"}, "a/b"),
        ({"filename": ".."}, r"'\.\.'"),
        ({"bucket_id": ""}, "bucket_id"),
        ({"bucket_id": "a/b"}, "safe id"),
        ({"key": ""}, "key"),
        ({"request_timeout": -1}, "timeout"),
        ({"max_tries": 0}, "max_tries"),
        ({"max_concurrency": 0}, "max_concurrency|max_paralell_gets"),
    ],
)
def test_bad_get_is_refused_before_the_first_request(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, arguments: dict[str, Any], why: str
) -> None:
    (tmp_path / "file").touch()
    arguments = {"bucket_id": bucket_id, "key": "key", "output_path": str(tmp_path), **arguments}
    arguments["output_path"] = arguments["output_path"].replace("{tmp}", str(tmp_path))
    vss.reset_requests()
    with pytest.raises(AirflowFailException, match=why):
        run(MictlanXGetToFileOperator(task_id="get", **arguments))
    assert vss.requests() == []


@pytest.mark.parametrize("bucket_id", ["", "a.b"])
def test_bad_delete_is_refused_before_the_first_request(vss: LocalVSS, bucket_id: str) -> None:
    vss.reset_requests()
    for operator in (
        MictlanXDeleteOperator(task_id="d", bucket_id=bucket_id, key="key"),
        MictlanXDeleteOperator(task_id="k", bucket_id="bucket", key=""),
        MictlanXDeleteBucketOperator(task_id="b", bucket_id=bucket_id),
    ):
        with pytest.raises(AirflowFailException):
            run(operator)
    assert vss.requests() == []


def test_connection_that_is_not_understood_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_WRONG", '{"conn_type": "mictlanx"}')
    with pytest.raises(AirflowFailException, match="exactly one of routers, uri and host must be set"):
        put("bucket", "key", data="x", mictlanx_conn_id="mictlanx_wrong")


def test_copy_of_a_used_operator_works(bucket_id: str) -> None:
    """``dag.test`` and retries within a process copy operators."""
    operator = MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="key", data="x")
    assert run(operator)["uploaded"] is True
    assert run(deepcopy(operator))["uploaded"] is False
