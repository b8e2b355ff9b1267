"""Limits of time and size for connections and responses."""

from __future__ import annotations

MAX_SMALL_RESPONSE = 1024 * 1024
"""The most that an answer may hold that is neither data nor a listing (bytes)."""

MAX_PEER_LIST = 16 * 1024 * 1024
"""The most that the list of peers may hold (bytes): a hundred thousand of them."""

MAX_LISTING = 2 * 1024**3
"""The most that a listing may hold (bytes): a bucket's has no paging, and repeats itself for every peer."""

CONNECT_TIMEOUT = 10.0
"""The most that a connection attempt may take (seconds), so that the next router gets its turn."""

IDLE_SECONDS = 4.0
"""An idle connection is closed before the usual servers do so (uvicorn: 5 s), which would lose a request."""

MAX_IDLE = 64
"""The most connections of httpx that wait for a next request; aiohttp bounds only their time."""
