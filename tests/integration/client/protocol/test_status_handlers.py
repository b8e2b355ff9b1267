"""What a status other than success stands for, whichever request it answers, and answers that are none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from option import Result

from airflow_provider_mictlanx.client import (
    AsyncPeer,
    AsyncRouter,
    AuthenticationError,
    MictlanXError,
    NetworkError,
    PeerInfo,
    UnknownError,
    UpdateMetadataRequest,
    UpstreamProtocolError,
    ValidationError,
    errors,
)
from tests.support.router_requests import Target, chunk_of, error_of, peer_of, router_of
from tests.support.vss import LocalVSS

Call = Callable[[Any], Awaitable[Result[Any, MictlanXError]]]


async def _forget(piece: bytes) -> None:
    pass


SHARED: dict[str, Call] = {
    "put_metadata": lambda t: t.announce(chunk_of("b", "ball", b"data")),
    "put_data": lambda t: t.put_data("task", "ball_0", b"data", "text/plain"),
    "put_chunked": lambda t: t.put_chunked("task", b"data"),
    "get_metadata": lambda t: t.get_metadata("b", "ball_0"),
    "get_chunks_metadata": lambda t: t.get_chunks_metadata("ball", "b"),
    "get_bucket_metadata": lambda t: t.get_bucket_metadata("b"),
    "get_streaming": lambda t: t.get_streaming("b", "ball_0"),
    "delete": lambda t: t.delete("b", "ball_0"),
    "delete_by_ball_id": lambda t: t.delete_by_ball_id("ball", "b"),
    "disable": lambda t: t.disable("b", "ball_0"),
    "update_metadata": lambda t: t.update_metadata("b", "ball_0", UpdateMetadataRequest(producer_id="me")),
    "get_stats": lambda t: t.get_stats(),
    "get_peers": lambda t: t.get_peers(),
    "add_peers": lambda t: t.add_peers([PeerInfo(peer_id="p")]),
}
ROUTERS_OWN: dict[str, Call] = {"read_data": lambda t: t.read_data("b", "ball_0", _forget, max_size=10)}
PEERS_OWN: dict[str, Call] = {
    "get_by_ball_id": lambda t: t.get_by_ball_id("b", "ball"),
    "get_size": lambda t: t.get_size("b", "ball_0"),
    "get_ufs": lambda t: t.get_ufs(),
    "get_balls_len": lambda t: t.get_balls_len(),
    "get_balls": lambda t: t.get_balls(),
    "get_all_ball_sizes": lambda t: t.get_all_ball_sizes(),
    "get_state": lambda t: t.get_state(),
    "replicate": lambda t: t.replicate("b", "ball_0"),
    "flush_tasks": lambda t: t.flush_tasks(),
    "health": lambda t: t.health(),
}
CALLS = [
    *(pytest.param(router_of, call, id=f"AsyncRouter.{name}") for name, call in (SHARED | ROUTERS_OWN).items()),
    *(pytest.param(peer_of, call, id=f"AsyncPeer.{name}") for name, call in (SHARED | PEERS_OWN).items()),
]

EVERY_STATUS: list[tuple[int, type[MictlanXError]]] = [
    (302, UpstreamProtocolError),
    (400, ValidationError),
    (401, AuthenticationError),
    (403, errors.PermissionError),
    (413, ValidationError),
    (422, ValidationError),
    (429, UnknownError),
    (500, UnknownError),
    (503, UnknownError),
]


def _server(target: Target) -> dict[str, str]:
    return {"router": target.router_id} if isinstance(target, AsyncRouter) else {"peer": target.peer_id}


@pytest.mark.parametrize(("target_of", "call"), CALLS)
async def test_every_refusal_is_the_error_that_it_stands_for(
    vss: LocalVSS, target_of: Callable[[LocalVSS], Target], call: Call
) -> None:
    async with target_of(vss) as target:
        common = {"kind": "status", **_server(target), "path": "^/api/v4", "count": 1}
        faults = [{**common, "status": status, "body": {"detail": f"said {status}"}} for status, _ in EVERY_STATUS]
        vss.control("PUT", "/_faults", faults)
        try:
            for status, error_type in EVERY_STATUS:
                error = error_of(await call(target))
                assert type(error) is error_type, status
                assert error.status_code == status
                assert target.base_url() in str(error), "the error names who refused"
                assert str(status) in str(error)
            assert [fault["triggered"] for fault in vss.faults()] == [1] * len(EVERY_STATUS)
        finally:
            vss.clear_faults()


@pytest.mark.parametrize(("target_of", "call"), CALLS)
async def test_connection_that_is_dropped(vss: LocalVSS, target_of: Callable[[LocalVSS], Target], call: Call) -> None:
    async with target_of(vss) as target:
        with vss.fault("reset", **_server(target), path="^/api/v4"):
            assert isinstance(error_of(await call(target)), NetworkError)


NO_JSON = ["put_data", "disable", "update_metadata", "add_peers", "replicate", "flush_tasks"]
"""Requests that are answered by a status alone."""


@pytest.mark.parametrize(
    ("target_of", "call"),
    [
        param
        for param in CALLS
        if str(param.id).split(".")[1]
        not in [*NO_JSON, "get_state", "get_streaming", "read_data", "health", "delete", "delete_by_ball_id"]
    ],
)
@pytest.mark.parametrize(
    ("body", "content_type"),
    [({"something": "else"}, "application/json"), ("<html>welcome</html>", "text/html"), ("", "text/plain")],
    ids=["other JSON", "HTML", "nothing"],
)
async def test_answer_that_is_none_of_the_protocols(
    vss: LocalVSS, target_of: Callable[[LocalVSS], Target], call: Call, body: Any, content_type: str
) -> None:
    async with target_of(vss) as target:
        answer = {"status": 200, "body": body, "content_type": content_type}
        with vss.fault("status", **_server(target), path="^/api/v4", **answer):
            error = error_of(await call(target))
        assert type(error) is UpstreamProtocolError
        assert error.transient


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
async def test_details_of_a_422_are_told(vss: LocalVSS) -> None:
    """The service's own list of what is wrong is in the error; here a body that was not made by the models."""
    async with router_of(vss) as router, peer_of(vss) as peer:
        odd_peer = PeerInfo(peer_id="p", protocol=5)  # type: ignore[arg-type]
        odd_change = UpdateMetadataRequest.model_construct(tags={"a": 5})  # type: ignore[dict-item]
        for result in (await router.add_peers([odd_peer]), await peer.update_metadata("b", "ball_0", odd_change)):
            error = error_of(result)
            assert type(error) is ValidationError
            assert error.status_code == 422
            assert "should be a valid string" in str(error)


async def test_secrets_are_in_no_error(vss: LocalVSS) -> None:
    secret = "Bearer a-secret-token"
    async with router_of(vss) as router:
        with vss.fault("status", path="^/api/v4", status=401, body={"detail": "no"}):
            error = error_of(await router.get_peers(headers={"Authorization": secret}))
        assert "secret" not in f"{error}{error!r}{error.__dict__}{router!r}"
        (asked,) = [seen for seen in vss.requests("GET", "/peers$") if "authorization" in seen["headers"]][-1:]
        assert asked["status"] == 401


def test_reprs_name_the_address() -> None:
    assert repr(AsyncRouter("r", "h", 1)) == "AsyncRouter('r', 'http://h:1')"
    assert repr(AsyncPeer("p", "h", 1)) == "AsyncPeer('p', 'http://h:1')"
