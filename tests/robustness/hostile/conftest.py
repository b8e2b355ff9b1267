"""Fixtures of the hostile server's tests."""

from __future__ import annotations

import ssl

import pytest

from airflow_provider_mictlanx.client.transport import httpx_backend
from tests.support.certificates import Authority


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of requests end by their timeout here: httpx has less time to end each of them in order."""
    monkeypatch.setattr(httpx_backend, "GRACE", 0.1)


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """Make a server's TLS context; requests do not verify its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path_factory.mktemp("tls")).issue("hostile"))
    return context
