"""Servers that are not routers: a proxy without the right path, a web server, a server that echoes requests."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.client import (
    AsyncClient,
    AsyncPeer,
    PeerInfo,
    UnknownError,
    UpstreamProtocolError,
)
from tests.support.intercepting_router import Asked, Handler, Reply, intercepting
from tests.support.vss import LocalVSS

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
async def test_404_to_everything_is_no_absent_object(call: Callable[[AsyncClient], Awaitable[object]]) -> None:
    async with intercepting(_always(NOT_FOUND)) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        error = (await call(client)).unwrap_err()  # type: ignore[attr-defined]
        assert type(error) is UpstreamProtocolError, error
        assert "no MictlanX router answers at this address" in str(error)


async def test_wrong_path_before_a_real_router_is_no_absent_object(vss: LocalVSS, bucket_id: str) -> None:
    async with AsyncClient(vss.uri.replace(f":{vss.port}", f"/wrong:{vss.port}"), "tests") as client:
        error = (await client.exists(bucket_id, "k")).unwrap_err()
        assert type(error) is UpstreamProtocolError, error


async def test_web_page_is_shown_to_who_reads_the_error() -> None:
    page = Reply(200, b"<html><body><h1>Welcome to nginx</h1></body></html>", {"Content-Type": "text/html"})
    async with intercepting(_always(page)) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        error = (await client.get("b", "k")).unwrap_err()
        assert type(error) is UpstreamProtocolError
        assert "content type text/html, beginning with 'Welcome to nginx'" in str(error)


ANSWERED_BY_A_STATUS: dict[str, Callable[[AsyncPeer], Awaitable[Any]]] = {
    "disable": lambda peer: peer.disable("b", "k_0"),
    "put_data": lambda peer: peer.put_data("task", "k_0", b"data", "text/plain"),
    "add_peers": lambda peer: peer.add_peers([PeerInfo(peer_id="p")]),
    "update_metadata": lambda peer: peer.update_metadata("b", "k_0", {"tags": {"a": "b"}}),
    "replicate": lambda peer: peer.replicate("b", "k_0"),
    "flush_tasks": lambda peer: peer.flush_tasks(),
    "health": lambda peer: peer.health(),
}


@pytest.mark.parametrize("call", ANSWERED_BY_A_STATUS.values(), ids=ANSWERED_BY_A_STATUS)
async def test_sign_in_page_confirms_nothing(call: Callable[[AsyncPeer], Awaitable[Any]]) -> None:
    page = Reply(200, b"\n<!doctype html><title>Sign in</title>", {"Content-Type": "text/html"})
    async with (
        intercepting(_always(page)) as interceptor,
        AsyncPeer("peer-0", "127.0.0.1", interceptor.port) as peer,  # it shares what a router has
    ):
        error = (await call(peer)).unwrap_err()
        assert type(error) is UpstreamProtocolError
        assert "beginning with 'Sign in'" in str(error)


@pytest.mark.parametrize("status", [200, 401, 404, 500])
@pytest.mark.parametrize("as_json", [True, False])
async def test_secrets_that_an_answer_repeats_are_in_no_error(
    status: int, as_json: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        said = f"refused: {asked.headers['authorization']} of {asked.headers['x-key']}"
        return Reply(status, json.dumps({"detail": said}).encode() if as_json else said.encode())

    async with (
        intercepting(handler) as interceptor,
        AsyncClient(interceptor.uri, "tests", token='s3cr3t"token', headers={"X-Key": "s3cr3t-key"}) as client,
    ):
        checks = (await client.check_routers()).unwrap()
        for error in ((await client.put("b", "k", b"data")).unwrap_err(), checks[0].error):
            assert "s3cr3t" not in str(error) + repr(error)
            if status != 200 or not as_json:
                assert "refused: Bearer ***" in str(error)
    assert "s3cr3t" not in caplog.text


async def test_answer_that_is_too_deep_is_an_error_like_any_other() -> None:
    async with (
        intercepting(_always(Reply(500, b"[" * 100_000))) as interceptor,
        AsyncClient(interceptor.uri, "tests") as client,
    ):
        assert type((await client.get("b", "k")).unwrap_err()) is UnknownError
