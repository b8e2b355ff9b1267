"""Requests to a hostile server, and what each of them must keep to on every engine."""

from __future__ import annotations

import asyncio
import time
import traceback
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from airflow_provider_mictlanx.client import MictlanXError, ValidationError
from airflow_provider_mictlanx.client.transport.backend import BackendFactory
from airflow_provider_mictlanx.client.transport.connections import Response, Transport
from tests.robustness.hostile.http2 import Http2Server
from tests.support.hostile_server import HostileServer

TOKEN = "s3cret-token-of-the-tests"
SLACK = 20.0
"""How much later than its timeout a request may end on a busy machine (seconds)."""


@asynccontextmanager
async def transport_of(engine: BackendFactory) -> AsyncIterator[Transport]:
    """Open a ``Transport`` on an engine."""
    transport = Transport(token=TOKEN, backend_factory=engine)
    try:
        yield transport
    finally:
        await transport.aclose()


@dataclass(frozen=True)
class Outcome:
    """The outcome of a request: a response, or an error of the client."""

    response: Response | None
    error: MictlanXError | None
    seconds: float

    def __str__(self) -> str:
        if self.response is not None:
            return f"status {self.response.status}, {len(self.response.body)} bytes: {self.response.body[:80]!r}"
        return f"{type(self.error).__name__}: {self.error}"


async def outcome_of(transport: Transport, method: str, url: str, timeout: float, **request: Any) -> Outcome:
    """Send a request; a hang, a late end or an error that is not the client's own fails the test."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(timeout + SLACK):
            response = await transport.send(method, url, action="asking", timeout=timeout, verify=False, **request)
    except MictlanXError as error:
        check_error(error)
        found = Outcome(None, error, time.monotonic() - began)
    else:
        found = Outcome(response, None, time.monotonic() - began)
    assert found.seconds < timeout + SLACK, f"{found.seconds:.1f} s passed: the loop was blocked"
    return found


def check_error(error: MictlanXError) -> None:
    """Require a short message of one line that begins with the action, and no secret anywhere."""
    message = str(error)
    assert message.startswith("asking failed: "), message
    assert message.isprintable(), message
    assert len(message) < 500, message
    assert not isinstance(error, ValidationError), "the server's fault must not be reported as the caller's"
    shown = "".join(traceback.format_exception(error))
    assert TOKEN not in shown
    assert TOKEN[:16].encode().hex() not in shown


async def check_next_requests(transport: Transport, server: HostileServer | Http2Server) -> None:
    """Require that the following requests to the same server read their own answers; the first of them may fail."""
    async with asyncio.timeout(5):
        await server.settle()
    for attempt, timeout in enumerate((2, 10)):
        word = uuid.uuid4().hex
        outcome = await outcome_of(transport, "GET", f"{server.url}/good/{word}", timeout)
        if outcome.response is not None:
            answer = (outcome.response.status, outcome.response.body)
            assert answer == (200, word.encode()), "the next request read another one's answer"
            (request,) = server.seen(f"/good/{word}")
            assert "cookie" not in request.headers
        else:
            assert attempt == 0, str(outcome)
