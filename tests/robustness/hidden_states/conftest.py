"""Retry at once, and wait less for other writers and silent peers."""

from __future__ import annotations

import pytest

from airflow_provider_mictlanx.client.transfer import chunk_upload, listing


@pytest.fixture(autouse=True)
def _short_waits(no_retry_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_upload, "GRACE", 0.1)
    monkeypatch.setattr(listing, "PEER_CHECK_TIMEOUT", 0.5)
