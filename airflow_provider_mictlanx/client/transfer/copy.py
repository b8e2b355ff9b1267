"""
The copy engine: a ball becomes another one, in the same storage space or in another, chunk by chunk through this process.

Nothing of it touches the disk. The copy keeps the original's cut, so that memory is bounded by the number of chunks in flight times
the size of a chunk. A ball of several chunks is read twice: once to see that the whole is right, before anything is
announced or replaced, and once to be sent; every chunk is verified each time.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate

from airflow_provider_mictlanx.client.concurrency import Threads
from airflow_provider_mictlanx.client.errors import GetChunkError, IntegrityError
from airflow_provider_mictlanx.client.local_io.chunk_splitter import ChunkManifest, PlannedChunk
from airflow_provider_mictlanx.client.local_io.sinks import MemorySink
from airflow_provider_mictlanx.client.models import PutReport
from airflow_provider_mictlanx.client.object_ids import ObjectId, is_safe_id, path_tags
from airflow_provider_mictlanx.client.transfer.chunk_reader import ChunkReader
from airflow_provider_mictlanx.client.transfer.chunk_upload import PutOptions
from airflow_provider_mictlanx.client.transfer.download import Download
from airflow_provider_mictlanx.client.transfer.listing import list_chunks
from airflow_provider_mictlanx.client.transfer.router_pool import RequestSender
from airflow_provider_mictlanx.client.transfer.upload import Upload
from airflow_provider_mictlanx.client.validation import RESERVED_PREFIX
from airflow_provider_mictlanx.client.versions import Version, group_versions

_LAYOUT_TAGS = frozenset({"index", "num_chunks", "full_checksum", "chunk_size", "group_id", "updated_at"})
"""Tags that every writer makes anew."""

_KEY_TAGS = frozenset(path_tags("folder/name"))
"""Tags in which a key is kept that is no safe id."""


class BallSource:
    """A version of a ball as what is uploaded: its pieces are read from the storage when they are asked for, and verified."""

    is_immutable = False

    def __init__(self, name: ObjectId, version: Version, reader: ChunkReader) -> None:
        self.name = str(name)
        self.size = version.size
        self._chunks = version.ordered
        self._layout = [chunk.size for chunk in self._chunks]
        self._ends = list(accumulate(self._layout))
        self._reader = reader
        self._latest: tuple[int, bytes] | None = None
        self._one_at_a_time = asyncio.Lock()

    def keep(self, data: bytes) -> None:
        """Keep the bytes of a ball of one chunk, which were read already."""
        self._latest = (0, data)

    async def read(self, offset: int, size: int) -> bytes:
        """Read a piece: a whole chunk, or whatever another cut wants."""
        if size == 0:
            return b""
        index = bisect_right(self._ends, offset)
        if offset == self._ends[index] - self._layout[index] and size == self._layout[index]:
            return await self._chunk(index)
        parts: list[bytes] = []
        async with self._one_at_a_time:  # pieces of one chunk are asked for one after the other
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
        """Every chunk is compared with what its writer announced, each time."""


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

    async def run(self, name: ObjectId, to: ObjectId) -> PutReport:
        """
        Copy one ball; gives what became of the copy. Where its bytes are there already, none are sent.

        The errors are those of a read, and those of a put.
        """
        versions = await self._source.versions(name)
        if await self._begun(to, versions[0]):
            return await self._put(name, to, versions[0], versions[0].checksum or "", b"")
        for version in versions:
            try:
                checksum, data = await self._source.hash_version(name, version, retry_missing=version is versions[-1])
            except (IntegrityError, GetChunkError):
                if version is versions[-1]:
                    raise
            else:
                return await self._put(name, to, version, checksum, data)
        raise AssertionError("there is at least one version")

    async def _begun(self, to: ObjectId, version: Version) -> bool:
        """Tell whether the same bytes are announced under the copy's name: then the upload reads those, and sends what is missing."""
        if version.checksum is None:
            return False
        listed = await self._dest.with_retries(lambda: list_chunks(self._dest, to))
        return any(there.checksum == version.checksum for there in group_versions(listed))

    async def _put(self, name: ObjectId, to: ObjectId, version: Version, checksum: str, data: bytes) -> PutReport:
        """
        Put the copy.

        :param checksum: of the whole
        :param data: of a ball of one chunk, where it was read already
        """
        source = BallSource(name, version, self._source.reader)
        if data:
            source.keep(data)
        layout = [chunk.size for chunk in version.ordered]
        chunks = tuple(
            PlannedChunk(index, offset, chunk.size, chunk.checksum)
            for index, (offset, chunk) in enumerate(zip(accumulate(layout, initial=0), version.ordered, strict=False))
        )
        own_tags = {} if is_safe_id(to.key) else path_tags(to.key)
        options = replace(self._options, tags={**_kept_tags(name, version), **self._options.tags})
        upload = Upload(self._dest, self._threads, to, source, options, own_tags)
        return await upload.run(layout, ChunkManifest(version.size, checksum, chunks))


def _kept_tags(name: ObjectId, version: Version) -> Mapping[str, str]:
    """Give the tags that its writer gave the original, without those that tell its cut, or its key."""
    of_the_key = frozenset[str]() if is_safe_id(name.key) else _KEY_TAGS
    return {
        tag: text
        for tag, text in version.ordered[0].tags.items()
        if tag not in _LAYOUT_TAGS and tag not in of_the_key and not tag.startswith(RESERVED_PREFIX)
    }
