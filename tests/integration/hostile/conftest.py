"""Fixtures of the hostile server's tests."""

from __future__ import annotations

import pytest

from airflow_provider_mictlanx.client.transport import httpx_backend


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of requests end by their timeout here: httpx has less time to end each of them in order."""
    monkeypatch.setattr(httpx_backend, "GRACE", 0.1)
