"""
Upload a folder as one bulk with four mapped tasks, on any number of workers, wait for it, and clean up.

Trigger it with `{"source": "/a/folder"}`. Every worker must see the same content in that folder. Each task lists it and
takes its own part, about a quarter of the bytes; the tasks do not communicate. The DAG uses the connection
`mictlanx_default`.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, setup, task

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXBulkPutOperator, MictlanXDeleteBucketOperator
from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor

# A bulk id belongs to one run, so it contains the run id.
BULK_ID = "{{ dag.dag_id }}-{{ run_id }}"


@setup
def name_bucket(run: str) -> str:
    """Return a bucket id for this run only; a cleared task gets the same id. The first put creates the bucket."""
    return f"airflow-example-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


@task
def compare(shards: list[dict[str, Any]], total: dict[str, Any]) -> dict[str, int]:
    """Check that the shards add up to the bulk: no file is missing, none was uploaded twice."""
    balls = sum(shard["uploaded"] + shard["skipped"] for shard in shards)
    if not balls == total["succeeded"] == total["total_balls"]:
        raise ValueError(f"the shards uploaded {balls} of {total['total_balls']} files: {shards}")
    return {"shards": len(shards), "files": balls, "size": total["uploaded_size"]}


@task
def forget_bulk(bulk_id: str) -> dict[str, Any]:
    """Delete the bulk's records."""
    return MictlanXHook().delete_bulk(bulk_id)


with DAG(
    dag_id="example_mictlanx_bulk_mapped",
    description="Upload a folder to MictlanX with four mapped tasks, wait for it, clean up",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2025, 1, 1),
    catchup=False,
    tags=["example", "mictlanx"],
    params={"source": Param(str(Path(__file__).parent), type="string", description="A folder that every worker sees")},
) as dag:
    bucket_id = name_bucket("{{ run_id }}")

    # [START howto_operator_mictlanx_bulk_put_mapped]
    upload = MictlanXBulkPutOperator.partial(
        task_id="upload",
        bulk_id=BULK_ID,
        bucket_id=bucket_id,
        source="{{ params.source }}",
        shards=4,
        retries=2,
        retry_delay=timedelta(seconds=10),
    ).expand(shard=[0, 1, 2, 3])
    # [END howto_operator_mictlanx_bulk_put_mapped]

    ready = BulkCompleteSensor(task_id="ready", bulk_id=BULK_ID, mode="reschedule", poke_interval=5, timeout=3600)

    compared = compare(upload.output, ready.output)
    delete_bucket = MictlanXDeleteBucketOperator(task_id="delete_bucket", bucket_id=bucket_id)
    forget = forget_bulk(BULK_ID)

    bucket_id >> ready
    # Teardowns run when these tasks are done, failed or not.
    [upload, compared] >> delete_bucket.as_teardown(setups=bucket_id)
    [upload, compared] >> forget.as_teardown(setups=bucket_id)
