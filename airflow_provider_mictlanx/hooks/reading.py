"""Calls of the hook that read one object. Imports the client, ``hooks.calls`` and ``hooks.summaries``."""

from __future__ import annotations

import os
from typing import Any

from airflow_provider_mictlanx.assets.places import in_bucket, on_disk
from airflow_provider_mictlanx.client.chunks import parse_size
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.names import ball_id_of, safe_file_name
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.hooks.calls import HookCalls, chosen


class ReadingCalls(HookCalls):
    """The part of ``MictlanXHook`` that reads."""

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
        given = chosen(await self.aget_settings(), timeout=timeout, max_concurrency=max_concurrency)
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
        data = value_of(response).data.tobytes()
        await self._note(reads=[in_bucket(bucket_id, key)])
        return data

    def get_text(
        self,
        bucket_id: str,
        key: str,
        *,
        encoding: str = "utf-8",
        max_size: int | str | None = None,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        deadline: float | None = None,
    ) -> str:
        """
        Read an object as a text, verified. ``ValidationError``: it is none in that encoding, or too large.

        Parameters as of ``get``, but for:

        :param encoding: as Python names it
        :param max_size: refuse anything larger, before any of it is read: bytes, or a text such as ``"48kb"``
        """
        return self._run(
            self.aget_text,
            bucket_id,
            key,
            encoding=encoding,
            max_size=max_size,
            timeout=timeout,
            max_tries=max_tries,
            max_concurrency=max_concurrency,
            max_backoff=max_backoff,
            deadline=deadline,
        )

    async def aget_text(
        self,
        bucket_id: str,
        key: str,
        *,
        encoding: str = "utf-8",
        max_size: int | str | None = None,
        timeout: float | None = None,
        max_tries: int = 5,
        max_concurrency: int | None = None,
        max_backoff: float = 5,
        deadline: float | None = None,
    ) -> str:
        """Read an object as a text, verified; see ``get_text``."""
        _check_encoding(encoding)
        data = await self.aget(
            bucket_id,
            key,
            max_size=None if max_size is None else parse_size(max_size, "max_size", least=0),
            timeout=timeout,
            max_tries=max_tries,
            max_concurrency=max_concurrency,
            max_backoff=max_backoff,
            deadline=deadline,
        )
        try:
            return data.decode(encoding)
        except UnicodeError as error:
            raise ValidationError(
                f"{bucket_id}/{key} ({len(data)} bytes) is no text in {encoding}: {error}. Give its encoding, or read it into a file"
            ) from error

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
        given = chosen(await self.aget_settings(), timeout=timeout, max_concurrency=max_concurrency)
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
        result = summaries.transfer_summary(value_of(report))
        await self._note(reads=[in_bucket(bucket_id, key)], writes=[on_disk(result["path"])])
        return result


def _file_name(key: str, filename: str | None) -> str:
    """Give the name that was asked for, else a plain one made of the key."""
    if filename is None:
        ball_id = ball_id_of(key)
        return safe_file_name(key) or ball_id
    if not filename:
        raise ValidationError("filename is empty; leave it out to name the file after the key")
    return filename


def _check_encoding(encoding: str) -> None:
    try:
        "".encode(encoding)
    except (LookupError, TypeError, ValueError) as error:
        raise ValidationError(f"encoding is that of a text, as Python names it ('utf-8'), not {encoding!r}") from error
