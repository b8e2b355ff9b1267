"""
Copy, list, read and delete stored objects: one object, mapped tasks, and many objects in one task.

Trigger it with `{"source": "/a/folder"}`. The files of the folder are uploaded as a bulk, copied within their bucket,
and copied to another bucket with one mapped task per object. Then they are read back from both, compared, and deleted.
The DAG uses the connection `mictlanx_default`.
"""

from __future__ import annotations

import hashlib
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, TaskGroup, setup, task

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXBulkPutOperator,
    MictlanXCopyOperator,
    MictlanXDeleteBucketOperator,
    MictlanXDeleteOperator,
    MictlanXGetOperator,
    MictlanXGetToFolderOperator,
    MictlanXListOperator,
    MictlanXPutOperator,
)

BULK_ID = "{{ dag.dag_id }}-{{ run_id }}"


@setup
def name_bucket(run: str) -> str:
    """Return a bucket id for this run only; a cleared task gets the same id. The first put creates the bucket."""
    return f"airflow-example-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


@task
def compare(source: str, *read: dict[str, Any]) -> dict[str, int]:
    """Compare the downloaded files with the source, with the standard library; delete the copies."""
    compared = 0
    for result in read:
        folder = Path(result["output_path"])
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            original = Path(source, *file.relative_to(folder).parts[1:])  # without the prefix
            if original.exists():
                if original.read_bytes() != file.read_bytes():
                    raise ValueError(f"{file} differs from {original}")
                compared += 1
            file.unlink()
    return {"compared": compared}


@task
def forget_bulk(bulk_id: str) -> dict[str, Any]:
    """Delete the bulk's records."""
    return MictlanXHook().delete_bulk(bulk_id)


with DAG(
    dag_id="example_mictlanx_objects",
    description="Copy, list, read and delete objects of MictlanX",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2025, 1, 1),
    catchup=False,
    tags=["example", "mictlanx"],
    params={
        "source": Param(str(Path(__file__).parent), type="string", description="A folder that every worker sees"),
        "target": Param(
            str(Path(tempfile.gettempdir(), "mictlanx-example")), type="string", description="A folder for the copies"
        ),
    },
) as dag:
    bucket_id = name_bucket("{{ run_id }}")
    archive = "{{ ti.xcom_pull(task_ids='name_bucket') }}-archive"
    target = "{{ params.target }}/{{ ti.xcom_pull(task_ids='name_bucket') }}"

    put_note = MictlanXPutOperator(task_id="put_note", bucket_id=bucket_id, key="note.txt", data="run {{ run_id }}")
    upload = MictlanXBulkPutOperator(
        task_id="upload", bulk_id=BULK_ID, bucket_id=bucket_id, source="{{ params.source }}", key_prefix="in/"
    )

    with TaskGroup("copies") as copies:
        # [START howto_operator_mictlanx_copy]
        copy_note = MictlanXCopyOperator(
            task_id="copy_note",
            bucket_id=bucket_id,
            key="note.txt",
            dest_bucket_id=bucket_id,
            dest_key="out/note.txt",
        )
        # [END howto_operator_mictlanx_copy]

        # [START howto_operator_mictlanx_copy_prefix]
        copy_all = MictlanXCopyOperator(
            task_id="copy_all",
            bucket_id=bucket_id,
            prefix="in/",
            dest_bucket_id=bucket_id,
            dest_prefix="out/",  # for another storage space add dest_conn_id="the_other_one"
        )
        # [END howto_operator_mictlanx_copy_prefix]

    # [START howto_operator_mictlanx_list]
    list_keys = MictlanXListOperator(task_id="list_keys", bucket_id=bucket_id, prefix="out/")
    # [END howto_operator_mictlanx_list]

    # [START howto_operator_mictlanx_mapped]
    archive_each = MictlanXCopyOperator.partial(
        task_id="archive_each", bucket_id=bucket_id, dest_bucket_id=archive, max_active_tis_per_dagrun=4
    ).expand(key=list_keys.output)
    # [END howto_operator_mictlanx_mapped]

    # [START howto_operator_mictlanx_get]
    get_note = MictlanXGetOperator(task_id="get_note", bucket_id=bucket_id, key="note.txt", max_size="1kb")
    # [END howto_operator_mictlanx_get]

    # [START howto_operator_mictlanx_bulk_get_to_file]
    get_archive = MictlanXGetToFolderOperator(
        task_id="get_archive", bucket_id=archive, prefix="out/", output_path=target + "/archive"
    )
    # [END howto_operator_mictlanx_bulk_get_to_file]

    # [START howto_operator_mictlanx_bulk_get_to_file_bulk]
    get_bulk = MictlanXGetToFolderOperator(task_id="get_bulk", bulk_id=BULK_ID, output_path=target + "/bulk")
    # [END howto_operator_mictlanx_bulk_get_to_file_bulk]

    compared = compare("{{ params.source }}", get_archive.output, get_bulk.output)

    # [START howto_operator_mictlanx_delete_keys]
    delete_keys = MictlanXDeleteOperator(task_id="delete_keys", bucket_id=bucket_id, keys=list_keys.output)
    # [END howto_operator_mictlanx_delete_keys]

    # [START howto_operator_mictlanx_delete_prefix]
    delete_prefix = MictlanXDeleteOperator(task_id="delete_prefix", bucket_id=bucket_id, prefix="in/")
    # [END howto_operator_mictlanx_delete_prefix]

    # [START howto_mictlanx_setup_teardown]
    delete_bucket = MictlanXDeleteBucketOperator(task_id="delete_bucket", bucket_id=bucket_id)
    delete_archive = MictlanXDeleteBucketOperator(task_id="delete_archive", bucket_id=archive)
    teardowns = [delete_bucket, delete_archive, forget_bulk(BULK_ID)]
    for teardown in teardowns:
        teardown.as_teardown(setups=bucket_id)  # runs when all tasks before it are done, failed or not
    # [END howto_mictlanx_setup_teardown]

    bucket_id >> [put_note, upload] >> copies >> list_keys >> archive_each >> get_archive
    upload >> get_bulk
    put_note >> get_note
    [compared, get_note] >> delete_keys >> delete_prefix >> teardowns
