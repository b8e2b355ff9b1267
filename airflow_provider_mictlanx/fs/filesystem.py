"""
``MictlanXFileSystem``: a MictlanX storage space as a filesystem of fsspec.

Paths are ``bucket/any/key.ext``. Airflow is imported only for a filesystem that reads an Airflow connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import inspect
import os
import re
import stat
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from datetime import datetime
from glob import has_magic
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from fsspec import asyn
from fsspec.asyn import AsyncFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.spec import AbstractFileSystem
from fsspec.utils import stringify_path

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import for_each
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.local_io.chunk_sizes import chunk_size_for, concurrency_for
from airflow_provider_mictlanx.client.models import Ball
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.validation import check_int, check_non_negative, parse_size
from airflow_provider_mictlanx.fs.calls import current_call, one_call, sync
from airflow_provider_mictlanx.fs.chunk_cache import CHUNKS
from airflow_provider_mictlanx.fs.directories import MADE, Info, Tree, directory_info, file_info
from airflow_provider_mictlanx.fs.errors import missing, os_errors
from airflow_provider_mictlanx.fs.files import (
    AsyncReadFile,
    AsyncWriteFile,
    CompressedFile,
    ReadFile,
    TextFile,
    WriteFile,
)
from airflow_provider_mictlanx.safe_ids import is_safe_id

if TYPE_CHECKING:
    from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

PROTOCOL = "mictlanx"

DEFAULT_CONN_ID = "mictlanx_default"

FILES_AT_ONCE = 16
"""Default number of files that one call puts, gets, copies or deletes at the same time."""

CLOSE_TIMEOUT = 2
"""Seconds that the end of the process waits for connections to close."""

_INHERITED: list[object] = []
"""Clients of the process that forked this one. They are never closed: their connections are the other process's."""


def _one_call(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let a coroutine be one call, which lists a bucket once and leaves no task behind."""

    @functools.wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        async with one_call():
            return await method(*args, **kwargs)

    return call


class MictlanXFileSystem(AsyncFileSystem):  # type: ignore[misc]
    """
    Files of a MictlanX storage space.

    Every method exists twice: ``cat_file`` blocks, and ``_cat_file`` is a coroutine. The storage space is that of an
    Airflow connection or of ``uri``. The connection is read at the first use. Writing replaces an existing object; in
    between, nothing is stored under its path.

    Errors are ``OSError``. ``FileNotFoundError`` is raised only if the storage space confirms that the object is
    absent, never because it does not answer.

    :param conn_id: an Airflow connection of type MictlanX; default without ``uri``: ``mictlanx_default``
    :param uri: the routers, as ``mictlanx://router-0@host:60666/?protocol=http``, for use without Airflow
    :param token: sent to the routers of ``uri`` as ``Authorization: Bearer``
    :param chunk_size: size of the chunks that are written; default: the connection's, else chosen by the size
    :param rf: number of peers that must store every chunk
    :param listings_expiry_time: seconds for which a listing of a bucket is used again; default: not at all
    :param options: see ``fsspec.asyn.AsyncFileSystem``: ``asynchronous``, ``loop``, ``batch_size``
    """

    protocol = PROTOCOL
    root_marker = ""
    _pid: int

    def __init__(
        self,
        conn_id: str | None = None,
        uri: str | None = None,
        token: str | None = None,
        chunk_size: str | int | None = None,
        rf: int | None = None,
        listings_expiry_time: float | None = None,
        **options: Any,
    ) -> None:
        batch_size = options.pop("batch_size", None)
        super().__init__(batch_size=FILES_AT_ONCE if batch_size is None else batch_size, **options)
        self.conn_id = conn_id if conn_id or uri else DEFAULT_CONN_ID
        self.uri = uri
        self.token = token
        self.chunk_size = chunk_size
        self.rf = rf
        self.listings_expiry_time = listings_expiry_time
        self._problem = ""  # raised at the first use: Airflow drops errors of ``get_fs``, and uses another connection
        try:
            if "mictlanx_conn_id" in options:
                wrong = options["mictlanx_conn_id"]
                raise ValidationError(f"the connection must be given as conn_id, got mictlanx_conn_id={wrong!r}")
            if conn_id and uri:
                raise ValidationError(f"conn_id and uri must not both be set, got conn_id={conn_id!r} and a uri")
            self._check_numbers()
        except ValidationError as error:
            self._problem = str(error)
        self._strip_protocol = self._strip_own  # type: ignore[method-assign]
        self._start()

    def _check_numbers(self) -> None:
        if self.chunk_size is not None:
            parse_size(self.chunk_size)
        if self.rf is not None:
            check_int("rf", self.rf)
        if self.listings_expiry_time is not None:
            check_non_negative("listings_expiry_time", self.listings_expiry_time)
        if self.batch_size != -1:  # fsspec's "no limit"
            check_int("batch_size", self.batch_size)

    def _start(self) -> None:
        """Set the members that belong to this process."""
        self._hook: MictlanXHook | None = None
        self._ready = False
        self._lock = threading.Lock()
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncClient] = weakref.WeakKeyDictionary()
        self._listings: dict[str, tuple[float, Tree]] = {}
        weakref.finalize(self, _close_clients, self._clients, os.getpid())

    # -- connection -------------------------------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """
        The event loop of blocking calls.

        fsspec reads it before every blocking call, in the caller's thread. So the connection is read here, and loop and
        clients are renewed here after a fork.
        """
        if self._pid != os.getpid():
            _INHERITED.append(self._clients)
            self._pid = os.getpid()
            self._loop = None if self.asynchronous else _loop_of_this_process()
            self._start()
        self._check_options()
        with self._lock:
            if not self._ready and self.conn_id:
                with os_errors():
                    self._make_hook().settings  # noqa: B018 (reads the connection)
            self._ready = True
        return self._loop

    def _check_options(self) -> None:
        if self._problem:
            raise OSError(errno.EINVAL, self._problem)

    def _make_hook(self) -> MictlanXHook:
        if self._hook is None:
            from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook  # imports Airflow

            self._hook = MictlanXHook(cast(str, self.conn_id))
        return self._hook

    async def _client(self) -> AsyncClient:
        """Return the client of the running event loop; its first request opens a connection."""
        loop = asyncio.get_running_loop()
        if (client := self._clients.get(loop)) is None:
            with os_errors():
                client = await self._new_client()
            with self._lock:
                client = self._clients.setdefault(loop, client)
        return client

    async def _new_client(self) -> AsyncClient:
        self._check_options()
        if self.conn_id:
            hook = self._make_hook()
            await hook.aget_settings()
            return await asyncio.to_thread(hook.get_conn)  # reads TLS files
        return AsyncClient(
            cast(str, self.uri),
            client_id="fsspec",
            debug=False,
            log_output_path=None,
            capacity_storage=0,
            verify=True,
            token=self.token,
        )

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[AsyncClient]:
        """Yield the client; errors of the block are raised as ``OSError``, and name the connection."""
        with current_call().working(), os_errors():
            client = await self._client()
            if self.conn_id:
                from airflow_provider_mictlanx.hooks.errors import errors_name_connection

                with errors_name_connection(self.conn_id):
                    yield client
            else:
                yield client

    async def aclose(self) -> None:
        """Close the connections of the running event loop; the next call opens new ones."""
        with self._lock:
            client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    @property
    def max_concurrency(self) -> int | None:
        """Chunks in flight per transfer, if the connection sets it."""
        return self._hook.settings.max_concurrency if self._hook else None

    def written_chunk_size(self, size: int) -> int:
        """Return the size of the chunks of a written object (bytes)."""
        with os_errors():
            return chunk_size_for(size, self._chunk_size_option())

    def _chunk_size_option(self) -> str | int | None:
        return self.chunk_size or (self._hook.settings.chunk_size if self._hook else None)

    def _request_options(self) -> dict[str, Any]:
        timeout = self._hook.settings.timeout if self._hook else None
        return {} if timeout is None else {"timeout": timeout}

    @property
    def fsid(self) -> str:
        """The storage space, as an id that contains no secret."""
        return f"{PROTOCOL}-{self.conn_id or self.uri}"

    def run(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a coroutine for a blocking caller, and cancel it if the caller is interrupted."""
        return sync(self.loop, function, *args, **kwargs)

    def start(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start a coroutine in the event loop of blocking calls."""
        if (loop := self.loop) is None:
            raise RuntimeError("the filesystem has no event loop; asynchronous=True allows coroutines only")
        return asyncio.run_coroutine_threadsafe(function(*args, **kwargs), loop)

    # -- paths ------------------------------------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """Return ``bucket/key`` of a URL or path; a connection id in front of the bucket is dropped."""
        stripped = super()._strip_protocol(path)
        if isinstance(stripped, list):
            return stripped
        bucket_id, slash, key = stripped.partition("/")
        return f"{bucket_id.rpartition('@')[2]}{slash}{key}"

    def _strip_own(self, path: Any) -> Any:
        """Return ``bucket/key``; raise ``OSError`` for a URL of another connection, which may be another space."""
        if isinstance(path, list):
            return [self._strip_own(item) for item in path]
        conn_id = self._get_kwargs_from_urls(stringify_path(path)).get("conn_id")
        if conn_id not in (None, self.conn_id):
            expected = f"be of connection {self.conn_id!r}" if self.conn_id else "name no connection"
            raise OSError(errno.EINVAL, f"the URL must {expected}, got {conn_id!r}", str(path))
        return type(self)._strip_protocol(path)

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        """Return the connection of a URL such as ``mictlanx://conn@bucket/key``."""
        rest = path.removeprefix(f"{PROTOCOL}://")
        conn_id = rest.partition("/")[0].rpartition("@")[0] if rest != path else ""
        return {"conn_id": conn_id} if conn_id else {}

    def _read_id(self, path: str) -> tuple[str, str]:
        """Return bucket id and key of a path to read; no object has a path with an impossible bucket id."""
        bucket_id, _, key = self._strip_protocol(path).partition("/")
        if not is_safe_id(bucket_id) or not key:
            raise missing(path, f"a path must be bucket/key, got {path!r}; no object has this path")
        return bucket_id, key

    def _write_id(self, path: str) -> tuple[str, str]:
        bucket_id, _, key = self._strip_protocol(path).partition("/")
        if not key:
            raise IsADirectoryError(f"a path to write must be bucket/key, got {path!r}")
        return bucket_id, key

    # -- listings ---------------------------------------------------------------------------------------------------

    async def _list_bucket(self, path: str, refresh: bool = False) -> Tree:
        """Return the files and directories of a path's bucket."""
        bucket_id = path.partition("/")[0]
        known = current_call().listings
        if (found := known.get(bucket_id)) is not None:
            return cast(Tree, found)
        listed_at, tree = self._listings.get(bucket_id, (0.0, None))
        if tree is None or refresh or time.monotonic() - listed_at > (self.listings_expiry_time or 0):
            balls: list[Ball] = []
            if is_safe_id(bucket_id):
                async with self._working() as client:
                    balls = unwrap(await client.list_balls(bucket_id, **self._request_options()))
            tree = await asyncio.to_thread(Tree, balls, MADE.of_bucket(self.fsid, bucket_id))
            if self.listings_expiry_time:
                self._listings[bucket_id] = time.monotonic(), tree
        known[bucket_id] = tree
        return tree

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget the listings, or the listing of a path's bucket."""
        if path is None:
            self._listings.clear()
        else:
            self._listings.pop(self._strip_protocol(path).partition("/")[0], None)
        super().invalidate_cache(path)

    async def _ball(self, path: str) -> Ball:
        bucket_id, key = self._read_id(path)
        async with self._working() as client:
            return unwrap(await client.get_metadata(bucket_id, key, **self._request_options()))

    async def _info(self, path: str, **kwargs: Any) -> Info:
        path = self._strip_protocol(path)
        if not path:
            return directory_info("")
        if tree := current_call().listings.get(path.partition("/")[0]):
            if found := tree.files.get(path) or tree.directories.get(path):
                return dict(found)
            raise missing(path)
        with contextlib.suppress(FileNotFoundError):
            return file_info(await self._ball(path)) | {"name": path}
        if found := (await self._list_bucket(path)).directories.get(path):
            return dict(found)
        raise missing(path)

    async def _exists(self, path: str, **kwargs: Any) -> bool:
        try:
            await self._info(path)
        except FileNotFoundError:
            return False
        return True

    async def _isfile(self, path: str) -> bool:
        try:
            await self._ball(path)
        except FileNotFoundError:
            return False
        return True

    @_one_call
    async def _isdir(self, path: str) -> bool:
        path = self._strip_protocol(path)
        return not path or path in (await self._list_bucket(path)).directories

    @_one_call
    async def _ls(self, path: str, detail: bool = True, refresh: bool = False, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if not path:
            return []  # buckets can't be listed
        tree = await self._list_bucket(path, refresh)
        if path not in tree.files and path not in tree.directories:
            raise missing(path)
        found = tree.children(path)
        return [dict(info) for info in found] if detail else [info["name"] for info in found]

    @_one_call
    async def _find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        prefix: str = "",
        **kwargs: Any,
    ) -> Any:
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = self._strip_protocol(path)
        found: dict[str, Info] = {}
        if path:
            tree = await self._list_bucket(path, bool(kwargs.get("refresh")))
            if withdirs and path in tree.directories:
                found[path] = tree.directories[path]
            for info in tree.find(path, maxdepth):
                if (info["type"] == "file" or (withdirs and info["name"] not in found)) and (
                    not prefix or info["name"].startswith(f"{path}/{prefix}")
                ):
                    found[info["name"]] = info
        return {name: dict(found[name]) for name in sorted(found)} if detail else sorted(found)

    async def _walk(
        self, path: str, maxdepth: int | None = None, topdown: bool = True, on_error: Any = "omit", **kwargs: Any
    ) -> AsyncIterator[tuple[str, Any, Any]]:
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = self._strip_protocol(path)
        detail = kwargs.pop("detail", False)
        try:
            tree = await self._list_bucket(path, bool(kwargs.get("refresh"))) if path else Tree((), ())
            if path and path not in tree.files and path not in tree.directories:
                raise missing(path)
        except OSError as error:
            if callable(on_error):
                on_error(error)
            elif on_error == "raise" or not isinstance(error, FileNotFoundError):
                raise  # the folder may have files, but the listing failed
            yield (path, {}, {}) if detail else (path, [], [])
            return
        for step in _walk_tree(tree, path, maxdepth, topdown, detail):
            yield step

    @_one_call
    async def _glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        return await super()._glob(path, maxdepth, **kwargs)

    @_one_call
    async def _du(
        self, path: str, total: bool = True, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any
    ) -> Any:
        found = await self._find(path, maxdepth, withdirs, detail=True)
        sizes = {name: info["size"] for name, info in found.items()}
        return sum(sizes.values()) if total else sizes

    @_one_call
    async def _expand_path(
        self, path: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any
    ) -> list[str]:
        """
        Return the paths that a path, a glob or a list of these stands for.

        The path of a file or directory is never a glob: ``UPath.unlink`` would delete what ``a[1]`` or ``*`` matches.
        """
        found: set[str] = set()
        others = []
        for name in [path] if isinstance(path, str) else path:
            stripped = self._strip_protocol(name)
            tree = await self._list_bucket(stripped) if has_magic(stripped) else None
            if tree is None or not (stripped in tree.files or stripped in tree.directories):
                others.append(name)
                continue
            found.add(stripped)
            if recursive:
                found |= set(await self._find(stripped, maxdepth, withdirs=True))
        if others:
            found |= set(await super()._expand_path(others, recursive=recursive, maxdepth=maxdepth, **kwargs))
        return sorted(found)

    # -- reading ----------------------------------------------------------------------------------------------------

    async def _read_chunk(self, ball: Ball, index: int) -> memoryview:
        async def read() -> memoryview:
            async with self._working() as client:
                return unwrap(await client.read_chunk(ball, index, **self._request_options()))

        return await CHUNKS.get(ball.chunks[index].checksum, read)

    async def _read_range(self, ball: Ball, start: int, end: int) -> bytes:
        """Read the bytes from ``start`` up to ``end`` of a version."""
        data = bytearray(max(min(end, ball.size) - start, 0))
        view = memoryview(data)

        async def read(part: tuple[int, int]) -> None:
            index, begin = part
            chunk = (await self._read_chunk(ball, index))[max(start - begin, 0) : max(end - begin, 0)]
            at = max(begin - start, 0)
            view[at : at + len(chunk)] = chunk

        sizes = [chunk.size for chunk in ball.chunks]
        begins = enumerate(accumulate(sizes[:-1], initial=0))
        parts = [(index, begin) for index, begin in begins if begin < end and begin + sizes[index] > start]
        await for_each(parts, read, concurrency_for(max(sizes), self.max_concurrency))
        return bytes(data)

    @_one_call
    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        if start is None and end is None:
            bucket_id, key = self._read_id(path)
            async with self._working() as client:
                return unwrap(await client.get(bucket_id, key, **self._request_options())).data.tobytes()
        ball = await self._ball(path)
        first, last, _ = slice(start, end).indices(ball.size)
        return await self._read_range(ball, first, last)

    @_one_call
    async def _get_file(self, rpath: str, lpath: Any, callback: Callback = DEFAULT_CALLBACK, **kwargs: Any) -> None:
        rpath = self._strip_protocol(rpath)
        if _is_listed_directory(rpath):
            await asyncio.to_thread(os.makedirs, lpath, exist_ok=True)
            return
        bucket_id, key = self._read_id(rpath)
        if ".." in key.split("/") and ".." in os.fspath(lpath).split("/"):  # fsspec makes local paths of keys
            raise OSError(errno.EINVAL, "the key could lead out of the folder; get it to a path without '..'", rpath)
        folder, name = os.path.split(lpath)
        try:
            async with self._working() as client:
                report = unwrap(
                    await client.download(
                        bucket_id,
                        key,
                        folder or os.curdir,
                        filename=name or rpath.rpartition("/")[2],  # never a name that the writer chose
                        replace=True,
                        **self._in_flight(),
                        **self._request_options(),
                    )
                )
        except FileNotFoundError:
            if not await self._isdir(rpath):
                raise
            await asyncio.to_thread(os.makedirs, lpath, exist_ok=True)
            return
        callback.set_size(report.size)
        callback.absolute_update(report.size)

    def _in_flight(self) -> dict[str, Any]:
        return {"max_concurrency": self.max_concurrency} if self.max_concurrency else {}

    # -- writing ----------------------------------------------------------------------------------------------------

    async def _store(self, path: str, source: dict[str, Any], create: bool = False, **options: Any) -> int:
        """
        Store an object; return its size.

        :param source: ``data`` or ``path`` of ``AsyncClient.upload``
        :param create: raise ``FileExistsError`` if the object exists, even with the same bytes
        """
        bucket_id, key = self._write_id(path)
        if create:
            await self._check_absent(path)
        try:
            async with self._working() as client:
                filled = {
                    "chunk_size": self._chunk_size_option(),
                    "rf": self.rf or 1,
                    "replace": not create,
                    "max_concurrency": self.max_concurrency,
                    **self._request_options(),
                    **options,
                }
                return unwrap(await client.upload(bucket_id, key, **source, **filled)).size
        finally:
            self.invalidate_cache(path)

    async def _check_absent(self, path: str) -> None:
        if await self._isfile(path):
            raise FileExistsError(errno.EEXIST, "an object has this path already", path)

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        data = bytes(memoryview(value))  # bytes(5) would be five zeros
        await self._store(path, {"data": data}, _is_create(mode), **kwargs)

    @_one_call
    async def _put_file(
        self, lpath: Any, rpath: str, callback: Callback = DEFAULT_CALLBACK, mode: str = "overwrite", **kwargs: Any
    ) -> None:
        if stat.S_ISDIR((await asyncio.to_thread(os.stat, lpath)).st_mode):
            await self._makedirs(rpath, exist_ok=True)
            return
        size = await self._store(rpath, {"path": lpath}, _is_create(mode), **kwargs)
        callback.set_size(size)
        callback.absolute_update(size)

    @_one_call
    async def _cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        if (planned := current_call().planned_copies) is not None:
            planned.append((path1, path2))
            return
        if _is_listed_directory(path1):
            await self._copy_directory(path1, path2, **kwargs)
            return
        original, copy = self._read_id(path1), self._write_id(path2)
        if path1 == path2:
            await self._info(path1)
            return
        try:
            await self._copy_object(original, copy, **kwargs)
        except FileNotFoundError:
            if not await self._isdir(path1):
                raise
            await self._copy_directory(path1, path2, **kwargs)

    async def _copy_directory(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy a directory without its files: its marker, which may contain bytes."""
        await self._mkdir(path2)
        if marker := (await self._list_bucket(path1)).markers.get(path1):
            dest_bucket_id, _, dest_key = path2.partition("/")
            await self._copy_object((path1.partition("/")[0], marker), (dest_bucket_id, f"{dest_key}/"), **kwargs)

    async def _copy_object(self, original: tuple[str, str], copy: tuple[str, str], **kwargs: Any) -> None:
        try:
            async with self._working() as client:
                options = {"rf": self.rf or 1, **self._in_flight(), **self._request_options(), **kwargs}
                unwrap(await client.copy(*original, *copy, replace=True, **options))
        finally:
            self.invalidate_cache("/".join(copy))

    async def _touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        if not truncate and await self._exists(path):
            raise NotImplementedError("MictlanX can't change the time of an object; use truncate=True to empty it")
        await self._pipe_file(path, b"", **kwargs)

    async def _mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Remember a directory in this process: MictlanX has none, and needs none to store objects."""
        if path := self._strip_protocol(path):
            MADE.add(self.fsid, path)
            self.invalidate_cache(path)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        if not exist_ok and await self._exists(path):
            raise FileExistsError(errno.EEXIST, "the path exists already", path)
        await self._mkdir(path)

    # -- deleting ---------------------------------------------------------------------------------------------------

    @_one_call
    async def _rmdir(self, path: str) -> None:
        path = self._strip_protocol(path)
        tree = await self._list_bucket(path)
        if path not in tree.directories:
            raise (
                NotADirectoryError(errno.ENOTDIR, "no directory has this path", path)
                if path in tree.files
                else missing(path)
            )
        if tree.children(path):
            raise OSError(errno.ENOTEMPTY, "the directory is not empty", path)
        await self._rm_file(path)

    @_one_call
    async def _rm_file(self, path: str, **kwargs: Any) -> None:
        path = self._strip_protocol(path)
        if (await self._info(path))["type"] == "directory":
            await self._forget_directory(path)
        else:
            await self._delete(*self._read_id(path))
        self.invalidate_cache(path)

    async def _delete(self, bucket_id: str, key: str) -> None:
        async with self._working() as client:
            unwrap(await client.delete(key, bucket_id, **self._request_options()))

    async def _forget_directory(self, path: str) -> None:
        MADE.forget(self.fsid, path)
        if marker := (await self._list_bucket(path)).markers.get(path):
            await self._delete(path.partition("/")[0], marker)

    @_one_call
    async def _rm(
        self,
        path: Any,
        recursive: bool = False,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        paths = await self._expand_path(path, recursive=recursive, maxdepth=maxdepth)
        await self._remove(*await self._to_remove(paths, recursive), max(batch_size or self.batch_size, 1))

    async def _to_remove(self, paths: list[str], recursive: bool) -> tuple[set[str], set[str]]:
        """Return the files and the directories among paths; raise ``IsADirectoryError`` if they can't be removed."""
        infos = {name: await self._info(name) for name in paths}
        directories = {name for name, info in infos.items() if info["type"] == "directory"}
        for name in directories:
            if not recursive and await self._ls(name, detail=False):
                raise IsADirectoryError(errno.EISDIR, "the directory is not empty; use recursive=True", name)
        return infos.keys() - directories, directories

    async def _remove(self, files: set[str], directories: set[str], at_once: int) -> None:
        try:
            await for_each(sorted(files), lambda file: self._delete(*self._read_id(file)), at_once)
            for name in sorted(directories, reverse=True):
                await self._forget_directory(name)
        finally:
            for name in files | directories:
                self.invalidate_cache(name)

    async def _plan_copies(self, path1: Any, path2: Any, **options: Any) -> set[str]:
        """Return the paths that a copy gives new paths; raise ``OSError`` if it would overwrite another file."""
        call = current_call()
        planned: list[tuple[str, str]] = []
        call.planned_copies = planned
        try:
            await super()._copy(path1, path2, on_error="raise", **options)
        finally:
            call.planned_copies = None
        stored = [(original, copy) for original, copy in planned if not _is_listed_directory(original, marked=False)]
        copies = [copy for _, copy in stored]
        overwritten = {original for original, _ in stored} & {copy for original, copy in stored if original != copy}
        if overwritten or len(set(copies)) < len(copies):
            raise OSError(
                errno.EINVAL,
                "each file must have a new path of its own, so nothing was changed",
                str(path1),
                None,
                str(path2),
            )
        return {original for original, copy in planned if original != copy}

    @_one_call
    async def _mv(
        self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any
    ) -> None:
        """Move files: copy them, and delete the originals once all are copied."""
        copied = await self._plan_copies(path1, path2, recursive=recursive, maxdepth=maxdepth)
        paths = await self._expand_path(path1, recursive=recursive, maxdepth=maxdepth)
        files, directories = await self._to_remove(paths, recursive)
        await super()._copy(path1, path2, recursive=recursive, on_error="raise", maxdepth=maxdepth, **kwargs)
        await self._remove(files & copied, directories & copied, max(self.batch_size, 1))

    async def _mv_file(self, path1: str, path2: str) -> None:
        await self._mv(path1, path2)

    # -- calls with many files --------------------------------------------------------------------------------------

    @_one_call
    async def _put(self, *args: Any, **kwargs: Any) -> Any:
        return await super()._put(*args, **kwargs)

    @_one_call
    async def _get(self, *args: Any, **kwargs: Any) -> Any:
        return await super()._get(*args, **kwargs)

    @_one_call
    async def _copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        on_error: Any = None,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        await self._plan_copies(path1, path2, recursive=recursive, maxdepth=maxdepth)
        await super()._copy(path1, path2, recursive=recursive, on_error=on_error, maxdepth=maxdepth, **kwargs)

    @_one_call
    async def _pipe(self, *args: Any, **kwargs: Any) -> Any:
        return await super()._pipe(*args, **kwargs)

    @_one_call
    async def _cat(self, path: Any, recursive: bool = False, *args: Any, **kwargs: Any) -> Any:
        if recursive:  # fsspec would read the directories too
            found = await self._expand_path(path, recursive=True)
            path = [name for name in found if not _is_listed_directory(name)]
        return await super()._cat(path, False, *args, **kwargs) if path else {}

    @_one_call
    async def _cat_ranges(self, *args: Any, **kwargs: Any) -> Any:
        return await super()._cat_ranges(*args, **kwargs)

    # -- open files -------------------------------------------------------------------------------------------------

    def open(
        self,
        path: Any,
        mode: str = "rb",
        block_size: Any = None,
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Open a file for reading (``rb``, ``r``) or writing (``wb``, ``xb``, ``w``, ``x``).

        A written object is stored when the file is closed; if a ``with`` block ends with an exception, nothing is.
        Parameters: see ``fsspec.spec.AbstractFileSystem.open``.
        """
        path = self._strip_protocol(path)
        if "b" not in mode:
            text = {name: kwargs.pop(name) for name in ("encoding", "errors", "newline") if name in kwargs}
            mode = f"{mode.replace('t', '')}b"
            return TextFile(self.open(path, mode, block_size, cache_options, compression, **kwargs), **text)
        autocommit = kwargs.pop("autocommit", not self._intrans)
        file = self._open(path, mode, block_size, autocommit, cache_options, **kwargs)
        if not autocommit and "r" not in mode:
            self.transaction.files.append(file)
        if compression is None:
            return file
        try:
            compress = compr[get_compression(path, compression)]
            return file if compress is compr[None] else CompressedFile(compress(file, mode=mode[0]), file)
        except BaseException:
            file.discard()
            raise

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: Any = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        cache_type: str = "none",
        size: int | None = None,
        checksum: str | None = None,
        **options: Any,
    ) -> ReadFile | WriteFile:
        if mode == "rb":
            ball = self.run(self._version, path, checksum)
            return ReadFile(self, path, ball, block_size, cache_type, cache_options, autocommit)
        self.run(self._check_may_write, path, mode)
        return WriteFile(self, path, mode, autocommit, **options)

    async def _check_may_write(self, path: str, mode: str) -> None:
        """Raise ``OSError`` for a file that can't be stored, before anything is written."""
        if mode not in ("wb", "xb"):
            raise NotImplementedError(f"mode must be rb, wb or xb (or r, w, x), got {mode!r}; MictlanX can't append")
        self._write_id(path)
        await self._client()  # reads the connection
        self.written_chunk_size(0)
        if mode == "xb":
            await self._check_absent(path)

    async def _version(self, path: str, checksum: str | None) -> Ball:
        """Return the newest version of an object; raise ``OSError`` if it is not the expected one."""
        ball = await self._ball(path)
        if checksum and ball.checksum != checksum:
            raise OSError(errno.EIO, "the object was replaced since this file was opened", path)
        return ball

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> AsyncReadFile | AsyncWriteFile:
        """Open a file for coroutines, for reading (``rb``) or writing (``wb``, ``xb``)."""
        if "b" not in mode or kwargs.pop("compression", None):
            raise ValueError("open_async opens binary files without compression only")
        path = self._strip_protocol(path)
        if mode == "rb":
            return AsyncReadFile(self, path, await self._ball(path))
        await self._check_may_write(path, mode)
        return AsyncWriteFile(self, path, WriteFile(self, path, mode, **kwargs))

    # -- properties of files ----------------------------------------------------------------------------------------

    def checksum(self, path: str) -> int:
        """Return the SHA-256 of a file as an int, as fsspec does."""
        return int(self.ukey(path), 16)

    def ukey(self, path: str) -> str:
        """Return the SHA-256 of a file, which changes with its content."""
        return str(self.info(path).get("checksum") or super().ukey(path))

    def created(self, path: str) -> datetime:
        """Return the time when the first chunk of a file was announced; raise ``IsADirectoryError`` for a directory."""
        return self._time(path, "created")

    def modified(self, path: str) -> datetime:
        """Return the time when the last chunk of a file was announced; raise ``IsADirectoryError`` for a directory."""
        return self._time(path, "LastModified")

    def _time(self, path: str, name: str) -> datetime:
        info = self.info(path)
        if info["type"] == "directory":
            raise IsADirectoryError(errno.EISDIR, "a directory has no time", path)
        return cast(datetime, info[name])

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Return the options as JSON; without the token if ``include_password`` is False."""
        options: dict[str, Any] = super().to_dict(include_password=include_password)
        if not include_password:
            options.pop("token", None)
        return options


def _loop_of_this_process() -> asyncio.AbstractEventLoop:
    """Return fsspec's loop; some releases of fsspec keep the loop of the process that forked this one."""
    thread = asyn.iothread[0]
    if thread is not None and not thread.is_alive():
        asyn.reset_lock()
    return cast(asyncio.AbstractEventLoop, asyn.get_loop())


def _is_create(mode: str) -> bool:
    if mode not in ("overwrite", "create"):
        raise ValueError(f"mode must be 'overwrite' or 'create', got {mode!r}")
    return mode == "create"


def _is_listed_directory(path: str, marked: bool = True) -> bool:
    """
    Return whether the surrounding call has listed this path as a directory.

    :param marked: include directories with a marker
    """
    tree = current_call().listings.get(path.partition("/")[0])
    if tree is None or path not in tree.directories or path in tree.files:
        return False
    return marked or path not in tree.markers


def _walk_tree(
    tree: Tree, path: str, maxdepth: int | None, topdown: bool, detail: bool
) -> Iterator[tuple[str, Any, Any]]:
    """Walk as ``os.walk`` does; a caller may remove directories if it walks from the top."""
    dirs: dict[str, Info] = {}
    files: dict[str, Info] = {}
    for info in tree.children(path):
        name = "" if info["name"] == path else info["name"].removeprefix(f"{path}/")
        (dirs if info["type"] == "directory" else files)[name] = dict(info)
    shown: Any = dirs if detail else list(dirs)
    step = path, shown, (files if detail else list(files))
    if topdown:
        yield step
    if maxdepth is None or maxdepth > 1:
        for name in list(shown):
            yield from _walk_tree(tree, dirs[name]["name"], maxdepth and maxdepth - 1, topdown, detail)
    if not topdown:
        yield step


def _close_clients(clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncClient], pid: int) -> None:
    """Close the clients of a filesystem, in their event loops."""
    if pid != os.getpid():
        return
    for loop, client in list(clients.items()):
        if loop.is_running():
            with contextlib.suppress(Exception):
                closing = asyncio.run_coroutine_threadsafe(client.aclose(), loop)
                if threading.current_thread() is threading.main_thread():  # never wait in a loop's own thread
                    closing.result(CLOSE_TIMEOUT)


def _blocking(name: str) -> Callable[..., Any]:
    """Return the blocking twin of a coroutine; an interrupted caller cancels the work, unlike with fsspec's twins."""

    def call(self: MictlanXFileSystem, *args: Any, **kwargs: Any) -> Any:
        return self.run(getattr(self, name), *args, **kwargs)

    twin = functools.update_wrapper(call, getattr(AbstractFileSystem, name[1:], getattr(MictlanXFileSystem, name)))
    twin.__name__ = name[1:]
    return twin


def _walk_blocking(self: MictlanXFileSystem, path: Any, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Any, Any]]:
    """Walk through the files below a path; see ``fsspec.spec.AbstractFileSystem.walk``."""
    steps = self._walk(path, *args, **kwargs)

    async def next_step() -> tuple[str, Any, Any] | None:
        return await anext(steps, None)

    while step := self.run(next_step):
        yield step


for _name in (*dir(AsyncFileSystem), "_touch", "_rmdir", "_mv"):
    if re.match("_[^_]", _name) and inspect.iscoroutinefunction(getattr(MictlanXFileSystem, _name)):
        setattr(MictlanXFileSystem, _name[1:], _blocking(_name))
MictlanXFileSystem.walk = _walk_blocking
