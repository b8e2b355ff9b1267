"""Upload many files in one call; the announcements of small ones are confirmed in windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_mictlanx.batches.runner import Batch, BatchResult, Item, StoreOptions
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.local_io.chunk_sizes import BATCH_BUDGET, chunk_size_for, concurrency_for
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.validation import parse_size

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UploadItem(Item):
    """
    A ball to upload.

    :ivar content: the argument ``path`` or ``file`` of ``AsyncClient.upload``
    """

    content: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UploadOptions(StoreOptions):
    """
    Options of an upload of many files.

    :ivar chunk_size: bytes, or a str such as ``"8MB"``; None chooses it by the size of each file
    """

    chunk_size: str | int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunk_size is not None:
            parse_size(self.chunk_size)


async def upload_all(
    client: AsyncClient,
    items: Sequence[UploadItem],
    options: UploadOptions,
    log_progress: Callable[[str], None] = log.info,
) -> BatchResult:
    """Upload files of different keys; bytes that are stored already are not sent."""
    chunk_sizes = [chunk_size_for(item.size, options.chunk_size) for item in items]
    largest = max(map(min, (item.size for item in items), chunk_sizes), default=0)
    at_once = concurrency_for(largest, options.max_concurrency, BATCH_BUDGET)
    each = max(1, at_once // max(1, len(items)))
    shared = {"rf": options.rf, "replace": options.replace, "max_concurrency": each, **options.retry}

    def arguments(number: int) -> dict[str, Any]:
        item = items[number]
        own = {"bucket_id": item.bucket_id, "key": item.key, "chunk_size": chunk_sizes[number]}
        return {**own, **item.content, **shared}

    windows = client.upload_windows(arguments, at_once, **options.retry)
    numbers = {(item.bucket_id, item.key): number for number, item in enumerate(items)}
    windows.add({number: item.size for number, item in enumerate(items) if 0 < item.size <= chunk_sizes[number]})

    async def upload(item: UploadItem) -> bool:
        number = numbers[item.bucket_id, item.key]
        known = await windows.pop(number)
        return unwrap(await client.upload(**arguments(number), known=known)).uploaded

    batch = Batch(
        options.max_concurrency, log_progress, "uploading", memory=lambda item: min(item.size, each * largest)
    )
    try:
        return await batch.run(items, upload)
    finally:
        await windows.withdraw()
