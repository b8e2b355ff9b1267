"""Disturbed uploads: no false acknowledgement, nothing is sent twice, every request ends within its bound."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from airflow_provider_mictlanx.client import IntegrityError, NetworkError, RequestTimeoutError
from airflow_provider_mictlanx.client.transport.backend import BackendFactory
from tests.robustness.hostile.answers import PATIENT
from tests.robustness.hostile.checks import (
    check_next_requests,
    outcome_of,
    transport_of,
)
from tests.robustness.hostile.uploads import CREATED, DISTURBANCES, MIDDLE, SIZE, Disturbance
from tests.support.engines import ENGINES, each_engine
from tests.support.hostile_server import Connection, serving
from tests.support.sample_bytes import pattern

DATA = pattern(SIZE)
DIGEST = hashlib.sha256(DATA).hexdigest()


async def pieces() -> AsyncGenerator[bytes]:
    for at in range(0, SIZE, 256 * 1024):
        yield DATA[at : at + 256 * 1024]


def test_table_of_disturbances_is_complete() -> None:
    assert len(DISTURBANCES) >= 18
    assert len({one.name for one in DISTURBANCES}) == len(DISTURBANCES)


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda disturbance: disturbance.name)
@pytest.mark.parametrize("content", ["bytes", "pieces"])
@each_engine
async def test_disturbed_upload_is_not_acknowledged(
    engine: BackendFactory, content: str, disturbance: Disturbance
) -> None:
    allowed = disturbance.for_httpx() if engine is ENGINES["httpx"] else disturbance
    async with serving(disturbance.script) as server, transport_of(engine) as transport:
        body: Any = DATA if content == "bytes" else pieces()
        outcome = await outcome_of(transport, "POST", f"{server.url}/upload", allowed.timeout, content=body)
        while not server.seen("/upload"):  # an early answer may arrive before the server has read the rest
            await asyncio.sleep(0.01)
        (upload,) = server.seen("/upload")  # it was sent once
        if outcome.response is not None:
            assert outcome.response.status in allowed.accepts, str(outcome)
            assert outcome.response.status >= 300 or upload.digest == DIGEST, "a false acknowledgement"
        else:
            assert allowed.may_fail, str(outcome)
            assert allowed.waits or not isinstance(outcome.error, RequestTimeoutError), "it waited for more"
        await check_next_requests(transport, server)
        assert not server.seen("/elsewhere"), "a redirect was followed"


@pytest.mark.parametrize("size", [400_000, 1_000_000])
@each_engine
async def test_short_upload_is_not_acknowledged_early(engine: BackendFactory, size: int) -> None:
    """The client's system takes all of it at once, and the server's system a part."""

    async def script(connection: Connection) -> None:
        await connection.write(CREATED)
        await connection.ignore()

    async with serving(script) as server, transport_of(engine) as transport:
        outcome = await outcome_of(transport, "POST", f"{server.url}/upload", PATIENT, content=bytes(size))
        assert isinstance(outcome.error, NetworkError), str(outcome)
        assert "before the complete body was sent" in str(outcome.error)
        await check_next_requests(transport, server)


@pytest.mark.parametrize("early", [b"", CREATED], ids=["silent", "early success"])
@each_engine
async def test_failing_source_is_raised_and_ends_no_body(engine: BackendFactory, early: bytes) -> None:
    """A body that looked complete would be stored."""
    changed = IntegrityError("asking failed: the source changed")

    async def failing() -> AsyncGenerator[bytes]:
        yield DATA[:MIDDLE]
        await asyncio.sleep(0.05)
        raise changed

    async def script(connection: Connection) -> None:
        await connection.write(early)
        await connection.read_body()
        await connection.write(CREATED)

    async with serving(script) as server, transport_of(engine) as transport:
        outcome = await outcome_of(transport, "POST", f"{server.url}/upload", 5, content=failing())
        assert outcome.error is changed or early, str(outcome)
        assert outcome.response is None, str(outcome)
        await check_next_requests(transport, server)
        assert [one.complete for one in server.seen("/upload")] == [False]
