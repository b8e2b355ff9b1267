"""A shorter grace time for announcements without data."""

from __future__ import annotations

import pytest

from airflow_provider_mictlanx.client.transfer import chunk_upload


@pytest.fixture(autouse=True)
def _shorter_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_upload, "GRACE", 2.0)
