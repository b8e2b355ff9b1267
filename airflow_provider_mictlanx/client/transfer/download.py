"""
The download engine: a ball, chunk by chunk, verified, into memory or into a file.

Memory is bounded by the number of chunks in flight times the pieces that are gathered (1 MiB), whatever the size of the
chunks and of the ball. The whole is hashed behind the chunks, as they become complete from the front.
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

from airflow_provider_mictlanx.client.concurrency import PIECE, Threads, for_each
from airflow_provider_mictlanx.client.errors import (
    FileAlreadyExists,
    GetChunkError,
    IntegrityError,
    MictlanXError,
    NotFoundError,
    UpstreamProtocolError,
    ValidationError,
)
from airflow_provider_mictlanx.client.local_io.atomic_file import OpenFolder, check_file_name, disk_errors
from airflow_provider_mictlanx.client.local_io.sinks import FileSink, MemorySink, NullSink, Sink
from airflow_provider_mictlanx.client.local_io.sources import READ_THROUGH
from airflow_provider_mictlanx.client.models import FileReport, Metadata
from airflow_provider_mictlanx.client.object_ids import ObjectId, safe_file_name
from airflow_provider_mictlanx.client.read_cache import ReadCache
from airflow_provider_mictlanx.client.transfer.chunk_reader import ChunkReader
from airflow_provider_mictlanx.client.transfer.listing import find_versions, list_chunks
from airflow_provider_mictlanx.client.transfer.router_pool import RequestSender
from airflow_provider_mictlanx.client.validation import check_int
from airflow_provider_mictlanx.client.versions import Version, group_versions

S = TypeVar("S", bound=Sink)

Look = Callable[[], Awaitable[list[Version]]]


class Download:
    """
    Reads balls for one call.

    :param max_concurrency: the most chunks in flight, at least 1
    :param force: bypass the routers' caches from the start
    :param first: the index of the first chunk that is read; from another than 0 on the whole's SHA-256 can't be compared
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

    async def versions(self, name: ObjectId) -> list[Version]:
        """
        Give the whole versions of a ball that this client can read, the newest first, at least one.

        ``UpstreamProtocolError`` where they were all compressed or encrypted by a newer client.
        """
        found = [
            v for v in await self._routers.with_retries(lambda: find_versions(self._routers, name)) if v.is_complete
        ]
        readable = _drop_filtered(name, found)
        tails = [version.tail(self._first) for version in readable if version.num_chunks > self._first]
        if not tails:
            raise ValidationError(
                f"{name} has {readable[0].num_chunks} chunks: there is none from chunk_index {self._first} on"
            )
        return tails

    async def to_memory(
        self, name: ObjectId, cache: ReadCache, max_size: int | None = None
    ) -> tuple[Version, memoryview]:
        """
        Read a ball into memory; the bytes can't be written to.

        :param cache: asked first, and given what was read; not where the routers' caches are bypassed too
        :param max_size: a larger ball is a ``ValidationError`` (bytes); None for no limit
        """
        if max_size is not None:
            check_int("max_size", max_size, least=0)

        def check_size(version: Version) -> None:
            if max_size is not None and version.size > max_size:
                raise ValidationError(
                    f"{name} has {version.size} bytes, more than the {max_size} that are allowed here"
                )

        def make_sink(version: Version) -> MemorySink:
            check_size(version)
            return MemorySink(version.size)

        versions = await self.versions(name)
        if not self._force and (cached := cache.get(name, versions[0])) is not None:
            check_size(versions[0])
            return versions[0], cached
        version, sink, _ = await self._read_newest(name, versions, make_sink)
        data = sink.view.toreadonly()
        cache.keep(name, version, data)
        return version, data

    async def one_chunk(self, name: ObjectId, index: int) -> tuple[Metadata, memoryview]:
        """Read one chunk: of the newest version that has it and can be read, which need not be whole."""
        check_int("index", index, least=0)
        fallback = await self._start_fallback(
            lambda: self._routers.with_retries(lambda: self._versions_with(name, index))
        )
        while True:
            chunk = fallback.version.chunks[index]
            sink = MemorySink(chunk.size)
            try:
                await self.reader.read(chunk, 0, sink, retry_missing=fallback.is_last)
            except (IntegrityError, GetChunkError) as error:
                await fallback.advance(error)
            else:
                return chunk, sink.view.toreadonly()

    async def _versions_with(self, name: ObjectId, index: int) -> list[Version]:
        if listed := [v for v in group_versions(await list_chunks(self._routers, name)) if index in v.chunks]:
            return _drop_filtered(name, listed)
        whole = await find_versions(self._routers, name)  # of an empty ball; else it tells why there is none
        if found := [version for version in whole if index in version.chunks]:
            return _drop_filtered(name, found)
        raise NotFoundError(f"{name} has {whole[0].num_chunks} chunks, and none with index {index}")

    async def chunks(self, name: ObjectId, ordered: bool) -> AsyncGenerator[tuple[Metadata, memoryview]]:
        """
        Read a ball chunk by chunk, as many ahead as may be in flight.

        Each chunk is verified before it is given; the whole is where they come in order, and an ``IntegrityError`` at the
        end takes back what was given. Once a chunk was given, there is no going back to an older version.

        :param ordered: whether chunks come by index, or as they become complete
        """
        fallback = await self._start_fallback(lambda: self.versions(name))
        while True:
            given = False
            digest = hashlib.sha256()
            version = fallback.version
            try:
                async with contextlib.aclosing(
                    self._prefetch(version, ordered, retry_missing=fallback.is_last)
                ) as chunks:
                    async for chunk, data in chunks:
                        if ordered and version.checksum:
                            await self._threads.run_sized(len(data), digest.update, data)
                        given = True
                        yield chunk, data
            except (IntegrityError, GetChunkError) as error:
                if given:
                    raise
                await fallback.advance(error)
            else:
                if ordered:
                    _check_checksum(name, version, digest.hexdigest())
                return

    async def hash_version(self, name: ObjectId, version: Version, retry_missing: bool) -> tuple[str, bytes]:
        """
        Read a version to its end, verified, and keep nothing but the bytes of one that is a single chunk.

        Gives the SHA-256 of the whole, and those bytes (else none).

        :param retry_missing: ask again, after a while, even when every peer has said no
        """
        digest = hashlib.sha256()
        kept = b""
        async with contextlib.aclosing(self._prefetch(version, ordered=True, retry_missing=retry_missing)) as chunks:
            async for _, data in chunks:
                await self._threads.run_sized(len(data), digest.update, data)
                if version.num_chunks == 1:
                    kept = bytes(data)
        return _check_checksum(name, version, digest.hexdigest()), kept

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
        self, name: ObjectId, folder: str | os.PathLike[str], filename: str, replace: bool, checksum: str | None = None
    ) -> FileReport:
        """
        Read a ball into a file that appears whole or not at all.

        :param folder: made if missing
        :param filename: a plain name; where it is empty, a safe form of the tag ``fullname``, else ``{ball_id}[.{extension}]``
        :param replace: whether another file of that name is replaced; else it is a ``FileAlreadyExists``
        :param checksum: the SHA-256 that the whole has to have: a ball with other bytes by now is an ``IntegrityError``
        """
        started = time.monotonic()
        if filename:
            check_file_name(filename)
        with disk_errors(f"writing {name} to {folder}"), OpenFolder(folder) as place:
            # Where a file of that name is, it may be the very content, and there is nothing to write.
            if not (filename and place.kind_of(filename)):
                place.check_writable()
            versions = _with_checksum(name, await self.versions(name), checksum)
            target = filename or _make_file_name(versions[0])
            if place.kind_of(target):
                if await self._is_there_already(place, target, versions[0]):
                    return _report(name, place.path / target, versions[0], versions[0].checksum or "", False, started)
                if not replace:
                    raise FileAlreadyExists(
                        f"{place.path / target} exists with other content, and is left as it is; replace=True replaces it"
                    )
            with place.make(target) as file:

                def make_sink(version: Version) -> FileSink:
                    file.truncate(version.size)
                    return FileSink(file)

                version, _, read = await self._read_newest(name, versions, make_sink)
                _check_same(name, read, checksum)
                path = await self._threads.run(file.publish, replace)
        return _report(name, path, version, read, True, started)

    async def verify(self, name: ObjectId) -> Version:
        """Read every chunk of the newest version that can be read, past the caches, and keep nothing; gives the version."""
        checking = Download(self._routers, self._threads, self._max_concurrency, force=True)
        version, _, _ = await checking._read_newest(name, await self.versions(name), lambda _: NullSink())
        return version

    async def _is_there_already(self, place: OpenFolder, target: str, version: Version) -> bool:
        if version.checksum is None:
            return False
        return await place.has_content(target, version.size, version.checksum, self._threads)

    async def _read_newest(
        self, name: ObjectId, versions: list[Version], make_sink: Callable[[Version], S]
    ) -> tuple[Version, S, str]:
        """Read the newest version that can be read and verified; gives it, where it went, and its SHA-256."""
        fallback = VersionFallback(versions, lambda: self.versions(name), self._routers.retry.max_tries)
        while True:
            version = fallback.version
            sink = make_sink(version)
            try:
                return version, sink, await self._read_version(name, version, sink, retry_missing=fallback.is_last)
            except (IntegrityError, GetChunkError) as error:
                await fallback.advance(error)

    async def _start_fallback(self, look: Look) -> VersionFallback:
        return VersionFallback(await look(), look, self._routers.retry.max_tries)

    async def _read_version(self, name: ObjectId, version: Version, sink: Sink, retry_missing: bool) -> str:
        chunks = version.ordered
        if version.size == 0:
            return _check_checksum(name, version, hashlib.sha256().hexdigest())
        if len(chunks) == 1:
            await self.reader.read(chunks[0], 0, sink, retry_missing)
            return _check_checksum(name, version, chunks[0].checksum)
        whole = None if isinstance(sink, NullSink) else InOrderHasher(sink, self._threads)
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
            if whole:
                await whole.complete(index, at, chunk.size)

        await for_each(places, read, self._max_concurrency)
        return _check_checksum(name, version, whole.checksum() if whole else version.checksum or "")

    async def _was_kept(self, chunk: Metadata, offset: int, sink: Sink) -> bool:
        """Tell whether an interrupted download left a chunk where it belongs, with the right bytes."""
        if offset + chunk.size > sink.leftover_size:
            return False
        digest = hashlib.sha256()
        await _hash_sink(sink, digest.update, offset, chunk.size, self._threads)
        return digest.hexdigest() == chunk.checksum


class VersionFallback:
    """
    Which version is to be read: the newest first; and after the last one has failed, what took their place meanwhile.

    :param look: gives the versions that are there by now
    :param looks: how often that is looked at, at the most
    """

    def __init__(self, versions: list[Version], look: Look, looks: int) -> None:
        self._versions = versions
        self._look = look
        self._looks = looks
        self._at = 0

    @property
    def version(self) -> Version:
        """The one to be read now."""
        return self._versions[self._at]

    @property
    def is_last(self) -> bool:
        """Whether there is no other one after it."""
        return self._at == len(self._versions) - 1

    async def advance(self, error: MictlanXError) -> None:
        """
        Go on to the next one; raises the error where there is none.

        ``NotFoundError``: it was deleted meanwhile.
        """
        if not self.is_last:
            self._at += 1
            return
        self._looks -= 1
        try:
            now = await self._look()
        except NotFoundError:
            raise
        except MictlanXError:
            raise error from None
        if self._looks <= 0 or set(map(_identity, now)) <= set(map(_identity, self._versions)):
            raise error
        self._versions, self._at = now, 0


def _identity(version: Version) -> tuple[object, ...]:
    """Give what makes a version another one, and not the same one as another replica tells of it."""
    return version.checksum, version.num_chunks, *((chunk.size, chunk.checksum) for chunk in version.ordered)


class InOrderHasher:
    """The SHA-256 of the whole, taken from the front as chunks become complete, by whoever completes the next one."""

    def __init__(self, sink: Sink, threads: Threads) -> None:
        self._sink = sink
        self._threads = threads
        self._hash = hashlib.sha256()
        self._complete: dict[int, tuple[int, int]] = {}
        self._next = 0
        self._hashing = False

    async def complete(self, index: int, offset: int, size: int) -> None:
        """Say that a chunk is there; hashes what is complete from the front, unless somebody is at it."""
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
        """Give the SHA-256, once every chunk is complete."""
        return self._hash.hexdigest()


async def _hash_sink(
    sink: Sink, update: Callable[[bytes | memoryview], None], offset: int, size: int, threads: Threads
) -> None:
    """Hash what is in a sink, piece by piece; ``IntegrityError`` where it is not there."""

    def hash_a_piece(at: int, piece: int) -> None:
        for start in range(at, at + piece, READ_THROUGH):
            part = min(READ_THROUGH, at + piece - start)
            data = sink.read(start, part)
            if len(data) != part:
                raise IntegrityError(f"of {part} bytes that were written only {len(data)} could be read back")
            update(data)

    for at in range(offset, offset + size, PIECE):
        piece = min(PIECE, offset + size - at)
        await threads.run_sized(piece, hash_a_piece, at, piece)


def _drop_filtered(name: ObjectId, versions: list[Version]) -> list[Version]:
    """Give the versions whose bytes are as they were put; ``UpstreamProtocolError`` where there is none."""
    plain = [version for version in versions if not version.filters]
    if not plain:
        raise UpstreamProtocolError(
            f"{name} was written by a newer client that changed its bytes ({versions[0].filters}); this client can't undo "
            "that, and does not hand out the changed bytes",
            transient=False,
            permanent=True,
        )
    return plain


def _with_checksum(name: ObjectId, versions: list[Version], checksum: str | None) -> list[Version]:
    """Give the versions that may have this SHA-256, all where none is wanted; ``IntegrityError`` where there is none."""
    found = [version for version in versions if checksum is None or version.checksum in (None, checksum)]
    if not found:
        _check_same(name, versions[0].checksum or "", checksum)
    return found


def _check_same(name: ObjectId, found: str, wanted: str | None) -> None:
    if wanted is not None and found != wanted:
        raise IntegrityError(
            f"{name} has SHA-256 {found[:12]}… by now, instead of {wanted[:12]}…: it was replaced, and is not read"
        )


def _check_checksum(name: ObjectId, version: Version, checksum: str) -> str:
    if version.checksum is not None and checksum != version.checksum:
        raise IntegrityError(
            f"{name}: every chunk is as announced, but the whole has SHA-256 {checksum[:12]}… instead of "
            f"{version.checksum[:12]}…: its writer mixed something up. Put it again with replace=True"
        )
    return checksum


def _make_file_name(version: Version) -> str:
    """Give a file's name made of the tags; they are what some writer sent, so folders and worse are dropped."""
    tags = version.ordered[0].tags
    extension = safe_file_name(tags.get("extension", "").lstrip("."))
    by_id = f"{version.ball_id}.{extension}" if extension else version.ball_id
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
    )
