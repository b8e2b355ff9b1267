"""Reading and writing a bulk's records in the storage space itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from airflow_provider_mictlanx.bulks.records import Done, Part, Record, Records, bucket_of, read_listing
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.errors import GetChunkError, IntegrityError, NotFoundError, UnavailableError
from airflow_provider_mictlanx.client.models import DeleteBucketResponse
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.client.workers import for_each

REPLICAS = 3
"""On how many peers a record is stored (on all of them, where there are fewer)."""

CHUNK_SIZE = 8_000_000
"""A longer record is cut into chunks of so many bytes."""

REQUEST_TIMEOUT = 120.0
"""How long a request for a record may take, unless the caller says otherwise (seconds)."""


class RecordStore:
    """
    The records of one bulk.

    :param client: an open client
    :param bulk_id: any text that is not empty
    :param timeout: of each request (seconds)
    """

    def __init__(self, client: AsyncClient, bulk_id: str, timeout: float = REQUEST_TIMEOUT) -> None:
        self.client = client
        self.bulk_id = bulk_id
        self.timeout = timeout
        self.bucket_id = bucket_of(bulk_id)

    async def read(self) -> Records:
        """List the records: two requests, however large the bulk is."""
        listing = value_of(await self.client.get_chunks_by_bucket_id(self.bucket_id, self.timeout, partial=True))
        return read_listing(self.bulk_id, listing.balls, complete=not listing.extra["missing_peers"])

    async def read_completely(self) -> Records:
        """Do the same, and raise ``UnavailableError`` where a peer is away, so that records may be missing."""
        records = await self.read()
        if not records.complete:
            raise UnavailableError(
                f"bulk {self.bulk_id!r}: a peer is away, so that its records can't all be seen; try again when it is back"
            )
        return records

    async def write(self, record: Record, content: bytes | None = None) -> None:
        """
        Write a record.

        :param content: what is more than the summary; the summary itself where there is nothing more
        """
        tags = record.tags(self.bulk_id)
        data = content if content is not None else json.dumps(tags).encode()
        value_of(
            await self.client.put(
                self.bucket_id, record.name, data, chunk_size=CHUNK_SIZE, rf=REPLICAS, timeout=self.timeout, tags=tags
            )
        )

    async def content_of(self, record: Record) -> bytes:
        """Read what is more of a record than its summary."""
        return bytes(value_of(await self.client.get(self.bucket_id, record.name, timeout=self.timeout)).data)

    async def items_of(self, records: Iterable[Part | Done], max_concurrency: int = 8) -> list[dict[str, Any]]:
        """
        Read the items of parts and ends; one whose bytes were never sent, or are lost, has none.

        :return: dictionaries with ``acknowledged`` (as ``0-57,60``) and, of ends, ``failures``
        """
        found: list[dict[str, Any]] = []

        async def read(record: Part | Done) -> None:
            with suppress(NotFoundError, GetChunkError, IntegrityError):  # lost: those balls are read back instead
                found.append(json.loads(await self.content_of(record)))

        await for_each(records, read, max_concurrency)
        return found

    async def delete(self, names: Iterable[str], max_concurrency: int = 8) -> None:
        """Delete records by their names."""

        async def delete(name: str) -> None:
            value_of(await self.client.delete(name, self.bucket_id, timeout=self.timeout))

        await for_each(list(names), delete, max_concurrency)

    async def delete_all(self) -> DeleteBucketResponse:
        """Delete every record, ``closed`` included."""
        return value_of(await self.client.delete_bucket(self.bucket_id, timeout=self.timeout))
