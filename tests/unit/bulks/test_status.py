"""The status of a bulk as a pure function of its records: whatever order they come in, and whatever is missing."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mictlanx.batches.runner import Failure
from airflow_provider_mictlanx.bulks.records import (
    BULK_TAG,
    RECORD_TAG,
    Checked,
    Closed,
    Done,
    Items,
    Part,
    Plan,
    Record,
    Records,
    Start,
    Summary,
    canonical,
    format_ranges,
    parse_ranges,
    read_listing,
)
from airflow_provider_mictlanx.bulks.status import (
    BulkStatus,
    State,
    acknowledged_balls,
    compute_status,
    latest_start,
    taken_back_balls,
)
from airflow_provider_mictlanx.bulks.summary import summarize
from airflow_provider_mictlanx.client.errors import IntegrityError
from airflow_provider_mictlanx.client.models import Metadata

BULK = "nightly"
BALLS = 4
FAILURE = Failure(bucket_id="b", key="k", code=502, message="too few peers")


def announced(record: Record, at: int = 1, chunks: int = 1, only: int | None = None, **tags: str) -> list[Metadata]:
    """Return a record as a listing shows it, with ``only`` the given number of its chunks."""
    return [
        Metadata(
            bucket_id="bulk-nightly",
            key=f"{record.name}_{index}",
            ball_id=record.name,
            checksum=f"{index:064x}",
            size=10,
            tags={
                **record.tags(BULK),
                "index": str(index),
                "num_chunks": str(chunks),
                "full_checksum": "f" * 64,
                "updated_at": str(at),
                **tags,
            },
        )
        for index in range(chunks)
    ][:only]


def digest_of(shard: int) -> str:
    return f"{shard:064x}"


def plan(shard: int, shards: int, **other: Any) -> Plan:
    told: dict[str, Any] = {"digest": digest_of(shard), "balls": BALLS, "size": BALLS * 10, "listing": "l"}
    told |= {"listing_balls": BALLS * shards, "listing_size": BALLS * 10 * shards} | other
    return Plan(shard=shard, shards=shards, **told)


def start(shard: int, shards: int, attempt: int, sequence: int, **other: Any) -> Start:
    told: dict[str, Any] = {"owner": {"dag_id": "d"}, "spec": "{}"} | other
    return Start(shard=shard, shards=shards, attempt=f"{attempt:016x}", sequence=sequence, **told)


def part(shard: int, attempt: int, number: int, acknowledged: int, **other: Any) -> Part:
    told: dict[str, Any] = {"plan": digest_of(shard), "acknowledged": acknowledged, "size": acknowledged * 10} | other
    return Part(shard=shard, attempt=f"{attempt:016x}", number=number, **told)


def good(shard: int, attempt: int, **other: Any) -> Done:
    told: dict[str, Any] = {"plan": digest_of(shard), "balls": BALLS, "acknowledged": BALLS, "size": BALLS * 10} | other
    return Done(shard=shard, attempt=f"{attempt:016x}", **told)


def bad(shard: int, attempt: int, will_retry: bool = False, **other: Any) -> Done:
    told = {"acknowledged": 3, "size": 30, "failed": 1, "failures": [FAILURE], "will_retry": will_retry} | other
    return good(shard, attempt, **told)


def seen(*records: Record, complete: bool = True) -> Records:
    return read_listing(
        BULK, [chunk for at, record in enumerate(records, 1) for chunk in announced(record, at)], complete
    )


def status(*records: Record, complete: bool = True) -> BulkStatus:
    return compute_status(seen(*records, complete=complete))


@st.composite
def histories(draw: st.DrawFn, losses: bool = True) -> list[Record]:
    """
    Return the records of a bulk without contradictions: several shards, each with several attempts that ended in any way.

    :param losses: whether later attempts may find that balls are lost
    """
    shards = draw(st.integers(1, 3))
    records: list[Record] = []
    for shard in range(shards):
        attempts = draw(st.integers(0, 3))
        for attempt in range(attempts):
            number = shard * 10 + attempt
            sequence = draw(st.integers(1, attempt + 1))
            records.append(start(shard, shards, number, sequence))
            if not draw(st.booleans()):
                continue
            records.append(plan(shard, shards))
            told: dict[str, Any] = {"sequence": sequence}
            if losses and attempt and draw(st.booleans()):
                told["lost"] = draw(st.integers(1, BALLS))
                records.append(part(shard, number, 9, BALLS - told["lost"], **told))
            records += [part(shard, number, n, min(BALLS, n), **told) for n in range(draw(st.integers(0, 3)))]
            end = draw(st.sampled_from(["none", "good", "bad", "bad that is retried", "unplanned"]))
            if end == "good":
                records.append(good(shard, number, **told))
            elif end == "unplanned":
                records.append(
                    Done(shard=shard, attempt=f"{number:016x}", error="no source", will_retry=draw(st.booleans()))
                )
            elif end != "none":
                records.append(bad(shard, number, will_retry=end != "bad", **told))
    return list({record.name: record for record in records}.values())


def listing_of(records: list[Record]) -> list[Metadata]:
    return [chunk for at, record in enumerate(records, 1) for chunk in announced(record, at)]


@given(histories(), st.randoms(use_true_random=False), st.booleans())
def test_order_and_repetition_say_nothing(records: list[Record], rng: random.Random, complete: bool) -> None:
    listing = listing_of(records)
    shuffled = listing + [chunk for chunk in listing if rng.random() < 0.5]
    rng.shuffle(shuffled)
    assert compute_status(read_listing(BULK, shuffled, complete)) == compute_status(
        read_listing(BULK, listing, complete)
    )


def complete_shards(records: list[Record]) -> set[int]:
    """Return the shards of which an attempt ended well that is not before the latest one that found balls lost."""
    reports = [record for record in records if isinstance(record, Part | Done) and record.plan]
    lost = {record.shard: (0, "") for record in reports}
    for record in reports:
        if record.lost:
            lost[record.shard] = max(lost[record.shard], (record.sequence, record.attempt))
    ends = [record for record in reports if isinstance(record, Done) and record.good]
    return {end.shard for end in ends if (end.sequence, end.attempt) >= lost[end.shard]}


@given(histories(losses=False), st.data())
@settings(max_examples=200)
def test_nothing_but_a_loss_undoes_complete(records: list[Record], data: st.DataObject) -> None:
    """In whatever order records become visible: once the bulk is complete, it stays so."""
    order = data.draw(st.permutations(listing_of(records)))
    states = [compute_status(read_listing(BULK, order[:count], True)).state for count in range(len(order) + 1)]
    if State.COMPLETE in states:
        assert set(states[states.index(State.COMPLETE) :]) == {State.COMPLETE}


@given(histories(), st.data())
def test_a_part_of_the_records_says_only_what_is_good(records: list[Record], data: st.DataObject) -> None:
    """Whichever peers are away; but a record of lost balls is on so many that one of them answers."""
    listing = listing_of(records)
    shown = data.draw(st.lists(st.sampled_from(listing), unique_by=lambda chunk: chunk.key)) if listing else []
    lost = {record.name for record in records if isinstance(record, Part) and record.lost and record.number == 9}
    shown += [chunk for chunk in listing if chunk.ball_id in lost]
    state = compute_status(read_listing(BULK, shown, False)).state
    assert state in (State.UPLOADING, State.COMPLETE)
    if state is State.COMPLETE:
        assert compute_status(read_listing(BULK, listing, True)).state is State.COMPLETE


@given(histories())
def test_complete_means_that_every_shard_has_a_good_end(records: list[Record]) -> None:
    """One that no later attempt has taken back, because it found balls lost."""
    now = status(*records)
    shards = max((record.shards for record in records if isinstance(record, Start)), default=0)
    assert (now.state is State.COMPLETE) == (shards > 0 and complete_shards(records) == set(range(shards)))
    assert now.acknowledged <= BALLS * shards


@given(histories())
def test_failed_means_that_a_latest_attempt_ended_without_a_next(records: list[Record]) -> None:
    now = status(*records)
    if now.state is not State.FAILED:
        return
    found = seen(*records)
    for shard, own in found.by_shard().items():
        latest = latest_start(own.starts)
        ends = [end for end in own.dones if latest and end.attempt == latest.attempt]
        if any(not end.good and not end.will_retry for end in ends) and shard not in complete_shards(records):
            return
    pytest.fail("no shard has ended for good")


@given(histories())
def test_who_checks_the_storage_changes_nothing(records: list[Record]) -> None:
    checked = Checked(shard=0, attempt="c" * 16, number=0, plan=digest_of(0), read="0-3")
    listing = listing_of(records)
    with_check = [*listing, *announced(checked, at=10**18)]
    assert compute_status(read_listing(BULK, with_check, True)) == compute_status(read_listing(BULK, listing, True))


@given(histories())
def test_closed_is_the_last_word(records: list[Record]) -> None:
    now = status(*records, CLOSED, complete=False)
    assert (now.state, now.finished) == (State.CLOSED, True)


def test_nobody_has_begun() -> None:
    assert status().state is State.UNPLANNED
    assert status(start(0, 1, 1, 1)).state is State.UNPLANNED


@pytest.mark.parametrize("kept", [0, 1])
def test_record_that_was_cut_short_does_not_count(kept: int) -> None:
    listing = [*announced(start(0, 1, 1, 1)), *announced(plan(0, 1), chunks=2, only=kept)]
    assert compute_status(read_listing(BULK, listing, True)).state is State.UNPLANNED
    assert (
        compute_status(read_listing(BULK, [*listing, *announced(plan(0, 1), chunks=2)], True)).state is State.UPLOADING
    )


def test_end_of_an_attempt_that_was_cut_off_comes_late() -> None:
    """The first attempt was cut off; while the second one is under way, the first one's end comes in."""
    before = [start(0, 1, 1, 1), plan(0, 1), start(0, 1, 2, 2)]
    assert status(*before, bad(0, 1)).state is State.UPLOADING
    assert status(*before, good(0, 1)).state is State.COMPLETE
    assert status(*before, good(0, 1), bad(0, 2)).state is State.COMPLETE
    assert status(*before, bad(0, 1), bad(0, 2)).state is State.FAILED


FIRST = [start(0, 1, 1, 1), plan(0, 1), good(0, 1, sequence=1)]
CLOSED = Closed(result=Summary(**summarize(BulkStatus(BULK, State.COMPLETE))))
LOSS = [start(0, 1, 2, 2), part(0, 2, 0, 1, sequence=2, lost=3)]


def test_loss_takes_back_what_was_complete() -> None:
    """A later attempt found three of four balls lost: the bulk is complete again when they have been sent again."""
    now = status(*FIRST, *LOSS)
    assert (now.state, now.acknowledged, now.acknowledged_size) == (State.UPLOADING, 1, 10)
    under_way = status(*FIRST, *LOSS, part(0, 2, 1, 2, sequence=2, lost=3))
    assert (under_way.state, under_way.acknowledged) == (State.UPLOADING, 2)
    again = status(*FIRST, *LOSS, good(0, 2, sequence=2, lost=3))
    assert (again.state, again.acknowledged, again.acknowledged_size) == (State.COMPLETE, 4, 40)


def test_loss_that_the_next_attempt_mended() -> None:
    """The one that found it was killed; who began after it took over the rest."""
    third = [start(0, 1, 3, 3), part(0, 3, 0, 1, sequence=3)]
    assert status(*FIRST, *LOSS, *third).state is State.UPLOADING
    assert status(*FIRST, *LOSS, *third, good(0, 3, sequence=3)).state is State.COMPLETE
    failed = status(*FIRST, *LOSS, *third, bad(0, 3, sequence=3))
    assert (failed.state, failed.acknowledged, failed.failed) == (State.FAILED, 3, 1)
    assert status(*FIRST, *LOSS, *third, bad(0, 3, sequence=3, will_retry=True)).state is State.UPLOADING


def test_end_of_an_earlier_attempt_does_not_undo_a_loss() -> None:
    """The first attempt was cut off and ends well after the second one found balls lost: it knows nothing of that."""
    before = [start(0, 1, 1, 1), plan(0, 1), part(0, 1, 0, 4, sequence=1)]
    now = status(*before, *LOSS, good(0, 1, sequence=1))
    assert (now.state, now.acknowledged) == (State.UPLOADING, 1)


def test_loss_without_a_start() -> None:
    """A listing that lacks the start of the attempt that found the loss tells its place all the same."""
    assert status(*FIRST, LOSS[1], complete=False).state is State.UPLOADING
    assert status(*FIRST, LOSS[1]).state is State.UPLOADING


def test_loss_of_one_shard_is_no_loss_of_another() -> None:
    other = [start(1, 2, 5, 1), plan(1, 2), good(1, 5, sequence=1)]
    first = [start(0, 2, 1, 1), plan(0, 2), good(0, 1, sequence=1), start(0, 2, 2, 2), LOSS[1]]
    now = status(*first, *other)
    assert (now.state, now.shards_complete, now.acknowledged) == (State.UPLOADING, 1, 5)
    assert status(*first, *other, good(0, 2, sequence=2, lost=3)).state is State.COMPLETE


def test_loss_after_the_bulk_was_closed() -> None:
    assert status(*FIRST, *LOSS, CLOSED).state is State.CLOSED


def test_latest_end_is_exact_where_earlier_ones_told_of_more() -> None:
    """It found the source of an acknowledged ball changed, which is a failure and no skip."""
    before = [start(0, 1, 1, 1), plan(0, 1), bad(0, 1, sequence=1), start(0, 1, 2, 2)]
    now = status(*before, bad(0, 2, sequence=2, acknowledged=2, size=20, failed=2))
    assert (now.state, now.acknowledged, now.failed) == (State.FAILED, 2, 2)
    cut_off = bad(0, 2, sequence=2, acknowledged=0, size=0, failed=0, failures=[], error="timeout")
    assert status(*before, cut_off).acknowledged == 3


# Which balls are acknowledged


def items(acknowledged: str = "", lost: str = "") -> Items:
    return Items(acknowledged=acknowledged, lost=lost)


def acknowledged(*told: tuple[Part | Done, Items | None]) -> set[int]:
    """Return the balls that reports acknowledge; those with None can't be read any more."""
    records = Records(BULK, parts=[report for report, _ in told if isinstance(report, Part)])
    records = replace(records, dones=[report for report, _ in told if isinstance(report, Done)])
    return set(acknowledged_balls(records, plan(0, 1), [(report, read) for report, read in told if read is not None]))


def test_any_report_acknowledges() -> None:
    assert acknowledged((part(0, 1, 0, 1, sequence=1), items("0")), (part(0, 2, 0, 2, sequence=2), items("2-3"))) == {
        0,
        2,
        3,
    }


def test_only_later_reports_acknowledge_a_lost_ball() -> None:
    told: list[tuple[Part | Done, Items | None]] = [
        (good(0, 1, sequence=1), items("0-3")),
        (part(0, 2, 0, 2, sequence=2, lost=2), items("", "1,3")),
    ]
    assert acknowledged(*told) == {0, 2}
    assert acknowledged(*told, (part(0, 2, 1, 3, sequence=2, lost=2), items("3", "1,3"))) == {0, 2, 3}
    assert acknowledged(*told, (part(0, 3, 0, 3, sequence=3), items("1"))) == {0, 1, 2}
    assert acknowledged(*told, (part(0, 1, 0, 4, sequence=1), items("0-3"))) == {0, 2}


def test_balls_that_a_loss_took_back() -> None:
    """Until they are acknowledged again; whoever relies on that loss records it once more."""
    told: list[tuple[Part | Done, Items]] = [
        (part(0, 1, 0, 3, sequence=1), items("0-2")),
        (part(0, 2, 0, 2, sequence=2, lost=2), items("", "1-2")),
        (part(0, 2, 1, 3, sequence=2, lost=2), items("2", "1-2")),
    ]
    records = Records(BULK, parts=[report for report, _ in told if isinstance(report, Part)])
    assert taken_back_balls(records, plan(0, 1), told) == {1}
    assert taken_back_balls(replace(records, parts=records.parts[:1]), plan(0, 1), told[:1]) == set()
    ended = replace(records, dones=[good(0, 1, sequence=1)])
    assert taken_back_balls(ended, plan(0, 1), told) == {1, 3}, (
        "a good end acknowledges all, whatever can be read of it"
    )


def test_first_report_that_counts_tells_when_a_ball_was_stored() -> None:
    """What is announced after that is not what the report knows of."""
    told: list[tuple[Part | Done, Items]] = [
        (part(0, 1, 0, 2, sequence=1, updated_at=30), items("0-1")),
        (part(0, 1, 1, 2, sequence=1, updated_at=20), items("1-2")),
        (part(0, 2, 0, 2, sequence=2, updated_at=40, lost=1), items("0", "2")),
        (part(0, 2, 1, 3, sequence=2, updated_at=50, lost=1), items("2", "2")),
    ]
    records = Records(BULK, parts=[report for report, _ in told if isinstance(report, Part)])
    assert acknowledged_balls(records, plan(0, 1), told) == {0: 30, 1: 20, 2: 50}


def test_loss_that_can_not_be_read_is_any_ball() -> None:
    told: list[tuple[Part | Done, Items | None]] = [
        (good(0, 1, sequence=1), items("0-3")),
        (part(0, 2, 0, 2, sequence=2, lost=2), None),
    ]
    assert acknowledged(*told) == set()
    assert acknowledged(*told, (part(0, 2, 1, 3, sequence=2, lost=2), items("3", "1,3"))) == {0, 2, 3}, "told twice"


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.sets(st.integers(0, BALLS - 1)), st.sets(st.integers(0, BALLS - 1))),
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_order_of_reports_says_nothing(attempts: list[tuple[int, set[int], set[int]]], rng: random.Random) -> None:
    told = [
        (
            part(0, number, 0, len(found), sequence=sequence, lost=len(lost)),
            items(format_ranges(found), format_ranges(lost)),
        )
        for number, (sequence, found, lost) in enumerate(attempts)
    ]
    expected: set[int] = set()
    for _, read in sorted(told, key=lambda each: (each[0].sequence, each[0].attempt)):
        expected = expected - parse_ranges(read.lost, BALLS) | parse_ranges(read.acknowledged, BALLS)
    rng.shuffle(told)
    assert acknowledged(*told) == expected


def test_two_attempts_at_once_with_the_same_number() -> None:
    """Both began without seeing the other: the peers' clocks tell which one was later."""
    records = [start(0, 1, 2, 1), start(0, 1, 1, 1), plan(0, 1)]
    assert status(*records, bad(0, 2)).state is State.UPLOADING
    assert status(*records, bad(0, 1)).state is State.FAILED
    assert status(*records, bad(0, 1), good(0, 2)).state is State.COMPLETE


def test_failure_that_a_retry_may_mend() -> None:
    now = status(start(0, 1, 1, 1), plan(0, 1), bad(0, 1, will_retry=True))
    assert (now.state, now.has_retryable_failures, now.failed, now.failures) == (State.UPLOADING, True, 1, [FAILURE])


def test_stalest_shard_is_the_running_one_heard_of_longest_ago() -> None:
    ended = [start(0, 4, 1, 1), plan(0, 4), good(0, 1), start(1, 4, 2, 1), plan(1, 4), bad(1, 2, will_retry=True)]
    assert status(*ended).stalest_shard is None, "one is complete, and of the other one a try has ended"
    now = status(*ended, start(2, 4, 3, 1), plan(2, 4), start(3, 4, 4, 1), plan(3, 4), part(2, 3, 0, 1))
    assert (now.stalest_shard, now.stalest_since, now.last_heard) == (3, 10, 11)
    again = status(*ended, start(1, 4, 5, 2))
    assert (again.stalest_shard, again.stalest_since) == (1, 7)


def test_shards_that_are_missing() -> None:
    records = [start(0, 3, 1, 1), plan(0, 3), good(0, 1)]
    now = status(*records)
    assert (now.state, now.shards, now.shards_complete, now.finished) == (State.UPLOADING, 3, 1, False)
    assert (now.total_balls, now.acknowledged) == (12, 4)


def test_end_that_belongs_to_another_plan() -> None:
    assert status(start(0, 1, 1, 1), plan(0, 1), good(0, 1, plan="e" * 64)).state is not State.COMPLETE


def test_good_end_without_a_start_completes_nothing() -> None:
    """The bulk was deleted while that attempt ran, and begun anew: the attempt's objects may be deleted too."""
    now = status(start(0, 1, 2, 1), plan(0, 1), good(0, 1))
    assert (now.state, now.acknowledged) == (State.UPLOADING, 0)
    assert status(start(0, 1, 2, 1), plan(0, 1), good(0, 1), good(0, 2)).state is State.COMPLETE


def test_end_without_a_start_is_no_latest_one() -> None:
    assert status(plan(0, 1), bad(0, 1)).state is State.UPLOADING


def test_no_balls_at_all() -> None:
    empty = plan(0, 1, balls=0, size=0)
    assert status(start(0, 1, 1, 1), empty, good(0, 1, balls=0, acknowledged=0, size=0)).state is State.COMPLETE


CONTRADICTIONS = {
    "has 2 plans": [plan(0, 1), plan(0, 1, digest="e" * 64)],
    "different owners": [plan(0, 1), start(0, 1, 2, 2, owner={"dag_id": "other"})],
    "different parameters": [plan(0, 1), start(0, 1, 2, 2, spec='{"rf":2}')],
    "different numbers of shards": [plan(0, 1), start(1, 2, 2, 1)],
    "saw different sources": [start(1, 2, 3, 1), plan(0, 2), plan(1, 2, listing="other", listing_balls=9)],
    "shard 5 has records": [plan(0, 1), plan(5, 1)],
    "have their own list": [plan(0, 2), plan(1, 2, listing="")],
}


@pytest.mark.parametrize("why", CONTRADICTIONS)
def test_contradiction(why: str) -> None:
    first = start(0, 2 if why in ("saw different sources", "have their own list") else 1, 1, 1)
    records = [first, *CONTRADICTIONS[why]]
    now = status(*records)
    assert now.state is State.FAILED
    assert why in "; ".join(now.problems)
    assert status(*records, good(0, 1), good(1, 3)).state is State.FAILED
    assert status(*records, complete=False).state is State.UPLOADING


def test_many_shards_are_not_gone_through_one_by_one() -> None:
    """A record that claims a billion shards is no reason to count them all."""
    now = status(start(0, 10**9, 1, 1), plan(0, 10**9), good(0, 1))
    assert (now.state, now.shards, now.shards_complete) == (State.UPLOADING, 10**9, 1)


def test_records_of_another_bulk_are_refused() -> None:
    listing = announced(start(0, 1, 1, 1), **{BULK_TAG: "other"})
    with pytest.raises(IntegrityError, match="other"):
        read_listing(BULK, listing, True)


@pytest.mark.parametrize(("wrong", "problem"), [({"state": "running"}, "result.state"), ({}, "result: Field required")])
def test_closed_bulk_needs_a_result(wrong: dict[str, Any], problem: str) -> None:
    result = CLOSED.result.model_dump() | wrong if wrong else None
    record = canonical({"shard": 0, "result": result} if wrong else {"shard": 0})
    with pytest.raises(IntegrityError, match=f"^bulk '{BULK}': parsing record closed failed: {problem}.*delete_bulk"):
        read_listing(BULK, [foreign("closed", **{BULK_TAG: BULK, RECORD_TAG: record})], True)


def foreign(ball_id: str, **tags: str) -> Metadata:
    """Return a ball that is not a record, as a listing of the records' bucket shows it."""
    told = {"index": "0", "num_chunks": "1", "full_checksum": "e" * 64, **tags}
    return Metadata(
        bucket_id="bulk-nightly", key=f"{ball_id}_0", ball_id=ball_id, checksum="e" * 64, size=10, tags=told
    )


FOREIGN = ["report", "closed", "start-0-" + "a" * 16, "plan-0-" + "a" * 64, "done-0-" + "a" * 16]


@pytest.mark.parametrize("ball_id", FOREIGN)
@pytest.mark.parametrize("tags", [{}, {BULK_TAG: BULK}, {RECORD_TAG: "{}"}])
def test_ball_without_a_records_tags_is_ignored_and_named(ball_id: str, tags: dict[str, str]) -> None:
    """Whatever it is called: who puts it there does not know of bulks."""
    listing = [chunk for record in (start(0, 1, 1, 1), plan(0, 1), good(0, 1)) for chunk in announced(record)]
    records = read_listing(BULK, [foreign(ball_id, **tags), *listing], True)
    assert compute_status(records) == compute_status(read_listing(BULK, listing, True))
    assert records.foreign == (ball_id,)
    assert read_listing(BULK, listing, True).foreign == ()


def test_foreign_bytes_under_a_records_name_do_not_hide_it() -> None:
    ended = good(0, 1)
    listing = [*announced(start(0, 1, 1, 1)), *announced(plan(0, 1)), foreign(ended.name), *announced(ended)]
    records = read_listing(BULK, listing, True)
    assert compute_status(records).state is State.COMPLETE
    assert records.foreign == (ended.name,)


@given(
    st.one_of(
        st.text(),
        st.sampled_from(["start-0-" + "a" * 16, "part-0-" + "a" * 16 + "-0", "done-0-" + "a" * 16, "closed"]),
        st.sampled_from(
            ["plan-0-" + "a" * 64, "checked-0-" + "a" * 16 + "-3", "plan-٣-" + "a" * 64, "start-00-" + "a" * 16]
        ),
    ),
    st.dictionaries(st.sampled_from([BULK_TAG, RECORD_TAG, "index", "num_chunks", "updated_at"]), st.text()),
    st.one_of(
        st.none(),
        st.text(),
        st.recursive(
            st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
        ).map(str),
    ),
    st.booleans(),
)
@settings(max_examples=300)
def test_garbage_is_left_out_or_an_integrity_error(
    name: str, tags: dict[str, str], text: str | None, ours: bool
) -> None:
    tags = {"index": "0", "num_chunks": "1"} | tags
    if text is not None:
        tags[RECORD_TAG] = text
    if ours:
        tags[BULK_TAG] = BULK
    chunk = Metadata(bucket_id="b", key=f"{name}_0", ball_id=name, checksum="a" * 64, size=1, tags=tags)
    try:
        records = read_listing(BULK, [chunk], True)
    except IntegrityError:
        return
    compute_status(records)


def test_one_poke_grows_with_the_records_only() -> None:
    """Twice the shards and records are about twice the work: each record is looked at a few times, however many there are."""
    looks = []

    class Counted(Records):
        def by_shard(self) -> dict[int, Records]:
            looks.append(len(self.upload_records))
            return super().by_shard()

    records = [
        record for shard in range(200) for record in (start(shard, 200, shard, 1), plan(shard, 200), good(shard, shard))
    ]
    found = seen(*records)
    counted = Counted(**vars(found))
    assert compute_status(counted).state is State.COMPLETE
    assert len(looks) <= 4
    assert compute_status(replace(found, dones=found.dones[1:])).state is State.UPLOADING
