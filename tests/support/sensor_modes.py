"""Run a sensor to its end in one of its modes, as Airflow does: every reschedule and every deferral goes on in a new instance."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from datetime import UTC, datetime
from typing import Any
from unittest.mock import MagicMock

from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_mictlanx.sensors.mictlanx import MictlanXSensor

MODES = ("poke", "reschedule", "deferrable")


async def events_of(trigger: BaseTrigger) -> list[TriggerEvent]:
    return [event async for event in trigger.run()]


def made_again(trigger: BaseTrigger) -> BaseTrigger:
    """Do what a triggerer does first: make the trigger from what JSON keeps of it."""
    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    again: BaseTrigger = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)
    return again


def run_elsewhere(trigger: BaseTrigger) -> Any:
    """Do what a triggerer does: make the trigger again, run it in a loop, keep the JSON of its one event."""
    (event,) = asyncio.run(events_of(made_again(trigger)))
    return json.loads(json.dumps(event.payload))


def resume(operator: Any, deferred: TaskDeferred, context: dict[str, Any]) -> Any:
    """Resume a newly created operator after its deferral."""
    assert deferred.method_name == "execute_complete"
    assert not deferred.kwargs, "dag.test drops them"
    try:
        payload = run_elsewhere(deferred.trigger)
    except Exception:
        return operator.resume_execution("__fail__", {"error": "Trigger failure"}, context)
    return operator.resume_execution(deferred.method_name, {"event": payload}, context)


class Wait:
    """
    A sensor in one of the modes; calling it runs it to its end.

    :param remembers: whether Airflow keeps a state of the task between two pokes, as from 3.3 on
    """

    def __init__(self, mode: str, kind: type[MictlanXSensor], *, remembers: bool = False) -> None:
        self.mode = mode
        self.kind = kind
        self.began: datetime | None = None
        self.store = TaskStateStore() if remembers else None
        self.try_number = 1

    def __call__(self, **arguments: Any) -> Any:
        waiting: TaskDeferred | None = None
        while True:
            sensor, context = self.sensor(**arguments), self.context()
            try:
                return resume(sensor, waiting, context) if waiting else sensor.execute(context)
            except AirflowRescheduleException:
                self.began = self.began or datetime.now(UTC)
                time.sleep(0.05)
            except TaskDeferred as deferred:
                waiting = deferred

    def sensor(self, **arguments: Any) -> Any:
        how = {"deferrable": True} if self.mode == "deferrable" else {"mode": self.mode}
        return self.kind(**{"task_id": "wait", "poke_interval": 0.05, "timeout": 20, **how, **arguments})

    def context(self) -> dict[str, Any]:
        names = {"dag_id": "dag", "run_id": "run-1", "task_id": "wait", "map_index": -1}
        task_instance = MagicMock(**names, try_number=self.try_number, max_tries=0)
        task_instance.get_first_reschedule_date.return_value = self.began
        return {"ti": task_instance} | ({} if self.store is None else {"task_state_store": self.store})


class TaskStateStore:
    """Keeps JSON between two pokes of a task, as Airflow's own does from 3.3 on."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else default

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = json.dumps(value)
