"""Airflow with a home of its own, for the sensors and the hook among the operations."""

from __future__ import annotations

import tests.support.airflow_home  # noqa: F401, before anything imports Airflow
