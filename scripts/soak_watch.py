"""
Sample this process while it works: memory, file descriptors, threads, tasks, connections. Needs psutil.

A stable measure varies and returns; a leak does not. Therefore the median of the first part of the samples after the
warm-up is compared with the median of the last part, and the open resources before the work with those after it.
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
"""Number of parts of the samples; the first and the last are compared."""


@dataclass(frozen=True)
class Sample:
    """
    One sample of this process.

    :ivar at: seconds since the start
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
    """Result for one measure; ``limit`` is the maximum for the last part."""

    name: str
    before: float
    first: float
    last: float
    most: float
    after: float
    limit: float

    @property
    def flat(self) -> bool:
        """Return whether the measure does not grow."""
        return self.last <= self.limit


MEASURES = {
    # Allowed growth of the last part over the first, for normal variation: a factor and a constant.
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
        """Take and return a sample without recording it."""
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
        """Record samples until cancelled."""
        while True:
            self.samples.append(self.look())
            await asyncio.sleep(interval)

    def verdict(self, before: Sample, after: Sample, warm_up: float) -> list[Line]:
        """
        Return a line for every measure.

        :param before: the sample before the work
        :param after: the sample after everything was closed
        :param warm_up: seconds whose samples are ignored
        """
        warm = [sample for sample in self.samples if sample.at >= warm_up]
        if len(warm) < 2 * PARTS:
            raise ValueError(f"{len(warm)} samples after the warm-up are too few; run the soak longer")
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
    """Return the descriptors, threads, tasks and connections that were not open before."""
    return [
        f"{name}: {getattr(before, name)} before, {getattr(after, name)} after"
        for name in ("descriptors", "threads", "tasks", "connections")
        if getattr(after, name) > getattr(before, name)
    ]
