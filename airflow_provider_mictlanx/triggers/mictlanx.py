"""Triggers of MictlanX: the deferred half of the sensors."""

from __future__ import annotations

import asyncio
import math
import random
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mictlanx.bulks.checking import StorageCheck
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import MictlanXError
from airflow_provider_mictlanx.hooks.failures import event_of, log_borne
from airflow_provider_mictlanx.hooks.finding import Readable
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.hooks.quiet import QuietWatch

_MOST_DOUBLINGS = 30


class PollingTrigger(BaseTrigger):
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


class MictlanXObjectTrigger(PollingTrigger):
    """
    Fire when an object, or enough objects, are in a bucket.

    Its result is what ``MictlanXHook.find`` gives for one key, else what ``MictlanXHook.find_objects`` gives. Further
    parameters as of ``PollingTrigger``.

    :param bucket_id: the bucket
    :param key: the object's name, or a list of them
    :param prefix: instead: all keys that begin with it
    :param glob: instead: all keys that match
    :param min_objects: how many have to be there; default: every key of a list, else 1
    :param check_storage: read every chunk and verify it before saying that an object is there
    """

    own = ("bucket_id", "key", "prefix", "glob", "min_objects", "check_storage")

    def __init__(
        self,
        *,
        bucket_id: str,
        key: str | list[str] | None = None,
        prefix: str | None = None,
        glob: str | None = None,
        min_objects: int | None = None,
        check_storage: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.key = key
        self.prefix = prefix
        self.glob = glob
        self.min_objects = min_objects
        self.check_storage = check_storage
        self._readable: Readable = {}

    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        """Look once for the object, or the objects."""
        if isinstance(self.key, str):
            return await hook.afind(
                self.bucket_id, self.key, check_storage=self.check_storage, timeout=self.request_timeout, client=client
            )
        return await hook.afind_objects(
            self.bucket_id,
            self.key,
            prefix=self.prefix,
            glob=self.glob,
            min_objects=self.min_objects,
            check_storage=self.check_storage,
            readable=self._readable,
            timeout=self.request_timeout,
            client=client,
        )


class MictlanXBucketUnchangedTrigger(PollingTrigger):
    """
    Fire when nothing was changed in a bucket for some time; its result is what ``MictlanXHook.find_quiet`` gives.

    Further parameters as of ``PollingTrigger``.

    :param bucket_id: the bucket
    :param prefix: only keys that begin with it
    :param inactivity_period: for how long nothing may change, in seconds
    :param min_objects: how many whole objects there have to be
    :param allow_delete: whether objects may go meanwhile
    :param state: what the sensor saw (``QuietWatch.state``): another triggerer that takes over compares with it
    """

    own = ("bucket_id", "prefix", "inactivity_period", "min_objects", "allow_delete", "state")

    def __init__(
        self,
        *,
        bucket_id: str,
        prefix: str,
        inactivity_period: float,
        min_objects: int,
        allow_delete: bool,
        state: dict[str, Any] | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bucket_id = bucket_id
        self.prefix = prefix
        self.inactivity_period = inactivity_period
        self.min_objects = min_objects
        self.allow_delete = allow_delete
        self.state = state
        self._watch: QuietWatch | None = None

    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        """Look once whether the bucket is quiet."""
        if self._watch is None:
            self._watch = QuietWatch(
                self.bucket_id,
                self.prefix,
                inactivity_period=self.inactivity_period,
                min_objects=self.min_objects,
                allow_delete=self.allow_delete,
                state=self.state,
            )
        return await hook.afind_quiet(self._watch, timeout=self.request_timeout, client=client)


class MictlanXBulkCompleteTrigger(PollingTrigger):
    """
    Fire when every shard of a bulk is done; its result is what ``MictlanXHook.await_bulk`` gives, without items.

    A bulk that failed for good is an error, or with ``fail_on_error=False`` a result. Further parameters as of
    ``PollingTrigger``.

    :param bulk_id: the bulk
    :param fail_on_error: whether a bulk that failed for good is an error
    :param check_storage: read every chunk of every ball and verify it, before saying that the bulk is complete: in each poke
        about as long as the pause between two of them
    :param check_run: the name of the check that the sensor began: the trigger goes on with it
    """

    own = ("bulk_id", "fail_on_error", "check_storage", "check_run")

    def __init__(
        self,
        *,
        bulk_id: str,
        fail_on_error: bool = True,
        check_storage: bool = False,
        check_run: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bulk_id = bulk_id
        self.fail_on_error = fail_on_error
        self.check_storage = check_storage
        self.check_run = check_run
        self._check = StorageCheck(bulk_id, run=check_run) if check_storage else None

    async def apoke(self, hook: MictlanXHook, client: AsyncClient) -> dict[str, Any] | None:
        """Look once whether the bulk is complete, and go on reading its balls back."""
        return await hook.afind_bulk(
            self.bulk_id,
            fail_on_error=self.fail_on_error,
            check=self._check,
            check_seconds=self.poke_interval,
            timeout=self.request_timeout,
            client=client,
        )
