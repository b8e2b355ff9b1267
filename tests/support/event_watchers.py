"""Run event triggers as Airflow's triggerer does: with its own stream manager and state accessors, without its database."""

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
from airflow.sdk.execution_time.context import AssetStateStoreAccessors
from airflow.triggers.base import BaseEventTrigger
from airflow.triggers.shared_stream import AckTimeout, SharedStreamManager

from airflow_provider_mictlanx.client.errors import MictlanXError
from tests.support.sensor_modes import made_again

POKE = 0.05


class StateStore:
    """Keeps the states of assets in place of the API server, and fails on request; no call may come from an event loop."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.failing = False
        self.hanging = threading.Event()
        self.hanging.set()
        self.writes = 0

    def send(self, message: Any) -> Any:
        with pytest.raises(RuntimeError):  # no running loop in this thread
            asyncio.get_running_loop()
        self.hanging.wait(60)
        if self.failing:
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

    def states_of(self, asset: str) -> list[str]:
        return [state for (name, _), state in self.kept.items() if name == asset]


class Triggerer:
    """
    A triggerer that runs watchers until the end of the context; their events are confirmed as stored.

    :ivar events: payloads of all watchers, in their order
    :ivar ended: errors that ended watchers
    """

    def __init__(self, *, confirms: bool = True, ack_timeout: float = 300) -> None:
        self.events: list[dict[str, Any]] = []
        self.ended: list[Exception] = []
        self.confirms = confirms
        self.before_event: Callable[[], None] = lambda: None
        self._manager = SharedStreamManager(ack_timeout=ack_timeout)
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(4 * POKE if self.confirms else 0)
        for number in list(self._tasks):
            await self.cancel(number)
        await self._manager.stop_all()

    def watch(self, trigger: BaseEventTrigger, *assets: str) -> int:
        """Start a watcher for assets, and return its number."""
        again = made_again(trigger)
        assert isinstance(again, BaseEventTrigger)
        if assets:
            inlets = [Asset(name=name, uri=f"mictlanx://bucket/{name}") for name in assets]
            again.asset_state_store = AssetStateStoreAccessors(inlets=inlets)
        number = len(self._tasks)
        self._tasks[number] = asyncio.create_task(self._run(number, again))
        return number

    async def cancel(self, number: int) -> None:
        self._tasks[number].cancel()
        with suppress(asyncio.CancelledError):
            await self._tasks[number]

    async def _run(self, number: int, trigger: BaseEventTrigger) -> None:
        key = trigger.shared_stream_key()
        stream = self._manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        try:
            async for event in trigger.filter_shared_stream(stream):
                await asyncio.sleep(0)
                self.before_event()
                sequence = self._manager.bind_pending_event(trigger_id=number, key=key)
                self.events.append(json.loads(json.dumps(event.payload)))
                if self.confirms:
                    assert sequence is not None
                    asyncio.get_running_loop().call_later(POKE / 2, self._manager.confirm_persisted, [sequence])
        except (AckTimeout, MictlanXError) as error:
            self.ended.append(error)
        finally:
            await self._manager.unsubscribe(number, key)

    @property
    def changes(self) -> list[tuple[str, str]]:
        return [(event["key"], event["change"]) for event in self.events]

    async def wait_for(self, count: int, seconds: float = 20) -> None:
        """Wait for a number of events, and a little longer for one too many."""
        await wait_until(lambda: len(self.events) >= count, seconds)
        await asyncio.sleep(6 * POKE)
        assert len(self.events) == count, self.changes


async def wait_until(question: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline
        await asyncio.sleep(POKE / 2)
