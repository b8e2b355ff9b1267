"""
What became of a bulk: a pure function of its records, in whatever order they came.

A ball is done if any record of any attempt says so, unless a later attempt found it lost; later is what began later, by the
attempts' sequence numbers. A shard is complete when all of its balls are done; it has failed only when its latest attempt has
ended with failures and none follows. From a listing that lacks a peer only what is good is believed (*complete*, *closed*).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from airflow_provider_mictlanx.batches.runner import MAX_REPORTED, Failure
from airflow_provider_mictlanx.bulks.records import Closed, Done, Plan, Records, Report, Start, parse_ranges
from airflow_provider_mictlanx.client.texts import clean


class State(StrEnum):
    """The state of a bulk."""

    UNPLANNED = "unplanned"
    UPLOADING = "uploading"
    COMPLETE = "complete"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True)
class ShardStatus:
    """
    The state of one shard.

    :ivar complete: whether all of its balls are acknowledged
    :ivar ended: whether its latest attempt has ended, and none follows
    :ivar under_way: whether its latest attempt has not ended, as far as it is known
    :ivar last_heard: when its last record was written (nanoseconds since 1970); 0 where that is not known
    :ivar acknowledged: balls
    :ivar size: of these (bytes)
    :ivar failed: balls that the latest attempt could not store, whether another one follows or not
    :ivar error: why the latest attempt as a whole failed
    """

    complete: bool
    ended: bool
    balls: int
    total_size: int
    acknowledged: int
    size: int
    failed: int
    failures: list[Failure]
    error: str
    under_way: bool
    last_heard: int


@dataclass(frozen=True)
class BulkStatus:
    """
    The state of a bulk, with numbers.

    :ivar state: see ``State``
    :ivar finished: whether every shard is complete, or has failed for good
    :ivar shards: how many there are; 0 where nobody has said so yet
    :ivar total_balls: of all shards, as any plan tells; where each shard brings a list of its own: planned so far
    :ivar total_size: of these (bytes)
    :ivar acknowledged: balls
    :ivar acknowledged_size: of these (bytes)
    :ivar failed: balls that the latest attempts could not store
    :ivar failures: the first few of them
    :ivar problems: why it has failed as a whole: contradictions, and attempts that came to no result
    :ivar response_time: from the first record to the last (seconds, by the peers' clocks)
    :ivar last_heard: when the last record was written (nanoseconds since 1970); 0 where there is none
    :ivar stalest_shard: of the shards under way, the one that was heard of the longest ago; None where none is
    :ivar stalest_since: when that was (nanoseconds since 1970)
    :ivar has_retryable_failures: whether there are failures that a further attempt may still mend
    """

    bulk_id: str
    state: State
    finished: bool = False
    shards: int = 0
    shards_complete: int = 0
    total_balls: int = 0
    total_size: int = 0
    acknowledged: int = 0
    acknowledged_size: int = 0
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    response_time: float = 0.0
    last_heard: int = 0
    stalest_shard: int | None = None
    stalest_since: int = 0
    has_retryable_failures: bool = False
    closed: Closed | None = None


def compute_status(records: Records) -> BulkStatus:
    """Compute the state of a bulk from its records."""
    if records.closed:
        return BulkStatus(records.bulk_id, State.CLOSED, finished=True, closed=records.closed)
    by_shard = records.by_shard()
    known = {number: shard_status(by_shard[number]) for number in sorted(by_shard)}
    shards = list(known.values())
    complete = records.shards > 0 and records.shards == sum(shard.complete for shard in shards)
    contradictions = list(find_contradictions(records))
    errors = [f"shard {number}: {shard.error}" for number, shard in known.items() if shard.error and shard.ended]
    times = [record.updated_at for record in records.of_uploads if record.updated_at]
    failures = [failure for shard in shards if not shard.complete for failure in shard.failures]
    waited_for = {number: shard.last_heard for number, shard in known.items() if shard.under_way and not shard.complete}
    stalest = min(waited_for, key=lambda number: (waited_for[number], number), default=None)
    listed = [plan for plan in records.plans if plan.listing]
    largest = max(listed, key=lambda plan: (plan.listing_balls, plan.listing_size, plan.listing), default=None)
    return BulkStatus(
        bulk_id=records.bulk_id,
        state=_state(records, shards, complete, contradictions),
        finished=complete or (0 < records.shards == sum(shard.complete or shard.ended for shard in shards)),
        shards=records.shards,
        shards_complete=sum(shard.complete for shard in shards),
        total_balls=largest.listing_balls if largest else sum(shard.balls for shard in shards),
        total_size=largest.listing_size if largest else sum(shard.total_size for shard in shards),
        acknowledged=sum(shard.acknowledged for shard in shards),
        acknowledged_size=sum(shard.size for shard in shards),
        failed=sum(shard.failed for shard in shards if not shard.complete),
        failures=failures[:MAX_REPORTED],
        problems=[clean(problem) for problem in contradictions + errors],
        response_time=round((max(times) - min(times)) / 1e9, 3) if times else 0.0,
        last_heard=max(times, default=0),
        stalest_shard=stalest,
        stalest_since=0 if stalest is None else waited_for[stalest],
        has_retryable_failures=any(not s.complete and not s.ended and (s.failed or s.error) for s in shards),
    )


def _state(records: Records, shards: list[ShardStatus], complete: bool, contradictions: list[str]) -> State:
    if complete and not contradictions:
        return State.COMPLETE
    if not records.complete:  # neither "nobody has begun" nor "nobody goes on" can be seen in a part of the records
        return State.UPLOADING
    if contradictions or any(shard.ended and not shard.complete for shard in shards):
        return State.FAILED
    return State.UPLOADING if records.plans else State.UNPLANNED


def shard_status(records: Records) -> ShardStatus:
    """Compute the state of one shard from its records."""
    plan = min(records.plans, key=lambda plan: plan.digest, default=None)  # several are a contradiction
    valid = valid_reports(records, plan) if plan else []
    latest = latest_start(records.starts)
    end = next((done for done in records.dones if latest and done.attempt == latest.attempt), None)
    # The end of the latest attempt is exact. Of one that was cut off, the reports of the others may tell of more.
    exact = [end] if end in valid and end is not None and not end.error else valid
    furthest = max(exact, key=lambda report: (report.acknowledged, report.size), default=None)
    complete = any(is_good_end(report) for report in valid)
    return ShardStatus(
        complete=complete,
        ended=records.complete and end is not None and not end.good and not end.will_retry,
        balls=plan.balls if plan else 0,
        total_size=plan.size if plan else 0,
        acknowledged=plan.balls if plan and complete else furthest.acknowledged if furthest else 0,
        size=plan.size if plan and complete else furthest.size if furthest else 0,
        failed=end.failed if end else 0,
        failures=end.failures if end else [],
        error=end.error if end else "",
        under_way=latest is not None and end is None,
        last_heard=max((record.updated_at for record in records.of_uploads), default=0),
    )


def latest_start(starts: Iterable[Start]) -> Start | None:
    """Return the attempt that began last: by what each had seen of the others, then by the peers' clocks."""
    return max(starts, key=lambda start: (start.sequence, start.updated_at, start.attempt), default=None)


AttemptOrder: TypeAlias = tuple[int, str]
"""The order of an attempt within its shard. Every report has it, so it is known from a listing that lacks a start."""


def _order_of(report: Report) -> AttemptOrder:
    return report.sequence, report.attempt


def valid_reports(records: Records, plan: Plan) -> list[Report]:
    """
    Return the reports of a shard's plan whose counts are still true.

    Those are the ones of the latest attempt that found balls lost, and of later ones: the counts before it include lost balls.
    """
    reports = [report for report in records.reports if report.plan == plan.digest]
    since = max((_order_of(report) for report in reports if report.lost), default=(0, ""))
    return [report for report in reports if _order_of(report) >= since]


def is_good_end(report: Report) -> bool:
    """Return whether a report is the end of an attempt that left nothing missing."""
    return isinstance(report, Done) and report.good


Items: TypeAlias = Mapping[str, Any]
"""The bytes of a report as a dictionary: ``acknowledged`` and ``lost``, as ``0-57,60``."""


def acknowledged_balls(records: Records, plan: Plan, read: Iterable[tuple[Report, Items]]) -> dict[int, int]:
    """
    Return the balls of a shard's plan that its records acknowledge, and that no later attempt found lost.

    With each, when the first report that counts was written: what was stored under it was announced before.

    :param read: the reports of the plan whose bytes could be read, in any order
    :return: nanoseconds since 1970, by the peers' clocks
    """
    told: defaultdict[AttemptOrder, int] = defaultdict(int)
    for report in records.reports:
        if report.plan == plan.digest:
            told[_order_of(report)] = max(told[_order_of(report)], report.lost)
    acknowledged: defaultdict[AttemptOrder, list[tuple[int, set[int]]]] = defaultdict(list)
    lost: defaultdict[AttemptOrder, set[int]] = defaultdict(set)
    for report, items in read:
        indexes = parse_ranges(items.get("acknowledged", ""), plan.balls)
        acknowledged[_order_of(report)].append((report.updated_at, indexes))
        lost[_order_of(report)] |= parse_ranges(items.get("lost", ""), plan.balls)
    done: dict[int, int] = {}
    for place in sorted(told):
        if len(lost[place]) < told[place]:  # nobody knows any more which balls these were
            done.clear()
        for index in lost[place]:
            done.pop(index, None)
        for written, indexes in acknowledged[place]:
            for index in indexes:
                done[index] = min(written, done.get(index, written))
    return done


def taken_back_balls(records: Records, plan: Plan, read: Sequence[tuple[Report, Items]]) -> set[int]:
    """
    Return the balls that were acknowledged, until an attempt found balls lost, and have not been acknowledged again.

    :param read: as of ``acknowledged_balls``
    """
    valid = {report.name for report in valid_reports(records, plan)}
    if any(report.plan == plan.digest and is_good_end(report) and report.name not in valid for report in records.dones):
        balls = set(range(plan.balls))
    else:
        before = [items for report, items in read if report.name not in valid]
        balls = {index for items in before for index in parse_ranges(items.get("acknowledged", ""), plan.balls)}
    return balls - acknowledged_balls(records, plan, read).keys()


def find_contradictions(records: Records) -> Iterable[str]:
    """Yield contradictions between records: plans, owners, specs, numbers of shards, listings."""
    counts = {plan.shards for plan in records.plans} | {start.shards for start in records.starts}
    if len(counts) > 1:
        yield f"it was begun with different numbers of shards: {', '.join(map(str, sorted(counts)))}"
    by_shard = records.by_shard()
    if counts and (beyond := sorted(shard for shard in by_shard if shard >= max(counts))):
        yield f"there are records of shard {beyond[0]}, but only shards 0 to {max(counts) - 1}"
    for shard in sorted(by_shard):
        own = by_shard[shard]
        if len({plan.digest for plan in own.plans}) > 1:
            plans = sorted(own.plans, key=lambda plan: plan.digest)
            yield f"shard {shard} has {len(plans)} plans: two uploads saw different sources ({_format_listings(plans)})"
        owners = {tuple(sorted(start.owner.items())) for start in own.starts}
        if len(owners) > 1:
            names = " and ".join(format_owner(dict(owner)) for owner in sorted(owners))
            yield f"shard {shard} was begun by different owners: {names}"
    if len({start.spec for start in records.starts}) > 1:
        specs = sorted({start.spec for start in records.starts})
        yield f"its uploads differ in what they are to upload: {' and '.join(specs[:2])}"
    listings = {plan.listing: plan for plan in sorted(records.plans, key=lambda plan: -plan.shard) if plan.listing}
    if len(listings) > 1:
        yield f"shards saw different sources: {_format_listings(sorted(listings.values(), key=lambda plan: plan.shard))}"
    if listings and any(not plan.listing for plan in records.plans):
        yield "some shards bring a list of their own, and some share one"


def _format_listings(plans: Iterable[Plan]) -> str:
    return "; ".join(f"shard {plan.shard} saw {plan.listing_balls} balls, {plan.listing_size} bytes" for plan in plans)


def format_owner(owner: Mapping[str, str]) -> str:
    """Return an owner as ``dag_id nightly, run_id 7``."""
    return ", ".join(f"{name} {value}" for name, value in sorted(owner.items()))
