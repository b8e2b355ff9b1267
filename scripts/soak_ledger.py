"""
Record the possible contents of each key during a soak. Standard library only.

Every key has one owner that changes it step by step; all workers may read it. During a change, and after a failed
one, several contents are possible. A reader may get any of these, complete, or an error, and nothing else.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class Violation(AssertionError):
    """Raised when the storage or the client broke a promise."""


@dataclass(frozen=True)
class Content:
    """Bytes that are generated from a seed. ``checksum`` is their SHA-256 in hex."""

    seed: int
    size: int
    checksum: str

    @classmethod
    def make(cls, seed: int, size: int) -> tuple[Content, bytes]:
        """Return a content and its bytes."""
        data = random.Random(seed).randbytes(size)
        return cls(seed, size, hashlib.sha256(data).hexdigest()), data


Possible = frozenset[Content | None]
"""A possible content of a key; None: no object."""

NOTHING: Possible = frozenset({None})


@dataclass(eq=False)
class Entry:
    """
    One key.

    :ivar possible: the contents that may be found under it
    :ivar history: the last operations on it, for analysis
    :ivar announced_over: whether a rival may have announced other bytes, which a listing then shows
    """

    bucket_id: str
    key: str
    possible: Possible = NOTHING
    announced_over: bool = False
    history: deque[str] = field(default_factory=lambda: deque(maxlen=12))
    _readers: dict[int, set[Content | None]] = field(default_factory=dict)

    @property
    def content(self) -> Content | None:
        """Return the stored content, if it is certain."""
        [content] = self.possible
        return content

    @property
    def certain(self) -> bool:
        """Return whether exactly one content is possible."""
        return len(self.possible) == 1

    def allow(self, *contents: Content | None) -> None:
        """Add a possible content, before a change starts."""
        self._set(self.possible | frozenset(contents))

    def settle(self, content: Content | None) -> None:
        """Set the only possible content, after a successful change."""
        self.announced_over = False
        self._set(frozenset({content}))

    def _set(self, possible: Possible) -> None:
        self.possible = possible
        for seen in self._readers.values():
            seen |= possible

    @contextmanager
    def read(self) -> Iterator[set[Content | None]]:
        """Yield the contents that a reader may find; the set grows while the context is open."""
        seen = set(self.possible)
        self._readers[id(seen)] = seen  # by identity: two readers may have equal sets
        try:
            yield seen
        finally:
            del self._readers[id(seen)]

    def check_found(self, seen: set[Content | None], size: int, checksum: str, how: str) -> None:
        """Raise ``Violation`` unless a reader may find these bytes."""
        if not any(content and (content.size, content.checksum) == (size, checksum) for content in seen):
            raise Violation(
                f"{how} of {self} returned {size} bytes, SHA-256 {checksum[:12]}…, but expected {seen}{self.told()}"
            )

    def check_absent(self, seen: set[Content | None], how: str) -> None:
        """Raise ``Violation`` unless the key may be absent; after a failed change an incomplete ball is absent."""
        if len(seen) == 1 and None not in seen:
            raise Violation(f"{how} reported {self} as missing, but expected {seen}{self.told()}")

    def note(self, what: str) -> None:
        """Add an operation to the history."""
        self.history.append(f"{time.strftime('%H:%M:%S')} {what}")

    def __str__(self) -> str:
        return f"{self.bucket_id}/{self.key}"

    def told(self) -> str:
        """Return the history as lines."""
        return "".join(f"\n    {line}" for line in self.history)
