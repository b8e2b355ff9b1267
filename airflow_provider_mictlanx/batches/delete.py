"""Delete many balls of a bucket: those with given keys, or all with a prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from airflow_provider_mictlanx.batches.runner import Batch, BatchResult, Failure, Item
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.errors import UnavailableError
from airflow_provider_mictlanx.client.object_ids import original_key
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.transfer.delete import delete_until_unlisted

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

    async def delete(item: Item) -> bool:
        response = await client.delete(
            item.key, item.bucket_id, options.timeout, allow_reserved_bucket=options.allow_reserved_bucket
        )
        return unwrap(response).n_deletes > 0

    items = [Item(bucket_id, key) for key in dict.fromkeys(keys)]
    return await Batch(options.max_concurrency, log_progress, "deleting").run(items, delete)


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

    async def list_keys() -> dict[str, None]:
        listing = unwrap(await client.get_chunks_by_bucket_id(bucket_id, options.timeout))
        keys = {original_key(chunk.ball_id, chunk.tags) for chunk in listing.balls}
        return dict.fromkeys(sorted(key for key in keys if key.startswith(prefix)))

    async def delete(keys: Iterable[str]) -> dict[str, Failure]:
        result = await delete_keys(client, bucket_id, keys, options, log_progress)
        rounds.append(result)
        return {failure.key: failure for failure in result.failures}

    seen, left = await delete_until_unlisted(list_keys, delete, min_rounds=1)
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
