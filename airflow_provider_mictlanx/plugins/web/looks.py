"""
Look at the storage for the page: short, and shared by everybody who looks.

A look ends after a few seconds. Within ``SHARED_SECONDS`` the same look is taken once, whoever asks: ten open pages
cost the routers as much as one. A finished bulk is not looked at again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager
from typing import Any

from cachetools import LRUCache, TTLCache

from airflow_provider_mictlanx.bulks.monitor import bulk_status
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import DeadlineExceededError, MictlanXError
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.transfer.listing import PEER_CHECK_BUCKET
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.plugins.web.queries import BulkTasks

log = get_logger(__name__)

LOOK_SECONDS = 3.0
"""Seconds for one look, with all its requests."""

REQUEST_SECONDS = 2.4
"""Seconds for one request of a look: if a router is silent, there is time to tell, or to ask the next one."""

SHARED_SECONDS = 5.0
"""Seconds for which a look answers everybody."""

MAX_LISTING_SIZE = 16 * 1024 * 1024
"""Largest listing of a bucket that is read (bytes), enough for about 20,000 chunks."""

MAX_OBJECTS = 200
"""Maximum number of objects that the page shows of a bucket."""

_shared: TTLCache[Hashable, asyncio.Task[Any]] = TTLCache(maxsize=1000, ttl=SHARED_SECONDS)
_finished: LRUCache[Hashable, dict[str, Any]] = LRUCache(maxsize=1000)
_one_listing = asyncio.Semaphore(1)
"""Bounds the memory for listings of buckets, which have no pages."""


async def _share(key: Hashable, look: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Await a look that others may await too; it goes on if one of them is cancelled."""
    task = _shared.get(key)
    if task is None:
        task = _shared[key] = asyncio.create_task(look())
    return await asyncio.shield(task)


@asynccontextmanager
async def _open_storage(conn_id: str) -> AsyncIterator[AsyncClient]:
    """Open a client of a connection for one look; raise ``DeadlineExceededError`` at its end."""
    hook = MictlanXHook(conn_id)
    limit = asyncio.timeout(LOOK_SECONDS)
    try:
        async with limit:
            await asyncio.to_thread(lambda: hook.settings)
            async with hook.open_client(connect_patience=0) as client:
                yield client
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceededError(
            f"connection {conn_id!r}: the storage did not answer within {LOOK_SECONDS:g} s; check its routers"
        ) from None


async def look_at_bulk(conn_id: str, bulk_id: str) -> dict[str, Any]:
    """Return the state of a bulk in the form of ``MictlanXHook.bulk_status``."""

    async def look() -> dict[str, Any]:
        async with _open_storage(conn_id) as client:
            return summaries.status_summary(await bulk_status(client, bulk_id, REQUEST_SECONDS))

    status: dict[str, Any] = await _share(("bulk", conn_id, bulk_id), look)
    return status


async def look_at_tasks(bulk: BulkTasks) -> dict[str, Any]:
    """
    Return the state of a bulk whose tasks are known, or the key ``error`` alone.

    The state of a finished bulk without active tasks is remembered until one of its tasks is tried again.
    """
    key = (bulk.conn_id, bulk.bulk_id, bulk.tries)
    if (known := _finished.get(key)) is not None:
        return known
    try:
        status = await look_at_bulk(bulk.conn_id, bulk.bulk_id)
    except MictlanXError as error:
        return {"error": str(error)}
    except Exception:
        log.exception("Looking at bulk %r of connection %r failed", bulk.bulk_id, bulk.conn_id)
        return {"error": "unexpected error; the API server's log has its traceback"}
    if status["finished"] and not bulk.active:
        _finished[key] = status
    return status


async def look_at_routers(conn_id: str) -> dict[str, Any]:
    """
    Return the routers and the peers of a connection.

    Keys: ``routers`` (each ``router_id, url, milliseconds, error``), ``peers``, ``silent_peers`` (those that do not
    answer), ``peers_error`` (why it is unknown which peers answer).
    """

    async def look() -> dict[str, Any]:
        async with _open_storage(conn_id) as client:
            checks, listing = await asyncio.gather(
                client.check_routers(REQUEST_SECONDS),
                client.get_chunks_by_bucket_id(PEER_CHECK_BUCKET, partial=True, deadline=REQUEST_SECONDS),
            )
        checked = unwrap(checks)
        known = {peer for check in checked for peer in (*check.available, *check.unavailable)}
        silent = {peer for check in checked for peer in check.unavailable}
        if listing.is_ok:
            silent |= set(listing.unwrap().extra["missing_peers"])
        return {
            "routers": [
                {
                    "router_id": check.router_id,
                    "url": check.url,
                    "milliseconds": check.milliseconds,
                    "error": summaries.router_problem(check),
                }
                for check in checked
            ],
            "peers": sorted(known | silent),
            "silent_peers": sorted(silent),
            "peers_error": None if listing.is_ok else str(listing.unwrap_err()),
        }

    found: dict[str, Any] = await _share(("routers", conn_id), look)
    return found


async def look_at_bucket(conn_id: str, bucket_id: str, prefix: str) -> dict[str, Any]:
    """
    Return the first objects of a bucket by key.

    Keys: ``total``, ``total_size`` (bytes), ``objects`` (each ``key, size, num_chunks, checksum, updated_at``).
    """

    async def look() -> dict[str, Any]:
        async with _open_storage(conn_id) as client, _one_listing:
            balls = unwrap(
                await client.list_balls(bucket_id, prefix, timeout=REQUEST_SECONDS, max_size=MAX_LISTING_SIZE)
            )
        names = ("key", "size", "num_chunks", "checksum", "updated_at")
        return {
            "total": len(balls),
            "total_size": sum(ball.size for ball in balls),
            "objects": [{name: getattr(ball, name) for name in names} for ball in balls[:MAX_OBJECTS]],
        }

    found: dict[str, Any] = await _share(("bucket", conn_id, bucket_id, prefix), look)
    return found
