"""``docs/faults.md`` is what the matrix's tests found, all of it and nothing else."""

from __future__ import annotations

from tests.robustness.faults import results
from tests.robustness.faults.disturbances import FAULTS
from tests.robustness.faults.operations import OPERATIONS


def test_page_has_every_cell_and_no_other() -> None:
    cells = {(fault.name, operation.name, regime) for fault, operation, regime in results.cells()}
    recorded = results.recorded()
    assert {cell for cell, outcome in recorded.items() if outcome != results.NOT_MET} == cells
    text = results.PAGE.read_text(encoding="utf-8")
    assert results.page(recorded, text) == text, "a table was changed by hand: make faults"


def test_every_fault_is_met_by_some_operation() -> None:
    for fault in FAULTS:
        assert any(fault.places(operation) for operation in OPERATIONS), fault.name
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
