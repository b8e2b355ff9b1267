"""
Download sinks (memory, a file, or none), and a writer that hashes what it writes.

Several threads may call a sink's methods at once, for byte ranges that do not overlap.
"""

from __future__ import annotations

import hashlib
import os

from humanfriendly.text import pluralize

from airflow_provider_mictlanx.client.concurrency import Threads
from airflow_provider_mictlanx.client.errors import GetChunkError, IntegrityError
from airflow_provider_mictlanx.client.local_io.atomic_file import PartFile


class Sink:
    """
    Stores bytes at offsets, in any order, and reads them back.

    :ivar leftover_size: number of bytes that an interrupted download may have left at the beginning
    """

    leftover_size = 0

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes at an offset."""
        raise NotImplementedError

    def read(self, offset: int, buffer: memoryview) -> memoryview:
        """Return as many bytes at an offset as fit into a buffer, which may hold them; fewer at the end."""
        raise NotImplementedError

    def verified(self, size: int) -> None:
        """Count verified bytes, which an interrupted download may keep."""


class MemorySink(Sink):
    """A buffer of the ball's size in memory."""

    def __init__(self, size: int) -> None:
        try:
            self.view = memoryview(bytearray(size))
        except (MemoryError, OverflowError):  # any writer can announce any size
            raise GetChunkError(
                f"{size} bytes do not fit into memory; read the object into a file", transient=False
            ) from None

    def write(self, offset: int, data: bytes) -> None:
        """Copy bytes into the buffer."""
        self.view[offset : offset + len(data)] = data

    def read(self, offset: int, buffer: memoryview) -> memoryview:
        """Return a view of the ball, without copying."""
        return self.view[offset : offset + len(buffer)]


class FileSink(Sink):
    """A part file."""

    def __init__(self, file: PartFile) -> None:
        self.leftover_size = file.leftover_size
        self._file = file

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes to the file."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file.descriptor, view, offset)
            view, offset = view[written:], offset + written

    def read(self, offset: int, buffer: memoryview) -> memoryview:
        """Read bytes from the file into the buffer."""
        return buffer[: os.preadv(self._file.descriptor, [buffer], offset)]

    def verified(self, size: int) -> None:
        """Count verified bytes of the part file."""
        self._file.verified += size


class NullSink(Sink):
    """Discards all bytes, for a read that only verifies."""

    def write(self, offset: int, data: bytes) -> None:
        """Discard the bytes."""


BATCH_SIZE = 1024 * 1024
"""Default number of bytes that are hashed and written together."""


class VerifyingWriter:
    """
    Hashes the body of one answer while writing it to a sink, and verifies it at the end.

    :param offset: of the body in the sink (bytes)
    :param batch_size: number of bytes that are hashed and written together
    """

    def __init__(self, sink: Sink, threads: Threads, offset: int = 0, batch_size: int = BATCH_SIZE) -> None:
        self._sink = sink
        self._threads = threads
        self._start = offset
        self._batch_size = batch_size
        self.reset()

    def reset(self) -> VerifyingWriter:
        """Start anew, because another router answers from the beginning."""
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._pending_size = 0
        self._written = 0
        return self

    async def write(self, piece: bytes) -> None:
        """Add a piece of the body; the caller limits the total size."""
        self._parts.append(piece)
        self._pending_size += len(piece)
        if self._pending_size >= self._batch_size:
            await self._flush()

    async def finish(self, origin: str, size: int | None, checksum: str) -> None:
        """
        Write the remaining bytes; raise ``IntegrityError`` if the size or the SHA-256 is wrong.

        :param origin: the sender of the bytes, for the error
        :param size: expected size (bytes); None if only the checksum is known
        :param checksum: expected SHA-256, in hex
        """
        await self._flush()
        if size is not None and self._written != size:
            raise IntegrityError(f"{origin} returned {pluralize(self._written, 'byte')} instead of {size}")
        if self._hash.hexdigest() != checksum:
            raise IntegrityError(f"{origin} returned {pluralize(self._written, 'byte')} with a wrong SHA-256")

    async def _flush(self) -> None:
        parts, self._parts, size, self._pending_size = self._parts, [], self._pending_size, 0
        if size:
            await self._threads.run_sized(size, self._keep, parts)

    def _keep(self, parts: list[bytes]) -> None:
        for data in parts:  # not joined, which would copy them into memory that stays with the thread
            self._hash.update(data)
            self._sink.write(self._start + self._written, data)
            self._written += len(data)
