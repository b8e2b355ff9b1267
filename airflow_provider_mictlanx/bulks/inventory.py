"""
What the storage still has of the balls that records acknowledge.

Records tell what was; only the storage tells what is. A listing shows announcements, not data: that is enough for a ball that
was announced before a record acknowledged it. One that was announced since then, or that a storage check could not read, is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial

from airflow_provider_mictlanx.bulks.plan import PlannedBall
from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.client.concurrency import for_each, run_in_thread
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
"""So many balls of a bucket are asked for one by one: that costs less than a listing of unknown length."""

ROWS_PER_BALL = 1_000
"""A bucket with more rows than this for each ball is far larger than the bulk: its listing is not read to its end."""

ROW = 500
"""About what a row of a listing takes (bytes)."""

MAX_LISTING_SIZE = 256 * 1024**2
"""A longer listing is not read either (bytes): as rows it takes five times as much memory."""

AT_ONCE = 8
"""How many balls are asked for at the same time."""


@dataclass(frozen=True)
class Inventory:
    """
    Finds the balls of a plan that the storage does not have.

    :ivar store: of the balls' bulk; listing its small bucket shows whether every peer answers
    """

    store: RecordStore

    async def lost(
        self, balls: Sequence[PlannedBall], acknowledged: Mapping[int, int], in_doubt: Set[int] = frozenset()
    ) -> set[int]:
        """
        Return the acknowledged balls that the storage does not have with the plan's checksum.

        Each bucket is listed once, or asked for each ball where that is less. Balls of size 0 are in no listing.
        A ball that was announced after the record that acknowledges it is read: the record knows nothing of that data.
        ``UnavailableError``: a peer does not answer, so a ball cannot be told stored or lost.

        :param acknowledged: when a record acknowledged each of them (nanoseconds since 1970, by the peers' clocks)
        :param in_doubt: which of them are read in any case, since a storage check could not read them
        """
        single: list[int] = []
        by_bucket: defaultdict[str, list[int]] = defaultdict(list)
        for index in sorted(acknowledged):
            (by_bucket[balls[index].bucket_id] if balls[index].size else single).append(index)
        announced: dict[int, int] = {}
        for bucket_id, wanted in by_bucket.items():
            rows = None if len(wanted) <= ASKED_ONE_BY_ONE else await self._list(bucket_id, len(wanted))
            if rows is None:
                single += wanted
            else:
                announced |= await run_in_thread(partial(_announced, rows, balls, wanted))

        async def ask(index: int) -> None:
            if (found := await self._find(balls[index])) is not None:
                announced[index] = found.updated_at

        await for_each(single, ask, AT_ONCE)
        newer = {index for index, at in announced.items() if at > acknowledged[index] and balls[index].size}

        async def read(index: int) -> None:
            if await self._find(balls[index], check_storage=True) is None:
                del announced[index]

        await for_each(sorted(newer | announced.keys() & in_doubt), read, AT_ONCE)
        return acknowledged.keys() - announced.keys()

    async def _list(self, bucket_id: str, balls: int) -> list[Metadata] | None:
        """List a bucket with every peer's part in it; None where it is far larger than the bulk."""
        longest = min(balls * ROWS_PER_BALL * ROW, MAX_LISTING_SIZE)
        listed = await self.store.client.get_chunks_by_bucket_id(bucket_id, self.store.timeout, max_size=longest)
        try:
            return unwrap(listed).balls
        except UpstreamProtocolError as error:
            if error.too_long:
                return None
            raise

    async def _find(self, ball: PlannedBall, check_storage: bool = False) -> Ball | None:
        """Return a ball as it is listed, or None where it is not there as planned."""
        found = await self.store.client.get_metadata(
            ball.bucket_id, ball.key, self.store.timeout, check_storage=check_storage
        )
        try:
            there = unwrap(found)
        except NotFoundError:
            return None
        except (UnavailableError, GetChunkError, IntegrityError) as error:
            await self.store.check_peers(str(error))
            return None  # every peer answers: the one on which it is placed has lost it
        return there if _is_planned(there, ball) else None


def _announced(rows: Iterable[Metadata], balls: Sequence[PlannedBall], wanted: Iterable[int]) -> dict[int, int]:
    """Return those of the wanted balls of a bucket that its listing shows as planned, and when they were announced."""
    by_id = {make_ball_id(balls[index].key): index for index in wanted}
    chunks: defaultdict[int, list[Metadata]] = defaultdict(list)
    for row in rows:
        if (index := by_id.get(row.ball_id)) is not None:
            chunks[index].append(row)
    # The newest complete version comes first: it is what readers get.
    newest = {index: versions[0] for index, listed in chunks.items() if (versions := group_versions(listed))}
    return {
        index: version.updated_at
        for index, version in newest.items()
        if version.is_complete and _is_planned(version.as_ball(), balls[index])
    }


def _is_planned(found: Ball, ball: PlannedBall) -> bool:
    """Return whether a ball has the planned bytes; one of a single chunk may lack the checksum of the whole."""
    checksum = found.checksum or (found.chunks[0].checksum if found.num_chunks == 1 else "")
    plain = found.tags.get(FILTERS_TAG, "") in ("", "[]")
    return plain and (found.size, checksum) == (ball.size, ball.checksum)
