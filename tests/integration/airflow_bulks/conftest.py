"""Bulks in Airflow: folders to upload, ids that nobody else uses, and a connection to the local VSS."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

import tests.airflow_home  # noqa: F401
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor
from tests.integration.airflow.conftest import connect, connected, logged, make_wait  # noqa: F401
from tests.integration.airflow.waiting import MODES, Wait
from tests.integration.client.conftest import _no_waiting  # noqa: F401
from tests.vss import LocalVSS


@pytest.fixture
def hook(connected: LocalVSS) -> MictlanXHook:  # noqa: F811
    return MictlanXHook()


@pytest.fixture
def bulk_id() -> str:
    return f"manual__2026-11-23T00:00:00+00:00-{uuid.uuid4().hex}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files, of 1, 2 and 3 bytes."""
    return files(tmp_path / "source", {"a": "1", "b": "22", "sub/c": "333"})


@pytest.fixture
def make_files(tmp_path: Path) -> Callable[..., Path]:
    return lambda contents, name="more": files(tmp_path / name, contents)


def files(folder: Path, contents: dict[str, str]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture(params=MODES)
def wait(request: pytest.FixtureRequest, make_wait: Callable[..., Wait]) -> Wait:  # noqa: F811
    """A gate in each of its modes."""
    return make_wait(request.param, BulkCompleteSensor)
