"""
Whether a bucket is left alone: what one listing after the other tells, and what of it another process needs to go on.

Knows the client's models and errors only; nothing here makes a request.

The time is the storage's: peers say when they took every chunk, and routers when they answered. The clock of the worker
has no say where they do, so that one that is wrong opens nothing too early. What no peer tells is a delete: it is seen by comparing
with the listing before, and begins the wait anew, as every other change does.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from humanfriendly import format_timespan

from airflow_provider_mictlanx.client.checks import seconds, text, whole_number
from airflow_provider_mictlanx.client.errors import NotFoundError
from airflow_provider_mictlanx.client.models import GetRouterBucketMetadataResponse, Metadata
from airflow_provider_mictlanx.client.names import check_bucket_id, key_of
from airflow_provider_mictlanx.client.versions import balls_in, versions_of
from airflow_provider_mictlanx.hooks.lines import counted


@dataclass(frozen=True)
class Sight:
    """
    What one listing shows.

    :ivar balls: the sizes in bytes of the whole balls, by ball id
    :ivar updated_at: when the newest chunk was announced (nanoseconds since 1970); 0 where no peer tells
    :ivar digest: of everything announced: two alike show the same
    :ivar seen_at: when the router answered (seconds since 1970)
    """

    balls: dict[str, int] = field(repr=False)
    updated_at: int
    digest: str
    seen_at: float


class QuietWatch:
    """
    Watches a bucket, or the keys of it that begin alike, until nothing was changed for some time.

    :param bucket_id: the bucket
    :param prefix: only keys that begin with it
    :param inactivity_period: for how long nothing may change, in seconds or as a timedelta
    :param min_objects: how many whole objects there have to be
    :param allow_delete: whether objects may go while it is watched; False makes that a ``NotFoundError``, which no retry mends
    :param state: where an earlier watch stood (``state``)
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
        self.prefix = text("prefix", prefix)
        self.inactivity_period = seconds("inactivity_period", inactivity_period)
        self.min_objects = whole_number("min_objects", min_objects, 0)
        self.allow_delete = allow_delete
        self.state: dict[str, Any] | None = dict(state) if state else None
        """What another process needs to go on: JSON, of the same size whatever the bucket holds; None before the first look."""
        self.line = ""
        """Where it stands, for people."""
        self._names: frozenset[str] | None = None

    def look(self, listing: GetRouterBucketMetadataResponse) -> dict[str, Any] | None:
        """
        Take a full listing in; gives ``{bucket_id, prefix, count, total_size, updated_at}`` when the bucket is quiet, else None.

        ``NotFoundError``: objects that were there are gone, and ``allow_delete`` is False.
        """
        sight = self._sight(listing)
        if not self.allow_delete:
            self._check_that_nothing_is_gone(sight)
        written_at = sight.updated_at / 1e9
        if self.state is None:  # nobody looked before: the peers tell since when nothing was written
            since = written_at or sight.seen_at
        elif self.state["digest"] == sight.digest:
            since = max(written_at, self.state["since"])
        else:
            since = sight.seen_at
        self.state = {"count": len(sight.balls), "digest": sight.digest, "since": since}
        quiet = max(0.0, sight.seen_at - since)  # routers tell whole seconds, peers their parts
        self.line = self._line(sight, quiet)
        if len(sight.balls) < self.min_objects or quiet < self.inactivity_period:
            return None
        return {
            "bucket_id": self.bucket_id,
            "prefix": self.prefix,
            "count": len(sight.balls),
            "total_size": sum(sight.balls.values()),
            "updated_at": sight.updated_at,
        }

    def _sight(self, listing: GetRouterBucketMetadataResponse) -> Sight:
        announced = {
            ball_id: chunks
            for ball_id, chunks in balls_in(listing.balls).items()
            if key_of(ball_id, chunks[0].tags).startswith(self.prefix)
        }
        newest = {ball_id: versions_of(chunks)[:1] for ball_id, chunks in announced.items()}
        every_chunk = [chunk for chunks in announced.values() for chunk in chunks]
        seen_at = time.time() if listing.answered_at is None else listing.answered_at
        return Sight(
            balls={ball_id: found[0].size for ball_id, found in newest.items() if found and found[0].whole},
            updated_at=max((chunk.updated_at for chunk in every_chunk), default=0),
            digest=_digest(every_chunk),
            seen_at=seen_at,
        )

    def _check_that_nothing_is_gone(self, sight: Sight) -> None:
        """Compare by name with the look before; where that was another process's, by number."""
        names = frozenset(sight.balls)
        if self._names is not None:
            gone = len(self._names - names)
        else:
            gone = (self.state["count"] if self.state else 0) - len(names)
        self._names = names
        if gone > 0:
            raise NotFoundError(
                f"{self._what}: {gone} of the objects that were there are gone; allow_delete=True lets the wait begin anew then",
                permanent=True,
            )

    def _line(self, sight: Sight, quiet: float) -> str:
        line = f"{self._what}: {counted(len(sight.balls), 'object')}"
        if len(sight.balls) < self.min_objects:
            return f"{line}, of at least {self.min_objects:,}"
        wanted = format_timespan(self.inactivity_period)
        return f"{line}, unchanged for {format_timespan(round(quiet))} of {wanted}"

    @property
    def _what(self) -> str:
        below = f", keys that begin with {self.prefix!r}" if self.prefix else ""
        return f"Bucket {self.bucket_id}{below}"


def _digest(chunks: list[Metadata]) -> str:
    """Digest what is announced, whichever peers told it, and in whatever order."""
    lines = sorted({f"{chunk.key} {chunk.size} {chunk.checksum}" for chunk in chunks})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
