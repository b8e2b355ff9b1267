"""What one attempt to upload a shard knows of its balls: acknowledged, sent, recorded, failed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from airflow_provider_mictlanx.bulks.plan import PlannedBall, ShardPlan
from airflow_provider_mictlanx.bulks.records import Failure, canonical, ranges_of

Name = tuple[str, str]
"""A ball by bucket and key."""


class Ledger:
    """
    The books of an attempt; balls are counted by their place in the plan.

    :ivar acknowledged: balls that are stored, by this or by another attempt
    :ivar size: of these (bytes)
    :ivar sent: how many of them this attempt sent
    :ivar sent_size: of these (bytes)
    :ivar failures: by bucket and key
    """

    def __init__(self) -> None:
        self.plan: ShardPlan | None = None
        self.acknowledged: set[int] = set()
        self.size = 0
        self.sent = 0
        self.sent_size = 0
        self.failures: dict[Name, Failure] = {}
        self._unrecorded: set[int] = set()
        self._permanent: set[Name] = set()

    @property
    def digest(self) -> str:
        """The plan's; empty where there is none yet."""
        return self.plan.record.digest if self.plan else ""

    @property
    def balls(self) -> Sequence[PlannedBall]:
        """The plan's balls."""
        return self.plan.balls if self.plan else ()

    @property
    def hopeless(self) -> bool:
        """Whether there are failures, and no retry could mend any of them."""
        return bool(self.failures) and self.failures.keys() <= self._permanent

    @property
    def missing(self) -> list[int]:
        """The balls that are neither stored nor known to fail."""
        return [
            index
            for index, ball in enumerate(self.balls)
            if index not in self.acknowledged and (ball.bucket_id, ball.key) not in self.failures
        ]

    def learn(self, indexes: Iterable[int]) -> None:
        """Note what records of any attempt acknowledge; that is no failure any more."""
        for index in indexes:
            self._add(index)
            self._mend(index)

    def stored(self, index: int, sent: bool) -> None:
        """Note that this attempt saw a ball stored, or sent it."""
        self._add(index)
        self._unrecorded.add(index)
        if sent:
            self.sent += 1
            self.sent_size += self.balls[index].size

    def _add(self, index: int) -> None:
        if index not in self.acknowledged:
            self.acknowledged.add(index)
            self.size += self.balls[index].size

    def _mend(self, index: int) -> None:
        if self.failures:
            ball = self.balls[index]
            self.failures.pop((ball.bucket_id, ball.key), None)
            self._permanent.discard((ball.bucket_id, ball.key))

    def fail(self, bucket_id: str, key: str, code: int, message: str, permanent: bool = False) -> None:
        """Note why a ball is not stored; the first reason stays."""
        if (bucket_id, key) in self.failures:
            return
        self.failures[bucket_id, key] = Failure(bucket_id=bucket_id, key=key, code=code, message=message)
        if permanent:
            self._permanent.add((bucket_id, key))

    def unrecorded(self, everything: bool) -> set[int]:
        """Give the balls that a part is to tell of: those that none told of yet, or everything."""
        return set(self.acknowledged if everything else self._unrecorded)

    def recorded(self, indexes: set[int]) -> None:
        """Note that a part tells of these balls."""
        self._unrecorded -= indexes

    def last_items(self) -> bytes:
        """Give the bytes of the attempt's last record."""
        failures = [failure.model_dump() for failure in self.failures.values()]
        return canonical({"acknowledged": ranges_of(self._unrecorded), "failures": failures}).encode()
