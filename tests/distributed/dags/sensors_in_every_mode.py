"""
Every sensor, and the operator that awaits a bulk, in every mode and every case: a task for each, all in one DAG.

The test writes what they wait for, breaks the storage under them and mends it; ``CASES`` says what has to come of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator

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
    "all": (MictlanXObjectSensor, {"bucket_id": "{name}", "key": ["c", "in/a"]}),
    "any": (MictlanXObjectSensor, {"bucket_id": "{name}", "key": ["nobody", "in/b"], "min_objects": 1}),
    "prefix": (MictlanXObjectSensor, {"bucket_id": "{name}", "prefix": "in/", "min_objects": 2}),
    "glob": (MictlanXObjectSensor, {"bucket_id": "{name}", "glob": "*", "min_objects": 3}),
    "quiet": (MictlanXBucketUnchangedSensor, {"bucket_id": "{name}", "min_objects": 3, "inactivity_period": 3}),
    "bulk": (BulkCompleteSensor, {"bulk_id": "{name}"}),
    "await": (MictlanXAwaitBulkOperator, {"bulk_id": "{name}"}),
}

MODES: dict[str, dict[str, Any]] = {
    "poke": {"deferrable": False},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
    "deferred": {"deferrable": True},
}

PATIENT = {"timeout": 900}
BRIEF = {"timeout": 4}


ALL = tuple(MODES)


@dataclass(frozen=True)
class Case:
    """
    What befalls some sensors in all of their modes.

    :ivar sensors: which of them
    :ivar state: what has to become of their tasks
    :ivar arguments: of all of them
    :ivar wait: the modes in which they wait until the test has done something
    :ivar name: instead of one made of the case: the bucket's, or the bulk's
    """

    sensors: tuple[str, ...]
    state: str
    arguments: dict[str, Any] = field(default_factory=dict)
    wait: tuple[str, ...] = ()
    name: str | None = None


# What breaks later is another matter for a deferred sensor only: then its trigger meets it. The others poke as they did at first.
LATER = ("deferred",)
CASES = {
    "found": Case(tuple(SENSORS), "success", PATIENT, wait=ALL),
    "timeout": Case(("one", "quiet", "bulk", "await"), "failed", {**BRIEF, "retries": 1}),
    "timeout_soft": Case(("one", "quiet", "bulk"), "skipped", {**BRIEF, "soft_fail": True}),
    "bad_name": Case(("one", "quiet"), "failed", {"soft_fail": True, "retries": 1}, name="no.safe.id"),
    "bad_name_never": Case(("all",), "skipped", {"never_fail": True}, name="no.safe.id"),
    "no_name": Case(("await",), "failed", {"retries": 1}, name=""),
    "broken": Case(("await",), "failed", PATIENT, wait=LATER),
    "broken_soft": Case(("one", "quiet", "bulk"), "failed", {**PATIENT, "soft_fail": True}, wait=LATER),
    "broken_never": Case(("bulk",), "skipped", {**PATIENT, "never_fail": True}, wait=LATER),
    "broken_silent": Case(("quiet", "bulk"), "success", {**PATIENT, "silent_fail": True}, wait=ALL),
    "forbidden_soft": Case(("one",), "failed", {**PATIENT, "soft_fail": True, "retries": 1}, wait=LATER),
}

RESCHEDULED_AFTER = 10
"""
Seconds between rescheduled pokes. Airflow fails a task whose next poke is queued before its scheduler has heard of the end of the
last one ("finished with state success, but the task instance's state attribute is queued"), and this one has much to do.
"""

BACKOFF = {
    mode: {"exponential_backoff": True, "poke_interval": first, "max_wait": 8 * first, "timeout": 60}
    for mode, first in {"poke": 1, "reschedule": RESCHEDULED_AFTER, "deferred": 1}.items()
}


def modes_of(sensor: str) -> list[str]:
    """Give the modes of a sensor: the operator is never rescheduled."""
    return [mode for mode in MODES if (sensor, mode) != ("await", "reschedule")]


def cells(*, wait: bool | None = None) -> Iterator[tuple[str, str, str]]:
    """Give case, sensor and mode of every task, or of those that wait for the test, or of the others."""
    for name, case in CASES.items():
        for sensor in case.sensors:
            for mode in modes_of(sensor):
                if wait in (None, mode in case.wait):
                    yield name, sensor, mode


def name_of(case: str, mode: str, salt: str) -> str:
    """Give the bucket, or the bulk, that the sensors of a case watch; what is broken from the beginning is called ``…-now``."""
    name = CASES[case].name
    if name is not None:
        return name
    return f"{case.replace('_', '-')}-{salt}" + ("" if mode in CASES[case].wait else "-now")


def _filled(value: Any, name: str) -> Any:
    return value.replace("{name}", name) if isinstance(value, str) else value


def _make(case: str, sensor: str, mode: str) -> None:
    kind, own = SENSORS[sensor]
    # A rescheduled poke is a process of its own: while they wait for the test, they leave the machine to the others.
    poke_interval = 2 if mode != "reschedule" else 40 if mode in CASES[case].wait else RESCHEDULED_AFTER
    watched = name_of(case, mode, "{{ params.salt }}")
    arguments = {name: _filled(value, watched) for name, value in own.items()}
    arguments |= {"poke_interval": poke_interval, **MODES[mode], **CASES[case].arguments}
    kind(task_id=f"{case}-{sensor}-{mode}", **arguments)


with DAG(
    dag_id="sensors_in_every_mode",
    schedule=None,
    start_date=datetime(2025, 1, 1),
    catchup=False,
    max_active_tasks=200,
    params={"salt": ""},
) as dag:
    for cell in cells():
        _make(*cell)
    for mode, how in MODES.items():
        MictlanXObjectSensor(
            task_id=f"backoff-{mode}",
            bucket_id=f"backoff-{mode}-{{{{ params.salt }}}}",
            prefix="",
            **how,
            **BACKOFF[mode],
        )
