"""Airflow with a home and a database of its own, which end with the tests."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HOME = tempfile.mkdtemp(prefix="airflow-")
os.environ["AIRFLOW_HOME"] = HOME  # before anything imports Airflow
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(Path(__file__).parents[1] / "dags")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY"] = "0"  # seconds


@pytest.fixture(scope="session", autouse=True)
def airflow_database():
    """Create the database that ``dag.test()`` needs."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)
    yield
    shutil.rmtree(HOME)
