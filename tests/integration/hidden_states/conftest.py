"""The operations of the grid need an Airflow for the sensor, and short waits."""

from __future__ import annotations

import pytest

from airflow_provider_mictlanx.client.transfer import chunk_upload, listing
from tests.integration.airflow.conftest import connect  # noqa: F401
from tests.integration.client.conftest import _no_waiting  # noqa: F401


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_upload, "GRACE", 0.1)
    monkeypatch.setattr(listing, "PEER_CHECK_TIMEOUT", 0.5)
