"""Base of operators and sensors."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.hooks.arguments import exactly_one
from airflow_provider_mictlanx.hooks.clean_log import CleanLog
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook


class MictlanXTask(CleanLog):
    """Mixin for a task with a hook, which can be stopped; it comes before the Airflow class."""

    mictlanx_conn_id: str
    task_id: str

    @cached_property
    def hook(self) -> MictlanXHook:
        """The hook of this task."""
        return MictlanXHook(self.mictlanx_conn_id)

    def on_kill(self) -> None:
        """Stop the running requests; the hook cleans up."""
        if "hook" in self.__dict__:
            self.hook.cancel()

    def _get_one_of(self, *names: str, error: type[Exception] = ValidationError) -> tuple[str, Any]:
        """Return name and value of the argument that is not None; raise ``error`` unless exactly one is."""
        try:
            return exactly_one(**{name: getattr(self, name) for name in names})
        except ValidationError as problem:
            raise error(f"{self.label}: {problem}") from None

    @property
    def label(self) -> str:
        """Class and id of the task, for errors of its DAG."""
        return f"{type(self).__name__} (task_id: {self.task_id})"
