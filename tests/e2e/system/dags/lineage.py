"""A DAG whose lineage is looked at: every operator that reads, writes or deletes, and the hook in tasks of one's own."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, Param, chain, task

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXBulkPutOperator,
    MictlanXCopyOperator,
    MictlanXDeleteBucketOperator,
    MictlanXDeleteOperator,
    MictlanXGetOperator,
    MictlanXGetToFileOperator,
    MictlanXGetToFolderOperator,
    MictlanXPutOperator,
)


@task
def by_hook(bucket_id: str, folder: str) -> None:
    """Store and read by the hook, in more calls than the collector takes."""
    hook = MictlanXHook()
    hook.put_file(bucket_id, "by hook", Path(folder, "a"))
    hook.put_bulk(f"{bucket_id}-many", bucket_id, balls=[{"key": f"many/{n}", "data": f"{n}"} for n in range(120)])
    hook.get(bucket_id, "by hook")


with DAG(
    dag_id="lineage",
    schedule=None,
    start_date=datetime(2025, 1, 1),
    catchup=False,
    params={"bucket_id": Param("", type="string"), "folder": Param("", type="string")},
) as dag:
    bucket_id, folder = "{{ params.bucket_id }}", "{{ params.folder }}"
    chain(
        by_hook(
            bucket_id, folder
        ),  # the first: the collector is the process's, which is the same for all tasks of a test run
        MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="a/b c.txt", file_path=folder + "/a"),
        MictlanXGetOperator(task_id="get", bucket_id=bucket_id, key="a/b c.txt"),
        MictlanXGetToFileOperator(
            task_id="get_to_file", bucket_id=bucket_id, key="a/b c.txt", output_path=folder + "/out"
        ),
        MictlanXBulkPutOperator(
            task_id="put_bulk", bulk_id=bucket_id, bucket_id=bucket_id, source=folder + "/f*", key_prefix="up/"
        ),
        MictlanXCopyOperator(
            task_id="copy", bucket_id=bucket_id, prefix="up/", dest_bucket_id=bucket_id, dest_prefix="copied/"
        ),
        MictlanXGetToFolderOperator(task_id="get_bulk", bulk_id=bucket_id, output_path=folder + "/bulk"),
        MictlanXDeleteOperator(task_id="delete_one", bucket_id=bucket_id, key="a/b c.txt"),
        MictlanXDeleteOperator(task_id="delete_prefix", bucket_id=bucket_id, prefix="copied/"),
        MictlanXDeleteBucketOperator(task_id="delete_bucket", bucket_id=bucket_id),
    )
