"""What triggers that wait for something have in common: poke, sleep, one event. Imports Airflow, the client, ``hooks``."""

from __future__ import annotations

import asyncio
import math
import random
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import MictlanXError
from airflow_provider_mictlanx.hooks.clean_log import CleanLog
from airflow_provider_mictlanx.hooks.failures import event_of, log_borne
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

_MOST_DOUBLINGS = 30


class PollingTrigger(CleanLog, BaseTrigger):
    """
    Poke until there is something, a time is over, or an error comes up; then fire one event.

    The event is ``{"status": "success", "result": …}``, ``{"status": "timeout"}`` or an error
    (``hooks.failures.event_of``). The first poke is the sensor's, on the worker, so the trigger sleeps first. All arguments
    are JSON and none is a secret; since the end is a point in time, a triggerer that takes over goes on with what is left.
    Nothing of it lives elsewhere: where somebody ends the task, that Airflow cancels ``run`` is all there is to stop.

    :param mictlanx_conn_id: the connection
    :param poke_interval: seconds between two pokes
    :param ends_at: when the wait is over, in seconds since 1970; None for never
    :param request_timeout: of one request, in seconds; None for the connection's
    :param exponential_backoff: whether the pauses grow, as in Airflow's own sensors
    :param max_wait: the longest pause then, in seconds
    :param silent_fail: whether an error that may pass is logged and the wait goes on
    """

    shared: ClassVar[tuple[str, ...]] = (
        *("mictlanx_conn_id", "poke_interval", "ends_at", "request_timeout"),
        *("exponential_backoff", "max_wait", "silent_fail"),
    )
    own: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        mictlanx_conn_id: str,
        poke_interval: float,
        ends_at: float | None,
        request_timeout: float | None = None,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        silent_fail: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.mictlanx_conn_id = mictlanx_conn_id
        self.poke_interval = poke_interval
        self.ends_at = ends_at
        self.request_timeout = request_timeout
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.silent_fail = silent_fail

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give the class's path and the arguments to make it again."""
        arguments = {name: getattr(self, name) for name in (*self.own, *self.shared)}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    @abstractmethod
    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> Any | None:
        """Look once; give what was found, or None for "not yet"."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire the one event."""
        hook = MictlanXHook(self.mictlanx_conn_id)
        try:
            async with hook.aget_conn() as client:
                payload = await self._poll(hook, client)
        except MictlanXError as error:
            payload = event_of(error)
        yield TriggerEvent(payload)  # type: ignore[no-untyped-call, unused-ignore]

    async def _poll(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any]:
        pokes = 1
        while True:
            # The last poke is at the very end, not up to an interval before or after it.
            await asyncio.sleep(max(0.0, min(self._pause(pokes), self._left())))
            if (found := await self._poke_bearing(hook, client)) is not None:
                return {"status": "success", "result": found}
            if self._left() <= 0:
                return {"status": "timeout"}
            pokes += 1

    async def _poke_bearing(self, hook: MictlanXHook, client: AsyncClient) -> Any | None:
        try:
            return await self.apoke(hook, client)
        except Exception as error:
            if not self.silent_fail or (isinstance(error, MictlanXError) and error.permanent):
                raise
            log_borne(self.log, error)
            return None

    def _left(self) -> float:
        return math.inf if self.ends_at is None else self.ends_at - time.time()

    def _pause(self, pokes: int) -> float:
        """Give the seconds to sleep after so many pokes, as Airflow's own sensors do."""
        if not self.exponential_backoff:
            return self.poke_interval
        shortest = max(1, int(self.poke_interval * 2.0 ** min(pokes - 2, _MOST_DOUBLINGS)))
        pause = shortest + random.randrange(shortest)
        return pause if self.max_wait is None else min(pause, self.max_wait)
