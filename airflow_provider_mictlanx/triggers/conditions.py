"""Conditions for which the sensors wait: their pokes, on the worker and in the triggerer, and the event at the end."""

from __future__ import annotations

import asyncio
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_mictlanx.bulks.verification import StorageCheck
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import MictlanXError, ValidationError
from airflow_provider_mictlanx.client.texts import clean_logger
from airflow_provider_mictlanx.hooks.arguments import attributes, attributes_for, check_flags
from airflow_provider_mictlanx.hooks.bucket_inactivity import InactivityMonitor
from airflow_provider_mictlanx.hooks.errors import error_event, error_from_event, event_payload, log_suppressed
from airflow_provider_mictlanx.hooks.mictlanx import CheckFn, MictlanXHook, Readable, check_keys

if TYPE_CHECKING:
    from airflow_provider_mictlanx.triggers.mictlanx import (
        MictlanXBucketUnchangedTrigger,
        MictlanXBulkCompleteTrigger,
        MictlanXObjectTrigger,
        PollingTrigger,
    )

_MAX_DOUBLINGS = 30


class Condition(ABC):
    """
    The condition for which one trigger waits. The sensor makes the first poke on the worker, so ``wait`` sleeps first.

    Raises ``ValidationError`` for a flag that is not a bool.

    :param trigger: has the arguments
    """

    def __init__(self, trigger: PollingTrigger) -> None:
        check_flags(trigger)
        self.trigger = trigger
        self.log = clean_logger(trigger.log)

    @abstractmethod
    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> Any | None:
        """Check once, and return the result; None means "not yet"."""

    async def wait(self) -> dict[str, Any]:
        """Poke until the end of the wait, and return the payload of the event."""
        hook = MictlanXHook(self.trigger.mictlanx_conn_id)
        try:
            async with hook.open_client(connect_patience=0) as client:
                return await self._poll(hook, client)
        except MictlanXError as error:
            return error_event(error)

    async def _poll(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any]:
        pokes = 1
        while True:
            # The last poke is exactly at the end of the wait, not up to an interval before or after it.
            await asyncio.sleep(max(0.0, min(self._pause(pokes), self._time_left())))
            if (found := await self._poke_suppressing(hook, client)) is not None:
                return event_payload({"status": "success", "result": found})
            if self._time_left() <= 0:
                return {"status": "timeout"}
            pokes += 1

    async def _poke_suppressing(self, hook: MictlanXHook, client: AsyncClient) -> Any | None:
        try:
            return await self.apoke(hook, client)
        except Exception as error:
            if not self.trigger.silent_fail or (isinstance(error, MictlanXError) and error.permanent):
                raise
            log_suppressed(self.log, error)
            return None

    def _time_left(self) -> float:
        return math.inf if self.trigger.ends_at is None else self.trigger.ends_at - time.time()

    def _pause(self, pokes: int) -> float:
        """Return the seconds to sleep after a number of pokes; same rule as Airflow's own sensors."""
        interval, longest = self.trigger.poke_interval, self.trigger.max_wait
        if not self.trigger.exponential_backoff:
            return interval
        shortest = max(1, int(interval * 2.0 ** min(pokes - 2, _MAX_DOUBLINGS)))
        pause = shortest + random.randrange(shortest)
        return pause if longest is None else min(pause, longest)


def read_event(event: Mapping[str, Any] | None, time_out: Callable[[], NoReturn]) -> Any:
    """
    Return the result in the event of ``Condition.wait``, or raise the error that it reports.

    :param time_out: raises the task's error for a timeout
    """
    payload = event or {}
    match payload.get("status"):
        case "success":
            return payload["result"]
        case "error":
            raise error_from_event(payload)
        case "timeout":
            time_out()
    raise MictlanXError(f"unexpected trigger event: {event!r}")


class ObjectCondition(Condition):
    """
    An object, or enough objects, are stored in a bucket.

    :param check_fn: judges the objects; only on the worker, since a function can't be sent to the triggerer
    """

    trigger: MictlanXObjectTrigger

    def __init__(self, trigger: MictlanXObjectTrigger, check_fn: CheckFn | None = None) -> None:
        super().__init__(trigger)
        self._check_fn = check_fn
        self._left_to_task = trigger.checked_by_task and check_fn is None
        self._readable: Readable = {}

    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        """Check once for the object or the objects."""
        found = await self._find(hook, client)
        return {"ends_at": self.trigger.ends_at} if found is not None and self._left_to_task else found

    async def _find(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        key, min_objects = self.trigger.key, self.trigger.min_objects
        own = attributes(self.trigger, "bucket_id", "request_timeout")
        own |= {"check_fn": self._check_fn, "check_storage": self.trigger.check_storage and not self._left_to_task}
        if isinstance(key, str):
            if min_objects is not None:
                raise ValidationError(
                    f"min_objects must be None with one key, got {min_objects!r}; use it with a list of keys, prefix "
                    "or glob"
                )
            return await hook.afind(**own, key=key, client=client)
        if key is not None and not check_keys("key", key):
            raise ValidationError("key must not be an empty list")
        own |= attributes(self.trigger, "prefix", "glob", "min_objects")
        return await hook.afind_objects(**own, keys=key, readable=self._readable, client=client)


class BucketUnchangedCondition(Condition):
    """A bucket has not changed for some time; the trigger keeps the state of the last poke."""

    trigger: MictlanXBucketUnchangedTrigger

    def __init__(self, trigger: MictlanXBucketUnchangedTrigger) -> None:
        super().__init__(trigger)
        self._monitor = InactivityMonitor(**attributes_for(InactivityMonitor, trigger))

    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        """Check once whether the bucket has stopped changing."""
        timeout = self.trigger.request_timeout
        found = await hook.afind_unchanged_bucket(self._monitor, request_timeout=timeout, client=client)
        self.trigger.state = self._monitor.state
        return found


class BulkCompleteCondition(Condition):
    """Every shard of a bulk is complete."""

    trigger: MictlanXBulkCompleteTrigger

    def __init__(self, trigger: MictlanXBulkCompleteTrigger) -> None:
        super().__init__(trigger)
        self._check = StorageCheck(trigger.bulk_id, run=trigger.check_run) if trigger.check_storage else None

    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        """Check once whether the bulk is complete, and continue to verify its objects."""
        own = attributes(self.trigger, "bulk_id", "fail_on_error", "check_seconds", "request_timeout")
        return await hook.afind_bulk(**own, check=self._check, client=client)
