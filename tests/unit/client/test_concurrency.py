"""Threads that finish their piece when their caller is cancelled, and workers that are no more than they should be."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from airflow_provider_mictlanx.client.concurrency import INLINE, Threads, for_each


async def test_cancelled_caller_waits_for_its_piece() -> None:
    """Nothing may still use a file when its owner closes it."""
    started, done = threading.Event(), threading.Event()

    def piece() -> None:
        started.set()
        time.sleep(0.3)
        done.set()

    threads = Threads(1)
    task = asyncio.create_task(threads.run(piece))
    await asyncio.to_thread(started.wait)
    for _ in range(3):  # an impatient caller cancels again
        task.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()
    threads.close()


async def test_error_in_a_cancelled_piece_is_not_reported_as_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    started = threading.Event()

    def piece() -> None:
        started.set()
        time.sleep(0.1)
        raise OSError("disk")

    task = asyncio.create_task(Threads(1).run(piece))
    await asyncio.to_thread(started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "never retrieved" not in caplog.text


async def test_results_errors_and_arguments_come_through() -> None:
    threads = Threads(2)
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)
    threads.close()
    assert await threads.run(divmod, 7, 2) == (3, 1)  # opened again when needed
    threads.close()
    threads.close()


async def test_small_work_is_done_where_it_is() -> None:
    threads = Threads(1)
    here = threading.get_ident()
    assert await threads.run_sized(INLINE, threading.get_ident) == here
    assert await threads.run_sized(INLINE + 1, threading.get_ident) != here
    threads.close()


@pytest.mark.parametrize("bound", [1, 3, 100])
async def test_workers_are_no_more_than_they_should_be(bound: int) -> None:
    at_work = most = 0
    begun: list[int] = []

    async def work(item: int) -> None:
        nonlocal at_work, most
        begun.append(item)
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.001)
        at_work -= 1

    await for_each(range(20), work, bound)
    assert begun == list(range(20))
    assert most == min(bound, 20)


def test_items_are_pulled_one_by_one() -> None:
    pulled = done = 0

    def items() -> object:
        nonlocal pulled
        for item in range(50):
            pulled += 1
            assert pulled - done <= 4
            yield item

    async def work(item: int) -> None:
        nonlocal done
        await asyncio.sleep(0)
        done += 1

    asyncio.run(for_each(items(), work, 3))  # type: ignore[arg-type]
    assert done == 50


async def test_first_error_ends_the_work_and_is_raised_as_it_is() -> None:
    cancelled: list[int] = []

    async def work(item: int) -> None:
        if item == 2:
            raise KeyError(item)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    with pytest.raises(KeyError) as caught:
        await for_each(range(10), work, 3)
    assert caught.value.args == (2,)
    assert sorted(cancelled) == [0, 1]


async def test_cancelling_ends_every_worker() -> None:
    running: set[int] = set()

    async def work(item: int) -> None:
        running.add(item)
        try:
            await asyncio.sleep(30)
        finally:
            running.discard(item)

    task = asyncio.create_task(for_each(range(10), work, 3))
    await asyncio.sleep(0.01)
    assert len(running) == 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not running


async def test_no_items_are_no_work() -> None:
    async def work(item: int) -> None:
        raise AssertionError("not reached")

    await for_each([], work, 3)
