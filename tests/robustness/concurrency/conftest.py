"""Retry at once, and give announcements without data no grace: more meetings go wrong."""

from __future__ import annotations

import pytest

from airflow_provider_mictlanx.client.transfer import chunk_upload


@pytest.fixture(autouse=True)
def _no_waits(no_retry_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_upload, "GRACE", 0.0)
