"""Copy many balls, in the same storage space or to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_provider_mictlanx.batches.runner import Batch, BatchResult, Item, TransferOptions
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class CopyOptions(TransferOptions):
    """
    Options of a copy of many balls.

    :ivar rf: number of peers that must store every chunk
    :ivar replace: delete different bytes under a copy's key first
    :ivar allow_reserved_bucket: allow a destination that may contain a bulk's records
    """

    rf: int = 1
    replace: bool = False
    allow_reserved_bucket: bool = False


async def copy_all(
    client: AsyncClient,
    items: Sequence[Item],
    dest_bucket_id: str,
    rename: Callable[[str], str],
    *,
    dest: AsyncClient,
    options: CopyOptions,
    log_progress: Callable[[str], None] = log.info,
) -> BatchResult:
    """
    Copy balls into a bucket; bytes that are stored already are not sent.

    :param rename: returns the key of a copy for the key of its original
    :param dest: client of the storage space to copy to
    """

    async def copy(item: Item) -> bool:
        report = await client.copy(
            item.bucket_id,
            item.key,
            dest_bucket_id,
            rename(item.key),
            dest=dest,
            listed=item.listed,
            **options.for_one_of(len(items)),
        )
        return unwrap(report).uploaded

    return await Batch(options.max_concurrency, log_progress, "copying").run(items, copy)
