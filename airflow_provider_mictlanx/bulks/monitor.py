"""Follow a bulk from any process: status, result, deletion. A poke is one listing of the bulk's own bucket."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Container
from dataclasses import replace
from typing import Any

from airflow_provider_mictlanx.batches.runner import REQUEST_TIMEOUT, Item
from airflow_provider_mictlanx.bulks.errors import BulkConflictError, BulkFailedError
from airflow_provider_mictlanx.bulks.inventory import find_listed
from airflow_provider_mictlanx.bulks.plan import PlannedBall, read_plan
from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.bulks.records import Closed, Plan, Records, Summary, canonical
from airflow_provider_mictlanx.bulks.status import (
    BulkStatus,
    State,
    acknowledged_balls,
    compute_status,
    first_attempt,
    is_good_end,
    latest_start,
    valid_reports,
)
from airflow_provider_mictlanx.bulks.summary import permanent_failure, status_line, summarize
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.errors import BallConflictError, DeadlineExceededError
from airflow_provider_mictlanx.client.models import DeleteBucketResponse
from airflow_provider_mictlanx.client.validation import check_non_negative


async def bulk_status(client: AsyncClient, bulk_id: str, request_timeout: float = REQUEST_TIMEOUT) -> BulkStatus:
    """
    Return the state of a bulk, by one listing of its own small bucket.

    One request is enough for a bulk that is being uploaded, complete or closed. Before *unplanned* or *failed* is
    returned, a second request checks that every peer answered; if not, the state is *uploading*.

    :param request_timeout: seconds for each request
    """
    return (await _poke(RecordStore(client, bulk_id, request_timeout)))[1]


async def _poke(store: RecordStore) -> tuple[Records, BulkStatus]:
    records, listing = await store.list_once()
    status = compute_status(records)
    if status.state is not State.UPLOADING:
        return records, status
    full = replace(records, complete=True)
    if (assumed_complete := compute_status(full)).state is State.UPLOADING:
        return full, assumed_complete  # missing records can only improve this state
    if await store.answered_by_all(listing):
        return full, assumed_complete
    return records, status


def is_wait_over(status: BulkStatus, fail_on_error: bool) -> bool:
    """
    Return whether the wait for a bulk is over; raise ``BulkFailedError`` if the bulk failed permanently.

    A closed bulk counts as complete or failed, as before it was closed.

    :param fail_on_error: raise for a bulk that failed permanently; False ends the wait once the bulk is finished
    """
    failed = State.FAILED in (status.state, status.closed and status.closed.result.state)
    if failed and fail_on_error:
        raise permanent_failure(status)
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
    log_progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """
    Wait for a bulk, and return its result in the form of ``summarize``.

    Raises ``BulkFailedError`` if it failed permanently and ``fail_on_error`` is True, ``DeadlineExceededError`` after
    ``timeout``.

    :param poke_interval: seconds between two pokes
    :param timeout: seconds to wait, with a last poke at the end; None for no limit
    :param include_items: add ``successes`` and all ``failures`` as lists
    :param remove_on_completion: delete the records except the result, which answers later calls
    :param request_timeout: seconds for each request
    :param log_progress: logs a line after every poke
    """
    check_non_negative("poke_interval", poke_interval)
    if timeout is not None:
        check_non_negative("timeout", timeout)
    started = time.monotonic()
    store = RecordStore(client, bulk_id, request_timeout)
    while True:
        records, status = await _poke(store)
        log_progress(status_line(status))
        if is_wait_over(status, fail_on_error):
            return await _result(store, records, status, include_items, remove_on_completion)
        left = math.inf if timeout is None else timeout - (time.monotonic() - started)
        if left <= 0:
            raise DeadlineExceededError(
                f"waiting for bulk {bulk_id!r} failed after {timeout:g} s: {status_line(status)}"
            )
        await asyncio.sleep(min(poke_interval, left))


async def _result(
    store: RecordStore, records: Records, status: BulkStatus, include_items: bool, remove: bool
) -> dict[str, Any]:
    summary = summarize(status)
    if status.closed:
        items = await _kept_items(store, status.closed) if include_items else {}
    else:
        items = await _items(store, records) if include_items else {}
        if remove:
            closed = Closed(result=Summary(**summary), upload=first_attempt(records.starts))
            summary, items = await _close(store, closed, items)
    if remove:
        await store.delete((await store.read_completely()).names)
    return {**summary, **items}


async def _close(store: RecordStore, closed: Closed, items: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Record the result and return it; if another await has just recorded one, return that."""
    try:
        await store.write(closed, canonical(items).encode())
    except BallConflictError:
        found = (await store.read()).closed
        if found is None:
            raise
        closed = found
    return closed.result.model_dump(), items


async def _kept_items(store: RecordStore, closed: Closed) -> dict[str, Any]:
    """Return the lists of balls that the record ``closed`` contains."""
    items: dict[str, Any] = json.loads(await store.read_content(closed))
    if not items:
        raise BulkConflictError(
            f"reading the objects of bulk {store.bulk_id!r} failed: it was closed by an await without include_items, "
            f"which deleted its plan; its result is {canonical(closed.result.model_dump())}"
        )
    return items


async def delete_bulk(
    client: AsyncClient, bulk_id: str, request_timeout: float = REQUEST_TIMEOUT
) -> DeleteBucketResponse:
    """
    Delete the records of a bulk, and none of its balls; the bulk id can be used again.

    :param request_timeout: seconds for each request
    """
    return await RecordStore(client, bulk_id, request_timeout).delete_all()


async def _items(store: RecordStore, records: Records) -> dict[str, Any]:
    """Return all balls: ``successes`` as ``{bucket_id, key, size, checksum}``, ``failures`` with code and message."""
    successes: list[dict[str, Any]] = []
    failures: dict[tuple[str, str], dict[str, Any]] = {}
    for _, own in sorted(records.by_shard().items()):
        for record in sorted(own.plans, key=lambda plan: plan.digest)[:1]:
            balls = read_plan(record, await store.read_content(record)).balls
            done = await _acknowledged_balls(store, own, record)
            successes += [_format_ball(ball) for index, ball in enumerate(balls) if index in done]
        latest = latest_start(own.starts)
        ends = [end for end in own.dones if latest and end.attempt == latest.attempt]
        for _, items in await store.read_items(ends):
            failures |= {(failure.bucket_id, failure.key): failure.model_dump() for failure in items.failures}
    stored = {(ball["bucket_id"], ball["key"]) for ball in successes}
    return {"successes": successes, "failures": [failure for name, failure in failures.items() if name not in stored]}


async def _acknowledged_balls(store: RecordStore, own: Records, plan: Plan) -> Container[int]:
    """Return the balls of a shard's plan that its records acknowledge."""
    if any(is_good_end(report) for report in valid_reports(own, plan)):
        return range(plan.balls)
    return acknowledged_balls(
        own, plan, await store.read_items(report for report in own.reports if report.plan == plan.digest)
    )


def _format_ball(ball: PlannedBall) -> dict[str, Any]:
    return {"bucket_id": ball.bucket_id, "key": ball.key, "size": ball.size, "checksum": ball.checksum}


async def list_bulk_items(client: AsyncClient, bulk_id: str, timeout: float = REQUEST_TIMEOUT) -> list[Item]:
    """
    Return the balls of a complete bulk.

    Raises ``BulkFailedError`` if it is not complete, and ``BulkConflictError`` if it was closed without its items.
    """
    store = RecordStore(client, bulk_id, timeout)
    records, status = await _poke(store)
    if not is_wait_over(status, fail_on_error=False):
        raise BulkFailedError(
            f"reading the result of bulk {bulk_id!r} failed: it is not finished. {status_line(status)}",
            result=summarize(status),
        )
    result = await _result(store, records, status, include_items=True, remove=False)
    if result["state"] != State.COMPLETE.value:
        problems = "".join(f": {problem}" for problem in result["problems"][:1])
        raise BulkFailedError(
            f"reading bulk {bulk_id!r} failed: {result['failed']} of its {result['total_balls']} objects are not "
            f"stored{problems}. Fix the causes and clear the upload task, or read its bucket instead",
            permanent=True,
            result={name: value for name, value in result.items() if name != "successes"},
        )
    items = [Item(ball["bucket_id"], ball["key"], ball["size"], ball["checksum"]) for ball in result["successes"]]
    listed = await find_listed(client, items, range(len(items)), timeout)
    return [replace(item, listed=listed.get(index)) for index, item in enumerate(items)]
