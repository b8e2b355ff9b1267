"""Delete many balls of a bucket: those with given keys, or all with a prefix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from airflow_provider_mictlanx.batches.runner import Batch, BatchResult, Failure, Item
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import run_in_thread, sort_in_slices
from airflow_provider_mictlanx.client.errors import MictlanXError, UnavailableError
from airflow_provider_mictlanx.client.models import Metadata
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.transfer.delete import delete_until_unlisted
from airflow_provider_mictlanx.client.transfer.upload_window import FEWEST_BALLS, listing_limit
from airflow_provider_mictlanx.client.versions import group_by_object, listed_key

log = get_logger(__name__)


@dataclass(frozen=True)
class DeleteOptions:
    """
    Options of the deletion of many balls.

    :ivar timeout: seconds for each request
    :ivar max_concurrency: limit for the balls that are deleted at the same time
    :ivar allow_reserved_bucket: allow a bucket that may contain a bulk's records
    """

    timeout: float = 120
    max_concurrency: int = 8
    allow_reserved_bucket: bool = False


async def delete_keys(
    client: AsyncClient,
    bucket_id: str,
    keys: Iterable[str],
    options: DeleteOptions,
    log_progress: Callable[[str], None] = log.info,
) -> BatchResult:
    """
    Delete balls by their keys, and confirm that they are gone; a missing ball is skipped.

    Many balls share two listings of their bucket, unless it is far larger. Raises ``UnavailableError`` if a peer does
    not answer the second one.

    :param keys: the keys; duplicates are ignored
    """
    wanted = dict.fromkeys(keys, ())
    listed: dict[str, list[Metadata]] = {}
    if len(wanted) > FEWEST_BALLS:
        try:
            listed = await _list_objects(client, bucket_id, wanted.__contains__, options, listing_limit(len(wanted)))
        except MictlanXError as error:
            log.info("Listing bucket %s failed; its balls are deleted one by one: %s", bucket_id, error)
    # If a ball and an object with a key of its own have the same name, only the ball is deleted.
    known = {key: rows for key, rows in listed.items() if len(group_by_object(rows)) == 1}
    result = BatchResult()
    if known:
        result = await _delete_listed(client, bucket_id, known.__contains__, wanted, options, log_progress, known)
    others = {key: () for key in wanted if key not in known}
    return _combine(result, await _delete_each(client, bucket_id, others, wanted, options, log_progress))


def _combine(one: BatchResult, other: BatchResult) -> BatchResult:
    failed = [result for result in (one, other) if result.failures]
    return BatchResult(
        total=one.total + other.total,
        done=one.done + other.done,
        skipped=one.skipped + other.skipped,
        response_time=round(one.response_time + other.response_time, 6),
        failures=one.failures + other.failures,
        permanently_failed=bool(failed) and all(result.permanently_failed for result in failed),
    )


async def _delete_each(
    client: AsyncClient,
    bucket_id: str,
    objects: Mapping[str, Collection[Metadata]],
    also: Collection[str],
    options: DeleteOptions,
    log_progress: Callable[[str], None],
) -> BatchResult:
    """
    Delete objects; the first one with an ``UnavailableError`` stops those that would not be confirmed.

    :param objects: by key, their chunks in a complete listing of the bucket; empty if the delete is to be confirmed
    :param also: see ``AsyncClient.delete``
    """
    unavailable: list[UnavailableError] = []

    async def delete(item: Item) -> bool:
        listed = objects[item.key]
        if listed and unavailable:
            return False  # the next listing finds out whether a peer is silent
        response = await client.delete(
            item.key,
            item.bucket_id,
            options.timeout,
            also=also,
            listed=listed,
            allow_reserved_bucket=options.allow_reserved_bucket,
        )
        try:
            return unwrap(response).n_deletes > 0
        except UnavailableError as error:
            unavailable.append(error)
            raise

    items = [Item(bucket_id, key) for key in objects]
    result = await Batch(options.max_concurrency, log_progress, "deleting").run(items, delete)
    for error in unavailable:
        if any(objects.values()) and not error.transient:  # a hung peer: another listing would wait for it
            raise error
    return result


async def delete_prefix(
    client: AsyncClient,
    bucket_id: str,
    prefix: str,
    options: DeleteOptions,
    log_progress: Callable[[str], None] = log.info,
) -> BatchResult:
    """
    Delete every ball whose key begins with a prefix, complete or not, and repeat until the listing is empty.

    Raises ``UnavailableError`` if a peer does not answer, so the bucket can't be listed.
    """
    return await _delete_listed(client, bucket_id, lambda key: key.startswith(prefix), None, options, log_progress)


async def _delete_listed(
    client: AsyncClient,
    bucket_id: str,
    is_wanted: Callable[[str], bool],
    also: Collection[str] | None,
    options: DeleteOptions,
    log_progress: Callable[[str], None],
    first: dict[str, list[Metadata]] | None = None,
) -> BatchResult:
    """
    Delete the listed objects with certain keys, and repeat until none is listed.

    :param also: see ``_delete_each``; None = the listed objects with such keys
    :param first: what the first listing shows, if it is known
    """
    rounds: list[BatchResult] = []

    async def list_objects() -> dict[str, list[Metadata]]:
        return await _list_objects(client, bucket_id, is_wanted, options) if rounds or first is None else first

    async def delete(objects: dict[str, list[Metadata]]) -> dict[str, Failure]:
        together = objects.keys() if also is None else also
        result = await _delete_each(client, bucket_id, objects, together, options, log_progress)
        rounds.append(result)
        return {failure.key: failure for failure in result.failures}

    seen, left = await delete_until_unlisted(list_objects, delete, min_rounds=1)
    failures = [failure or _listed_again(bucket_id, key) for key, failure in left.items()]
    return BatchResult(
        total=len(seen),
        done=len(seen) - len(failures),
        response_time=round(sum(result.response_time for result in rounds), 6),
        failures=failures,
        permanently_failed=bool(left) and all(left.values()) and rounds[-1].permanently_failed,
    )


async def _list_objects(
    client: AsyncClient,
    bucket_id: str,
    is_wanted: Callable[[str], bool],
    options: DeleteOptions,
    max_size: int | None = None,
) -> dict[str, list[Metadata]]:
    """Return the listed chunks of the objects with certain keys, by key."""
    listing = unwrap(await client.get_chunks_by_bucket_id(bucket_id, options.timeout, max_size=max_size))

    def select() -> dict[str, list[Metadata]]:
        objects: defaultdict[str, list[Metadata]] = defaultdict(list)
        for chunk in listing.balls:
            if is_wanted(key := listed_key(chunk)):
                objects[key].append(chunk)
        return {key: objects[key] for key in sort_in_slices(list(objects), key=str)}

    return await run_in_thread(select)


def _listed_again(bucket_id: str, key: str) -> Failure:
    message = "it was written, or restored by a peer, while it was deleted; run the deletion again"
    return Failure(bucket_id=bucket_id, key=key, code=UnavailableError.default_error_code, message=message)
