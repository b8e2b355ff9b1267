"""Looking at a bulk from outside: status, result, end. Every look is one listing of the bulk's own bucket."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import humanfriendly

from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.bulks.plan import PlannedBall, read_plan
from airflow_provider_mictlanx.bulks.records import Closed, Done, Failure, Part, Records, indexes_of
from airflow_provider_mictlanx.bulks.status import BulkStatus, State, latest_start, status_of
from airflow_provider_mictlanx.bulks.storage import REQUEST_TIMEOUT, RecordStore
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.errors import DeadlineExceededError
from airflow_provider_mictlanx.client.models import DeleteBucketResponse


async def bulk_status(client: AsyncClient, bulk_id: str, request_timeout: float = REQUEST_TIMEOUT) -> BulkStatus:
    """
    Look at a bulk once: two requests, however large it is.

    :param request_timeout: of each of them (seconds)
    """
    return status_of(await RecordStore(client, bulk_id, request_timeout).read())


def summary_of(status: BulkStatus) -> dict[str, Any]:
    """
    Give a bulk's result as a small dictionary.

    The keys: ``bulk_id, state, shards, total_balls, successed, failed, uploaded_size`` (bytes of the stored balls),
    ``response_time`` (seconds), ``failures`` (the first few: ``{bucket_id, key, code, message}``), ``problems`` (texts).
    """
    if status.closed:
        return dict(status.closed.result)
    return {
        "bulk_id": status.bulk_id,
        "state": status.state.value,
        "shards": status.shards,
        "total_balls": status.total_balls,
        "successed": status.acknowledged,
        "failed": max(status.failed, status.total_balls - status.acknowledged) if status.finished else status.failed,
        "uploaded_size": status.acknowledged_size,
        "response_time": status.response_time,
        "failures": [failure.model_dump() for failure in status.failures],
        "problems": list(status.problems),
    }


def line_of(status: BulkStatus) -> str:
    """Tell a person where a bulk stands."""
    if status.state is State.UNPLANNED:
        return f"Bulk {status.bulk_id!r}: nobody has planned it yet"
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
    if status.failed:
        parts.append(f"{status.failed:,} failed" + (", which a retry may still mend" if status.may_be_mended else ""))
    return ", ".join(parts)


def failure_of(status: BulkStatus) -> BulkFailedError:
    """Give the error for a bulk that failed for good."""
    summary = summary_of(status)
    reasons = [*status.problems, *(f"{failure.key}: {failure.message}" for failure in status.failures)]
    return BulkFailedError(
        f"bulk {status.bulk_id!r} failed for good: {summary['failed']} of {status.total_balls} balls are not stored. "
        f"{'; '.join(reasons) or 'No reason was recorded'}. Mend it and clear the upload task, which goes on where it ended",
        permanent=True,
        result=summary,
    )


def is_open(status: BulkStatus, fail_on_error: bool) -> bool:
    """
    Tell whether a gate that waits for the bulk opens now; raises ``BulkFailedError`` where it never will.

    :param fail_on_error: whether a bulk that failed for good is an error; else the gate opens when it is finished
    """
    if status.state in (State.COMPLETE, State.CLOSED):
        return True
    if status.state is not State.FAILED:
        return False
    if fail_on_error:
        raise failure_of(status)
    return status.finished


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
    started = time.monotonic()
    while True:
        status = await bulk_status(client, bulk_id, request_timeout)
        if tell:
            tell(line_of(status))
        if is_open(status, fail_on_error):
            return await result_of(client, bulk_id, include_items, remove_on_completion, request_timeout)
        left = math.inf if timeout is None else timeout - (time.monotonic() - started)
        if left <= 0:
            raise DeadlineExceededError(f"{line_of(status)}; it was waited for {timeout:g} s")
        await asyncio.sleep(min(poke_interval, left))


async def result_of(
    client: AsyncClient,
    bulk_id: str,
    include_items: bool = False,
    remove_on_completion: bool = False,
    request_timeout: float = REQUEST_TIMEOUT,
) -> dict[str, Any]:
    """Give the result of a bulk that is finished; the parameters are those of ``await_bulk``."""
    store = RecordStore(client, bulk_id, request_timeout)
    records = await store.read()
    status = status_of(records)
    summary = summary_of(status)
    if remove_on_completion and not status.closed:
        await store.write(Closed(result=summary))
    if include_items and not status.closed:
        summary = {**summary, **await _items(store, records)}
    if remove_on_completion:
        await store.delete((await store.read_completely()).names)
    return summary


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
    for shard in range(records.shards):
        own = records.of_shard(shard)
        for record in own.plans[:1]:
            plan = read_plan(record, await store.content_of(record))
            told: list[Part | Done] = [*own.parts, *own.dones]
            items = await store.items_of(entry for entry in told if entry.plan == record.digest)
            done: set[int] = set()
            for item in items:
                done |= indexes_of(item.get("acknowledged", ""), len(plan.balls))
            if any(end.good for end in own.dones):
                done = set(range(len(plan.balls)))
            successes += [_told(plan.balls[index]) for index in sorted(done)]
        latest = latest_start(own.starts)
        ends = [end for end in own.dones if latest and end.attempt == latest.attempt]
        for item in await store.items_of(ends):
            for failure in item.get("failures", []):
                failures[failure["bucket_id"], failure["key"]] = Failure.model_validate(failure).model_dump()
    stored = {(ball["bucket_id"], ball["key"]) for ball in successes}
    return {"successes": successes, "failures": [told for name, told in failures.items() if name not in stored]}


def _told(ball: PlannedBall) -> dict[str, Any]:
    return {"bucket_id": ball.bucket_id, "key": ball.key, "size": ball.size, "checksum": ball.checksum}
