"""A put of bytes that another writer announced and never sent: nothing of that is left beside the stored object."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.client import AsyncClient, BallConflictError, Chunk
from airflow_provider_mictlanx.client.transfer import chunk_upload, listing
from tests.support.clients import client_of
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import cut, pattern, sha256
from tests.support.vss import LocalVSS

DATA = pattern(1000)
OTHER = pattern(1000, seed=1)
PIECES = cut(DATA, 400, 400)
GRACE = 0.3


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PEER_CHECK_TIMEOUT", 0.5)
    monkeypatch.setattr(chunk_upload, "GRACE", GRACE)


async def _put(uri: str, bucket_id: str, data: bytes = DATA, **options: Any) -> Any:
    async with AsyncClient(uri, "tests") as client:
        return await client.put(bucket_id, "k", data, chunk_size=400, **options)


def _has_data_for_every_announcement(wire: RawRequests, bucket_id: str, pieces: list[bytes], rf: int = 1) -> bool:
    listed = Counter(chunk["key"] for chunk in wire.listed(bucket_id, "k"))
    return all(
        listed[f"k_{index}"] == len(wire.peers_with(bucket_id, f"k_{index}", piece)) == rf
        for index, piece in enumerate(pieces)
    )


@pytest.mark.parametrize("announced", [[0, 1, 2], [1], [1, 2]], ids=str)
@pytest.mark.parametrize(("announced_rf", "rf"), [(1, 1), (3, 1), (1, 2), (2, 2)])
def test_same_bytes_that_were_only_announced_are_cleared(
    vss: LocalVSS, bucket_id: str, announced: list[int], announced_rf: int, rf: int
) -> None:
    wire = RawRequests(vss)
    for index, piece in enumerate(PIECES):
        unsent = index in announced
        task, _ = wire.announce(bucket_id, "k", index, piece, DATA, 3, announced_rf if unsent else rf)
        if not unsent:
            wire.send(task, piece)
    assert asyncio.run(_put(vss.uri, bucket_id, rf=rf)).unwrap() is True
    assert _has_data_for_every_announcement(wire, bucket_id, PIECES, rf)


async def test_single_chunk_that_was_only_announced_is_cleared(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    wire.announce(bucket_id, "k", 1, PIECES[1], DATA, 3)
    tags = {"num_chunks": "3", "full_checksum": sha256(DATA)}
    async with client_of(vss) as client:
        assert (await client.put_single_chunk(bucket_id, "k", Chunk("k", 1, PIECES[1]), tags=tags)).is_ok
    assert [chunk["key"] for chunk in wire.listed(bucket_id, "k")] == ["k_1"]
    assert len(wire.peers_with(bucket_id, "k_1", PIECES[1])) == 1


async def test_same_bytes_with_data_within_grace_are_kept(
    vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_upload, "GRACE", 5.0)
    wire = RawRequests(vss)
    task, _ = wire.announce(bucket_id, "k", 0, DATA, DATA, 1)
    listings: list[bool] = []
    sending: list[asyncio.Task[None]] = []

    async def send() -> None:
        await asyncio.sleep(0.3)
        await asyncio.to_thread(wire.send, task, DATA)

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.path.endswith("/chunks"):
            listings.append(True)
            if len(listings) == 2:  # after the look
                sending.append(asyncio.create_task(send()))
        return None

    async with intercepting(handler, vss) as interceptor:
        assert (await _put_whole(interceptor.uri, bucket_id)).unwrap() is False
        await asyncio.gather(*sending)
    assert sending
    assert vss.requests("DELETE", bucket_id) == []
    assert _has_data_for_every_announcement(wire, bucket_id, [DATA])


async def test_writer_whose_announcement_was_cleared_recovers(own_vss: Callable[..., LocalVSS]) -> None:
    """Its data takes longer than the grace time; both puts succeed, and every announcement has data."""
    vss = own_vss()
    wire = RawRequests(vss)
    other: list[asyncio.Task[Any]] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if "/data/" in asked.path and not other:
            other.append(asyncio.create_task(_put(vss.uri, "b")))
            await asyncio.wait(other)
        return None

    async with intercepting(handler, vss) as interceptor:
        assert (await _put(interceptor.uri, "b", max_concurrency=1, max_backoff=0.05)).is_ok
    assert (await other[0]).unwrap() is True
    assert vss.requests("DELETE", "/b/k_0$")
    listed = Counter(chunk["key"] for chunk in wire.listed("b", "k"))
    for index, piece in enumerate(cut(DATA, 400)):
        assert listed[f"k_{index}"] == len(wire.peers_with("b", f"k_{index}", piece)) >= 1


@pytest.mark.parametrize("kind", ["peer_silent", "peer_down"])
def test_same_bytes_are_not_cleared_while_a_peer_does_not_answer(own_vss: Callable[..., LocalVSS], kind: str) -> None:
    """It may have the data."""
    vss = own_vss()
    wire = RawRequests(vss)
    _, (holder,) = wire.announce("b", "k", 0, DATA, DATA, 1)
    other = next(peer for peer in ("peer-0", "peer-1", "peer-2") if peer != holder)
    with vss.fault(kind, peer=other):
        assert asyncio.run(_put(vss.uri, "b")).unwrap() is True
    assert vss.requests("DELETE") == []


def test_same_bytes_stored_in_other_layout_are_not_cleared(vss: LocalVSS, bucket_id: str) -> None:
    """A delete by the chunk's key would take the other layout's copy too."""
    wire = RawRequests(vss)
    wire.put(bucket_id, "k", PIECES, announced_only=[0, 1, 2])
    wire.put(bucket_id, "k", cut(DATA, 500))
    assert asyncio.run(_put(vss.uri, bucket_id)).unwrap() is True
    assert {seen["path"].rpartition("/")[2] for seen in vss.requests("DELETE", bucket_id)} == {"k_2"}
    for layout in (PIECES, cut(DATA, 500)):
        assert all(len(wire.peers_with(bucket_id, f"k_{index}", piece)) == 1 for index, piece in enumerate(layout))


async def test_same_bytes_are_not_cleared_where_a_further_writer_comes(vss: LocalVSS, bucket_id: str) -> None:
    """It may be about to send its data: the grace time counts from its announcement."""
    wire = RawRequests(vss)
    wire.announce(bucket_id, "k", 0, DATA, DATA, 1)
    further: list[str] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.path.endswith("/metadata") and asked.method == "GET" and not further:  # the roll-call
            further.append((await asyncio.to_thread(wire.announce, bucket_id, "k", 0, DATA, DATA, 1))[0])
        return None

    async with intercepting(handler, vss) as interceptor:
        assert (await _put_whole(interceptor.uri, bucket_id)).unwrap() is True
    assert vss.requests("DELETE", bucket_id) == []
    assert wire.send(further[0], DATA)


async def test_rival_that_comes_after_the_clearing_is_a_conflict(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    wire.announce(bucket_id, "k", 0, DATA, DATA, 1)
    rivals: list[Any] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "DELETE" and not rivals:
            reply = await pass_on(asked)
            rivals.append(await asyncio.to_thread(wire.put, bucket_id, "k", [OTHER]))
            return reply
        return None

    async with intercepting(handler, vss) as interceptor:
        assert isinstance((await _put_whole(interceptor.uri, bucket_id)).unwrap_err(), BallConflictError)
    assert rivals
    assert wire.peers_with(bucket_id, "k_0", DATA) == set()


async def _put_whole(uri: str, bucket_id: str) -> Any:
    async with AsyncClient(uri, "tests") as client:
        return await client.put(bucket_id, "k", DATA)
