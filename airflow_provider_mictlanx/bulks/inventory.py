"""
Find the balls that records acknowledge, but the storage has lost.

A record shows that a ball was stored once; only the storage shows that it still is. A listing shows announcements, not
data. That is enough for a ball that was announced before a record acknowledged it. A ball that was announced later, or
that a storage check could not read, is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial

from airflow_provider_mictlanx.bulks.plan import PlannedBall
from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.client.concurrency import for_each, run_in_thread
from airflow_provider_mictlanx.client.empty_objects import companion_key, with_empty_objects
from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
    UpstreamProtocolError,
)
from airflow_provider_mictlanx.client.models import Ball, Metadata
from airflow_provider_mictlanx.client.object_ids import make_ball_id
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.versions import FILTERS_TAG, group_versions

ASKED_ONE_BY_ONE = 16
"""Up to this number, balls of a bucket are looked up one by one: a listing of unknown length may cost more."""

ROWS_PER_BALL = 1_000
"""Limit for a listing, in rows per ball: the listing of a bucket far larger than the bulk is not read to its end."""

ROW = 500
"""Approximate size of a row of a listing, in bytes."""

MAX_LISTING_SIZE = 256 * 1024**2
"""Limit for a listing, in bytes: its rows take five times as much memory."""

AT_ONCE = 8
"""Limit for the balls that are looked up at the same time."""


@dataclass(frozen=True)
class Inventory:
    """
    Find the balls of a plan that the storage does not have.

    :ivar store: records of the bulk; listing their small bucket shows whether every peer answers
    """

    store: RecordStore

    async def lost(
        self, balls: Sequence[PlannedBall], acknowledged: Mapping[int, int], in_doubt: Set[int] = frozenset()
    ) -> set[int]:
        """
        Return the acknowledged balls that the storage does not have with the plan's checksum.

        Each bucket is listed once, or its balls are looked up one by one if there are few. An empty ball without its
        companion counts as lost, so that it is put again. A ball that was announced after the record that acknowledges
        it is read: the record is about earlier data. Raises ``UnavailableError`` if a peer does not answer, so a
        missing ball can't be confirmed as lost.

        :param acknowledged: time of the acknowledging record, by ball (nanoseconds since 1970, by the peers' clocks)
        :param in_doubt: balls to read in any case, since a storage check could not read them
        """
        single: list[int] = []
        by_bucket: defaultdict[str, list[int]] = defaultdict(list)
        for index in sorted(acknowledged):
            by_bucket[balls[index].bucket_id].append(index)
        announced: dict[int, int] = {}
        for bucket_id, wanted in by_bucket.items():
            rows = None if len(wanted) <= ASKED_ONE_BY_ONE else await self._list(bucket_id, len(wanted))
            if rows is None:
                single += wanted
            else:
                announced |= await run_in_thread(partial(_announced, rows, balls, wanted))

        async def look_up(index: int) -> None:
            if (found := await self._find(balls[index])) is not None:
                announced[index] = found.updated_at

        await for_each(single, look_up, AT_ONCE)
        newer = {index for index, at in announced.items() if at > acknowledged[index] and balls[index].size}

        async def read(index: int) -> None:
            if await self._find(balls[index], check_storage=True) is None:
                del announced[index]

        await for_each(sorted(newer | announced.keys() & in_doubt), read, AT_ONCE)
        return acknowledged.keys() - announced.keys()

    async def _list(self, bucket_id: str, balls: int) -> list[Metadata] | None:
        """List a bucket, confirmed by every peer; None if it is far larger than the bulk."""
        longest = min(balls * ROWS_PER_BALL * ROW, MAX_LISTING_SIZE)
        listed = await self.store.client.get_chunks_by_bucket_id(bucket_id, self.store.timeout, max_size=longest)
        try:
            return unwrap(listed).balls
        except UpstreamProtocolError as error:
            if error.too_long:
                return None
            raise

    async def _find(self, ball: PlannedBall, check_storage: bool = False) -> Ball | None:
        """Return the metadata of a ball; None if it is not stored as planned, or is empty without its companion."""
        found = await self.store.client.get_metadata(
            ball.bucket_id, ball.key, self.store.timeout, check_storage=check_storage
        )
        try:
            stored = unwrap(found)
            if ball.size == 0:
                key = companion_key(stored.ball_id)
                unwrap(await self.store.client.get_metadata_by_key(ball.bucket_id, key, self.store.timeout))
        except NotFoundError:
            return None
        except (UnavailableError, GetChunkError, IntegrityError) as error:
            await self.store.check_peers(str(error))
            return None  # every peer answers, so the peer where the ball is placed has lost it
        return stored if _is_planned(stored, ball) else None


def _announced(rows: Iterable[Metadata], balls: Sequence[PlannedBall], wanted: Iterable[int]) -> dict[int, int]:
    """Return the wanted balls that a bucket's listing shows as planned, with the time of their announcement."""
    by_id = {make_ball_id(balls[index].key): index for index in wanted}
    chunks: defaultdict[int, list[Metadata]] = defaultdict(list)
    for row in rows:
        if (index := by_id.get(row.ball_id)) is not None:
            chunks[index].append(row)
    # The newest complete version comes first: readers get that one.
    newest = {
        index: versions[0]
        for index, listed in chunks.items()
        if (versions := group_versions(with_empty_objects(listed)))
    }
    return {
        index: version.updated_at
        for index, version in newest.items()
        if version.is_complete and _is_planned(version.as_ball(), balls[index])
    }


def _is_planned(found: Ball, ball: PlannedBall) -> bool:
    """Return whether a ball has the planned bytes. A ball of one chunk may only have that chunk's checksum."""
    checksum = found.checksum or (found.chunks[0].checksum if found.num_chunks == 1 else "")
    plain = found.tags.get(FILTERS_TAG, "") in ("", "[]")
    return plain and (found.size, checksum) == (ball.size, ball.checksum)
