"""What every call of the hook needs, given by ``MictlanXHook``. Imports Airflow, the client, ``bulks``, ``assets`` and ``hooks.connection``."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ParamSpec, TypeVar

from airflow.providers.common.compat.sdk import BaseHook
from humanfriendly.text import pluralize

from airflow_provider_mictlanx.assets.places import Place, Trace
from airflow_provider_mictlanx.bulks.records import Failure
from airflow_provider_mictlanx.bulks.status import FIRST_FAILURES
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.hooks import lineage
from airflow_provider_mictlanx.hooks.clean_log import CleanLog
from airflow_provider_mictlanx.hooks.connection import Settings

P = ParamSpec("P")
T = TypeVar("T")


class HookCalls(CleanLog, BaseHook):
    """Base of the parts of ``MictlanXHook``, each of which has one kind of calls."""

    mictlanx_conn_id: str
    trace: Trace

    async def _note(
        self, *, reads: Sequence[Place] = (), writes: Sequence[Place] = (), drops: Sequence[Place] = ()
    ) -> None:
        """Note what was read, written and deleted, for lineage, unless that is switched off."""
        if lineage.is_on():
            self.trace.add(reads, writes, drops)
            await asyncio.to_thread(lineage.report, self, reads, writes)

    def _tell(self, line: str) -> None:
        """Log a line for people."""
        self.log.info("%s", line)

    def _tell_the_end(self, line: str, failures: Sequence[Failure]) -> None:
        """Log how work on many balls went, and the first of its failures."""
        self._tell(line)
        for failure in failures[:FIRST_FAILURES]:
            self.log.error("%s/%s failed: %s", failure.bucket_id, failure.key, failure.message)
        if len(failures) > FIRST_FAILURES:
            self.log.error("… and %s more", pluralize(len(failures) - FIRST_FAILURES, "ball"))

    @abstractmethod
    def _run(self, twin: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an async twin for a caller that blocks."""

    @abstractmethod
    async def aget_settings(self) -> Settings:
        """Give the connection."""

    @abstractmethod
    def aget_conn(self) -> AbstractAsyncContextManager[AsyncClient]:
        """Open a client."""


def chosen(settings: Settings, **given: Any) -> dict[str, Any]:
    """Give what the caller chose, else what the connection says, else nothing: the client's default."""
    chosen = {name: getattr(settings, name) if value is None else value for name, value in given.items()}
    return {name: value for name, value in chosen.items() if value is not None}
