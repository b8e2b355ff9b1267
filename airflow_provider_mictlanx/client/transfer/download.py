"""
Download a ball chunk by chunk into memory or a file, and verify it.

A download to a file buffers 1 MiB per chunk in flight, whatever the sizes of chunks and ball. The ball's SHA-256 is
computed in order, behind the chunks that are complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from humanfriendly import format_size
from humanfriendly.text import pluralize

from airflow_provider_mictlanx.client.byte_counter import count_bytes
from airflow_provider_mictlanx.client.concurrency import PIECE, Threads, for_each
from airflow_provider_mictlanx.client.errors import (
    FileAlreadyExists,
    GetChunkError,
    IntegrityError,
    MictlanXError,
    NotFoundError,
    ValidationError,
)
from airflow_provider_mictlanx.client.local_io.atomic_file import (
    OpenFolder,
    check_file_name,
    disk_errors,
    has_content,
    matching_checksum,
)
from airflow_provider_mictlanx.client.local_io.sinks import FileSink, MemorySink, NullSink, Sink
from airflow_provider_mictlanx.client.local_io.sources import READ_THROUGH
from airflow_provider_mictlanx.client.models import Ball, FileReport, Metadata
from airflow_provider_mictlanx.client.object_ids import ObjectId, safe_file_name
from airflow_provider_mictlanx.client.read_cache import ReadCache
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.transfer.chunk_reader import ChunkReader
from airflow_provider_mictlanx.client.transfer.listing import find_versions, list_chunks
from airflow_provider_mictlanx.client.transfer.router_pool import RequestSender
from airflow_provider_mictlanx.client.validation import check_bool, check_int
from airflow_provider_mictlanx.client.versions import Version, filtered_error, group_versions, read_filters

log = get_logger(__name__)

S = TypeVar("S", bound=Sink)

FindVersions = Callable[[], Awaitable[list[Version]]]


class Download:
    """
    Reads balls for one call.

    :param max_concurrency: maximum number of chunks in flight, at least 1
    :param force: bypass the routers' caches from the start
    :param first: index of the first chunk to read; above 0, the ball's SHA-256 can't be verified
    """

    def __init__(
        self, routers: RequestSender, threads: Threads, max_concurrency: int, force: bool = False, first: int = 0
    ) -> None:
        check_int("max_concurrency", max_concurrency)
        self._first = check_int("chunk_index", first, least=0)
        self._routers = routers
        self._threads = threads
        self._max_concurrency = max_concurrency
        self._force = force
        self.reader = ChunkReader(routers, threads, force)

    async def versions(self, name: ObjectId, checksum: str | None = None) -> list[Version]:
        """
        Return the complete versions of a ball that this client can read, the newest first, at least one.

        ``UpstreamProtocolError``: a newer client compressed or encrypted all of them. ``IntegrityError``: none of them
        can have the SHA-256.

        :param checksum: expected SHA-256; None for any
        """
        found = [
            v for v in await self._routers.with_retries(lambda: find_versions(self._routers, name)) if v.is_complete
        ]
        readable = _drop_filtered(name, found)
        tails = [version.tail(self._first) for version in readable if version.num_chunks > self._first]
        if not tails:
            raise ValidationError(
                f"chunk_index must be less than the {readable[0].num_chunks} chunks of {name}, got {self._first}"
            )
        expected = [version for version in tails if checksum is None or version.checksum in (None, checksum)]
        if not expected:
            _check_same(name, tails[0].checksum or "", checksum)
        return expected

    async def to_memory(
        self, name: ObjectId, cache: ReadCache, max_size: int | None = None
    ) -> tuple[Version, memoryview]:
        """
        Read a ball into read-only memory.

        :param cache: read first unless the routers' caches are bypassed, and updated
        :param max_size: maximum size (bytes); a larger ball is a ``ValidationError``; None for no limit
        """
        if max_size is not None:
            check_int("max_size", max_size, least=0)

        def check_size(version: Version) -> None:
            if max_size is not None and version.size > max_size:
                raise ValidationError(
                    f"reading {name} failed: it has {pluralize(version.size, 'byte')}, more than the allowed "
                    f"{max_size}; raise max_size, or read it into a file"
                )

        def make_sink(version: Version) -> MemorySink:
            check_size(version)
            return MemorySink(version.size)

        versions = await self.versions(name)
        if not self._force and (cached := cache.get(name, versions[0])) is not None:
            check_size(versions[0])
            return versions[0], cached
        version, sink, _ = await self._read_newest(name, versions, make_sink)
        self._warn_if_unverified(name, version)
        data = sink.view.toreadonly()
        cache.keep(name, version, data)
        return version, data

    async def one_chunk(self, name: ObjectId, index: int) -> tuple[Metadata, memoryview]:
        """Read one chunk of the newest version that contains it and is readable; the version may be incomplete."""
        check_int("index", index, least=0)
        fallback = await self._start_fallback(
            lambda: self._routers.with_retries(lambda: self._versions_with(name, index))
        )
        while True:
            chunk = fallback.version.chunks[index]
            try:
                sink = MemorySink(chunk.size)
                await self.reader.read(chunk, 0, sink, retry_missing=fallback.is_last)
            except (IntegrityError, GetChunkError) as error:
                await fallback.advance(error)
            else:
                return chunk, sink.view.toreadonly()

    async def listed_chunk(self, name: ObjectId, ball: Ball, index: int) -> memoryview:
        """Read one chunk of a listed ball."""
        if check_int("index", index, least=0) >= ball.num_chunks:
            raise _no_such_chunk(name, index, ball.num_chunks)
        if filters := read_filters(ball.chunks):
            raise filtered_error(f"reading {name}", filters)
        chunk = ball.chunks[index]
        sink = MemorySink(chunk.size)
        await self.reader.read(chunk, 0, sink)
        return sink.view.toreadonly()

    async def _versions_with(self, name: ObjectId, index: int) -> list[Version]:
        if listed := [v for v in group_versions(await list_chunks(self._routers, name)) if index in v.chunks]:
            return _drop_filtered(name, listed)
        versions = await find_versions(self._routers, name)  # finds an empty ball, or raises
        if found := [version for version in versions if index in version.chunks]:
            return _drop_filtered(name, found)
        raise _no_such_chunk(name, index, versions[0].num_chunks)

    async def chunks(self, name: ObjectId, ordered: bool) -> AsyncGenerator[tuple[Metadata, memoryview]]:
        """
        Read a ball chunk by chunk, prefetching as many chunks as may be in flight.

        Each chunk is verified before it is yielded. If they are ordered, the ball is verified too: an
        ``IntegrityError`` at the end invalidates the yielded chunks. After the first chunk, no older version is tried.

        :param ordered: yield chunks by index, instead of in the order of completion
        """
        fallback = await self._start_fallback(lambda: self.versions(name))
        while True:
            yielded = False
            digest = hashlib.sha256()
            version = fallback.version
            try:
                async with contextlib.aclosing(
                    self._prefetch(version, ordered, retry_missing=fallback.is_last)
                ) as chunks:
                    async for chunk, data in chunks:
                        if ordered and version.checksum:
                            await self._threads.run_sized(len(data), digest.update, data)
                        yielded = True
                        yield chunk, data
            except (IntegrityError, GetChunkError) as error:
                if yielded:
                    raise
                await fallback.advance(error)
            else:
                if ordered:
                    _check_checksum(name, version, digest.hexdigest())
                self._warn_if_unverified(name, version)
                return

    async def hash_version(self, name: ObjectId, version: Version, retry_missing: bool) -> tuple[str, bytes]:
        """
        Read and verify a version; return its SHA-256, and its bytes if it has a single chunk (else empty bytes).

        :param retry_missing: retry even if every peer answered that it has no copy
        """
        digest = hashlib.sha256()
        async with contextlib.aclosing(self._prefetch(version, ordered=True, retry_missing=retry_missing)) as chunks:
            async for chunk, data in chunks:
                if version.num_chunks == 1:
                    self._warn_if_unverified(name, version)
                    return _check_checksum(name, version, chunk.checksum), bytes(data)
                await self._threads.run_sized(len(data), digest.update, data)
        checksum = _check_checksum(name, version, digest.hexdigest())
        self._warn_if_unverified(name, version)
        return checksum, b""

    async def _prefetch(
        self, version: Version, ordered: bool, retry_missing: bool
    ) -> AsyncGenerator[tuple[Metadata, memoryview]]:
        async def read(chunk: Metadata) -> tuple[Metadata, memoryview]:
            sink = MemorySink(chunk.size)
            await self.reader.read(chunk, 0, sink, retry_missing)
            return chunk, sink.view.toreadonly()

        waiting = iter(version.ordered)
        tasks: list[asyncio.Task[tuple[Metadata, memoryview]]] = []
        try:
            while True:
                while len(tasks) < self._max_concurrency and (chunk := next(waiting, None)):
                    tasks.append(asyncio.create_task(read(chunk)))
                if not tasks:
                    return
                await asyncio.wait(tasks[:1] if ordered else tasks, return_when=asyncio.FIRST_COMPLETED)
                task = next(task for task in tasks if task.done() and (not ordered or task is tasks[0]))
                tasks.remove(task)
                yield task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def to_file(
        self,
        name: ObjectId,
        folder: str | os.PathLike[str],
        filename: str,
        replace: bool,
        checksum: str | None = None,
        listed: Version | None = None,
    ) -> FileReport:
        """
        Read a ball into a file that appears complete or not at all.

        :param folder: created if missing
        :param filename: a plain name; by default, a safe form of the tag ``fullname``, else ``{ball_id}[.{extension}]``
        :param replace: replace an existing file with other content, instead of raising ``FileAlreadyExists``
        :param checksum: expected SHA-256; a ball with other bytes is an ``IntegrityError``
        :param listed: see ``verify``
        """
        started = time.monotonic()
        check_bool("replace", replace)
        if filename:
            check_file_name(filename)
        with disk_errors(f"writing {name} to {folder}", "; nothing was left behind"), OpenFolder(folder) as place:
            # A file of that name may already have the content; then the folder need not be writable.
            if not (filename and place.kind_of(filename)):
                place.check_writable()
            is_known = listed is not None and can_read_directly(listed) and checksum in (None, listed.checksum)
            known = listed if is_known else None
            versions = [known] if known else await self.versions(name, checksum)
            target = filename or _make_file_name(versions[0])
            if place.kind_of(target):
                if existing := await self._existing_checksum(place, target, versions[0]):
                    _check_same(name, existing, checksum)
                    return _report(name, place.path / target, versions[0], existing, False, started)
                if not replace:
                    raise FileAlreadyExists(
                        f"{place.path / target} exists with other content and was not changed; replace=True replaces it"
                    )
            if listed is None:  # else it is one of many, and the batch logs its progress
                log.info("Reading %s: %s", name, format_size(versions[0].size))
            with place.make(target) as file:

                def make_sink(version: Version) -> FileSink:
                    file.truncate(version.size)
                    return FileSink(file)

                version, _, read = await self._read_newest(name, versions, make_sink, checksum, is_partial=bool(known))
                _check_same(name, read, checksum)
                self._warn_if_unverified(name, version)
                try:
                    path = await self._threads.run(file.publish, replace)
                except FileAlreadyExists:  # perhaps because another download of this object was faster
                    if not await has_content(target, version.size, read, self._threads, place.descriptor):
                        raise
                    return _report(name, place.path / target, version, read, False, started)
        return _report(name, path, version, read, True, started)

    async def verify(self, name: ObjectId, listed: Version | None = None) -> Version:
        """
        Verify the newest readable version without the routers' caches and without keeping it; return the version.

        :param listed: the newest version in a complete listing of the bucket, which saves the ball's listing. Such a
            listing hides older versions, so they are looked up if this one can't be read
        """
        known = listed if listed is not None and can_read_directly(listed) else None
        versions = [known] if known else await self.versions(name)
        checking = Download(self._routers, self._threads, self._max_concurrency, force=True)
        version, _, _ = await checking._read_newest(name, versions, lambda _: NullSink(), is_partial=bool(known))
        self._warn_if_unverified(name, version)
        return version

    def _warn_if_unverified(self, name: ObjectId, version: Version) -> None:
        """Log that a ball had no SHA-256 to verify, unless the caller left out its first chunks."""
        if version.checksum is None and not self._first:
            log.warning(
                "%s: its writer recorded no SHA-256 of the complete object, so only its %d chunks were verified",
                name,
                version.num_chunks,
            )

    async def _existing_checksum(self, place: OpenFolder, target: str, version: Version) -> str:
        """Return the SHA-256 of an existing file that has a version's bytes; an empty str if it has others."""
        chunks = [(chunk.size, chunk.checksum) for chunk in version.ordered]
        parts = [(version.size, version.checksum)] if version.checksum else chunks
        return await matching_checksum(target, parts, self._threads, place.descriptor)

    async def _read_newest(
        self,
        name: ObjectId,
        versions: list[Version],
        make_sink: Callable[[Version], S],
        checksum: str | None = None,
        is_partial: bool = False,
    ) -> tuple[Version, S, str]:
        """Read the newest version that can be verified; return it, its sink and its SHA-256."""
        fallback = VersionFallback(
            versions,
            lambda: self.versions(name, checksum),
            self._routers.retry.max_tries,
            is_partial,
        )
        while True:
            version = fallback.version
            try:
                sink = make_sink(version)
                return version, sink, await self._read_version(name, version, sink, retry_missing=fallback.is_last)
            except (IntegrityError, GetChunkError) as error:
                await fallback.advance(error)

    async def _start_fallback(self, find: FindVersions) -> VersionFallback:
        return VersionFallback(await find(), find, self._routers.retry.max_tries)

    async def _read_version(self, name: ObjectId, version: Version, sink: Sink, retry_missing: bool) -> str:
        chunks = version.ordered
        if version.size == 0:
            return _check_checksum(name, version, hashlib.sha256().hexdigest())
        if len(chunks) == 1:
            await self.reader.read(chunks[0], 0, sink, retry_missing)
            count_bytes(version.size)
            return _check_checksum(name, version, chunks[0].checksum)
        hasher = None if isinstance(sink, NullSink) else InOrderHasher(sink, self._threads)
        places: list[tuple[int, Metadata, int]] = []
        offset = 0
        for index, chunk in enumerate(chunks):
            places.append((index, chunk, offset))
            offset += chunk.size

        async def read(place: tuple[int, Metadata, int]) -> None:
            index, chunk, at = place
            if chunk.size and not await self._was_kept(chunk, at, sink):
                await self.reader.read(chunk, at, sink, retry_missing)
            sink.verified(chunk.size)
            count_bytes(chunk.size)
            if hasher:
                await hasher.complete(index, at, chunk.size)

        await for_each(places, read, self._max_concurrency)
        return _check_checksum(name, version, hasher.checksum() if hasher else version.checksum or "")

    async def _was_kept(self, chunk: Metadata, offset: int, sink: Sink) -> bool:
        """Return whether an interrupted download left this chunk with the correct bytes."""
        if offset + chunk.size > sink.leftover_size:
            return False
        digest = hashlib.sha256()
        await _hash_sink(sink, digest.update, offset, chunk.size, self._threads)
        return digest.hexdigest() == chunk.checksum


class VersionFallback:
    """
    Selects the version to read: the newest first, then older ones, then versions written meanwhile.

    :param find: returns the current versions
    :param max_finds: maximum number of calls of ``find``
    :param is_partial: whether ``versions`` come from a bucket's listing, which hides older ones
    """

    def __init__(self, versions: list[Version], find: FindVersions, max_finds: int, is_partial: bool = False) -> None:
        self._is_partial = is_partial
        self._versions = versions
        self._find = find
        self._finds_left = max_finds
        self._at = 0

    @property
    def version(self) -> Version:
        """The version to read."""
        return self._versions[self._at]

    @property
    def is_last(self) -> bool:
        """Return whether this is the last known version."""
        return not self._is_partial and self._at == len(self._versions) - 1

    async def advance(self, error: MictlanXError) -> None:
        """
        Select the next version; raise the error if all failed.

        ``NotFoundError``: the ball was deleted meanwhile.
        """
        if self._is_partial:
            self._versions, self._at, self._is_partial = await self._find(), 0, False
            return
        if not self.is_last:
            self._at += 1
            return
        self._finds_left -= 1
        try:
            now = await self._find()
        except NotFoundError:
            raise
        except MictlanXError:
            raise error from None
        if self._finds_left <= 0 or set(map(_identity, now)) <= set(map(_identity, self._versions)):
            raise error
        self._versions, self._at = now, 0


def _identity(version: Version) -> tuple[object, ...]:
    """Return the fields that identify a version, whichever replica's metadata it has."""
    return version.checksum, version.num_chunks, *((chunk.size, chunk.checksum) for chunk in version.ordered)


class InOrderHasher:
    """Computes the SHA-256 of a ball in order while its chunks are completed in any order."""

    def __init__(self, sink: Sink, threads: Threads) -> None:
        self._sink = sink
        self._threads = threads
        self._hash = hashlib.sha256()
        self._complete: dict[int, tuple[int, int]] = {}
        self._next = 0
        self._hashing = False

    async def complete(self, index: int, offset: int, size: int) -> None:
        """Record that a chunk is complete; hash the complete chunks in order unless another task does."""
        self._complete[index] = (offset, size)
        if self._hashing:
            return
        self._hashing = True
        try:
            while self._next in self._complete:
                offset, size = self._complete.pop(self._next)
                await _hash_sink(self._sink, self._hash.update, offset, size, self._threads)
                self._next += 1
        finally:
            self._hashing = False

    def checksum(self) -> str:
        """Return the SHA-256 after every chunk is complete."""
        return self._hash.hexdigest()


async def _hash_sink(
    sink: Sink, update: Callable[[bytes | memoryview], None], offset: int, size: int, threads: Threads
) -> None:
    """Hash bytes of a sink piece by piece; raise ``IntegrityError`` if they can't be read back."""
    buffer = memoryview(bytearray(min(size, READ_THROUGH)))  # not allocated in a thread, with which it would stay

    def hash_piece(at: int, piece: int) -> None:
        for start in range(at, at + piece, READ_THROUGH):
            part = buffer[: at + piece - start]
            data = sink.read(start, part)
            if len(data) != len(part):
                raise IntegrityError(
                    f"reading back {len(part)} written bytes failed: got only {len(data)}; check the disk"
                )
            update(data)

    for at in range(offset, offset + size, PIECE):
        piece = min(PIECE, offset + size - at)
        await threads.run_sized(piece, hash_piece, at, piece)


def _no_such_chunk(name: ObjectId, index: int, num_chunks: int) -> NotFoundError:
    return NotFoundError(f"reading chunk {index} of {name} failed: it has only {num_chunks} chunks")


def _drop_filtered(name: ObjectId, versions: list[Version]) -> list[Version]:
    """Return the versions with plain bytes, at least one; raise ``UpstreamProtocolError`` otherwise."""
    plain = [version for version in versions if not version.filters]
    if not plain:
        raise filtered_error(f"reading {name}", versions[0].filters)
    return plain


def can_read_directly(version: Version) -> bool:
    """Return whether a version in a complete listing of a bucket can be read without a listing of its ball."""
    return version.is_complete and version.is_recorded and not version.filters


def _check_same(name: ObjectId, found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise IntegrityError(
            f"reading {name} failed: it has SHA-256 {found[:12]}… instead of {expected[:12]}…, so it was replaced; "
            "list it again"
        )


def _check_checksum(name: ObjectId, version: Version, checksum: str) -> str:
    if version.checksum is not None and checksum != version.checksum:
        raise IntegrityError(
            f"reading {name} failed: each chunk is as announced, but the object has SHA-256 {checksum[:12]}… instead "
            f"of {version.checksum[:12]}…, so its writer announced wrong chunks; put it again with replace=True"
        )
    return checksum


def _make_file_name(version: Version) -> str:
    """Build a file name from the tags; any writer can set them, so unsafe parts are removed."""
    tags = version.ordered[0].tags
    extension = safe_file_name(tags.get("extension", "").lstrip("."))
    by_id = safe_file_name(version.own_key) or (f"{version.ball_id}.{extension}" if extension else version.ball_id)
    return safe_file_name(tags.get("fullname", "")) or by_id


def _report(
    name: ObjectId, path: Path, version: Version, checksum: str, downloaded: bool, started: float
) -> FileReport:
    return FileReport(
        bucket_id=name.bucket_id,
        key=name.key,
        ball_id=name.ball_id,
        path=str(path),
        size=version.size,
        checksum=checksum,
        num_chunks=version.num_chunks,
        downloaded=downloaded,
        response_time=round(time.monotonic() - started, 6),
        verified=version.checksum is not None,
    )
