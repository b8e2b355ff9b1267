"""
Bulks of one process: ``put_bulk`` starts uploads, ``await_bulk`` waits for them. They end with their client.

The package ``bulks`` contains bulks that outlive their process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import stat
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Required, TypedDict, cast

from airflow_provider_mictlanx.client.concurrency import ByteBudget
from airflow_provider_mictlanx.client.errors import MictlanXError, NotFoundError, UnknownError, ValidationError
from airflow_provider_mictlanx.client.local_io.chunk_sizes import (
    BATCH_BUDGET,
    MAX_IN_FLIGHT,
    STREAMED_CHUNK,
    chunk_size_for,
)
from airflow_provider_mictlanx.client.models import PutReport
from airflow_provider_mictlanx.client.object_ids import check_bucket_may_change, make_ball_id
from airflow_provider_mictlanx.client.retry import RetryConfig
from airflow_provider_mictlanx.client.transfer.chunk_upload import PutOptions, Seen
from airflow_provider_mictlanx.client.transfer.upload import Announced
from airflow_provider_mictlanx.client.transfer.upload_window import UploadWindows
from airflow_provider_mictlanx.client.validation import check_int, check_str, check_timeout, parse_size


class _BallOptions(TypedDict, total=False):
    ball_id: str
    key: str
    tags: Mapping[str, str]
    rf: int
    chunk_size: str | int
    timeout: float
    max_tries: int
    max_concurrency: int
    max_backoff: float


class BallK(_BallOptions):
    """
    A ball of a bulk: ``bucket_id``, ``ball_id`` or ``key`` (one is enough), ``source`` (bytes, or a path).

    With both, the ball is stored under ``ball_id``. The other fields are parameters of ``put`` (for bytes) and
    ``put_file`` (for a path), with the same defaults.
    """

    bucket_id: Required[str]
    source: Required[bytes | str | os.PathLike[str]]


class BallKDTO(_BallOptions, total=False):
    """A ball of a bulk without its bytes; ``in_memory`` is False if ``source`` is a path."""

    bucket_id: str
    source: str
    in_memory: bool


class BulkSuccess(TypedDict):
    """A stored ball."""

    item: BallKDTO


class BulkFailure(TypedDict):
    """A ball that was not stored, and its error."""

    item: BallKDTO
    error: MictlanXError


class BulkPutResponse(TypedDict):
    """
    The result of a bulk.

    ``uploaded_size`` is the total size of ``successes`` (bytes), whether sent now or already stored.
    ``response_time`` is the time from the first ``put_bulk`` to the last ball (seconds).
    """

    successes: list[BulkSuccess]
    failures: list[BulkFailure]
    uploaded_size: int
    total_balls: int
    successed: int
    failed: int
    response_time: float


Put = Callable[[BallK, Announced | Seen | None], Awaitable[PutReport]]
"""Puts a ball, with what is known from its window."""

OpenWindows = Callable[[Callable[[int], Mapping[str, Any]], int], UploadWindows]
"""Returns the windows of a bulk, for the arguments of a ball by its number, and ``max_concurrency``."""

BALL_OPTIONS = ("tags", "rf", "chunk_size", "timeout", "max_tries", "max_concurrency", "max_backoff")


@dataclass
class _Job:
    """The pending balls, workers and results of one bulk."""

    put: Put
    open_windows: OpenWindows
    stop_on_failure: bool = False
    items: dict[int, BallK] = field(default_factory=dict)
    """The balls that are not finished, by their number."""
    pending: deque[int] = field(default_factory=deque)
    workers: set[asyncio.Task[None]] = field(default_factory=set)
    successes: list[BulkSuccess] = field(default_factory=list)
    failures: list[BulkFailure] = field(default_factory=list)
    size: int = 0
    waiting: int = 0
    """Number of calls that await the bulk now."""
    was_awaited: bool = False
    """True after a call has awaited the bulk to its end."""
    started: float = field(default_factory=time.monotonic)
    ended: float = 0.0

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self._windows = self.open_windows(lambda number: upload_arguments(self.items[number]), 1)
        self._budget = ByteBudget(BATCH_BUDGET)
        self._memory: dict[int, int] = {}
        """Bytes that the put of a ball may hold, if the number of balls at once is chosen automatically."""

    def add(self, items: Iterable[tuple[BallK, int]], max_concurrency: int | None) -> None:
        sizes = {}
        for number, (item, size) in zip(self._numbers, items, strict=False):
            self.items[number], sizes[number] = item, size
            if max_concurrency is None:
                self._memory[number] = _memory_for(item, size)
        self.pending.extend(sizes)
        at_once = self._windows.max_concurrency = max_concurrency or MAX_IN_FLIGHT
        self._windows.add(sizes)
        running = sum(not worker.done() for worker in self.workers)
        for _ in range(min(at_once - running, len(self.pending))):
            worker = asyncio.get_running_loop().create_task(self._work())
            self.workers.add(worker)
            worker.add_done_callback(self.workers.discard)

    async def _work(self) -> None:
        while True:
            while self.pending:
                await self._put(self.pending.popleft())
            if any(not worker.done() for worker in self.workers - {asyncio.current_task()}):
                return
            self.items.clear()  # of the balls that were given up
            await self._windows.withdraw()
            if not self.pending:  # balls may have been added meanwhile
                return

    async def _put(self, number: int) -> None:
        item = self.items[number]
        try:
            async with self._budget.reserve(self._memory.pop(number, 0)):
                known = await self._windows.pop(number)
                report = await self.put(item, known)
        except asyncio.CancelledError:
            self._fail(item, UnknownError("cancelled: the client was closed", transient=False))
            raise
        except Exception as error:  # the other balls continue; await_bulk returns the error
            self._fail(item, _as_mictlanx_error(error))
            if self.stop_on_failure:
                self._give_up(f"not started, because another object of the bulk failed: {error}")
        else:
            self.successes.append({"item": _without_bytes(item)})
            self.size += report.size
        del self.items[number]
        self.ended = time.monotonic()

    def _fail(self, item: BallK, error: MictlanXError) -> None:
        name = f"{item['bucket_id']}/{item.get('ball_id') or item.get('key')}"
        if name not in str(error):
            error.amend(f"{name}: {error}")
        self.failures.append({"item": _without_bytes(item), "error": error})

    def _give_up(self, reason: str) -> None:
        """Record the balls that have not started as failed."""
        while self.pending:
            self._fail(self.items[self.pending.popleft()], UnknownError(reason, transient=False))

    async def finished(self) -> None:
        while self.workers:
            await asyncio.wait(set(self.workers))  # unlike gather, it does not cancel the workers with the caller

    def cancel(self) -> None:
        self._give_up("not started: the client was closed")
        for worker in self.workers:
            worker.cancel()

    def response(self) -> BulkPutResponse:
        return {
            "successes": list(self.successes),
            "failures": list(self.failures),
            "uploaded_size": self.size,
            "total_balls": len(self.successes) + len(self.failures),
            "successed": len(self.successes),
            "failed": len(self.failures),
            "response_time": round((self.ended or time.monotonic()) - self.started, 6),
        }


class BulkJobs:
    """
    The bulks of one client.

    :param put: coroutine function that puts one ball, or raises ``MictlanXError``
    :param open_windows: returns the windows in which a bulk's balls are announced
    """

    def __init__(self, put: Put, open_windows: OpenWindows) -> None:
        self._put = put
        self._open_windows = open_windows
        self._jobs: dict[str, _Job] = {}

    def start(
        self, bulk_id: str, items: Iterable[tuple[BallK, int]], max_concurrency: int | None, stop_on_failure: bool
    ) -> None:
        """
        Start to put balls in the background; add them to a bulk of this id that has not been awaited.

        :param items: the result of ``check_items``
        """
        if not check_str("bulk_id", bulk_id):
            raise ValidationError("bulk_id must not be empty")
        if max_concurrency is not None:
            check_int("max_concurrency", max_concurrency)
        job = self._jobs.get(bulk_id)
        if job and job.waiting:
            raise ValidationError(
                f"adding to bulk {bulk_id!r} failed: await_bulk is waiting for it; use another bulk_id"
            )
        if job is None or job.was_awaited:
            job = self._jobs[bulk_id] = _Job(self._put, self._open_windows)
        job.stop_on_failure = stop_on_failure
        job.add(items, max_concurrency)

    async def wait(self, bulk_id: str, remove_on_completion: bool) -> BulkPutResponse:
        """Wait for a bulk; raise ``NotFoundError`` if this client has no bulk with this id."""
        job = self._jobs.get(bulk_id)
        if job is None:
            raise NotFoundError(
                f"bulk {bulk_id!r} was not found in this client; start it with put_bulk of the same client"
            )
        job.waiting += 1
        try:
            await job.finished()
        finally:
            job.waiting -= 1
        job.was_awaited = True
        if remove_on_completion and self._jobs.get(bulk_id) is job:
            del self._jobs[bulk_id]
        return job.response()

    async def end(self, cancel: bool) -> None:
        """Wait for all bulks, or cancel and withdraw them; no task remains, even if this call is cancelled."""
        try:
            while not cancel and (running := [job for job in self._jobs.values() if job.workers]):
                for job in running:
                    await job.finished()
        finally:
            jobs, self._jobs = self._jobs, {}
            for job in jobs.values():
                job.cancel()
            for job in jobs.values():
                await job.finished()
            await asyncio.gather(*(job._windows.withdraw() for job in jobs.values()))


def check_items(balls: Iterable[Mapping[str, Any]], allow_reserved_bucket: bool = False) -> list[tuple[BallK, int]]:
    """
    Return the checked items of a bulk with the sizes of their sources (bytes).

    ``ValidationError``: names the invalid item.
    """
    if isinstance(balls, Mapping | str | bytes) or not isinstance(balls, Iterable):
        raise ValidationError(f"balls must be a list of dicts, got {type(balls).__name__}")
    return [_check_item(ball, place, allow_reserved_bucket) for place, ball in enumerate(balls)]


def _check_item(ball: Mapping[str, Any], place: int, allow_reserved_bucket: bool) -> tuple[BallK, int]:
    where = f"item {place} of the bulk"
    if not isinstance(ball, Mapping):
        raise ValidationError(f"{where}: it must be a dict, got {type(ball).__name__}")
    known = {"bucket_id", "ball_id", "key", "source", *BALL_OPTIONS}
    if unknown := sorted(str(name) for name in ball.keys() - known):
        raise ValidationError(f"{where}: options must be among {', '.join(sorted(known))}, got {', '.join(unknown)}")
    try:
        check_bucket_may_change(ball.get("bucket_id", ""), allow_reserved_bucket)
        make_ball_id(ball.get("ball_id") or ball.get("key") or "")
        source, size = _check_source(ball.get("source"))
        parse_size(ball.get("chunk_size", "256kb"))
        check_timeout(ball.get("timeout", 120))
        RetryConfig(ball.get("max_tries", 5), ball.get("max_backoff", 5))
        PutOptions(rf=ball.get("rf", 1), max_concurrency=ball.get("max_concurrency", 1), tags=ball.get("tags", {}))
    except ValidationError as error:
        raise ValidationError(f"{where}: {error}") from error
    return cast(BallK, {**ball, "source": source}), size


def _check_source(source: object) -> tuple[bytes | str | os.PathLike[str], int]:
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)  # a copy, because the caller may change a bytearray
        return data, len(data)
    if isinstance(source, str | os.PathLike):
        with contextlib.suppress(OSError, ValueError):  # ValueError: a null byte
            found = os.stat(source)
            if stat.S_ISREG(found.st_mode):
                return source, found.st_size
    raise ValidationError(f"source must be bytes or the path of a file, got {source!r}")


def upload_arguments(item: BallK) -> dict[str, Any]:
    """Return the arguments of ``AsyncClient.upload`` for an item."""
    source = item["source"]
    options: dict[str, Any] = {name: value for name, value in item.items() if name in BALL_OPTIONS}
    if isinstance(source, str | os.PathLike):
        options = {"max_concurrency": 2, **options, "path": source}  # the default of put_file
    else:
        options["data"] = source
    return {
        "bucket_id": item["bucket_id"],
        "key": item.get("ball_id") or item.get("key") or "",
        "allow_reserved_bucket": True,  # put_bulk has checked every bucket
        **options,
    }


def _memory_for(item: BallK, size: int) -> int:
    """Return the bytes that the put of an item of this size may hold; the caller's bytes are in memory anyway."""
    if isinstance(item["source"], bytes):
        return 0
    options = upload_arguments(item)
    chunk = min(chunk_size_for(size, options.get("chunk_size", "256kb")), STREAMED_CHUNK)
    in_flight: int = options["max_concurrency"]
    return min(size, in_flight * chunk)


def _as_mictlanx_error(error: Exception) -> MictlanXError:
    if isinstance(error, MictlanXError):
        return error
    unexpected = UnknownError(f"{type(error).__name__}: {error}", transient=False)
    unexpected.__cause__ = error
    return unexpected


def _without_bytes(item: BallK) -> BallKDTO:
    """Return an item without its bytes."""
    source = item["source"]
    in_memory = not isinstance(source, str | os.PathLike)
    name = item.get("ball_id") or item.get("key") or ""
    described = {
        **item,
        "ball_id": make_ball_id(name),
        "key": item.get("key") or name,
        "source": "" if in_memory else os.fspath(cast(str, source)),
        "in_memory": in_memory,
    }
    return cast(BallKDTO, described)
