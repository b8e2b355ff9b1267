"""
Retries and deadlines within one call.

Only transient errors are retried (``MictlanXError.transient``): a retry does not help against a refused certificate or
other bytes under the key. Waits grow exponentially with full jitter, so that workers that failed together do not retry
together.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial

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
"""The last retried failure within ``deadline_scope``, for its error; the tasks of the call share the list."""

_LONG_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}(?=\b|_)")
"""A ball id that was made from a key."""


@dataclass(frozen=True)
class RetryConfig:
    """
    Number of tries for a request, and the waits between them.

    :param max_tries: total number of tries, at least 1
    :param max_backoff: maximum wait between two tries (seconds)
    :param first_backoff: maximum wait before the second try (seconds)
    :param factor: multiplies the maximum wait after every further try
    :param jitter: whether each wait is random between zero and its maximum (full jitter), instead of the maximum
    """

    max_tries: int = 5
    max_backoff: float = 5.0
    first_backoff: float = 0.5
    factor: float = 2.0
    jitter: bool = True

    def __post_init__(self) -> None:
        check_int("max_tries", self.max_tries)
        check_non_negative("max_backoff", self.max_backoff)
        check_non_negative("first_backoff", self.first_backoff)
        check_non_negative("factor", self.factor)

    def attempts(self, final: tuple[type[MictlanXError], ...] = ()) -> AsyncRetrying:
        """
        Return the attempts of one request: ``async for attempt in config.attempts(): with attempt: …``.

        :param final: errors that are not retried
        """
        wait = wait_random_exponential if self.jitter else wait_exponential
        return AsyncRetrying(
            stop=stop_after_attempt(self.max_tries),
            wait=wait(multiplier=self.first_backoff, max=self.max_backoff, exp_base=self.factor),
            retry=retry_if_exception(lambda error: is_transient(error, final)),
            before_sleep=partial(_log_failed_try, self.max_tries),
            reraise=True,
        )


def is_transient(error: BaseException, final: tuple[type[MictlanXError], ...] = ()) -> bool:
    """Return whether the same work may succeed if it is retried within the call."""
    transient = isinstance(error, MictlanXError) and error.transient and not error.exhausted
    return transient and not isinstance(error, final)


def _log_failed_try(tries: int, state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    problem = _LONG_ID.sub(r"\1…", str(error))
    number, pause = state.attempt_number, state.upcoming_sleep
    log.info("Try %d of %d failed: %s; try %d follows in %.1f s", number, tries, problem, number + 1, pause)
    if error is not None:
        remember_failure(error)


def remember_failure(error: BaseException) -> None:
    """Keep a failure after which the call continues, for the error at its deadline."""
    if (failed := _failed.get(None)) is not None:
        failed[:] = [error]


@asynccontextmanager
async def deadline_scope(deadline: float | None, action: str) -> AsyncIterator[None]:
    """
    Limit the duration of a call; raise ``DeadlineExceededError`` at the deadline.

    :param deadline: seconds from now; None for no limit
    :param action: what the call does, for the error
    """
    if deadline is None:  # an outer deadline keeps the failures
        yield
        return
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
            else "no request had failed, so the storage is slow or the deadline is too short"
        )
        raise DeadlineExceededError(f"{action}: not done within the deadline of {deadline:g} s; {why}") from error
    finally:
        _failed.reset(outer)


def retry_config_from_policy(policy: RetryPolicy | None) -> RetryConfig:
    """Build a ``RetryConfig`` from the official client's retry policy."""
    if policy is None:
        return RetryConfig()
    tries = check_int("RetryPolicy.retries", policy.retries, least=0) + 1
    return RetryConfig(tries, policy.max_delay, policy.initial_delay, policy.backoff_factor, policy.jitter)
