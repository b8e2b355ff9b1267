"""An upload that tries every chunk once and is retried as a task, beside a gate."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_mictlanx.operators.mictlanx import MictlanXBulkPutOperator
from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor

BULK_ID = "mended/{{ run_id }}"

with DAG(
    dag_id="mended_by_retry",
    schedule=None,
    start_date=datetime(2025, 1, 1),
    catchup=False,
    params={"source": Param("", type="string"), "bucket_id": Param("", type="string")},
) as dag:
    MictlanXBulkPutOperator(
        task_id="upload",
        bulk_id=BULK_ID,
        bucket_id="{{ params.bucket_id }}",
        source="{{ params.source }}",
        max_tries=1,
        retries=1,
        retry_delay=timedelta(seconds=1),
    )
    BulkCompleteSensor(task_id="gate", bulk_id=BULK_ID, mode="reschedule", poke_interval=1, timeout=120)
