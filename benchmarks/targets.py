"""Rows: every figure with a target, from what was measured. All times and ratios are from the same run."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks import scenarios
from benchmarks.filesystem import measure_filesystem
from benchmarks.listings import Listed, measure_listings
from benchmarks.memory_server import FAN_OUT
from benchmarks.scenarios import Cell, Cells, MiB
from benchmarks.servers import server
from benchmarks.tasks import Step, measure_steps

SMALL_STEPS = (
    *("put bulk", "poke", "read bulk", "read prefix", "copy prefix", "delete prefix"),
    *("put again", "delete bucket", "put one", "get one"),
)
MANY_STEPS = ("put in client", "put bulk", "read prefix")
BULK_IN_CLIENT = "put_bulk of the client, automatic"
BULK_BY_OPERATOR = "bulk operator with its records"
FOLDER = "folder read by operator"

WITHOUT_PEERS = ("look", "peers")
"""Kinds of requests that no peer answers: the placement of an absent chunk, and the list of peers."""

NONE = 0.05
"""A rate of requests that counts as none: a listing of a whole window, not of an object."""


@dataclass(frozen=True)
class Row:
    """
    One figure and its targets.

    :ivar at_least: None if it is only measured
    :ivar lower: True if less is better
    """

    title: str
    value: float
    unit: str
    at_least: float | None = None
    stretch: float | None = None
    lower: bool = True
    detail: str = ""

    def reaches(self, target: float | None) -> bool:
        """Return whether the figure reaches a target."""
        return target is not None and (self.value <= target if self.lower else self.value >= target)

    @property
    def verdict(self) -> str:
        """Return the result in words."""
        if self.reaches(self.stretch):
            return "stretch met"
        if self.reaches(self.at_least):
            return "met"
        if self.at_least is None:
            return "measured"
        return "**missed**"

    def show(self, value: float | None) -> str:
        """Format a value like this figure."""
        if value is None:
            return ""
        number = f"{value:,.0f}" if value >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")
        return f"× {number}" if self.unit == "×" else f"{number} {self.unit}".strip()


@dataclass
class Measured:
    """
    All measurements.

    :ivar small: steps with small files and a fast router
    :ivar slow: the same with a router as slow as the real one
    :ivar far: with a router at 100 ms and 10 MB/s per connection
    :ivar bulks: steps of a bulk by its number of files
    :ivar large: steps of a large file by its size
    """

    files: int
    cells: Cells
    small: dict[str, Step]
    slow: dict[str, Step]
    far: dict[str, Step]
    bulks: dict[int, dict[str, Step]]
    large: dict[int, dict[str, Step]]
    listings: list[Listed]
    filesystem: Cells
    compared: Cells = field(default_factory=dict)


def measure(quick: bool, say: Callable[[str], None]) -> Measured:
    """Measure everything but the comparison."""
    cells = scenarios.measure_transfers(quick, say)

    def steps(speed: str, names: Sequence[str], files: int = 0, size: int = 0) -> dict[str, Step]:
        with server(speed) as running:
            found = measure_steps(running, names, files, size)
        for step in found.values():
            say(f"{speed}, {files:,} files, {size:,} bytes: {step}")
        return found

    files = 20 if quick else 200
    small = steps("memory", SMALL_STEPS, files)
    slow = steps("quick router" if quick else "router", MANY_STEPS, files)
    far = steps("WAN", (*MANY_STEPS, "put file", "get file"), files, (4 if quick else 64) * MiB)
    more = () if quick else (1_000, 10_000, 50_000)
    bulks = {files: small} | {number: steps("memory", ("put bulk", "poke"), number) for number in more}
    large = {}
    for size in [16 * MiB] if quick else [1024 * MiB, 16 * 1024 * MiB]:
        with server("memory") as running:  # one process per direction: memory that the other one freed is reused
            put = measure_steps(running, ["put file"], size=size)
            large[size] = put | measure_steps(running, ["get file"], size=size)
        say(f"{size:,} bytes: {large[size]}")
    listings = measure_listings(quick)
    for listing in listings:
        say(f"{listing}")
    return Measured(files, cells, small, slow, far, bulks, large, listings, measure_filesystem(quick, say))


def rows(measured: Measured) -> list[Row]:
    """Return all rows."""
    return [
        *request_rows(measured),
        *slow_rows(measured),
        *fast_rows(measured),
        *far_rows(measured),
        *listing_rows(measured.listings),
        *memory_rows(measured.large),
    ]


def request_rows(measured: Measured) -> list[Row]:
    """Return the rows of requests per object."""
    small, files = measured.small, measured.files

    def asked(*names: str, only: Sequence[str] = ()) -> float:
        """Return the most requests per object of these steps."""
        return max(
            sum(number for kind, number in small[name].requests.items() if not only or kind in only) for name in names
        )

    def reaching(requests: Counter[str]) -> float:
        return sum(number for kind, number in requests.items() if kind not in WITHOUT_PEERS) / files

    put, records = small["put bulk"].requests, small["put bulk"].records
    detail = f"with its records {reaching(put + records):.2f}; {put['look'] / files:.2f} looks"
    found = [
        Row(f"requests that reach a peer, per object, bulk of {files}", reaching(put), "", 2.1, 2.02, detail=detail),
        Row("requests per object, prefix or bulk read", asked("read prefix", "read bulk") / files, "", 1.1, 1.02),
        Row(
            "requests per object, prefix copied",
            asked("copy prefix") / files,
            "",
            4.2,  # a look, and what a put and a read take
            4.04,
            detail=f"CPU {small['copy prefix'].cpu:.2f} s",
        ),
        Row(
            "requests per object, prefix or bucket deleted",
            asked("delete prefix", "delete bucket") / files,
            "",
            1.15,
            1.02,
        ),
    ]
    for title, number, limit, *names in (
        ("bulk put", files, NONE, "put bulk"),
        ("bulk read", files, NONE, "read prefix", "read bulk"),
        ("single put", 1, 1, "put one"),
        ("single get", 1, 1, "get one"),
    ):
        fanned = asked(*names, only=FAN_OUT) / number
        found.append(Row(f"requests to all peers, per object, {title}", fanned, "", limit, NONE))
    poke = sum(small["poke"].requests.values()) + sum(small["poke"].records.values())
    return [*found, Row("requests of one poke of a bulk", poke, "", 2, 1)]


def slow_rows(measured: Measured) -> list[Row]:
    """Return the rows of a router as slow as the real one."""
    cells, files = measured.cells, measured.files
    found = []
    for title, direction, name, at_least, stretch in (
        (BULK_IN_CLIENT, "put", "put in client", 1.0, 1.1),
        (BULK_BY_OPERATOR, "put", "put bulk", 1.0, 1.1),
        (FOLDER, "get", "read prefix", 1.0, None),
    ):
        step = measured.slow[name]
        other = reference(cells[scenarios.BULK, direction])
        seconds, cpu = medians(other)
        detail = f"{times(step.seconds, step.cpu)}; {other.contender} {times(seconds, cpu)}"
        title = f"{files} × 10 kB, {title}, slow router"
        found.append(Row(title, seconds / step.seconds, "×", at_least, stretch, lower=False, detail=detail))
    for peers in scenarios.PEERS:
        for direction, stretch in (("put", 0.8), ("get", 1.0)):
            targets = (None, stretch) if peers == max(scenarios.PEERS) else (None, None)
            found.append(ratio(cells, scenarios.single(peers), direction, *targets))
    return [*found, *(ratio(cells, scenarios.ROUTER_DEFAULTS, way, 10, 15) for way in ("up", "down"))]


def fast_rows(measured: Measured) -> list[Row]:
    """Return the rows of a fast router."""
    return [
        ratio(measured.cells, title, direction, at_least, stretch)
        for title, direction, at_least, stretch in (
            (scenarios.SMALL_BALLS, "put", 4.5, 7),
            (scenarios.SMALL_BALLS, "get", 7, 10),
            (scenarios.same_cut("256 kB × 10"), "up", 2.8, 4.5),
            (scenarios.same_cut("256 kB × 10"), "down", 4.5, 6.5),
            (scenarios.same_cut("1 MB × 10"), "up", 2.0, 2.4),
            (scenarios.same_cut("1 MB × 10"), "down", 2.8, 3.5),
        )
    ]


def far_rows(measured: Measured) -> list[Row]:
    """Return the rows of a distant router."""
    found = []
    for title, name, at_least, stretch in (
        (f"{measured.files} × 10 kB, {BULK_IN_CLIENT}", "put in client", 3, 2.6),
        (f"{measured.files} × 10 kB, {BULK_BY_OPERATOR}", "put bulk", 3, 2.6),
        (f"{measured.files} × 10 kB, {FOLDER}", "read prefix", 1.6, 1.4),
        ("64 MiB, automatic, up", "put file", 3.0, None),
        ("64 MiB, automatic, down", "get file", 1.7, None),
    ):
        step = measured.far[name]
        detail = f"CPU {step.cpu:.2f} s"
        found.append(Row(f"{title}, far router", step.seconds, "s", at_least, stretch, detail=detail))
    return found


def listing_rows(listings: Sequence[Listed]) -> list[Row]:
    """Return the rows of the listing of a large bucket."""
    small, large = (listed for listed in listings if listed.work == "chunks")
    title = f"listing of {large.chunks:,} chunks × {large.replicas}"
    return [
        Row(f"{title}, CPU", large.cpu, "s", 1.5, 0.7),
        Row(f"{title}, peak memory", large.mib * MiB / 1e6, "MB", 400, 250),
        Row(f"{title}, longest stall of the loop", large.stall * 1000, "ms", 50),
        Row(f"growth of its CPU from {small.chunks:,} chunks", large.cpu / small.cpu, "×", 11, 10),
    ]


def memory_rows(large: dict[int, dict[str, Step]]) -> list[Row]:
    """Return the rows of memory."""
    return [
        Row(f"memory above the start, {gib(size)}, {name}", step.mib, "MiB", 32, detail=times(step.seconds, step.cpu))
        for size, steps in large.items()
        for name, step in steps.items()
    ]


def ratio(cells: Cells, title: str, direction: str, at_least: float | None, stretch: float | None) -> Row:
    """Return the rate of the client relative to the reference."""
    found = cells[title, direction]
    client, other = found["client"], reference(found)
    detail = "; ".join(f"{cell.contender} {times(*medians(cell))}" for cell in (client, other))
    return Row(f"{title}, {direction}", client.rate / other.rate, "×", at_least, stretch, lower=False, detail=detail)


def reference(cells: dict[str, Cell]) -> Cell:
    """Return the official client if it is installed, or else what stands for it."""
    return cells.get("official") or cells["reference"]


def medians(cell: Cell) -> tuple[float, float]:
    """Return the median seconds and CPU seconds."""
    return statistics.median(cell.seconds), statistics.median(cell.cpu)


def times(seconds: float, cpu: float) -> str:
    """Format wall and CPU time."""
    return f"{seconds:.2f} s (CPU {cpu:.2f} s)"


def gib(size: int) -> str:
    """Format a size."""
    return f"{size // (1024 * MiB)} GiB" if size >= 1024 * MiB else f"{size // MiB} MiB"
