"""
What an error status of a router means for each kind of request: which 404 is a no, and which only "not now".

See the protocol page, the **trap** lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_mictlanx.client.errors import (
    GetChunkError,
    MaxAvailabilityReachedError,
    MictlanXError,
    NotFoundError,
    PutChunksError,
    UnavailableError,
    UpstreamProtocolError,
)
from airflow_provider_mictlanx.client.protocol.endpoint import StatusHandler, shorten

UNKNOWN_TO_PEER = "404: No metadata found"
"""What a router says of a chunk that is placed on a peer that answers and does not know it."""

SPENT_TASK = re.compile(r"Task\(.*not found|400: Expected tasks")
"""What the placement service says of a task that it has forgotten, with status 500."""

PLACED_NOWHERE = "404: No available peers"
"""What the placement service says of a chunk that it knows no replica of: with status 500, and the only real no."""


def announcement_error(status: int, detail: Any, action: str) -> MictlanXError | None:
    """Return the error of an announcement: code 666, or no peer that takes the chunk now."""
    if status != 404:
        return None
    if isinstance(detail, dict) and detail.get("code") == 666:
        holders = detail.get("replicas")
        error = MaxAvailabilityReachedError(f"{action}: every peer knows it already (code 666)")
        error.replicas = [str(peer) for peer in holders] if isinstance(holders, list) else []
        return error
    return UnavailableError(
        f"{action}: status 404, {shorten(detail)}; no peer takes it just now; try again later", status
    )


def upload_error(status: int, detail: Any, action: str) -> MictlanXError | None:
    """Return the error of a data request."""
    if status == 404:
        return UnavailableError(
            f"{action}: status 404, {shorten(detail)}; it is not taken just now; try again later", status
        )
    if status == 500 and isinstance(detail, str) and SPENT_TASK.search(detail):
        return PutChunksError(f"{action}: the router no longer knows the task ({shorten(detail)})", status)
    return None


def metadata_error(status: int, detail: Any, action: str) -> MictlanXError | None:
    """Return the error of a metadata request; "placed nowhere" is the only real no."""
    if status == 500 and detail == PLACED_NOWHERE:
        return NotFoundError(f"{action}: it is placed nowhere")
    if status == 404 or (status == 500 and isinstance(detail, str) and detail.startswith("404:")):
        error = UnavailableError(
            f"{action}: status {status}, {shorten(detail)}; it is placed, but its peer did not return it", status
        )
        error.unknown_to_peer = isinstance(detail, str) and detail.startswith(UNKNOWN_TO_PEER)
        return error
    return None


def data_error(status: int, detail: Any, action: str) -> MictlanXError | None:
    """Return the error of a read."""
    if status == 404:
        return GetChunkError(f"{action}: status 404, {shorten(detail)}", 404)
    return None


def checksum_error(status: int, detail: Any, action: str) -> MictlanXError | None:
    """Return the error of a read by content."""
    if status == 404:
        return NotFoundError(
            f"{action}: status 404, {shorten(detail)}; there are no such bytes, or this router does not answer by content, as "
            "the present ones don't: then read the ball by its key"
        )
    return None


def storage_space_error(status: int, detail: Any, action: str) -> MictlanXError | None:
    """Explain a 404 to what every router answers: nothing is absent, for it is no router that answers."""
    if status == 404:
        return UpstreamProtocolError(
            f"{action}: status 404, {shorten(detail)}; no MictlanX router answers at this address. Check host, port, the path "
            "of a proxy and api_version",
            status,
        )
    return None


STATUS_HANDLERS: Mapping[str, StatusHandler] = {
    "metadata": metadata_error,
    "data": data_error,
    "checksum": checksum_error,
    "space": storage_space_error,
}
"""By kind of request, as ``CommonRequests`` looks them up."""
