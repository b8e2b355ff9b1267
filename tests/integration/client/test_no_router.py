"""What answers is no router: a proxy without the right path, a web server, something that echoes what it was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from airflow_provider_mictlanx.client import AsyncClient, UpstreamProtocolError
from tests.integration.client.wire import Asked, Handler, Reply, meddling
from tests.vss import LocalVSS

NOT_FOUND = Reply(404, b'{"detail": "Not Found"}', {"Content-Type": "application/json"})


def _always(reply: Reply) -> Handler:
    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        return reply

    return handler


CALLS: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
    "exists": lambda client: client.exists("b", "k"),
    "get": lambda client: client.get("b", "k"),
    "get_metadata": lambda client: client.get_metadata("b", "k"),
    "list_balls": lambda client: client.list_balls("b"),
    "delete": lambda client: client.delete("k", "b"),
    "delete_bucket": lambda client: client.delete_bucket("b"),
    "put": lambda client: client.put("b", "k", b"data"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_404_to_everything_is_no_absent_object(call: Callable[[AsyncClient], Awaitable[object]]) -> None:
    async def scenario() -> None:
        async with meddling(_always(NOT_FOUND)) as meddler, AsyncClient(meddler.uri, "tests") as client:
            error = (await call(client)).unwrap_err()  # type: ignore[attr-defined]
            assert type(error) is UpstreamProtocolError, error
            assert "no MictlanX router answers at this address" in str(error)

    asyncio.run(scenario())


def test_wrong_path_before_a_real_router_is_no_absent_object(vss: LocalVSS, bucket_id: str) -> None:
    async def scenario() -> None:
        async with AsyncClient(vss.uri.replace(f":{vss.port}", f"/wrong:{vss.port}"), "tests") as client:
            error = (await client.exists(bucket_id, "k")).unwrap_err()
            assert type(error) is UpstreamProtocolError, error

    asyncio.run(scenario())
