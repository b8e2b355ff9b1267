"""Log the progress of long work."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import humanfriendly

EVERY = 5.0
"""Seconds between two lines; a line is logged only if something has changed."""

SLOWEST = 3
"""Number of slowest balls to report."""


def format_transfer(size: int, seconds: float) -> str:
    """Return ``1.2 GB in 12.3 s, 97 MB/s``."""
    format_size = humanfriendly.format_size
    return f"{format_size(size)} in {seconds:.1f} s, {format_size(round(size / max(seconds, 1e-3)))}/s"


class Count(NamedTuple):
    """
    How far work on many balls is.

    :ivar doing: verb, such as ``copying``; may be empty
    :ivar counted: balls that are stored or failed
    :ivar done_size: bytes of the stored ones
    """

    doing: str
    counted: int
    balls: int
    done_size: int
    size: int


_OBSERVER: ContextVar[Callable[[Count], None]] = ContextVar("observer", default=lambda count: None)


@contextmanager
def observing(observer: Callable[[Count], None]) -> Iterator[None]:
    """Call an observer for every ball that the work of a block stores, deletes or fails at."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


class Progress:
    """
    Count balls and bytes, and format them as log lines.

    :param balls: total number of balls
    :param size: their total size in bytes
    :param log_progress: logs a line
    :param doing: start of every line
    """

    def __init__(self, balls: int, size: int, log_progress: Callable[[str], None], doing: str = "") -> None:
        self._doing = doing
        self._balls = balls
        self._size = size
        self._log_progress = log_progress
        self._done_balls = 0
        self._done_size = 0
        self._failed = 0
        self._slowest: list[tuple[float, str]] = []
        self._last = (time.monotonic(), 0)
        self._observer = _OBSERVER.get()

    def add(self, balls: int, size: int) -> None:
        """Count balls that are stored, and their bytes."""
        self._done_balls += balls
        self._done_size += size
        self._observe()

    def failed(self) -> None:
        """Count a ball that failed."""
        self._failed += 1
        self._observe()

    def _observe(self) -> None:
        self._observer(Count(self._doing.strip(), self.counted, self._balls, self._done_size, self._size))

    def took(self, key: str, seconds: float) -> None:
        """Remember the duration of a ball if it is among the slowest."""
        heapq.heappush(self._slowest, (seconds, key))
        if len(self._slowest) > SLOWEST:
            heapq.heappop(self._slowest)

    @property
    def slowest(self) -> list[tuple[str, float]]:
        """The slowest balls, by key, with their seconds."""
        return [(key, round(seconds, 3)) for seconds, key in sorted(self._slowest, reverse=True)]

    def line(self) -> str:
        """Return the current line, such as ``37% 1.2 GB of 3.2 GB, 214 MB/s, 410 of 1,000 objects``."""
        then, size_then = self._last
        now = time.monotonic()
        rate = (self._done_size - size_then) / max(now - then, 1e-3)
        self._last = (now, self._done_size)
        share = self._done_size / self._size if self._size else self._done_balls / max(self._balls, 1)
        failed = f", {self._failed:,} failed" if self._failed else ""
        return (
            f"{self._doing}{share:.0%} {humanfriendly.format_size(self._done_size)} of "
            f"{humanfriendly.format_size(self._size)}, {humanfriendly.format_size(int(rate))}/s, {self._done_balls:,} "
            f"of {self._balls:,} objects{failed}"
        )

    @property
    def counted(self) -> int:
        """The number of balls that are stored or failed."""
        return self._done_balls + self._failed

    def log_progress(self) -> None:
        """Log the current line."""
        self._log_progress(self.line())


async def keep_logging(current: Callable[[], Progress]) -> None:
    """Log a line every few seconds if something has changed, until cancelled."""
    logged: tuple[Progress, int] | None = None
    while True:
        await asyncio.sleep(EVERY)
        progress = current()
        if progress.counted and logged != (progress, progress.counted):
            logged = progress, progress.counted
            progress.log_progress()


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine while the block lasts, then cancel it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
