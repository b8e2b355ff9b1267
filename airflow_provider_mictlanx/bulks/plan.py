"""
The plan of a shard: the listed balls that it uploads, with their sizes and checksums. Pure.

A plan is canonical: it contains no time or host, so every attempt makes the same plan of a source, byte for byte.
"""

from __future__ import annotations

import hashlib
import heapq
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter
from pydantic import ValidationError as InvalidModel

from airflow_provider_mictlanx.bulks.records import Plan, canonical
from airflow_provider_mictlanx.bulks.sources import SourceBall
from airflow_provider_mictlanx.client.errors import IntegrityError, ValidationError

BALL_COST = 256 * 1024
"""Cost of a ball in addition to its size, in bytes: many small files take time too."""


@dataclass(frozen=True, slots=True)
class PlannedBall:
    """
    One ball of a plan; there may be a million of them in memory.

    :ivar size: bytes
    :ivar checksum: SHA-256, in hex
    :ivar chunk_size: size of its chunks, in bytes; the last one may be smaller
    :ivar source: its source, for people
    """

    bucket_id: str
    key: str
    size: int
    checksum: str
    chunk_size: int
    source: str


_LINE = TypeAdapter(
    tuple[
        str,
        str,
        Annotated[int, Field(ge=0)],
        Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")],
        Annotated[int, Field(ge=1)],
        str,
    ]
)
"""A line of a plan: the fields of ``PlannedBall``, in the same order."""


@dataclass(frozen=True)
class ShardPlan:
    """A plan with its balls."""

    record: Plan
    balls: list[PlannedBall]


def listing_digest(listing: Sequence[SourceBall]) -> str:
    """Return the SHA-256 of the names and sizes in a listing."""
    digest = hashlib.sha256()
    for ball in listing:
        digest.update(canonical([ball.bucket_id, ball.key, ball.size]).encode() + b"\n")
    return digest.hexdigest()


def sources_mark(balls: Iterable[PlannedBall], sources: Mapping[tuple[str, str], SourceBall]) -> str:
    """
    Return a digest of the marks of a plan's sources; it differs if one of them has changed.

    It is empty if a source has no mark.

    :param sources: the sources that exist, by bucket and key
    """
    digest = hashlib.sha256()
    for ball in balls:
        source = sources.get((ball.bucket_id, ball.key))
        if source is not None and not source.mark:
            return ""
        digest.update((source.mark if source else 0).to_bytes(8))
    return digest.hexdigest()[:16]


def check_shard(shard: int, shards: int) -> None:
    """Raise ``ValidationError`` unless ``shard`` is one of ``0..shards-1``."""
    for name, value in (("shard", shard), ("shards", shards)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationError(f"{name} must be an int, got {value!r}")
    if shards < 1 or not 0 <= shard < shards:
        raise ValidationError(f"shard must be from 0 to shards - 1, got {shard} of {shards}")


def assign_shards(listing: Sequence[SourceBall], shards: int) -> Iterator[tuple[int, SourceBall]]:
    """
    Yield the shard of every ball of a listing: the same on every machine, with about equal work for each shard.

    Each ball, the largest first, goes to the shard with the least work so far.
    """
    work = [(0, number) for number in range(shards)]
    for ball in sorted(listing, key=lambda ball: (-ball.size, ball.bucket_id, ball.key)):
        load, number = work[0]
        heapq.heapreplace(work, (load + ball.size + BALL_COST, number))
        yield number, ball


def select_shard(listing: Sequence[SourceBall], shard: int, shards: int) -> list[SourceBall]:
    """
    Return a shard's part of a listing, sorted by bucket and key.

    :param shard: ``0..shards-1``, else ``ValidationError``
    """
    check_shard(shard, shards)
    mine = [ball for number, ball in assign_shards(listing, shards) if number == shard]
    return sorted(mine, key=lambda ball: (ball.bucket_id, ball.key))


def make_plan(
    bulk_id: str,
    shard: int,
    shards: int,
    balls: list[PlannedBall],
    listing: Sequence[SourceBall],
    items_per_shard: bool,
) -> tuple[ShardPlan, bytes]:
    """
    Build a plan; return it with the content of its record.

    :param listing: the balls of all shards
    :param items_per_shard: whether each shard has its own list, so listings are not compared
    """
    head = canonical({"bulk_id": bulk_id, "shard": shard, "shards": shards})
    content = "\n".join([head, *map(_format_line, balls), ""]).encode()
    record = Plan(
        shard=shard,
        digest=hashlib.sha256(content).hexdigest(),
        shards=shards,
        balls=len(balls),
        size=sum(ball.size for ball in balls),
        listing="" if items_per_shard else listing_digest(listing),
        listing_balls=len(listing),
        listing_size=sum(ball.size for ball in listing),
    )
    return ShardPlan(record, balls), content


def _format_line(ball: PlannedBall) -> str:
    return canonical([ball.bucket_id, ball.key, ball.size, ball.checksum, ball.chunk_size, ball.source])


def read_plan(record: Plan, content: bytes) -> ShardPlan:
    """Parse a plan; raise ``IntegrityError`` if it does not match its record."""
    if hashlib.sha256(content).hexdigest() != record.digest:
        raise IntegrityError(f"reading {record.name} failed: its bytes do not have the SHA-256 of its record")
    lines = content.split(b"\n")[1:-1]
    try:
        balls = [PlannedBall(sys.intern(fields[0]), *fields[1:]) for fields in map(_LINE.validate_json, lines)]
    except InvalidModel as error:
        cause = error.errors(include_url=False)[0]["msg"]
        raise IntegrityError(f"reading {record.name} failed: {cause}") from None  # pydantic's error quotes the plan
    if len(balls) != record.balls:
        raise IntegrityError(
            f"reading {record.name} failed: it has {len(balls)} objects, but its record counts {record.balls}"
        )
    return ShardPlan(record, balls)
