"""MictlanX errors as Airflow exceptions, as trigger events and as lines of a task's log."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mictlanx.bulks import errors as bulk_errors
from airflow_provider_mictlanx.client import errors
from airflow_provider_mictlanx.client.errors import MictlanXError, ValidationError
from airflow_provider_mictlanx.client.texts import clean, get_logger

log = get_logger(__name__)

DOCUMENTATION = "https://airflow-provider-mictlanx.readthedocs.io/en/stable/"

_EVENT_FIELDS = ("status_code", "error_code", "transient", "permanent")

_MAX_INT = 2**63 - 1

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
        error.amend(with_connection(str(error), conn_id))
        raise


class _Task(Protocol):
    """A task with a connection; ``label`` names the task for an error of its DAG."""

    mictlanx_conn_id: str

    @property
    def label(self) -> str: ...


class TaskErrors:
    """
    Context manager that prepares errors for the task's log, which then shows one line for each.

    The line ends with the address of the error's documentation. An error that no retry can fix becomes an
    ``AirflowFailException``, with the original as ``__context__``. Every other ``MictlanXError`` keeps its class:
    Airflow retries it, and retry policies can match it. It is a class, since the task's log would show the frames of a
    generator.

    :param task: names itself and its connection
    """

    def __init__(self, task: _Task) -> None:
        self._task = task

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, MictlanXError):
            return
        message = with_connection(str(error), self._task.mictlanx_conn_id)
        if type(error) is ValidationError and self._task.label not in message:
            message = f"{self._task.label}: {message}"
        message = with_documentation(message, type(error).__name__)
        if error.permanent:
            raise AirflowFailException(f"{type(error).__name__}: {message}") from None
        error.amend(message)


def with_connection(message: str, conn_id: str) -> str:
    """Return a message with the id of the connection."""
    named = f"connection {conn_id!r}"
    return message if named in message else f"{message} ({named})"


def timeout_message(problem: str, conn_id: str) -> str:
    """
    Return the message of a task that waited for too long.

    :param problem: the time, and what was missing at its end
    """
    described = clean(f"{problem}; the log lines of its pokes say what was missing")
    return with_documentation(with_connection(described, conn_id), "messages-of-airflow")


def with_documentation(message: str, entry: str) -> str:
    """
    Return a message that ends with the address of its documentation.

    :param entry: the error's class, or another anchor of the page of errors
    """
    page = f"{DOCUMENTATION}errors.html"
    return message if page in message else f"{message.removesuffix('.')}. See {page}#{entry.lower()}"


def shorten_traceback(error: MictlanXError) -> MictlanXError:
    """Log the traceback of an error, with its causes, at DEBUG; return the error without it, for ``from None``."""
    if log.isEnabledFor(logging.DEBUG):
        for line in _traceback_lines(error):
            log.debug("%s", line)
    return error.with_traceback(None)


def _traceback_lines(error: BaseException) -> Iterator[str]:
    """Yield the lines of Python's traceback, without the messages of others: a signed URL in them is a secret."""
    chain = [error]
    while (cause := _cause(chain[-1])) is not None and cause not in chain:
        chain.append(cause)
    for link in reversed(chain):
        yield "Traceback (most recent call last):"
        for frame in traceback.format_tb(link.__traceback__):
            yield from frame.splitlines()
        name = type(link).__name__
        yield f"{name}: {link}" if isinstance(link, MictlanXError) else name


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ if error.__suppress_context__ else error.__context__


def log_suppressed(log: Any, error: Exception) -> None:
    """Log a poke error suppressed by ``silent_fail``, with a traceback unless it is a MictlanXError."""
    message = "Poke failed; waiting continues because of silent_fail: %s: %s"
    log.error(message, type(error).__name__, error, exc_info=not isinstance(error, MictlanXError))


def event_payload(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the payload of an event with numbers that Airflow can send; listings may add up to more than 64 bits."""
    # An event that can't be sent would end the triggerer, with the triggers of all DAGs.
    limited: dict[str, Any] = json.loads(
        json.dumps(payload), parse_int=lambda text: min(int(text), _MAX_INT), parse_constant=lambda name: None
    )
    return limited


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
