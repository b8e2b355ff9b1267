"""
``AsyncClient``, the public interface of the client. Its methods return a ``Result``; the code behind them raises.

Names, order and defaults are the official client's, so that code written for it runs here. This client adds keyword
arguments at the end (``replace``, ``deadline``, ``check_storage``), and the methods ``upload`` and ``download``, which
return a report.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import os
import posixpath
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from msgspec import structs

from airflow_provider_mictlanx.client.background_bulks import (
    BallK,
    BulkJobs,
    BulkPutResponse,
    check_items,
    upload_arguments,
)
from airflow_provider_mictlanx.client.chunks import Chunk, ChunkLike
from airflow_provider_mictlanx.client.concurrency import Threads, for_each, sort_in_slices
from airflow_provider_mictlanx.client.empty_objects import with_empty_objects
from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    IntegrityError,
    MictlanXError,
    NotFoundError,
    UnavailableError,
    ValidationError,
)
from airflow_provider_mictlanx.client.local_io.atomic_file import disk_errors
from airflow_provider_mictlanx.client.local_io.chunk_sizes import STREAMED_CHUNK, chunk_size_for, concurrency_for
from airflow_provider_mictlanx.client.local_io.chunk_splitter import (
    ChunkManifest,
    hash_source,
    layout_with_long_tail,
    layout_with_short_tail,
)
from airflow_provider_mictlanx.client.local_io.fsspec_source import FsspecFile, open_fsspec_file
from airflow_provider_mictlanx.client.local_io.sources import BytesSource, ChunksSource, HashedFile, Source, open_file
from airflow_provider_mictlanx.client.log_handlers import ClientLogs
from airflow_provider_mictlanx.client.models import (
    NO_TAGS,
    AsyncGetResponse,
    Ball,
    Bucket,
    DeleteBucketResponse,
    DeletedByBallIdResponse,
    DeletedByKeyResponse,
    FileReport,
    GetMetadataResponse,
    GetRouterBucketMetadataResponse,
    Metadata,
    PeersResponse,
    PutReport,
    RetryPolicy,
    RouterCheck,
)
from airflow_provider_mictlanx.client.object_ids import (
    ObjectId,
    check_bucket_id,
    check_bucket_may_change,
    check_chunk_key,
    make_ball_id,
    make_object_id,
    path_tags,
)
from airflow_provider_mictlanx.client.protocol.endpoint import Headers, RequestOptions
from airflow_provider_mictlanx.client.protocol.router import AsyncRouter
from airflow_provider_mictlanx.client.read_cache import ReadCache
from airflow_provider_mictlanx.client.result import returns_result, unwrap
from airflow_provider_mictlanx.client.retry import RetryConfig, deadline_scope, retry_config_from_policy
from airflow_provider_mictlanx.client.texts import format_first, get_logger
from airflow_provider_mictlanx.client.transfer.chunk_upload import PutOptions, Seen
from airflow_provider_mictlanx.client.transfer.copy import Copy
from airflow_provider_mictlanx.client.transfer.delete import Deletion
from airflow_provider_mictlanx.client.transfer.download import Download
from airflow_provider_mictlanx.client.transfer.listing import (
    ROW_SIZE,
    find_versions,
    get_peers,
    list_bucket,
    list_bucket_and_missing_peers,
    list_rows,
    list_small_bucket,
    require_all_peers,
)
from airflow_provider_mictlanx.client.transfer.router_pool import (
    CONNECT_PATIENCE,
    ROUTERS_SHOWN,
    RequestSender,
    RouterPool,
)
from airflow_provider_mictlanx.client.transfer.single_chunk import SingleChunkUpload, place_tags
from airflow_provider_mictlanx.client.transfer.upload import Announced, Upload
from airflow_provider_mictlanx.client.transfer.upload_window import UploadWindows
from airflow_provider_mictlanx.client.transport.connections import Transport, borrow_client
from airflow_provider_mictlanx.client.transport.headers import NO_HEADERS
from airflow_provider_mictlanx.client.transport.proxies import ProxyRules
from airflow_provider_mictlanx.client.transport.tls import Verify
from airflow_provider_mictlanx.client.uri import MictlanXURI
from airflow_provider_mictlanx.client.validation import (
    check_int,
    check_non_negative,
    check_str,
    check_tags,
    is_unicode,
    parse_size,
)
from airflow_provider_mictlanx.client.versions import Version, group_by_object, group_versions

if TYPE_CHECKING:
    import httpx

log = get_logger("airflow_provider_mictlanx.client")


LOG_PATH = os.environ.get("MICTLANX_LOG_PATH", "/mictlanx/client")
"""Default folder of the log files."""


class AsyncClient:
    """
    A client of one MictlanX storage space.

    It opens no connection before the first request. Close it with ``aclose``, or use ``async with``. Use it from one
    event loop at a time.

    :param uri: the routers, as ``mictlanx://router-0@host:60666/?protocol=http``, or a ``MictlanXURI``
    :param client_id: name of the writer; stored with every chunk as its ``producer_id``
    :param debug: log everything to the console
    :param max_workers: maximum threads, for files and hashing
    :param log_output_path: folder of the log file ``{client_id}.log``; None or empty for no file. A folder that can't
        be used causes one warning
    :param log_when: unit of ``log_interval``, as in ``logging.handlers.TimedRotatingFileHandler`` (``"m"`` = minutes)
    :param log_interval: number of these units after which the log file is rotated
    :param eviction_policy: of the read cache: ``LRU``, ``LFU``, ``FIFO`` or ``RR`` (at random)
    :param capacity_storage: size of the read cache of ``get`` (``"1GB"``, or bytes); 0 for none. A cached ball is
        returned only while its checksum is still the stored one
    :param verify: TLS check of every request: True = the system's authorities, False = no check, a str = path of a
        file of authorities, or an ``ssl.SSLContext``
    :param token: sent to the routers as ``Authorization: Bearer``
    :param headers: sent to the routers with every request
    :param http_client: your own ``httpx.AsyncClient``, which then sends all requests. You close it. It serves one event
        loop and checks TLS as you configured it: leave ``verify`` at its default
    :param proxy: HTTP proxy of every request, as ``http://user:password@proxy.example.org:3128``. A router that speaks
        https is reached through a tunnel (CONNECT): the proxy sees neither token nor data
    :param trust_env: use ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY`` of the environment if ``proxy`` is None
    :param connect_patience: time for which a request waits while no router can be reached, which uses up no tries
        (seconds); 0 raises the error at once

    :raises ValidationError: an argument is invalid
    """

    def __init__(
        self,
        uri: str | MictlanXURI,
        client_id: str,
        debug: bool = True,
        max_workers: int = 12,
        log_output_path: str | os.PathLike[str] | None = LOG_PATH,
        log_when: str = "m",
        log_interval: int = 30,
        eviction_policy: str = "LRU",
        capacity_storage: str | int = "1GB",
        verify: Verify = False,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        http_client: httpx.AsyncClient | None = None,
        proxy: str | None = None,
        trust_env: bool = False,
        connect_patience: float = CONNECT_PATIENCE,
    ) -> None:
        if not client_id or not is_unicode(client_id):
            raise ValidationError(f"client_id must be valid Unicode and not empty, got {client_id!r}")
        check_int("max_workers", max_workers)
        self.uri = uri if isinstance(uri, MictlanXURI) else MictlanXURI.parse(uri)
        self.client_id = client_id
        self._verify = verify
        self._cache = ReadCache(eviction_policy, parse_size(capacity_storage, "capacity_storage", least=0))
        self._threads = Threads(max_workers)
        if http_client is None:
            rules = ProxyRules(proxy, trust_env)
            self._transport = Transport(token=token, headers=headers, http2=self.uri.http2, proxies=rules)
        elif proxy or trust_env:
            raise ValidationError("proxy and trust_env must be unset with an http_client, which has its own proxies")
        elif verify is not False:
            raise ValidationError("verify must be unset with an http_client, which has its own TLS settings")
        else:
            self._transport = Transport(token=token, headers=headers, backend_factory=borrow_client(http_client))
        self._pool = RouterPool(
            [AsyncRouter.at(place, self.uri, self._transport) for place in self.uri.named_routers],
            patience=connect_patience,
        )
        self._jobs = BulkJobs(self._put_item, self.upload_windows)
        self._logs = ClientLogs(client_id, debug, log_output_path, log_when, log_interval)
        if self.uri.protocol == "https" and verify is False and http_client is None:
            log.warning("Client %s does not check the routers' certificates; set verify=True to check them", client_id)

    def __repr__(self) -> str:
        return f"AsyncClient({str(self.uri)!r}, client_id={self.client_id!r})"

    def _name_in(self, error: MictlanXError, action: str, names: Sequence[ObjectId | str]) -> None:
        """Add to an error the objects of the call, as the caller wrote them, and the routers."""
        message = str(error)
        written = []
        for name in names:
            if isinstance(name, ObjectId):
                if name.key != name.ball_id:
                    message = message.replace(name.ball_id, f"{name.ball_id[:12]}…")
                name = f"{name.bucket_id}/{name.key}"
            written.append(name)
        # A request for the first chunk contains the ball's name, but not what the caller does with the ball.
        if not all(re.search(rf"{re.escape(name)}(?!_\d)", message) for name in written):
            message = f"{action}: {message}"
        routers = self._pool.routers
        # A ValidationError without a router's address was raised before any request.
        if not any(router.base_url() in message for router in routers) and not isinstance(error, ValidationError):
            named = [f"{router.router_id} {router.base_url()}" for router in routers]
            message = f"{message} [{format_first(named, most=ROUTERS_SHOWN)}]"
        error.amend(message)

    # -- opening and closing ----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        await self.aclose(cancel_bulks=exc_type is not None)

    async def aclose(self, cancel_bulks: bool = False) -> None:
        """
        Wait for running bulks, close the connections and end the threads.

        :param cancel_bulks: cancel running bulks instead of waiting for them, and delete their announcements
        """
        try:
            await self._jobs.end(cancel_bulks)
        finally:
            for router in self._pool.routers:
                await router.aclose()
            await self._transport.aclose()
            self._threads.close()
            self._cache.clear()
            self._logs.close()

    @returns_result
    async def check_routers(self, timeout: float = 10) -> list[RouterCheck]:
        """
        Ask all routers for their peers at the same time.

        Returns one ``RouterCheck`` per router. If a router does not answer, its ``error`` says why.

        :param timeout: for each router (seconds)
        """
        return list(await asyncio.gather(*(self._check(router, timeout) for router in self._pool.routers)))

    async def _check(self, router: AsyncRouter, timeout: float) -> RouterCheck:
        started = time.monotonic()
        answer = await router.get_peers(timeout=timeout, verify=self._verify)
        milliseconds = round((time.monotonic() - started) * 1000, 1)
        peers = answer.unwrap_or(PeersResponse(available=[]))
        available = [peer.peer_id for peer in peers.available]
        unavailable = [peer.peer_id for peer in peers.unavailable]
        error = answer.unwrap_err() if answer.is_err else None
        return RouterCheck(router.router_id, router.base_url(), available, unavailable, milliseconds, error)

    # -- uploading --------------------------------------------------------------------------------------------------

    @returns_result
    async def upload(
        self,
        bucket_id: str,
        key: str,
        *,
        data: bytes | None = None,
        path: str | os.PathLike[str] | None = None,
        file: FsspecFile | None = None,
        tags: Mapping[str, str] = NO_TAGS,
        chunk_size: str | int | None = "256kb",
        rf: int = 1,
        timeout: float = 120,
        max_tries: int = 5,
        max_concurrency: int | None = 10,
        max_backoff: float = 5,
        replace: bool = False,
        expected: ChunkManifest | None = None,
        known: Announced | Seen | None = None,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> PutReport:
        """
        Put bytes or a file, and return a ``PutReport``: ``put`` and ``put_file`` in one.

        Exactly one of ``data``, ``path`` and ``file`` is required. Bytes have the chunk layout of ``put``, files that
        of ``put_file``. Parameters and errors: see ``put``, and:

        :param data: the bytes
        :param path: path of a regular file
        :param file: a file of another store, read through its fsspec filesystem
        :param chunk_size: None to choose it by the size of the source
        :param max_concurrency: None to choose it by the size of the chunks
        :param expected: result of ``plan`` for this source; other bytes are not stored, and raise ``IntegrityError``
        :param known: of ``upload_windows`` with the same arguments
        """
        name = changing_name(bucket_id, key, allow_reserved_bucket)
        routers = self._sender(timeout, NO_HEADERS, RetryConfig(max_tries, max_backoff))
        async with (
            self._doing(f"putting {name}", deadline, name),
            self._open_source("upload", chunk_size, data, path, file) as (source, layout, file_tags),
        ):
            held = chunk_size_for(source.size, chunk_size)
            in_flight = concurrency_for(min(held, STREAMED_CHUNK) if file is None else held, max_concurrency)
            options = PutOptions(rf, in_flight, replace, tags, self.client_id)
            upload = Upload(routers, self._threads, name, source, options, name.key_tags or file_tags)
            return await upload.run(layout, expected, known)

    def upload_windows(
        self,
        arguments: Callable[[int], Mapping[str, Any]],
        max_concurrency: int,
        *,
        timeout: float = 120,
        max_tries: int = 5,
        max_backoff: float = 5,
    ) -> UploadWindows:
        """
        Return the windows in which a bulk's balls are announced before ``upload`` puts them.

        Parameters: see ``put``, and:

        :param arguments: returns the arguments of ``upload`` for a ball, by its number
        :param max_concurrency: maximum announcements in flight
        :param timeout: for each listing (seconds)
        :param max_tries: tries per listing
        """
        routers = self._sender(timeout, NO_HEADERS, RetryConfig(max_tries, max_backoff))

        def name_of(number: int) -> ObjectId:
            given = arguments(number)
            return ObjectId(given["bucket_id"], make_ball_id(given["key"]), given["key"])

        return UploadWindows(
            name_of, lambda number: self._announce(name_of(number), **arguments(number)), routers, max_concurrency
        )

    async def _announce(
        self,
        name: ObjectId,
        *,
        data: bytes | None = None,
        path: str | os.PathLike[str] | None = None,
        file: FsspecFile | None = None,
        tags: Mapping[str, str] = NO_TAGS,
        chunk_size: str | int | None = "256kb",
        rf: int = 1,
        timeout: float = 120,
        replace: bool = False,
        expected: ChunkManifest | None = None,
        **_: object,
    ) -> Announced | None:
        """
        Announce a ball with the arguments of ``upload``, in one try.

        Raises an error if the announcement failed, and returns None if the ball needs a complete put.
        """
        routers = self._sender(timeout, NO_HEADERS, RetryConfig(max_tries=1))
        options = PutOptions(rf, 1, replace, tags, self.client_id)

        async def announce(source: Source, layout: list[int], file_tags: dict[str, str]) -> Announced | None:
            upload = Upload(routers, self._threads, name, source, options, name.key_tags or file_tags)
            return await upload.announce(layout, expected)

        if expected is not None and expected.chunks:
            source = HashedFile(file.path if file else str(path), expected.size)
            layout = [chunk.size for chunk in expected.chunks]
            return await announce(source, layout, path_tags(posixpath.basename(source.name)) if data is None else {})
        async with contextlib.AsyncExitStack() as stack:
            try:
                opened = await stack.enter_async_context(self._open_source("upload", chunk_size, data, path, file))
            except (MictlanXError, OSError):
                return None  # the put raises it
            return await announce(*opened)

    @asynccontextmanager
    async def _open_source(
        self,
        call: str,
        chunk_size: str | int | None,
        data: bytes | None = None,
        path: str | os.PathLike[str] | None = None,
        file: FsspecFile | None = None,
    ) -> AsyncIterator[tuple[Source, list[int], dict[str, str]]]:
        """
        Open the source of an upload; yield it with its chunk layout and the tags of its file name.

        The chunk layouts are the official client's: ``put`` for bytes, ``put_file`` for files.
        """
        if sum(given is not None for given in (data, path, file)) != 1:
            raise ValidationError(f"{call} needs exactly one of data, path and file")
        if data is not None:
            source: Source = BytesSource(_as_bytes(data))
            yield source, layout_with_long_tail(source.size, chunk_size_for(source.size, chunk_size)), {}
            return
        opened = open_file(path or "", self._threads) if file is None else open_fsspec_file(file, self._threads)
        async with opened as source:
            layout = layout_with_short_tail(source.size, chunk_size_for(source.size, chunk_size))
            yield source, layout, path_tags(posixpath.basename(file.path if file else source.name))

    @returns_result
    async def plan(
        self,
        *,
        data: bytes | None = None,
        path: str | os.PathLike[str] | None = None,
        file: FsspecFile | None = None,
        chunk_size: str | int | None = "256kb",
    ) -> ChunkManifest:
        """
        Hash bytes or a file in the chunk layout of ``upload``, without sending anything.

        Returns size, SHA-256 and chunks. Parameters: see ``upload``.

        :raises ValidationError: the file can't be read
        :raises IntegrityError: the file changed while it was read
        """
        async with self._open_source("plan", chunk_size, data, path, file) as (source, layout, _):
            return await hash_source(source, layout, self._threads)

    @returns_result
    async def put(
        self,
        bucket_id: str,
        key: str,
        value: bytes,
        chunk_size: str | int = "256kb",
        rf: int = 1,
        timeout: float = 120,
        max_tries: int = 5,
        max_concurrency: int = 10,
        max_backoff: float = 5,
        tags: Mapping[str, str] = NO_TAGS,
        *,
        replace: bool = False,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> bool:
        """
        Put bytes under a key; return True if they were sent, False if exactly these bytes were already stored.

        It returns when ``rf`` peers have acknowledged every chunk, or all peers if there are fewer.

        :param bucket_id: letters, digits, and single ``-`` or ``_`` between them
        :param key: any str; one that is not a safe id is stored under its SHA-256
        :param value: the bytes
        :param chunk_size: ``"256kb"`` (1 kb = 1,000 bytes), ``"1MiB"`` or a number of bytes
        :param rf: number of replicas of each chunk
        :param timeout: for each request (seconds)
        :param max_tries: tries per chunk
        :param max_concurrency: maximum chunks in flight
        :param max_backoff: longest wait between two tries (seconds)
        :param tags: dict of str, stored with every chunk; the client's own tags override it
        :param replace: delete other bytes under the key first; between delete and put the key is absent
        :param allow_reserved_bucket: allow a bucket that begins with ``bulk-``, which contains records of a bulk
        :param deadline: for the complete call (seconds)

        :raises BallConflictError: other bytes are stored, or announced, under the key
        :raises PutChunksError: too few peers stored a chunk
        :raises UnavailableError: a peer does not answer, so the stored bytes cannot be confirmed
        :raises NetworkError: no router answered
        :raises UnknownError: the routers failed
        :raises ValidationError: an argument is invalid; nothing was sent
        :raises DeadlineExceededError: ``deadline`` passed
        """
        name = changing_name(bucket_id, key, allow_reserved_bucket)
        options = PutOptions(rf, max_concurrency, replace, tags, self.client_id)
        routers = self._sender(timeout, NO_HEADERS, RetryConfig(max_tries, max_backoff))
        async with (
            self._doing(f"putting {name}", deadline, name),
            self._open_source("put", parse_size(chunk_size), data=value) as (source, layout, _),
        ):
            upload = Upload(routers, self._threads, name, source, options, name.key_tags)
            return (await upload.run(layout)).uploaded

    @returns_result
    async def put_file(
        self,
        bucket_id: str,
        key: str,
        path: str | os.PathLike[str],
        tags: Mapping[str, str] = NO_TAGS,
        chunk_size: str | int = "256kb",
        rf: int = 1,
        timeout: float = 120,
        max_tries: int = 5,
        max_concurrency: int = 2,
        max_backoff: float = 5,
        *,
        replace: bool = False,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> bool:
        """
        Put a file under a key; return True if it was sent, False if exactly these bytes were already stored.

        The file is read twice, to hash it and to send it. If it changes between the two, ``IntegrityError`` is raised,
        and no mixture is stored. Parameters and errors: see ``put`` and ``upload``.
        """
        name = changing_name(bucket_id, key, allow_reserved_bucket)
        options = PutOptions(rf, max_concurrency, replace, tags, self.client_id)
        routers = self._sender(timeout, NO_HEADERS, RetryConfig(max_tries, max_backoff))
        async with (
            self._doing(f"putting {name}", deadline, name),
            self._open_source("put_file", parse_size(chunk_size), path=path) as (source, layout, file_tags),
        ):
            upload = Upload(routers, self._threads, name, source, options, name.key_tags or file_tags)
            return (await upload.run(layout)).uploaded

    @returns_result
    async def put_chunks(
        self,
        bucket_id: str,
        key: str,
        chunks: Iterable[ChunkLike],
        tags: Mapping[str, str] = NO_TAGS,
        rf: int = 1,
        timeout: float = 120,
        max_tries: int = 5,
        max_concurrency: int = 2,
        max_backoff: float = 5,
        *,
        replace: bool = False,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> bool:
        """
        Put a ball in the caller's chunks; return True if it was sent, False if it was already stored.

        Each chunk's ``metadata`` becomes its tags. Its ``group_id`` and ``chunk_id`` are ignored: the chunk keys are
        derived from ``key``. Parameters and errors: see ``put``, and:

        :param chunks: all chunks of the ball, with the indexes 0, 1, 2 … in any order: ``Chunk``, or any objects with
            ``group_id``, ``index``, ``data``, ``chunk_id`` and ``metadata``
        """
        name = changing_name(bucket_id, key, allow_reserved_bucket)
        copies = [_copy_chunk(chunk) for chunk in chunks]
        source = ChunksSource(copies)
        options = PutOptions(rf, max_concurrency, replace, tags, self.client_id)
        routers = self._sender(timeout, NO_HEADERS, RetryConfig(max_tries, max_backoff))
        chunk_tags = {chunk.index: check_tags(chunk.metadata) for chunk in copies}
        async with self._doing(f"putting {name} in {len(copies)} chunks", deadline, name):
            upload = Upload(routers, self._threads, name, source, options, name.key_tags, chunk_tags)
            return (await upload.run(source.layout)).uploaded

    @returns_result
    async def put_single_chunk(
        self,
        bucket_id: str,
        ball_id: str,
        chunk: ChunkLike,
        chunk_size: str | int = "256kb",
        rf: int = 1,
        timeout: float = 120,
        max_tries: int = 5,
        max_concurrency: int = 10,
        max_backoff: float = 5,
        tags: Mapping[str, str] = NO_TAGS,
        *,
        replace: bool = False,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> bool:
        """
        Put one chunk of a ball; return True if it was sent, False if it was already stored.

        A ball of one chunk (index 0) needs no further tags. A chunk of several needs the tags ``num_chunks`` and
        ``full_checksum``, in ``tags`` or in its ``metadata``: without them no reader can tell whether the ball is
        complete. Parameters and errors: see ``put``, and:

        :param ball_id: the ball id, or any key
        :param chunk: a ``Chunk``, or any object with its attributes; ``index`` is its position in the ball, from 0
        :param chunk_size: ignored; the chunk is stored unchanged
        :param max_concurrency: ignored; requests are sent one after another
        :param replace: delete other bytes under the chunk's key first
        """
        name = changing_name(bucket_id, ball_id, allow_reserved_bucket)
        copy = _copy_chunk(chunk)
        options = PutOptions(rf, 1, replace, tags, self.client_id)
        routers = self._sender(timeout, NO_HEADERS, RetryConfig(max_tries, max_backoff))
        place = place_tags(copy, {**tags, **check_tags(copy.metadata)})
        source = BytesSource(copy.data, f"chunk {copy.index} of {name}")
        async with self._doing(f"putting chunk {copy.index} of {name}", deadline, name):
            given = (routers, self._threads, name, source, options, name.key_tags)
            if place is None:
                return (await Upload(*given, {0: copy.metadata}).run([source.size])).uploaded
            single = SingleChunkUpload(*given, {copy.index: {**copy.metadata, **place}})
            return (await single.run(copy.index)).uploaded

    # -- downloading ------------------------------------------------------------------------------------------------

    @returns_result
    async def get(
        self,
        bucket_id: str,
        key: str,
        max_paralell_gets: int = 10,
        headers: Headers = NO_HEADERS,
        chunk_size: str | int = "256kb",
        timeout: float = 120,
        http2: bool = False,
        max_retries: int = 5,
        delay: float = 1,
        backoff_factor: float = 0.5,
        force: bool = False,
        max_backoff: float = 5,
        chunk_index: int = 0,
        max_delay: float = 30,
        jitter: bool = True,
        *,
        max_size: int | None = None,
        deadline: float | None = None,
    ) -> AsyncGetResponse:
        """
        Read a ball into memory, and verify size and SHA-256 of every chunk and of the complete ball.

        Returns ``data``, the ``metadatas`` of the chunks, in order, and ``verified``: False if the writer recorded no
        SHA-256 of the complete ball, so only its chunks were verified. Every peer must then take part in the listing.
        A wrong or missing chunk is read again without the router's cache, then from each peer. If all of these fail,
        the next older complete version is read. Parameters: see ``put``, and:

        :param key: the key, or the ball id; also a chunk key other than ``{ball_id}_{index}``, as other clients use
        :param max_paralell_gets: maximum chunks in flight
        :param headers: sent with every request of this call
        :param chunk_size: ignored; chunks have the sizes that their writer chose
        :param http2: ignored; the URI decides
        :param max_retries: tries per chunk
        :param delay: the wait before the second try is at most ``delay × backoff_factor`` (seconds), and doubles with
            every try
        :param backoff_factor: see ``delay``
        :param force: bypass the routers' caches from the start
        :param chunk_index: first chunk to read; unless it is 0, the SHA-256 of the complete ball is not verified
        :param max_delay: longest wait too (seconds); the smaller of ``max_backoff`` and ``max_delay`` applies
        :param jitter: wait a random time up to the bound, instead of exactly the bound
        :param max_size: largest ball to accept (bytes); a larger one raises ``ValidationError``

        :raises NotFoundError: the ball is confirmed to be absent, or was never completely written
        :raises IntegrityError: every readable copy has wrong bytes
        :raises GetChunkError: a chunk could not be read
        :raises UnavailableError: a peer does not answer, so a missing object cannot be confirmed
        :raises DeadlineExceededError: ``deadline`` passed
        """
        name = make_object_id(bucket_id, key)
        retry = _retry_config(max_retries, max_backoff, max_delay, delay, backoff_factor, jitter)
        check_int("max_paralell_gets", max_paralell_gets)
        download = Download(self._sender(timeout, headers, retry), self._threads, max_paralell_gets, force, chunk_index)
        async with self._doing(f"getting {name}", deadline, name):
            version, data = await download.to_memory(name, self._cache, max_size)
        return AsyncGetResponse(data=data, metadatas=version.ordered, verified=version.checksum is not None)

    @returns_result
    async def get_chunk(
        self,
        bucket_id: str,
        ball_id: str,
        index: int,
        max_parallel_gets: int = 10,
        headers: Headers = NO_HEADERS,
        chunk_size: str | int = "256kb",
        timeout: float = 120,
        http2: bool = False,
        max_retries: int = 15,
        delay: float = 1.0,
        backoff_factor: float = 0.5,
        force: bool = False,
        max_backoff: float = 5,
        max_delay: float = 30,
        jitter: bool = True,
        *,
        deadline: float | None = None,
    ) -> tuple[Chunk, Metadata]:
        """
        Read and verify one chunk; return it with its metadata.

        The ball may be incomplete. Errors: see ``get``. Parameters: see ``put`` and ``get``, and:

        :param ball_id: the ball id, or any key
        :param index: position of the chunk in the ball, from 0
        :param max_parallel_gets: ignored; one chunk is read

        :raises NotFoundError: also if the ball has no chunk with this index
        """
        name = make_object_id(bucket_id, ball_id)
        retry = _retry_config(max_retries, max_backoff, max_delay, delay, backoff_factor, jitter)
        download = Download(self._sender(timeout, headers, retry), self._threads, 1, force)
        async with self._doing(f"getting chunk {index} of {name}", deadline, name):
            metadata, data = await download.one_chunk(name, index)
        return Chunk(metadata.ball_id, index, bytes(data), metadata.key, metadata.tags), metadata

    @returns_result
    async def read_chunk(
        self,
        ball: Ball,
        index: int,
        *,
        timeout: float = 120,
        max_tries: int = 5,
        max_backoff: float = 5,
        deadline: float | None = None,
    ) -> memoryview:
        """
        Read and verify one chunk of a listed ball, without listing it again.

        Errors: see ``get_chunk``. Parameters: see ``put`` and ``get_chunk``, and:

        :param ball: a result of ``get_metadata`` or ``list_balls``

        :raises IntegrityError: also if the ball has been replaced since it was listed
        """
        name = make_object_id(ball.bucket_id, ball.key)
        routers = self._sender(timeout, NO_HEADERS, RetryConfig(max_tries, max_backoff))
        async with self._doing(f"getting chunk {index} of {name}", deadline, name):
            return await Download(routers, self._threads, 1).listed_chunk(name, ball, index)

    async def get_chunks(
        self,
        bucket_id: str,
        key: str,
        max_parallel_gets: int = 10,
        headers: Headers = NO_HEADERS,
        chunk_size: str | int = "256kb",
        timeout: float = 120,
        http2: bool = False,
        max_retries: int = 15,
        delay: float = 1.0,
        backoff_factor: float = 0.5,
        force: bool = False,
        max_backoff: float = 5,
        chunk_index: int = 0,
        max_delay: float = 30,
        jitter: bool = True,
        order: bool = False,
    ) -> AsyncGenerator[tuple[Metadata, memoryview]]:
        """
        Read a ball chunk by chunk: yield metadata and bytes. This method raises its errors; it returns no ``Result``.

        Every chunk is verified before it is yielded. With ``order=True`` the SHA-256 of the complete ball is verified
        at the end: after an ``IntegrityError`` then, discard all chunks. Errors: see ``get``. Parameters: see ``put``
        and ``get``, and:

        :param max_parallel_gets: maximum chunks in flight or waiting for the caller; memory is bounded by this times
            the size of a chunk
        :param order: yield chunks by index, instead of as they arrive
        """
        name = make_object_id(bucket_id, key)
        retry = _retry_config(max_retries, max_backoff, max_delay, delay, backoff_factor, jitter)
        routers = self._sender(timeout, headers, retry)
        check_int("max_parallel_gets", max_parallel_gets)
        download = Download(routers, self._threads, max_parallel_gets, force, chunk_index)
        try:
            async with contextlib.aclosing(download.chunks(name, order)) as chunks:
                async for metadata, data in chunks:
                    yield metadata, data
        except MictlanXError as error:
            self._name_in(error, f"getting {name}", (name,))
            raise

    @returns_result
    async def download(
        self,
        bucket_id: str,
        key: str,
        output_path: str | os.PathLike[str],
        *,
        filename: str = "",
        max_concurrency: int = 10,
        timeout: float = 120,
        max_tries: int = 5,
        max_backoff: float = 5,
        headers: Headers = NO_HEADERS,
        force: bool = False,
        replace: bool = False,
        checksum: str | None = None,
        listed: Ball | None = None,
        deadline: float | None = None,
    ) -> FileReport:
        """
        Read a ball into a file, and return a ``FileReport``. The file appears complete and verified, or not at all.

        Errors: see ``get_to_file``. Parameters: see ``put``, ``get`` and ``get_to_file``, and:

        :param filename: ``fullname`` of ``get_to_file``
        :param checksum: expected SHA-256, in hex; other bytes raise ``IntegrityError``
        :param listed: the ball as ``list_balls`` returned it, which saves its listing. If it can't be read as listed,
            its versions are listed after all
        """
        retry = RetryConfig(max_tries, max_backoff)
        name = make_object_id(bucket_id, key)
        version = _listed_version(name, listed)
        engine = Download(self._sender(timeout, headers, retry), self._threads, max_concurrency, force)
        async with self._doing(f"getting {name} to a file", deadline, name):
            return await engine.to_file(name, output_path, filename, replace, checksum, version)

    @returns_result
    async def get_to_file(
        self,
        bucket_id: str,
        ball_id: str,
        output_path: str | os.PathLike[str] = "",
        fullname: str = "",
        max_paralell_gets: int = 10,
        headers: Headers = NO_HEADERS,
        chunk_size: str | int = "256kb",
        timeout: float = 120,
        http2: bool = False,
        max_retries: int = 5,
        delay: float = 1,
        backoff_factor: float = 0.5,
        force: bool = False,
        chunk_index: int = 0,
        max_delay: float = 30,
        jitter: bool = True,
        *,
        replace: bool = False,
        deadline: float | None = None,
    ) -> str:
        """
        Read a ball into a file, and return its path. The file appears complete and verified, or not at all.

        An existing file with the same content is kept, and counts as written. Errors: see ``get``. Parameters: see
        ``put`` and ``get``, and:

        :param ball_id: the ball id, or any key
        :param output_path: the folder; created if missing; empty = the working directory
        :param fullname: name of the file, without folders; empty = a safe form of the tag ``fullname``, else
            ``{ball_id}[.{extension}]``
        :param replace: replace an existing file with other content

        :raises FileAlreadyExists: a file of this name has other content, and ``replace`` is False
        """
        retry = _retry_config(max_retries, max_delay, max_delay, delay, backoff_factor, jitter)
        name = make_object_id(bucket_id, ball_id)
        routers = self._sender(timeout, headers, retry)
        check_int("max_paralell_gets", max_paralell_gets)
        engine = Download(routers, self._threads, max_paralell_gets, force, chunk_index)
        async with self._doing(f"getting {name} to a file", deadline, name):
            return (await engine.to_file(name, output_path, fullname, replace)).path

    # -- metadata and listings --------------------------------------------------------------------------------------

    @returns_result
    async def get_metadata(
        self,
        bucket_id: str,
        ball_id: str,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        restart_policy: RetryPolicy | None = None,
        *,
        check_storage: bool = False,
        listed: Ball | None = None,
        deadline: float | None = None,
    ) -> Ball:
        """
        Return the metadata of the newest complete version of a ball.

        Errors: see ``get``. Parameters: see ``put`` and ``get``, and:

        :param ball_id: the ball id, or any key
        :param restart_policy: tries and waits; None = five tries
        :param check_storage: read and verify every chunk once, because a listing shows announcements, not data. Only
            then can ``GetChunkError`` and ``IntegrityError`` be raised
        :param listed: see ``download``; only with ``check_storage``
        """
        routers = self._sender(timeout, headers, retry_config_from_policy(restart_policy))
        name = make_object_id(bucket_id, ball_id)
        version = _listed_version(name, listed)
        async with self._doing(f"finding {name}", deadline, name):
            return await self._find(name, routers, check_storage, version)

    @returns_result
    async def get_metadata_by_key(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        retry_policy: RetryPolicy | None = None,
        *,
        deadline: float | None = None,
    ) -> GetMetadataResponse:
        """
        Return the metadata of one chunk, from the replica that the router chooses.

        Parameters: see ``put`` and ``get``, and:

        :param key: the chunk's key, ``{ball_id}_{index}``
        :param retry_policy: tries and waits; None = five tries

        :raises NotFoundError: the placement service knows no replica
        :raises UnavailableError: a replica is placed, but no peer returned it in any try
        """
        check_bucket_id(bucket_id)
        check_chunk_key(key)
        routers = self._sender(timeout, headers, retry_config_from_policy(retry_policy))
        async with self._doing(f"metadata of chunk {bucket_id}/{key}", deadline, f"{bucket_id}/{key}"):
            return await routers.request(lambda router, options: router.get_metadata(bucket_id, key, **options))

    @returns_result
    async def get_chunks_by_bucket_id(
        self,
        bucket_id: str,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        *,
        partial: bool = False,
        name_missing: bool = True,
        max_size: int | None = None,
        deadline: float | None = None,
    ) -> GetRouterBucketMetadataResponse:
        """
        List every announced chunk of a bucket as the router returns it: repeated, unsorted, without chunks of size 0.

        The companions of empty balls are included. ``list_balls`` shows the empty balls instead. Errors: see
        ``list_balls``. Parameters: see ``put``, ``get`` and ``list_balls``, and:

        :param partial: accept a listing without the chunks of some peers; ``extra["missing_peers"]`` then names them
        :param name_missing: False with ``partial`` saves the request that finds them; ``missing_peers`` sends it later

        :raises UnavailableError: a peer does not answer, so its chunks would be missing
        """
        check_bucket_id(bucket_id)
        routers = self._sender(timeout, headers)
        async with self._doing(f"listing bucket {bucket_id}", deadline, bucket_id):
            if not partial:
                return await routers.with_retries(lambda: list_bucket(routers, bucket_id, max_size))
            if not name_missing:
                return await list_small_bucket(routers, bucket_id, max_size)
            listing, missing = await routers.with_retries(
                lambda: list_bucket_and_missing_peers(routers, bucket_id, max_size)
            )
            return structs.replace(listing, extra={**listing.extra, "missing_peers": missing})

    @returns_result
    async def missing_peers(
        self, listing: GetRouterBucketMetadataResponse, timeout: float = 120, *, deadline: float | None = None
    ) -> list[str]:
        """
        Return the ids of the peers whose chunks are missing in a listing of a bucket, with one request.

        Parameters: see ``put``, and:

        :param listing: a result of ``get_chunks_by_bucket_id``
        """
        routers = self._sender(timeout, NO_HEADERS)
        action = f"finding the peers that are missing in the listing of bucket {listing.bucket_id}"
        async with self._doing(action, deadline, listing.bucket_id):
            found = await routers.with_retries(lambda: get_peers(routers))
        return sorted(set(found.peer_ids) - set(listing.peers_ids))

    @returns_result
    async def get_bucket_metadata(
        self, bucket_id: str, timeout: float = 120, headers: Headers = NO_HEADERS, *, deadline: float | None = None
    ) -> Bucket:
        """
        Return the balls of a bucket, sorted by key.

        The result is iterable, and has ``len()``, ``size_bytes()`` and ``size()`` (such as "1.5 MB"). Errors: see
        ``list_balls``. Parameters: see ``put`` and ``get``.
        """
        return Bucket(
            bucket_id, unwrap(await self.list_balls(bucket_id, timeout=timeout, headers=headers, deadline=deadline))
        )

    @returns_result
    async def exists(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        *,
        check_storage: bool = False,
        deadline: float | None = None,
    ) -> bool:
        """
        Return True if a complete ball exists, False if it is confirmed to be absent.

        Parameters: see ``put``, ``get`` and ``get_metadata``.

        :raises UnavailableError: a peer does not answer, so a missing object cannot be confirmed
        """
        name = make_object_id(bucket_id, key)
        routers = self._sender(timeout, headers)
        async with self._doing(f"finding {name}", deadline, name):
            try:
                await self._find(name, routers, check_storage)
            except NotFoundError:
                return False
            except (GetChunkError, IntegrityError) as error:
                if error.peer_silent:  # the peer was silent then, even if it answers now
                    raise UnavailableError(str(error)) from error
                await routers.with_retries(lambda: require_all_peers(routers, f"reading {name}", bucket_id))
                return False
            return True

    @returns_result
    async def list_balls(
        self,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        *,
        listing: GetRouterBucketMetadataResponse | None = None,
        max_size: int | None = None,
        deadline: float | None = None,
    ) -> list[Ball]:
        """
        List the balls of a bucket whose chunks are all announced, sorted by key.

        An empty ball that another client wrote has no companion and is missing. An unknown bucket counts as empty. The
        router always sends the complete bucket; ``prefix`` and ``glob`` select from it. Parameters: see ``put``
        and ``get``, and:

        :param prefix: select keys that begin with this
        :param glob: select keys that match this pattern: ``*`` = any characters (``/`` too), ``?`` = one character,
            ``[ab]`` = one of these; not together with ``prefix``
        :param listing: a complete result of ``get_chunks_by_bucket_id``, instead of another listing
        :param max_size: largest listing to read (bytes), because a listing has no pages; None = 2 GiB

        :raises UnavailableError: a peer does not answer, so its balls would be missing
        :raises UpstreamProtocolError: with ``too_long`` set: the listing is larger than ``max_size``
        """
        check_bucket_id(bucket_id)
        check_str("prefix", prefix)
        check_str("glob", glob)
        if prefix and glob:
            raise ValidationError("prefix and glob must not both be set")
        if listing and (listing.bucket_id != bucket_id or listing.extra.get("missing_peers")):
            raise ValidationError(f"listing must be a complete one of bucket {bucket_id}, got {listing!r:.200}")
        routers = self._sender(timeout, headers)
        async with self._doing(f"listing bucket {bucket_id}", deadline, bucket_id):
            if listing is None:
                listing = await routers.with_retries(lambda: list_bucket(routers, bucket_id, max_size))
            # Selecting from thousands of balls would block the event loop for a large part of a second.
            balls, incomplete = await self._threads.run_sized(
                len(listing.balls) * ROW_SIZE, _select_balls, listing.balls, prefix, glob
            )
            hidden = await self._find_hidden(routers, bucket_id, incomplete)
        found = [*balls, *hidden]
        return await self._threads.run_sized(len(found) * ROW_SIZE, sort_in_slices, found, key=lambda ball: ball.key)

    async def _find_hidden(self, routers: RequestSender, bucket_id: str, ball_ids: Sequence[str]) -> list[Ball]:
        """
        Return the newest complete versions of balls of which a bucket's listing may hide them.

        In such a listing, newer announcements can hide the chunks of an older version; a ball's listing shows all.
        """
        found: list[Ball] = []

        async def look_up(ball_id: str) -> None:
            name = ObjectId(bucket_id, ball_id)
            rows = await routers.with_retries(lambda: list_rows(routers, name))
            chunks = with_empty_objects([row for row in rows if not row.own_key])
            found.extend(version.as_ball() for version in group_versions(chunks)[:1] if version.is_complete)

        await for_each(ball_ids, look_up, 10)
        if len(found) < len(ball_ids):
            action = f"listing bucket {bucket_id}"
            await routers.with_retries(lambda: require_all_peers(routers, action, bucket_id))
        return found

    async def _find(
        self, name: ObjectId, routers: RequestSender, check_storage: bool, listed: Version | None = None
    ) -> Ball:
        if check_storage:
            return (await Download(routers, self._threads, max_concurrency=10).verify(name, listed)).as_ball()
        return (await routers.with_retries(lambda: find_versions(routers, name)))[0].as_ball()

    # -- copying ----------------------------------------------------------------------------------------------------

    @returns_result
    async def copy(
        self,
        bucket_id: str,
        key: str,
        dest_bucket_id: str,
        dest_key: str = "",
        *,
        dest: AsyncClient | None = None,
        rf: int = 1,
        timeout: float = 120,
        max_tries: int = 5,
        max_concurrency: int = 10,
        max_backoff: float = 5,
        replace: bool = False,
        allow_reserved_bucket: bool = False,
        listed: Ball | None = None,
        known: Announced | Seen | None = None,
        deadline: float | None = None,
    ) -> PutReport:
        """
        Copy a ball with its tags, chunk by chunk through this process; return a ``PutReport``.

        Nothing is sent if the same bytes are already stored under the copy's key. Nothing is announced or replaced
        before the complete original is read and verified, except for an announcement in ``known``. Errors: see ``get``
        and ``put``. Parameters: see ``put``, and:

        :param dest_bucket_id: bucket of the copy
        :param dest_key: key of the copy; empty = the original's key
        :param dest: client of the copy's storage space, in the same event loop; None = this client
        :param max_concurrency: maximum chunks in flight; memory is bounded by this times the original's chunk size
        :param listed: the original; see ``download``
        :param known: of ``copy_windows`` with the same arguments
        """
        name = make_object_id(bucket_id, key)
        version = _listed_version(name, listed)
        to = changing_name(dest_bucket_id, dest_key or key, allow_reserved_bucket, "dest_bucket_id")
        copy = self._open_copy(dest, timeout, RetryConfig(max_tries, max_backoff), rf, max_concurrency, replace)
        async with self._doing(f"copying {name} to {to}", deadline, name, to):
            return await copy.run(name, to, version, known)

    def copy_windows(
        self,
        copies: Mapping[int, tuple[Ball, ObjectId]],
        max_concurrency: int,
        *,
        dest: AsyncClient | None = None,
        rf: int = 1,
        timeout: float = 120,
        max_tries: int = 5,
        max_backoff: float = 5,
        replace: bool = False,
    ) -> UploadWindows:
        """
        Return the windows in which copies are announced before ``copy`` sends them.

        Parameters: see ``put`` and ``copy``, and:

        :param copies: the originals as ``list_balls`` returned them, and the copies' names, by number
        :param max_concurrency: maximum announcements in flight
        """
        target = self if dest is None else dest
        copy = self._open_copy(dest, timeout, RetryConfig(max_tries=1), rf, 1, replace)

        async def announce(number: int) -> Announced | None:
            ball, to = copies[number]
            return await copy.announce(make_object_id(ball.bucket_id, ball.key), to, Version.from_ball(ball))

        routers = target._sender(timeout, NO_HEADERS, RetryConfig(max_tries, max_backoff))
        return UploadWindows(lambda number: copies[number][1], announce, routers, max_concurrency)

    def _open_copy(
        self, dest: AsyncClient | None, timeout: float, retry: RetryConfig, rf: int, max_concurrency: int, replace: bool
    ) -> Copy:
        target = self if dest is None else dest
        options = PutOptions(rf, max_concurrency, replace, producer_id=target.client_id)
        download = Download(self._sender(timeout, NO_HEADERS, retry), self._threads, max_concurrency)
        return Copy(download, target._sender(timeout, NO_HEADERS, retry), target._threads, options)

    # -- deleting ---------------------------------------------------------------------------------------------------

    @returns_result
    async def delete(
        self,
        ball_id: str,
        bucket_id: str,
        timeout: float = 120,
        force: bool = True,
        headers: Headers = NO_HEADERS,
        *,
        also: Collection[str] = (),
        listed: Collection[Metadata] = (),
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> DeletedByBallIdResponse:
        """
        Delete all chunks and replicas of a ball, and confirm it; a missing ball is not an error.

        Returns ``n_deletes``, the number of deleted replicas, and ``ball_id``. An object that another client stored
        under a chunk key of its own is deleted alone; others with the same ball id stay. Parameters: see ``put``
        and ``get``, and:

        :param ball_id: the ball id, or any key
        :param force: sent as the header ``Force``
        :param also: keys of objects with the same ball id that may be deleted with it: an object written directly to a
            peer has no placement, and can only be deleted with all of them
        :param listed: all its chunks in a complete listing of the bucket, for callers that delete many balls and list
            the bucket again afterwards: one request per chunk, and no confirmation

        :raises UnavailableError: a peer does not answer, and may still have its replicas
        :raises ValidationError: other objects would be deleted, or the ball id has several; they are named
        """
        name = changing_name(bucket_id, ball_id, allow_reserved_bucket)
        for row in listed:
            if row.bucket_id != bucket_id or {ball_id, name.ball_id}.isdisjoint((row.ball_id, row.own_key)):
                raise ValidationError(f"listed must be chunks of {name}, got {row.bucket_id}/{row.key}")
        deletion = Deletion(self._sender(timeout, headers), force)
        async with self._doing(f"deleting {name}", deadline, name):
            if listed:
                number = await deletion.remove_listed(name, listed, also)
            else:
                number = await deletion.remove_object(name, also)
            return DeletedByBallIdResponse(n_deletes=number, ball_id=name.ball_id)

    @returns_result
    async def delete_by_key(
        self,
        key: str,
        bucket_id: str = "",
        timeout: float = 120,
        force: bool = True,
        headers: Headers = NO_HEADERS,
        *,
        also: Collection[str] = (),
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> DeletedByKeyResponse:
        """
        Delete one chunk on all peers, and confirm it; a missing chunk is not an error.

        ``delete`` deletes a complete ball. Returns ``n_deletes``, the number of deleted replicas, and ``key``.
        Errors: see ``delete``. Parameters: see ``put``, ``get`` and ``delete``, and:

        :param key: the chunk's key: ``{ball_id}_{index}``, or a key of its own
        """
        check_bucket_may_change(bucket_id, allow_reserved_bucket)
        check_chunk_key(key)
        deletion = Deletion(self._sender(timeout, headers), force)
        async with self._doing(f"deleting chunk {bucket_id}/{key}", deadline, f"{bucket_id}/{key}"):
            return DeletedByKeyResponse(n_deletes=await deletion.remove_chunk(bucket_id, key, also), key=key)

    @returns_result
    async def delete_bucket(
        self,
        bucket_id: str,
        headers: Headers = NO_HEADERS,
        timeout: float = 120,
        force: bool = True,
        *,
        max_concurrency: int = 8,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> DeleteBucketResponse:
        """
        Delete every ball of a bucket, and list it again until it is empty. An empty bucket does not exist.

        Empty balls that another client wrote are not deleted, because listings omit them. ``failed`` counts the balls
        that could not be deleted or were added meanwhile; ``failures`` explains them. Errors: see ``delete``.
        Parameters: see ``put``, ``get`` and ``delete``, and:

        :param max_concurrency: maximum balls at once

        :raises UnavailableError: a peer does not answer, so the bucket cannot be listed
        """
        check_bucket_may_change(bucket_id, allow_reserved_bucket)
        deletion = Deletion(self._sender(timeout, headers), force, max_concurrency)
        async with self._doing(f"deleting bucket {bucket_id}", deadline, bucket_id):
            return await deletion.empty_bucket(bucket_id)

    # -- bulks within this process ----------------------------------------------------------------------------------

    @returns_result
    async def put_bulk(
        self,
        bulk_id: str,
        balls: Sequence[BallK],
        max_concurrency: int | None = 10,
        stop_on_failure: bool = False,
        *,
        allow_reserved_bucket: bool = False,
    ) -> bool:
        """
        Start to put balls in the background, and return True at once; ``await_bulk`` returns the results.

        A second call with the same id adds balls, until ``await_bulk`` is called. Its ``max_concurrency`` and
        ``stop_on_failure`` then apply to the complete bulk. After ``await_bulk`` has returned, the id starts a new
        bulk. The state exists in this client only: no other process can await it.

        :param bulk_id: any str that is not empty
        :param balls: dicts with ``bucket_id``, ``ball_id`` or ``key``, ``source`` (bytes, or a path), and optionally
            ``tags``, ``rf``, ``chunk_size``, ``timeout``, ``max_tries``, ``max_concurrency`` and ``max_backoff`` as in
            ``put``
        :param max_concurrency: maximum balls at once; None for up to 64 that hold at most 64 MB together, which is
            several times as fast over a distance
        :param stop_on_failure: after the first failure, start no further ball
        :param allow_reserved_bucket: see ``put``

        :raises ValidationError: a ball is invalid, so none was started; or ``await_bulk`` is waiting for this bulk
        """
        # In a thread, because it checks files.
        items = await self._threads.run(check_items, balls, allow_reserved_bucket)
        self._jobs.start(bulk_id, items, max_concurrency, stop_on_failure)
        return True

    @returns_result
    async def await_bulk(self, bulk_id: str, remove_on_completion: bool = False) -> BulkPutResponse:
        """
        Wait until every ball of a bulk is stored or failed.

        Returns a dict: ``successes`` (``[{"item"}]``), ``failures`` (``[{"item", "error"}]``), ``uploaded_size``
        (bytes), ``total_balls``, ``successed``, ``failed``, ``response_time`` (seconds). Parameters: see ``put_bulk``,
        and:

        :param remove_on_completion: forget the result afterwards, instead of returning it again

        :raises NotFoundError: this client has no bulk with this id
        """
        async with self._doing(f"awaiting bulk {bulk_id}", None):
            return await self._jobs.wait(bulk_id, remove_on_completion)

    async def _put_item(self, item: BallK, known: Announced | Seen | None) -> PutReport:
        return unwrap(await self.upload(**upload_arguments(item), known=known))

    # -- shared by the calls ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _doing(self, action: str, deadline: float | None, *names: ObjectId | str) -> AsyncIterator[None]:
        """
        Limit the time of a call, name its objects in every error, and log the outcome.

        :param action: action and objects, for errors
        :param names: the balls, buckets or chunks of the call
        """
        started = time.monotonic()
        try:
            with disk_errors(action):
                async with deadline_scope(deadline, action):
                    yield
        except MictlanXError as error:
            self._name_in(error, action, names)
            log.debug("Failed after %.3f s: %s", time.monotonic() - started, error)
            raise
        log.debug("Done in %.3f s: %s", time.monotonic() - started, action)

    def _sender(self, timeout: float, headers: Mapping[str, str], retry: RetryConfig | None = None) -> RequestSender:
        options = RequestOptions(timeout=timeout, headers=headers, verify=self._verify)
        return RequestSender(self._pool, options, retry or RetryConfig())


def changing_name(bucket_id: str, key: str, allow_reserved_bucket: bool, parameter: str = "bucket_id") -> ObjectId:
    """Return the checked id of a ball to write or delete; see ``check_bucket_may_change``."""
    return ObjectId(check_bucket_may_change(bucket_id, allow_reserved_bucket, parameter), make_ball_id(key), key)


def _listed_version(name: ObjectId, listed: Ball | None) -> Version | None:
    """Return the version of a listed ball; raise ``ValidationError`` if it is another ball."""
    if listed is None:
        return None
    if (listed.bucket_id, listed.key) != (name.bucket_id, name.key):
        raise ValidationError(f"listed must be the object {name}, got {listed.bucket_id}/{listed.key}")
    return Version.from_ball(listed)


def _copy_chunk(chunk: ChunkLike) -> Chunk:
    """Return a copy of a chunk whose bytes the caller cannot change."""
    index = check_int("index", chunk.index, least=0)
    return Chunk(chunk.group_id, index, _as_bytes(chunk.data), None, chunk.metadata)


def _as_bytes(data: object) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise ValidationError(f"data must be bytes, got {type(data).__name__}; encode a str first")


def _retry_config(
    max_retries: int, max_backoff: float, max_delay: float, delay: float, backoff_factor: float, jitter: bool
) -> RetryConfig:
    """Return the retry configuration for the official client's parameters of a read."""
    waits = {"max_delay": max_delay, "max_backoff": max_backoff, "delay": delay, "backoff_factor": backoff_factor}
    for name, value in waits.items():
        check_non_negative(name, value)
    check_int("max_retries", max_retries)
    return RetryConfig(max_retries, min(max_backoff, max_delay), delay * backoff_factor, jitter=jitter)


def _select_balls(chunks: list[Metadata], prefix: str, glob: str) -> tuple[list[Ball], list[str]]:
    """Return the balls of a listing whose keys match, and the ids of those whose newest version it may hide."""
    complete: list[Ball] = []
    incomplete: list[str] = []
    groups = group_by_object(with_empty_objects(chunks))
    while groups:  # a group is freed as soon as possible, because the garbage collector stops all threads
        _, listed = groups.popitem()
        versions = group_versions(listed)
        for version in versions[:1]:
            ball = version.as_ball()
            if not ball.key.startswith(prefix) or not fnmatch.fnmatchcase(ball.key, glob or "*"):
                continue
            latest = max(other.updated_at for other in versions)
            newest = len(versions) == 1 or (version.size > 0 and version.updated_at == latest)
            if version.is_complete and newest:
                complete.append(ball)
            else:
                incomplete.append(ball.ball_id)
    return complete, incomplete
