"""Parameters of a bulk and of one attempt, and the result of an attempt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airflow_provider_mictlanx.batches.runner import Failure, TransferOptions
from airflow_provider_mictlanx.bulks.plan import check_shard
from airflow_provider_mictlanx.bulks.records import canonical, records_bucket
from airflow_provider_mictlanx.bulks.sources import as_unicode
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.object_ids import check_bucket_may_change
from airflow_provider_mictlanx.client.transfer.chunk_upload import PutOptions
from airflow_provider_mictlanx.client.validation import check_str, parse_size

MAX_SOURCES_LENGTH = 500
"""Limit for the sources in a record, in characters: longer ones are replaced by the first few and a SHA-256."""


@dataclass(frozen=True)
class BulkSpec:
    """
    Parameters of a bulk, which every attempt must share.

    :ivar bulk_id: any str
    :ivar sources: sources of the balls, as str
    :ivar shards: number of shards
    :ivar rf: number of peers that must store each chunk
    :ivar chunk_size: bytes, or a str such as ``"8MB"``; None chooses it by the size of each ball
    :ivar tags: tags of every ball
    :ivar items_per_shard: whether each shard has its own list of balls, instead of a part of a common one
    :ivar allow_reserved_bucket: allow buckets with records of other bulks; attempts may differ in it
    """

    bulk_id: str
    sources: Sequence[str]
    bucket_id: str = ""
    key_prefix: str = ""
    shards: int = 1
    rf: int = 1
    chunk_size: str | int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    items_per_shard: bool = False
    allow_reserved_bucket: bool = False

    def as_text(self) -> str:
        """Return the spec in the form of the records."""
        fields = {name: getattr(self, name) for name in ("bucket_id", "key_prefix", "shards", "rf")}
        fields["sources"] = [] if self.items_per_shard else self._abbreviated_sources()
        fields["chunk_size"] = None if self.chunk_size is None else parse_size(self.chunk_size)
        return canonical(fields | {"tags": dict(self.tags)})

    def _abbreviated_sources(self) -> list[str]:
        """Return the sources, shortened if necessary: they are in the tags of every start, which every poke lists."""
        sources = [as_unicode(source) for source in self.sources]
        text = canonical(sources)
        if len(text) <= MAX_SOURCES_LENGTH:
            return sources
        digest = hashlib.sha256(text.encode()).hexdigest()
        return [f"{len(sources)} sources with SHA-256 {digest}", *(source[:60] for source in sources[:3])]

    def check(self, shard: int) -> None:
        """Raise ``ValidationError`` for an invalid parameter or shard."""
        check_str("bucket_id", self.bucket_id)
        if as_unicode(check_str("key_prefix", self.key_prefix)) != self.key_prefix:
            raise ValidationError(f"key_prefix must be valid Unicode, got {self.key_prefix!r}")
        if self.bucket_id:
            check_bucket_may_change(self.bucket_id, self.allow_reserved_bucket)
        records_bucket(self.bulk_id)
        check_shard(shard, self.shards)
        PutOptions(self.rf, tags=self.tags)
        if self.chunk_size is not None:
            parse_size(self.chunk_size)


@dataclass(frozen=True)
class AttemptOptions(TransferOptions):
    """
    Parameters of one attempt, which may differ between attempts.

    :ivar stop_on_failure: start no further ball after the first failure
    :ivar replace: delete different bytes under a ball's key first
    :ivar allow_empty: accept an empty listing as a bulk of no balls, instead of raising an error
    :ivar will_retry: another attempt follows if this one fails
    :ivar fail_on_error: an attempt fails if a ball fails, so another one may follow
    """

    stop_on_failure: bool = False
    replace: bool = False
    allow_empty: bool = False
    will_retry: bool = False
    fail_on_error: bool = True


@dataclass(frozen=True)
class UploadResult:
    """
    The result of an attempt.

    :ivar uploaded: number of balls that were sent
    :ivar skipped: number of balls that were acknowledged before, or found stored
    :ivar failures: all failures of balls
    :ivar uploaded_size: bytes of the balls that were sent
    :ivar response_time: seconds
    :ivar slowest: keys of the slowest balls, with their seconds
    :ivar permanently_failed: whether balls failed, and no retry can fix any of them
    """

    bulk_id: str
    shard: int
    shards: int
    total_balls: int
    uploaded: int
    skipped: int
    failed: int
    uploaded_size: int
    response_time: float
    failures: list[Failure] = field(default_factory=list)
    slowest: list[tuple[str, float]] = field(default_factory=list)
    permanently_failed: bool = False
