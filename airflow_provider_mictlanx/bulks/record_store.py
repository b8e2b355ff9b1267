"""Read, write and delete a bulk's records in the storage space itself."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from humanfriendly.text import pluralize
from option import Result

from airflow_provider_mictlanx.batches.runner import REQUEST_TIMEOUT
from airflow_provider_mictlanx.bulks.records import (
    Checked,
    Items,
    Record,
    Records,
    Report,
    canonical,
    check_owner,
    is_record,
    read_listing,
    records_bucket,
)
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import for_each, run_in_thread
from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    IntegrityError,
    MictlanXError,
    NotFoundError,
    PutChunksError,
    UnavailableError,
)
from airflow_provider_mictlanx.client.models import DeleteBucketResponse, GetRouterBucketMetadataResponse
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.retry import RetryConfig
from airflow_provider_mictlanx.client.texts import format_first, get_logger

T = TypeVar("T")
log = get_logger(__name__)


R = TypeVar("R", bound=Report | Checked)

REPLICAS = 3
"""Number of peers that store a record; all of them if there are fewer."""

CHUNK_SIZE = 8_000_000
"""Size of a record's chunks, in bytes."""

INLINE_ROWS = 200
"""Up to this number of rows, a listing is parsed in the event loop's thread; thousands would block the loop."""

LISTING_RETRY = RetryConfig(max_tries=3)
"""Tries for a listing that every peer must confirm."""


@dataclass
class RecordStore:
    """
    The records of one bulk.

    :ivar client: an open client
    :ivar bulk_id: a non-empty str
    :ivar timeout: seconds for each request
    """

    client: AsyncClient
    bulk_id: str
    timeout: float = REQUEST_TIMEOUT

    def __post_init__(self) -> None:
        self.bucket_id = records_bucket(self.bulk_id)
        self._warned_of: tuple[str, ...] = ()

    async def list_once(self) -> tuple[Records, GetRouterBucketMetadataResponse]:
        """List the records with one request, without checking that every peer took part."""
        listing = self._value(
            await self.client.get_chunks_by_bucket_id(self.bucket_id, self.timeout, partial=True, name_missing=False)
        )
        parse = partial(read_listing, self.bulk_id, listing.balls, complete=False)
        records = parse() if len(listing.balls) <= INLINE_ROWS else await run_in_thread(parse)
        if records.foreign and records.foreign != self._warned_of:
            self._warned_of = records.foreign
            log.warning("%s; ignored", self._foreign(records.foreign))
        return records, listing

    async def answered_by_all(self, listing: GetRouterBucketMetadataResponse) -> bool:
        """Return whether every peer took part in a listing. This takes one request."""
        return not self._value(await self.client.missing_peers(listing, self.timeout))

    async def read(self) -> Records:
        """List the records, and check whether every peer took part. This takes two requests, for a bulk of any size."""
        records, listing = await self.list_once()
        return replace(records, complete=await self.answered_by_all(listing))

    async def read_completely(self) -> Records:
        """List the records; raise ``UnavailableError`` if a peer does not answer, so records may be missing."""
        async for attempt in LISTING_RETRY.attempts():
            with attempt:
                records = await self.read()
                if not records.complete:
                    raise UnavailableError(
                        f"reading the records of bulk {self.bulk_id!r} failed: a peer does not answer, so records may "
                        "be missing; try again when it answers"
                    )
        return records

    async def check_peers(self, problem: str) -> None:
        """
        Raise ``UnavailableError`` unless every peer answers. This takes two requests, for a bulk of any size.

        :param problem: message of the error
        """
        _, listing = await self.list_once()
        if not await self.answered_by_all(listing):
            raise UnavailableError(problem)

    async def write(self, record: Record, content: bytes | None = None, *, allow_fewer_replicas: bool = False) -> None:
        """
        Write a record.

        It gets fewer replicas than ``REPLICAS`` if a peer has refused it permanently (code 666).

        :param content: the bytes of the record; default: its summary
        :param allow_fewer_replicas: accept fewer replicas if a peer does not answer
        """
        data = content if content is not None else canonical(record.tags(self.bulk_id)).encode()
        try:
            await self._put(record, data, REPLICAS)
        except (PutChunksError, UnavailableError) as error:
            if not allow_fewer_replicas and not error.permanent:
                raise
            log.warning(
                "Writing record %s of bulk %r with %d replicas failed, writing one replica: %s",
                record.name,
                self.bulk_id,
                REPLICAS,
                error,
            )
            await self._put(record, data, 1)

    async def _put(self, record: Record, data: bytes, rf: int) -> None:
        tags = record.tags(self.bulk_id)
        self._value(
            await self.client.put(
                self.bucket_id,
                record.name,
                data,
                chunk_size=CHUNK_SIZE,
                rf=rf,
                timeout=self.timeout,
                tags=tags,
                allow_reserved_bucket=True,
            )
        )

    async def read_content(self, record: Record) -> bytes:
        """Read the bytes of a record."""
        return bytes(self._value(await self.client.get(self.bucket_id, record.name, timeout=self.timeout)).data)

    async def read_items(self, records: Iterable[R], max_concurrency: int = 8) -> list[tuple[R, Items]]:
        """Read the items of records, without records whose bytes were never sent, are lost or are malformed."""
        found: list[tuple[R, Items]] = []

        async def read(record: R) -> None:
            # Callers verify these balls in the storage instead.
            with suppress(NotFoundError, GetChunkError, IntegrityError, ValueError):
                found.append((record, Items.model_validate_json(await self.read_content(record))))

        await for_each(records, read, max_concurrency)
        return found

    async def delete(self, names: Iterable[str], max_concurrency: int = 8) -> None:
        """Delete records by their names."""

        async def delete(name: str) -> None:
            self._value(
                await self.client.delete(name, self.bucket_id, timeout=self.timeout, allow_reserved_bucket=True)
            )

        await for_each(list(names), delete, max_concurrency)

    async def delete_all(self) -> DeleteBucketResponse:
        """
        Delete every record, including ``closed`` and incomplete ones; other balls stay.

        Raises ``IntegrityError`` if the bucket contains another bulk's records.
        """
        listing = self._value(await self.client.get_chunks_by_bucket_id(self.bucket_id, self.timeout))
        check_owner(self.bulk_id, listing.balls)
        if foreign := sorted({chunk.ball_id for chunk in listing.balls if not is_record(chunk)}):
            log.warning("%s; not deleted", self._foreign(foreign))
            started = time.monotonic()
            names = sorted({chunk.ball_id for chunk in listing.balls if is_record(chunk)})
            await self.delete(names)
            return DeleteBucketResponse(
                bucket_id=self.bucket_id,
                deleted=len(names),
                failed=0,
                total=len(names),
                keys=names,
                response_time=round(time.monotonic() - started, 6),
            )
        return self._value(
            await self.client.delete_bucket(self.bucket_id, timeout=self.timeout, allow_reserved_bucket=True)
        )

    def _value(self, result: Result[T, MictlanXError]) -> T:
        """Return the value of an ``Ok``; raise the error of an ``Err``, which names the bulk."""
        try:
            return unwrap(result)
        except MictlanXError as error:
            if (bulk := f"bulk {self.bulk_id!r}") not in str(error):
                error.amend(f"{bulk}: {error}")
            raise

    def _foreign(self, ball_ids: Sequence[str]) -> str:
        """Return a log line about balls in the records' bucket that are not records."""
        return (
            f"Bucket {self.bucket_id} contains {pluralize(len(ball_ids), 'object')} besides the records of bulk "
            f"{self.bulk_id!r}: {format_first([*map(repr, ball_ids)])}"
        )
