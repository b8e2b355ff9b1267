"""
One piece of work for each of many balls: so many at a time, with progress for people; what fails is told at the end.

Imports the client, and from ``bulks`` the progress and the form of a failure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from humanfriendly import format_size
from humanfriendly.text import pluralize
from pydantic import AfterValidator, BaseModel, ConfigDict

from airflow_provider_mictlanx.batches.progress import Progress, keep_logging
from airflow_provider_mictlanx.client.concurrency import for_each
from airflow_provider_mictlanx.client.errors import MictlanXError, UnknownError
from airflow_provider_mictlanx.client.texts import clean, get_logger
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
        """Give the options of a single transfer, so that those of all balls together stay within their bound."""
        each = max(1, self.max_concurrency // max(1, balls))
        return {
            "max_concurrency": each,
            "max_tries": self.max_tries,
            "max_backoff": self.max_backoff,
            "timeout": self.timeout,
        }


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
        speed = format_size(round(self.done_size / max(self.response_time, 1e-3)))
        transferred = (
            f", {format_size(self.done_size)} in {self.response_time:.1f} s, {speed}/s" if self.done_size else ""
        )
        return f"{pluralize(self.done, 'ball')} {done}{transferred}; {self.skipped:,} {skipped}, {self.failed:,} failed"


class BatchError(MictlanXError):
    """
    Something could not be done to every ball of a batch.

    :ivar result: the summary that would have been given
    """

    def __init__(self, message: str = "", *args: Any, result: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(message, *args, **kwargs)
        self.result = {} if result is None else result


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
        self._in_a_row = 0
        self._stopped_by = ""

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
        if self._stopped_by:
            self._fail(item, UnknownError(f"not begun, because {self._stopped_by}", transient=False))
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
            self._in_a_row = 0
            self._done += done
            self._done_size += item.size if done else 0
            self._skipped += not done
            progress.add(1, item.size)

    def _fail(self, item: Item, error: MictlanXError) -> None:
        self._failures.append(
            Failure(bucket_id=item.bucket_id, key=item.key, code=error.error_code, message=str(error))
        )
        self._permanent += error.permanent
        self._in_a_row = self._in_a_row + 1 if error.transient else 0
        if not self._stopped_by and self._in_a_row >= max(MAX_CONSECUTIVE_FAILURES, 2 * self._max_concurrency):
            self._stopped_by = f"the last {self._in_a_row} balls all failed: {error}"


def batch_error(what: str, result: BatchResult, summary: dict[str, Any]) -> BatchError:
    """
    Give the error for a batch of which not every ball succeeded.

    :param what: was being done, to what: ``copying a/ of bucket b to bucket c``
    :param summary: what would have been given
    """
    reasons = "; ".join(f"{failure.key}: {failure.message}" for failure in result.failures[:MAX_REPORTED])
    what_to_do = (
        "No retry can mend that" if result.permanently_failed else "Run it again: what is done is not done again"
    )
    return BatchError(
        f"{what}: {result.failed} of {result.total} balls failed: {reasons}. {what_to_do}",
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
"""How many failures a summary names."""

REQUEST_TIMEOUT = 120.0
"""How long a request for a record may take, unless the caller says otherwise (seconds)."""
