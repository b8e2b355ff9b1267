"""Errors as the log of a task shows them: one line, our own frames, and the address of the documentation."""

from __future__ import annotations

import errno
import logging
import os
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout
from upath import UPath

from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.client.errors import ConnectFailedError, NotFoundError, UnknownError
from airflow_provider_mictlanx.hooks.errors import DOCUMENTATION
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators import mictlanx as operators
from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor, MictlanXObjectSensor
from tests.support.vss import LocalVSS

MAX_FRAMES = 16
"""Of Airflow's sensors and ours: from ``execute`` to the hook."""
FOREIGN = re.compile(r'File "[^"]*/(asyncio|tenacity|httpx|aiohttp|concurrent|contextlib)\b')
NO_DATABASE = "Unable to retrieve connection from secrets backend (MetastoreBackend)"
"""Airflow 2 in these tests."""
SHARED: dict[str, Any] = {"task_id": "task", "deadline": 20}


Logged: TypeAlias = Callable[[], list[tuple[str, str]]]


class Place(NamedTuple):
    """Where a task of the table works."""

    bucket_id: str
    folder: Path
    vss: LocalVSS

    def status(self, code: int) -> AbstractContextManager[object]:
        return self.vss.fault("status", bucket=self.bucket_id, status=code, body={"detail": "no"})


Case: TypeAlias = Callable[[Place], tuple[Any, AbstractContextManager[object]]]


def put(place: Place, **options: Any) -> Any:
    given = SHARED | {"bucket_id": place.bucket_id, "key": "k", "data": "x", "max_backoff": 0} | options
    return operators.MictlanXPutOperator(**given)


def bulk(place: Place, bulk_id: str, **options: Any) -> Any:
    for number in range(3):
        (place.folder / f"f{number}").write_text(str(number))
    shared: dict[str, Any] = {"bucket_id": place.bucket_id, "source": f"{place.folder}/f*", "max_tries": 1}
    return operators.MictlanXBulkPutOperator(task_id="task", bulk_id=bulk_id, **shared | options)


def conflict(place: Place) -> tuple[Any, AbstractContextManager[object]]:
    MictlanXHook().put(place.bucket_id, "k", "other")
    return put(place), nullcontext()


def existing_file(place: Place) -> tuple[Any, AbstractContextManager[object]]:
    MictlanXHook().put(place.bucket_id, "k", "stored")
    (place.folder / "k").write_text("another")
    get = operators.MictlanXGetToFileOperator(
        **SHARED, bucket_id=place.bucket_id, key="k", output_path=str(place.folder)
    )
    return get, nullcontext()


@contextmanager
def without_space() -> Iterator[None]:
    def write(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", write)
        yield


def full_disk(place: Place) -> tuple[Any, AbstractContextManager[object]]:
    MictlanXHook().put(place.bucket_id, "k", "stored")
    get = operators.MictlanXGetToFileOperator(
        **SHARED, bucket_id=place.bucket_id, key="k", output_path=str(place.folder / "out")
    )
    return get, without_space()


def others_bulk(place: Place) -> tuple[Any, AbstractContextManager[object]]:
    operator = bulk(place, place.bucket_id)
    hook: Any = MictlanXHook()
    hook.put_bulk(place.bucket_id, source=operator.source, bucket_id=place.bucket_id)
    return bulk(place, place.bucket_id, key_prefix="p/"), nullcontext()


def failed_bulk(place: Place) -> tuple[Any, AbstractContextManager[object]]:
    return bulk(place, place.bucket_id), place.vss.fault("refuse_data", bucket=place.bucket_id)


def gate(place: Place) -> tuple[Any, AbstractContextManager[object]]:
    options: dict[str, Any] = {"poke_interval": 0.05, "timeout": 0.1, "deferrable": False}
    return BulkCompleteSensor(task_id="task", bulk_id=place.bucket_id, **options), nullcontext()


def refused_sensor(place: Place) -> tuple[Any, AbstractContextManager[object]]:
    sensor = MictlanXObjectSensor(task_id="task", bucket_id=place.bucket_id, key="k", deferrable=False)
    return sensor, place.status(401)


FAILURES: dict[str, tuple[Case, type[Exception], str]] = {
    # what fails: the task, the error that it raises, and the entry in the documentation
    "router is down": (
        lambda place: (put(place, mictlanx_conn_id="down", max_tries=2), nullcontext()),
        ConnectFailedError,
        "connectfailederror",
    ),
    "no connection": (
        lambda place: (put(place, mictlanx_conn_id="nowhere"), nullcontext()),
        AirflowFailException,
        "validationerror",
    ),
    "bucket id": (
        lambda place: (put(place, bucket_id="my bucket"), nullcontext()),
        AirflowFailException,
        "validationerror",
    ),
    "rendered value": (
        lambda place: (put(place, chunk_size="much"), nullcontext()),
        AirflowFailException,
        "validationerror",
    ),
    "other bytes": (conflict, AirflowFailException, "ballconflicterror"),
    "no source": (
        lambda place: (put(place, data=None, file_path="/no/such/file"), nullcontext()),
        AirflowFailException,
        "validationerror",
    ),
    "disk is full": (full_disk, UnknownError, "unknownerror"),
    "existing file": (existing_file, AirflowFailException, "filealreadyexists"),
    "token": (lambda place: (put(place), place.status(401)), AirflowFailException, "authenticationerror"),
    "transient": (lambda place: (put(place, max_tries=2), place.status(500)), UnknownError, "unknownerror"),
    "no object": (
        lambda place: (operators.MictlanXGetOperator(**SHARED, bucket_id=place.bucket_id, key="k"), nullcontext()),
        NotFoundError,
        "notfounderror",
    ),
    "bulk": (failed_bulk, BulkFailedError, "bulkfailederror"),
    "bulk of another": (others_bulk, AirflowFailException, "bulkconflicterror"),
    "gate": (gate, AirflowSensorTimeout, "messages-of-airflow"),
    "refused sensor": (refused_sensor, AirflowFailException, "authenticationerror"),
}


@pytest.fixture
def place(connected: LocalVSS, bucket_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("AIRFLOW_CONN_DOWN", "mictlanx://r0@127.0.0.1:1/?protocol=http&connect_patience=0")
    return Place(bucket_id, tmp_path, connected)


@pytest.mark.parametrize("failure", FAILURES)
def test_failed_task_logs_one_line(failure: str, place: Place, logged_levels: Logged) -> None:
    """Airflow logs the exception with its traceback, as its one ERROR line; ours are warnings."""
    case, kind, entry = FAILURES[failure]
    operator, fault = case(place)
    with fault, pytest.raises(kind) as caught:
        operator.execute({})
    lines = "".join(traceback.format_exception(caught.value)).splitlines()
    message = str(caught.value)
    errors = [line for level, line in logged_levels() if level in ("error", "critical", "exception")]
    assert [line for line in errors if not line.startswith(NO_DATABASE)] == []
    assert message.endswith(f"See {DOCUMENTATION}errors.html#{entry}")
    assert "\n".join(lines).count(message) == 1
    assert "connection '" in message
    assert sum(line.startswith('  File "') for line in lines) <= MAX_FRAMES
    assert [line for line in lines if FOREIGN.search(line) or line.startswith(("The above", "During"))] == []
    if entry == "validationerror":
        assert "MictlanXPutOperator (task_id: task): " in message


def test_traceback_shows_the_code_of_the_users_operator(place: Place) -> None:
    class TwoReads(operators.MictlanXOperator):
        def _execute(self, context: Any) -> Any:
            return self.hook.get(place.bucket_id, "one", max_tries=1), self.hook.get(place.bucket_id, "two")

    with pytest.raises(ConnectFailedError) as caught:
        TwoReads(task_id="task", mictlanx_conn_id="down").execute({})
    assert Path(__file__).name in {Path(frame.filename).name for frame in traceback.extract_tb(caught.tb)[1:]}


def test_hidden_traceback_is_logged_at_debug(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(Exception, match="no connection"):
        put(place, mictlanx_conn_id="down", max_tries=1).execute({})
    assert "Traceback (most recent call last):" in caplog.messages
    assert any("router_pool.py" in line for line in caplog.messages)


def test_debug_traceback_leaves_out_messages_of_others(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of another store may quote a signed URL."""
    url = "https://store.example.org/x?signature=s3cr3t"

    def fail(*_: object, **__: object) -> None:
        raise KeyError(url)

    (source := UPath(f"memory://{place.bucket_id}/x")).write_text("x")
    operator = bulk(place, place.bucket_id, source=source)
    monkeypatch.setattr(source.fs, "info", fail)
    with caplog.at_level(logging.DEBUG), pytest.raises(UnknownError, match="failed: KeyError in fail "):
        operator.execute({})
    assert "KeyError" in caplog.messages
    assert "s3cr3t" not in caplog.text


def test_transfers_log_their_start(place: Place, logged: Callable[[], list[str]]) -> None:
    put(place, data="x" * 2000).execute({})
    get = operators.MictlanXGetToFileOperator(
        **SHARED, bucket_id=place.bucket_id, key="k", output_path=str(place.folder)
    )
    get.execute({})
    bulk(place, place.bucket_id).execute({})
    started = {f"Putting {place.bucket_id}/k: 2 KB", f"Reading {place.bucket_id}/k: 2 KB"}
    started.add(f"Uploading 3 objects of bulk '{place.bucket_id}', 3 bytes")
    assert started <= set(logged())


def test_failed_objects_are_warnings(place: Place, logged_levels: Logged) -> None:
    operator, fault = failed_bulk(place)
    with fault, pytest.raises(BulkFailedError, match=r"failed: 3 of 3.*; also failed: f1, f2"):
        operator.execute({})
    warnings = [line for level, line in logged_levels() if level == "warning"]
    assert [line.startswith(f"{place.bucket_id}/f{n} failed: ") for n, line in enumerate(warnings)] == [True] * 3
