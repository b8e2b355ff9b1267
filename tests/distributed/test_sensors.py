"""
Parity: every sensor gives the same in every mode, under a real scheduler and a real triggerer, which is killed meanwhile.

``dags/sensors_in_every_mode.py`` has a task for every case; one run of it is enough.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.airflow_home  # noqa: F401
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from scripts.running_airflow import RunningAirflow
from tests.distributed.dags.sensors_in_every_mode import BACKOFF, CASES, LATER, MODES, OBJECTS, cells, modes_of, name_of
from tests.distributed.runs import Run
from tests.vss import FaultHandle, LocalVSS

ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}


class Parity:
    """The run of the DAG, from its start to the end of every task."""

    def __init__(self, airflow: RunningAirflow, vss: LocalVSS, source: Path) -> None:
        self.airflow = airflow
        self.vss = vss
        self.source = source
        self.salt = secrets.token_hex(4)
        self.hook = MictlanXHook()
        self.tasks: dict[str, dict[str, Any]] = {}
        self._break("-now")
        self.run = Run(airflow, "sensors_in_every_mode", salt=self.salt)

    def play(self) -> None:
        """Let the sensors wait, break the storage under them and mend it, kill the triggerer, write what they wait for."""
        self._wait_for("what ends by itself", self._all_others_ended)
        self.pokes = {mode: self._listings(f"backoff-{mode}-{self.salt}") for mode in MODES}
        self._wait_for("the first pokes", self._all_wait)
        self.airflow.kill("triggerer")
        self._write("found")
        faults = self._break("")
        self.airflow.start("triggerer")
        broken = [cell for cell in cells(wait=True) if CASES[cell[0]].wait == LATER]
        self._wait_for("the end of what breaks", lambda: self._have_ended(broken))
        for fault in faults:
            fault.off()
        self._write("broken-silent")
        self._wait_for("the end of everything", lambda: self._have_ended(cells()))

    def _break(self, which: str) -> list[FaultHandle]:
        """Let the routers fail, or refuse, whatever is asked of some buckets, a bulk's own included."""
        return [
            self.vss.set_fault("status", bucket=f"*{case}*-{self.salt}{which}", status=status)
            for case, status in (("broken", 500), ("forbidden", 403))
        ]

    def task(self, *cell: str) -> dict[str, Any]:
        return self.tasks["-".join(cell)]

    def _wait_for(self, what: str, question: Callable[[], bool]) -> None:
        def ask() -> bool:
            self.tasks = {task["task_id"]: task for task in self.run.tasks()}
            return question()

        self.airflow.wait_for(what, ask, 900, pause=2)

    def _all_others_ended(self) -> bool:
        backoff = [("backoff", mode) for mode in MODES]
        return self._have_ended([*cells(wait=False), *backoff])

    def _all_wait(self) -> bool:
        """Tell whether every sensor that waits for the test has poked, as far as the states tell. None of them may have ended."""
        ended = {cell: self.task(*cell)["state"] for cell in cells(wait=True) if self._have_ended([cell])}
        assert not ended, ended
        deferred = [cell for cell in cells(wait=True) if cell[2] == "deferred"]
        return all(self.task(*cell)["state"] == "deferred" for cell in deferred) and all(
            self.task(*cell)["start_date"] for cell in cells(wait=True)
        )

    def _have_ended(self, some: Iterable[tuple[str, ...]]) -> bool:
        return all(self.task(*cell)["state"] in ENDED for cell in some)

    def _listings(self, bucket_id: str) -> int:
        return len(self.vss.requests("GET", f"/buckets/{bucket_id}/metadata$"))

    def _write(self, case: str) -> None:
        name = f"{case}-{self.salt}"
        for key, content in OBJECTS.items():
            self.hook.put(name, key, content)
            file = self.source / key
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(content)
        self.hook.put_bulk(name, f"of-{name}", str(self.source))


@pytest.fixture(scope="module")
def parity(
    local_airflow: RunningAirflow, storage: LocalVSS, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Parity]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", storage.uri)
        storage.reset_requests()
        played = Parity(local_airflow, storage, tmp_path_factory.mktemp("source"))
        try:
            played.play()
        finally:
            storage.clear_faults()
        yield played


@pytest.mark.parametrize("cell", cells(), ids="-".join)
def test_outcome(parity: Parity, cell: tuple[str, str, str]) -> None:
    task = parity.task(*cell)
    assert (task["state"], task["try_number"]) == (CASES[cell[0]].state, 1)


@pytest.mark.parametrize(
    "cell",
    [(name, sensor) for name, case in CASES.items() if case.state == "success" for sensor in case.sensors],
    ids="-".join,
)
def test_xcom(parity: Parity, cell: tuple[str, str]) -> None:
    case, sensor = cell
    found = {mode: parity.run.xcom(f"{case}-{sensor}-{mode}") for mode in modes_of(sensor)}
    assert all(result == found["poke"] for result in found.values()), found
    name = name_of(case, "poke", parity.salt)
    objects = {key: len(content) for key, content in OBJECTS.items()}

    def several(*keys: str) -> dict[str, Any]:
        chosen = [{"key": key, "size": objects[key]} for key in keys]
        return {
            "bucket_id": name,
            "count": len(keys),
            "total_size": sum(objects[key] for key in keys),
            "objects": chosen,
        }

    hook = parity.hook
    if sensor == "quiet":
        last = max(ball["updated_at"] for ball in hook.list_balls(name))
        expected = {"bucket_id": name, "prefix": "", "count": 3, "total_size": 6, "updated_at": last}
    elif sensor in ("bulk", "await"):
        expected = hook.await_bulk(name, timeout=0)
    elif sensor == "one":
        expected = hook.get_metadata(name, "in/a")
    else:
        ways = {"all": ("c", "in/a"), "any": ("in/b",), "prefix": ("in/a", "in/b"), "glob": ("c", "in/a", "in/b")}
        expected = several(*ways[sensor])
    assert found["poke"] == expected


def test_growing_pauses(parity: Parity) -> None:
    """Pauses of 1, 1, 2, 4, 8, 8 … seconds, ten times that where it is rescheduled: fewer pokes than with equal ones."""
    assert {parity.task("backoff", mode)["state"] for mode in MODES} == {"failed"}
    for mode, pokes in parity.pokes.items():
        equal = BACKOFF[mode]["timeout"] / BACKOFF[mode]["poke_interval"]
        assert 2 <= pokes <= equal, (mode, parity.pokes, BACKOFF)
