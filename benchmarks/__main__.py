"""
Run all benchmarks, and write ``docs/benchmarks.md`` and ``docs/benchmarks.svg`` (``make bench``).

``make bench QUICK=1`` runs everything once with small sizes and writes into a temporary folder, to check that the
benchmarks work. Neither judges the figures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import bulks, filesystem, memory, report
from benchmarks.scenarios import Measuring
from benchmarks.servers import ROOT


def say(line: str) -> None:
    """Print a line and flush."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the benchmarks and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the client.")
    parser.add_argument("--quick", action="store_true", help="use small sizes, run once, write into a temporary folder")
    parser.add_argument("--output", type=Path, help="output folder")
    asked = parser.parse_args()
    began = time.monotonic()
    cells = Measuring(asked.quick, say).run()
    files_cells = filesystem.measured(asked.quick, say)
    found = []
    for files in (50, 200) if asked.quick else (1_000, 10_000):
        found.append(bulks.measured(files))
        say(f"{found[-1]}")
    peaks = memory.peaks(asked.quick)
    for peak in peaks:
        say(f"{peak}")
    output = asked.output or (Path(tempfile.mkdtemp(prefix="benchmarks-")) if asked.quick else ROOT / "docs")
    page = report.page(cells, files_cells, found, peaks, time.monotonic() - began, asked.quick)
    (output / "benchmarks.md").write_text(page, encoding="utf-8")
    (output / "benchmarks.svg").write_text(report.plot(cells), encoding="utf-8")
    say(f"\n{page}\nWritten to {output} after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
