"""The balls of one attempt to upload a shard: acknowledged, lost, sent, recorded, failed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from airflow_provider_mictlanx.batches.runner import Failure
from airflow_provider_mictlanx.bulks.plan import PlannedBall, ShardPlan
from airflow_provider_mictlanx.bulks.records import canonical, format_ranges
from airflow_provider_mictlanx.client.errors import IntegrityError

BallKey = tuple[str, str]
"""A ball by bucket and key."""


class Ledger:
    """
    The books of an attempt; balls are counted by their place in the plan.

    :ivar acknowledged: balls that are stored, by this or by another attempt
    :ivar size: of these (bytes)
    :ivar lost: balls that earlier attempts acknowledged, and the storage no longer had when this one looked
    :ivar sources: what marks the sources that the acknowledged balls were compared with (``sources_mark``); empty until then
    :ivar sent: how many of the acknowledged balls this attempt sent
    :ivar sent_size: of these (bytes)
    :ivar failures: by bucket and key
    """

    def __init__(self) -> None:
        self.plan: ShardPlan | None = None
        self.acknowledged: set[int] = set()
        self.size = 0
        self.lost: set[int] = set()
        self.sources = ""
        self.sent = 0
        self.sent_size = 0
        self.failures: dict[BallKey, Failure] = {}
        self._changed: set[int] = set()
        self._unrecorded: set[int] = set()
        self._permanent: set[BallKey] = set()

    @property
    def digest(self) -> str:
        """The plan's; empty where there is none yet."""
        return self.plan.record.digest if self.plan else ""

    @property
    def balls(self) -> Sequence[PlannedBall]:
        """The plan's balls."""
        return self.plan.balls if self.plan else ()

    @property
    def summary(self) -> dict[str, Any]:
        """The fields that every report of the attempt has."""
        return {
            "plan": self.digest,
            "acknowledged": len(self.acknowledged),
            "size": self.size,
            "lost": len(self.lost),
            "sources": self.sources,
        }

    @property
    def permanently_failed(self) -> bool:
        """True if balls failed, and no retry can fix any of them."""
        return bool(self.failures) and self.failures.keys() <= self._permanent

    @property
    def sorted_failures(self) -> list[Failure]:
        """The failures in the order of buckets and keys."""
        return [self.failures[ball] for ball in sorted(self.failures)]

    @property
    def missing(self) -> list[int]:
        """The balls that are neither stored nor known to fail."""
        return [
            index
            for index, ball in enumerate(self.balls)
            if index not in self.acknowledged and (ball.bucket_id, ball.key) not in self.failures
        ]

    def take_over(self, plan: ShardPlan, acknowledged: set[int], lost: set[int]) -> None:
        """
        Begin with the plan of an earlier attempt.

        One step: a part that is written at any moment must not acknowledge a lost ball.

        :param acknowledged: balls that records acknowledge, and the storage has
        :param lost: balls that records acknowledge, and the storage does not have
        """
        self.plan, self.lost = plan, lost
        self.learn(acknowledged)

    def learn(self, indexes: Iterable[int]) -> None:
        """Note that other attempts stored balls; that is no failure any more, unless their sources have changed since."""
        for index in indexes:
            if index not in self._changed:
                self._add(index)
                name = self.balls[index].bucket_id, self.balls[index].key
                self.failures.pop(name, None)
                self._permanent.discard(name)

    def stored(self, index: int, sent: bool) -> None:
        """Note that this attempt saw a ball stored, or sent it."""
        self._add(index)
        self._unrecorded.add(index)
        if sent:
            self.sent += 1
            self.sent_size += self.balls[index].size

    def compared(self, indexes: Iterable[int]) -> None:
        """Note that sources of acknowledged balls are as planned, which the next record is to tell."""
        self._unrecorded.update(indexes)

    def changed(self, index: int, message: str, permanent: bool = True) -> None:
        """
        Note that the source of a ball is another one now than when it was planned: a failure, whatever is stored.

        :param permanent: whether no retry mends it, until somebody brings the planned source back
        """
        ball = self.balls[index]
        if index in self.acknowledged:
            self.acknowledged.remove(index)
            self.size -= ball.size
        self._changed.add(index)
        self.fail(ball.bucket_id, ball.key, IntegrityError.default_error_code, message, permanent)

    def _add(self, index: int) -> None:
        if index not in self.acknowledged:
            self.acknowledged.add(index)
            self.size += self.balls[index].size

    def fail(self, bucket_id: str, key: str, code: int, message: str, permanent: bool = False) -> None:
        """Note why a ball is not stored; the first reason stays."""
        if (bucket_id, key) in self.failures:
            return
        self.failures[bucket_id, key] = Failure(bucket_id=bucket_id, key=key, code=code, message=message)
        if permanent:
            self._permanent.add((bucket_id, key))

    def unrecorded(self, everything: bool) -> set[int]:
        """Return the balls that a part is to acknowledge: those that none did yet, or everything."""
        return set(self.acknowledged if everything else self._unrecorded)

    def recorded(self, indexes: set[int]) -> None:
        """Note that a part acknowledges these balls."""
        self._unrecorded -= indexes

    def part_items(self, indexes: set[int]) -> bytes:
        """Return the bytes of a part that acknowledges these balls."""
        return canonical({"acknowledged": format_ranges(indexes), "lost": format_ranges(self.lost)}).encode()

    def last_items(self) -> bytes:
        """Return the bytes of the attempt's last record."""
        failures = [failure.model_dump() for failure in self.sorted_failures]
        return canonical(
            {"acknowledged": format_ranges(self._unrecorded), "lost": format_ranges(self.lost), "failures": failures}
        ).encode()
