"""Many balls of a bucket deleted: those of a list, or all under a prefix, until no such one is listed any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from airflow_provider_mictlanx.batches.runner import Batch, BatchResult, Failure, Item
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.errors import UnavailableError
from airflow_provider_mictlanx.client.object_ids import original_key
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.transfer.delete import delete_until_unlisted

log = get_logger(__name__)


async def delete_keys(
    client: AsyncClient,
    bucket_id: str,
    keys: Iterable[str],
    *,
    timeout: float = 120,
    max_concurrency: int = 8,
    allow_reserved_bucket: bool = False,
    log_progress: Callable[[str], None] = log.info,
) -> BatchResult:
    """
    Delete balls by their keys, and see each gone; one that is not there is skipped.

    :param keys: each is deleted once, however often it is in there
    :param timeout: for each request (seconds)
    :param max_concurrency: the most balls at once
    :param allow_reserved_bucket: whether ``bucket_id`` may be one of a bulk's records
    """

    async def delete(item: Item) -> bool:
        response = await client.delete(item.key, item.bucket_id, timeout, allow_reserved_bucket=allow_reserved_bucket)
        return unwrap(response).n_deletes > 0

    items = [Item(bucket_id, key) for key in dict.fromkeys(keys)]
    return await Batch(max_concurrency, log_progress, "deleting").run(items, delete)


async def delete_prefix(
    client: AsyncClient,
    bucket_id: str,
    prefix: str,
    *,
    timeout: float = 120,
    max_concurrency: int = 8,
    allow_reserved_bucket: bool = False,
    log_progress: Callable[[str], None] = log.info,
) -> BatchResult:
    """
    Delete every ball whose key begins like this, half-written ones too, and list again until there is none.

    Balls of size 0 are in no listing, and are not found by this. ``UnavailableError``: a peer is away, so that the bucket can't
    be listed.
    """
    rounds: list[BatchResult] = []

    async def list_keys() -> dict[str, None]:
        listing = unwrap(await client.get_chunks_by_bucket_id(bucket_id, timeout))
        keys = {original_key(chunk.ball_id, chunk.tags) for chunk in listing.balls}
        return dict.fromkeys(sorted(key for key in keys if key.startswith(prefix)))

    async def delete(keys: Iterable[str]) -> dict[str, Failure]:
        result = await delete_keys(
            client,
            bucket_id,
            keys,
            timeout=timeout,
            max_concurrency=max_concurrency,
            allow_reserved_bucket=allow_reserved_bucket,
            log_progress=log_progress,
        )
        rounds.append(result)
        return {failure.key: failure for failure in result.failures}

    seen, left = await delete_until_unlisted(list_keys, delete, min_rounds=1)
    failures = [failure or _added_meanwhile(bucket_id, key) for key, failure in left.items()]
    return BatchResult(
        total=len(seen),
        done=len(seen) - len(failures),
        skipped=0,
        done_size=0,
        response_time=round(sum(result.response_time for result in rounds), 6),
        failures=failures,
        permanently_failed=bool(left) and all(left.values()) and rounds[-1].permanently_failed,
    )


def _added_meanwhile(bucket_id: str, key: str) -> Failure:
    message = "it came in, or came back, while the prefix was deleted"
    return Failure(bucket_id=bucket_id, key=key, code=UnavailableError.default_error_code, message=message)
