"""
The chunks that this process has read, by SHA-256.

DuckDB and pyarrow open one file several times, in several threads. With a cache for each open file they would read a
file of 48 MB more than three times over.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

CAPACITY = 64_000_000
"""Maximum total size of the chunks that are kept (bytes)."""


class ChunkCache:
    """
    A bounded cache for all threads and event loops of a process.

    :param capacity: maximum total size of the kept chunks (bytes); the least recently used are dropped first
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.clear()

    def clear(self) -> None:
        """Forget every chunk; also the ones that other threads are reading, which a forked process does not have."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, memoryview] = OrderedDict()
        self._under_way: dict[str, Future[memoryview | None]] = {}
        self._size = 0

    async def get(self, checksum: str, read: Callable[[], Awaitable[memoryview]]) -> memoryview:
        """
        Return a chunk: a kept one, the result of a read that is under way, or the result of a new read.

        :param checksum: SHA-256 of the chunk
        :param read: reads and verifies the chunk
        """
        while True:
            with self._lock:
                if (kept := self._kept.get(checksum)) is not None:
                    self._kept.move_to_end(checksum)
                    return kept
                other = self._under_way.get(checksum)
                if other is None:
                    mine: Future[memoryview | None] = Future()
                    mine.set_running_or_notify_cancel()  # from now on, a cancelled waiter cannot cancel it
                    self._under_way[checksum] = mine
            if other is None:
                return await self._read(checksum, read, mine)
            # None: that reader failed or was cancelled, so this one reads the chunk itself.
            if (data := await asyncio.wrap_future(other)) is not None:
                return data

    async def _read(
        self, checksum: str, read: Callable[[], Awaitable[memoryview]], mine: Future[memoryview | None]
    ) -> memoryview:
        data: memoryview | None = None
        try:
            data = await read()
            return data
        finally:
            with self._lock:
                self._under_way.pop(checksum, None)
                if data is not None:
                    self._keep(checksum, data)
            mine.set_result(data)

    def _keep(self, checksum: str, data: memoryview) -> None:
        if data.nbytes > self.capacity:
            return
        self._kept[checksum] = data
        self._size += data.nbytes
        while self._size > self.capacity:
            _, dropped = self._kept.popitem(last=False)
            self._size -= dropped.nbytes


CHUNKS = ChunkCache()
"""The cache of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=CHUNKS.clear)
