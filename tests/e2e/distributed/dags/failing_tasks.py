"""Tasks that fail: for good, in a try that Airflow repeats, and at the end of a wait in the triggerer."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mictlanx.operators.mictlanx import MictlanXGetToFileOperator, MictlanXPutOperator
from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor

with DAG(
    dag_id="failing_tasks",
    schedule=None,
    start_date=datetime(2025, 1, 1),
    catchup=False,
    params={"bucket_id": "", "folder": ""},
    default_args={"retries": 1, "retry_delay": timedelta(seconds=1)},
) as dag:
    ball: dict[str, Any] = {"bucket_id": "{{ params.bucket_id }}", "key": "stored"}
    store = MictlanXPutOperator(task_id="store", data="bytes", **ball)
    store >> MictlanXPutOperator(task_id="conflict", data="other bytes", **ball)
    MictlanXGetToFileOperator(
        task_id="missing", bucket_id="{{ params.bucket_id }}", key="missing", output_path="{{ params.folder }}"
    )
    # Long enough for a busy scheduler: Airflow fails, and retries, a task whose deferral ends before it has noticed it.
    BulkCompleteSensor(task_id="gate", bulk_id="{{ params.bucket_id }}", deferrable=True, timeout=20, poke_interval=2)
