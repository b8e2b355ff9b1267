"""
Every sensor, and the operator that awaits a bulk, in every case and every mode: a task for each, all in one DAG.

The test writes what they wait for, breaks the storage under them and mends it; ``CASES`` says what has to come of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator, BaseSensorOperator

from airflow_provider_mictlanx.operators.mictlanx import MictlanXAwaitBulkOperator
from airflow_provider_mictlanx.sensors.mictlanx import (
    BulkCompleteSensor,
    MictlanXBucketUnchangedSensor,
    MictlanXObjectSensor,
)

OBJECTS = {"in/a": "1", "in/b": "22", "c": "333"}
"""What is written to the buckets that are waited for, by key; a bulk of the same name holds the same."""

SENSORS: dict[str, tuple[type[BaseOperator], dict[str, Any]]] = {
    "one": (MictlanXObjectSensor, {"bucket_id": "{name}", "key": "in/a"}),
    "glob": (MictlanXObjectSensor, {"bucket_id": "{name}", "glob": "*", "min_objects": 3}),
    "quiet": (MictlanXBucketUnchangedSensor, {"bucket_id": "{name}", "min_objects": 3, "inactivity_period": 3}),
    "bulk": (BulkCompleteSensor, {"bulk_id": "{name}"}),
    "await": (MictlanXAwaitBulkOperator, {"bulk_id": "{name}"}),
}
FURTHER_WAYS: dict[str, tuple[type[BaseOperator], dict[str, Any]]] = {
    "all": (MictlanXObjectSensor, {"bucket_id": "{name}", "key": ["c", "in/a"]}),
    "any": (MictlanXObjectSensor, {"bucket_id": "{name}", "key": ["nobody", "in/b"], "min_objects": 1}),
    "prefix": (MictlanXObjectSensor, {"bucket_id": "{name}", "prefix": "in/", "min_objects": 2}),
}
"""Of the sensor of objects: they differ in what is found, and in nothing else."""

MODES: dict[str, dict[str, Any]] = {
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferred": {"deferrable": True},
    "later": {"deferrable": True},
}
"""``later``: deferred, where it is not the first poke that meets what breaks, but the trigger."""

AGAIN_AFTER = 10
"""
Seconds after which a task may be queued again in the same try. Airflow fails one that is queued again before its scheduler has heard
of the end of the process before ("finished with state success, but the task instance's state attribute is queued"), and this one
has much to do.
"""
PAUSES = {"poke": 2, "reschedule": AGAIN_AFTER, "deferred": 2}
"""Seconds between two pokes."""
WAITING = {"poke": 10, "reschedule": 40, "deferred": 10, "later": 10}
"""The same while they wait for the test: a rescheduled poke is a process of its own, and the machine is the others' then."""
GROWING = {"poke": 1, "reschedule": 2 * AGAIN_AFTER, "deferred": 1}
"""What the growing pauses are made from: the first of them may be half as long."""
MAX_PAUSE = 8

FEW = "few_at_a_time"
"""The pool of the tasks that don't sleep in a slot: each start of a process takes a core for seconds."""


@dataclass(frozen=True)
class Case:
    """
    What befalls every sensor in every mode.

    :ivar state: what has to become of the task
    :ivar arguments: of all of them
    :ivar tries: after how many tries, of two that it has
    :ivar waits: whether nothing comes of it until the test does something
    :ivar breaks: whether the storage breaks: at the first poke, or later
    :ivar name: of the bucket or bulk, instead of one made of the case
    """

    state: str
    arguments: dict[str, Any]
    tries: int = 1
    waits: bool = False
    breaks: bool = False
    name: str | None = None


PATIENT: dict[str, Any] = {"timeout": 1200}
BRIEF: dict[str, Any] = {"timeout": AGAIN_AFTER}
SOFT, NEVER, SILENT = {"soft_fail": True}, {"never_fail": True}, {"silent_fail": True}

CASES = {
    "found": Case("success", PATIENT, waits=True),
    "timeout": Case("failed", BRIEF),
    "timeout_soft": Case("skipped", BRIEF | SOFT),
    "timeout_never": Case("failed", BRIEF | NEVER),  # as in Airflow's own: never_fail is about errors
    "bad_name": Case("failed", PATIENT, name=""),
    "forbidden": Case("failed", PATIENT, breaks=True),
    "forbidden_soft": Case("failed", PATIENT | SOFT, breaks=True),
    "forbidden_never": Case("skipped", PATIENT | NEVER, breaks=True),
    "forbidden_silent": Case("failed", PATIENT | SILENT, breaks=True),
    "broken": Case("failed", PATIENT, breaks=True, tries=2),
    "broken_soft": Case("failed", PATIENT | SOFT, breaks=True, tries=2),
    "broken_never": Case("skipped", PATIENT | NEVER, breaks=True),
    "broken_silent": Case("success", PATIENT | SILENT, breaks=True, waits=True),
    "backoff": Case("failed", {"timeout": 130, "exponential_backoff": True}),
}


def sensors_of(case: str) -> dict[str, tuple[type[BaseOperator], dict[str, Any]]]:
    """Return the case's sensors: all; the operator is excluded where a sensor's parameter such as ``soft_fail`` is needed."""
    own_of_sensors = {*SOFT, *NEVER, *SILENT, "exponential_backoff"} & CASES[case].arguments.keys()
    every = SENSORS | FURTHER_WAYS if case == "found" else SENSORS
    return {name: made for name, made in every.items() if not own_of_sensors or issubclass(made[0], BaseSensorOperator)}


def modes_of(case: str, sensor: str) -> list[str]:
    """Return the modes: all. The operator is never rescheduled, and only a sensor that breaks can do so later."""
    return [
        mode for mode in MODES if (sensor, mode) != ("await", "reschedule") and (mode != "later" or CASES[case].breaks)
    ]


def cells(case: str | None = None) -> Iterator[tuple[str, str, str]]:
    """Return case, sensor and mode of every task, or of those of one case."""
    for name in CASES if case is None else [case]:
        for sensor in sensors_of(name):
            for mode in modes_of(name, sensor):
                yield name, sensor, mode


def name_of(cell: tuple[str, str, str], salt: str) -> str:
    """Return the bucket, or the bulk, that a sensor watches; where pokes are counted, each has its own."""
    case, sensor, mode = cell
    if (name := CASES[case].name) is not None:
        return name
    apart = f"-{sensor}-{mode}" if case == "backoff" else "-later" if mode == "later" else ""
    return f"{case.replace('_', '-')}-{salt}{apart}"


def tempo_of(case: str, mode: str) -> dict[str, Any]:
    """Return the arguments for how often a task pokes."""
    if case == "backoff":
        return {"poke_interval": GROWING[mode], "max_wait": MAX_PAUSE * GROWING[mode]}
    return {"poke_interval": WAITING[mode] if CASES[case].waits or mode == "later" else PAUSES[mode]}


def _filled(value: Any, name: str) -> Any:
    return value.replace("{name}", name) if isinstance(value, str) else value


def _make(cell: tuple[str, str, str]) -> None:
    name, sensor, mode = cell
    case = CASES[name]
    kind, own = sensors_of(name)[sensor]
    watched = name_of(cell, "{{ params.salt }}")
    sleeps_in_its_slot = mode == "poke" and (case.waits or not case.breaks)
    kind(
        task_id="-".join(cell),
        retries=1,
        retry_delay=timedelta(seconds=1),
        pool="default_pool" if sleeps_in_its_slot else FEW,
        priority_weight=2 if name == "backoff" else 1,
        **{argument: _filled(value, watched) for argument, value in own.items()},
        **MODES[mode],
        **tempo_of(name, mode),
        **case.arguments,
    )


with DAG(
    dag_id="sensors_in_every_mode",
    schedule=None,
    start_date=datetime(2025, 1, 1),
    catchup=False,
    max_active_tasks=300,
    params={"salt": ""},
) as dag:
    for each in cells():
        _make(each)
