"""
One piece of work for each of many balls: so many at a time, with progress for people; what fails is told at the end.

Imports the client, and from ``bulks`` the progress and the form of a failure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, TypeVar

from humanfriendly.text import pluralize
from pydantic import AfterValidator, BaseModel, ConfigDict

from airflow_provider_mictlanx.batches.progress import Progress, format_transfer, keep_logging
from airflow_provider_mictlanx.client.concurrency import for_each
from airflow_provider_mictlanx.client.errors import MictlanXError, UnknownError
from airflow_provider_mictlanx.client.texts import clean, get_logger, truncate
from airflow_provider_mictlanx.client.validation import check_int

log = get_logger(__name__)


MAX_CONSECUTIVE_FAILURES = 16
"""After so many failures in a row that may pass, and no success between them, nothing more is begun."""


@dataclass(frozen=True, slots=True)
class Item:
    """
    One ball that something is done to.

    :ivar size: bytes, as far as they are known
    :ivar checksum: SHA-256 of the whole in hex; empty where it is not known
    """

    bucket_id: str
    key: str
    size: int = 0
    checksum: str = ""


I = TypeVar("I", bound=Item)  # noqa: E741


@dataclass(frozen=True)
class TransferOptions:
    """
    How balls are transferred.

    :ivar max_concurrency: the most chunks in flight, of all balls together
    :ivar max_tries: for each chunk
    :ivar max_backoff: the longest wait between two tries (seconds)
    :ivar timeout: for each request (seconds)
    """

    max_concurrency: int = 8
    max_tries: int = 5
    max_backoff: float = 5
    timeout: float = 120

    def __post_init__(self) -> None:
        check_int("max_concurrency", self.max_concurrency)

    def for_one_of(self, balls: int) -> dict[str, Any]:
        """Return the client's arguments for one of the transfers, which share ``max_concurrency``."""
        return asdict(self) | {"max_concurrency": max(1, self.max_concurrency // max(1, balls))}


@dataclass(frozen=True)
class BatchResult:
    """
    What became of a batch.

    :ivar total: how many balls there were
    :ivar done: of these, something was done to
    :ivar skipped: of these, there was nothing to do
    :ivar done_size: bytes of those that something was done to
    :ivar failures: every one
    :ivar permanently_failed: whether there are failures, and no retry could mend any of them
    :ivar response_time: seconds
    """

    total: int
    done: int
    skipped: int
    done_size: int
    response_time: float
    failures: list[Failure] = field(default_factory=list)
    permanently_failed: bool = False

    @property
    def failed(self) -> int:
        """How many balls failed."""
        return len(self.failures)

    def line(self, done: str, skipped: str) -> str:
        """
        Tell how it went, for people: ``97 balls copied, 1.2 GB in 12.3 s, 97 MB/s; 2 there already, 0 failed``.

        :param done: what was done
        :param skipped: why nothing was done to the others
        """
        transferred = f", {format_transfer(self.done_size, self.response_time)}" if self.done_size else ""
        return f"{pluralize(self.done, 'ball')} {done}{transferred}; {self.skipped:,} {skipped}, {self.failed:,} failed"


class BatchError(MictlanXError):
    """
    Something could not be done to every ball of a batch.

    :ivar result: the summary that would have been given
    """

    def __init__(self, message: str = "", *args: Any, result: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(message, *args, **kwargs)
        self.result = {} if result is None else result


class FailureStreak:
    """
    Count failures in a row that may pass; too many of them stop the work.

    :param max_concurrency: the most balls at a time, which may all fail at once
    :ivar stopped_by: why nothing more is begun; empty while the work goes on
    """

    def __init__(self, max_concurrency: int) -> None:
        self._limit = max(MAX_CONSECUTIVE_FAILURES, 2 * max_concurrency)
        self._length = 0
        self.stopped_by = ""

    def end(self) -> None:
        """Count from zero again, after a success."""
        self._length = 0

    def add(self, error: MictlanXError) -> None:
        """Count a failure; one that is not transient ends the streak."""
        self._length = self._length + 1 if error.transient else 0
        if not self.stopped_by and self._length >= self._limit:
            self.stopped_by = f"the last {self._length} balls all failed: {error}"


class Batch:
    """
    Does some work to balls.

    :param max_concurrency: the most balls at a time
    :param log_progress: takes a line of progress every few seconds
    :param doing: what is being done, before every such line: ``copying``
    """

    def __init__(self, max_concurrency: int, log_progress: Callable[[str], None] = log.info, doing: str = "") -> None:
        self._max_concurrency = check_int("max_concurrency", max_concurrency)
        self._log_progress = log_progress
        self._doing = doing
        self._done = 0
        self._done_size = 0
        self._skipped = 0
        self._failures: list[Failure] = []
        self._permanent = 0
        self._streak = FailureStreak(max_concurrency)

    async def run(self, items: Sequence[I], work: Callable[[I], Awaitable[bool]]) -> BatchResult:
        """
        Do the work to every ball, whatever becomes of the others.

        :param work: gives False where there was nothing to do; a ``MictlanXError`` or an ``OSError`` of it is the ball's failure
        """
        started = time.monotonic()
        progress = Progress(
            len(items), sum(item.size for item in items), self._log_progress, f"{self._doing} " if self._doing else ""
        )
        reporter = asyncio.create_task(keep_logging(lambda: progress))
        try:
            await for_each(items, lambda item: self._one(item, work, progress), self._max_concurrency)
        finally:
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)
        return BatchResult(
            total=len(items),
            done=self._done,
            skipped=self._skipped,
            done_size=self._done_size,
            response_time=round(time.monotonic() - started, 6),
            failures=self._failures,
            permanently_failed=0 < len(self._failures) == self._permanent,
        )

    async def _one(self, item: I, work: Callable[[I], Awaitable[bool]], progress: Progress) -> None:
        if self._streak.stopped_by:
            self._fail(item, UnknownError(f"not begun, because {self._streak.stopped_by}", transient=False))
            return
        try:
            done = await work(item)
        except MictlanXError as error:
            self._fail(item, error)
            progress.failed()
        except OSError as error:  # of the disk
            self._fail(item, UnknownError(f"{error.filename or item.key}: {error.strerror or error}", transient=False))
            progress.failed()
        else:
            self._streak.end()
            self._done += done
            self._done_size += item.size if done else 0
            self._skipped += not done
            progress.add(1, item.size)

    def _fail(self, item: Item, error: MictlanXError) -> None:
        self._failures.append(
            Failure(bucket_id=item.bucket_id, key=item.key, code=error.error_code, message=str(error))
        )
        self._permanent += error.permanent
        self._streak.add(error)


def batch_error(what: str, result: BatchResult, summary: dict[str, Any]) -> BatchError:
    """
    Give the error for a batch of which not every ball succeeded.

    :param what: was being done, to what: ``copying a/ of bucket b to bucket c``
    :param summary: what would have been given
    """
    what_to_do = (
        "No retry can mend that" if result.permanently_failed else "Run it again: what is done is not done again"
    )
    return BatchError(
        f"{what}: {result.failed} of {result.total} balls failed: {format_failures(result.failures)}. {what_to_do}",
        permanent=result.permanently_failed,
        result=summary,
    )


CleanText = Annotated[str, AfterValidator(clean)]
"""A text for people; whoever can write to the storage can write records."""


class Failure(BaseModel):
    """Why one ball of a bulk is not stored."""

    model_config = ConfigDict(frozen=True)

    bucket_id: str
    key: str
    code: int
    message: CleanText


MAX_REPORTED = 5
"""The most failures, or objects, that a message, a summary or a log names."""


def format_failures(failures: Sequence[Failure]) -> str:
    """Return the first few failures as ``key: message; …``."""
    return "; ".join(f"{failure.key}: {failure.message}" for failure in failures[:MAX_REPORTED])


def truncate_failure(failure: dict[str, Any], max_size: int) -> dict[str, Any]:
    """Return a dumped ``Failure`` with its key and its message truncated."""
    return failure | {name: truncate(failure[name], max_size) for name in ("key", "message")}


REQUEST_TIMEOUT = 120.0
"""How long a request for a record may take, unless the caller says otherwise (seconds)."""
