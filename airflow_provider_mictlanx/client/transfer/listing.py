"""
What is there: looks a ball up, and tells whether "absent" is to be believed.

A listing shows announcements of the peers that answered: it proves neither that the data is stored nor that something is
absent. A ball is known to be absent only when three answers agree (protocol page, *Deleting*): no chunk is listed, the
placement service knows no replica of chunk 0, and every peer answers the roll-call.

Each request is repeated by the retry rule; callers repeat what they conclude from several
(``RequestSender.with_retries``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from option import Result

from airflow_provider_mictlanx.client.errors import MictlanXError, NotFoundError, RequestTimeoutError, UnavailableError
from airflow_provider_mictlanx.client.models import GetRouterBucketMetadataResponse, Metadata, PeersResponse
from airflow_provider_mictlanx.client.object_ids import ObjectId
from airflow_provider_mictlanx.client.protocol.endpoint import RequestOptions
from airflow_provider_mictlanx.client.protocol.router import AsyncRouter
from airflow_provider_mictlanx.client.transfer.router_pool import Request, RequestSender
from airflow_provider_mictlanx.client.versions import Version, group_versions

T = TypeVar("T")


PEER_CHECK_TIMEOUT = 10.0
"""A peer that does not answer a roll-call for so long hangs (seconds); the router itself waits for minutes."""

PEER_CHECK_BUCKET = "roll-call"
"""The bucket that a roll-call lists. Only the peers' names matter, so it need not exist, and costs least if it does not."""

PEERS_PER_LOOK = 3
"""How many replicas are asked, one after the other, for a chunk's metadata before its listing is read."""


async def list_chunks(routers: RequestSender, name: ObjectId) -> list[Metadata]:
    """Return the chunks of a ball that the answering peers list; none where they know none, which may be an outage."""
    try:
        answer = await _ask_peers(
            routers,
            lambda router, options: router.get_chunks_metadata(name.bucket_id, name.ball_id, **options),
            f"listing {name}",
            name.bucket_id,
            final=(NotFoundError,),
        )
    except NotFoundError:
        return []
    return [chunk for chunk in answer.chunks if chunk.ball_id == name.ball_id and chunk.bucket_id == name.bucket_id]


async def get_first_chunk(routers: RequestSender, name: ObjectId) -> Metadata:
    """
    Return the metadata of a ball's first chunk, of any version.

    ``NotFoundError``: it is placed nowhere; ``UnavailableError``: it is placed, and no peer that was asked returned it.
    """
    return await chunk_metadata(routers, name.bucket_id, name.chunk(0))


async def chunk_metadata(routers: RequestSender, bucket_id: str, key: str) -> Metadata:
    """Return the metadata of a chunk, of any version; the errors are those of ``get_first_chunk``."""
    for asked in range(1, PEERS_PER_LOOK + 1):
        try:
            answer = await _ask_peers(
                routers,
                lambda router, options: router.get_metadata(bucket_id, key, **options),
                f"looking for chunk {bucket_id}/{key}",
                bucket_id,
                final=(UnavailableError,),
            )
        except UnavailableError as error:
            if asked == PEERS_PER_LOOK or not error.transient:
                raise
        else:
            return answer.metadata
    raise AssertionError("the last peer is an answer or an error")


async def get_peers(routers: RequestSender) -> PeersResponse:
    """Return the storage space's peers, as the placement service last heard of them."""
    return await routers.request(lambda router, options: router.get_peers(**options))


async def silent_peers(routers: RequestSender, bucket_id: str, peers: PeersResponse) -> list[str]:
    """
    Return the peers that do not answer now: one request, two where no peer answers the first.

    :param bucket_id: of what is looked for
    :param peers: what ``get_peers`` returned, which may be older than a peer's silence
    """
    answered: Sequence[str] = ()
    for bucket in (PEER_CHECK_BUCKET, bucket_id):
        if not answered:
            listing = await routers.request(
                lambda router, options, bucket=bucket: router.get_bucket_metadata(bucket, **options),  # type: ignore[misc]
                final=(RequestTimeoutError,),
            )
            answered = listing.peers_ids
    return sorted(set(peers.peer_ids) - set(answered))


async def require_all_peers(
    routers: RequestSender, action: str, bucket_id: str, peers: PeersResponse | None = None
) -> PeersResponse:
    """
    Return the peers, or raise ``UnavailableError`` unless every one of them answers now. Two requests.

    ``GET /peers`` repeats what the placement service last heard, so a peer that fell silent since then is found only by who
    takes part in a listing.

    :param action: what needs every peer, for the error
    :param bucket_id: of what is looked for
    :param peers: from a roll-call just before, which saves a request
    """
    quick = routers.with_timeout(PEER_CHECK_TIMEOUT)
    found = peers or await get_peers(quick)
    try:
        missing = await silent_peers(quick, bucket_id, found)
    except RequestTimeoutError as error:
        raise UnavailableError(
            f"{action}: not every peer answered within {quick.options['timeout']:g} s, so a peer hangs; try again when "
            "GET /peers no longer lists it, or when it answers",
            transient=False,
        ) from error
    if missing:
        raise UnavailableError(
            f"{action}: peer {', '.join(missing)} does not answer, and what it holds cannot be seen; try again when it is back"
        )
    return found


async def _ask_peers(
    routers: RequestSender,
    request: Request[T],
    action: str,
    bucket_id: str,
    final: tuple[type[MictlanXError], ...] = (),
    quick: bool = False,
) -> T:
    """
    Make a request that the router answers by asking peers; one that is not answered in time is looked into.

    The router waits for a peer that hangs, for minutes and in every try: ``UnavailableError`` where a roll-call finds one.
    A roll-call is no more patient than the request, so it tells nothing after a short one.

    :param quick: whether the first try takes no longer than a roll-call; a long answer would have to be made twice
    """
    first = routers.with_timeout(PEER_CHECK_TIMEOUT) if quick else routers
    try:
        return await first.request(request, (*final, RequestTimeoutError))
    except RequestTimeoutError:
        if routers.options["timeout"] < PEER_CHECK_TIMEOUT:
            raise
        await require_all_peers(routers, action, bucket_id)
        return await routers.request(request, final)


async def find_versions(routers: RequestSender, name: ObjectId) -> list[Version]:
    """
    Give a ball's versions for reading: whole ones first, of these the newest first; the first one is whole.

    One request where a whole version of a known checksum is listed. ``NotFoundError``: known to be absent, or never written to its end;
    ``UnavailableError``: a peer is away or did not tell.
    """
    listed = group_versions(await list_chunks(routers, name))
    if listed and listed[0].is_complete:
        if listed[0].checksum is None:  # nothing but the listing itself tells that no chunk is missing at its end
            await require_all_peers(routers, f"looking for {name}", name.bucket_id)
        return listed
    placed = True
    try:
        if (first := await get_first_chunk(routers, name)).size == 0:  # an empty ball is in no listing
            found = group_versions([first])
            if found and found[0].is_complete:
                return [*found, *listed]
    except NotFoundError:
        placed = False
    except UnavailableError:
        pass  # which peers do not answer is asked next
    await require_all_peers(routers, f"looking for {name}", name.bucket_id)
    if listed:
        raise await _incomplete_error(routers, name, listed)
    if placed:
        raise UnavailableError(
            f"{name} can't be told absent from unavailable: its first chunk is placed, but no peer lists it. Either a peer "
            "is coming back, or it lost the chunk; then deleting the ball clears what is left of it"
        )
    raise NotFoundError(f"{name} does not exist")


async def _incomplete_error(
    routers: RequestSender, name: ObjectId, listed: list[Version]
) -> NotFoundError | UnavailableError:
    """Tell a ball that lacks a chunk from a listing that lacks a peer: then the chunk is placed, and listed by nobody."""
    best = max(listed, key=lambda version: (len(version.chunks), version.updated_at))
    missing = next(index for index in range(best.num_chunks) if index not in best.chunks)
    seen = {(chunk.key, chunk.size, chunk.checksum) for version in listed for chunk in version.ordered}
    try:
        chunk = await chunk_metadata(routers, name.bucket_id, name.chunk(missing))
        hidden = (chunk.key, chunk.size, chunk.checksum) not in seen
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


async def list_small_bucket(
    routers: RequestSender, bucket_id: str, max_size: int | None = None
) -> GetRouterBucketMetadataResponse:
    """
    List what the answering peers have of a bucket whose listing is short: one request.

    ``UnavailableError``: a peer hangs, which is found sooner than by ``list_bucket``.
    """

    def request(
        router: AsyncRouter, options: RequestOptions
    ) -> Awaitable[Result[GetRouterBucketMetadataResponse, MictlanXError]]:
        return router.get_bucket_metadata(bucket_id, **options, max_size=max_size)

    if routers.options["timeout"] <= PEER_CHECK_TIMEOUT:  # too short a time to tell a hung peer: repeated instead
        return await routers.request(request)
    return await _ask_peers(
        routers,
        request,
        f"listing bucket {bucket_id}",
        bucket_id,
        quick=True,
    )


async def list_bucket_and_missing_peers(
    routers: RequestSender, bucket_id: str, max_size: int | None = None
) -> tuple[GetRouterBucketMetadataResponse, list[str]]:
    """List a bucket, and return which peers have no part in the listing: two requests."""
    listing = await _ask_peers(
        routers,
        lambda router, options: router.get_bucket_metadata(bucket_id, **options, max_size=max_size),
        f"listing bucket {bucket_id}",
        bucket_id,
    )
    found = await get_peers(routers)
    return listing, sorted(set(found.peer_ids) - set(listing.peers_ids))


async def list_bucket(
    routers: RequestSender, bucket_id: str, max_size: int | None = None
) -> GetRouterBucketMetadataResponse:
    """
    List a bucket with every peer's part in it: two requests.

    ``UnavailableError``: a peer does not answer, so its part is missing.

    :param max_size: the most that is read (bytes); a longer listing is an ``UpstreamProtocolError`` that is
        ``too_long``
    """
    listing, missing = await list_bucket_and_missing_peers(routers, bucket_id, max_size)
    if missing:
        raise UnavailableError(
            f"listing bucket {bucket_id}: peer {', '.join(missing)} did not answer, so what it holds is missing in the listing; "
            "try again when it is back"
        )
    return listing
