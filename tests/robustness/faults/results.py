"""The results as a page: written by ``make faults``, and read by every cell's test, which compares."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from tests.robustness.faults.disturbances import FAULTS, Fault
from tests.robustness.faults.operations import OPERATIONS, Operation

PAGE = Path(__file__).resolve().parents[3] / "docs" / "faults.md"
WRITE = "FAULTS_WRITE"
PROPERTY = "fault cell"
REGIMES = {"passes": "A fault that passes", "lasts": "A fault that lasts"}
NOT_MET = "–"

Results = dict[tuple[str, str, str], str]
"""What came out, by fault, operation and whether the fault passes or lasts."""


def cells() -> list[tuple[Fault, Operation, str]]:
    """Return every cell: a fault, an operation that it can affect, and whether it passes or lasts."""
    return [
        (fault, operation, regime)
        for fault in FAULTS
        for operation in OPERATIONS
        for regime in REGIMES
        if getattr(fault, regime) and fault.places(operation)
    ]


def one_regime_each() -> list[tuple[Fault, Operation, str]]:
    """Return half of the cells: each fault with each operation once, passing and lasting by turns."""
    chosen = {}
    for fault, operation, regime in cells():
        by_turns = list(REGIMES)[(FAULTS.index(fault) + OPERATIONS.index(operation)) % 2]
        if (fault.name, operation.name) not in chosen or regime == by_turns:
            chosen[fault.name, operation.name] = (fault, operation, regime)
    return list(chosen.values())


@cache
def recorded() -> Results:
    """Return the outcomes on the page."""
    found: Results = {}
    text = PAGE.read_text(encoding="utf-8")
    for regime, heading in REGIMES.items():
        rows = re.findall(r"^\| (.*) \|$", text.partition(f"## {heading}\n")[2].partition("\n## ")[0], re.MULTILINE)
        if not rows:
            continue
        head, *lines = [  # the line below the head has no spaces
            [cell.strip() for cell in row.split(" | ")] for row in rows
        ]
        for fault, *outcomes in lines:
            for operation, outcome in zip(head[1:], outcomes, strict=True):
                found[fault, operation.strip("`"), regime] = outcome
    return found


def table(results: Results, regime: str) -> str:
    """Return one of the tables."""
    names = [operation.name for operation in OPERATIONS]
    lines = [f"| fault | {' | '.join(f'`{name}`' for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for fault in FAULTS:
        row = [results.get((fault.name, name, regime), NOT_MET) for name in names]
        if any(outcome != NOT_MET for outcome in row):
            lines.append(f"| {fault.name} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def page(results: Results, text: str) -> str:
    """Return the page with new tables; the rest is written by hand."""
    for regime in REGIMES:
        begin, end = f"<!-- {regime}: made by make faults -->\n", f"<!-- end of {regime} -->\n"
        before, rest = text.split(begin)
        after = rest.split(end)[1]
        text = f"{before}{begin}\n{table(results, regime)}\n{end}{after}"
    return text


def write(results: Results) -> None:
    """Put the results into the page; what was not run keeps the result that it had."""
    names = {(fault.name, operation.name, regime) for fault, operation, regime in cells()}
    known = {cell: outcome for cell, outcome in {**recorded(), **results}.items() if cell in names}
    PAGE.write_text(page(known, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
