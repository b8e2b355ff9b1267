"""
The records of a bulk in its own bucket, and the parser of its listing.

The router has no conditional put, so no record is written twice: its name contains the hash of its content (a plan) or
a random id (an attempt). Every record has a summary in one of its tags, so one listing shows the state of the bulk.
Data that grows with the bulk is the record's content: the plan's balls, and which of them were acknowledged or failed.

=================================  =======================================  =========================================
record                             written                                  contains
=================================  =======================================  =========================================
``start-{shard}-{attempt}``        before anything else                     owner and spec
``plan-{shard}-{hash}``            before the first data byte               balls of the shard, totals of the listing
``part-{shard}-{attempt}-{n}``     every 10 to 60 seconds, and before lost  progress, lost balls
                                   balls are sent again
``done-{shard}-{attempt}``         at the end, also after an exception      counts, bytes, seconds, failures,
                                                                            ``will_retry``
``checked-{shard}-{attempt}-{n}``  while a complete bulk is read back       balls that were read, failures
``closed``                         by an await that removes other records   result
=================================  =======================================  =========================================
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from pydantic import ValidationError as InvalidModel

from airflow_provider_mictlanx.batches.runner import CleanText, Failure
from airflow_provider_mictlanx.client.errors import IntegrityError, ValidationError
from airflow_provider_mictlanx.client.models import Metadata
from airflow_provider_mictlanx.client.object_ids import RESERVED_BUCKETS
from airflow_provider_mictlanx.client.texts import excerpt
from airflow_provider_mictlanx.client.versions import group_by_object, group_versions
from airflow_provider_mictlanx.safe_ids import is_safe_id

BULK_TAG = "bulk_id"
RECORD_TAG = "record"
MAX_ID_LENGTH = 200
"""Limit for a bulk id in a bucket id, in characters; longer ones are hashed, since file names are limited."""

_IN_NAMES = {"shard": "[0-9]+", "attempt": "[0-9a-f]{16}", "digest": "[0-9a-f]{64}", "number": "[0-9]+"}
"""Patterns of the fields that a record's name may contain."""


class Record(BaseModel):
    """
    The summary of a record, which is stored in a tag.

    :cvar kind: start of the record's name
    :cvar named_by: fields that follow in the name
    :ivar shard: index of the shard
    :ivar updated_at: time when the first peer received it (nanoseconds since 1970), from the listing
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    kind: ClassVar[str]
    named_by: ClassVar[tuple[str, ...]] = ("shard", "attempt")

    shard: int = Field(ge=0)
    updated_at: int = Field(default=0, exclude=True)

    @property
    def name(self) -> str:
        """Ball id of the record."""
        return "-".join([self.kind, *(str(getattr(self, field)) for field in self.named_by)])

    def tags(self, bulk_id: str) -> dict[str, str]:
        """Return the tags of the record."""
        return {BULK_TAG: bulk_id, RECORD_TAG: canonical(self.model_dump(mode="json"))}


class AttemptRecord(Record):
    """
    A record of one attempt to upload a shard.

    :ivar attempt: 16 random hexadecimal digits
    """

    attempt: str = Field(pattern=r"^[0-9a-f]{16}$")


class Start(AttemptRecord):
    """
    The start of an attempt.

    :ivar sequence: one more than the highest that the attempt saw, which orders attempts independently of clocks
    :ivar shards: number of shards of the bulk
    :ivar owner: identity of the uploader, such as ``dag_id``, ``run_id`` …
    :ivar spec: parameters of the bulk, as canonical JSON
    """

    kind = "start"

    sequence: int = Field(ge=1)
    shards: int = Field(ge=1)
    owner: dict[str, str]
    spec: str


class Plan(Record):
    """
    The plan of a shard; its content is the balls.

    :ivar digest: SHA-256 of the content
    :ivar shards: number of shards of the bulk
    :ivar balls: number of balls of this shard
    :ivar size: their total size, in bytes
    :ivar listing: SHA-256 of the listing that all shards share; empty if each shard has its own list
    :ivar listing_balls: number of balls in the listing
    :ivar listing_size: their total size, in bytes
    """

    kind = "plan"
    named_by = ("shard", "digest")

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    shards: int = Field(ge=1)
    balls: int = Field(ge=0)
    size: int = Field(ge=0)
    listing: str = ""
    listing_balls: int = Field(ge=0)
    listing_size: int = Field(ge=0)


class Report(AttemptRecord):
    """
    A report of an attempt: the balls that it acknowledges, and those that it found lost.

    Its content is ``acknowledged`` (balls as ``0-57,60``) and ``lost`` (likewise). An attempt acknowledges a lost ball
    only after it has sent it again, so within one attempt an acknowledgement is always newer than a loss.

    :ivar sequence: sequence of the attempt's start
    :ivar plan: digest of the plan; empty before it is made
    :ivar acknowledged: number of balls that this and other attempts acknowledge
    :ivar size: their total size, in bytes
    :ivar lost: number of balls that earlier attempts acknowledged and the storage has lost; those acknowledgements do
        not count
    :ivar sources: ``sources_mark`` of the sources that the acknowledged balls were compared with; empty if they were
        not
    """

    sequence: int = Field(default=0, ge=0)
    plan: str = ""
    acknowledged: int = Field(default=0, ge=0)
    size: int = Field(default=0, ge=0)
    lost: int = Field(default=0, ge=0)
    sources: str = ""


class Part(Report):
    """
    Progress of an attempt; its content acknowledges the balls since the previous part.

    :ivar number: index of the part, from 0
    """

    kind = "part"
    named_by = ("shard", "attempt", "number")

    number: int = Field(ge=0)


class Done(Report):
    """
    The end of an attempt; its content acknowledges the balls since the last part, and contains every failure.

    :ivar balls: number of balls of the plan
    :ivar uploaded: number of balls that this attempt sent
    :ivar uploaded_size: their total size, in bytes
    :ivar failed: number of balls that failed
    :ivar failures: the first few failures
    :ivar error: error of the attempt itself; empty if there was none
    :ivar will_retry: whether another attempt follows if this one failed
    :ivar seconds: duration of the attempt
    """

    kind = "done"

    balls: int = Field(default=0, ge=0)
    uploaded: int = Field(default=0, ge=0)
    uploaded_size: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    failures: list[Failure] = Field(default_factory=list)
    error: CleanText = ""
    will_retry: bool = False
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """True if every ball is acknowledged."""
        return bool(self.plan) and not self.error and not self.failed and self.acknowledged == self.balls


class Checked(AttemptRecord):
    """
    Progress of a storage check; its content is the failures.

    :ivar number: index of the record, from 0
    :ivar run: name of the check, which any process may continue
    :ivar plan: digest of the plan
    :ivar read: balls of the plan that were read, as ``0-57,60``
    :ivar failed: number of these that were missing or wrong
    """

    kind = "checked"
    named_by = ("shard", "attempt", "number")

    number: int = Field(ge=0)
    run: str = ""
    plan: str
    read: str
    failed: int = Field(default=0, ge=0)


class Items(BaseModel):
    """
    The content of a report or a storage check.

    :ivar acknowledged: balls that a report acknowledges, as ``0-57,60``
    :ivar lost: balls that a report found lost, likewise
    :ivar failures: every failure
    """

    acknowledged: str = ""
    lost: str = ""
    failures: list[Failure] = Field(default_factory=list)


class Summary(BaseModel):
    """
    The result of a bulk.

    :ivar succeeded: number of stored balls
    :ivar uploaded_size: their total size, in bytes
    :ivar response_time: from the first record to the last (seconds, by the peers' clocks)
    :ivar failures: the first few failures
    :ivar problems: errors of the bulk itself
    """

    bulk_id: str
    state: Literal["complete", "failed"]
    shards: int
    total_balls: int
    succeeded: int
    failed: int
    uploaded_size: int
    response_time: FiniteFloat
    failures: list[Failure]
    problems: list[CleanText]


class Closed(Record):
    """
    The result of a bulk that was awaited, and whose other records were deleted.

    :ivar result: the summary that ``await_bulk`` returned
    :ivar upload: the first attempt, which identifies the upload
    """

    kind = "closed"
    named_by = ()

    shard: int = 0
    result: Summary
    upload: str = ""


@dataclass
class Records:
    """
    The records that a listing of a bulk's bucket shows.

    :ivar complete: whether every peer is known to have taken part in the listing
    :ivar foreign: ids of balls that are not records, which are ignored
    """

    bulk_id: str
    complete: bool = True
    starts: list[Start] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    dones: list[Done] = field(default_factory=list)
    checks: list[Checked] = field(default_factory=list)
    closed: Closed | None = None
    foreign: tuple[str, ...] = ()

    def by_shard(self) -> dict[int, Records]:
        """Return the records by shard."""
        found: dict[int, Records] = {}
        for record in self._without_closed:
            if record.shard not in found:
                found[record.shard] = Records(self.bulk_id, self.complete, closed=self.closed)
            found[record.shard].add(record)
        return found

    def shard_records(self, shard: int) -> Records:
        """Return the records of one shard."""
        return self.by_shard().get(shard) or Records(self.bulk_id, self.complete, closed=self.closed)

    def add(self, record: Record) -> None:
        """Add a record to the list of its kind."""
        if isinstance(record, Closed):
            self.closed = record
            return
        lists: dict[type[Record], list[Any]] = {
            Start: self.starts,
            Plan: self.plans,
            Part: self.parts,
            Done: self.dones,
            Checked: self.checks,
        }
        lists[type(record)].append(record)

    @property
    def shards(self) -> int:
        """Number of shards according to the records; 0 if unknown."""
        return max([plan.shards for plan in self.plans] + [start.shards for start in self.starts], default=0)

    @property
    def names(self) -> list[str]:
        """Ball ids of all records except ``closed``."""
        return [record.name for record in self._without_closed]

    @property
    def _without_closed(self) -> list[Record]:
        return [*self.upload_records, *self.checks]

    @property
    def reports(self) -> list[Report]:
        """Reports of attempts: progress and ends."""
        return [*self.parts, *self.dones]

    @property
    def upload_records(self) -> list[Record]:
        """Records of uploads, without those of storage checks."""
        return [*self.starts, *self.plans, *self.reports]


def records_bucket(bulk_id: str) -> str:
    """
    Return the bucket of a bulk's records: ``bulk-{bulk_id}``, or ``bulk-`` and the SHA-256 of an unsafe id.

    :param bulk_id: a non-empty str
    """
    if not isinstance(bulk_id, str) or not bulk_id:
        raise ValidationError(f"bulk_id must be a non-empty str, got {bulk_id!r}")
    try:
        safe = is_safe_id(bulk_id) and len(bulk_id) <= MAX_ID_LENGTH
        return RESERVED_BUCKETS + (bulk_id if safe else hashlib.sha256(bulk_id.encode()).hexdigest())
    except UnicodeEncodeError as error:
        raise ValidationError(f"bulk_id must be valid Unicode, got {bulk_id!r}: {error.reason}") from error


def canonical(value: object) -> str:
    """Return the canonical JSON of a value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def is_record(chunk: Metadata) -> bool:
    """Return whether a chunk belongs to a record, by its name and its tags."""
    return _record_type(chunk.ball_id) is not None and BULK_TAG in chunk.tags and RECORD_TAG in chunk.tags


def check_owner(bulk_id: str, listing: Iterable[Metadata]) -> None:
    """Raise ``IntegrityError`` if a listing contains another bulk's records."""
    for chunk in listing:
        if is_record(chunk) and chunk.tags[BULK_TAG] != bulk_id:
            raise IntegrityError(
                f"bucket {records_bucket(bulk_id)} contains records of bulk {chunk.tags[BULK_TAG]!r}, not of "
                f"{bulk_id!r}; use another bulk_id"
            )


def read_listing(bulk_id: str, listing: Iterable[Metadata], complete: bool) -> Records:
    """
    Parse a listing of a bulk's bucket into records; pure.

    An incomplete record is ignored. A ball that is not a record is only listed in ``foreign``.
    Raises ``IntegrityError`` if the bucket contains another bulk's records, or one that can't be parsed.
    """
    records = Records(bulk_id, complete)
    foreign: list[str] = []
    for (ball_id, own_key), listed in group_by_object(listing).items():
        model = _record_type(ball_id)
        chunks = [chunk for chunk in listed if is_record(chunk)]
        if own_key or len(chunks) < len(listed):
            foreign.append(own_key or ball_id)
        if model is None or own_key or not chunks:
            continue
        check_owner(bulk_id, chunks)
        complete_versions = [version for version in group_versions(chunks) if version.is_complete]
        if not complete_versions:
            continue
        # There may be two versions of ``closed``; the first one counts.
        first = min(complete_versions, key=lambda version: (version.begun_at, version.checksum or ""))
        try:
            records.add(_read(model, first.ordered[0].tags[RECORD_TAG], ball_id, first.begun_at))
        except IntegrityError as error:
            raise IntegrityError(
                f"bulk {bulk_id!r}: {error}; find out who else writes to bucket {records_bucket(bulk_id)}, or use "
                "delete_bulk and upload it again"
            ) from None
    records.foreign = tuple(sorted(foreign))
    return records


_KINDS: dict[str, type[Record]] = {model.kind: model for model in (Start, Plan, Part, Done, Checked, Closed)}
_NAMES = {
    kind: re.compile("-".join([kind, *(_IN_NAMES[field] for field in model.named_by)]))
    for kind, model in _KINDS.items()
}


def _record_type(ball_id: str) -> type[Record] | None:
    kind = ball_id.partition("-")[0]
    return _KINDS[kind] if kind in _NAMES and _NAMES[kind].fullmatch(ball_id) else None


def _read(model: type[Record], text: str, ball_id: str, updated_at: int) -> Record:
    try:
        record = model.model_validate_json(text)
    except InvalidModel as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        problem = f"{name}: {first['msg']}" if name else first["msg"]
        raise IntegrityError(f"parsing record {ball_id} failed: {problem}") from None  # pydantic's error quotes it
    if record.name != ball_id:
        raise IntegrityError(f"parsing record {ball_id} failed: its summary belongs to {record.name}")
    return record.model_copy(update={"updated_at": updated_at})


def format_ranges(indexes: Iterable[int]) -> str:
    """Format indexes as ``0-57,60``."""
    ranges: list[list[int]] = []
    for index in sorted(set(indexes)):
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)


def parse_ranges(ranges: str, most: int) -> set[int]:
    """Parse ``0-57,60``; raise ``IntegrityError`` unless every index is below ``most``."""
    indexes: set[int] = set()
    for part in filter(None, ranges.split(",")):
        match = re.fullmatch(r"([0-9]{1,12})(?:-([0-9]{1,12}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, most)
        if last >= most or first > last:
            raise IntegrityError(
                f"ranges of objects must be below {most}, the size of the plan, got {excerpt(part, 40)!r}"
            )
        indexes.update(range(first, last + 1))
    return indexes
