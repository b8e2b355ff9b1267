"""
A task of its own process, which is stopped as Airflow stops tasks; run by the tests of stopping.

The signal handlers are those of Airflow 3 (``task_runner._on_term``) and Airflow 2 (``TaskInstance``), the timeout is Airflow's
own, whose alarm the test sends. Prints what came up and how long after the signal, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from types import FrameType
from typing import Any

from airflow.exceptions import AirflowTaskTerminated
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, timeout

from airflow_provider_mictlanx.hooks import sync_runner
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXAwaitBulkOperator,
    MictlanXBulkPutOperator,
    MictlanXCopyOperator,
    MictlanXDeleteOperator,
    MictlanXGetToFileOperator,
    MictlanXGetToFolderOperator,
    MictlanXPutOperator,
)

OPERATORS = {
    "put": MictlanXPutOperator,
    "get": MictlanXGetToFileOperator,
    "put_bulk": MictlanXBulkPutOperator,
    "await_bulk": MictlanXAwaitBulkOperator,
    "get_bulk": MictlanXGetToFolderOperator,
    "copy": MictlanXCopyOperator,
    "delete": MictlanXDeleteOperator,
}


class Killed:
    """Runs an operator until it is stopped."""

    def __init__(self, operator: str, arguments: dict[str, Any], *, how: str, in_a_loop: bool) -> None:
        self.operator = OPERATORS[operator](task_id="task", **arguments)
        self.how = how
        self.in_a_loop = in_a_loop
        self.signalled = 0.0

    def run(self) -> dict[str, Any]:
        signal.signal(signal.SIGTERM, self.on_term)
        try:
            self.execute()
        except BaseException as error:
            return {"error": type(error).__name__, "seconds": time.monotonic() - self.signalled}
        return {"error": None}

    def on_term(self, *_: object) -> None:
        self.signalled = time.monotonic()
        self.operator.on_kill()
        if self.how == "airflow 2":
            raise AirflowTaskTerminated("Task received SIGTERM signal")

    def execute(self) -> None:
        if self.how != "execution_timeout":
            self.execute_anywhere()
            return
        try:
            with timeout(3600):
                airflows = signal.getsignal(signal.SIGALRM)

                def on_alarm(number: int, frame: FrameType | None) -> None:
                    self.signalled = time.monotonic()
                    airflows(number, frame)  # type: ignore[operator]

                signal.signal(signal.SIGALRM, on_alarm)
                self.execute_anywhere()
        except AirflowTaskTimeout:
            self.operator.on_kill()
            raise

    def execute_anywhere(self) -> None:
        if not self.in_a_loop:
            self.operator.execute({})
            return

        async def task() -> None:
            self.operator.execute({})

        asyncio.run(task())


def main(call: dict[str, Any]) -> None:
    """Run what the test asks for."""
    sync_runner.GRACE = 60  # a busy machine may take longer to clean up than users have to wait
    sys.stdout.write(json.dumps(Killed(**call).run()) + "\n")
