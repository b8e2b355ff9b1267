"""``airflow mictlanx …``: Airflow's command line finds the commands, and they find a connection in the database."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.vss import LocalVSS


@pytest.mark.skipif(version("apache-airflow").startswith("2."), reason="Airflow 2 has no commands of providers")
def test_airflow_command_finds_a_database_connection(
    environment: dict[str, str], vss: LocalVSS, bucket_id: str, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "airflow" / "airflow.db")) as database, database:
        database.execute(
            "INSERT INTO connection (conn_id, conn_type, extra, is_encrypted, is_extra_encrypted) VALUES (?, ?, ?, 0, 0)",
            ("of_the_database", "mictlanx", json.dumps({"uri": vss.uri})),
        )
    command = [
        sys.executable,
        "-m",
        "airflow",
        "mictlanx",
        "du",
        bucket_id,
        "--conn-id",
        "of_the_database",
        "-o",
        "json",
    ]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"bucket_id": bucket_id, "prefix": "", "objects": 0, "size": 0, "folders": []}
