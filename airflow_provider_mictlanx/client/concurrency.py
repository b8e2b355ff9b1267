"""
Bounded concurrency: a pool of threads for files and hashing, and workers that pull from an iterator.

A cancelled task waits until the thread has finished its piece of work: a file must not be closed while a thread uses
it. Pieces are therefore kept short (``PIECE``).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


PIECE = 4 * 1024 * 1024
"""The most that one piece of work reads, writes or hashes (bytes)."""

INLINE = 256 * 1024
"""Up to this many bytes a thread costs more than it saves: such work is done where it is."""


class Threads:
    """
    A bounded pool of threads, made when it is first needed.

    :param max_workers: the most threads at once
    """

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do a short piece of work in a thread; when the caller is cancelled, the piece is finished first."""
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
                future.exception()  # looked at, so that asyncio does not report it as never retrieved
            raise

    async def run_sized(self, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work on ``size`` bytes: at once where that is cheaper than a thread."""
        if size <= INLINE:
            return work(*args, **kwargs)
        return await self.run(work, *args, **kwargs)

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._max_workers, thread_name_prefix="mictlanx")
            return self._executor

    def close(self) -> None:
        """Let the threads end; what is under way is finished."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[object]], max_concurrency: int) -> None:
    """
    Do some work for every item, at most ``max_concurrency`` at once, in the items' order.

    The first error ends it: the other workers are cancelled, and that error is raised as it is.

    :param items: pulled one by one, so that they never all have to exist at once
    """
    iterator = iter(items)

    async def work_through(first: T) -> None:
        await work(first)
        for item in iterator:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for first in islice(iterator, max_concurrency):
                group.create_task(work_through(first))
    except BaseExceptionGroup as errors:
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def run_in_thread(work: Callable[[], T]) -> T:
    """
    Do blocking work in a thread of its own, and return its result.

    A cancelled caller does not wait for it, nor does the end of the loop or of the process, as they would for a thread
    of a pool: listing a large tree may take minutes, and a killed task has seconds.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # a caller that is cancelled leaves it alone

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # raised where it is awaited
            future.set_exception(error)

    threading.Thread(target=run, name="mictlanx-bulk", daemon=True).start()
    return await asyncio.wrap_future(future)
