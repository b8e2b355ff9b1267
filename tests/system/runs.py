"""Running an example DAG in a process of its own, and asking for what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.system.conftest import ROOT
from tests.vss import LocalVSS


def run_dag(environment: Mapping[str, str], tmp_path: Path, dag_id: str, **conf: Any) -> tuple[int, dict[str, Any]]:
    """Run a DAG; gives the exit status and the report of ``scripts/run_example_dag.py``."""
    result = tmp_path / "result.json"
    command = [sys.executable, str(ROOT / "scripts" / "run_example_dag.py"), dag_id]
    command += ["--conf", json.dumps(conf), "--result", str(result)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert result.exists(), done.stdout[-4000:] + done.stderr[-4000:]
    return done.returncode, json.loads(result.read_text())


def xcoms(report: dict[str, Any], task_id: str) -> list[dict[str, Any]]:
    """Give what a task gave to XCom, in the order of its map indexes."""
    tasks = [task for task in report["tasks"] if task["task_id"].rpartition(".")[2] == task_id]
    return [task["xcom"] for task in sorted(tasks, key=lambda task: task["map_index"])]


def balls_in(vss: LocalVSS, bucket_id: str) -> list[Any]:
    """Ask the router itself, not through the provider."""
    balls = httpx.get(f"{vss.api()}/buckets/{bucket_id}/metadata", trust_env=False).raise_for_status().json()["balls"]
    assert isinstance(balls, list)
    return balls
