"""Fixtures for tests with a whole Airflow: its database, its DAGs, and what it logged when a test failed."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import psutil
import pytest

from scripts.running_airflow import RunningAirflow, clean_environment
from tests.e2e.distributed.redis import running_redis
from tests.support.vss import LocalVSS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[3]
WORKERS = ("worker-1", "worker-2")
SLOTS = 3
"""Of each worker: too few for four shards on one of them."""
STATES = "airflow-states"
"""The bucket in which the shared Airflow stores the states of tasks and assets."""
SLOW_CALLBACKS = Path(__file__).parent / "slow_callbacks"
SHARED_SLOTS = 24
"""Of the shared Airflow: sensors that poke hold one while they sleep."""
LINES = 60
"""How much of every log a failed test shows."""


def processes_of(home: Path) -> list[int]:
    """Return the processes that have this folder as their ``AIRFLOW_HOME``."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("AIRFLOW_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


Starter: TypeAlias = Callable[..., AbstractContextManager[RunningAirflow]]


@pytest.fixture(scope="session", autouse=True)
def terminated_like_interrupted() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C, so that the fixtures end what they started."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the README's DAG has instead of ``/data``; that of its copy ``nightly_beside`` is in it."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def start_airflow(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Starter:
    """Start Airflows, each with a home and a migrated database of its own, with the example DAGs and those of these tests."""
    dags = tmp_path_factory.mktemp("dags")
    for folder in (ROOT / "example_dags", Path(__file__).parent / "dags"):
        shutil.copytree(folder, dags, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    nightly = dags / "example_mictlanx_nightly.py"
    code = nightly.read_text().replace("poke_interval=30", "poke_interval=5")
    nightly.write_text(code.replace('"/data/', f'"{data_folder}/'))
    beside = {'"nightly': '"nightly_beside', '"frames"': '"frames-beside"', '"/data/': f'"{data_folder}/beside/'}
    for old, new in beside.items():
        code = code.replace(old, new)
    (dags / "nightly_beside.py").write_text(code)
    first = tmp_path_factory.mktemp("airflow")
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(command, env=clean_environment(first, dags), check=True, capture_output=True, timeout=240)

    @contextmanager
    def start(vss: LocalVSS, environment: dict[str, str] | None = None, **options: Any) -> Iterator[RunningAirflow]:
        home = tmp_path_factory.mktemp("airflow")
        shutil.copy(first / "airflow.db", home)
        settings = {
            # One chunk in flight per upload: with the storage slowed down, an upload takes as long as a test wants it to.
            "AIRFLOW_CONN_MICTLANX_DEFAULT": f"{vss.uri}&max_concurrency=1&connect_patience=0",
            "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
            # A changed file is read at once anyway; the others, every 30 s by default, would keep a core busy.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        }
        with RunningAirflow(clean_environment(home, dags) | settings | (environment or {}), **options) as airflow:
            airflow.wait_until_healthy()
            yield airflow
        assert processes_of(home) == []

    return start


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests with the shared Airflow last: it lives until the end, and the others' need not live beside it."""
    items.sort(key=lambda item: "local_airflow" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVSS]:
    """A local VSS for the Airflows, behind two routers; their default connection leads to it."""
    with LocalVSS(tmp_path_factory.mktemp("vss"), routers=2) as running:
        yield running


@pytest.fixture
def vss(storage: LocalVSS) -> Iterator[LocalVSS]:
    """The Airflows' local VSS, with no fault on and nothing in its request log."""
    storage.reset_requests()
    yield storage
    storage.clear_faults()


@pytest.fixture(scope="session")
def local_airflow(
    start_airflow: Starter, storage: LocalVSS, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningAirflow]:
    """
    An Airflow with the LocalExecutor and a triggerer, shared by all tests that need one; its UI asks for no login.

    Its UI is at ``local_airflow.url``; ``Run`` starts a DAG and tells of its tasks; ``kill`` and ``start`` are for its parts.
    """
    environment = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "240",  # many tasks at once on a busy machine
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
        # How soon another triggerer takes over from one that was killed.
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
        "AIRFLOW__WORKERS__STATE_STORE_BACKEND": (
            "airflow.providers.common.io.state_store.backend.StateStoreObjectStorageBackend"
        ),
        "AIRFLOW__COMMON_IO__STATE_STORE_OBJECTSTORAGE_PATH": f"mictlanx://states_in_database@{STATES}/state",
    }
    slow = tmp_path_factory.mktemp("log") / "slow_callbacks.log"
    slow.touch()
    environment |= {"PYTHONPATH": str(SLOW_CALLBACKS), "SLOW_CALLBACKS": str(slow)}
    with start_airflow(storage, environment, slots=SHARED_SLOTS) as airflow:
        airflow.add_connection("states_in_database", storage.uri)
        yield airflow
    assert slow.read_text() == "", "nothing kept the event loop of the triggerer"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium for all tests of the UI."""
    from tests.e2e.distributed.browser import running_browser

    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def celery_airflow(
    start_airflow: Starter, storage: LocalVSS, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningAirflow]:
    """An Airflow with the CeleryExecutor, two workers with a prefork pool each, and a Redis between them."""
    with running_redis(tmp_path_factory.mktemp("redis")) as redis:
        environment = {"AIRFLOW__CELERY__BROKER_URL": f"{redis}/0", "AIRFLOW__CELERY__RESULT_BACKEND": f"{redis}/1"}
        options = {"executor": "CeleryExecutor", "workers": WORKERS, "slots": SLOTS}
        with start_airflow(storage, environment, **options) as airflow:
            yield airflow


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every log of the test's Airflow if the test failed."""
    report = yield
    if report.failed:
        for airflow in getattr(item, "funcargs", {}).values():
            if isinstance(airflow, RunningAirflow):
                for log in sorted(airflow.home.glob("*.log")):
                    lines = log.read_text(errors="replace").splitlines()[-LINES:]
                    report.sections.append((log.name, "\n".join(lines)))
    return report
