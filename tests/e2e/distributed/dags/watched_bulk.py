"""A DAG whose bulk a person watches: its id is a parameter, and may be any text."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_mictlanx.operators.mictlanx import MictlanXBulkPutOperator
from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor

with DAG("watched_bulk", schedule=None, params={"bulk_id": "", "bucket_id": "", "source": ""}):
    MictlanXBulkPutOperator.partial(
        task_id="upload",
        bulk_id="{{ params.bulk_id }}",
        bucket_id="{{ params.bucket_id }}",
        source="{{ params.source }}",
        shards=2,
    ).expand(shard=[0, 1])
    BulkCompleteSensor(task_id="ready", bulk_id="{{ params.bulk_id }}", poke_interval=5)
