"""
Run coroutines for blocking callers: ``Runner`` runs one, and ``blocking`` derives ``put`` from ``aput``.

The event loop runs in a separate thread, even if the caller has no loop. Airflow ends a task by a signal, and Python
runs signal handlers in the main thread, between any two bytecodes. If the loop ran there, the handler's exception
(``AirflowTaskTimeout`` for an ``execution_timeout``, ``AirflowTaskTerminated`` for a SIGTERM) could be raised in a
callback of the loop, which logs and drops it, or in a subtask, which wraps it in an exception group. So the main
thread only waits: the exception is raised there, the work is cancelled and cleans up, and the exception propagates
unchanged. A caller inside a running loop, where ``asyncio.run`` fails, is served in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from types import FunctionType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

from airflow_provider_mictlanx.client.texts import get_logger

log = get_logger(__name__)

GRACE = 1.5
"""Seconds for interrupted work to clean up before the interruption propagates without waiting for it."""

WAKE_INTERVAL = 0.1
"""
Seconds after which a waiting thread wakes to receive signals. An endless wait could miss a signal that the kernel
delivered to another thread, or just before the main thread began to sleep. CPython then only sets a flag, and reads it
when the sleep ends.
"""

_STOPPED = "stopped because the task was killed or the caller was interrupted"

P = ParamSpec("P")

T = TypeVar("T")


class _CoroutineRunner(Protocol):
    """An object whose ``_run`` runs a coroutine for a blocking caller."""

    def _run(self, method: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T: ...


R = TypeVar("R", bound=_CoroutineRunner)


def blocking(method: Callable[Concatenate[R, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[R, P], T]:
    """
    Derive the blocking twin of an async method.

    ``put = blocking(aput)`` has the coroutine's signature and docstring, and its name without the ``a``. It calls the
    coroutine by name, so a subclass overrides both by overriding the coroutine.
    """
    name = method.__name__
    signature = inspect.signature

    def call(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        overridable: Callable[P, Coroutine[Any, Any, T]] = getattr(self, name)
        try:
            signature(overridable).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{twin.__qualname__}() {error}") from None
        return self._run(overridable, *args, **kwargs)

    # The annotations resolve with the globals of the method's module.
    written = cast(FunctionType, inspect.unwrap(method))
    twin: Any = FunctionType(call.__code__, written.__globals__, closure=call.__closure__)
    functools.update_wrapper(twin, method)
    del twin.__wrapped__  # Airflow would follow it to the coroutine function, and await the result
    twin.__name__ = name.removeprefix("a")
    twin.__qualname__ = method.__qualname__.removesuffix(name) + twin.__name__
    twin.__signature__ = inspect.signature(method)
    return cast(Callable[Concatenate[R, P], T], twin)


class Runner:
    """
    Run coroutines for blocking callers, and stop them from any other thread or signal handler.

    A cancelled runner stays cancelled: a killed task starts nothing more.
    """

    def __init__(self) -> None:
        self._calls: set[_Call[Any]] = set()
        self.cancelled = False

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """
        Run ``main()`` in a new event loop, and return its result or raise its error.

        Works in any thread and in forked processes, with the caller's context variables, and inside a running loop,
        which is blocked meanwhile. An exception that interrupts the waiting thread cancels the work. It is raised
        again once the work has cleaned up, or after ``GRACE`` seconds.

        :param main: returns the coroutine
        """
        call = _Call(main)
        self._calls.add(call)
        try:
            if self.cancelled:
                call.cancel()
            call.start()
            while not call.wait(WAKE_INTERVAL):
                pass
            return call.outcome.result()
        except BaseException:
            call.cancel()
            if not call.wait(GRACE):
                log.warning("Interrupted work is still cleaning up after %.1f s; no longer waiting for it", GRACE)
            raise
        finally:
            self._calls.discard(call)

    def cancel(self) -> None:
        """Cancel running and later calls. Takes no lock: safe in a signal handler."""
        self.cancelled = True
        for call in tuple(self._calls):
            call.cancel()


class _Call(Generic[T]):
    """A coroutine with its thread, its loop and its outcome."""

    def __init__(self, main: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.outcome: Future[T] = Future()
        self._main = main
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[T]] | None = None
        self._cancelled = False
        context = contextvars.copy_context()
        # A daemon: a DNS lookup may hang in it, and must not keep the process alive.
        self._thread = threading.Thread(target=context.run, args=(self._work,), name="mictlanx-call", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        self._cancelled = True
        if self._running is not None:
            loop, task = self._running
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                loop.call_soon_threadsafe(task.cancel, _STOPPED)

    def wait(self, seconds: float) -> bool:
        """Wait for the end, including cleanup; return False if it did not come in time."""
        never_started = self._thread.ident is None
        return never_started or not wait_for_futures([self.outcome], seconds).not_done

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
        # Publish the task before reading the flag: ``cancel`` sets the flag before it reads the task.
        if self._cancelled:
            raise asyncio.CancelledError(_STOPPED)
        return await self._main()
