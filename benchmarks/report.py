"""Write the measurements as a Markdown page and an SVG plot. Standard library only."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from html import escape

from benchmarks.bulks import Bulk
from benchmarks.memory import Peak
from benchmarks.scenarios import Cell

OTHERS = ("official", "client per request")


def page(
    cells: list[Cell], files: list[Cell], bulks: list[Bulk], peaks: list[Peak], seconds: float, quick: bool
) -> str:
    """Return the page in Markdown."""
    parts = [
        "# Benchmarks",
        "`make bench` writes this page. [Performance](performance.md#how-it-is-measured) explains the terms and what to "
        "conclude.",
        f"Measured on {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, with server and clients on the same machine, in {seconds / 60:.0f} minutes. "
        "Figures are medians. Ratios hold on other machines, absolute figures do not.",
    ]
    if quick:
        parts.append(
            "**This was a quick run with small sizes and one repetition. It only shows that the benchmark works.**"
        )
    parts += ["![speed of the client relative to the floor](benchmarks.svg)", "## Transfers", transfers(cells)]
    parts += ["## The filesystem compared with the hook", filesystem(files)]
    parts += ["## Bulks, uploaded by the operator in an Airflow process", bulk_table(bulks)]
    parts += ["## Peak memory above the start", peak_table(peaks)]
    return "\n\n".join(parts) + "\n"


def transfers(cells: list[Cell]) -> str:
    """Return the table of transfers."""
    others = [name for name in OTHERS if any(cell.contender == name for cell in cells)]
    head = ["transfer", "", "client", "floor", "client / floor"]
    for name in others:
        head += [name, f"client / {name}"]
    rows = []
    for (scenario, direction), found in by_scenario(cells):
        ours, floor = found["client"], found.get("floor")
        row = [scenario, direction, rate(ours), rate(floor), share(ours, floor)]
        for name in others:
            row += [rate(found.get(name)), times(ours, found.get(name))]
        rows.append(row)
    return table(head, rows)


def filesystem(cells: list[Cell]) -> str:
    """Return the table of the filesystem."""
    ways = ("put and get", "open")
    rows = []
    for (scenario, direction), found in by_scenario(cells):
        hook = found["hook"]
        row = [scenario, direction, rate(hook)]
        for way in ways:
            row += [rate(found[way]), share(found[way], hook)]
        rows.append(row)
    return table(["transfer", "", "hook", *(name for way in ways for name in (way, f"{way} / hook"))], rows)


def by_scenario(cells: Iterable[Cell]) -> list[tuple[tuple[str, str], dict[str, Cell]]]:
    """Group the cells by scenario and direction."""
    found: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in cells:
        found.setdefault((cell.scenario, cell.direction), {})[cell.contender] = cell
    return list(found.items())


def bulk_table(bulks: list[Bulk]) -> str:
    """Return the table of bulks."""
    rows = [
        [f"{b.files:,} × 10 kB", f"{b.rate:,.0f} files/s", f"{b.cold * 1000:.0f} ms", f"{b.warm * 1000:.0f} ms"]
        for b in bulks
    ]
    return table(["bulk", "upload", "a poke, new connection", "a poke, open connection"], rows)


def peak_table(peaks: list[Peak]) -> str:
    """Return the table of memory peaks."""
    return table(["transfer", "", "MiB"], [[peak.title, peak.direction, f"{peak.mib:.0f}"] for peak in peaks])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rate(cell: Cell | None) -> str:
    """Return the rate with its unit."""
    return (
        "" if cell is None else f"{cell.rate:,.0f} {cell.unit}" if cell.rate >= 10 else f"{cell.rate:.1f} {cell.unit}"
    )


def share(ours: Cell, floor: Cell | None) -> str:
    """Return the client's rate relative to the floor."""
    return "" if floor is None else f"{ours.rate / floor.rate:.0%}"


def times(ours: Cell, other: Cell | None) -> str:
    """Return the client's rate relative to another contender."""
    return "" if other is None else f"{ours.rate / other.rate:.1f}×"


# -- the plot ----------------------------------------------------------------------------------------------------------

ROW, BAR, LEFT, WIDTH = 20, 14, 390, 420


def plot(cells: list[Cell]) -> str:
    """Return an SVG with a bar per scenario that shows the client's rate relative to the floor."""
    rows = [
        (f"{scenario}, {direction}", found["client"].rate / found["floor"].rate)
        for (scenario, direction), found in by_scenario(cells)
        if "floor" in found
    ]
    height = ROW * len(rows) + 60
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 60}" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="18" fill="#333333" font-weight="bold">Speed of the client relative to raw asyncio sockets (100%)</text>',
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
