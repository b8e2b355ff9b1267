"""Scenarios: each moves the same bytes with every contender in turn, for a number of repetitions."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders import Client, Contender, Floor, PerRequest, cut_of, official
from benchmarks.servers import Server, server

MiB = 1024 * 1024
BLOCK = 64_000_000
"""Block size that larger files repeat. Every chunk size divides it, so the router in memory stores it once."""


@dataclass
class Cell:
    """The seconds of one contender in one scenario, for every repetition."""

    scenario: str
    direction: str
    contender: str
    amount: float
    unit: str
    seconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Return the median rate."""
        return self.amount / statistics.median(self.seconds)


@dataclass(frozen=True)
class Files:
    """Write and read one file; chunk size and concurrency None are chosen like in the hook."""

    title: str
    server: str
    size: int
    chunk_size: int | None
    at_once: int | None
    contenders: tuple[str, ...]
    defaults: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The cut of contenders that have another one here: chunk size, in flight."""
    repetitions: int = 5


@dataclass(frozen=True)
class Balls:
    """Write and read many small balls."""

    title: str
    server: str
    number: int
    contenders: tuple[str, ...]
    size: int = 10_000
    at_once: int = 10
    repetitions: int = 5


ALL = ("client", "official", "client per request", "floor")
OURS = ("client", "floor")


def scenarios(quick: bool) -> list[Files | Balls]:
    """Return the scenarios."""
    small, large = (4 * MiB, 16 * MiB) if quick else (64 * MiB, 1024 * MiB)
    few, many = (50, 200) if quick else (1_000, 10_000)
    official_default = {"official": (256_000, 2), "client per request": (256_000, 2)}
    found: list[Files | Balls] = [
        Files(f"{told(small)}, 256 kB × 10", "memory", small, 256_000, 10, ALL),
        Files(f"{told(small)}, 1 MB × 10", "memory", small, 1_000_000, 10, ALL),
        Files(f"{told(small)}, 8 MB × 10", "memory", small, 8_000_000, 10, ALL),
        Files(f"{told(small)}, automatic", "memory", small, None, None, OURS),
        Files(f"{told(large)}, 256 kB × 10", "memory", large, 256_000, 10, OURS, repetitions=3),
        Files(f"{told(large)}, 1 MB × 10", "memory", large, 1_000_000, 10, OURS, repetitions=3),
        Files(f"{told(large)}, 8 MB × 10", "memory", large, 8_000_000, 10, OURS, repetitions=3),
        Files(f"{told(large)}, automatic", "memory", large, None, None, OURS, repetitions=3),
        Balls(f"{few:,} × 10 kB", "memory", few, ALL),
        Balls(f"{many:,} × 10 kB", "memory", many, OURS, repetitions=3),
        Files(f"{told(small)}, 1 MB × 10, +20 ms per request", "slow", small, 1_000_000, 10, OURS, repetitions=3),
        Files(f"{told(small)}, automatic, +20 ms per request", "slow", small, None, None, OURS, repetitions=3),
        Balls(f"{few:,} × 10 kB, +20 ms per request", "slow", few, OURS, repetitions=1),
        Files(f"{told(small)}, 1 MB × 10, router 50 ms away", "far", small, 1_000_000, 10, OURS, repetitions=3),
        Files(f"{told(small)}, automatic, router 50 ms away", "far", small, None, None, OURS, repetitions=3),
        Files(
            f"{told(small)}, defaults, router as slow as the real one",
            *("like the router", small, None, None, ("client", "official", "client per request")),
            defaults=official_default,
            repetitions=1,  # nearly all of it is the router's own time, which does not vary
        ),
        Files(f"{told(small)}, automatic, local VSS", "local VSS", small, None, None, OURS, repetitions=3),
        Balls(f"{few:,} × 10 kB, local VSS", "local VSS", few, OURS, repetitions=3),
    ]
    return found


def told(size: int) -> str:
    """Format a number of bytes."""
    return f"{size // (1024 * MiB)} GiB" if size >= 1024 * MiB else f"{size // MiB} MiB"


class Measuring:
    """
    Measure scenarios.

    :param say: called with each line of progress
    """

    def __init__(self, quick: bool, say: Callable[[str], None]) -> None:
        self._quick = quick
        self._say = say
        self.cells: list[Cell] = []
        known: dict[str, Contender | None] = {
            "client": Client(),
            "official": official(),
            "client per request": PerRequest(),
            "floor": Floor(),
        }
        self._contenders = {name: contender for name, contender in known.items() if contender is not None}

    def run(self) -> list[Cell]:
        """Measure all scenarios, starting and stopping their servers."""
        with tempfile.TemporaryDirectory() as folder:
            files = Sources(Path(folder))
            for scenario in scenarios(self._quick):
                with server(scenario.server) as running:
                    if isinstance(scenario, Files):
                        self._files(scenario, running, files)
                    else:
                        self._balls(scenario, running)
        return self.cells

    def _among(self, names: tuple[str, ...]) -> list[tuple[str, Contender]]:
        return [(name, self._contenders[name]) for name in names if name in self._contenders]

    def _repeated(self, scenario: Files | Balls) -> Iterator[tuple[int, str, Contender]]:
        """Yield the contenders in turn; each repetition starts with another one."""
        among = self._among(scenario.contenders)
        for number in range(1 if self._quick else scenario.repetitions):
            turn = number % len(among)
            for name, contender in among[turn:] + among[:turn]:
                yield number, name, contender

    def _files(self, scenario: Files, running: Server, files: Sources) -> None:
        up, down = self._begun(scenario, scenario.size / 1e6, "MB/s")
        path = files.of(scenario.size)
        for number, name, contender in self._repeated(scenario):
            chunk_size, at_once = scenario.defaults.get(name) or cut_of(
                scenario.size, scenario.chunk_size, scenario.at_once
            )
            ball_id = f"ball-{number}-{name.replace(' ', '-')}"
            up[name].seconds.append(timed(contender.put_file(running, ball_id, path, chunk_size, at_once)))
            with files.landing() as folder:
                down[name].seconds.append(timed(contender.get_file(running, ball_id, folder, at_once)))
        self._ended(up, down)

    def _balls(self, scenario: Balls, running: Server) -> None:
        put, get = self._begun(scenario, scenario.number, "/s")
        drawn = random.Random(1)
        balls = {f"ball-{number}": drawn.randbytes(scenario.size) for number in range(scenario.number)}
        for number, name, contender in self._repeated(scenario):
            bucket_id = f"bucket-{number}-{name.replace(' ', '-')}"
            put[name].seconds.append(timed(contender.put_balls(running, bucket_id, balls, scenario.at_once)))
            get[name].seconds.append(timed(contender.get_balls(running, bucket_id, balls, scenario.at_once)))
        self._ended(put, get)

    def _begun(self, scenario: Files | Balls, amount: float, unit: str) -> list[dict[str, Cell]]:
        among = self._among(scenario.contenders)
        return [
            {name: Cell(scenario.title, direction, name, amount, unit) for name, _ in among}
            for direction in (("up", "down") if isinstance(scenario, Files) else ("put", "get"))
        ]

    def _ended(self, *directions: dict[str, Cell]) -> None:
        for cells in directions:
            self.cells += cells.values()
            rates = ", ".join(f"{name} {cell.rate:,.0f}" for name, cell in cells.items())
            cell = next(iter(cells.values()))
            self._say(f"{cell.scenario}, {cell.direction} ({cell.unit}): {rates}")


def timed(work: Any) -> float:
    """Run a coroutine in a new event loop, and return its seconds."""
    began = time.perf_counter()
    asyncio.run(work)
    return time.perf_counter() - began


class Sources:
    """Files of random bytes, created at their first use, and folders for reading."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, size: int) -> Path:
        """Return a file of the given size."""
        path = self._folder / f"source-{size}"
        if not path.exists():
            write_blocks(path, size)
        return path

    @contextmanager
    def landing(self) -> Iterator[Path]:
        """Yield an empty folder, and remove it afterwards."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def write_blocks(path: Path, size: int) -> None:
    """Write a file that repeats a block of random bytes."""
    block = os.urandom(min(size, BLOCK))
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(block[:size])
