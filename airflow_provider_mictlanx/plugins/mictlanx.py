"""
Register the filesystem for Airflow 2, whose paths work only if fsspec's registry contains the class before the first.

Airflow 3 finds the class by its entry point, so this module imports nothing there.
"""

from __future__ import annotations

import airflow
from airflow.plugins_manager import AirflowPlugin

if airflow.__version__.startswith("2."):
    from airflow_provider_mictlanx.fs import upath  # noqa: F401 (registers the class)


class MictlanXPlugin(AirflowPlugin):
    """Contains nothing; its module registers the filesystem."""

    name = "mictlanx"
