"""Every ball of a prefix to another place, in the same storage space or another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airflow_provider_mictlanx.batches.runner import Batch, BatchResult, Item, TransferOptions
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger

log = get_logger(__name__)


async def copy_all(
    client: AsyncClient,
    items: Sequence[Item],
    dest_bucket_id: str,
    rename: Callable[[str], str],
    *,
    dest: AsyncClient,
    rf: int = 1,
    replace: bool = False,
    allow_reserved_bucket: bool = False,
    options: TransferOptions,
    log_progress: Callable[[str], None] = log.info,
) -> BatchResult:
    """
    Copy balls into a bucket; where the same bytes are there already, none are sent.

    :param rename: gives a copy's key for the original's
    :param dest: the client of the storage space that gets the copies
    :param rf: on how many peers each chunk is to be stored
    :param replace: delete other bytes under a copy's key first
    :param allow_reserved_bucket: whether ``dest_bucket_id`` may be one of a bulk's records
    """

    async def copy(item: Item) -> bool:
        report = await client.copy(
            item.bucket_id,
            item.key,
            dest_bucket_id,
            rename(item.key),
            dest=dest,
            rf=rf,
            replace=replace,
            allow_reserved_bucket=allow_reserved_bucket,
            **options.for_one_of(len(items)),
        )
        return unwrap(report).uploaded

    return await Batch(options.max_concurrency, log_progress, "copying").run(items, copy)
