"""The results as a page: written by ``make faults``, and read by every cell's test, which compares."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from tests.robustness.faults.disturbances import FAULTS, Fault
from tests.robustness.faults.operations import OPERATIONS, Operation

PAGE = Path(__file__).resolve().parents[3] / "docs" / "faults.md"
WRITE = "FAULTS_WRITE"
ALL = "FAULTS_ALL"
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


TAKE_TURNS = (("put", "put_file"), ("bulk", "windowed bulk", "cleared bulk"), ("get", "get_to_file", "sensor"))
"""Operations with nearly the same requests."""


def short_form() -> list[tuple[Fault, Operation, str]]:
    """Return a third of the cells: each fault with each operation, or one of those that take turns; passing or lasting by turns."""
    groups = {name: names for names in TAKE_TURNS for name in names}
    kinds = list(dict.fromkeys(groups.get(operation.name, operation.name) for operation in OPERATIONS))
    choices: dict[tuple[int, int], list[tuple[Fault, Operation, str]]] = {}
    for cell in cells():
        fault, operation, _ = cell
        row = FAULTS.index(fault), kinds.index(groups.get(operation.name, operation.name))
        choices.setdefault(row, []).append(cell)
    return [alike[sum(row) % len(alike)] for row, alike in choices.items()]


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
