"""The run of ``dags/sensors_in_every_mode.py``, and what may be said of it: what is found, and how long the pauses are."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from scripts.running_airflow import RunningAirflow
from tests.e2e.distributed.dags.sensors_in_every_mode import CASES, FEW, OBJECTS, cells, name_of, tempo_of
from tests.support.airflow_runs import Run
from tests.support.vss import FaultHandle, LocalVSS

Cell = tuple[str, str, str]

ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}
STARTED_AT_ONCE = 6
LOG_OF_REQUESTS = 10_000
"""How many requests the local VSS keeps; pauses are looked at before so many have come."""


class Parity:
    """The run of the DAG, from its start to the end of every task."""

    def __init__(self, airflow: RunningAirflow, vss: LocalVSS, source: Path) -> None:
        self.airflow = airflow
        self.vss = vss
        self.source = source
        self.salt = secrets.token_hex(4)
        self.hook = MictlanXHook()
        self.tasks: dict[str, dict[str, Any]] = {}
        self.pokes: dict[Cell, list[float]] = {}
        airflow.request("POST", "/api/v2/pools", {"name": FEW, "slots": STARTED_AT_ONCE})
        self._faults = self._break("")
        self.run = Run(airflow, "sensors_in_every_mode", salt=self.salt)

    def play(self) -> None:
        """Start the sensors, break and repair the storage, kill the triggerer, and write what they wait for."""
        waiting = [cell for cell in cells() if CASES[cell[0]].waits]
        later = [cell for cell in cells() if cell[2] == "later"]
        self._wait_for("the end of growing pauses", lambda: self._have_ended(cells("backoff")))
        self.pokes = {cell: self._times_of_pokes(cell) for cell in cells("backoff")}
        self._wait_for("what ends by itself", lambda: self._have_ended(set(cells()) - {*waiting, *later}))
        self._wait_for("the first pokes", lambda: self._all_wait({*waiting, *later}))
        self.airflow.kill("triggerer")
        self._write(f"found-{self.salt}")
        self._faults += self._break("-later")
        self.airflow.start("triggerer")
        self._wait_for("the end of what breaks later", lambda: self._have_ended(set(later) - {*waiting}))
        for fault in self._faults:
            fault.off()
        for suffix in ("", "-later"):
            self._write(f"broken-silent-{self.salt}{suffix}")
        self._wait_for("the end of everything", lambda: self._have_ended(cells()))

    def _break(self, suffix: str) -> list[FaultHandle]:
        """Make the routers fail or refuse every request for some buckets, a bulk's own included."""
        return [
            self.vss.set_fault("status", bucket=f"*{case}*-{self.salt}{suffix}", status=status)
            for case, status in (("broken", 500), ("forbidden", 403))
        ]

    def task(self, cell: Cell) -> dict[str, Any]:
        return self.tasks["-".join(cell)]

    def _wait_for(self, what: str, question: Callable[[], bool]) -> None:
        def ask() -> bool:
            self.tasks = {task["task_id"]: task for task in self.run.tasks()}
            return question()

        self.airflow.wait_for(what, ask, 900, pause=2)

    def _have_ended(self, some: Iterable[Cell]) -> bool:
        return all(self.task(cell)["state"] in ENDED for cell in some)

    def _all_wait(self, some: Iterable[Cell]) -> bool:
        """Return whether all of them have poked, judging by their states. None of them may have ended."""
        tasks = {cell: self.task(cell) for cell in some}
        ended = {cell: task["state"] for cell, task in tasks.items() if task["state"] in ENDED}
        assert not ended, ended
        return all(
            task["state"] == "deferred" if cell[2] in ("deferred", "later") else task["start_date"]
            for cell, task in tasks.items()
        )

    def _times_of_pokes(self, cell: Cell) -> list[float]:
        """Return the time of every listing: a poke begins with one."""
        requests = self.vss.requests()
        assert len(requests) < LOG_OF_REQUESTS, "the first ones are not there any more"
        listing = re.compile(f"/buckets/(bulk-)?{name_of(cell, self.salt)}/metadata(/[^/]+/chunks)?$")
        return [request["at"] for request in requests if listing.search(request["path"])]

    def _write(self, name: str) -> None:
        for key, content in OBJECTS.items():
            self.hook.put(name, key, content)
            file = self.source / key
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(content)
        self.hook.put_bulk(name, f"of-{name}", str(self.source))

    def expected_xcom(self, cell: Cell) -> dict[str, Any]:
        """Return the XCom that a sensor must have, from the hook's answer."""
        name = name_of(cell, self.salt)
        match cell[1]:
            case "one":
                return self.hook.get_metadata(name, "in/a")
            case "quiet":
                last = max(ball["updated_at"] for ball in self.hook.list_balls(name))
                return {"bucket_id": name, "prefix": "", "count": 3, "total_size": 6, "updated_at": last}
            case "bulk" | "await":
                return self.hook.await_bulk(name, timeout=0)
            case way:
                keys = {
                    "all": ["c", "in/a"],
                    "any": ["in/b"],
                    "prefix": ["in/a", "in/b"],
                    "glob": ["c", "in/a", "in/b"],
                }
                objects = [{"key": key, "size": len(OBJECTS[key])} for key in keys[way]]
                total = sum(len(OBJECTS[key]) for key in keys[way])
                return {"bucket_id": name, "count": len(objects), "total_size": total, "objects": objects}


def pauses_of(pokes: list[float]) -> list[tuple[float, float]]:
    """
    Return the start of each pause, counted from the first poke, and its length.

    Without the last one: it is cut short, so that the last poke is at the end of the wait.
    """
    return [(earlier - pokes[0], later - earlier) for earlier, later in pairwise(pokes)][:-1]


def shortest_pause(mode: str, number: int, elapsed: float) -> float:
    """
    Return the minimum length of a pause, by Airflow's exponential back-off (``BaseSensorOperator._get_next_poke_interval``).

    The n-th pause is ``poke_interval * 2 ** (n - 2)`` whole seconds, at least one, and up to one second less than as much again at
    random; at most ``max_wait``. A rescheduled sensor does not know which pause it is at: it takes the first n of which all pauses
    until then are longer, together, than the time since it began.

    :param number: of the pause, from 1
    :param elapsed: how long after the first poke it began
    """
    tempo = tempo_of("backoff", mode)

    def shortest(n: int) -> int:
        return max(1, int(tempo["poke_interval"] * 2 ** (n - 2)))

    if mode == "reschedule":
        number = 1
        while sum(2 * shortest(n) - 1 for n in range(1, number + 1)) <= elapsed:
            number += 1
    return float(min(shortest(number), tempo["max_wait"]))
