"""
Delete the task logs of old DAG runs from MictlanX, every night.

Logs are stored there if Airflow's configuration says so: see the page *Task logs*. The parameter `days` is their age.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_mictlanx.log.mictlanx import MictlanXRemoteLogIO

with DAG(
    dag_id="example_mictlanx_logs",
    description="Delete the task logs of old DAG runs",
    doc_md=__doc__,
    schedule="@daily",
    start_date=datetime(2025, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={"days": 30},
    tags=["example", "mictlanx"],
):
    # [START howto_delete_logs]
    @task(retries=3)
    def delete_old_logs(params: Any = None) -> dict[str, int]:
        """Delete the logs of the runs that have logged nothing for some days."""
        return MictlanXRemoteLogIO.from_config().delete_runs(older_than=timedelta(days=float(params["days"])))

    # [END howto_delete_logs]

    delete_old_logs()
