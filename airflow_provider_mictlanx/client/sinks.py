"""
Where the bytes of a download go, at their offsets: memory, a file, or nowhere. Knows files in the making.

A sink's methods may be called from several threads at once, for pieces that don't overlap.
"""

from __future__ import annotations

import os
from typing import Protocol

from airflow_provider_mictlanx.client.files import FileInTheMaking


class Sink(Protocol):
    """
    Takes pieces at their offsets (bytes), in any order, and gives them back.

    :ivar kept: up to here (bytes) there may be what an interrupted download left; the rest is empty
    """

    kept: int

    def write(self, offset: int, data: bytes) -> None:
        """Keep a piece."""
        ...

    def read(self, offset: int, size: int) -> bytes | memoryview:
        """Give back what was written."""
        ...

    def verified(self, size: int) -> None:
        """Say that so many bytes more are there, and right: they may be kept, should the download be interrupted."""
        ...


class MemorySink:
    """As much memory as the ball has bytes."""

    kept = 0

    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(size))

    def write(self, offset: int, data: bytes) -> None:
        """Copy a piece to its place."""
        self.view[offset : offset + len(data)] = data

    def read(self, offset: int, size: int) -> memoryview:
        """Give a view of a piece."""
        return self.view[offset : offset + size]

    def verified(self, size: int) -> None:
        """Memory ends with the download."""


class FileSink:
    """A file in the making."""

    def __init__(self, file: FileInTheMaking) -> None:
        self.kept = file.kept
        self._file = file
        self._descriptor = file.descriptor

    def write(self, offset: int, data: bytes) -> None:
        """Write a piece to its place."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written

    def read(self, offset: int, size: int) -> bytes:
        """Read a piece back."""
        return os.pread(self._descriptor, size, offset)

    def verified(self, size: int) -> None:
        """Count what may be worth keeping."""
        self._file.verified += size


class NullSink:
    """Keeps nothing: for reading that only verifies."""

    kept = 0

    def write(self, offset: int, data: bytes) -> None:
        """Forget a piece."""

    def read(self, offset: int, size: int) -> bytes:
        """There is nothing to give back."""
        raise OSError("a null sink keeps nothing")

    def verified(self, size: int) -> None:
        """There is nothing to keep."""
