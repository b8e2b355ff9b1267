"""
``AsyncClient``: the documented surface of the client. Every method returns a ``Result``; the engines behind it raise.

The names, their order and the defaults are the official client's, so that code written for it runs on this one; what is
this client's own are keyword arguments at the end (``replace``, ``deadline``, ``check_storage``), and ``upload`` and
``download``, which tell more of what they did.
"""

from __future__ import annotations

import asyncio
import fnmatch
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from airflow_provider_mictlanx.client.balancer import Balancer
from airflow_provider_mictlanx.client.chunks import (
    BytesSource,
    OpenFile,
    Source,
    cut_with_long_tail,
    cut_with_short_tail,
    parse_size,
)
from airflow_provider_mictlanx.client.dispatch import Dispatcher, How
from airflow_provider_mictlanx.client.download import Download
from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    IntegrityError,
    MictlanXError,
    NotFoundError,
    ValidationError,
)
from airflow_provider_mictlanx.client.lookup import Name, find_versions, list_bucket
from airflow_provider_mictlanx.client.models import (
    AsyncGetResponse,
    Ball,
    DeleteBucketResponse,
    DeletedByBallIdResponse,
    FileReport,
    PutReport,
    RetryPolicy,
    RouterCheck,
)
from airflow_provider_mictlanx.client.names import ball_id_of, check_bucket_id, is_safe_id, path_tags
from airflow_provider_mictlanx.client.removal import Removal
from airflow_provider_mictlanx.client.result import returns_result, value_of
from airflow_provider_mictlanx.client.retry import RetryRule, within
from airflow_provider_mictlanx.client.router import AsyncRouter
from airflow_provider_mictlanx.client.threads import Threads
from airflow_provider_mictlanx.client.transport import Transport, Verify
from airflow_provider_mictlanx.client.upload import PutOptions, Upload
from airflow_provider_mictlanx.client.uri import MictlanXURI
from airflow_provider_mictlanx.client.versions import balls_in, versions_of

NONE: Mapping[str, str] = MappingProxyType({})
"""No headers, no tags."""

DEFAULT_LOG_PATH = "/mictlanx/client"


class AsyncClient:
    """
    A client of one MictlanX storage space.

    It opens no connection before the first request, and is closed with ``aclose`` or by ``async with``. Use it from one event
    loop at a time.

    :param uri: the routers, as ``mictlanx://router-0@host:60666/?protocol=http``, or a ``MictlanXURI``
    :param client_id: who writes; stored with every chunk as its ``producer_id``
    :param max_workers: the most threads for files and hashing
    :param verify: how TLS is checked: True = by the system's authorities, False = not at all, a text = by the authorities of
        that file, or an ``ssl.SSLContext``
    :param token: sent to the routers as ``Authorization: Bearer``
    :param headers: sent to the routers with every request

    Raises ``ValidationError`` where an argument is wrong.
    """

    def __init__(
        self,
        uri: str | MictlanXURI,
        client_id: str,
        debug: bool = True,
        max_workers: int = 12,
        log_output_path: str | None = os.environ.get("MICTLANX_LOG_PATH", DEFAULT_LOG_PATH),
        log_when: str = "m",
        log_interval: int = 30,
        eviction_policy: str = "LRU",
        capacity_storage: str = "1GB",
        verify: Verify = False,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(client_id, str) or not client_id:
            raise ValidationError(f"client_id is a text that is not empty, not {client_id!r}")
        if isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1:
            raise ValidationError(f"max_workers is a whole number from 1 on, not {max_workers!r}")
        self.uri = uri if isinstance(uri, MictlanXURI) else MictlanXURI.parse(uri)
        self.client_id = client_id
        self._verify = verify
        self._threads = Threads(max_workers)
        self._transport = Transport(token=token, headers=headers, http2=self.uri.http2)
        self._balancer = Balancer(
            [
                AsyncRouter.at(address, self.uri.protocol, self.uri.http2, self.uri.api_version, self._transport)
                for address in self.uri.named_routers
            ]
        )

    def __repr__(self) -> str:
        return f"AsyncClient({str(self.uri)!r}, client_id={self.client_id!r})"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections and let the threads end."""
        await self._transport.aclose()
        self._threads.close()

    # -- writing ---------------------------------------------------------------------------------------------------

    @returns_result
    async def upload(
        self,
        bucket_id: str,
        key: str,
        *,
        data: bytes | None = None,
        path: str | os.PathLike[str] | None = None,
        tags: Mapping[str, str] = NONE,
        chunk_size: str | int = "256kb",
        rf: int = 1,
        timeout: float = 120,
        max_tries: int = 5,
        max_concurrency: int = 10,
        max_backoff: float = 5,
        replace: bool = False,
        deadline: float | None = None,
    ) -> PutReport:
        """
        Put bytes or a file, and tell what was done: ``put`` and ``put_file`` in one.

        The parameters are those of ``put``; of ``data`` and ``path`` one is given. Bytes are cut as ``put`` cuts them, files
        as ``put_file`` does.
        """
        if (data is None) == (path is None):
            raise ValidationError("upload takes either data or path")
        name = _name(bucket_id, key)
        own_tags = {} if is_safe_id(key) else path_tags(key)
        size = parse_size(chunk_size)
        options = PutOptions(rf, max_concurrency, replace, tags, self.client_id)
        routers = self._dispatcher(timeout, NONE, RetryRule(max_tries, max_backoff))
        async with within(deadline, f"putting {name}"):
            if path is None:
                source: Source = BytesSource(_as_bytes(data))
                upload = Upload(routers, self._threads, name, source, options, own_tags)
                return await upload.run(cut_with_long_tail(source.size, size))
            async with OpenFile(path, self._threads) as source:
                upload = Upload(routers, self._threads, name, source, options, own_tags or path_tags(Path(path).name))
                return await upload.run(cut_with_short_tail(source.size, size))

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
        tags: Mapping[str, str] = NONE,
        *,
        replace: bool = False,
        deadline: float | None = None,
    ) -> bool:
        """
        Put bytes under a key; gives True = sent and stored, False = exactly these bytes were stored already.

        It is done when ``rf`` peers have acknowledged every chunk (all there are, where there are fewer).

        ``BallConflictError``: other bytes are stored, or announced, under the key; ``PutChunksError``: too few peers took a
        chunk; ``UnavailableError``: a peer is away, so that it can't be told what is there; ``NetworkError``, ``UnknownError``:
        the routers could not be asked, or failed; ``ValidationError``: an argument is wrong, and nothing was sent.

        :param bucket_id: letters, digits, and single ``-`` or ``_`` between them
        :param key: any text; one that is no safe id is stored under its SHA-256
        :param chunk_size: ``"256kb"`` (1 kb = 1,000 bytes), ``"1MiB"`` or a number of bytes
        :param rf: on how many peers each chunk is to be stored
        :param timeout: for each request (seconds)
        :param max_tries: for each chunk
        :param max_concurrency: the most chunks in flight; memory is bounded by this times ``chunk_size``
        :param max_backoff: the longest wait between two tries (seconds)
        :param tags: texts, stored with every chunk; the client's own win
        :param replace: delete other bytes under the key first; between the two the key is absent
        :param deadline: for the whole call (seconds); ``DeadlineExceededError`` when it is over
        """
        report = value_of(
            await self.upload(
                bucket_id,
                key,
                data=value,
                tags=tags,
                chunk_size=chunk_size,
                rf=rf,
                timeout=timeout,
                max_tries=max_tries,
                max_concurrency=max_concurrency,
                max_backoff=max_backoff,
                replace=replace,
                deadline=deadline,
            )
        )
        return report.uploaded

    @returns_result
    async def put_file(
        self,
        bucket_id: str,
        key: str,
        path: str | os.PathLike[str],
        tags: Mapping[str, str] = NONE,
        chunk_size: str | int = "256kb",
        rf: int = 1,
        timeout: float = 120,
        max_tries: int = 5,
        max_concurrency: int = 2,
        max_backoff: float = 5,
        *,
        replace: bool = False,
        deadline: float | None = None,
    ) -> bool:
        """
        Put a file under a key; gives True = sent and stored, False = exactly these bytes were stored already.

        The file is read twice, to hash it and to send it: one that changes meanwhile is an ``IntegrityError``, and is not
        stored mixed. Everything else is as with ``put``.

        :param path: of a regular file
        """
        report = value_of(
            await self.upload(
                bucket_id,
                key,
                path=path,
                tags=tags,
                chunk_size=chunk_size,
                rf=rf,
                timeout=timeout,
                max_tries=max_tries,
                max_concurrency=max_concurrency,
                max_backoff=max_backoff,
                replace=replace,
                deadline=deadline,
            )
        )
        return report.uploaded

    # -- reading ---------------------------------------------------------------------------------------------------

    @returns_result
    async def get(
        self,
        bucket_id: str,
        key: str,
        max_paralell_gets: int = 10,
        headers: Mapping[str, str] = NONE,
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
        Get a ball into memory, verified: size and SHA-256 of every chunk and of the whole.

        A chunk that is wrong or missing is read again past the router's cache, then from each peer, then the next older
        whole version is read.

        ``NotFoundError``: known to be absent, or never written to its end; ``IntegrityError``: no right copy could be read;
        ``GetChunkError``: a chunk could not be read; ``UnavailableError``: a peer is away, so that it can't be told.

        :param max_paralell_gets: the most chunks in flight
        :param headers: sent with every request of this call
        :param chunk_size: not used: chunks are as their writer cut them, and are read in the pieces in which they come
        :param timeout: for each request (seconds)
        :param http2: not used: the URI tells
        :param max_retries: tries for each chunk
        :param delay: with ``backoff_factor``: the wait before the second try is at most ``delay × backoff_factor`` (seconds),
            and doubles with every try
        :param force: bypass the routers' caches from the start
        :param max_backoff: the longest wait between two tries (seconds)
        :param chunk_index: the first chunk that is read; from another than 0 on the whole's SHA-256 can't be compared
        :param max_delay: the longest wait too (seconds): the smaller one holds
        :param jitter: whether a wait is drawn evenly from zero to its bound, or is its bound
        :param max_size: a larger ball is a ``ValidationError`` (bytes)
        :param deadline: for the whole call (seconds)
        """
        name = _name(bucket_id, key)
        rule = RetryRule(max_retries, min(max_backoff, max_delay), delay * backoff_factor, jitter=jitter)
        download = Download(
            self._dispatcher(timeout, headers, rule), self._threads, max_paralell_gets, force, chunk_index
        )
        async with within(deadline, f"getting {name}"):
            version, data = await download.to_memory(name, max_size)
        return AsyncGetResponse(data=data, metadatas=version.ordered)

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
        headers: Mapping[str, str] = NONE,
        force: bool = False,
        replace: bool = False,
        deadline: float | None = None,
    ) -> FileReport:
        """
        Get a ball into a file that appears whole and verified or not at all, and tell what was done.

        The errors are those of ``get``, and ``FileAlreadyExists`` where a file of that name has other content.

        :param output_path: the folder; made if missing
        :param filename: a plain name; where it is empty, a safe form of the tag ``fullname``, else ``{ball_id}[.{extension}]``
        :param replace: whether a file of that name with other content is replaced
        """
        rule = RetryRule(max_tries, max_backoff)
        return await self._to_file(
            bucket_id, key, output_path, filename, max_concurrency, timeout, rule, headers, force, 0, replace, deadline
        )

    @returns_result
    async def get_to_file(
        self,
        bucket_id: str,
        ball_id: str,
        output_path: str | os.PathLike[str] = "",
        fullname: str = "",
        max_paralell_gets: int = 10,
        headers: Mapping[str, str] = NONE,
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
        Get a ball into a file that appears whole and verified or not at all; gives the path written.

        A file with the same content is left as it is, and counts as written; another one is a ``FileAlreadyExists``. The
        other parameters and errors are those of ``get``.

        :param output_path: the folder; made if missing; the working directory where it is empty
        :param fullname: the file's name, without folders; where it is empty, a safe form of the tag ``fullname``, else
            ``{ball_id}[.{extension}]``
        :param replace: whether a file of that name with other content is replaced
        """
        rule = RetryRule(max_retries, max_delay, delay * backoff_factor, jitter=jitter)
        report = await self._to_file(
            bucket_id,
            ball_id,
            output_path,
            fullname,
            max_paralell_gets,
            timeout,
            rule,
            headers,
            force,
            chunk_index,
            replace,
            deadline,
        )
        return report.path

    async def _to_file(
        self,
        bucket_id: str,
        key: str,
        folder: str | os.PathLike[str],
        filename: str,
        max_concurrency: int,
        timeout: float,
        rule: RetryRule,
        headers: Mapping[str, str],
        force: bool,
        first: int,
        replace: bool,
        deadline: float | None,
    ) -> FileReport:
        name = _name(bucket_id, key)
        download = Download(self._dispatcher(timeout, headers, rule), self._threads, max_concurrency, force, first)
        async with within(deadline, f"getting {name} to a file"):
            return await download.to_file(name, Path(folder), filename, replace)

    @returns_result
    async def get_metadata(
        self,
        bucket_id: str,
        ball_id: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NONE,
        restart_policy: RetryPolicy | None = None,
        *,
        check_storage: bool = False,
        deadline: float | None = None,
    ) -> Ball:
        """
        Get what is known of a ball: of its newest whole version.

        ``NotFoundError``: known to be absent, or never written to its end; ``UnavailableError``: a peer is away, so that it
        can't be told.

        :param ball_id: the ball id, or any key
        :param timeout: for each request (seconds)
        :param restart_policy: how often the look is repeated; five tries where it is None
        :param check_storage: whether every chunk is read once, verified: a listing shows announcements, not data. Then also
            ``GetChunkError`` and ``IntegrityError``, as with ``get``
        :param deadline: for the whole call (seconds)
        """
        return await self._find(bucket_id, ball_id, timeout, headers, _rule_of(restart_policy), check_storage, deadline)

    async def _find(
        self,
        bucket_id: str,
        key: str,
        timeout: float,
        headers: Mapping[str, str],
        rule: RetryRule,
        check_storage: bool,
        deadline: float | None,
    ) -> Ball:
        name = _name(bucket_id, key)
        routers = self._dispatcher(timeout, headers, rule)
        async with within(deadline, f"looking for {name}"):
            if check_storage:
                return (await Download(routers, self._threads, max_concurrency=10).verify(name)).as_ball()
            return (await routers.repeat(lambda: find_versions(routers, name)))[0].as_ball()

    @returns_result
    async def exists(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NONE,
        *,
        check_storage: bool = False,
        deadline: float | None = None,
    ) -> bool:
        """
        Tell whether a whole ball is there.

        ``UnavailableError``: a peer is away, so that an absent answer is no no.

        :param check_storage: whether every chunk is read once, verified; else the listing of announcements answers
        """
        try:
            await self._find(bucket_id, key, timeout, headers, RetryRule(), check_storage, deadline)
        except (NotFoundError, GetChunkError, IntegrityError):
            return False
        return True

    @returns_result
    async def list_balls(
        self,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        timeout: float = 120,
        headers: Mapping[str, str] = NONE,
        *,
        deadline: float | None = None,
    ) -> list[Ball]:
        """
        List the balls of a bucket, sorted by key: those of which every chunk is announced.

        Balls of size 0 are in no listing. An unknown bucket is an empty one. The router sends the whole bucket, whatever is
        asked for.

        ``UnavailableError``: a peer is away, so that what it holds would be missing.

        :param prefix: keys that begin like this
        :param glob: keys that match this pattern: ``*`` any text (``/`` too), ``?`` a character, ``[ab]`` one of these
        """
        check_bucket_id(bucket_id)
        if prefix and glob:
            raise ValidationError("list_balls takes either prefix or glob")
        routers = self._dispatcher(timeout, headers, RetryRule())
        async with within(deadline, f"listing bucket {bucket_id}"):
            listing = await routers.repeat(lambda: list_bucket(routers, bucket_id))
        newest = [versions_of(chunks)[:1] for chunks in balls_in(listing.balls).values()]
        balls = [version.as_ball() for versions in newest for version in versions if version.whole]
        chosen = [
            ball for ball in balls if ball.key.startswith(prefix) and (not glob or fnmatch.fnmatchcase(ball.key, glob))
        ]
        return sorted(chosen, key=lambda ball: ball.key)

    # -- deleting --------------------------------------------------------------------------------------------------

    @returns_result
    async def delete(
        self,
        ball_id: str,
        bucket_id: str,
        timeout: float = 120,
        force: bool = True,
        headers: Mapping[str, str] = NONE,
        *,
        deadline: float | None = None,
    ) -> DeletedByBallIdResponse:
        """
        Delete a ball with all its chunks and replicas, and see it gone; what is not there counts as deleted.

        Gives the number of replicas that were deleted. ``UnavailableError``: a peer is away, and may bring its copy back.

        :param ball_id: the ball id, or any key
        :param timeout: for each request (seconds)
        :param force: sent as the header ``Force``
        :param deadline: for the whole call (seconds)
        """
        name = _name(bucket_id, ball_id)
        removal = Removal(self._dispatcher(timeout, headers, RetryRule()), force)
        async with within(deadline, f"deleting {name}"):
            return DeletedByBallIdResponse(n_deletes=await removal.remove(name), ball_id=name.ball_id)

    @returns_result
    async def delete_bucket(
        self,
        bucket_id: str,
        headers: Mapping[str, str] = NONE,
        timeout: float = 120,
        force: bool = True,
        *,
        max_concurrency: int = 8,
        deadline: float | None = None,
    ) -> DeleteBucketResponse:
        """
        Delete every ball of a bucket, and list it again until it is empty; a bucket with nothing in it is gone.

        Balls of size 0 are in no listing, and are not found by this. Balls that could not be deleted, or came in meanwhile,
        are counted in ``failed`` and explained in ``failures``. ``UnavailableError``: a peer is away, so that the bucket
        can't be listed.

        :param timeout: for each request (seconds)
        :param max_concurrency: the most balls at once
        :param deadline: for the whole call (seconds)
        """
        check_bucket_id(bucket_id)
        removal = Removal(self._dispatcher(timeout, headers, RetryRule()), force, max_concurrency)
        async with within(deadline, f"deleting bucket {bucket_id}"):
            return await removal.empty_bucket(bucket_id)

    # -- the storage space -----------------------------------------------------------------------------------------

    @returns_result
    async def check_routers(self, timeout: float = 10) -> list[RouterCheck]:
        """
        Ask every router for its peers, all at once; a router that does not answer has its error in its line.

        :param timeout: for each router (seconds)
        """
        return list(await asyncio.gather(*(self._check(router, timeout) for router in self._balancer.routers)))

    async def _check(self, router: AsyncRouter, timeout: float) -> RouterCheck:
        started = time.monotonic()
        available: list[str] = []
        unavailable: list[str] = []
        problem: MictlanXError | None = None
        try:
            peers = value_of(await router.get_peers(timeout=timeout, verify=self._verify))
            available = [peer.peer_id for peer in peers.available]
            unavailable = [peer.peer_id for peer in peers.unavailable]
        except MictlanXError as error:
            problem = error
        milliseconds = round((time.monotonic() - started) * 1000, 1)
        return RouterCheck(router.router_id, router.base_url(), available, unavailable, milliseconds, problem)

    def _dispatcher(self, timeout: float, headers: Mapping[str, str], rule: RetryRule) -> Dispatcher:
        return Dispatcher(self._balancer, How(timeout=timeout, headers=headers, verify=self._verify), rule)


def _name(bucket_id: str, key: str) -> Name:
    return Name(check_bucket_id(bucket_id), ball_id_of(key), key)


def _as_bytes(data: object) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise ValidationError(f"bytes are wanted, not {type(data).__name__}; a text has to be encoded first")


def _rule_of(policy: RetryPolicy | None) -> RetryRule:
    if policy is None:
        return RetryRule()
    return RetryRule(
        policy.retries + 1, policy.max_delay, policy.initial_delay, factor=policy.backoff_factor, jitter=policy.jitter
    )
