"""
The read cache: balls that were read and verified, kept in memory up to a number of bytes.

It never answers on its own: a cached ball is handed out only while the listing still names its checksum as the stored
one.
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
    Balls that were read.

    :param policy: which goes first when it is full: ``LRU`` (least recently used), ``LFU`` (least frequently used),
        ``FIFO`` (first in), ``RR`` (any, at random)
    :param capacity: bytes; 0 keeps nothing
    """

    def __init__(self, policy: str, capacity: int) -> None:
        if policy.upper() not in _POLICIES:
            raise ValidationError(f"eviction_policy must be one of {', '.join(_POLICIES)}, got {policy!r}")
        self._capacity = capacity
        self._balls = _POLICIES[policy.upper()](maxsize=capacity, getsizeof=lambda cached: len(cached[1]))

    def get(self, name: ObjectId, version: Version) -> memoryview | None:
        """Return the ball's bytes, if they are kept and are those of this version."""
        cached = self._balls.get((name.bucket_id, name.ball_id))
        return cached[1] if cached and cached[0] == version.checksum else None

    def keep(self, name: ObjectId, version: Version, data: memoryview) -> None:
        """Keep a ball that was read and verified; one that is larger than the cache is not kept."""
        if version.checksum and 0 < len(data) <= self._capacity:
            self._balls[name.bucket_id, name.ball_id] = version.checksum, data

    def balls(self) -> set[tuple[str, str]]:
        """Return the bucket id and the ball id of every ball that is kept."""
        return set(self._balls)

    def clear(self) -> None:
        """Forget everything."""
        self._balls.clear()
