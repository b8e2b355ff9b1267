"""MictlanX errors as Airflow exceptions and as trigger events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mictlanx.bulks import errors as bulk_errors
from airflow_provider_mictlanx.client import errors
from airflow_provider_mictlanx.client.errors import MictlanXError

_EVENT_FIELDS = ("status_code", "error_code", "transient", "permanent")

_DEFERRAL_TIMEOUT_MESSAGES = ("Trigger timeout", "Trigger/execution timeout")
"""Messages of the error in Airflow 3 and Airflow 2."""


def is_deferral_timeout(error: AirflowException) -> bool:
    """Return whether Airflow ended a deferral because it took too long."""
    return type(error).__name__ == "TaskDeferralTimeout" or str(error) in _DEFERRAL_TIMEOUT_MESSAGES


@contextmanager
def errors_name_connection(conn_id: str) -> Iterator[None]:
    """Add the id of the connection to every ``MictlanXError`` of the block that does not name it yet."""
    try:
        yield
    except MictlanXError as error:
        if (named := f"connection {conn_id!r}") not in str(error):
            error.amend(f"{error} ({named})")
        raise


@contextmanager
def permanent_errors_fail_the_task() -> Iterator[None]:
    """
    Raise ``AirflowFailException`` for an error that no retry can fix.

    Every other ``MictlanXError`` passes unchanged: Airflow retries it, and retry policies can match its class.
    """
    try:
        yield
    except MictlanXError as error:
        if error.permanent:
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        raise


def log_suppressed(log: Any, error: Exception) -> None:
    """Log a poke error suppressed by ``silent_fail``, with a traceback unless it is a MictlanXError."""
    message = "Poke failed; waiting continues because of silent_fail: %s: %s"
    log.error(message, type(error).__name__, error, exc_info=not isinstance(error, MictlanXError))


def error_event(error: MictlanXError) -> dict[str, Any]:
    """Return the payload of an error event: ``{status: "error", kind, message, status_code, …}``."""
    kept = {name: getattr(error, name) for name in _EVENT_FIELDS}
    return {"status": "error", "kind": type(error).__name__, "message": str(error), **kept}


def error_from_event(event: Mapping[str, Any]) -> MictlanXError:
    """Return the error of a trigger event in its original class, so a deferred task fails like any other."""
    name = str(event.get("kind"))
    kind = getattr(errors, name, None) or getattr(bulk_errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, MictlanXError)):
        kind = MictlanXError
    message = str(event.get("message") or "the trigger reported an error without a message")
    return kind(message, **{name: event.get(name) for name in _EVENT_FIELDS})
