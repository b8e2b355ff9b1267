"""
One attempt to upload a shard: start, plan, upload, done. It continues where earlier attempts ended.

The start is recorded before anything else, the plan before the first data byte, and the end also after an exception. If
the process dies, the next attempt finds the balls that are stored and not recorded, and does not send them again.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from humanfriendly import format_size
from humanfriendly.text import pluralize

from airflow_provider_mictlanx.batches.progress import Progress, in_background, keep_logging
from airflow_provider_mictlanx.batches.runner import MAX_REPORTED, Batch, Failure, Item
from airflow_provider_mictlanx.bulks.errors import BulkConflictError
from airflow_provider_mictlanx.bulks.ledger import BallKey, Ledger
from airflow_provider_mictlanx.bulks.options import AttemptOptions, BulkSpec, UploadResult
from airflow_provider_mictlanx.bulks.plan import PlannedBall
from airflow_provider_mictlanx.bulks.planner import HOW_TO_RESOLVE, HOW_TO_RESOLVE_CHANGE, Planner
from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.bulks.records import Done, Part, Records, Start
from airflow_provider_mictlanx.bulks.sources import SourceBall
from airflow_provider_mictlanx.bulks.status import format_owner
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.errors import IntegrityError, MictlanXError
from airflow_provider_mictlanx.client.local_io.chunk_sizes import BATCH_BUDGET, concurrency_for
from airflow_provider_mictlanx.client.local_io.chunk_splitter import ChunkManifest, PlannedChunk
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger, truncate
from airflow_provider_mictlanx.client.transfer.upload_window import UploadWindows

log = get_logger(__name__)


FIRST_PART = 10.0
"""Seconds until the first part is written; every later pause is 1.5 times as long …"""

LAST_PART = 60.0
"""… up to this many seconds."""

FULL_PART = 10
"""Number of parts that one full part then replaces: every poke lists all parts."""

END_SECONDS = 1.0
"""Seconds for a cancelled attempt to record its end."""

LOST_END_SECONDS = 6.0
"""Seconds for a failed attempt to record its end."""


@dataclass(frozen=True, slots=True)
class _MissingBall(Item):
    """
    A ball to upload.

    :ivar index: its position in the plan
    """

    index: int = 0


@dataclass
class ShardUpload:
    """
    One attempt to upload a shard.

    :ivar listing: returns the balls of all shards, or with ``spec.items_per_shard`` those of this shard; blocks
    :ivar owner: identity of the uploader; every attempt must have the same
    :ivar log_progress: logs a line of progress every few seconds
    """

    client: AsyncClient
    spec: BulkSpec
    shard: int
    listing: Callable[[], list[SourceBall]]
    owner: Mapping[str, str]
    options: AttemptOptions
    log_progress: Callable[[str], None] = log.info

    def __post_init__(self) -> None:
        self.spec.check(self.shard)
        self._spec_text = self.spec.as_text()
        self._attempt = secrets.token_hex(8)
        self._sequence = 0
        self._parts = 0
        self._store = RecordStore(self.client, self.spec.bulk_id, self.options.timeout)
        self._ledger = Ledger()
        self._planner = Planner(
            self._store,
            self.spec,
            self.shard,
            self.listing,
            self._ledger,
            self.options.allow_empty,
            self._record_lost,
            self.log_progress,
        )
        self._windows: UploadWindows | None = None
        self._started = time.monotonic()

    async def run(self) -> UploadResult:
        """
        Upload the shard, and return the result, which contains the failures of balls.

        Raises ``BulkConflictError`` if the bulk id has another owner or spec, ``ValidationError`` if the source is
        empty or invalid, ``IntegrityError`` if it changed during planning, and ``UnavailableError`` if a peer does not
        answer, so earlier records may be missing.
        """
        records = await self._store.read_completely()
        self._refuse_others(records)
        await self._store.write(self._start_after(records))
        try:
            async with in_background(self._keep_recording()):
                async with in_background(keep_logging(lambda: self._planner.progress)):
                    sources = await self._planner.run(records)
                progress = await self._upload(sources)
            await self._planner.learn_from_others()
            will_retry = self.options.will_retry and self.options.fail_on_error and not self._ledger.permanently_failed
            await self._store.write(self._end("", will_retry), self._ledger.last_items(), allow_fewer_replicas=True)
        except BaseException as error:
            await self._record_failure(error)  # first, since a killed task has little time
            if self._windows is not None:
                await self._windows.withdraw()
            raise
        return self._result(progress)

    # -- before the first byte -------------------------------------------------------------------------------------

    def _refuse_others(self, records: Records) -> None:
        bulk = f"bulk {self.spec.bulk_id!r}"
        if records.closed:
            raise BulkConflictError(f"uploading {bulk} failed: it was awaited and closed. {HOW_TO_RESOLVE}")
        for start in records.starts:
            if start.spec != self._spec_text:
                raise BulkConflictError(
                    f"uploading {bulk} failed: it was started with {start.spec}, now with {self._spec_text}. "
                    f"{HOW_TO_RESOLVE}"
                )
            if start.shard == self.shard and start.owner != self.owner:
                owners = f"{format_owner(start.owner)}, not to {format_owner(self.owner)}"
                raise BulkConflictError(
                    f"uploading {bulk} failed: shard {self.shard} belongs to {owners}. {HOW_TO_RESOLVE}"
                )

    def _start_after(self, records: Records) -> Start:
        mine = records.shard_records(self.shard)
        known = [start.sequence for start in mine.starts] + [report.sequence for report in mine.reports]
        self._sequence = 1 + max(known, default=0)
        return Start(**self._identity, shards=self.spec.shards, owner=dict(self.owner), spec=self._spec_text)

    @property
    def _identity(self) -> dict[str, Any]:
        return {"shard": self.shard, "attempt": self._attempt, "sequence": self._sequence}

    # -- uploading -------------------------------------------------------------------------------------------------

    async def _upload(self, sources: dict[BallKey, SourceBall]) -> Progress:
        ledger, balls, missing = self._ledger, self._ledger.balls, self._ledger.missing
        progress = Progress(len(balls), sum(ball.size for ball in balls), self.log_progress)
        progress.add(len(ledger.acknowledged), ledger.size)
        if missing:
            size = format_size(sum(balls[index].size for index in missing))
            self.log_progress(f"Uploading {pluralize(len(missing), 'object')} of bulk {self.spec.bulk_id!r}, {size}")
        at_once = concurrency_for(
            max((min(balls[index].size, balls[index].chunk_size) for index in missing), default=0),
            self.options.max_concurrency,
            BATCH_BUDGET,
        )
        each = max(1, at_once // max(1, len(missing)))

        def arguments(index: int) -> dict[str, Any]:
            ball = balls[index]
            return self._upload_arguments(ball, sources[ball.bucket_id, ball.key], each)

        windows = self._windows = self.client.upload_windows(arguments, at_once, **self.options.retry)
        windows.add({at: balls[at].size for at in missing if 0 < balls[at].size <= balls[at].chunk_size})

        async def upload(item: _MissingBall) -> bool:
            ball, started = balls[item.index], time.monotonic()
            known = await windows.pop(item.index)
            given = arguments(item.index)
            del sources[ball.bucket_id, ball.key]  # it may contain the data
            sent = unwrap(await self.client.upload(**given, known=known)).uploaded
            ledger.stored(item.index, sent)
            progress.took(ball.key, time.monotonic() - started)
            return sent

        items = (_MissingBall(balls[at].bucket_id, balls[at].key, balls[at].size, index=at) for at in missing)
        batch = Batch(
            self.options.max_concurrency,
            stop_on_failure=self.options.stop_on_failure,
            on_failure=self._fail,
            memory=lambda item: min(item.size, each * balls[item.index].chunk_size),
        )
        await batch.run(items, upload, progress)
        await windows.withdraw()
        return progress

    def _upload_arguments(self, ball: PlannedBall, source: SourceBall, max_concurrency: int) -> dict[str, Any]:
        """Return the arguments of the client's ``upload`` for a ball."""
        return {
            "bucket_id": ball.bucket_id,
            "key": ball.key,
            **source.given(),
            "tags": {**self.spec.tags, **source.tags},
            "chunk_size": ball.chunk_size,
            "rf": self.spec.rf,
            "max_concurrency": max_concurrency,
            **self.options.retry,
            "replace": self.options.replace,
            "allow_reserved_bucket": self.spec.allow_reserved_bucket,
            "expected": self._expected(ball),
        }

    def _fail(self, item: Item, error: MictlanXError) -> None:
        message = f"{error}. {HOW_TO_RESOLVE_CHANGE}" if isinstance(error, IntegrityError) else str(error)
        self._ledger.fail(item.bucket_id, item.key, error.error_code, message, error.permanent)

    def _expected(self, ball: PlannedBall) -> ChunkManifest:
        """
        Return the expected hashes of a source. A source that this attempt has hashed is not hashed again.

        With the plan of an earlier attempt, the upload hashes the source first: a stored ball is not sent, so nothing
        else compares its source with the plan.
        """
        if hashed := self._planner.hashed.pop((ball.bucket_id, ball.key), None):
            return hashed
        known = self._planner.is_new and ball.size <= ball.chunk_size
        return ChunkManifest(ball.size, ball.checksum, (PlannedChunk(0, 0, ball.size, ball.checksum),) if known else ())

    # -- progress records ------------------------------------------------------------------------------------------

    async def _keep_recording(self) -> None:
        wait, written = FIRST_PART, list[str]()
        while True:
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, LAST_PART)
            full = len(written) >= FULL_PART
            try:
                name = await self._record_part(everything=full)
                if full:
                    await self._store.delete(written)
                    written.clear()
                written.append(name)
            except MictlanXError as error:
                log.info("Recording progress of bulk %r failed; the next part repeats it: %s", self.spec.bulk_id, error)

    async def _record_part(self, everything: bool = False, allow_fewer_replicas: bool = True) -> str:
        """Write a part; return its name."""
        ledger = self._ledger
        indexes = ledger.unrecorded(everything)
        # A number is never used twice: after a failure the part may be half written, and its bytes must not change.
        number, self._parts = self._parts, self._parts + 1
        part = Part(**self._identity, **ledger.summary, number=number)
        await self._store.write(part, ledger.part_items(indexes), allow_fewer_replicas=allow_fewer_replicas)
        ledger.recorded(indexes)
        return part.name

    async def _record_lost(self) -> None:
        """
        Record the lost balls before one of them is announced: then the listing shows it again, without data.

        The record has as many replicas as a start, and no part replaces it: without it the bulk would look complete.
        """
        await self._record_part(allow_fewer_replicas=False)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _end(self, error: str, will_retry: bool) -> Done:
        ledger = self._ledger
        failures = ledger.sorted_failures
        return Done(
            **self._identity,
            **ledger.summary,
            balls=len(ledger.balls),
            uploaded=ledger.sent,
            uploaded_size=ledger.sent_size,
            failed=len(failures),
            failures=[_shorten(failure) for failure in failures[:MAX_REPORTED]],
            error=error,
            will_retry=will_retry,
            seconds=round(time.monotonic() - self._started, 6),
        )

    async def _record_failure(self, error: BaseException) -> None:
        """Record that the attempt failed or was interrupted; without this record it counts as running."""
        permanent = isinstance(error, MictlanXError) and error.permanent
        message = str(error) or type(error).__name__
        end = self._end(truncate(message, 500), self.options.will_retry and not permanent)
        try:
            async with asyncio.timeout(LOST_END_SECONDS if isinstance(error, Exception) else END_SECONDS):
                await self._store.write(end, self._ledger.last_items(), allow_fewer_replicas=True)
        except (MictlanXError, TimeoutError) as problem:
            log.warning(
                "Recording the end of the attempt on bulk %r failed: %s; it counts as running until the next attempt",
                self.spec.bulk_id,
                str(problem) or "timeout",
            )

    def _result(self, progress: Progress) -> UploadResult:
        ledger = self._ledger
        failed = len(ledger.failures)
        total = len(ledger.acknowledged) + failed
        return UploadResult(
            bulk_id=self.spec.bulk_id,
            shard=self.shard,
            shards=self.spec.shards,
            total_balls=total,
            uploaded=ledger.sent,
            skipped=total - ledger.sent - failed,
            failed=failed,
            uploaded_size=ledger.sent_size,
            response_time=round(time.monotonic() - self._started, 6),
            failures=ledger.sorted_failures,
            slowest=progress.slowest,
            permanently_failed=ledger.permanently_failed,
        )


def _shorten(failure: Failure) -> Failure:
    return failure.model_copy(update={"message": truncate(failure.message, 300), "key": truncate(failure.key, 200)})
