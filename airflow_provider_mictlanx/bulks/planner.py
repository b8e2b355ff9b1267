"""
Plan a shard: list the source, and find the plan of an earlier attempt, or make and write one.

A plan is made once. Later attempts compare the source with it, and report differences as failures.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from humanfriendly.text import pluralize

from airflow_provider_mictlanx.batches.progress import Progress
from airflow_provider_mictlanx.bulks.errors import BulkConflictError
from airflow_provider_mictlanx.bulks.inventory import find_lost
from airflow_provider_mictlanx.bulks.ledger import BallKey, Ledger
from airflow_provider_mictlanx.bulks.options import BulkSpec
from airflow_provider_mictlanx.bulks.plan import (
    PlannedBall,
    ShardPlan,
    assign_shards,
    listing_digest,
    make_plan,
    read_plan,
    select_shard,
    sources_mark,
)
from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.bulks.records import Items, Plan, Records, Report, parse_ranges
from airflow_provider_mictlanx.bulks.sources import SourceBall, as_unicode
from airflow_provider_mictlanx.bulks.status import (
    acknowledged_balls,
    find_contradictions,
    shard_status,
    taken_back_balls,
)
from airflow_provider_mictlanx.client.concurrency import for_each, run_in_thread
from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    IntegrityError,
    MictlanXError,
    NotFoundError,
    ValidationError,
)
from airflow_provider_mictlanx.client.local_io.chunk_sizes import chunk_size_for
from airflow_provider_mictlanx.client.local_io.chunk_splitter import ChunkManifest
from airflow_provider_mictlanx.client.object_ids import check_bucket_may_change
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import format_first

HASHED_AT_ONCE = 4
"""Limit for the balls that are read and hashed at the same time."""

HOW_TO_RESOLVE = "Use another bulk_id (include the run id), or delete the records of this one with delete_bulk"

HOW_TO_RESOLVE_CHANGE = (
    "A bulk only uploads the bytes that it planned. To upload the current source, use another bulk_id or delete_bulk; "
    "if the key is stored already, also set replace=True"
)


@dataclass
class Planner:
    """
    Find the plan of a shard, or make and write it.

    :ivar listing: returns the balls of all shards, or with ``spec.items_per_shard`` those of this shard; blocks
    :ivar ledger: receives the plan, the balls that earlier attempts acknowledged, and differences from the plan
    :ivar record_lost: records the ledger's lost balls
    :ivar hashed: hashes of balls with several chunks, by bucket and key
    :ivar is_new: whether this attempt made the plan, and so has read every source
    """

    store: RecordStore
    spec: BulkSpec
    shard: int
    listing: Callable[[], list[SourceBall]]
    ledger: Ledger
    allow_empty: bool
    record_lost: Callable[[], Awaitable[object]]
    log_progress: Callable[[str], None]
    is_new: bool = field(default=True, init=False)
    hashed: dict[BallKey, ChunkManifest] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.progress = Progress(0, 0, self.log_progress)

    async def run(self, records: Records) -> dict[BallKey, SourceBall]:
        """
        Put the plan into the ledger, and return the sources of its balls.

        :param records: the bulk's records before this attempt
        """
        listing = await run_in_thread(self._list_balls)
        mine = records.shard_records(self.shard)
        found = await self._earlier_plan(mine)
        if found is None:
            sources = await self._make_plan(listing, mine)
        else:
            self.is_new = False
            sources = await self._take_over(found, mine, listing)
        if self.spec.items_per_shard and self.spec.shards > 1:
            await self._report_shared_keys()
        return sources

    def _list_balls(self) -> list[SourceBall]:
        listing = self.listing()
        if not listing and not self.allow_empty:
            raise ValidationError(
                f"planning bulk {self.spec.bulk_id!r} failed: {', '.join(self.spec.sources) or 'the list'} has no "
                "objects; set allow_empty=True to accept that"
            )
        buckets = {ball.bucket_id for ball in listing}
        for bucket_id in buckets:
            check_bucket_may_change(bucket_id, self.spec.allow_reserved_bucket)
        if self.store.bucket_id in buckets:
            raise ValidationError(
                f"bucket_id must not be {self.store.bucket_id!r}: that bucket contains the records of bulk "
                f"{self.spec.bulk_id!r}; choose another one"
            )
        return listing

    # -- a new plan ------------------------------------------------------------------------------------------------

    async def _make_plan(self, listing: list[SourceBall], mine: Records) -> dict[BallKey, SourceBall]:
        spec = self.spec
        select = partial(select_shard, listing, self.shard, spec.shards)
        own = listing if spec.items_per_shard else await run_in_thread(select)
        balls = await self._hash(own)
        plan, content = await run_in_thread(
            lambda: make_plan(spec.bulk_id, self.shard, spec.shards, balls, listing, spec.items_per_shard)
        )
        if any(other.digest != plan.record.digest for other in mine.plans):
            raise IntegrityError(
                f"planning shard {self.shard} of bulk {spec.bulk_id!r} failed: an earlier attempt was interrupted "
                f"while it wrote its plan, and the source has changed since. Nothing was sent. {HOW_TO_RESOLVE}"
            )
        await self.store.write(plan.record, content, allow_fewer_replicas=True)
        sources = {(ball.bucket_id, ball.key): ball for ball in own}
        self.ledger.plan, self.ledger.sources = plan, sources_mark(balls, sources)
        self._refuse_contradictions(await self.store.read_completely())
        return sources

    async def _hash(self, own: list[SourceBall]) -> list[PlannedBall]:
        planned: list[PlannedBall | None] = [None] * len(own)
        self.progress = Progress(len(own), sum(ball.size for ball in own), self.log_progress, "planning: ")

        async def hash_one(place: int) -> None:
            ball = own[place]
            chunk_size = chunk_size_for(ball.size, self.spec.chunk_size)
            hashed = await self._hash_one(ball, chunk_size)
            if len(hashed.chunks) > 1:
                self.hashed[ball.bucket_id, ball.key] = hashed
            source = as_unicode(ball.source)
            planned[place] = PlannedBall(ball.bucket_id, ball.key, hashed.size, hashed.checksum, chunk_size, source)
            self.progress.add(1, hashed.size)

        await for_each(range(len(own)), hash_one, HASHED_AT_ONCE)
        return [ball for ball in planned if ball is not None]

    async def _hash_one(self, ball: SourceBall, chunk_size: int) -> ChunkManifest:
        try:
            hashed = unwrap(await self.store.client.plan(**ball.given(), chunk_size=chunk_size))
        except ValidationError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise IntegrityError(
                f"reading {ball.source} failed: it was deleted during planning; nothing was sent"
            ) from error
        except OSError as error:
            raise IntegrityError(f"reading {ball.source} failed: {error.strerror}; nothing was sent") from error
        if hashed.size != ball.size:
            raise IntegrityError(
                f"{ball.source} changed during planning: {ball.size} bytes, then {hashed.size}; nothing was sent"
            )
        return hashed

    def _refuse_contradictions(self, records: Records) -> None:
        """Raise ``BulkConflictError`` if another attempt planned differently. Nothing was sent yet."""
        if records.closed:
            raise BulkConflictError(
                f"uploading bulk {self.spec.bulk_id!r} failed: it was awaited and closed meanwhile. {HOW_TO_RESOLVE}"
            )
        if problems := list(find_contradictions(records)):
            raise BulkConflictError(
                f"uploading bulk {self.spec.bulk_id!r} failed: {'; '.join(problems)}. Nothing was sent. "
                f"{HOW_TO_RESOLVE}"
            )

    # -- the plan of an earlier attempt ----------------------------------------------------------------------------

    async def _earlier_plan(self, mine: Records) -> ShardPlan | None:
        """Return the plan of an earlier attempt; None if no plan was stored completely."""
        for record in mine.plans:
            content = None
            with suppress(NotFoundError, GetChunkError, IntegrityError):  # announced, but not sent
                content = await self.store.read_content(record)
            if content is not None:
                # It may come from a router's cache although no peer stores it yet.
                await self.store.write(record, content, allow_fewer_replicas=True)
                return await run_in_thread(partial(read_plan, record, content))
        return None

    async def _take_over(self, plan: ShardPlan, mine: Records, listing: list[SourceBall]) -> dict[BallKey, SourceBall]:
        """Adopt the acknowledged balls of earlier attempts if storage and source confirm them; return the sources."""
        reports = await self._reports(mine, plan.record)
        acknowledged = acknowledged_balls(mine, plan.record, reports)
        lost = await self._lost(plan, acknowledged, mine) if acknowledged else set()
        stored = acknowledged.keys() - lost
        # An interrupted attempt may have recorded losses. This one relies on them, so it records them too.
        lost |= taken_back_balls(mine, plan.record, reports)
        self.ledger.take_over(plan, stored, lost)
        if lost:
            names = format_first([plan.balls[index].key for index in sorted(lost)])
            self.log_progress(f"Sending {pluralize(len(lost), 'object')} again, which the storage has lost: {names}")
            await self.record_lost()
        return await self._compare(plan, listing, reports)

    async def _reports(self, mine: Records, plan: Plan) -> Sequence[tuple[Report, Items]]:
        return await self.store.read_items(report for report in mine.reports if report.plan == plan.digest)

    async def _lost(self, plan: ShardPlan, acknowledged: Mapping[int, int], mine: Records) -> set[int]:
        """Return the acknowledged balls that the storage does not have."""
        in_doubt = await self._in_doubt(plan, acknowledged.keys(), mine)
        try:
            return await find_lost(self.store, plan.balls, acknowledged, in_doubt)
        except MictlanXError as error:
            error.amend(f"verifying the stored objects of bulk {self.spec.bulk_id!r} failed: {error}")
            raise

    async def _in_doubt(self, plan: ShardPlan, indexes: Collection[int], mine: Records) -> set[int]:
        """Return the balls that a storage check could not read, even if they are listed."""
        failed = [check for check in mine.checks if check.failed and check.plan == plan.record.digest]
        if not failed:
            return set()
        read = {check.name: items for check, items in await self.store.read_items(failed)}
        unreadable: set[BallKey] = set()
        in_doubt: set[int] = set()
        for check in failed:
            if check.name in read:
                unreadable |= {(failure.bucket_id, failure.key) for failure in read[check.name].failures}
            else:  # it is unknown which balls failed, so all are in doubt
                in_doubt |= parse_ranges(check.read, plan.record.balls)
        balls = plan.balls
        in_doubt |= {index for index in indexes if (balls[index].bucket_id, balls[index].key) in unreadable}
        return in_doubt

    async def learn_from_others(self) -> None:
        """Drop failures of balls that another attempt has stored meanwhile."""
        plan = self.ledger.plan
        if plan is None or not self.ledger.failures:
            return
        mine = (await self.store.read()).shard_records(self.shard)
        stored = acknowledged_balls(mine, plan.record, await self._reports(mine, plan.record))
        others = {index: at for index, at in stored.items() if index not in self.ledger.acknowledged}
        with suppress(MictlanXError):  # then the failures stay
            self.ledger.learn(others.keys() - await self._lost(plan, others, mine))

    # -- the source, compared with the plan ------------------------------------------------------------------------

    async def _compare(
        self, plan: ShardPlan, listing: list[SourceBall], reports: Sequence[tuple[Report, Items]]
    ) -> dict[BallKey, SourceBall]:
        """Report sources that differ from the plan as failures; return the sources of the plan's balls."""
        ledger = self.ledger
        planned = {(ball.bucket_id, ball.key) for ball in plan.balls}
        sources = {name: ball for ball in listing if (name := (ball.bucket_id, ball.key)) in planned}
        deleted = 0
        for index, ball in enumerate(plan.balls):
            here = sources.get((ball.bucket_id, ball.key))
            if here is not None and here.size != ball.size:
                ledger.changed(
                    index, f"{_changed(ball)}: {ball.size} bytes then, {here.size} now. {HOW_TO_RESOLVE_CHANGE}"
                )
            elif here is None and index in ledger.acknowledged:  # stored as planned, so the source is not needed
                deleted += 1
            elif here is None:
                what = f"{ball.source} was deleted after planning, and its object is not stored"
                ledger.fail(ball.bucket_id, ball.key, 404, f"{what}. {HOW_TO_RESOLVE_CHANGE}")
        if deleted:
            self.log_progress(f"Ignoring {pluralize(deleted, 'source')} deleted after their objects were stored")
        mark = await run_in_thread(lambda: sources_mark(plan.balls, sources))
        await self._compare_acknowledged(plan, sources, _compared_balls(plan, reports, mark))
        ledger.sources = mark
        if self.spec.items_per_shard or plan.record.listing != await run_in_thread(lambda: listing_digest(listing)):
            await self._report_added(listing, planned)
        return sources

    async def _compare_acknowledged(
        self, plan: ShardPlan, sources: dict[BallKey, SourceBall], unchanged: set[int]
    ) -> None:
        """
        Read the sources of acknowledged balls, and report those that differ from the plan as failures.

        :param unchanged: balls whose sources an earlier attempt compared, and that have not changed since
        """
        balls = plan.balls
        doubtful = [
            index
            for index in sorted(self.ledger.acknowledged - unchanged)
            if (balls[index].bucket_id, balls[index].key) in sources
        ]
        size = sum(balls[index].size for index in doubtful)
        self.progress = Progress(len(doubtful), size, self.log_progress, "comparing with the plan: ")

        async def compare(index: int) -> None:
            await self._compare_one(index, balls[index], sources[balls[index].bucket_id, balls[index].key])
            self.progress.add(1, balls[index].size)

        await for_each(doubtful, compare, HASHED_AT_ONCE)
        self.ledger.compared(self.ledger.acknowledged.intersection(doubtful))

    async def _compare_one(self, index: int, ball: PlannedBall, source: SourceBall) -> None:
        try:
            now = unwrap(await self.store.client.plan(**source.given(), chunk_size=ball.chunk_size))
        except (MictlanXError, OSError) as error:
            why = f"comparing {ball.source} with the plan failed: {error}; make it readable and run the upload again"
            self.ledger.changed(index, why, permanent=False)
            return
        if now.checksum != ball.checksum:
            then = f"SHA-256 {ball.checksum[:12]}… then, {now.checksum[:12]}… now"
            self.ledger.changed(index, f"{_changed(ball)}: {then}. {HOW_TO_RESOLVE_CHANGE}")

    async def _report_added(self, listing: list[SourceBall], planned: set[BallKey]) -> None:
        """
        Report balls that no shard has planned as failures.

        The shard that would have planned a ball reports it. If that shard is complete, and so may never run again,
        every other shard reports it.
        """
        added = {name: ball for ball in listing if (name := (ball.bucket_id, ball.key)) not in planned}
        if added and self.spec.shards > 1 and not self.spec.items_per_shard:
            records = await self.store.read_completely()
            by_shard = records.by_shard()
            if len({record.shard for record in records.plans}) < self.spec.shards:
                return  # a shard that plans later sees another listing, so the plans contradict each other
            async for _, plan in self._other_plans(records):
                for planned_ball in plan.balls:
                    added.pop((planned_ball.bucket_id, planned_ball.key), None)
            complete = {number for number, own in by_shard.items() if shard_status(own).complete}
            for number, ball in assign_shards(listing, self.spec.shards):
                if number != self.shard and number not in complete:
                    added.pop((ball.bucket_id, ball.key), None)
        for ball in added.values():
            what = f"{ball.source} was added after planning, and is not uploaded. {HOW_TO_RESOLVE_CHANGE}"
            self.ledger.fail(ball.bucket_id, ball.key, 404, what)

    # -- the other shards' plans -----------------------------------------------------------------------------------

    async def _other_plans(self, records: Records) -> AsyncIterator[tuple[Plan, ShardPlan]]:
        """Yield the plans of the other shards, one in memory at a time."""
        for record in records.plans:
            if record.shard != self.shard:
                yield record, read_plan(record, await self.store.read_content(record))

    async def _report_shared_keys(self) -> None:
        """
        Report keys that are also in another shard's list as failures.

        Every shard checks this after it has written its own plan, so at least one of two shards sees the other's.
        """
        mine = {(ball.bucket_id, ball.key) for ball in self.ledger.balls}
        async for record, plan in self._other_plans(await self.store.read_completely()):
            for ball in plan.balls:
                if (ball.bucket_id, ball.key) in mine:
                    what = (
                        f"a key must be in the list of one shard, got {ball.key!r} in that of shard {record.shard} too"
                    )
                    self.ledger.fail(ball.bucket_id, ball.key, 409, what, permanent=True)


def _changed(ball: PlannedBall) -> str:
    return f"{ball.source} changed after planning"


def _compared_balls(plan: ShardPlan, reports: Sequence[tuple[Report, Items]], mark: str) -> set[int]:
    """Return the balls whose sources an earlier attempt has compared with the plan, and that are unchanged since."""
    found: set[int] = set()
    for report, items in reports:
        if mark and report.sources == mark:
            found |= parse_ranges(items.acknowledged, plan.record.balls)
    return found
