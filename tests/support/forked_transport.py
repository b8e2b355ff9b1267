"""A process that uses a transport, forks, and uses it again; the child uses, closes or forgets what it got of it."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Sequence

from airflow_provider_mictlanx.client.transport.connections import Transport
from tests.support.engines import ENGINES


def main(arguments: Sequence[str]) -> None:
    """Print ``done`` if parent and child could go on; the arguments are a URL, an engine, and what the child does."""
    asyncio.run(_parent(*arguments))
    sys.stdout.write("done\n")


async def _parent(url: str, engine: str, what: str) -> None:
    held = [Transport(backend_factory=ENGINES[engine])]
    await asyncio.gather(*(_ask(held[0], url) for _ in range(4)))
    if (pid := os.fork()) == 0:
        code = 1
        try:
            _child(held, url, what)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    for _ in range(3):
        assert await asyncio.gather(*(_ask(held[0], url) for _ in range(4))) == [200] * 4
    await held[0].aclose()


def _child(held: list[Transport], url: str, what: str) -> None:
    if what == "uses":
        assert asyncio.run(_ask_and_close(held[0], url)) == 200
    elif what == "closes":
        asyncio.run(held[0].aclose())
    held.clear()
    gc.collect()


async def _ask(transport: Transport, url: str) -> int:
    async with asyncio.timeout(20):
        return (await transport.send("GET", url, action="asking", timeout=15, verify=False)).status


async def _ask_and_close(transport: Transport, url: str) -> int:
    status = await _ask(transport, url)
    await transport.aclose()
    return status
