"""
Upkeep of a bucket: list its folders, wait for good objects, delete old ones, and remove what uploads left behind.

The DAG stores a few small objects in a bucket of its own. It uses the connection `mictlanx_default`.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, setup, task

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXBulkPutOperator,
    MictlanXDeleteBucketOperator,
    MictlanXDeleteBulkOperator,
    MictlanXDeleteOperator,
    MictlanXListOperator,
    MictlanXSweepOperator,
)
from airflow_provider_mictlanx.sensors.mictlanx import MictlanXObjectSensor

BULK_ID = "{{ dag.dag_id }}-{{ run_id }}"
BACKUPS = [{"key": f"backups/{day}/db.dump", "data": f"the {day}"} for day in ("mon", "tue", "wed", "thu")]


@setup
def name_bucket(run: str) -> str:
    """Return a bucket id for this run only; a cleared task gets the same id. The first put creates the bucket."""
    return f"airflow-example-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


# [START howto_sensor_mictlanx_check_fn]
def are_dumps(objects: list[dict[str, Any]]) -> bool:
    """Return whether every object is a dump with content, and was written some time ago."""
    return all(found["size"] > 0 and found["tags"]["kind"] == "dump" and found["age"] >= 0.1 for found in objects)


# [END howto_sensor_mictlanx_check_fn]


@task
def preview(bucket_id: str) -> dict[str, int]:
    """Count what the next tasks will delete."""
    # [START howto_hook_mictlanx_upkeep]
    hook = MictlanXHook()
    old = hook.delete_matching(bucket_id, "backups/", keep_last=2, dry_run=True)
    rubbish = hook.sweep(bucket_id, older_than="7d")  # a dry run, unless dry_run=False
    # [END howto_hook_mictlanx_upkeep]
    return {"old": old["deleted"], "rubbish": rubbish["deleted"]}


with DAG(
    dag_id="example_mictlanx_upkeep",
    description="Upkeep of a bucket of MictlanX",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["example", "mictlanx"],
) as dag:
    bucket_id = name_bucket("{{ run_id }}")

    upload = MictlanXBulkPutOperator(
        task_id="upload", bulk_id=BULK_ID, bucket_id=bucket_id, balls=BACKUPS, tags={"kind": "dump"}, max_concurrency=1
    )

    # [START howto_sensor_mictlanx_check_fn_sensor]
    good = MictlanXObjectSensor(
        task_id="good", bucket_id=bucket_id, prefix="backups/", check_fn=are_dumps, poke_interval=1, timeout=60
    )
    # [END howto_sensor_mictlanx_check_fn_sensor]

    # [START howto_operator_mictlanx_list_folders]
    folders = MictlanXListOperator(task_id="folders", bucket_id=bucket_id, prefix="backups/", delimiter="/")
    # [END howto_operator_mictlanx_list_folders]

    # [START howto_operator_mictlanx_delete_old]
    delete_old = MictlanXDeleteOperator(
        task_id="delete_old", bucket_id=bucket_id, glob="backups/*.dump", older_than=timedelta(days=30), keep_last=2
    )
    # [END howto_operator_mictlanx_delete_old]

    # [START howto_operator_mictlanx_keep_last]
    keep_last = MictlanXDeleteOperator(task_id="keep_last", bucket_id=bucket_id, prefix="backups/", keep_last=2)
    # [END howto_operator_mictlanx_keep_last]

    # [START howto_operator_mictlanx_sweep]
    sweep = MictlanXSweepOperator(task_id="sweep", bucket_id=bucket_id, older_than=timedelta(days=7), dry_run=False)
    # [END howto_operator_mictlanx_sweep]

    # [START howto_operator_mictlanx_delete_bulk]
    forget_bulk = MictlanXDeleteBulkOperator(task_id="forget_bulk", bulk_id=BULK_ID)
    # [END howto_operator_mictlanx_delete_bulk]

    delete_bucket = MictlanXDeleteBucketOperator(task_id="delete_bucket", bucket_id=bucket_id)
    for teardown in (forget_bulk, delete_bucket):
        teardown.as_teardown(setups=bucket_id)

    bucket_id >> upload >> good >> folders >> preview(bucket_id) >> [delete_old, sweep]
    delete_old >> keep_last >> [forget_bulk, delete_bucket]
    sweep >> [forget_bulk, delete_bucket]
