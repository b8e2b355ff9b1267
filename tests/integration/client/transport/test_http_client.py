"""``AsyncClient(http_client=…)``: the caller's own httpx client, mocked, instrumented, and owned by the caller."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import respx

from airflow_provider_mictlanx.client import AsyncClient, AuthenticationError, ValidationError
from tests.support.vss import LocalVSS

URI = "mictlanx://router-0@storage.example:60666/?protocol=http"


def client_of(uri: str, http_client: Any, **arguments: Any) -> AsyncClient:
    return AsyncClient(uri, "tests", debug=False, log_output_path=None, http_client=http_client, **arguments)


async def test_mocked_router_answers() -> None:
    with respx.mock(base_url="http://storage.example:60666/api/v4") as router:
        peer = {"peer_id": "peer-0", "ip_addr": "peer-0", "port": 25000}
        peers = router.get("/peers").respond(json={"available": [peer], "unavailable": []})
        async with httpx.AsyncClient() as http_client, client_of(URI, http_client, token="t0ken") as client:
            [check] = (await client.check_routers()).unwrap()
    assert (check.available, check.error) == (["peer-0"], None)
    assert peers.calls.last.request.headers["Authorization"] == "Bearer t0ken"


async def test_event_hooks_and_auth_of_the_callers_client_take_part(vss: LocalVSS, bucket_id: str) -> None:
    data = bytes(range(256)) * 8_000
    seen: list[tuple[str, int]] = []

    async def note(response: httpx.Response) -> None:
        await response.aread()
        assert response.request.headers["X-Signed"] == "yes"
        seen.append((response.request.method, response.status_code))

    def sign(request: httpx.Request) -> httpx.Request:
        request.headers["X-Signed"] = "yes"
        return request

    http_client = httpx.AsyncClient(auth=sign, event_hooks={"response": [note]})
    async with client_of(vss.uri, http_client) as client:
        (await client.put(bucket_id, "ball", data, chunk_size="1MB")).unwrap()
        assert (await client.get(bucket_id, "ball")).unwrap().data == data
    assert {("POST", 200), ("GET", 200)} <= set(seen)
    assert not http_client.is_closed
    await http_client.aclose()


async def test_refusal_is_the_same_error_as_with_the_default_engine() -> None:
    refuse = httpx.MockTransport(lambda request: httpx.Response(401, json={"detail": "who?"}))
    async with httpx.AsyncClient(transport=refuse) as http_client, client_of(URI, http_client) as client:
        assert isinstance((await client.get("bucket", "key")).unwrap_err(), AuthenticationError)


def test_another_event_loop_is_refused(vss: LocalVSS) -> None:
    http_client = httpx.AsyncClient()
    client = client_of(vss.uri, http_client)

    async def check() -> Exception | None:
        return (await client.check_routers()).unwrap()[0].error

    assert asyncio.run(check()) is None
    error = asyncio.run(check())
    assert isinstance(error, ValidationError)
    assert "http_client must be used in one event loop" in str(error)


@pytest.mark.parametrize("verify", [True, "ca.pem"])
def test_verify_beside_a_client_is_refused(verify: Any) -> None:
    with pytest.raises(ValidationError, match="verify must be unset with an http_client"):
        client_of(URI, httpx.AsyncClient(), verify=verify)


def test_another_kind_of_client_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"http_client must be an httpx\.AsyncClient, got Client"):
        client_of(URI, httpx.Client())


def test_http2_is_left_to_the_callers_client(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "h2", None)
    client_of(f"{URI}&http2=1", httpx.AsyncClient())
