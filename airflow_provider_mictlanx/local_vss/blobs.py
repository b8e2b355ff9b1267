"""
Chunk data: request bodies on their way in, files that appear complete, and bytes on their way out.

A file's name is made of a hash of bucket and key and a random part: no text of a user becomes a path, and no file is written twice.
All files of a peer are in one folder: spread over many folders, new files cost ten times as much on ext4. Only the metadata says
which file belongs to which replica; a file that no metadata names is a leftover, and is removed at the next start.

Small files are read on the event loop, which costs less than a thread; large ones piece by piece in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

SPILL = 16 * 1024 * 1024
"""Bytes of one body that are kept in memory; what is longer goes to a file."""

_FLUSH = 4 * 1024 * 1024


class IncomingBody:
    """
    What a router or a peer received, before it is stored.

    ``add`` collects; whenever ``is_due`` says so, ``flush`` (which blocks) moves what was collected to a file.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"in-{uuid.uuid4().hex}"
        self._hash = hashlib.sha256()
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._hashed: str | None = None
        self.size = 0
        self.spilled = False

    def add(self, piece: bytes) -> None:
        """Take the next piece."""
        self._pending.append(piece)
        self._pending_size += len(piece)
        self.size += len(piece)

    @property
    def is_due(self) -> bool:
        """Whether enough is waiting in memory that it should go to a file."""
        return self._pending_size >= (_FLUSH if self.spilled else SPILL)

    def flush(self) -> None:
        """Move what is waiting to a file."""
        self.spilled = True
        with self._path.open("ab") as file:
            for piece in self._pending:
                self._hash.update(piece)
                file.write(piece)
        self._pending, self._pending_size = [], 0

    def finish(self) -> None:
        """Nothing more will come: work out the checksum."""
        if self.spilled:
            self.flush()
        else:
            for piece in self._pending:
                self._hash.update(piece)
        self._hashed = self._hash.hexdigest()

    @property
    def checksum(self) -> str:
        """SHA-256 of what came, in hex, once it is finished."""
        if self._hashed is None:
            raise RuntimeError("the body is not finished")
        return self._hashed

    @property
    def pieces(self) -> list[bytes] | None:
        """What came, if all of it is in memory."""
        return None if self.spilled else self._pending

    def write_to(self, path: Path, *, fsync: bool) -> None:
        """Write all of it to a new file."""
        with path.open("xb", buffering=0) as file:
            if self.spilled:
                with self._path.open("rb") as source:
                    shutil.copyfileobj(source, file, _FLUSH)
            else:
                for piece in self._pending if len(self._pending) < 4 else [b"".join(self._pending)]:
                    _write_all(file.fileno(), piece)
            if fsync:
                os.fsync(file.fileno())

    def discard(self) -> None:
        """Remove the file, if there is one."""
        if self.spilled:
            self._path.unlink(missing_ok=True)


class BlobFolder:
    """
    The files of one peer.

    :param folder: made if missing
    :param fsync: whether a file and its name are on the disk, not only with the operating system, before it counts
    """

    def __init__(self, folder: Path, *, fsync: bool) -> None:
        self.folder = folder
        self._fsync = fsync
        folder.mkdir(parents=True, exist_ok=True)

    def store(self, bucket_id: str, key: str, body: IncomingBody) -> str:
        """Write a body to a file that appears whole, and give the file's name."""
        digest = hashlib.sha256(f"{bucket_id}\0{key}".encode("utf-8", "surrogatepass")).hexdigest()
        name = f"{digest[:32]}-{uuid.uuid4().hex[:12]}"
        path = self.folder / name
        temporary = self.folder / f"{name}.part"
        try:
            body.write_to(temporary, fsync=self._fsync)
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if self._fsync:
            _fsync_folder(self.folder)
        return name

    def path(self, name: str) -> Path:
        """Give the path of a stored file."""
        return self.folder / name

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are gone already do not matter."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def sweep(self, in_use: set[str], before: float) -> int:
        """
        Remove files that belong to nothing, left behind by a process that was killed; gives how many there were.

        :param in_use: the names that the metadata knows
        :param before: only files last changed before this time (seconds since 1970): later ones may be on their way in
        """
        removed = 0
        for entry in os.scandir(self.folder):
            if entry.name not in in_use and entry.stat().st_mtime < before:
                (self.folder / entry.name).unlink(missing_ok=True)
                removed += 1
        return removed


def empty_folder(folder: Path) -> Path:
    """Make the folder for bodies on their way in, without what an earlier process left there."""
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob("in-*"):
        left_over.unlink(missing_ok=True)
    return folder


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
