"""Looking at a bulk from outside: status, result, end. Every look is one listing of the bulk's own bucket."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Container
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import humanfriendly

from airflow_provider_mictlanx.bulks.errors import BulkConflictError, BulkFailedError
from airflow_provider_mictlanx.bulks.plan import PlannedBall, read_plan
from airflow_provider_mictlanx.bulks.records import Closed, Failure, Plan, Records, canonical
from airflow_provider_mictlanx.bulks.status import (
    BulkStatus,
    State,
    acknowledged_balls,
    is_good_end,
    latest_start,
    status_of,
    valid_reports,
)
from airflow_provider_mictlanx.bulks.storage import REQUEST_TIMEOUT, RecordStore
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.errors import BallConflictError, DeadlineExceededError, ValidationError
from airflow_provider_mictlanx.client.models import DeleteBucketResponse

SMALL = 1900
"""A summary has at most about so many characters as JSON (besides its bulk id)."""

QUIET = 300.0
"""A shard under way writes every minute; when nothing was heard of it for so many seconds, a person should know."""


async def bulk_status(client: AsyncClient, bulk_id: str, request_timeout: float = REQUEST_TIMEOUT) -> BulkStatus:
    """
    Look at a bulk once: one listing of its own small bucket, however large the bulk is.

    One request while it is uploaded, and when it is complete or closed. Before it is said that nobody has planned it, or that
    it failed, a second one asks whether a peer is away; then it is *uploading*, for all that can be told.

    :param request_timeout: of each of them (seconds)
    """
    return (await _look(RecordStore(client, bulk_id, request_timeout)))[1]


async def _look(store: RecordStore) -> tuple[Records, BulkStatus]:
    records, listing = await store.look()
    status = status_of(records)
    if status.state is not State.UPLOADING:
        return records, status
    full = replace(records, complete=True)
    if (bold := status_of(full)).state is State.UPLOADING:
        return full, bold  # whatever is missing in the listing, it would say the same, or better
    if await store.answered_by_all(listing):
        return full, bold
    return records, status


def summary_of(status: BulkStatus) -> dict[str, Any]:
    """
    Give a bulk's result as a small dictionary.

    The keys: ``bulk_id, state, shards, total_balls, successed, failed, uploaded_size`` (bytes of the stored balls),
    ``response_time`` (seconds), ``failures`` (the first few: ``{bucket_id, key, code, message}``), ``problems`` (texts).
    """
    if status.closed:
        return dict(status.closed.result)
    missing = max(status.failed, status.total_balls - status.acknowledged) if status.finished else status.failed
    return fitting(
        {
            "bulk_id": status.bulk_id,
            "state": status.state.value,
            "shards": status.shards,
            "total_balls": max(status.total_balls, status.acknowledged + missing),
            "successed": status.acknowledged,
            "failed": missing,
            "uploaded_size": status.acknowledged_size,
            "response_time": status.response_time,
            "failures": [failure.model_dump() for failure in status.failures],
            "problems": list(status.problems),
        }
    )


def fitting(summary: dict[str, Any]) -> dict[str, Any]:
    """Cut texts short until a summary (changed in place) is a small one: it goes into XComs, and into the tags of a record."""
    for longest, most in ((300, 5), (150, 5), (100, 3), (60, 2)):
        if len(json.dumps(summary)) <= SMALL:
            break
        summary["problems"] = [_cut(problem, longest) for problem in summary["problems"][:most]]
        summary["failures"] = [
            {**failure, "key": _cut(failure["key"], longest), "message": _cut(failure["message"], longest)}
            for failure in summary["failures"][:most]
        ]
    return summary


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def line_of(status: BulkStatus, now: float | None = None) -> str:
    """
    Tell a person where a bulk stands.

    :param now: seconds since 1970; default: the clock
    """
    if status.state is State.UNPLANNED:
        return f"Bulk {status.bulk_id!r}: nobody has planned it yet"
    if status.closed:
        return f"Bulk {status.bulk_id!r} is closed: it was awaited, and its result kept"
    if not status.shards:
        return f"Bulk {status.bulk_id!r}: a peer is away, so that it can't be told whether somebody has planned it"
    done = f"{status.acknowledged:,} of {status.total_balls:,} balls"
    size = f"{humanfriendly.format_size(status.acknowledged_size)} of {humanfriendly.format_size(status.total_size)}"
    parts = [f"Bulk {status.bulk_id!r} is {status.state.value}: {done}, {size}"]
    if status.response_time:
        parts.append(f"{humanfriendly.format_size(int(status.acknowledged_size / status.response_time))}/s")
    if status.shards > 1:
        parts.append(f"{status.shards_complete} of {status.shards} shards complete")
    if status.last_heard:
        heard = datetime.fromtimestamp(status.last_heard / 1e9, UTC)
        parts.append(f"last heard of at {heard:%H:%M:%S} UTC")
    seconds = (time.time() if now is None else now) - status.quiet_since / 1e9
    if status.quiet_since and seconds > QUIET:
        quiet = humanfriendly.format_timespan(round(seconds), max_units=2)
        parts.append(f"nothing was heard of shard {status.quiet_shard} for {quiet}, its worker may have died")
    if status.failed:
        parts.append(f"{status.failed:,} failed" + (", which a retry may still mend" if status.may_be_mended else ""))
    return ", ".join(parts)


def failure_of(status: BulkStatus) -> BulkFailedError:
    """Give the error for a bulk that failed for good."""
    summary = summary_of(status)
    failures = [f"{failure['key']}: {failure['message']}" for failure in summary["failures"]]
    way_out = (
        "It was closed since: delete_bulk, and upload it anew"
        if status.closed
        else "Mend it and clear the upload task, which goes on where it ended"
    )
    return BulkFailedError(
        f"bulk {status.bulk_id!r} failed for good: {summary['failed']} of {summary['total_balls']} balls are not stored. "
        f"{'; '.join([*summary['problems'], *failures]) or 'No reason was recorded'}. {way_out}",
        permanent=True,
        result=summary,
    )


def is_open(status: BulkStatus, fail_on_error: bool) -> bool:
    """
    Tell whether a gate that waits for the bulk opens now; raises ``BulkFailedError`` where it never will.

    A bulk that was closed is what it was before.

    :param fail_on_error: whether a bulk that failed for good is an error; else the gate opens when it is finished
    """
    failed = status.state is State.FAILED or (
        status.closed is not None and status.closed.result.get("state") == State.FAILED.value
    )
    if failed and fail_on_error:
        raise failure_of(status)
    return status.state in (State.COMPLETE, State.CLOSED) or (failed and status.finished)


async def await_bulk(
    client: AsyncClient,
    bulk_id: str,
    *,
    poke_interval: float = 10,
    timeout: float | None = None,
    fail_on_error: bool = True,
    include_items: bool = False,
    remove_on_completion: bool = False,
    request_timeout: float = REQUEST_TIMEOUT,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """
    Wait for a bulk, and give its result as ``summary_of`` does.

    ``BulkFailedError``: it failed for good, and ``fail_on_error`` is true; ``DeadlineExceededError``: it is not finished in time.

    :param poke_interval: between two looks (seconds)
    :param timeout: for the whole wait (seconds), at the end of which it looks once more; None waits for ever
    :param include_items: adds ``successes`` and all ``failures`` as lists
    :param remove_on_completion: removes the records, but for the result, which answers whoever asks again
    :param request_timeout: of each request (seconds)
    :param tell: takes a line after every look
    """
    _check_seconds("poke_interval", poke_interval)
    if timeout is not None:
        _check_seconds("timeout", timeout)
    started = time.monotonic()
    store = RecordStore(client, bulk_id, request_timeout)
    while True:
        records, status = await _look(store)
        if tell:
            tell(line_of(status))
        if is_open(status, fail_on_error):
            return await _result(store, records, status, include_items, remove_on_completion)
        left = math.inf if timeout is None else timeout - (time.monotonic() - started)
        if left <= 0:
            raise DeadlineExceededError(f"{line_of(status)}; it was waited for {timeout:g} s")
        await asyncio.sleep(min(poke_interval, left))


def _check_seconds(name: str, seconds: float) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise ValidationError(f"{name} is a number of seconds, not {seconds!r}")


async def result_of(
    client: AsyncClient,
    bulk_id: str,
    include_items: bool = False,
    remove_on_completion: bool = False,
    request_timeout: float = REQUEST_TIMEOUT,
) -> dict[str, Any]:
    """
    Give the result of a bulk that is finished; the parameters are those of ``await_bulk``.

    ``BulkFailedError``: it is not finished (any more).
    """
    store = RecordStore(client, bulk_id, request_timeout)
    records, status = await _look(store)
    if not is_open(status, fail_on_error=False):
        raise BulkFailedError(f"{line_of(status)}: it is not finished, so it has no result", result=summary_of(status))
    return await _result(store, records, status, include_items, remove_on_completion)


async def _result(
    store: RecordStore, records: Records, status: BulkStatus, include_items: bool, remove: bool
) -> dict[str, Any]:
    summary = summary_of(status)
    if status.closed:
        items = await _kept_items(store, status.closed) if include_items else {}
    else:
        items = await _items(store, records) if include_items else {}
        if remove:
            summary, items = await _close(store, summary, items)
    if remove:
        await store.delete((await store.read_completely()).names)
    return {**summary, **items}


async def _close(
    store: RecordStore, summary: dict[str, Any], items: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the result down; where another await has done so just now, its result is the one."""
    try:
        await store.write(Closed(result=summary), canonical(items).encode())
    except BallConflictError:
        closed = (await store.read()).closed
        if closed is None:
            raise
        return dict(closed.result), items
    return summary, items


async def _kept_items(store: RecordStore, closed: Closed) -> dict[str, Any]:
    """Give the items that the await kept which closed the bulk."""
    items: dict[str, Any] = json.loads(await store.content_of(closed))
    if not items:
        raise BulkConflictError(
            f"bulk {store.bulk_id!r} was closed by an await without include_items, so its items are not known any more; its "
            f"result is {canonical(closed.result)}"
        )
    return items


async def delete_bulk(
    client: AsyncClient, bulk_id: str, request_timeout: float = REQUEST_TIMEOUT
) -> DeleteBucketResponse:
    """
    Delete everything that is known of a bulk, not its balls: the bulk id can be used anew.

    :param request_timeout: of each request (seconds)
    """
    return await RecordStore(client, bulk_id, request_timeout).delete_all()


async def _items(store: RecordStore, records: Records) -> dict[str, Any]:
    """Give every ball: ``successes`` as ``{bucket_id, key, size, checksum}``, ``failures`` with code and message."""
    successes: list[dict[str, Any]] = []
    failures: dict[tuple[str, str], dict[str, Any]] = {}
    for _, own in sorted(records.by_shard().items()):
        for record in sorted(own.plans, key=lambda plan: plan.digest)[:1]:
            balls = read_plan(record, await store.content_of(record)).balls
            done = await _acknowledged(store, own, record)
            successes += [_told(ball) for index, ball in enumerate(balls) if index in done]
        latest = latest_start(own.starts)
        ends = [end for end in own.dones if latest and end.attempt == latest.attempt]
        for _, item in await store.items_of(ends):
            for failure in item.get("failures", []):
                failures[failure["bucket_id"], failure["key"]] = Failure.model_validate(failure).model_dump()
    stored = {(ball["bucket_id"], ball["key"]) for ball in successes}
    return {"successes": successes, "failures": [told for name, told in failures.items() if name not in stored]}


async def _acknowledged(store: RecordStore, own: Records, plan: Plan) -> Container[int]:
    """Return the balls of a shard's plan that its records acknowledge."""
    if any(is_good_end(report) for report in valid_reports(own, plan)):
        return range(plan.balls)
    return acknowledged_balls(
        own, plan, await store.items_of(report for report in own.reports if report.plan == plan.digest)
    )


def _told(ball: PlannedBall) -> dict[str, Any]:
    return {"bucket_id": ball.bucket_id, "key": ball.key, "size": ball.size, "checksum": ball.checksum}
