"""Helpers of tests of bulks in Airflow: a task instance, a wait in a mode, a triggerer."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_mictlanx.operators.mictlanx import MictlanXAwaitBulkOperator, MictlanXBulkPutOperator
from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor
from tests.support.sensor_modes import Wait, resume

ONE_TRY = {"max_tries": 1, "max_backoff": 0.05}
"""For uploads that are meant to fail soon."""


def task_of(run_id: str = "run-1", map_index: int = -1, try_number: int = 1, max_tries: int = 0) -> dict[str, Any]:
    """Return the context of a task, with the entries that the operators read."""
    ti = SimpleNamespace(dag_id="dag", run_id=run_id, task_id="upload", map_index=map_index, xcom_push=lambda **_: None)
    ti.try_number, ti.max_tries = try_number, max_tries
    return {"ti": ti}


def put_bulk(context: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    """Run the operator once, as a task."""
    operator = MictlanXBulkPutOperator(task_id="upload", **arguments)
    # Without the guard around it, which in Airflow 2 works in the main thread only.
    result = inspect.unwrap(type(operator).execute)(operator, task_of() if context is None else context)
    json.dumps(result)
    return result


def gate(mode: str) -> Wait:
    return Wait(mode, BulkCompleteSensor)


def await_bulk(bulk_id: str, **arguments: Any) -> Any:
    """Run the awaiting operator to its end, deferred or not."""
    given = {"task_id": "await", "bulk_id": bulk_id, "poke_interval": 0.05, "timeout": 20, **arguments}
    try:
        return MictlanXAwaitBulkOperator(**given).execute({})
    except TaskDeferred as deferred:
        return resume(MictlanXAwaitBulkOperator(**given), deferred, {})


def later(work: Callable[[], Any], seconds: float = 0.3) -> threading.Timer:
    timer = threading.Timer(seconds, work)
    timer.start()
    return timer
