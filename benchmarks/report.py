"""What was measured, as a page and a plot. Standard library only."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from html import escape

from benchmarks.bulks import Bulk
from benchmarks.memory import Peak
from benchmarks.scenarios import Cell

OTHERS = ("official", "client per request")


def page(cells: list[Cell], bulks: list[Bulk], peaks: list[Peak], seconds: float, quick: bool) -> str:
    """Give the page in Markdown."""
    parts = [
        "# Benchmarks",
        "Written by `make bench`; [performance](performance.md) tells what is measured, and what to make of it.",
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}; server and clients on the "
        f"same machine; medians; {seconds / 60:.0f} minutes in all. Ratios hold from machine to machine, absolute figures do not.",
    ]
    if quick:
        parts.append("**A quick run: small sizes, one repetition. The figures say that it works, and nothing else.**")
    parts += ["![shares of the floor](benchmarks.svg)", "## Transfers", transfers(cells)]
    parts += ["## Bulks, by the operator in an Airflow process", bulk_table(bulks)]
    parts += ["## Peak memory above the start", peak_table(peaks)]
    return "\n\n".join(parts) + "\n"


def transfers(cells: list[Cell]) -> str:
    """Give the table of transfers."""
    others = [name for name in OTHERS if any(cell.contender == name for cell in cells)]
    head = ["what", "", "client", "floor", "of the floor"]
    for name in others:
        head += [name, "times as fast"]
    rows = []
    for (scenario, direction), found in by_scenario(cells):
        ours, floor = found["client"], found.get("floor")
        row = [scenario, direction, rate(ours), rate(floor), share(ours, floor)]
        for name in others:
            row += [rate(found.get(name)), times(ours, found.get(name))]
        rows.append(row)
    return table(head, rows)


def by_scenario(cells: Iterable[Cell]) -> list[tuple[tuple[str, str], dict[str, Cell]]]:
    """Sort the cells by scenario and direction."""
    found: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in cells:
        found.setdefault((cell.scenario, cell.direction), {})[cell.contender] = cell
    return list(found.items())


def bulk_table(bulks: list[Bulk]) -> str:
    """Give the table of bulks."""
    rows = [
        [f"{b.files:,} × 10 kB", f"{b.rate:,.0f} files/s", f"{b.cold * 1000:.0f} ms", f"{b.warm * 1000:.0f} ms"]
        for b in bulks
    ]
    return table(["what", "uploaded", "a poke, new connection", "a poke, open connection"], rows)


def peak_table(peaks: list[Peak]) -> str:
    """Give the table of peaks."""
    return table(["what", "", "MiB"], [[peak.title, peak.direction, f"{peak.mib:.0f}"] for peak in peaks])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Give a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rate(cell: Cell | None) -> str:
    """Give what was done per second."""
    return (
        "" if cell is None else f"{cell.rate:,.0f} {cell.unit}" if cell.rate >= 10 else f"{cell.rate:.1f} {cell.unit}"
    )


def share(ours: Cell, floor: Cell | None) -> str:
    """Give our share of the floor."""
    return "" if floor is None else f"{ours.rate / floor.rate:.0%}"


def times(ours: Cell, other: Cell | None) -> str:
    """Tell how many times as fast we are."""
    return "" if other is None else f"{ours.rate / other.rate:.1f}×"


# -- the plot ----------------------------------------------------------------------------------------------------------

ROW, BAR, LEFT, WIDTH = 20, 14, 390, 420


def plot(cells: list[Cell]) -> str:
    """Give an SVG: a bar for every scenario, as long as the client's share of the floor."""
    rows = [
        (f"{scenario}, {direction}", found["client"].rate / found["floor"].rate)
        for (scenario, direction), found in by_scenario(cells)
        if "floor" in found
    ]
    height = ROW * len(rows) + 60
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 60}" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="18" fill="#333333" font-weight="bold">The client, as a share of raw asyncio sockets (100%)</text>',
    ]
    for percent in (25, 50, 75, 100):
        x = LEFT + WIDTH * percent / 100
        lines.append(f'<line x1="{x}" y1="28" x2="{x}" y2="{height - 24}" stroke="#cccccc"/>')
        lines.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle" fill="#666666">{percent}%</text>')
    for number, (title, part) in enumerate(rows):
        y, length = 32 + ROW * number, WIDTH * min(part, 1.1)
        lines.append(f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end" fill="#333333">{escape(title)}</text>')
        lines.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="#4878a8"/>')
        lines.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 11}" fill="#333333">{part:.0%}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"
