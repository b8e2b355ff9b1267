"""
Log what keeps the event loop of a triggerer for long; Python imports this module first, since its folder is in ``PYTHONPATH``.

Airflow warns after 0.2 s, but by the clock, so on a busy machine it warns of everything. This log counts the processor
time of each callback, without full garbage collections: how long one takes depends on Airflow's objects.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time

LOG = os.environ.get("SLOW_CALLBACKS")
LIMIT = 0.2
"""Seconds; ``[triggerer] blocked_main_thread_warning_threshold``."""


def log_slow_callbacks(path: str) -> None:
    import anyio._backends._asyncio  # noqa: F401 -- Airflow imports it in its first callback, which takes 0.1 s

    supervisor = os.getpid()  # which forks the process with the triggers
    run_handle = asyncio.Handle._run
    collecting = threading.local()

    def spent() -> float:
        """Return the processor time of this thread, without that of full garbage collections."""
        return time.thread_time() - getattr(collecting, "total", 0.0)

    def is_observed() -> bool:
        """Return whether this is the loop of triggers; it logs at length once its supervisor was killed."""
        alive = supervisor in (os.getpid(), os.getppid())
        return alive and threading.current_thread() is threading.main_thread()

    def count_collections(phase: str, info: dict[str, int]) -> None:
        if info["generation"] == 2 and phase == "start":
            collecting.began = time.thread_time()
        elif info["generation"] == 2:
            collecting.total = getattr(collecting, "total", 0.0) + time.thread_time() - collecting.began

    def run(handle: asyncio.Handle) -> None:
        callback, began = handle._callback, spent()  # type: ignore[attr-defined]
        run_handle(handle)
        if (took := spent() - began) > LIMIT and is_observed():
            with open(path, "a", encoding="utf-8") as log:
                log.write(f"{took:.3f} s: {getattr(callback, '__self__', None) or callback!r}\n")

    gc.callbacks.append(count_collections)
    asyncio.Handle._run = run  # type: ignore[method-assign]


if LOG and "triggerer" in sys.orig_argv:
    log_slow_callbacks(LOG)
