"""
Wait for objects in MictlanX: all keys of a list, any of them, a prefix, a glob, and a bucket that stops changing.

Three small reports are uploaded first. In production, another DAG or another system writes the objects. The DAG uses
the connection `mictlanx_default`.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, setup

from airflow_provider_mictlanx.operators.mictlanx import MictlanXDeleteBucketOperator, MictlanXPutOperator
from airflow_provider_mictlanx.sensors.mictlanx import MictlanXBucketUnchangedSensor, MictlanXObjectSensor


@setup
def name_bucket(run: str) -> str:
    """Return a bucket id for this run only; a cleared task gets the same id. The first put creates the bucket."""
    return f"airflow-example-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


with DAG(
    dag_id="example_mictlanx_sensors",
    description="Wait for objects in MictlanX, and until a bucket stops changing",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2025, 1, 1),
    catchup=False,
    tags=["example", "mictlanx"],
    default_args={"poke_interval": 2},  # for the sensors
) as dag:
    bucket_id = name_bucket("{{ run_id }}")

    reports = MictlanXPutOperator.partial(task_id="reports", bucket_id=bucket_id, data="rows: 12").expand(
        key=["in/north.csv", "in/south.csv", "in/west.csv"]
    )

    # [START howto_sensor_mictlanx_objects]
    all_of_them = MictlanXObjectSensor(
        task_id="all_of_them", bucket_id=bucket_id, key=["in/north.csv", "in/south.csv"], deferrable=True
    )
    any_of_them = MictlanXObjectSensor(
        task_id="any_of_them", bucket_id=bucket_id, key=["in/east.csv", "in/west.csv"], min_objects=1, deferrable=True
    )
    two_by_prefix = MictlanXObjectSensor(
        task_id="two_by_prefix", bucket_id=bucket_id, prefix="in/", min_objects=2, mode="reschedule"
    )
    one_by_glob = MictlanXObjectSensor(task_id="one_by_glob", bucket_id=bucket_id, glob="in/*.csv", mode="reschedule")
    # [END howto_sensor_mictlanx_objects]

    # [START howto_sensor_mictlanx_bucket_unchanged]
    all_written = MictlanXBucketUnchangedSensor(
        task_id="all_written",
        bucket_id=bucket_id,
        prefix="in/",
        inactivity_period=5,  # seconds or a timedelta; longer than any pause between two writes
        min_objects=3,
        deferrable=True,
    )
    # [END howto_sensor_mictlanx_bucket_unchanged]

    sensors = [all_of_them, any_of_them, two_by_prefix, one_by_glob, all_written]
    delete_bucket = MictlanXDeleteBucketOperator(task_id="delete_bucket", bucket_id=bucket_id)

    reports >> sensors
    # The teardown runs when these tasks are done, failed or not.
    sensors >> delete_bucket.as_teardown(setups=bucket_id)
