"""
The records of a bulk: what is written into the bulk's own bucket, and how a listing of it is understood.

The router has no conditional put, so no record is ever written twice: its name carries its content (a plan) or a fresh
random id (an attempt). Every record has its summary in one of its tags, so that a single listing tells the whole state; what
grows with the bulk (the plan's balls, which of them were acknowledged or failed) is the record's own bytes.

=================================  ==========================================  ===================================================
record                             written                                     says
=================================  ==========================================  ===================================================
``start-{shard}-{attempt}``        before anything else                        owner and spec
``plan-{shard}-{hash}``            before the first data byte                  the balls of the shard; the totals of the listing
``part-{shard}-{attempt}-{n}``     every 10 to 60 seconds, and before lost     progress and sign of life; what was found lost
                                   balls are sent again
``done-{shard}-{attempt}``         at the end, also after an exception         counts, bytes, seconds, failures, ``will_retry``
``checked-{shard}-{attempt}-{n}``  while a complete bulk is read back          which balls were read, and which were not right
``closed``                         by an await that removes the other records  the result
=================================  ==========================================  ===================================================
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic import ValidationError as InvalidModel

from airflow_provider_mictlanx.batches.runner import CleanText, Failure
from airflow_provider_mictlanx.client.errors import IntegrityError, ValidationError
from airflow_provider_mictlanx.client.models import Metadata
from airflow_provider_mictlanx.client.object_ids import RESERVED_BUCKETS, is_safe_id
from airflow_provider_mictlanx.client.texts import clean, excerpt
from airflow_provider_mictlanx.client.versions import group_by_ball, group_versions

BULK_TAG = "bulk_id"
RECORD_TAG = "record"
MAX_ID_LENGTH = 200
"""A bulk id of more characters is no safe name either: a bucket's name has to fit into a file's name."""

_IN_NAMES = {"shard": "[0-9]+", "attempt": "[0-9a-f]{16}", "digest": "[0-9a-f]{64}", "number": "[0-9]+"}
"""The form of each field that a record's name may have."""


class Record(BaseModel):
    """
    The summary of a record, as it stands in its tag.

    :cvar kind: beginning of the record's name
    :cvar named_by: fields that follow in the name
    :ivar shard: number of the bulk's shard
    :ivar updated_at: when the first peer took it (nanoseconds since 1970), from the listing
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    kind: ClassVar[str]
    named_by: ClassVar[tuple[str, ...]] = ("shard", "attempt")

    shard: int = Field(ge=0)
    updated_at: int = Field(default=0, exclude=True)

    @property
    def name(self) -> str:
        """The record's ball id."""
        return "-".join([self.kind, *(str(getattr(self, field)) for field in self.named_by)])

    def tags(self, bulk_id: str) -> dict[str, str]:
        """Return the tags that the record is written with."""
        return {BULK_TAG: bulk_id, RECORD_TAG: canonical(self.model_dump(mode="json"))}


class AttemptRecord(Record):
    """
    A record of one attempt to upload a shard.

    :ivar attempt: 16 random hexadecimal digits
    """

    attempt: str = Field(pattern=r"^[0-9a-f]{16}$")


class Start(AttemptRecord):
    """
    An attempt began.

    :ivar sequence: one more than the highest of those that the attempt saw: the attempts' order, whatever the clocks say
    :ivar shards: how many shards the bulk has
    :ivar owner: who uploads: by name (``dag_id``, ``run_id`` … or what the caller gave)
    :ivar spec: what is to be uploaded, and how, as canonical JSON
    """

    kind = "start"

    sequence: int = Field(ge=1)
    shards: int = Field(ge=1)
    owner: dict[str, str]
    spec: str


class Plan(Record):
    """
    The plan of a shard; its bytes are the balls.

    :ivar digest: SHA-256 of the plan's bytes
    :ivar shards: how many shards the bulk has
    :ivar balls: of this shard
    :ivar size: of these (bytes)
    :ivar listing: SHA-256 of everything that was listed, of which this is the shard's part; empty where each shard brings
        a list of its own
    :ivar listing_balls: how many balls were listed
    :ivar listing_size: of these (bytes)
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
    A report of an attempt on its shard: balls that it acknowledges, and balls that it found lost.

    Its bytes are ``acknowledged`` (balls as ``0-57,60``) and ``lost`` (likewise). An attempt acknowledges a lost ball only after
    it has sent it again, so of one attempt's reports the acknowledgement is always the later word.

    :ivar sequence: the attempt's, as its start has it
    :ivar plan: the digest of the plan; empty while it is being made
    :ivar acknowledged: balls, by this and by other attempts
    :ivar size: of these (bytes)
    :ivar lost: balls that earlier attempts acknowledged and the storage no longer has: acknowledgements of earlier attempts
        don't count for them
    :ivar sources: what marks the sources that the acknowledged balls were compared with (``sources_mark``); empty where they
        were not
    """

    sequence: int = Field(default=0, ge=0)
    plan: str = ""
    acknowledged: int = Field(default=0, ge=0)
    size: int = Field(default=0, ge=0)
    lost: int = Field(default=0, ge=0)
    sources: str = ""


class Part(Report):
    """
    Progress of an attempt; its bytes are the balls acknowledged since the part before, or since the beginning.

    :ivar number: from 0
    """

    kind = "part"
    named_by = ("shard", "attempt", "number")

    number: int = Field(ge=0)


class Done(Report):
    """
    An attempt ended; its bytes are the balls acknowledged since the last part, and every failure.

    :ivar balls: of the plan
    :ivar uploaded: balls sent by this attempt
    :ivar uploaded_size: of these (bytes)
    :ivar failed: balls
    :ivar failures: the first few of them
    :ivar error: why the attempt as a whole failed; empty where it did not
    :ivar will_retry: whether another attempt follows if this one failed
    :ivar seconds: how long it took
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
    Progress of a storage check; its bytes are the balls that were missing or wrong.

    :ivar number: from 0
    :ivar run: the storage check that this belongs to, whichever process goes on with it
    :ivar plan: the digest of the plan
    :ivar read: which of the plan's balls were read, as ``0-57,60``
    :ivar failed: how many of these were not right
    """

    kind = "checked"
    named_by = ("shard", "attempt", "number")

    number: int = Field(ge=0)
    run: str = ""
    plan: str
    read: str
    failed: int = Field(default=0, ge=0)


def _with_clean_texts(value: Any, name: str = "") -> Any:
    """Clean the texts for people in a summary; keys and ids stay exact."""
    match value:
        case dict():
            return {name: _with_clean_texts(inner, name) for name, inner in value.items()}
        case list():
            return [_with_clean_texts(inner, name) for inner in value]
        case str() if name in ("message", "problems"):
            return clean(value)
    return value


class Closed(Record):
    """
    The bulk was awaited, and its other records were removed.

    :ivar result: the summary that ``await_bulk`` gave
    """

    kind = "closed"
    named_by = ()

    shard: int = 0
    result: Annotated[dict[str, Any], AfterValidator(_with_clean_texts)]


@dataclass
class Records:
    """
    The records that a listing of a bulk's bucket shows.

    :ivar complete: whether every peer is known to have its part in the listing
    :ivar foreign: the ids of balls that no bulk wrote: they are ignored
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
        """Return the records of every shard that has any, by its number."""
        found: dict[int, Records] = {}
        for record in self._but_closed:
            if record.shard not in found:
                found[record.shard] = Records(self.bulk_id, self.complete, closed=self.closed)
            found[record.shard].add(record)
        return found

    def of_shard(self, shard: int) -> Records:
        """Return the records of one shard."""
        return self.by_shard().get(shard) or Records(self.bulk_id, self.complete, closed=self.closed)

    def add(self, record: Record) -> None:
        """Add a record to those of its kind."""
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
        """The number of shards according to any record; 0 if none is known."""
        return max([plan.shards for plan in self.plans] + [start.shards for start in self.starts], default=0)

    @property
    def names(self) -> list[str]:
        """The ball ids of all records but ``closed``."""
        return [record.name for record in self._but_closed]

    @property
    def _but_closed(self) -> list[Record]:
        return [*self.of_uploads, *self.checks]

    @property
    def reports(self) -> list[Report]:
        """The reports of attempts: progress and ends."""
        return [*self.parts, *self.dones]

    @property
    def of_uploads(self) -> list[Record]:
        """The records of the uploads, without those of storage checks."""
        return [*self.starts, *self.plans, *self.reports]


def records_bucket(bulk_id: str) -> str:
    """
    Return the bucket of a bulk's records: ``bulk-{bulk_id}``, or ``bulk-`` and the SHA-256 of an unsafe id.

    :param bulk_id: a str that is not empty
    """
    if not isinstance(bulk_id, str) or not bulk_id:
        raise ValidationError(f"bulk_id is a text that is not empty, not {bulk_id!r}")
    try:
        safe = is_safe_id(bulk_id) and len(bulk_id) <= MAX_ID_LENGTH
        return RESERVED_BUCKETS + (bulk_id if safe else hashlib.sha256(bulk_id.encode()).hexdigest())
    except UnicodeEncodeError as error:
        raise ValidationError(f"bulk_id {bulk_id!r} is no valid Unicode text: {error.reason}") from error


def canonical(value: object) -> str:
    """Return the canonical JSON of a value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def is_record(chunk: Metadata) -> bool:
    """Return whether a chunk belongs to a record: it has such a name, and the tags of every record."""
    return _record_type(chunk.ball_id) is not None and BULK_TAG in chunk.tags and RECORD_TAG in chunk.tags


def check_owner(bulk_id: str, listing: Iterable[Metadata]) -> None:
    """Raise ``IntegrityError`` if a listing contains another bulk's records."""
    for chunk in listing:
        if is_record(chunk) and chunk.tags[BULK_TAG] != bulk_id:
            raise IntegrityError(
                f"bucket {records_bucket(bulk_id)} holds records of bulk {chunk.tags[BULK_TAG]!r}, not of {bulk_id!r}: take "
                "another bulk_id"
            )


def read_listing(bulk_id: str, listing: Iterable[Metadata], complete: bool) -> Records:
    """
    Parse a listing of a bulk's bucket into records; pure.

    A record that lacks a chunk was cut short and is ignored. A ball that is not a record is only named in ``foreign``.
    Raises ``IntegrityError`` if the bucket contains another bulk's records, or one that can't be parsed.
    """
    records = Records(bulk_id, complete)
    foreign: list[str] = []
    for ball_id, listed in group_by_ball(listing).items():
        model = _record_type(ball_id)
        chunks = [chunk for chunk in listed if is_record(chunk)]
        if len(chunks) < len(listed):
            foreign.append(ball_id)
        if model is None or not chunks:
            continue
        check_owner(bulk_id, chunks)
        whole = [version for version in group_versions(chunks) if version.is_complete]
        if not whole:
            continue
        first = min(
            whole, key=lambda version: (version.begun_at, version.checksum or "")
        )  # of a closed that is there twice
        records.add(_read(model, first.ordered[0].tags[RECORD_TAG], ball_id, first.begun_at))
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
        raise IntegrityError(
            f"record {ball_id} can't be understood: {error.errors(include_url=False)[0]['msg']}"
        ) from None  # what pydantic says quotes the record
    if record.name != ball_id:
        raise IntegrityError(f"record {ball_id} says that it is another one")
    return record.model_copy(update={"updated_at": updated_at})


def format_ranges(indexes: Iterable[int]) -> str:
    """Write indexes as ``0-57,60``."""
    ranges: list[list[int]] = []
    for index in sorted(set(indexes)):
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)


def parse_ranges(ranges: str, most: int) -> set[int]:
    """Read ``0-57,60``; what is no index below ``most`` is an ``IntegrityError``."""
    indexes: set[int] = set()
    for part in filter(None, ranges.split(",")):
        match = re.fullmatch(r"([0-9]{1,12})(?:-([0-9]{1,12}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, most)
        if last >= most or first > last:
            raise IntegrityError(f"{excerpt(part, 40)!r} is no range of balls of a plan of {most}")
        indexes.update(range(first, last + 1))
    return indexes
