"""``MictlanXHook``: MictlanX through an Airflow connection, for blocking and for async code."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, ParamSpec, TypeAlias, TypeVar, Unpack

from airflow.providers.common.compat.sdk import BaseHook
from humanfriendly import format_size
from humanfriendly.text import pluralize
from option import Result

from airflow_provider_mictlanx import lineage
from airflow_provider_mictlanx.batches import copy as batch_copy
from airflow_provider_mictlanx.batches import delete as batch_delete
from airflow_provider_mictlanx.batches import download
from airflow_provider_mictlanx.batches.export import Store, export_items
from airflow_provider_mictlanx.batches.runner import (
    MAX_REPORTED,
    BatchResult,
    Failure,
    TransferOptions,
    batch_error,
    select_options,
)
from airflow_provider_mictlanx.bulks import monitor as bulk_monitor
from airflow_provider_mictlanx.bulks import summary as bulk_summary
from airflow_provider_mictlanx.bulks.attempt import ShardUpload
from airflow_provider_mictlanx.bulks.options import AttemptOptions, BulkSpec
from airflow_provider_mictlanx.bulks.sources import list_items, list_sources
from airflow_provider_mictlanx.bulks.status import State
from airflow_provider_mictlanx.bulks.sweep import sweep_bucket
from airflow_provider_mictlanx.bulks.sync import (
    BucketPath,
    BucketSide,
    FolderSide,
    Side,
    StoreSide,
    SyncOptions,
    side_of,
    sync,
)
from airflow_provider_mictlanx.bulks.verification import StorageCheck
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import for_each, run_in_thread
from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    IntegrityError,
    MictlanXError,
    NotFoundError,
    UnavailableError,
    ValidationError,
)
from airflow_provider_mictlanx.client.models import Ball
from airflow_provider_mictlanx.client.object_ids import check_bucket_may_change, folders, make_ball_id, safe_file_name
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.retry import deadline_scope
from airflow_provider_mictlanx.client.texts import clean
from airflow_provider_mictlanx.client.validation import check_bool, check_int, check_str, check_timeout, parse_size
from airflow_provider_mictlanx.get_provider_info import UI_FIELD_BEHAVIOUR
from airflow_provider_mictlanx.hooks import connection_form, metrics, summaries
from airflow_provider_mictlanx.hooks.arguments import (
    BatchDeleteArguments,
    BulkArguments,
    CallArguments,
    CopyArguments,
    DeleteArguments,
    GetArguments,
    PutArguments,
    SweepArguments,
    exactly_one,
    list_arguments,
)
from airflow_provider_mictlanx.hooks.bucket_inactivity import InactivityMonitor
from airflow_provider_mictlanx.hooks.clean_log import CleanLog
from airflow_provider_mictlanx.hooks.connection import ConnectionSettings, aload_settings, check_conn_id, load_settings
from airflow_provider_mictlanx.hooks.errors import errors_name_connection, shorten_traceback
from airflow_provider_mictlanx.hooks.sync_runner import Runner, blocking
from airflow_provider_mictlanx.lineage import (
    DataLocation,
    LineageTrace,
    bucket_location,
    file_location,
    source_location,
)

P = ParamSpec("P")
T = TypeVar("T")
B = TypeVar("B", bound=BatchResult)

Source: TypeAlias = Any
"""A path: str, ``os.PathLike`` or ``ObjectStoragePath``; the last has no common base class in Airflow 2 and 3."""

Readable: TypeAlias = MutableMapping[str, Ball]
"""Objects that were read and verified, by ball id."""

CheckFn: TypeAlias = Callable[[list[dict[str, Any]]], bool]
"""Returns whether the objects that were found are the expected ones."""

FOUND_AT_ONCE = 8
"""Limit for the keys that are searched for at the same time."""

READ_AT_ONCE = 2
"""Limit for the objects that are read at the same time; the chunks of each are read concurrently too."""

_NOT_YET = (NotFoundError, GetChunkError, IntegrityError, UnavailableError)
"""Errors of an object that may still be written, or may be stored on a peer that does not answer."""

_FILLED = ("timeout", "chunk_size", "max_concurrency", "tags")
"""Options that are omitted if neither the caller nor the connection sets them: the client has its own defaults."""

_OFFICIAL_NAMES = {"max_tries": "max_retries", "max_concurrency": "max_paralell_gets"}
"""Options that ``AsyncClient.get`` takes under the official client's names."""

_NATIVE_LISTS = (
    "In a DAG, pass the list itself, such as task.output: a template renders to str, unless the DAG has "
    "render_template_as_native_obj=True"
)

_NOT_COPIED = frozenset({"_settings", "_look_up_lock", "_runner", "_log"})


class MictlanXHook(CleanLog, BaseHook):
    """
    Store, read, copy and delete objects in MictlanX, and upload bulks.

    Every call exists twice: ``put`` blocks, and ``aput`` is a coroutine. Blocking calls work in any thread, in forked
    workers, and inside a running event loop; ``cancel`` stops them from another thread. Both raise only
    ``MictlanXError``; for a missing or invalid connection it is a ``ValidationError``.

    Shared parameters are described at ``aput``.

    :param mictlanx_conn_id: the connection
    :ivar trace: locations that this hook has read, written and deleted, for lineage
    """

    conn_name_attr = "mictlanx_conn_id"
    default_conn_name = "mictlanx_default"
    conn_type = "mictlanx"
    hook_name = "MictlanX"

    def __init__(self, mictlanx_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mictlanx_conn_id = mictlanx_conn_id
        self.trace = LineageTrace()
        self._start()

    def _start(self) -> None:
        """Set the members that belong to this process; the connection is not read yet."""
        self._settings: ConnectionSettings | None = None
        self._look_up_lock = threading.Lock()
        self._runner = Runner()

    def __getstate__(self) -> dict[str, Any]:
        """
        Return the state without process-bound objects, and without the connection, which contains secrets.

        Airflow copies and pickles operators together with their hook.
        """
        return {name: value for name, value in self.__dict__.items() if name not in _NOT_COPIED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state with a new lock and runner; the next call reads the connection again."""
        self.__dict__.update(state)
        self._start()
        self._log = None

    # Connection

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of the connection form for Airflow before 3.2."""
        return connection_form.connection_form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the hidden and renamed fields of the connection form for Airflow before 3.2."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    @property
    def settings(self) -> ConnectionSettings:
        """The connection, which is read once; concurrent threads share the lookup."""
        if self._settings is None:
            with self._look_up_lock:
                if self._settings is None:
                    self._settings = load_settings(self.mictlanx_conn_id, self.get_connection)
        return self._settings

    async def aget_settings(self) -> ConnectionSettings:
        """Return ``settings`` without blocking the event loop; concurrent coroutines share the lookup."""
        if self._settings is None:
            self._settings = await aload_settings(self.mictlanx_conn_id, self, lambda: self._settings)
        return self._settings

    def get_conn(self) -> AsyncClient:
        """
        Return an unopened client, for ``async with hook.get_conn() as client``.

        Its methods return a ``Result``. Reading the connection and its TLS files blocks; in a coroutine use
        ``open_client``.
        """
        return new_client(self.settings, self.settings.tls())

    @asynccontextmanager
    async def open_client(self, *, connect_patience: float | None = None) -> AsyncIterator[AsyncClient]:
        """
        Open a client for many calls: ``async with hook.open_client() as client``; the end of the block closes it.

        Its methods return a ``Result``. It belongs to the running event loop and can't be used in another one. A
        ``MictlanXError`` raised in the block names the connection.

        :param connect_patience: seconds for which a request waits while no router can be reached; default: the
            connection's, else 20
        """
        settings = await self.aget_settings()
        verify = await asyncio.to_thread(settings.tls) if settings.reads_tls_files else settings.verify
        if connect_patience is not None:
            settings = settings.model_copy(update={"connect_patience": connect_patience})
        async with new_client(settings, verify) as client:
            with errors_name_connection(self.mictlanx_conn_id):
                yield client

    def test_connection(self) -> tuple[bool, str]:
        """
        Return whether every router answers for the same storage space, and a line for the first routers. Never raises.

        It is also False if no peer is available, or if routers name different peers: data written through one of them
        would be missing in the other.

        The text is short and without the connection's id: Airflow shows it in a corner, and tests under a random id.
        """
        try:
            return self._run(self._atest_connection)
        except Exception as error:
            message = clean(str(error)) or type(error).__name__
            return False, summaries.connection_problem(str(self.mictlanx_conn_id), message)

    async def _atest_connection(self) -> tuple[bool, str]:
        async with self.open_client() as client:
            checks = unwrap(await client.check_routers())
        return summaries.connection_test_summary(checks)

    # Store

    @list_arguments
    async def aput(
        self, bucket_id: str, key: str, data: bytes | str, **options: Unpack[PutArguments]
    ) -> dict[str, Any]:
        """
        Store bytes, or str as UTF-8, under a key.

        Returns ``{bucket_id, key, ball_id, size, checksum, num_chunks, replicas, uploaded, response_time}``:
        ``replicas`` is the smallest number over all chunks, ``uploaded`` is False if exactly these bytes were stored
        already.

        :param bucket_id: the bucket: letters, digits, and single ``-`` or ``_`` between them
        :param key: the object's name; any str
        :param data: the content
        :param chunk_size: size of its chunks, such as ``"256kb"``; default: the connection's, else chosen by the size
        :param rf: number of peers that must store every chunk
        :param request_timeout: seconds for one request; default: the connection's, else 120
        :param max_tries: tries per chunk
        :param max_concurrency: chunks in flight; default: the connection's, else chosen for the call
        :param max_backoff: longest pause between two tries, in seconds
        :param tags: dict of str, stored with the object
        :param replace: delete different bytes under that key first, instead of raising ``BallConflictError``; after a
            crash between the two, nothing is stored until the retry
        :param allow_reserved_bucket: change a bucket that begins with ``bulk-``; it may contain the records of a bulk
        :param deadline: seconds for the call with all its requests; default: none
        """
        return await self._aupload(bucket_id, key, {"data": _as_bytes(data)}, options)

    put = blocking(aput)

    @list_arguments
    async def aput_file(
        self, bucket_id: str, key: str, path: str | os.PathLike[str], **options: Unpack[PutArguments]
    ) -> dict[str, Any]:
        """
        Store a file under a key.

        The file is read while it is sent, so memory is bounded by 1 to 2 MB per chunk in flight, for any size of file
        and chunk. Parameters and result: see ``aput``, and:

        :param path: a file on this machine; it may be empty
        """
        return await self._aupload(bucket_id, key, {"path": path}, options)

    put_file = blocking(aput_file)

    async def _aupload(self, bucket_id: str, key: str, source: dict[str, Any], options: PutArguments) -> dict[str, Any]:
        check_bucket_may_change(bucket_id, options["allow_reserved_bucket"])
        make_ball_id(key)  # refuses a wrong key, before it is logged
        # None lets the client choose both by the size; the defaults of the client are fixed.
        chosen_by_size = {"chunk_size": None, "max_concurrency": None}
        filled = chosen_by_size | await self._with_connection_defaults(options)
        size = len(source["data"]) if "data" in source else await asyncio.to_thread(_file_size, source["path"])
        self.log.info("Putting %s/%s%s", bucket_id, key, "" if size is None else f": {format_size(size)}")
        async with self.open_client() as client:
            report = unwrap(await client.upload(bucket_id, key, **source, **filled))
        metrics.count("put", int(report.uploaded), report.size, report.response_time)
        read = [file_location(source["path"])] if "path" in source else []
        await self._report_lineage(reads=read, writes=[bucket_location(bucket_id, key)])
        return summaries.transfer_summary(report)

    # Read

    @list_arguments
    async def aget(
        self, bucket_id: str, key: str, *, max_size: int | None = None, **options: Unpack[GetArguments]
    ) -> bytes:
        """
        Read an object into memory, and verify size and SHA-256 of every chunk and of the complete object.

        Do not return it to XCom. For large objects use ``get_to_file``. Parameters: see ``aput``, and:

        :param max_size: largest size to accept, in bytes
        """
        filled = await self._with_connection_defaults(options)
        named = {_OFFICIAL_NAMES.get(name, name): value for name, value in filled.items()}
        began = time.monotonic()
        async with self.open_client() as client:
            data = unwrap(await client.get(bucket_id, key, max_size=max_size, **named)).data.tobytes()
        metrics.count("get", 1, len(data), time.monotonic() - began)
        await self._report_lineage(reads=[bucket_location(bucket_id, key)])
        return data

    get = blocking(aget)

    @list_arguments
    async def aget_text(
        self,
        bucket_id: str,
        key: str,
        *,
        encoding: str = "utf-8",
        max_size: int | str | None = None,
        **options: Unpack[GetArguments],
    ) -> str:
        """
        Read an object as str, verified like ``get``.

        Raises ``ValidationError`` if it is too large or can't be decoded. Parameters: see ``aput``, and:

        :param encoding: name of a Python text encoding
        :param max_size: largest size to accept, checked before reading: bytes, or str such as ``"48kb"``
        """
        _check_encoding(encoding)
        data = await self.aget(
            bucket_id, key, max_size=None if max_size is None else parse_size(max_size, "max_size", least=0), **options
        )
        with errors_name_connection(self.mictlanx_conn_id):
            return _decode(data, encoding, f"{bucket_id}/{key}")

    get_text = blocking(aget_text)

    @list_arguments
    async def aget_to_file(
        self,
        bucket_id: str,
        key: str,
        output_path: str | os.PathLike[str],
        *,
        filename: str | None = None,
        replace: bool = False,
        **options: Unpack[GetArguments],
    ) -> dict[str, Any]:
        """
        Read an object into a file. The file appears when it is complete and verified.

        Returns ``{bucket_id, key, ball_id, path, size, checksum, num_chunks, downloaded, response_time,
        verified}``: ``verified`` is False if its writer recorded no SHA-256 of the complete object,
        ``downloaded`` is False if a file with this content existed already. Parameters: see ``aput``, and:

        :param output_path: a folder on this machine; created if missing
        :param filename: name of the file, without folders; default: the key's last component
        :param replace: overwrite a file with different content, instead of raising ``FileAlreadyExists``
        """
        if output_path == "":
            raise ValidationError("output_path must not be empty; use '.' for the working directory")
        filename = _file_name(key, filename)
        report = await self._call(
            AsyncClient.download, bucket_id, key, output_path, filename=filename, replace=replace, options=options
        )
        metrics.count("get", int(report.downloaded), report.size, report.response_time)
        result = summaries.transfer_summary(report)
        await self._report_lineage(reads=[bucket_location(bucket_id, key)], writes=[file_location(result["path"])])
        return result

    get_to_file = blocking(aget_to_file)

    @list_arguments
    async def aget_to_folder(
        self,
        output_path: Source,
        bucket_id: str | None = None,
        prefix: str = "",
        glob: str = "",
        *,
        bulk_id: str | None = None,
        replace: bool = False,
        fail_on_error: bool = True,
        **options: Unpack[GetArguments],
    ) -> dict[str, Any]:
        """
        Read a bucket, a part of it, or a bulk into a folder. The key of each object is the path of its file there.

        Existing files with the right checksum are kept, so a second call reads only what is missing. Every file appears
        when it is complete and verified. In another store, an existing file of the right size is read to compare it.

        Returns ``{bucket_id, prefix, glob, bulk_id, output_path, total_balls, downloaded, skipped, failed,
        downloaded_size, response_time, failures, unverified}``: ``skipped`` existed already, ``unverified`` are
        downloads whose writer recorded no SHA-256 of the complete object, ``failures`` are the first few as
        ``{bucket_id, key, code, message}``.

        An object fails if its key can't be a file below the folder, or if another key would be the same file; the
        others are read. Raises ``BulkFailedError`` if the bulk is not complete. Parameters: see ``aput`` and
        ``acopy_prefix``, and:

        :param output_path: a folder on this machine, created if missing, or one of another store
            (``ObjectStoragePath``). Objects for another store pass through a temporary folder of this machine
        :param bucket_id: the bucket; this or ``bulk_id``
        :param prefix: only keys that begin with it
        :param glob: only keys that match, such as ``"2024/*.csv"``; not together with ``prefix``
        :param bulk_id: a complete bulk; reads exactly the bytes that it uploaded
        :param replace: overwrite files with different content, instead of reporting a failure
        """
        exactly_one(bucket_id=bucket_id, bulk_id=bulk_id)
        if bulk_id is not None and (prefix or glob):
            raise ValidationError(f"prefix and glob must be empty if bulk_id is given, got {prefix or glob!r}")
        transfer = select_options(TransferOptions, await self._with_connection_defaults(options))
        source = f"bulk {bulk_id!r}" if bulk_id is not None else f"{glob or f'{prefix}*'} of bucket {bucket_id}"
        action = f"reading {source} into {output_path}"
        async with self.open_client() as client, deadline_scope(options["deadline"], action):
            store = await asyncio.to_thread(Store.at, output_path)
            if store is None:
                local: Any = getattr(output_path, "path", output_path)  # also of an ``ObjectStoragePath``
                root, case_insensitive = await download.prepare_folder(local)
                engine = partial(download.download_items, root=root, case_insensitive=case_insensitive)
                place, folder = str(root), file_location(root)
            else:
                engine = partial(export_items, store=store)
                place, folder = store.name, source_location(store.name)
            if bulk_id is not None:
                items = await bulk_monitor.list_bulk_items(client, bulk_id, transfer.timeout)
            else:
                items = await download.list_bucket_items(client, bucket_id or "", prefix, glob, transfer.timeout)
            outcome = await engine(
                client,
                items,
                pin_checksum=bulk_id is not None,
                replace=replace,
                options=transfer,
                log_progress=self._log_progress,
            )
        selection = {"bucket_id": bucket_id, "prefix": prefix, "glob": glob, "bulk_id": bulk_id}
        metrics.count("get", outcome.done, outcome.done_size, outcome.response_time)
        result = summaries.batch_summary(
            outcome, "downloaded", **selection, output_path=place, unverified=outcome.unverified
        )
        reads = [bucket_location(bucket) for bucket in dict.fromkeys(item.bucket_id for item in items)]
        if bucket_id is not None:
            reads = [lineage.selected_location(bucket_id, prefix, glob)]
        await self._report_lineage(reads=reads, writes=[folder])
        return self._finish_batch(action, outcome.line("read", "unchanged"), outcome, result, fail_on_error)

    get_to_folder = blocking(aget_to_folder)

    # List and inspect

    @list_arguments
    async def aexists(
        self, bucket_id: str, key: str, *, check_storage: bool = False, **options: Unpack[CallArguments]
    ) -> bool:
        """
        Return whether an object is stored: by the listing, or with ``check_storage`` by reading it.

        Raises ``UnavailableError`` if a peer does not answer and the object can't be confirmed as missing.
        Parameters: see ``aput``, and:

        :param check_storage: read and verify every chunk: the listing shows announcements, not data
        """
        return await self._call(AsyncClient.exists, bucket_id, key, check_storage=check_storage, options=options)

    exists = blocking(aexists)

    @list_arguments
    async def aget_metadata(
        self, bucket_id: str, key: str, *, check_storage: bool = False, **options: Unpack[CallArguments]
    ) -> dict[str, Any]:
        """
        Return the metadata of an object, or raise ``NotFoundError``.

        Returns ``{bucket_id, key, ball_id, size, checksum, num_chunks, verified, tags, updated_at}``; ``updated_at`` is
        in nanoseconds since 1970. ``verified`` is False if its writer recorded no SHA-256 of the complete object.
        Parameters: see ``aput`` and ``aexists``.
        """
        ball = await self._call(AsyncClient.get_metadata, bucket_id, key, check_storage=check_storage, options=options)
        return summaries.ball_summary(ball)

    get_metadata = blocking(aget_metadata)

    @list_arguments
    async def alist_balls(
        self, bucket_id: str, prefix: str = "", glob: str = "", **options: Unpack[CallArguments]
    ) -> list[dict[str, Any]]:
        """
        List the objects of a bucket by key, each in the form of ``get_metadata``.

        A bucket without objects gives an empty list. Parameters: see ``aput`` and ``aget_to_folder``.
        """
        balls = await self._call(AsyncClient.list_balls, bucket_id, prefix, glob, options=options)
        return [summaries.ball_summary(ball) for ball in balls]

    list_balls = blocking(alist_balls)

    @list_arguments
    async def alist_keys(
        self,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        *,
        delimiter: str = "",
        max_keys: int | None = None,
        **options: Unpack[CallArguments],
    ) -> list[str]:
        """
        List the keys of a bucket's objects, sorted; with ``delimiter``, the "folders" in them.

        Parameters: see ``aput`` and ``aget_to_folder``, and:

        :param delimiter: return what the keys have up to this str behind ``prefix``, once each: with ``"/"`` and
            ``prefix="2026/"``, ``["2026/01/", "2026/02/"]``. Keys without it there are left out
        :param max_keys: raise ``ValidationError`` for more keys or folders; default: no limit
        """
        if max_keys is not None:
            check_int("max_keys", max_keys)
        check_str("delimiter", delimiter)
        if delimiter and glob:
            raise ValidationError("delimiter must not be given with glob; use prefix")
        balls = await self._call(AsyncClient.list_balls, bucket_id, prefix, glob, options=options)
        keys = [ball.key for ball in balls]
        names = folders(keys, prefix, delimiter) if delimiter else keys
        if max_keys is not None and len(names) > max_keys:
            which = f" that match {glob!r}" if glob else f" that begin with {prefix!r}" if prefix else ""
            kind = "folders" if delimiter else "keys"
            with errors_name_connection(self.mictlanx_conn_id):
                raise ValidationError(
                    f"bucket {bucket_id} has {len(names):,} {kind}{which}, more than max_keys={max_keys:,}; narrow "
                    "prefix or glob, or raise max_keys"
                )
        return names

    list_keys = blocking(alist_keys)

    # Check once for objects that may not exist yet

    async def afind(
        self,
        bucket_id: str,
        key: str,
        *,
        check_storage: bool = True,
        check_fn: CheckFn | None = None,
        request_timeout: float | None = None,
        client: AsyncClient | None = None,
    ) -> dict[str, Any] | None:
        """
        Check once for an object and return its ``get_metadata``; None means "not yet".

        "Not yet" includes an object that may be stored on a peer that does not answer. Parameters: see ``aput``, and:

        :param check_storage: once the object is listed, read and verify every chunk before returning it
        :param check_fn: called in a thread with the list of the listed objects, each in the form of ``get_metadata``
            with ``age``, the seconds since it was written; a false result means "not yet", and nothing is read. It is
            called again if other versions than the listed ones are readable, or fewer objects
        :param client: an open client of the running event loop, for repeated checks; only for the coroutine
        """
        check_bool("check_storage", check_storage)
        options = await self._with_connection_defaults({"request_timeout": request_timeout})
        async with self._reuse(client) as opened:
            ball = await self._find(opened, bucket_id, key, **options)
            if ball is not None and not await self._passes(check_fn, [ball]):
                ball = None
            if ball is not None and check_storage:
                listed, ball = ball, await self._find(opened, bucket_id, key, check_storage=True, **options)
                if ball is not None and not await self._passes(check_fn, [ball], judged=[listed]):
                    ball = None
        if ball is None:
            return None
        result = summaries.ball_summary(ball)
        self.log.info("%s", summaries.found_line(result))
        return result

    find = blocking(afind)

    async def _find(self, client: AsyncClient, bucket_id: str, key: str, **options: Any) -> Ball | None:
        try:
            return unwrap(await client.get_metadata(bucket_id, key, **options))
        except _NOT_YET as error:
            self.log.info("%s/%s is not available yet: %s", bucket_id, key, error)
            return None

    async def afind_objects(
        self,
        bucket_id: str,
        keys: Sequence[str] | None = None,
        *,
        prefix: str | None = None,
        glob: str | None = None,
        min_objects: int | None = None,
        check_storage: bool = True,
        check_fn: CheckFn | None = None,
        readable: Readable | None = None,
        request_timeout: float | None = None,
        client: AsyncClient | None = None,
    ) -> dict[str, Any] | None:
        """
        Check once for several objects and return a summary if enough of them exist; None means "not yet".

        Returns ``{bucket_id, count, total_size, objects}``; ``objects`` are the first few, as ``{key, size}``: in the
        order of ``keys``, else sorted by key. Parameters: see ``aput`` and ``afind``, and:

        :param keys: the objects' names
        :param prefix: instead of ``keys``: every key that begins with it
        :param glob: instead of ``keys``: every key that matches, such as ``"2024/*.csv"``
        :param min_objects: required number of objects; default: all ``keys``, else 1
        :param readable: the objects that earlier calls have verified; this call reads the others, and adds them
        """
        exactly_one(keys=keys, prefix=prefix, glob=glob)
        check_bool("check_storage", check_storage)
        if glob == "":
            raise ValidationError("glob must not be empty; use '*' for every object of the bucket")
        names = None if keys is None else list(dict.fromkeys(check_keys("keys", keys)))
        needed = _required_objects(names, min_objects)
        options = await self._with_connection_defaults({"request_timeout": request_timeout})
        async with self._reuse(client) as opened:
            if names is None:
                listed = await opened.list_balls(bucket_id, prefix or "", glob or "", **options)
                found = self._complete_listing(bucket_id, listed) or []
            else:
                found = await self._find_keys(opened, bucket_id, names, options)
            if len(found) >= needed and not await self._passes(check_fn, found):
                return None
            if check_storage and len(found) >= needed:
                listed_balls = found
                found = await self._read_back(opened, found, {} if readable is None else readable, options)
                if len(found) >= needed and not await self._passes(check_fn, found, judged=listed_balls):
                    return None
        count = summaries.format_count(len(found), "object")
        self.log.info("Bucket %s: found %s, at least %d required", bucket_id, count, needed)
        return summaries.objects_summary(bucket_id, found) if len(found) >= needed else None

    find_objects = blocking(afind_objects)

    async def _passes(self, check_fn: CheckFn | None, found: Sequence[Ball], judged: Sequence[Ball] = ()) -> bool:
        """
        Return whether ``check_fn`` accepts the objects.

        :param judged: the objects that it has accepted; other versions of them, or fewer, are judged again
        """
        if check_fn is None or (judged and [*map(_content, found)] == [*map(_content, judged)]):
            return True
        now = time.time()
        objects = [summaries.ball_summary(ball) | {"age": max(0.0, now - ball.updated_at / 1e9)} for ball in found]
        passes = bool(await asyncio.to_thread(check_fn, objects))
        if not passes:
            self.log.info("check_fn does not accept the %s yet", summaries.format_count(len(objects), "object"))
        return passes

    async def _find_keys(
        self, client: AsyncClient, bucket_id: str, keys: list[str], options: dict[str, Any]
    ) -> list[Ball]:
        found: dict[str, Ball | None] = {}

        async def find(key: str) -> None:
            found[key] = await self._find(client, bucket_id, key, **options)

        await for_each(keys, find, FOUND_AT_ONCE)
        return [ball for key in keys if (ball := found[key]) is not None]

    def _complete_listing(self, bucket_id: str, listed: Result[T, MictlanXError]) -> T | None:
        """Return a listing; None if a peer did not take part in it."""
        try:
            return unwrap(listed)
        except UnavailableError as error:
            self.log.info("The listing of bucket %s is incomplete: %s", bucket_id, error)
            return None

    async def _read_back(
        self, client: AsyncClient, balls: list[Ball], readable: Readable, options: dict[str, Any]
    ) -> list[Ball]:
        """Read the objects that are not in ``readable``; return the verified ones in the same order."""

        async def read(ball: Ball) -> None:
            name = ball.own_key or ball.ball_id
            if (before := readable.get(name)) is not None and _content(before) == _content(ball):
                return
            readable.pop(name, None)
            try:
                verified = await client.get_metadata(ball.bucket_id, name, check_storage=True, **options)
                readable[name] = unwrap(verified)
            except _NOT_YET as error:
                self.log.info("%s/%s is not readable yet: %s", ball.bucket_id, ball.key, error)

        await for_each(balls, read, READ_AT_ONCE)
        return [readable[name] for ball in balls if (name := ball.own_key or ball.ball_id) in readable]

    async def afind_unchanged_bucket(
        self, monitor: InactivityMonitor, *, request_timeout: float | None = None, client: AsyncClient | None = None
    ) -> dict[str, Any] | None:
        """
        Check once whether a bucket has stopped changing; None means "not yet".

        Returns ``{bucket_id, prefix, count, total_size, updated_at}``. Parameters: see ``aput`` and ``afind``, and:

        :param monitor: the bucket, and its state at earlier calls
        """
        options = await self._with_connection_defaults({"request_timeout": request_timeout})
        async with self._reuse(client) as opened:
            listed = await opened.get_chunks_by_bucket_id(monitor.bucket_id, **options)
            if (listing := self._complete_listing(monitor.bucket_id, listed)) is None:
                return None
        result = await run_in_thread(lambda: monitor.update(listing))
        self._log_progress(monitor.line)
        return result

    find_unchanged_bucket = blocking(afind_unchanged_bucket)

    # Copy

    @list_arguments
    async def acopy(
        self,
        bucket_id: str,
        key: str,
        dest_bucket_id: str,
        dest_key: str | None = None,
        *,
        dest_conn_id: str | None = None,
        **options: Unpack[CopyArguments],
    ) -> dict[str, Any]:
        """
        Copy an object with its tags, chunk by chunk through this machine, with bounded memory and without its disk.

        Every chunk is verified when it is read, and the complete object before anything is announced or replaced. The
        copy is complete when peers have acknowledged every chunk. Bytes that are stored already are not sent.

        Returns ``{bucket_id, key, ball_id, size, checksum, num_chunks, replicas, uploaded, response_time}`` of the
        copy, and ``source_bucket_id, source_key``. Parameters: see ``aput``; they apply to the copy. Also:

        :param bucket_id: the original's bucket
        :param key: the original's name
        :param dest_bucket_id: the copy's bucket
        :param dest_key: the copy's name; default: the original's
        :param dest_conn_id: the copy's connection; default: the hook's own
        """
        if dest_key is not None and not (isinstance(dest_key, str) and dest_key):
            raise ValidationError(
                f"dest_key must be a str that is not empty, got {dest_key!r}; omit it to keep the original's key"
            )
        dest_key = key if dest_key is None else dest_key
        self._check_not_onto_itself((bucket_id, key), (dest_bucket_id, dest_key), dest_conn_id)
        filled = await self._with_connection_defaults(options)
        async with self._open_both(dest_conn_id) as (client, dest):
            report = unwrap(await client.copy(bucket_id, key, dest_bucket_id, dest_key, dest=dest, **filled))
        metrics.count("copy", int(report.uploaded), report.size, report.response_time)
        result = summaries.transfer_summary(report)
        await self._report_lineage(
            reads=[bucket_location(bucket_id, key)], writes=[bucket_location(dest_bucket_id, dest_key)]
        )
        return {**result, "source_bucket_id": bucket_id, "source_key": key}

    copy = blocking(acopy)

    @list_arguments
    async def acopy_prefix(
        self,
        bucket_id: str,
        prefix: str,
        dest_bucket_id: str,
        dest_prefix: str | None = None,
        *,
        dest_conn_id: str | None = None,
        fail_on_error: bool = True,
        **options: Unpack[CopyArguments],
    ) -> dict[str, Any]:
        """
        Copy every object whose key begins with a prefix, like ``copy``. A second call sends only what is missing.

        New copies of one chunk are announced together, before their originals are read; an announcement is deleted if
        its original can't be read.

        Returns ``{bucket_id, prefix, dest_bucket_id, dest_prefix, total_balls, copied, skipped, failed, copied_size,
        response_time, failures}``: ``skipped`` were stored already, ``failures`` are the first few as ``{bucket_id,
        key, code, message}``. Parameters: see ``aput`` and ``acopy``, and:

        :param prefix: ``""`` for every object of the bucket
        :param dest_prefix: replaces ``prefix`` in the copies' keys; default: the copies keep their keys
        :param max_concurrency: chunks in flight of all objects together; default: the connection's, else up to 64
        :param replace: delete different bytes under a copy's key first, instead of reporting a failure
        :param fail_on_error: raise ``BatchError`` if an object failed, with the result in its ``result``; False only
            counts it in ``failed``
        """
        dest_prefix = prefix if dest_prefix is None else dest_prefix
        if not isinstance(dest_prefix, str):
            raise ValidationError(f"dest_prefix must be str, got {dest_prefix!r}")
        check_bucket_may_change(dest_bucket_id, options["allow_reserved_bucket"], "dest_bucket_id")
        self._check_not_onto_itself((bucket_id, prefix), (dest_bucket_id, dest_prefix), dest_conn_id)
        transfer = select_options(batch_copy.CopyOptions, await self._with_connection_defaults(options))
        action = f"copying {prefix}* of bucket {bucket_id} to {dest_prefix}* of bucket {dest_bucket_id}"
        async with self._open_both(dest_conn_id) as (client, dest), deadline_scope(options["deadline"], action):
            items = await download.list_bucket_items(client, bucket_id, prefix, timeout=transfer.timeout)
            outcome = await batch_copy.copy_all(
                client,
                items,
                dest_bucket_id,
                lambda key: dest_prefix + key.removeprefix(prefix),
                dest=dest,
                options=transfer,
                log_progress=self._log_progress,
            )
        metrics.count("copy", outcome.done, outcome.done_size, outcome.response_time)
        destination = {"dest_bucket_id": dest_bucket_id, "dest_prefix": dest_prefix}
        result = summaries.batch_summary(outcome, "copied", bucket_id=bucket_id, prefix=prefix, **destination)
        await self._report_lineage(
            reads=[bucket_location(bucket_id, prefix)], writes=[bucket_location(dest_bucket_id, dest_prefix)]
        )
        return self._finish_batch(action, outcome.line("copied", "already stored"), outcome, result, fail_on_error)

    copy_prefix = blocking(acopy_prefix)

    def _check_not_onto_itself(self, source: tuple[str, str], dest: tuple[str, str], dest_conn_id: str | None) -> None:
        if source == dest and dest_conn_id in (None, self.mictlanx_conn_id):
            raise ValidationError(
                f"copying {source[0]}/{source[1]} failed: source and destination are the same; "
                "choose another bucket, key or connection"
            )

    @asynccontextmanager
    async def _open_both(self, dest_conn_id: str | None) -> AsyncIterator[tuple[AsyncClient, AsyncClient]]:
        """Open the clients of both connections, one after the other: Airflow fails at concurrent lookups."""
        async with self.open_client() as client:
            if dest_conn_id is None or check_conn_id("dest_conn_id", dest_conn_id) == self.mictlanx_conn_id:
                yield client, client
                return
            async with type(self)(mictlanx_conn_id=dest_conn_id).open_client() as dest:
                yield client, dest

    # Sync

    @list_arguments
    async def asynchronize(
        self,
        source: Source,
        destination: Source,
        *,
        delete_extra: bool = False,
        dry_run: bool = False,
        allow_empty: bool = False,
        check_storage: bool = True,
        rf: int = 1,
        chunk_size: str | None = None,
        fail_on_error: bool = True,
        **options: Unpack[GetArguments],
    ) -> dict[str, Any]:
        """
        Make a destination like its source: transfer what is missing there or has other bytes, and replace these.

        Each side is a folder of this machine, ``mictlanx://[conn_id@]bucket[/prefix]``, or an ``ObjectStoragePath``;
        at least one of them is in MictlanX. Names are compared, then sizes, then SHA-256, never times. A repeated call
        mends an interrupted one.

        Returns ``{source, destination, dry_run, total_balls, transferred, skipped, failed, transferred_size, deleted,
        deleted_size, response_time, failures, first_transferred, first_deleted}``: ``total_balls`` are those of the
        source, ``skipped`` were equal, and the last two are the first names that differed or were deleted, relative
        to the sides. A dry run returns the same for what a call would do. Parameters: see ``aput`` and
        ``acopy_prefix``, and:

        :param source: what the destination becomes like
        :param destination: created if missing
        :param delete_extra: delete what the source lacks. This happens last, and only if nothing failed. Both sides are
            listed again before: what changed meanwhile is kept
        :param dry_run: only compare
        :param allow_empty: accept an empty source with ``delete_extra``, instead of raising ``ValidationError``
        :param check_storage: read the objects of a destination bucket that seem equal: the listing shows announcements,
            not data. False trusts the listing: an upload that was killed may then stay incomplete
        """
        filled = await self._with_connection_defaults({**options, "chunk_size": chunk_size})
        chosen = select_options(
            SyncOptions,
            filled,
            delete_extra=delete_extra,
            dry_run=dry_run,
            allow_empty=allow_empty,
            check_storage=check_storage,
            rf=rf,
        )
        named = {"source": source, "destination": destination}
        sides = [await asyncio.to_thread(side_of, side, name) for name, side in named.items()]
        places = dict(zip(("source", "destination"), map(str, sides), strict=True))
        action = f"syncing {places['source']} to {places['destination']}"
        async with self._open_sides(sides) as (one, other), deadline_scope(options["deadline"], action):
            found = await sync(one, other, chosen, self._log_progress)
        if not dry_run:
            reads, writes = ([_side_location(side)] for side in sides)
            await self._report_lineage(reads=reads, writes=writes)
        result = summaries.sync_summary(found, **places, dry_run=dry_run)
        line = summaries.sync_line(found, dry_run)
        return self._finish_batch(action, line, found.outcome, result, fail_on_error)

    synchronize = blocking(asynchronize)

    @asynccontextmanager
    async def _open_sides(self, sides: Sequence[BucketPath | FolderSide | StoreSide]) -> AsyncIterator[list[Side]]:
        """Open the clients of both sides, one after the other: Airflow fails at concurrent lookups."""
        clients: dict[str, AsyncClient] = {}
        async with AsyncExitStack() as stack:
            for side in sides:
                if isinstance(side, BucketPath) and (conn_id := side.conn_id or self.mictlanx_conn_id) not in clients:
                    hook = self if conn_id == self.mictlanx_conn_id else type(self)(mictlanx_conn_id=conn_id)
                    clients[conn_id] = await stack.enter_async_context(hook.open_client())
            yield [
                BucketSide(clients[side.conn_id or self.mictlanx_conn_id], side)
                if isinstance(side, BucketPath)
                else side
                for side in sides
            ]

    # Delete

    @list_arguments
    async def adelete(self, bucket_id: str, key: str, **options: Unpack[DeleteArguments]) -> dict[str, Any]:
        """
        Delete an object; a missing object is not an error.

        Returns ``{bucket_id, key, ball_id, n_deletes}``; ``n_deletes`` counts the replicas of all its chunks.
        Parameters: see ``aput``.
        """
        began = time.monotonic()
        response = await self._call(AsyncClient.delete, key, bucket_id, options=options)
        metrics.count("delete", int(response.n_deletes > 0), 0, time.monotonic() - began)
        await self._report_lineage(deletes=[bucket_location(bucket_id, key)])
        return {"bucket_id": bucket_id, "key": key, "ball_id": response.ball_id, "n_deletes": response.n_deletes}

    delete = blocking(adelete)

    @list_arguments
    async def adelete_keys(
        self,
        bucket_id: str,
        keys: Iterable[str],
        *,
        fail_on_error: bool = True,
        **options: Unpack[BatchDeleteArguments],
    ) -> dict[str, Any]:
        """
        Delete objects by their keys; a missing object is not an error.

        Returns ``{bucket_id, deleted, absent, failed, total, response_time, failures}``; ``absent`` were not stored,
        ``failures`` are the first few as ``{bucket_id, key, code, message}``. Parameters: see ``aput`` and
        ``acopy_prefix``, and:

        :param keys: the objects' names; may be empty
        :param max_concurrency: objects deleted at the same time; default: the connection's, else 8
        """
        keys = check_keys("keys", keys)
        action = f"deleting {pluralize(len(keys), 'key')} of bucket {bucket_id}"
        outcome = await self._adelete_many(
            lambda client, chosen: batch_delete.delete_keys(client, bucket_id, keys, chosen, self._log_progress),
            bucket_id,
            action=action,
            deletes=lineage.key_locations(bucket_id, keys),
            options=options,
        )
        result = summaries.deletion_summary(outcome, "absent", bucket_id=bucket_id)
        return self._finish_batch(action, outcome.line("deleted", "not stored"), outcome, result, fail_on_error)

    delete_keys = blocking(adelete_keys)

    @list_arguments
    async def adelete_matching(
        self,
        bucket_id: str,
        prefix: str = "",
        glob: str = "",
        *,
        older_than: timedelta | datetime | str | None = None,
        keep_last: int | None = None,
        dry_run: bool = False,
        allow_whole_bucket: bool = False,
        fail_on_error: bool = True,
        **options: Unpack[BatchDeleteArguments],
    ) -> dict[str, Any]:
        """
        Delete every object whose key matches and which is old enough, and confirm it by listing the bucket again.

        With ``older_than`` or ``keep_last``, only complete objects are deleted. The bucket is listed again before that,
        and objects that changed are kept. Without them, half-written objects are deleted too, and so are those that are
        written meanwhile.

        Returns ``{bucket_id, prefix, glob, dry_run, deleted, kept, failed, total, bytes, first, response_time,
        failures}``: ``kept`` objects match and stay, ``total`` is the sum of ``deleted`` and ``failed``, ``bytes`` the
        size of the deleted objects, ``first`` the first 20 of their keys, sorted. Parameters: see ``aput``,
        ``aget_to_folder``, ``acopy_prefix`` and ``adelete_keys``, and:

        :param older_than: delete only objects that were written before this age or time, by the storage's clocks: a
            timedelta, a datetime with a time zone, or a str such as ``"30d"`` or ``"2026-11-01T00:00:00+00:00"``
        :param keep_last: keep this number of newest objects, of those that match
        :param dry_run: delete nothing, and return what would be deleted
        :param allow_whole_bucket: allow a ``prefix`` or ``glob`` that every key matches
        """
        selection = batch_delete.Selection(prefix, glob, older_than, keep_last, allow_whole_bucket)
        action = f"deleting {glob or f'{prefix}*'} of bucket {bucket_id}"
        drops = not dry_run and not selection.by_age
        outcome = await self._adelete_many(
            lambda client, chosen: batch_delete.delete_matching(
                client, bucket_id, selection, chosen, dry_run=dry_run, log_progress=self._log_progress
            ),
            bucket_id,
            action=action,
            dry_run=dry_run,
            deletes=[lineage.selected_location(bucket_id, prefix, glob)] if drops else [],
            options=options,
        )
        result = summaries.upkeep_summary(outcome, bucket_id=bucket_id, prefix=prefix, glob=glob, dry_run=dry_run)
        line = outcome.line("to delete" if dry_run else "deleted", "kept")
        return self._finish_batch(action, line, outcome, result, fail_on_error)

    delete_matching = blocking(adelete_matching)

    @list_arguments
    async def asweep(
        self,
        bucket_id: str,
        older_than: timedelta | datetime | str,
        *,
        dry_run: bool = True,
        fail_on_error: bool = True,
        **options: Unpack[SweepArguments],
    ) -> dict[str, Any]:
        """
        Delete the uploads of a bucket that stopped half-way; in the bucket of a bulk, also its records if all are old.

        No listing of objects shows such uploads. Returns ``{bucket_id, dry_run, deleted, kept, failed, total, bytes,
        first, response_time, failures}``: ``kept`` uploads and records are younger than ``older_than``, or were
        changed meanwhile. Parameters: see ``aput``, ``acopy_prefix``, ``adelete_keys`` and
        ``adelete_matching``, and:

        :param older_than: longer than the pauses of uploads that a retry continues: an upload with a younger chunk is
            kept, and all records of a bulk with a younger record
        """
        action = f"sweeping bucket {bucket_id}"
        outcome = await self._adelete_many(
            lambda client, chosen: sweep_bucket(
                client, bucket_id, older_than, chosen, dry_run=dry_run, log_progress=self._log_progress
            ),
            bucket_id,
            action=action,
            dry_run=dry_run,
            options={**options, "allow_reserved_bucket": True},
        )
        result = summaries.upkeep_summary(outcome, bucket_id=bucket_id, dry_run=dry_run)
        line = outcome.line("to delete" if dry_run else "deleted", "kept")
        return self._finish_batch(action, line, outcome, result, fail_on_error)

    sweep = blocking(asweep)

    async def _adelete_many(
        self,
        delete: Callable[[AsyncClient, batch_delete.DeleteOptions], Awaitable[B]],
        bucket_id: str,
        *,
        action: str,
        dry_run: bool = False,
        deletes: Sequence[DataLocation] = (),
        options: BatchDeleteArguments,
    ) -> B:
        check_bucket_may_change(bucket_id, options["allow_reserved_bucket"])
        chosen = select_options(batch_delete.DeleteOptions, await self._with_connection_defaults(options))
        async with self.open_client() as client, deadline_scope(options["deadline"], action):
            outcome = await delete(client, chosen)
        if not dry_run:
            metrics.count("delete", outcome.done, outcome.done_size, outcome.response_time)
        await self._report_lineage(deletes=deletes)
        return outcome

    @list_arguments
    async def adelete_bucket(self, bucket_id: str, **options: Unpack[BatchDeleteArguments]) -> dict[str, Any]:
        """
        Delete every object that a bucket lists, and repeat until the listing is empty.

        Returns ``{bucket_id, deleted, failed, total, response_time}``. Parameters: see ``aput`` and
        ``adelete_keys``.
        """
        response = await self._call(AsyncClient.delete_bucket, bucket_id, options=options)
        metrics.count("delete", response.deleted, 0, response.response_time)
        await self._report_lineage(deletes=[bucket_location(bucket_id)])
        for ball_id, reason in islice(response.failures.items(), MAX_REPORTED):
            self.log.warning("Deleting %s/%s failed: %s", bucket_id, ball_id, reason)
        return summaries.deleted_bucket_summary(response)

    delete_bucket = blocking(adelete_bucket)

    # Bulks

    @list_arguments
    async def aput_bulk(
        self,
        bulk_id: str,
        bucket_id: str | None = None,
        source: Source | Sequence[Source] | None = None,
        *,
        balls: Iterable[Mapping[str, Any]] | None = None,
        shard: int = 0,
        shards: int = 1,
        key_prefix: str = "",
        stop_on_failure: bool = False,
        allow_empty: bool = False,
        fail_on_error: bool = True,
        owner: Mapping[str, str] | None = None,
        will_retry: bool = False,
        **options: Unpack[BulkArguments],
    ) -> dict[str, Any]:
        """
        Upload a bulk, or one shard of it, and record its progress in the storage itself.

        A repeated call continues where the last one ended or was interrupted: stored objects are not sent again.

        Returns ``{bulk_id, shard, shards, total_balls, uploaded, skipped, failed, uploaded_size, response_time}``:
        ``skipped`` were stored before, ``uploaded_size`` is the bytes of ``uploaded``, ``response_time`` in seconds;
        with ``fail_on_error=False`` also ``failures``, the first few as ``{bucket_id, key, code, message}``.

        Raises ``BulkConflictError`` if the bulk id belongs to another owner, was started with other parameters, or
        was awaited and closed; ``ValidationError`` if the source is empty or unreadable, or has one key twice.
        Parameters: see ``aput``, and:

        :param bulk_id: any str; include the run
        :param bucket_id: bucket of all objects; with ``balls``, of those without a ``bucket_id``
        :param source: a file, a folder (with everything in it), a glob (``**`` stands for any folders), a path of
            another store (``ObjectStoragePath``), or a list of these
        :param balls: instead of ``source``: dicts with ``key``, ``source`` (a path) or ``data`` (str or bytes), and
            optionally ``bucket_id`` and ``tags``
        :param shard: index of the shard to upload, from 0
        :param shards: number of shards. All of them must see the same ``source``, and each uploads its part of it;
            ``balls`` are those of the one shard
        :param key_prefix: prepended to every key, unchanged
        :param stop_on_failure: start no further object after the first failure
        :param replace: delete different bytes under an object's key first, instead of reporting a failure
        :param allow_empty: accept a source without files as a bulk of no objects
        :param fail_on_error: raise ``BulkFailedError`` if an object is not stored, with the result in its ``result``;
            False only counts it in ``failed``
        :param owner: identity of the uploader, as dict of str; every call for this bulk id and shard must have the
            same one. Default: ``{"owner": …}`` with the connection's client id
        :param will_retry: a failed call will be repeated, so a waiting gate continues to wait
        """
        exactly_one(source=source, balls=balls)
        items = [] if balls is None else _check_list("balls", balls, "dict", str | bytes | Mapping)
        if balls is not None:
            paths: list[Source] = []
            listing = partial(list_items, items, bucket_id or "", key_prefix)
        elif bucket_id:
            paths = list(source) if isinstance(source, Sequence) and not isinstance(source, str) else [source]
            listing = partial(list_sources, paths, bucket_id, key_prefix)
        else:
            raise ValidationError("bucket_id must be given with source")
        filled = await self._with_connection_defaults(options)
        spec = select_options(
            BulkSpec,
            filled,
            bulk_id=bulk_id,
            sources=[str(path) for path in paths],
            bucket_id=bucket_id or "",
            key_prefix=key_prefix,
            shards=shards,
            items_per_shard=balls is not None,
        )
        attempt = select_options(
            AttemptOptions,
            filled,
            stop_on_failure=stop_on_failure,
            allow_empty=allow_empty,
            will_retry=will_retry,
            fail_on_error=fail_on_error,
        )
        owner = _check_owner({"owner": (await self.aget_settings()).client_id} if owner is None else owner)
        async with self.open_client() as client:
            outcome = await ShardUpload(
                client, spec, shard, listing, owner, attempt, log_progress=self._log_progress
            ).run()
        metrics.count("put", outcome.uploaded, outcome.uploaded_size, outcome.response_time)
        await self._report_lineage(
            reads=lineage.source_locations(spec.sources, items), writes=_destinations(bucket_id, items, key_prefix)
        )
        result = summaries.upload_summary(outcome, with_failures=not fail_on_error)
        error = bulk_summary.upload_error(outcome, result) if fail_on_error and outcome.failures else None
        return self._finish(bulk_summary.upload_line(outcome), outcome.failures, result, error)

    put_bulk = blocking(aput_bulk)

    async def aawait_bulk(
        self,
        bulk_id: str,
        *,
        poke_interval: float = 10,
        timeout: float | None = None,
        fail_on_error: bool = True,
        include_items: bool = False,
        remove_on_completion: bool = False,
        request_timeout: float | None = None,
    ) -> dict[str, Any]:
        """
        Wait until every shard of a bulk is complete, and return its result.

        Returns ``{bulk_id, state, shards, total_balls, succeeded, failed, uploaded_size, response_time, failures,
        problems}``: ``uploaded_size`` is the bytes of all stored objects, ``response_time`` the seconds from the first
        record to the last, ``failures`` the first few as ``{bucket_id, key, code, message}``, and ``problems`` a list
        of str about the bulk itself, such as contradictory plans.

        Raises ``DeadlineExceededError`` after ``timeout``.

        :param bulk_id: the bulk; it need not be planned yet
        :param poke_interval: seconds between two checks
        :param timeout: seconds to wait; default: no limit
        :param fail_on_error: raise ``BulkFailedError`` if the bulk failed permanently; False returns its result once
            no shard is being uploaded
        :param include_items: add ``successes`` as ``{bucket_id, key, size, checksum}`` and all ``failures``: lists
            that grow with the bulk
        :param remove_on_completion: delete the bulk's records except this result, which answers later calls; the
            objects stay
        :param request_timeout: seconds for one request; default: the connection's, else 120
        """
        check_bool("fail_on_error", fail_on_error)
        check_bool("include_items", include_items)
        check_bool("remove_on_completion", remove_on_completion)
        options = await self._request_timeout(request_timeout)
        async with self.open_client() as client:
            return await bulk_monitor.await_bulk(
                client,
                bulk_id,
                poke_interval=poke_interval,
                timeout=timeout,
                fail_on_error=fail_on_error,
                include_items=include_items,
                remove_on_completion=remove_on_completion,
                log_progress=self._log_progress,
                **options,
            )

    await_bulk = blocking(aawait_bulk)

    async def abulk_status(self, bulk_id: str, *, request_timeout: float | None = None) -> dict[str, Any]:
        """
        Return the state of a bulk, by one listing of its own small bucket.

        Returns ``{bulk_id, state, finished, shards, shards_complete, total_balls, total_size, acknowledged,
        acknowledged_size, failed, failures, problems, response_time, last_heard, stalest_shard, stalest_since,
        has_retryable_failures, result}``. ``state`` is ``unplanned``, ``uploading``, ``complete``, ``failed`` or
        ``closed``; sizes are in bytes. ``last_heard`` is the time of the last record. ``stalest_shard`` is the
        unfinished shard with the oldest last record, or None, and ``stalest_since`` the time of that
        record. Both times are in nanoseconds since 1970. ``has_retryable_failures`` means that a retry may still fix
        failures. ``result`` is that of the ``await_bulk`` that closed the bulk, else None. Parameters: see
        ``aawait_bulk``.
        """
        options = await self._request_timeout(request_timeout)
        async with self.open_client() as client:
            return summaries.status_summary(await bulk_monitor.bulk_status(client, bulk_id, **options))

    bulk_status = blocking(abulk_status)

    async def afind_bulk(
        self,
        bulk_id: str,
        *,
        fail_on_error: bool = True,
        check: StorageCheck | None = None,
        check_seconds: float = 60,
        request_timeout: float | None = None,
        client: AsyncClient | None = None,
    ) -> dict[str, Any] | None:
        """
        Check once whether a bulk is complete, and return the result of ``await_bulk``; None means "not yet".

        Raises ``BulkFailedError`` if the bulk failed permanently or ``check`` found an unreadable object, and
        ``BulkConflictError`` if a closed bulk can't be checked any more. Parameters: see ``afind`` and
        ``aawait_bulk``, and:

        :param check: reads the objects of a complete bulk before the result is returned; each call continues it
        :param check_seconds: seconds for the check in this call
        """
        options = await self._request_timeout(request_timeout)
        async with self._reuse(client) as opened:
            status = await bulk_monitor.bulk_status(opened, bulk_id, **options)
            self._log_progress(bulk_summary.status_line(status))
            if not bulk_monitor.is_wait_over(status, fail_on_error):
                return None
            summary = bulk_summary.summarize(status)
            if check is not None and status.state in (State.COMPLETE, State.CLOSED):
                read = await check.go_on(opened, check_seconds, **options)
                self._log_progress(check.line)
                if not read:
                    return None
                summary = check.result(summary, fail_on_error)
        return summary

    find_bulk = blocking(afind_bulk)

    async def adelete_bulk(self, bulk_id: str, *, request_timeout: float | None = None) -> dict[str, Any]:
        """
        Delete the records of a bulk, including the result of ``await_bulk``; its objects stay.

        The bulk id can then be used again. An unknown bulk is not an error. Returns ``{bulk_id, deleted, failed, total,
        response_time}``, which count records. Parameters: see ``aawait_bulk``.
        """
        options = await self._request_timeout(request_timeout)
        async with self.open_client() as client:
            response = await bulk_monitor.delete_bulk(client, bulk_id, **options)
        deleted = summaries.deleted_bucket_summary(response)
        return {"bulk_id": bulk_id, **{name: value for name, value in deleted.items() if name != "bucket_id"}}

    delete_bulk = blocking(adelete_bulk)

    async def _request_timeout(self, request_timeout: float | None) -> dict[str, float]:
        """Return the keyword argument ``request_timeout`` if the caller or the connection sets it."""
        options = await self._with_connection_defaults({"request_timeout": request_timeout})
        return {"request_timeout": options["timeout"]} if options else {}

    # Shared by the calls

    def cancel(self) -> None:
        """
        Stop the blocking calls of other threads, and all later ones; safe in a signal handler.

        The stopped calls clean up, then raise ``asyncio.CancelledError``.
        """
        self._runner.cancel()

    def _run(self, method: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Run a coroutine for a blocking caller. The connection is read before the event loop exists.

        Task logs show tracebacks, so that of a ``MictlanXError`` begins here: without the event loop and its libraries.
        """
        if kwargs.get("client") is not None:
            raise ValidationError("client must be None in a blocking call: an open client belongs to one event loop")
        try:
            if not self._runner.cancelled:
                _ = self.settings
            return self._runner.run(partial(method, *args, **kwargs))
        except MictlanXError as error:
            raise shorten_traceback(error) from None

    def _reuse(self, client: AsyncClient | None) -> AbstractAsyncContextManager[AsyncClient]:
        return self.open_client() if client is None else nullcontext(client)

    async def _call(
        self,
        method: Callable[..., Awaitable[Result[T, MictlanXError]]],
        *args: Any,
        options: Mapping[str, object],
        **kwargs: Any,
    ) -> T:
        """Open a client, call one of its methods with the caller's options, and return the value."""
        filled = await self._with_connection_defaults(options)
        async with self.open_client() as client:
            return unwrap(await method(client, *args, **kwargs, **filled))

    async def _with_connection_defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return options under the client's names, with unset ones from the connection.

        Options that neither the caller nor the connection sets are omitted.
        """
        settings = await self.aget_settings()
        if (seconds := options.get("request_timeout")) is not None:
            with errors_name_connection(self.mictlanx_conn_id):
                check_timeout(seconds, "request_timeout")
        named = {"timeout" if name == "request_timeout" else name: value for name, value in options.items()}
        filled = {name: getattr(settings, name, None) if value is None else value for name, value in named.items()}
        return {name: value for name, value in filled.items() if value is not None or name not in _FILLED}

    async def _report_lineage(
        self,
        *,
        reads: Sequence[DataLocation] = (),
        writes: Sequence[DataLocation] = (),
        deletes: Sequence[DataLocation] = (),
    ) -> None:
        """Record locations that were read, written and deleted, unless lineage is switched off."""
        if lineage.is_enabled():
            self.trace.add(reads, writes, deletes)
            await asyncio.to_thread(lineage.report, self, reads, writes)

    def _log_progress(self, line: str) -> None:
        self.log.info("%s", line)

    def _finish_batch(
        self, action: str, line: str, outcome: BatchResult, result: dict[str, Any], fail_on_error: bool
    ) -> dict[str, Any]:
        error = batch_error(action, outcome, result) if fail_on_error and outcome.failures else None
        return self._finish(f"{action[:1].upper()}{action[1:]}: {line}", outcome.failures, result, error)

    def _finish(
        self, line: str, failures: Sequence[Failure], result: dict[str, Any], error: MictlanXError | None
    ) -> dict[str, Any]:
        """Log the line and the first failures of work on many objects; return its result, or raise its error."""
        self._log_progress(line)
        for failure in failures[:MAX_REPORTED]:
            self.log.warning("%s/%s failed: %s", failure.bucket_id, failure.key, failure.message)
        if len(failures) > MAX_REPORTED:
            self.log.warning("… and %s more", pluralize(len(failures) - MAX_REPORTED, "object"))
        if error is not None:
            with errors_name_connection(self.mictlanx_conn_id):
                raise error
        return result


def _file_size(path: str | os.PathLike[str]) -> int | None:
    """Return the size of a file in bytes; None if it can't be read, which the upload reports."""
    try:
        return os.path.getsize(path)
    except (OSError, TypeError, ValueError):
        return None


def new_client(settings: ConnectionSettings, verify: Any) -> AsyncClient:
    """Return a client without log files and read cache; also silence httpx, which logs a line per request."""
    if (log := logging.getLogger("httpx")).level == logging.NOTSET:
        log.setLevel(logging.WARNING)  # Airflow 3 does this itself
    return AsyncClient(
        settings.uri,
        settings.client_id,
        debug=False,
        log_output_path=None,
        capacity_storage="0",
        verify=verify,
        token=settings.token,
        headers=settings.headers,
        proxy=settings.proxy,
        trust_env=settings.trust_env,
        connect_patience=settings.connect_patience,
    )


# Checks of arguments


def _check_list(name: str, values: Iterable[T], of: str, refused: Any = str | bytes) -> list[T]:
    if isinstance(values, refused) or not isinstance(values, Iterable):
        raise ValidationError(f"{name} must be a list of {of}, got {type(values).__name__}. {_NATIVE_LISTS}")
    return list(values)


def check_keys(name: str, keys: Iterable[str]) -> list[str]:
    """Return a list of keys, or raise ``ValidationError`` that names the parameter."""
    checked = _check_list(name, keys, "str")
    if wrong := [key for key in checked if not isinstance(key, str) or not key]:
        raise ValidationError(f"{name} must be a list of non-empty str, got {wrong[0]!r} in it")
    return checked


def _check_owner(owner: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(owner, Mapping) or not all(isinstance(text, str) for item in owner.items() for text in item):
        raise ValidationError(f"owner must be a dict of str to str, got {owner!r}")
    return owner


def _check_encoding(encoding: str) -> None:
    try:
        "".encode(encoding)
    except (LookupError, TypeError, ValueError) as error:
        raise ValidationError(
            f"encoding must be the name of a Python text encoding such as 'utf-8', got {encoding!r}"
        ) from error


def _as_bytes(data: bytes | str) -> bytes:
    if isinstance(data, str):
        try:
            return data.encode()
        except UnicodeEncodeError as error:
            raise ValidationError(f"data must be valid Unicode: {error.reason}") from error
    if isinstance(data, bytes):
        return data
    raise ValidationError(f"data must be str or bytes, got {type(data).__name__}")


def _decode(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeError as error:
        raise ValidationError(
            f"decoding {name} ({pluralize(len(data), 'byte')}) as {encoding} failed: {error}; choose "
            "another encoding, or read it into a file"
        ) from error


def _file_name(key: str, filename: str | None) -> str:
    """Return the given file name; default: one without folders, derived from the key."""
    if filename is None:
        ball_id = make_ball_id(key)
        return safe_file_name(key) or ball_id
    if not filename:
        raise ValidationError("filename must not be empty; omit it to name the file after the key")
    return filename


def _required_objects(keys: list[str] | None, min_objects: int | None) -> int:
    if keys == []:
        raise ValidationError("keys must not be empty")
    if min_objects is None:
        return 1 if keys is None else len(keys)
    required = check_int("min_objects", min_objects)
    if keys is not None and required > len(keys):
        raise ValidationError(f"min_objects must be at most {len(keys)}, the number of different keys, got {required}")
    return required


def _content(ball: Ball) -> tuple[object, ...]:
    return ball.checksum, *((chunk.size, chunk.checksum) for chunk in ball.chunks)


def _side_location(side: BucketPath | FolderSide | StoreSide) -> DataLocation:
    """Return the location of one side of a sync."""
    return bucket_location(side.bucket_id, side.prefix) if isinstance(side, BucketPath) else source_location(str(side))


def _destinations(bucket_id: str | None, balls: Iterable[Mapping[str, Any]], key_prefix: str) -> list[DataLocation]:
    """Return the locations that a bulk writes to: its buckets, narrowed by the prefix of its keys."""
    buckets = [ball.get("bucket_id") or bucket_id for ball in balls] or [bucket_id]
    return [bucket_location(bucket, key_prefix) for bucket in dict.fromkeys(buckets) if bucket]
