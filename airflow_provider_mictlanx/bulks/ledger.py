"""The state of the balls in one attempt: acknowledged, lost, sent, recorded, failed. Pure."""

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
    The state of the balls in an attempt, each identified by its position in the plan.

    :ivar acknowledged: stored balls, uploaded by this or another attempt
    :ivar size: total size of ``acknowledged``, in bytes
    :ivar lost: balls that earlier attempts acknowledged, but that this attempt found missing in the storage
    :ivar sources: ``sources_mark`` of the sources that the acknowledged balls were compared with; empty before that
    :ivar sent: number of acknowledged balls that this attempt sent
    :ivar sent_size: total size of ``sent``, in bytes
    :ivar failures: failed balls, by bucket and key
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
        """Digest of the plan; empty before there is one."""
        return self.plan.record.digest if self.plan else ""

    @property
    def balls(self) -> Sequence[PlannedBall]:
        """Balls of the plan."""
        return self.plan.balls if self.plan else ()

    @property
    def summary(self) -> dict[str, Any]:
        """Fields of every report of the attempt."""
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
        """Failures, sorted by bucket and key."""
        return [self.failures[ball] for ball in sorted(self.failures)]

    @property
    def missing(self) -> list[int]:
        """Balls that are neither stored nor failed."""
        return [
            index
            for index, ball in enumerate(self.balls)
            if index not in self.acknowledged and (ball.bucket_id, ball.key) not in self.failures
        ]

    def take_over(self, plan: ShardPlan, acknowledged: set[int], lost: set[int]) -> None:
        """
        Set the plan of an earlier attempt, with its acknowledged and lost balls.

        All are set in one step: a part may be written at any time, and must not acknowledge a lost ball.

        :param acknowledged: balls that records acknowledge, and that the storage has
        :param lost: balls that records acknowledge, and that the storage does not have
        """
        self.plan, self.lost = plan, lost
        self.learn(acknowledged)

    def learn(self, indexes: Iterable[int]) -> None:
        """Add balls that other attempts stored, and drop their failures, except those whose source has changed."""
        for index in indexes:
            if index not in self._changed:
                self._add(index)
                name = self.balls[index].bucket_id, self.balls[index].key
                self.failures.pop(name, None)
                self._permanent.discard(name)

    def stored(self, index: int, sent: bool) -> None:
        """Add a ball that this attempt sent, or found stored."""
        self._add(index)
        self._unrecorded.add(index)
        if sent:
            self.sent += 1
            self.sent_size += self.balls[index].size

    def compared(self, indexes: Iterable[int]) -> None:
        """Record with the next part that the sources of acknowledged balls match the plan."""
        self._unrecorded.update(indexes)

    def changed(self, index: int, message: str, permanent: bool = True) -> None:
        """
        Fail a ball whose source differs from the plan, even if the ball is stored.

        :param permanent: whether no retry can fix it, unless the planned source is restored
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
        """Add the failure of a ball; the first one is kept."""
        if (bucket_id, key) in self.failures:
            return
        self.failures[bucket_id, key] = Failure(bucket_id=bucket_id, key=key, code=code, message=message)
        if permanent:
            self._permanent.add((bucket_id, key))

    def unrecorded(self, everything: bool) -> set[int]:
        """Return the balls for the next part: those that no part acknowledges yet, or all acknowledged ones."""
        return set(self.acknowledged if everything else self._unrecorded)

    def recorded(self, indexes: set[int]) -> None:
        """Mark balls as acknowledged by a part."""
        self._unrecorded -= indexes

    def part_items(self, indexes: set[int]) -> bytes:
        """Return the content of a part that acknowledges these balls."""
        return canonical({"acknowledged": format_ranges(indexes), "lost": format_ranges(self.lost)}).encode()

    def last_items(self) -> bytes:
        """Return the content of the attempt's last record."""
        failures = [failure.model_dump() for failure in self.sorted_failures]
        return canonical(
            {"acknowledged": format_ranges(self._unrecorded), "lost": format_ranges(self.lost), "failures": failures}
        ).encode()
