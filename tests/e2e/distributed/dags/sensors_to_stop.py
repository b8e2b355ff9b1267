"""Sensors that wait for what never comes, until somebody ends their tasks. Each try watches a bucket, or a bulk, of its own."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor

from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor, MictlanXObjectSensor

MODES: dict[str, dict[str, Any]] = {
    "poke": {"deferrable": False, "poke_interval": 1},
    "reschedule": {"deferrable": False, "mode": "reschedule", "poke_interval": 12},
    "deferred": {"deferrable": True, "poke_interval": 1},
    "reading": {"deferrable": True, "poke_interval": 1, "check_storage": True},
}
"""``reading``: the bulk is complete, and the trigger is reading it back."""

TASKS = [
    *(("failed", mode) for mode in MODES),
    *((end, "deferred") for end in ("success", "cleared")),
]
"""What somebody makes of the task, and the mode in which it waits."""
OTHERS = "of-airflow"
"""A deferred task of Airflow's own, which tells how soon the triggerer hears of a click."""


def name_of(task: tuple[str, str], try_number: object, salt: str) -> str:
    """Return the bucket, or the bulk, that a try watches."""
    return f"{'-'.join(task)}-{try_number}-{salt}"


with DAG(
    dag_id="sensors_to_stop", schedule=None, start_date=datetime(2025, 1, 1), catchup=False, params={"salt": ""}
) as dag:
    TimeDeltaSensor(task_id=OTHERS, delta=timedelta(days=1), deferrable=True)
    for task in TASKS:
        watched = name_of(task, "{{ ti.try_number }}", "{{ params.salt }}")
        if task[1] == "reading":
            BulkCompleteSensor(task_id="-".join(task), bulk_id=watched, **MODES["reading"])
        else:
            MictlanXObjectSensor(task_id="-".join(task), bucket_id=watched, key="nobody", **MODES[task[1]])
