"""
Run all benchmarks, and write ``docs/benchmarks.md`` and ``docs/benchmarks.svg`` (``make bench``).

``make bench QUICK=1`` runs everything once with small sizes and writes into a temporary folder, to check that the
benchmarks work. ``COMPARE=1`` adds S3 clients. A missed target does not fail the run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report, targets
from benchmarks.servers import ROOT


def say(line: str) -> None:
    """Print a line and flush."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the benchmarks, and write the page and the plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the client.")
    parser.add_argument("--quick", action="store_true", help="use small sizes, run once, write into a temporary folder")
    parser.add_argument("--compare", action="store_true", help="also measure boto3, s3fs and obstore")
    parser.add_argument("--output", type=Path, help="output folder")
    asked = parser.parse_args()
    began = time.monotonic()
    measured = targets.measure(asked.quick, say)
    if asked.compare:
        from benchmarks import compare  # needs packages of its own

        measured.compared = compare.measure_comparison(asked.quick, say)
    output = asked.output or (Path(tempfile.mkdtemp(prefix="benchmarks-")) if asked.quick else ROOT / "docs")
    rows = targets.rows(measured)
    page = report.page(measured, rows, time.monotonic() - began, asked.quick)
    (output / "benchmarks.md").write_text(page, encoding="utf-8")
    (output / "benchmarks.svg").write_text(report.plot(rows), encoding="utf-8")
    say(f"\n{page}\nWritten to {output} after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
