"""
Keep a folder and a bucket alike, and export a bucket to another store.

The DAG writes a small website into a temporary folder, publishes it, changes it, publishes the changes, and restores it
into another folder. It uses the connection `mictlanx_default` and a bucket for this run only, and deletes everything at
the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, setup, task, teardown
from upath import UPath

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXDeleteBucketOperator,
    MictlanXGetToFolderOperator,
    MictlanXSyncOperator,
)


@setup
def name_bucket(run: str) -> str:
    """Return a bucket id for this run only; the first sync creates the bucket."""
    return f"airflow-example-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


@task
def write(folder: str) -> int:
    """Write three pages; return their number."""
    pages = {"index.html": "Welcome", "news/1.html": "First", "news/2.html": "Second"}
    for name, text in pages.items():
        path = Path(folder, "site", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return len(pages)


@task
def change(folder: str) -> None:
    """Change a page, add one and remove one."""
    Path(folder, "site", "index.html").write_text("Goodbye")
    Path(folder, "site", "news", "3.html").write_text("Third")
    Path(folder, "site", "news", "1.html").unlink()


@task
def compare(folder: str, bucket_id: str) -> dict[str, Any]:
    """Compare the restored pages by the standard library, and the bucket by the hook."""
    site, restored = (Path(folder, name) for name in ("site", "restored"))
    for page in site.rglob("*.html"):
        if page.read_bytes() != (restored / page.relative_to(site)).read_bytes():
            raise ValueError(f"{page} was not restored")
    # [START howto_hook_mictlanx_synchronize]
    hook = MictlanXHook()
    difference = hook.synchronize(site, f"mictlanx://{bucket_id}/site", delete_extra=True, dry_run=True)
    equal = difference["transferred"] == difference["deleted"] == 0
    # [END howto_hook_mictlanx_synchronize]
    return {"equal": equal, "copies": asyncio.run(copy(bucket_id))}


async def copy(bucket_id: str) -> int:
    """Copy the pages within the bucket."""
    hook = MictlanXHook()
    # [START howto_hook_mictlanx_asynchronize]
    copied = await hook.asynchronize(f"mictlanx://{bucket_id}/site", f"mictlanx://{bucket_id}/copy")
    # [END howto_hook_mictlanx_asynchronize]
    return int(copied["transferred"])


@teardown
def delete_folder(folder: str) -> None:
    """Delete the local files."""
    shutil.rmtree(folder, ignore_errors=True)


with DAG(
    dag_id="example_mictlanx_sync",
    description="Sync a folder with a bucket, and export a bucket",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2025, 1, 1),
    catchup=False,
    tags=["example", "mictlanx"],
) as dag:
    bucket_id = name_bucket("{{ run_id }}")
    folder = f"{tempfile.gettempdir()}/{{{{ ti.xcom_pull(task_ids='name_bucket') }}}}"
    bucket = "mictlanx://mictlanx_default@{{ ti.xcom_pull(task_ids='name_bucket') }}"

    # [START howto_operator_mictlanx_sync]
    publish = MictlanXSyncOperator(task_id="publish", source=folder + "/site", destination=bucket + "/site")
    # [END howto_operator_mictlanx_sync]

    # [START howto_operator_mictlanx_sync_preview]
    preview = MictlanXSyncOperator(
        task_id="preview", source=folder + "/site", destination=bucket + "/site", delete_extra=True, dry_run=True
    )
    # [END howto_operator_mictlanx_sync_preview]

    # [START howto_operator_mictlanx_sync_delete]
    publish_changes = MictlanXSyncOperator(
        task_id="publish_changes", source=folder + "/site", destination=bucket + "/site", delete_extra=True
    )
    # [END howto_operator_mictlanx_sync_delete]

    # [START howto_operator_mictlanx_sync_back]
    restore = MictlanXSyncOperator(task_id="restore", source=bucket + "/site", destination=folder + "/restored")
    # [END howto_operator_mictlanx_sync_back]

    # [START howto_operator_mictlanx_export]
    export = MictlanXGetToFolderOperator(
        task_id="export",
        bucket_id=bucket_id,
        prefix="site/",
        output_path=UPath("memory://export"),  # such as ObjectStoragePath("s3://aws_default@reports/{{ ds }}")
    )
    # [END howto_operator_mictlanx_export]

    ends = [MictlanXDeleteBucketOperator(task_id="delete_bucket", bucket_id=bucket_id), delete_folder(folder)]
    ends[0].as_teardown(setups=bucket_id)

    bucket_id >> write(folder) >> publish >> change(folder) >> preview >> publish_changes >> [restore, export]
    restore >> compare(folder, bucket_id) >> ends
    export >> ends
