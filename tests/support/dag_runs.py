"""Run an example DAG in a process of its own, and read its results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.forked_processes import ForkedProcesses
from tests.support.vss import LocalVSS

_PROCESSES = ForkedProcesses("tests.support.dag_run_home", "tests.support.dag_run_process")


def run_dag(environment: Mapping[str, str], tmp_path: Path, dag_id: str, **conf: Any) -> tuple[int, dict[str, Any]]:
    """Run a DAG; return the exit status and the report of ``scripts/run_example_dag.py``."""
    with StartedRun(environment, tmp_path, dag_id, conf) as run:
        return run.wait()


class StartedRun:
    """
    A DAG run in a process of its own, which goes on beside the test until ``wait`` or the end of the context.

    The process is forked from one that has imported Airflow.

    :param folder: for the report and the output; of this run only
    :param logical_date: as of ``scripts/run_example_dag.py``
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        folder: Path,
        dag_id: str,
        conf: Mapping[str, Any] | None = None,
        logical_date: str = "",
    ) -> None:
        self._result = folder / "result.json"
        self._output = folder / "output.txt"
        arguments = [dag_id, "--conf", json.dumps(conf or {}), "--logical-date", logical_date]
        arguments += ["--result", str(self._result)]
        environment = _one_file(environment, dag_id)
        self._process = _PROCESSES.start(
            "tests.support.dag_run_process:run", [str(self._output), *arguments], environment
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def output(self) -> str:
        """Return what the run has written so far, its tasks' logs included."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = 240) -> tuple[int, dict[str, Any]]:
        """Wait for the end; return the exit status and the report."""
        status = self._process.wait(seconds)
        assert self._result.exists(), self.output()[-8000:]
        return status, json.loads(self._result.read_text())


def migrate_database(environment: Mapping[str, str]) -> None:
    """Make Airflow's database in the ``AIRFLOW_HOME`` of an environment."""
    process = _PROCESSES.start("tests.support.dag_run_process:migrate", None, environment)
    _, errors = process.communicate(240)
    assert process.returncode == 0, errors


def xcoms(report: dict[str, Any], task_id: str) -> list[dict[str, Any]]:
    """Return a task's XComs, in the order of its map indexes."""
    tasks = [task for task in report["tasks"] if task["task_id"].rpartition(".")[2] == task_id]
    return [task["xcom"] for task in sorted(tasks, key=lambda task: task["map_index"])]


def balls_in(vss: LocalVSS, bucket_id: str) -> list[Any]:
    """Ask the router itself, not through the provider."""
    balls = (
        httpx.get(f"{vss.api()}/buckets/{bucket_id}/metadata", trust_env=False, verify=False)
        .raise_for_status()
        .json()["balls"]
    )
    assert isinstance(balls, list)
    return balls


def shown_link(environment: Mapping[str, str], dag_id: str, task_id: str, link: str) -> str:
    """Return a task's link as the web server builds it: from the database, without the operator."""
    process = _PROCESSES.start(
        "tests.support.dag_run_process:show_link", [dag_id, task_id, link], _one_file(environment, dag_id)
    )
    output, errors = process.communicate(240)
    assert process.returncode == 0, errors
    return next(line.removeprefix("LINK ") for line in output.splitlines() if line.startswith("LINK "))


def _one_file(environment: Mapping[str, str], dag_id: str) -> dict[str, str]:
    """Return the environment with the DAG's own file for a DAGs folder: Airflow stores every DAG that it finds there."""
    file = Path(environment["AIRFLOW__CORE__DAGS_FOLDER"], f"{dag_id}.py")
    return {**environment, "AIRFLOW__CORE__DAGS_FOLDER": str(file)}
