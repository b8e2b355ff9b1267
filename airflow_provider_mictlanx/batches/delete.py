"""Delete many balls of a bucket: those with given keys, or all with a prefix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from airflow_provider_mictlanx.batches.runner import Batch, BatchResult, Failure, Item
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import run_in_thread, sort_in_slices
from airflow_provider_mictlanx.client.errors import UnavailableError
from airflow_provider_mictlanx.client.models import Metadata
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.transfer.delete import delete_until_unlisted
from airflow_provider_mictlanx.client.versions import listed_key

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
    Delete balls by their keys, and confirm each; a missing ball is skipped.

    :param keys: the keys; duplicates are ignored
    """
    return await _delete_each(client, bucket_id, dict.fromkeys(keys, ()), options, log_progress)


async def _delete_each(
    client: AsyncClient,
    bucket_id: str,
    objects: Mapping[str, Collection[Metadata]],
    options: DeleteOptions,
    log_progress: Callable[[str], None],
) -> BatchResult:
    """
    Delete objects; the first one with an ``UnavailableError`` stops those that would not be confirmed.

    :param objects: by key, their chunks in a complete listing of the bucket; empty if the delete is to be confirmed
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
            also=objects.keys(),
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
    rounds: list[BatchResult] = []

    async def list_objects() -> dict[str, list[Metadata]]:
        listing = unwrap(await client.get_chunks_by_bucket_id(bucket_id, options.timeout))

        def select() -> dict[str, list[Metadata]]:
            objects: defaultdict[str, list[Metadata]] = defaultdict(list)
            for chunk in listing.balls:
                if (key := listed_key(chunk)).startswith(prefix):
                    objects[key].append(chunk)
            return {key: objects[key] for key in sort_in_slices(list(objects), key=str)}

        return await run_in_thread(select)

    async def delete(objects: dict[str, list[Metadata]]) -> dict[str, Failure]:
        result = await _delete_each(client, bucket_id, objects, options, log_progress)
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


def _listed_again(bucket_id: str, key: str) -> Failure:
    message = "it was written, or restored by a peer, while the prefix was deleted; run the deletion again"
    return Failure(bucket_id=bucket_id, key=key, code=UnavailableError.default_error_code, message=message)
