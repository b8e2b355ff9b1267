"""Open files: they read chunk by chunk, and they store what was written when they are closed without an error."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import sys
import tempfile
import threading
import types
from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from itertools import accumulate
from typing import IO, TYPE_CHECKING, Any, Self

from fsspec.asyn import AbstractAsyncStreamedFile
from fsspec.spec import AbstractBufferedFile

from airflow_provider_mictlanx.client.local_io.chunk_sizes import concurrency_for
from airflow_provider_mictlanx.client.models import Ball
from airflow_provider_mictlanx.fs.background_hash import BackgroundHash
from airflow_provider_mictlanx.fs.calls import wait_for
from airflow_provider_mictlanx.fs.directories import Info, file_info

if TYPE_CHECKING:
    from airflow_provider_mictlanx.fs.filesystem import MictlanXFileSystem

KEPT_IN_MEMORY = 4_000_000
"""Up to this size (bytes), written data is kept in memory; more goes to a temporary file."""

LINE_BLOCK = 65_536
"""Bytes that ``readline`` reads at once."""

MAX_WRAPPERS = 8
"""Maximum number of callers that are searched for the ``__exit__`` of a wrapper."""


class ReadFile(AbstractBufferedFile):  # type: ignore[misc]
    """
    An object opened for reading. It reads the version that was the newest when it was opened.

    Every chunk is verified. If the file is read from the beginning to the end, the SHA-256 of the complete object is
    verified too. Sequential reads load the next chunks in advance, at most 32 MB. After a
    jump, these still go into the cache of the process.

    :param ball: the version to read
    """

    loc: int

    def __init__(
        self,
        fs: MictlanXFileSystem,
        path: str,
        ball: Ball,
        block_size: int | str | None = None,
        cache_type: str = "none",
        cache_options: dict[str, Any] | None = None,
        autocommit: bool = True,
    ) -> None:
        self._ball = ball
        self._sizes = [chunk.size for chunk in ball.chunks]
        self._ends = list(accumulate(self._sizes))
        self._ahead: dict[int, Future[memoryview]] = {}
        self._current: tuple[int, memoryview] = (-1, memoryview(b""))
        self._window = 0
        self._hashed = 0
        self._hash = hashlib.sha256()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._details: Info | None = file_info(ball) | {"name": path}
        super().__init__(
            fs,
            path,
            "rb",
            block_size or "default",
            autocommit,
            cache_type=cache_type,
            cache_options=cache_options,
            size=ball.size,
            checksum=ball.checksum,  # so that an unpickled file is of the same version
        )

    def read(self, length: int | None = -1) -> bytes:
        """Return the next ``length`` bytes, or all that follow."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        start = self.loc
        end = self.size if length is None or length < 0 else min(start + length, self.size)
        # Set before the bytes arrive: DuckDB's threads share a file, and each sets the position before it reads.
        self.loc = max(start, end)
        return bytes(self.cache._fetch(start, end))

    def _fetch_range(self, start: int, end: int) -> bytes:
        end = min(end, self.size)
        if start >= end:
            return b""
        with self._lock:
            return self._join_chunks(start, end)

    def _join_chunks(self, start: int, end: int) -> bytes:
        first, last = bisect_right(self._ends, start), bisect_right(self._ends, end - 1)
        parts = []
        for index in range(first, last + 1):
            begin = self._ends[index] - self._sizes[index]
            parts.append(self._chunk(index, last)[max(start - begin, 0) : end - begin])
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def _chunk(self, index: int, last: int) -> memoryview:
        """Return a chunk, and load the following ones in advance: up to ``last``, and further if reads are in order."""
        at, data = self._current
        if at == index:
            return data
        if self._pid != os.getpid():  # a forked process has no thread that would finish them
            self._ahead, self._pid = {}, os.getpid()
        limit = concurrency_for(max(self._sizes), self.fs.max_concurrency)
        self._window = min(self._window * 2 or 1, limit) if index == at + 1 and at >= 0 else 0
        wanted = range(index, min(max(last, index + self._window) + 1, index + limit, len(self._sizes)))
        for stale in self._ahead.keys() - set(wanted):
            del self._ahead[stale]  # it goes on into the process's cache: cancelled, it would be read again
        for following in wanted:
            if following not in self._ahead:
                self._ahead[following] = self.fs.start(self.fs._read_chunk, self._ball, following)
        try:
            future = self._ahead[index]
            wait_for(future)
            data = future.result()
        except BaseException:
            self._stop_reading_ahead()
            raise
        del self._ahead[index]
        self._current = index, data
        self._verify(index, data)
        return data

    def _verify(self, index: int, data: memoryview) -> None:
        """Verify the SHA-256 of the object if all its chunks are read in order."""
        if index != self._hashed or not self._ball.checksum:
            return
        self._hashed += 1
        if len(self._sizes) == 1:
            digest = self._ball.chunks[0].checksum  # which the client has verified
        else:
            self._hash.update(data)
            digest = self._hash.hexdigest()
        if self._hashed == len(self._sizes) and digest != self._ball.checksum:
            raise OSError(
                errno.EIO,
                f"reading {self.path} failed: each chunk is as announced, but the object has SHA-256 {digest[:12]}… "
                f"instead of {self._ball.checksum[:12]}…; write it again",
            )

    def _stop_reading_ahead(self) -> None:
        while self._ahead:
            self._ahead.popitem()[1].cancel()

    def readline(self, size: int | None = -1) -> bytes:
        """Return the next line, at most ``size`` bytes of it."""
        start = self.tell()
        line: bytes = self.readuntil(b"\n", LINE_BLOCK)
        if size is not None and 0 <= size < len(line):
            self.seek(start + size)
            return line[:size]
        return line

    def close(self) -> None:
        """Close the file, and stop reading in advance."""
        self._stop_reading_ahead()
        self._current = (-1, memoryview(b""))
        super().close()

    def __del__(self) -> None:
        if not self.closed:
            self.close()


class WriteFile(io.BufferedIOBase):
    """
    An object opened for writing. Its data goes to a temporary file, since its SHA-256 must be known before it is sent.

    The object is stored when the file is closed. Nothing is stored if a ``with`` block ends with an exception, or if
    the file is never closed.

    :param mode: ``wb``, or ``xb`` for an object that must not exist
    :param autocommit: False to store the object with ``commit``, as a transaction does
    :param options: further arguments of the upload
    """

    def __init__(self, fs: MictlanXFileSystem, path: str, mode: str, autocommit: bool = True, **options: Any) -> None:
        self.fs = fs
        self.path = path
        self.mode = mode
        self.autocommit = autocommit
        self._options = options
        self._spool: IO[bytes] = io.BytesIO()
        self._temporary = ""
        self._hash: BackgroundHash | None = None
        self._discarded = False
        self._error: OSError | None = None
        self._pid = os.getpid()
        self._opened_while = sys.exc_info()[1]

    @property
    def full_name(self) -> str:
        """The URL of the object."""
        return str(self.fs.unstrip_protocol(self.path))

    def readable(self) -> bool:
        """Return False."""
        return False

    def writable(self) -> bool:
        """Return whether the file is open."""
        return not self.closed

    def seekable(self) -> bool:
        """Return whether the file is open."""
        return not self.closed

    def write(self, data: Any) -> int:
        """Write bytes, and return their number."""
        self._check_open()
        size = memoryview(data).nbytes
        with self._disk_errors():
            if not self._temporary and self._spool.tell() + size > KEPT_IN_MEMORY and not self._discarded:
                self._move_to_disk()
            if self._hash is not None:
                self._hash.update(bytes(data))
            self._spool.write(data)
        return size

    def _move_to_disk(self) -> None:
        memory = self._spool
        number, self._temporary = tempfile.mkstemp(prefix="mictlanx-")
        self._spool = open(number, "w+b")  # noqa: SIM115 (closed with this file)
        position = memory.tell()
        memory.seek(0)
        written = memory.read()
        self._spool.write(written)
        self._spool.seek(position)
        if position == len(written):  # otherwise it is not written in order
            self._hash = BackgroundHash(self.fs.written_chunk_size(0))
            self._hash.update(written)

    def tell(self) -> int:
        """Return the position."""
        self._check_open()
        return self._spool.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the position."""
        self._check_open()
        before = self._spool.tell()
        with self._disk_errors():
            after = self._spool.seek(offset, whence)
        if after != before:
            self._stop_hash()
        return after

    def _stop_hash(self) -> None:
        running, self._hash = self._hash, None
        if running is not None:
            running.abandon()

    def flush(self) -> None:
        """Do nothing: the object is stored when the file is closed."""

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.discard()
            self._error = OSError(
                error.errno or errno.EIO,
                f"writing {self.path} failed: the folder {tempfile.gettempdir()} for temporary files can't take the "
                f"data ({error.strerror}), and nothing was stored; free space, or set TMPDIR to another folder",
            )
            raise self._error from error

    def commit(self) -> None:
        """Store the object; nothing happens after ``discard``. Raise ``OSError`` for an open file."""
        if not (self.closed or self._discarded):  # a compressor or a text file around it may have more bytes
            self.discard()
            raise OSError(errno.EINVAL, "the file must be closed before its transaction ends", self.path)
        self.fs.run(self.acommit)

    async def acommit(self) -> None:
        """Store the object, for coroutines."""
        if self._error is not None:
            raise self._error
        if self._discarded:
            return
        try:
            if self._temporary:
                with self._disk_errors():
                    self._spool.flush()
                source: dict[str, Any] = {"path": self._temporary}
                if self._hash is not None:
                    chunk_size = self.fs.written_chunk_size(self._spool.tell())
                    source["expected"] = await asyncio.to_thread(self._hash.manifest, chunk_size)
                    self._hash = None
            else:
                self._spool.seek(0)
                source = {"data": self._spool.read()}
            await self.fs._store(self.path, source, create=self.mode == "xb", **self._options)
        finally:
            self.discard()

    def discard(self) -> None:
        """Drop the data, so that nothing is stored. Later writes of a wrapper are dropped too."""
        self._discarded = True
        if self._pid == os.getpid():  # a forked process has no such thread
            self._stop_hash()
        temporary, self._temporary = self._temporary, ""
        with suppress(OSError):  # a full disk, again
            self._spool.close()
        self._spool = io.BytesIO()
        if temporary and self._pid == os.getpid():  # in a forked process, it is the parent's
            with suppress(OSError):
                os.unlink(temporary)

    def close(self) -> None:
        """Store the object, unless a ``with`` block around this file ends with an exception."""
        if self.closed:
            return
        super().close()
        if self._pid != os.getpid() or self._is_closed_by_failing_block():
            self.discard()
        elif self.autocommit:
            self.commit()

    def _is_closed_by_failing_block(self) -> bool:
        """
        Return whether the ``__exit__`` of a wrapper closes this file because of an exception.

        ``fsspec.open`` and pandas close their files in ``__exit__`` without passing the exception on.
        """
        error = sys.exc_info()[1]
        if error is None or error is self._opened_while:
            return False
        frame: types.FrameType | None = sys._getframe(1)
        for _ in range(MAX_WRAPPERS):
            if frame is None:
                return False
            if frame.f_code.co_name == "__exit__":
                given = [
                    item for value in frame.f_locals.values() for item in (value if type(value) is tuple else [value])
                ]
                return any(item is error for item in given)
            frame = frame.f_back
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if exc_type is not None:
            self.discard()
        self.close()

    def __del__(self) -> None:
        # The base class would close the file, and so store the data of an interrupted caller.
        if hasattr(self, "_opened_while"):
            self.discard()

    def __reduce__(self) -> Any:
        raise TypeError("a file that is open for writing can't be pickled; pickle its filesystem and path instead")


def discard(file: Any) -> None:
    """Discard what was written to a file, if it can do that."""
    if method := getattr(file, "discard", None):
        method()


class TextFile(io.TextIOWrapper):
    """A text file that stores nothing if a ``with`` block ends with an exception, or if it is never closed."""

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if exc_type is not None:
            discard(self.buffer)
        self.close()

    def __del__(self) -> None:
        with suppress(ValueError):  # detached, or never opened
            discard(self.buffer)


class CompressedFile:
    """
    A compressed file together with the file under it: closing closes both, since most compressors leave it open.

    :param outer: the compressing or decompressing file
    :param inner: the file of the compressed bytes
    """

    def __init__(self, outer: Any, inner: Any) -> None:
        self._outer = outer
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outer, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._outer)

    def __next__(self) -> bytes:
        return next(self._outer)  # type: ignore[no-any-return]

    def discard(self) -> None:
        """Store nothing."""
        discard(self._inner)

    def close(self) -> None:
        """Finish the compressed bytes, and close the file under them."""
        try:
            self._outer.close()
        except BaseException:
            self.discard()
            raise
        finally:
            self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if exc_type is not None:
            self.discard()
        self.close()

    def __del__(self) -> None:
        if "_inner" in self.__dict__:
            self.discard()


class AsyncReadFile(AbstractAsyncStreamedFile):  # type: ignore[misc]
    """
    An object opened for reading by coroutines: ``await file.read(size)``.

    :param ball: the version to read
    """

    def __init__(self, fs: MictlanXFileSystem, path: str, ball: Ball) -> None:
        self._ball = ball
        super().__init__(fs, path, "rb", cache_type="none", size=ball.size)

    async def _fetch_range(self, start: int, end: int) -> bytes:
        return await self.fs._read_range(self._ball, start, end)  # type: ignore[no-any-return]


class AsyncWriteFile(AbstractAsyncStreamedFile):  # type: ignore[misc]
    """
    An object opened for writing by coroutines; it is stored by ``await file.close()``.

    :param file: collects the data
    """

    def __init__(self, fs: MictlanXFileSystem, path: str, file: WriteFile) -> None:
        self._file = file
        super().__init__(fs, path, "wb")

    async def _upload_chunk(self, final: bool = False) -> bool:
        await asyncio.to_thread(self._file.write, self.buffer.getvalue())
        if final:
            await self._file.acommit()
        return True

    async def __aexit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        if exc_type is not None:
            self._file.discard()
            self.closed = True
        await self.close()

    def __del__(self) -> None:
        self._file.discard()
