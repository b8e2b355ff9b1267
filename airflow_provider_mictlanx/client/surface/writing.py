"""Calls that store: bytes, a file, chunks that the caller has cut."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from airflow_provider_mictlanx.client.checks import whole_number
from airflow_provider_mictlanx.client.chunks import (
    BallPlan,
    BytesSource,
    ChunksSource,
    OpenFile,
    Source,
    cut_with_long_tail,
    cut_with_short_tail,
    parse_size,
    plan_ball,
)
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.models import Chunk, PutReport
from airflow_provider_mictlanx.client.names import is_safe_id, path_tags
from airflow_provider_mictlanx.client.remote import OpenRemote, RemoteFile
from airflow_provider_mictlanx.client.result import returns_result, value_of
from airflow_provider_mictlanx.client.retry import RetryRule
from airflow_provider_mictlanx.client.single_chunk import SingleChunkUpload, place_tags
from airflow_provider_mictlanx.client.sizing import chunk_size_for, concurrency_for
from airflow_provider_mictlanx.client.surface.base import NONE, ClientBase, changing_name
from airflow_provider_mictlanx.client.upload import PutOptions, Upload, check_tags


class Writing(ClientBase):
    """The part of ``AsyncClient`` that stores."""

    @returns_result
    async def upload(
        self,
        bucket_id: str,
        key: str,
        *,
        data: bytes | None = None,
        path: str | os.PathLike[str] | None = None,
        file: RemoteFile | None = None,
        tags: Mapping[str, str] = NONE,
        chunk_size: str | int | None = "256kb",
        rf: int = 1,
        timeout: float = 120,
        max_tries: int = 5,
        max_concurrency: int | None = 10,
        max_backoff: float = 5,
        replace: bool = False,
        expected: BallPlan | None = None,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> PutReport:
        """
        Put bytes or a file, and tell what was done: ``put`` and ``put_file`` in one.

        The parameters are those of ``put``; of ``data``, ``path`` and ``file`` one is given. Bytes are cut as ``put`` cuts them,
        files as ``put_file`` does.

        :param file: of another store, read through its fsspec filesystem
        :param chunk_size: None to have it chosen by the size of what is put
        :param max_concurrency: None to have it chosen by the size of the chunks
        :param expected: what ``plan`` gave for it before; other bytes are an ``IntegrityError``, and are not stored
        """
        _check_one_source("upload", data, path, file)
        name = changing_name(bucket_id, key, allow_reserved_bucket)
        own_tags = {} if is_safe_id(key) else path_tags(key)
        chunk_size = None if chunk_size is None else parse_size(chunk_size)
        chosen = PutOptions(rf, 1 if max_concurrency is None else max_concurrency, replace, tags, self.client_id)
        routers = self._dispatcher(timeout, NONE, RetryRule(max_tries, max_backoff))

        def sized(source: Source) -> tuple[int, PutOptions]:
            size = chunk_size_for(source.size, chunk_size)
            return size, dataclasses.replace(chosen, max_concurrency=concurrency_for(size, max_concurrency))

        async with self._doing(f"putting {name}", deadline, bucket_id):
            if data is not None:
                source: Source = BytesSource(_as_bytes(data))
                size, options = sized(source)
                upload = Upload(routers, self._threads, name, source, options, own_tags)
                return await upload.run(cut_with_long_tail(source.size, size), expected)
            async with self._opened(path, file) as source:
                size, options = sized(source)
                upload = Upload(
                    routers, self._threads, name, source, options, own_tags or path_tags(_file_name(path, file))
                )
                return await upload.run(cut_with_short_tail(source.size, size), expected)

    def _opened(self, path: str | os.PathLike[str] | None, file: RemoteFile | None) -> OpenFile | OpenRemote:
        return (
            OpenRemote(file, self._threads)
            if file is not None
            else OpenFile("" if path is None else path, self._threads)
        )

    @returns_result
    async def plan(
        self,
        *,
        data: bytes | None = None,
        path: str | os.PathLike[str] | None = None,
        file: RemoteFile | None = None,
        chunk_size: str | int | None = "256kb",
    ) -> BallPlan:
        """
        Hash bytes or a file as ``upload`` would cut it, and send nothing; gives size, SHA-256 and chunks.

        ``ValidationError``: the file can't be read; ``IntegrityError``: it changed meanwhile.

        :param chunk_size: as in ``upload``
        """
        _check_one_source("plan", data, path, file)
        chunk_size = None if chunk_size is None else parse_size(chunk_size)
        if data is not None:
            source: Source = BytesSource(_as_bytes(data))
            size = chunk_size_for(source.size, chunk_size)
            return await plan_ball(source, cut_with_long_tail(source.size, size), self._threads)
        async with self._opened(path, file) as source:
            size = chunk_size_for(source.size, chunk_size)
            return await plan_ball(source, cut_with_short_tail(source.size, size), self._threads)

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
        allow_reserved_bucket: bool = False,
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
        :param allow_reserved_bucket: whether a bucket that begins with ``bulk-``, of a bulk's records, may be changed
        :param deadline: for the whole call (seconds); ``DeadlineExceededError`` when it is over
        """
        report = value_of(
            await self.upload(
                bucket_id,
                key,
                data=value,
                tags=tags,
                chunk_size=parse_size(chunk_size),
                rf=rf,
                timeout=timeout,
                max_tries=max_tries,
                max_concurrency=whole_number("max_concurrency", max_concurrency),
                max_backoff=max_backoff,
                replace=replace,
                allow_reserved_bucket=allow_reserved_bucket,
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
        allow_reserved_bucket: bool = False,
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
                chunk_size=parse_size(chunk_size),
                rf=rf,
                timeout=timeout,
                max_tries=max_tries,
                max_concurrency=whole_number("max_concurrency", max_concurrency),
                max_backoff=max_backoff,
                replace=replace,
                allow_reserved_bucket=allow_reserved_bucket,
                deadline=deadline,
            )
        )
        return report.uploaded

    @returns_result
    async def put_chunks(
        self,
        bucket_id: str,
        key: str,
        chunks: Sequence[Chunk],
        tags: Mapping[str, str] = NONE,
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
        Put a ball in chunks that the caller has cut; gives True = sent and stored, False = stored already.

        The chunks' own ``metadata`` are tags of theirs; their ``group_id`` and ``chunk_id`` are not used, for the keys are made
        of ``key``. Everything else is as with ``put``.

        :param chunks: all of the ball's, with the indexes 0, 1, 2 … in any order
        """
        name = changing_name(bucket_id, key, allow_reserved_bucket)
        source = ChunksSource(_as_chunks(chunks))
        options = PutOptions(rf, max_concurrency, replace, tags, self.client_id)
        own_tags = {} if is_safe_id(key) else path_tags(key)
        routers = self._dispatcher(timeout, NONE, RetryRule(max_tries, max_backoff))
        chunk_tags = {chunk.index: check_tags(chunk.metadata) for chunk in chunks}
        async with self._doing(f"putting {name} in {len(chunks)} chunks", deadline, bucket_id):
            upload = Upload(routers, self._threads, name, source, options, own_tags, chunk_tags)
            return (await upload.run(source.cut)).uploaded

    @returns_result
    async def put_single_chunk(
        self,
        bucket_id: str,
        ball_id: str,
        chunk: Chunk,
        chunk_size: str | int = "256kb",
        rf: int = 1,
        timeout: float = 120,
        max_tries: int = 5,
        max_concurrency: int = 10,
        max_backoff: float = 5,
        tags: Mapping[str, str] = NONE,
        *,
        replace: bool = False,
        allow_reserved_bucket: bool = False,
        deadline: float | None = None,
    ) -> bool:
        """
        Put one chunk of a ball; gives True = sent and stored, False = stored already.

        A chunk that is a ball of its own (index 0, and no tag tells of others) needs nothing more. One of several needs the
        tags ``num_chunks`` and ``full_checksum`` (of ``tags`` or its own ``metadata``), for without them no reader could tell
        whether the ball is whole. The errors are those of ``put``.

        :param ball_id: the ball id, or any key
        :param chunk: ``chunk.index`` is its place
        :param chunk_size: not used: a chunk is stored as it is
        :param max_concurrency: not used: there is one request after the other
        :param replace: delete other bytes under the chunk's key first
        """
        name = changing_name(bucket_id, ball_id, allow_reserved_bucket)
        [chunk] = _as_chunks([chunk])
        options = PutOptions(rf, 1, replace, tags, self.client_id)
        own_tags = {} if is_safe_id(ball_id) else path_tags(ball_id)
        routers = self._dispatcher(timeout, NONE, RetryRule(max_tries, max_backoff))
        place = place_tags(chunk, {**tags, **check_tags(chunk.metadata)})
        source = BytesSource(chunk.data, f"chunk {chunk.index} of {name}")
        async with self._doing(f"putting chunk {chunk.index} of {name}", deadline, bucket_id):
            if place is None:
                upload = Upload(routers, self._threads, name, source, options, own_tags, {0: chunk.metadata})
                return (await upload.run([source.size])).uploaded
            chunk_tags = {chunk.index: {**chunk.metadata, **place}}
            single = SingleChunkUpload(routers, self._threads, name, source, options, own_tags, chunk_tags)
            return (await single.run(chunk.index)).uploaded


def _check_one_source(call: str, data: object, path: object, file: object) -> None:
    if sum(given is not None for given in (data, path, file)) != 1:
        raise ValidationError(f"{call} takes either data, path or file")


def _file_name(path: str | os.PathLike[str] | None, file: RemoteFile | None) -> str:
    return Path(path or "").name if file is None else file.path.rpartition("/")[2]


def _as_chunks(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Give the chunks with bytes that nobody changes; what is none is a ``ValidationError``."""
    if wrong := [chunk for chunk in chunks if not isinstance(chunk, Chunk)]:
        raise ValidationError(f"chunks are Chunk objects, not {type(wrong[0]).__name__}")
    for index in (chunk.index for chunk in chunks):
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise ValidationError(f"a chunk's index is a whole number from 0 on, not {index!r}")
    return [Chunk(c.group_id, c.index, _as_bytes(c.data), c.chunk_id, c.metadata) for c in chunks]


def _as_bytes(data: object) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise ValidationError(f"bytes are wanted, not {type(data).__name__}; a text has to be encoded first")
