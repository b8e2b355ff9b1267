"""
Looks at a process while it works: memory, file descriptors, threads, tasks, connections. Needs psutil.

What is flat swings, and comes back; what leaks does not. So the middle of the first part of the samples after the warm-up is
compared with the middle of the last part, and what was open before the work began with what is open when it is over.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import psutil

PARTS = 4
"""The first and the last of so many parts of the samples are compared."""


@dataclass(frozen=True)
class Sample:
    """
    One look.

    :ivar at: seconds since the beginning
    :ivar memory: resident (MB)
    :ivar connections: sockets of TCP, in any state
    """

    at: float
    memory: float
    descriptors: int
    threads: int
    tasks: int
    connections: int
    objects: int


@dataclass(frozen=True)
class Line:
    """What became of one measure; ``limit`` is the most that the last part may have."""

    name: str
    before: float
    first: float
    last: float
    most: float
    after: float
    limit: float

    @property
    def flat(self) -> bool:
        """Whether it does not grow."""
        return self.last <= self.limit


MEASURES = {
    # How much more the last part may have than the first: a share of it, and so many on top, as it swings with the work.
    "memory": (0.10, 25.0),
    "descriptors": (0.25, 25),
    "threads": (0.25, 8),
    "tasks": (0.25, 25),
    "connections": (0.25, 25),
    "objects": (0.10, 20_000),
}


class Watch:
    """Samples of this process."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._began = time.monotonic()
        self.samples: list[Sample] = []

    def look(self) -> Sample:
        """Give a sample, and keep it to itself."""
        gc.collect()
        connections = self._process.net_connections("tcp")
        return Sample(
            at=time.monotonic() - self._began,
            memory=self._process.memory_info().rss / 1e6,
            descriptors=self._process.num_fds(),
            threads=self._process.num_threads(),
            tasks=len(asyncio.all_tasks()),
            connections=len(connections),
            objects=len(gc.get_objects()),
        )

    async def go_on(self, interval: float) -> None:
        """Sample until it is cancelled."""
        while True:
            self.samples.append(self.look())
            await asyncio.sleep(interval)

    def verdict(self, before: Sample, after: Sample, warm_up: float) -> list[Line]:
        """
        Give a line for every measure.

        :param before: when nothing had begun
        :param after: when everything was closed
        :param warm_up: samples of these first seconds don't count
        """
        warm = [sample for sample in self.samples if sample.at >= warm_up]
        if len(warm) < 2 * PARTS:
            raise ValueError(f"{len(warm)} samples after the warm-up are too few: let it run longer")
        first, last = warm[: len(warm) // PARTS], warm[-(len(warm) // PARTS) :]
        return [self._line(name, before, first, last, after) for name in MEASURES]

    def _line(self, name: str, before: Sample, first: Sequence[Sample], last: Sequence[Sample], after: Sample) -> Line:
        share, more = MEASURES[name]
        begin = median(getattr(sample, name) for sample in first)
        return Line(
            name,
            before=getattr(before, name),
            first=begin,
            last=median(getattr(sample, name) for sample in last),
            most=max(getattr(sample, name) for sample in self.samples),
            after=getattr(after, name),
            limit=begin * (1 + share) + more,
        )


def left_open(before: Sample, after: Sample) -> list[str]:
    """Tell what was not closed: descriptors, threads, tasks and connections that were not there before."""
    return [
        f"{name}: {getattr(before, name)} before, {getattr(after, name)} after"
        for name in ("descriptors", "threads", "tasks", "connections")
        if getattr(after, name) > getattr(before, name)
    ]
