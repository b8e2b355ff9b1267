"""Upload sources: bytes, chunks or a file, read by offset."""

from __future__ import annotations

import errno
import os
import stat
import threading
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Protocol, TypeAlias

from airflow_provider_mictlanx.client.chunks import Chunk
from airflow_provider_mictlanx.client.concurrency import Threads
from airflow_provider_mictlanx.client.errors import IntegrityError, ValidationError
from airflow_provider_mictlanx.client.local_io.atomic_file import check_path
from airflow_provider_mictlanx.client.transport.backend import SLICE

READ_WHOLE_LIMIT = 1024 * 1024
"""Up to this size (bytes), a file is read into memory at once."""

READ_THROUGH = 512 * 1024
"""Buffer size for bytes that are only hashed; it fits into a processor's cache."""

Take: TypeAlias = Callable[[bytes | memoryview], object]
"""A function that processes bytes and keeps no reference to them."""


class Source(Protocol):
    """The bytes of an upload."""

    name: str
    size: int
    is_immutable: bool
    """True if the bytes cannot change between hashing and sending."""

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return exactly ``size`` bytes at ``offset``; raise ``IntegrityError`` if fewer exist."""
        ...

    async def check_unchanged(self) -> None:
        """Raise ``IntegrityError`` if the source changed since it was opened, as far as that is known."""
        ...


class BytesSource:
    """Bytes in memory."""

    is_immutable = True

    def __init__(self, data: bytes, name: str = "the given bytes") -> None:
        self.name = name
        self.data = data
        self.size = len(data)

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return ``size`` bytes at ``offset`` without copying."""
        return self.data if size == self.size else memoryview(self.data)[offset : offset + size]

    async def check_unchanged(self) -> None:
        """Return at once, since bytes in memory do not change."""


class ChunksSource:
    """
    The caller's chunks in memory; ``layout`` contains their sizes.

    Raises ``ValidationError`` if an index is missing or duplicate, or if one of several chunks is empty.
    """

    is_immutable = True

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = sorted(chunks, key=lambda chunk: chunk.index)
        self.name = "the given chunks"
        if [chunk.index for chunk in self._chunks] != list(range(len(self._chunks))) or not self._chunks:
            indexes = ", ".join(str(chunk.index) for chunk in self._chunks) or "none"
            raise ValidationError(f"chunks must have the indexes 0, 1, 2 … without gaps, got {indexes}")
        self.layout = [chunk.size for chunk in self._chunks]
        if len(self.layout) > 1 and 0 in self.layout:
            raise ValidationError(
                f"chunk {self.layout.index(0)} must not be empty unless it is the only one; listings omit empty chunks"
            )
        self._ends = list(accumulate(self.layout))
        self.size = self._ends[-1]

    async def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes at ``offset``, from one chunk or several."""
        parts: list[bytes] = []
        index = bisect_right(self._ends, offset)
        while size > 0:
            start = offset - (self._ends[index] - self.layout[index])
            part = self._chunks[index].data[start : start + size]
            parts.append(part)
            offset, size, index = offset + len(part), size - len(part), index + 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def check_unchanged(self) -> None:
        """Return at once, since bytes in memory do not change."""


class HashedFile:
    """A file that was hashed before, and is announced without opening it again."""

    is_immutable = False

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size

    async def read(self, offset: int, size: int) -> bytes:
        """Raise ``IntegrityError``, since the file is not open."""
        raise IntegrityError(f"{self.name} was hashed in another chunk layout; put it again")

    async def check_unchanged(self) -> None:
        """Return at once; the bytes are compared with the hash when they are sent."""


class SharedDescriptor:
    """
    A file descriptor that is closed after its last use.

    An HTTP engine may cancel the sending of a body, and so a read in a thread, without waiting for it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._users = 1
        self._lock = threading.Lock()

    @contextmanager
    def use(self) -> Iterator[int]:
        """Return the descriptor, and keep it open within the block; raise ``OSError`` if it is closed."""
        with self._lock:
            if not self._users:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self._users += 1
        try:
            yield self._descriptor
        finally:
            self.release()

    def release(self) -> None:
        """End one use; its creator's is the first."""
        with self._lock:
            self._users -= 1
            if not self._users:
                os.close(self._descriptor)


class FileSource:
    """An open file, read by offset in threads."""

    is_immutable = False

    def __init__(self, path: Path, descriptor: SharedDescriptor, status: os.stat_result, threads: Threads) -> None:
        self.name = str(path)
        self.size = status.st_size
        self._descriptor = descriptor
        self._status = status
        self._threads = threads
        self._part: memoryview | None = None

    async def read(self, offset: int, size: int, take: Take | None = None) -> memoryview:
        """
        Read ``size`` bytes at ``offset``.

        The event loop's thread allocates the memory: what a pool thread allocates stays with the process for long.

        :param take: called with the bytes in the reading thread
        """
        buffer = memoryview(bytearray(size))
        await self._threads.run_sized(size, self._fill, buffer, offset, take)
        return buffer.toreadonly()

    async def read_slices(self, offset: int, size: int, take: Take) -> list[memoryview]:
        """Read bytes as ``read`` does, in slices that the caller can drop one by one as it sends them."""
        slices = [memoryview(bytearray(min(SLICE, size - start))) for start in range(0, size, SLICE)]
        await self._threads.run(self._fill_all, slices, offset, take)
        return slices

    def _fill_all(self, slices: list[memoryview], offset: int, take: Take) -> None:
        for buffer in slices:
            self._fill(buffer, offset, take)
            offset += len(buffer)

    async def read_through(self, offset: int, size: int, take: Take) -> None:
        """Read ``size`` bytes at ``offset`` and pass them part by part to ``take``, in the reading thread."""
        if self._part is None:
            self._part = memoryview(bytearray(READ_THROUGH))
        await self._threads.run(self._read_parts, self._part, offset, offset + size, take)

    def _read_parts(self, part: memoryview, offset: int, end: int, take: Take) -> None:
        for start in range(offset, end, len(part)):
            self._fill(part[: end - start], start, take)

    def _fill(self, buffer: memoryview, offset: int, take: Take | None) -> None:
        filled = 0
        with self._descriptor.use() as descriptor:
            while filled < len(buffer):
                try:
                    read = os.preadv(descriptor, [buffer[filled:]], offset + filled)
                except OSError as error:
                    error.filename = self.name
                    raise
                if not read:
                    raise IntegrityError(
                        f"{self.name} became shorter during the upload, which was stopped; put it again"
                    )
                filled += read
        if take:
            take(buffer)

    async def check_unchanged(self) -> None:
        """Raise ``IntegrityError`` if size or modification time changed since the file was opened."""
        with self._descriptor.use() as descriptor:
            now = os.fstat(descriptor)
        if (now.st_size, now.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns):
            raise IntegrityError(f"{self.name} changed during the upload, which was stopped; put it again")


@asynccontextmanager
async def open_file(path: str | os.PathLike[str], threads: Threads) -> AsyncIterator[Source]:
    """
    Open a file as a source; a small file is read into memory.

    Raises ``ValidationError`` if the path does not exist, is not a regular file, or is not readable.
    """
    if path == "":
        raise ValidationError("path must be the path of a file, got ''")
    checked = check_path(path, "path")
    resources = ExitStack()
    try:
        descriptor, status, data = await threads.run(_open, checked, resources)
        if data is None:
            yield FileSource(checked, descriptor, status, threads)
        elif len(data) == status.st_size:
            yield BytesSource(data, str(checked))
        else:
            raise IntegrityError(f"{checked} changed while it was read, so nothing was sent; put it again")
    finally:
        resources.close()


def _open(path: Path, resources: ExitStack) -> tuple[SharedDescriptor, os.stat_result, bytes | None]:
    """Open a regular file; return its descriptor and status, and its bytes if it is small."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ValidationError(f"path must be an existing file, got {str(path)!r}") from error
    except OSError as error:
        raise ValidationError(f"path must be a readable file, got {str(path)!r}: {error.strerror}") from error
    shared = SharedDescriptor(descriptor)
    resources.callback(shared.release)  # registered at once, so a cancelled caller closes it too
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a special file"
        raise ValidationError(f"path must be a regular file, got {kind}: {str(path)!r}")
    if status.st_size > READ_WHOLE_LIMIT:
        return shared, status, None
    with open(descriptor, "rb", closefd=False) as file:
        return shared, status, file.read(READ_WHOLE_LIMIT + 1)
