"""
Upload a ball chunk by chunk until enough peers have acknowledged each chunk.

Three safety rules hold (protocol page, *Writing a ball*). Only ``peer_ids`` in the answer to the data, or reading the
bytes back, proves that a chunk is stored. Other bytes under the key are never overwritten: the writer lists the ball,
announces its first chunk, lists the ball again, and only then sends data. An upload begun with the same bytes is
completed in its existing chunk layout.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from humanfriendly.text import pluralize

from airflow_provider_mictlanx.client.concurrency import for_each
from airflow_provider_mictlanx.client.empty_objects import (
    COMPANION_DATA,
    COMPANION_TAG,
    NO_PLACE,
    CompanionId,
    companion_key,
    is_companion,
)
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
from airflow_provider_mictlanx.client.local_io.sources import BytesSource, HashedFile
from airflow_provider_mictlanx.client.models import Metadata, PutReport
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.transfer.chunk_upload import ChunkUpload, Seen, UploadBase
from airflow_provider_mictlanx.client.transfer.delete import Deletion
from airflow_provider_mictlanx.client.transfer.listing import (
    delete_chunk,
    get_first_chunk,
    list_chunks,
    list_rows,
    require_all_peers,
)
from airflow_provider_mictlanx.client.transfer.single_chunk import SingleChunkUpload
from airflow_provider_mictlanx.client.versions import Version, group_versions

log = get_logger(__name__)


MAX_ANNOUNCED_SECONDS = 10.0
"""Maximum time between announcement and data for which a window's listing is valid; shorter than ``GRACE``."""


@dataclass
class Announced:
    """
    A new ball of one chunk that was announced as part of a window (``upload_window``).

    :ivar upload: the put that announced it, whose source is closed
    :ivar at: time before the announcement (``time.monotonic``)
    :ivar is_taken: whether the put that sends the data has begun
    """

    upload: Upload
    plan: ChunkManifest
    first: ChunkUpload
    at: float
    is_taken: bool = False
    _is_confirmed: bool = field(default=False, init=False)

    @property
    def is_late(self) -> bool:
        """Return whether another listing is required before its data."""
        return time.monotonic() - self.at > MAX_ANNOUNCED_SECONDS

    @property
    def is_confirmed(self) -> bool:
        """Return whether a listing after the announcement showed no other writer, and is still valid."""
        return self._is_confirmed and not self.is_late

    def confirm(self, listed: Sequence[Metadata], peer_ids: Collection[str]) -> None:
        """
        Check a bucket's listing, in which every peer took part, for other writers of the ball.

        :param listed: the rows of the ball; their number says nothing about the replicas
        :param peer_ids: the peers that answered; those of the announcement must be among them
        """
        self._is_confirmed = set(self.first.replicas) <= set(peer_ids) and self.upload.is_alone(listed)

    async def withdraw(self) -> None:
        """Delete the announcement, unless the ball may have been put since: a late one is read back first."""
        self.upload.only_announced = not self.is_late  # after ``GRACE``, another put deletes it and stores its own
        await self.first.withdraw()


class Upload(UploadBase):
    """Puts one ball."""

    _stale_companion = False
    """True after the ball's listing showed the companion of an earlier empty object."""

    async def announce(self, layout: Sequence[int], expected: ChunkManifest | None = None) -> Announced | None:
        """
        Announce a ball of one chunk that has no placement; its data is sent by ``run`` of another ``Upload``.

        None: it has a placement, or another number of chunks, or it is empty, so it needs a complete put. Raises an
        error if the announcement failed. Parameters: see ``run``.
        """
        if len(layout) != 1 or self.source.size == 0:
            return None
        try:
            self._plan = await self._planned(layout, expected)
            await get_first_chunk(self.routers, self.name)
        except NotFoundError:
            pass
        except (MictlanXError, OSError):
            return None  # the complete put raises it, if it persists
        else:
            return None
        at = time.monotonic()
        first = ChunkUpload(self, self._plan.chunks[0])
        self.only_announced = self.in_window = True
        await first.announce()
        self.source = HashedFile(self.source.name, self.source.size)  # a window must not keep the bytes of its files
        return Announced(self, self._plan, first, at) if first.replicas else None

    async def run(
        self, layout: Sequence[int], expected: ChunkManifest | None = None, known: Announced | Seen | None = None
    ) -> PutReport:
        """
        Put the ball; return a report.

        ``BallConflictError``: other bytes exist under the key. ``PutChunksError``: too few peers stored a chunk in all
        tries. ``IntegrityError``: the source changed. ``UnavailableError``: a peer does not answer, so existing bytes
        may be unknown.

        :param layout: sizes of the chunks (bytes), unless the same bytes were begun in another layout
        :param expected: the result of hashing the source before. If its chunks are the same, the source is not hashed
            again, since each chunk is hashed when it is sent
        :param known: an announcement of this ball with these options, or what a listing showed before
        """
        announced = known if isinstance(known, Announced) else None
        if announced is not None:
            await self._take_over(announced, layout)
            found: list[Version] = []
        else:
            self._seen = known if isinstance(known, Seen) else None
            self._plan = await self._planned(layout, expected)
            found = await self.routers.with_retries(self._find_announced)
        if others := [version for version in found if not self._is_same(version)]:
            found = await self._delete_conflicting(others, [version for version in found if version not in others])
        if found:
            await self._adopt_layout(found)
            await self.complete(
                self._plan.chunks, {chunk.key for version in found for chunk in version.chunks.values()}
            )
        elif not await self._begin(announced):
            await self._adopt_layout(await self.routers.with_retries(self._find_announced))
            # Every chunk is sent, even a readable one: after a delete, a peer may have brought back a copy without
            # placement, which no other client finds.
            await for_each(
                self._plan.chunks, lambda chunk: ChunkUpload(self, chunk).put(), self.options.max_concurrency
            )
        if self._plan.size == 0:
            await self._put_companion()
        elif self._stale_companion:
            await self._delete_companion()
        return self.report()

    async def _take_over(self, announced: Announced, layout: Sequence[int]) -> None:
        """Use the plan of an announcement; raise ``IntegrityError`` if the source is known to have changed."""
        announced.is_taken = True
        self.announced += announced.upload.announced
        self.only_announced = True
        try:
            self._plan = await self._planned(layout, announced.plan)
        except IntegrityError:
            await self._withdraw()
            raise

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
                f"{self.source.name} changed since it was planned: it has {pluralize(plan.size, 'byte')} with SHA-256 "
                f"{plan.checksum[:12]}… instead of {expected.size} with {expected.checksum[:12]}…; nothing was sent; "
                "put it again"
            )
        return plan

    # -- finding announcements --------------------------------------------------------------------------------------

    async def _find_announced(self) -> list[Version]:
        """Return the versions announced under the ball's id: one request for a new ball without ``replace``."""
        listed: list[Metadata] = []
        lost_by_peer = False
        try:
            listed.append(await get_first_chunk(self.routers, self.name))
        except NotFoundError:
            if not self.options.replace:
                return []
            # A peer that missed a delete may list chunks without placement; a replace deletes other bytes among them.
            listed = await list_chunks(self.routers, self.name)
            return [version for version in group_versions(listed) if not self._is_same(version)]
        except UnavailableError as error:
            lost_by_peer = error.unknown_to_peer
        listed += await list_chunks(self.routers, self.name)
        if not listed:
            await self._clear_placement(lost_by_peer)
        found = group_versions(listed)
        if any(not version.is_recorded and self._is_same(version) for version in found):  # a peer may have more of it
            await require_all_peers(self.routers, f"putting {self.name}", self.name.bucket_id)
            found = group_versions([*listed, *await list_chunks(self.routers, self.name)])
        return found

    async def _clear_placement(self, lost_by_peer: bool) -> None:
        """
        Delete the placement of a ball that no peer knows, since it would block the key.

        Nothing is deleted unless every peer answers, and none returns data under the key.

        :param lost_by_peer: whether the peer of the placement answered that it does not know the chunk
        """
        action = f"putting {self.name}, which already has a placement,"
        await require_all_peers(self.routers, action, self.name.bucket_id)
        is_lost = lost_by_peer and not await list_chunks(self.routers, self.name)
        # Listings omit empty chunks, and each look may have asked the same peer.
        if not is_lost or not await ChunkUpload(self, self._plan.chunks[0]).has_no_data():
            raise UnavailableError(f"{action} failed: the peer of the placement did not answer; try again")
        await delete_chunk(self.routers, self.name.bucket_id, self.name.chunk(0))
        await require_all_peers(self.routers, action, self.name.bucket_id)
        if await list_chunks(self.routers, self.name):
            raise UnavailableError(f"{action} failed: a peer brought its copy back; try again")

    def _is_same(self, version: Version) -> bool:
        """Return whether a version has the bytes to be put, in any chunk layout and with any tags."""
        if version.filters:
            return False
        if version.ball_id != self.name.ball_id:  # readers find an object by its ball id
            return False
        if version.checksum is None and version.num_chunks == 1:
            return version.ordered[0].checksum == self._plan.checksum
        return version.checksum == self._plan.checksum

    async def _delete_conflicting(self, others: list[Version], same: list[Version]) -> list[Version]:
        """
        Delete other versions if they are to be replaced or have no data; return the remaining versions.

        Raises ``BallConflictError`` if a peer stores other bytes. Announcements without data are left when concurrent
        writers all give up; they would block the key.

        :param same: the listed versions with the bytes to be put
        """
        deletion = Deletion(self.routers, max_concurrency=self.options.max_concurrency)
        # A chunk of another ball may have the key of this one's first chunk; it is not replaced.
        if self.options.replace and all(version.ball_id == self.name.ball_id for version in others):
            await deletion.remove(self.name, "replacing")
            return []
        for wait in (0.0, self.grace_for([chunk for version in others for chunk in version.ordered])):
            await asyncio.sleep(wait)
            for version in others:
                if await self._is_readable(version):
                    raise self._conflict(version)
        for version in same:
            if await self._is_readable(version):
                return same
        await deletion.remove(self.name, "deleting announcements without data of")
        return []

    async def _is_readable(self, version: Version) -> bool:
        """Return whether any peer stores data of a version; False requires that every peer answers afterwards."""

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

    def _conflict(self, other: Version, why: str = "", is_racing: bool = False) -> BallConflictError:
        """
        Build the error for other bytes under the key.

        :param is_racing: whether another writer announced them after this put had deleted what it replaces
        """
        part = f"{len(other.chunks)} of {other.num_chunks} chunks"
        extent = pluralize(other.size, "byte") if other.is_complete else part
        by = f" by {other.ordered[0].producer_id!r}" if other.ordered[0].producer_id else ""
        if other.ball_id != self.name.ball_id:
            why = f"the bytes of another object, with ball id {other.ball_id},"
        if is_racing:
            what_to_do = (
                "while this put replaced it: another writer puts it at the same time, and nothing may be stored now; "
                "put it again"
            )
        elif self.options.replace or other.ball_id != self.name.ball_id:
            what_to_do = "and were not changed, because they can't be replaced; delete them, or choose another key"
        else:
            what_to_do = "and were not changed; replace=True replaces them, or choose another key"
        return BallConflictError(
            f"putting {self.name} ({pluralize(self._plan.size, 'byte')}, SHA-256 {self._plan.checksum[:12]}…) failed: "
            f"{why or 'other bytes'} were announced under this key{by} ({extent}, SHA-256 "
            f"{(other.checksum or 'unknown')[:12]}…) {what_to_do}",
            permanent=not is_racing,
        )

    # -- a new ball ------------------------------------------------------------------------------------------------

    async def _begin(self, announced: Announced | None = None) -> bool:
        """
        Put a new ball: announce its first chunk, check for other writers, and send the data.

        Returns False without sending if another writer began earlier with the same bytes in another layout.

        :param announced: the announcement of its only chunk in a window, which may have been checked for other writers
        """
        first = ChunkUpload(self, self._plan.chunks[0])
        self.only_announced = True
        if announced is not None:
            first.take_over(announced.first)
        else:
            await self.routers.with_retries(first.announce)
        checked = announced is not None and announced.is_confirmed
        if not checked and not await self.routers.with_retries(lambda: self._is_first(first)):
            return False
        self.only_announced = False

        async def put(chunk: PlannedChunk) -> None:
            await (first if chunk.index == 0 else ChunkUpload(self, chunk)).put()

        try:
            await for_each(self._plan.chunks, put, self.options.max_concurrency)
        except IntegrityError:  # the source changed: the stored chunks would conflict with the next put
            await self._withdraw()
            raise
        return True

    async def _withdraw(self) -> None:
        """Delete the chunks of a ball that this put cannot complete, unless another writer writes it too."""
        try:
            listed = await list_chunks(self.routers, self.name)
            if self.is_own(listed) and not await self._is_stored(listed):
                await Deletion(self.routers).remove(self.name, "deleting an unfinished upload of")
        except MictlanXError as error:
            log.warning("Could not delete the unfinished upload of %s: %s", self.name, error)

    async def _is_stored(self, listed: Sequence[Metadata]) -> bool:
        """Return whether a listed version is stored completely: another writer with the same name has completed it."""
        for version in group_versions(listed):
            if version.is_complete:
                for chunk in reversed(version.ordered):  # this put's own missing chunk is rather the last
                    if not await self.reader.is_stored_on(chunk):
                        break
                else:
                    return True
        return False

    async def _is_first(self, first: ChunkUpload) -> bool:
        """
        List the ball after the announcement of its first chunk; return whether this put began first.

        Raises ``BallConflictError`` if another writer announced other bytes.
        """
        found = [row for row in await list_rows(self.routers, self.name) if not row.own_key]
        listed = [chunk for chunk in found if not is_companion(chunk)]
        self._stale_companion = len(listed) < len(found)
        versions = group_versions(listed)
        for version in versions:
            if not self._is_same(version):
                raise self._conflict(version, is_racing=self.options.replace)
        if self._plan.size == 0:  # listings omit empty balls
            return True
        own = [version for version in versions if self._has_own_layout(version)]
        if not own or sum(chunk.key == self.name.chunk(0) for chunk in listed) < first.announced:
            raise UnavailableError(
                f"putting {self.name} failed: its announcement is not listed, because a peer that accepted it does not "
                "answer, or because it was deleted meanwhile; put it again when every peer answers"
            )
        return min(versions, key=lambda version: (version.begun_at, version.num_chunks)) in own

    def is_alone(self, listed: Sequence[Metadata]) -> bool:
        """Return whether a listing shows the ball as announced, and no other bytes or layout."""
        versions = group_versions(listed)
        return bool(versions) and all(self._is_same(version) and self._has_own_layout(version) for version in versions)

    def _has_own_layout(self, version: Version) -> bool:
        planned = self._plan.chunks
        return version.num_chunks == len(planned) and all(
            (chunk.size, chunk.checksum) == (planned[index].size, planned[index].checksum)
            for index, chunk in version.chunks.items()
        )

    # -- an existing ball ------------------------------------------------------------------------------------------

    async def _adopt_layout(self, found: list[Version]) -> None:
        """Use the layout of a complete version, or else of the version that was begun first."""
        # A complete version of another size mixes chunks of two layouts (see versions.py).
        possible = [version for version in found if not version.is_complete or version.size == self._plan.size] or found
        version = min(possible, key=lambda version: (not version.is_complete, version.begun_at), default=None)
        if version is None or self._has_own_layout(version):
            return
        if version.is_complete:
            layout = [chunk.size for chunk in version.ordered]
        else:
            chunk = version.ordered[0]
            layout = infer_layout(self._plan.size, version.num_chunks, chunk.index, chunk.size) or []
        if sum(layout) != self._plan.size:
            raise self._conflict(version, "the same bytes, but in chunks of other sizes,")
        self._plan = await hash_source(self.source, layout, self.threads)
        self._chunk_tags = {}
        if not self._has_own_layout(version):
            raise self._conflict(version, "the same bytes, but with other bytes in the chunks,")

    # -- the companion of an empty ball ------------------------------------------------------------------------------

    async def _put_companion(self) -> None:
        """
        Put the companion, after the empty ball: until then, the object is found by its key and not listed.

        The next put or delete of the key completes or deletes a pair of which only one is stored.
        """
        tags = {0: {**self._chunk_tags.get(0, {}), **NO_PLACE}}
        name = CompanionId(self.name.bucket_id, self.name.ball_id, self.name.key)
        own_tags = {**self._own_tags, COMPANION_TAG: self.name.key}
        options = replace(self.options, replace=False)
        upload = SingleChunkUpload(
            self.routers, self.threads, name, BytesSource(COMPANION_DATA, str(name)), options, own_tags, tags
        )
        await upload.run(0)

    async def _delete_companion(self) -> None:
        """Delete a companion that an earlier empty object left; it is not listed beside the new ball in any case."""
        try:
            await delete_chunk(self.routers, self.name.bucket_id, companion_key(self.name.ball_id))
        except MictlanXError as error:
            log.info("Could not delete the stale companion of %s: %s", self.name, error)

    # -- called by ChunkUpload -------------------------------------------------------------------------------------

    def layout_tags(self, chunk: PlannedChunk) -> dict[str, str]:
        """Return the tags for a chunk's place in the ball."""
        return {
            "index": str(chunk.index),
            "num_chunks": str(len(self._plan.chunks)),
            "full_checksum": self._plan.checksum,
            "chunk_size": str(chunk.size),
            "group_id": self.name.ball_id,
        }

    async def check_no_conflict(self) -> None:
        """Raise ``BallConflictError`` if other bytes are announced under the key."""
        for version in group_versions(await list_chunks(self.routers, self.name)):
            if not self._is_same(version):
                raise self._conflict(version, is_racing=self.options.replace)
