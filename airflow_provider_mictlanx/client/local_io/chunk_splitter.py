"""
Split a source into chunks with checksums, without holding all of them in memory.

A *layout* is the list of chunk sizes. The official client has two (protocol page, *Writing a ball*): ``put`` appends
the remainder to the last chunk, and ``put_file`` stores it as a separate chunk.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, starmap

from humanfriendly.text import pluralize

from airflow_provider_mictlanx.client.concurrency import PIECE, Threads
from airflow_provider_mictlanx.client.errors import IntegrityError
from airflow_provider_mictlanx.client.local_io.sources import FileSource, Source
from airflow_provider_mictlanx.client.transport.backend import SizedBody

STREAMED_PIECE = 1024 * 1024
"""Number of bytes of a file that are read at once while they are sent; a smaller chunk is read before it is sent."""


@dataclass(frozen=True)
class PlannedChunk:
    """One chunk to be stored: its offset in the source and size (bytes), and its SHA-256 in hex."""

    index: int
    offset: int
    size: int
    checksum: str


@dataclass(frozen=True)
class ChunkManifest:
    """A ball to be stored: its size (bytes), its SHA-256 in hex, and its chunks in order."""

    size: int
    checksum: str
    chunks: tuple[PlannedChunk, ...]

    @classmethod
    def from_layout(cls, layout: Sequence[int], checksums: Iterable[str], checksum: str) -> ChunkManifest:
        """Build the manifest of a ball from the sizes and the SHA-256 of its chunks, and its own SHA-256."""
        offsets = accumulate(layout, initial=0)
        chunks = starmap(PlannedChunk, zip(range(len(layout)), offsets, layout, checksums, strict=False))
        return cls(sum(layout), checksum, tuple(chunks))


def layout_with_long_tail(size: int, chunk_size: int) -> list[int]:
    """Return the layout of the official ``put``, which appends the remainder to the last chunk."""
    count = max(size // chunk_size, 1)
    return [chunk_size] * (count - 1) + [size - chunk_size * (count - 1)]


def layout_with_short_tail(size: int, chunk_size: int) -> list[int]:
    """Return the layout of the official ``put_file``, which stores the remainder as a separate chunk."""
    count, rest = divmod(size, chunk_size)
    return [chunk_size] * count + ([rest] if rest or not count else [])


def infer_layout(size: int, num_chunks: int, index: int, chunk_size: int) -> list[int] | None:
    """
    Return the layout that contains a known chunk and whose chunks have equal size except the last.

    None if no such layout exists.

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


async def hash_source(source: Source, layout: Sequence[int], threads: Threads) -> ChunkManifest:
    """
    Hash a source and each of its chunks in one pass.

    Raises ``IntegrityError`` if the source changed meanwhile.

    :param layout: sizes of the chunks (bytes), which add up to the source's size
    """
    hasher = _LayoutHasher(layout)
    for offset in range(0, source.size, PIECE):
        size = min(PIECE, source.size - offset)
        if isinstance(source, FileSource):
            await source.read_through(offset, size, hasher.update)
        else:
            piece = await source.read(offset, size)
            await threads.run_sized(size, hasher.update, piece)
    await source.check_unchanged()
    checksum, checksums = hasher.result()
    return ChunkManifest.from_layout(layout, checksums, checksum)


class _LayoutHasher:
    """Computes the SHA-256 of a stream and of each of its chunks; a stream of one chunk is hashed once."""

    def __init__(self, layout: Sequence[int]) -> None:
        self._total = hashlib.sha256() if len(layout) > 1 else None
        self._sizes = iter(layout)
        self._missing = next(self._sizes)
        self._chunk = hashlib.sha256()
        self._checksums: list[str] = []

    def update(self, data: bytes | memoryview) -> None:
        if self._total:
            self._total.update(data)
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
        return (self._total.hexdigest() if self._total else checksums[0]), checksums


async def read_planned(source: Source, chunk: PlannedChunk, threads: Threads) -> bytes | memoryview | SizedBody:
    """
    Read the bytes of a chunk. A large chunk of a file is not read here, but while it is sent.

    Raises ``IntegrityError`` if they changed since the source was hashed.
    """
    if source.is_immutable:
        return await source.read(chunk.offset, chunk.size)
    digest = hashlib.sha256()
    if isinstance(source, FileSource):
        if chunk.size > STREAMED_PIECE:
            return FileChunk(source, chunk)
        data: bytes | memoryview = await source.read(chunk.offset, chunk.size, digest.update)
    else:
        data = await source.read(chunk.offset, chunk.size)
        await threads.run_sized(chunk.size, digest.update, data)
    if digest.hexdigest() != chunk.checksum:
        raise _changed(source, chunk)
    return data


class FileChunk(SizedBody):
    """
    A chunk of a file, read and hashed piece by piece while it is sent.

    The last piece is sent only if the chunk has not changed since it was hashed, so no server gets a complete body of
    other bytes.
    """

    def __init__(self, source: FileSource, chunk: PlannedChunk) -> None:
        self.size = chunk.size
        self._source = source
        self._chunk = chunk

    async def __aiter__(self) -> AsyncGenerator[memoryview]:
        """Read the pieces; raise ``IntegrityError`` if the bytes changed since the source was hashed."""
        chunk, digest = self._chunk, hashlib.sha256()
        end = chunk.offset + chunk.size
        for offset in range(chunk.offset, end, STREAMED_PIECE):
            size = min(STREAMED_PIECE, end - offset)
            slices = await self._source.read_slices(offset, size, digest.update)
            if offset + size == end and digest.hexdigest() != chunk.checksum:
                raise _changed(self._source, chunk)
            while slices:
                yield slices.pop(0)


def _changed(source: Source, chunk: PlannedChunk) -> IntegrityError:
    return IntegrityError(
        f"{source.name} changed during the upload: chunk {chunk.index} ({pluralize(chunk.size, 'byte')} "
        f"at offset {chunk.offset}) differs from when it was hashed, so the upload was "
        "stopped; put it again when nothing writes to it"
    )
