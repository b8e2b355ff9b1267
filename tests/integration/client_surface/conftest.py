"""Fixtures of the client's tests."""

from __future__ import annotations

import pytest
from tenacity import wait_none

from airflow_provider_mictlanx.client import retry


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow one another at once: how long they wait is tested with the retry rule itself."""
    monkeypatch.setattr(retry, "wait_random_exponential", lambda **_: wait_none())
    monkeypatch.setattr(retry, "wait_exponential", lambda **_: wait_none())
