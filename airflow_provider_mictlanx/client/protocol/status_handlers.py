"""
The meaning of error statuses by kind of request: which 404 says that something is absent, and which only "not now".

See the **trap** lines of the protocol page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_mictlanx.client.errors import (
    BallConflictError,
    GetChunkError,
    MaxAvailabilityReachedError,
    MictlanXError,
    NotFoundError,
    PutChunksError,
    UnavailableError,
    UpstreamProtocolError,
)
from airflow_provider_mictlanx.client.protocol.endpoint import RequestKind, StatusHandler, shorten

UNKNOWN_TO_PEER = "404: No metadata found"
"""The detail of a chunk that is placed on a peer that answers and does not know it."""

SPENT_TASK = re.compile(r"Task\(.*not found|400: Expected tasks")
"""The detail of a task that the placement service has forgotten, with status 500."""

PLACED_NOWHERE = "404: No available peers"
"""The detail of a chunk without replicas: with status 500, and the only proof that it is absent."""


def announcement_error(status: int, detail: Any, action: str) -> MictlanXError:
    """Return the error of an announcement: code 666, or no peer that takes the chunk now."""
    if isinstance(detail, dict) and detail.get("code") == 666:
        holders = detail.get("replicas")
        error = MaxAvailabilityReachedError(f"{action}: every peer knows it already (code 666)")
        error.replicas = [str(peer) for peer in holders] if isinstance(holders, list) else []
        return error
    return UnavailableError(
        f"{action}: status 404, {shorten(detail)}; no peer takes it just now; try again later", status
    )


def refused_data_error(status: int, detail: Any, action: str) -> MictlanXError:
    """Return the error of data that is not taken now."""
    return UnavailableError(
        f"{action}: status 404, {shorten(detail)}; it is not taken just now; try again later", status
    )


def spent_task_error(status: int, detail: Any, action: str) -> MictlanXError | None:
    """Return the error of data for a task that is no longer known."""
    if isinstance(detail, str) and SPENT_TASK.search(detail):
        return PutChunksError(f"{action}: the router no longer knows the task ({shorten(detail)})", status)
    return None


def metadata_error(status: int, detail: Any, action: str) -> MictlanXError | None:
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


def data_error(status: int, detail: Any, action: str) -> MictlanXError:
    """Return the error of a read."""
    return GetChunkError(f"{action}: status 404, {shorten(detail)}", 404)


def checksum_error(status: int, detail: Any, action: str) -> MictlanXError:
    """Return the error of a read by content."""
    return NotFoundError(
        f"{action}: status 404, {shorten(detail)}; there are no such bytes, or this router does not answer by content, as "
        "the present ones don't: then read the ball by its key"
    )


def not_a_router_error(status: int, detail: Any, action: str) -> MictlanXError:
    """Return the error of a 404 to a request that every router answers."""
    return UpstreamProtocolError(
        f"{action}: status 404, {shorten(detail)}; no MictlanX router answers at this address. Check host, port, the path "
        "of a proxy and api_version",
        status,
    )


def other_bytes_error(status: int, detail: Any, action: str) -> MictlanXError:
    """Return the error of an announcement to a peer that knows other bytes."""
    return BallConflictError(
        f"{action}: status 409, {shorten(detail)}; it is known with other bytes, and update=True replaces them", 409
    )


ROUTER_STATUS_HANDLERS: Mapping[tuple[RequestKind, int], StatusHandler] = {
    ("announcement", 404): announcement_error,
    ("upload", 404): refused_data_error,
    ("upload", 500): spent_task_error,
    ("metadata", 404): metadata_error,
    ("metadata", 500): metadata_error,
    ("data", 404): data_error,
    ("checksum", 404): checksum_error,
    ("storage space", 404): not_a_router_error,
}

PEER_STATUS_HANDLERS: Mapping[tuple[RequestKind, int], StatusHandler] = {("announcement", 409): other_bytes_error}
