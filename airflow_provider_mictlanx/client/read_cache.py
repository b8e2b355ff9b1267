"""
The read cache: balls that were read and verified, kept in memory up to a number of bytes.

It never answers on its own: a cached ball is handed out only while the listing still names its checksum as the stored one.
"""

from __future__ import annotations

from dataclasses import dataclass

from cachetools import Cache, FIFOCache, LFUCache, LRUCache, RRCache

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.object_ids import ObjectId
from airflow_provider_mictlanx.client.versions import Version

_POLICIES: dict[str, type[Cache[tuple[str, str], _Cached]]] = {
    "LRU": LRUCache,
    "LFU": LFUCache,
    "FIFO": FIFOCache,
    "RR": RRCache,
}


@dataclass(frozen=True)
class _Cached:
    checksum: str
    data: memoryview


class ReadCache:
    """
    Keeps what was read.

    :param policy: what goes first when it is full: ``LRU`` (least recently used), ``LFU`` (least frequently used), ``FIFO``
        (first in), ``RR`` (any, at random)
    :param capacity: bytes; 0 keeps nothing
    """

    def __init__(self, policy: str, capacity: int) -> None:
        if not isinstance(policy, str) or policy.upper() not in _POLICIES:
            raise ValidationError(f"eviction_policy is one of {', '.join(_POLICIES)}, not {policy!r}")
        self._capacity = capacity
        self._balls = _POLICIES[policy.upper()](maxsize=capacity, getsizeof=lambda cached: len(cached.data))

    def get(self, name: ObjectId, version: Version) -> memoryview | None:
        """Give the ball's bytes, if they are kept and are those of this version."""
        cached = self._balls.get((name.bucket_id, name.ball_id))
        return cached.data if cached and cached.checksum == version.checksum else None

    def keep(self, name: ObjectId, version: Version, data: memoryview) -> None:
        """Keep a ball that was read and verified; one that is larger than the cache is not kept."""
        if version.checksum and 0 < len(data) <= self._capacity:
            self._balls[name.bucket_id, name.ball_id] = _Cached(version.checksum, data)

    def balls(self) -> set[tuple[str, str]]:
        """Give the bucket id and the ball id of what is kept."""
        return set(self._balls)

    def clear(self) -> None:
        """Forget everything."""
        self._balls.clear()
