"""Send Airflow's metrics of this process to a statsd server, in the way of each version of Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def report_to(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Report to a UDP port of this machine during the block."""
    for name, value in {"STATSD_ON": "True", "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(port)}.items():
        monkeypatch.setenv(f"AIRFLOW__METRICS__{name}", value)
    try:
        from airflow.sdk.observability import stats
        from airflow.sdk.observability.metrics import stats_utils
    except ImportError:  # Airflow 2 chooses when it is imported
        from airflow.metrics.statsd_logger import get_statsd_logger
        from airflow.stats import Stats

        monkeypatch.setattr(type(Stats), "factory", get_statsd_logger)
        monkeypatch.setattr(Stats, "instance", None, raising=False)
        yield
        return
    initialize: Any = stats.initialize
    initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
    yield
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "False")
    initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
