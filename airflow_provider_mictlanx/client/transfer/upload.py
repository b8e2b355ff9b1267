"""
The upload engine: a ball, chunk by chunk, until enough peers have acknowledged each.

Three rules carry it (protocol page, *Writing a ball*). Only ``peer_ids`` of the data's answer, or reading the bytes back,
tells that something is stored. Nothing is ever written twice with other bytes: the writer looks, announces its first chunk,
looks once more, and only then sends data. And what was begun with the same bytes is completed in the cut that is there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from airflow_provider_mictlanx.client.concurrency import for_each
from airflow_provider_mictlanx.client.errors import (
    BallConflictError,
    IntegrityError,
    MictlanXError,
    NotFoundError,
    UnavailableError,
)
from airflow_provider_mictlanx.client.local_io.chunk_splitter import (
    ChunkManifest,
    PlannedChunk,
    hash_source,
    infer_layout,
)
from airflow_provider_mictlanx.client.models import Metadata, PutReport
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.transfer import chunk_upload
from airflow_provider_mictlanx.client.transfer.chunk_upload import ChunkUpload, UploadBase
from airflow_provider_mictlanx.client.transfer.delete import Deletion
from airflow_provider_mictlanx.client.transfer.listing import get_first_chunk, list_chunks, require_all_peers
from airflow_provider_mictlanx.client.versions import Version, group_versions

log = get_logger(__name__)


class Upload(UploadBase):
    """Puts one ball."""

    async def run(self, layout: Sequence[int], expected: ChunkManifest | None = None) -> PutReport:
        """
        Put the ball; gives what became of it.

        ``BallConflictError``: other bytes are there; ``PutChunksError``: too few peers stored a chunk in all tries;
        ``IntegrityError``: the source changed; ``UnavailableError``: a peer is away, so that what is there can't be told.

        :param layout: the chunks' sizes (bytes), used unless the same bytes were begun in another cut
        :param expected: what hashing the source gave before; one with the same chunks need not be hashed again, for each
            chunk is as it is sent
        """
        self._plan = await self._planned(layout, expected)
        found = await self.routers.with_retries(self._look)
        if others := [version for version in found if not self._is_same(version)]:
            found = await self._delete_conflicting(others, [version for version in found if version not in others])
        if found:
            await self._adopt_layout(found)
            await self.complete(
                self._plan.chunks, {chunk.key for version in found for chunk in version.chunks.values()}
            )
        elif not await self._begin():
            await self._adopt_layout(await self.routers.with_retries(self._look))
            # Nothing is believed to be there already: a copy that a peer brought back after a delete can be read from that
            # peer, and is placed nowhere, so that no other client finds it and nobody keeps it.
            await for_each(
                self._plan.chunks, lambda chunk: ChunkUpload(self, chunk).put(), self.options.max_concurrency
            )
        return self.report()

    async def _planned(self, layout: Sequence[int], expected: ChunkManifest | None) -> ChunkManifest:
        if (
            expected is not None
            and not self.source.is_immutable
            and [chunk.size for chunk in expected.chunks] == list(layout)
        ):
            return expected
        plan = await hash_source(self.source, layout, self.threads)
        if expected is not None and plan.checksum != expected.checksum:
            raise IntegrityError(
                f"{self.source.name} changed since it was planned: {plan.size} bytes with SHA-256 {plan.checksum[:12]}… "
                f"instead of {expected.size} with {expected.checksum[:12]}…; nothing of it was sent"
            )
        return plan

    # -- looking ---------------------------------------------------------------------------------------------------

    async def _look(self) -> list[Version]:
        """Give what is announced under the ball's id: one request where there is nothing, and nothing is to be replaced."""
        listed: list[Metadata] = []
        lost_by_peer = False
        try:
            listed.append(await get_first_chunk(self.routers, self.name))
        except NotFoundError:
            if not self.options.replace:
                return []
            # A peer that missed a delete lists what is placed nowhere any more; other bytes have to go like anything else.
            listed = await list_chunks(self.routers, self.name)
            return [version for version in group_versions(listed) if not self._is_same(version)]
        except UnavailableError as error:
            lost_by_peer = error.unknown_to_peer
        listed += await list_chunks(self.routers, self.name)
        if not listed:
            await self._clear_placement(lost_by_peer)
        return group_versions(listed)

    async def _clear_placement(self, lost_by_peer: bool) -> None:
        """
        Delete the placement of a ball that no peer knows, once every peer has said so; else the key is blocked for ever.

        :param lost_by_peer: whether the peer on which it is placed answered that it does not know it
        """
        doing = f"putting {self.name}, of which a chunk is placed already"
        await require_all_peers(self.routers, doing, self.name.bucket_id)
        if not lost_by_peer or await list_chunks(self.routers, self.name):
            raise UnavailableError(f"{doing}: the peer on which it is placed did not answer; try again")
        with contextlib.suppress(NotFoundError):
            await self.routers.request(
                lambda router, options: router.delete(self.name.bucket_id, self.name.chunk(0), **options),
                final=(NotFoundError,),
            )
        await require_all_peers(self.routers, doing, self.name.bucket_id)
        if await list_chunks(self.routers, self.name):
            raise UnavailableError(f"{doing}: a peer brought its copy back; try again")

    def _is_same(self, version: Version) -> bool:
        """Tell whether a version has the bytes that are to be put, whatever its cut and its tags."""
        if version.filters:
            return False
        if version.checksum is None and version.num_chunks == 1:
            return version.ordered[0].checksum == self._plan.checksum
        return version.checksum == self._plan.checksum

    async def _delete_conflicting(self, others: list[Version], same: list[Version]) -> list[Version]:
        """
        Delete other bytes that are to be replaced, or that were only announced; return the versions that stay.

        Raises ``BallConflictError`` for other bytes that a peer has. Several writers that announce at the same time all give up,
        and what they announced would block the key for ever.

        :param same: the listed versions with the bytes that are to be put
        """
        removal = Deletion(self.routers, max_concurrency=self.options.max_concurrency)
        if self.options.replace:
            await removal.remove(self.name, "replacing")
            return []
        for wait in (0.0, chunk_upload.GRACE):
            await asyncio.sleep(wait)
            for version in others:
                if await self._is_readable(version):
                    raise self._conflict(version)
        for version in same:
            if await self._is_readable(version):
                return same
        await removal.remove(self.name, "clearing announcements without data of")
        return []

    async def _is_readable(self, version: Version) -> bool:
        """Return whether any peer has data of a version; no is only concluded when every peer answers just after it."""

        async def read_once() -> bool:
            for chunk in version.ordered:
                if await self.reader.is_stored_on(chunk):
                    return True
                for peer in (await self.reader.peers()).available:
                    if await self.reader.is_stored_on(chunk, peer.peer_id):
                        return True
            await require_all_peers(self.routers, f"putting {self.name}", self.name.bucket_id)
            return False

        return await self.routers.with_retries(read_once)

    def _conflict(self, other: Version, why: str = "") -> BallConflictError:
        there = f"{len(other.chunks)} of {other.num_chunks} chunks" if not other.is_complete else f"{other.size} bytes"
        by = f" by {other.ordered[0].producer_id!r}" if other.ordered[0].producer_id else ""
        return BallConflictError(
            f"putting {self.name} ({self._plan.size} bytes, SHA-256 {self._plan.checksum[:12]}…): "
            f"{why or 'other bytes'} were announced under this key{by} ({there}, SHA-256 {(other.checksum or 'unknown')[:12]}…). "
            "Nothing of it was overwritten; replace=True replaces it, or choose another key"
        )

    # -- a new ball ------------------------------------------------------------------------------------------------

    async def _begin(self) -> bool:
        """
        Put a ball that is not there: announce its first chunk, look who else did so, send.

        Gives False, with nothing sent, where somebody else has begun with the same bytes in another cut before.
        """
        first = ChunkUpload(self, self._plan.chunks[0])
        self.only_announced = True
        await self.routers.with_retries(first.announce)
        if not await self.routers.with_retries(lambda: self._is_first(first)):
            return False
        self.only_announced = False

        async def put(chunk: PlannedChunk) -> None:
            await (first if chunk.index == 0 else ChunkUpload(self, chunk)).put()

        try:
            await for_each(self._plan.chunks, put, self.options.max_concurrency)
        except IntegrityError:  # the source changed: what was stored of it would be a conflict for the next try
            await self._withdraw()
            raise
        return True

    async def _withdraw(self) -> None:
        """Delete what this put has stored of a ball that it cannot complete, unless somebody else writes it too."""
        try:
            if self.is_own(await list_chunks(self.routers, self.name)):
                await Deletion(self.routers).remove(self.name, "clearing an unfinished upload of")
        except MictlanXError as error:
            log.warning("Part of an unfinished upload is left: %s", error)

    async def _is_first(self, first: ChunkUpload) -> bool:
        """
        List the ball after the announcement of its first chunk; return whether this put began it.

        Raises ``BallConflictError`` where another writer announced other bytes.
        """
        listed = await list_chunks(self.routers, self.name)
        versions = group_versions(listed)
        for version in versions:
            if not self._is_same(version):
                raise self._conflict(version)
        if self._plan.size == 0:  # an empty ball is in no listing
            return True
        mine = [version for version in versions if self._has_my_layout(version)]
        if not mine or sum(chunk.key == self.name.chunk(0) for chunk in listed) < first.announced:
            raise UnavailableError(
                f"putting {self.name}: the listing lacks a peer that just took the announcement; try again when it answers"
            )
        return min(versions, key=lambda version: (version.begun_at, version.num_chunks)) in mine

    def _has_my_layout(self, version: Version) -> bool:
        planned = self._plan.chunks
        return version.num_chunks == len(planned) and all(
            (chunk.size, chunk.checksum) == (planned[index].size, planned[index].checksum)
            for index, chunk in version.chunks.items()
        )

    # -- a ball that was begun before ------------------------------------------------------------------------------

    async def _adopt_layout(self, found: list[Version]) -> None:
        """Take over the cut of what is there: of a whole version, else of the one that was begun first."""
        # A whole version of another size is a wrong guess: of chunks of two cuts that are as many (versions.py).
        possible = [version for version in found if not version.is_complete or version.size == self._plan.size] or found
        version = min(possible, key=lambda version: (not version.is_complete, version.begun_at), default=None)
        if version is None or self._has_my_layout(version):
            return
        if version.is_complete:
            layout = [chunk.size for chunk in version.ordered]
        else:
            chunk = version.ordered[0]
            layout = infer_layout(self._plan.size, version.num_chunks, chunk.index, chunk.size) or []
        if sum(layout) != self._plan.size:
            raise self._conflict(version, "the same bytes, but in chunks that don't make them up,")
        self._plan = await hash_source(self.source, layout, self.threads)
        self._chunk_tags = {}
        if not self._has_my_layout(version):
            raise self._conflict(version, "the same bytes, but with other bytes in their chunks,")

    # -- for the chunks --------------------------------------------------------------------------------------------

    def layout_tags(self, chunk: PlannedChunk) -> dict[str, str]:
        """Give the tags that tell a chunk's place in the ball."""
        return {
            "index": str(chunk.index),
            "num_chunks": str(len(self._plan.chunks)),
            "full_checksum": self._plan.checksum,
            "chunk_size": str(chunk.size),
            "group_id": self.name.ball_id,
        }

    async def check_no_conflict(self) -> None:
        """Raise ``BallConflictError`` where other bytes are announced under the key by now."""
        for version in group_versions(await list_chunks(self.routers, self.name)):
            if not self._is_same(version):
                raise self._conflict(version)
