"""What MictlanX's operators have in common. Imports Airflow, ``hooks`` and ``links``."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_mictlanx.hooks.clean_log import CleanLog
from airflow_provider_mictlanx.hooks.failures import errors_name_connection, permanent_errors_fail_the_task
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.links.mictlanx import keep_links

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage


class MictlanXOperator(CleanLog, BaseOperator):
    """
    Do something in MictlanX that can be stopped, and that fails at once where no retry could mend it.

    :param mictlanx_conn_id: the connection (templated)
    """

    def __init__(self, *, mictlanx_conn_id: str = MictlanXHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mictlanx_conn_id = mictlanx_conn_id

    @abstractmethod
    def work(self, context: Context) -> Any:
        """Do it, and give what goes to XCom."""

    @cached_property
    def hook(self) -> MictlanXHook:
        """The hook of this task."""
        return MictlanXHook(self.mictlanx_conn_id)

    def execute(self, context: Context) -> Any:
        """Do the work; an error that no retry can mend becomes ``AirflowFailException``, any other stays as it is."""
        with permanent_errors_fail_the_task(), errors_name_connection(self.mictlanx_conn_id):
            keep_links(self, context)
            return self.work(context)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Tell OpenLineage what the task read, wrote and deleted; called by its provider, also after a failure."""
        from airflow_provider_mictlanx.assets.openlineage import lineage_of

        return lineage_of(self.hook.trace)

    def on_kill(self) -> None:
        """Stop what is under way; it cleans up behind itself."""
        if "hook" in self.__dict__:
            self.hook.cancel()
