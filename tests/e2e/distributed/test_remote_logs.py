"""Task logs of a complete Airflow are stored in MictlanX, and its API shows them without the worker's folder."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import tests.support.airflow_home  # noqa: F401
from airflow_provider_mictlanx.log.storage import LocalState
from scripts.running_airflow import RunningAirflow
from tests.e2e.distributed.conftest import Starter
from tests.support.airflow_runs import Run
from tests.support.vss import LocalVSS

BASE = "airflow-logs"
LINES = 190_000
"""About 200 MB as JSON."""
MEMORY = 150_000_000
"""Bytes by which the API server may grow while it reads them."""


@pytest.fixture(scope="module")
def vss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVSS]:
    with LocalVSS(tmp_path_factory.mktemp("vss")) as running:
        yield running


@pytest.fixture(scope="module")
def airflow(start_airflow: Starter, vss: LocalVSS) -> Iterator[RunningAirflow]:
    environment = {
        "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "airflow_provider_mictlanx.log.config.LOGGING_CONFIG",
        "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
        "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": f"mictlanx://{BASE}",
        "AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID": "logs_in_database",
        # A supervisor may notice the end of its task this late; Airflow fails a task that resumes before that.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }
    with start_airflow(vss, environment, slots=8) as running:
        extra = json.dumps({"uri": vss.uri, "max_concurrency": 4})
        connection = {"connection_id": "logs_in_database", "conn_type": "mictlanx", "extra": extra}
        running.request("POST", "/api/v2/connections", connection)
        yield running


def local_logs(airflow: RunningAirflow, run: Run) -> list[Path]:
    return sorted((airflow.home / "logs" / f"dag_id={run.dag_id}" / f"run_id={run.run_id}").rglob("[!.]*.log"))


def wait_for_uploads(airflow: RunningAirflow, run: Run) -> None:
    """Wait until the local logs are stored: a log is uploaded after the end of its task."""

    def are_stored() -> bool:
        for path in local_logs(airflow, run):
            with path.open("rb") as content:
                if LocalState.load(path, content).stored < path.stat().st_size:
                    return False
        return True

    airflow.wait_for("the uploads", lambda: are_stored() or None, 120)


def events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


def delete_local_logs(airflow: RunningAirflow, run: Run) -> None:
    shutil.rmtree(airflow.home / "logs" / f"dag_id={run.dag_id}")


def shown(airflow: RunningAirflow, run: Run, task_id: str, try_number: int = 1, map_index: int = -1) -> list[str]:
    """Return the messages that the API shows, without those about their sources."""
    text = airflow.task_log(run.dag_id, run.run_id, task_id, try_number, map_index)
    found = [json.loads(line)["event"] for line in text.splitlines()]
    end = found.index("::endgroup::")
    assert all(source.startswith("mictlanx://airflow-logs-") for source in found[1:end]), found[1:end]
    return found[end + 1 :]


def test_logs_are_shown_without_the_workers_folder(airflow: RunningAirflow) -> None:
    run = Run(airflow, "remote_logs")
    assert airflow.wait_for_run(run.dag_id, run.run_id, 240) == "failed", "one task fails"
    wait_for_uploads(airflow, run)
    local = {str(path).partition("task_id=")[2]: events(path) for path in local_logs(airflow, run)}
    delete_local_logs(airflow, run)
    assert "finished" in shown(airflow, run, "finish")
    attempts = [
        ("finish", 1, -1),
        *(("fail", attempt, -1) for attempt in (1, 2)),
        *(("mapped", 1, index) for index in range(3)),
        ("reschedule", 1, -1),
    ]
    for task_id, attempt, index in attempts:
        mapped = f"map_index={index}/" if index >= 0 else ""
        assert shown(airflow, run, task_id, attempt, index) == local[f"{task_id}/{mapped}attempt={attempt}.log"]
    deferred = Counter(shown(airflow, run, "defer"))
    of_triggers = Counter({event: n for event, n in deferred.items() if event.startswith("trigger")})
    assert not Counter(local["defer/attempt=1.log"]) - deferred
    for line in ("before the first trigger", "between the triggers", "after the second trigger"):
        assert deferred[line] == 1
    # The triggerer writes the log of the second trigger over that of the first.
    assert set(of_triggers.values()) == {2}, of_triggers
    assert shown(airflow, run, "reschedule").count("a poke") >= 2


def test_stopped_storage_fails_no_task_and_keeps_logs(airflow: RunningAirflow, vss: LocalVSS) -> None:
    vss.stop()
    try:
        run = Run(airflow, "remote_logs_large", lines=3)
        assert airflow.wait_for_run(run.dag_id, run.run_id, 120) == "success"
        text = airflow.task_log(run.dag_id, run.run_id, "write")
    finally:
        vss.start()
    assert "Reading the log dag_id=remote_logs_large" in text
    assert text.count("x" * 1000) == 3, "of the worker's folder"


def peak_memory(process: psutil.Process, done: threading.Event, found: list[int]) -> None:
    while not done.wait(0.05):
        found.append(process.memory_info().rss)


@pytest.mark.timeout(900)
def test_large_log_is_read_with_bounded_memory(airflow: RunningAirflow) -> None:
    run = Run(airflow, "remote_logs_large", lines=LINES)
    assert airflow.wait_for_run(run.dag_id, run.run_id, 400) == "success"
    wait_for_uploads(airflow, run)
    delete_local_logs(airflow, run)
    guardian = psutil.Process(airflow.processes["api-server"].pid)
    server = max(guardian.children(recursive=True), key=lambda process: process.memory_info().rss)
    before = server.memory_info().rss
    found: list[int] = []
    done = threading.Event()
    watching = threading.Thread(target=peak_memory, args=(server, done, found))
    watching.start()
    path = f"{airflow._run_path(run.dag_id, run.run_id)}/taskInstances/write/logs/1"
    headers = {"Accept": "application/x-ndjson", "Authorization": f"Bearer {airflow._token}"}
    size = lines = 0
    try:
        with airflow._opener.open(urllib.request.Request(airflow.url + path, headers=headers), timeout=600) as answer:
            for line in answer:
                size += len(line)
                lines += b"xxxxxxxx" in line
    finally:
        done.set()
        watching.join()
    sys.stderr.write(f"{size} bytes, {lines} lines; the server had {before} bytes and grew by {max(found) - before}\n")
    assert lines == LINES
    assert size > 190_000_000
    assert max(found) - before < MEMORY
