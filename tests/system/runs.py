"""Running an example DAG in a process of its own, and asking for what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from tests.system.conftest import ROOT
from tests.vss import LocalVSS


def run_dag(environment: Mapping[str, str], tmp_path: Path, dag_id: str, **conf: Any) -> tuple[int, dict[str, Any]]:
    """Run a DAG; gives the exit status and the report of ``scripts/run_example_dag.py``."""
    with StartedRun(environment, tmp_path, dag_id, conf) as run:
        return run.wait()


class StartedRun:
    """
    A DAG run in a process of its own, which goes on beside the test until ``wait`` or the end of the context.

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
        command = [sys.executable, str(ROOT / "scripts" / "run_example_dag.py"), dag_id]
        command += ["--conf", json.dumps(conf or {}), "--logical-date", logical_date, "--result", str(self._result)]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)

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


def xcoms(report: dict[str, Any], task_id: str) -> list[dict[str, Any]]:
    """Give what a task gave to XCom, in the order of its map indexes."""
    tasks = [task for task in report["tasks"] if task["task_id"].rpartition(".")[2] == task_id]
    return [task["xcom"] for task in sorted(tasks, key=lambda task: task["map_index"])]


def balls_in(vss: LocalVSS, bucket_id: str) -> list[Any]:
    """Ask the router itself, not through the provider."""
    balls = httpx.get(f"{vss.api()}/buckets/{bucket_id}/metadata", trust_env=False).raise_for_status().json()["balls"]
    assert isinstance(balls, list)
    return balls


SHOW_LINK = """
import sys
from airflow.models import TaskInstance
from airflow.utils.session import create_session
try:
    from airflow.serialization.serialized_objects import DagSerialization
except ImportError:  # Airflow 2
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
from scripts.run_example_dag import load_dag

dag_id, task_id, link = sys.argv[1:]
dag = DagSerialization.from_dict(DagSerialization.to_dict(load_dag(dag_id)))
with create_session() as session:
    ti = session.query(TaskInstance).filter_by(dag_id=dag_id, task_id=task_id).one()
    print("LINK", dag.get_task(task_id).get_extra_links(ti, link))
"""


def shown_link(environment: Mapping[str, str], dag_id: str, task_id: str, link: str) -> str:
    """Give a link of a task as the web server does: from the database, without the operator itself."""
    command = [sys.executable, "-c", SHOW_LINK, dag_id, task_id, link]
    output = subprocess.check_output(command, env=environment, cwd=ROOT, text=True, timeout=240)
    return next(line.removeprefix("LINK ") for line in output.splitlines() if line.startswith("LINK "))
