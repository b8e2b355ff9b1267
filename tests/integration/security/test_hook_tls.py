"""TLS as a connection of Airflow asks for it, against servers whose certificates are wrong in one way each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import AsyncRouter, CertificateError, NetworkError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.certificates import Authority
from tests.support.vss import LocalVSS

Connect = Callable[..., None]
Serve = Callable[..., LocalVSS]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other-ca"), "another CA")


@pytest.fixture
def serve(own_vss: Callable[..., LocalVSS]) -> Callable[..., LocalVSS]:
    """Start a local VSS with a certificate and its key, and further options."""

    def start(files: tuple[Path, Path], *options: str) -> LocalVSS:
        certificate, key = map(str, files)
        return own_vss(peers=1, options=("--certificate", certificate, "--private-key", key, *options))

    return start


@pytest.fixture(autouse=True)
def _port_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With https a router's port is not used, as in the official client; nobody can listen on 443 here."""
    monkeypatch.setattr(AsyncRouter, "https_has_port", True)


def attempt(vss: LocalVSS, connect: Connect, bucket_id: str, **extra: object) -> NetworkError | None:
    """Put an object through the hook; return the error. A server that was not trusted receives no request."""
    vss.reset_requests()
    connect(vss, password="s3cret-token", **extra)
    failed: NetworkError | None = None
    try:
        MictlanXHook().put(bucket_id, "key", "x", max_tries=1, request_timeout=20)
    except NetworkError as error:
        failed = error
    assert (vss.requests() == []) is (failed is not None)
    assert "s3cret" not in str(failed)
    return failed


def test_certificates_are_checked_unless_somebody_says_otherwise(
    authority: Authority, other: Authority, serve: Serve, connect: Connect, bucket_id: str
) -> None:
    vss = serve(authority.issue("server"))
    error = attempt(vss, connect, bucket_id)
    assert isinstance(error, CertificateError)
    assert error.permanent
    assert "certificate was refused" in str(error)
    assert "ca_file" in str(error)
    assert isinstance(attempt(vss, connect, bucket_id, ca_file=str(other.certificate)), CertificateError)
    assert attempt(vss, connect, bucket_id, ca_file=str(authority.certificate)) is None
    assert attempt(vss, connect, bucket_id, verify=False) is None


@pytest.mark.parametrize(
    ("wrong", "word"),
    [({"host": "storage.example.org"}, "mismatch"), ({"expired": True}, "expired")],
    ids=["host", "time"],
)
def test_what_is_wrong_with_a_certificate_is_said(
    authority: Authority, serve: Serve, connect: Connect, bucket_id: str, wrong: dict[str, Any], word: str
) -> None:
    vss = serve(authority.issue(word, **wrong))
    error = attempt(vss, connect, bucket_id, ca_file=str(authority.certificate))
    assert isinstance(error, CertificateError)
    assert error.permanent
    assert word in str(error)


def test_a_client_certificate_is_shown_where_it_is_asked_for(
    authority: Authority, other: Authority, serve: Serve, connect: Connect, bucket_id: str
) -> None:
    ca_file = str(authority.certificate)
    vss = serve(authority.issue("asking"), "--client-ca", ca_file)
    assert attempt(vss, connect, bucket_id, ca_file=ca_file) is not None
    for issuer, is_let_in in ((authority, True), (other, False)):
        certificate, key = map(str, issuer.issue("client"))
        error = attempt(vss, connect, bucket_id, ca_file=ca_file, client_cert=certificate, client_key=key)
        assert (error is None) is is_let_in
