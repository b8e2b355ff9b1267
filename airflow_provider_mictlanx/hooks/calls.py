"""What every call of the hook needs, given by ``MictlanXHook``. Imports Airflow, the client, ``assets`` and ``hooks.connection``."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ParamSpec, TypeVar

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_mictlanx.assets.places import Place, Trace
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.hooks import lineage
from airflow_provider_mictlanx.hooks.connection import Settings

P = ParamSpec("P")
T = TypeVar("T")


class HookCalls(BaseHook):
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
