"""
What the storage may hold, key by key, while a soak works on it. Standard library only.

Every key has one owner, who changes it step by step; anybody may read it. While a change is under way, and after one that
failed, more than one content is possible; a reader may meet each of these, whole, or an error, and nothing else.
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
    """The storage, or the client, broke a promise."""


@dataclass(frozen=True)
class Content:
    """Bytes that can be made again: they follow from a seed. ``checksum`` is their SHA-256 in hex."""

    seed: int
    size: int
    checksum: str

    @classmethod
    def make(cls, seed: int, size: int) -> tuple[Content, bytes]:
        """Give a content and its bytes."""
        data = random.Random(seed).randbytes(size)
        return cls(seed, size, hashlib.sha256(data).hexdigest()), data


Possible = frozenset[Content | None]
"""What may be found under a key; None: nothing."""

NOTHING: Possible = frozenset({None})


@dataclass(eq=False)
class Entry:
    """
    One key.

    :ivar possible: what may be found under it
    :ivar history: the last things that were done to it, for who has to find out
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
        """What is stored, where that is certain."""
        [content] = self.possible
        return content

    @property
    def certain(self) -> bool:
        """Whether there is one possibility."""
        return len(self.possible) == 1

    def allow(self, *contents: Content | None) -> None:
        """Say what else may be found from now on: before a change begins."""
        self._set(self.possible | frozenset(contents))

    def settle(self, content: Content | None) -> None:
        """Say what is stored from now on: after a change that is done."""
        self.announced_over = False
        self._set(frozenset({content}))

    def _set(self, possible: Possible) -> None:
        self.possible = possible
        for seen in self._readers.values():
            seen |= possible

    @contextmanager
    def read(self) -> Iterator[set[Content | None]]:
        """Give what a reader may find; it grows while the context lasts."""
        seen = set(self.possible)
        self._readers[id(seen)] = seen  # not by what is in it: two readers may have seen the same
        try:
            yield seen
        finally:
            del self._readers[id(seen)]

    def check_found(self, seen: set[Content | None], size: int, checksum: str, how: str) -> None:
        """Raise ``Violation`` unless these bytes are among what a reader may find."""
        if not any(content and (content.size, content.checksum) == (size, checksum) for content in seen):
            raise Violation(
                f"{how} of {self}: {size} bytes, SHA-256 {checksum[:12]}…, of which nobody knows: {seen}{self.told()}"
            )

    def check_absent(self, seen: set[Content | None], how: str) -> None:
        """Raise ``Violation`` unless a reader may find nothing; after a change that failed, half a ball is as good as none."""
        if len(seen) == 1 and None not in seen:
            raise Violation(f"{how} says that {self} is not there; it is: {seen}{self.told()}")

    def note(self, what: str) -> None:
        """Remember what was done."""
        self.history.append(f"{time.strftime('%H:%M:%S')} {what}")

    def __str__(self) -> str:
        return f"{self.bucket_id}/{self.key}"

    def told(self) -> str:
        """Give its history as lines."""
        return "".join(f"\n    {line}" for line in self.history)
