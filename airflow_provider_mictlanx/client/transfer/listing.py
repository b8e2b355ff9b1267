"""
Look up balls and buckets, and confirm that a ball is absent.

A listing contains the announcements of the answering peers. It proves neither that data is stored nor that an object is
absent. A ball is absent only if three answers agree (protocol page, *Deleting*): no chunk is listed, the placement
service knows no replica of chunk 0, and every peer answers the roll-call.

A *roll-call* is the listing of a bucket that need not exist, which names the peers that answer now.

Each request is retried; callers retry what they conclude from several (``RequestSender.with_retries``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from option import Result

from airflow_provider_mictlanx.client.concurrency import for_each
from airflow_provider_mictlanx.client.empty_objects import CompanionId, is_companion, with_empty_objects
from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    IntegrityError,
    MictlanXError,
    NotFoundError,
    RequestTimeoutError,
    UnavailableError,
    ValidationError,
)
from airflow_provider_mictlanx.client.models import GetRouterBucketMetadataResponse, Metadata, PeersResponse
from airflow_provider_mictlanx.client.object_ids import ObjectId, is_path_segment
from airflow_provider_mictlanx.client.protocol.endpoint import RequestOptions
from airflow_provider_mictlanx.client.protocol.router import AsyncRouter
from airflow_provider_mictlanx.client.texts import format_first
from airflow_provider_mictlanx.client.transfer.router_pool import Request, RequestSender
from airflow_provider_mictlanx.client.versions import Version, group_versions

T = TypeVar("T")


ROW_SIZE = 500
"""Approximate size of a row of a listing (bytes)."""

PEER_CHECK_TIMEOUT = 10.0
"""Timeout of a roll-call (seconds): a peer that takes longer is hung. The router waits for it for minutes."""

PEER_CHECK_BUCKET = "roll-call"
"""The bucket that a roll-call lists; it is cheapest if it does not exist."""

PEERS_AT_ONCE = 8
"""Maximum number of peers that are asked for a chunk's data at the same time."""

PEERS_PER_LOOK = 3
"""Number of requests for a chunk's metadata, each to another replica, before its listing is read."""


async def list_chunks(routers: RequestSender, name: ObjectId) -> list[Metadata]:
    """
    List the chunks of a ball that the answering peers know; the list may be empty because of an outage.

    Objects with keys of their own under the same ball id are left out: they are not parts of the ball. So is the
    companion of an empty ball, unless the name is a ``CompanionId``.
    """
    companions = isinstance(name, CompanionId)
    rows = await list_rows(routers, name)
    return [row for row in rows if not row.own_key and (companions or not is_companion(row))]


async def list_rows(routers: RequestSender, name: ObjectId) -> list[Metadata]:
    """List the chunks of a ball, its companion, and the objects with keys of their own that have its id."""
    try:
        answer = await _ask_peers(
            routers,
            lambda router, options: router.get_chunks_metadata(name.ball_id, name.bucket_id, **options),
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

    ``NotFoundError``: it has no placement. ``UnavailableError``: it has a placement, but no asked peer returned it.
    """
    return await chunk_metadata(routers, name.bucket_id, name.chunk(0))


async def chunk_metadata(routers: RequestSender, bucket_id: str, key: str) -> Metadata:
    """Return the metadata of a chunk, of any version; raise the errors of ``get_first_chunk``."""
    for asked in range(1, PEERS_PER_LOOK + 1):
        try:
            answer = await _ask_peers(
                routers,
                lambda router, options: router.get_metadata(bucket_id, key, **options),
                f"finding chunk {bucket_id}/{key}",
                bucket_id,
                final=(UnavailableError,),
            )
        except UnavailableError as error:
            if asked == PEERS_PER_LOOK or not error.transient:
                raise
        else:
            return answer.metadata
    raise AssertionError("the last request returned or raised")


async def delete_chunk(routers: RequestSender, bucket_id: str, key: str) -> bool:
    """Delete a chunk on all peers, without confirmation; return False if it has no placement."""
    try:
        await routers.request(lambda router, options: router.delete(bucket_id, key, **options), final=(NotFoundError,))
    except NotFoundError:
        return False
    return True


async def get_peers(routers: RequestSender) -> PeersResponse:
    """
    Return the storage space's peers, as last known to the placement service, at least one.

    ``UnavailableError``: it knows none, as after its restart, so nothing can be confirmed.
    """
    found = await routers.request(lambda router, options: router.get_peers(**options))
    if not found.peer_ids:
        raise UnavailableError(
            "GET /peers lists no peer, so what is stored is unknown; check that the peers are running and registered"
        )
    return found


async def silent_peers(routers: RequestSender, bucket_id: str, peers: PeersResponse) -> list[str]:
    """
    Return the peers that do not answer now: one request, or two if no peer answers the first.

    :param bucket_id: the bucket of the call, listed in the second request
    :param peers: the answer of ``get_peers``, which may still list a silent peer as available
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
    Return the peers; raise ``UnavailableError`` unless every peer answers now. Two requests.

    ``GET /peers`` returns the last known state, so only a listing reveals a peer that is silent since then.

    :param action: the action that needs every peer, for the error
    :param bucket_id: the bucket of the action
    :param peers: from a roll-call just before, which saves a request
    """
    quick = routers.with_timeout(PEER_CHECK_TIMEOUT)
    found = peers or await get_peers(quick)
    try:
        missing = await silent_peers(quick, bucket_id, found)
    except RequestTimeoutError as error:
        raise UnavailableError(
            f"{action} failed: a peer is hung: not every peer answered within {quick.options['timeout']:g} s; try "
            "again when it answers, or when GET /peers no longer lists it",
            transient=False,
        ) from error
    if missing:
        raise UnavailableError(
            f"{action} failed: peer {', '.join(missing)} does not answer, so what it stores is unknown; try again when "
            f"it answers; {format_answers(found.peer_ids, missing)}"
        )
    return found


def format_answers(peers: Sequence[str], silent: Sequence[str]) -> str:
    """Return which peers were asked, and which answered."""
    answers = (f"{peer}: {'no answer' if peer in silent else 'answered'}" for peer in peers)
    return f"asked: {format_first(sorted(answers))}"


async def _ask_peers(
    routers: RequestSender,
    request: Request[T],
    action: str,
    bucket_id: str,
    final: tuple[type[MictlanXError], ...] = (),
    quick: bool = False,
) -> T:
    """
    Send a request that the router forwards to peers; after a timeout, check for a hung peer.

    The router waits for a hung peer for minutes, in every try. ``UnavailableError``: the roll-call after the timeout
    found one. A request with a shorter timeout than a roll-call is not checked.

    :param quick: limit the first try to the timeout of a roll-call; a longer answer is then requested twice
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
    Return a ball's versions: complete ones first, then the newest first; the first version is complete.

    One request if a complete version with a known checksum is listed, two for an empty ball. ``NotFoundError``: the
    ball is absent or incomplete. ``UnavailableError``: a peer does not answer.
    """
    rows = await list_rows(routers, name)
    chunks = [row for row in rows if not row.own_key]
    listed = group_versions(chunk for chunk in chunks if not is_companion(chunk))
    if listed and listed[0].is_complete:
        return await _confirm_lengths(routers, name, listed)
    placed = True
    try:
        first = await get_first_chunk(routers, name)
        placed = first.ball_id == name.ball_id  # another ball's object may have a key of this form
        if placed and first.size == 0:  # listings omit empty balls
            found = group_versions([first])
            if found and found[0].is_complete:
                return await _confirm_lengths(routers, name, [*found, *listed])
    except NotFoundError:
        placed = False
    except UnavailableError:
        pass  # the roll-call names the silent peer
    peers = await require_all_peers(routers, f"finding {name}", name.bucket_id)
    if not placed and (found := group_versions(with_empty_objects(chunks))) and found[0].is_complete:
        return found  # the companion of an empty ball that is gone
    if listed:
        raise await _incomplete_error(routers, name, listed)
    if placed:
        raise UnavailableError(
            f"finding {name} failed: its first chunk has a placement, but no peer lists it, so it may be absent or "
            "unavailable; try again, and if its peer lost the chunk, delete the object"
        )
    if own := await find_own_key(routers, name, rows, peers):
        return own
    raise NotFoundError(f"{name} does not exist")


async def _confirm_lengths(routers: RequestSender, name: ObjectId, versions: list[Version]) -> list[Version]:
    """
    Return versions whose numbers of chunks are known, the newest complete one first.

    A writer may leave out the tags ``num_chunks`` and ``full_checksum``. Then only the listing shows how many chunks
    there are, so every peer must have taken part in it: a bucket's listing names those that did. Two requests, unless
    the tags are present.

    ``UnavailableError``: a peer did not take part, so the newest version may have more chunks.
    """
    if all(version.is_recorded for version in versions if version.is_complete):
        return versions
    try:
        listing = await list_bucket(routers, name.bucket_id)
    except UnavailableError as error:
        if versions[0].is_recorded:
            return [version for version in versions if version.is_recorded]
        raise UnavailableError(
            f"finding {name} failed: its writer did not record how many chunks it has, or its checksum, so every peer "
            f"must list it: {error}",
            transient=error.transient,
        ) from error
    known = [chunk for version in versions for chunk in version.ordered]
    more = [chunk for chunk in listing.balls if chunk.ball_id == name.ball_id and not chunk.own_key]
    confirmed = group_versions([*known, *more])
    if not confirmed[0].is_complete:
        raise await _incomplete_error(routers, name, confirmed)
    return confirmed


async def find_own_key(
    routers: RequestSender, name: ObjectId, rows: Sequence[Metadata], peers: PeersResponse
) -> list[Version]:
    """
    Return the versions of an object with a key of its own (``Metadata.own_key``); empty if it is absent.

    The name is its key, or else its ball id. Call this only after a roll-call, if no ball has this name.
    ``ValidationError``: the ball id has several such keys.

    :param rows: the result of ``list_rows``
    :param peers: the result of the roll-call
    """
    key = name.key or name.ball_id
    own = {row.own_key for row in rows if row.own_key}
    if key not in own:
        # Listings show objects by these keys, so another object's ball id must not hide one.
        if found := await find_by_chunk_key(routers, name.bucket_id, key, peers):
            return found
        if not own:
            return []
        if len(own) > 1:
            raise ValidationError(
                f"{name} must be one object, but {len(own)} objects with keys of their own have this ball id: "
                f"{format_first(sorted(own))}; use one of these keys"
            )
        key = own.pop()
    return group_versions(row for row in rows if row.own_key == key)


async def find_by_chunk_key(
    routers: RequestSender, bucket_id: str, key: str, peers: PeersResponse, any_chunk: bool = False
) -> list[Version]:
    """
    Return the versions of an object with a key of its own, whatever its ball id; empty if it is absent.

    One written directly to a peer has no placement: each peer is asked for its data, and the bucket's listing shows its
    metadata.

    :param peers: the result of a roll-call just before
    :param any_chunk: whether to return a chunk of a ball too, which a tag may place there under any key
    """
    if not is_path_segment(key):
        return []
    try:
        found = await chunk_metadata(routers, bucket_id, key)
    except NotFoundError:
        if not await _is_on_any_peer(routers, bucket_id, key, peers):
            return []
        listing = await list_bucket(routers, bucket_id)
        rows = [row for row in listing.balls if row.key == key]
        if not rows:
            raise UnavailableError(
                f"finding {bucket_id}/{key} failed: a peer stores it without placement, but no listing shows it; "
                "listings omit objects of size 0; try again, or read it from the peer"
            ) from None
    else:
        # The listing shows its other versions, but not an object of size 0.
        rows = [found, *await list_rows(routers, ObjectId(bucket_id, found.ball_id))]
    return group_versions(row for row in rows if (row.key if any_chunk else row.own_key) == key)


async def _is_on_any_peer(routers: RequestSender, bucket_id: str, key: str, peers: PeersResponse) -> bool:
    """Return whether a peer returns data under a chunk's key, placed there or not."""
    found = False

    async def stop(data: bytes) -> None:
        raise IntegrityError("the first bytes are enough")

    async def ask(peer_id: str) -> None:
        nonlocal found
        try:
            await routers.request(
                lambda router, options: router.read_data(
                    bucket_id, key, stop, **options, max_size=2**62, force=True, peer_id=peer_id
                ),
                final=(GetChunkError, IntegrityError),
            )
        except GetChunkError:
            return
        except IntegrityError:
            pass
        found = True

    await for_each(peers.peer_ids, ask, PEERS_AT_ONCE)
    return found


async def _incomplete_error(
    routers: RequestSender, name: ObjectId, listed: list[Version]
) -> NotFoundError | UnavailableError:
    """Build the error for a ball with an unlisted chunk: the chunk is missing, or its peer was not listed."""
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
            f"finding {name} failed: chunk {missing} has a placement, but no peer lists it: a peer did not answer or "
            "lost it; try again"
        )
    return NotFoundError(
        f"{name} is incomplete: {len(best.chunks)} of its {best.num_chunks} chunks are listed; its writer is still "
        "writing or was interrupted; putting the same bytes again completes it",
        transient=True,  # the listing may have silently omitted a peer
    )


async def list_small_bucket(
    routers: RequestSender, bucket_id: str, max_size: int | None = None
) -> GetRouterBucketMetadataResponse:
    """
    List the answering peers' chunks of a bucket with a short listing: one request.

    ``UnavailableError``: a peer is hung, which is detected sooner than by ``list_bucket``.
    """

    def request(
        router: AsyncRouter, options: RequestOptions
    ) -> Awaitable[Result[GetRouterBucketMetadataResponse, MictlanXError]]:
        return router.get_bucket_metadata(bucket_id, **options, max_size=max_size)

    if routers.options["timeout"] <= PEER_CHECK_TIMEOUT:  # too short to detect a hung peer: retried instead
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
    """List a bucket; return the listing and the peers missing from it. Two requests."""
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
    List a bucket on every peer: two requests.

    ``UnavailableError``: a peer does not answer, so its chunks are missing from the listing.

    :param max_size: maximum size (bytes); a longer listing is an ``UpstreamProtocolError`` with ``too_long``
    """
    listing, missing = await list_bucket_and_missing_peers(routers, bucket_id, max_size)
    if missing:
        raise UnavailableError(
            f"listing bucket {bucket_id} failed: peer {', '.join(missing)} does not answer, so its chunks are missing "
            f"from the listing; try again when it answers; {format_answers([*listing.peers_ids, *missing], missing)}"
        )
    return listing
