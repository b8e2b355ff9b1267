"""
``MictlanXHook``: an Airflow connection becomes a MictlanX client, for code that blocks and for code that awaits.

Imports the client, and the other modules of this folder. All transfer logic is the client's and the bulks'.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
    ValidationError,
)
from airflow_provider_mictlanx.client.names import ball_id_of, safe_file_name
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.get_provider_info import UI_FIELD_BEHAVIOUR
from airflow_provider_mictlanx.hooks import form, results
from airflow_provider_mictlanx.hooks.bulks import BulkCalls
from airflow_provider_mictlanx.hooks.connection import Settings
from airflow_provider_mictlanx.hooks.lookup import alook_up, look_up
from airflow_provider_mictlanx.hooks.runner import Runner

P = ParamSpec("P")
T = TypeVar("T")

_FAILURES_SHOWN = 5


class MictlanXHook(BulkCalls):
    """
    Interact with MictlanX.

    Every method that talks to the storage comes twice: ``put`` blocks, its twin ``aput`` is awaited. The blocking ones work
    with and without a running event loop, in any thread and in forked workers; ``cancel`` stops them from elsewhere. All
    of them raise ``MictlanXError``s only (a connection that is missing or can't be understood is a ``ValidationError``).

    ``timeout`` is for one request (seconds), ``max_tries`` per chunk, ``max_backoff`` the longest pause between two tries
    (seconds), ``deadline`` for the whole call (seconds; default none). ``timeout``, ``chunk_size`` and ``max_concurrency``
    default to the connection's, else to the client's.

    :param mictlanx_conn_id: the connection
    """

    conn_name_attr = "mictlanx_conn_id"
    default_conn_name = "mictlanx_default"
    conn_type = "mictlanx"
    hook_name = "MictlanX"

    def __init__(self, mictlanx_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mictlanx_conn_id = mictlanx_conn_id
        self._settings: Settings | None = None
        self._look_up_lock = threading.Lock()
        self._runner = Runner()

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what belongs to this process: operators are copied, with the hook they may hold."""
        return {
            name: value for name, value in self.__dict__.items() if name not in ("_look_up_lock", "_runner", "_log")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with a lock and a runner of its own."""
        self.__dict__.update(state)
        self._look_up_lock = threading.Lock()
        self._runner = Runner()
        self._log = None

    # The connection

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Give the form's extra fields to Airflow before 3.2."""
        return form.connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Give what the form hides and renames to Airflow before 3.2."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    @property
    def settings(self) -> Settings:
        """The connection, looked up once; threads that ask at the same time share the look-up."""
        if self._settings is None:
            with self._look_up_lock:
                if self._settings is None:
                    self._settings = look_up(self.mictlanx_conn_id, self)
        return self._settings

    async def aget_settings(self) -> Settings:
        """Give ``settings`` without blocking the loop; coroutines that ask at the same time share the look-up."""
        if self._settings is None:
            self._settings = await alook_up(self.mictlanx_conn_id, self, lambda: self._settings)
        return self._settings

    def get_conn(self) -> AsyncClient:
        """
        Give an unopened client, to be used as ``async with hook.get_conn() as client``.

        Its methods return a ``Result``. Looks the connection up and reads TLS files, so it blocks; within an event loop use
        ``aget_conn``.
        """
        return _client(self.settings, self.settings.tls())

    @asynccontextmanager
    async def aget_conn(self) -> AsyncIterator[AsyncClient]:
        """
        Open a client for many calls: ``async with hook.aget_conn() as client``; it is closed at the end.

        Its methods return a ``Result``. It belongs to the running event loop and is not to be kept for another.
        """
        settings = await self.aget_settings()
        verify = await asyncio.to_thread(settings.tls) if settings.reads_tls_files else settings.verify
        async with _client(settings, verify) as client:
            yield client

    def test_connection(self) -> tuple[bool, str]:
        """
        Ask every router for its peers, and tell what each of them says. Never raises.

        False where a router fails, where no peer is available, and where routers name different peers: those belong to
        different storage spaces, and what is written through one would be missing in the other.
        """
        try:
            return self._run(self._acheck)
        except Exception as error:
            return False, str(error) or type(error).__name__

    async def _acheck(self) -> tuple[bool, str]:
        async with self.aget_conn() as client:
            checks = value_of(await client.check_routers())
        return results.of_connection_test(checks)

    # Blocking calls

    def cancel(self) -> None:
        """Stop the blocking calls that are under way in other threads, and refuse new ones; safe in a signal handler."""
        self._runner.cancel()

    def _run(self, twin: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an async twin for a caller that blocks. The connection is looked up here, before there is a loop."""
        if not self._runner.cancelled:
            _ = self.settings
        return self._runner.run(partial(twin, *args, **kwargs))

    # Writing

    def put(
        self,
        bucket_id: str,
        key: str,
        data: bytes | str,
        *,
        chunk_size: str | None = None,
        rf: int = 1,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        tags: Mapping[str, str] | None = None,
        replace: bool = False,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """
        Store bytes, or a text as UTF-8, under a key.

        Returns ``{bucket_id, key, ball_id, size, checksum, num_chunks, replicas, uploaded, response_time}``: ``replicas`` is
        the smallest number over all chunks, ``uploaded`` is False where exactly these bytes were stored already.

        :param bucket_id: the bucket: letters, digits, and single ``-`` or ``_`` between them
        :param key: the object's name; any text
        :param data: what to store
        :param chunk_size: how it is cut, as ``"256kb"``
        :param rf: on how many peers every chunk is to be stored
        :param timeout: of one request, in seconds
        :param max_tries: per chunk
        :param max_concurrency: chunks in flight
        :param max_backoff: the longest pause between two tries, in seconds
        :param tags: texts by name, kept with the object
        :param replace: delete other bytes under that key first, instead of raising ``BallConflictError``; a crash between
            the two leaves nothing until the retry
        :param deadline: of the whole call, in seconds
        """
        return self._run(
            self.aput,
            bucket_id,
            key,
            data,
            chunk_size=chunk_size,
            rf=rf,
            timeout=timeout,
            max_tries=max_tries,
            max_concurrency=max_concurrency,
            max_backoff=max_backoff,
            tags=tags,
            replace=replace,
            deadline=deadline,
        )

    async def aput(
        self,
        bucket_id: str,
        key: str,
        data: bytes | str,
        *,
        chunk_size: str | None = None,
        rf: int = 1,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        tags: Mapping[str, str] | None = None,
        replace: bool = False,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Store bytes, or a text as UTF-8, under a key; see ``put``."""
        return await self._aupload(
            bucket_id,
            key,
            {"data": _as_bytes(data)},
            {"timeout": timeout, "chunk_size": chunk_size, "max_concurrency": max_concurrency},
            rf=rf,
            max_tries=max_tries,
            max_backoff=max_backoff,
            tags=tags,
            replace=replace,
            deadline=deadline,
        )

    def put_file(
        self,
        bucket_id: str,
        key: str,
        path: str | os.PathLike[str],
        *,
        chunk_size: str | None = None,
        rf: int = 1,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        tags: Mapping[str, str] | None = None,
        replace: bool = False,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """
        Store a file under a key. Memory is bounded by ``max_concurrency`` times ``chunk_size``, whatever the file's size.

        Parameters and result as of ``put``, but for:

        :param path: a file of this machine; an empty one is fine
        """
        return self._run(
            self.aput_file,
            bucket_id,
            key,
            path,
            chunk_size=chunk_size,
            rf=rf,
            timeout=timeout,
            max_tries=max_tries,
            max_concurrency=max_concurrency,
            max_backoff=max_backoff,
            tags=tags,
            replace=replace,
            deadline=deadline,
        )

    async def aput_file(
        self,
        bucket_id: str,
        key: str,
        path: str | os.PathLike[str],
        *,
        chunk_size: str | None = None,
        rf: int = 1,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        tags: Mapping[str, str] | None = None,
        replace: bool = False,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Store a file under a key; see ``put_file``."""
        return await self._aupload(
            bucket_id,
            key,
            {"path": path},
            {"timeout": timeout, "chunk_size": chunk_size, "max_concurrency": max_concurrency},
            rf=rf,
            max_tries=max_tries,
            max_backoff=max_backoff,
            tags=tags,
            replace=replace,
            deadline=deadline,
        )

    async def _aupload(
        self,
        bucket_id: str,
        key: str,
        source: dict[str, Any],
        defaulted: dict[str, Any],
        *,
        tags: Mapping[str, str] | None,
        **options: Any,
    ) -> dict[str, Any]:
        settings = await self.aget_settings()
        async with self.aget_conn() as client:
            given = _chosen(settings, **defaulted)
            report = await client.upload(
                bucket_id, key, **source, **given, **options, tags={} if tags is None else tags
            )
        return results.of_report(value_of(report))

    # Reading

    def get(
        self,
        bucket_id: str,
        key: str,
        *,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        max_size: int | None = None,
        deadline: float | None = None,
    ) -> bytes:
        """
        Read an object into memory, verified: size and SHA-256 of every chunk and of the whole.

        Not for XCom; for anything large use ``get_to_file``.

        :param bucket_id: the bucket
        :param key: the object's name
        :param timeout: of one request, in seconds
        :param max_tries: per chunk
        :param max_concurrency: chunks in flight
        :param max_backoff: the longest pause between two tries, in seconds
        :param max_size: refuse anything larger (bytes)
        :param deadline: of the whole call, in seconds
        """
        return self._run(
            self.aget,
            bucket_id,
            key,
            timeout=timeout,
            max_tries=max_tries,
            max_concurrency=max_concurrency,
            max_backoff=max_backoff,
            max_size=max_size,
            deadline=deadline,
        )

    async def aget(
        self,
        bucket_id: str,
        key: str,
        *,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        max_size: int | None = None,
        deadline: float | None = None,
    ) -> bytes:
        """Read an object into memory, verified; see ``get``."""
        given = _chosen(await self.aget_settings(), timeout=timeout, max_concurrency=max_concurrency)
        if "max_concurrency" in given:
            given["max_paralell_gets"] = given.pop("max_concurrency")  # the official client's spelling
        async with self.aget_conn() as client:
            response = await client.get(
                bucket_id,
                key,
                **given,
                max_retries=max_tries,
                max_backoff=max_backoff,
                max_size=max_size,
                deadline=deadline,
            )
        return value_of(response).data.tobytes()

    def get_to_file(
        self,
        bucket_id: str,
        key: str,
        output_path: str | os.PathLike[str],
        *,
        filename: str | None = None,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """
        Read an object into a file that appears whole and verified, or not at all.

        Returns ``{bucket_id, key, ball_id, path, size, checksum, num_chunks, downloaded, response_time}``: ``downloaded`` is
        False where a file with this content was there already.

        :param bucket_id: the bucket
        :param key: the object's name
        :param output_path: a folder of this machine; made if missing
        :param filename: the file's plain name; default: the key's last component
        :param timeout: of one request, in seconds
        :param max_tries: per chunk
        :param max_concurrency: chunks in flight
        :param max_backoff: the longest pause between two tries, in seconds
        :param replace: overwrite a file with other content instead of raising ``FileAlreadyExists``
        :param deadline: of the whole call, in seconds
        """
        return self._run(
            self.aget_to_file,
            bucket_id,
            key,
            output_path,
            filename=filename,
            timeout=timeout,
            max_tries=max_tries,
            max_concurrency=max_concurrency,
            max_backoff=max_backoff,
            replace=replace,
            deadline=deadline,
        )

    async def aget_to_file(
        self,
        bucket_id: str,
        key: str,
        output_path: str | os.PathLike[str],
        *,
        filename: str | None = None,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        replace: bool = False,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Read an object into a file that appears whole and verified, or not at all; see ``get_to_file``."""
        if output_path == "":
            raise ValidationError("output_path is empty: name a folder, or '.' for the working directory")
        filename = _file_name(key, filename)
        given = _chosen(await self.aget_settings(), timeout=timeout, max_concurrency=max_concurrency)
        async with self.aget_conn() as client:
            report = await client.download(
                bucket_id,
                key,
                output_path,
                filename=filename,
                **given,
                max_tries=max_tries,
                max_backoff=max_backoff,
                replace=replace,
                deadline=deadline,
            )
        return results.of_report(value_of(report))

    # Looking

    def exists(
        self,
        bucket_id: str,
        key: str,
        *,
        check_storage: bool = False,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> bool:
        """
        Tell whether an object is there: by the listing, or with ``check_storage`` by reading it.

        Raises ``UnavailableError`` where that can't be told because a peer is away.

        :param bucket_id: the bucket
        :param key: the object's name
        :param check_storage: read every chunk and verify it; the listing shows announcements, not data
        :param timeout: of one request, in seconds
        :param deadline: of the whole call, in seconds
        """
        return self._run(self.aexists, bucket_id, key, check_storage=check_storage, timeout=timeout, deadline=deadline)

    async def aexists(
        self,
        bucket_id: str,
        key: str,
        *,
        check_storage: bool = False,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> bool:
        """Tell whether an object is there; see ``exists``."""
        given = _chosen(await self.aget_settings(), timeout=timeout)
        async with self.aget_conn() as client:
            return value_of(
                await client.exists(bucket_id, key, **given, check_storage=check_storage, deadline=deadline)
            )

    def get_metadata(
        self,
        bucket_id: str,
        key: str,
        *,
        check_storage: bool = False,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """
        Tell what the storage knows of an object, or raise ``NotFoundError``.

        Returns ``{bucket_id, key, ball_id, size, checksum, num_chunks, tags, updated_at}``; ``updated_at`` is in nanoseconds
        since 1970. Parameters as of ``exists``.
        """
        return self._run(
            self.aget_metadata, bucket_id, key, check_storage=check_storage, timeout=timeout, deadline=deadline
        )

    async def aget_metadata(
        self,
        bucket_id: str,
        key: str,
        *,
        check_storage: bool = False,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Tell what the storage knows of an object; see ``get_metadata``."""
        given = _chosen(await self.aget_settings(), timeout=timeout)
        async with self.aget_conn() as client:
            ball = await client.get_metadata(bucket_id, key, **given, check_storage=check_storage, deadline=deadline)
        return results.of_ball(value_of(ball))

    def find(
        self, bucket_id: str, key: str, *, check_storage: bool = True, timeout: float | None = None
    ) -> dict[str, Any] | None:
        """
        Look once for an object that may not be there yet: give what ``get_metadata`` gives, or None.

        It looks into the listing; only what is listed there is read, if ``check_storage`` is on. While a peer is away, what
        can't be seen is "not yet" too.

        :param bucket_id: the bucket
        :param key: the object's name
        :param check_storage: read every chunk and verify it before saying that the object is there
        :param timeout: of one request, in seconds
        """
        return self._run(self.afind, bucket_id, key, check_storage=check_storage, timeout=timeout)

    async def afind(
        self,
        bucket_id: str,
        key: str,
        *,
        check_storage: bool = True,
        timeout: float | None = None,
        client: AsyncClient | None = None,
    ) -> dict[str, Any] | None:
        """
        Look once for an object that may not be there yet; see ``find``.

        :param client: an open client of this loop, for who looks again and again; default: one for this call
        """
        given = _chosen(await self.aget_settings(), timeout=timeout)
        async with nullcontext(client) if client is not None else self.aget_conn() as opened:
            try:
                ball = value_of(await opened.get_metadata(bucket_id, key, **given))
                if check_storage:
                    ball = value_of(await opened.get_metadata(bucket_id, key, **given, check_storage=True))
            except (NotFoundError, GetChunkError, IntegrityError, UnavailableError) as error:
                self.log.info("%s/%s is not there yet: %s", bucket_id, key, error)
                return None
        return results.of_ball(ball)

    def list_balls(
        self,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> list[dict[str, Any]]:
        """
        List a bucket's objects by key, as a list of what ``get_metadata`` gives.

        MictlanX never lists empty objects (size 0), though ``exists`` and ``get`` find them.

        :param bucket_id: the bucket; one that nobody wrote to is empty
        :param prefix: only keys that begin with it
        :param glob: only keys that match, as ``"2024/*.csv"``; not together with ``prefix``
        :param timeout: of one request, in seconds
        :param deadline: of the whole call, in seconds
        """
        return self._run(self.alist_balls, bucket_id, prefix, glob, timeout=timeout, deadline=deadline)

    async def alist_balls(
        self,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> list[dict[str, Any]]:
        """List a bucket's objects by key; see ``list_balls``."""
        given = _chosen(await self.aget_settings(), timeout=timeout)
        async with self.aget_conn() as client:
            balls = await client.list_balls(bucket_id, prefix=prefix, glob=glob, **given, deadline=deadline)
        return [results.of_ball(ball) for ball in value_of(balls)]

    # Deleting

    def delete(
        self, bucket_id: str, key: str, *, timeout: float | None = None, deadline: float | None = None
    ) -> dict[str, Any]:
        """
        Delete an object; one that is not there is deleted already.

        Returns ``{bucket_id, key, ball_id, n_deletes}``; ``n_deletes`` counts the replicas of all its chunks.

        :param bucket_id: the bucket
        :param key: the object's name
        :param timeout: of one request, in seconds
        :param deadline: of the whole call, in seconds
        """
        return self._run(self.adelete, bucket_id, key, timeout=timeout, deadline=deadline)

    async def adelete(
        self, bucket_id: str, key: str, *, timeout: float | None = None, deadline: float | None = None
    ) -> dict[str, Any]:
        """Delete an object; see ``delete``."""
        given = _chosen(await self.aget_settings(), timeout=timeout)
        async with self.aget_conn() as client:
            response = value_of(await client.delete(key, bucket_id, **given, deadline=deadline))
        return {"bucket_id": bucket_id, "key": key, "ball_id": response.ball_id, "n_deletes": response.n_deletes}

    def delete_bucket(
        self,
        bucket_id: str,
        *,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """
        Delete every object that a bucket lists, until it lists none.

        Returns ``{bucket_id, deleted, failed, total, response_time}``. MictlanX never lists empty objects (size 0), so they
        stay until they are deleted by their key.

        :param bucket_id: the bucket
        :param timeout: of one request, in seconds
        :param max_concurrency: objects that are deleted at the same time
        :param deadline: of the whole call, in seconds
        """
        return self._run(
            self.adelete_bucket, bucket_id, timeout=timeout, max_concurrency=max_concurrency, deadline=deadline
        )

    async def adelete_bucket(
        self,
        bucket_id: str,
        *,
        timeout: float | None = None,
        max_concurrency: int | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Delete every object that a bucket lists; see ``delete_bucket``."""
        given = _chosen(await self.aget_settings(), timeout=timeout, max_concurrency=max_concurrency)
        async with self.aget_conn() as client:
            response = value_of(await client.delete_bucket(bucket_id, **given, deadline=deadline))
        for ball_id, why in islice(response.failures.items(), _FAILURES_SHOWN):
            self.log.warning("%s/%s could not be deleted: %s", bucket_id, ball_id, why)
        return results.of_deleted_bucket(response)


def _client(settings: Settings, verify: Any) -> AsyncClient:
    """Make a client that keeps no log folder and no read cache, and is quiet: httpx would log a line per request."""
    if (log := logging.getLogger("httpx")).level == logging.NOTSET:
        log.setLevel(logging.WARNING)  # as Airflow 3 does by itself
    return AsyncClient(
        settings.uri,
        settings.client_id,
        debug=False,
        log_output_path=None,
        capacity_storage="0",
        verify=verify,
        token=settings.token,
        headers=settings.headers,
    )


def _chosen(settings: Settings, **given: Any) -> dict[str, Any]:
    """Give what the caller chose, else what the connection says, else nothing: the client's default."""
    chosen = {name: getattr(settings, name) if value is None else value for name, value in given.items()}
    return {name: value for name, value in chosen.items() if value is not None}


def _as_bytes(data: bytes | str) -> bytes:
    if isinstance(data, str):
        try:
            return data.encode()
        except UnicodeEncodeError as error:
            raise ValidationError(f"data is no valid Unicode text: {error.reason}") from error
    if isinstance(data, bytes):
        return data
    raise ValidationError(f"data is bytes or a text, not a {type(data).__name__}")


def _file_name(key: str, filename: str | None) -> str:
    """Give the name that was asked for, else a plain one made of the key."""
    if filename is None:
        ball_id = ball_id_of(key)
        return safe_file_name(key) or ball_id
    if not filename:
        raise ValidationError("filename is empty; leave it out to name the file after the key")
    return filename
