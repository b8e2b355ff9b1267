"""
Bounded concurrency: a thread pool for files and hashing, and workers that share an iterator.

A cancelled task waits for its thread to finish, because a file must not be closed while a thread uses it. Work in
threads is therefore kept short (``PIECE``).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import islice
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


PIECE = 4 * 1024 * 1024
"""Maximum bytes that one call in a thread reads, writes or hashes."""

INLINE = 256 * 1024
"""Up to this size (bytes), a thread costs more than it saves, so the work runs in the event loop's thread."""


SORTED_AT_ONCE = 10_000
"""Number of items that one call sorts: no other thread runs meanwhile, nor the event loop."""


class Threads:
    """
    A thread pool that is created at its first use, and again after a fork, which no thread survives.

    :param max_workers: maximum number of threads
    """

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers
        self._executor: ThreadPoolExecutor | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run short work in a thread; a cancelled caller waits until it is finished."""
        future = asyncio.wrap_future(self._pool().submit(work, *args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                try:
                    await asyncio.wait([future])
                except asyncio.CancelledError:
                    continue
            if not future.cancelled():
                future.exception()  # retrieved, so that asyncio does not log it as never retrieved
            raise

    async def run_sized(self, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work on ``size`` bytes: directly if that is cheaper than a thread."""
        if size <= INLINE:
            return work(*args, **kwargs)
        return await self.run(work, *args, **kwargs)

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._executor = ThreadPoolExecutor(self._max_workers, thread_name_prefix="mictlanx")
            return self._executor

    def close(self) -> None:
        """Shut down the pool without waiting; running work is finished."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


class ByteBudget:
    """
    Limits the bytes that concurrent work holds in memory.

    :param size: maximum total size (bytes); work that needs more than half of it counts as half, so that two always run
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._most = size // 2
        self._turn = asyncio.Lock()
        self._released = asyncio.Event()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Wait until this many bytes are free, and hold them; large work is not overtaken by small work."""
        size = min(size, self._most)
        async with self._turn:
            while self._free < size:
                self._released.clear()
                await self._released.wait()
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._released.set()


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[object]], max_concurrency: int) -> None:
    """
    Run work for every item, at most ``max_concurrency`` at once, starting in the items' order.

    The first error cancels the other workers and is raised unwrapped, not as an exception group.

    :param items: taken one by one, so a generator need not fit in memory
    """
    iterator = iter(items)
    start = list(islice(iterator, max_concurrency))
    if len(start) == 1 < max_concurrency:  # a task of its own costs as much as a part of a request
        await work(start[0])
        return

    async def work_through(first: T) -> None:
        await work(first)
        for item in iterator:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for first in start:
                group.create_task(work_through(first))
    except BaseExceptionGroup as errors:
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def run_in_thread(work: Callable[[], T]) -> T:
    """
    Run blocking work in a daemon thread and return its result.

    Neither a cancelled caller nor the exit of the process waits for the thread, as they would for a thread pool:
    listing a large tree may take minutes, and a killed task has seconds.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # from now on, a cancelled caller cannot cancel it

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # raised in the caller
            future.set_exception(error)

    threading.Thread(target=run, name="mictlanx-bulk", daemon=True).start()
    return await asyncio.wrap_future(future)


def sort_in_slices(items: Sequence[T], key: Callable[[T], str]) -> list[T]:
    """Sort many items in a thread without stalling the event loop: sorted slices are quickly merged."""
    slices = (items[start : start + SORTED_AT_ONCE] for start in range(0, len(items), SORTED_AT_ONCE))
    return sorted([item for part in slices for item in sorted(part, key=key)], key=key)
