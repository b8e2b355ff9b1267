"""
Use MictlanX as a filesystem: write and read by `ObjectStoragePath`, and transfer a file with `FileTransferOperator`.

It uses the connection `mictlanx_default` and a bucket for this run only, and deletes everything at the end.
"""

from __future__ import annotations

import csv
import hashlib
import tempfile
from datetime import datetime
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, setup, task, teardown
from airflow.providers.common.io.operators.file_transfer import FileTransferOperator

LOCAL = Path(tempfile.gettempdir())


@setup
def name_folder(run: str) -> str:
    """Return the URL of a folder for this run only; the first file creates its bucket."""
    return f"mictlanx://mictlanx_default@airflow-example-{hashlib.sha256(run.encode()).hexdigest()[:12]}/reports"


@task
def write(folder: str) -> str:
    """Write a compressed file; nothing is stored if the block ends with an exception."""
    # [START howto_filesystem_write]
    path = ObjectStoragePath(folder) / "2026" / "sales.csv.gz"
    with path.open("wt", compression="gzip", newline="") as file:
        csv.writer(file).writerows([("day", "sales"), ("monday", 3), ("tuesday", 4)])
    # [END howto_filesystem_write]
    return str(path)


@task
def read(folder: str) -> int:
    """Read every file of the folder."""
    # [START howto_filesystem_read]
    total = 0
    for path in ObjectStoragePath(folder).rglob("*.csv.gz"):
        with path.open("rt", compression="gzip", newline="") as file:
            total += sum(int(row["sales"]) for row in csv.DictReader(file.read().splitlines()))
    # [END howto_filesystem_read]
    return total


@teardown
def delete(folder: str) -> int:
    """Delete the folder; return the number of files that are left."""
    path = ObjectStoragePath(folder)
    path.rmdir(recursive=True)
    return len(path.fs.find(path.path))


with DAG(
    dag_id="example_mictlanx_files",
    description="MictlanX as a filesystem",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2025, 1, 1),
    catchup=False,
    tags=["example", "mictlanx"],
) as dag:
    folder = name_folder("{{ run_id }}")
    written = write(folder)
    # [START howto_filesystem_transfer]
    fetch = FileTransferOperator(
        task_id="fetch",
        src="{{ ti.xcom_pull(task_ids='write') }}",
        dst=f"file://{LOCAL}/sales-{{{{ ti.run_id | length }}}}.csv.gz",
        overwrite=True,
    )
    # [END howto_filesystem_transfer]
    written >> [read(folder), fetch] >> delete(folder)
