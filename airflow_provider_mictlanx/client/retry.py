"""
What is tried again within one call, how often and how far apart. Knows tenacity and the errors, nothing else.

Only what can pass is repeated (``MictlanXError.transient``): a refused certificate or other bytes under the key stay as
they are, however often one asks. Waiting times are exponential with full jitter, so that many workers that failed
together do not come back together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random_exponential,
)

from airflow_provider_mictlanx.client.errors import DeadlineExceededError, MictlanXError
from airflow_provider_mictlanx.client.models import RetryPolicy
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.validation import check_int, check_non_negative, check_timeout

log = get_logger(__name__)


_failed: ContextVar[list[BaseException]] = ContextVar("failed")
"""Holds the last failure that was tried again within the call that is bounded; its tasks share the list."""


@dataclass(frozen=True)
class RetryConfig:
    """
    How often a request is tried, and how far apart.

    :param max_tries: tries in all, at least 1
    :param max_backoff: the longest wait between two tries (seconds)
    :param first_backoff: the wait before the second try is at most this (seconds)
    :param factor: by which that bound grows with every further try
    :param jitter: whether a wait is drawn evenly from zero to its bound (full jitter), or is its bound
    """

    max_tries: int = 5
    max_backoff: float = 5.0
    first_backoff: float = 0.5
    factor: float = 2.0
    jitter: bool = True

    def __post_init__(self) -> None:
        check_int("max_tries", self.max_tries)
        check_non_negative("max_backoff", self.max_backoff)
        check_non_negative("the first wait", self.first_backoff)
        check_non_negative("the factor between two waits", self.factor)

    def attempts(self, final: tuple[type[MictlanXError], ...] = ()) -> AsyncRetrying:
        """
        Return the attempts of one request, to be iterated: ``async for attempt in rule.attempts(): with attempt: …``.

        :param final: errors that are not tried again
        """
        wait = wait_random_exponential if self.jitter else wait_exponential
        return AsyncRetrying(
            stop=stop_after_attempt(self.max_tries),
            wait=wait(multiplier=self.first_backoff, max=self.max_backoff, exp_base=self.factor),
            retry=retry_if_exception(lambda error: is_transient(error, final)),
            before_sleep=_log_failed_try,
            reraise=True,
        )


def is_transient(error: BaseException, final: tuple[type[MictlanXError], ...] = ()) -> bool:
    """Return whether the same work may succeed when it is repeated within the call."""
    passing = isinstance(error, MictlanXError) and error.transient and not error.exhausted
    return passing and not isinstance(error, final)


def _log_failed_try(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.info("Try %d failed: %s; next in %.1f s", state.attempt_number, error, state.upcoming_sleep)
    if error is not None and (failed := _failed.get(None)) is not None:
        failed[:] = [error]


@asynccontextmanager
async def deadline_scope(deadline: float | None, action: str) -> AsyncIterator[None]:
    """
    Bound a whole call; raises ``DeadlineExceededError`` when its time is over.

    :param deadline: seconds from now, or None for no bound
    :param action: what was being done, for the error
    """
    if deadline is not None:
        check_timeout(deadline, "deadline")
    scope = asyncio.timeout(deadline)
    failed: list[BaseException] = []
    outer = _failed.set(failed)
    try:
        async with scope:
            yield
    except TimeoutError as error:
        if not scope.expired():
            raise
        why = (
            f"the last failure was: {failed[0]}"
            if failed
            else "no request had failed, so the storage is slow, or it was more work than that"
        )
        raise DeadlineExceededError(f"{action}: not done within the deadline of {deadline:g} s; {why}") from error
    finally:
        _failed.reset(outer)


def retry_config_from_policy(policy: RetryPolicy | None) -> RetryConfig:
    """Return the configuration for the official client's retry policy."""
    if policy is None:
        return RetryConfig()
    tries = check_int("retries of the retry policy", policy.retries, least=0) + 1
    return RetryConfig(tries, policy.max_delay, policy.initial_delay, policy.backoff_factor, policy.jitter)
