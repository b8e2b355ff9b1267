"""A process that initializes a DAG bundle, and reports what it finds."""

from __future__ import annotations

import json
import os
from typing import Any

import tests.support.airflow_home  # noqa: F401, before anything imports Airflow
from airflow_provider_mictlanx.bundles.mictlanx import MictlanXDagBundle
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

# Import now what the first look-up of a connection imports: every process would do it again.
os.environ["AIRFLOW_CONN_WARM_UP"] = '{"conn_type": "mictlanx", "extra": {"uri": "http://127.0.0.1:1"}}'
_ = MictlanXHook("warm_up").settings


def main(told: dict[str, Any]) -> None:
    """Initialize a bundle and print the contents of its Python files by their paths."""
    os.environ["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH"] = told.pop("storage")
    bundle = MictlanXDagBundle(**told)
    bundle.initialize()
    found = {file.relative_to(bundle.path).as_posix(): file.read_text() for file in bundle.path.rglob("*.py")}
    print(json.dumps(found), flush=True)  # noqa: T201
