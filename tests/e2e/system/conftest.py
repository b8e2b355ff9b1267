"""Fixtures of tests of complete DAGs: a migrated database, an Airflow home of their own, and real files."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from tests.support.dag_runs import migrate_database
from tests.support.vss import LocalVSS

ROOT = Path(__file__).resolve().parents[3]
FILES = {
    "one.txt": b"one line\n",
    "empty.bin": b"",
    "folder/one.txt": b"another file of the same name\n",
    "folder/año nuevo.txt": "¡hola!\n".encode(),
    "several chunks.bin": os.urandom(700_001),
}


def airflow_environment(home: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
    return environment | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "example_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated database, to be copied: made once for all workers, because it takes seconds."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    home = shared / "airflow-of-all"
    with (shared / "airflow-of-all.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "migrated").exists():
            home.mkdir(exist_ok=True)
            migrate_database(airflow_environment(home))
            (home / "migrated").touch()
    return home / "airflow.db"


@pytest.fixture
def environment(database: Path, tmp_path: Path, vss: LocalVSS) -> dict[str, str]:
    home = tmp_path / "airflow"
    home.mkdir()
    shutil.copy(database, home / "airflow.db")
    return airflow_environment(home) | {"AIRFLOW_CONN_MICTLANX_DEFAULT": vss.uri}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name, content in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder
