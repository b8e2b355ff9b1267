"""The read cache of ``get``: what it keeps, what it forgets, and that it never hands out what is not stored any more."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_mictlanx.client import AsyncClient, NotFoundError
from tests.support.clients import checked_client, client_of
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import pattern
from tests.support.vss import LocalVSS

DATA = pattern(1000)


async def reads(vss: LocalVSS, client: AsyncClient, bucket_id: str, key: str, **options: Any) -> int:
    """Get a ball, and give how many data requests that took."""
    vss.reset_requests()
    assert bytes((await client.get(bucket_id, key, **options)).unwrap().data)
    return len(vss.requests("GET", rf"/buckets/{bucket_id}/{key}_\d+$"))


@pytest.mark.parametrize(("policy", "stays"), [("LRU", "ac"), ("LFU", "ac"), ("FIFO", "bc"), ("lru", "ac")])
async def test_what_goes_first(vss: LocalVSS, bucket_id: str, policy: str, stays: str) -> None:
    async with checked_client(vss, eviction_policy=policy, capacity_storage="2kb") as client:
        for key in "abc":
            (await client.put(bucket_id, key, key.encode() * 1000)).unwrap()
        for key in "ab":
            assert await reads(vss, client, bucket_id, key) == 1
        assert await reads(vss, client, bucket_id, "a") == 0  # used again: more recently and more often than b
        assert await reads(vss, client, bucket_id, "c") == 1  # no room for three
        assert client._cache._balls.keys() == {(bucket_id, key) for key in stays}
        for key in stays:
            assert await reads(vss, client, bucket_id, key) == 0


async def test_any_goes_at_random(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss, eviction_policy="RR", capacity_storage=2000) as client:
        for key in "abcde":
            (await client.put(bucket_id, key, key.encode() * 1000)).unwrap()
            assert await reads(vss, client, bucket_id, key) == 1
            assert (bucket_id, key) in client._cache._balls  # what came last is there
        assert len(client._cache._balls) == 2


async def test_ball_changed_by_another_client_is_not_served_from_cache(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "k", DATA)).unwrap()
        assert await reads(vss, client, bucket_id, "k") == 1
        assert await reads(vss, client, bucket_id, "k") == 0
        async with client_of(vss) as other:
            (await other.put(bucket_id, "k", b"new", replace=True)).unwrap()
        got = (await client.get(bucket_id, "k")).unwrap()
        assert (bytes(got.data), got.metadatas[0].size) == (b"new", 3)
        RawRequests(vss).delete(bucket_id, "k")
        assert isinstance((await client.get(bucket_id, "k", max_retries=1)).unwrap_err(), NotFoundError)


async def test_same_bytes_put_anew_are_served_from_cache(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "k", DATA)).unwrap()
        assert await reads(vss, client, bucket_id, "k") == 1
        (await client.delete("k", bucket_id)).unwrap()
        (await client.put(bucket_id, "k", DATA, chunk_size=100)).unwrap()
        assert await reads(vss, client, bucket_id, "k") == 0
        got = (await client.get(bucket_id, "k")).unwrap()
        assert (bytes(got.data), len(got.metadatas)) == (DATA, 10)


async def test_force_and_a_part_of_a_ball_bypass_it(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "k", DATA, chunk_size=400)).unwrap()
        assert await reads(vss, client, bucket_id, "k") == 2
        assert await reads(vss, client, bucket_id, "k", force=True) == 2
        tail = (await client.get(bucket_id, "k", chunk_index=1)).unwrap()
        assert bytes(tail.data) == DATA[400:]
        whole = (await client.get(bucket_id, "k")).unwrap()
        assert bytes(whole.data) == DATA


@pytest.mark.parametrize("capacity", [0, "0", "0GB", 999, "900b"])
async def test_nothing_is_kept_that_does_not_fit(vss: LocalVSS, bucket_id: str, capacity: Any) -> None:
    async with checked_client(vss, capacity_storage=capacity) as client:
        (await client.put(bucket_id, "k", DATA)).unwrap()
        assert await reads(vss, client, bucket_id, "k") == 1
        assert await reads(vss, client, bucket_id, "k") == 1
        assert client._cache._balls.keys() == set()


async def test_cached_data_is_read_only_and_dropped_at_the_end(vss: LocalVSS, bucket_id: str) -> None:
    kept: list[AsyncClient] = []
    async with checked_client(vss) as client:
        kept.append(client)
        (await client.put(bucket_id, "k", DATA)).unwrap()
        for _ in range(2):
            data = (await client.get(bucket_id, "k")).unwrap().data
            assert data.readonly
            with pytest.raises(TypeError):
                data[0] = 0
        assert client._cache._balls.keys()
    assert kept[0]._cache._balls.keys() == set()


async def test_max_size_holds_for_what_is_kept_too(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "k", DATA)).unwrap()
        (await client.get(bucket_id, "k")).unwrap()
        assert "more than the allowed 10" in str((await client.get(bucket_id, "k", max_size=10)).unwrap_err())
