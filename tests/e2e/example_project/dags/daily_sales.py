"""Store the day's orders, and a report of what was sold."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXPutOperator


@task
def report(bucket_id: str, orders: str, key: str) -> None:
    """Read the stored orders, and store how many of each article were sold."""
    hook = MictlanXHook()
    sold: Counter[str] = Counter()
    for row in csv.DictReader(hook.get_text(bucket_id, orders).splitlines()):
        sold[row["article"]] += int(row["number"])
    hook.put(bucket_id, key, json.dumps(sold))


with DAG(
    "daily_sales",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    default_args={"retries": 2},
    params={"orders": "/data/orders.csv"},
) as dag:
    upload = MictlanXPutOperator(
        task_id="upload",
        bucket_id="sales",
        key="{{ run_id }}/orders.csv",
        file_path="{{ params.orders }}",
    )
    upload >> report("sales", "{{ run_id }}/orders.csv", "{{ run_id }}/report.json")
