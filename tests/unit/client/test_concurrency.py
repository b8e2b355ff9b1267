"""Threads that finish their piece when their caller is cancelled, and workers that are no more than they should be."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from airflow_provider_mictlanx.client.concurrency import INLINE, ByteBudget, Threads, for_each


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


def test_threads_work_after_a_fork() -> None:
    threads = Threads(1)
    assert asyncio.run(threads.run(divmod, 7, 2)) == (3, 1)
    if (pid := os.fork()) == 0:
        signal.alarm(20)  # a call that waits for a thread of the parent can't be cancelled
        try:
            assert asyncio.run(threads.run(divmod, 7, 2)) == (3, 1)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    threads.close()


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


class Held:
    """Work that holds bytes of a budget until it is released."""

    def __init__(self, size: int) -> None:
        self.budget = ByteBudget(size)
        self.running: list[int] = []
        self.release = [asyncio.Event() for _ in range(10)]
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, *sizes: int) -> None:
        """Start work of these sizes, in order."""
        for size in sizes:
            self.tasks.append(asyncio.create_task(self._hold(len(self.tasks), size)))
        await self.settle()

    async def end(self, number: int) -> None:
        """End the work with this number."""
        self.release[number].set()
        await self.settle()

    async def settle(self) -> None:
        """Let every task run until it waits."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def _hold(self, number: int, size: int) -> None:
        async with self.budget.reserve(size):
            self.running.append(number)
            await self.release[number].wait()
            self.running.remove(number)


async def test_byte_budget_limits_the_bytes_in_flight() -> None:
    held = Held(100)
    await held.start(40, 40, 30, 20)
    assert held.running == [0, 1]
    await held.end(1)
    assert held.running == [0, 2, 3]
    for number in (0, 2, 3):
        await held.end(number)
    await held.start(50, 50)
    assert held.running == [4, 5]  # everything was given back
    for number in (4, 5):
        await held.end(number)
    await asyncio.gather(*held.tasks)


async def test_byte_budget_admits_two_of_any_size() -> None:
    held = Held(100)
    await held.start(10**9, 10**9, 0)
    assert held.running == [0, 1, 2]
    await held.start(1)
    assert held.running == [0, 1, 2]
    for number in (0, 1, 2, 3):
        await held.end(number)
    await asyncio.gather(*held.tasks)


async def test_byte_budget_lets_no_small_work_overtake_large_work() -> None:
    held = Held(100)
    await held.start(50, 30, 50, 10)
    assert held.running == [0, 1]
    await held.end(1)
    assert held.running == [0, 2]
    await held.end(0)
    assert held.running == [2, 3]
    for number in (2, 3):
        await held.end(number)
    await asyncio.gather(*held.tasks)


async def test_byte_budget_cancelled_work_gives_its_bytes_back() -> None:
    held = Held(100)
    await held.start(50, 50, 50, 50)
    held.tasks[0].cancel()  # holds bytes
    held.tasks[2].cancel()  # waits for its turn
    await held.settle()
    assert 1 in held.running
    assert 3 in held.running
    for number in (1, 3):
        await held.end(number)
    results = await asyncio.gather(*held.tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, type(None)] * 2
