"""
Remove from a bucket what only its raw listing shows: uploads that stopped half-way, and old records of a bulk.

An upload that stopped half-way is a ball of which some, but not all chunks are announced. No listing of objects shows
it, but its chunks use space. The raw listing is not enough to find one: it may hide the complete version of a ball
behind a newer incomplete one, and a peer may have lost a chunk that the placement service still knows. The companion of
an empty ball is part of a complete ball.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from airflow_provider_mictlanx.batches.delete import (
    DeleteOptions,
    DeleteResult,
    cutoff,
    delete_unchanged,
    is_complete,
    list_by_key,
    newest,
)
from airflow_provider_mictlanx.bulks.records import is_record
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import for_each, run_in_thread
from airflow_provider_mictlanx.client.errors import NotFoundError, UnavailableError, ValidationError
from airflow_provider_mictlanx.client.models import Metadata
from airflow_provider_mictlanx.client.object_ids import RESERVED_BUCKETS, ObjectId
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.versions import group_versions

log = get_logger(__name__)


async def sweep_bucket(
    client: AsyncClient,
    bucket_id: str,
    older_than: timedelta | datetime | str,
    options: DeleteOptions,
    *,
    dry_run: bool = True,
    log_progress: Callable[[str], None] = log.info,
) -> DeleteResult:
    """
    Delete the uploads of a bucket that stopped half-way, and the records of a bulk that are all old.

    Nothing younger than ``older_than`` is deleted: no upload with one younger chunk, and no record of a bulk with one
    younger record. ``skipped`` counts those. Complete balls are neither deleted nor counted. The bucket is listed again
    before anything is deleted, and what changed is kept.

    Raises ``UnavailableError`` if a peer does not answer, so a ball may only seem to be incomplete.

    :param bucket_id: a bucket; the records of a bulk are in its own bucket, ``bulk-{bulk_id}``
    :param older_than: an age or a point in time, see ``batches.delete.cutoff``
    :param dry_run: delete nothing
    """
    _check_in_the_past(older_than)
    options = replace(options, allow_reserved_bucket=True)
    objects, now = await list_by_key(client, bucket_id, options.timeout)
    before = cutoff(older_than, now)
    records, stopped = await run_in_thread(lambda: _find_rubbish(bucket_id, objects))
    newest_record = max(map(newest, records.values()), default=0)
    old = {key: rows for key, rows in stopped.items() if newest(rows) < before}
    chosen = await _confirm_incomplete(client, bucket_id, old, options) if old else {}
    chosen |= records if newest_record < before else {}
    chosen = {key: chosen[key] for key in sorted(chosen)}
    result = await delete_unchanged(client, bucket_id, chosen, options, dry_run=dry_run, log_progress=log_progress)
    result.skip(len(records) + len(stopped) - len(chosen))
    return result


def _check_in_the_past(older_than: timedelta | datetime | str) -> None:
    if cutoff(older_than, now := time.time()) >= now * 1e9:
        raise ValidationError(
            f"older_than must be an age above 0, or a time in the past, got {older_than!r}: newer uploads may be under "
            "way"
        )


def _find_rubbish(
    bucket_id: str, objects: Mapping[str, Sequence[Metadata]]
) -> tuple[dict[str, Sequence[Metadata]], dict[str, Sequence[Metadata]]]:
    """Return the records of a bulk, and the balls of which some chunks are missing, by key."""
    records: dict[str, Sequence[Metadata]] = {}
    stopped: dict[str, Sequence[Metadata]] = {}
    for key, rows in objects.items():
        if bucket_id.startswith(RESERVED_BUCKETS) and all(map(is_record, rows)):
            records[key] = rows
        elif not is_complete(rows) and _has_missing_chunks(rows):
            stopped[key] = rows
    return records, stopped


def _has_missing_chunks(rows: Sequence[Metadata]) -> bool:
    """Return whether the tags of every chunk say how many there should be; else other clients may read the object."""
    return all(row.num_chunks is not None for row in rows) and bool(group_versions(rows))


async def _confirm_incomplete(
    client: AsyncClient, bucket_id: str, old: Mapping[str, Sequence[Metadata]], options: DeleteOptions
) -> dict[str, Sequence[Metadata]]:
    """Return the balls that no listing of objects shows, and whose missing chunks were never announced."""
    complete = {ball.key for ball in unwrap(await client.list_balls(bucket_id, timeout=options.timeout))}
    confirmed: dict[str, Sequence[Metadata]] = {}

    async def confirm(key: str) -> None:
        listed = {(row.key, row.checksum) for row in old[key]}
        for version in group_versions(old[key]):
            missing = next(index for index in range(version.num_chunks) if index not in version.chunks)
            chunk = ObjectId(bucket_id, version.ball_id).chunk(missing)
            try:
                found = unwrap(await client.get_metadata_by_key(bucket_id, chunk, options.timeout)).metadata
                if (found.key, found.checksum) in listed:  # of another incomplete version
                    continue
            except NotFoundError:
                continue
            except UnavailableError as error:
                log.warning("%s/%s is kept, because a peer may have its chunk %d: %s", bucket_id, key, missing, error)
            return
        confirmed[key] = old[key]

    await for_each(old.keys() - complete, confirm, options.max_concurrency)
    return confirmed
