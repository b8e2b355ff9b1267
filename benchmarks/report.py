"""Write the measurements as a Markdown page and an SVG plot. Standard library only."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from benchmarks.listings import Listed
from benchmarks.scenarios import Cell, Cells
from benchmarks.targets import Measured, Row
from benchmarks.tasks import Step

PURPOSES = {
    "look": "the placement of chunk 0; no peer is asked if it is absent",
    "announce": "reserves peers for a chunk",
    "list": "the chunks of one object, from all peers",
    "list bucket": "a bucket, from all peers: rivals of a window, what to read or delete, or a roll-call",
    "size": "the peers that know a chunk",
    "metadata": "the placement of a chunk that exists",
    "send": "the data of a chunk, to its peers",
    "data": "the data of a chunk, from a peer",
    "delete chunk": "deletes the replicas of a chunk",
    "delete ball": "deletes the chunks of an object",
    "peers": "which peers must take part in a listing; no peer is asked",
}


def page(measured: Measured, rows: list[Row], seconds: float, quick: bool) -> str:
    """Return the page in Markdown."""
    parts = [
        "# Benchmarks",
        "`make bench` writes this page, `make bench COMPARE=1` with the last section. "
        "[Performance](performance.md#how-it-is-measured) explains the terms and what to conclude.",
        f"Measured on {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, with server and clients on the same machine, in {seconds / 60:.0f} minutes. "
        "Figures are medians. Ratios hold on other machines, absolute figures do not.",
    ]
    if quick:
        parts.append(
            "**This was a quick run with small sizes and one repetition. It only shows that the benchmark works.**"
        )
    parts += ["![figures relative to their targets](benchmarks.svg)", "## Targets", target_table(rows)]
    parts += [
        "*×* is the rate of the client, relative to the reference in the same run. A *slow router* is as slow as the "
        "real one, and works on one request at a time. A *far router* is 100 ms away, with 10 MB/s per connection. "
        "0.05 requests per object count as none: a listing for a whole window. "
        "[Performance](performance.md#missed-targets) explains what is missed."
    ]
    parts += ["## Requests by kind", request_table(measured.small, measured.files)]
    parts += ["## Bulks, uploaded by `MictlanXBulkPutOperator`", bulk_table(measured.bulks)]
    parts += ["## Transfers", transfers(measured.cells, ("floor", "official", "reference"))]
    parts += ["## The filesystem compared with the hook"]
    parts += [transfers(measured.filesystem, ("put and get", "open"), "hook")]
    parts += ["## Listing of a large bucket", listing_table(measured.listings)]
    if measured.compared:
        parts += [
            "## S3 clients",
            "Each with its defaults. The client uses the local VSS, the others the S3 server nanio: both run in one "
            "process, store on disk, and wait for the disk. With this server, only the client of MictlanX "
            "verifies what it reads.",
            transfers(measured.compared, ("boto3", "s3fs", "obstore")),
        ]
    return "\n\n".join(parts) + "\n"


def target_table(rows: list[Row]) -> str:
    """Return the table of targets."""
    return table(
        ["figure", "measured", "at least", "stretch", "", "wall and CPU time"],
        (
            [row.title, row.show(row.value), row.show(row.at_least), row.show(row.stretch), row.verdict, row.detail]
            for row in rows
        ),
    )


def request_table(steps: dict[str, Step], files: int) -> str:
    """Return the table of requests of many small objects, and of a bulk's records."""
    counted = {
        f"bulk put of {files}": steps["put bulk"].requests,
        "the bulk's records": steps["put bulk"].records,
        "bulk read": steps["read bulk"].requests + steps["read bulk"].records,
        "prefix read": steps["read prefix"].requests,
        "prefix copied": steps["copy prefix"].requests,
        "prefix deleted": steps["delete prefix"].requests,
        "bucket deleted": steps["delete bucket"].requests,
    }
    found: Counter[str] = sum(counted.values(), Counter())
    rows = [[kind, *(f"{counts[kind] or ''}" for counts in counted.values()), PURPOSES.get(kind, "")] for kind in found]
    return table(["request", *counted, "purpose"], rows)


def bulk_table(bulks: dict[int, dict[str, Step]]) -> str:
    """Return the table of bulks by their number of files."""
    head = ["files of 10 kB", "seconds", "files/s", "CPU (s)", "requests per file", "requests for records"]
    rows = []
    for files, steps in bulks.items():
        put, poke = steps["put bulk"], steps["poke"]
        row = [f"{files:,}", f"{put.seconds:.1f}", f"{files / put.seconds:,.0f}", f"{put.cpu:.1f}"]
        row += [f"{sum(put.requests.values()) / files:.2f}", f"{sum(put.records.values())}"]
        rows.append([*row, f"{put.mib:.0f}", f"{put.xcom}", f"{poke.seconds * 1000:.0f}"])
    return table([*head, "memory above the start (MiB)", "XCom (bytes)", "one poke (ms)"], rows)


def transfers(cells: Cells, others: Sequence[str], ours: str = "client") -> str:
    """Return a table of transfers: the client or another contender, and its rate relative to others."""
    others = [name for name in others if any(name in found for found in cells.values())]
    head = ["transfer", "", ours, "CPU"]
    for name in others:
        head += [name, "CPU", f"{ours} / {name}"]
    rows = []
    for (scenario, direction), found in cells.items():
        if (cell := found.get(ours)) is not None:
            row = [scenario, direction, *rate(cell)]
            for name in others:
                row += [*rate(found.get(name)), times(cell, found.get(name))]
            rows.append(row)
    return table(head, rows)


def listing_table(listings: list[Listed]) -> str:
    """Return the table of listings."""
    rows = []
    for small, large in zip(listings[::2], listings[1::2], strict=True):
        title = f"{large.work}, {large.chunks:,} chunks × {large.replicas} replicas"
        figures = [f"{large.cpu:.2f} s", f"{large.mib:.0f} MiB", f"{large.stall * 1000:.0f} ms"]
        rows.append([title, *figures, f"× {large.cpu / small.cpu:.1f} from {small.chunks:,}"])
    return table(["work", "CPU", "peak memory", "longest stall of the loop", "growth of the CPU"], rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rate(cell: Cell | None) -> list[str]:
    """Return the rate with its unit, and the CPU time."""
    if cell is None:
        return ["", ""]
    number = f"{cell.rate:,.0f}" if cell.rate >= 10 else f"{cell.rate:.1f}"
    return [f"{number} {cell.unit}", f"{statistics.median(cell.cpu):.2f} s"]


def times(ours: Cell, other: Cell | None) -> str:
    """Return the client's rate relative to another contender."""
    return "" if other is None else f"{ours.rate / other.rate:.2f}×"


# -- the plot ----------------------------------------------------------------------------------------------------------

ROW, BAR, LEFT, WIDTH = 20, 14, 400, 420


def plot(rows: list[Row]) -> str:
    """Return an SVG with a bar per figure: how far it is beyond its target, on a logarithmic scale."""
    shown = [(row, target) for row in rows if (target := row.at_least or row.stretch)]
    height, middle = ROW * len(shown) + 60, LEFT + WIDTH / 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 90}" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{middle}" y="18" text-anchor="middle" fill="#333333" font-weight="bold">Better than the target: to the right</text>',
    ]
    for factor in (0.25, 0.5, 1, 2, 4):
        x = middle + WIDTH / 4 * math.log2(factor)
        lines.append(f'<line x1="{x}" y1="28" x2="{x}" y2="{height - 24}" stroke="#cccccc"/>')
        lines.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle" fill="#666666">{factor:g} ×</text>')
    for number, (row, target) in enumerate(shown):
        y, value = 32 + ROW * number, max(row.value, target / 8)
        better = math.log2(target / value if row.lower else value / target)
        length = WIDTH / 4 * max(-2.0, min(2.0, better))
        x, color = min(middle, middle + length), "#4878a8" if length >= 0 else "#c05050"
        lines.append(f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end" fill="#333333">{escape(row.title)}</text>')
        lines.append(f'<rect x="{x:.1f}" y="{y}" width="{abs(length):.1f}" height="{BAR}" fill="{color}"/>')
        lines.append(f'<text x="{LEFT + WIDTH + 8}" y="{y + 11}" fill="#333333">{escape(row.show(row.value))}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"
