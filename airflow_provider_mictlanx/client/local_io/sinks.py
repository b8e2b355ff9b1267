"""
Sinks of a download: memory, a file, or nothing; and a writer that hashes what it writes.

The methods of a sink may be called from several threads at once, for pieces that do not overlap.
"""

from __future__ import annotations

import hashlib
import os

from airflow_provider_mictlanx.client.concurrency import Threads
from airflow_provider_mictlanx.client.errors import IntegrityError
from airflow_provider_mictlanx.client.local_io.atomic_file import PartFile


class Sink:
    """
    Takes pieces at their offsets (bytes), in any order, and returns them.

    :ivar leftover_size: up to here (bytes) an interrupted download may have left something; the rest is empty
    """

    leftover_size = 0

    def write(self, offset: int, data: bytes) -> None:
        """Keep a piece."""
        raise NotImplementedError

    def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return what was written."""
        raise NotImplementedError

    def verified(self, size: int) -> None:
        """Count bytes that are stored and verified: they may be kept if the download is interrupted."""


class MemorySink(Sink):
    """Memory of the ball's size."""

    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(size))

    def write(self, offset: int, data: bytes) -> None:
        """Copy a piece to its place."""
        self.view[offset : offset + len(data)] = data

    def read(self, offset: int, size: int) -> memoryview:
        """Return a view of a piece."""
        return self.view[offset : offset + size]


class FileSink(Sink):
    """A part file."""

    def __init__(self, file: PartFile) -> None:
        self.leftover_size = file.leftover_size
        self._file = file

    def write(self, offset: int, data: bytes) -> None:
        """Write a piece to its place."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file.descriptor, view, offset)
            view, offset = view[written:], offset + written

    def read(self, offset: int, size: int) -> bytes:
        """Read a piece back."""
        return os.pread(self._file.descriptor, size, offset)

    def verified(self, size: int) -> None:
        """Count the verified bytes of the part file."""
        self._file.verified += size


class NullSink(Sink):
    """Discards what it is given: for a read that only verifies."""

    def write(self, offset: int, data: bytes) -> None:
        """Discard a piece."""


BATCH_SIZE = 1024 * 1024
"""Pieces of an answer are hashed and written together, this many bytes at a time, unless it is told otherwise."""


class VerifyingWriter:
    """
    The pieces of one answer: hashed and written at their offset, and compared at the end.

    :param offset: where in the sink they begin (bytes)
    :param batch_size: how many bytes are hashed and written together
    """

    def __init__(self, sink: Sink, threads: Threads, offset: int = 0, batch_size: int = BATCH_SIZE) -> None:
        self._sink = sink
        self._threads = threads
        self._start = offset
        self._batch_size = batch_size
        self.reset()

    def reset(self) -> VerifyingWriter:
        """Forget what another router began to answer."""
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._pending_size = 0
        self._written = 0
        return self

    async def write(self, piece: bytes) -> None:
        """Take a piece; that there are no more than there should be is for the caller to see to."""
        self._parts.append(piece)
        self._pending_size += len(piece)
        if self._pending_size >= self._batch_size:
            await self._flush()

    async def finish(self, origin: str, size: int | None, checksum: str) -> None:
        """
        Write what is left; ``IntegrityError`` where size or SHA-256 is another than it should be.

        :param origin: who gave the bytes, for the error
        :param size: how many it should be (bytes); None where only the checksum is known
        :param checksum: the SHA-256 that it should be, in hex
        """
        await self._flush()
        if size is not None and self._written != size:
            raise IntegrityError(f"{origin} gave {self._written} bytes instead of {size}")
        if self._hash.hexdigest() != checksum:
            raise IntegrityError(f"{origin} gave {self._written} bytes with another SHA-256")

    async def _flush(self) -> None:
        parts, self._parts, size, self._pending_size = self._parts, [], self._pending_size, 0
        if size:
            await self._threads.run_sized(size, self._keep, parts)

    def _keep(self, parts: list[bytes]) -> None:
        for data in parts:  # one by one: joining them would copy them, into memory that stays with the thread
            self._hash.update(data)
            self._sink.write(self._start + self._written, data)
            self._written += len(data)
