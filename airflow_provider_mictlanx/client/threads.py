"""
The client's threads: where files are read and written, and long hashing is done, so that the event loop goes on.

A cancelled task waits for the piece of work that its thread is in the middle of: nothing may still be using a file when
its owner closes it. Pieces are therefore kept short (``PIECE``).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
