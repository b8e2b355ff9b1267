"""
Copy a ball within a storage space or to another one, chunk by chunk through this process's memory.

The copy keeps the original's chunk layout, so memory is limited to the chunks in flight. A ball of several chunks is
read twice: once to verify it before anything is announced or replaced, and once to send it. Every chunk is verified
each time. A copy in a window (``upload_window``) replaces nothing. It is announced as its original was listed, and the
announcement is deleted if the original can't be read.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate

from airflow_provider_mictlanx.client.concurrency import Threads
from airflow_provider_mictlanx.client.errors import GetChunkError, IntegrityError
from airflow_provider_mictlanx.client.local_io.chunk_splitter import ChunkManifest
from airflow_provider_mictlanx.client.local_io.sinks import MemorySink
from airflow_provider_mictlanx.client.models import PutReport
from airflow_provider_mictlanx.client.object_ids import ObjectId, path_tags
from airflow_provider_mictlanx.client.transfer.chunk_reader import ChunkReader
from airflow_provider_mictlanx.client.transfer.chunk_upload import PutOptions, Seen
from airflow_provider_mictlanx.client.transfer.download import Download, can_read_directly
from airflow_provider_mictlanx.client.transfer.listing import list_chunks
from airflow_provider_mictlanx.client.transfer.router_pool import RequestSender
from airflow_provider_mictlanx.client.transfer.upload import Announced, Upload
from airflow_provider_mictlanx.client.validation import RESERVED_PREFIX
from airflow_provider_mictlanx.client.versions import Version, group_versions
from airflow_provider_mictlanx.safe_ids import is_safe_id

LAYOUT_TAGS = frozenset({"index", "num_chunks", "full_checksum", "chunk_size", "group_id", "updated_at"})
"""Tags that every writer sets anew."""

KEY_TAGS = frozenset(path_tags("folder/name"))
"""Tags that store a key which is not a safe id."""


class BallSource:
    """
    A version of a ball as an upload source, read from the storage and verified on demand.

    :param data: the bytes of a single chunk that was already read, else empty
    """

    is_immutable = False

    def __init__(self, name: ObjectId, version: Version, reader: ChunkReader, data: bytes) -> None:
        self.name = str(name)
        self.size = version.size
        self._chunks = version.ordered
        self._layout = [chunk.size for chunk in self._chunks]
        self._ends = list(accumulate(self._layout))
        self._reader = reader
        self._latest = (0, data) if data else None
        self._lock = asyncio.Lock()

    async def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes at ``offset``: one chunk, or parts of chunks for another layout."""
        if size == 0:
            return b""
        index = bisect_right(self._ends, offset)
        if offset == self._ends[index] - self._layout[index] and size == self._layout[index]:
            return await self._chunk(index)
        parts: list[bytes] = []
        async with self._lock:  # so that a chunk is read once for all its parts
            while size > 0:
                data = await self._chunk(index)
                self._latest = (index, data)
                start = offset - (self._ends[index] - self._layout[index])
                part = data[start : start + size]
                parts.append(part)
                offset, size, index = offset + len(part), size - len(part), index + 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _chunk(self, index: int) -> bytes:
        if self._latest is not None and self._latest[0] == index:
            return self._latest[1]
        sink = MemorySink(self._layout[index])
        await self._reader.read(self._chunks[index], 0, sink)
        return bytes(sink.view)

    async def check_unchanged(self) -> None:
        """Return at once, since every read verifies its chunk."""


class Copy:
    """
    Copies balls for one call.

    :param threads: of the client that writes
    :param options: of the copy; the original's own tags are added to ``tags``
    """

    def __init__(self, source: Download, dest: RequestSender, threads: Threads, options: PutOptions) -> None:
        self._source = source
        self._dest = dest
        self._threads = threads
        self._options = options

    async def announce(self, name: ObjectId, to: ObjectId, listed: Version) -> Announced | None:
        """
        Announce a copy in a window, before its original is read; see ``Upload.announce``.

        :param listed: see ``Download.verify``
        """
        if not can_read_directly(listed) or listed.num_chunks != 1:
            return None
        upload, layout, plan = self._upload(name, to, listed, listed.checksum or "", b"")
        return await upload.announce(layout, plan)

    async def run(
        self, name: ObjectId, to: ObjectId, listed: Version | None = None, known: Announced | Seen | None = None
    ) -> PutReport:
        """
        Copy one ball; return the report of the put. Nothing is sent if the same bytes are already stored.

        Raises the errors of a read and of a put.

        :param listed: see ``Download.verify``
        :param known: see ``Upload.run``; an announcement is that of the listed version
        """
        retry_missing = False
        if listed is not None and isinstance(known, Announced):
            try:
                checksum, data = await self._source.hash_version(name, listed, retry_missing)
            except (IntegrityError, GetChunkError):
                known.is_taken = True
                await known.withdraw()
            else:
                return await self._put(name, to, listed, checksum, data, known)
        elif listed is not None and can_read_directly(listed):
            with contextlib.suppress(IntegrityError, GetChunkError):
                return await self._copy_newest(name, to, [listed], retry_missing, known)
        return await self._copy_newest(name, to, await self._source.versions(name), True, known)

    async def _copy_newest(
        self,
        name: ObjectId,
        to: ObjectId,
        versions: list[Version],
        retry_missing: bool,
        known: Announced | Seen | None,
    ) -> PutReport:
        seen = known if isinstance(known, Seen) else None
        if await self._is_announced(to, versions[0], seen):
            return await self._put(name, to, versions[0], versions[0].checksum or "", b"", seen)
        for version in versions:
            try:
                checksum, data = await self._source.hash_version(
                    name, version, retry_missing=retry_missing and version is versions[-1]
                )
            except (IntegrityError, GetChunkError):
                if version is versions[-1]:
                    raise
            else:
                return await self._put(name, to, version, checksum, data, seen)
        raise AssertionError("versions() returns at least one")

    async def _is_announced(self, to: ObjectId, version: Version, seen: Seen | None) -> bool:
        """Return whether the same bytes are announced under the copy's name; then the upload sends what is missing."""
        if version.checksum is None:
            return False
        if seen and any(announced.checksum == version.checksum for announced in group_versions(seen.rows)):
            return True
        listed = await self._dest.with_retries(lambda: list_chunks(self._dest, to))
        return any(announced.checksum == version.checksum for announced in group_versions(listed))

    async def _put(
        self,
        name: ObjectId,
        to: ObjectId,
        version: Version,
        checksum: str,
        data: bytes,
        known: Announced | Seen | None = None,
    ) -> PutReport:
        upload, layout, plan = self._upload(name, to, version, checksum, data)
        return await upload.run(layout, plan, known)

    def _upload(
        self, name: ObjectId, to: ObjectId, version: Version, checksum: str, data: bytes
    ) -> tuple[Upload, list[int], ChunkManifest]:
        """
        Return the put of a copy, with its chunk layout and its plan.

        :param checksum: of the ball
        :param data: see ``BallSource``
        """
        source = BallSource(name, version, self._source.reader, data)
        layout = [chunk.size for chunk in version.ordered]
        plan = ChunkManifest.from_layout(layout, (chunk.checksum for chunk in version.ordered), checksum)
        options = replace(self._options, tags={**_kept_tags(name, version), **self._options.tags})
        upload = Upload(self._dest, self._threads, to, source, options, to.key_tags)
        return upload, layout, plan


def _kept_tags(name: ObjectId, version: Version) -> Mapping[str, str]:
    """Return the original's tags without those for its chunk layout and its key."""
    key_tags = frozenset[str]() if is_safe_id(name.key) else KEY_TAGS
    return {
        tag: text
        for tag, text in version.ordered[0].tags.items()
        if tag not in LAYOUT_TAGS and tag not in key_tags and not tag.startswith(RESERVED_PREFIX)
    }
