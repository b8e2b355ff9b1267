"""
Run coroutines of a filesystem for blocking callers, and stop them completely.

fsspec's own ``sync`` lets the work go on when its caller is interrupted, and its batches leave their tasks running when
they are cancelled. A killed task would still store its upload.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ParamSpec, TypeVar

from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.hooks.sync_runner import GRACE, WAKE_INTERVAL

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Call:
    """
    One call of a user, with the tasks that work for it.

    :ivar listings: what the call has listed so far, by bucket, so that it lists a bucket once
    :ivar planned_copies: if it is a list, copies of files are only added to it: original and copy
    """

    def __init__(self) -> None:
        self.listings: dict[str, Any] = {}
        self.planned_copies: list[tuple[str, str]] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Register the current task for the block."""
        task = asyncio.current_task()
        if task is None or task in self._tasks:
            yield
            return
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def stop(self) -> None:
        """Cancel the registered tasks, and wait until they have cleaned up."""
        others = self._tasks - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


_CALL: contextvars.ContextVar[Call | None] = contextvars.ContextVar("mictlanx_call", default=None)


def current_call() -> Call:
    """Return the surrounding call, or a new one that nobody else sees."""
    return _CALL.get() or Call()


@asynccontextmanager
async def one_call() -> AsyncIterator[None]:
    """Treat the block as one call: after an error or a cancellation, none of its tasks is left running."""
    if _CALL.get() is not None:
        yield
        return
    call = Call()
    token = _CALL.set(call)
    try:
        yield
    except BaseException:
        await call.stop()
        raise
    finally:
        _CALL.reset(token)


def sync(
    loop: asyncio.AbstractEventLoop | None,
    function: Callable[P, Coroutine[Any, Any, T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """
    Run a coroutine in a loop of another thread, and return its result.

    An exception that interrupts the waiting thread, such as a signal handler's, cancels the work. It is raised again
    once the work has cleaned up, or after ``GRACE`` seconds.
    """
    if loop is None or loop.is_closed():
        raise RuntimeError("the filesystem has no running event loop; asynchronous=True allows coroutines only")
    with contextlib.suppress(RuntimeError):
        if asyncio.get_running_loop() is loop:
            raise NotImplementedError("a blocking method was called in the filesystem's own event loop; await its twin")
    outcome: Future[T] = Future()
    tasks: list[asyncio.Task[None]] = []

    async def work() -> None:
        try:
            outcome.set_result(await function(*args, **kwargs))
        except BaseException as error:  # raised in the caller
            outcome.set_exception(error)

    context = contextvars.copy_context()
    loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(work(), context=context)), context=context)
    try:
        wait_for(outcome)
        return outcome.result()
    except BaseException:
        if not outcome.done():
            # In the loop's thread, so that the task exists by then.
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
            if wait([outcome], GRACE).not_done:
                log.warning("Interrupted work is still cleaning up after %.1f s; no longer waiting for it", GRACE)
        raise


def wait_for(future: Future[Any]) -> None:
    """Wait for a future of another thread, and wake regularly to receive signals."""
    while wait([future], WAKE_INTERVAL).not_done:
        pass
