"""The logger of everything that runs in Airflow. Imports the client's ``texts`` only."""

from __future__ import annotations

from typing import Any

from airflow_provider_mictlanx.client.texts import clean_logger


class CleanLog:
    """Mixin, before the class of Airflow that brings ``log``: what is logged has no secrets and stays one line."""

    @property
    def log(self) -> Any:
        """Return the logger of the class of Airflow, with its messages cleaned."""
        return clean_logger(super().log)  # type: ignore[misc]
