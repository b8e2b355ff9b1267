"""
One attempt to upload a shard: start, plan, upload, done. What an earlier attempt began is gone on with.

Everything that the next attempt needs is in the records before the step that could be cut off: the start before anything
else, the plan before the first data byte, the end also after an exception. What was acknowledged and is in no record yet when
the process dies is read back by the next attempt, and not sent again.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from airflow_provider_mictlanx.batches.progress import Progress, keep_logging
from airflow_provider_mictlanx.batches.runner import MAX_REPORTED, Failure, FailureStreak
from airflow_provider_mictlanx.bulks.errors import BulkConflictError
from airflow_provider_mictlanx.bulks.ledger import BallKey, Ledger
from airflow_provider_mictlanx.bulks.options import AttemptOptions, BulkSpec, UploadResult
from airflow_provider_mictlanx.bulks.plan import PlannedBall
from airflow_provider_mictlanx.bulks.planner import CHANGED_WAY_OUT, HOW_TO_RESOLVE, Planner
from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.bulks.records import Done, Part, Plan, Records, Start
from airflow_provider_mictlanx.bulks.sources import SourceBall
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import for_each
from airflow_provider_mictlanx.client.errors import IntegrityError, MictlanXError, UnknownError
from airflow_provider_mictlanx.client.local_io.chunk_sizes import concurrency_for
from airflow_provider_mictlanx.client.local_io.chunk_splitter import ChunkManifest, PlannedChunk
from airflow_provider_mictlanx.client.texts import get_logger, truncate

log = get_logger(__name__)


FIRST_PART = 10.0
"""The first part is written after so many seconds, the next ones half as much later each time …"""

LAST_PART = 60.0
"""… and at the most so many seconds apart."""

WHOLE_PART = 10
"""Every so many parts, one tells everything since the beginning, and the ones before it are removed: pokes list them all."""

END_SECONDS = 1.0
"""How long a cancelled attempt may take to say that it ended (seconds)."""

LOST_END_SECONDS = 6.0
"""How long a failed one may (seconds)."""

MEMORY_BUDGET = 64_000_000
"""What the chunks in flight may hold together (bytes), where nobody says how many there may be."""


class ShardUpload:
    """
    One attempt.

    :param listing: gives everything that is to be uploaded by all shards (of lists of their own: by this one); blocks
    :param owner: who uploads, by name: another attempt has to be of the same
    :param log_progress: takes a line of progress every few seconds
    """

    def __init__(
        self,
        client: AsyncClient,
        spec: BulkSpec,
        shard: int,
        listing: Callable[[], list[SourceBall]],
        owner: Mapping[str, str],
        options: AttemptOptions,
        log_progress: Callable[[str], None] = log.info,
    ) -> None:
        spec.check(shard)
        options.check()
        self._client = client
        self._spec = spec
        self._spec_text = spec.as_text()
        self._shard = shard
        self._owner = dict(owner)
        self._options = options
        self._attempt = secrets.token_hex(8)
        self._sequence = 0
        self._parts = 0
        self._store = RecordStore(client, spec.bulk_id, options.timeout)
        self._ledger = Ledger()
        self._planner = Planner(
            self._store, spec, shard, listing, self._ledger, options.allow_empty, self._record_lost, log_progress
        )
        self._progress: Progress | None = None
        self._log_progress = log_progress
        self._started = time.monotonic()
        self._streak = FailureStreak(1)

    async def run(self) -> UploadResult:
        """
        Make the attempt; gives what it came to, failures of balls included.

        ``BulkConflictError``: the bulk id is used by another owner, or was begun with another spec; ``ValidationError``: the
        source is empty or wrong; ``IntegrityError``: it changed while it was planned; ``UnavailableError``: a peer is away, so
        that it can't be told what was done before.
        """
        records = await self._store.read_completely()
        self._refuse_others(records)
        await self._store.write(self._start_after(records))
        try:
            async with self._reporting():
                sources = await self._planner.run(records)
                plan = self._plan()
                self._progress = Progress(plan.balls, plan.size, self._log_progress)
                self._progress.add(len(self._ledger.acknowledged), self._ledger.size)
                await self._upload(sources, self._progress)
            await self._planner.learn_from_others()
            will_retry = (
                self._options.will_retry and self._options.fail_on_error and not self._ledger.permanently_failed
            )
            await self._store.write(self._end("", will_retry), self._ledger.last_items(), allow_fewer_replicas=True)
        except BaseException as error:
            await self._end_badly(error)
            raise
        return self._result(self._progress)

    # -- before the first byte -------------------------------------------------------------------------------------

    def _refuse_others(self, records: Records) -> None:
        bulk = f"bulk {self._spec.bulk_id!r}"
        if records.closed:
            raise BulkConflictError(f"{bulk} was awaited and closed: it can't be uploaded again. {HOW_TO_RESOLVE}")
        for start in records.starts:
            if start.spec != self._spec_text:
                raise BulkConflictError(
                    f"{bulk} was begun with {start.spec}, and now with {self._spec_text}. {HOW_TO_RESOLVE}"
                )
            if start.shard == self._shard and start.owner != self._owner:
                raise BulkConflictError(
                    f"shard {self._shard} of {bulk} belongs to {_format_owner(start.owner)}, not to {_format_owner(self._owner)}. {HOW_TO_RESOLVE}"
                )

    def _start_after(self, records: Records) -> Start:
        self._sequence = 1 + max((start.sequence for start in records.starts if start.shard == self._shard), default=0)
        return Start(
            shard=self._shard,
            attempt=self._attempt,
            sequence=self._sequence,
            shards=self._spec.shards,
            owner=self._owner,
            spec=self._spec_text,
        )

    # -- uploading -------------------------------------------------------------------------------------------------

    async def _upload(self, sources: dict[BallKey, SourceBall], progress: Progress) -> None:
        balls, missing = self._ledger.balls, self._ledger.missing
        at_once = concurrency_for(
            max((min(balls[index].size, balls[index].chunk_size) for index in missing), default=0),
            self._options.max_concurrency,
            MEMORY_BUDGET,
        )
        self._streak = FailureStreak(at_once)
        each = max(1, at_once // max(1, len(missing)))

        async def upload(index: int) -> None:
            ball = balls[index]
            if self._streak.stopped_by:
                self._ledger.fail(ball.bucket_id, ball.key, 502, f"not begun, because {self._streak.stopped_by}")
                return
            await self._upload_one(index, ball, sources.pop((ball.bucket_id, ball.key)), each, progress)

        await for_each(missing, upload, at_once)

    async def _upload_one(
        self, index: int, ball: PlannedBall, source: SourceBall, max_concurrency: int, progress: Progress
    ) -> None:
        started = time.monotonic()
        try:
            result = await self._client.upload(
                ball.bucket_id,
                ball.key,
                **source.given(),
                tags={**self._spec.tags, **source.tags},
                chunk_size=ball.chunk_size,
                rf=self._spec.rf,
                timeout=self._options.timeout,
                max_tries=self._options.max_tries,
                max_concurrency=max_concurrency,
                max_backoff=self._options.max_backoff,
                replace=self._options.replace,
                allow_reserved_bucket=self._spec.allow_reserved_bucket,
                expected=self._expected(ball),
            )
        except OSError as error:  # of the disk
            self._failed(
                ball, UnknownError(f"{ball.source} can't be read: {error.strerror}", transient=False), progress
            )
            return
        if result.is_err:
            self._failed(ball, result.unwrap_err(), progress)
            return
        self._streak.end()
        if index not in self._ledger.acknowledged:
            progress.add(1, ball.size)
        self._ledger.stored(index, result.unwrap().uploaded)
        progress.took(ball.key, time.monotonic() - started)

    def _failed(self, ball: PlannedBall, error: MictlanXError, progress: Progress) -> None:
        said = f"{error}. {CHANGED_WAY_OUT}" if isinstance(error, IntegrityError) else str(error)
        self._ledger.fail(ball.bucket_id, ball.key, error.error_code, said, error.permanent)
        progress.failed()
        if self._options.stop_on_failure:
            self._streak.stopped_by = f"{ball.key} failed"
        self._streak.add(error)

    def _expected(self, ball: PlannedBall) -> ChunkManifest:
        """
        Return what the source has to be; what this attempt has hashed need not be hashed again.

        With an earlier attempt's plan it is hashed first: a ball that is found stored is not sent, and so not compared otherwise.
        """
        if hashed := self._planner.hashed.pop((ball.bucket_id, ball.key), None):
            return hashed
        known = self._planner.is_new and ball.size <= ball.chunk_size
        return ChunkManifest(ball.size, ball.checksum, (PlannedChunk(0, 0, ball.size, ball.checksum),) if known else ())

    # -- records on the way ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _reporting(self) -> AsyncIterator[None]:
        """Tell the log every few seconds, and the records now and then, while the block lasts."""
        reporter = asyncio.create_task(keep_logging(lambda: self._progress or self._planner.progress))
        recorder = asyncio.create_task(self._keep_recording())
        try:
            yield
        finally:
            for task in (reporter, recorder):
                task.cancel()
            await asyncio.gather(reporter, recorder, return_exceptions=True)

    async def _keep_recording(self) -> None:
        wait, written = FIRST_PART, list[str]()
        while True:
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, LAST_PART)
            whole = len(written) >= WHOLE_PART
            try:
                name = await self._record_part(everything=whole)
                if whole:
                    await self._store.delete(written)
                    written.clear()
                written.append(name)
            except MictlanXError as error:
                log.info("Progress of bulk %r could not be recorded, it will be later: %s", self._spec.bulk_id, error)

    async def _record_part(self, everything: bool = False, allow_fewer_replicas: bool = True) -> str:
        """Write a part; return its name."""
        ledger = self._ledger
        told = ledger.unrecorded(everything)
        # No number is used twice, also after a failure: a part that was half written is not written again with other bytes.
        number, self._parts = self._parts, self._parts + 1
        part = Part(
            shard=self._shard,
            attempt=self._attempt,
            sequence=self._sequence,
            number=number,
            plan=ledger.digest,
            acknowledged=len(ledger.acknowledged),
            size=ledger.size,
            lost=len(ledger.lost),
            sources=ledger.sources,
        )
        await self._store.write(part, ledger.part_items(told), allow_fewer_replicas=allow_fewer_replicas)
        ledger.recorded(told)
        return part.name

    async def _record_lost(self) -> None:
        """
        Write down the lost balls before one of them is announced: the listing shows it again then, without its data.

        On as many peers as a start, and never tidied up: a listing that lacks this record shows a bulk that is complete.
        """
        await self._record_part(allow_fewer_replicas=False)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _end(self, error: str, will_retry: bool) -> Done:
        ledger = self._ledger
        failures = ledger.sorted_failures
        return Done(
            shard=self._shard,
            attempt=self._attempt,
            sequence=self._sequence,
            plan=ledger.digest,
            balls=len(ledger.balls),
            acknowledged=len(ledger.acknowledged),
            size=ledger.size,
            lost=len(ledger.lost),
            sources=ledger.sources,
            uploaded=ledger.sent,
            uploaded_size=ledger.sent_size,
            failed=len(failures),
            failures=[_shorten(failure) for failure in failures[:MAX_REPORTED]],
            error=error,
            will_retry=will_retry,
            seconds=round(time.monotonic() - self._started, 6),
        )

    async def _end_badly(self, error: BaseException) -> None:
        """Record that the attempt was cut off; if that is not possible, the records say that it never ended."""
        permanent = isinstance(error, MictlanXError) and error.permanent
        said = str(error) or type(error).__name__
        end = self._end(truncate(said, 500), self._options.will_retry and not permanent)
        try:
            async with asyncio.timeout(LOST_END_SECONDS if isinstance(error, Exception) else END_SECONDS):
                await self._store.write(end, self._ledger.last_items(), allow_fewer_replicas=True)
        except (MictlanXError, TimeoutError) as problem:
            log.warning(
                "The end of bulk %r could not be recorded: %s", self._spec.bulk_id, str(problem) or "no time was left"
            )

    def _result(self, progress: Progress) -> UploadResult:
        ledger = self._ledger
        failed = len(ledger.failures)
        total = len(ledger.acknowledged) + failed
        return UploadResult(
            bulk_id=self._spec.bulk_id,
            shard=self._shard,
            shards=self._spec.shards,
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

    def _plan(self) -> Plan:
        if self._ledger.plan is None:
            raise UnknownError("the bulk has no plan yet")
        return self._ledger.plan.record


def _shorten(failure: Failure) -> Failure:
    return failure.model_copy(update={"message": truncate(failure.message, 300), "key": truncate(failure.key, 200)})


def _format_owner(owner: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(owner.items()))
