"""
Map HTTP statuses to errors by kind of request: a 404 may mean that an object is absent, or only unavailable.

See the **trap** lines of the protocol page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from airflow_provider_mictlanx.client.errors import (
    AuthenticationError,
    BallConflictError,
    GetChunkError,
    MaxAvailabilityReachedError,
    MictlanXError,
    NotFoundError,
    PermissionError,
    PutChunksError,
    UnavailableError,
    UnknownError,
    UpstreamProtocolError,
    ValidationError,
)
from airflow_provider_mictlanx.client.texts import excerpt

RequestKind: TypeAlias = Literal["announcement", "upload", "metadata", "data", "checksum", "storage space", "other"]
"""Kinds of requests whose error statuses may have a special meaning."""

StatusHandler: TypeAlias = Callable[[int, Any, str], MictlanXError | None]
"""Builds the error of a status from its detail and the action; returns None for the usual error."""

StatusHandlers: TypeAlias = Mapping[tuple[RequestKind, int], StatusHandler]

UNKNOWN_TO_PEER = "404: No metadata found"
"""Detail for a chunk that is placed on an answering peer which does not know it."""

SPENT_TASK = re.compile(r"Task\(.*not found|400: Expected tasks")
"""Detail for a task that the placement service no longer knows, with status 500."""

PLACED_NOWHERE = "404: No available peers"
"""Detail for a chunk without placement, with status 500; only this proves that it is absent."""


def error_for_status(
    handlers: StatusHandlers, kind: RequestKind, status: int, detail: Any, action: str
) -> MictlanXError:
    """
    Build the error of a status other than 2xx, by the kind of request or else by the status alone.

    :param handlers: of the router or peer
    :param detail: the ``detail`` of the answer
    :param action: description of the request
    """
    handler = handlers.get((kind, status))
    usual = _USUAL_HANDLERS.get(status, _service_error if status >= 500 else _unexpected_error)
    return (handler and handler(status, detail, action)) or usual(status, detail, action)


def shorten(detail: Any) -> str:
    """Return the detail of an answer as a short str for an error."""
    return excerpt(detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False), 300)


def _means(error: type[MictlanXError], hint: str = "") -> Callable[[int, Any, str], MictlanXError]:
    """Return a handler that builds the same error for every detail."""
    return lambda status, detail, action: error(f"{action} failed: status {status}, {shorten(detail)}{hint}", status)


def _announcement_error(status: int, detail: Any, action: str) -> MictlanXError:
    if isinstance(detail, dict) and detail.get("code") == 666:
        holders = detail.get("replicas")
        error = MaxAvailabilityReachedError(f"{action} failed: every peer already knows it (code 666)")
        error.replicas = [str(peer) for peer in holders] if isinstance(holders, list) else []
        return error
    return _means(UnavailableError, "; no peer accepts it now; try again later")(status, detail, action)


def _spent_task_error(status: int, detail: Any, action: str) -> MictlanXError | None:
    if isinstance(detail, str) and SPENT_TASK.search(detail):
        return PutChunksError(
            f"{action} failed: the router no longer knows the task ({shorten(detail)}); announce the chunk again",
            status,
        )
    return None


def _metadata_error(status: int, detail: Any, action: str) -> MictlanXError | None:
    """Build the error of a metadata request: only a missing placement means that the chunk is absent."""
    said = detail if isinstance(detail, str) else ""
    if status == 500 and said == PLACED_NOWHERE:
        return NotFoundError(f"{action} failed: it has no placement")
    if status == 500 and not said.startswith("404:"):
        return None
    error = UnavailableError(
        f"{action} failed: status {status}, {shorten(detail)}; it has a placement, but its peer did not return it",
        status,
    )
    error.unknown_to_peer = said.startswith(UNKNOWN_TO_PEER)
    return error


def _redirect_error(status: int, detail: Any, action: str) -> MictlanXError:
    message = f"{action} failed: status {status}, and redirects are not followed; name the final address in the URI"
    return UpstreamProtocolError(message, status, transient=False, permanent=True)


_service_error = _means(UnknownError, "; see the log of the service")
_unexpected_error = _means(UpstreamProtocolError)

_USUAL_HANDLERS: Mapping[int, Callable[[int, Any, str], MictlanXError]] = {
    **dict.fromkeys((301, 302, 303, 307, 308), _redirect_error),
    **dict.fromkeys((400, 422), _means(ValidationError)),
    401: _means(AuthenticationError, "; check the token (the connection's password)"),
    403: _means(
        PermissionError,
        "; check what the token (the connection's password) permits in this bucket, and what a proxy forbids",
    ),
    404: _means(NotFoundError),
    407: _means(AuthenticationError, "; check user and password in the connection's Proxy"),
    413: _means(ValidationError, "; a proxy limits the size of a request; choose a smaller chunk_size"),
    **dict.fromkeys((408, 409, 425, 429, 499), _means(UnknownError)),
}

ROUTER_STATUS_HANDLERS: StatusHandlers = {
    ("announcement", 404): _announcement_error,
    ("upload", 404): _means(UnavailableError, "; no peer accepts it now; try again later"),
    ("upload", 500): _spent_task_error,
    ("metadata", 404): _metadata_error,
    ("metadata", 500): _metadata_error,
    ("data", 404): _means(GetChunkError),
    ("checksum", 404): _means(
        NotFoundError,
        "; no such bytes are stored, or this router does not support reading by checksum (current ones do not); read "
        "the object by its key",
    ),
    ("storage space", 404): _means(
        UpstreamProtocolError,
        "; no MictlanX router answers at this address; check host, port, the path of a proxy and api_version",
    ),
}

PEER_STATUS_HANDLERS: StatusHandlers = {
    ("announcement", 409): _means(BallConflictError, "; it is known with other bytes; update=True replaces them"),
}
