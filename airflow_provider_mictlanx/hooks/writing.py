"""Calls of the hook that store one object. Imports the client, ``hooks.calls`` and ``hooks.summaries``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from airflow_provider_mictlanx.assets.places import in_bucket, on_disk
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.hooks.calls import HookCalls, chosen


class WritingCalls(HookCalls):
    """The part of ``MictlanXHook`` that stores."""

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
        :param chunk_size: how it is cut, as ``"256kb"``; default: the connection's, else chosen by the size
        :param rf: on how many peers every chunk is to be stored
        :param timeout: of one request, in seconds
        :param max_tries: per chunk
        :param max_concurrency: chunks in flight; default: the connection's, else chosen by the chunks' size
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
        Store a file under a key.

        Memory is bounded by ``max_concurrency`` times ``chunk_size``, whatever the file's size; where nobody chooses, that is
        32 MB, and with files of more than 16 GB 64 MB.

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
            # What nobody chose is chosen by the size of what is stored.
            given = {"chunk_size": None, "max_concurrency": None, **chosen(settings, **defaulted)}
            report = await client.upload(
                bucket_id, key, **source, **given, **options, tags={} if tags is None else tags
            )
        result = summaries.transfer_summary(value_of(report))
        read = [on_disk(source["path"])] if "path" in source else []
        await self._note(reads=read, writes=[in_bucket(bucket_id, key)])
        return result


def _as_bytes(data: bytes | str) -> bytes:
    if isinstance(data, str):
        try:
            return data.encode()
        except UnicodeEncodeError as error:
            raise ValidationError(f"data is no valid Unicode text: {error.reason}") from error
    if isinstance(data, bytes):
        return data
    raise ValidationError(f"data is bytes or a text, not a {type(data).__name__}")
