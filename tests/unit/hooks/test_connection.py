"""A connection in all its forms, as Airflow really hands them on."""

from __future__ import annotations

import json
import re
import ssl
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook, redact
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.hooks.connection import ConnectionSettings, load_settings, parse_connection
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.certificates import Authority, write_key

CONN_ID = "mictlanx_forms"
VARIABLE = "AIRFLOW_CONN_MICTLANX_FORMS"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Read a connection from the environment, through Airflow itself."""

    def look(value: str | dict[str, Any]) -> ConnectionSettings:
        monkeypatch.setenv(VARIABLE, value if isinstance(value, str) else json.dumps(value))
        return load_settings(CONN_ID, BaseHook().get_connection)

    return look


def of_extra(**extra: Any) -> ConnectionSettings:
    empty = SimpleNamespace(conn_id=CONN_ID, host=None, login=None, password=None, port=None, schema=None)
    return parse_connection(empty, {"uri": "mictlanx://r0@h0:60666/?protocol=http", **extra})


@pytest.mark.parametrize(
    ("pasted", "understood"),
    [
        (
            "mictlanx://router-0@localhost:60666/?protocol=http&api_version=4&http2=0",
            "mictlanx://router-0@localhost:60666/?protocol=http&api_version=4&http2=0",
        ),
        (
            "mictlanx://r0@h0.Example.org:60666,R1@h1:60667,r2@H2:60668/?protocol=http",
            "mictlanx://r0@h0.Example.org:60666,R1@h1:60667,r2@h2:60668/?protocol=http&api_version=4&http2=0",
        ),
        (
            "mictlanx://r0@storage.example.org/v0/mictlanx/router:60667/?protocol=https",
            "mictlanx://r0@storage.example.org/v0/mictlanx/router:60667/?protocol=https&api_version=4&http2=0",
        ),
        (
            "mictlanx://r0@a.org/p/q:60667,r1@b.org/p:60668?protocol=https&http2=1",
            "mictlanx://r0@a.org/p/q:60667,r1@b.org/p:60668/?protocol=https&api_version=4&http2=1",
        ),
        (
            "mictlanx://r0@a.org/p:60666,r1@b.org/q/r:60667,r2@c.org/s:60668/?protocol=http&http2=yes",
            "mictlanx://r0@a.org/p:60666,r1@b.org/q/r:60667,r2@c.org/s:60668/?protocol=http&api_version=4&http2=1",
        ),
        (
            "mictlanx://r0@h0:60666,r1@b.org/p:60667,r2@c.org/q:60668?protocol=http",
            "mictlanx://r0@h0:60666,r1@b.org/p:60667,r2@c.org/q:60668/?protocol=http&api_version=4&http2=0",
        ),
        (
            "mictlanx://r0@a.org/a%20b/100%25:60666,r1@b.org/q:60667/?protocol=http",
            "mictlanx://r0@a.org/a%20b/100%25:60666,r1@b.org/q:60667/?protocol=http&api_version=4&http2=0",
        ),
        (
            "mictlanx://r0@h0:60666?/protocol=http&api_version=5",
            "mictlanx://r0@h0:60666/?protocol=http&api_version=5&http2=0",
        ),
        ("mictlanx://h0:443", "mictlanx://router-0@h0:443/?protocol=https&api_version=4&http2=0"),
        ("mictlanx://h0", "mictlanx://router-0@h0:443/?protocol=https&api_version=4&http2=0"),
        (
            "mictlanx://r0@h0:60666/?protocol=https",
            "mictlanx://r0@h0:60666/?protocol=https&api_version=4&http2=0",
        ),
        ("mictlanx://r0@[::1]:60666/?protocol=http", "mictlanx://r0@[::1]:60666/?protocol=http&api_version=4&http2=0"),
    ],
)
def test_pasted_uri_is_put_together_again(settings: Any, pasted: str, understood: str) -> None:
    found = settings(pasted)
    assert str(found.uri) == understood
    assert found.token is None


def test_token_in_a_pasted_uri_of_one_router(settings: Any) -> None:
    found = settings("mictlanx://r0:s3cr%2Ft@h0:60666/?protocol=http")
    assert str(found.uri) == "mictlanx://r0@h0:60666/?protocol=http&api_version=4&http2=0"
    assert found.token == "s3cr/t"


def test_token_in_a_pasted_uri_of_several_routers_is_an_error(settings: Any) -> None:
    """Airflow tears it so that the first router would become a part of the token, and go to the last one."""
    with pytest.raises(ValidationError, match=r"a URI of several routers must not contain a token.*as JSON") as caught:
        settings("mictlanx://r0:s3cret@h0:60666,r1@h1:60667/?protocol=http")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("pasted", "understood"),
    [
        ("http://h0:60666", "mictlanx://router-0@h0:60666/?protocol=http&api_version=4&http2=0"),
        ("http://h0:60666/vss", "mictlanx://router-0@h0/vss:60666/?protocol=http&api_version=4&http2=0"),
        ("https://h0/vss/r0", "mictlanx://router-0@h0/vss/r0:443/?protocol=https&api_version=4&http2=0"),
        ("http://h0", "mictlanx://router-0@h0:80/?protocol=http&api_version=4&http2=0"),
        ("http://h0:443/https", "mictlanx://router-0@h0:443/?protocol=https&api_version=4&http2=0"),
    ],
)
def test_pasted_url_of_a_router_says_its_protocol(settings: Any, pasted: str, understood: str) -> None:
    assert str(settings(pasted).uri) == understood


@pytest.mark.parametrize(
    ("connection", "understood"),
    [
        (
            {"host": "h0", "port": 60667, "login": "main", "extra": {"protocol": "http"}},
            "mictlanx://main@h0:60667/?protocol=http&api_version=4&http2=0",
        ),
        (
            {"host": "h0", "schema": "http", "port": 1},
            "mictlanx://router-0@h0:1/?protocol=http&api_version=4&http2=0",
        ),
        ({"host": "http://h0:60666/a/b"}, "mictlanx://router-0@h0/a/b:60666/?protocol=http&api_version=4&http2=0"),
        ({"host": "http://h0/a", "port": 7}, "mictlanx://router-0@h0/a:7/?protocol=http&api_version=4&http2=0"),
        ({"host": "http://h0:1", "port": 2}, "mictlanx://router-0@h0:1/?protocol=http&api_version=4&http2=0"),
        (
            {"host": "http://h0, http://h1:2", "port": 7},
            "mictlanx://router-0@h0:7,router-1@h1:2/?protocol=http&api_version=4&http2=0",
        ),
        (
            {"extra": {"routers": ["http://h0", "http://h1:2/p", "mictlanx://h2/q,h3:4/?protocol=http"]}, "port": 7},
            "mictlanx://router-0@h0:7,router-1@h1/p:2,router-2@h2/q:7,router-3@h3:4/?protocol=http&api_version=4&http2=0",
        ),
        # What the page of connections sends for a test, where the connection has no port.
        (
            {"host": "", "login": "", "schema": "", "port": 0, "extra": {"routers": ["http://h0:1", "http://h1"]}},
            "mictlanx://router-0@h0:1,router-1@h1:80/?protocol=http&api_version=4&http2=0",
        ),
        (
            {"host": "h0", "schema": "http", "port": 0},
            "mictlanx://router-0@h0:60666/?protocol=http&api_version=4&http2=0",
        ),
        ({"host": "http://h0"}, "mictlanx://router-0@h0:80/?protocol=http&api_version=4&http2=0"),
        ({"host": "https://h0/a/"}, "mictlanx://router-0@h0/a:443/?protocol=https&api_version=4&http2=0"),
        (
            {"host": "mictlanx://a@h0:1,b@h1:2/?protocol=http"},
            "mictlanx://a@h0:1,b@h1:2/?protocol=http&api_version=4&http2=0",
        ),
        (
            {"host": "h0:1,h1:2", "extra": {"protocol": "http", "api_version": "3", "http2": "on"}},
            "mictlanx://router-0@h0:1,router-1@h1:2/?protocol=http&api_version=3&http2=1",
        ),
        (
            {"extra": {"uri": "mictlanx://h0:60666,h1:60667/?protocol=http"}},
            "mictlanx://router-0@h0:60666,router-1@h1:60667/?protocol=http&api_version=4&http2=0",
        ),
        (
            {"extra": {"routers": ["http://h0:1", "http://h1:2/p", "mictlanx://main@h2:3,h3:4/?protocol=http"]}},
            "mictlanx://router-0@h0:1,router-1@h1/p:2,main@h2:3,router-3@h3:4/?protocol=http&api_version=4&http2=0",
        ),
        (
            {"extra": {"routers": "http://h0:1\r\n\n  http://h1:2 ;http://[::1]:4 http://h4:5\n"}},
            "mictlanx://router-0@h0:1,router-1@h1:2,router-2@[::1]:4,router-3@h4:5/?protocol=http&api_version=4&http2=0",
        ),
        (
            {"extra": {"routers": '["http://h0:1", "http://h1:2"]', "api_version": 3, "http2": True}},
            "mictlanx://router-0@h0:1,router-1@h1:2/?protocol=http&api_version=3&http2=1",
        ),
        (  # The field Protocol of the form, and a line that says it for the others.
            {"extra": {"routers": ["mictlanx://h0:1"], "protocol": "http"}},
            "mictlanx://router-0@h0:1/?protocol=http&api_version=4&http2=0",
        ),
        (
            {"host": "h0", "extra": {"protocol": "https"}},
            "mictlanx://router-0@h0:443/?protocol=https&api_version=4&http2=0",
        ),
        (
            {"host": "h0", "extra": {"protocol": "http"}},
            "mictlanx://router-0@h0:60666/?protocol=http&api_version=4&http2=0",
        ),
        (
            {"extra": {"routers": ["mictlanx://h0:1", "http://h1:2"]}},
            "mictlanx://router-0@h0:1,router-1@h1:2/?protocol=http&api_version=4&http2=0",
        ),
        (
            {"extra": {"routers": ["mictlanx://h0/p:-1,h1/p:0,h2:443"]}},
            "mictlanx://router-0@h0/p:0,router-1@h1/p:0,router-2@h2:443/?protocol=https&api_version=4&http2=0",
        ),
        (
            {"extra": {"routers": ["mictlanx://router-1@h0:1?protocol=http", "http://h1:2", "http://h2:3"]}},
            "mictlanx://router-1@h0:1,router-2@h1:2,router-3@h2:3/?protocol=http&api_version=4&http2=0",
        ),
    ],
)
def test_other_forms(settings: Any, connection: dict[str, Any], understood: str) -> None:
    assert str(settings({"conn_type": "mictlanx", **connection}).uri) == understood


@pytest.mark.parametrize(
    ("connection", "why"),
    [
        ({}, "exactly one of routers, uri and host must be set, got none"),
        ({"extra": {"routers": []}}, "got none"),
        ({"extra": {"routers": "\n  \n"}}, "got none"),
        ({"extra": {"routers": [" "]}}, "at least one router must be given, got none"),
        (
            {"host": "h0", "extra": {"uri": "mictlanx://h0:1"}},
            "exactly one of routers, uri and host must be set, got uri and host",
        ),
        ({"extra": {"uri": "mictlanx://r0@h0:60666/vss?protocol=http"}}, "a path stands before the port"),
        ({"extra": {"routers": ["h0:60666"]}}, "must begin with .*, got 'h0:60666'"),
        ({"extra": {"routers": ["ftp://h0:60666"]}}, "must begin with .*, got 'ftp://h0:60666'"),
        ({"extra": {"routers": [{"host": "h0"}]}}, "a str with one per line, got dict"),
        ({"extra": {"routers": '["http://h0:1"'}}, "must be a valid JSON list"),
        (
            {"extra": {"routers": ["http://h0:1", "https://h1"]}},
            "protocol must be the same for all routers, got http and https",
        ),
        (
            {"extra": {"routers": ["https://h0", "mictlanx://h1:1"], "protocol": "http"}},
            "protocol must be the same for all routers, got http and https",
        ),
        (
            {"extra": {"routers": ["mictlanx://h0:1?protocol=http", "mictlanx://h1:1?protocol=http&api_version=3"]}},
            "api_version must be the same for all routers, got 3 and 4",
        ),
        (
            {"extra": {"uri": "mictlanx://h0:1?protocol=http", "http2": "1"}},
            "http2 must be the same for all routers, got False and True",
        ),
        (
            {"extra": {"uri": "mictlanx://h0:1?protocol=http", "protocol": "https"}},
            "protocol must be the same for all routers, got http and https",
        ),
        ({"extra": {"routers": ["https://h0:8443/p"]}}, "must be 443 for https, got 8443"),
        ({"extra": {"routers": ["http://h0:99999"]}}, "[Pp]ort"),
        ({"extra": {"routers": ["http://h0:1/?protocol=http"]}}, "must not contain a query"),
        ({"extra": {"uri": "mictlanx://h0:1/?protocol=gopher"}}, "protocol must be http or https"),
        ({"extra": {"uri": "mictlanx://h0/?protocol=http"}}, "has no port"),
        ({"host": "https://h0", "port": 60666}, "must be 443 for https, got 60666"),
        ({"extra": {"routers": ["http://h0"]}, "port": 99999}, "port must be 1 to 65535, got '99999'"),
        ({"host": "http://h0:1", "schema": "https"}, "login and schema must be empty"),
        ({"host": "h0", "port": 1, "schema": "some/path"}, "port must be 1 to 65535"),
        ({"extra": {"routers": ["mictlanx://a@h0:1?protocol=http", "mictlanx://a@h1:1?protocol=http"]}}, "'a'"),
    ],
)
def test_what_is_not_understood_shows_the_accepted_forms(settings: Any, connection: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why) as caught:
        settings({"conn_type": "mictlanx", **connection})
    message = str(caught.value)
    assert message.startswith(f"connection '{CONN_ID}': ")
    assert "mictlanx://router-0@host:60666,router-1@host:60667/?protocol=http" in message
    assert len(message) < 500
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("connection", "port"),
    [
        ({"host": "127.0.0.1", "port": 60666}, "60666 of router 127.0.0.1"),
        ("mictlanx://r0@127.0.0.1:60666", "60666 of router r0@127.0.0.1"),
        ("mictlanx://r0@h0/vss/r0:60667/?http2=0", "60667 of router r0@h0/vss/r0"),
        ("mictlanx://r0@h0:443,r1@h1:60667", "60667 of router r1@h1"),
        ({"extra": {"uri": "mictlanx://h0:60666"}}, "60666 of router h0"),
        ({"extra": {"routers": ["mictlanx://h0"]}, "port": 8080}, "8080 of router h0"),
        ({"extra": {"routers": ["https://h0", "mictlanx://h1:8080"]}}, None),
    ],
)
def test_port_without_protocol_is_an_error_with_both_ways_out(settings: Any, connection: Any, port: str | None) -> None:
    """It would be https on port 443: the request would go to another place, and with http the token would be readable."""
    written = connection if isinstance(connection, str) else {"conn_type": "mictlanx", **connection}
    if port is None:  # a line that says it speaks for all
        assert settings(written).uri.protocol == "https"
        return
    with pytest.raises(ValidationError, match=f"protocol must be http or https for port {port}, got none") as caught:
        settings(written)
    message = str(caught.value)
    assert message.startswith(f"connection '{CONN_ID}': ")
    assert "http uses this port" in message
    assert "https always uses port 443" in message
    assert "Protocol" in message


@pytest.mark.parametrize("conn_type", ["postgres", "aws", "Postgres", "generic"])
def test_connection_of_another_type_is_diagnosed(settings: Any, conn_type: str) -> None:
    with pytest.raises(
        ValidationError, match=f"^connection '{CONN_ID}' is of type {conn_type}, not mictlanx"
    ) as caught:
        settings({"conn_type": conn_type, "host": "db", "login": "me", "password": "s3cret", "extra": {"sslmode": "x"}})
    assert "s3cret" not in str(caught.value)
    assert "sslmode" not in str(caught.value)
    assert caught.value.permanent


@pytest.mark.parametrize("conn_type", ["mictlanx", "MictlanX", None])
def test_type_of_the_connection_may_be_ours_or_missing(settings: Any, conn_type: str | None) -> None:
    connection = {"host": "http://h0:1"} if conn_type is None else {"host": "http://h0:1", "conn_type": conn_type}
    assert settings(connection).uri.protocol == "http"


@pytest.mark.parametrize(
    "refused",
    [
        "mictlanx://h0:60666,h1:60667/?protocol=http",
        "mictlanx://r0:s3cret@h0:-1?protocol=https",
        '{"conn_type": "mictlanx", "password": "s3cret"',
    ],
)
def test_connection_refused_by_airflow_differs_from_missing(settings: Any, refused: str) -> None:
    with pytest.raises(ValidationError, match=f"{VARIABLE} is set, but Airflow's parser rejects") as caught:
        settings(refused)
    assert f'{VARIABLE}=\'{{"conn_type": "mictlanx", "extra": {{"uri": "mictlanx://' in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "h1:60667" not in str(caught.value)


def test_missing_connection_tells_how_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ValidationError, match=f"Airflow has no such connection.*set {VARIABLE}") as caught:
        load_settings(CONN_ID, BaseHook().get_connection)
    assert str(caught.value).startswith(f"reading connection '{CONN_ID}' failed: ")
    assert "mictlanx://router-0@host:60666" in str(caught.value)


def test_every_field_has_its_type(settings: Any) -> None:
    as_text = settings(
        {
            "conn_type": "mictlanx",
            "password": "s3cret-token",
            "extra": {
                "uri": "mictlanx://r0@h0:1/?protocol=http",
                "verify": "False",
                "client_id": " etl ",
                "headers": "X-Tenant: genomics\nX-Key: a: b\n",
                "timeout": "30",
                "chunk_size": "8MB",
                "max_concurrency": "4",
                "ca_file": "",
                "client_cert": None,
            },
        }
    )
    typed = settings(
        {
            "conn_type": "mictlanx",
            "password": "s3cret-token",
            "extra": {
                "routers": ["mictlanx://r0@h0:1/?protocol=http"],
                "verify": False,
                "client_id": "etl",
                "headers": {"X-Tenant": "genomics", "X-Key": "a: b"},
                "timeout": 30,
                "chunk_size": "8MB",
                "max_concurrency": 4,
            },
        }
    )
    assert as_text == typed
    assert typed.token == "s3cret-token"
    assert (typed.verify, typed.timeout, typed.max_concurrency) == (False, 30.0, 4)
    assert typed.headers == {"X-Tenant": "genomics", "X-Key": "a: b"}


def test_defaults() -> None:
    found = of_extra()
    assert (found.verify, found.client_id, found.token, dict(found.headers)) == (True, "airflow", None, {})
    assert (found.timeout, found.chunk_size, found.max_concurrency) == (None, None, None)
    assert found.tls() is True


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"verfy": False}, "extra must only contain .*verify, .*got 'verfy'; did you mean 'verify'?"),
        ({"request_timeout": 30}, "got 'request_timeout'; did you mean 'timeout'?"),
        ({"token": "s3cret"}, "got 'token'; the token is the connection's password"),
        ({"zone": "mx"}, "got 'zone'$"),
        ({"verify": "maybe"}, "verify must be one of"),
        ({"timeout": "soon"}, "timeout must be a number of seconds above 0, got 'soon'"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"timeout": "nan"}, "timeout"),
        ({"max_concurrency": 1.5}, "max_concurrency must be an int from 1 on, got 1.5"),
        ({"max_concurrency": "-1"}, "max_concurrency"),
        ({"max_concurrency": "inf"}, "max_concurrency"),
        ({"chunk_size": "abc"}, "chunk_size must be a size such as '256kb', '1MB' or '8MiB', got 'abc'"),
        ({"chunk_size": 0.2}, "chunk_size"),
        ({"client_id": 7}, "client_id must be a Unicode str without NUL characters, got 7"),
        ({"client_cert": "a\0b"}, "client_cert must be a Unicode str without NUL characters, got 'a"),
        ({"client_key": "/k.pem"}, "client_key must be empty without client_cert, got '/k.pem'"),
        ({"ca_file": "/ca.pem", "verify": False}, "ca_file must be empty if verify is False, got '/ca.pem'"),
        ({"uri": "http://user:s3cret@h0"}, "must not contain a user or password, got 'http://h0'"),
        ({"uri": "http://user:s3cret/x@h0"}, "must not contain a user or password, got 'http://h0'"),
        ({"uri": "http://user:s3cret?#x@h0"}, "must not contain a user or password, got 'http://h0'"),
        ({"headers": ["X-A"]}, "headers must be an object such as .*, got list"),
        ({"headers": "X-A"}, "Name: value"),
        ({"headers": '{"X-A": "s3cret'}, "headers must be valid JSON"),
        ({"headers": {"X A": "s3cret"}}, "headers must have valid header names, got 'X A'"),
        ({"headers": {"X-A": "s3cret\r\nX-B: 1"}}, "header X-A must contain only printable ASCII"),
        ({"headers": {"X-A": {"s3cret": 1}}}, "header X-A must be str, int or float, got dict"),
    ],
)
def test_wrong_field_is_named_and_secrets_are_not(extra: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why) as caught:
        of_extra(**extra)
    assert "s3cret" not in str(caught.value)


def test_extra_that_is_no_json_is_told(settings: Any) -> None:
    """Airflow reads it as an empty extra."""
    with pytest.raises(
        ValidationError, match="extra must be a JSON object, got a str that is not valid JSON"
    ) as caught:
        settings(json.dumps({"conn_type": "mictlanx", "host": "h0", "port": 60666, "extra": "{protocol: s3cret}"}))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("extra", ["[1]", "5", "true"])
def test_extra_that_is_no_object_is_told(settings: Any, extra: str) -> None:
    with pytest.raises(
        ValidationError,
        match=r"(extra must be a JSON object, got|Airflow's parser rejects its value).*Accepted forms of a MictlanX",
    ):
        settings(json.dumps({"conn_type": "mictlanx", "host": "h0", "extra": extra}))


@pytest.mark.parametrize("conn_id", [None, "", 5, "a\0b", "a\ud800"])
def test_what_is_no_connection_id_is_told(conn_id: Any) -> None:
    told = "mictlanx_conn_id must be a non-empty Unicode str"
    with pytest.raises(ValidationError, match=told):
        load_settings(conn_id, BaseHook().get_connection)
    with pytest.raises(ValidationError, match=told):
        MictlanXHook(conn_id).exists("bucket", "key")
    well, message = MictlanXHook(conn_id).test_connection()
    assert not well
    assert message.startswith(told)


def test_token_has_to_fit_into_a_header(settings: Any) -> None:
    for token in ("s3cret token", "s3cret\n", "s3crét"):
        with pytest.raises(ValidationError, match="the token") as caught:
            settings({"conn_type": "mictlanx", "password": token, "extra": {"uri": "mictlanx://h0:1?protocol=http"}})
        assert token not in str(caught.value)


def test_authorization_is_given_once(settings: Any) -> None:
    extra = {"uri": "mictlanx://h0:1?protocol=http", "headers": {"authorization": "Basic s3cret"}}
    assert settings({"conn_type": "mictlanx", "extra": extra}).headers == {"authorization": "Basic s3cret"}
    with pytest.raises(ValidationError, match="headers must not contain Authorization"):
        settings({"conn_type": "mictlanx", "password": "token", "extra": extra})


def test_repr_shows_no_secret(settings: Any) -> None:
    extra = {"uri": "mictlanx://h0:1?protocol=http", "headers": {"X-Key": "header-s3cret"}}
    found = settings({"conn_type": "mictlanx", "password": "token-s3cret", "extra": extra})
    assert set(found.secrets) == {"token-s3cret", "header-s3cret"}
    assert "s3cret" not in repr(found)


def test_secrets_are_masked_in_logs(settings: Any) -> None:
    value, token = uuid.uuid4().hex, uuid.uuid4().hex
    extra = {"uri": "mictlanx://h0:1?protocol=http", "headers": {"X-Plain-Name": value}}
    settings({"conn_type": "mictlanx", "password": token, "extra": extra})
    assert redact(f"a {value} and a {token}") == "a *** and a ***"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate and its key, another key, a key with a passphrase, and a file that is none of these."""
    folder = tmp_path_factory.mktemp("pem")

    authority = Authority(folder, "me")
    for name, path in (("cert", authority.certificate), ("key", authority.key)):
        (folder / name).write_bytes(path.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    write_key(key, folder / "other")
    write_key(key, folder / "locked", b"x")
    (folder / "text").write_text("no certificate")
    return {name: str(folder / name) for name in ("cert", "key", "other", "locked", "text", "missing")}


HTTPS = {"uri": "mictlanx://h0:1/?protocol=https"}


def test_tls_files_make_a_context(pem: dict[str, str]) -> None:
    context = of_extra(**HTTPS, ca_file=pem["cert"], client_cert=pem["cert"], client_key=pem["key"]).tls()
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert [dict(pairs[0] for pairs in ca["subject"])["commonName"] for ca in context.get_ca_certs()] == ["me"]
    unverified = of_extra(**HTTPS, verify=False, client_cert=pem["cert"], client_key=pem["key"]).tls()
    assert isinstance(unverified, ssl.SSLContext)
    assert unverified.verify_mode is ssl.CERT_NONE
    assert of_extra(**HTTPS, verify=False).tls() is False
    assert of_extra(ca_file=pem["missing"]).tls() is True, "http needs no certificates"


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"ca_file": "missing"}, r"ca_file '.*missing' can't be read on this machine: No such file"),
        ({"ca_file": "text"}, r"ca_file must be a PEM file with certificates, got '.*text'"),
        ({"client_cert": "missing"}, r"client_cert '.*missing' can't be read"),
        ({"client_cert": "cert", "client_key": "missing"}, r"client_key '.*missing' can't be read"),
        ({"client_cert": "cert"}, r"client_cert '.*cert' \(client_key is not set\) can't be used"),
        ({"client_cert": "cert", "client_key": "other"}, r"client_key '.*other' can't be used"),
        ({"client_cert": "cert", "client_key": "locked"}, r"client_key '.*locked' can't be used.*no passphrase"),
        ({"client_cert": "text", "client_key": "key"}, r"client_cert '.*text'"),
    ],
)
def test_tls_file_that_does_not_do_is_named(pem: dict[str, str], files: dict[str, str], why: str) -> None:
    with pytest.raises(ValidationError, match=why) as caught:
        of_extra(**HTTPS, **{name: pem[file] for name, file in files.items()}).tls()
    assert str(caught.value).startswith(f"connection '{CONN_ID}': ")


def test_tls_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"ca_file .* can't be read on this machine: Is a directory"):
        of_extra(**HTTPS, ca_file=str(tmp_path)).tls()


def test_examples_of_the_documentation_are_understood(settings: Any) -> None:
    page = (Path(__file__).parents[3] / "docs" / "connection.md").read_text(encoding="utf-8")
    pasted, written = re.findall(r"AIRFLOW_CONN_MICTLANX_DEFAULT='([^']*)'", page)
    assert [router.router_id for router in settings(pasted).uri.routers] == ["router-0", "router-1"]
    found = settings(written)
    assert [router.host for router in found.uri.routers] == ["a.example.org", "b.example.org"]
    assert (found.token, found.chunk_size, found.ca_file) == ("THE-TOKEN", "8MB", "/etc/ssl/our-ca.pem")
    (with_token,) = re.findall(r"`(mictlanx://router-0:\S+)`", page)
    assert settings(with_token).token == "THE-TOKEN"
    for refused in re.findall(r"`(mictlanx://a:60666,b:60667/)`", page):
        with pytest.raises(ValidationError, match="Airflow's parser rejects"):
            settings(refused)
