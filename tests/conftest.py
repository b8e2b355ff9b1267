"""Fixtures for all tests: a storage space to write to, and names nobody else uses."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tenacity import wait_none

os.environ.setdefault("MICTLANX_LOG_PATH", "")  # before the client is imported: its default folder is outside the tests

from airflow_provider_mictlanx.bulks import attempt
from airflow_provider_mictlanx.client import retry, texts
from airflow_provider_mictlanx.client.redaction import Secrets
from airflow_provider_mictlanx.client.transfer import chunk_upload, upload, upload_window
from tests.support import hypothesis_profile  # noqa: F401 - loads it
from tests.support.vss import LocalVSS


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """
    Start up to three workers for each processor: tests wait for silent peers and deadlines, but each worker collects them all.

    A worker and its servers take up to 500 MB, so large machines get two for each.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(3 * processors, max(8, 2 * processors))


collect_ignore = ["e2e/example_project"]  # a user's project, with an Airflow of its own: make test-example-project


def pytest_configure() -> None:
    """Collect tests without garbage collection: it would scan Airflow's modules again and again."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Exempt what was imported and collected from garbage collection."""
    gc.freeze()
    gc.enable()


LONGEST = ("tests/e2e/", "tests/robustness/model/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest tests first, so that the other workers do not wait for them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test's messages are without what was another test's token."""
    monkeypatch.setattr(texts, "_secrets", Secrets())


@pytest.fixture(scope="session")
def vss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVSS]:
    """
    A local VSS that all tests of this process share; its own bucket keeps a test apart from the others.

    For faults that could harm another test's requests, and for restarts, take ``own_vss``.
    """
    with LocalVSS(tmp_path_factory.mktemp("vss")) as running:
        yield running


@pytest.fixture
def own_vss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LocalVSS]]:
    """Start local VSSs of the test's own: ``own_vss(peers=3, routers=2, options=("--fsync",))``."""
    with contextlib.ExitStack() as running:

        def start(**arguments: Any) -> LocalVSS:
            data = arguments.pop("data", None) or tmp_path_factory.mktemp("vss")
            return running.enter_context(LocalVSS(data, **arguments).start())

        yield start


@pytest.fixture
def bucket_id() -> str:
    """A bucket that nobody else uses."""
    return f"bucket-{uuid.uuid4().hex}"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set a connection to a local VSS: ``connect(vss, timeout=5)``."""

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
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for the writers of announcements without data; for tests in which these have ended, or never were."""
    monkeypatch.setattr(chunk_upload, "GRACE", 0.2)


@pytest.fixture
def no_window_ends_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count requests whatever the machine's speed: a busy one may take longer than the 10 s of a window."""
    monkeypatch.setattr(attempt, "FIRST_PART", 300)
    monkeypatch.setattr(upload_window, "ANNOUNCING_SECONDS", 300)
    monkeypatch.setattr(upload, "MAX_ANNOUNCED_SECONDS", 300)


@pytest.fixture
def no_retry_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry at once: how long tries wait is tested with the retry rule itself."""
    monkeypatch.setattr(retry, "wait_random_exponential", lambda **_: wait_none())
    monkeypatch.setattr(retry, "wait_exponential", lambda **_: wait_none())
