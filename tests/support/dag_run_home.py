"""
An ``AIRFLOW_HOME`` for the process that forks DAG runs: imported before Airflow, and without the settings of unit tests.
"""

from __future__ import annotations

import os

import tests.support.airflow_home  # noqa: F401 (makes the folder)

del os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"]
os.environ["AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY"] = "1"  # read when Airflow is imported
