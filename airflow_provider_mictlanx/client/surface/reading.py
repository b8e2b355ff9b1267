"""Calls that read data, verified: into memory, into a file, chunk by chunk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Mapping

from airflow_provider_mictlanx.client.checks import number_from_zero
from airflow_provider_mictlanx.client.download import Download
from airflow_provider_mictlanx.client.errors import MictlanXError
from airflow_provider_mictlanx.client.models import AsyncGetResponse, Chunk, FileReport, Metadata
from airflow_provider_mictlanx.client.result import returns_result
from airflow_provider_mictlanx.client.retry import RetryRule
from airflow_provider_mictlanx.client.surface.base import NONE, ClientBase, name_of


class Reading(ClientBase):
    """The part of ``AsyncClient`` that reads data."""

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
        name = name_of(bucket_id, key)
        rule = _rule(max_retries, max_backoff, max_delay, delay, backoff_factor, jitter)
        download = Download(
            self._dispatcher(timeout, headers, rule), self._threads, max_paralell_gets, force, chunk_index
        )
        async with self._doing(f"getting {name}", deadline, name):
            version, data = await download.to_memory(name, self._cache, max_size)
        return AsyncGetResponse(data=data, metadatas=version.ordered)

    @returns_result
    async def get_chunk(
        self,
        bucket_id: str,
        ball_id: str,
        index: int,
        max_parallel_gets: int = 10,
        headers: Mapping[str, str] = NONE,
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
        Get one chunk, verified; gives it and its metadata.

        The ball need not be whole. The parameters and errors are those of ``get``; ``NotFoundError`` also where the ball has
        no such chunk.

        :param index: the chunk's place in the ball, from 0
        :param max_parallel_gets: not used: it is one chunk
        """
        name = name_of(bucket_id, ball_id)
        rule = _rule(max_retries, max_backoff, max_delay, delay, backoff_factor, jitter)
        download = Download(self._dispatcher(timeout, headers, rule), self._threads, 1, force)
        async with self._doing(f"getting chunk {index} of {name}", deadline, name):
            metadata, data = await download.one_chunk(name, index)
        return Chunk(metadata.ball_id, index, bytes(data), metadata.key, metadata.tags), metadata

    async def get_chunks(
        self,
        bucket_id: str,
        key: str,
        max_parallel_gets: int = 10,
        headers: Mapping[str, str] = NONE,
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
        Get a ball chunk by chunk: an async iterator of metadata and bytes. It returns no ``Result``: it raises.

        Every chunk is verified before it is given. With ``order=True`` the whole is verified too, at the end: an
        ``IntegrityError`` then takes back what was given. The other parameters and errors are those of ``get``.

        :param max_parallel_gets: the most chunks in flight or waiting to be taken: memory is bounded by this times the size
            of a chunk
        :param order: whether chunks come by index, or as they become complete
        """
        name = name_of(bucket_id, key)
        rule = _rule(max_retries, max_backoff, max_delay, delay, backoff_factor, jitter)
        routers = self._dispatcher(timeout, headers, rule)
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
        headers: Mapping[str, str] = NONE,
        force: bool = False,
        replace: bool = False,
        checksum: str | None = None,
        deadline: float | None = None,
    ) -> FileReport:
        """
        Get a ball into a file that appears whole and verified or not at all, and tell what was done.

        The errors are those of ``get``, and ``FileAlreadyExists`` where a file of that name has other content.

        :param output_path: the folder; made if missing
        :param filename: a plain name; where it is empty, a safe form of the tag ``fullname``, else ``{ball_id}[.{extension}]``
        :param replace: whether a file of that name with other content is replaced
        :param checksum: the SHA-256 that is wanted, in hex; a ball with other bytes by now is an ``IntegrityError``
        """
        rule = RetryRule(max_tries, max_backoff)
        name = name_of(bucket_id, key)
        engine = Download(self._dispatcher(timeout, headers, rule), self._threads, max_concurrency, force)
        async with self._doing(f"getting {name} to a file", deadline, name):
            return await engine.to_file(name, output_path, filename, replace, checksum)

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
        rule = _rule(max_retries, max_delay, max_delay, delay, backoff_factor, jitter)
        name = name_of(bucket_id, ball_id)
        routers = self._dispatcher(timeout, headers, rule)
        engine = Download(routers, self._threads, max_paralell_gets, force, chunk_index)
        async with self._doing(f"getting {name} to a file", deadline, name):
            return (await engine.to_file(name, output_path, fullname, replace)).path


def _rule(
    max_retries: int, max_backoff: float, max_delay: float, delay: float, backoff_factor: float, jitter: bool
) -> RetryRule:
    """Give the rule for the official client's parameters of a read."""
    waits = {"max_delay": max_delay, "max_backoff": max_backoff, "delay": delay, "backoff_factor": backoff_factor}
    for name, value in waits.items():
        number_from_zero(name, value)
    return RetryRule(max_retries, min(max_backoff, max_delay), delay * backoff_factor, jitter=jitter)
