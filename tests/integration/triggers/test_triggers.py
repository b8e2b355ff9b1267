"""Triggers of sensors never block the event loop, can be rebuilt from JSON, and stop when they are cancelled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.triggers.mictlanx import (
    MictlanXBucketUnchangedTrigger,
    MictlanXBulkCompleteTrigger,
    MictlanXObjectTrigger,
    PollingTrigger,
)
from tests.support.sensor_modes import events_of, made_again
from tests.support.vss import LocalVSS

SLOW = 3.0
"""Seconds that every answer takes; a trigger that waits for one on the event loop blocks it for as long."""


def triggers(name: str, **shared: Any) -> list[PollingTrigger]:
    """Return one trigger of each class."""
    shared = {"mictlanx_conn_id": "mictlanx_default", "poke_interval": 0.05, **shared}
    return [
        MictlanXObjectTrigger(bucket_id=name, key="a", **shared),
        MictlanXObjectTrigger(bucket_id=name, key=["a", "b"], **shared),
        MictlanXObjectTrigger(bucket_id=name, prefix="a", **shared),
        MictlanXBucketUnchangedTrigger(
            bucket_id=name, prefix="", inactivity_period=1, min_objects=1, allow_delete=True, state=None, **shared
        ),
        MictlanXBulkCompleteTrigger(bulk_id=name, **shared),
    ]


@pytest.fixture
def slow_vss(own_vss: Callable[..., LocalVSS], connect: Callable[..., None]) -> LocalVSS:
    vss = own_vss(peers=1)
    connect(vss)
    vss.set_fault("latency", seconds=SLOW)
    return vss


def test_no_trigger_blocks_the_loop(slow_vss: LocalVSS, bucket_id: str, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> list[str]:
        asyncio.get_running_loop().slow_callback_duration = SLOW * 2 / 3
        waiting = (events_of(made_again(trigger)) for trigger in triggers(bucket_id, ends_at=time.time()))
        return [event.payload["status"] for (event,) in await asyncio.gather(*waiting)]

    assert asyncio.run(run(), debug=True) == ["timeout"] * 5
    assert slow_vss.requests("GET", bucket_id), "they did ask"
    assert [record.getMessage() for record in caplog.records if "took" in record.getMessage()] == []


def test_the_check_finds_what_blocks(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.05
        await asyncio.sleep(0)
        time.sleep(0.2)

    asyncio.run(run(), debug=True)
    assert any("took" in record.getMessage() for record in caplog.records)


def test_trigger_that_is_cancelled_stops_at_once(slow_vss: LocalVSS, bucket_id: str) -> None:
    """It passes on the message, by which Airflow distinguishes a user's click from the end of a triggerer."""

    async def cancellation_of(trigger: PollingTrigger) -> tuple[Any, ...]:
        with pytest.raises(asyncio.CancelledError) as caught:
            await events_of(trigger)
        return caught.value.args

    async def run() -> float:
        running = [asyncio.create_task(cancellation_of(trigger)) for trigger in triggers(bucket_id, ends_at=None)]
        while not slow_vss.requests("GET", bucket_id):
            await asyncio.sleep(0.05)
        began = time.monotonic()
        for task in running:
            task.cancel("by a click")
        assert await asyncio.gather(*running) == [("by a click",)] * 5
        return time.monotonic() - began

    assert asyncio.run(run()) < SLOW
