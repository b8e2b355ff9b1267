"""Triggers, whose coroutine the sensors call for every poke, in the triggerer and on the worker."""

from __future__ import annotations

import asyncio
import math
import random
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mictlanx.bulks.verification import StorageCheck
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import MictlanXError, ValidationError
from airflow_provider_mictlanx.client.validation import check_bool
from airflow_provider_mictlanx.hooks.arguments import attributes, attributes_for
from airflow_provider_mictlanx.hooks.bucket_inactivity import InactivityMonitor
from airflow_provider_mictlanx.hooks.clean_log import CleanLog
from airflow_provider_mictlanx.hooks.errors import error_event, error_from_event, log_suppressed
from airflow_provider_mictlanx.hooks.mictlanx import CheckFn, MictlanXHook, Readable, check_keys

_MAX_DOUBLINGS = 30


@dataclass(kw_only=True, eq=False, repr=False)
class PollingTrigger(CleanLog, BaseTrigger):
    """
    Poke until there is a result, a timeout or an error, then fire one event.

    The event is ``{"status": "success", "result": …}``, ``{"status": "timeout"}`` or an error
    (``hooks.errors.error_event``); ``read_event`` reads it. The sensor makes the first poke on the worker, with the
    same coroutine, so ``run`` sleeps first.

    All arguments are JSON, without secrets. The end of the wait is a point in time, so a triggerer that takes over
    continues with the remaining time. Cancelling ``run``, as Airflow does when somebody ends the task, stops all
    requests.

    :param mictlanx_conn_id: the connection
    :param poke_interval: seconds between two pokes
    :param ends_at: end of the wait, in seconds since 1970; None for no end
    :param request_timeout: seconds for one request; None for the connection's
    :param exponential_backoff: increase the pauses like Airflow's own sensors
    :param max_wait: longest pause of ``exponential_backoff``, in seconds
    :param silent_fail: log a transient error, and continue to wait
    """

    mictlanx_conn_id: str
    poke_interval: float
    ends_at: float | None
    request_timeout: float | None = None
    exponential_backoff: bool = False
    max_wait: float | None = None
    silent_fail: bool = False

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        for argument in fields(self):
            if argument.type == "bool":
                check_bool(argument.name, getattr(self, argument.name))

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of the class, and the arguments that rebuild the trigger."""
        arguments = {argument.name: getattr(self, argument.name) for argument in fields(self) if argument.init}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    def prepare_deferral(self, ends_at: float) -> None:
        """Set the end of the wait; the worker calls this before it hands the trigger over."""
        self.ends_at = ends_at

    @abstractmethod
    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> Any | None:
        """Check once, and return the result; None means "not yet"."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire the event."""
        hook = MictlanXHook(self.mictlanx_conn_id)
        try:
            async with hook.open_client(connect_patience=0) as client:
                payload = await self._poll(hook, client)
        except MictlanXError as error:
            payload = error_event(error)
        yield TriggerEvent(payload)  # type: ignore[no-untyped-call, unused-ignore]

    async def _poll(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any]:
        pokes = 1
        while True:
            # The last poke is exactly at the end of the wait, not up to an interval before or after it.
            await asyncio.sleep(max(0.0, min(self._pause(pokes), self._time_left())))
            if (found := await self._poke_suppressing(hook, client)) is not None:
                return {"status": "success", "result": found}
            if self._time_left() <= 0:
                return {"status": "timeout"}
            pokes += 1

    async def _poke_suppressing(self, hook: MictlanXHook, client: AsyncClient) -> Any | None:
        try:
            return await self.apoke(hook, client)
        except Exception as error:
            if not self.silent_fail or (isinstance(error, MictlanXError) and error.permanent):
                raise
            log_suppressed(self.log, error)
            return None

    def _time_left(self) -> float:
        return math.inf if self.ends_at is None else self.ends_at - time.time()

    def _pause(self, pokes: int) -> float:
        """Return the seconds to sleep after a number of pokes; same rule as Airflow's own sensors."""
        if not self.exponential_backoff:
            return self.poke_interval
        shortest = max(1, int(self.poke_interval * 2.0 ** min(pokes - 2, _MAX_DOUBLINGS)))
        pause = shortest + random.randrange(shortest)
        return pause if self.max_wait is None else min(pause, self.max_wait)


def read_event(event: Mapping[str, Any] | None, time_out: Callable[[], NoReturn]) -> Any:
    """
    Return the result in a trigger's event, or raise the error that it reports.

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


@dataclass(kw_only=True, eq=False, repr=False)
class MictlanXObjectTrigger(PollingTrigger):
    """
    Fire when an object, or enough objects, are stored in a bucket.

    The result is that of ``MictlanXHook.find`` for one key, else that of ``MictlanXHook.find_objects``. Further
    parameters: see ``PollingTrigger``.

    :param bucket_id: the bucket
    :param key: the object's name, or a list of names
    :param prefix: instead of ``key``: all keys that begin with it
    :param glob: instead of ``key``: all keys that match it
    :param min_objects: required number of objects; default: every key of a list, else 1
    :param check_storage: read and verify every chunk before an object counts
    :param checked_by_task: fire when the objects are listed, with ``{ends_at}`` as result: the task checks them, and
        defers again unless they pass
    """

    bucket_id: str
    key: str | list[str] | None = None
    prefix: str | None = None
    glob: str | None = None
    min_objects: int | None = None
    check_storage: bool = True
    checked_by_task: bool = False
    check_fn: CheckFn | None = field(default=None, init=False)
    """Judges the objects; only on the worker, since a function can't be sent to the triggerer."""
    _readable: Readable = field(default_factory=dict, init=False)

    def prepare_deferral(self, ends_at: float) -> None:
        """Set the end of the wait, and leave ``check_fn`` to the task."""
        super().prepare_deferral(ends_at)
        self.checked_by_task, self.check_fn = self.check_fn is not None, None

    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        """Check once for the object or the objects."""
        found = await self._find(hook, client)
        return {"ends_at": self.ends_at} if found is not None and self.checked_by_task else found

    async def _find(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        own = attributes(self, "bucket_id", "check_fn", "request_timeout")
        own["check_storage"] = self.check_storage and not self.checked_by_task
        if isinstance(self.key, str):
            if self.min_objects is not None:
                raise ValidationError(
                    f"min_objects must be None with one key, got {self.min_objects!r}; use it with a list of keys, "
                    "prefix or glob"
                )
            return await hook.afind(**own, key=self.key, client=client)
        if self.key is not None and not check_keys("key", self.key):
            raise ValidationError("key must not be an empty list")
        own |= attributes(self, "prefix", "glob", "min_objects")
        return await hook.afind_objects(**own, keys=self.key, readable=self._readable, client=client)


@dataclass(kw_only=True, eq=False, repr=False)
class MictlanXBucketUnchangedTrigger(PollingTrigger):
    """
    Fire when a bucket has not changed for some time.

    The result is that of ``MictlanXHook.find_unchanged_bucket``. Further parameters: see ``PollingTrigger``.

    :param bucket_id: the bucket
    :param prefix: only keys that begin with it
    :param inactivity_period: required seconds without a change
    :param min_objects: required number of complete objects
    :param allow_delete: accept deletes during the wait
    :param state: state after the last poke (``InactivityMonitor.state``), which another process compares with
    """

    bucket_id: str
    prefix: str
    inactivity_period: float
    min_objects: int
    allow_delete: bool
    state: dict[str, Any] | None
    _monitor: InactivityMonitor | None = field(default=None, init=False)

    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        """Check once whether the bucket has stopped changing."""
        if self._monitor is None:
            self._monitor = InactivityMonitor(**attributes_for(InactivityMonitor, self))
        found = await hook.afind_unchanged_bucket(self._monitor, request_timeout=self.request_timeout, client=client)
        self.state = self._monitor.state
        return found


@dataclass(kw_only=True, eq=False, repr=False)
class MictlanXBulkCompleteTrigger(PollingTrigger):
    """
    Fire when every shard of a bulk is complete.

    The result is that of ``MictlanXHook.await_bulk``, without items. For a bulk that failed permanently the event is an
    error; with ``fail_on_error=False`` it is a result. Further parameters: see ``PollingTrigger``.

    :param bulk_id: the bulk
    :param fail_on_error: report a bulk that failed permanently as an error
    :param check_storage: read and verify every chunk of every object before firing
    :param check_run: name of the check; another process continues a check of the same name
    :param check_seconds: seconds for the check in each poke
    """

    bulk_id: str
    fail_on_error: bool = True
    check_storage: bool = False
    check_run: str = ""
    check_seconds: float = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check = StorageCheck(self.bulk_id, run=self.check_run) if self.check_storage else None

    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        """Check once whether the bulk is complete, and continue to verify its objects."""
        own = attributes(self, "bulk_id", "fail_on_error", "check_seconds", "request_timeout")
        return await hook.afind_bulk(**own, check=self._check, client=client)
