"""Airflow with a home of its own, and a connection to the local VSS."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import pytest

import tests.airflow_home  # noqa: F401
from airflow_provider_mictlanx.sensors.mictlanx import MictlanXSensor
from tests.integration.airflow.waiting import Wait
from tests.integration.client.conftest import _no_waiting  # noqa: F401
from tests.vss import LocalVSS


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a connection lead to a local VSS: ``connect(vss, timeout=5)``."""

    def set_connection(vss: LocalVSS, conn_id: str = "mictlanx_default", password: str = "", **extra: object) -> None:
        connection = {"conn_type": "mictlanx", "extra": {"uri": vss.uri, **extra}, "password": password}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))

    return set_connection


@pytest.fixture
def connected(vss: LocalVSS, connect: Callable[..., None]) -> LocalVSS:
    """The shared local VSS, behind the default connection."""
    connect(vss)
    return vss


@pytest.fixture
def make_wait(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Wait]:
    """Make what runs a sensor in one of its modes: ``make_wait("poke", BulkCompleteSensor)``."""

    def make(mode: str, kind: type[MictlanXSensor], **options: Any) -> Wait:
        waiting = Wait(mode, kind, **options)
        if version("apache-airflow").startswith("2."):
            # It asks its database, not the task instance, when a rescheduled sensor began.
            monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: waiting.began)
        return waiting

    return make


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Give what tasks log, whichever way the installed Airflow does it."""
    caplog.set_level(logging.INFO)
    try:
        import structlog.testing
    except ImportError:  # Airflow 2 logs by the standard library alone
        yield lambda: [record.getMessage() for record in caplog.records]
        return
    with structlog.testing.capture_logs() as entries:
        yield lambda: [
            *(record.getMessage() for record in caplog.records),
            *(entry["event"] % args if (args := entry.get("positional_args")) else entry["event"] for entry in entries),
        ]
