"""
What is there: looks a ball up, and tells whether "absent" is to be believed.

A listing shows announcements of the peers that answered: it proves neither that the data is stored nor that something is
absent. A ball is known to be absent only when three answers agree (protocol page, *Deleting*): no chunk is listed, the
placement service knows no replica of chunk 0, and no peer is away.

All of these make their requests once; who calls them repeats the whole look (``Dispatcher.repeat``).
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_mictlanx.client.dispatch import Dispatcher
from airflow_provider_mictlanx.client.errors import NotFoundError, UnavailableError
from airflow_provider_mictlanx.client.models import GetRouterBucketMetadataResponse, Metadata, PeersResponse
from airflow_provider_mictlanx.client.names import chunk_key
from airflow_provider_mictlanx.client.versions import Version, versions_of


@dataclass(frozen=True)
class Name:
    """A ball by its bucket id and its ball id, and the key that it was asked for with."""

    bucket_id: str
    ball_id: str
    key: str = ""

    def __str__(self) -> str:
        if self.key in ("", self.ball_id):
            return f"{self.bucket_id}/{self.ball_id}"
        return f"{self.bucket_id}/{self.key} (ball {self.ball_id[:12]}…)"

    def chunk(self, index: int) -> str:
        """Give the key of one of its chunks."""
        return chunk_key(self.ball_id, index)


async def list_chunks(routers: Dispatcher, name: Name) -> list[Metadata]:
    """Give the chunks of a ball that the answering peers list; none where they know none, which may be an outage."""
    try:
        answer = await routers.once(lambda router, how: router.get_chunks_metadata(name.bucket_id, name.ball_id, **how))
    except NotFoundError:
        return []
    return [chunk for chunk in answer.chunks if chunk.ball_id == name.ball_id and chunk.bucket_id == name.bucket_id]


async def first_chunk(routers: Dispatcher, name: Name) -> Metadata:
    """
    Give the metadata of a ball's first chunk, of any version.

    ``NotFoundError``: it is placed nowhere; ``UnavailableError``: it is placed, and the peer asked just now did not tell.
    """
    answer = await routers.once(lambda router, how: router.get_metadata(name.bucket_id, name.chunk(0), **how))
    return answer.metadata


async def get_peers(routers: Dispatcher) -> PeersResponse:
    """Give the storage space's peers."""
    return await routers.once(lambda router, how: router.get_peers(**how))


async def all_peers_there(routers: Dispatcher, doing: str) -> PeersResponse:
    """Give the peers, or raise ``UnavailableError`` where one of them is away."""
    found = await get_peers(routers)
    if found.unavailable:
        away = ", ".join(peer.peer_id for peer in found.unavailable)
        raise UnavailableError(
            f"{doing}: peer {away} is away, so what it holds can't be seen; try again when it is back"
        )
    return found


async def find_versions(routers: Dispatcher, name: Name) -> list[Version]:
    """
    Give a ball's versions for reading: whole ones first, of these the newest first; the first one is whole.

    One request where a whole version of a known checksum is listed. ``NotFoundError``: known to be absent, or never written to its end;
    ``UnavailableError``: a peer is away or did not tell.
    """
    listed = versions_of(await list_chunks(routers, name))
    if listed and listed[0].whole:
        if listed[0].checksum is None:  # nothing but the listing itself tells that no chunk is missing at its end
            await all_peers_there(routers, f"looking for {name}")
        return listed
    placed = True
    try:
        if (first := await first_chunk(routers, name)).size == 0:  # an empty ball is in no listing
            found = versions_of([first])
            if found and found[0].whole:
                return [*found, *listed]
    except NotFoundError:
        placed = False
    except UnavailableError:
        pass  # whether a peer is away is asked next
    await all_peers_there(routers, f"looking for {name}")
    if listed:
        raise await _not_whole(routers, name, listed)
    if placed:
        raise UnavailableError(
            f"{name} can't be told absent from unavailable: its first chunk is placed, but no peer lists it. Either a peer "
            "is coming back, or it lost the chunk; then deleting the ball clears what is left of it"
        )
    raise NotFoundError(f"{name} does not exist")


async def _not_whole(routers: Dispatcher, name: Name, listed: list[Version]) -> NotFoundError | UnavailableError:
    """Tell a ball that lacks a chunk from a listing that lacks a peer: then the chunk is placed, and listed by nobody."""
    best = max(listed, key=lambda version: (len(version.chunks), version.updated_at))
    missing = next(index for index in range(best.num_chunks) if index not in best.chunks)
    seen = {(chunk.key, chunk.size, chunk.checksum) for version in listed for chunk in version.ordered}
    try:
        answer = await routers.once(lambda router, how: router.get_metadata(name.bucket_id, name.chunk(missing), **how))
        hidden = (answer.metadata.key, answer.metadata.size, answer.metadata.checksum) not in seen
    except NotFoundError:
        hidden = False
    except UnavailableError:
        hidden = True
    if hidden:
        return UnavailableError(
            f"{name}: chunk {missing} is placed, but no peer lists it, so that it can't be told whether the ball is whole. A "
            "peer did not answer, or lost it; try again"
        )
    return NotFoundError(
        f"{name} is not whole: {len(best.chunks)} of its {best.num_chunks} chunks are listed. It is being written, or its "
        "writer did not come to the end: putting the same bytes again completes it",
        transient=True,  # a peer may have been left out of the listing without a word
    )


async def look_at_bucket(routers: Dispatcher, bucket_id: str) -> tuple[GetRouterBucketMetadataResponse, list[str]]:
    """List a bucket, and tell which peers have no part in the listing: two requests."""
    listing = await routers.once(lambda router, how: router.get_bucket_metadata(bucket_id, **how))
    found = await get_peers(routers)
    return listing, sorted(set(found.peer_ids) - set(listing.peers_ids))


async def list_bucket(routers: Dispatcher, bucket_id: str) -> GetRouterBucketMetadataResponse:
    """
    List a bucket with every peer's part in it: two requests.

    ``UnavailableError``: a peer is away, so that its part is missing.
    """
    listing, missing = await look_at_bucket(routers, bucket_id)
    if missing:
        raise UnavailableError(
            f"listing bucket {bucket_id}: peer {', '.join(missing)} did not answer, so what it holds is missing in the listing; "
            "try again when it is back"
        )
    return listing
