"""The logger of every class that runs in Airflow."""

from __future__ import annotations

from typing import Any

from airflow_provider_mictlanx.client.texts import clean_logger


class CleanLog:
    """Mixin that keeps secrets and line breaks out of the log; it comes before the Airflow class that has ``log``."""

    @property
    def log(self) -> Any:
        """The logger of the Airflow class, with cleaned messages."""
        return clean_logger(super().log)  # type: ignore[misc]
