"""While no router can be reached, requests wait and use up no tries; all requests of a client share one wait."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from option import Err, Ok, Result

import airflow_provider_mictlanx.client.transport.aiohttp_backend  # noqa: F401, imported by the first request, too slowly for outages of half a second
from airflow_provider_mictlanx.client import (
    AsyncClient,
    AsyncRouter,
    CertificateError,
    ConnectFailedError,
    DeadlineExceededError,
    DNSResolutionError,
    MictlanXError,
    ValidationError,
)
from airflow_provider_mictlanx.client.protocol.endpoint import RequestOptions
from airflow_provider_mictlanx.client.retry import RetryConfig
from airflow_provider_mictlanx.client.transfer.router_pool import Request
from tests.support.addresses import free_port, uri_of
from tests.support.clients import other_tasks
from tests.support.sample_bytes import pattern
from tests.support.vss import LocalVSS

DATA = pattern(1000)


def patient(uri: str, seconds: float, **arguments: Any) -> AsyncClient:
    return AsyncClient(uri, "tests", debug=False, log_output_path=None, connect_patience=seconds, **arguments)


@pytest.fixture(autouse=True)
def _log_of_waits(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, "airflow_provider_mictlanx"):
        yield


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if text in record.getMessage()]


@contextmanager
def started_after(vss: LocalVSS, seconds: float) -> Iterator[None]:
    """Start a storage after a while, in a thread."""
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(lambda: (time.sleep(seconds), vss.start()))
        yield
        started.result()


async def test_one_try_survives_a_restart(own_vss: Callable[..., LocalVSS], caplog: pytest.LogCaptureFixture) -> None:
    vss = own_vss()
    async with patient(vss.uri, 20) as client:
        vss.kill()
        with started_after(vss, 0.5):
            assert (await client.put("b", "k", DATA, max_tries=1)).unwrap() is True
    (begin,), (end,) = lines(caplog, "waiting up to 20 s"), lines(caplog, "answered after")
    assert begin.levelno == logging.WARNING
    assert (
        f"no connection (Connection refused); check the address, and that the router is running; waiting up to 20 s for router {vss_name(vss)}"
        in begin.getMessage()
    )
    assert (end.levelno, end.getMessage()[:24]) == (logging.INFO, "Router router-0 answered")
    assert lines(caplog, "Try ") == []


def vss_name(vss: LocalVSS) -> str:
    return f"router-0 ({vss.url()})"


async def test_many_requests_share_one_wait(own_vss: Callable[..., LocalVSS], caplog: pytest.LogCaptureFixture) -> None:
    vss = own_vss()
    async with patient(vss.uri, 20) as client:
        vss.kill()
        with started_after(vss, 0.5):
            puts = [client.put("b", f"k{number}", DATA, max_tries=1) for number in range(30)]
            assert all(result.is_ok for result in await asyncio.gather(*puts))
    assert (len(lines(caplog, "waiting up to")), len(lines(caplog, "answered after"))) == (1, 1)
    assert other_tasks() == set()


async def test_a_bulk_fails_after_one_wait(caplog: pytest.LogCaptureFixture) -> None:
    """The balls behind the first ones do not wait again."""
    port = free_port()
    async with patient(uri_of(port), 6) as client:
        items = [{"bucket_id": "b", "ball_id": f"k{number}", "source": DATA} for number in range(30)]
        (await client.put_bulk("bulk", items, max_concurrency=3)).unwrap()
        result = (await client.await_bulk("bulk")).unwrap()
        assert result["failed"] == 30
    assert (len(lines(caplog, "waiting up to")), len(lines(caplog, "Stopped waiting"))) == (1, 1)
    error = result["failures"][-1]["error"]
    assert str(error).endswith(f"not waiting again: router r0 (http://127.0.0.1:{port}) could not be reached for 6 s")
    assert other_tasks() == set()


async def test_the_error_names_action_routers_and_time() -> None:
    ports = free_port(), free_port()
    async with patient(uri_of(*ports), 0.4) as client:
        started = time.monotonic()
        error = (await client.get("b", "k")).unwrap_err()
        assert time.monotonic() - started >= 0.4
    assert isinstance(error, ConnectFailedError)
    assert "b/k" in str(error)
    named = ", ".join(f"r{number} (http://127.0.0.1:{port})" for number, port in enumerate(ports))
    assert str(error).endswith(f"; routers {named} could not be reached for 0.4 s")


async def test_an_unknown_host_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async with patient("mictlanx://r@no-such-host.invalid:1/?protocol=http", 0.3) as client:
        error = (await client.get("b", "k")).unwrap_err()
    assert isinstance(error, DNSResolutionError)
    assert str(error).endswith("could not be reached for 0.3 s")


async def test_a_later_outage_is_waited_for_again(own_vss: Callable[..., LocalVSS]) -> None:
    """An answer in between ends the time in which nothing waits."""
    vss = own_vss()
    async with patient(vss.uri, 0.3) as client:
        vss.kill()
        assert (await client.exists("b", "k")).is_err
        vss.start()
        assert (await client.list_balls("b")).unwrap() == []
        vss.kill()
        assert "not waiting again" not in str((await client.exists("b", "k")).unwrap_err())


async def test_without_patience_the_error_comes_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async with patient(uri_of(free_port(), free_port()), 0) as client:
        error = (await client.put("b", "k", DATA)).unwrap_err()
    assert isinstance(error, ConnectFailedError)
    assert "waiting" not in caplog.text
    assert lines(caplog, "Try ") == []


async def test_deadline_ends_the_wait() -> None:
    async with patient(uri_of(free_port()), 20) as client:
        started = time.monotonic()
        error = (await client.get("b", "k", deadline=0.3)).unwrap_err()
        assert time.monotonic() - started < 10
    assert isinstance(error, DeadlineExceededError)
    assert "the last failure was: " in str(error)
    assert "Connection refused" in str(error)
    assert other_tasks() == set()


async def test_another_request_goes_on_after_the_probing_one_has_ended(
    own_vss: Callable[..., LocalVSS], caplog: pytest.LogCaptureFixture
) -> None:
    vss = own_vss()
    async with patient(vss.uri, 20) as client:
        vss.kill()
        with started_after(vss, 0.8):
            first, second = await asyncio.gather(
                client.exists("b", "k", deadline=0.3), client.exists("b", "k", deadline=20)
            )
    assert isinstance(first.unwrap_err(), DeadlineExceededError)
    assert second.unwrap() is False
    assert (len(lines(caplog, "waiting up to")), len(lines(caplog, "answered after"))) == (1, 1)


async def test_nothing_waits_while_another_router_answers(
    own_vss: Callable[..., LocalVSS], caplog: pytest.LogCaptureFixture
) -> None:
    vss = own_vss()
    async with patient(uri_of(free_port(), vss.port), 20) as client:
        assert (await client.put("b", "k", DATA, chunk_size=100, max_tries=1)).unwrap() is True
    assert "waiting" not in caplog.text


@pytest.mark.parametrize("fault", [{"kind": "reset"}, {"kind": "status", "status": 503}])
async def test_a_router_that_fails_is_left_alone(own_vss: Callable[..., LocalVSS], fault: dict[str, Any]) -> None:
    vss = own_vss(routers=2)
    async with patient(vss.uri, 0) as client:
        with vss.fault(router="router-0", **fault) as failures:
            assert (await client.put("b", "k", DATA, chunk_size=100)).unwrap() is True
            assert 1 <= failures.triggered < 5


async def test_a_task_waits_for_its_router(vss: LocalVSS) -> None:
    """Nothing was sent, so the task is as it was; no other router knows it."""
    answers: list[Result[int, MictlanXError]] = [Err(ConnectFailedError("no")), Ok(1)]
    async with patient(vss.uri, 20) as client:
        routers = client._sender(5, {}, RetryConfig(max_tries=1))
        assert await routers.request_to(client._pool.routers[0], answer_with(answers)) == 1


async def test_a_refused_certificate_is_not_waited_for(vss: LocalVSS) -> None:
    answers: list[Result[int, MictlanXError]] = [Err(CertificateError("no")), Ok(1)]
    async with patient(vss.uri, 20) as client:
        with pytest.raises(CertificateError):
            await client._sender(5, {}).request(answer_with(answers))


def answer_with(answers: list[Result[int, MictlanXError]]) -> Request[int]:
    async def request(router: AsyncRouter, options: RequestOptions) -> Result[int, MictlanXError]:
        return answers.pop(0)

    return request


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan"), "1", True, None])
def test_patience_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ValidationError, match="connect_patience must be"):
        patient(uri_of(1), seconds)
