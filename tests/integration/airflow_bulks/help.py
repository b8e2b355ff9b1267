"""What tests of bulks in Airflow do again and again: be a task instance, wait in a mode, be a triggerer."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger

from airflow_provider_mictlanx.operators.mictlanx import MictlanXAwaitBulkOperator, MictlanXBulkPutOperator
from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor
from airflow_provider_mictlanx.triggers.mictlanx import BulkCompleteTrigger

MODES = ("poke", "reschedule", "deferrable")
ONE_TRY = {"max_tries": 1, "max_backoff": 0.05}
"""For uploads that are meant to fail soon."""


def task_of(run_id: str = "run-1", map_index: int = -1, try_number: int = 1, max_tries: int = 0) -> dict[str, Any]:
    """Give the context of a task: what Airflow tells of it, as far as the operators ask."""
    ti = SimpleNamespace(dag_id="dag", run_id=run_id, task_id="upload", map_index=map_index)
    ti.try_number, ti.max_tries = try_number, max_tries
    return {"ti": ti}


def put_bulk(context: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    """Run the operator once, as a task."""
    operator = MictlanXBulkPutOperator(task_id="upload", **arguments)
    # Without the guard around it, which in Airflow 2 works in the main thread only.
    result = inspect.unwrap(type(operator).execute)(operator, task_of() if context is None else context)
    json.dumps(result)
    return result


async def events_of(trigger: BaseTrigger) -> list[Any]:
    return [event async for event in trigger.run()]


def run_elsewhere(trigger: BaseTrigger) -> Any:
    """Do what a triggerer does: make the trigger again from what JSON keeps of it, run it in a loop, keep the JSON."""
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_mictlanx.triggers.mictlanx.BulkCompleteTrigger"
    again = BulkCompleteTrigger(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)
    (event,) = asyncio.run(events_of(again))
    return json.loads(json.dumps(event.payload))


class Wait:
    """A gate that runs to its end in one of the modes, in a new instance after every reschedule and deferral."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.began: datetime | None = None

    def __call__(self, bulk_id: str, **arguments: Any) -> Any:
        while True:
            try:
                return self.sensor(bulk_id, **arguments).execute(self.context())
            except AirflowRescheduleException:
                self.began = self.began or datetime.now(UTC)
                time.sleep(0.05)
            except TaskDeferred as deferred:
                return resume(self.sensor(bulk_id, **arguments), deferred, self.context())

    def sensor(self, bulk_id: str, **arguments: Any) -> BulkCompleteSensor:
        how = {"deferrable": True} if self.mode == "deferrable" else {"mode": self.mode}
        return BulkCompleteSensor(
            **{"task_id": "wait", "bulk_id": bulk_id, "poke_interval": 0.05, "timeout": 20, **how, **arguments}
        )

    def context(self) -> dict[str, Any]:
        task_instance = MagicMock(dag_id="dag", run_id="run-1", task_id="wait", map_index=-1, try_number=1, max_tries=0)
        task_instance.get_first_reschedule_date.return_value = self.began
        return {"ti": task_instance}


def await_bulk(bulk_id: str, **arguments: Any) -> Any:
    """Run the awaiting operator to its end, deferred or not."""
    given = {"task_id": "await", "bulk_id": bulk_id, "poke_interval": 0.05, "timeout": 20, **arguments}
    try:
        return MictlanXAwaitBulkOperator(**given).execute({})
    except TaskDeferred as deferred:
        return resume(MictlanXAwaitBulkOperator(**given), deferred, {})


def resume(operator: Any, deferred: TaskDeferred, context: dict[str, Any]) -> Any:
    assert deferred.method_name == "execute_complete"
    assert not deferred.kwargs, "dag.test drops them"
    payload = run_elsewhere(deferred.trigger)
    return operator.resume_execution(deferred.method_name, {"event": payload}, context)


def later(work: Callable[[], Any], seconds: float = 0.3) -> threading.Timer:
    timer = threading.Timer(seconds, work)
    timer.start()
    return timer
