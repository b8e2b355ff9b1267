"""DAGs that objects start: two assets on one trigger, and fifty watchers of one bucket."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_mictlanx.triggers.events import MictlanXObjectEventTrigger

RESTARTS, MANY = "events-restarts", "events-many"
PAIR = ("events-one", "events-two")
WATCHERS = [f"events-{number:02}" for number in range(50)]
DAGS = [*PAIR, MANY]


def watched(name: str, **arguments: object) -> Asset:
    trigger = MictlanXObjectEventTrigger(poke_interval=1, **arguments)
    return Asset(name, uri=f"mictlanx://{name}/", watchers=[AssetWatcher(name=name, trigger=trigger)])


schedules = {name: [watched(name, bucket_id=RESTARTS)] for name in PAIR}
schedules[MANY] = [watched(name, bucket_id=MANY, prefix=f"{name}/") for name in WATCHERS]

for dag_id, schedule in schedules.items():
    with DAG(dag_id=dag_id, schedule=schedule, start_date=datetime(2025, 1, 1), catchup=False, max_active_runs=1):
        EmptyOperator(task_id="nothing")
