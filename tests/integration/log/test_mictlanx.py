"""Task logs are stored and read back: uploaded several times, from several workers, and with a storage that fails."""

from __future__ import annotations

import io
import json
import logging
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.log import mictlanx, storage
from airflow_provider_mictlanx.log.mictlanx import MictlanXRemoteLogIO
from tests.support.raw_requests import RawRequests
from tests.support.slow_storage import balls_in
from tests.support.vss import LocalVSS

RUN = "manual__2026-05-01T00:00:00+00:00"
TASK = f"dag_id=a.dag/run_id={RUN}/task_id=work"
FILE = f"{TASK}/attempt=1.log"


class Worker:
    """A folder of logs on a worker, and the log storage that its Airflow has."""

    def __init__(self, folder: Path, base_bucket: str, **options: Any) -> None:
        self.folder = folder
        self.remote = MictlanXRemoteLogIO(folder, f"mictlanx://{base_bucket}", **options)
        self.ti = SimpleNamespace(dag_id="a.dag", run_id=RUN)

    @property
    def bucket_id(self) -> str:
        return self.remote.run_bucket(self.ti.dag_id, self.ti.run_id)

    def append(self, text: str, file: str = FILE) -> Path:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            log.write(text.encode())
        return path

    def upload(self, text: str = "", file: str = FILE) -> None:
        self.append(text, file)
        self.remote.upload(file, self.ti)

    def read(self, file: str = FILE) -> list[list[str]]:
        """Return the lines of each stored log."""
        return [list(lines) for lines in self.remote.stream(file, self.ti)[1]]

    def parts(self) -> list[dict[str, Any]]:
        return MictlanXHook().list_balls(self.bucket_id)


@pytest.fixture
def worker(connected: LocalVSS, tmp_path: Path, bucket_id: str) -> Worker:
    return Worker(tmp_path / "worker-1", bucket_id)


@pytest.fixture
def other_worker(connected: LocalVSS, tmp_path: Path, bucket_id: str) -> Worker:
    return Worker(tmp_path / "worker-2", bucket_id)


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the errors logged by the log storage."""
    return lambda: [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR and not r.exc_info]


# -- what is stored is read ---------------------------------------------------------------------------------------------


def test_upload_and_stream_with_the_folder_deleted(worker: Worker) -> None:
    """Of every log only its own lines, and those of its triggers: as logs of their own, since Airflow merges them."""
    logs = {
        FILE: "the first try\nñ\n\nno line end",
        f"{FILE}.trigger.7.log": "a trigger\n",
        f"{TASK}/attempt=2.log": "the second try\n",
        f"{TASK}/attempt=10.log": "the tenth try\n",
        f"{TASK}/map_index=0/attempt=1.log": "mapped\n",
        f"{TASK}/map_index=10/attempt=1.log": "mapped too\n",
        f"{TASK}-2/attempt=1.log": "another task\n",
    }
    for file, text in logs.items():
        worker.upload(text, file)
    shutil.rmtree(worker.folder)
    assert worker.read() == [["the first try", "ñ", "", "no line end"], ["a trigger"]]
    for file, text in list(logs.items())[2:]:
        assert worker.read(file) == [text.splitlines()], file
    sources, texts = worker.remote.read(FILE, worker.ti)
    assert sources == [f"mictlanx://{worker.bucket_id}/{FILE}{end}" for end in ("", ".trigger.7.log")]
    assert texts == ["the first try\nñ\n\nno line end", "a trigger"]


def test_stream_of_another_run_does_not_list_this_one(worker: Worker, connected: LocalVSS) -> None:
    worker.upload("line\n")
    other = SimpleNamespace(dag_id="a.dag", run_id="another")
    connected.reset_requests()
    assert worker.remote.stream(FILE, other)[1] == []
    assert worker.remote.read(FILE, other)[1] is None
    assert connected.requests("GET", f"/{worker.bucket_id}/") == []


def test_upload_by_absolute_path_or_without_task_instance(worker: Worker) -> None:
    worker.remote.upload(worker.append("line\n"), worker.ti)
    assert worker.read() == [["line"]]
    callback = "executor_callbacks/a.dag/run/1"
    worker.append("called\n", callback)
    worker.remote.upload(callback)
    (key,) = [
        ball["key"] for ball in MictlanXHook().list_balls(worker.remote.run_bucket("executor_callbacks/a.dag", "run"))
    ]
    assert key.startswith(f"{callback}.part-")


@pytest.mark.parametrize("path", ["../secret", "link", "missing", ""])
def test_upload_of_anything_but_a_log_stores_nothing(
    worker: Worker, path: str, connected: LocalVSS, tmp_path: Path, errors: Callable[[], list[str]]
) -> None:
    (tmp_path / "secret").write_text("secret")
    worker.folder.mkdir()
    (worker.folder / "link").symlink_to(tmp_path / "secret")
    worker.remote.upload(path, worker.ti)
    assert not balls_in(connected, worker.bucket_id)
    assert not balls_in(connected, worker.remote.base_bucket)
    outside = path in ("../secret", "link")
    assert ["the log must be below base_log_folder" in error for error in errors()] == [True] * outside


def test_line_of_several_parts_is_one_line(
    worker: Worker, other_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is longer than a part, or an upload ended in the middle of it or of a character. Two logs are not joined."""
    monkeypatch.setattr(storage, "PART_SIZE", 10)
    monkeypatch.setattr(storage, "READ_AT_ONCE", 15)
    worker.upload("a" + "ñ" * 20 + "\nhalf")
    worker.upload(" a line\nno line end")
    other_worker.upload("other\n")
    assert worker.read() == [["a" + "ñ" * 20, "half a line", "no line end", "other"]]
    monkeypatch.setattr(storage, "MAX_LINE_SIZE", 15)
    lines = worker.read()[0]
    assert max(map(len, lines)) <= 25
    assert "".join(lines[:-3]).count("a") == 1


# -- several uploads of one attempt --------------------------------------------------------------------------------------


def test_second_upload_sends_only_new_lines(worker: Worker) -> None:
    worker.upload("deferred\n")
    worker.upload("resumed\n")
    worker.upload()
    assert worker.read() == [["deferred", "resumed"]]
    assert [part["size"] for part in worker.parts()] == [9, 8]


def test_second_upload_from_another_worker_adds_its_lines(worker: Worker, other_worker: Worker) -> None:
    """Even if the bytes are the same: they are other lines."""
    for line in ("one\n", "two\n"):
        worker.upload(line)
        other_worker.upload(line)
    assert worker.read() == [["one", "two", "one", "two"]]


def test_upload_of_a_file_that_was_written_anew(worker: Worker) -> None:
    """As the triggerer does with the log of a task that it is given again."""
    worker.upload("first\n" * 3)
    (worker.folder / FILE).write_text("second\n" * 5)
    worker.remote.upload(FILE, worker.ti)
    assert worker.read() == [["first"] * 3 + ["second"] * 5]


def test_upload_killed_before_it_records_what_is_stored(worker: Worker) -> None:
    worker.upload("one\n")
    hidden = storage.LocalState.path(worker.folder / FILE)
    for stored, line in ((0, "two\n"), (4, "three\n")):
        hidden.write_text(json.dumps(json.loads(hidden.read_text()) | {"stored": stored}))
        worker.upload(line)
    assert sorted(part["size"] for part in worker.parts()) == [4, 8, 10]
    assert worker.read() == [["one", "two", "three"]]


def test_upload_without_the_hidden_file_loses_nothing(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.upload("one\n")
    hidden = storage.LocalState.path(worker.folder / FILE)
    hidden.write_text('{"origin": 1}')
    worker.upload("two\n")
    assert worker.read() == [["one", "one", "two"]]
    assert [path.name for path in hidden.parent.iterdir() if path.name.startswith("attempt=1.log")] == ["attempt=1.log"]


def test_uploads_beside_each_other_double_no_line(worker: Worker, connected: LocalVSS) -> None:
    """The first half is still being uploaded when the second half ends."""
    lines = [f"line {number}" for number in range(8)]
    threads = []
    with connected.fault("latency", seconds=0.05, path=worker.bucket_id):
        for line in lines:
            worker.append(f"{line}\n")
            threads.append(threading.Thread(target=worker.remote.upload, args=(FILE, worker.ti)))
            threads[-1].start()
            time.sleep(0.03)
        for thread in threads:
            thread.join()
    assert worker.read() == [lines]


@pytest.mark.parametrize("seed", range(3))
def test_random_appends_and_failing_uploads(
    worker: Worker, other_worker: Worker, connected: LocalVSS, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """With tiny parts, so that lines and uploads are cut everywhere."""
    monkeypatch.setattr(storage, "PART_SIZE", 64)
    monkeypatch.setattr(storage, "READ_AT_ONCE", 150)
    monkeypatch.setattr(mictlanx, "FAILURE_LASTS", 0)
    chance = random.Random(seed)
    written: dict[Worker, list[str]] = {worker: [], other_worker: []}
    for step in range(12):
        log = chance.choice(list(written))
        log.remote.upload_timeout = 0.4
        lines = [f"{step}.{n} {'x' * chance.randrange(40)}" for n in range(chance.randrange(6))]
        written[log] += lines
        log.append("".join(f"{line}\n" for line in lines))
        if chance.random() < 0.4:
            kind = chance.choice(["fail_after_storing", "refuse_data"])
            with connected.fault(kind, bucket=log.bucket_id, skip=chance.randrange(4)):
                log.remote.upload(FILE, log.ti)
        else:
            log.remote.upload(FILE, log.ti)
    for log in written:
        log.remote.upload_timeout = 20
        log.upload()
    found = [line for lines in worker.read() for line in lines]
    assert sorted(found) == sorted(written[worker] + written[other_worker])
    for lines in written.values():
        assert [line for line in found if line in lines] == lines, "in order"


# -- a storage that fails ------------------------------------------------------------------------------------------------


@pytest.fixture
def unreachable(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", "mictlanx://router-0@127.0.0.1:1/?protocol=http")
    monkeypatch.setattr(storage, "CONNECT_PATIENCE", 0.3)
    return worker


def test_upload_without_router_keeps_the_log(
    unreachable: Worker, connect: Callable[..., None], connected: LocalVSS, errors: Callable[[], list[str]]
) -> None:
    began = time.monotonic()
    unreachable.upload("line\n")
    assert time.monotonic() - began < unreachable.remote.upload_timeout
    (error,) = errors()
    assert error.startswith(f"Uploading the log {FILE} to mictlanx://{unreachable.remote.base_bucket} failed; it stays")
    assert "127.0.0.1:1" in error
    assert (unreachable.folder / FILE).read_text() == "line\n"
    sources, logs = unreachable.remote.stream(FILE, unreachable.ti)
    assert (len(sources), logs) == (1, [])
    assert f"Reading the log {FILE} from mictlanx://" in sources[0]
    connect(connected)
    unreachable.upload("more\n")
    assert unreachable.read() == [["line", "more"]]


def test_upload_to_a_hung_router_ends_and_the_next_sooner(
    worker: Worker, connected: LocalVSS, errors: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A triggerer does nothing else while it uploads."""
    monkeypatch.setattr(mictlanx, "RETRY_PATIENCE", 0.2)
    worker.remote.upload_timeout = 0.7
    with connected.fault("latency", seconds=60, path=worker.bucket_id):
        for timeout in (0.7, 0.2):
            began = time.monotonic()
            worker.upload("line\n")
            assert timeout <= time.monotonic() - began < 30
            assert f"the upload: not done within the deadline of {timeout}" in errors()[-1]
    assert len(errors()) == 2


def test_upload_without_connection_says_so(
    worker: Worker, errors: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.remote.mictlanx_conn_id = "missing"
    worker.upload("line\n")
    assert "'missing'" in errors()[0]


def test_stream_without_a_peer_names_it(worker: Worker, own_vss: Callable[..., LocalVSS], connect: Any) -> None:
    vss = own_vss(peers=2)
    connect(vss)
    for number in range(8):
        worker.upload(f"{number}\n")
    with vss.fault("peer_down", peer="peer-1"):
        sources, (lines,) = worker.remote.stream(FILE, worker.ti)
        assert sources[1:] == ["Lines may be missing, because peers do not answer: peer-1"]
        assert set(lines) < set("01234567")
    assert worker.read() == [list("01234567")]


def test_stream_of_an_unreadable_part_shows_the_others(worker: Worker, connected: LocalVSS) -> None:
    for line in "abc":
        worker.upload(f"{line}\n")
    _, second, _ = sorted(worker.parts(), key=lambda part: str(part["key"]))
    with connected.fault(
        "status", status=404, path=f"/buckets/{worker.bucket_id}/{second['ball_id']}_0$", method="GET"
    ):
        ((first, gap, last),) = worker.read()
    assert (first, last) == ("a", "c")
    assert gap.startswith("Lines are missing here: ")


def test_stream_interrupted_in_the_middle_says_so(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, errors: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(storage, "READ_AT_ONCE", 1)
    worker.upload("a\n")
    worker.upload("b\n")
    _, (lines,) = worker.remote.stream(FILE, worker.ti)
    assert next(lines) == "a"
    monkeypatch.setattr(storage, "READ_TIMEOUT", 0.0001)
    (rest,) = lines
    assert rest.startswith("The rest of the log could not be read; load it again: DeadlineExceededError: ")
    assert errors() == [rest]


@pytest.mark.parametrize(
    "extra",
    [
        {"uri": "mictlanx://r0@a.example.org:60666,r1@b.example.org:60667/?protocol=http"},
        {
            "routers": ["https://a.example.org", "https://b.example.org"],
            "headers": {"X-Tenant": "a b"},
            "verify": False,
        },
    ],
)
def test_connection_that_airflow_hands_over_is_the_same(extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow fetches it from the database, and puts it as a URI into the environment of the process that uploads."""
    stored = Connection(conn_id="logs", conn_type="mictlanx", password="a/token&#", extra=json.dumps(extra))
    monkeypatch.setenv("AIRFLOW_CONN_LOGS", stored.get_uri())
    handed_over = MictlanXHook("logs").settings
    monkeypatch.setenv("AIRFLOW_CONN_LOGS", stored.as_json())
    assert handed_over == MictlanXHook("logs").settings
    assert (len(handed_over.uri.routers), handed_over.token) == (2, "a/token&#")


# -- local copies --------------------------------------------------------------------------------------------------------


def test_delete_local_copy_empties_the_log(worker: Worker, connected: LocalVSS) -> None:
    """A process that continues it may have opened it; its lines are not lost."""
    worker.remote.delete_local_copy = True
    path = worker.append("one\n")
    with path.open("ab", buffering=0) as resumed:
        worker.upload()
        assert path.read_bytes() == b""
        resumed.write(b"two\n")
        worker.upload()
    assert path.read_bytes() == b""
    assert worker.read() == [["one", "two"]]


def test_emptied_log_that_begins_as_before_loses_no_line(worker: Worker, connected: LocalVSS) -> None:
    worker.remote.delete_local_copy = True
    worker.upload("one\n")
    worker.upload("one\ntwo\n")
    assert worker.read() == [["one", "one", "two"]]


def test_delete_local_copy_keeps_what_is_not_stored(
    worker: Worker, connected: LocalVSS, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.remote.delete_local_copy = True
    with connected.fault("latency", seconds=0.5, path=worker.bucket_id, count=1) as fault:
        upload = threading.Thread(target=worker.upload, args=("one\n",))
        upload.start()
        while not fault.triggered:
            time.sleep(0.01)
        path = worker.append("two\n")
        upload.join()
    assert path.read_text() == "one\ntwo\n"
    worker.upload()
    assert path.read_text() == ""
    assert worker.read() == [["one", "two"]]


# -- deleting old runs ---------------------------------------------------------------------------------------------------


def test_delete_runs_deletes_only_old_ones(worker: Worker, connected: LocalVSS) -> None:
    hook = MictlanXHook()
    hook.put(worker.remote.base_bucket, "foreign", "data")
    hook.put(worker.remote.base_bucket, "f" * 77, "x" * len(worker.bucket_id))
    worker.upload("old\n")
    worker.upload("old\n", f"{FILE}.trigger.1.log")
    between = datetime.now(UTC)
    newer = Worker(worker.folder, worker.remote.base_bucket)
    newer.ti = SimpleNamespace(dag_id="a.dag", run_id="newer")
    newer.upload("new\n", "newer.log")
    assert worker.remote.delete_runs(between) == {"deleted": 1, "kept": 1, "objects": 2}
    assert (worker.read(), newer.read("newer.log")) == ([], [["new"]])
    assert len(hook.list_keys(worker.remote.base_bucket)) == 3
    worker.upload("cleared\n", f"{TASK}/attempt=2.log")  # the run is known again
    assert worker.remote.delete_runs("2100-01-01T00:00:00+00:00") == {"deleted": 2, "kept": 0, "objects": 2}
    assert hook.list_keys(worker.remote.base_bucket) == ["f" * 77, "foreign"]
    assert worker.remote.delete_runs(timedelta(0)) == {"deleted": 0, "kept": 0, "objects": 0}


def test_delete_runs_by_the_last_upload_of_a_run(worker: Worker) -> None:
    worker.upload("started long ago\n")
    between = datetime.now(UTC)
    worker.upload("cleared today\n", f"{TASK}/attempt=2.log")
    assert worker.remote.delete_runs(between) == {"deleted": 0, "kept": 1, "objects": 0}


def test_delete_runs_keeps_a_run_of_unknown_age(worker: Worker, connected: LocalVSS) -> None:
    worker.upload("one\n")
    rows = RawRequests(connected).listed_in(worker.bucket_id)
    for row in rows:
        del row["tags"]["updated_at"]
    body = {"bucket_id": worker.bucket_id, "peers_ids": ["peer-0", "peer-1", "peer-2"], "balls": rows}
    with connected.fault("status", path=f"{worker.bucket_id}/metadata$", status=200, body=body):
        assert worker.remote.delete_runs("2100-01-01T00:00:00+00:00") == {"deleted": 0, "kept": 1, "objects": 0}


def test_delete_runs_by_the_clock_of_the_storage(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.upload("one\n")
    monkeypatch.setattr("time.time", lambda: 5e9)
    assert worker.remote.delete_runs(timedelta(days=1)) == {"deleted": 0, "kept": 1, "objects": 0}


# -- large logs ----------------------------------------------------------------------------------------------------------


def test_parts_end_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PART_SIZE", 10)

    def cut(data: bytes) -> Iterator[bytes]:
        start = 0
        while part := storage._read_part(io.BytesIO(data), start, len(data)):
            yield part
            start += len(part)

    assert list(cut(b"1234\n6789\n1234\nlast")) == [b"1234\n6789\n", b"1234\nlast"]
    assert list(cut(b"123\n" + b"x" * 15)) == [b"123\n", b"x" * 10, b"x" * 5]
