"""The routers over https: with a certificate of a private CA, and asking clients for one."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from tests.support.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_https_with_a_certificate_of_a_private_ca(own_vss, authority) -> None:
    certificate, key = authority.issue("server")
    vss = own_vss(options=("--certificate", str(certificate), "--private-key", str(key)))
    assert vss.uri.endswith("/?protocol=https&api_version=4&http2=0")
    trusting = ssl.create_default_context(cafile=authority.certificate)
    assert httpx.get(f"{vss.api()}/peers", verify=trusting).status_code == 200
    with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
        httpx.get(f"{vss.api()}/peers")
    with vss.fault("reset"), pytest.raises(httpx.TransportError):
        httpx.get(f"{vss.api()}/peers", verify=trusting)


def test_clients_are_asked_for_a_certificate(own_vss, authority) -> None:
    certificate, key = authority.issue("server")
    options = ("--certificate", certificate, "--private-key", key, "--client-ca", authority.certificate)
    vss = own_vss(options=tuple(map(str, options)))
    trusting = ssl.create_default_context(cafile=authority.certificate)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{vss.api()}/peers", verify=trusting)
    trusting.load_cert_chain(*authority.issue("client"))
    assert httpx.get(f"{vss.api()}/peers", verify=trusting).status_code == 200


def test_certificate_files_that_are_none(own_vss, authority, tmp_path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)status 2.*none\.pem"):
        own_vss(options=("--certificate", str(tmp_path / "none.pem")))
    with pytest.raises(RuntimeError, match=r"status 2.*--certificate"):
        own_vss(options=("--client-ca", str(authority.certificate)))
