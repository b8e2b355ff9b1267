"""
The plan of a shard: which of the listed balls are its own, and what each of them is. Pure, but for the hashing.

A plan is canonical: without time or host, so that the same source gives the same plan, byte for byte, and a second attempt
finds its own.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic import ValidationError as InvalidModel

from airflow_provider_mictlanx.bulks.records import Plan, canonical
from airflow_provider_mictlanx.bulks.sources import SourceBall
from airflow_provider_mictlanx.client.errors import IntegrityError, ValidationError

BALL_COST = 256 * 1024
"""What a ball costs besides its bytes, as so many bytes more: many small files are work too."""


class PlannedBall(BaseModel):
    """
    One ball of a plan.

    :ivar size: bytes
    :ivar checksum: SHA-256, in hex
    :ivar chunk_size: it is cut into chunks of so many bytes, the last one the rest
    :ivar source: where it comes from, for people
    """

    model_config = ConfigDict(frozen=True)

    bucket_id: str
    key: str
    size: int = Field(ge=0)
    checksum: str = Field(pattern=r"^[0-9a-f]{64}$")
    chunk_size: int = Field(ge=1)
    source: str


_LINES = TypeAdapter(PlannedBall)


@dataclass(frozen=True)
class ShardPlan:
    """
    A plan with its balls.

    :ivar content: the bytes of the record
    """

    record: Plan
    balls: list[PlannedBall]
    content: bytes


def listing_digest(listing: Sequence[SourceBall]) -> str:
    """Give one SHA-256 of what was listed: names and sizes."""
    digest = hashlib.sha256()
    for ball in listing:
        digest.update(canonical([ball.bucket_id, ball.key, ball.size]).encode() + b"\n")
    return digest.hexdigest()


def share_of(listing: Sequence[SourceBall], shard: int, shards: int) -> list[SourceBall]:
    """
    Give a shard's part of a listing: the same on every machine, and about as much work for each shard.

    Each ball, the largest first, goes to the shard that has the least work so far.

    :param shard: ``0..shards-1``, else ``ValidationError``
    """
    for name, value in (("shard", shard), ("shards", shards)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationError(f"{name} is a whole number, not {value!r}")
    if shards < 1 or not 0 <= shard < shards:
        raise ValidationError(f"shard is one of 0 to shards - 1, not {shard} of {shards}")
    if shards == 1:
        return list(listing)
    work = [(0, number) for number in range(shards)]
    mine: list[SourceBall] = []
    for ball in sorted(listing, key=lambda ball: (-ball.size, ball.bucket_id, ball.key)):
        load, number = heapq.heappop(work)
        heapq.heappush(work, (load + ball.size + BALL_COST, number))
        if number == shard:
            mine.append(ball)
    return sorted(mine, key=lambda ball: (ball.bucket_id, ball.key))


def make_plan(
    bulk_id: str, shard: int, shards: int, balls: list[PlannedBall], listing: Sequence[SourceBall], own_list: bool
) -> ShardPlan:
    """
    Write a plan.

    :param listing: everything that was listed
    :param own_list: whether each shard brings a list of its own, so that listings are not to be compared
    """
    head = canonical({"bulk_id": bulk_id, "shard": shard, "shards": shards})
    lines = [head, *(canonical(ball.model_dump()) for ball in balls)]
    content = "\n".join(lines).encode() + b"\n"
    record = Plan(
        shard=shard,
        digest=hashlib.sha256(content).hexdigest(),
        shards=shards,
        balls=len(balls),
        size=sum(ball.size for ball in balls),
        listing="" if own_list else listing_digest(listing),
        listing_balls=len(listing),
        listing_size=sum(ball.size for ball in listing),
    )
    return ShardPlan(record, balls, content)


def read_plan(record: Plan, content: bytes) -> ShardPlan:
    """Read a plan that was written; ``IntegrityError`` where it is not what its record says."""
    lines = content.split(b"\n")[1:-1]
    try:
        balls = [_LINES.validate_json(line) for line in lines]
    except InvalidModel as error:
        raise IntegrityError(f"{record.name} can't be read: {error.errors(include_url=False)[0]['msg']}") from error
    if hashlib.sha256(content).hexdigest() != record.digest or len(balls) != record.balls:
        raise IntegrityError(f"{record.name} is not the plan that its record tells of")
    return ShardPlan(record, balls, content)
