"""
Read files of other stores as upload sources, through fsspec filesystems in threads.

A filesystem is any object with ``open(path, "rb")`` and ``info(path)``. A file counts as unchanged while its size and
its ETag, modification time or the like stay the same. The upload compares its SHA-256 too.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from airflow_provider_mictlanx.client.concurrency import PIECE, Threads
from airflow_provider_mictlanx.client.errors import IntegrityError, UnknownError, ValidationError
from airflow_provider_mictlanx.client.local_io.sources import READ_WHOLE_LIMIT, BytesSource, Source

CONTENT_FIELDS = frozenset({"etag", "generation", "version_id", "md5hash", "crc32c"})
"""Fields of ``info`` that identify a file's content, in lower case."""

TIME_FIELDS = frozenset({"lastmodified", "last_modified", "mtime", "updated", "created"})
"""Time fields, used only without a content field: a listing may return other times than ``info``."""


class FileSystem(Protocol):
    """The used part of the fsspec filesystem interface."""

    def open(self, path: str, mode: str) -> BinaryIO:
        """Open a file."""

    def info(self, path: str) -> Mapping[str, Any]:
        """Return a file's ``size``, ``type``, and content or time fields."""


@dataclass(frozen=True, slots=True)
class FsspecFile:
    """
    A file of another store.

    :ivar name: for messages
    :ivar fingerprint: its ``content_fingerprint`` when it was listed; None to accept any content at opening
    """

    fs: FileSystem
    path: str
    name: str
    fingerprint: str | None = None


def content_fingerprint(info: Mapping[str, Any]) -> str:
    """Return a str that changes with a file's content: its size, and its ETag or the like, else its time."""
    fields = [(name, info[name]) for name in sorted(info) if info[name] is not None]
    fingerprint = [f"{name} {mark}" for name, mark in fields if name.lower() in CONTENT_FIELDS]
    fingerprint = fingerprint or [f"{name} {_seconds(time)}" for name, time in fields if name.lower() in TIME_FIELDS]
    return ", ".join([f"{info.get('size')} bytes", *fingerprint])


def _seconds(time: Any) -> str:
    """Return a time as a str, the same for a datetime and a number."""
    seconds = time.timestamp() if isinstance(time, datetime) else time
    return f"{seconds:.3f}" if isinstance(seconds, int | float) else str(seconds)


def find_files(fs: Any, path: str) -> dict[str, Mapping[str, Any]]:
    """
    Return the information about every file below a folder, by path; blocks.

    fsspec's own ``find`` takes a folder that can't be listed for an empty one, so the folders are listed here.
    """
    from fsspec.asyn import AsyncFileSystem  # slow to import, and few tasks need it
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.spec import AbstractFileSystem

    store = fs
    while isinstance(store, DirFileSystem):  # its find is its store's
        store = store.fs
    if isinstance(store, AsyncFileSystem):
        has_own_find = type(store)._find is not AsyncFileSystem._find
    else:
        has_own_find = getattr(type(store), "find", None) is not AbstractFileSystem.find
    if has_own_find:
        return fs.find(path, detail=True)  # type: ignore[no-any-return]
    found: dict[str, Mapping[str, Any]] = {}
    folders = [fs._strip_protocol(path)]
    while folders:
        folder = folders.pop()
        with suppress(FileNotFoundError):
            for info in fs.ls(folder, detail=True):
                if info["type"] != "directory":
                    found[info["name"]] = info
                elif (name := info["name"].rstrip("/")) != folder:
                    folders.append(name)
    return found


class FsspecSource:
    """An open file of another store, read sequentially."""

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
        """Read ``size`` bytes at an offset."""
        parts: list[bytes] = []
        while size > 0:
            data = await self._threads.run(self._read, offset, min(size, PIECE))
            if not data:
                raise IntegrityError(f"{self.name} became shorter during the upload, which was stopped; put it again")
            parts.append(data)
            offset, size = offset + len(data), size - len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read(self, offset: int, size: int) -> bytes:
        with self._lock, _read_errors(self.name):
            self._opened.seek(offset)
            return self._opened.read(size)

    async def check_unchanged(self) -> None:
        """Raise ``IntegrityError`` if the fingerprint changed since the file was opened."""
        _, fingerprint = await self._threads.run(read_info, self._file)
        if fingerprint != self._fingerprint:
            raise IntegrityError(f"{self.name} changed during the upload ({self._fingerprint}; now {fingerprint})")


@asynccontextmanager
async def open_fsspec_file(file: FsspecFile, threads: Threads) -> AsyncIterator[Source]:
    """
    Open a file of another store as a source; a small file is read into memory.

    ``IntegrityError``: it was removed or changed since it was listed. ``UnknownError``: the store failed.
    """
    resources = ExitStack()
    try:
        size, fingerprint = await threads.run(read_info, file)
        if file.fingerprint is not None and fingerprint != file.fingerprint:
            raise IntegrityError(f"{file.name} changed since it was listed ({file.fingerprint}; now {fingerprint})")
        opened = await threads.run(_open, file, resources)
        source = FsspecSource(file, opened, size, fingerprint, threads)
        if size > READ_WHOLE_LIMIT:
            yield source
            return
        data = await source.read(0, size) if size else b""
        await source.check_unchanged()
        yield BytesSource(data, file.name)
    finally:
        await threads.run(resources.close)


def _open(file: FsspecFile, resources: ExitStack) -> BinaryIO:
    with _read_errors(file.name):
        opened = file.fs.open(file.path, "rb")
        resources.callback(opened.close)  # registered at once, so a cancelled caller closes it too
        if not opened.seekable():
            raise ValidationError(f"{file.name} must be seekable; copy it to a file first")
        return opened


def read_info(file: FsspecFile) -> tuple[int, str]:
    """Return a file's current size (bytes) and fingerprint; blocks."""
    with _read_errors(file.name):
        if invalidate := getattr(file.fs, "invalidate_cache", None):
            invalidate(file.path)  # filesystems cache listings
        info = file.fs.info(file.path)
    size = info.get("size")
    if not isinstance(size, int):
        raise ValidationError(f"{file.name} must have a size, got {size!r} from its store; copy it to a file first")
    return size, content_fingerprint(info)


@contextmanager
def _read_errors(name: str) -> Iterator[None]:
    """Raise a store's errors as the client's errors, since each filesystem has its own classes."""
    try:
        yield
    except FileNotFoundError as error:
        raise IntegrityError(f"{name} no longer exists") from error
    except (IntegrityError, ValidationError):
        raise
    except Exception as error:
        raise UnknownError(f"reading {name} failed: {describe_error(error)}", transient=False) from error


def describe_error(error: Exception) -> str:
    """
    Return the class of a store's error and, unless it is an ``OSError``, its place in the code.

    The message is left out, since it may contain the secrets of a signed URL.
    """
    name = type(error).__name__
    if isinstance(error, OSError) or not (frames := traceback.extract_tb(error.__traceback__)):
        return name
    return f"{name} in {frames[-1].name} ({'/'.join(Path(frames[-1].filename).parts[-2:])}, line {frames[-1].lineno})"
