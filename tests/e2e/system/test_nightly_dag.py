"""The DAG of the README, run as a user runs it: copied, with only the paths changed."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.system.conftest import ROOT
from tests.support.dag_runs import StartedRun, xcoms
from tests.support.vss import LocalVSS

pytestmark = pytest.mark.timeout(600)  # several Airflow processes at once, on a machine that may be busy

EXAMPLE = "example_mictlanx_nightly"
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
NO_DATE = "" if version("apache-airflow").startswith("2.") else "none"
"""Of a run that was triggered: Airflow 3 gives it no logical date, if nobody chooses one, so there is no ``ds``."""
FRAMES = 4
IN_ONE_PROCESS = {"deferrable=True": 'mode="reschedule"', "poke_interval=30": "poke_interval=1"}
"""``dag.test`` runs one task at a time: in a deferred gate it would wait for an upload that it has not begun."""


class Nightly:
    """The example in a DAGs folder of its own, with a folder of frames, and one for the copies."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.frames = folder / "frames"
        self.copies = folder / "out"
        self.frames.mkdir()
        self._folder = folder
        self._runs = 0
        self._environment = {**environment, "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags")}
        code = (ROOT / "example_dags" / f"{EXAMPLE}.py").read_text()
        for old, new in {'"/data/': f'"{folder}/', **IN_ONE_PROCESS}.items():
            assert old in code
            code = code.replace(old, new)
        (folder / "dags").mkdir()
        (folder / "dags" / "nightly.py").write_text(code)

    def take_frames(self, day: str) -> None:
        """Write the frames anew: under the same names, of the same sizes, with other content."""
        for number in range(FRAMES):
            (self.frames / f"frame-{number:03}.jpg").write_text(f"frame {number} of the {day} day")

    def start(self, logical_date: str, **more: str) -> StartedRun:
        """Start a run beside others, with an Airflow database of its own: the runs meet in the storage and the folders."""
        self._runs += 1
        folder = self._folder / f"run-{self._runs}"
        home = folder / "airflow"
        home.mkdir(parents=True)
        self._database = shutil.copy(Path(self._environment["AIRFLOW_HOME"], "airflow.db"), home)
        environment = {**self._environment, **more, "AIRFLOW_HOME": str(home)}
        return StartedRun(environment, folder, "nightly", logical_date=logical_date)

    def failed_once(self) -> set[str]:
        """Return the tasks of the latest run whose first try has failed."""
        query = "SELECT task_id FROM task_instance WHERE state = 'up_for_retry' OR try_number > 1"
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as database:
            return {task_id for (task_id,) in database.execute(query)}

    def fetched(self) -> list[str]:
        """Return the contents of the first frame of each run that is below the folder of the copies."""
        return sorted(file.read_text() for file in self.copies.glob("*/frame-000.jpg"))


@pytest.fixture
def nightly(environment: dict[str, str], tmp_path: Path) -> Nightly:
    folder = tmp_path / "nightly"
    folder.mkdir()
    return Nightly(folder, environment)


def assert_success(status: int, report: dict[str, Any]) -> None:
    states = {task["task_id"]: task["state"] for task in report["tasks"]}
    assert states == {"upload": "success", "ready": "success", "fetch": "success"}, report
    assert (status, report["state"]) == (0, "success")
    (upload,), (ready,), (fetch,) = (xcoms(report, name) for name in ("upload", "ready", "fetch"))
    assert (upload["total_balls"], upload["failed"]) == (FRAMES, 0)
    assert (ready["bulk_id"], ready["succeeded"]) == (upload["bulk_id"], FRAMES)
    assert (fetch["downloaded"], fetch["failed"]) == (FRAMES, 0)


def test_runs_at_once_on_two_days_with_frames_changed_between(
    nightly: Nightly, own_vss: Callable[..., LocalVSS]
) -> None:
    """A click on *Trigger* unpauses the DAG: the scheduled run of today begins beside the manual one."""
    connection = {"AIRFLOW_CONN_MICTLANX_DEFAULT": own_vss().uri}
    days = {
        "first": [TODAY.isoformat(), NO_DATE],
        "other": [(TODAY + timedelta(hours=1)).isoformat(), (TODAY + timedelta(days=1)).isoformat()],
    }
    expected = []
    for day, dates in days.items():
        nightly.take_frames(day)
        with ExitStack() as running:
            runs = [running.enter_context(nightly.start(date, **connection)) for date in dates]
            for run in runs:
                assert_success(*run.wait())
        expected += [f"frame 0 of the {day} day"] * 2
        assert nightly.fetched() == expected, "every run reads its own frame, and leaves those of others"


def test_retry_mends_a_run_that_began_without_its_storage(nightly: Nightly, own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    vss.stop()
    nightly.take_frames("first")
    uri = f"{vss.uri}&connect_patience=0"
    with nightly.start(TODAY.isoformat(), AIRFLOW_CONN_MICTLANX_DEFAULT=uri) as run:
        deadline = time.monotonic() + 200
        while nightly.failed_once() < {"upload", "ready"}:
            assert time.monotonic() < deadline, run.output()[-8000:]
            time.sleep(0.1)
        vss.start()
        status, report = run.wait()
    assert_success(status, report)
    tries = {task["task_id"]: task["try_number"] for task in report["tasks"]}
    assert min(tries["upload"], tries["ready"]) > 1
    assert nightly.fetched() == ["frame 0 of the first day"]
