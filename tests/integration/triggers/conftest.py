"""Fixtures for event triggers, which need Airflow 3.0; states of assets need 3.3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.event_watchers import StateStore


@pytest.fixture
def state_store(monkeypatch: pytest.MonkeyPatch) -> StateStore:
    """Keep the states of assets in place of the API server."""
    pytest.importorskip("airflow.triggers.shared_stream", reason="states of assets need Airflow 3.3")
    from airflow.sdk.execution_time import task_runner

    from airflow_provider_mictlanx.triggers import watchers
    from tests.support.event_watchers import StateStore

    monkeypatch.setattr(watchers, "SETTLE_SECONDS", 0)
    store = StateStore()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", store, raising=False)
    return store


@pytest.fixture
def states_in_mictlanx(state_store: StateStore, bucket_id: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Keep the states of assets in a bucket, by the backend of ``common.io``; return the bucket."""
    from airflow.providers.common.io.state_store import backend
    from airflow.sdk.execution_time.context import _get_worker_state_store_backend

    caches = (_get_worker_state_store_backend, backend._get_base_path, backend._get_compression, backend._get_threshold)
    for name, value in {
        "WORKERS__STATE_STORE_BACKEND": f"{backend.__name__}.StateStoreObjectStorageBackend",
        "COMMON_IO__STATE_STORE_OBJECTSTORAGE_PATH": f"mictlanx://mictlanx_default@{bucket_id}-states/state",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__{name}", value)
    for cached in caches:
        cached.cache_clear()
    yield f"{bucket_id}-states"
    monkeypatch.undo()
    for cached in caches:
        cached.cache_clear()
