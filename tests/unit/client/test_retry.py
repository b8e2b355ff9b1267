"""What is tried again, how often, and how far apart."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import pytest

from airflow_provider_mictlanx.client.errors import (
    BallConflictError,
    DeadlineExceededError,
    MictlanXError,
    NetworkError,
    ValidationError,
)
from airflow_provider_mictlanx.client.retry import RetryConfig, deadline_scope, is_transient


def waits_of(rule: RetryConfig, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Fail every try, and return the waits between them."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def scenario() -> None:
        async for attempt in rule.attempts():
            attempt.retry_state.retry_object.sleep = sleep
            with attempt:
                raise NetworkError("no")

    with pytest.raises(NetworkError):
        asyncio.run(scenario())
    return waits


def tries_of(rule: RetryConfig, error: BaseException, succeed_at: int = 0) -> int:
    tries = 0

    async def scenario() -> None:
        nonlocal tries
        async for attempt in rule.attempts():
            with attempt:
                tries += 1
                if tries != succeed_at:
                    raise error

    with contextlib.suppress(type(error)):
        asyncio.run(scenario())
    return tries


def test_what_can_pass_is_tried_so_often() -> None:
    rule = RetryConfig(max_tries=4, max_backoff=0)
    assert tries_of(rule, NetworkError("no")) == 4
    assert tries_of(rule, NetworkError("no"), succeed_at=2) == 2
    assert tries_of(RetryConfig(max_tries=1), NetworkError("no")) == 1


@pytest.mark.parametrize(
    "error",
    [
        ValidationError("x"),
        BallConflictError("x"),
        DeadlineExceededError("x"),
        KeyError("x"),
        NetworkError("x", transient=False),
    ],
)
def test_what_can_not_pass_is_tried_once(error: Exception) -> None:
    assert tries_of(RetryConfig(max_tries=4, max_backoff=0), error) == 1
    assert not is_transient(error)


def test_waits_without_jitter_double_up_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = RetryConfig(max_tries=6, max_backoff=3, first_backoff=0.5, jitter=False)
    assert waits_of(rule, monkeypatch) == [0.5, 1, 2, 3, 3]


def test_waits_with_jitter_are_between_zero_and_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = [waits_of(RetryConfig(max_tries=5, max_backoff=3, first_backoff=1), monkeypatch) for _ in range(50)]
    for wait in waits:
        assert all(0 <= seconds <= bound for seconds, bound in zip(wait, (1, 2, 3, 3), strict=True))
    assert min(wait[3] for wait in waits) < 1.5 < max(wait[3] for wait in waits)


@pytest.mark.parametrize(
    "bad",
    [
        {"max_tries": 0},
        {"max_tries": True},
        {"max_tries": 1.0},
        {"max_backoff": -1},
        {"max_backoff": "5"},
        {"max_backoff": None},
        {"max_backoff": float("nan")},
        {"first_backoff": -0.1},
        {"first_backoff": True},
    ],
    ids=str,
)
def test_bad_rules_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RetryConfig(**bad)


def test_tries_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        tries_of(RetryConfig(max_tries=2, max_backoff=0), NetworkError(f"sending b/{'a1' * 32}_0 failed"))
    assert "Try 1 of 2 failed: sending b/a1a1a1a1a1a1…_0 failed; try 2 follows in 0.0 s" in caplog.text


async def test_deadline_ends_a_call() -> None:
    with pytest.raises(DeadlineExceededError, match=r"getting b/k.*0\.05 s"):
        async with deadline_scope(0.05, "getting b/k"):
            await asyncio.sleep(30)


async def test_deadline_tells_what_had_failed() -> None:
    async def work() -> None:
        async for attempt in RetryConfig(max_tries=2, max_backoff=30, first_backoff=30, jitter=False).attempts():
            with attempt:
                raise NetworkError("the wire is cut")

    with pytest.raises(DeadlineExceededError, match=r"0\.05 s; the last failure was: the wire is cut"):
        async with deadline_scope(0.05, "getting b/k"), asyncio.TaskGroup() as group:
            group.create_task(work())


async def test_no_deadline_and_one_that_is_kept() -> None:
    async with deadline_scope(None, "x"):
        pass
    async with deadline_scope(30, "x"):
        pass


async def test_other_timeouts_within_are_their_own() -> None:
    with pytest.raises(TimeoutError, match="another"):
        async with deadline_scope(30, "x"):
            raise TimeoutError("another")


@pytest.mark.parametrize("bad", [0, -1, "1", True, float("nan")])
async def test_bad_deadlines_are_refused(bad: Any) -> None:
    with pytest.raises(ValidationError):
        async with deadline_scope(bad, "x"):
            raise AssertionError("not reached")


def test_errors_are_mictlanx_errors() -> None:
    assert issubclass(DeadlineExceededError, MictlanXError)
