"""Blocking work off the event loop, for as long as it takes. Standard library only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """
    Do blocking work in a thread of its own, and give its result.

    Who is cancelled does not wait for it, and neither does the end of the loop or of the process, as they would for a thread
    of a pool: listing a large tree may take minutes, and a killed task has seconds.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(setter: Callable[[Any], None], outcome: Any) -> None:
        def told() -> None:
            if not future.done():
                setter(outcome)

        if not loop.is_closed():
            loop.call_soon_threadsafe(told)

    def run() -> None:
        try:
            outcome = work()
        except BaseException as error:  # it is raised where it is awaited
            tell(future.set_exception, error)
        else:
            tell(future.set_result, outcome)

    threading.Thread(target=run, name="mictlanx-bulk", daemon=True).start()
    return await future
