"""Data of chunks: received request bodies, and bytes to send."""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

INLINE = 256 * 1024
"""Up to this size (bytes), data is hashed, written and read on the event loop, which costs less than a thread."""

PIECE = 1024 * 1024
"""Size of one read of a file (bytes)."""

_IN_MEMORY = 16 * 1024 * 1024


async def run_by_size(size: int, function: Callable[[], T]) -> T:
    """Run a blocking function that works on ``size`` bytes, in a thread if they are many."""
    return function() if size <= INLINE else await asyncio.to_thread(function)


class IncomingBody:
    """
    A received request body, in memory or, if it is long, in an unnamed file.

    :param folder: folder of that file, which disappears with the process
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(folder))  # noqa: SIM115 (close)
        self.size = 0
        self.checksum = ""

    async def receive(self, pieces: AsyncIterator[bytes]) -> None:
        """Collect all pieces."""
        async for piece in pieces:
            self._file.write(piece)
            self.size += len(piece)

    async def finish(self) -> None:
        """Set ``checksum``, after the last piece."""
        digest = await run_by_size(self.size, lambda: hashlib.sha256(self.content))
        self.checksum = digest.hexdigest()

    @property
    def is_in_memory(self) -> bool:
        """Return whether the bytes are in memory rather than in a file."""
        return self.size <= _IN_MEMORY

    @cached_property
    def content(self) -> bytes | mmap.mmap:
        """Return the complete bytes."""
        self._file.seek(0)
        return self._file.read() if self.is_in_memory else mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)

    def close(self) -> None:
        """Close the file, which deletes it."""
        self._file.close()


@dataclass(frozen=True)
class ChunkData:
    """
    The bytes of a chunk, in memory or in an open file.

    :ivar content_type: the announced one
    :ivar flip: invert the first bit
    """

    content_type: str
    content: bytes | IO[bytes]
    size: int
    flip: bool = False

    async def pieces(self, piece_size: int = PIECE) -> AsyncIterator[bytes | memoryview]:
        """Yield the bytes piece by piece."""
        piece_size = min(piece_size, INLINE if isinstance(self.content, bytes) else PIECE)
        for start in range(0, self.size, piece_size):
            if isinstance(self.content, bytes):
                piece: bytes | memoryview = memoryview(self.content)[start : start + piece_size]
            else:
                piece = await asyncio.to_thread(self.content.read, piece_size)
            yield bytes([piece[0] ^ 0x80]) + piece[1:] if self.flip and not start else piece
