"""
Every operation meets every hidden state: the table says how it ends, and the storage itself is asked whether that is true.

Whatever a write ended in, a put with ``replace=True`` after it has to succeed, and after a delete a plain put: no state is one
that nobody gets out of.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.robustness.hidden_states import states
from tests.robustness.hidden_states.operations import (
    OPERATIONS,
    WRITES,
    Cell,
    bulk,
    delete,
    delete_bucket,
    exists,
    exists_checked,
    get,
    get_to_file,
    put,
    put_file,
    put_others,
    replace,
    sensor,
    windowed_bulk,
    windowed_copy,
)
from tests.robustness.hidden_states.states import KEY, OURS, THEIRS, State
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import cut
from tests.support.vss import LocalVSS

CONFLICT = "BallConflictError"
UNREADABLE = "GetChunkError"
ABSENT = "NotFoundError"
NOT_KNOWN = "UnavailableError"

#            put               put_file          put_others        replace           bulk
_WRITES = {
    "absent": ("sent", "sent", "sent", "sent", "sent"),
    "stored": ("stored already", "stored already", CONFLICT, "stored already", "stored already"),
    "announced": ("sent", "sent", "sent", "sent", "sent"),
    "announced_everywhere": ("sent", "sent", "sent", "sent", "sent"),
    "announced_twice": ("sent", "sent", "sent", "sent", "sent"),
    "announced_beside_stored": ("stored already", "stored already", CONFLICT, "stored already", "stored already"),
    "cached_only": ("sent", "sent", "sent", "sent", "sent"),
    "half_sent": ("sent", "sent", CONFLICT, "sent", "sent"),
    "others_announced": ("sent", "sent", "sent", "sent", "sent"),
    "newer_announcement": ("stored already", "stored already", CONFLICT, "sent", "stored already"),
    "newer_half": (CONFLICT, CONFLICT, CONFLICT, "sent", CONFLICT),
    "two_cuts": ("stored already", "stored already", CONFLICT, "stored already", "stored already"),
    "two_cuts_one_sent": ("stored already", "stored already", CONFLICT, "stored already", "stored already"),
    "placed_without_data": ("sent", "sent", "sent", "sent", "sent"),
    "placed_everywhere_without_data": ("sent", "sent", "sent", "sent", "sent"),
    "brought_back": ("sent", "sent", CONFLICT, "sent", "sent"),
    "others_brought_back": (CONFLICT, CONFLICT, "sent", "sent", CONFLICT),
    "silent_peer": ("sent", "sent", "sent", "sent", NOT_KNOWN),
    "only_copy_silent": (NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN),
    "one_of_two_copies_silent": ("stored already", "stored already", CONFLICT, "stored already", NOT_KNOWN),
    "others_only_copy_silent": (NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN),
    "others_one_of_two_copies_silent": (CONFLICT, CONFLICT, "stored already", NOT_KNOWN, NOT_KNOWN),
    "hung_peer": ("sent", "sent", "sent", "sent", NOT_KNOWN),
    "only_copy_hung": (NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN),
    "one_of_two_copies_hung": ("stored already", "stored already", CONFLICT, "stored already", NOT_KNOWN),
    "answers_lost": ("sent", "sent", "sent", "sent", "sent"),
    "stored_and_answers_lost": ("stored already", "stored already", CONFLICT, "stored already", "stored already"),
}
#            get          get_to_file  exists   exists_checked  sensor  delete  delete_bucket
_OTHERS = {
    "absent": (ABSENT, ABSENT, "no", "no", "waits", "gone", "gone"),
    "stored": ("reads ours", "reads ours", "yes", "yes", "yes", "gone", "gone"),
    "announced": (UNREADABLE, UNREADABLE, "yes", "no", "waits", "gone", "gone"),
    "announced_everywhere": (UNREADABLE, UNREADABLE, "yes", "no", "waits", "gone", "gone"),
    "announced_twice": (UNREADABLE, UNREADABLE, "yes", "no", "waits", "gone", "gone"),
    "announced_beside_stored": ("reads ours", "reads ours", "yes", "yes", "yes", "gone", "gone"),
    "cached_only": ("reads ours", "reads ours", "yes", "no", "waits", "gone", "gone"),
    "half_sent": (ABSENT, ABSENT, "no", "no", "waits", "gone", "gone"),
    "others_announced": (UNREADABLE, UNREADABLE, "yes", "no", "waits", "gone", "gone"),
    "newer_announcement": ("reads ours", "reads ours", "yes", "yes", "yes", "gone", "gone"),
    "newer_half": ("reads ours", "reads ours", "yes", "yes", "yes", "gone", "gone"),
    "two_cuts": ("reads ours", "reads ours", "yes", "yes", "yes", "gone", "gone"),
    "two_cuts_one_sent": ("reads ours", "reads ours", "yes", "yes", "yes", "gone", "gone"),
    "placed_without_data": (NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, "waits", "gone", "gone"),
    "placed_everywhere_without_data": (NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, "waits", "gone", "gone"),
    "brought_back": ("reads ours", "reads ours", "yes", "yes", "yes", "gone", "gone"),
    "others_brought_back": ("reads theirs", "reads theirs", "yes", "yes", "yes", "gone", "gone"),
    "silent_peer": (NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, "waits", NOT_KNOWN, NOT_KNOWN),
    "only_copy_silent": (NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, "waits", NOT_KNOWN, NOT_KNOWN),
    "one_of_two_copies_silent": ("reads ours", "reads ours", "yes", "yes", "yes", NOT_KNOWN, NOT_KNOWN),
    "others_only_copy_silent": (NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, "waits", NOT_KNOWN, NOT_KNOWN),
    "others_one_of_two_copies_silent": ("reads theirs", "reads theirs", "yes", "yes", "yes", NOT_KNOWN, NOT_KNOWN),
    "hung_peer": (NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, "waits", NOT_KNOWN, NOT_KNOWN),
    "only_copy_hung": (NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, "waits", NOT_KNOWN, NOT_KNOWN),
    "one_of_two_copies_hung": ("reads ours", "reads ours", "yes", "yes", "yes", NOT_KNOWN, NOT_KNOWN),
    "answers_lost": (ABSENT, ABSENT, "no", "no", "waits", "gone", "gone"),
    "stored_and_answers_lost": ("reads ours", "reads ours", "yes", "yes", "yes", "gone", "gone"),
}
GRID = {
    state: dict(zip(OPERATIONS, (*_WRITES[state], *[_WRITES[state][-1]] * 2, *_OTHERS[state]), strict=True))
    for state in _WRITES
}
NOT_HUNG = (put_file, get_to_file, windowed_copy)
"""They would meet a peer that hangs, for seconds, in the requests of ``put``, ``get`` and ``delete_bucket`` (a listing)."""
CELLS = [
    pytest.param(getattr(states, state), operation, ending, id=f"{state}-{operation.__name__}")
    for state, row in GRID.items()
    for operation, ending in row.items()
    if not (state.endswith(("hung", "hung_peer")) and operation in NOT_HUNG)
]


@pytest.mark.parametrize(("state", "operation", "ending"), CELLS)
def test_cell(
    vss: LocalVSS,
    bucket_id: str,
    tmp_path: Path,
    connect: Callable[..., None],
    state: State,
    operation: Callable[[Cell], str],
    ending: str,
) -> None:
    connect(vss)
    wire = RawRequests(vss)
    cell = Cell(vss, bucket_id, tmp_path)
    if operation is windowed_copy:
        wire.put(cell.original, KEY, [OURS])
    state(wire, bucket_id)
    before = _stored(vss, bucket_id)
    vss.reset_requests()
    if state.__name__.endswith("answers_lost"):
        states.lose_answers(wire, bucket_id)
    try:
        assert operation(cell) == ending
    finally:
        vss.clear_faults()
    if ending in ("sent", "stored already"):
        assert any_client_reads(wire, bucket_id, THEIRS if operation is put_others else OURS)
    if ending == "sent" and not state.__name__.endswith("brought_back"):
        # Beside a copy that a peer brought back in another layout, the own first announcement stays: a delete takes both.
        assert _unsent(vss, bucket_id) == set()
    if ending == "stored already":
        assert vss.requests("POST", f"{bucket_id}|/data/") == [] or operation in (bulk, windowed_bulk)
    if ending == "gone":
        assert wire.listed(bucket_id, KEY) == []
        assert _stored(vss, bucket_id) == set()
        assert put(cell) == "sent"
    elif ending not in ("sent", "stored already"):
        assert _stored(vss, bucket_id) == before  # neither a read nor a conflict changed anything
        assert vss.requests("DELETE", bucket_id) == []
    if operation in WRITES:  # and whatever that left: there is a way out
        assert replace(cell) in ("sent", "stored already")
        assert any_client_reads(wire, bucket_id, OURS)


@pytest.mark.parametrize("name", GRID)
def test_cleared_bulk_ends_as_a_new_one(vss: LocalVSS, bucket_id: str, tmp_path: Path, name: str) -> None:
    """Its records acknowledge our bytes, somebody deleted them, and then things came to that state: the records don't matter."""
    wire = RawRequests(vss)
    cell = Cell(vss, bucket_id, tmp_path)
    assert bulk(cell) == "sent"
    for index in range(3):
        wire.delete_chunk(bucket_id, f"{KEY}_{index}")
    getattr(states, name)(wire, bucket_id)
    before = _stored(vss, bucket_id)
    if name.endswith("answers_lost"):
        states.lose_answers(wire, bucket_id)
    ending = "stored already" if name == "brought_back" else GRID[name][bulk]
    try:
        assert bulk(cell) == ending
    finally:
        vss.clear_faults()
    if ending in (CONFLICT, NOT_KNOWN):
        assert _stored(vss, bucket_id) == before
    else:
        assert get(cell) == "reads ours"
        assert any_client_reads(wire, bucket_id, OURS) or name == "brought_back", "that copy is placed nowhere"


def any_client_reads(wire: RawRequests, bucket_id: str, data: bytes) -> bool:
    """
    Return whether the bytes can be read through the router alone, without its cache.

    Each chunk is asked for as often as there are peers, for the router sends each request to the next replica.
    """

    def gives(index: int, chunk: bytes) -> bool:
        return any(wire.data(bucket_id, f"{KEY}_{index}") == chunk for _ in range(wire.vss.peers))

    cuts = (cut(data, 400), cut(data, 400, 400), cut(data, 300, 300, 300), cut(data, 500), [data])
    return any(all(gives(index, chunk) for index, chunk in enumerate(chunks)) for chunks in cuts)


def _stored(vss: LocalVSS, bucket_id: str) -> set[tuple[str, str, str]]:
    """Return every copy that a peer has, from the storage space's own books: peer, key, and the file with its bytes."""
    return _replicas(vss, bucket_id, "blob is not null")


def _unsent(vss: LocalVSS, bucket_id: str) -> set[tuple[str, str, str]]:
    """Return every announcement without data."""
    return _replicas(vss, bucket_id, "blob is null")


def _replicas(vss: LocalVSS, bucket_id: str, condition: str) -> set[tuple[str, str, str]]:
    with contextlib.closing(sqlite3.connect(vss.data / "metadata.sqlite3")) as books:
        asked = f"select peer_id, key, blob from replicas where bucket_id = ? and {condition}"
        return set(books.execute(asked, (bucket_id,)))


PAGE = Path(__file__).parents[3] / "docs" / "protocol-traps.md"
COLUMNS: dict[str, tuple[Callable[[Cell], str], ...]] = {
    "`put`, `put_file`": (put, put_file),
    "bulk": (bulk, windowed_bulk, windowed_copy),
    "`put` of other bytes": (put_others,),
    "`put`, `replace=True`": (replace,),
    "`get`, `get_to_file`": (get, get_to_file),
    "`exists`": (exists,),
    "`exists`, `check_storage=True`": (exists_checked,),
    "sensor": (sensor,),
    "`delete`, `delete_bucket`": (delete, delete_bucket),
}


def table() -> str:
    """Return the grid in the form of the documentation."""
    lines = [f"| state | {' | '.join(COLUMNS)} |", f"|{'---|' * (len(COLUMNS) + 1)}"]
    for name, row in GRID.items():
        endings = []
        for operations in COLUMNS.values():
            (ending,) = {row[operation] for operation in operations}
            endings.append(f"`{ending}`" if ending.endswith("Error") else ending)
        what = (getattr(states, name).__doc__ or "").strip().partition(" (``")[0]
        lines.append(f"| {what} | {' | '.join(endings)} |")
    return "\n".join(lines)


def test_documentation_shows_the_grid() -> None:
    assert table() in PAGE.read_text(), f"{PAGE.name} wants:\n{table()}"
