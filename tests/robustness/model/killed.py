"""Clients that are killed in the middle: processes of their own that make one call, and die when told to."""

from __future__ import annotations

import asyncio
import pkgutil
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from airflow_provider_mictlanx.client import AsyncClient
from tests.support.forked_processes import ForkedProcesses
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.vss import LocalVSS

_PROCESSES = ForkedProcesses(__name__)
_LONGEST = 120
"""No call takes longer (seconds)."""


def call(told: dict[str, Any]) -> None:
    """Make a call of the client, as the process that is killed."""

    async def make() -> None:
        async with AsyncClient(told["uri"], "killed", debug=False, log_output_path=None) as client:
            data = [] if told["data"] is None else [bytes.fromhex(told["data"])]
            if ":" in told["method"]:
                await pkgutil.resolve_name(told["method"])(client, *told["arguments"], *data, **told["further"])
            else:
                await getattr(client, told["method"])(*told["arguments"], *data, **told["further"])

    asyncio.run(make())


def kill_a_bulk(**told: Any) -> bool:
    """Upload a bulk in a process that gets SIGKILL after its n-th request was answered; return whether it came to that."""
    attempt = _PROCESSES.start("tests.support.bulk_attempt:main", {**told, "how": "after", "part": 60})
    output, _ = attempt.communicate(timeout=_LONGEST)
    assert attempt.returncode in (0, -signal.SIGKILL), output
    return bool(attempt.returncode)


async def kill_at(
    vss: LocalVSS,
    number: int,
    answered: bool,
    method: str,
    *arguments: str,
    data: bytes | None = None,
    **further: Any,
) -> bool:
    """
    Make a call of the client in a process that gets SIGKILL with its n-th request; return whether that happened.

    :param number: of the request, from 1 on
    :param answered: whether the request is carried out before the client dies, or never reaches the storage
    :param method: of the client, or a function of it, as ``package.module:name``
    :param data: the last argument
    """
    seen = 0

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        nonlocal seen
        seen += 1
        if seen < number:
            return None
        if seen == number:
            if answered:
                await pass_on(asked)
            client.kill()
        return Reply(drop=True)

    async with intercepting(handler, vss) as interceptor:
        told = {"uri": interceptor.uri, "method": method, "arguments": arguments, "further": further}
        client = _PROCESSES.start(f"{__name__}:call", {**told, "data": None if data is None else data.hex()})
        try:
            await asyncio.to_thread(client.wait, _LONGEST)
        finally:
            client.kill()
            for pipe in (client.stdin, client.stdout, client.stderr):
                pipe.close()
    return seen >= number
