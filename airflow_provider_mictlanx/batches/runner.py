"""Run work for many balls: bounded concurrency, progress in the log, failures in the result."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, TypeVar, cast

from humanfriendly import format_size
from humanfriendly.text import pluralize
from pydantic import AfterValidator, BaseModel, ConfigDict

from airflow_provider_mictlanx.batches.progress import Progress, format_transfer, in_background, keep_logging
from airflow_provider_mictlanx.client.concurrency import ByteBudget, for_each
from airflow_provider_mictlanx.client.errors import MictlanXError, UnknownError
from airflow_provider_mictlanx.client.local_io.chunk_sizes import (
    BATCH_BUDGET,
    DEFAULT_CHUNK,
    MAX_IN_FLIGHT,
    chunk_size_for,
    concurrency_for,
)
from airflow_provider_mictlanx.client.models import Ball
from airflow_provider_mictlanx.client.retry import RetryConfig
from airflow_provider_mictlanx.client.texts import clean, format_first, get_logger, truncate
from airflow_provider_mictlanx.client.validation import check_bool, check_int, check_timeout

T = TypeVar("T")
log = get_logger(__name__)

REQUEST_TIMEOUT = 120.0
"""Default timeout of one request, in seconds."""

MAX_CONSECUTIVE_FAILURES = 16
"""Limit for transient failures in a row; after that no further ball is started."""


@dataclass(frozen=True, slots=True)
class Item:
    """
    One ball of a batch.

    :ivar size: bytes, as far as known
    :ivar checksum: SHA-256 of the complete ball in hex; empty if unknown
    :ivar listed: the ball in a complete listing of its bucket; None if it must be looked up
    """

    bucket_id: str
    key: str
    size: int = 0
    checksum: str = ""
    listed: Ball | None = field(default=None, compare=False, repr=False)


I = TypeVar("I", bound=Item)  # noqa: E741


@dataclass(frozen=True)
class TransferOptions:
    """
    Options of the transfer of many balls.

    :ivar max_concurrency: limit for the chunks in flight, of all balls together; None chooses it by their sizes
    :ivar max_tries: tries per chunk
    :ivar max_backoff: longest pause between two tries, in seconds
    :ivar timeout: seconds for each request
    """

    max_concurrency: int | None = None
    max_tries: int = 5
    max_backoff: float = 5
    timeout: float = REQUEST_TIMEOUT

    def __post_init__(self) -> None:
        check_max_concurrency(self.max_concurrency)
        RetryConfig(self.max_tries, self.max_backoff)
        check_timeout(self.timeout)
        for option in fields(self):
            if isinstance(option.default, bool):
                check_bool(option.name, getattr(self, option.name))

    @property
    def retry(self) -> dict[str, Any]:
        """The client's arguments for the tries of a request."""
        return {"timeout": self.timeout, "max_tries": self.max_tries, "max_backoff": self.max_backoff}

    def for_one_of(self, balls: int) -> dict[str, Any]:
        """Return the client's arguments for one of several transfers, which share ``max_concurrency``."""
        in_flight = concurrency_for(DEFAULT_CHUNK, self.max_concurrency, BATCH_BUDGET)
        return asdict(self) | {"max_concurrency": max(1, in_flight // max(1, balls))}


@dataclass(frozen=True)
class StoreOptions(TransferOptions):
    """
    Options of a transfer that stores many balls.

    :ivar rf: number of peers that must store every chunk
    :ivar replace: delete different bytes under a key first
    """

    rf: int = 1
    replace: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("rf", self.rf)


def select_options(kind: Callable[..., T], given: Mapping[str, Any], **others: Any) -> T:
    """Build a dataclass from the given values that are its fields, and from ``others``."""
    names = {field.name for field in fields(cast(Any, kind))}
    return kind(**{name: value for name, value in given.items() if name in names} | others)


def check_max_concurrency(value: int | None) -> int:
    """Return the number of balls that are worked on at the same time; None chooses it."""
    return MAX_IN_FLIGHT if value is None else check_int("max_concurrency", value)


@dataclass
class BatchResult:
    """
    The result of a batch.

    :ivar total: number of balls
    :ivar done: balls that were transferred or deleted
    :ivar skipped: balls that needed no work
    :ivar done_size: bytes of ``done``
    :ivar response_time: seconds
    :ivar failures: every one, in the order of the balls
    :ivar permanently_failed: whether balls failed, and no retry can fix any of them
    :ivar unverified: number of downloaded balls whose writer recorded no SHA-256 of the complete ball
    """

    total: int = 0
    done: int = 0
    skipped: int = 0
    done_size: int = 0
    response_time: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    permanently_failed: bool = False
    unverified: int = 0

    @property
    def failed(self) -> int:
        """The number of balls that failed."""
        return len(self.failures)

    def add(self, other: BatchResult) -> None:
        """Add the result of further balls."""
        failed = [part for part in (self, other) if part.failures]
        self.permanently_failed = bool(failed) and all(part.permanently_failed for part in failed)
        self.total += other.total
        self.done += other.done
        self.skipped += other.skipped
        self.done_size += other.done_size
        self.response_time = round(self.response_time + other.response_time, 6)
        self.failures += other.failures
        self.unverified += other.unverified

    def line(self, done: str, skipped: str) -> str:
        """
        Return ``97 objects copied, 1.2 GB in 12.3 s, 97 MB/s; 2 already stored, 0 failed``.

        :param done: verb for ``done``, such as ``copied``
        :param skipped: reason for ``skipped``, such as ``already stored``
        """
        transferred = f", {format_transfer(self.done_size, self.response_time)}" if self.done_size else ""
        return (
            f"{pluralize(self.done, 'object')} {done}{transferred}; {self.skipped:,} {skipped}, {self.failed:,} failed"
        )


class BatchError(MictlanXError):
    """
    Some balls of a batch failed.

    :ivar result: the summary that the call would have returned
    """

    def __init__(self, message: str = "", *args: Any, result: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(message, *args, **kwargs)
        self.result = {} if result is None else result


class Batch:
    """
    Run work for every ball, with bounded concurrency; a failure does not stop the other balls.

    :param max_concurrency: limit for the balls that are worked on at the same time; None chooses it by ``memory``
    :param log_progress: logs a line of progress every few seconds
    :param doing: verb at the start of every such line, such as ``copying``
    :param stop_on_failure: start no further ball after the first failure
    :param on_failure: called immediately for every failure
    :param memory: returns the bytes that the work on a ball holds, for an automatic ``max_concurrency``
    """

    def __init__(
        self,
        max_concurrency: int | None,
        log_progress: Callable[[str], None] = log.info,
        doing: str = "",
        *,
        stop_on_failure: bool = False,
        on_failure: Callable[[Item, MictlanXError], None] = lambda item, error: None,
        memory: Callable[[Any], int] = lambda item: min(item.size, chunk_size_for(item.size)),
    ) -> None:
        self._max_concurrency = check_max_concurrency(max_concurrency)
        self._budget = ByteBudget(BATCH_BUDGET) if max_concurrency is None else None
        self._memory = memory
        self._log_progress = log_progress
        self._doing = doing
        self._stop_on_failure = stop_on_failure
        self._on_failure = on_failure
        self._result = BatchResult()
        self._failures: dict[int, Failure] = {}
        """By the ball's position."""
        self._permanent = 0
        self._consecutive = 0  # transient failures; all concurrent balls may fail together
        self._max_consecutive = max(MAX_CONSECUTIVE_FAILURES, 2 * self._max_concurrency)
        self._stopped_by = ""

    async def run(
        self, items: Iterable[I], work: Callable[[I], Awaitable[bool]], progress: Progress | None = None
    ) -> BatchResult:
        """
        Run the work for every ball, and return the result.

        :param items: the balls; consumed one by one if ``progress`` is given
        :param work: returns False if the ball needed no work; a ``MictlanXError`` or ``OSError`` is the ball's failure
        :param progress: counts the balls; default: a new one
        """
        started = time.monotonic()
        if progress is None:
            items = list(items)
            doing = f"{self._doing} " if self._doing else ""
            size = sum(item.size for item in items)
            progress = Progress(len(items), size, self._log_progress, doing)
            if items:
                self._log_progress(f"{doing.capitalize()}{pluralize(len(items), 'object')}, {format_size(size)}")
        counting = progress

        async def one(place: tuple[int, I]) -> None:
            async with self._budget.reserve(self._memory(place[1])) if self._budget else nullcontext():
                await self._one(*place, work, counting)

        async with in_background(keep_logging(lambda: counting)):
            await for_each(enumerate(items), one, self._max_concurrency)
        result = self._result
        result.failures = [failure for _, failure in sorted(self._failures.items())]
        result.total = result.done + result.skipped + result.failed
        result.response_time = round(time.monotonic() - started, 6)
        result.permanently_failed = 0 < result.failed == self._permanent
        return result

    async def _one(self, position: int, item: I, work: Callable[[I], Awaitable[bool]], progress: Progress) -> None:
        if self._stopped_by:
            self._fail(position, item, UnknownError(f"not started, because {self._stopped_by}", transient=False))
            return
        try:
            done = await work(item)
        except MictlanXError as error:
            self._fail(position, item, error)
            progress.failed()
        except OSError as error:  # of a local file
            self._fail(
                position,
                item,
                UnknownError(f"{error.filename or item.key}: {error.strerror or error}", transient=False),
            )
            progress.failed()
        else:
            self._consecutive = 0
            self._result.done += done
            self._result.done_size += item.size if done else 0
            self._result.skipped += not done
            progress.add(1, item.size)

    def _fail(self, position: int, item: Item, error: MictlanXError) -> None:
        self._failures[position] = Failure(
            bucket_id=item.bucket_id, key=item.key, code=error.error_code, message=str(error)
        )
        self._on_failure(item, error)
        self._permanent += error.permanent
        self._consecutive = self._consecutive + 1 if error.transient else 0
        if self._stopped_by:
            return
        if self._stop_on_failure:
            self._stopped_by = f"{item.key} failed"
        elif self._consecutive >= self._max_consecutive:
            self._stopped_by = f"the last {self._consecutive} objects all failed: {error}"


def batch_error(what: str, result: BatchResult, summary: dict[str, Any]) -> BatchError:
    """
    Return the error for a batch in which balls failed.

    :param what: the work, such as ``copying a/ of bucket b to bucket c``
    :param summary: the result that the call would have returned
    """
    what_to_do = (
        "No retry can fix this" if result.permanently_failed else "Run it again: finished objects are not repeated"
    )
    return BatchError(
        f"{what}: {result.failed} of {result.total} objects failed: {format_failures(result.failures)}. {what_to_do}",
        permanent=result.permanently_failed,
        result=summary,
    )


CleanText = Annotated[str, AfterValidator(clean)]
"""A str for messages. It is cleaned, since any writer to the storage can write records."""


class Failure(BaseModel):
    """The failure of one ball."""

    model_config = ConfigDict(frozen=True)

    bucket_id: str
    key: str
    code: int
    message: CleanText


MAX_REPORTED = 5
"""Limit for the failures or objects that a message, a summary or the log names."""


def format_failures(failures: Sequence[Failure]) -> str:
    """Return the first failure, and the keys of the next ones; the log has a line for each."""
    others = [failure.key for failure in failures[1:]]
    also = f"; also failed: {format_first(others)}" if others else ""
    return f"{failures[0].key}: {failures[0].message}{also}" if failures else ""


def truncate_failure(failure: dict[str, Any], max_size: int) -> dict[str, Any]:
    """Return a dumped ``Failure`` with its key and its message truncated."""
    return failure | {name: truncate(failure[name], max_size) for name in ("key", "message")}
