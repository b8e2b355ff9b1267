"""Limits of time and size for connections and responses."""

from __future__ import annotations

MAX_SMALL_RESPONSE = 1024 * 1024
"""Maximum size of an answer that is neither data nor a listing (bytes)."""

MAX_PEER_LIST = 16 * 1024 * 1024
"""Maximum size of the list of peers (bytes), enough for 100,000 peers."""

MAX_METADATA = 16 * 1024 * 1024
"""Maximum size of a chunk's metadata (bytes), enough for all tags that a put accepts."""

MAX_LISTING = 2 * 1024**3
"""Maximum size of a listing (bytes): that of a bucket has no pages, and repeats chunks for every peer."""

CONNECT_TIMEOUT = 10.0
"""Timeout of a connection attempt (seconds), so that the next router is tried in time."""

IDLE_SECONDS = 4.0
"""Lifetime of an idle connection, shorter than that of servers (uvicorn: 5 s), whose closing could lose a request."""

MAX_IDLE = 64
"""Maximum idle connections of httpx; aiohttp limits only their lifetime."""
