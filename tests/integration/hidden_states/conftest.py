"""The operations of the grid need an Airflow for the sensor, and tries that follow one another at once."""

from __future__ import annotations

from tests.integration.airflow.conftest import connect  # noqa: F401
from tests.integration.client.conftest import _no_waiting  # noqa: F401
