"""
Deleting, until what was deleted is seen to be gone.

Deleting by ball leaves the placement of chunks that the peers don't know any more, so every chunk key that was seen is
deleted too; and a peer that was away may bring its copy back, so gone is only what is known to be absent (protocol page,
*Deleting*).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

from airflow_provider_mictlanx.client.checks import whole_number
from airflow_provider_mictlanx.client.dispatch import Dispatcher
from airflow_provider_mictlanx.client.errors import MictlanXError, NotFoundError, UnavailableError
from airflow_provider_mictlanx.client.lookup import Name, all_peers_there, first_chunk, list_bucket, list_chunks
from airflow_provider_mictlanx.client.models import DeleteBucketResponse
from airflow_provider_mictlanx.client.versions import balls_in
from airflow_provider_mictlanx.client.workers import for_each

ROUNDS = 10
"""How often a bucket is listed and emptied before what still comes in is reported."""


class Removal:
    """
    Deletes for one call.

    :param force: sent as the header ``Force``
    :param max_concurrency: the most deletes in flight
    """

    def __init__(self, routers: Dispatcher, force: bool = True, max_concurrency: int = 8) -> None:
        self._routers = routers
        self._force = force
        self._max_concurrency = whole_number("max_concurrency", max_concurrency)

    async def remove(self, name: Name, doing: str = "deleting") -> int:
        """
        Delete a ball and see it gone; gives the number of replicas of chunks that were deleted, 0 where there were none.

        Nothing is deleted while a peer is away: afterwards nobody could tell that it missed something.

        ``UnavailableError``: a peer was away in all tries, and may bring its copy back.

        :param doing: what it is done for, for the error
        """
        deleted = 0
        missed = False

        async def remove_and_look() -> int:
            nonlocal deleted, missed
            listed = await list_chunks(self._routers, name)
            if not listed and await self._is_absent(name):
                if missed:
                    await self._see_no_peer_with(name)
                return deleted
            await all_peers_there(self._routers, f"{doing} {name}")
            now = await self._delete(name, {chunk.key for chunk in listed} | {name.chunk(0)})
            deleted += now
            missed = missed or now < len(listed)
            if now < len(listed) or await list_chunks(self._routers, name) or not await self._is_absent(name):
                raise UnavailableError(
                    f"deleting {name}: {now} of {len(listed)} replicas were deleted, and it is not yet known to be gone. A "
                    "peer was away and may bring its copy back, or somebody writes it; delete it again later"
                )
            return deleted

        return await self._routers.repeat(remove_and_look)

    async def remove_chunk(self, bucket_id: str, key: str) -> int:
        """
        Delete one chunk and see it gone; gives the number of replicas that were deleted, 0 where there were none.

        ``UnavailableError``: a peer was away in all tries, and may bring its copy back.

        :param key: the chunk's
        """
        deleted = 0

        async def remove_and_look() -> int:
            nonlocal deleted
            await all_peers_there(self._routers, f"deleting chunk {bucket_id}/{key}")
            with contextlib.suppress(NotFoundError):
                answer = await self._routers.once(
                    lambda router, how: router.delete(bucket_id, key, **how, force=self._force)
                )
                deleted += answer.n_deletes
            try:
                await self._routers.once(lambda router, how: router.get_metadata(bucket_id, key, **how))
            except NotFoundError:
                await all_peers_there(self._routers, f"seeing whether chunk {bucket_id}/{key} is gone")
                return deleted
            raise UnavailableError(
                f"deleting chunk {bucket_id}/{key}: it is still there; somebody writes it, or a peer was away"
            )

        return await self._routers.repeat(remove_and_look)

    async def _is_absent(self, name: Name) -> bool:
        """Tell whether a ball that is not listed is known to be absent; raises where a peer is away."""
        try:
            await first_chunk(self._routers, name)
            return False
        except UnavailableError:
            return False
        except NotFoundError:
            await all_peers_there(self._routers, f"seeing whether {name} is gone")
            return True

    async def _see_no_peer_with(self, name: Name) -> None:
        """
        Raise where a peer may have a ball still, after one of them missed a delete.

        That peer may be left out of the ball's listing without a word; the bucket's names those that answered.
        """
        listing = await list_bucket(self._routers, name.bucket_id)
        if any(chunk.ball_id == name.ball_id for chunk in listing.balls):
            raise UnavailableError(
                f"deleting {name}: a peer that missed the delete has brought its copy back; delete it again"
            )

    async def _delete(self, name: Name, keys: Iterable[str]) -> int:
        """
        Delete a ball on all peers, and the placement of its chunks; gives the number of replicas.

        A failure is raised when no delete is under way any more: one that was left alone could come late, and take what is
        written next under the key.
        """
        answer = await self._routers.once(
            lambda router, how: router.delete_by_ball_id(name.bucket_id, name.ball_id, **how, force=self._force)
        )
        deleted = answer.n_deletes
        failures: list[MictlanXError] = []

        async def clear(key: str) -> None:
            nonlocal deleted
            try:
                left = await self._routers.once(
                    lambda router, how: router.delete(name.bucket_id, key, **how, force=self._force)
                )
                deleted += left.n_deletes
            except NotFoundError:
                pass  # nothing of it was left
            except MictlanXError as error:
                failures.append(error)

        await for_each(keys, clear, self._max_concurrency)
        if failures:
            raise failures[0]
        return deleted

    async def empty_bucket(self, bucket_id: str) -> DeleteBucketResponse:
        """
        Delete every ball of a bucket, and list it again until it is empty; balls of size 0 are in no listing.

        ``UnavailableError``: a peer was away in all tries, so that the bucket could not be listed.
        """
        started = time.monotonic()
        seen: set[str] = set()
        failures: dict[str, str] = {}
        for round_number in range(ROUNDS + 1):
            listing = await self._routers.repeat(lambda: list_bucket(self._routers, bucket_id))
            balls = balls_in(listing.balls)
            seen.update(balls)
            if not balls or round_number == ROUNDS or (balls.keys() == failures.keys() and round_number >= 3):
                break
            failures = await self._delete_all(
                bucket_id, {ball: {c.key for c in chunks} for ball, chunks in balls.items()}
            )
        left = {ball: failures.get(ball, "it came in, or came back, while the bucket was deleted") for ball in balls}
        return DeleteBucketResponse(
            bucket_id=bucket_id,
            deleted=len(seen) - len(left),
            failed=len(left),
            total=len(seen),
            keys=sorted(seen - left.keys()),
            failures=left,
            response_time=round(time.monotonic() - started, 6),
        )

    async def _delete_all(self, bucket_id: str, balls: dict[str, set[str]]) -> dict[str, str]:
        """Delete balls by their ids and chunk keys; gives the reasons of those that failed."""
        failures: dict[str, str] = {}

        async def delete(ball_id: str) -> None:
            try:
                await self._routers.repeat(lambda: self._delete(Name(bucket_id, ball_id), balls[ball_id]))
            except MictlanXError as error:
                failures[ball_id] = str(error)

        await for_each(list(balls), delete, self._max_concurrency)
        return failures
