"""
Bytes or a file → chunks with checksums, without holding them all.

A *cut* is the list of the chunks' sizes. The official client has two (protocol page, *Writing a ball*): its ``put``
appends what is left over to the last chunk, its ``put_file`` makes a chunk of its own of it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import ParamSpec, Protocol, TypeAlias

import humanfriendly

from airflow_provider_mictlanx.client.errors import IntegrityError, ValidationError
from airflow_provider_mictlanx.client.files import path_of
from airflow_provider_mictlanx.client.models import Chunk
from airflow_provider_mictlanx.client.threads import PIECE, Threads

KEPT = 1024 * 1024
"""A file up to this size is read once and kept (bytes)."""

READ_THROUGH = 512 * 1024
"""What is only hashed is read in parts of this size (bytes), which a processor's cache holds."""

P = ParamSpec("P")

Take: TypeAlias = Callable[[bytes | memoryview], object]
"""Is given bytes that it does not keep."""

EMPTY_CHECKSUM = hashlib.sha256().hexdigest()


@dataclass(frozen=True)
class PlannedChunk:
    """One chunk that is to be stored: where it is in its source (bytes), and its SHA-256 in hex."""

    index: int
    offset: int
    size: int
    checksum: str


@dataclass(frozen=True)
class BallPlan:
    """A ball as it is to be stored: bytes, SHA-256 of the whole in hex, and its chunks in order."""

    size: int
    checksum: str
    chunks: tuple[PlannedChunk, ...]


class Source(Protocol):
    """What is uploaded."""

    name: str
    size: int
    kept: bool
    """Whether the bytes cannot change between hashing and sending."""

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Give exactly ``size`` bytes from ``offset`` on, or raise ``IntegrityError`` where there are fewer."""
        ...

    async def check_unchanged(self) -> None:
        """Raise ``IntegrityError`` where the source is seen to have changed since it was opened."""
        ...


class BytesSource:
    """Bytes in memory."""

    kept = True

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
    Chunks in memory that the caller has cut; ``cut`` tells how.

    Raises ``ValidationError`` where an index is missing or there twice, or where one of several chunks is empty.
    """

    kept = True

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = sorted(chunks, key=lambda chunk: chunk.index)
        self.name = "the given chunks"
        if [chunk.index for chunk in self._chunks] != list(range(len(self._chunks))) or not self._chunks:
            indexes = ", ".join(str(chunk.index) for chunk in self._chunks) or "none"
            raise ValidationError(f"chunks have the indexes 0, 1, 2 … without gaps, not {indexes}")
        self.cut = [chunk.size for chunk in self._chunks]
        if len(self.cut) > 1 and 0 in self.cut:
            raise ValidationError(
                f"chunk {self.cut.index(0)} is empty: only a ball of one chunk may be, for no listing shows it"
            )
        self._ends = list(accumulate(self.cut))
        self.size = self._ends[-1]

    async def read(self, offset: int, size: int) -> bytes:
        """Give a piece of the bytes, of as many chunks as it takes."""
        parts: list[bytes] = []
        index = bisect_right(self._ends, offset)
        while size > 0:
            start = offset - (self._ends[index] - self.cut[index])
            part = self._chunks[index].data[start : start + size]
            parts.append(part)
            offset, size, index = offset + len(part), size - len(part), index + 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def check_unchanged(self) -> None:
        """Bytes don't change."""


class FileSource:
    """An open file that is read in pieces, by offset, in a thread."""

    kept = False

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

        :param take: called with it, in the thread that reads it
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
        self._path = path_of(path, "path")
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
        return descriptor, status, None if status.st_size > KEPT else _read_all(descriptor, KEPT + 1)

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


def parse_size(text: str | int, name: str = "chunk_size", least: int = 1) -> int:
    """
    Give a number of bytes.

    :param text: ``"256kb"`` (1 kb = 1,000 bytes), ``"1MiB"`` (1,024 × 1,024) or a number of bytes
    :param name: of the parameter, for the ``ValidationError``
    :param least: the fewest that make sense (bytes)
    """
    try:
        size = text if isinstance(text, int) and not isinstance(text, bool) else humanfriendly.parse_size(text)
    except (humanfriendly.InvalidSize, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise ValidationError(f"{name} is a size such as '256kb', '1MB' or '8MiB', not {text!r}") from error
    if size < least:
        raise ValidationError(f"{name} is {least} bytes or more, not {text!r}")
    return int(size)


def cut_with_long_tail(size: int, chunk_size: int) -> list[int]:
    """Cut as the official ``put`` does: what is left over is appended to the last chunk."""
    whole = max(size // chunk_size, 1)
    return [chunk_size] * (whole - 1) + [size - chunk_size * (whole - 1)]


def cut_with_short_tail(size: int, chunk_size: int) -> list[int]:
    """Cut as the official ``put_file`` does: what is left over is a chunk of its own."""
    whole, rest = divmod(size, chunk_size)
    return [chunk_size] * whole + ([rest] if rest or not whole else [])


def infer_cut(size: int, num_chunks: int, index: int, chunk_size: int) -> list[int] | None:
    """
    Give the even cut (all chunks alike but the last) of which one chunk is known, or None where there is none.

    :param size: of the ball (bytes)
    :param index: of the known chunk
    :param chunk_size: of the known chunk (bytes)
    """
    if num_chunks == 1:
        return [size] if chunk_size == size else None
    if index < num_chunks - 1:
        step = chunk_size
    else:
        step, rest = divmod(size - chunk_size, num_chunks - 1)
        if rest:
            return None
    last = size - step * (num_chunks - 1)
    return [step] * (num_chunks - 1) + [last] if step > 0 and last > 0 else None


async def plan_ball(source: Source, cut: Sequence[int], threads: Threads) -> BallPlan:
    """
    Hash a source, whole and chunk by chunk in one pass; a ball of one chunk is hashed once.

    Raises ``IntegrityError`` where the source changed meanwhile.

    :param cut: sizes of the chunks (bytes); together the size of the source
    """
    hasher = _CutHasher(cut)
    for offset in range(0, source.size, PIECE):
        size = min(PIECE, source.size - offset)
        if isinstance(source, FileSource):
            await source.read_through(offset, size, hasher.update)
        else:
            piece = await source.read(offset, size)
            await threads.run_sized(size, hasher.update, piece)
    await source.check_unchanged()
    checksum, checksums = hasher.result()
    offsets = accumulate(cut, initial=0)
    chunks = tuple(
        PlannedChunk(index, offset, size, chunk_checksum)
        for index, (offset, size, chunk_checksum) in enumerate(zip(offsets, cut, checksums, strict=False))
    )
    return BallPlan(source.size, checksum, chunks)


class _CutHasher:
    """The SHA-256 of a stream and of every chunk of it, given the cut."""

    def __init__(self, cut: Sequence[int]) -> None:
        self._whole = hashlib.sha256() if len(cut) > 1 else None
        self._sizes = iter(cut)
        self._missing = next(self._sizes)
        self._chunk = hashlib.sha256()
        self._checksums: list[str] = []

    def update(self, data: bytes | memoryview) -> None:
        if self._whole:
            self._whole.update(data)
        view = memoryview(data)
        while len(view) > self._missing:
            self._chunk.update(view[: self._missing])
            view = view[self._missing :]
            self._checksums.append(self._chunk.hexdigest())
            self._chunk = hashlib.sha256()
            self._missing = next(self._sizes)
        self._chunk.update(view)
        self._missing -= len(view)

    def result(self) -> tuple[str, list[str]]:
        checksums = [*self._checksums, self._chunk.hexdigest()]
        return (self._whole.hexdigest() if self._whole else checksums[0]), checksums


async def read_planned(source: Source, chunk: PlannedChunk, threads: Threads) -> bytes | memoryview:
    """
    Give the bytes of a chunk as they were hashed.

    Raises ``IntegrityError`` where the source gives other bytes than it gave when it was hashed.
    """
    if source.kept:
        return await source.read(chunk.offset, chunk.size)
    digest = hashlib.sha256()
    if isinstance(source, FileSource):
        data: bytes | memoryview = await source.read(chunk.offset, chunk.size, digest.update)
    else:
        data = await source.read(chunk.offset, chunk.size)
        await threads.run_sized(chunk.size, digest.update, data)
    if digest.hexdigest() != chunk.checksum:
        raise IntegrityError(
            f"{source.name} changed: chunk {chunk.index} ({chunk.size} bytes from {chunk.offset} on) has other bytes "
            "than when it was hashed; nothing more is sent of it. Put it again when nobody writes to it any more"
        )
    return data
