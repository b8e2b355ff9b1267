"""
Files of other stores as sources: read through an fsspec filesystem, whose calls block, in threads.

Imports no fsspec: a filesystem is whatever has ``open(path, "rb")`` and ``info(path)``. What tells that a file is still the
same is its size and its ETag, time or the like, as far as the store tells them; its SHA-256 is compared besides.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Protocol

from airflow_provider_mictlanx.client.concurrency import PIECE, Threads
from airflow_provider_mictlanx.client.errors import IntegrityError, UnknownError, ValidationError
from airflow_provider_mictlanx.client.local_io.sources import READ_WHOLE_LIMIT, BytesSource, Source

CONTENT_FIELDS = frozenset({"etag", "generation", "version_id", "md5hash", "crc32c"})
"""What stores call that which changes with a file's content, in small letters."""

TIME_FIELDS = frozenset({"lastmodified", "last_modified", "mtime", "updated", "created"})
"""What they call its times: they count where there is nothing better, since a listing may tell them otherwise than a look."""


class FileSystem(Protocol):
    """What is used of an fsspec filesystem."""

    def open(self, path: str, mode: str) -> BinaryIO:
        """Open a file."""

    def info(self, path: str) -> Mapping[str, Any]:
        """Tell ``size`` and ``type`` of a file, and what marks its content."""


@dataclass(frozen=True, slots=True)
class FsspecFile:
    """
    A file of another store.

    :ivar name: for people
    :ivar fingerprint: what marked it when it was listed (``content_fingerprint``); None to take it as it is when it is
        opened
    """

    fs: FileSystem
    path: str
    name: str
    fingerprint: str | None = None


def content_fingerprint(info: Mapping[str, Any]) -> str:
    """Give what marks the content of a file, as a text: its size, and its ETag or the like, else its time."""
    told = {name: info[name] for name in sorted(info) if info[name] is not None}
    fingerprint = [f"{name} {mark}" for name, mark in told.items() if name.lower() in CONTENT_FIELDS]
    fingerprint = fingerprint or [
        f"{name} {_seconds(mark)}" for name, mark in told.items() if name.lower() in TIME_FIELDS
    ]
    return ", ".join([f"{info.get('size')} bytes", *fingerprint])


def _seconds(time: Any) -> str:
    """Give a time as a text, the same for every way to tell it."""
    seconds = time.timestamp() if isinstance(time, datetime) else time
    return f"{seconds:.3f}" if isinstance(seconds, int | float) else str(seconds)


class FsspecSource:
    """An open file of another store; its pieces are read one after the other."""

    is_immutable = False

    def __init__(self, file: FsspecFile, opened: BinaryIO, size: int, fingerprint: str, threads: Threads) -> None:
        self.name = file.name
        self.size = size
        self._file = file
        self._opened = opened
        self._fingerprint = fingerprint
        self._threads = threads
        self._lock = threading.Lock()

    async def read(self, offset: int, size: int) -> bytes:
        """Read a piece of the file."""
        parts: list[bytes] = []
        while size > 0:
            data = await self._threads.run(self._read, offset, min(size, PIECE))
            if not data:
                raise IntegrityError(f"{self.name} became shorter while it was read: nothing more is sent of it")
            parts.append(data)
            offset, size = offset + len(data), size - len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read(self, offset: int, size: int) -> bytes:
        with self._lock, _ReadErrors(self.name):
            self._opened.seek(offset)
            return self._opened.read(size)

    async def check_unchanged(self) -> None:
        """Compare what marks it with what marked it at the opening."""
        _, fingerprint = await self._threads.run(read_info, self._file)
        if fingerprint != self._fingerprint:
            raise IntegrityError(f"{self.name} changed while it was read ({self._fingerprint}; now {fingerprint})")


class OpenFsspecFile:
    """
    Opens a file of another store as a source, for ``async with``; a small one is read at once and kept.

    ``IntegrityError``: it is gone, or another one than when it was listed; ``UnknownError``: the store failed.
    """

    def __init__(self, file: FsspecFile, threads: Threads) -> None:
        self._file = file
        self._threads = threads
        self._opened: BinaryIO | None = None

    async def __aenter__(self) -> Source:
        file = self._file
        try:
            size, fingerprint = await self._threads.run(read_info, file)
            if file.fingerprint is not None and fingerprint != file.fingerprint:
                raise IntegrityError(f"{file.name} changed since it was listed ({file.fingerprint}; now {fingerprint})")
            opened = await self._threads.run(self._open)
            source = FsspecSource(file, opened, size, fingerprint, self._threads)
            if size > READ_WHOLE_LIMIT:
                return source
            data = await source.read(0, size) if size else b""
            await source.check_unchanged()
            return BytesSource(data, file.name)
        except BaseException:
            await self._close()
            raise

    async def __aexit__(self, *exc_info: object) -> None:
        await self._close()

    def _open(self) -> BinaryIO:
        with _ReadErrors(self._file.name):
            self._opened = opened = self._file.fs.open(self._file.path, "rb")
            if not opened.seekable():
                raise ValidationError(f"{self._file.name} can't be read from any place in it: copy it to a file first")
            return opened

    async def _close(self) -> None:
        if self._opened is not None:
            opened, self._opened = self._opened, None
            await self._threads.run(opened.close)


def read_info(file: FsspecFile) -> tuple[int, str]:
    """Give a file's size (bytes) and what marks its content, as the store has it now; blocks."""
    with _ReadErrors(file.name):
        if invalidate := getattr(file.fs, "invalidate_cache", None):
            invalidate(file.path)  # filesystems remember what they listed
        info = file.fs.info(file.path)
    size = info.get("size")
    if not isinstance(size, int):
        raise ValidationError(f"{file.name}: its store does not tell its size")
    return size, content_fingerprint(info)


class _ReadErrors:
    """Gives another store's errors as the client's own: each filesystem has its own classes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, exc_type: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise IntegrityError(f"{self._name} is gone") from error
        if isinstance(error, Exception) and not isinstance(error, IntegrityError | ValidationError):
            raise UnknownError(f"{self._name} can't be read: {type(error).__name__}", transient=False) from error
