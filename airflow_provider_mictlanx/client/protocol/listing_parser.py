"""
Parse a listing while it arrives, in slices of complete rows.

JSON is parsed from left to right. A prefix that is valid once its open brackets are closed therefore ends where the
parser of the complete text would stand as well. So each guess where a row ends is proved by decoding the rows before
it. A wrong guess, such as one within a str, waits for twice as many bytes.
"""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec
from msgspec.structs import replace

from airflow_provider_mictlanx.client.models import BallListing, Metadata

L = TypeVar("L", bound=BallListing)

SLICE = 128 * 1024
"""Minimum number of bytes to decode at once, which takes about a millisecond."""

GUESSES = 64
"""Limit for the places that are looked at to find the first row, or the end of the last complete one."""

SPACES = 64
"""Limit for the spaces before a row."""

_BORDER = re.compile(rb"\}\s*,\s*\Z")
_LOCATION = re.compile(r"`\$\[(\d+)\]")
_decode_rows = msgspec.json.Decoder(list[Metadata]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ListingParser(Generic[L]):
    """
    Parse one listing.

    :param model: of the complete answer
    """

    def __init__(self, model: type[L]) -> None:
        self._model = model
        self._rows_begin = re.compile(rb'[{,]\s*"%b"\s*:\s*\[' % model.rows_field.encode())
        self._head = b""
        """The answer up to the first row, as soon as that is found."""
        self._rest = bytearray()
        """The bytes that are not decoded yet."""
        self._required = SLICE
        self._rows: list[Metadata] = []
        self._first_replicas: dict[str, Metadata] = {}

    @property
    def beginning(self) -> bytes:
        """The beginning of the answer, for errors."""
        return self._head or bytes(self._rest[:1000])

    def feed(self, piece: bytes) -> None:
        """
        Add a piece of the answer, and decode the complete rows.

        ``msgspec.ValidationError``: a row is invalid.
        """
        self._rest += piece
        if len(self._rest) < self._required:
            return
        if not self._head:
            self._head = self._find_head()
            del self._rest[: len(self._head)]
        if self._head and (border := self._find_last_border()):
            end, begin = border
            try:
                rows = self._decode(b"[" + self._rest[:end] + b"]")
            except msgspec.ValidationError:
                raise
            except msgspec.DecodeError:
                pass  # the guess was wrong, or the answer is malformed, which ``finish`` finds
            else:
                self._add(rows)
                del self._rest[:begin]
                self._required = SLICE
                return
        self._required = 2 * len(self._rest)

    def finish(self) -> L:
        """
        Return the complete listing.

        ``msgspec.DecodeError``, ``UnicodeDecodeError`` or ``RecursionError``: the answer is invalid.
        """
        last = msgspec.json.decode(self._head + self._rest, type=self._model)
        self._add(getattr(last, self._model.rows_field))
        fields: dict[str, Any] = {self._model.rows_field: self._rows}
        return replace(last, **fields)

    def _find_head(self) -> bytes:
        """Return the answer up to its first row; empty if the rows have not begun."""
        for found in islice(self._rows_begin.finditer(self._rest), GUESSES):
            head = bytes(self._rest[: found.end()])
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                _decode_object(head + b"]}")
                return head
        return b""

    def _find_last_border(self) -> tuple[int, int] | None:
        """Guess where the last complete row ends and the next one begins, or return None."""
        begin = len(self._rest)
        for _ in range(GUESSES):
            if (begin := self._rest.rfind(b"{", 0, begin)) <= 0:
                return None
            if found := _BORDER.search(self._rest, max(0, begin - SPACES), begin):
                return found.start() + 1, begin
        return None

    def _decode(self, rows: bytes) -> list[Metadata]:
        try:
            return _decode_rows(rows)
        except msgspec.ValidationError as error:
            place = rf"`$.{self._model.rows_field}[{{}}]"
            said = _LOCATION.sub(lambda found: place.format(int(found[1]) + len(self._rows)), str(error), count=1)
            raise msgspec.ValidationError(said) from None

    def _add(self, rows: list[Metadata]) -> None:
        """Add rows; replicas of a chunk share what they have in common, which saves half the memory."""
        for row in rows:
            first = self._first_replicas.setdefault(row.key, row)
            if first is not row:
                updated_at = row.tags.get("updated_at", "")  # the only tag in which replicas usually differ
                same = first.tags.get("updated_at", "") == updated_at
                shared = first if same else replace(first, tags={**first.tags, "updated_at": updated_at})
                row = shared if shared == row else row
            self._rows.append(row)
