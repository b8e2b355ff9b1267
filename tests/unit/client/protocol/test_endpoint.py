"""Addresses, and what is refused before anything is sent."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from airflow_provider_mictlanx.client import AsyncClient, AsyncPeer, AsyncRouter, MictlanXURI, PeerInfo, ValidationError
from airflow_provider_mictlanx.client.transport.connections import Transport


@pytest.mark.parametrize(
    ("arguments", "router_url", "peer_url"),
    [
        (("h", 60666), "http://h:60666", "http://h:60666"),
        (("10.0.0.1", 0), "http://10.0.0.1", "http://10.0.0.1"),
        (("h", -1), "http://h", "http://h"),
        (("h/v0/mictlanx", 60666), "http://h:60666/v0/mictlanx", "http://h:60666/v0/mictlanx"),
        (("h/path/", 1), "http://h:1/path", "http://h:1/path"),
        (("h", 60666, "https"), "https://h", "https://h:60666"),
        (("h/path", 60666, "https"), "https://h/path", "https://h:60666/path"),
        (("h:8443/path", 0, "https"), "https://h:8443/path", "https://h:8443/path"),
        (("::1", 7), "http://[::1]:7", "http://[::1]:7"),
        (("[::1]", 7), "http://[::1]:7", "http://[::1]:7"),
    ],
)
def test_base_url(arguments: tuple[Any, ...], router_url: str, peer_url: str) -> None:
    assert AsyncRouter("r", *arguments).base_url() == router_url
    assert AsyncPeer("p", *arguments).base_url() == peer_url


@pytest.mark.parametrize("endpoint", [AsyncRouter, AsyncPeer])
def test_get_addr(endpoint: type[AsyncRouter] | type[AsyncPeer]) -> None:
    assert endpoint("e", "example.org", 60666).get_addr() == "example.org:60666"


def test_what_was_given_can_be_looked_at() -> None:
    router = AsyncRouter("r", "h/path", 1, "https", False, 3)
    assert (router.router_id, router.ip_addr, router.host, router.path) == ("r", "h/path", "h", "path")
    assert (router.port, router.protocol, router.http2, router.api_version) == (1, "https", False, 3)
    assert AsyncPeer("p", "h", 1).peer_id == "p"


def test_peer_of_a_routers_answer() -> None:
    peer = AsyncPeer.at(PeerInfo(peer_id="p", ip_addr="h", port=7, protocol="https", api_version=5))
    assert (peer.peer_id, peer.base_url(), peer.api_version) == ("p", "https://h:7", 5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("", 1), "ip_addr"),
        (("http://h", 1), "ip_addr"),
        (("user@h", 1), "ip_addr"),
        (("h?q", 1), "ip_addr"),
        (("h h", 1), "ip_addr"),
        ((None, 1), "ip_addr"),
        (("h", 65536), "port"),
        (("h", -2), "port"),
        (("h", "80"), "port"),
        (("h", True), "port"),
        (("h", 1, "ftp"), "protocol"),
        (("h", 1, "HTTP"), "protocol"),
    ],
    ids=repr,
)
@pytest.mark.parametrize(("endpoint", "kind"), [(AsyncRouter, "router"), (AsyncPeer, "peer")])
def test_wrong_addresses(endpoint: Any, kind: str, arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ValidationError, match=f"^{said} of a {kind} must be"):
        endpoint("e", *arguments)


@pytest.mark.parametrize("api_version", [0, "4", True, 4.0])
def test_wrong_api_version(api_version: Any) -> None:
    with pytest.raises(ValidationError, match="api_version"):
        AsyncPeer("p", "h", 1, api_version=api_version)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Transport(http2=True),
        lambda: AsyncRouter("r", "h", 1, "https", http2=True),
        lambda: AsyncClient(MictlanXURI.parse("mictlanx://r@h:1/?http2=1"), "tests", log_output_path=None),
    ],
    ids=["transport", "router", "client"],
)
def test_http2_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    monkeypatch.setitem(sys.modules, "h2", None)
    with pytest.raises(ValidationError) as caught:
        make()
    assert str(caught.value) == "http2 needs the package h2: pip install 'airflow-provider-mictlanx[http2]'"
    assert caught.value.permanent


def test_http1_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h2", None)
    AsyncRouter("r", "h", 1, "https")


@pytest.mark.parametrize(
    ("text", "router_id", "base_url"),
    [
        ("router-7@host:60666", "router-7", "http://host:60666"),
        ("router-7:host:60666", "router-7", "http://host:60666"),
        ("router-7:host/v0/mictlanx:-1", "router-7", "http://host/v0/mictlanx"),
        ("router-7:[::1]:60666", "router-7", "http://[::1]:60666"),
        ("host:60666", "router-0", "http://host:60666"),
        ("router-7@host/path:60666/?protocol=https", "router-7", "https://host/path"),
        ("router-7:host:60666?protocol=https", "router-7", "https://host"),
        ("mictlanx://router-7@host:60666/?protocol=http", "router-7", "http://host:60666"),
        ("mictlanx://router-7@host:60666", "router-7", "https://host"),
    ],
)
def test_router_from_str(text: str, router_id: str, base_url: str) -> None:
    router = AsyncRouter.from_str(text).unwrap()
    assert (router.router_id, router.base_url()) == (router_id, base_url)


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:a", "http://host:60666", "router@host:0:1", "r0@a:1,r1@b:2", "r0@h:1/?protocol=ftp", None],
)
def test_router_from_invalid_str(text: Any) -> None:
    assert type(AsyncRouter.from_str(text).unwrap_err()) is ValidationError


def test_router_from_another_router() -> None:
    known = AsyncRouter("r", "host/path", 60666, "https", api_version=5)
    router = AsyncRouter.from_router(known, True)
    assert router is not known
    assert (router.router_id, router.base_url(), router.api_version) == ("r", "https://host/path", 5)
    assert (router.http2, known.http2) == (True, False)


def test_peer_to_dict_and_empty() -> None:
    address = {"peer_id": "p", "ip_addr": "host", "port": 25000, "protocol": "http", "api_version": 4}
    assert AsyncPeer("p", "host", 25000).to_dict() == address
    assert AsyncPeer(**address).to_dict() == address  # type: ignore[arg-type]
    assert AsyncPeer.empty().peer_id == ""
