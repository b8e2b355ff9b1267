"""
Delete balls and chunks until they are known to be gone.

A delete that a peer misses is undone when the peer comes back, and the router says nothing of it. So every peer has to answer
a roll-call before anything is deleted and after it, each chunk's delete has to count as many replicas as were listed, and a
shortfall stops the delete while the other chunks are still there (protocol page, *Deleting*).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from airflow_provider_mictlanx.client.concurrency import for_each
from airflow_provider_mictlanx.client.errors import MictlanXError, NotFoundError, RequestTimeoutError, UnavailableError
from airflow_provider_mictlanx.client.models import DeleteBucketResponse, Metadata
from airflow_provider_mictlanx.client.object_ids import ObjectId
from airflow_provider_mictlanx.client.transfer.listing import (
    chunk_metadata,
    list_bucket,
    list_chunks,
    require_all_peers,
)
from airflow_provider_mictlanx.client.transfer.router_pool import RequestSender
from airflow_provider_mictlanx.client.validation import check_int
from airflow_provider_mictlanx.client.versions import group_by_ball, group_versions

ROUNDS = 10
"""How often a bucket, or a prefix, is listed and emptied before what still comes in is reported."""

UNLISTED = 100
"""How many chunks beyond the last listed one are deleted too; any writer can claim that there are countless ones."""

K = TypeVar("K")
F = TypeVar("F")


class Deletion:
    """
    Deletes for one call.

    :param force: sent as the header ``Force``
    :param max_concurrency: the most deletes in flight
    """

    def __init__(self, routers: RequestSender, force: bool = True, max_concurrency: int = 8) -> None:
        self._routers = routers
        self._force = force
        self._max_concurrency = check_int("max_concurrency", max_concurrency)

    async def remove(self, name: ObjectId, action: str = "deleting", key: str = "") -> int:
        """
        Delete a ball, or one chunk of it, and confirm that it is gone; a missing one is not an error.

        Returns the number of replicas of chunks that were deleted.

        ``UnavailableError``: a peer did not answer. Before the first delete nothing has changed; after it, the message names
        the chunks and the replicas that were missed, and deleting again when every peer answers finishes it.

        :param action: what it is done for, for the error
        :param key: the key of the only chunk that is deleted; empty for the whole ball
        """
        deleted = 0
        begun = False
        doing = f"{action} chunk {name.bucket_id}/{key}" if key else f"{action} {name}"

        async def remove_once() -> int:
            nonlocal deleted, begun
            peers = await require_all_peers(
                self._routers, f"{doing}, which is not complete" if begun else doing, name.bucket_id
            )
            replicas = await self._replicas(name, key)
            if not replicas:
                return deleted
            begun = True
            counts = await self._delete_chunks(name.bucket_id, replicas)
            deleted += sum(counts.values())
            short = {chunk: number for chunk, number in replicas.items() if counts[chunk] < number}
            try:
                await require_all_peers(self._routers, doing, name.bucket_id, peers)
                looked_up = short or not replicas.total()  # a placement that no listing shows has to be asked for
                left = await (self._replicas if looked_up else self._listed)(name, key)
                # Replicas that are placed nowhere, such as a returning peer brings back, are only deleted with their ball.
                if left and not (key and await self._has_other_chunks(name, key)):
                    deleted += await self._delete_ball(name)
                    await require_all_peers(self._routers, doing, name.bucket_id)
                    left = await self._replicas(name, key)
            except UnavailableError as error:
                raise UnavailableError(
                    _shortfall(doing, counts, replicas, str(error)), transient=error.transient
                ) from error
            if left:
                raise UnavailableError(
                    _shortfall(
                        doing, counts, replicas, "it is listed again: somebody writes it, or a peer brought it back"
                    )
                )
            return deleted

        return await self._routers.with_retries(remove_once)

    async def _has_other_chunks(self, name: ObjectId, key: str) -> bool:
        return any(chunk.key != key for chunk in await list_chunks(self._routers, name))

    async def _listed(self, name: ObjectId, key: str) -> Counter[str]:
        """Return how many replicas of each chunk are listed."""
        return _by_key(await list_chunks(self._routers, name), key)

    async def _replicas(self, name: ObjectId, key: str) -> Counter[str]:
        """
        Return how many replicas of each chunk are known; 0 for a chunk that may be placed and is not listed.

        ``UnavailableError``: a peer answers for a chunk that no peer lists, so not every peer took part in the listing.
        """
        listed = await list_chunks(self._routers, name)
        replicas = _by_key(listed, key)
        if not replicas:
            chunk = key or name.chunk(0)
            try:
                found = await chunk_metadata(self._routers, name.bucket_id, chunk)
            except NotFoundError:
                return replicas
            except UnavailableError:
                pass  # placed, and no peer returns it
            else:
                if found.size > 0:  # an empty chunk is in no listing
                    raise UnavailableError(
                        f"chunk {name.bucket_id}/{chunk} is stored, but no peer lists it; try again when every peer answers"
                    )
            replicas[chunk] = 0
        elif not key:
            indexes = {
                index
                for version in group_versions(listed)
                for index in range(min(version.num_chunks, max(version.chunks) + 1 + UNLISTED))
            }
            replicas.update({name.chunk(index): 0 for index in indexes})
        return replicas

    async def _delete_chunks(self, bucket_id: str, replicas: Mapping[str, int]) -> Counter[str]:
        """
        Delete chunks until one delete counts too few replicas; return how many were deleted of each.

        A failure is raised when no delete is under way any more: one that was left alone could come late, and take what is
        written next under the key.
        """
        counts: Counter[str] = Counter()
        failures: list[MictlanXError] = []
        stopped = False

        async def delete(key: str) -> None:
            nonlocal stopped
            if stopped:
                return
            try:
                answer = await self._routers.request(
                    lambda router, options: router.delete(bucket_id, key, **options, force=self._force),
                    final=(NotFoundError, RequestTimeoutError),  # the roll-call before the next try finds a hung peer
                )
                counts[key] = answer.n_deletes
            except NotFoundError:
                pass  # placed nowhere
            except MictlanXError as error:
                failures.append(error)
            stopped = stopped or bool(failures) or counts[key] < replicas[key]

        first, *rest = replicas
        await delete(first)
        await for_each(rest, delete, self._max_concurrency)
        if failures:
            raise failures[0]
        return counts

    async def _delete_ball(self, name: ObjectId) -> int:
        """Delete what the peers know of a ball, placed or not; return the number of replicas."""
        answer = await self._routers.request(
            lambda router, options: router.delete_by_ball_id(
                name.bucket_id, name.ball_id, **options, force=self._force
            ),
            final=(RequestTimeoutError,),
        )
        return answer.n_deletes

    async def _delete(self, name: ObjectId, keys: Iterable[str]) -> int:
        """Delete a ball on all peers, and the placement of its chunks; return the number of replicas."""
        deleted = await self._delete_ball(name)
        return deleted + (await self._delete_chunks(name.bucket_id, dict.fromkeys(keys, 0))).total()

    async def empty_bucket(self, bucket_id: str) -> DeleteBucketResponse:
        """
        Delete every ball of a bucket, and list it again until it is empty; balls of size 0 are in no listing.

        ``UnavailableError``: a peer was away in all tries, so that the bucket could not be listed.
        """
        started = time.monotonic()

        async def list_balls() -> dict[str, list[Metadata]]:
            listing = await self._routers.with_retries(lambda: list_bucket(self._routers, bucket_id))
            return group_by_ball(listing.balls)

        seen, failures = await delete_until_unlisted(
            list_balls, lambda balls: self._delete_all(bucket_id, balls), min_rounds=3
        )
        came_in = "it came in, or came back, while the bucket was deleted"
        left = {ball: came_in if why is None else why for ball, why in failures.items()}
        return DeleteBucketResponse(
            bucket_id=bucket_id,
            deleted=len(seen) - len(left),
            failed=len(left),
            total=len(seen),
            keys=sorted(seen - left.keys()),
            failures=left,
            response_time=round(time.monotonic() - started, 6),
        )

    async def _delete_all(self, bucket_id: str, balls: Mapping[str, Iterable[Metadata]]) -> dict[str, str]:
        """
        Delete balls by their ids and listed chunks; return the reasons of those that failed.

        ``UnavailableError``: a peer hangs.
        """
        failures: dict[str, str] = {}

        async def delete(ball_id: str) -> None:
            try:
                await self._routers.with_retries(
                    lambda: self._delete(ObjectId(bucket_id, ball_id), (chunk.key for chunk in balls[ball_id])),
                    final=(RequestTimeoutError,),
                )
            except RequestTimeoutError as error:
                await require_all_peers(
                    self._routers, f"deleting bucket {bucket_id}", bucket_id
                )  # a hung peer stops them all
                failures[ball_id] = str(error)
            except MictlanXError as error:
                failures[ball_id] = str(error)

        await for_each(list(balls), delete, self._max_concurrency)
        return failures


async def delete_until_unlisted(
    list_keys: Callable[[], Awaitable[dict[str, K]]],
    delete: Callable[[dict[str, K]], Awaitable[Mapping[str, F]]],
    min_rounds: int,
) -> tuple[set[str], dict[str, F | None]]:
    """
    List, delete what is listed, and list again, until nothing is listed or only failures are left.

    Returns every key that was listed, and those still listed, with their failures; None for a key that was not deleted since
    it came in.

    :param delete: returns the failures by key
    :param min_rounds: how often at least the same failures are tried again
    """
    seen: set[str] = set()
    failures: Mapping[str, F] = {}
    for round_number in range(ROUNDS + 1):
        listed = await list_keys()
        seen.update(listed)
        stuck = round_number >= min_rounds and listed.keys() == failures.keys()
        if not listed or stuck or round_number == ROUNDS:
            break
        failures = await delete(listed)
    return seen, {key: failures.get(key) for key in listed}


def _by_key(listed: Iterable[Metadata], key: str) -> Counter[str]:
    return Counter(chunk.key for chunk in listed if key in ("", chunk.key))


def _shortfall(doing: str, counts: Counter[str], replicas: Mapping[str, int], cause: str) -> str:
    """Build the message for a delete that is not known to be complete."""
    short = [
        f"{key} ({counts[key]} of {number} replicas)"
        for key, number in sorted(replicas.items())
        if counts[key] < number
    ]
    missed = f"; not deleted: {', '.join(short[:3])}{' and others' if short[3:] else ''}" if short else ""
    return f"{doing} is not complete: {cause}{missed}. Delete the ball when every peer answers"
