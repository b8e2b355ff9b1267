"""Delete many balls of a bucket: those with given keys, or those selected by prefix, pattern and age."""

from __future__ import annotations

import fnmatch
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from humanfriendly import InvalidTimespan, format_size, parse_timespan
from humanfriendly.text import pluralize

from airflow_provider_mictlanx.batches.runner import REQUEST_TIMEOUT, Batch, BatchResult, Failure, Item
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import run_in_thread, sort_in_slices
from airflow_provider_mictlanx.client.empty_objects import with_empty_objects
from airflow_provider_mictlanx.client.errors import MictlanXError, UnavailableError, ValidationError
from airflow_provider_mictlanx.client.models import Metadata
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.transfer.delete import delete_until_unlisted
from airflow_provider_mictlanx.client.transfer.upload_window import FEWEST_BALLS, listing_limit
from airflow_provider_mictlanx.client.validation import check_int, check_str
from airflow_provider_mictlanx.client.versions import group_by_object, group_versions, listed_key

log = get_logger(__name__)

WINDOW = 5_000
"""Number of balls after which the bucket is listed again, to keep those that changed meanwhile."""


@dataclass(frozen=True)
class DeleteOptions:
    """
    Options of the deletion of many balls.

    :ivar timeout: seconds for each request
    :ivar max_concurrency: limit for the balls that are deleted at the same time
    :ivar allow_reserved_bucket: allow a bucket that may contain a bulk's records
    """

    timeout: float = REQUEST_TIMEOUT
    max_concurrency: int = 8
    allow_reserved_bucket: bool = False


async def delete_keys(
    client: AsyncClient,
    bucket_id: str,
    keys: Iterable[str],
    options: DeleteOptions,
    log_progress: Callable[[str], None] = log.info,
) -> BatchResult:
    """
    Delete balls by their keys, and confirm that they are gone; a missing ball is skipped.

    Many balls share two listings of their bucket, unless it is far larger. Raises ``UnavailableError`` if a peer does
    not answer the second one.

    :param keys: the keys; duplicates are ignored
    """
    wanted = dict.fromkeys(keys, ())
    listed: dict[str, list[Metadata]] = {}
    if len(wanted) > FEWEST_BALLS:
        limit = listing_limit(len(wanted))
        try:
            listed, _ = await list_by_key(client, bucket_id, options.timeout, wanted.__contains__, max_size=limit)
        except MictlanXError as error:
            log.info("Listing bucket %s failed; its objects are deleted one by one: %s", bucket_id, error)
    # If a ball and an object with a key of its own have the same name, only the ball is deleted.
    known = {key: rows for key, rows in listed.items() if len(group_by_object(rows)) == 1}
    result = BatchResult()
    if known:
        first = [known]

        async def list_known() -> dict[str, list[Metadata]]:
            if first:
                return first.pop()
            return (await list_by_key(client, bucket_id, options.timeout, known.__contains__))[0]

        result.add(await _delete_until_unlisted(client, bucket_id, list_known, options, log_progress, also=wanted))
        result.done_size = 0  # as of the other balls, whose sizes are unknown
    others = {key: () for key in wanted if key not in known}
    result.add(await _delete_each(client, bucket_id, others, wanted, options, log_progress))
    return result


async def _delete_each(
    client: AsyncClient,
    bucket_id: str,
    objects: Mapping[str, Collection[Metadata]],
    also: Collection[str],
    options: DeleteOptions,
    log_progress: Callable[[str], None],
) -> BatchResult:
    """
    Delete objects; the first one with an ``UnavailableError`` stops those that would not be confirmed.

    :param objects: by key, their chunks in a complete listing of the bucket; empty if the delete is to be confirmed
    :param also: see ``AsyncClient.delete``
    """
    unavailable: list[UnavailableError] = []

    async def delete(item: Item) -> bool:
        listed = objects[item.key]
        if listed and unavailable:
            return False  # the next listing finds out whether a peer is silent
        response = await client.delete(
            item.key,
            item.bucket_id,
            options.timeout,
            also=also,
            listed=listed,
            allow_reserved_bucket=options.allow_reserved_bucket,
        )
        try:
            return unwrap(response).n_deletes > 0
        except UnavailableError as error:
            unavailable.append(error)
            raise

    items = [Item(bucket_id, key) for key in objects]
    result = await Batch(options.max_concurrency, log_progress, "deleting").run(items, delete)
    for error in unavailable:
        if any(objects.values()) and not error.transient:  # a hung peer: another listing would wait for it
            raise error
    return result


@dataclass(frozen=True)
class Selection:
    """
    The balls of a bucket to delete.

    With ``older_than`` or ``keep_last`` only complete balls are selected: an upload under way is never too old.
    Without them, incomplete ones are selected too.

    :ivar prefix: only keys that begin with it
    :ivar glob: only keys that match it: ``*`` any characters (``/`` too), ``?`` one character, ``[ab]`` one of these;
        not together with ``prefix``
    :ivar older_than: only balls whose newest announcement is older: see ``cutoff``
    :ivar keep_last: leave this number of newest balls, of those that match ``prefix`` or ``glob``
    :ivar allow_whole_bucket: allow a ``prefix`` or ``glob`` that every key matches
    """

    prefix: str = ""
    glob: str = ""
    older_than: timedelta | datetime | str | None = None
    keep_last: int | None = None
    allow_whole_bucket: bool = False

    def __post_init__(self) -> None:
        if check_str("prefix", self.prefix) and check_str("glob", self.glob):
            raise ValidationError("prefix and glob must not both be set")
        matches_all = check_str("glob", self.glob).replace("*", "") in ("", "?") and self.glob != "?"
        if not self.allow_whole_bucket and not self.prefix and matches_all:
            raise ValidationError(
                f"prefix or glob must not match every key, got prefix={self.prefix!r} and glob={self.glob!r}; set "
                "allow_whole_bucket=True to select all objects of the bucket"
            )
        if self.older_than is not None:
            cutoff(self.older_than, time.time())
        if self.keep_last is not None:
            check_int("keep_last", self.keep_last, 0)

    @property
    def by_age(self) -> bool:
        """Return whether the age of the balls matters."""
        return self.older_than is not None or self.keep_last is not None

    def matches(self, key: str) -> bool:
        """Return whether a key matches ``prefix`` or ``glob``."""
        return key.startswith(self.prefix) and fnmatch.fnmatchcase(key, self.glob or "*")

    def choose(self, objects: Mapping[str, Sequence[Metadata]], now: float) -> list[str]:
        """
        Return the keys of the selected balls.

        A ball of unknown age counts as new.

        :param objects: the listed chunks by key, of all balls that match
        :param now: time of the listing (seconds since 1970)
        """
        if not self.by_age:
            return list(objects)
        ages = {key: newest(rows) for key, rows in objects.items() if is_complete(rows)}
        by_age = sorted(ages, key=lambda key: (ages[key], key), reverse=True)[self.keep_last or 0 :]
        before = math.inf if self.older_than is None else cutoff(self.older_than, now)
        return [key for key in by_age if ages[key] < before]


def cutoff(older_than: timedelta | datetime | str, now: float) -> float:
    """
    Return the time before which a ball is older than ``older_than`` (nanoseconds since 1970).

    :param older_than: an age, or a point in time with its time zone. A str is either of them: ``"30d"`` or
        ``"12 hours"``, or an ISO time such as ``"2026-11-01T00:00:00+00:00"``
    :param now: the present (seconds since 1970)
    """
    value = _parse_older_than(older_than) if isinstance(older_than, str) else older_than
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.timestamp() * 1e9
    if isinstance(value, timedelta) and value >= timedelta():
        return (now - value.total_seconds()) * 1e9
    raise ValidationError(
        "older_than must be a timedelta of at least 0, a datetime with a time zone, or a str such as '30d' or "
        f"'2026-11-01T00:00:00+00:00', got {older_than!r}"
    )


def _parse_older_than(text: str) -> timedelta | datetime | None:
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    # parse_timespan takes "30" for seconds, which may be meant as days, and "6M" for minutes.
    if text[-1:].isalpha() and not text.endswith("M"):
        with suppress(InvalidTimespan, OverflowError):
            return timedelta(seconds=parse_timespan(text))
    return None


def newest(rows: Iterable[Metadata]) -> float:
    """Return the time of the newest announcement (nanoseconds since 1970); infinity if one is unknown."""
    return max(row.updated_at or math.inf for row in rows)


def is_complete(rows: Iterable[Metadata]) -> bool:
    """Return whether listed chunks contain a complete ball, which may be empty."""
    objects = group_by_object(with_empty_objects(list(rows))).values()
    return any(version.is_complete for chunks in objects for version in group_versions(chunks))


@dataclass
class DeleteResult(BatchResult):
    """
    The result of the deletion of listed balls.

    ``skipped`` are the balls that match and stay: too new, incomplete, or changed since they were selected.

    :ivar keys: the keys of the deleted balls, sorted; in a dry run, of those that would be deleted
    """

    keys: list[str] = field(default_factory=list)

    def line(self, done: str, skipped: str) -> str:
        """Return ``97 objects deleted, 1.2 GB; 2 kept, 0 failed``."""
        size = format_size(self.done_size)
        return f"{pluralize(self.done, 'object')} {done}, {size}; {self.skipped:,} {skipped}, {self.failed:,} failed"

    def skip(self, balls: int) -> None:
        """Count balls that match and stay."""
        self.skipped += balls
        self.total += balls


async def list_by_key(
    client: AsyncClient,
    bucket_id: str,
    timeout: float,
    matches: Callable[[str], bool] = lambda key: True,
    max_size: int | None = None,
) -> tuple[dict[str, list[Metadata]], float]:
    """
    List the chunks of a bucket by key, sorted, and the time of the answer (seconds since 1970).

    The listing is raw: incomplete balls are included. Raises ``UnavailableError`` if a peer does not answer.

    :param max_size: see ``AsyncClient.get_chunks_by_bucket_id``
    """
    listing = unwrap(await client.get_chunks_by_bucket_id(bucket_id, timeout, max_size=max_size))

    def select() -> dict[str, list[Metadata]]:
        objects: defaultdict[str, list[Metadata]] = defaultdict(list)
        for chunk in listing.balls:
            if matches(key := listed_key(chunk)):
                objects[key].append(chunk)
        return {key: objects[key] for key in sort_in_slices(list(objects), key=str)}

    return await run_in_thread(select), time.time() if listing.answered_at is None else listing.answered_at


async def delete_matching(
    client: AsyncClient,
    bucket_id: str,
    selection: Selection,
    options: DeleteOptions,
    *,
    dry_run: bool = False,
    log_progress: Callable[[str], None] = log.info,
) -> DeleteResult:
    """
    Delete the selected balls of a bucket, and confirm it by listing the bucket again.

    Balls selected by age are listed again before they are deleted, and kept if they changed. Without an age, incomplete
    balls are deleted too, and so are those that are written meanwhile, until the listing has none.

    Raises ``UnavailableError`` if a peer does not answer, so the bucket can't be listed.

    :param dry_run: delete nothing
    """
    if not selection.by_age and not dry_run:
        return await _delete_until_unlisted(
            client, bucket_id, lambda: _list_matching(client, bucket_id, selection, options), options, log_progress
        )
    objects, now = await list_by_key(client, bucket_id, options.timeout, selection.matches)
    keys = await run_in_thread(lambda: selection.choose(objects, now))
    chosen = {key: objects[key] for key in sorted(keys)}
    result = await delete_unchanged(client, bucket_id, chosen, options, dry_run=dry_run, log_progress=log_progress)
    result.skip(len(objects) - len(chosen))
    return result


async def _list_matching(
    client: AsyncClient, bucket_id: str, selection: Selection, options: DeleteOptions
) -> dict[str, list[Metadata]]:
    return (await list_by_key(client, bucket_id, options.timeout, selection.matches))[0]


async def delete_unchanged(
    client: AsyncClient,
    bucket_id: str,
    chosen: Mapping[str, Sequence[Metadata]],
    options: DeleteOptions,
    *,
    dry_run: bool = False,
    log_progress: Callable[[str], None] = log.info,
) -> DeleteResult:
    """
    Delete balls that a listing showed, except those with an announcement since then.

    The bucket is listed again before each ``WINDOW`` of balls. Parameters and errors: see ``delete_matching``, and:

    :param chosen: all listed chunks of the balls, by key, sorted
    """
    result = DeleteResult()
    if dry_run:
        result.keys = list(chosen)
        result.total = result.done = len(chosen)
        result.done_size = await run_in_thread(lambda: sum(map(listed_size, chosen.values())))
        return result
    for start in range(0, len(chosen), WINDOW):
        keys = frozenset(islice(chosen, start, start + WINDOW))
        changed: set[str] = set()

        async def list_unchanged(keys: Set[str] = keys, changed: set[str] = changed) -> dict[str, list[Metadata]]:
            listed, _ = await list_by_key(client, bucket_id, options.timeout, keys.__contains__)
            changed.update(key for key, rows in listed.items() if not _announced(rows) <= _announced(chosen[key]))
            return {key: rows for key, rows in listed.items() if key not in changed}

        part = await _delete_until_unlisted(client, bucket_id, list_unchanged, options, log_progress, changed)
        result.add(part)
        result.keys += part.keys
    return result


def _announced(rows: Iterable[Metadata]) -> set[tuple[str, str, int]]:
    """Return what identifies the announcements of a ball, whose rows a listing repeats."""
    return {(row.key, row.checksum, row.updated_at) for row in rows}


def listed_size(rows: Iterable[Metadata]) -> int:
    """Return the size of a ball by its listed chunks, in bytes; of an incomplete one, that of these chunks."""
    objects = group_by_object(with_empty_objects(list(rows))).values()
    return sum(versions[0].size for chunks in objects if (versions := group_versions(chunks)))


async def _delete_until_unlisted(
    client: AsyncClient,
    bucket_id: str,
    list_objects: Callable[[], Awaitable[dict[str, list[Metadata]]]],
    options: DeleteOptions,
    log_progress: Callable[[str], None],
    changed: Set[str] = frozenset(),
    also: Collection[str] | None = None,
) -> DeleteResult:
    """
    Delete the listed balls, and repeat until none is listed.

    :param list_objects: returns the chunks by key
    :param changed: keys that ``list_objects`` leaves out because they changed
    :param also: see ``AsyncClient.delete``; None = the listed balls
    """
    sizes: dict[str, int] = {}
    rounds: list[BatchResult] = []

    async def delete(objects: dict[str, list[Metadata]]) -> dict[str, Failure]:
        sizes.update(await run_in_thread(lambda: {key: listed_size(objects[key]) for key in objects.keys() - sizes}))
        together = objects.keys() if also is None else also
        result = await _delete_each(client, bucket_id, objects, together, options, log_progress)
        rounds.append(result)
        return {failure.key: failure for failure in result.failures}

    seen, listed = await delete_until_unlisted(list_objects, delete, min_rounds=1)
    left = listed | dict.fromkeys(seen & changed)
    failures = [failure or _listed_again(bucket_id, key) for key, failure in sorted(left.items())]
    keys = sorted(seen - left.keys())
    return DeleteResult(
        total=len(seen | changed),
        done=len(keys),
        done_size=sum(sizes[key] for key in keys),
        response_time=round(sum(result.response_time for result in rounds), 6),
        failures=failures,
        permanently_failed=bool(left) and all(left.values()) and rounds[-1].permanently_failed,
        skipped=len(changed - seen),
        keys=keys,
    )


def _listed_again(bucket_id: str, key: str) -> Failure:
    message = "it was written, or restored by a peer, while it was deleted; run the deletion again"
    return Failure(bucket_id=bucket_id, key=key, code=UnavailableError.default_error_code, message=message)
