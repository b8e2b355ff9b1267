"""Connections that end while they wait for a next request: what is sent again, and what never."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_mictlanx.client.transport.backend import BackendFactory
from tests.robustness.hostile.checks import check_next_requests, outcome_of, transport_of
from tests.support.engines import each_engine
from tests.support.hostile_server import Connection, serving

ENDS = ["close", "reset", "answer", "half an answer"]


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize("end", ENDS)
@each_engine
async def test_request_on_dying_connection_is_sent_once(engine: BackendFactory, end: str, method: str) -> None:
    """The server takes the request and drops the connection: nobody knows whether it was done."""

    async def script(connection: Connection) -> None:
        await connection.read_body()
        if end == "answer":
            await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        elif end == "half an answer":
            await connection.write(b"HTTP/1.1 200 OK\r\nContent-Len")
        await (connection.reset() if end == "reset" else connection.finish())

    async with serving(script) as server, transport_of(engine) as transport:
        await check_next_requests(transport, server)  # leaves a connection that waits for a next request
        content = b"data" if method in ("PUT", "POST") else b""
        outcome = await outcome_of(transport, method, f"{server.url}/once", 5, content=content)
        assert (outcome.response is not None) == (end == "answer"), str(outcome)
        assert len(server.seen("/once", method)) == 1, f"{method} was sent more than once"
        assert server.connections[0].number > 1, "no connection was used again"


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize("pause", [0, 0.05])
@each_engine
async def test_request_after_idle_connection_ended_is_sent_once(
    engine: BackendFactory, pause: float, method: str
) -> None:
    """The server drops the connection before the request: at once, or so early that the client has seen it."""

    async def script(connection: Connection) -> None:
        await connection.read_body()
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        if connection.request.path == "/last":
            await connection.finish()

    async with serving(script) as server, transport_of(engine) as transport:
        await outcome_of(transport, "GET", f"{server.url}/last", 5)
        await asyncio.sleep(pause)
        content = b"data" if method in ("PUT", "POST") else b""
        outcome = await outcome_of(transport, method, f"{server.url}/once", 5, content=content)
        seen = len(server.seen("/once", method))
        assert seen == (outcome.response is not None), "an answer without a request, or the other way round"
        assert seen == 1 or not pause, str(outcome)
