"""Stop a task in the middle of its transfer, as Airflow does; the task runs in ``stopped_task``."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

from tests.support.forked_processes import ForkedProcesses
from tests.support.vss import FaultHandle

SLOW = 600
"""How long the request takes in which a task is stopped (seconds)."""
STOPPED_WITHIN = 40
"""
Less than that and than the time for cleaning up here, and enough for a busy machine (seconds). That two seconds are enough
on another one is what ``tests/unit/hooks/test_sync_runner.py`` tells.
"""
_PROCESSES = ForkedProcesses("tests.support.stopped_task")
HOW = {
    "airflow 3": "CancelledError",
    "airflow 2": "AirflowTaskTerminated",
    "execution_timeout": "AirflowTaskTimeout",
}


def wait_until_it_hangs(fault: FaultHandle) -> None:
    ends = time.monotonic() + 60
    while not fault.triggered:
        assert time.monotonic() < ends, "the transfer never came to the slow request"
        time.sleep(0.02)


def stop(fault: FaultHandle, how: str, in_a_loop: bool, operator: str, **arguments: Any) -> dict[str, Any]:
    """Start a task in a process of its own, stop it in the middle of its transfer, and give what came of it."""
    call = {"operator": operator, "arguments": arguments, "how": how, "in_a_loop": in_a_loop}
    process = _PROCESSES.start("tests.support.stopped_task:main", call)
    try:
        wait_until_it_hangs(fault)
        process.send_signal(signal.SIGALRM if how == "execution_timeout" else signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    outcome: dict[str, Any] = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    return outcome
