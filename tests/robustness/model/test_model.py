"""
The client against a dictionary, at random (``machine.py``).

A hundred and fifty steps, the same ones every time; ``MICTLANX_MODEL_STEPS=10000`` makes others, so many (``make model``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from airflow_provider_mictlanx.client.transfer import chunk_upload, listing
from tests.robustness.model.machine import StorageMachine
from tests.support.vss import LocalVSS

STEPS = int(os.environ.get("MICTLANX_MODEL_STEPS", "0"))
LIFE = 50
"""Steps before everything begins anew."""


@pytest.mark.timeout(300 + 3 * STEPS)
def test_client_agrees_with_a_dictionary(own_vss: Callable[..., LocalVSS], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_upload, "GRACE", 0.1)
    monkeypatch.setattr(listing, "PEER_CHECK_TIMEOUT", 1.0)
    StorageMachine.steps = StorageMachine.restarts = StorageMachine.kills = StorageMachine.silences = (
        StorageMachine.hangs
    ) = 0
    run_state_machine_as_test(
        partial(StorageMachine, own_vss(routers=2)),
        settings=settings(
            max_examples=-(-STEPS // LIFE) or 3,
            stateful_step_count=LIFE,
            deadline=None,
            derandomize=not STEPS,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    sys.stdout.write(
        f"\n{StorageMachine.steps} steps, {StorageMachine.restarts} restarts, {StorageMachine.kills} clients killed, "
        f"{StorageMachine.silences} times a silent peer, {StorageMachine.hangs} of them one that hangs\n"
    )
    assert StorageMachine.steps >= STEPS
    assert StorageMachine.restarts
    assert StorageMachine.kills
    assert StorageMachine.silences
    assert StorageMachine.hangs
