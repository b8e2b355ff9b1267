"""What an error becomes in a task and in a trigger's event. Imports Airflow and the errors of client and bulks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mictlanx.bulks import errors as errors_of_bulks
from airflow_provider_mictlanx.client import errors
from airflow_provider_mictlanx.client.errors import MictlanXError

_TIMEOUTS_OF_AIRFLOW = ("Trigger timeout", "Trigger/execution timeout")
"""What Airflow 3 and Airflow 2 say when a deferral took too long."""


def is_timeout_of_deferral(error: AirflowException) -> bool:
    """Tell whether Airflow ended a deferral because it took too long."""
    return type(error).__name__ == "TaskDeferralTimeout" or str(error) in _TIMEOUTS_OF_AIRFLOW


@contextmanager
def errors_name_connection(conn_id: str) -> Iterator[None]:
    """Add the id of the connection to every ``MictlanXError`` of the block that does not name it yet."""
    try:
        yield
    except MictlanXError as error:
        if (named := f"connection {conn_id!r}") not in str(error):
            error.amend(f"{error} ({named})")
        raise


def failure_of(error: MictlanXError) -> AirflowFailException:
    """Make the exception that fails a task at once, without a retry."""
    return AirflowFailException(f"{type(error).__name__}: {error}")


@contextmanager
def permanent_errors_fail_the_task() -> Iterator[None]:
    """
    Fail the task at once, by ``AirflowFailException``, for an error that no retry can mend.

    Every other ``MictlanXError`` goes its way: Airflow retries it, and retry policies can match its class.
    """
    try:
        yield
    except MictlanXError as error:
        if error.permanent:
            raise failure_of(error) from error
        raise


def log_borne(log: Any, error: Exception) -> None:
    """Log an error of a poke that ``silent_fail`` bears; one that is not ours with where it came from."""
    message = "Poke failed; going on because of silent_fail: %s: %s"
    log.error(message, type(error).__name__, error, exc_info=not isinstance(error, MictlanXError))


def event_of(error: MictlanXError) -> dict[str, Any]:
    """Put an error into the payload of a trigger's event: ``{status: "error", kind, message, status_code, …}``."""
    return {
        "status": "error",
        "kind": type(error).__name__,
        "message": str(error),
        "status_code": error.status_code,
        "error_code": error.error_code,
        "transient": error.transient,
        "permanent": error.permanent,
    }


def error_of(event: Mapping[str, Any]) -> MictlanXError:
    """Make of the payload the error again, in its class, so that a deferred task fails as one that never deferred."""
    name = str(event.get("kind"))
    kind = getattr(errors, name, None) or getattr(errors_of_bulks, name, None)
    if not (isinstance(kind, type) and issubclass(kind, MictlanXError)):
        kind = MictlanXError
    return kind(
        str(event.get("message") or "the trigger reported an error without a message"),
        event.get("status_code"),
        event.get("error_code"),
        transient=event.get("transient"),
        permanent=event.get("permanent"),
    )
