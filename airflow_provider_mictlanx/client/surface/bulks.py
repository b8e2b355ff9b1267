"""Calls that put many balls in the background, and wait for them, within the client's own process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from airflow_provider_mictlanx.client.bulk import BALL_OPTIONS, BallK, BulkJobs, BulkPutResponse, checked_items
from airflow_provider_mictlanx.client.models import PutReport
from airflow_provider_mictlanx.client.result import returns_result, value_of
from airflow_provider_mictlanx.client.surface.reading import Reading
from airflow_provider_mictlanx.client.surface.writing import Writing


class Bulks(Writing, Reading):
    """The part of ``AsyncClient`` that puts in the background."""

    @cached_property
    def _jobs(self) -> BulkJobs:
        return BulkJobs(self._put_item)

    @returns_result
    async def put_bulk(
        self,
        bulk_id: str,
        balls: Sequence[BallK],
        max_concurrency: int = 10,
        stop_on_failure: bool = False,
        *,
        allow_reserved_bucket: bool = False,
    ) -> bool:
        """
        Begin to put balls in the background, and return at once with True; ``await_bulk`` tells what became of them.

        A second call with the same id adds to the bulk, until somebody awaits it; its ``max_concurrency`` and
        ``stop_on_failure`` hold for all of it from then on. A bulk that was awaited to its end makes room for a new one. Its
        state lives in this client: another process can't await it.

        ``ValidationError``: an item is wrong, and none was begun, or the bulk is being awaited just now.

        :param bulk_id: any text
        :param balls: dictionaries with ``bucket_id``, ``ball_id`` or ``key``, ``source`` (bytes, or a path as text), and
            optionally ``tags, rf, chunk_size, timeout, max_tries, max_concurrency, max_backoff`` as in ``put``
        :param max_concurrency: the most balls at once
        :param stop_on_failure: whether the first failure stops what has not begun
        :param allow_reserved_bucket: whether balls may go to a bucket that begins with ``bulk-``, of a bulk's records
        """
        items = await self._threads.run(checked_items, balls, allow_reserved_bucket)  # it looks at files
        self._jobs.start(bulk_id, items, max_concurrency, stop_on_failure)
        return True

    @returns_result
    async def await_bulk(self, bulk_id: str, remove_on_completion: bool = False) -> BulkPutResponse:
        """
        Wait until every ball of a bulk is stored or failed.

        Gives a dictionary: ``successes`` (``[{"item"}]``), ``failures`` (``[{"item", "error"}]``), ``uploaded_size`` (bytes),
        ``total_balls``, ``successed``, ``failed``, ``response_time`` (seconds). ``NotFoundError``: there is no such bulk.

        :param remove_on_completion: whether the result is forgotten after that; else it can be asked for again
        """
        async with self._doing(f"awaiting bulk {bulk_id}", None):
            return await self._jobs.wait(bulk_id, remove_on_completion)

    async def _put_item(self, item: BallK) -> PutReport:
        source = item["source"]
        key = item.get("ball_id") or item.get("key") or ""
        options: dict[str, Any] = {name: value for name, value in item.items() if name in BALL_OPTIONS}
        options["allow_reserved_bucket"] = True  # ``put_bulk`` has checked every bucket
        if isinstance(source, str | os.PathLike):
            options = {"max_concurrency": 2, **options}  # the default of put_file
            return value_of(await self.upload(item["bucket_id"], key, path=source, **options))
        return value_of(await self.upload(item["bucket_id"], key, data=source, **options))

    async def _end_bulks(self, cancel: bool) -> None:
        if "_jobs" in self.__dict__:
            await self._jobs.end(cancel)
