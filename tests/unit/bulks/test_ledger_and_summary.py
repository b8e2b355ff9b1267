"""What people and XComs are told: the books of an attempt, lines of progress, summaries that stay small."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mictlanx.batches.progress import Progress
from airflow_provider_mictlanx.batches.runner import Failure
from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.bulks.ledger import Ledger
from airflow_provider_mictlanx.bulks.monitor import is_wait_over
from airflow_provider_mictlanx.bulks.options import AttemptOptions, BulkSpec
from airflow_provider_mictlanx.bulks.plan import PlannedBall, ShardPlan
from airflow_provider_mictlanx.bulks.records import Closed, Plan
from airflow_provider_mictlanx.bulks.status import BulkStatus, State
from airflow_provider_mictlanx.bulks.summary import permanent_failure, status_line, summarize
from airflow_provider_mictlanx.client.concurrency import run_in_thread
from airflow_provider_mictlanx.client.errors import ValidationError

BALLS = 10


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    balls = [PlannedBall("b", f"k{number}", number, "a" * 64, 100, "s") for number in range(BALLS)]
    told = {"digest": "d" * 64, "shards": 1, "balls": BALLS, "size": 45, "listing_balls": BALLS, "listing_size": 45}
    ledger.plan = ShardPlan(Plan(shard=0, **told), balls)
    return ledger


def test_books(ledger: Ledger) -> None:
    ledger.learn([0, 1])
    ledger.stored(2, sent=True)
    ledger.stored(3, sent=False)
    ledger.stored(3, sent=False)
    ledger.fail("b", "k4", 502, "first reason")
    ledger.fail("b", "k4", 404, "second reason")
    assert (ledger.acknowledged, ledger.size) == ({0, 1, 2, 3}, 6)
    assert (ledger.sent, ledger.sent_size) == (1, 2)
    assert ledger.missing == [5, 6, 7, 8, 9]
    assert [failure.message for failure in ledger.failures.values()] == ["first reason"]
    assert ledger.unrecorded(everything=False) == {2, 3}
    assert ledger.unrecorded(everything=True) == {0, 1, 2, 3}
    ledger.recorded({2})
    assert json.loads(ledger.last_items())["acknowledged"] == "3"


def test_failures_are_in_the_order_of_the_keys(ledger: Ledger) -> None:
    for key in ("k5", "k1", "k4"):
        ledger.fail("b", key, 502, "no")
    assert [failure.key for failure in ledger.sorted_failures] == ["k1", "k4", "k5"]
    assert [failure["key"] for failure in json.loads(ledger.last_items())["failures"]] == ["k1", "k4", "k5"]


def test_failure_that_another_attempt_mended(ledger: Ledger) -> None:
    ledger.fail("b", "k4", 405, "other bytes", permanent=True)
    assert ledger.permanently_failed
    ledger.fail("b", "k5", 502, "too few peers")
    assert not ledger.permanently_failed
    ledger.learn([5])
    assert ledger.permanently_failed
    ledger.learn([4])
    assert (ledger.failures, ledger.permanently_failed) == ({}, False)


def test_line_of_progress() -> None:
    progress = Progress(1000, 3_200_000_000, lambda line: None)
    progress.add(410, 1_200_000_000)
    progress.failed()
    line = progress.line()
    assert line.startswith("38% 1.2 GB of 3.2 GB, ")
    assert line.endswith("/s, 410 of 1,000 objects, 1 failed")


def test_progress_of_empty_balls_is_counted_in_balls() -> None:
    progress = Progress(4, 0, lambda line: None, "planning: ")
    progress.add(1, 0)
    assert progress.line().startswith("planning: 25% 0 bytes of 0 bytes")


def test_slowest_balls() -> None:
    progress = Progress(9, 9, lambda line: None)
    for number in range(9):
        progress.took(f"k{number}", number)
    assert progress.slowest == [("k8", 8), ("k7", 7), ("k6", 6)]


FAILURES = st.builds(
    Failure, bucket_id=st.just("frames"), key=st.text(max_size=300), code=st.just(502), message=st.text(max_size=2000)
)


@given(st.lists(FAILURES, max_size=5), st.lists(st.text(max_size=3000), max_size=200))
def test_summary_is_small_whatever_is_in_it(failures: list[Failure], problems: list[str]) -> None:
    status = BulkStatus("nightly", State.FAILED, total_balls=10_000, failed=7, failures=failures, problems=problems)
    assert len(json.dumps(summarize(status))) < 2000
    assert len(str(permanent_failure(status))) < 3000


def test_small_texts_are_told_as_they_are() -> None:
    failure = Failure(bucket_id="b", key="k", code=1, message="m" * 200)
    told = summarize(BulkStatus("nightly", State.FAILED, failures=[failure], problems=["p" * 400]))
    assert (told["failures"][0]["message"], told["problems"]) == ("m" * 200, ["p" * 400])


def test_failure_before_any_plan_counts_no_objects() -> None:
    error = permanent_failure(BulkStatus("n", State.FAILED, problems=["shard 0: source must exist"]))
    assert error.message.startswith("bulk 'n' failed permanently: shard 0: source must exist. Fix the causes")


def test_counts_of_a_summary_make_up_the_whole() -> None:
    """Also with failures of files that were never planned."""
    told = summarize(BulkStatus("n", State.FAILED, finished=True, total_balls=10, acknowledged=10, failed=1))
    assert (told["total_balls"], told["succeeded"], told["failed"]) == (11, 10, 1)


def test_gate() -> None:
    assert is_wait_over(BulkStatus("n", State.COMPLETE), fail_on_error=True)
    assert not is_wait_over(BulkStatus("n", State.UNPLANNED), fail_on_error=True)
    assert not is_wait_over(BulkStatus("n", State.FAILED, finished=False), fail_on_error=False), "a shard is under way"
    assert is_wait_over(BulkStatus("n", State.FAILED, finished=True), fail_on_error=False)
    with pytest.raises(BulkFailedError) as error:
        is_wait_over(BulkStatus("n", State.FAILED), fail_on_error=True)
    assert error.value.permanent


@pytest.mark.parametrize(("before", "opens"), [("complete", True), ("failed", False)])
def test_gate_of_a_closed_bulk(before: str, opens: bool) -> None:
    result = summarize(BulkStatus("n", State(before)))
    closed = BulkStatus("n", State.CLOSED, finished=True, closed=Closed(result=result))
    assert is_wait_over(closed, fail_on_error=False)
    assert "closed" in status_line(closed)
    if opens:
        assert is_wait_over(closed, fail_on_error=True)
    else:
        with pytest.raises(BulkFailedError, match="delete_bulk"):
            is_wait_over(closed, fail_on_error=True)


def test_shard_that_fell_silent_is_told() -> None:
    status = BulkStatus("n", State.UPLOADING, shards=4, last_heard=10**18, stalest_shard=2, stalest_since=10**18)
    assert "no record of shard" not in status_line(status, now=1e9 + 299)
    assert status_line(status, now=1e9 + 840).endswith("no record of shard 2 for 14 minutes, its worker may have died")


def test_many_sources_are_told_in_short() -> None:
    many = BulkSpec("n", [f"/data/{number:05}" for number in range(10_000)])
    assert len(many.as_text()) < 600
    assert "10000 sources" in many.as_text()
    assert many.as_text() != BulkSpec("n", [*many.sources, "/data/x"]).as_text()
    assert "/data/frames" in BulkSpec("n", ["/data/frames"]).as_text()


@pytest.mark.parametrize(
    "wrong",
    [{"max_concurrency": 0}, {"max_tries": 0}, {"max_backoff": -1}, {"timeout": 0}, {"timeout": "x"}],
)
def test_wrong_options(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AttemptOptions(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"bulk_id": ""}, {"rf": 0}, {"chunk_size": "x"}, {"shards": 0}, {"tags": {"a": 1}}])
def test_wrong_spec(wrong: dict[str, object]) -> None:
    told: dict[str, object] = {"bulk_id": "n", "sources": []}
    with pytest.raises(ValidationError):
        BulkSpec(**(told | wrong)).check(0)  # type: ignore[arg-type]


async def test_blocking_work_gives_its_result_and_its_error() -> None:
    def fail() -> None:
        raise KeyError("x")

    assert await run_in_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(KeyError):
        await run_in_thread(fail)


async def test_blocking_work_keeps_nobody_who_is_cancelled() -> None:
    """Neither the caller nor the end of the loop waits for it."""
    go_on = threading.Event()
    began = time.monotonic()
    task = asyncio.create_task(run_in_thread(lambda: go_on.wait(60)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 30, "half of what the work takes"
    go_on.set()
