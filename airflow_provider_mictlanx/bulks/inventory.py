"""
Find the balls that records acknowledge, but the storage has lost.

A record shows that a ball was stored once; only the storage shows that it still is. A listing shows announcements, not
data. That is enough for a ball that was announced before a record acknowledged it. A ball that was announced later, or
that a storage check could not read, is read.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set

from airflow_provider_mictlanx.batches.runner import Item
from airflow_provider_mictlanx.bulks.plan import PlannedBall
from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.client.async_client import AsyncClient
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
from airflow_provider_mictlanx.client.transfer.upload_window import FEWEST_BALLS, listing_limit
from airflow_provider_mictlanx.client.versions import group_versions, plain_checksum

AT_ONCE = 8
"""Limit for the balls that are looked up at the same time."""


async def find_lost(
    store: RecordStore, balls: Sequence[PlannedBall], acknowledged: Mapping[int, int], in_doubt: Set[int]
) -> set[int]:
    """
    Return the acknowledged balls that the storage does not have with the plan's checksum.

    Each bucket is listed once, or its balls are looked up one by one if there are few. An empty ball without its
    companion counts as lost, so that it is put again. A ball that was announced after the record that acknowledges it
    is read: the record is about earlier data. Raises ``UnavailableError`` if a peer does not answer, so a missing ball
    can't be confirmed as lost.

    :param store: records of the bulk; listing their small bucket shows whether every peer answers
    :param acknowledged: time of the acknowledging record, by ball (nanoseconds since 1970, by the peers' clocks)
    :param in_doubt: balls to read in any case, since a storage check could not read them
    """
    single: list[int] = []
    by_bucket: defaultdict[str, list[int]] = defaultdict(list)
    for index in sorted(acknowledged):
        by_bucket[balls[index].bucket_id].append(index)
    announced: dict[int, int] = {}
    for bucket_id, wanted in by_bucket.items():
        listed = await list_planned(store.client, bucket_id, balls, wanted, store.timeout)
        if listed is None:
            single += wanted
        else:
            announced |= {index: ball.updated_at for index, ball in listed.items()}

    async def look_up(index: int) -> None:
        if (found := await _find(store, balls[index])) is not None:
            announced[index] = found.updated_at

    await for_each(single, look_up, AT_ONCE)
    newer = {index for index, at in announced.items() if at > acknowledged[index] and balls[index].size}

    async def read(index: int) -> None:
        if await _find(store, balls[index], check_storage=True) is None:
            del announced[index]

    await for_each(sorted(newer | announced.keys() & in_doubt), read, AT_ONCE)
    return acknowledged.keys() - announced.keys()


async def _find(store: RecordStore, ball: PlannedBall, check_storage: bool = False) -> Ball | None:
    """Return the metadata of a ball; None if it is not stored as planned, or is empty without its companion."""
    client, timeout = store.client, store.timeout
    try:
        stored = unwrap(await client.get_metadata(ball.bucket_id, ball.key, timeout, check_storage=check_storage))
        if ball.size == 0:
            unwrap(await client.get_metadata_by_key(ball.bucket_id, companion_key(stored.ball_id), timeout))
    except NotFoundError:
        return None
    except (UnavailableError, GetChunkError, IntegrityError) as error:
        await store.check_peers(str(error))
        return None  # every peer answers, so the peer where the ball is placed has lost it
    return stored if _is_planned(stored, ball) else None


async def list_planned(
    client: AsyncClient, bucket_id: str, balls: Sequence[Item | PlannedBall], wanted: Sequence[int], timeout: float
) -> dict[int, Ball] | None:
    """
    Return the wanted balls that a complete listing of their bucket shows as planned, by index.

    None if they are few, or the bucket is far larger than the bulk: then looking up each ball is cheaper. Raises
    ``UnavailableError`` if a peer does not answer.

    :param wanted: indexes of balls of this bucket
    """
    if len(wanted) <= FEWEST_BALLS:
        return None
    listed = await client.get_chunks_by_bucket_id(bucket_id, timeout, max_size=listing_limit(len(wanted)))
    try:
        rows = unwrap(listed).balls
    except UpstreamProtocolError as error:
        if error.too_long:
            return None
        raise
    return await run_in_thread(lambda: _select_planned(rows, balls, wanted))


async def find_listed(
    client: AsyncClient, balls: Sequence[Item | PlannedBall], wanted: Iterable[int], timeout: float
) -> dict[int, Ball]:
    """
    Return the wanted balls that ``list_planned`` finds in their buckets, by index.

    A bucket that can't be listed is left out, since a lookup of each ball raises the better error.
    """
    by_bucket: defaultdict[str, list[int]] = defaultdict(list)
    for index in wanted:
        by_bucket[balls[index].bucket_id].append(index)
    found: dict[int, Ball] = {}
    for bucket_id, indexes in by_bucket.items():
        with contextlib.suppress(UnavailableError):  # the balls are looked up one by one
            found |= await list_planned(client, bucket_id, balls, indexes, timeout) or {}
    return found


def _select_planned(
    rows: Iterable[Metadata], balls: Sequence[Item | PlannedBall], wanted: Iterable[int]
) -> dict[int, Ball]:
    by_id = {make_ball_id(balls[index].key): index for index in wanted}
    chunks: defaultdict[int, list[Metadata]] = defaultdict(list)
    for row in rows:
        if not row.own_key and (index := by_id.get(row.ball_id)) is not None:
            chunks[index].append(row)
    # The newest complete version comes first: readers get that one.
    newest = (
        (index, versions[0].as_ball())
        for index, listed in chunks.items()
        if (versions := group_versions(with_empty_objects(listed))) and versions[0].is_complete
    )
    return {index: ball for index, ball in newest if _is_planned(ball, balls[index])}


def _is_planned(found: Ball, ball: Item | PlannedBall) -> bool:
    """Return whether a ball has the planned bytes."""
    return bool(ball.checksum) and (found.size, plain_checksum(found)) == (ball.size, ball.checksum)
