"""
Puts one chunk of a ball of several, whose other chunks are somebody else's to put.

The rules are those of the upload engine; what differs is where to look for another chunk: under the chunk's own key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from airflow_provider_mictlanx.client.errors import BallConflictError, NotFoundError, UnavailableError, ValidationError
from airflow_provider_mictlanx.client.local_io.chunk_splitter import ChunkManifest, PlannedChunk, hash_source
from airflow_provider_mictlanx.client.models import Chunk, Metadata, PutReport
from airflow_provider_mictlanx.client.transfer.chunk_upload import ChunkUpload, UploadBase
from airflow_provider_mictlanx.client.transfer.delete import Deletion
from airflow_provider_mictlanx.client.transfer.listing import chunk_metadata, list_chunks, require_all_peers


def place_tags(chunk: Chunk, tags: Mapping[str, str]) -> dict[str, str] | None:
    """
    Give the tags that tell a chunk's place among others; None for a chunk that is a ball of its own.

    Raises ``ValidationError`` where it is one of several, and its tags don't tell of how many, and of which whole.
    """
    num_chunks, checksum = tags.get("num_chunks", ""), tags.get("full_checksum", "")
    if chunk.index == 0 and num_chunks in ("", "1"):
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}", num_chunks, re.ASCII) or int(num_chunks) <= chunk.index:
        raise ValidationError(
            f"chunk {chunk.index} needs the tag num_chunks, larger than its index, not {num_chunks!r}"
        )
    if not re.fullmatch(r"[0-9a-f]{64}", checksum):
        raise ValidationError(
            f"chunk {chunk.index} needs the tag full_checksum (SHA-256 of the ball in hex), not {checksum!r}"
        )
    if chunk.size == 0:
        raise ValidationError(f"chunk {chunk.index} is empty: only a ball of one chunk may be, for no listing shows it")
    return {"num_chunks": num_chunks, "full_checksum": checksum}


class SingleChunkUpload(UploadBase):
    """
    Puts one chunk.

    Its place is in ``chunk_tags``, by its index: ``num_chunks`` and ``full_checksum`` of ``place_tags``.
    """

    async def run(self, index: int) -> PutReport:
        """
        Put the chunk; the errors are those of ``Upload.run``.

        :param index: its place in the ball
        """
        whole = await hash_source(self.source, [self.source.size], self.threads)
        chunk = PlannedChunk(index, 0, whole.size, whole.checksum)
        self._plan = ChunkManifest(whole.size, whole.checksum, (chunk,))
        announced = await self.routers.with_retries(self._look)
        if others := [other for other in announced if not self._is_same(other)]:
            await self._delete_conflicting(others)
            announced = []
        if announced:
            await self.complete([chunk], {self._key})
        else:
            chunk_upload = ChunkUpload(self, chunk)
            await self.routers.with_retries(chunk_upload.announce)
            await self.routers.with_retries(lambda: self._check_alone(chunk_upload))
            await chunk_upload.put()
        return self.report()

    def layout_tags(self, chunk: PlannedChunk) -> dict[str, str]:
        """Give the tags that tell a chunk's place in the ball, but those that only the caller knows."""
        return {"index": str(chunk.index), "chunk_size": str(chunk.size), "group_id": self.name.ball_id}

    async def _look(self) -> list[Metadata]:
        """Give what is announced under the chunk's key."""
        key = self._key
        try:
            first = await chunk_metadata(self.routers, self.name.bucket_id, key)
        except NotFoundError:
            # A peer that missed a delete lists what is placed nowhere any more; to replace it is to delete that too.
            return await self._listed() if self.options.replace else []
        except UnavailableError:
            await require_all_peers(self.routers, f"putting chunk {key}, which is placed already", self.name.bucket_id)
            return await self._listed()
        return [first, *await self._listed()]

    async def _listed(self) -> list[Metadata]:
        return [chunk for chunk in await list_chunks(self.routers, self.name) if chunk.key == self._key]

    @property
    def _key(self) -> str:
        return self.name.chunk(self._plan.chunks[0].index)

    def _is_same(self, other: Metadata) -> bool:
        """Tell whether an announcement is of these bytes in this place; the same bytes in another whole are another chunk."""
        chunk = self._plan.chunks[0]
        place = self._chunk_tags[chunk.index]
        return (other.checksum, other.full_checksum, str(other.num_chunks)) == (
            chunk.checksum,
            place["full_checksum"],
            place["num_chunks"],
        )

    async def _delete_conflicting(self, others: list[Metadata]) -> None:
        if not self.options.replace:
            raise self._conflict(others)
        try:
            await chunk_metadata(self.routers, self.name.bucket_id, self._key)
        except NotFoundError:
            # Listed by a peer that missed a delete, and placed nowhere: only what is placed can be deleted by its key.
            await self.routers.with_retries(
                lambda: require_all_peers(self.routers, f"replacing chunk {self._key}", self.name.bucket_id)
            )
            await self.routers.with_retries(ChunkUpload(self, self._plan.chunks[0]).announce)
        except UnavailableError:
            pass  # placed; the removal asks every peer
        await Deletion(self.routers).remove(self.name, "replacing", key=self._key)

    async def _check_alone(self, chunk_upload: ChunkUpload) -> None:
        """List the chunk after its announcement; raise unless this put may send its data."""
        listed = await self._listed()
        self._refuse(listed)
        if len(listed) < chunk_upload.announced:
            raise UnavailableError(
                f"putting chunk {self._key} of {self.name}: the listing lacks a peer that just took the announcement; "
                "try again when it answers"
            )

    async def check_no_conflict(self) -> None:
        """Raise ``BallConflictError`` where another chunk is announced under the key by now."""
        self._refuse(await self._listed())

    def _refuse(self, listed: list[Metadata]) -> None:
        if others := [other for other in listed if not self._is_same(other)]:
            raise self._conflict(others)

    def _conflict(self, others: list[Metadata]) -> BallConflictError:
        there = ", ".join(
            sorted(
                {
                    f"{chunk.size} bytes, SHA-256 {chunk.checksum[:12]}…, one of {chunk.num_chunks} chunks of the ball "
                    f"{(chunk.full_checksum or 'unknown')[:12]}…"
                    for chunk in others
                }
            )
        )
        return BallConflictError(
            f"putting chunk {self._key} of {self.name} ({self._plan.size} bytes, SHA-256 {self._plan.checksum[:12]}…): another "
            f"chunk was announced under its key ({there}). Nothing of it was overwritten; replace=True replaces it"
        )
