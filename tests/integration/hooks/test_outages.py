"""Hook and operators wait for a router that is restarted; a poke and the connection test ask once."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_mictlanx.client.errors import ConnectFailedError, MictlanXError, ValidationError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXPutOperator
from airflow_provider_mictlanx.sensors.mictlanx import MictlanXObjectSensor
from airflow_provider_mictlanx.triggers.mictlanx import MictlanXObjectTrigger
from tests.support.addresses import free_port, uri_of
from tests.support.operator_runs import run
from tests.support.sensor_modes import MODES, Wait, events_of
from tests.support.vss import LocalVSS

BALLS = [{"key": f"k{number}", "data": "x" * 1000} for number in range(30)]


@pytest.fixture(autouse=True)
def _log_of_waits(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, "airflow_provider_mictlanx"):
        yield


@pytest.fixture
def storage(own_vss: Callable[..., LocalVSS], connect: Callable[..., None]) -> LocalVSS:
    vss = own_vss()
    connect(vss)
    return vss


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a router that never answers, behind the default connection."""
    port = free_port()
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", uri_of(port))
    return f"http://127.0.0.1:{port}"


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        yield
        done.result()


def kill_midway(vss: LocalVSS) -> None:
    """Kill a storage after its first data request."""
    while not vss.requests("POST", "/chunked$", server="router"):
        time.sleep(0.01)
    vss.kill()


def test_operator_waits_for_a_restarted_router(storage: LocalVSS) -> None:
    def start_later() -> None:
        time.sleep(0.5)
        storage.start()

    storage.kill()
    with in_thread(start_later):
        stored = run(MictlanXPutOperator(task_id="put", bucket_id="b", key="k", data="x", max_tries=1))
    assert stored["size"] == 1


def test_bulk_pauses_as_a_whole_and_says_so_once(storage: LocalVSS, caplog: pytest.LogCaptureFixture) -> None:
    def restart() -> None:
        kill_midway(storage)
        time.sleep(0.5)
        storage.start()

    storage.set_fault("latency", method="POST", path="/chunked", seconds=0.05)
    with in_thread(restart):
        result = MictlanXHook().put_bulk("bulk", "b", balls=BALLS, max_concurrency=4)
    assert (result["uploaded"] + result["skipped"], result["failed"]) == (len(BALLS), 0)
    assert (caplog.text.count("waiting up to 20 s for"), caplog.text.count(" answered after ")) == (1, 1)


def test_bulk_fails_after_one_wait(
    storage: LocalVSS, connect: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    connect(storage, connect_patience=0.5)
    storage.set_fault("latency", method="POST", path="/chunked", seconds=0.05)
    killing = threading.Thread(target=kill_midway, args=(storage,))
    killing.start()
    with pytest.raises(MictlanXError, match=r"could not be reached for 0\.5 s"):
        MictlanXHook().put_bulk("bulk", "b", balls=BALLS, max_concurrency=4)
    killing.join()
    assert caplog.text.count("waiting up to 0.5 s for") == 1


@pytest.mark.parametrize("mode", MODES)
def test_poke_asks_once(dead: str, make_wait: Callable[..., Wait], mode: str, caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    with pytest.raises(ConnectFailedError, match=dead):
        make_wait(mode, MictlanXObjectSensor)(bucket_id="b", key="k")
    assert time.monotonic() - started < 15
    assert "waiting" not in caplog.text


async def test_poke_of_a_trigger_asks_once(dead: str, caplog: pytest.LogCaptureFixture) -> None:
    trigger = MictlanXObjectTrigger(
        mictlanx_conn_id="mictlanx_default", poke_interval=0.01, ends_at=None, bucket_id="b", key="k"
    )
    (event,) = await asyncio.wait_for(events_of(trigger), 15)
    assert dead in json.dumps(event.payload)
    assert "waiting" not in caplog.text


def test_connection_test_asks_once(dead: str, caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    succeeded, message = MictlanXHook().test_connection()
    assert time.monotonic() - started < 15
    assert not succeeded
    assert dead in message
    assert "waiting" not in caplog.text


async def test_open_client_overrides_the_connection(storage: LocalVSS, connect: Callable[..., None]) -> None:
    connect(storage, connect_patience="0.1")
    storage.kill()
    hook = MictlanXHook()
    async with hook.open_client() as client:
        assert "could not be reached for 0.1 s" in str((await client.exists("b", "k")).unwrap_err())
    async with hook.open_client(connect_patience=0.2) as client:
        assert "could not be reached for 0.2 s" in str((await client.exists("b", "k")).unwrap_err())


@pytest.mark.parametrize("seconds", [-1, "soon", True, "inf"])
def test_invalid_patience_is_an_error(vss: LocalVSS, connect: Callable[..., None], seconds: Any) -> None:
    connect(vss, connect_patience=seconds)
    with pytest.raises(ValidationError, match="connect_patience must be a number of seconds of at least 0, got"):
        MictlanXHook().exists("b", "k")
