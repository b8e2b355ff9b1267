"""Endless answers and readers that take their time: memory stays flat."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from airflow_provider_mictlanx.client.transport.backend import BackendFactory
from tests.robustness.hostile.answers import FLOODS, head
from tests.robustness.hostile.checks import outcome_of, transport_of
from tests.support.engines import each_engine
from tests.support.hostile_server import Connection, serving

MOST = 8 * 1024 * 1024
"""The most that a request may take beyond what was there (bytes): an answer of 1 MB is read before it is too long."""

TIMEOUT = 0.4


@contextmanager
def flat_memory(what: str) -> Iterator[None]:
    """Require that memory does not grow by more than ``MOST`` in between."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < MOST, f"{what} took {(peak - before) / 1e6:.0f} MB"


@each_engine
async def test_endless_answers_take_no_memory(engine: BackendFactory) -> None:
    async def meet(name: str, timeout: float) -> bool:
        begin, repeated = FLOODS[name]

        async def script(connection: Connection) -> None:
            await connection.write(begin)
            await connection.repeat(repeated)

        async with serving(script) as server, transport_of(engine) as transport:
            with flat_memory(name):
                outcome = await outcome_of(transport, "GET", f"{server.url}/flood", timeout)
            assert outcome.error is not None, str(outcome)
            return bool(server.connections and server.connections[0].written)

    for name in FLOODS:
        timeout = TIMEOUT
        while not await meet(name, timeout):  # the machine was too busy to connect in time
            timeout *= 2


@pytest.mark.parametrize("piece", [bytes(65536), b"a"], ids=["large", "small"])
@each_engine
async def test_slow_reader_takes_no_memory(engine: BackendFactory, piece: bytes) -> None:
    """The server is held up while nobody reads."""
    chunk = b"%x\r\n%b\r\n" % (len(piece), piece)

    async def script(connection: Connection) -> None:
        await connection.write(head(b"Transfer-Encoding: chunked"))
        await connection.repeat(chunk * (65536 // len(chunk) + 1))

    async with serving(script) as server, transport_of(engine) as transport:
        request = {"action": "asking", "timeout": 10.0, "verify": False, "max_size": 2**40}
        with flat_memory("a slow reader"):
            async with transport.stream("GET", f"{server.url}/flood", **request) as (_, pieces):  # type: ignore[arg-type]
                assert set(await anext(pieces)) == set(piece)
                await asyncio.sleep(0.6)
        assert server.connections[0].written < 64 * 1024 * 1024


@each_engine
async def test_informational_flood_during_upload_takes_no_memory(engine: BackendFactory) -> None:
    async def script(connection: Connection) -> None:
        await connection.repeat(head(status=b"HTTP/1.1 100 Continue") * 2048)

    data = bytes(16 * 1024 * 1024)
    async with serving(script) as server, transport_of(engine) as transport:
        with flat_memory("an upload"):
            outcome = await outcome_of(transport, "POST", f"{server.url}/flood", 2 * TIMEOUT, content=data)
        assert outcome.error is not None, str(outcome)
