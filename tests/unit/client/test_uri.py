"""``mictlanx://`` URIs: every form of the protocol page, the odd ones too, and errors that say what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.protocol.router import AsyncRouter
from airflow_provider_mictlanx.client.transport.connections import Transport
from airflow_provider_mictlanx.client.uri import (
    MictlanXURI,
    RouterAddress,
    check_api_version,
    check_flag,
    check_protocol,
)


def base_urls(text: str) -> list[str]:
    uri = MictlanXURI.parse(text)
    transport = Transport()
    return [AsyncRouter.at(router, uri, transport).base_url() for router in uri.named_routers]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mictlanx://r0@localhost:60666?protocol=http", ["http://localhost:60666"]),
        ("mictlanx://r0@localhost:60666/?protocol=http&api_version=4&http2=0", ["http://localhost:60666"]),
        ("mictlanx://localhost:60666/?protocol=http", ["http://localhost:60666"]),
        ("mictlanx://r0@h0:1,r1@h1:65535/?protocol=http", ["http://h0:1", "http://h1:65535"]),
        ("mictlanx://r0@h0:1, r1@h1:2/?protocol=http", ["http://h0:1", "http://h1:2"]),
        ("mictlanx://r0@storage.example.org/mictlanx:60667", ["https://storage.example.org/mictlanx"]),
        ("mictlanx://r0@storage.example.org/v0/mictlanx/router:-1", ["https://storage.example.org/v0/mictlanx/router"]),
        ("mictlanx://r0@storage.example.org:0/?protocol=http", ["http://storage.example.org"]),
        ("mictlanx://r0@h/a/b:8080?protocol=http", ["http://h:8080/a/b"]),
        ("mictlanx://r0@h:60666", ["https://h"]),
        ("mictlanx://r0@h:60666/?/api_version=4", ["https://h"]),
        ("mictlanx://r0@[::1]:60666?protocol=http", ["http://[::1]:60666"]),
        ("mictlanx://r0@10.0.0.1:60666?protocol=HTTP", ["http://10.0.0.1:60666"]),
        ("MICTLANX://r0@h:1?protocol=http", ["http://h:1"]),
        ("  mictlanx://r0@h:1?protocol=http\n", ["http://h:1"]),
    ],
)
def test_forms_in_use(text: str, expected: list[str]) -> None:
    assert base_urls(text) == expected


def test_what_is_left_out_has_the_documented_default() -> None:
    uri = MictlanXURI.parse("mictlanx://h:1")
    assert (uri.protocol, uri.api_version, uri.http2) == ("https", 4, False)
    assert uri.routers[0].router_id == ""
    assert uri.named_routers[0].router_id == "router-0"


@pytest.mark.parametrize(("flag", "expected"), [("1", True), ("TRUE", True), ("yes", True), ("on", True), ("0", False)])
def test_http2(flag: str, expected: bool) -> None:
    assert MictlanXURI.parse(f"mictlanx://h:1?http2={flag}").http2 is expected


ROUTERS = st.builds(
    RouterAddress,
    host=st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?", fullmatch=True),
    port=st.none() | st.integers(1, 65535),
    path=st.from_regex(r"([a-z0-9]{1,5}(/[a-z0-9]{1,5}){0,2})?", fullmatch=True),
    router_id=st.from_regex(r"[A-Za-z0-9._-]{1,8}", fullmatch=True),
)


@given(
    st.lists(ROUTERS, min_size=1, max_size=4, unique_by=lambda router: router.router_id),
    st.sampled_from(["http", "https"]),
    st.integers(0, 9999),
    st.booleans(),
)
def test_what_is_written_is_read_back(
    routers: list[RouterAddress], protocol: str, api_version: int, http2: bool
) -> None:
    uri = MictlanXURI(tuple(routers), protocol, api_version, http2)
    assert MictlanXURI.parse(str(uri)) == uri


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("http://h:1", "begin with mictlanx://"),
        ("mictlanx://", "missing"),
        ("mictlanx://h:1,", "missing"),
        ("mictlanx://r0@", "missing"),
        ("mictlanx://h", "no port"),
        ("mictlanx://[::1]", "no port"),
        ("mictlanx://h:0x1", "port must be 1 to 65535"),
        ("mictlanx://h:65536", "65536"),
        ("mictlanx://h:-2", "-2"),
        ("mictlanx://h:١", "port must be 1 to 65535"),
        ("mictlanx://h_:1", "host must be"),
        ("mictlanx://h h:1", "host must be"),
        ("mictlanx://:1", "host must be"),
        ("mictlanx://h/a b:1", "path must be"),
        ("mictlanx://h//a:1?protocol=http", None),
        ("mictlanx://r 0@h:1", "router id"),
        ("mictlanx://r@h:1,r@g:2", "got 'r' twice"),
        ("mictlanx://h:1?protocol=ftp", "ftp"),
        ("mictlanx://h:1?api_version=x", "api_version"),
        ("mictlanx://h:1?api_version=", "api_version"),
        ("mictlanx://h:1?http2=maybe", "http2"),
        ("mictlanx://h:1?timeout=3", "timeout"),
    ],
)
def test_errors_name_what_is_wrong(text: str, said: str | None) -> None:
    if said is None:
        assert MictlanXURI.parse(text).routers[0].path == "a"
        return
    with pytest.raises(ValidationError) as caught:
        MictlanXURI.parse(text)
    assert said in str(caught.value)
    assert caught.value.permanent


@pytest.mark.parametrize(
    "text",
    [
        "mictlanx://user:s3cret@h:1",
        "mictlanx://user:s3cret@h",
        "mictlanx://user:s3cret@h:x",
        "mictlanx://user:s3cret@h h:1",
        "mictlanx://user:s3cret@w0rd@h:1",
        "mictlanx://user:s3cret,w0rd@h:1",
        "mictlanx://user:s3cret?w0rd@h:1",
        "mictlanx://user:12?w0rd@h:1",
        "mictlanx://user:s3cret/w0rd@h:1",
        "mictlanx://r0@h:1,user:s3cret@h:2",
        "mictlanx://h:1?token=s3cret",
    ],
)
def test_errors_never_echo_a_password(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MictlanXURI.parse(text)
    for piece in ("s3cret", "w0rd"):
        assert piece not in str(caught.value)


def test_no_routers_are_refused() -> None:
    with pytest.raises(ValidationError):
        MictlanXURI(())


def test_values_are_checked_one_by_one() -> None:
    assert (check_protocol("HTTPS"), check_api_version("4"), check_api_version(5), check_flag("x", True)) == (
        "https",
        4,
        5,
        True,
    )
    for check, bad in ((check_protocol, "ws"), (check_api_version, "4.0"), (check_api_version, -1)):
        with pytest.raises(ValidationError):
            check(bad)  # type: ignore[operator]
    with pytest.raises(ValidationError, match="verify"):
        check_flag("verify", "2")
