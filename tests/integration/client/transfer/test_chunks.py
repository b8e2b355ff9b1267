"""Chunks that the caller cuts and chunks that are read one by one: ``put_chunks``, ``put_single_chunk``, ``get_chunk(s)``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.client import (
    AsyncClient,
    BallConflictError,
    Chunk,
    GetChunkError,
    IntegrityError,
    NotFoundError,
    ValidationError,
)
from tests.support.clients import checked_client, other_tasks
from tests.support.engines import busy_connections_of
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import pattern, sha256
from tests.support.vss import LocalVSS

PARTS = [pattern(300), pattern(10, seed=1), pattern(700, seed=2)]
WHOLE = b"".join(PARTS)


def chunks_of(parts: list[bytes], ball_id: str = "ball") -> list[Chunk]:
    return [Chunk(ball_id, index, part) for index, part in enumerate(parts)]


def place(index: int = 0, whole: bytes = WHOLE, num_chunks: int = 3) -> dict[str, str]:
    return {"num_chunks": str(num_chunks), "full_checksum": sha256(whole)}


async def read_all(client: AsyncClient, bucket_id: str, key: str = "ball", **options: Any) -> list[tuple[int, bytes]]:
    return await read_into([], client, bucket_id, key, **options)


async def read_into(
    given: list[tuple[int, bytes]], client: AsyncClient, bucket_id: str, key: str = "ball", **options: Any
) -> list[tuple[int, bytes]]:
    """Read a ball, and leave in ``given`` what was given before an error too."""
    async for metadata, data in client.get_chunks(bucket_id, key, **options):
        given.append((metadata.index, bytes(data)))
    return given


# -- put_chunks ----------------------------------------------------------------------------------------------------------


async def test_put_chunks_keeps_the_caller_s_cut_and_tags(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        chunks = chunks_of(PARTS)
        chunks[1].metadata["only"] = "here"
        given = [chunks[2], chunks[0], chunks[1]]
        assert (await client.put_chunks(bucket_id, "ball", given, tags={"colour": "red"}, rf=2)).unwrap() is True
        assert (await client.put_chunks(bucket_id, "ball", given, rf=2)).unwrap() is False
        assert bytes((await client.get(bucket_id, "ball")).unwrap().data) == WHOLE
    listed = RawRequests(vss).listed(bucket_id, "ball")
    assert sorted((chunk["key"], chunk["size"]) for chunk in listed) == [
        *(("ball_0", 300), ("ball_0", 300), ("ball_1", 10), ("ball_1", 10), ("ball_2", 700), ("ball_2", 700))
    ]
    for chunk in listed:
        assert chunk["tags"]["num_chunks"] == "3"
        assert chunk["tags"]["full_checksum"] == sha256(WHOLE)
        assert chunk["tags"]["colour"] == "red"
        assert chunk["tags"].get("only") == ("here" if chunk["key"] == "ball_1" else None)


async def test_put_chunks_under_any_key_and_one_that_is_empty(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put_chunks(bucket_id, "a/b c.bin", chunks_of(PARTS))).unwrap()
        assert [ball.key for ball in (await client.list_balls(bucket_id)).unwrap()] == ["a/b c.bin"]
        (await client.put_chunks(bucket_id, "empty", [Chunk("empty", 0, b"")])).unwrap()
        assert bytes((await client.get(bucket_id, "empty")).unwrap().data) == b""


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        ([], "without gaps, got none"),
        ([Chunk("b", 1, b"x")], "without gaps, got 1"),
        ([Chunk("b", 0, b"x"), Chunk("b", 0, b"y")], "without gaps, got 0, 0"),
        ([Chunk("b", 0, b"x"), Chunk("b", 1, b"")], "chunk 1 must not be empty"),
        ([Chunk("b", True, b"x")], "index must be an int of at least 0"),
        ([Chunk("b", -1, b"x")], "index must be an int of at least 0"),
        ([Chunk("b", 0, "text")], "data must be bytes, got str"),  # type: ignore[arg-type]
        ([Chunk("b", 0, b"x", metadata={"mictlanx_x": "y"})], "must not begin with 'mictlanx_'"),
        ([Chunk("b", 0, b"x", metadata={"n": 1})], "tags must be a dict of non-empty str to str"),  # type: ignore[dict-item]
    ],
)
async def test_bad_chunks_are_refused_before_the_first_request(vss: LocalVSS, chunks: list[Any], why: str) -> None:
    vss.reset_requests()
    async with checked_client(vss) as client:
        error = (await client.put_chunks("bucket", "ball", chunks)).unwrap_err()
        assert isinstance(error, ValidationError)
        assert why in str(error)
    assert vss.requests() == []


async def test_put_chunks_replaces_only_when_told(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "ball", b"other bytes")).unwrap()
        assert isinstance(
            (await client.put_chunks(bucket_id, "ball", chunks_of(PARTS))).unwrap_err(), BallConflictError
        )
        assert bytes((await client.get(bucket_id, "ball")).unwrap().data) == b"other bytes"
        assert (await client.put_chunks(bucket_id, "ball", chunks_of(PARTS), replace=True)).unwrap()
        assert bytes((await client.get(bucket_id, "ball")).unwrap().data) == WHOLE


# -- put_single_chunk ----------------------------------------------------------------------------------------------------


async def test_single_chunks_make_a_ball_of_several_writers(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        for chunk in reversed(chunks_of(PARTS)):
            assert (await client.exists(bucket_id, "ball")).unwrap() is False
            assert (await client.put_single_chunk(bucket_id, "ball", chunk, tags=place())).unwrap() is True
        assert (await client.put_single_chunk(bucket_id, "ball", chunk, tags=place())).unwrap() is False
        assert bytes((await client.get(bucket_id, "ball")).unwrap().data) == WHOLE
        assert (await client.put(bucket_id, "ball", WHOLE)).unwrap() is False


async def test_a_single_chunk_that_is_a_ball_needs_no_tags(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        chunk = Chunk("ball", 0, b"all there is", metadata={"colour": "red"})
        assert (await client.put_single_chunk(bucket_id, "ball", chunk)).unwrap() is True
        assert (await client.put_single_chunk(bucket_id, "ball", chunk, tags={"num_chunks": "1"})).unwrap() is False
        ball = (await client.get_metadata(bucket_id, "ball")).unwrap()
        assert (ball.num_chunks, ball.tags["colour"]) == (1, "red")


@pytest.mark.parametrize(
    ("chunk", "tags", "why"),
    [
        (Chunk("b", 1, b"x"), {}, "tag num_chunks of chunk 1 must be an integer larger than its index, got ''"),
        (Chunk("b", 3, b"x"), place(), "larger than its index, got '3'"),
        (Chunk("b", 1, b"x"), {"num_chunks": "3"}, "must be the SHA-256 of the object"),
        (Chunk("b", 0, b"x"), {"num_chunks": "3", "full_checksum": "abc"}, "must be the SHA-256 of the object"),
        (Chunk("b", 1, b""), place(), "chunk 1 must not be empty"),
        (Chunk("b", -1, b"x"), place(), "index must be an int of at least 0"),
    ],
)
async def test_bad_single_chunks_are_refused_before_the_first_request(
    vss: LocalVSS, chunk: Any, tags: dict[str, str], why: str
) -> None:
    vss.reset_requests()
    async with checked_client(vss) as client:
        error = (await client.put_single_chunk("bucket", "ball", chunk, tags=tags)).unwrap_err()
        assert isinstance(error, ValidationError)
        assert why in str(error)
    assert vss.requests() == []


async def test_another_chunk_under_the_same_key_is_a_conflict(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        chunk = chunks_of(PARTS)[1]
        (await client.put_single_chunk(bucket_id, "ball", chunk, tags=place())).unwrap()
        other_bytes = Chunk("ball", 1, pattern(10, seed=9))
        error = (await client.put_single_chunk(bucket_id, "ball", other_bytes, tags=place())).unwrap_err()
        assert isinstance(error, BallConflictError)
        # The same bytes, but of another whole: taken for stored, that ball would never become whole.
        other_whole = place(whole=b"another whole")
        error = (await client.put_single_chunk(bucket_id, "ball", chunk, tags=other_whole)).unwrap_err()
        assert isinstance(error, BallConflictError)
        assert sha256(b"another whole")[:12] not in str(error)
        assert sha256(WHOLE)[:12] in str(error)
        assert RawRequests(vss).data(bucket_id, "ball_1") == PARTS[1]
        assert (await client.put_single_chunk(bucket_id, "ball", other_bytes, tags=place(), replace=True)).unwrap()
    assert RawRequests(vss).data(bucket_id, "ball_1") == pattern(10, seed=9)
    assert len(RawRequests(vss).listed(bucket_id, "ball")) == 1


@pytest.mark.usefixtures("short_grace")
async def test_a_single_chunk_that_was_announced_only_is_put(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "ball", PARTS, only=[1], announced_only=[1])
    async with checked_client(vss) as client:
        assert (await client.put_single_chunk(bucket_id, "ball", chunks_of(PARTS)[1], tags=place())).unwrap() is True
    assert len(RawRequests(vss).peers_with(bucket_id, "ball_1", PARTS[1])) == 1


async def test_replace_of_single_chunk_passes_returned_peers_data(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    [holder] = wire.put("b", "ball", [PARTS[0], b"old", PARTS[2]], only=[1])[1]
    with vss.fault("peer_down", peer=holder):
        wire.delete_chunk("b", "ball_1")
    async with checked_client(vss) as client:
        chunk = chunks_of(PARTS)[1]
        assert (await client.put_single_chunk("b", "ball", chunk, tags=place(), replace=True)).unwrap() is True
    assert [chunk["checksum"] for chunk in wire.listed("b", "ball")] == [sha256(PARTS[1])]


# -- get_chunk -----------------------------------------------------------------------------------------------------------


async def test_get_chunk_of_a_ball_that_is_not_whole(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "ball", PARTS, only=[0, 2], tags={"colour": "red"})
    async with checked_client(vss) as client:
        chunk, metadata = (await client.get_chunk(bucket_id, "ball", 2)).unwrap()
        assert (chunk.data, chunk.index, chunk.group_id, chunk.chunk_id) == (PARTS[2], 2, "ball", "ball_2")
        assert chunk.metadata["colour"] == "red"
        assert (metadata.key, metadata.size, metadata.checksum) == ("ball_2", 700, sha256(PARTS[2]))
        assert isinstance((await client.get_chunk(bucket_id, "ball", 1)).unwrap_err(), NotFoundError)
        assert isinstance((await client.get_chunk(bucket_id, "never", 0)).unwrap_err(), NotFoundError)


async def test_get_chunk_of_a_whole_ball_that_has_no_such_chunk(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put_chunks(bucket_id, "ball", chunks_of(PARTS))).unwrap()
        error = (await client.get_chunk(bucket_id, "ball", 3)).unwrap_err()
        assert isinstance(error, NotFoundError)
        assert "has only 3 chunks" in str(error)
        ball = (await client.get_metadata(bucket_id, "ball")).unwrap()
        assert str((await client.read_chunk(ball, 3)).unwrap_err()) == str(error)
        (await client.put(bucket_id, "empty", b"")).unwrap()
        chunk, metadata = (await client.get_chunk(bucket_id, "empty", 0)).unwrap()
        assert (chunk.data, metadata.size) == (b"", 0)


async def test_get_chunk_gives_no_wrong_bytes(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "ball", pattern(1000))).unwrap()
        with vss.fault("flip_bit", bucket=bucket_id):
            error = (await client.get_chunk(bucket_id, "ball", 0, max_retries=2, force=True)).unwrap_err()
            assert isinstance(error, IntegrityError)


# -- get_chunks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [False, True])
@pytest.mark.parametrize("at_once", [1, 2, 10])
async def test_get_chunks_gives_every_chunk_once(vss: LocalVSS, bucket_id: str, order: bool, at_once: int) -> None:
    data = pattern(10_000)
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "ball", data, chunk_size=700)).unwrap()
        given = await read_all(client, bucket_id, order=order, max_parallel_gets=at_once)
        assert len(given) == 14
        if order:
            assert [index for index, _ in given] == list(range(14))
        assert b"".join(part for _, part in sorted(given)) == data
        tail = await read_all(client, bucket_id, order=order, max_parallel_gets=at_once, chunk_index=12)
        assert sorted(index for index, _ in tail) == [12, 13]


async def test_chunks_come_as_completed_unless_order_is_asked_for(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put_chunks(bucket_id, "ball", chunks_of(PARTS))).unwrap()
        with vss.fault("latency", path=f"{bucket_id}/ball_0", seconds=0.3):
            assert [index for index, _ in await read_all(client, bucket_id)][-1] == 0
            assert [index for index, _ in await read_all(client, bucket_id, order=True)] == [0, 1, 2]


async def test_get_chunks_of_empty_and_absent_balls(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "empty", b"")).unwrap()
        for order in (False, True):
            assert await read_all(client, bucket_id, "empty", order=order) == [(0, b"")]
            with pytest.raises(NotFoundError):
                await read_all(client, bucket_id, "absent", order=order, max_retries=1)
        with pytest.raises(ValidationError):
            await read_all(client, "no bucket", "k")
        with pytest.raises(ValidationError):
            await read_all(client, bucket_id, "k", max_parallel_gets=0)


async def test_what_is_given_can_t_be_written_to(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "ball", b"abc")).unwrap()
        async for _, data in client.get_chunks(bucket_id, "ball"):
            assert data.readonly


@pytest.mark.parametrize("closing", [True, False])
async def test_an_early_break_leaves_no_task_and_no_connection_in_use(
    vss: LocalVSS, bucket_id: str, closing: bool
) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "ball", pattern(20_000), chunk_size=1000)).unwrap()
        with vss.fault("latency", path=f"{bucket_id}/ball_1", seconds=20):
            if closing:
                async with contextlib.aclosing(client.get_chunks(bucket_id, "ball", max_parallel_gets=4)) as chunks:
                    async for _ in chunks:
                        break
            else:
                async for _ in client.get_chunks(bucket_id, "ball", max_parallel_gets=4):
                    break
                gc.collect()
            async with asyncio.timeout(10):
                while other_tasks():
                    await asyncio.sleep(0.01)
            assert in_use(client) == 0
        assert len(await read_all(client, bucket_id)) == 20


def in_use(client: AsyncClient) -> int:
    """How many connections of the client are in the middle of an answer."""
    return busy_connections_of(client._transport)


async def test_the_whole_is_verified_at_the_end_when_in_order(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    for index, part in enumerate(PARTS):
        task, _ = wire.announce(bucket_id, "ball", index, part, b"not their whole", 3)
        wire.send(task, part)
    async with checked_client(vss) as client:
        given: list[tuple[int, bytes]] = []
        with pytest.raises(IntegrityError, match="the object has SHA-256"):
            await read_into(given, client, bucket_id, order=True)
        assert given == list(enumerate(PARTS))
        assert len(await read_all(client, bucket_id)) == 3


async def test_an_older_version_is_read_where_nothing_was_given_yet(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, "ball", PARTS)
    wire.put(bucket_id, "ball", [b"new 0", b"new 1", b"new 2"], announced_only=[0, 1, 2])
    async with checked_client(vss) as client:
        for order in (False, True):
            given = await read_all(client, bucket_id, order=order, max_retries=2)
            assert sorted(given) == list(enumerate(PARTS))
        chunk, _ = (await client.get_chunk(bucket_id, "ball", 1, max_retries=2)).unwrap()
        assert chunk.data == PARTS[1]


async def test_there_is_no_way_back_once_a_chunk_was_given(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, "ball", PARTS)
    wire.put(bucket_id, "ball", [b"new 0", b"new 1", b"new 2"], announced_only=[2])
    async with checked_client(vss) as client:
        given: list[tuple[int, bytes]] = []
        with pytest.raises((GetChunkError, IntegrityError)):
            await read_into(given, client, bucket_id, order=True, max_retries=2)
        assert given == [(0, b"new 0"), (1, b"new 1")]


async def test_memory_is_bounded_by_the_chunks_in_flight(vss: LocalVSS, bucket_id: str) -> None:
    size, chunk_size = 24_000_000, 500_000
    async with checked_client(vss, capacity_storage=0) as client:
        (await client.put(bucket_id, "ball", bytes(size), chunk_size=chunk_size)).unwrap()
        tracemalloc.start()
        try:
            async for _ in client.get_chunks(bucket_id, "ball", max_parallel_gets=2, order=True):
                await asyncio.sleep(0.01)  # a consumer that is slower than the network
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8_000_000
