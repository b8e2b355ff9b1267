"""Sources of an upload: bytes, chunks or a file, read in pieces."""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import ParamSpec, Protocol, TypeAlias

from airflow_provider_mictlanx.client.concurrency import Threads
from airflow_provider_mictlanx.client.errors import IntegrityError, ValidationError
from airflow_provider_mictlanx.client.local_io.atomic_file import check_path
from airflow_provider_mictlanx.client.models import Chunk

P = ParamSpec("P")


READ_WHOLE_LIMIT = 1024 * 1024
"""A file up to this size is read once and kept (bytes)."""

READ_THROUGH = 512 * 1024
"""What is only hashed is read in parts of this size (bytes), which a processor's cache holds."""

Take: TypeAlias = Callable[[bytes | memoryview], object]
"""Is given bytes that it does not keep."""


class Source(Protocol):
    """What is uploaded."""

    name: str
    size: int
    is_immutable: bool
    """Whether the bytes cannot change between hashing and sending."""

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Give exactly ``size`` bytes from ``offset`` on, or raise ``IntegrityError`` where there are fewer."""
        ...

    async def check_unchanged(self) -> None:
        """Raise ``IntegrityError`` where the source is seen to have changed since it was opened."""
        ...


class BytesSource:
    """Bytes in memory."""

    is_immutable = True

    def __init__(self, data: bytes, name: str = "the given bytes") -> None:
        self.name = name
        self.data = data
        self.size = len(data)

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Give a piece of the bytes; nothing is copied."""
        return self.data if size == self.size else memoryview(self.data)[offset : offset + size]

    async def check_unchanged(self) -> None:
        """Bytes don't change."""


class ChunksSource:
    """
    Chunks in memory that the caller has cut; ``layout`` tells how.

    Raises ``ValidationError`` where an index is missing or there twice, or where one of several chunks is empty.
    """

    is_immutable = True

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = sorted(chunks, key=lambda chunk: chunk.index)
        self.name = "the given chunks"
        if [chunk.index for chunk in self._chunks] != list(range(len(self._chunks))) or not self._chunks:
            indexes = ", ".join(str(chunk.index) for chunk in self._chunks) or "none"
            raise ValidationError(f"chunks have the indexes 0, 1, 2 … without gaps, not {indexes}")
        self.layout = [chunk.size for chunk in self._chunks]
        if len(self.layout) > 1 and 0 in self.layout:
            raise ValidationError(
                f"chunk {self.layout.index(0)} is empty: only a ball of one chunk may be, for no listing shows it"
            )
        self._ends = list(accumulate(self.layout))
        self.size = self._ends[-1]

    async def read(self, offset: int, size: int) -> bytes:
        """Give a piece of the bytes, of as many chunks as it takes."""
        parts: list[bytes] = []
        index = bisect_right(self._ends, offset)
        while size > 0:
            start = offset - (self._ends[index] - self.layout[index])
            part = self._chunks[index].data[start : start + size]
            parts.append(part)
            offset, size, index = offset + len(part), size - len(part), index + 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def check_unchanged(self) -> None:
        """Bytes don't change."""


class FileSource:
    """An open file that is read in pieces, by offset, in a thread."""

    is_immutable = False

    def __init__(self, path: Path, descriptor: int, status: os.stat_result, threads: Threads) -> None:
        self.name = str(path)
        self.size = status.st_size
        self._descriptor = descriptor
        self._status = status
        self._threads = threads
        self._part: memoryview | None = None

    async def read(self, offset: int, size: int, take: Take | None = None) -> memoryview:
        """
        Read a piece of the file.

        Its memory is the event loop's thread's: what threads allocate and others free stays with the process for long.

        :param write: called with it, in the thread that reads it
        """
        buffer = memoryview(bytearray(size))
        await self._filled(_read_at_once, self._descriptor, offset, buffer, take)
        return buffer.toreadonly()

    async def read_through(self, offset: int, size: int, take: Take) -> None:
        """Read a piece of the file and hand it on part by part, in the thread that reads it; nothing of it is kept."""
        if self._part is None:
            self._part = memoryview(bytearray(READ_THROUGH))
        await self._filled(_read_in_parts, self._descriptor, offset, size, self._part, take)

    async def _filled(self, read: Callable[P, bool], *args: P.args, **kwargs: P.kwargs) -> None:
        if not await self._threads.run(read, *args, **kwargs):
            raise IntegrityError(f"{self.name} became shorter while it was read: nothing more is sent of it")

    async def check_unchanged(self) -> None:
        """Compare size and time with those at the opening."""
        now = os.fstat(self._descriptor)
        if (now.st_size, now.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns):
            raise IntegrityError(f"{self.name} changed while it was read: nothing more is sent of it")


def _read_at_once(descriptor: int, offset: int, buffer: memoryview, take: Take | None) -> bool:
    """Fill a buffer; tells whether there was enough."""
    filled = 0
    while filled < len(buffer):
        if not (read := os.preadv(descriptor, [buffer[filled:]], offset + filled)):
            return False
        filled += read
    if take:
        take(buffer)
    return True


def _read_in_parts(descriptor: int, offset: int, size: int, part: memoryview, take: Take) -> bool:
    """Read so many bytes by way of one buffer; tells whether there were as many."""
    end = offset + size
    while offset < end:
        if not (read := os.preadv(descriptor, [part[: end - offset]], offset)):
            return False
        take(part[:read])
        offset += read
    return True


class OpenFile:
    """
    Opens a file as a source, for ``async with``; a small one is read at once and kept.

    Raises ``ValidationError`` where there is no such file, where it is none, or where it may not be read.
    """

    def __init__(self, path: str | os.PathLike[str], threads: Threads) -> None:
        if path == "":
            raise ValidationError("path is empty: the path of a file is wanted")
        self._path = check_path(path, "path")
        self._threads = threads
        self._descriptor: int | None = None

    async def __aenter__(self) -> Source:
        try:
            descriptor, status, data = await self._threads.run(self._open)
            if data is None:
                return FileSource(self._path, descriptor, status, self._threads)
            if len(data) != status.st_size:
                raise IntegrityError(f"{self._path} changed while it was read: nothing of it was sent")
            return BytesSource(data, str(self._path))
        except BaseException:
            self._close()
            raise

    async def __aexit__(self, *exc_info: object) -> None:
        self._close()

    def _open(self) -> tuple[int, os.stat_result, bytes | None]:
        self._descriptor = descriptor = _open_regular(self._path)  # kept at once: a cancelled caller closes it too
        status = os.fstat(descriptor)
        return (
            descriptor,
            status,
            None if status.st_size > READ_WHOLE_LIMIT else _read_all(descriptor, READ_WHOLE_LIMIT + 1),
        )

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _read_all(descriptor: int, most: int) -> bytes:
    parts: list[bytes] = []
    while most and (data := os.read(descriptor, most)):
        parts.append(data)
        most -= len(data)
    return b"".join(parts)


def _open_regular(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ValidationError(f"there is no file {path}") from error
    except OSError as error:
        raise ValidationError(f"{path} can't be read: {error.strerror}") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise ValidationError(f"{path} is {what}: a single file is wanted here")
    return descriptor
