"""
A router is killed in the middle of an upload and is back 10 s later: nothing fails, with the documented defaults.

Each test takes as long as the router is down, so only ``make test-slow`` runs them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXPutOperator
from tests.support.addresses import free_port, reserved
from tests.support.airflow_bulks import put_bulk
from tests.support.operator_runs import run
from tests.support.sample_bytes import pattern
from tests.support.vss import LocalVSS

pytestmark = pytest.mark.slow

DOWN = 10.0
"""Seconds from the kill to the start."""

SIZE = 64 * 1024 * 1024
BALLS = 60
BALL_SIZE = 200_000


@pytest.fixture(params=["one router", "one of two routers is dead"])
def uri(request: pytest.FixtureRequest, storage: LocalVSS) -> str:
    others = "" if request.param == "one router" else f",dead@127.0.0.1:{free_port()}"
    return f"mictlanx://r0@127.0.0.1:{storage.port}{others}/?protocol=http"


@pytest.fixture
def storage(own_vss: Callable[..., LocalVSS]) -> LocalVSS:
    return own_vss()


@pytest.fixture
def hook(uri: str, monkeypatch: pytest.MonkeyPatch) -> MictlanXHook:
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", uri)
    return MictlanXHook()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(pattern(SIZE))
    return path


@contextmanager
def restarted(storage: LocalVSS, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Kill the storage in the middle of the block's upload, and start it 10 s later; the log has one wait."""
    storage.set_fault("latency", method="POST", path="/chunked", seconds=0.05)  # it ends with the kill

    def restart() -> None:
        while len(storage.requests("POST", "/chunked$", server="router")) < 12:
            time.sleep(0.02)
        storage.kill()
        with reserved(storage.port, *map(storage.peer_port, range(storage.peers))):
            time.sleep(DOWN)
        storage.start()

    with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.INFO, "airflow_provider_mictlanx"):
        restarting = pool.submit(restart)
        yield
        assert restarting.done(), "the upload was over before the kill"
        restarting.result()
    assert (caplog.text.count("waiting up to 20 s for"), caplog.text.count(" answered after ")) == (1, 1), caplog.text


async def test_put(storage: LocalVSS, uri: str, caplog: pytest.LogCaptureFixture) -> None:
    data = pattern(SIZE)
    async with AsyncClient(uri, "tests", debug=False) as client:
        with restarted(storage, caplog):
            (await client.put("bucket", "key", data)).unwrap()
        assert (await client.get("bucket", "key")).unwrap().data == data


def test_put_operator(storage: LocalVSS, hook: MictlanXHook, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with restarted(storage, caplog):
        run(MictlanXPutOperator(task_id="put", bucket_id="bucket", key="key", file_path=str(file), chunk_size="1MB"))
    assert hook.get("bucket", "key") == file.read_bytes()


async def test_put_bulk_of_the_client(storage: LocalVSS, uri: str, caplog: pytest.LogCaptureFixture) -> None:
    balls = {f"ball{number}": pattern(BALL_SIZE, number) for number in range(BALLS)}
    async with AsyncClient(uri, "tests", debug=False) as client:
        with restarted(storage, caplog):
            items = [{"bucket_id": "bucket", "ball_id": name, "source": data} for name, data in balls.items()]
            (await client.put_bulk("bulk", items)).unwrap()
            result = (await client.await_bulk("bulk")).unwrap()
        assert (result["successed"], result["failures"]) == (BALLS, [])
        for name, data in balls.items():
            assert (await client.get("bucket", name)).unwrap().data == data


def test_bulk_put_operator(
    storage: LocalVSS, hook: MictlanXHook, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(BALLS):
        (tmp_path / f"ball{number}").write_bytes(pattern(BALL_SIZE, number))
    with restarted(storage, caplog):
        result = put_bulk(bulk_id="bulk", bucket_id="bucket", source=str(tmp_path))
    assert (result["total_balls"], result["failed"]) == (BALLS, 0)
    assert hook.bulk_status("bulk")["state"] == "complete"
    for path in tmp_path.iterdir():
        assert hook.get("bucket", path.name) == path.read_bytes()
