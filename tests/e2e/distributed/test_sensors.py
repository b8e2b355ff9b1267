"""
Parity: every sensor gives the same in every mode, under a real scheduler and a real triggerer, which is killed meanwhile.

``dags/sensors_in_every_mode.py`` has a task for every case; one run of it is enough.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tests.support.airflow_home  # noqa: F401
from scripts.running_airflow import RunningAirflow
from tests.e2e.distributed.dags.sensors_in_every_mode import CASES, cells, tempo_of
from tests.e2e.distributed.parity import Cell, Parity, pauses_of, shortest_pause
from tests.support.vss import LocalVSS

FEWEST_PAUSES = {"poke": 9, "deferred": 9, "reschedule": 2}
"""Of 130 seconds, 8 pauses that go on being doubled take 128: ``max_wait`` has to make them more. A busy scheduler takes its time, too."""
CLOCK = 0.05
"""Seconds by which a pause may seem shorter than it was."""


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
def test_outcome(parity: Parity, cell: Cell) -> None:
    task, case = parity.task(cell), CASES[cell[0]]
    # Growing pauses end at the timeout, so Airflow's last one may be shorter than AGAIN_AFTER, which may take another try.
    tries = (1, 2) if cell[0] == "backoff" and cell[2] == "reschedule" else (case.tries,)
    assert task["state"] == case.state
    assert task["try_number"] in tries


@pytest.mark.parametrize("cell", [cell for cell in cells() if CASES[cell[0]].state == "success"], ids="-".join)
def test_xcom(parity: Parity, cell: Cell) -> None:
    assert parity.run.xcom("-".join(cell)) == parity.expected_xcom(cell)


@pytest.mark.parametrize("cell", cells("backoff"), ids="-".join)
def test_pauses_grow(parity: Parity, cell: Cell) -> None:
    """As Airflow's rule says, in every mode: of equal pauses one soon is too short. A busy machine makes none shorter."""
    pauses = pauses_of(parity.pokes[cell])
    short = [
        (elapsed, pause)
        for number, (elapsed, pause) in enumerate(pauses, start=1)
        if pause < shortest_pause(cell[2], number, elapsed) - CLOCK
    ]
    assert not short, pauses
    assert len(pauses) >= FEWEST_PAUSES[cell[2]], pauses
    first = [pause for _, pause in pauses[:4]]
    assert sum(first) < len(first) * tempo_of(*cell[::2])["max_wait"], pauses
