"""
Upload a folder as one bulk by four mapped tasks, on as many workers as there are, wait for all of it, and clean up.

Trigger it with `{"source": "/a/folder"}`; every worker has to see that folder, and all of them alike. Each task lists it and
takes its own part, about a quarter of the bytes; none of them needs to know the others. It uses the connection
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

# A bulk id belongs to one run: this one has the run in it, so that no two runs share it.
BULK_ID = "{{ dag.dag_id }}-{{ run_id }}"


@setup
def name_bucket(run: str) -> str:
    """Give a bucket id that only this run uses, the same one when the task is cleared; the first put makes the bucket."""
    return f"airflow-example-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


@task
def compare(shards: list[dict[str, Any]], whole: dict[str, Any]) -> dict[str, int]:
    """See that the shards add up to the whole: no file is missing, none was uploaded twice."""
    balls = sum(shard["uploaded"] + shard["skipped"] for shard in shards)
    if not balls == whole["successed"] == whole["total_balls"]:
        raise ValueError(f"the shards uploaded {balls} files of {whole['total_balls']}: {shards}")
    return {"shards": len(shards), "files": balls, "size": whole["uploaded_size"]}


@task
def forget_bulk(bulk_id: str) -> dict[str, Any]:
    """Delete what the storage knows of the bulk."""
    return MictlanXHook().delete_bulk(bulk_id)


with DAG(
    dag_id="example_mictlanx_bulk_mapped",
    description="Upload a folder to MictlanX by four mapped tasks, wait for all of it, clean up",
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
    # The teardowns run when all of these are done, failed or not.
    [upload, compared] >> delete_bucket.as_teardown(setups=bucket_id)
    [upload, compared] >> forget.as_teardown(setups=bucket_id)
