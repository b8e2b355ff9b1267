"""
Detection that a bucket has stopped changing, by comparing successive listings.

All times come from the storage: peers record when they received a chunk, and routers when they answered. The worker's
clock is used only if they report no time, so a wrong clock cannot open a gate too early. Peers do not record deletes. A
delete shows as a difference from the previous listing, and restarts the wait like every other change.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from humanfriendly import format_timespan

from airflow_provider_mictlanx.client.concurrency import sort_in_slices
from airflow_provider_mictlanx.client.empty_objects import with_empty_objects
from airflow_provider_mictlanx.client.errors import NotFoundError
from airflow_provider_mictlanx.client.models import GetRouterBucketMetadataResponse
from airflow_provider_mictlanx.client.object_ids import check_bucket_id
from airflow_provider_mictlanx.client.validation import check_int, check_seconds, check_str
from airflow_provider_mictlanx.client.versions import ObjectRow, group_by_object, group_versions, listed_key
from airflow_provider_mictlanx.hooks.summaries import format_count, name_bucket


@dataclass(frozen=True)
class BucketSnapshot:
    """
    The relevant content of one listing.

    :ivar sizes: of the complete objects, in bytes, by ball id and own key
    :ivar updated_at: time of the newest announcement (nanoseconds since 1970); 0 if no peer reports one
    :ivar digest: of all announced chunks; equal digests mean equal content
    :ivar seen_at: time of the router's answer (seconds since 1970)
    """

    sizes: dict[ObjectRow, int] = field(repr=False)
    updated_at: int
    digest: str
    seen_at: float


class InactivityMonitor:
    """
    Detect that a bucket, or its keys with one prefix, has not changed for some time.

    :param bucket_id: the bucket
    :param prefix: only keys that begin with it
    :param inactivity_period: required time without a change, in seconds or as a timedelta
    :param min_objects: required number of complete objects
    :param allow_delete: accept that objects disappear; False makes that a permanent ``NotFoundError``
    :param state: ``state`` of an earlier monitor, which this one continues
    """

    def __init__(
        self,
        bucket_id: str,
        prefix: str = "",
        *,
        inactivity_period: timedelta | float,
        min_objects: int = 1,
        allow_delete: bool = True,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.bucket_id = check_bucket_id(bucket_id)
        self.prefix = check_str("prefix", prefix)
        self.inactivity_period = check_seconds("inactivity_period", inactivity_period)
        self.min_objects = check_int("min_objects", min_objects, 0)
        self.allow_delete = allow_delete
        self.state: dict[str, Any] | None = dict(state) if state else None
        """JSON of fixed size, from which another process can continue; None before the first listing."""
        self.line = ""
        """The log line for the latest listing."""
        self._rows: frozenset[ObjectRow] | None = None

    def update(self, listing: GetRouterBucketMetadataResponse) -> dict[str, Any] | None:
        """
        Compare a complete listing with the previous one.

        Returns ``{bucket_id, prefix, count, total_size, updated_at}`` if the bucket has been inactive for long
        enough, else None. Raises ``NotFoundError`` if objects disappeared and ``allow_delete`` is False.
        """
        snapshot = self._take_snapshot(listing)
        if not self.allow_delete:
            self._check_nothing_disappeared(snapshot)
        written_at = snapshot.updated_at / 1e9
        if self.state is None:  # first listing: only the peers know the time of the last write
            since = written_at or snapshot.seen_at
        elif self.state["digest"] == snapshot.digest:
            since = max(written_at, self.state["since"])
        else:
            since = snapshot.seen_at
        self.state = {"count": len(snapshot.sizes), "digest": snapshot.digest, "since": since}
        inactive = max(0.0, snapshot.seen_at - since)  # routers truncate their time to seconds, peers do not
        self.line = self._format_line(len(snapshot.sizes), inactive)
        if len(snapshot.sizes) < self.min_objects or inactive < self.inactivity_period:
            return None
        return {
            "bucket_id": self.bucket_id,
            "prefix": self.prefix,
            "count": len(snapshot.sizes),
            "total_size": sum(snapshot.sizes.values()),
            "updated_at": snapshot.updated_at,
        }

    def _take_snapshot(self, listing: GetRouterBucketMetadataResponse) -> BucketSnapshot:
        sizes: dict[ObjectRow, int] = {}
        lines: set[str] = set()
        updated_at = 0
        for row, chunks in group_by_object(with_empty_objects(listing.balls)).items():
            if not listed_key(chunks[0]).startswith(self.prefix):
                continue
            versions = group_versions(chunks)
            if versions and versions[0].is_complete:
                sizes[row] = versions[0].size
            for chunk in chunks:
                updated_at = max(updated_at, chunk.updated_at)
                lines.add(f"{chunk.key} {chunk.size} {chunk.checksum}")
        return BucketSnapshot(
            sizes=sizes,
            updated_at=updated_at,
            digest=_digest(lines),
            seen_at=time.time() if listing.answered_at is None else listing.answered_at,
        )

    def _check_nothing_disappeared(self, snapshot: BucketSnapshot) -> None:
        """Compare the objects with the previous listing, or only their number if another process read that one."""
        rows = frozenset(snapshot.sizes)
        if self._rows is not None:
            missing = len(self._rows - rows)
        else:
            missing = (self.state["count"] if self.state else 0) - len(rows)
        self._rows = rows
        if missing > 0:
            raise NotFoundError(
                f"{name_bucket(self.bucket_id, self.prefix)}: {missing} of the earlier objects disappeared; "
                "set allow_delete=True to restart the wait after a delete",
                permanent=True,
            )

    def _format_line(self, count: int, inactive: float) -> str:
        line = f"{name_bucket(self.bucket_id, self.prefix)}: {format_count(count, 'object')}"
        if count < self.min_objects:
            return f"{line}, at least {self.min_objects:,} required"
        return f"{line}, unchanged for {format_timespan(round(inactive))} of {format_timespan(self.inactivity_period)}"


def _digest(lines: set[str]) -> str:
    """Return a digest of all announcements, independent of their order and of the peers that reported them."""
    digest = hashlib.sha256()
    for number, line in enumerate(sort_in_slices(list(lines), key=str)):
        digest.update(f"\n{line}".encode() if number else line.encode())
    return digest.hexdigest()
