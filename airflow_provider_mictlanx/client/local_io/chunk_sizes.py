"""
Default sizes of chunks, and how many of them are in flight.

A router's work is per chunk, hardly per byte: 64 MiB took the real one 14 s in chunks of 256 kB and 0.9 s in chunks of
8 MB. So chunks are large, and memory (chunk size × chunks in flight) is bounded by having fewer of them in flight, not
by cutting smaller.
"""

from __future__ import annotations

from airflow_provider_mictlanx.client.validation import parse_size

DEFAULT_CHUNK = 8_000_000
"""A file of up to this many bytes is one chunk; a larger one is cut into chunks of this size …"""

MAX_CHUNKS = 1_000
"""… until there would be more than these: listings and their repetitions grow with them. Then the chunks grow."""

MAX_CHUNK = 32_000_000
"""Maximum size of chunks (bytes): proxies limit one request, and a failed chunk is sent again."""

MEMORY_BUDGET = 32_000_000
"""Maximum bytes of one file's chunks in flight together."""

MIN_IN_FLIGHT = 2
"""While one chunk is being announced another one should be on its way."""

MAX_IN_FLIGHT = 10
"""More in flight than this gained nothing, with any size of chunks."""


def chunk_size_for(size: int, chunk_size: str | int | None = None) -> int:
    """
    Return the size of the chunks of a file (bytes).

    :param size: of the file (bytes)
    :param chunk_size: what somebody has chosen; it always wins
    """
    if chunk_size is not None:
        return parse_size(chunk_size)
    needed = -(-size // MAX_CHUNKS)
    rounded = -(-needed // 1_000_000) * 1_000_000
    return min(max(rounded, DEFAULT_CHUNK), MAX_CHUNK)


def concurrency_for(chunk_size: int, max_concurrency: int | None = None, budget: int = MEMORY_BUDGET) -> int:
    """
    Return how many chunks may be in flight.

    :param chunk_size: of the largest chunk (bytes)
    :param max_concurrency: what somebody has chosen; it always wins
    :param budget: what they may hold together (bytes)
    """
    if max_concurrency is not None:
        return max_concurrency
    return min(max(budget // max(chunk_size, 1), MIN_IN_FLIGHT), MAX_IN_FLIGHT)
