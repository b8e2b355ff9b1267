"""The time that a router waits for a hung peer, which depends on the request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from airflow_provider_mictlanx.local_vss import peer as peer_module
from airflow_provider_mictlanx.local_vss.faults import Fault
from airflow_provider_mictlanx.local_vss.options import Options
from airflow_provider_mictlanx.local_vss.request_log import RequestLog
from airflow_provider_mictlanx.local_vss.router import Router
from airflow_provider_mictlanx.local_vss.storage_space import StorageSpace


@pytest.fixture
def space(tmp_path: Path) -> Iterator[StorageSpace]:
    """A storage space with one peer, which hangs."""
    space = StorageSpace(Options(data=tmp_path, peers=1))
    space.faults["hung"] = Fault(kind="peer_hung", peer="peer-0")
    yield space
    space.close()


@pytest.mark.parametrize(
    ("method", "path", "seconds"),
    [
        ("GET", "/buckets/b/metadata/ball_0", 300),
        ("GET", "/buckets/b/metadata", 120),
        ("GET", "/buckets/b/metadata/ball/chunks", 120),
        ("GET", "/buckets/b/ball_0", 120),
        ("DELETE", "/buckets/b/ball_0", 30),
        ("GET", "/buckets/b/ball_0/size", 10),
    ],
)
async def test_wait_for_hung_peer_depends_on_the_request(
    space: StorageSpace, monkeypatch: pytest.MonkeyPatch, method: str, path: str, seconds: float
) -> None:
    space.placement.add("b", "ball_0", ["peer-0"])
    clock = [0.0]

    async def pass_time(_: float) -> None:
        clock[0] += 1

    # The modules themselves are not changed: the event loop uses them.
    monkeypatch.setattr(peer_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(peer_module, "asyncio", SimpleNamespace(sleep=pass_time))
    app = Router("router-0", space, RequestLog(), lambda *_: None).application()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://router/api/v4") as client:
        await client.request(method, path)
    assert clock[0] == seconds


async def test_wait_ends_after_the_seconds_of_the_fault(space: StorageSpace) -> None:
    space.faults["hung"] = Fault(kind="peer_hung", peer="peer-0", seconds=0.05)
    started = time.monotonic()
    await space.peers["peer-0"].wait_while_hung()
    assert 0.05 <= time.monotonic() - started < 60
