"""
Watchers, which poll and compare for the event triggers.

Airflow imports triggers on the event loop of the triggerer. So these imports are apart from them, in a thread.
"""

from __future__ import annotations

import asyncio
import base64
import fnmatch
import hashlib
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from airflow.providers.common.compat.sdk import conf

from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.bulks.records import Records
from airflow_provider_mictlanx.bulks.status import State, compute_status, first_attempt
from airflow_provider_mictlanx.bulks.summary import status_line, summarize
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import for_each, run_in_thread
from airflow_provider_mictlanx.client.empty_objects import with_empty_objects
from airflow_provider_mictlanx.client.errors import MictlanXError, UnavailableError, ValidationError
from airflow_provider_mictlanx.client.models import Ball, Metadata
from airflow_provider_mictlanx.client.object_ids import check_bucket_id
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import clean_logger
from airflow_provider_mictlanx.client.validation import check_int, check_non_negative, check_seconds, check_str
from airflow_provider_mictlanx.hooks.arguments import check_flags
from airflow_provider_mictlanx.hooks.errors import event_payload
from airflow_provider_mictlanx.hooks.mictlanx import READ_AT_ONCE, MictlanXHook

if TYPE_CHECKING:
    from airflow_provider_mictlanx.triggers.events import (
        MictlanXBulkCompleteEventTrigger,
        MictlanXEventTrigger,
        MictlanXObjectEventTrigger,
    )

T = TypeVar("T")

MAX_PAUSE = 300.0
"""Longest pause after failed polls (seconds), unless ``poke_interval`` is longer."""

READ_SECONDS = 60.0
"""Seconds for which a poll waits for objects that are being read; Airflow ends a watcher after 300 (ack timeout)."""

STORE_SECONDS = 60.0
"""Timeout for one access to Airflow's state store."""

SETTLE_SECONDS = 1.0
"""
Seconds before states are stored.

Airflow also confirms an event that reached no asset, since its DAG was just paused or its trigger changed. With the
confirmation it ends the watcher, whose state must not be stored then.
"""

STORED_AT_ONCE = 4
"""Limit for concurrent accesses to Airflow's state store: more threads slow down the event loop."""

DEFAULT_MAX_STATE = 65535
"""Bytes of state that Airflow accepts by default: ``[state_store] max_value_storage_bytes``."""

KEY_BYTES, CONTENT_BYTES = 6, 5
"""Length of the stored hashes of an object's id and of its content."""

COMPUTING = ThreadPoolExecutor(1, thread_name_prefix="mictlanx-events")
"""Compares and encodes for all watchers, one after the other: more threads would slow down the event loop."""

OTHER = bytes(CONTENT_BYTES)
"""The content of an object of which only this is known: it was seen."""

Seen = dict[bytes, bytes]
"""The state of a watcher: hash of the content by hash of the id, of the objects or uploads that were seen."""


async def compute(work: Callable[[], T]) -> T:
    """Return the result of work that takes the processor for more than some milliseconds."""
    return await asyncio.get_running_loop().run_in_executor(COMPUTING, work)


class StorageReader:
    """
    Read and verify objects, each version once for all watchers.

    Reading continues in the background after a caller stops waiting.

    :ivar closed: whether all reading was stopped
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._slots = asyncio.Semaphore(READ_AT_ONCE)
        self._reads: dict[ListedObject, asyncio.Task[MictlanXError | None]] = {}
        self.closed = False

    async def read(self, listed: ListedObject) -> MictlanXError | None:
        """Wait until an object is read, and return the error; None if every chunk is stored and verified."""
        if self.closed:  # a slow watcher may still have it, and the client would open again
            return UnavailableError("reading was stopped")
        if listed not in self._reads:
            self._reads[listed] = asyncio.create_task(self._read(listed))
        task = self._reads[listed]
        await asyncio.wait({task})  # unlike awaiting the task, neither cancels it nor is cancelled with it
        return UnavailableError("reading was stopped") if task.cancelled() else task.result()

    async def _read(self, listed: ListedObject) -> MictlanXError | None:
        ball = listed.ball
        async with self._slots:
            try:
                # Not by name alone: another object may have the same name as its ball id.
                reading = self._client.get_metadata(ball.bucket_id, ball.key, check_storage=True, listed=ball)
                found = unwrap(await reading)
            except MictlanXError as error:
                return error
        if describe(found).content != listed.content:  # an older one stays readable until the data arrives
            return UnavailableError("another version than the listed one is readable")
        return None

    async def forget_all_but(self, listed: Container[ListedObject]) -> None:
        """Drop reads of objects that are not listed any more, and failed ones, so that they are read again."""
        reads = list(self._reads.items())
        dropped = await compute(
            lambda: [
                entry
                for entry, task in reads
                if entry not in listed or (task.done() and (task.cancelled() or task.result() is not None))
            ]
        )
        for entry in dropped:
            self._reads.pop(entry).cancel()

    def close(self) -> None:
        """Stop all reading."""
        self.closed = True
        for task in self._reads.values():
            task.cancel()


@dataclass(frozen=True)
class ListedObject:
    """
    A listed object; equal ones have the same id and the same bytes.

    :ivar id: hash of its id in the bucket
    :ivar content: hash of its checksum
    :ivar event_id: id of the event that reports it
    """

    id: bytes
    content: bytes
    event_id: str = field(compare=False)
    ball: Ball = field(compare=False, repr=False)


def describe(ball: Ball) -> ListedObject:
    """Return a listed object with its hashes; without ``updated_at``, since it also changes when ``rf`` is raised."""
    checksum = ball.checksum or ",".join(chunk.checksum for chunk in ball.chunks)
    return ListedObject(
        id=_digest(ball.ball_id, ball.own_key)[:KEY_BYTES],
        content=_digest(checksum)[:CONTENT_BYTES],
        event_id=_digest(ball.bucket_id, ball.key, checksum).hex(),
        ball=ball,
    )


def _digest(*parts: str) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def _digest_rows(rows: Sequence[Metadata]) -> int:
    """Return a hash of a listing, whose rows come in any order: the sum of theirs."""
    return sum(int.from_bytes(hashlib.sha256(msgspec.json.encode(row)).digest(), "big") for row in rows)


def _hides_nothing(rows: Sequence[Metadata], balls: Iterable[Ball]) -> bool:
    """Return whether a listing shows only the chunks of its objects; any other chunk may hide those of an object."""

    def identify(chunk: Metadata) -> tuple[str | None, ...]:
        return chunk.key, chunk.ball_id, chunk.checksum, chunk.full_checksum

    known = {identify(chunk) for ball in balls for chunk in ball.chunks}
    return all(identify(row) in known for row in with_empty_objects(rows))


def encode_seen(seen: Seen) -> str:
    """Return the seen objects as a short str: sorted, by column, compressed."""
    rows = sorted(key + content for key, content in seen.items())
    return base64.b85encode(zlib.compress(b"".join(map(bytes, zip(*rows, strict=True))), 9)).decode()


def decode_seen(text: str) -> Seen:
    """Return the result of ``encode_seen``'s argument."""
    data = zlib.decompress(base64.b85decode(text))
    count = len(data) // (KEY_BYTES + CONTENT_BYTES)
    rows = (data[number::count] for number in range(count))
    return {row[:KEY_BYTES]: row[KEY_BYTES:] for row in rows}


def seen_in_all(states: Sequence[Seen]) -> Seen:
    """Return what all states have seen; with a content of zeros, which no object has, where their contents differ."""
    first, *others = states
    seen = {key: content for key, content in first.items() if all(key in other for other in others)}
    return {key: content if all(other[key] == content for other in others) else OTHER for key, content in seen.items()}


@dataclass(eq=False)
class Snapshot:
    """
    The result of one poll, for all watchers that share it.

    :ivar number: counts the polls
    :ivar content: the bucket's objects, or the bulk's records; None once there is a newer snapshot
    :ivar version: identifies the content: a later snapshot with the same version has the same content
    :ivar reader: reads objects of the bucket
    :ivar store_slots: limits the calls of Airflow's state store
    :ivar states: new states, to store once Airflow has stored the events that were derived from the snapshot
    """

    number: int
    content: Any
    version: object
    reader: StorageReader
    store_slots: asyncio.Semaphore
    states: list[tuple[Watcher, Seen]] = field(default_factory=list)


class Poller:
    """
    Poll for all watchers with the same ``shared_stream_key``; poll again after a failure, with growing pauses.

    :param watcher: one of them
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._opened = AsyncExitStack()
        self._client: AsyncClient | None = None
        self._reader: StorageReader | None = None
        self._store_slots = asyncio.Semaphore(STORED_AT_ONCE)
        self._latest: Snapshot | None = None
        self._polls = 0
        self._doubtful = 0
        self._storing: asyncio.Timeout | None = None
        self._closing = False

    async def snapshots(self) -> AsyncGenerator[Snapshot, None]:
        """Yield a snapshot after each poll, for ever."""
        failures = 0
        try:
            while True:
                try:
                    snapshot = await self._poll()
                except Exception as error:
                    failures += 1
                    pause = self._watcher.pause_after(failures)
                    self._watcher.log_failure(error, f"the next poll is in {pause:g} s")
                    if failures > 1:  # not at once, since objects that are being read would be read anew
                        await self.aclose()  # the next poll reads the connection again
                else:
                    failures = 0
                    yield snapshot
                await asyncio.sleep(self._watcher.pause_after(failures))
        finally:
            self._closing = True
            if self._storing is not None:  # during a shutdown, Airflow answers no more
                self._storing.reschedule(0)

    async def _poll(self) -> Snapshot:
        if self._client is None or self._reader is None:
            hook = MictlanXHook(self._watcher.trigger.mictlanx_conn_id)
            self._client = await self._opened.enter_async_context(hook.open_client(connect_patience=0))
            self._reader = StorageReader(self._client)
        content = await self._watcher.apoll(self._client, self._reader)
        version: object = object()
        if self._latest is not None:
            if content is self._latest.content:
                version = self._latest.version
            self._latest.content = None  # a slow watcher must not keep many listings in memory
        self._polls += 1
        self._latest = Snapshot(self._polls, content, version, self._reader, self._store_slots)
        return self._latest

    async def store_states(self, batch: Sequence[Any]) -> None:
        """
        Store the states, since Airflow has stored the events.

        If a watcher ended before Airflow has stored all of its events, none of the states until now are stored: the
        outcome does not name the watcher, and its later states include these events. The other watchers store their
        states with the next snapshot. Once polling has ended, nothing is stored.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._closing else None) as self._storing:
                try:
                    for _ in range(10):  # a blocked event loop, in which Airflow can't end watchers, takes one pause
                        await asyncio.sleep(SETTLE_SECONDS / 10)
                    await self._store_all(batch)
                finally:
                    self._storing = None

    async def _store_all(self, batch: Sequence[Any]) -> None:
        for item in batch:
            snapshot: Snapshot = item.broker_payload
            if not item.outcome.is_clean:
                self._doubtful = self._polls
            if snapshot.number <= self._doubtful:
                for watcher, _ in snapshot.states:
                    watcher.store_later()
            else:
                stores = (watcher.store(state, self._store_slots) for watcher, state in snapshot.states)
                await asyncio.gather(*stores)

    async def aclose(self) -> None:
        """Close the client."""
        if self._reader is not None:
            self._reader.close()
        self._client = self._reader = None
        await self._opened.aclose()


class Comparison(NamedTuple):
    """
    The result of comparing a snapshot with the state of a watcher.

    :ivar payloads: of the events
    :ivar state: after the events
    :ivar is_waiting: whether the next snapshot may cause events although it has the same content
    """

    payloads: list[dict[str, Any]]
    state: Seen
    is_waiting: bool = False


_UNREAD: Any = object()


class Watcher(ABC):
    """
    Find the events of one trigger.

    :param trigger: has the arguments
    """

    def __init__(self, trigger: MictlanXEventTrigger) -> None:
        self.trigger = trigger
        self.log = clean_logger(trigger.log)
        self._state: Seen | None = _UNREAD
        self._stored: Seen | None = _UNREAD
        self._sequence = 0
        self._compared: object = None
        """The version of the snapshot whose events are all fired."""

    def check_arguments(self) -> None:
        """Raise ``ValidationError`` for invalid arguments."""
        check_flags(self.trigger)
        check_str("mictlanx_conn_id", self.trigger.mictlanx_conn_id)
        poke_interval = check_non_negative("poke_interval", self.trigger.poke_interval)  # not a timedelta
        if check_seconds("poke_interval", poke_interval) <= 0:
            raise ValidationError(f"poke_interval must be greater than 0, got {poke_interval!r}")

    # For each kind of event

    @abstractmethod
    def state_name(self) -> list[str]:
        """Return the arguments that identify the stored state; the others may change between two restarts."""

    @abstractmethod
    def watched(self) -> str:
        """Return the watched bucket or bulk, for the log."""

    @abstractmethod
    async def apoll(self, client: AsyncClient, reader: StorageReader) -> Any:
        """Return the content of a snapshot, by one listing; the same object as the last time if nothing changed."""

    @abstractmethod
    async def compare(self, content: Any, reader: StorageReader, state: Seen | None) -> Comparison:
        """
        Return the events that a snapshot causes.

        :param content: of the snapshot
        :param reader: reads objects of the bucket
        :param state: the state after the previous snapshot; None for the first one
        """

    # For all

    async def find_events(self, snapshots: AsyncIterator[Snapshot]) -> AsyncIterator[dict[str, Any]]:
        """Yield the payload of each event. A failure is logged, and the next snapshot includes what it missed."""
        async for snapshot in snapshots:
            if (content := snapshot.content) is None:
                continue
            try:
                if self._state is _UNREAD:
                    await self._load(snapshot.store_slots)
                found = Comparison([], self._state or {})
                if snapshot.version is not self._compared:
                    found = await self.compare(content, snapshot.reader, self._state)
            except Exception as error:
                self.log_failure(error, "the next poll tries again")
                continue
            for payload in found.payloads:
                yield event_payload(payload)
            # Only now: a watcher that is cancelled between two events must not store that all of them were fired.
            self._state, self._compared = found.state, None if found.is_waiting else snapshot.version
            if found.state is not self._stored and found.state != self._stored:
                self._stored = found.state
                snapshot.states.append((self, found.state))

    async def _load(self, slots: asyncio.Semaphore) -> None:
        """Read the state. Each asset of the trigger has its own; what all of them have seen lacks no event."""
        found = [await self._read_state(store, slots) for store in self._stores()]
        states = [seen for _, seen in found if seen is not None]
        self._sequence = max((sequence for sequence, _ in found), default=0)
        self._state = await compute(partial(seen_in_all, states)) if states else None
        if all(seen == self._state for _, seen in found):
            self._stored = self._state

    async def _read_state(self, store: Any, slots: asyncio.Semaphore) -> tuple[int, Seen | None]:
        """Return the newest readable state of an asset, with its sequence number; None before the first one."""
        states: list[tuple[int, Seen]] = []
        failures = []
        for key in self._store_keys():
            try:
                if (stored := await _in_thread(slots, store.get, key)) is not None:
                    states.append((int(stored["sequence"]), await compute(partial(decode_seen, stored["state"]))))
            except Exception as error:
                failures.append(MictlanXError(f"reading state {key} failed: {type(error).__name__}: {error}"))
        for failure in failures:
            if not states:
                raise failure
            self.log_failure(failure, "another state is used, and events may be repeated")
        return max(states, key=itemgetter(0), default=(0, None))

    def store_later(self) -> None:
        """Store the state with the next snapshot."""
        self._stored = _UNREAD

    async def store(self, state: Seen, slots: asyncio.Semaphore) -> None:
        """Store a state for every asset; a failure is logged, and made up for by a later snapshot."""
        if self.trigger.ended:
            return
        try:
            encoded = await compute(lambda: self.encode(state))
            sequence = self._sequence + 1
            key = self._store_keys()[sequence % 2]
            for store in self._stores():
                await _in_thread(slots, store.set, key, {"sequence": sequence, "state": encoded})
            self._sequence = sequence  # not after a failure: the same key is written again, and the other stays
        except Exception as error:
            self.store_later()
            self.log_failure(error, "a restart may repeat events")

    def encode(self, state: Seen) -> str:
        """Return a state as str; raise ``ValidationError`` if it is longer than Airflow stores."""
        encoded = encode_seen(state)
        limit = conf.getint("state_store", "max_value_storage_bytes", fallback=DEFAULT_MAX_STATE)
        elsewhere = not self._stores() or conf.get("workers", "state_store_backend", fallback="")
        if not elsewhere and 0 < limit < len(encoded) + 100:  # 100 for the rest of the JSON
            raise ValidationError(
                f"storing the state of {len(state):,} objects failed: {len(encoded):,} bytes are more than "
                f"[state_store] max_value_storage_bytes = {limit:,}; watch fewer objects with prefix or glob, or set "
                "[workers] state_store_backend"
            )
        return encoded

    def _store_keys(self) -> tuple[str, str]:
        """Return the keys that are written in turn: a write that is interrupted may lose the earlier value."""
        name = _digest(type(self.trigger).__name__, self.trigger.mictlanx_conn_id, *self.state_name()).hex()[:32]
        return f"mictlanx-{name}-0", f"mictlanx-{name}-1"

    def _stores(self) -> list[Any]:
        """Return the state store of each asset; none before Airflow 3.3."""
        stores: Any = getattr(self.trigger, "asset_state_store", None)
        if stores is None:
            return []
        if hasattr(type(stores), "__iter__"):
            return [entry if hasattr(entry, "set") else stores[entry] for entry in stores]
        # Airflow 3.3.2 offers the stores of several assets only by these private members.
        found = [*getattr(stores, "_by_name", {}).values(), *getattr(stores, "_by_uri", {}).values()]
        return found or [stores]

    def pause_after(self, failures: int) -> float:
        """Return the seconds until the next poll, after a number of failed ones."""
        poke_interval = self.trigger.poke_interval
        return min(poke_interval * 2.0 ** min(failures, 30), max(poke_interval, MAX_PAUSE))

    def log_failure(self, error: Exception, consequence: str) -> None:
        """Log an error, with a traceback unless it is a MictlanXError."""
        message = "Watching %s failed: %s: %s; %s"
        details = (self.watched(), type(error).__name__, error, consequence)
        self.log.error(message, *details, exc_info=not isinstance(error, MictlanXError))


async def _in_thread(slots: asyncio.Semaphore, call: Callable[..., T], *args: Any) -> T:
    """
    Call Airflow's state store in a thread.

    Its coroutines (``aget``, ``aset``) block the event loop with a state store backend. A call that hangs keeps its
    slot, so that the number of threads is limited.
    """
    await slots.acquire()
    work = asyncio.ensure_future(run_in_thread(partial(call, *args)))

    def finish(done: asyncio.Future[T]) -> None:
        slots.release()
        if not done.cancelled():
            done.exception()  # retrieved, so that asyncio does not log it as never retrieved

    work.add_done_callback(finish)
    try:
        async with asyncio.timeout(STORE_SECONDS):  # wait_for of Python 3.11 may swallow a cancellation
            return await asyncio.shield(work)
    except TimeoutError as error:
        raise MictlanXError(f"Airflow's state store did not answer within {STORE_SECONDS:g} s") from error


Objects = dict[ListedObject, None]
"""The objects of a listing, in its order, for quick look-ups."""

_AGE = attrgetter("ball.updated_at", "ball.key")


class ObjectWatcher(Watcher):
    """Find the new and changed objects of a bucket."""

    trigger: MictlanXObjectEventTrigger

    def __init__(self, trigger: MictlanXObjectEventTrigger) -> None:
        super().__init__(trigger)
        self._failed_reads: dict[bytes, int] = {}
        self._rows: int | None = None
        self._listed: Objects = {}

    def check_arguments(self) -> None:
        """Raise ``ValidationError`` for invalid arguments."""
        super().check_arguments()
        check_bucket_id(self.trigger.bucket_id)
        if check_str("prefix", self.trigger.prefix) and check_str("glob", self.trigger.glob):
            raise ValidationError("prefix and glob must not both be set")
        check_int("max_events_per_poll", self.trigger.max_events_per_poll)

    def state_name(self) -> list[str]:
        """Return bucket and selection."""
        return [self.trigger.bucket_id, self.trigger.prefix, self.trigger.glob]

    def watched(self) -> str:
        """Return the bucket, for the log."""
        return f"bucket {self.trigger.bucket_id}"

    async def apoll(self, client: AsyncClient, reader: StorageReader) -> Objects:
        """List the bucket; raise ``UnavailableError`` if a peer does not answer."""
        listing = unwrap(await client.get_chunks_by_bucket_id(self.trigger.bucket_id))
        rows = await compute(lambda: _digest_rows(listing.balls))
        if rows != self._rows:
            balls = unwrap(await client.list_balls(self.trigger.bucket_id, listing=listing))
            self._listed = await compute(lambda: self._describe(balls))
            self._rows = rows if await compute(lambda: _hides_nothing(listing.balls, balls)) else None
        await reader.forget_all_but(self._listed)
        return self._listed

    def _describe(self, balls: Sequence[Ball]) -> Objects:
        """Return the objects; those of the last listing if they are the same."""
        objects = dict.fromkeys(map(describe, balls))
        return self._listed if objects == self._listed else objects

    async def compare(self, content: Objects, reader: StorageReader, state: Seen | None) -> Comparison:
        """Return the events for the new and changed objects; the state is the objects that were seen."""
        pending, seen = await compute(lambda: self._find_changes(content, state))
        if state is None and not self.trigger.existing:
            await compute(lambda: self.encode(seen))  # a first state that is too large must not get lost
        fired = await self._readable(reader, pending) if self.trigger.check_storage else pending
        fired = fired[: self.trigger.max_events_per_poll]
        payloads = [self._payload(found, seen) for found in fired]
        seen |= {found.id: found.content for found in fired}
        return Comparison(payloads, seen, is_waiting=len(fired) < len(pending))

    def _find_changes(self, objects: Objects, state: Seen | None) -> tuple[list[ListedObject], Seen]:
        """Return the objects that are not seen yet, oldest first, and the seen objects that are still listed."""
        selected = [
            found
            for found in objects
            if found.ball.key.startswith(self.trigger.prefix)
            and (not self.trigger.glob or fnmatch.fnmatchcase(found.ball.key, self.trigger.glob))
        ]
        if state is None:
            state = {} if self.trigger.existing else {found.id: found.content for found in selected}
        # A deleted object is forgotten, so that it is new if it is stored again.
        seen = {found.id: state[found.id] for found in selected if found.id in state}
        pending = [found for found in selected if seen.get(found.id) != found.content]
        return sorted(pending, key=_AGE), seen

    async def _readable(self, reader: StorageReader, pending: Sequence[ListedObject]) -> list[ListedObject]:
        """Read pending objects until there are enough for one poll; unreadable ones come last at the next poll."""
        readable: list[ListedObject] = []
        failed = {found.id: self._failed_reads.get(found.id, 0) for found in pending}

        async def read(found: ListedObject) -> None:
            failed[found.id] += 1  # also if reading takes too long
            if (error := await reader.read(found)) is None:
                failed[found.id] = 0
                readable.append(found)
            elif failed[found.id].bit_count() == 1:  # the first time, the second, the fourth …
                self.log.info("%s/%s is not readable yet: %s", self.trigger.bucket_id, found.ball.key, error)

        to_read = takewhile(
            lambda _: not reader.closed and len(readable) < self.trigger.max_events_per_poll,
            sorted(pending, key=lambda found: failed[found.id]),
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_SECONDS):
                await for_each(to_read, read, READ_AT_ONCE)
        self._failed_reads = failed
        return sorted(readable, key=_AGE)

    def _payload(self, found: ListedObject, seen: Seen) -> dict[str, Any]:
        return {
            "event_id": found.event_id,
            "bucket_id": self.trigger.bucket_id,
            "key": found.ball.key,
            "checksum": found.ball.checksum,
            "size": found.ball.size,
            "change": "changed" if found.id in seen else "new",
        }


class BulkWatcher(Watcher):
    """Find out when a bulk is complete."""

    trigger: MictlanXBulkCompleteEventTrigger

    def __init__(self, trigger: MictlanXBulkCompleteEventTrigger) -> None:
        super().__init__(trigger)
        self._state_in_log: State | None = None

    def check_arguments(self) -> None:
        """Raise ``ValidationError`` for invalid arguments."""
        super().check_arguments()
        if not check_str("bulk_id", self.trigger.bulk_id):
            raise ValidationError("bulk_id must not be empty")

    def state_name(self) -> list[str]:
        """Return the bulk."""
        return [self.trigger.bulk_id]

    def watched(self) -> str:
        """Return the bulk, for the log."""
        return f"bulk {self.trigger.bulk_id!r}"

    async def apoll(self, client: AsyncClient, reader: StorageReader) -> Records:
        """List the records; raise ``UnavailableError`` if a peer does not answer."""
        return await RecordStore(client, self.trigger.bulk_id).read_completely()

    async def compare(self, content: Records, reader: StorageReader, state: Seen | None) -> Comparison:
        """Return the event of a complete bulk unless it was fired; the state is the attempts of that upload."""
        status = await compute(lambda: compute_status(content))
        if status.state is not self._state_in_log:
            self._state_in_log = status.state
            self.log.info("%s", status_line(status))
        summary = summarize(status)
        if summary.get("state") != State.COMPLETE.value:
            return Comparison([], state or {})
        # All attempts: those of a retry are left when a delete of the bulk has removed the first one.
        first = status.closed.upload if status.closed else first_attempt(content.starts)
        attempts = {first, *(start.attempt for start in content.starts)}
        seen = {_digest(attempt)[:KEY_BYTES]: OTHER for attempt in attempts}
        event = {"event_id": _digest(self.trigger.bulk_id, first).hex(), **summary}
        return Comparison([event] if seen.keys().isdisjoint(state or {}) else [], seen)
