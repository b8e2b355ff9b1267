"""What the tests of the surface share: a client that leaves nothing behind, and a look at what is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from airflow_provider_mictlanx.client import AsyncClient
from tests.support.vss import LocalVSS


def client_of(vss: LocalVSS, **arguments: Any) -> AsyncClient:
    """Make a client that logs nowhere."""
    given = {"client_id": "tests", "debug": False, "log_output_path": None, **arguments}
    return AsyncClient(vss.uri, **given)


def with_client(vss: LocalVSS, scenario: Callable[[AsyncClient], Awaitable[None]], **arguments: Any) -> None:
    """Run a scenario with a client of its own, and see that no task is left after it."""

    async def run() -> None:
        async with client_of(vss, **arguments) as client:
            await scenario(client)
        assert other_tasks() == set()

    asyncio.run(run())


def other_tasks() -> set[asyncio.Task[Any]]:
    """Give every task but the one that asks."""
    return asyncio.all_tasks() - {asyncio.current_task()}
