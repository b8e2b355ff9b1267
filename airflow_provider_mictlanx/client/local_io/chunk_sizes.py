"""
Default sizes of chunks, and the number of chunks in flight.

A router's cost is per chunk more than per byte: 64 MiB took a real router 14 s in chunks of 256 kB and 0.9 s in chunks
of 8 MB. So chunks are large, and memory is limited: chunks of local files are read while they are sent, and of other
sources fewer chunks are in flight.
"""

from __future__ import annotations

from airflow_provider_mictlanx.client.validation import parse_size

DEFAULT_CHUNK = 8_000_000
"""Default size of chunks (bytes); a smaller file is one chunk."""

MAX_CHUNKS = 1_000
"""Maximum number of chunks before they become larger: every listing grows with their number."""

MAX_CHUNK = 32_000_000
"""Maximum size of chunks (bytes): proxies limit the size of a request, and a failed chunk is sent again."""

MEMORY_BUDGET = 32_000_000
"""Maximum total size of one file's chunks in flight (bytes)."""

BATCH_BUDGET = 64_000_000
"""Maximum total size of the chunks in flight of many balls (bytes), if the caller does not limit their number."""

STREAMED_CHUNK = 2_000_000
"""Maximum memory for a chunk that is read while it is sent, as from a local file (bytes)."""

MIN_IN_FLIGHT = 2
"""Minimum number of chunks in flight: one is announced while another is sent."""

MAX_IN_FLIGHT = 64
"""Maximum number of chunks in flight: small ones are 4 times as fast as 10 of them over a distance of 100 ms."""


def chunk_size_for(size: int, chunk_size: str | int | None = None) -> int:
    """
    Return the chunk size for a file (bytes).

    :param size: of the file (bytes)
    :param chunk_size: the user's choice, which takes precedence
    """
    if chunk_size is not None:
        return parse_size(chunk_size)
    needed = -(-size // MAX_CHUNKS)
    rounded = -(-needed // 1_000_000) * 1_000_000
    return min(max(rounded, DEFAULT_CHUNK), MAX_CHUNK)


def concurrency_for(chunk_size: int, max_concurrency: int | None = None, budget: int = MEMORY_BUDGET) -> int:
    """
    Return the maximum number of chunks in flight.

    :param chunk_size: memory for the largest chunk (bytes)
    :param max_concurrency: the user's choice, which takes precedence
    :param budget: maximum memory for the chunks in flight (bytes)
    """
    if max_concurrency is not None:
        return max_concurrency
    return min(max(budget // max(chunk_size, 1), MIN_IN_FLIGHT), MAX_IN_FLIGHT)
