"""Sweeps that end or meet an upload at any of their requests."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from airflow_provider_mictlanx.batches.delete import DeleteOptions, DeleteResult
from airflow_provider_mictlanx.bulks.sweep import sweep_bucket
from airflow_provider_mictlanx.client import AsyncClient
from tests.support.clients import client_of
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.raw_requests import RawRequests
from tests.support.vss import LocalVSS


async def sweep(client: AsyncClient, bucket_id: str, older_than: datetime | str) -> DeleteResult:
    return await sweep_bucket(client, bucket_id, older_than, DeleteOptions(timeout=10), dry_run=False)


async def _sweep_until(vss: LocalVSS, bucket_id: str, before: datetime, number: int, answered: bool) -> str:
    """
    Sweep, and end like a killed process at the n-th request; return the method of that request, "" if there is none.

    :param answered: whether that request is carried out, or never reaches the storage
    """
    methods: list[str] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        methods.append(asked.method)
        if len(methods) < number:
            return None
        if len(methods) == number and answered:
            await pass_on(asked)
        task.cancel()
        return Reply(drop=True)

    async with (
        intercepting(handler, vss) as router,
        AsyncClient(router.uri, "swept", debug=False, log_output_path=None) as client,
    ):
        task = asyncio.create_task(sweep(client, bucket_id, before))
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return methods[number - 1] if task.cancelled() else ""


async def test_killed_sweep_loses_nothing(vss: LocalVSS, bucket_id: str) -> None:
    """At every request; a delete is carried out or not."""
    raw = RawRequests(vss)
    raw.put(bucket_id, "complete", [b"1", b"2"])
    young = [b"%d" % index for index in range(100)]
    number, answered, methods = 1, False, []
    async with client_of(vss) as client:
        (await client.put(bucket_id, "empty", b"")).unwrap()
        while True:
            raw.put(bucket_id, "stopped", [b"1", b"2", b"3"], only=[0, 2], rf=2)
            time.sleep(0.002)
            before = datetime.now(UTC)
            time.sleep(0.002)
            raw.put(bucket_id, "young", young, only=[len(methods)])
            methods.append(await _sweep_until(vss, bucket_id, before, number, answered))
            if not methods[-1]:
                break
            assert (await client.get(bucket_id, "complete")).unwrap().data == b"12"
            assert (await client.get(bucket_id, "empty")).unwrap().data == b""
            assert {row["key"] for row in raw.listed(bucket_id, "young")} == {f"young_{n}" for n in range(len(methods))}
            assert (await sweep(client, bucket_id, before)).failures == []
            assert raw.listed(bucket_id, "stopped") == []
            answered = methods[-1] == "DELETE" and not answered
            number += not answered
    assert methods.count("DELETE") == 4
    assert len(methods) > 10


async def test_upload_under_way_survives_sweeps(vss: LocalVSS, bucket_id: str) -> None:
    """One sweep before every request of an upload."""
    swept: list[int] = []
    data = b"0123456789" * 500
    async with client_of(vss) as sweeper:

        async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
            result = await sweep(sweeper, bucket_id, "1h")
            swept.append(result.skipped)
            assert result.done == 0
            return None

        async with (
            intercepting(handler, vss) as router,
            AsyncClient(router.uri, "writer", debug=False, log_output_path=None) as client,
        ):
            (await client.put(bucket_id, "ball", data, chunk_size="1kb", max_concurrency=1)).unwrap()
        assert (await sweeper.get(bucket_id, "ball")).unwrap().data == data
    assert sum(swept) >= 4, "sweeps saw the unfinished upload"
