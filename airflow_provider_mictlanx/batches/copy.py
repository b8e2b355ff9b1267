"""Copy many balls, in the same storage space or to another."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_provider_mictlanx.batches.runner import Batch, BatchResult, Item, StoreOptions, check_max_concurrency
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.models import Ball
from airflow_provider_mictlanx.client.object_ids import ObjectId, make_object_id
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class CopyOptions(StoreOptions):
    """
    Options of a copy of many balls.

    :ivar allow_reserved_bucket: allow a destination that may contain a bulk's records
    """

    allow_reserved_bucket: bool = False


@dataclass(frozen=True, slots=True)
class _Original(Item):
    """A ball to copy, with its number."""

    number: int = 0


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

    Raises ``ValidationError`` if a copy would replace the original of another one.

    :param rename: returns the key of a copy for the key of its original
    :param dest: client of the storage space to copy to
    """
    originals = [
        _Original(item.bucket_id, item.key, item.size, item.checksum, item.listed, number)
        for number, item in enumerate(items)
    ]
    if options.replace and (dest is client or dest.uri == client.uri):
        names = {(item.bucket_id, item.key) for item in items}
        for item in items:
            if rename(item.key) != item.key and (dest_bucket_id, rename(item.key)) in names:
                raise ValidationError(
                    f"copies must not replace other originals, but that of {item.key} would be {rename(item.key)}; "
                    "choose another destination"
                )
    one_chunk: dict[int, tuple[Ball, ObjectId]] = {}
    for item in originals:
        if item.listed is not None and item.listed.num_chunks == 1 and item.size:
            with contextlib.suppress(ValidationError):  # the copy raises it
                one_chunk[item.number] = item.listed, make_object_id(dest_bucket_id, rename(item.key))
    windows = client.copy_windows(
        one_chunk,
        check_max_concurrency(options.max_concurrency),
        dest=dest,
        rf=options.rf,
        replace=options.replace,
        **options.retry,
    )
    windows.add({number: originals[number].size for number in one_chunk})

    async def copy(item: _Original) -> bool:
        if not (dest_key := rename(item.key)):  # for the client, it would be the original's key
            raise ValidationError("its key is the prefix, so its copy would have an empty key; copy it separately")
        report = await client.copy(
            item.bucket_id,
            item.key,
            dest_bucket_id,
            dest_key,
            dest=dest,
            listed=item.listed,
            known=await windows.pop(item.number),
            **options.for_one_of(len(items)),
        )
        return unwrap(report).uploaded

    try:
        return await Batch(options.max_concurrency, log_progress, "copying").run(originals, copy)
    finally:  # a killed task has ``GRACE`` seconds for it
        await windows.withdraw()
