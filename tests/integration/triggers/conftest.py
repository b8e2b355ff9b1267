"""Fixtures for event triggers, which need Airflow 3.3."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.event_watchers import StateStore


@pytest.fixture
def state_store(monkeypatch: pytest.MonkeyPatch) -> StateStore:
    """Keep the states of assets in place of the API server."""
    from airflow.sdk.execution_time import task_runner

    from tests.support.event_watchers import StateStore

    store = StateStore()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", store, raising=False)
    return store
