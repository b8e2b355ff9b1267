"""
Put one chunk of a ball whose other chunks are put by other callers.

The rules are those of ``Upload``, but conflicts are checked only under the chunk's own key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from humanfriendly.text import pluralize

from airflow_provider_mictlanx.client.chunks import Chunk
from airflow_provider_mictlanx.client.errors import BallConflictError, NotFoundError, UnavailableError, ValidationError
from airflow_provider_mictlanx.client.local_io.chunk_splitter import ChunkManifest, PlannedChunk, hash_source
from airflow_provider_mictlanx.client.models import Metadata, PutReport
from airflow_provider_mictlanx.client.transfer.chunk_upload import ChunkUpload, UploadBase
from airflow_provider_mictlanx.client.transfer.delete import Deletion
from airflow_provider_mictlanx.client.transfer.listing import chunk_metadata, list_chunks, require_all_peers


def place_tags(chunk: Chunk, tags: Mapping[str, str]) -> dict[str, str] | None:
    """
    Return the tags for a chunk's place among other chunks; None for a ball of one chunk.

    Raises ``ValidationError`` if it is one of several chunks, and its tags lack their number or the ball's checksum.
    """
    num_chunks, checksum = tags.get("num_chunks", ""), tags.get("full_checksum", "")
    if chunk.index == 0 and num_chunks in ("", "1"):
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}", num_chunks, re.ASCII) or int(num_chunks) <= chunk.index:
        raise ValidationError(
            f"tag num_chunks of chunk {chunk.index} must be an integer larger than its index, got {num_chunks!r}"
        )
    if not re.fullmatch(r"[0-9a-f]{64}", checksum):
        raise ValidationError(
            f"tag full_checksum of chunk {chunk.index} must be the SHA-256 of the object in hex, got {checksum!r}"
        )
    if chunk.size == 0:
        raise ValidationError(
            f"chunk {chunk.index} must not be empty unless it is the only one; listings omit empty chunks"
        )
    return {"num_chunks": num_chunks, "full_checksum": checksum}


class SingleChunkUpload(UploadBase):
    """
    Puts one chunk.

    ``chunk_tags`` contains its ``place_tags`` by its index.
    """

    async def run(self, index: int) -> PutReport:
        """
        Put the chunk; raise the errors of ``Upload.run``.

        :param index: of the chunk in the ball
        """
        plan = await hash_source(self.source, [self.source.size], self.threads)
        chunk = PlannedChunk(index, 0, plan.size, plan.checksum)
        self._plan = ChunkManifest(plan.size, plan.checksum, (chunk,))
        announced = await self.routers.with_retries(self._find_announced)
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
        """Return the tags for a chunk's place in the ball, except those that only the caller knows."""
        return {"index": str(chunk.index), "chunk_size": str(chunk.size), "group_id": self.name.ball_id}

    async def _find_announced(self) -> list[Metadata]:
        """Return the announcements under the chunk's key."""
        key = self._key
        try:
            first = await chunk_metadata(self.routers, self.name.bucket_id, key)
        except NotFoundError:
            # A peer that missed a delete may list a chunk without placement; a replace deletes that too.
            return await self._listed() if self.options.replace else []
        except UnavailableError:
            await require_all_peers(
                self.routers, f"putting chunk {key}, which already has a placement,", self.name.bucket_id
            )
            return await self._listed()
        return [first, *await self._listed()]

    async def _listed(self) -> list[Metadata]:
        return [chunk for chunk in await list_chunks(self.routers, self.name) if chunk.key == self._key]

    @property
    def _key(self) -> str:
        return self.name.chunk(self._plan.chunks[0].index)

    def _is_same(self, other: Metadata) -> bool:
        """Return whether an announcement has the same bytes at the same place of the same ball."""
        chunk = self._plan.chunks[0]
        place = self._chunk_tags[chunk.index]
        return (other.ball_id, other.checksum, other.full_checksum, str(other.num_chunks)) == (
            self.name.ball_id,
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
            # A peer that missed a delete lists it without placement; a delete by key needs a placement.
            await self.routers.with_retries(
                lambda: require_all_peers(self.routers, f"replacing chunk {self._key}", self.name.bucket_id)
            )
            await self.routers.with_retries(ChunkUpload(self, self._plan.chunks[0]).announce)
        except UnavailableError:
            pass  # it has a placement; Deletion asks every peer
        await Deletion(self.routers).remove(self.name, "replacing", key=self._key)

    async def _check_alone(self, chunk_upload: ChunkUpload) -> None:
        """List the chunk after its announcement; raise if another writer announced it or a peer is missing."""
        listed = await self._listed()
        self._refuse(listed)
        if len(listed) < chunk_upload.announced:
            raise UnavailableError(
                f"putting chunk {self._key} of {self.name} failed: the listing lacks a peer that just accepted the "
                "announcement; try again when it answers"
            )

    async def check_no_conflict(self) -> None:
        """Raise ``BallConflictError`` if another chunk is announced under the key."""
        self._refuse(await self._listed())

    def _refuse(self, listed: list[Metadata]) -> None:
        if others := [other for other in listed if not self._is_same(other)]:
            raise self._conflict(others)

    def _conflict(self, others: list[Metadata]) -> BallConflictError:
        found = ", ".join(
            sorted(
                {
                    f"{pluralize(chunk.size, 'byte')}, SHA-256 {chunk.checksum[:12]}…, one of "
                    f"{chunk.num_chunks} chunks of the object {(chunk.full_checksum or 'unknown')[:12]}…"
                    for chunk in others
                }
            )
        )
        what_to_do = (
            "while this put replaced it: another writer puts it at the same time; put it again"
            if self.options.replace
            else "and was not changed; replace=True replaces it"
        )
        return BallConflictError(
            f"putting chunk {self._key} of {self.name} ({pluralize(self._plan.size, 'byte')}, SHA-256 "
            f"{self._plan.checksum[:12]}…) failed: another chunk was announced under its key ({found}) {what_to_do}",
            permanent=not self.options.replace,
        )
