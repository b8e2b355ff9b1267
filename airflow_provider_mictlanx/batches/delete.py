"""Many balls of a bucket deleted: those of a list, or all under a prefix, until no such one is listed any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from airflow_provider_mictlanx.batches.runner import Batch, BatchResult, Failure, Item
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.errors import UnavailableError
from airflow_provider_mictlanx.client.object_ids import original_key
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger

log = get_logger(__name__)


ROUNDS = 10
"""How often a prefix is listed and emptied before what still comes in is reported."""


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
    seen: set[str] = set()
    seconds = 0.0
    failures: list[Failure] = []
    permanently_failed = False
    for round_number in range(ROUNDS + 1):
        left = await _list_keys(client, bucket_id, prefix, timeout)
        seen |= left
        failed = {failure.key for failure in failures}
        if not left or round_number == ROUNDS or (left <= failed and round_number >= 1):
            break
        result = await delete_keys(
            client,
            bucket_id,
            sorted(left),
            timeout=timeout,
            max_concurrency=max_concurrency,
            allow_reserved_bucket=allow_reserved_bucket,
            log_progress=log_progress,
        )
        seconds += result.response_time
        failures, permanently_failed = result.failures, result.permanently_failed
    known = {failure.key for failure in failures}
    came_in = [_added_meanwhile(bucket_id, key) for key in sorted(left - known)]
    failures = [failure for failure in failures if failure.key in left] + came_in
    return BatchResult(
        total=len(seen),
        done=len(seen) - len(failures),
        skipped=0,
        done_size=0,
        response_time=round(seconds, 6),
        failures=failures,
        permanently_failed=bool(failures) and permanently_failed and not came_in,
    )


async def _list_keys(client: AsyncClient, bucket_id: str, prefix: str, timeout: float) -> set[str]:
    listing = unwrap(await client.get_chunks_by_bucket_id(bucket_id, timeout))
    keys = {original_key(chunk.ball_id, chunk.tags) for chunk in listing.balls}
    return {key for key in keys if key.startswith(prefix)}


def _added_meanwhile(bucket_id: str, key: str) -> Failure:
    message = "it came in, or came back, while the prefix was deleted"
    return Failure(bucket_id=bucket_id, key=key, code=UnavailableError.default_error_code, message=message)
