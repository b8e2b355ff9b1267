"""The documented surface of ``AsyncRouter`` and ``AsyncPeer``: names, order and defaults as they are promised."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import pytest
from option import Result

from airflow_provider_mictlanx.client import AsyncPeer, AsyncRouter

# The methods whose signatures are promised word for word; what follows them is this client's own, and by keyword only.
PROMISED: dict[str, dict[str, Any]] = {
    "get_by_checksum_to_file": {
        "checksum": ...,
        "chunk_size": "1MB",
        "sink_folder_path": "/mictlanx/data",
        "timeout": 300,
        "filename": "",
        "headers": {},
        "extension": "",
        "verify": False,
    },
    "get_metadata": {"bucket_id": ..., "key": ..., "timeout": 300, "headers": {}, "verify": False},
}

CONSTRUCTORS: dict[type, dict[str, Any]] = {
    AsyncRouter: {
        "router_id": ...,
        "ip_addr": ...,
        "port": ...,
        "protocol": "http",
        "http2": False,
        "api_version": 4,
    },
    AsyncPeer: {"peer_id": ..., "ip_addr": ..., "port": ..., "protocol": "http", "api_version": 4},
}

ADDRESS = ["base_url", "get_addr"]
REQUESTS = [
    "put_metadata",
    "put_data",
    "put_chunked",
    "get_metadata",
    "get_chunks_metadata",
    "get_bucket_metadata",
    "get_streaming",
    "get_to_file",
    "get_by_checksum_to_file",
    "delete",
    "delete_by_ball_id",
    "disable",
    "update_metadata",
    "get_stats",
    "get_peers",
    "add_peers",
]
PEERS_OWN = ["get_by_ball_id", "get_size", "get_ufs", "get_balls_len", "health"]

EVERY_REQUEST = [
    *((AsyncRouter, name) for name in REQUESTS),
    *((AsyncPeer, name) for name in [*REQUESTS, *PEERS_OWN]),
]


def _positional(function: Any) -> dict[str, Any]:
    """Return the parameters that can be passed by position, with their defaults."""
    return {
        parameter.name: ... if parameter.default is parameter.empty else parameter.default
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name != "self"
    }


@pytest.mark.parametrize("endpoint", [AsyncRouter, AsyncPeer])
@pytest.mark.parametrize("name", PROMISED)
def test_promised_signatures(endpoint: type, name: str) -> None:
    found = _positional(getattr(endpoint, name))
    assert list(found) == list(PROMISED[name]), "the order counts"
    assert found == PROMISED[name]


@pytest.mark.parametrize("endpoint", CONSTRUCTORS)
def test_constructors(endpoint: type) -> None:
    found = _positional(endpoint)
    assert list(found) == list(CONSTRUCTORS[endpoint]), "the order counts"
    assert found == CONSTRUCTORS[endpoint]


@pytest.mark.parametrize(("endpoint", "name"), EVERY_REQUEST)
def test_every_request_takes_timeout_headers_and_verify(endpoint: type, name: str) -> None:
    function = getattr(endpoint, name)
    assert inspect.iscoroutinefunction(function)
    parameters = inspect.signature(function).parameters
    assert parameters["timeout"].default > 0
    assert parameters["headers"].default == {}
    assert parameters["verify"].default is False
    order = [name for name in parameters if name in ("timeout", "headers", "verify")]
    assert order == ["timeout", "headers", "verify"]


@pytest.mark.parametrize(("endpoint", "name"), EVERY_REQUEST)
def test_no_default_can_be_changed(endpoint: type, name: str) -> None:
    for parameter in inspect.signature(getattr(endpoint, name)).parameters.values():
        assert not isinstance(parameter.default, dict | list | set)
        if isinstance(parameter.default, Mapping):
            with pytest.raises(TypeError):
                parameter.default["a"] = "b"  # type: ignore[index]


@pytest.mark.parametrize(("endpoint", "name"), EVERY_REQUEST)
def test_every_request_is_documented(endpoint: type, name: str) -> None:
    function = getattr(endpoint, name)
    text = inspect.getdoc(function) or ""
    for parameter in inspect.signature(function).parameters:
        if parameter != "self":
            assert f":param {parameter}:" in text, parameter
    assert "(seconds)" in text


@pytest.mark.parametrize("endpoint", CONSTRUCTORS)
def test_addresses_are_given_at_once(endpoint: type) -> None:
    for name in ADDRESS:
        assert not inspect.iscoroutinefunction(getattr(endpoint, name))


async def test_every_request_gives_a_result() -> None:
    """Asked without a server: what comes back is a ``Result`` all the same."""
    async with AsyncPeer("p", "127.0.0.1", 1) as peer:
        assert isinstance(await peer.health(), Result)
