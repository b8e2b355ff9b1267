"""Scenarios: each moves the same bytes with every contender in turn, for a number of repetitions."""

from __future__ import annotations

import asyncio
import filecmp
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender, Cut, automatic, known_contenders
from benchmarks.servers import Server, server

MiB = 1024 * 1024
BLOCK = 64_000_000
"""Block size that larger files repeat. Every chunk size divides it, so the router in memory stores it once."""


@dataclass
class Cell:
    """The seconds of one contender in one scenario, for every repetition; CPU is that of the client's process."""

    scenario: str
    direction: str
    contender: str
    amount: float
    unit: str
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Return the median rate."""
        return self.amount / statistics.median(self.seconds)


Cells = dict[tuple[str, str], dict[str, Cell]]
"""By scenario and direction, then by contender."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Contenders that write and read with one server."""

    title: str
    server: str = "memory"
    peers: int = 3
    contenders: tuple[str, ...]
    repetitions: int = 5


@dataclass(frozen=True, kw_only=True)
class Files(Scenario):
    """Write and read one file; without a cut, the client chooses it."""

    size: int
    cut: Cut | None = None
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    """The cut of contenders that have another one here."""


@dataclass(frozen=True, kw_only=True)
class Balls(Scenario):
    """Write and read many small balls."""

    number: int
    size: int = 10_000
    at_once: int = 10


ALL = ("client", "official", "reference", "floor")
OURS = ("client", "floor")
SLOW = ("client", "official", "reference")
PEERS = (3, 10, 30)

ROUTER_DEFAULTS = "64 MiB, defaults, slow router"
SMALL_BALLS = "1,000 × 10 kB"
BULK = "200 × 10 kB, slow router"
"""Without the client: it puts a bulk, and reads a prefix."""


def single(peers: int) -> str:
    """Return the title of the scenario of single small balls."""
    return f"10 kB, one at a time, slow router with {peers} peers"


def same_cut(cut: str) -> str:
    """Return the title of a scenario with the same cut for all."""
    return f"64 MiB, {cut}"


def scenarios(quick: bool) -> list[Files | Balls]:
    """Return the scenarios. Quick ones have the same titles and smaller sizes."""
    small, few = (4 * MiB, 50) if quick else (64 * MiB, 1_000)
    slow = "quick router" if quick else "router"
    defaults = {name: Cut(256_000, 2) for name in ("official", "reference")}
    return [
        Files(title=same_cut("256 kB × 10"), size=small, cut=Cut(256_000, 10), contenders=ALL),
        Files(title=same_cut("1 MB × 10"), size=small, cut=Cut(1_000_000, 10), contenders=ALL),
        Files(title=same_cut("8 MB × 10"), size=small, cut=Cut(8_000_000, 10), contenders=ALL),
        Files(title=same_cut("automatic"), size=small, contenders=OURS),
        Files(title="1 GiB, automatic", size=16 * small, contenders=OURS, repetitions=3),
        Balls(title=SMALL_BALLS, number=few, contenders=ALL),
        # Nearly all of the following is the router's own time, which does not vary.
        Files(title=ROUTER_DEFAULTS, server=slow, size=small, cuts=defaults, contenders=SLOW, repetitions=1),
        Balls(title=BULK, server=slow, number=20 if quick else 200, contenders=SLOW[1:], repetitions=1),
        *(
            Balls(
                title=single(peers),
                server=slow,
                peers=peers,
                number=1 if quick else 5,
                at_once=1,
                contenders=SLOW,
                repetitions=1,
            )
            for peers in PEERS
        ),
        Files(title="64 MiB, automatic, local VSS", server="local VSS", size=small, contenders=OURS, repetitions=3),
        Balls(title="1,000 × 10 kB, local VSS", server="local VSS", number=few, contenders=OURS, repetitions=3),
    ]


class Measuring:
    """
    Measure scenarios, and compare every file that was read with the original.

    :param say: called with each line of progress
    """

    def __init__(self, quick: bool, say: Callable[[str], None]) -> None:
        self._quick = quick
        self._say = say
        self.cells: Cells = {}

    def run(
        self,
        chosen: Sequence[Files | Balls],
        contenders: Mapping[str, Contender],
        serve: Callable[[Scenario], Any] = lambda scenario: server(scenario.server, scenario.peers),
    ) -> Cells:
        """Measure scenarios, starting and stopping their servers."""
        with tempfile.TemporaryDirectory() as folder:
            files = Sources(Path(folder))
            for scenario in chosen:
                among = [(name, contenders[name]) for name in scenario.contenders if name in contenders]
                if not among:
                    continue
                with serve(scenario) as running:
                    for number in range(1 if self._quick else scenario.repetitions):
                        turn = number % len(among)  # each repetition starts with another contender
                        for name, contender in among[turn:] + among[:turn]:
                            if isinstance(scenario, Files):
                                self._file(scenario, running, files, number, name, contender)
                            else:
                                self._balls(scenario, running, number, name, contender)
                self._report(scenario.title)
        return self.cells

    def _file(
        self, scenario: Files, running: Server, files: Sources, number: int, name: str, contender: Contender
    ) -> None:
        path, cut = files.of(scenario.size), scenario.cuts.get(name) or scenario.cut or automatic(scenario.size)
        ball_id = f"ball-{number}-{name}"
        amount, unit = scenario.size / 1e6, "MB/s"
        self._time(scenario, "up", name, amount, unit, contender.put_file(running, ball_id, path, cut))
        with files.landing() as folder:
            self._time(scenario, "down", name, amount, unit, contender.get_file(running, ball_id, folder, cut))
            (landed,) = folder.iterdir()
            assert filecmp.cmp(landed, path, shallow=False)

    def _balls(self, scenario: Balls, running: Server, number: int, name: str, contender: Contender) -> None:
        drawn = random.Random(1)
        balls = {f"ball-{number}": drawn.randbytes(scenario.size) for number in range(scenario.number)}
        bucket_id, at_once = f"bucket-{number}-{name}", scenario.at_once
        for direction, work in (("put", contender.put_balls), ("get", contender.get_balls)):
            moving = work(running, bucket_id, balls, at_once)
            self._time(scenario, direction, name, scenario.number, "/s", moving)

    def _time(self, scenario: Scenario, direction: str, name: str, amount: float, unit: str, work: Any) -> None:
        """Run a coroutine in a new event loop, and record its time."""
        cells = self.cells.setdefault((scenario.title, direction), {})
        cell = cells.setdefault(name, Cell(scenario.title, direction, name, amount, unit))
        began, began_cpu = time.perf_counter(), time.process_time()
        asyncio.run(work)
        cell.seconds.append(time.perf_counter() - began)
        cell.cpu.append(time.process_time() - began_cpu)

    def _report(self, title: str) -> None:
        for (scenario, direction), cells in self.cells.items():
            if scenario == title:
                rates = ", ".join(f"{name} {cell.rate:,.1f} {cell.unit}" for name, cell in cells.items())
                self._say(f"{scenario}, {direction}: {rates}")


def measure_transfers(quick: bool, say: Callable[[str], None]) -> Cells:
    """Measure all scenarios of MictlanX."""
    return Measuring(quick, say).run(scenarios(quick), known_contenders())


class Sources:
    """Files of random bytes, created at their first use, and folders for reading."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, size: int) -> Path:
        """Return a file of the given size."""
        path = self._folder / f"source-{size}"
        if not path.exists():
            block = os.urandom(min(size, BLOCK))
            with path.open("wb") as file:
                while size > 0:
                    size -= file.write(block[:size])
        return path

    @contextmanager
    def landing(self) -> Iterator[Path]:
        """Yield an empty folder, and remove it afterwards."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
