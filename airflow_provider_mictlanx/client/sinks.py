"""
Where the bytes of a download go, at their offsets: memory, a file, or nowhere. Standard library only.

A sink's methods may be called from several threads at once, for pieces that don't overlap.
"""

from __future__ import annotations

import os
from typing import Protocol


class Sink(Protocol):
    """Takes pieces at their offsets (bytes), in any order, and gives them back."""

    def write(self, offset: int, data: bytes) -> None:
        """Keep a piece."""
        ...

    def read(self, offset: int, size: int) -> bytes | memoryview:
        """Give back what was written."""
        ...


class MemorySink:
    """As much memory as the ball has bytes."""

    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(size))

    def write(self, offset: int, data: bytes) -> None:
        """Copy a piece to its place."""
        self.view[offset : offset + len(data)] = data

    def read(self, offset: int, size: int) -> memoryview:
        """Give a view of a piece."""
        return self.view[offset : offset + size]


class FileSink:
    """An open file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, offset: int, data: bytes) -> None:
        """Write a piece to its place."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written

    def read(self, offset: int, size: int) -> bytes:
        """Read a piece back."""
        return os.pread(self._descriptor, size, offset)


class NullSink:
    """Keeps nothing: for reading that only verifies."""

    def write(self, offset: int, data: bytes) -> None:
        """Forget a piece."""

    def read(self, offset: int, size: int) -> bytes:
        """There is nothing to give back."""
        raise OSError("a null sink keeps nothing")
