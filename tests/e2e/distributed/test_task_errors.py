"""Errors in the log of a task, as the UI gets it from the API of a complete Airflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.hooks.errors import DOCUMENTATION
from scripts.running_airflow import RunningAirflow
from tests.support.airflow_runs import Run
from tests.support.vss import LocalVSS

FAILURES = {
    "conflict": ("AirflowFailException", "ballconflicterror", 1),
    "missing": ("NotFoundError", "notfounderror", 2),
    "gate": ("AirflowSensorTimeout", "messages-of-airflow", 1),
}
"""Error, entry in the documentation, and number of tries of each task."""


@pytest.fixture(scope="module")
def run(local_airflow: RunningAirflow, storage: LocalVSS, tmp_path_factory: pytest.TempPathFactory) -> Run:
    started = Run(local_airflow, "failing_tasks", bucket_id="failing-tasks", folder=str(tmp_path_factory.mktemp("out")))
    assert local_airflow.wait_for_run(started.dag_id, started.run_id, 240) == "failed"
    return started


@pytest.mark.parametrize("task_id", FAILURES)
def test_log_has_one_error_and_no_frames_of_libraries(run: Run, task_id: str) -> None:
    kind, entry, tries = FAILURES[task_id]
    first_log = run.airflow.task_log(run.dag_id, run.run_id, task_id)
    assert (run.state_of(task_id), run.task(task_id)["try_number"]) == ("failed", tries), first_log
    text = run.airflow.task_log(run.dag_id, run.run_id, task_id, tries)
    records: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    (error,) = (record for record in records if record.get("level") in ("error", "critical"))
    (detail,) = error["error_detail"]
    assert detail["exc_type"] == kind
    assert detail["exc_value"].endswith(f"See {DOCUMENTATION}errors.html#{entry}")
    assert text.count(json.dumps(detail["exc_value"])) == 1
    packages = {Path(frame["filename"]).parts for frame in detail["frames"]}
    assert all("airflow" in parts or "airflow_provider_mictlanx" in parts for parts in packages), packages
