"""
Stored bytes on their way out. Standard library only.

Small files are read at once on the event loop, which costs less than a thread would; large ones piece by piece in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

INLINE = 256 * 1024
PIECE = 1024 * 1024


@dataclass(frozen=True)
class Data:
    """
    The bytes of a chunk, in memory (``held``) or in a file (``path``).

    :ivar content_type: as it was announced
    :ivar flip: whether one bit of it is read wrong
    """

    content_type: str
    held: Sequence[bytes] | None = None
    path: Path | None = None
    size: int = 0
    flip: bool = False

    @classmethod
    def in_memory(cls, pieces: Sequence[bytes], content_type: str) -> Data:
        """Give the bytes as data that is held in memory."""
        return cls(content_type, held=tuple(pieces), size=sum(map(len, pieces)))

    async def pieces(self, threads: Executor, piece_size: int = PIECE) -> AsyncIterator[bytes]:
        """Give the bytes piece by piece; a file that went away meanwhile raises ``OSError`` before the first piece."""
        flip = self.flip
        async for piece in self._unharmed(threads, min(piece_size, PIECE)):
            yield flipped(piece) if flip else piece
            flip = False

    async def _unharmed(self, threads: Executor, piece_size: int) -> AsyncIterator[bytes]:
        if self.held is not None or self.path is None:
            for piece in self.held or ():
                yield piece
            return
        if self.size <= INLINE:
            yield self.path.read_bytes()
            return
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(threads, self.path.open, "rb", 0)
        try:
            while piece := await loop.run_in_executor(threads, file.read, piece_size):
                yield piece
        finally:
            file.close()


def flipped(piece: bytes) -> bytes:
    """Give the piece with its first bit the other way round."""
    return bytes([piece[0] ^ 0x80]) + piece[1:] if piece else piece
