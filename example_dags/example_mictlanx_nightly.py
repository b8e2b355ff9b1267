"""
Upload a folder every night, gate on the upload, read one file back: the DAG of the README, to copy and change.

It uses the connection `mictlanx_default`. Change the folders below `/data` and the bucket; the key names one of your files.
"""

# [START howto_mictlanx_nightly]
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_mictlanx.operators.mictlanx import MictlanXBulkPutOperator, MictlanXGetToFileOperator
from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor

with DAG(
    "nightly",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    default_args={"retries": 3},  # of the gate too: it asks the storage
) as dag:
    upload = MictlanXBulkPutOperator(
        task_id="upload",
        bulk_id="nightly-{{ run_id }}",
        bucket_id="frames",
        source="/data/frames/**/*.jpg",
        key_prefix="{{ run_id }}/",  # such as scheduled__2026-01-02T00:00:00+00:00/
    )
    ready = BulkCompleteSensor(
        task_id="ready",
        bulk_id="nightly-{{ run_id }}",
        deferrable=True,
        poke_interval=30,
        timeout=6 * 60 * 60,  # seconds; longer than the upload takes with all its retries
    )
    fetch = MictlanXGetToFileOperator(
        task_id="fetch",
        bucket_id="frames",
        key="{{ run_id }}/frame-000.jpg",
        output_path="/data/out/{{ run_id }}",
    )
    [upload, ready] >> fetch
# [END howto_mictlanx_nightly]
