"""Headers that can be sent, and secrets that are shown nowhere."""

from __future__ import annotations

import ssl
import traceback
from typing import Any

import httpx
import pytest

from airflow_provider_mictlanx.client.errors import (
    ConnectFailedError,
    NetworkError,
    ValidationError,
)
from airflow_provider_mictlanx.client.transport.connections import Transport
from airflow_provider_mictlanx.client.transport.tls import tls_context


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Key": "a\r\nInjected: yes"},
        {"X-Key": "a\nb"},
        {"X-Key": "a\0b"},
        {"X-Key": " a"},
        {"X-Key": "a "},
        {"X-Key": "s3cr\u00e9t"},
        {"X-Key": 1},
        {"X-Key": None},
        {"X Key": "a"},
        {"X-Key:": "a"},
        {"": "a"},
        {"X-K\u00e9y": "a"},
        {1: "a"},
    ],
    ids=str,
)
def test_headers_that_can_not_be_sent(headers: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Transport(headers=headers)
    assert "s3cr" not in str(caught.value)
    assert "Injected" not in str(caught.value)


def test_headers_that_can_be_sent() -> None:
    Transport(token="abc.def-ghi", headers={"X-Key": "a b\tc".replace("\t", " "), "x_y": ""})


@pytest.mark.parametrize("token", ["s3cret\r\nx: y", "s3cr\u00e9t", "s3cret\n"])
def test_bad_token_is_not_shown(token: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Transport(token=token)
    assert "s3cr" not in str(caught.value)
    assert "Authorization" in str(caught.value)


async def test_secrets_are_in_no_repr_and_no_error() -> None:
    transport = Transport(token="s3cret-token", headers={"X-Key": "s3cret-header"})
    try:
        with pytest.raises(ConnectFailedError) as caught:
            await transport.send("GET", "http://127.0.0.1:1/", action="asking", timeout=5, verify=False)
        for text in (repr(transport), str(transport), str(caught.value), repr(caught.value)):
            assert "s3cret" not in text
        assert "asking" in str(caught.value)
    finally:
        await transport.aclose()


async def test_what_http2_says_of_a_server_is_in_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send(*args: Any, **kwargs: Any) -> Any:
        half = b"s3cret-to".hex()
        raise httpx.RemoteProtocolError(
            f"<ConnectionTerminated error_code:2, last_stream_id:0, additional_data:{half}>"
        )

    pytest.importorskip("h2")
    transport = Transport(token="s3cret-token", http2=True)
    monkeypatch.setattr(httpx.AsyncClient, "send", send)
    with pytest.raises(NetworkError) as caught:
        await transport.send("GET", "https://127.0.0.1:1/", action="asking", timeout=5, verify=False)
    shown = "".join(traceback.format_exception(caught.value))
    assert "ConnectionTerminated, error code 2" in shown
    assert b"s3cret".hex() not in shown
    await transport.aclose()


async def test_bad_header_of_a_request_is_refused_before_it_is_sent() -> None:
    transport = Transport()
    with pytest.raises(ValidationError):
        await transport.send(
            "GET", "http://127.0.0.1:1/", action="x", timeout=5, verify=False, headers={"a": "b\r\nc: d"}
        )
    await transport.aclose()


def test_certificates_are_checked_when_told() -> None:
    checked, unchecked = tls_context(True), tls_context(False)
    assert (checked.verify_mode, checked.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (unchecked.verify_mode, unchecked.check_hostname) == (ssl.CERT_NONE, False)


def test_ca_file_that_can_not_be_read_is_refused(tmp_path: Any) -> None:
    with pytest.raises(ValidationError, match=r"none\.pem"):
        tls_context(str(tmp_path / "none.pem"))
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(ValidationError, match=r"bad\.pem"):
        tls_context(str(tmp_path / "bad.pem"))
