"""Tries follow one another at once, and announcements without data have no grace: more meetings go wrong."""

from __future__ import annotations

import pytest

from airflow_provider_mictlanx.client.transfer import chunk_upload
from tests.integration.client.conftest import _no_waiting  # noqa: F401


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_upload, "GRACE", 0.0)
