"""The token goes to the routers of the connection, and to nobody that an answer names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from airflow_provider_mictlanx.client import AsyncClient, AsyncPeer, UpstreamProtocolError
from airflow_provider_mictlanx.client.transport.limits import MAX_METADATA
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import cut, pattern
from tests.support.vss import LocalVSS

DATA = pattern(1000)
Handler = Callable[[Asked, Callable[[Asked], Awaitable[Reply]]], Awaitable[Reply | None]]


async def answers_nothing(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
    return Reply(200, b"{}")


async def test_addresses_in_answers_are_not_connected_to(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    """A router that names a stranger as its only peers: no operation ever asks the stranger anything."""
    RawRequests(vss).put(bucket_id, "ball", cut(DATA, 400), announced_only=[1])
    async with intercepting(answers_nothing) as stranger:
        peers = [
            {
                "peer_id": f"peer-{n}",
                "ip_addr": "127.0.0.1",
                "port": stranger.port,
                "protocol": "http",
                "api_version": 4,
            }
            for n in range(3)
        ]

        async def names_strangers(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
            if asked.path.endswith("/peers"):
                return Reply(200, json.dumps({"available": peers, "unavailable": []}).encode())
            return None

        async with (
            intercepting(names_strangers, vss) as router,
            AsyncClient(router.uri, "tests", debug=False, log_output_path=None, token="s3cret") as client,
        ):
            assert (await client.get(bucket_id, "ball", max_retries=1)).is_err  # asked of "each peer"
            assert (await client.get_to_file(bucket_id, "ball", str(tmp_path), max_retries=1)).is_err
            await client.put(bucket_id, "other", DATA, rf=2, max_tries=2)
            await client.exists(bucket_id, "ball", check_storage=True)
            await client.delete("ball", bucket_id)
            await client.delete_bucket(bucket_id)
            await client.check_routers()
            assert router.asked
            assert all(asked.headers["authorization"] == "Bearer s3cret" for asked in router.asked)
        assert stranger.asked == []


async def test_a_peer_of_an_answer_is_asked_without_the_token(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "ball", [DATA])
    vss.reset_requests()
    async with AsyncClient(vss.uri, "tests", debug=False, log_output_path=None, token="s3cret") as client:
        [router] = client._pool.routers
        for known in (await router.get_peers()).unwrap().available:
            async with AsyncPeer.at(known) as peer:
                await peer.get_bucket_metadata(bucket_id)
    asked = vss.requests(server="peer", path=bucket_id)
    assert len(asked) == 3
    assert not any("authorization" in seen["headers"] for seen in asked)
    assert all("authorization" in seen["headers"] for seen in vss.requests(server="router", path="/peers"))


@pytest.mark.parametrize("call", ["announcement", "peers", "metadata"])
async def test_an_answer_without_an_end_is_left_where_it_is_too_long(bucket_id: str, call: str) -> None:
    """The head promises nothing, and bytes come for ever; no more is read than such an answer may have."""
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
            while True:
                writer.write(b" " * 65536)
                await writer.drain()
                sent += 65536
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    uri = f"mictlanx://r@127.0.0.1:{server.sockets[0].getsockname()[1]}/?protocol=http"
    async with server, AsyncClient(uri, "tests", debug=False, log_output_path=None) as client:
        [router] = client._pool.routers
        calls = {
            "announcement": lambda: client.put(bucket_id, "k", DATA, max_tries=1, timeout=60),
            "peers": lambda: router.get_peers(timeout=60),
            "metadata": lambda: router.get_metadata(bucket_id, "k_0", timeout=60),
        }
        error = (await calls[call]()).unwrap_err()
        assert isinstance(error, UpstreamProtocolError)
        assert "longer than" in str(error)
    assert sent < 2 * MAX_METADATA  # an announcement begins with a look at metadata
