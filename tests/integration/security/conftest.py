"""An Airflow connection to a local VSS, as the tests of the hook have it, and tries that follow one another at once."""

from __future__ import annotations

from tests.integration.airflow.conftest import connect
from tests.integration.client.conftest import _no_waiting

__all__ = ["_no_waiting", "connect"]
