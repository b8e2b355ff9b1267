"""
Compute the state of a bulk from its records. Pure, and independent of the order of the records.

A ball is acknowledged if a record of any attempt says so, unless a later attempt found it lost. The attempts' sequence
numbers give their order. A shard is complete when all of its balls are acknowledged. It has failed only if its latest
attempt has ended with failures and none follows. A listing that lacks a peer can only prove a good state: *complete* or
*closed*.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from airflow_provider_mictlanx.batches.runner import MAX_REPORTED, Failure
from airflow_provider_mictlanx.bulks.records import Closed, Done, Items, Plan, Records, Report, Start, parse_ranges
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
    :ivar ended: whether its latest attempt has ended without success, and none follows
    :ivar under_way: whether its latest attempt is running, as far as known
    :ivar last_heard: time of its last record (nanoseconds since 1970); 0 if unknown
    :ivar acknowledged: number of acknowledged balls
    :ivar size: their total size, in bytes
    :ivar failed: number of balls that the latest attempt could not store, even if another attempt follows
    :ivar error: error of the latest attempt itself; empty if there was none
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
    :ivar finished: whether every shard is complete, or failed permanently
    :ivar shards: number of shards; 0 if unknown
    :ivar total_balls: number of balls of all shards; if each shard has its own list, only those planned so far
    :ivar total_size: their total size, in bytes
    :ivar acknowledged: number of acknowledged balls
    :ivar acknowledged_size: their total size, in bytes
    :ivar failed: number of balls that the latest attempts could not store
    :ivar failures: the first few failures
    :ivar problems: errors of the bulk itself: contradictions between records, and errors of attempts
    :ivar response_time: from the first record to the last (seconds, by the peers' clocks)
    :ivar last_heard: time of the last record (nanoseconds since 1970); 0 if unknown
    :ivar stalest_shard: the running shard with the oldest last record; None if no shard is running
    :ivar stalest_since: time of that record (nanoseconds since 1970)
    :ivar has_retryable_failures: whether there are failures that a further attempt may still fix
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
    times = [record.updated_at for record in records.upload_records if record.updated_at]
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
    if not records.complete:  # neither "unplanned" nor "failed" can be proven by some of the records
        return State.UPLOADING
    if contradictions or any(shard.ended and not shard.complete for shard in shards):
        return State.FAILED
    return State.UPLOADING if records.plans else State.UNPLANNED


def shard_status(records: Records) -> ShardStatus:
    """Compute the state of one shard from its records."""
    plan = min(records.plans, key=lambda plan: plan.digest, default=None)  # several plans are a contradiction
    valid = valid_reports(records, plan) if plan else []
    latest = latest_start(records.starts)
    end = next((done for done in records.dones if latest and done.attempt == latest.attempt), None)
    # The end of the latest attempt is exact. If it was interrupted, an earlier report may count more balls.
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
        last_heard=max((record.updated_at for record in records.upload_records), default=0),
    )


def latest_start(starts: Iterable[Start]) -> Start | None:
    """Return the attempt that started last, by sequence number, then by the peers' clocks."""
    return max(starts, key=lambda start: (start.sequence, start.updated_at, start.attempt), default=None)


def first_attempt(starts: Iterable[Start]) -> str:
    """Return the attempt that started first, by sequence number, then by the peers' clocks; empty if none did."""
    first = min(starts, key=lambda start: (start.sequence, start.updated_at, start.attempt), default=None)
    return first.attempt if first else ""


AttemptOrder: TypeAlias = tuple[int, str]
"""Sort key of an attempt within its shard. Every report contains it, so it is known even if the start is missing."""


def _attempt_order(report: Report) -> AttemptOrder:
    return report.sequence, report.attempt


def valid_reports(records: Records, plan: Plan) -> list[Report]:
    """
    Return the reports of a shard's plan whose counts are still valid.

    The counts of attempts before the latest loss include lost balls, so only reports since that attempt are valid. An
    attempt without a start reports on a bulk that was deleted meanwhile, and its objects may be deleted too.
    """
    started = {start.attempt for start in records.starts}
    reports = [report for report in records.reports if report.plan == plan.digest]
    since = max((_attempt_order(report) for report in reports if report.lost), default=(0, ""))
    return [report for report in reports if _attempt_order(report) >= since and report.attempt in started]


def is_good_end(report: Report) -> bool:
    """Return whether a report is the end of an attempt with every ball acknowledged."""
    return isinstance(report, Done) and report.good


def acknowledged_balls(records: Records, plan: Plan, read: Iterable[tuple[Report, Items]]) -> dict[int, int]:
    """
    Return the balls of a shard's plan that its records acknowledge, and that no later attempt found lost.

    The value is the time of the first valid report that acknowledges the ball: its data was announced before.

    :param read: the reports of the plan whose content could be read, in any order
    :return: nanoseconds since 1970 by ball, by the peers' clocks
    """
    reported_losses: defaultdict[AttemptOrder, int] = defaultdict(int)
    for report in records.reports:
        if report.plan == plan.digest:
            reported_losses[_attempt_order(report)] = max(reported_losses[_attempt_order(report)], report.lost)
    acknowledged: defaultdict[AttemptOrder, list[tuple[int, set[int]]]] = defaultdict(list)
    lost: defaultdict[AttemptOrder, set[int]] = defaultdict(set)
    for report, items in read:
        indexes = parse_ranges(items.acknowledged, plan.balls)
        acknowledged[_attempt_order(report)].append((report.updated_at, indexes))
        lost[_attempt_order(report)] |= parse_ranges(items.lost, plan.balls)
    done: dict[int, int] = {}
    for order in sorted(reported_losses):
        if len(lost[order]) < reported_losses[order]:  # it is unknown which, so no earlier acknowledgement counts
            done.clear()
        for index in lost[order]:
            done.pop(index, None)
        for written, indexes in acknowledged[order]:
            for index in indexes:
                done[index] = min(written, done.get(index, written))
    return done


def taken_back_balls(records: Records, plan: Plan, read: Sequence[tuple[Report, Items]]) -> set[int]:
    """
    Return the balls that were acknowledged before an attempt found balls lost, and not since.

    :param read: see ``acknowledged_balls``
    """
    valid = {report.name for report in valid_reports(records, plan)}
    if any(report.plan == plan.digest and is_good_end(report) and report.name not in valid for report in records.dones):
        balls = set(range(plan.balls))
    else:
        before = [items for report, items in read if report.name not in valid]
        balls = {index for items in before for index in parse_ranges(items.acknowledged, plan.balls)}
    return balls - acknowledged_balls(records, plan, read).keys()


def find_contradictions(records: Records) -> Iterable[str]:
    """Yield contradictions between records, in plans, owners, specs, numbers of shards and listings."""
    counts = {plan.shards for plan in records.plans} | {start.shards for start in records.starts}
    if len(counts) > 1:
        yield f"it was started with different numbers of shards: {', '.join(map(str, sorted(counts)))}"
    by_shard = records.by_shard()
    if counts and (beyond := sorted(shard for shard in by_shard if shard >= max(counts))):
        yield f"shard {beyond[0]} has records, but the bulk only has shards 0 to {max(counts) - 1}"
    for shard in sorted(by_shard):
        own = by_shard[shard]
        if len({plan.digest for plan in own.plans}) > 1:
            plans = sorted(own.plans, key=lambda plan: plan.digest)
            yield f"shard {shard} has {len(plans)} plans: two uploads saw different sources ({_format_listings(plans)})"
        owners = {tuple(sorted(start.owner.items())) for start in own.starts}
        if len(owners) > 1:
            names = " and ".join(format_owner(dict(owner)) for owner in sorted(owners))
            yield f"shard {shard} was started by different owners: {names}"
    if len({start.spec for start in records.starts}) > 1:
        specs = sorted({start.spec for start in records.starts})
        yield f"its uploads have different parameters: {' and '.join(specs[:2])}"
    listings = {plan.listing: plan for plan in sorted(records.plans, key=lambda plan: -plan.shard) if plan.listing}
    if len(listings) > 1:
        plans = sorted(listings.values(), key=lambda plan: plan.shard)
        yield f"shards saw different sources: {_format_listings(plans)}"
    if listings and any(not plan.listing for plan in records.plans):
        yield "some shards have their own list, and others share one"


def _format_listings(plans: Iterable[Plan]) -> str:
    return "; ".join(
        f"shard {plan.shard} saw {plan.listing_balls} objects, {plan.listing_size} bytes" for plan in plans
    )


def format_owner(owner: Mapping[str, str]) -> str:
    """Return an owner as ``dag_id nightly, run_id 7``."""
    return ", ".join(f"{name} {value}" for name, value in sorted(owner.items()))
