"""
One attempt to upload a shard: start, plan, upload, done. What an earlier attempt began is gone on with.

Everything that the next attempt needs is in the records before the step that could be cut off: the start before anything
else, the plan before the first data byte, the end also after an exception. What was acknowledged and is in no record yet when
the process dies is read back by the next attempt, and not sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from airflow_provider_mictlanx.bulks.errors import BulkConflictError
from airflow_provider_mictlanx.bulks.plan import PlannedBall, ShardPlan, listing_digest, make_plan, read_plan, share_of
from airflow_provider_mictlanx.bulks.progress import Progress
from airflow_provider_mictlanx.bulks.records import (
    Done,
    Failure,
    Part,
    Records,
    Start,
    canonical,
    indexes_of,
    ranges_of,
)
from airflow_provider_mictlanx.bulks.sources import SourceBall
from airflow_provider_mictlanx.bulks.status import FIRST_FAILURES
from airflow_provider_mictlanx.bulks.storage import RecordStore
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.chunks import BallPlan, parse_size
from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    IntegrityError,
    MictlanXError,
    NotFoundError,
    UnknownError,
    ValidationError,
)
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.client.upload import PutOptions
from airflow_provider_mictlanx.client.workers import for_each

log = logging.getLogger(__name__)

FIRST_PART = 10.0
"""The first part is written after so many seconds, the next ones half as much later each time …"""

LAST_PART = 60.0
"""… and at the most so many seconds apart."""

END_SECONDS = 1.5
"""How long a cancelled attempt may take to say that it ended (seconds)."""


@dataclass(frozen=True)
class BulkSpec:
    """
    What a bulk uploads, and how.

    :ivar bulk_id: any text
    :ivar sources: where the balls come from, as text: of the spec that a second attempt has to have too
    :ivar shards: in how many parts it is uploaded
    :ivar rf: on how many peers each chunk is to be stored
    :ivar chunk_size: bytes, or a text such as ``"8MB"``
    :ivar tags: of every ball
    :ivar own_lists: whether each shard brings a list of its own, instead of its part of one that all see
    """

    bulk_id: str
    sources: Sequence[str]
    bucket_id: str = ""
    key_prefix: str = ""
    shards: int = 1
    rf: int = 1
    chunk_size: str | int = "8MB"
    tags: Mapping[str, str] = field(default_factory=dict)
    own_lists: bool = False

    def as_text(self) -> str:
        """Give the spec as it stands in the records."""
        return canonical(
            {
                "sources": [] if self.own_lists else list(self.sources),
                "bucket_id": self.bucket_id,
                "key_prefix": self.key_prefix,
                "shards": self.shards,
                "rf": self.rf,
                "chunk_size": parse_size(self.chunk_size),
                "tags": dict(self.tags),
            }
        )


@dataclass(frozen=True)
class AttemptOptions:
    """
    How one attempt goes about it; another attempt may do it differently.

    :ivar max_concurrency: the most chunks in flight
    :ivar max_tries: for each chunk
    :ivar max_backoff: the longest wait between two tries (seconds)
    :ivar timeout: for each request (seconds)
    :ivar stop_on_failure: whether the first failure stops what has not begun
    :ivar replace: whether other bytes under a ball's key are replaced
    :ivar allow_empty: whether an empty listing is a bulk of no balls, instead of an error
    :ivar will_retry: whether another attempt follows if this one fails
    :ivar fail_on_error: whether an attempt with failures of balls has failed, so that another one may follow
    """

    max_concurrency: int = 8
    max_tries: int = 5
    max_backoff: float = 5
    timeout: float = 120
    stop_on_failure: bool = False
    replace: bool = False
    allow_empty: bool = False
    will_retry: bool = False
    fail_on_error: bool = True


@dataclass(frozen=True)
class UploadResult:
    """
    What an attempt came to.

    :ivar uploaded: balls that were sent
    :ivar skipped: balls that were acknowledged before, or found stored
    :ivar failures: of balls, every one
    :ivar uploaded_size: bytes of the balls that were sent
    :ivar response_time: seconds
    :ivar slowest: a few balls by key, with their seconds
    :ivar hopeless: whether there are failures, and no retry could mend any of them
    """

    bulk_id: str
    shard: int
    shards: int
    total_balls: int
    uploaded: int
    skipped: int
    failed: int
    uploaded_size: int
    response_time: float
    failures: list[Failure] = field(default_factory=list)
    slowest: list[tuple[str, float]] = field(default_factory=list)
    hopeless: bool = False


class ShardUpload:
    """
    One attempt.

    :param listing: gives everything that is to be uploaded by all shards (of lists of their own: by this one); blocks
    :param owner: who uploads, by name: another attempt has to be of the same
    :param tell: takes a line of progress every few seconds
    """

    def __init__(
        self,
        client: AsyncClient,
        spec: BulkSpec,
        shard: int,
        listing: Callable[[], list[SourceBall]],
        owner: Mapping[str, str],
        options: AttemptOptions,
        tell: Callable[[str], None] = log.info,
    ) -> None:
        share_of([], shard, spec.shards)  # says what is wrong with the numbers
        PutOptions(spec.rf, options.max_concurrency, tags=spec.tags)  # and with the others
        self._client = client
        self._spec = spec
        self._spec_text = spec.as_text()
        self._shard = shard
        self._list = listing
        self._owner = dict(owner)
        self._options = options
        self._tell = tell
        self._attempt = secrets.token_hex(8)
        self._store = RecordStore(client, spec.bulk_id, options.timeout)
        self._started = time.monotonic()
        self._failures: dict[tuple[str, str], Failure] = {}
        self._permanent: set[tuple[str, str]] = set()
        self._hashed: dict[tuple[str, str], BallPlan] = {}
        self._plan: ShardPlan | None = None
        self._acknowledged: set[int] = set()
        self._unrecorded: set[int] = set()
        self._sent: set[int] = set()
        self._stopped_by = ""
        self._slowest: list[tuple[str, float]] = []

    async def run(self) -> UploadResult:
        """
        Make the attempt; gives what it came to, failures of balls included.

        ``BulkConflictError``: the bulk id is used by another owner, or was begun with another spec; ``ValidationError``: the
        source is empty or wrong; ``UnavailableError``: a peer is away, so that it can't be told what was done before.
        """
        records = await self._store.read_completely()
        self._refuse_others(records)
        await self._store.write(self._start_after(records))
        try:
            sources = await self._prepare(records.of_shard(self._shard))
            progress = Progress(self._plan_of().record.balls, self._plan_of().record.size, self._tell)
            self._count(progress, self._acknowledged)
            async with self._reporting(progress):
                await self._upload(sources, progress)
            await self._learn_from_others()
            will_retry = self._options.will_retry and self._options.fail_on_error and not self._hopeless
            await self._store.write(self._end(will_retry=will_retry), self._items())
            self._slowest = progress.slowest
        except BaseException as error:
            await self._end_badly(error)
            raise
        return self._result()

    # -- before the first byte -------------------------------------------------------------------------------------

    def _refuse_others(self, records: Records) -> None:
        bulk = f"bulk {self._spec.bulk_id!r}"
        way_out = "Take another bulk_id (put the run into it), or delete_bulk removes what is known of this one"
        if records.closed:
            raise BulkConflictError(f"{bulk} was awaited and closed: it can't be uploaded again. {way_out}")
        for start in records.starts:
            if start.spec != self._spec_text:
                raise BulkConflictError(
                    f"{bulk} was begun with {start.spec}, and now with {self._spec_text}. {way_out}"
                )
            if start.shard == self._shard and start.owner != self._owner:
                raise BulkConflictError(
                    f"shard {self._shard} of {bulk} belongs to {_told(start.owner)}, not to {_told(self._owner)}. {way_out}"
                )

    def _start_after(self, records: Records) -> Start:
        seen = max((start.sequence for start in records.starts if start.shard == self._shard), default=0)
        return Start(
            shard=self._shard,
            attempt=self._attempt,
            sequence=seen + 1,
            shards=self._spec.shards,
            owner=self._owner,
            spec=self._spec_text,
        )

    async def _prepare(self, records: Records) -> dict[tuple[str, str], SourceBall]:
        """List the source, and make the plan, or find it; gives the sources by bucket and key."""
        listing = await asyncio.to_thread(self._list)
        if not listing and not self._options.allow_empty:
            raise ValidationError(
                f"bulk {self._spec.bulk_id!r}: nothing is found in {', '.join(self._spec.sources) or 'the list'}; "
                "allow_empty=True makes a bulk of no balls of that"
            )
        own = list(listing) if self._spec.own_lists else share_of(listing, self._shard, self._spec.shards)
        sources = {(ball.bucket_id, ball.key): ball for ball in listing}
        found = await self._earlier_plan(records)
        if found is None:
            await self._make_plan(listing, own)
        else:
            self._plan = found
            await self._compare(found, listing, own)
            await self._take_over(records)
        if self._spec.own_lists and self._spec.shards > 1:
            await self._refuse_keys_of_others()
        return sources

    async def _earlier_plan(self, records: Records) -> ShardPlan | None:
        """Give the plan of an earlier attempt, if it came to one whose bytes were stored."""
        for record in records.plans:
            with contextlib.suppress(NotFoundError, GetChunkError):  # announced, and cut off before its bytes were sent
                return read_plan(record, await self._store.content_of(record))
        return None

    async def _make_plan(self, listing: list[SourceBall], own: list[SourceBall]) -> None:
        chunk_size = parse_size(self._spec.chunk_size)
        planned: dict[int, PlannedBall] = {}

        async def hash_one(place: int) -> None:
            ball = own[place]
            hashed = value_of(
                await self._client.plan(
                    data=ball.data, path=None if ball.data is not None else ball.source, chunk_size=chunk_size
                )
            )
            if hashed.size != ball.size:
                raise IntegrityError(
                    f"{ball.source} changed while the bulk was planned: {ball.size} bytes, then {hashed.size}"
                )
            self._hashed[ball.bucket_id, ball.key] = hashed
            planned[place] = PlannedBall(
                bucket_id=ball.bucket_id,
                key=ball.key,
                size=hashed.size,
                checksum=hashed.checksum,
                chunk_size=chunk_size,
                source=ball.source,
            )

        await for_each(range(len(own)), hash_one, max_concurrency=4)
        balls = [planned[place] for place in range(len(own))]
        spec = self._spec
        plan = make_plan(spec.bulk_id, self._shard, spec.shards, balls, listing, spec.own_lists)
        await self._store.write(plan.record, plan.content)
        self._plan = plan
        now = (await self._store.read()).of_shard(self._shard)
        if any(other.digest != plan.record.digest for other in now.plans):
            raise BulkConflictError(
                f"shard {self._shard} of bulk {spec.bulk_id!r} has another plan already: its source changed since then, or "
                "another upload runs side by side. Nothing was sent; delete_bulk, or another bulk_id, begins anew"
            )

    async def _compare(self, plan: ShardPlan, listing: list[SourceBall], own: list[SourceBall]) -> None:
        """Report what is another source now than when it was planned."""
        now = {(ball.bucket_id, ball.key): ball for ball in listing}
        for ball in plan.balls:
            here = now.get((ball.bucket_id, ball.key))
            if here is None:
                self._fail(ball.bucket_id, ball.key, 404, f"{ball.source} is gone since the bulk was planned")
            elif here.size != ball.size:
                what = f"{ball.source} changed since the bulk was planned: {ball.size} bytes then, {here.size} now"
                self._fail(ball.bucket_id, ball.key, 501, what)
        if plan.record.listing == listing_digest(listing):
            return
        known = {(ball.bucket_id, ball.key) for ball in plan.balls}
        if self._spec.shards > 1 and not self._spec.own_lists:
            known |= await self._keys_of_others()
        for extra in own:
            if (extra.bucket_id, extra.key) not in known:
                what = f"{extra.source} was added since the bulk was planned, and is not uploaded"
                self._fail(extra.bucket_id, extra.key, 404, what)

    async def _keys_of_others(self) -> set[tuple[str, str]]:
        """Give the keys that the other shards' plans hold."""
        records = await self._store.read()
        keys: set[tuple[str, str]] = set()
        for record in records.plans:
            if record.shard != self._shard:
                plan = read_plan(record, await self._store.content_of(record))
                keys.update((ball.bucket_id, ball.key) for ball in plan.balls)
        return keys

    async def _refuse_keys_of_others(self) -> None:
        others = await self._keys_of_others()
        for ball in self._plan_of().balls:
            if (ball.bucket_id, ball.key) in others:
                self._fail(ball.bucket_id, ball.key, 409, f"{ball.key} is in the list of another shard too", True)

    async def _take_over(self, records: Records) -> None:
        """Learn what earlier attempts acknowledged."""
        digest, balls = self._plan_of().record.digest, len(self._plan_of().balls)
        told: list[Part | Done] = [*records.parts, *records.dones]
        for items in await self._store.items_of(record for record in told if record.plan == digest):
            self._acknowledged |= indexes_of(items.get("acknowledged", ""), balls)

    # -- uploading -------------------------------------------------------------------------------------------------

    async def _upload(self, sources: dict[tuple[str, str], SourceBall], progress: Progress) -> None:
        balls = self._plan_of().balls
        missing = [
            index
            for index, ball in enumerate(balls)
            if index not in self._acknowledged and (ball.bucket_id, ball.key) not in self._failures
        ]
        at_once = max(1, self._options.max_concurrency)
        each = max(1, at_once // max(1, len(missing)))

        async def upload(index: int) -> None:
            ball = balls[index]
            if self._stopped_by:
                self._fail(ball.bucket_id, ball.key, 502, f"not begun, because {self._stopped_by}")
                return
            await self._upload_one(index, ball, sources[ball.bucket_id, ball.key], each, progress)

        await for_each(missing, upload, at_once)

    async def _upload_one(
        self, index: int, ball: PlannedBall, source: SourceBall, max_concurrency: int, progress: Progress
    ) -> None:
        expected = self._hashed.pop((ball.bucket_id, ball.key), None) or BallPlan(ball.size, ball.checksum, ())
        started = time.monotonic()
        result = await self._client.upload(
            ball.bucket_id,
            ball.key,
            data=source.data,
            path=None if source.data is not None else source.source,
            tags={**self._spec.tags, **source.tags},
            chunk_size=ball.chunk_size,
            rf=self._spec.rf,
            timeout=self._options.timeout,
            max_tries=self._options.max_tries,
            max_concurrency=max_concurrency,
            max_backoff=self._options.max_backoff,
            replace=self._options.replace,
            expected=expected,
        )
        if result.is_err:
            error = result.unwrap_err()
            self._fail(ball.bucket_id, ball.key, error.error_code, str(error), error.permanent)
            progress.failed(ball.key)
            if self._options.stop_on_failure:
                self._stopped_by = f"{ball.key} failed"
            return
        if result.unwrap().uploaded:
            self._sent.add(index)
        self._unrecorded.add(index)
        progress.took(ball.key, time.monotonic() - started)
        self._count(progress, {index})

    def _count(self, progress: Progress, indexes: set[int]) -> None:
        self._acknowledged |= indexes
        progress.add(len(indexes), sum(self._plan_of().balls[index].size for index in indexes))

    def _fail(self, bucket_id: str, key: str, code: int, message: str, permanent: bool = False) -> None:
        failure = Failure(bucket_id=bucket_id, key=key, code=code, message=message)
        if self._failures.setdefault((bucket_id, key), failure) is failure and permanent:
            self._permanent.add((bucket_id, key))

    @property
    def _hopeless(self) -> bool:
        return bool(self._failures) and self._failures.keys() <= self._permanent

    # -- records on the way ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _reporting(self, progress: Progress) -> AsyncIterator[None]:
        """Tell the log every few seconds, and the records now and then, while the block lasts."""
        reporter = asyncio.create_task(progress.keep_telling())
        recorder = asyncio.create_task(self._keep_recording())
        try:
            yield
        finally:
            for task in (reporter, recorder):
                task.cancel()
            await asyncio.gather(reporter, recorder, return_exceptions=True)

    async def _keep_recording(self) -> None:
        number, wait = 0, FIRST_PART
        while True:
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, LAST_PART)
            told = set(self._unrecorded)
            part = Part(
                shard=self._shard,
                attempt=self._attempt,
                number=number,
                plan=self._plan_of().record.digest,
                acknowledged=len(self._acknowledged),
                size=self._acknowledged_size(),
            )
            try:
                await self._store.write(part, canonical({"acknowledged": ranges_of(told)}).encode())
            except MictlanXError as error:
                log.info("Progress of bulk %r could not be recorded, it will be later: %s", self._spec.bulk_id, error)
                continue
            self._unrecorded -= told
            number += 1

    # -- the end ---------------------------------------------------------------------------------------------------

    async def _learn_from_others(self) -> None:
        """Before failures are reported: what another attempt has stored in the meantime is no failure."""
        if not self._failures:
            return
        await self._take_over((await self._store.read()).of_shard(self._shard))
        for index in self._acknowledged:
            ball = self._plan_of().balls[index]
            self._failures.pop((ball.bucket_id, ball.key), None)

    def _end(self, error: str = "", will_retry: bool | None = None) -> Done:
        plan = self._plan
        failures = list(self._failures.values())
        planned = {(ball.bucket_id, ball.key) for ball in plan.balls} if plan else set()
        return Done(
            shard=self._shard,
            attempt=self._attempt,
            plan=plan.record.digest if plan else "",
            balls=len(planned),
            acknowledged=len(self._acknowledged),
            size=self._acknowledged_size(),
            uploaded=len(self._sent),
            uploaded_size=self._sent_size(),
            failed=len(failures),
            failures=[_short(failure) for failure in failures[:FIRST_FAILURES]],
            error=error,
            will_retry=self._options.will_retry if will_retry is None else will_retry,
            seconds=round(time.monotonic() - self._started, 6),
        )

    def _items(self) -> bytes:
        failures = [failure.model_dump() for failure in self._failures.values()]
        return canonical({"acknowledged": ranges_of(self._unrecorded), "failures": failures}).encode()

    async def _end_badly(self, error: BaseException) -> None:
        """Record that the attempt was cut off; if that is not possible, the records say that it never ended."""
        permanent = isinstance(error, MictlanXError) and error.permanent
        will_retry = self._options.will_retry and not permanent
        said = str(error) or type(error).__name__
        end = self._store.write(self._end(said[:500], will_retry), self._items())
        try:
            await asyncio.wait_for(end, END_SECONDS if not isinstance(error, MictlanXError) else 4 * END_SECONDS)
        except (MictlanXError, TimeoutError) as problem:
            log.warning("The end of bulk %r could not be recorded: %s", self._spec.bulk_id, problem)

    def _result(self) -> UploadResult:
        failed, uploaded = len(self._failures), len(self._sent)
        total = len({(b.bucket_id, b.key) for b in self._plan_of().balls} | self._failures.keys())
        return UploadResult(
            bulk_id=self._spec.bulk_id,
            shard=self._shard,
            shards=self._spec.shards,
            total_balls=total,
            uploaded=uploaded,
            skipped=total - uploaded - failed,
            failed=failed,
            uploaded_size=self._sent_size(),
            response_time=round(time.monotonic() - self._started, 6),
            failures=list(self._failures.values()),
            slowest=self._slowest,
            hopeless=self._hopeless,
        )

    def _plan_of(self) -> ShardPlan:
        if self._plan is None:
            raise UnknownError("the bulk has no plan yet")
        return self._plan

    def _acknowledged_size(self) -> int:
        return sum(self._plan_of().balls[index].size for index in self._acknowledged) if self._plan else 0

    def _sent_size(self) -> int:
        return sum(self._plan_of().balls[index].size for index in self._sent) if self._plan else 0


def _short(failure: Failure) -> Failure:
    return failure.model_copy(update={"message": failure.message[:300], "key": failure.key[:200]})


def _told(owner: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(owner.items()))
