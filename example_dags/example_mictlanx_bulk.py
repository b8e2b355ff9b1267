"""
Upload a folder as one bulk, wait for it, read one of its files back verified, and clean up.

Trigger it with `{"source": "/a/folder"}`. Every worker that may run the upload must see that folder. The sensor runs
beside the upload, as it would in another DAG, and succeeds after the last file. The DAG uses the connection
`mictlanx_default`.
"""

from __future__ import annotations

import hashlib
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, setup, task

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXAwaitBulkOperator,
    MictlanXBulkPutOperator,
    MictlanXDeleteBucketOperator,
    MictlanXGetToFileOperator,
)
from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor

# A bulk id belongs to one run, so it contains the run id.
BULK_ID = "{{ dag.dag_id }}-{{ run_id }}"


@setup
def name_bucket(run: str) -> str:
    """Return a bucket id for this run only; a cleared task gets the same id. The first put creates the bucket."""
    return f"airflow-example-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


@task
def choose(bucket_id: str) -> str:
    """Return the key of the largest object of the bucket."""
    balls = MictlanXHook().list_balls(bucket_id)
    return max(balls, key=lambda ball: ball["size"])["key"]


@task
def compare(source: str, key: str, got: dict[str, Any]) -> dict[str, Any]:
    """Compare the checksums of the file and its copy with the standard library; delete the copy."""
    checksums = []
    for path in (Path(source, key), Path(got["path"])):
        with open(path, "rb") as stream:
            checksums.append(hashlib.file_digest(stream, "sha256").hexdigest())
    if set(checksums) != {got["checksum"]}:
        raise ValueError(f"checksums of {key} differ: {checksums}")
    Path(got["path"]).unlink()
    return {"key": key, "size": got["size"], "checksum": got["checksum"]}


@task
def forget_bulk(bulk_id: str) -> dict[str, Any]:
    """Delete the bulk's records: its result, or all records if it was never awaited."""
    return MictlanXHook().delete_bulk(bulk_id)


with DAG(
    dag_id="example_mictlanx_bulk",
    description="Upload a folder to MictlanX as one bulk, wait for it, read one file back, clean up",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2025, 1, 1),
    catchup=False,
    tags=["example", "mictlanx"],
    params={
        "source": Param(str(Path(__file__).parent), type="string", description="A folder that every worker sees"),
        "target": Param(
            str(Path(tempfile.gettempdir(), "mictlanx-example")), type="string", description="A folder for the copy"
        ),
    },
) as dag:
    bucket_id = name_bucket("{{ run_id }}")

    # [START howto_operator_mictlanx_bulk_put]
    upload = MictlanXBulkPutOperator(
        task_id="upload",
        bulk_id=BULK_ID,
        bucket_id=bucket_id,
        source="{{ params.source }}",
        tags={"uploaded_by": "{{ run_id }}"},
        retries=2,  # a retry sends only what is missing, and the sensor keeps waiting
        retry_delay=timedelta(seconds=10),
    )
    # [END howto_operator_mictlanx_bulk_put]

    # [START howto_sensor_mictlanx_bulk_complete]
    ready = BulkCompleteSensor(
        task_id="ready",
        bulk_id=BULK_ID,
        mode="reschedule",  # frees the worker slot; deferrable=True waits in the triggerer instead
        poke_interval=5,
        timeout=3600,
    )
    # [END howto_sensor_mictlanx_bulk_complete]

    # [START howto_operator_mictlanx_await_bulk]
    result = MictlanXAwaitBulkOperator(task_id="result", bulk_id=BULK_ID, remove_on_completion=True, timeout=600)
    # [END howto_operator_mictlanx_await_bulk]

    key = choose(bucket_id)
    get_one = MictlanXGetToFileOperator(
        task_id="get_one",
        bucket_id=bucket_id,
        key=key,
        output_path="{{ params.target }}/{{ ti.xcom_pull(task_ids='name_bucket') }}",
    )
    compared = compare("{{ params.source }}", key, get_one.output)

    delete_bucket = MictlanXDeleteBucketOperator(task_id="delete_bucket", bucket_id=bucket_id)
    forget = forget_bulk(BULK_ID)

    bucket_id >> [upload, ready]
    ready >> result >> key
    # Teardowns run when these tasks are done, failed or not.
    [upload, compared] >> delete_bucket.as_teardown(setups=bucket_id)
    [upload, compared] >> forget.as_teardown(setups=bucket_id)
