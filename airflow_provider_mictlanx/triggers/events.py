"""
Event triggers, with which objects and bulks start DAGs through asset watchers; for Airflow 3.0 and later.

On Airflow 3.3, all watchers of one bucket share one listing per poll. The watermark of a watcher is stored with its
assets, after Airflow has stored the events. So no event is lost in a restart; some may come twice, with the same
``event_id``. Before 3.3, every watcher lists by itself and begins anew after a restart.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

if TYPE_CHECKING:
    from airflow_provider_mictlanx.triggers.watchers import Poller, Snapshot, Watcher

try:
    from airflow.triggers.shared_stream import SharedStreamProducer
except ImportError:  # Airflow before 3.3 calls only run()
    SharedStreamProducer = object  # type: ignore[assignment, misc, unused-ignore]


class SnapshotProducer(SharedStreamProducer):  # type: ignore[misc, unused-ignore]
    """
    Connect Airflow's shared stream with a ``Poller``.

    :param trigger: one of the watchers' triggers
    """

    def __init__(self, trigger: MictlanXEventTrigger) -> None:
        self._trigger = trigger
        self._poller: Poller | None = None

    async def open_stream(self) -> AsyncGenerator[tuple[Snapshot, Snapshot], None]:
        """Yield a snapshot after each poll, for ever."""
        self._poller = await asyncio.to_thread(self._trigger.create_poller)
        async with aclosing(self._poller.snapshots()) as snapshots:
            async for snapshot in snapshots:
                yield snapshot, snapshot

    def get_advance_lane(self, broker_payload: Any) -> Hashable:
        """Return the only lane: snapshots are advanced in their order."""
        return None

    async def advance(self, batch: Sequence[Any]) -> None:
        """Store the states, since Airflow has stored the events."""
        if self._poller is not None:
            await self._poller.store_states(batch)

    async def aclose(self) -> None:
        """Close the client."""
        if self._poller is not None:
            await self._poller.aclose()


@dataclass(kw_only=True, eq=False, repr=False)
class MictlanXEventTrigger(BaseEventTrigger):
    """
    Base of the event triggers; it never ends, because Airflow would start it again every few seconds.

    :param poke_interval: seconds between two polls
    :param mictlanx_conn_id: the connection
    :ivar ended: whether Airflow has ended its watcher
    """

    poke_interval: float = 60
    mictlanx_conn_id: str = "mictlanx_default"

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.ended = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """
        Return the path of the class, and the arguments that rebuild the trigger.

        Raises ``ValidationError`` for invalid arguments, which makes the DAG an import error. The constructor does
        not: there, it would end the triggerer.
        """
        if self.trigger_id is None:  # in the triggerer, which has set it, this would block the event loop
            self.create_watcher().check_arguments()
        arguments = {argument.name: getattr(self, argument.name) for argument in fields(self) if argument.init}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    @abstractmethod
    def create_watcher(self) -> Watcher:
        """Import and return what finds the events; in the triggerer, only for a thread."""

    def create_poller(self) -> Poller:
        """Import and return what polls; in the triggerer, only for a thread."""
        from airflow_provider_mictlanx.triggers.watchers import Poller

        return Poller(self.create_watcher())

    # Airflow 3.3

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SnapshotProducer:
        """Return the producer of a group of watchers; of the arguments it uses those in ``shared_stream_key``."""
        return SnapshotProducer(cls(**kwargs))

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Snapshot]) -> AsyncIterator[TriggerEvent]:
        """Yield the events of this watcher."""
        watcher = await asyncio.to_thread(self.create_watcher)
        try:
            async for payload in watcher.find_events(shared_stream):
                yield TriggerEvent(payload)  # type: ignore[no-untyped-call, unused-ignore]
        finally:
            self.ended = True

    async def cleanup(self) -> None:
        """Note the end: Airflow closes a watcher that it cancels between two events only about a second later."""
        self.ended = True

    # Airflow before 3.3

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll alone, and yield the events; nothing is stored."""
        producer = SnapshotProducer(self)
        stream = producer.open_stream()
        try:
            async for event in self.filter_shared_stream(snapshot async for snapshot, _ in stream):
                yield event
        finally:
            await stream.aclose()
            await producer.aclose()


@dataclass(kw_only=True, eq=False, repr=False)
class MictlanXObjectEventTrigger(MictlanXEventTrigger):
    """
    Fire an event for every new or changed object of a bucket.

    The payload is ``{event_id, bucket_id, key, checksum, size, change}``; ``change`` is ``"new"`` or ``"changed"``.
    Objects with the same bytes as before cause no event, and neither do deletes. Further parameters: see
    ``MictlanXEventTrigger``.

    :param bucket_id: the bucket
    :param prefix: only keys that begin with it
    :param glob: only keys that match it, such as ``"in/*.csv"``; not together with ``prefix``
    :param existing: also report the objects of the first listing
    :param check_storage: read and verify every chunk of an object before its event
    :param max_events_per_poll: further objects wait for the next poll
    """

    bucket_id: str
    prefix: str = ""
    glob: str = ""
    existing: bool = False
    check_storage: bool = True
    max_events_per_poll: int = 100

    def shared_stream_key(self) -> Hashable | None:
        """Return the key that all watchers of a bucket share."""
        return "mictlanx", self.mictlanx_conn_id, self.bucket_id, self.poke_interval

    def create_watcher(self) -> Watcher:
        """Import and return what finds the events; in the triggerer, only for a thread."""
        from airflow_provider_mictlanx.triggers.watchers import ObjectWatcher

        return ObjectWatcher(self)


@dataclass(kw_only=True, eq=False, repr=False)
class MictlanXBulkCompleteEventTrigger(MictlanXEventTrigger):
    """
    Fire an event when a bulk is complete, once for every upload of it.

    The payload is the result of ``MictlanXHook.await_bulk``, with an ``event_id``. An upload that is retried or cleared
    continues the same bulk. The next event comes after ``delete_bulk`` and another upload. A bulk that has failed
    causes no event until a retry completes it. Further parameters: see ``MictlanXEventTrigger``.

    :param bulk_id: the bulk
    """

    bulk_id: str

    def shared_stream_key(self) -> Hashable | None:
        """Return the key that all watchers of a bulk share."""
        return "mictlanx-bulk", self.mictlanx_conn_id, self.bulk_id, self.poke_interval

    def create_watcher(self) -> Watcher:
        """Import and return what finds the events; in the triggerer, only for a thread."""
        from airflow_provider_mictlanx.triggers.watchers import BulkWatcher

        return BulkWatcher(self)
