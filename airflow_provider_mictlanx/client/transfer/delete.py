"""
Delete balls and chunks, and confirm that they are gone.

A peer that misses a delete brings its replica back later, and the router does not report it. So every peer must answer
a roll-call before and after a delete. Each chunk's delete must count as many replicas as were listed. A shortfall stops
the delete while the other chunks still exist (protocol page, *Deleting*).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from airflow_provider_mictlanx.client.concurrency import for_each, run_in_thread
from airflow_provider_mictlanx.client.empty_objects import companion_key, is_companion
from airflow_provider_mictlanx.client.errors import (
    MictlanXError,
    NotFoundError,
    RequestTimeoutError,
    UnavailableError,
    ValidationError,
)
from airflow_provider_mictlanx.client.models import DeleteBucketResponse, Metadata, PeersResponse
from airflow_provider_mictlanx.client.object_ids import ObjectId
from airflow_provider_mictlanx.client.texts import format_first
from airflow_provider_mictlanx.client.transfer.listing import (
    chunk_metadata,
    find_by_chunk_key,
    find_own_key,
    list_bucket,
    list_rows,
    require_all_peers,
)
from airflow_provider_mictlanx.client.transfer.router_pool import RequestSender
from airflow_provider_mictlanx.client.validation import check_int
from airflow_provider_mictlanx.client.versions import ObjectRow, Version, group_by_object, group_versions

ROUNDS = 10
"""Maximum number of times that a bucket or a prefix is listed and emptied."""

UNLISTED = 100
"""Maximum number of unlisted chunks looked up after the last listed one: the tag ``num_chunks`` may be wrong."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
F = TypeVar("F")

FindOwnKey = Callable[[RequestSender, ObjectId, Sequence[Metadata], PeersResponse], Awaitable[list[Version]]]


class Deletion:
    """
    Deletes balls for one call.

    :param force: sent as the header ``Force``
    :param max_concurrency: maximum number of deletes in flight
    """

    def __init__(self, routers: RequestSender, force: bool = True, max_concurrency: int = 8) -> None:
        self._routers = routers
        self._force = force
        self._max_concurrency = check_int("max_concurrency", max_concurrency)

    async def remove_object(self, name: ObjectId, also: Collection[str] = ()) -> int:
        """
        Delete a ball, or if it is absent, the object with a key of its own (``Metadata.own_key``) that has this name.

        Parameters and errors: see ``remove``. ``ValidationError``: the name is the ball id of several such objects.
        """
        return await self.remove(name, also=also, find_own_key=find_own_key)

    async def remove_chunk(self, bucket_id: str, key: str, also: Collection[str] = ()) -> int:
        """Delete one chunk of a ball, or an object with a key of its own, by its key; see ``remove``."""
        name = ObjectId(bucket_id, key.rpartition("_")[0] or key, key)
        return await self.remove(
            name,
            key=key,
            also=also,
            find_own_key=lambda routers, name, rows, peers: find_by_chunk_key(
                routers, bucket_id, key, peers, any_chunk=True
            ),
        )

    async def remove(
        self,
        name: ObjectId,
        action: str = "deleting",
        key: str = "",
        also: Collection[str] = (),
        find_own_key: FindOwnKey | None = None,
    ) -> int:
        """
        Delete a ball, or one chunk of it, and confirm that it is gone; a missing one is not an error.

        An empty ball is deleted with its companion. Returns the number of deleted replicas, without the companion's.

        Objects with keys of their own under the same ball id stay. ``ValidationError``: a replica without placement can
        only be deleted with all of them.

        ``UnavailableError``: a peer did not answer. Before the first delete, nothing has changed. Later, the message
        names the missed chunks and replicas; deleting again when every peer answers finishes it.

        :param action: the action, for the error
        :param key: key of the chunk to delete; empty for the ball
        :param also: keys of objects that may be deleted with it
        :param find_own_key: finds an object with a key of its own if the ball or chunk is absent
        """
        deleted = listed = 0
        begun = False
        action = f"{action} chunk {name.bucket_id}/{key}" if key else f"{action} {name}"
        companion = companion_key(name.ball_id) if key != companion_key(name.ball_id) else ""

        async def remove_once() -> int:
            nonlocal deleted, listed, begun, name, key
            peers = await require_all_peers(
                self._routers, f"{action}, which is incomplete," if begun else action, name.bucket_id
            )
            rows = await list_rows(self._routers, name)
            replicas = await self._replicas(name, key, rows)
            if (
                not replicas
                and find_own_key
                and not begun
                and (own := await find_own_key(self._routers, name, rows, peers))
            ):
                name, key = ObjectId(name.bucket_id, own[0].ball_id, name.key), own[0].ordered[0].key
                replicas = await self._replicas(name, key)
            if not replicas:
                return max(deleted, listed)
            begun = True
            # The answer to a delete that was lost did not count them.
            listed = max(listed, deleted + replicas.total() - replicas[companion])
            counts = await self._delete_chunks(name.bucket_id, replicas)
            deleted += counts.total() - counts[companion]
            short = {chunk: number for chunk, number in replicas.items() if counts[chunk] < number}
            try:
                await require_all_peers(self._routers, action, name.bucket_id, peers)
                # A placement that no listing shows, such as an empty chunk's, is looked up by key.
                ask_placement = short or not replicas.total() - replicas[companion]
                left = await (self._replicas if ask_placement else self._listed)(name, key)
                # Replicas without placement, such as a returning peer brings back, are only deleted with their ball.
                if left and await self._may_delete_ball(name, key, also, action):
                    deleted += await self._delete_ball(name)
                    await require_all_peers(self._routers, action, name.bucket_id)
                    left = await self._replicas(name, key)
            except UnavailableError as error:
                raise UnavailableError(
                    _shortfall(action, counts, replicas, str(error)), transient=error.transient
                ) from error
            if left:
                cause = "it is listed again, because another writer writes it or a peer brought it back"
                raise UnavailableError(_shortfall(action, counts, replicas, cause))
            return max(deleted, listed)

        return await self._routers.with_retries(remove_once)

    async def _may_delete_ball(self, name: ObjectId, key: str, also: Collection[str], action: str) -> bool:
        """
        Return whether a delete by ball id would delete only what may be deleted.

        ``ValidationError``: other objects have the same ball id.
        """
        if key == companion_key(name.ball_id):
            return False  # the chunk of its empty ball is not listed
        rows = await list_rows(self._routers, name)
        others = {row.own_key for row in rows if row.own_key}
        if key in others:
            if await self._replicas(name, "", rows):  # a ball, perhaps an empty one, which is not listed
                others.add(name.ball_id)
        elif key and any(row.key != key and not row.own_key and not is_companion(row) for row in rows):
            return False
        others -= {key, *also}
        if others:
            raise ValidationError(
                f"{action} must not delete other objects, but a replica without placement can only be deleted with all "
                f"objects of ball id {name.ball_id}: {format_first(sorted(others))}; delete them in the same call"
            )
        return True

    async def _listed(self, name: ObjectId, key: str) -> Counter[str]:
        """Count the listed replicas of each chunk."""
        return _count_replicas(await list_rows(self._routers, name), name, key)

    async def _replicas(self, name: ObjectId, key: str, rows: Sequence[Metadata] | None = None) -> Counter[str]:
        """
        Count the known replicas of each chunk; 0 for an unlisted chunk that may have a placement.

        A companion is counted first, so that an interrupted delete leaves no companion without its empty ball.

        ``UnavailableError``: a peer returns the metadata of an unlisted chunk, so the listing lacks a peer.

        :param rows: the result of ``list_rows``, if it is known
        """
        if rows is None:
            rows = await list_rows(self._routers, name)
        listed = [row for row in rows if not row.own_key]
        replicas = _count_replicas(rows, name, key)
        if replicas.keys() <= {companion_key(name.ball_id)} - {key}:
            chunk = key or name.chunk(0)
            size = await self._placed_size(name, chunk)
            if size is None:
                return replicas
            if size > 0:  # listings omit empty chunks
                raise UnavailableError(
                    f"deleting chunk {name.bucket_id}/{chunk} failed: it is stored, but no peer lists it; try again "
                    "when every peer answers"
                )
            replicas[chunk] = 0
        elif not key:
            indexes = {
                index
                for version in group_versions(listed)
                for index in range(min(version.num_chunks, max(version.chunks) + 1 + UNLISTED))
            }
            unlisted = [chunk for chunk in map(name.chunk, sorted(indexes)) if chunk not in replicas]
            placed = set[str]()

            async def look(chunk: str) -> None:
                if await self._placed_size(name, chunk) is not None:
                    placed.add(chunk)

            await for_each(unlisted, look, self._max_concurrency)
            replicas.update({chunk: 0 for chunk in unlisted if chunk in placed})
        return replicas

    async def _placed_size(self, name: ObjectId, chunk: str) -> int | None:
        """Return the size of a ball's chunk with a placement, 0 if no peer returns it; None if it has none."""
        try:
            found = await chunk_metadata(self._routers, name.bucket_id, chunk)
        except NotFoundError:
            return None
        except UnavailableError:
            return 0
        return found.size if found.ball_id == name.ball_id else None  # else an object with a key of its own

    async def _delete_chunks(self, bucket_id: str, replicas: Mapping[str, int]) -> Counter[str]:
        """
        Delete chunks until a delete counts too few replicas; return the number of deleted replicas of each.

        A failure is raised only after all deletes have ended: a late one could delete what is written next under the
        key.
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
                pass  # no placement
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
        """Delete a ball on all peers, with or without placement; return the number of replicas."""
        answer = await self._routers.request(
            lambda router, options: router.delete_by_ball_id(
                name.ball_id, name.bucket_id, **options, force=self._force
            ),
            final=(RequestTimeoutError,),
        )
        return answer.n_deletes

    async def _delete(self, name: ObjectId, keys: Iterable[str]) -> int:
        """Delete a ball on all peers and the placement of its chunks; return the number of replicas."""
        deleted = await self._delete_ball(name)
        return deleted + (await self._delete_chunks(name.bucket_id, dict.fromkeys(keys, 0))).total()

    async def remove_listed(
        self, name: ObjectId, rows: Collection[Metadata], also: Collection[str] | None = None
    ) -> int:
        """
        Delete an object by the chunks that a complete listing of its bucket shows, one request each.

        Returns the number of deleted replicas. This confirms nothing, so the caller lists the bucket again: its rows
        repeat, so they do not show how many replicas there are.

        ``UnavailableError``: a peer does not answer; the remaining chunks were not deleted.

        :param rows: all chunks of the object in the listing
        :param also: see ``delete``; None = all objects with this ball id may be deleted
        """
        bucket_id = name.bucket_id
        companions = {row.key: ObjectId(bucket_id, row.ball_id).chunk(0) for row in rows if is_companion(row)}
        # The listing shows an empty object only by its companion, so that is deleted last.
        data = {*companions.values(), *(row.key for row in rows)} - companions.keys()
        keys = [*sorted(data), *companions]
        action = f"deleting {name}, which is incomplete,"
        try:
            counts = await self._delete_chunks(bucket_id, dict.fromkeys(keys, 1))
        except RequestTimeoutError:
            await require_all_peers(self._routers, action, bucket_id)  # a hung peer would delay every delete
            raise
        missed = [key for key, number in counts.items() if not number]
        missed += [empty for key, empty in companions.items() if counts[empty] < counts[key]]
        if missed:  # a silent peer keeps its replica, and its placement is forgotten
            await require_all_peers(self._routers, action, bucket_id)
        deleted = sum(number for key, number in counts.items() if key not in companions)
        if not missed and len(counts) == len(keys):
            return deleted
        # A replica without placement can't be deleted by its key.
        return deleted + await (self._delete(name, keys) if also is None else self.remove_object(name, also))

    async def empty_bucket(self, bucket_id: str) -> DeleteBucketResponse:
        """
        Delete every listed ball of a bucket until the listing is empty.

        ``UnavailableError``: a peer did not answer in all tries, so the bucket could not be listed.
        """
        started = time.monotonic()

        async def list_objects() -> dict[ObjectRow, list[Metadata]]:
            listing = await self._routers.with_retries(lambda: list_bucket(self._routers, bucket_id))
            return await run_in_thread(lambda: group_by_object(listing.balls))

        rows, failed = await delete_until_unlisted(
            list_objects, lambda objects: self._delete_all(bucket_id, objects), min_rounds=3
        )
        seen = {own_key or ball_id for ball_id, own_key in rows}
        failures = {own_key or ball_id: why for (ball_id, own_key), why in failed.items()}
        new = "it was written, or brought back by a peer, while the bucket was deleted; delete the bucket again"
        left = {ball: new if why is None else why for ball, why in failures.items()}
        return DeleteBucketResponse(
            bucket_id=bucket_id,
            deleted=len(seen) - len(left),
            failed=len(left),
            total=len(seen),
            keys=sorted(seen - left.keys()),
            failures=left,
            response_time=round(time.monotonic() - started, 6),
        )

    async def _delete_all(
        self, bucket_id: str, objects: Mapping[ObjectRow, Iterable[Metadata]]
    ) -> dict[ObjectRow, str]:
        """
        Delete balls by their listed chunks, with all objects of their ids; return the failures.

        The first ball with an ``UnavailableError`` stops the others: a listing finds out whether a peer is silent.

        ``UnavailableError``: a peer is hung.
        """
        failures: dict[str, str] = {}
        unavailable: UnavailableError | None = None
        balls: defaultdict[str, list[Metadata]] = defaultdict(list)
        for (ball_id, _), rows in objects.items():
            balls[ball_id].extend(rows)

        async def delete(ball_id: str) -> None:
            nonlocal unavailable
            if unavailable:
                return
            try:
                await self.remove_listed(ObjectId(bucket_id, ball_id), balls[ball_id])
            except MictlanXError as error:
                failures[ball_id] = str(error)
                if isinstance(error, UnavailableError):
                    unavailable = error

        await for_each(list(balls), delete, self._max_concurrency)
        if unavailable and not unavailable.transient:
            raise unavailable
        return {row: failures[row[0]] for row in objects if row[0] in failures}


async def delete_until_unlisted(
    list_keys: Callable[[], Awaitable[dict[K, V]]],
    delete: Callable[[dict[K, V]], Awaitable[Mapping[K, F]]],
    min_rounds: int,
) -> tuple[set[K], dict[K, F | None]]:
    """
    List keys and delete them, until no key is listed or only failures are left.

    Returns all keys ever listed, and the keys still listed with their failures (None for a key without a try).

    :param delete: returns the failures by key
    :param min_rounds: minimum number of tries for the same failures
    """
    seen: set[K] = set()
    failures: Mapping[K, F] = {}
    for round_number in range(ROUNDS + 1):
        listed = await list_keys()
        seen.update(listed)
        stuck = round_number >= min_rounds and listed.keys() == failures.keys()
        if not listed or stuck or round_number == ROUNDS:
            break
        failures = await delete(listed)
    return seen, {key: failures.get(key) for key in listed}


def _count_replicas(rows: Iterable[Metadata], name: ObjectId, key: str) -> Counter[str]:
    """
    Count the listed replicas of each chunk to delete; the companion, which comes first, goes with chunk 0.

    Without a key, objects with keys of their own are left out.
    """
    chosen = [
        row
        for row in rows
        if (row.key == key if key else not row.own_key) or (key == name.chunk(0) and is_companion(row))
    ]
    return Counter(row.key for row in sorted(chosen, key=is_companion, reverse=True))


def _shortfall(action: str, counts: Counter[str], replicas: Mapping[str, int], cause: str) -> str:
    """Build the error message for a delete that may be incomplete."""
    short = [
        f"{key} ({counts[key]} of {number} replicas)"
        for key, number in sorted(replicas.items())
        if counts[key] < number
    ]
    missed = f"; not deleted: {', '.join(short[:3])}{' and others' if short[3:] else ''}" if short else ""
    return f"{action} is incomplete: {cause}{missed}; delete it again when every peer answers"
