"""Copies of many objects, whose announcements one listing of the destination confirms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.batches.copy import CopyOptions, copy_all
from airflow_provider_mictlanx.batches.download import list_bucket_items
from airflow_provider_mictlanx.batches.runner import BatchResult, Item
from airflow_provider_mictlanx.client import AsyncClient, BallConflictError, GetChunkError
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.transfer import chunk_upload, upload, upload_window
from tests.integration.client.transfer.test_upload_windows import Steps, hide_older, listed_alone
from tests.support.clients import client_of
from tests.support.intercepting_router import Asked, intercepting
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import pattern
from tests.support.vss import LocalVSS

NAMES = [f"b{number}" for number in range(6)]
RIVAL = pattern(150, seed=999)


@pytest.fixture(autouse=True)
def _small(no_retry_waits: None, no_window_ends_by_time: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_upload, "GRACE", 0.2)
    monkeypatch.setattr(upload_window, "FEWEST_BALLS", 0)


def content(name: str) -> bytes:
    return pattern(100, seed=int(name[1:]))


def put_originals(vss: LocalVSS, bucket_id: str, names: list[str] = NAMES) -> RawRequests:
    wire = RawRequests(vss)
    for name in names:
        wire.put(bucket_id, name, [content(name)], tags={"colour": "red"})
    return wire


def copies_of(bucket_id: str) -> str:
    return f"{bucket_id}-copies"


async def copy(client: AsyncClient, bucket_id: str, items: list[Item] | None = None, **options: Any) -> BatchResult:
    items = items or await list_bucket_items(client, bucket_id)
    given = CopyOptions(max_concurrency=1, max_tries=2, **options)
    return await copy_all(client, items, copies_of(bucket_id), lambda key: f"in/{key}", dest=client, options=given)


async def check_copied(vss: LocalVSS, bucket_id: str, but: tuple[str, ...] = ()) -> None:
    async with client_of(vss, capacity_storage=0) as client:
        for name in NAMES:
            if name not in but:
                copied = unwrap(await client.get(copies_of(bucket_id), f"in/{name}", force=True))
                assert bytes(copied.data) == content(name)
                assert copied.metadatas[0].tags["colour"] == "red"


async def test_copies_are_announced_before_the_first_is_read(vss: LocalVSS, bucket_id: str) -> None:
    put_originals(vss, bucket_id)
    steps = Steps(vss, copies_of(bucket_id))
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        assert (await copy(client, bucket_id)).done == len(NAMES)
        announced = [at for at, asked in enumerate(router.asked) if asked.path.endswith("-copies/metadata")]
        read = [at for at, asked in enumerate(router.asked) if f"/{bucket_id}/b" in asked.path]
        assert max(announced) < min(read)
        assert (len(announced), len(read), listed_alone(router)) == (2 + len(NAMES), len(NAMES), set())
    await check_copied(vss, bucket_id)


async def test_stored_copies_are_not_sent_again(vss: LocalVSS, bucket_id: str) -> None:
    put_originals(vss, bucket_id)
    async with client_of(vss) as client:
        await copy(client, bucket_id)
        vss.reset_requests()
        result = await copy(client, bucket_id)
    assert (result.done, result.skipped, result.failed) == (0, len(NAMES), 0)
    assert vss.requests("POST") == []
    assert vss.requests("GET", f"/buckets/{bucket_id}/b") == [], "the originals are not read"


async def test_copy_of_unreadable_original_is_withdrawn(vss: LocalVSS, bucket_id: str) -> None:
    wire = put_originals(vss, bucket_id, NAMES[1:])
    wire.announce(bucket_id, NAMES[0], 0, content(NAMES[0]), content(NAMES[0]), 1)
    vss.reset_requests()
    async with client_of(vss) as client:
        result = await copy(client, bucket_id)
    assert [(failure.key, failure.code) for failure in result.failures] == [
        (NAMES[0], GetChunkError.default_error_code)
    ]
    data = vss.requests("GET", f"/buckets/{copies_of(bucket_id)}/[0-9a-f]{{64}}_0$")
    assert data == [], "the own announcement is no reason to look for copies, and to wait for their writer"
    assert len({row["ball_id"] for row in wire.listed_in(copies_of(bucket_id))}) == len(NAMES) - 1
    await check_copied(vss, bucket_id, but=(NAMES[0],))


async def test_original_overwritten_after_the_listing_is_copied_as_it_is(vss: LocalVSS, bucket_id: str) -> None:
    wire = put_originals(vss, bucket_id)
    async with client_of(vss) as client:
        items = await list_bucket_items(client, bucket_id)
        wire.delete_chunk(bucket_id, f"{NAMES[2]}_0")
        wire.put(bucket_id, NAMES[2], [RIVAL])
        assert (await copy(client, bucket_id, items)).failures == []
        assert bytes(unwrap(await client.get(copies_of(bucket_id), f"in/{NAMES[2]}")).data) == RIVAL
    await check_copied(vss, bucket_id, but=(NAMES[2],))


async def test_rival_of_a_copy_is_a_conflict(vss: LocalVSS, bucket_id: str) -> None:
    put_originals(vss, bucket_id)
    steps = Steps(vss, copies_of(bucket_id))

    async def put_rival() -> None:
        async with client_of(vss) as other:
            unwrap(await other.put(copies_of(bucket_id), f"in/{NAMES[2]}", RIVAL, replace=True))

    async def handler(asked: Asked, pass_on: Any) -> Any:
        if asked.method == "GET" and asked.path.endswith("-copies/metadata") and steps.listings == 1:
            await put_rival()
        return await steps(asked, pass_on)

    async with intercepting(handler, vss) as router, AsyncClient(router.uri, "tests") as client:
        result = await copy(client, bucket_id)
        assert [(failure.key, failure.code) for failure in result.failures] == [
            (NAMES[2], BallConflictError.default_error_code)
        ]
        assert bytes(unwrap(await client.get(copies_of(bucket_id), f"in/{NAMES[2]}", force=True)).data) == RIVAL
    await check_copied(vss, bucket_id, but=(NAMES[2],))


async def test_copies_of_a_dead_process_are_completed(vss: LocalVSS, bucket_id: str) -> None:
    """It ended with its process between the second listing and the data."""
    put_originals(vss, bucket_id)

    async def handler(asked: Asked, pass_on: Any) -> Any:
        if "/buckets/data/" in asked.path:
            raise ConnectionResetError
        return None

    async with intercepting(handler, vss) as router, AsyncClient(router.uri, "tests") as client:
        assert (await copy(client, bucket_id)).failed == len(NAMES)
    async with client_of(vss) as client:
        assert (await copy(client, bucket_id)).done == len(NAMES)
    await check_copied(vss, bucket_id)


async def test_stopped_copies_withdraw_their_announcements(
    vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many of them failed, so the others are not begun."""
    monkeypatch.setattr("airflow_provider_mictlanx.batches.runner.MAX_CONSECUTIVE_FAILURES", 2)
    wire = put_originals(vss, bucket_id)
    with vss.fault("status", status=503, method="GET", path=f"/buckets/{bucket_id}/b"):
        async with client_of(vss) as client:
            assert (await copy(client, bucket_id)).failed == len(NAMES)
    assert len({row["ball_id"] for row in wire.listed_in(copies_of(bucket_id))}) == 0


@pytest.mark.parametrize("reachable", [True, False])
async def test_cancelled_copies_withdraw_their_announcements(
    own_vss: Callable[..., LocalVSS], vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch, reachable: bool
) -> None:
    """If the storage does not answer, they do not wait for long."""
    monkeypatch.setattr(upload_window, "WITHDRAWAL_SECONDS", 30 if reachable else 0.1)
    storage = vss if reachable else own_vss(peers=1)
    wire = put_originals(storage, bucket_id)
    reading = storage.set_fault("latency", seconds=3, method="GET", path=f"/buckets/{bucket_id}/b")
    async with client_of(storage) as client:
        copying = asyncio.create_task(copy(client, bucket_id))
        while not reading.triggered:
            assert not copying.done()
            await asyncio.sleep(0.01)
        assert len({row["ball_id"] for row in wire.listed_in(copies_of(bucket_id))}) == len(NAMES)
        if reachable:
            reading.off()
        else:
            storage.kill()
        copying.cancel()
        await asyncio.wait([copying], timeout=5)
        assert copying.cancelled()
    if reachable:
        assert {row["ball_id"] for row in wire.listed_in(copies_of(bucket_id))} == set()


async def test_late_copy_is_listed_by_itself(vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "MAX_ANNOUNCED_SECONDS", 0.0)
    put_originals(vss, bucket_id)
    steps = Steps(vss, copies_of(bucket_id))
    async with intercepting(steps, vss) as router, AsyncClient(router.uri, "tests") as client:
        assert (await copy(client, bucket_id)).done == len(NAMES)
        assert len(listed_alone(router)) == len(NAMES)
    await check_copied(vss, bucket_id)


@pytest.mark.parametrize("hides", [False, True], ids=["listed", "hidden"])
async def test_two_copies_at_once(vss: LocalVSS, bucket_id: str, hides: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They end as single puts do, also where a listing hides the rival: at most one of two contents is acknowledged."""
    monkeypatch.setattr(upload_window, "FIRST_WINDOW", 4)
    wire = put_originals(vss, bucket_id)
    for name in NAMES:
        wire.put(f"{bucket_id}-2", name, [RIVAL + content(name)])
    contents = {bucket_id: content, f"{bucket_id}-2": lambda name: RIVAL + content(name)}

    async def write(original: str) -> set[str]:
        steps = Steps(vss, copies_of(bucket_id))
        steps.change = hide_older if hides else steps.change
        async with intercepting(steps, vss) as router, AsyncClient(router.uri, original) as client:
            items = await list_bucket_items(client, original)
            options = CopyOptions(max_tries=2)
            result = await copy_all(client, items, copies_of(bucket_id), str, dest=client, options=options)
        assert {failure.code for failure in result.failures} <= {BallConflictError.default_error_code}
        return set(NAMES) - {failure.key for failure in result.failures}

    copied = dict(zip(contents, await asyncio.gather(*map(write, contents)), strict=True))
    first, second = copied.values()
    assert not first & second
    async with client_of(vss, capacity_storage=0) as client:
        for original, names in copied.items():
            for name in names:
                found = unwrap(await client.get(copies_of(bucket_id), name, force=True))
                assert bytes(found.data) == contents[original](name)


@pytest.mark.parametrize("at", ["announcing", "listing", "reading", "sending", "sent"])
async def test_copies_killed_in_a_window_are_mended(vss: LocalVSS, bucket_id: str, at: str) -> None:
    """After the crash, no request of the process reaches the storage, not even to withdraw."""
    wire = put_originals(vss, bucket_id)
    destination = copies_of(bucket_id)
    reached = {
        "announcing": lambda asked: asked.method == "POST" and asked.path.endswith(f"/{destination}/metadata"),
        "listing": lambda asked: asked.method == "GET" and asked.path.endswith(f"/{destination}/metadata"),
        "reading": lambda asked: asked.method == "GET" and f"/{bucket_id}/b" in asked.path,
        "sending": lambda asked: "/buckets/data/" in asked.path,
        "sent": lambda asked: "/buckets/data/" in asked.path,
    }[at]
    seen: list[Asked] = []

    async def handler(asked: Asked, pass_on: Any) -> Any:
        if len(seen) >= 2 or reached(asked):
            seen.append(asked)
        if len(seen) < 2:
            return None
        if at == "sent" and len(seen) == 2:  # stored, and the answer is lost
            await pass_on(asked)
        raise ConnectionResetError

    async with intercepting(handler, vss) as router, AsyncClient(router.uri, "tests") as client:
        items = await list_bucket_items(client, bucket_id)
        assert (await copy(client, bucket_id, items)).failed >= len(NAMES) - 2
    async with client_of(vss) as client:
        result = await copy(client, bucket_id)
        assert (result.failed, result.done + result.skipped) == (0, len(NAMES))
    await check_copied(vss, bucket_id)
    balls = {row["ball_id"] for row in wire.listed_in(destination)}
    assert [len(wire.listed(destination, ball)) for ball in balls] == [1] * len(NAMES), "an announcement is left"
