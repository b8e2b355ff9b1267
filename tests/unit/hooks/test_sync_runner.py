"""Coroutines for callers that block: results, errors, and every way to be stopped."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from airflow_provider_mictlanx.hooks import sync_runner as module
from airflow_provider_mictlanx.hooks.sync_runner import GRACE, WAKE_INTERVAL, Runner

FOR_EVER = 600
"""Seconds that no test waits: who waits for the end of this hangs."""


class Interruption(BaseException):
    """Raised by a signal handler."""


class Endless:
    """Work that goes on until it is cancelled, and tells how it ended."""

    def __init__(self, *, cleaning_up: float = 0) -> None:
        self.began = threading.Event()
        self.cleaned_up = threading.Event()
        self.let_go = threading.Event()
        self._cleaning_up = cleaning_up

    async def __call__(self) -> NoReturn:
        self.began.set()
        try:
            while True:
                await asyncio.sleep(60)
        finally:
            await asyncio.to_thread(self.let_go.wait, self._cleaning_up)
            self.cleaned_up.set()


@pytest.fixture(params=["no loop", "in a running loop"])
def call(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Any]:
    """Call a blocking function from plain code, or from a coroutine, as an async task might do."""

    def plainly(function: Callable[[], Any]) -> Any:
        return function()

    def within_a_loop(function: Callable[[], Any]) -> Any:
        async def coroutine() -> Any:
            return function()

        return asyncio.run(coroutine())

    return plainly if request.param == "no loop" else within_a_loop


def raising_in_main_thread(after: threading.Event, exception: type[BaseException]) -> None:
    """Raise in the main thread, from the handler of a real signal, once the event is set."""

    def handle(*_: object) -> None:
        raise exception

    signal.signal(signal.SIGUSR1, handle)

    def send() -> None:
        after.wait()
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=send, daemon=True).start()


@pytest.fixture(autouse=True)
def _long_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy with other things, cleaning up may take longer than it may for a user."""
    monkeypatch.setattr(module, "GRACE", FOR_EVER)


@pytest.fixture(autouse=True)
def _handlers() -> Any:
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_gives_the_result_again_and_again(call: Any) -> None:
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    runner = Runner()
    assert [call(lambda n=n: runner.run(lambda: add(n, 1))) for n in range(3)] == [1, 2, 3]


def test_raises_what_the_work_raises(call: Any) -> None:
    async def fail() -> NoReturn:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        call(lambda: Runner().run(fail))


def test_context_variables_are_the_callers(call: Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def read() -> str:
        return variable.get()

    variable.set("the caller's")
    assert call(lambda: Runner().run(read)) == "the caller's"


def test_loop_is_of_another_thread_than_the_main_one() -> None:
    async def which() -> threading.Thread:
        return threading.current_thread()

    assert Runner().run(which) is not threading.main_thread()


def test_signal_handler_exception_is_raised_after_cleanup(call: Any) -> None:
    work = Endless(cleaning_up=0.05)
    raising_in_main_thread(work.began, Interruption)
    with pytest.raises(Interruption):
        call(lambda: Runner().run(work))
    assert work.cleaned_up.is_set()


def test_signal_that_wakes_another_thread_is_not_missed(call: Any) -> None:
    """The kernel may give a signal to any thread; Python's handler still runs in the main one, once that looks."""
    work = Endless()

    def handle(*_: object) -> None:
        raise Interruption

    signal.signal(signal.SIGUSR1, handle)

    def hit_myself() -> None:
        work.began.wait()
        time.sleep(0.2)  # until the main thread sleeps in its wait
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    threading.Thread(target=hit_myself, daemon=True).start()
    with pytest.raises(Interruption):
        call(lambda: Runner().run(work))
    assert work.cleaned_up.is_set()


def test_keyboard_interrupt_stops_the_work() -> None:
    work = Endless()
    raising_in_main_thread(work.began, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        Runner().run(work)
    assert work.cleaned_up.is_set()


def test_clean_up_that_takes_too_long_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.2)
    work = Endless(cleaning_up=FOR_EVER)
    raising_in_main_thread(work.began, Interruption)
    with pytest.raises(Interruption):
        Runner().run(work)
    assert not work.cleaned_up.is_set()
    assert "still cleaning up" in caplog.text
    work.let_go.set()
    assert work.cleaned_up.wait(60)


def test_two_seconds_are_enough_to_stop() -> None:
    """What the waiting thread takes at the most, on a machine that has time for it."""
    assert WAKE_INTERVAL + GRACE < 2


def test_cancel_from_a_signal_handler_that_returns(call: Any) -> None:
    """As Airflow 3 does on SIGTERM: it calls ``on_kill`` and lets the task go on."""
    runner, work = Runner(), Endless()
    signal.signal(signal.SIGUSR1, lambda *_: runner.cancel())
    threading.Thread(target=lambda: (work.began.wait(), os.kill(os.getpid(), signal.SIGUSR1)), daemon=True).start()
    with pytest.raises(asyncio.CancelledError):
        call(lambda: runner.run(work))
    assert work.cleaned_up.is_set()


def test_cancel_stops_every_call_of_every_thread() -> None:
    runner, works = Runner(), [Endless() for _ in range(3)]
    ends: list[BaseException] = []

    def run(work: Endless) -> None:
        try:
            runner.run(work)
        except BaseException as error:
            ends.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for work in works:
        work.began.wait()
    runner.cancel()
    for thread in threads:
        thread.join(10)
    assert [type(end) for end in ends] == [asyncio.CancelledError] * 3
    assert all(work.cleaned_up.is_set() for work in works)


def test_after_cancel_nothing_begins() -> None:
    runner, work = Runner(), Endless()
    runner.cancel()
    with pytest.raises(asyncio.CancelledError, match="the task was killed"):
        runner.run(work)
    assert not work.began.is_set()


def test_works_in_a_forked_process() -> None:
    code = """
import asyncio, os
from airflow_provider_mictlanx.hooks.sync_runner import Runner

async def answer():
    await asyncio.to_thread(lambda: None)
    return 42

runner = Runner()
assert runner.run(answer) == 42
child = os.fork()
if child == 0:
    os._exit(runner.run(answer))
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 42
