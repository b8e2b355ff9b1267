"""Hostile answers over HTTP/2, which httpx carries: the rules are those of HTTP/1.1."""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path

import pytest

from airflow_provider_mictlanx.client import RequestTimeoutError
from airflow_provider_mictlanx.client.transport.httpx_backend import HttpxBackend
from tests.robustness.hostile.checks import check_next_requests, outcome_of, transport_of
from tests.robustness.hostile.http2 import CASES, Http2Case, serving_http2
from tests.robustness.hostile.test_memory import flat_memory
from tests.support.certificates import Authority

UPLOAD = bytes(8 * 1024 * 1024)


@pytest.fixture(scope="module")
def tls_with_http2(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(Path(tmp_path_factory.mktemp("http2"))).issue("http2"))
    context.set_alpn_protocols(["h2"])
    return context


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_hostile_http2_answer_is_no_wrong_body(case: Http2Case, tls_with_http2: ssl.SSLContext) -> None:
    engine = partial(HttpxBackend, http2=True)
    async with serving_http2(case.script, tls_with_http2) as server, transport_of(engine) as transport:
        await check_next_requests(transport, server)
        method, content = ("POST", UPLOAD) if case.upload else ("GET", b"")
        with flat_memory(case.name):
            outcome = await outcome_of(transport, method, f"{server.url}/case", case.timeout, content=content)
        if outcome.response is not None:
            assert (outcome.response.status, outcome.response.body) in case.accepts, str(outcome)
        else:
            assert case.may_fail, str(outcome)
            assert case.waits or not isinstance(outcome.error, RequestTimeoutError), "it waited for more"
        assert len(server.seen("/case")) == 1, "it was sent twice"
        await check_next_requests(transport, server)
