"""
Run event triggers as Airflow's triggerer does, without its database.

From Airflow 3.3 on: with its own stream manager and state accessors. Before, it only calls ``run``.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import pytest
from airflow.sdk import Asset
from airflow.sdk.execution_time import comms
from airflow.triggers.base import BaseEventTrigger

from airflow_provider_mictlanx.client.errors import MictlanXError
from tests.support.sensor_modes import made_again

try:
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors
    from airflow.triggers.shared_stream import AckTimeout, SharedStreamManager
except ImportError:
    SHARES_STREAMS = False
else:
    SHARES_STREAMS = True

POKE = 0.05


class StateStore:
    """Keeps the states of assets in place of the API server, and fails on request; no call may come from an event loop."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.failing = False
        self.hanging = threading.Event()
        self.hanging.set()
        self.writes = 0
        self.refused: list[str] = []

    def send(self, message: Any) -> Any:
        if isinstance(message, comms.MaskSecret):  # Airflow 3.3.0 sends it from its event loop
            return None
        with pytest.raises(RuntimeError):  # no running loop in this thread
            asyncio.get_running_loop()
        self.hanging.wait(60)
        if self.failing:
            self.refused.append(message.key)
            raise ConnectionError("the API server does not answer")
        if isinstance(message, comms.SetAssetStateStoreByName):
            self.kept[message.name, message.key] = json.dumps(message.value)
            self.writes += 1
            return comms.OKResponse(ok=True)
        assert isinstance(message, comms.GetAssetStateStoreByName)
        if (kept := self.kept.get((message.name, message.key))) is None:
            return comms.ErrorResponse(error=comms.ErrorType.ASSET_STORE_NOT_FOUND)
        return comms.AssetStateStoreResult(value=json.loads(kept))

    async def asend(self, message: Any) -> Any:
        raise AssertionError("a state backend would block the loop")

    def newest(self, asset: str) -> str:
        states = (state for (name, _), state in self.kept.items() if name == asset)
        return max(states, key=lambda state: json.loads(state)["sequence"])


class Triggerer:
    """
    A triggerer that runs watchers until the end of the context; their events are confirmed as stored.

    :ivar events: payloads of all watchers, in their order
    :ivar ended: errors that ended watchers
    :ivar unconfirmed: sequence numbers of events that are not confirmed as stored
    """

    def __init__(self, *, confirms: bool = True, ack_timeout: float = 300) -> None:
        self.events: list[dict[str, Any]] = []
        self.ended: list[Exception] = []
        self.confirms = confirms
        self.unconfirmed: list[int] = []
        self.before_event: Callable[[], None] = lambda: None
        self._manager = SharedStreamManager(ack_timeout=ack_timeout) if SHARES_STREAMS else None
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(4 * POKE if self.confirms else 0)
        for number in list(self._tasks):
            await self.cancel(number)
        if self._manager is not None:
            await self._manager.stop_all()

    def watch(self, trigger: BaseEventTrigger, *assets: str) -> int:
        """Start a watcher for assets, and return its number."""
        again = made_again(trigger)
        assert isinstance(again, BaseEventTrigger)
        if assets and SHARES_STREAMS:
            inlets = [Asset(name=name, uri=f"mictlanx://bucket/{name}") for name in assets]
            again.asset_state_store = AssetStateStoreAccessors(inlets=inlets)
        number = again.trigger_id = len(self._tasks)
        run = self._run_alone(again) if self._manager is None else self._run(number, again, self._manager)
        self._tasks[number] = asyncio.create_task(run)
        return number

    def confirm(self) -> None:
        """Confirm all events as stored."""
        assert self._manager is not None
        self._manager.confirm_persisted(self.unconfirmed)

    async def cancel(self, number: int) -> None:
        self._tasks[number].cancel()
        with suppress(asyncio.CancelledError):
            await self._tasks[number]

    async def _run_alone(self, trigger: BaseEventTrigger) -> None:
        async for event in trigger.run():
            self.events.append(json.loads(json.dumps(event.payload)))

    async def _run(self, number: int, trigger: BaseEventTrigger, manager: SharedStreamManager) -> None:
        key = trigger.shared_stream_key()
        stream = manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        events = trigger.filter_shared_stream(stream)  # as in Airflow, the task keeps it even after it was cancelled
        try:
            async for event in events:
                await asyncio.sleep(0)
                self.before_event()
                sequence = manager.bind_pending_event(trigger_id=number, key=key)
                self.events.append(json.loads(json.dumps(event.payload)))
                assert sequence is not None
                if self.confirms:
                    asyncio.get_running_loop().call_later(POKE / 2, manager.confirm_persisted, [sequence])
                else:
                    self.unconfirmed.append(sequence)
        except (AckTimeout, MictlanXError) as error:
            self.ended.append(error)
        finally:
            await manager.unsubscribe(number, key)
            await trigger.cleanup()

    @property
    def changes(self) -> list[tuple[str, str]]:
        return [(event["key"], event["change"]) for event in self.events]

    async def wait_for(self, count: int, seconds: float = 60) -> None:
        """Wait for a number of events, and a little longer for one too many."""
        await wait_until(lambda: len(self.events) >= count, seconds)
        await asyncio.sleep(6 * POKE)
        assert len(self.events) == count, self.events


async def wait_until(question: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline
        await asyncio.sleep(POKE / 2)
