"""Somebody marks a waiting task failed or successful, or clears it: in no mode does anything go on asking the storage for it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import tests.support.airflow_home  # noqa: F401
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from scripts.running_airflow import RunningAirflow
from tests.e2e.distributed.dags.sensors_to_stop import OTHERS, TASKS, name_of
from tests.support.airflow_runs import Run
from tests.support.vss import LocalVSS

Task = tuple[str, str]

TOLD = ("poke", "deferred", "reading")
"""The modes in which Airflow has somebody to tell: a process, or a trigger."""
STOPS_WITHIN = 2
"""Seconds after Airflow has told it. What its log says of a trigger, it says when the trigger has ended: so another one is the measure."""
LOGGED_WITHIN = 5
"""Seconds between the ends of two triggers in the log of a busy triggerer."""
WATCHED = 20
"""For so many seconds, longer than any of them sleeps."""
BALLS = 400
"""In the bulk that is read back: more than can be read in all that time."""


class Stopping:
    """A run whose tasks all wait, until they are ended."""

    def __init__(self, airflow: RunningAirflow, vss: LocalVSS, source: Path) -> None:
        self.airflow = airflow
        self.vss = vss
        self.salt = secrets.token_hex(4)
        self.waiting: dict[Task, float] = {}
        self.clicked: dict[Task, float] = {}
        self.told: dict[Task, float] = {}
        self.triggerer_heard = 0.0
        self._write_bulk(source)
        self.run = Run(airflow, "sensors_to_stop", salt=self.salt)

    def _write_bulk(self, source: Path) -> None:
        for number in range(BALLS):
            (source / f"{number}").write_text(f"{number}")
        name = name_of(("failed", "reading"), 1, self.salt)
        MictlanXHook().put_bulk(name, f"of-{name}", str(source))
        self.vss.set_fault("latency", method="GET", bucket=f"of-{name}", seconds=0.5)

    def play(self) -> None:
        """Wait until all of them wait, end them, and watch what they do."""
        self.airflow.wait_for("tasks that wait", lambda: all(map(self._waits, TASKS)), 300)
        self.airflow.wait_for("the other task", lambda: self.run.state_of(OTHERS) == "deferred", 300)
        for task in TASKS:
            self._end(*task)
            self.clicked[task] = time.time()
        self.run.mark(OTHERS, "failed")
        self.told = {task: self.run.wait_until_told("-".join(task)) for task in TASKS if task[1] in TOLD}
        self.triggerer_heard = self.run.wait_until_told(OTHERS)
        time.sleep(WATCHED)

    def _waits(self, task: Task) -> bool:
        """Return whether it has poked since it was first seen to wait; a rescheduled one waits between its pokes."""
        state = self.run.state_of("-".join(task))
        if state != {"poke": "running", "reschedule": "up_for_reschedule"}.get(task[1], "deferred"):
            return False
        since = self.waiting.setdefault(task, time.time())
        return task[1] == "reschedule" or max(self.requests(task), default=0) > since

    def requests(self, task: Task, try_number: int = 1) -> list[float]:
        """Return the times of the requests to the bucket, or the bulk, of a try."""
        name = name_of(task, try_number, self.salt)
        return [request["at"] for request in self.vss.requests(path=f"/buckets/(bulk-|of-)?{name}/")]

    def _end(self, end: str, mode: str) -> None:
        if end == "cleared":
            self.run.clear(f"{end}-{mode}")
        else:
            self.run.mark(f"{end}-{mode}", end)


@pytest.fixture(scope="module")
def stopping(
    local_airflow: RunningAirflow, storage: LocalVSS, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stopping]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", storage.uri)
        storage.reset_requests()
        played = Stopping(local_airflow, storage, tmp_path_factory.mktemp("source"))
        try:
            played.play()
            yield played
        finally:
            storage.clear_faults()
            path = f"/api/v2/dags/{played.run.dag_id}/dagRuns/{played.run.run_id}"
            local_airflow.request("PATCH", path, {"state": "failed"})


@pytest.mark.parametrize("task", [task for task in TASKS if task[1] in TOLD], ids="-".join)
def test_stops_when_it_is_told(stopping: Stopping, task: Task) -> None:
    told = stopping.told[task] if task[1] == "poke" else stopping.triggerer_heard
    assert max(stopping.requests(task)) <= told + STOPS_WITHIN
    assert stopping.told[task] <= told + LOGGED_WITHIN, "the trigger has ended"


def test_rescheduled_task_never_pokes_again(stopping: Stopping) -> None:
    task = ("failed", "reschedule")
    assert max(stopping.requests(task)) < stopping.clicked[task]


@pytest.mark.parametrize("task", [task for task in TASKS if task[0] != "cleared"], ids="-".join)
def test_nothing_is_left(stopping: Stopping, task: Task) -> None:
    now = stopping.run.task("-".join(task))
    assert (now["state"], now["trigger"], now["try_number"]) == (task[0], None, 1)
    assert not psutil.pid_exists(now["pid"]), "the process that poked"


def test_cleared_task_waits_again(stopping: Stopping) -> None:
    assert stopping.requests(("cleared", "deferred"), try_number=2)
