"""Runs of DAGs that upload a bulk and wait for it, and the files that they upload."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from scripts.running_airflow import AirflowAPI
from tests.support import slow_storage as storage
from tests.support.vss import LocalVSS

FILES = 16
"""So few that no window announces them together; they are stored one by one."""
BUCKETS = "airflow-example-*"
"""The buckets that the example DAGs make."""
TOLD = ("Server indicated the task shouldn't be running anymore", "Trigger cancelled by user action")
"""What a task's log says when Airflow tells the process, or the trigger, to stop."""


def write_files(folder: Path) -> Path:
    """Write small files, in folders of their own, and give the folder."""
    for number in range(FILES):
        file = folder / f"{number % 3}" / f"file-{number:02}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(20_000 + number))
    return folder


class Run:
    """A run of a DAG; its task instances are found by their task id."""

    def __init__(self, airflow: AirflowAPI, dag_id: str, run_id: str = "", **conf: Any) -> None:
        """
        Start a run.

        :param run_id: take this run, which exists, instead
        """
        self.airflow = airflow
        self.dag_id = dag_id
        self.run_id = run_id or airflow.trigger(dag_id, conf)

    def tasks(self, *task_ids: str) -> list[dict[str, Any]]:
        """Return the instances of some tasks, or of all, mapped ones in their order."""
        found = self.airflow.task_instances(self.dag_id, self.run_id)
        chosen = [task for task in found if not task_ids or task["task_id"] in task_ids]
        return sorted(chosen, key=lambda task: task["map_index"])

    def task(self, task_id: str) -> dict[str, Any]:
        """Return the instance of a task that is not mapped."""
        (task,) = self.tasks(task_id)
        return task

    def state_of(self, task_id: str) -> str:
        state: str = self.task(task_id)["state"]
        return state

    def xcom(self, task_id: str, map_index: int = -1) -> Any:
        return self.airflow.xcom(self.dag_id, self.run_id, task_id, map_index)

    def wait_for_pokes(self, vss: LocalVSS, gate: str, seconds: float = 180) -> str:
        """
        Wait until the gate is deferred, and the triggerer has asked at least twice after that.

        :return: the bucket of the bulk's records
        """
        self.airflow.wait_for(f"{gate} to defer", lambda: self.state_of(gate) == "deferred", seconds)
        (records,) = storage.bulk_buckets(vss)
        before = storage.pokes(vss, records)
        self.airflow.wait_for("two pokes", lambda: storage.pokes(vss, records) >= before + 2, seconds)
        assert self.state_of(gate) == "deferred"
        return records

    def mark(self, task_id: str, state: str) -> None:
        """Mark a task ``failed`` or ``success``, as a person does in the UI."""
        path = f"/api/v2/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{task_id}"
        self.airflow.request("PATCH", path, {"new_state": state})

    def clear(self, task_id: str) -> None:
        """Clear a task so that it runs again, as a person does in the UI."""
        which = {"dag_run_id": self.run_id, "task_ids": [task_id], "only_failed": False, "dry_run": False}
        self.airflow.request("POST", f"/api/v2/dags/{self.dag_id}/clearTaskInstances", which)

    def wait_until_told(self, task_id: str, seconds: float = 120) -> float:
        """
        Wait until Airflow has told the process of a task's first try, or its trigger, that somebody ended the task.

        :return: when that was (seconds since 1970), as the task's log has it
        """

        def told() -> float | None:
            lines = self.airflow.task_log(self.dag_id, self.run_id, task_id).splitlines()
            times = [json.loads(line)["timestamp"] for line in lines if any(said in line for said in TOLD)]
            return datetime.fromisoformat(times[0]).timestamp() if times else None

        return self.airflow.wait_for(f"{task_id} to be told", told, seconds)

    def wait_for_success(self, *task_ids: str, seconds: float = 180) -> None:
        """Wait until all of these tasks succeeded; one that failed for good ends the wait."""

        def succeeded() -> bool:
            states = [task["state"] for task in self.tasks(*task_ids)]
            assert not {"failed", "upstream_failed", "skipped"} & set(states), states
            return set(states) == {"success"}

        self.airflow.wait_for(f"success of {', '.join(task_ids)}", succeeded, seconds)

    def finish(self, seconds: float = 240) -> None:
        """Wait for the end of the run, in which every task has to succeed."""
        state = self.airflow.wait_for_run(self.dag_id, self.run_id, seconds)
        states = {(task["task_id"], task["map_index"]): task["state"] for task in self.tasks()}
        assert {state, *states.values()} == {"success"}, states


def time_of(task: dict[str, Any], which: str) -> datetime:
    """Return ``start_date`` or ``end_date`` of a task instance."""
    return datetime.fromisoformat(task[which])
