"""Parameters of a bulk and of one attempt, and the result of an attempt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airflow_provider_mictlanx.batches.runner import Failure
from airflow_provider_mictlanx.bulks.plan import check_shard
from airflow_provider_mictlanx.bulks.records import canonical, records_bucket
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.object_ids import check_bucket_may_change
from airflow_provider_mictlanx.client.retry import RetryConfig
from airflow_provider_mictlanx.client.transfer.chunk_upload import PutOptions
from airflow_provider_mictlanx.client.validation import check_str, check_timeout, parse_size

MAX_SOURCES_LENGTH = 500
"""Sources that take more characters are named in the records by their number, the first few, and a SHA-256."""


@dataclass(frozen=True)
class BulkSpec:
    """
    Parameters of a bulk, which every attempt must share.

    :ivar bulk_id: any str
    :ivar sources: origin of the balls, as str
    :ivar shards: number of parts
    :ivar rf: number of peers that must store each chunk
    :ivar chunk_size: bytes, or a str such as ``"8MB"``; None lets the size of each ball decide
    :ivar tags: tags of every ball
    :ivar items_per_shard: whether each shard has a list of its own, instead of a part of a common one
    :ivar allow_reserved_bucket: allow buckets of other bulks' records; attempts may differ in it
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
        """Return the spec as the records contain it."""
        fields = {name: getattr(self, name) for name in ("bucket_id", "key_prefix", "shards", "rf")}
        fields["sources"] = [] if self.items_per_shard else self._abbreviated_sources()
        fields["chunk_size"] = None if self.chunk_size is None else parse_size(self.chunk_size)
        return canonical(fields | {"tags": dict(self.tags)})

    def _abbreviated_sources(self) -> list[str]:
        """Return the sources, abbreviated if long: every start has them in its tags, which every poke lists."""
        sources = list(self.sources)
        text = canonical(sources)
        if len(text) <= MAX_SOURCES_LENGTH:
            return sources
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return [f"{len(sources)} sources with SHA-256 {digest}", *(source[:60] for source in sources[:3])]

    def check(self, shard: int) -> None:
        """Raise ``ValidationError`` for an invalid parameter, or number of a shard."""
        check_str("bucket_id", self.bucket_id)
        check_str("key_prefix", self.key_prefix)
        if self.bucket_id:
            check_bucket_may_change(self.bucket_id, self.allow_reserved_bucket)
        records_bucket(self.bulk_id)
        check_shard(shard, self.shards)
        PutOptions(self.rf, tags=self.tags)
        if self.chunk_size is not None:
            parse_size(self.chunk_size)


@dataclass(frozen=True)
class AttemptOptions:
    """
    Parameters of one attempt; another attempt may have others.

    :ivar max_concurrency: limit for the chunks in flight; None lets the size of the largest decide
    :ivar max_tries: tries per chunk
    :ivar max_backoff: longest pause between two tries, in seconds
    :ivar timeout: seconds for each request
    :ivar stop_on_failure: whether the first failure stops what has not begun
    :ivar replace: whether other bytes under a ball's key are replaced
    :ivar allow_empty: whether an empty listing is a bulk of no balls, instead of an error
    :ivar will_retry: whether another attempt follows if this one fails
    :ivar fail_on_error: whether an attempt with failures of balls has failed, so that another one may follow
    """

    max_concurrency: int | None = None
    max_tries: int = 5
    max_backoff: float = 5
    timeout: float = 120
    stop_on_failure: bool = False
    replace: bool = False
    allow_empty: bool = False
    will_retry: bool = False
    fail_on_error: bool = True

    def check(self) -> None:
        """Raise ``ValidationError`` for an invalid parameter."""
        for name in ("stop_on_failure", "replace", "allow_empty", "will_retry", "fail_on_error"):
            if not isinstance(flag := getattr(self, name), bool):
                raise ValidationError(f"{name} is True or False, not {flag!r}")
        if self.max_concurrency is not None:
            PutOptions(max_concurrency=self.max_concurrency)
        RetryConfig(self.max_tries, self.max_backoff)
        check_timeout(self.timeout)


@dataclass(frozen=True)
class UploadResult:
    """
    The result of an attempt.

    :ivar uploaded: balls that were sent
    :ivar skipped: balls that were acknowledged before, or found stored
    :ivar failures: of balls, every one
    :ivar uploaded_size: bytes of the balls that were sent
    :ivar response_time: seconds
    :ivar slowest: a few balls by key, with their seconds
    :ivar permanently_failed: whether there are failures, and no retry could mend any of them
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
