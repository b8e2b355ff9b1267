"""Two DAG bundles under a real Airflow: a run keeps its version, the API shows it, and an outage changes nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.running_airflow import RunningAirflow
from tests.support.airflow_runs import Run
from tests.support.vss import LocalVSS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "dag-bundles.md").read_text()

DAG = """
import time
from pathlib import Path

from airflow.sdk import dag, task

from {team}_helper import VERSION


@dag(dag_id="of_{team}", schedule=None)
def make():
    @task
    def begin():
        return VERSION

    @task
    def end(params=None, dag_run=None):
        from {team}_late import LATE

        while not Path(dag_run.conf["go"]).exists():
            time.sleep(0.2)
        return VERSION + LATE

    begin() >> end()


make()
"""


def write(folder: Path, team: str, version: str) -> Path:
    """Write the DAG of a team, and the modules that it imports when it is parsed and when a task runs."""
    (folder / team).mkdir(parents=True, exist_ok=True)
    (folder / team / "dag.py").write_text(DAG.format(team=team))
    (folder / team / f"{team}_helper.py").write_text(f"VERSION = {version!r}\n")
    (folder / team / f"{team}_late.py").write_text(f"LATE = {version!r}\n")
    return folder / team


@pytest.fixture(scope="module")
def storage_of_dags(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVSS]:
    """A storage space that the test can stop."""
    with LocalVSS(tmp_path_factory.mktemp("vss")) as running:
        yield running


@pytest.fixture(scope="module")
def publish(storage_of_dags: LocalVSS, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], str]:
    """Publish a version of a team's DAG from outside of Airflow; return the version."""
    folder = tmp_path_factory.mktemp("published")

    def publish(team: str, version: str) -> str:
        dags = str(write(folder, team, version))
        shell = [
            sys.executable,
            "-m",
            "airflow_provider_mictlanx",
            "--uri",
            storage_of_dags.uri,
            "publish",
            "-o",
            "json",
        ]
        output = subprocess.check_output([*shell, dags, "airflow-dags", "--bundle", team.replace("_", "-")])
        published: str = json.loads(output)["version"]
        return published

    return publish


@pytest.fixture(scope="module")
def bundle_airflow(
    start_airflow: Any,
    storage_of_dags: LocalVSS,
    publish: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningAirflow]:
    """An Airflow with the two bundles of the documentation, of which one has no version yet."""
    publish("team_a", "one")
    (configured,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    bundles = json.loads(configured)
    for bundle in bundles:
        bundle["kwargs"]["refresh_interval"] = 1
    environment = {
        "AIRFLOW_CONN_MICTLANX_DEFAULT": f"{storage_of_dags.uri}&connect_patience=0",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(tmp_path_factory.mktemp("bundles")),
        "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "2",
    }
    with start_airflow(storage_of_dags, environment) as airflow:
        yield airflow


def version_of_run(airflow: RunningAirflow, run: Run) -> str:
    path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}"
    version: str = airflow.request("GET", path.replace("+", "%2B"))["bundle_version"]
    return version


def versions_of_dag(airflow: RunningAirflow, dag_id: str) -> list[str]:
    found = airflow.request("GET", f"/api/v2/dags/{dag_id}/dagVersions?order_by=version_number")["dag_versions"]
    return [version["bundle_version"] for version in found]


def test_run_keeps_its_version(
    bundle_airflow: RunningAirflow, storage_of_dags: LocalVSS, publish: Callable[[str, str], str], tmp_path: Path
) -> None:
    airflow = bundle_airflow
    first_run = Run(airflow, "of_team_a", go=str(tmp_path / "go"))
    run_of_b: list[Run] = []
    first_run.wait_for_success("begin")
    airflow.wait_for("end to run", lambda: first_run.state_of("end") == "running", 120)
    [first] = versions_of_dag(airflow, "of_team_a")[-1:]
    assert version_of_run(airflow, first_run) == first

    waiting = Run(airflow, "of_team_a", go=str(tmp_path / "go"))
    waiting.wait_for_success("begin")
    second, of_b = publish("team_a", "two"), publish("team_b", "one")
    airflow.wait_for("version two", lambda: versions_of_dag(airflow, "of_team_a")[-1] == second, 120)
    assert second != first

    second_run = Run(airflow, "of_team_a", go=str(tmp_path / "go"))
    run_of_b.append(Run(airflow, "of_team_b", go=str(tmp_path / "go")))
    (tmp_path / "go").touch()
    for run, version, text in ((first_run, first, "one"), (waiting, first, "one"), (second_run, second, "two")):
        run.finish()
        assert version_of_run(airflow, run) == version
        assert (run.xcom("begin"), run.xcom("end")) == (text, text * 2)
    run_of_b[0].finish()
    assert version_of_run(airflow, run_of_b[0]) == of_b
    assert run_of_b[0].xcom("end") == "oneone"

    # A cleared task of the first run uses its version again.
    first_run.clear("end")
    first_run.finish()
    assert first_run.xcom("end") == "oneone"

    # The storage is down, and the DAG processor starts again.
    airflow.kill("dag-processor")
    storage_of_dags.kill()
    airflow.start("dag-processor")
    log = airflow.log_of("dag-processor")
    airflow.wait_for("an attempt to refresh", lambda: log.read_text().count("was not refreshed") > 2, 120)
    during = Run(airflow, "of_team_a", go=str(tmp_path / "go"))
    during.finish()
    assert version_of_run(airflow, during) == second
    assert during.xcom("end") == "twotwo"
    storage_of_dags.start()
    third = publish("team_a", "three")
    airflow.wait_for("version three", lambda: versions_of_dag(airflow, "of_team_a")[-1] == third, 120)
    assert "Traceback" not in "".join(
        line for line in log.read_text().splitlines() if "of_team" in line or "was not refreshed" in line
    )
