"""
Upload a folder every night, wait for the upload, read it back: the DAG of the README.

Copy it, and change the folders below `/data`. It uses the connection `mictlanx_default`.
"""

# [START howto_mictlanx_nightly]
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mictlanx.operators.mictlanx import MictlanXBulkPutOperator, MictlanXGetToFolderOperator
from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor

with DAG(
    "nightly",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    default_args={"retries": 3},  # for the sensor too: its requests can fail
) as dag:
    upload = MictlanXBulkPutOperator(
        task_id="upload",
        bulk_id="nightly-{{ run_id }}",
        bucket_id="frames",
        source="/data/frames",  # a folder, a file, or a pattern such as /data/frames/**/*.jpg
        key_prefix="{{ run_id }}/",  # for example scheduled__2026-01-02T00:00:00+00:00/
    )
    ready = BulkCompleteSensor(
        task_id="ready",
        bulk_id="nightly-{{ run_id }}",
        deferrable=True,
        poke_interval=30,
        timeout=6 * 60 * 60,  # seconds; must exceed the upload's time including all retries
    )
    fetch = MictlanXGetToFolderOperator(
        task_id="fetch",
        bulk_id="nightly-{{ run_id }}",
        output_path="/data/out",  # each file gets its key's path: /data/out/scheduled__…/frame-000.jpg
    )
    [upload, ready] >> fetch
# [END howto_mictlanx_nightly]
