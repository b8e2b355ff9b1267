"""
The one place that runs coroutines for callers that have none: ``asyncio.run``, in a thread of its own. Standard library only.

Why a thread even where no loop is running: Airflow ends a task by a signal, and Python runs signal handlers in the main
thread, between any two bytecodes. If the loop ran there, what a handler raises (``AirflowTaskTimeout`` for an
``execution_timeout``, ``AirflowTaskTerminated`` for a SIGTERM) could come up inside a callback of the loop, which logs and
forgets it, or inside some subtask, which wraps it in an exception group. So the main thread does nothing but wait: what a
handler raises comes up there, the work is cancelled and cleans up after itself, and the exception goes its way untouched.
The same path serves a caller that is inside a running loop, where ``asyncio.run`` would refuse.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from typing import Any, Generic, TypeVar

from airflow_provider_mictlanx.client.texts import get_logger

T = TypeVar("T")
log = get_logger(__name__)

GRACE = 1.5
"""Seconds that interrupted work has to clean up before the interruption goes on without waiting for it."""

LOOK = 0.1
"""
Seconds after which a waiting thread looks again whether a signal came. A wait without an end would miss one that the
kernel gave to another thread, or that came in the moment before the main thread went to sleep: CPython then only sets a
flag, which nobody reads until the sleep ends.
"""

_STOPPED = "stopped, because the task was killed or the caller interrupted"


class Runner:
    """
    Runs coroutines to their end for threads that can only wait, and can stop them from any other thread or signal handler.

    Once cancelled it stays so: a task that was killed starts nothing more.
    """

    def __init__(self) -> None:
        self._calls: set[_Call[Any]] = set()
        self.cancelled = False

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """
        Run ``main()`` in a fresh event loop and give what it returns, or raise what it raises.

        Works with and without a running loop (which is blocked meanwhile), in any thread and in forked processes. Context
        variables are those of the caller. An exception that interrupts the waiting thread cancels the work and is raised
        again when that is cleaned up, or after ``GRACE`` seconds.

        :param main: makes the coroutine
        """
        call = _Call(main)
        self._calls.add(call)
        try:
            if self.cancelled:
                call.cancel()
            call.start()
            while not call.wait(LOOK):
                pass
            return call.outcome.result()
        except BaseException:
            call.cancel()
            if not call.wait(GRACE):
                log.warning(
                    "Interrupted work is still cleaning up after %.1f s; going on without waiting for it", GRACE
                )
            raise
        finally:
            self._calls.discard(call)

    def cancel(self) -> None:
        """Cancel what is running, and whatever would be run later. Takes no lock: safe in a signal handler."""
        self.cancelled = True
        for call in tuple(self._calls):
            call.cancel()


class _Call(Generic[T]):
    """One coroutine, its thread, its loop and its outcome."""

    def __init__(self, main: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.outcome: Future[T] = Future()
        self._main = main
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[T]] | None = None
        self._cancelled = False
        context = contextvars.copy_context()
        # A daemon: a look-up of a dead name server may hang in it for long, and must not hold the process then.
        self._thread = threading.Thread(target=context.run, args=(self._work,), name="mictlanx-call", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        self._cancelled = True
        if self._running is not None:
            loop, task = self._running
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has just ended by itself
                loop.call_soon_threadsafe(task.cancel, _STOPPED)

    def wait(self, seconds: float) -> bool:
        """Wait for the end, cleaning up included; tell whether it came."""
        never_began = self._thread.ident is None
        return never_began or not wait_for_futures([self.outcome], seconds).not_done

    def _work(self) -> None:
        try:
            value = asyncio.run(self._supervised())
        except BaseException as error:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(value)

    async def _supervised(self) -> T:
        task: asyncio.Task[T] | None = asyncio.current_task()
        if task is not None:
            self._running = asyncio.get_running_loop(), task
        # First tell where to cancel, then look whether somebody wanted to: ``cancel`` does it the other way round.
        if self._cancelled:
            raise asyncio.CancelledError(_STOPPED)
        return await self._main()
