"""Fixtures of several folders: Airflow with a home of its own, its bulks, and what it logs. No waits between tries."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tests.support.airflow_home  # noqa: F401, before anything imports Airflow
from tests.support.vss import LocalVSS

# Tests of the client run without Airflow, whose import takes seconds: fixtures import what needs it.
if TYPE_CHECKING:
    from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
    from airflow_provider_mictlanx.sensors.mictlanx import MictlanXSensor
    from tests.support.sensor_modes import Wait


@pytest.fixture(autouse=True)
def _no_retry_waits(no_retry_waits: None) -> None:
    """Retry at once in all tests of this folder."""


@pytest.fixture
def hook(connected: LocalVSS) -> MictlanXHook:
    from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

    return MictlanXHook()


@pytest.fixture
def make_wait(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Wait]:
    """Make what runs a sensor in one of its modes: ``make_wait("poke", BulkCompleteSensor)``."""
    from tests.support.sensor_modes import Wait

    def make(mode: str, kind: type[MictlanXSensor], **options: Any) -> Wait:
        waiting = Wait(mode, kind, **options)
        if version("apache-airflow").startswith("2."):
            # It asks its database, not the task instance, when a rescheduled sensor began.
            monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: waiting.began)
        return waiting

    return make


@pytest.fixture(params=("poke", "reschedule", "deferrable"))
def wait(request: pytest.FixtureRequest, make_wait: Callable[..., Wait]) -> Wait:
    """Make a gate in each of its modes."""
    from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor

    return make_wait(request.param, BulkCompleteSensor)


def _line(entry: Mapping[str, Any]) -> str:
    args = entry.get("positional_args")
    return str(entry["event"] % args if args else entry["event"])


@pytest.fixture
def logged_levels(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[tuple[str, str]]]]:
    """Return levels and lines of what tasks log, whichever way the installed Airflow does it."""
    caplog.set_level(logging.INFO)
    try:
        import structlog.testing
    except ImportError:  # Airflow 2 logs by the standard library alone
        yield lambda: [(record.levelname.lower(), record.getMessage()) for record in caplog.records]
        return
    with structlog.testing.capture_logs() as entries:
        yield lambda: [
            *((record.levelname.lower(), record.getMessage()) for record in caplog.records),
            *((entry["log_level"], _line(entry)) for entry in entries),
        ]


@pytest.fixture
def logged(logged_levels: Callable[[], list[tuple[str, str]]]) -> Callable[[], list[str]]:
    """Return the lines that tasks log."""
    return lambda: [line for _, line in logged_levels()]


@pytest.fixture
def told(logged: Callable[[], list[str]]) -> Callable[[], list[str]]:
    """Return what this provider logged, without the connection look-ups that Airflow 2 logs."""
    return lambda: [line for line in logged() if "onnection" not in line]


@pytest.fixture
def bulk_id() -> str:
    return f"manual__2026-11-23T00:00:00+00:00-{uuid.uuid4().hex}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write three files, of 1, 2 and 3 bytes."""
    return write_files(tmp_path / "source", {"a": "1", "b": "22", "sub/c": "333"})


@pytest.fixture
def make_files(tmp_path: Path) -> Callable[..., Path]:
    return lambda contents, name="more": write_files(tmp_path / name, contents)


def write_files(folder: Path, contents: dict[str, str]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder
