"""
Cache of verified balls in memory, limited in bytes.

A cached ball is returned only while the listing still names its checksum as the stored one.
"""

from __future__ import annotations

from cachetools import Cache, FIFOCache, LFUCache, LRUCache, RRCache

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.object_ids import ObjectId
from airflow_provider_mictlanx.client.versions import Version

_POLICIES: dict[str, type[Cache[tuple[str, str], tuple[str, memoryview]]]] = {
    "LRU": LRUCache,
    "LFU": LFUCache,
    "FIFO": FIFOCache,
    "RR": RRCache,
}


class ReadCache:
    """
    Cache of verified balls.

    :param policy: the ball that is evicted first: ``LRU`` (least recently used), ``LFU`` (least frequently used),
        ``FIFO`` (first in, first out) or ``RR`` (random)
    :param capacity: maximum size (bytes); 0 disables the cache
    """

    def __init__(self, policy: str, capacity: int) -> None:
        if policy.upper() not in _POLICIES:
            raise ValidationError(f"eviction_policy must be one of {', '.join(_POLICIES)}, got {policy!r}")
        self._capacity = capacity
        self._balls = _POLICIES[policy.upper()](maxsize=capacity, getsizeof=lambda cached: len(cached[1]))

    def get(self, name: ObjectId, version: Version) -> memoryview | None:
        """Return the cached bytes of this version, or None."""
        cached = self._balls.get((name.bucket_id, name.ball_id))
        return cached[1] if cached and cached[0] == version.checksum else None

    def keep(self, name: ObjectId, version: Version, data: memoryview) -> None:
        """Store a verified ball unless it is larger than the cache."""
        if version.checksum and 0 < len(data) <= self._capacity:
            self._balls[name.bucket_id, name.ball_id] = version.checksum, data

    def clear(self) -> None:
        """Remove every ball from the cache."""
        self._balls.clear()
