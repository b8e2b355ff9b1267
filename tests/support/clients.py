"""Clients for tests: they log nowhere and leave no task behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from airflow_provider_mictlanx.client import AsyncClient
from tests.support.vss import LocalVSS


def client_of(vss: LocalVSS, **arguments: Any) -> AsyncClient:
    """Return a client that logs nowhere."""
    given = {"client_id": "tests", "debug": False, "log_output_path": None, **arguments}
    return AsyncClient(vss.uri, **given)


@asynccontextmanager
async def checked_client(vss: LocalVSS, **arguments: Any) -> AsyncIterator[AsyncClient]:
    """Open a client, and check that it leaves no task behind."""
    async with client_of(vss, **arguments) as client:
        yield client
    assert not (left := other_tasks()), left


def other_tasks() -> set[asyncio.Task[Any]]:
    """Return every task but the current one."""
    return asyncio.all_tasks() - {asyncio.current_task()}
