"""Lineage as the openlineage provider writes it down: events of a real DAG run, in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.dag_runs import run_dag
from tests.support.vss import LocalVSS

SECRET = "s3cret-token"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a", "f1", "f2"):
        (folder / name).write_text(name)
    return folder


def run(environment: dict[str, str], tmp_path: Path, vss: LocalVSS, bucket_id: str, folder: Path) -> str:
    """Run the DAG; return the text of the file of events."""
    events = tmp_path / "events.jsonl"
    connection = {"conn_type": "mictlanx", "password": SECRET, "extra": {"uri": vss.uri}}
    environment |= {
        "AIRFLOW_CONN_MICTLANX_DEFAULT": json.dumps(connection),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "file", "log_file_path": str(events), "append": True}),
        "AIRFLOW__OPENLINEAGE__DISABLED": "False",
    }
    status, report = run_dag(environment, tmp_path, "lineage", bucket_id=bucket_id, folder=str(folder))
    assert status == 0, report
    return events.read_text()


def places(events: str) -> dict[str, tuple[list[str], list[str]]]:
    """Return inputs and outputs of every task's last event."""
    told: dict[str, tuple[list[str], list[str]]] = {}
    for line in events.splitlines():
        event = json.loads(line)
        _, _, task_id = event["job"]["name"].partition(".")
        if task_id and event["eventType"] == "COMPLETE":
            told[task_id] = ([named(place) for place in event["inputs"]], [named(place) for place in event["outputs"]])
    return told


def named(place: dict[str, Any]) -> str:
    change = place.get("facets", {}).get("lifecycleStateChange", {}).get("lifecycleStateChange", "")
    return f"{change} {place['namespace']} {place['name']}".strip()


def test_every_task_tells_what_it_read_and_wrote(
    environment: dict[str, str],
    tmp_path: Path,
    vss: LocalVSS,
    bucket_id: str,
    folder: Path,
) -> None:
    events = run(environment, tmp_path, vss, bucket_id, folder)
    bucket = f"mictlanx://{bucket_id}"
    told = places(events)
    assert {task: (sorted(reads), sorted(writes)) for task, (reads, writes) in told.items()} == {
        "by_hook": ([f"file {folder}/a", f"{bucket} by hook"], [f"{bucket} /", f"{bucket} by hook"]),
        "put": ([f"file {folder}/a"], [f"{bucket} a/b c.txt"]),
        "get": ([f"{bucket} a/b c.txt"], []),
        "get_to_file": ([f"{bucket} a/b c.txt"], [f"file {folder}/out/b c.txt"]),
        "put_bulk": ([f"file {folder}"], [f"{bucket} up/"]),
        "copy": ([f"{bucket} up/"], [f"{bucket} copied/"]),
        "get_bulk": ([f"{bucket} /"], [f"file {folder}/bulk"]),
        "delete_one": ([f"DROP {bucket} a/b c.txt"], []),
        "delete_prefix": ([f"DROP {bucket} copied/"], []),
        "delete_bucket": ([f"DROP {bucket} /"], []),
    }
    assert SECRET not in events
