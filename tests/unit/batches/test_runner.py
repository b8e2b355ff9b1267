"""Work on many balls: what is counted, what is told, when it is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import fields

import pytest

from airflow_provider_mictlanx.batches import progress, runner
from airflow_provider_mictlanx.batches.runner import (
    Batch,
    BatchResult,
    Item,
    StoreOptions,
    TransferOptions,
    batch_error,
)
from airflow_provider_mictlanx.bulks.options import AttemptOptions
from airflow_provider_mictlanx.bulks.sync import SyncOptions
from airflow_provider_mictlanx.client.errors import (
    BallConflictError,
    ConnectFailedError,
    NotFoundError,
    ValidationError,
)

ITEMS = [Item("bucket", f"key-{number}", size=10) for number in range(10)]


def run(work: Callable[[Item], Awaitable[bool]], items: list[Item] = ITEMS, at_once: int = 3) -> BatchResult:
    return asyncio.run(Batch(at_once).run(items, work))


def test_counts_what_was_done_what_was_not_and_what_failed() -> None:
    async def work(item: Item) -> bool:
        number = int(item.key.removeprefix("key-"))
        if number == 4:
            raise NotFoundError("gone")
        if number == 5:
            raise OSError(28, "No space left on device", "/data/key-5")
        return number % 2 == 1

    result = run(work)
    assert (result.total, result.done, result.skipped, result.failed, result.done_size) == (10, 4, 4, 2, 40)
    assert [(failure.key, failure.code, failure.message) for failure in result.failures] == [
        ("key-4", 404, "gone"),
        ("key-5", 500, "/data/key-5: No space left on device"),
    ]
    assert not result.permanently_failed
    assert "4 objects copied, 40 bytes" in result.line("copied", "already stored")
    assert "4 already stored, 2 failed" in result.line("copied", "already stored")


def test_failures_are_in_the_order_of_the_balls() -> None:
    async def work(item: Item) -> bool:
        await asyncio.sleep(0.05 if item.key == "key-0" else 0)
        raise BallConflictError("no")

    assert [failure.key for failure in run(work, at_once=10).failures] == [item.key for item in ITEMS]


def test_no_more_at_a_time_than_asked() -> None:
    now = most = 0

    async def work(_: Item) -> bool:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return True

    assert run(work).done == 10
    assert most == 3


@pytest.mark.parametrize(("size", "at_once"), [(0, 64), (10_000, 64), (1_000_000, 64), (4_000_000, 16), (10**10, 6)])
def test_automatic_concurrency_is_limited_by_count_and_bytes(size: int, at_once: int) -> None:
    now = most = 0

    async def work(_: Item) -> bool:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return True

    items = [Item("bucket", f"key-{number}", size) for number in range(150)]
    assert asyncio.run(Batch(None).run(items, work)).done == 150
    assert most == at_once


def test_small_balls_fill_the_rest_of_the_bytes() -> None:
    """One large ball does not limit how many small ones are in flight beside it."""
    most: set[str] = set()
    now: set[str] = set()

    async def work(item: Item) -> bool:
        nonlocal most
        now.add(item.key)
        most = max(most, set(now), key=len)
        await asyncio.sleep(0.05 if item.size > 10 else 0.01)
        now.remove(item.key)
        return True

    items = [Item("bucket", "large", 10**9), *(Item("bucket", f"key-{number}", 10) for number in range(150))]
    asyncio.run(Batch(None).run(items, work))
    assert len(most) == 64
    assert "large" in most


@pytest.mark.parametrize(("error", "given_up"), [(ConnectFailedError, True), (BallConflictError, False)])
def test_what_may_pass_and_does_not_ends_it(error: type[Exception], given_up: bool) -> None:
    tried: list[str] = []

    async def work(item: Item) -> bool:
        tried.append(item.key)
        raise error("no")

    result = run(work, [Item("bucket", f"{number}") for number in range(100)], at_once=1)
    assert result.failed == 100
    assert len(tried) == (runner.MAX_CONSECUTIVE_FAILURES if given_up else 100)
    assert ("not started, because the last 16 objects all failed: no" in result.failures[-1].message) is given_up
    assert result.permanently_failed is not given_up
    assert batch_error("copying", result, {}).permanent is not given_up


def test_an_error_tells_the_first_few_reasons_and_what_to_do() -> None:
    async def work(_: Item) -> bool:
        raise NotFoundError("gone")

    error = batch_error("reading b", run(work, at_once=1), {"failed": 10})
    assert str(error).startswith("reading b: 10 of 10 objects failed: key-0: gone; also failed: key-1, ")
    assert "key-6" not in str(error)
    assert "Run it again" in str(error)
    assert error.result == {"failed": 10}


async def test_cancelling_ends_the_work() -> None:
    ended: list[str] = []

    async def work(item: Item) -> bool:
        try:
            await asyncio.sleep(600)
        finally:
            ended.append(item.key)
        return True

    task = asyncio.create_task(Batch(3).run(ITEMS, work))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(ended) == 3


def test_progress_is_told_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.01)
    lines: list[str] = []

    async def work(item: Item) -> bool:
        while item.key == "key-9" and len(lines) < 2:
            await asyncio.sleep(0.01)
        return True

    asyncio.run(Batch(1, lines.append, "copying").run(ITEMS, work))
    assert lines[0] == "Copying 10 objects, 100 bytes"
    assert lines[1].startswith("copying 90% 90 bytes of 100 bytes, ")
    assert lines[1].endswith(", 9 of 10 objects")


def test_chunks_in_flight_are_shared_by_the_balls() -> None:
    options = TransferOptions(max_concurrency=8)
    assert [options.for_one_of(balls)["max_concurrency"] for balls in (0, 1, 3, 8, 1000)] == [8, 8, 2, 1, 1]
    automatic = TransferOptions()
    assert [automatic.for_one_of(balls)["max_concurrency"] for balls in (0, 1, 3, 8, 1000)] == [8, 8, 2, 1, 1]
    with pytest.raises(ValidationError, match="max_concurrency"):
        TransferOptions(max_concurrency=0)


@pytest.mark.parametrize("kind", [StoreOptions, AttemptOptions, SyncOptions])
def test_option_that_only_looks_false_is_refused(kind: type[TransferOptions]) -> None:
    flags = [option.name for option in fields(kind) if isinstance(option.default, bool)]
    assert flags
    for flag in flags:
        with pytest.raises(ValidationError, match=f"{flag} must be True or False, got 'False'"):
            kind(**{flag: "False"})
