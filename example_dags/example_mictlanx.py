"""
Store a string and real files in MictlanX, read the files back verified, and clean up.

Trigger it with `{"source": "/a/file/or/a/folder"}`. One mapped task group per file uploads the file, waits for it,
downloads it and compares the two. Without a source, the DAG stores its own file.
"""

from __future__ import annotations

import hashlib
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, setup, task, task_group

from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXDeleteBucketOperator,
    MictlanXDeleteOperator,
    MictlanXGetToFileOperator,
    MictlanXPutOperator,
)
from airflow_provider_mictlanx.sensors.mictlanx import MictlanXObjectSensor


@setup
def name_bucket(run: str) -> str:
    """Return a bucket id for this run only; a cleared task gets the same id. The first put creates the bucket."""
    return f"airflow-example-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


@task
def list_files(source: str, target: str, max_files: str, bucket_id: str) -> list[dict[str, str]]:
    """Return one dictionary per file: the arguments of its task group."""
    path = Path(source)
    folder = path.parent if path.is_file() else path
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    if not files:
        raise FileNotFoundError(f"source must contain a file, got {source!r}")
    keys = [file.relative_to(folder).as_posix() for file in files[: int(max_files)]]
    return [
        {"file_path": str(folder / key), "key": key, "output_path": str(Path(target, bucket_id, key).parent)}
        for key in keys
    ]


@task
def compare(file_path: str, put: dict[str, Any], got: dict[str, Any]) -> dict[str, Any]:
    """Compare the checksums of the file, its copy and both XComs with the standard library; delete the copy."""
    checksums = {"put": put["checksum"], "got": got["checksum"]}
    for name, path in (("file", file_path), ("copy", got["path"])):
        with open(path, "rb") as stream:
            checksums[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    if len(set(checksums.values())) != 1:
        raise ValueError(f"checksums of {put['key']} differ: {checksums}")
    Path(got["path"]).unlink()
    return {"key": put["key"], "size": got["size"], "checksum": checksums["copy"]}


with DAG(
    dag_id="example_mictlanx",
    description="Put real files into MictlanX, read them back verified, clean up",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2025, 1, 1),
    catchup=False,
    tags=["example", "mictlanx"],
    default_args={"mictlanx_conn_id": "{{ params.connection }}"},
    params={
        "connection": Param("mictlanx_default", type="string", description="The connection's id"),
        "source": Param(__file__, type="string", description="A file, or a folder of files, that every worker sees"),
        "target": Param(
            str(Path(tempfile.gettempdir(), "mictlanx-example")), type="string", description="A folder for the copies"
        ),
        "max_files": Param(
            100, type="integer", minimum=1, description="The maximum number of files, each a mapped task group"
        ),
    },
) as dag:
    bucket_id = name_bucket("{{ run_id }}")

    # [START howto_operator_mictlanx_put_data]
    put_text = MictlanXPutOperator(
        task_id="put_text",
        bucket_id=bucket_id,
        key="notes/{{ dag.dag_id }}.txt",
        data="Written by {{ run_id }}: ¡hola, Mictlán!\n",
        tags={"written_by": "{{ dag.dag_id }}"},
    )
    # [END howto_operator_mictlanx_put_data]

    @task_group
    def store_and_check(file_path: str, key: str, output_path: str) -> None:
        # [START howto_operator_mictlanx_put_file]
        put_file = MictlanXPutOperator(task_id="put_file", bucket_id=bucket_id, key=key, file_path=file_path)
        # [END howto_operator_mictlanx_put_file]

        # [START howto_sensor_mictlanx_object]
        wait_for_file = MictlanXObjectSensor(
            task_id="wait_for_file",
            bucket_id=bucket_id,
            key=key,
            deferrable=True,  # waits in the triggerer; if you have none, mode="reschedule" also frees the worker slot
            poke_interval=5,
            timeout=300,
        )
        # [END howto_sensor_mictlanx_object]

        # [START howto_operator_mictlanx_get_to_file]
        get_file = MictlanXGetToFileOperator(task_id="get_file", bucket_id=bucket_id, key=key, output_path=output_path)
        # [END howto_operator_mictlanx_get_to_file]

        put_file >> wait_for_file >> get_file
        compare(file_path, put_file.output, get_file.output)

    files = store_and_check.expand_kwargs(
        list_files("{{ params.source }}", "{{ params.target }}", "{{ params.max_files }}", bucket_id)
    )

    # [START howto_operator_mictlanx_delete]
    delete_text = MictlanXDeleteOperator(task_id="delete_text", bucket_id=bucket_id, key="notes/{{ dag.dag_id }}.txt")
    # [END howto_operator_mictlanx_delete]

    # [START howto_operator_mictlanx_delete_bucket]
    delete_bucket = MictlanXDeleteBucketOperator(task_id="delete_bucket", bucket_id=bucket_id)
    # [END howto_operator_mictlanx_delete_bucket]

    put_text >> files >> delete_text >> delete_bucket
    # The teardown runs when these tasks are done, failed or not. The run still fails if one of them failed.
    delete_bucket.as_teardown(setups=bucket_id)
