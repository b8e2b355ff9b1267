"""
What the storage still has of the balls that records acknowledge.

Records tell what was; only the storage tells what is. A complete listing that shows a ball with the plan's checksum is enough
for one that a record acknowledges (data was stored under that announcement); a ball that a storage check could not read is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from airflow_provider_mictlanx.bulks.inthread import in_thread
from airflow_provider_mictlanx.bulks.plan import PlannedBall
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
    UpstreamProtocolError,
)
from airflow_provider_mictlanx.client.models import Ball, Metadata
from airflow_provider_mictlanx.client.names import ball_id_of
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.client.versions import FILTERS_TAG, versions_of
from airflow_provider_mictlanx.client.workers import for_each

ASKED_ONE_BY_ONE = 16
"""So many balls of a bucket are asked for one by one: that costs less than a listing of unknown length."""

ROWS_PER_BALL = 1_000
"""A bucket with more rows than this for each ball is far larger than the bulk: its listing is not read to its end."""

ROW = 500
"""About what a row of a listing takes (bytes)."""

AT_ONCE = 8
"""How many balls are asked for at the same time."""


class Inventory:
    """
    Finds the balls of a plan that the storage does not have.

    :param timeout: of each request (seconds)
    """

    def __init__(self, client: AsyncClient, timeout: float) -> None:
        self._client = client
        self._timeout = timeout

    async def lost(
        self, balls: Sequence[PlannedBall], indexes: Collection[int], in_doubt: Collection[int] = ()
    ) -> set[int]:
        """
        Return the balls that are not listed complete with the plan's checksum.

        Each bucket is listed once, or asked for each ball where that is less. Balls of size 0 are in no listing.
        ``UnavailableError``: a peer does not answer, so a ball cannot be told stored or lost.

        :param indexes: of the balls in question, which records acknowledge
        :param in_doubt: which of them are read, since a storage check could not read them
        """
        single: set[int] = set()
        by_bucket: defaultdict[str, list[int]] = defaultdict(list)
        for index in indexes:
            if index in in_doubt or not balls[index].size:
                single.add(index)
            else:
                by_bucket[balls[index].bucket_id].append(index)
        lost: set[int] = set()
        for bucket_id, wanted in by_bucket.items():
            listing = None if len(wanted) <= ASKED_ONE_BY_ONE else await self._list(bucket_id, len(wanted))
            if listing is None:
                single.update(wanted)
            else:
                lost |= await in_thread(lambda rows=listing, wanted=wanted: _not_listed(rows, balls, wanted))  # type: ignore[misc]

        async def ask(index: int) -> None:
            if not await self._has(balls[index], index in in_doubt):
                lost.add(index)

        await for_each(sorted(single), ask, AT_ONCE)
        return lost

    async def _list(self, bucket_id: str, balls: int) -> list[Metadata] | None:
        """List a bucket with every peer's part in it; None where it is far larger than the bulk."""
        listed = await self._client.get_chunks_by_bucket_id(
            bucket_id, self._timeout, longest=balls * ROWS_PER_BALL * ROW
        )
        try:
            return value_of(listed).balls
        except UpstreamProtocolError as error:
            if error.too_long:
                return None
            raise

    async def _has(self, ball: PlannedBall, read: bool) -> bool:
        """Return whether the storage has a ball, by its own listing or, with ``read``, by reading it."""
        found = await self._client.get_metadata(ball.bucket_id, ball.key, self._timeout, check_storage=read)
        try:
            return _is_planned(value_of(found), ball)
        except NotFoundError:
            return False
        except (GetChunkError, IntegrityError) as error:
            if error.peer_away:
                raise UnavailableError(str(error)) from error
            return False


def _not_listed(rows: Iterable[Metadata], balls: Sequence[PlannedBall], wanted: Iterable[int]) -> set[int]:
    """Return those of the wanted balls of a bucket that its listing does not show as planned."""
    by_id = {ball_id_of(balls[index].key): index for index in wanted}
    chunks: defaultdict[int, list[Metadata]] = defaultdict(list)
    for row in rows:
        if (index := by_id.get(row.ball_id)) is not None:
            chunks[index].append(row)
    return {index for index in by_id.values() if not _shows(chunks[index], balls[index])}


def _shows(chunks: Iterable[Metadata], ball: PlannedBall) -> bool:
    """Return whether the newest complete version among the chunks of a ball is the planned one: it is what readers get."""
    versions = versions_of(chunks)
    return bool(versions) and versions[0].whole and _is_planned(versions[0].as_ball(), ball)


def _is_planned(found: Ball, ball: PlannedBall) -> bool:
    """Return whether a ball has the planned bytes; one of a single chunk may lack the checksum of the whole."""
    checksum = found.checksum or (found.chunks[0].checksum if found.num_chunks == 1 else "")
    plain = found.tags.get(FILTERS_TAG, "") in ("", "[]")
    return plain and (found.size, checksum) == (ball.size, ball.checksum)
