"""
The error of every HTTP status, by kind of request: which 404 means that something is absent, and which only "not now".

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
"""The requests for which an error status may have a meaning of its own."""

StatusHandler: TypeAlias = Callable[[int, Any, str], MictlanXError | None]
"""Return the error of a status, given its detail and the action; None for a status that means what it usually means."""

StatusHandlers: TypeAlias = Mapping[tuple[RequestKind, int], StatusHandler]

UNKNOWN_TO_PEER = "404: No metadata found"
"""The detail of a chunk that is placed on a peer that answers and does not know it."""

SPENT_TASK = re.compile(r"Task\(.*not found|400: Expected tasks")
"""The detail of a task that the placement service has forgotten, with status 500."""

PLACED_NOWHERE = "404: No available peers"
"""The detail of a chunk without replicas: with status 500, and the only proof that it is absent."""


def error_for_status(
    handlers: StatusHandlers, kind: RequestKind, status: int, detail: Any, action: str
) -> MictlanXError:
    """
    Return the error of a status other than 2xx: what it means for this kind of request, else for any.

    :param handlers: of the server
    :param detail: what the answer says
    :param action: the request in words
    """
    handler = handlers.get((kind, status))
    usual = _USUAL_HANDLERS.get(status, _service_error if status >= 500 else _unexpected_error)
    return (handler and handler(status, detail, action)) or usual(status, detail, action)


def shorten(detail: Any) -> str:
    """Return the detail of an answer as a str that fits into an error."""
    return excerpt(detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False), 300)


def _means(error_type: type[MictlanXError], hint: str = "") -> Callable[[int, Any, str], MictlanXError]:
    """Build the handler of a status that has one meaning, whatever its detail."""
    return lambda status, detail, action: error_type(f"{action}: status {status}, {shorten(detail)}{hint}", status)


def _announcement_error(status: int, detail: Any, action: str) -> MictlanXError:
    if isinstance(detail, dict) and detail.get("code") == 666:
        holders = detail.get("replicas")
        error = MaxAvailabilityReachedError(f"{action}: every peer knows it already (code 666)")
        error.replicas = [str(peer) for peer in holders] if isinstance(holders, list) else []
        return error
    return _means(UnavailableError, "; no peer takes it just now; try again later")(status, detail, action)


def _spent_task_error(status: int, detail: Any, action: str) -> MictlanXError | None:
    if isinstance(detail, str) and SPENT_TASK.search(detail):
        return PutChunksError(f"{action}: the router no longer knows the task ({shorten(detail)})", status)
    return None


def _metadata_error(status: int, detail: Any, action: str) -> MictlanXError | None:
    """Return the error of a metadata request: only "placed nowhere" means that the chunk is absent."""
    said = detail if isinstance(detail, str) else ""
    if status == 500 and said == PLACED_NOWHERE:
        return NotFoundError(f"{action}: it is placed nowhere")
    if status == 500 and not said.startswith("404:"):
        return None
    error = UnavailableError(
        f"{action}: status {status}, {shorten(detail)}; it is placed, but its peer did not return it", status
    )
    error.unknown_to_peer = said.startswith(UNKNOWN_TO_PEER)
    return error


def _redirect_error(status: int, detail: Any, action: str) -> MictlanXError:
    said = f"{action}: status {status}, a redirect, which is not followed; name the final address in the URI"
    return UpstreamProtocolError(said, status, transient=False, permanent=True)


_service_error = _means(UnknownError, "; the fault is the service's, and its log tells more")
_unexpected_error = _means(UpstreamProtocolError)

_USUAL_HANDLERS: Mapping[int, Callable[[int, Any, str], MictlanXError]] = {
    **dict.fromkeys((301, 302, 303, 307, 308), _redirect_error),
    **dict.fromkeys((400, 422), _means(ValidationError)),
    401: _means(AuthenticationError, "; check the token (the connection's password)"),
    403: _means(
        PermissionError,
        "; check what the token (the connection's password) may do in this bucket, and what a proxy forbids",
    ),
    404: _means(NotFoundError),
    407: _means(AuthenticationError, "; check user and password in the connection's Proxy"),
    413: _means(ValidationError, "; a proxy limits what one request may hold: choose a smaller chunk_size"),
    **dict.fromkeys((408, 409, 425, 429, 499), _means(UnknownError)),
}

ROUTER_STATUS_HANDLERS: StatusHandlers = {
    ("announcement", 404): _announcement_error,
    ("upload", 404): _means(UnavailableError, "; it is not taken just now; try again later"),
    ("upload", 500): _spent_task_error,
    ("metadata", 404): _metadata_error,
    ("metadata", 500): _metadata_error,
    ("data", 404): _means(GetChunkError),
    ("checksum", 404): _means(
        NotFoundError,
        "; there are no such bytes, or this router does not answer by content, as the present ones don't: then "
        "read the ball by its key",
    ),
    ("storage space", 404): _means(
        UpstreamProtocolError,
        "; no MictlanX router answers at this address. Check host, port, the path of a proxy and api_version",
    ),
}

PEER_STATUS_HANDLERS: StatusHandlers = {
    ("announcement", 409): _means(BallConflictError, "; it is known with other bytes, and update=True replaces them"),
}
