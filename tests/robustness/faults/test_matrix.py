"""Every fault, at every request of every operation: it ends done and verified, or in a clear error that a retry mends."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from tenacity import wait_exponential, wait_none

from airflow_provider_mictlanx.bulks import attempt as bulk_upload
from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.client import (
    MictlanXError,
    NetworkError,
    NotFoundError,
    UnavailableError,
    UnknownError,
    UpstreamProtocolError,
    retry,
)
from airflow_provider_mictlanx.client.transfer import chunk_upload, listing
from tests.robustness.faults import results
from tests.robustness.faults.disturbances import SCALE, Fault
from tests.robustness.faults.operations import TOKEN, Cell, How, Operation, nothing_left_running
from tests.robustness.faults.space import Space
from tests.support.new_threads import NewThreads

CELLS = [
    pytest.param(fault, operation, regime, id=f"{fault.name}-{operation.name}-{regime}")
    for fault, operation, regime in (results.cells() if os.environ.get(results.ALL) else results.short_form())
]


@pytest.mark.parametrize(("fault", "operation", "regime"), CELLS)
def test_cell(
    space: Space,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
    fault: Fault,
    operation: Operation,
    regime: str,
) -> None:
    _scale_times(monkeypatch, fault)
    writing = bool(os.environ.get(results.WRITE))
    said = results.recorded().get((fault.name, operation.name, regime))
    found = ""
    # A difference that comes of a busy machine goes away with more patience.
    for patience in ((2,) if writing else (1, 2, 8)) if fault.hurried else (1,):
        found = _found(space, tmp_path / str(patience), fault, operation, regime == "lasts", patience)
        if found == said:
            break
    record_property(results.PROPERTY, "\t".join((fault.name, operation.name, regime, found)))
    if not writing:
        assert found == said, f"docs/faults.md says {said!r}; if that is to change: make faults"


def _found(space: Space, folder: Path, fault: Fault, operation: Operation, lasting: bool, patience: int) -> str:
    """Run an operation with a fault at each of its requests in turn; return the outcome in the page's words."""
    outcomes: set[str] = set()
    for place in fault.places(operation):
        cell = Cell(space, folder / re.sub(r"\W", "-", place))
        cell.folder.mkdir(parents=True)
        try:
            outcomes.add(_outcome(cell, fault, operation, place, lasting, patience))
        except BaseException as error:
            error.add_note(f"{fault.name} at {place}")
            raise
    return " / ".join(sorted(outcomes, key=lambda outcome: (outcome != "done", outcome)))


def _outcome(cell: Cell, fault: Fault, operation: Operation, place: str, lasting: bool, patience: int) -> str:
    """Run an operation with a fault at one of its requests; check all that must hold, and return the outcome."""
    space = cell.space
    threads = NewThreads()
    space.second.requests.clear()
    space.front.swallowed = 0
    operation.prepare(cell)
    how = fault.how(operation, lasting, patience)
    cell.connect_patience = how.connect_patience
    roll_call = mock.patch.object(listing, "PEER_CHECK_TIMEOUT", how.roll_call)
    with roll_call, fault.on(cell, operation, place, lasting) as hits:
        try:
            outcome = operation.run(cell, how)
        except MictlanXError as error:
            outcome = type(error).__name__
            _check_clear(error, cell, operation)
        met = hits()
        assert space.two_routers or not space.second.requests, "a redirect was followed"
    if not met and patience < 16:  # the machine was too busy to come so far
        again = Cell(space, cell.folder / "again")
        again.folder.mkdir()
        return _outcome(again, fault, operation, place, lasting, 2 * patience)
    assert met, "the fault was not met"
    assert not space.front.swallowed, "an answer was read that nobody should read to its end"
    if fault.stores_wrong_bytes:
        right = cell.seen()
        assert right in (None, cell.data), "wrong bytes are handed out"
        outcome = "done; reading detects it" if outcome == "done" and right is None else outcome
    elif outcome != "done":
        operation.verify_untouched(cell)
    if outcome != "done":
        fault.mend(cell)
        outcome += _retry(cell, operation, How(rf=how.rf))
    operation.verify(cell)
    nothing_left_running(space, threads)
    return outcome


def _retry(cell: Cell, operation: Operation, how: How) -> str:
    """Do the same again, which has to succeed; where the error says that it needs ``replace=True``, with that."""
    try:
        assert operation.run(cell, how) == "done", "the retry, once the fault is gone"
    except MictlanXError as error:
        if "replace=True" not in str(error):
            raise
        assert operation.run(cell, replace(how, replace=True)) == "done", (
            "the retry with replace, once the fault is gone"
        )
        return ", `replace`"
    return ""


NAMES_A_ROUTER = (NetworkError, UnknownError, UpstreamProtocolError)
"""Errors that come from a request, unless they are about the storage (``UnavailableError``)."""

WHAT_TO_DO = re.compile(
    r"\?|again|delet|replace=True|See |name the|[Ss]ee the log|check|tells? whether|next try|Fix the causes|storage is slow"
)


def _check_clear(error: MictlanXError, cell: Cell, operation: Operation) -> None:
    """Fail unless an error tells what was being done, to what, where, and what to do."""
    for name in operation.subject(cell):
        assert name in str(error), f"the error does not name {name}: {error}"
    if isinstance(error, NAMES_A_ROUTER) and not isinstance(error, UnavailableError | BulkFailedError):
        assert f":{cell.space.front.port}" in str(error), f"the error does not name the router: {error}"
    assert WHAT_TO_DO.search(str(error)) or isinstance(error, NotFoundError), (
        f"the error does not say what to do: {error}"
    )
    assert TOKEN not in str(error)


def _scale_times(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """
    Shorten the client's own times as the faults' are, and take the chance out of them.

    Where a fault is not about the time between tries, these follow one another at once.
    """

    def wait(multiplier: float, max: float, exp_base: float) -> object:
        scaled = wait_exponential(multiplier=multiplier * SCALE, max=max * SCALE, exp_base=exp_base)
        return scaled if fault.timed else wait_none()

    monkeypatch.setattr(retry, "wait_random_exponential", wait)
    monkeypatch.setattr(chunk_upload, "GRACE", chunk_upload.GRACE * SCALE)
    monkeypatch.setattr(bulk_upload, "LOST_END_SECONDS", bulk_upload.LOST_END_SECONDS * SCALE)
    monkeypatch.setattr(chunk_upload, "GRACE", chunk_upload.GRACE * SCALE)
