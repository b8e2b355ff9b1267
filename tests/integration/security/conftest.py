"""An Airflow connection to a local VSS, as the tests of the hook have it."""

from __future__ import annotations

from tests.integration.airflow.conftest import connect

__all__ = ["connect"]
