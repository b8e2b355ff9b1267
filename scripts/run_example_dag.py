"""
Run one DAG in this process, without a scheduler, and write the result as JSON.

``make demo`` and the system tests use it, on Airflow 3.3 and 2.11. The caller sets ``AIRFLOW_HOME`` to a folder with
a migrated database, ``AIRFLOW__CORE__DAGS_FOLDER`` to the folder of the DAG file, and the connections.

The file contains ``{"run_id", "state", "seconds", "error", "tasks": [{"task_id", "map_index", "state", "try_number",
"xcom", "error"}]}``. The exit status is 0 if the run and all its tasks succeeded, else 1. The tasks count separately
because Airflow calls a run successful if only its teardown failed.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
import traceback
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.listeners import hookimpl


class FailureListener:
    """Keep the error of each failed task as one line; Airflow itself only logs it."""

    def __init__(self) -> None:
        self.errors: dict[tuple[str, int], str] = {}

    @hookimpl
    def on_task_instance_failed(
        self, previous_state: Any, task_instance: Any, error: str | BaseException | None
    ) -> None:
        """Record a failure; called by Airflow."""
        text = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
        self.errors[task_instance.task_id, task_instance.map_index] = text


def load_dag(dag_id: str) -> Any:
    """Return a DAG of the DAGs folder, synchronized to the database, as ``dag.test`` requires on Airflow 3."""
    try:
        from airflow.dag_processing.bundles.manager import DagBundlesManager
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    except ImportError:  # Airflow 2
        from airflow.models.dagbag import DagBag

        bag = DagBag(include_examples=False)
    else:
        DagBundlesManager().sync_bundles_to_db()
        bag = DagBag()
        sync_bag_to_db(bag, "dags-folder", None)
    if bag.import_errors:
        raise ImportError("\n".join(f"{file}: {error}" for file, error in bag.import_errors.items()))
    return bag.dags[dag_id]


def listen(listener: FailureListener) -> None:
    """Register the listener with Airflow."""
    try:
        from airflow.sdk.listener import get_listener_manager
    except ImportError:  # Airflow 2
        from airflow.listeners.listener import get_listener_manager
    get_listener_manager().add_listener(listener)


def dates(dag: Any, logical_date: str) -> dict[str, datetime | None]:
    """Return the arguments of ``dag.test`` for a logical date: ISO, "none" (Airflow 3 only), or "" for now."""
    if not logical_date:
        return {}
    if logical_date == "none":
        return {"logical_date": None}
    date = datetime.fromisoformat(logical_date)
    if "logical_date" in inspect.signature(dag.test).parameters:
        return {"logical_date": date, "run_after": date}
    return {"execution_date": date}  # Airflow 2


def run(dag_id: str, conf: dict[str, Any], logical_date: str = "") -> dict[str, Any]:
    """Run the DAG and return the result, see the module docstring."""
    listener = FailureListener()
    dag = load_dag(dag_id)
    listen(listener)
    start = time.monotonic()
    dag_run = dag.test(run_conf=conf, **dates(dag, logical_date))
    tasks = [
        {
            "task_id": ti.task_id,
            "map_index": ti.map_index,
            "state": str(ti.state) if ti.state else None,
            "try_number": ti.try_number,
            "xcom": ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index) if ti.state == "success" else None,
            "error": listener.errors.get((ti.task_id, ti.map_index)),
        }
        for ti in dag_run.get_task_instances()
    ]
    seconds = time.monotonic() - start
    return {"run_id": dag_run.run_id, "state": str(dag_run.state), "seconds": seconds, "error": None, "tasks": tasks}


def main() -> int:
    """Run the given DAG and return the exit status."""
    parser = argparse.ArgumentParser(description="Run one DAG of the DAGs folder in this process.")
    parser.add_argument("dag_id")
    parser.add_argument("--conf", type=json.loads, default={}, help="the run's params, as JSON")
    parser.add_argument("--logical-date", default="", help='ISO, with a time zone; "none" for a run without one')
    parser.add_argument("--result", type=Path, required=True, help="the file to write, as JSON")
    args = parser.parse_args()
    try:
        result = run(args.dag_id, args.conf, args.logical_date)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        result = {"run_id": None, "state": "failed", "seconds": 0.0, "error": reason, "tasks": []}
    args.result.write_text(json.dumps(result, indent=1, default=str), encoding="utf-8")
    return 0 if {result["state"], *(task["state"] for task in result["tasks"])} == {"success"} else 1


if __name__ == "__main__":
    sys.exit(main())
