"""Empty objects whose writer was killed: the next put or delete mends whatever is left of the pair."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.empty_objects import companion_key
from tests.robustness.model.killed import kill_at
from tests.support.clients import client_of
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import pattern, sha256
from tests.support.vss import LocalVSS

KEY = "k"
DATA = pattern(1000)
PUT_REQUESTS = 8
"""Requests of the put of a new empty object: look, announce, list and send, for the ball and for its companion."""

Mend = Callable[[AsyncClient, str], Awaitable[Any]]

MENDS: dict[str, tuple[Mend, bytes | None]] = {
    "put": (lambda client, bucket_id: client.put(bucket_id, KEY, b""), b""),
    "put rf=3": (lambda client, bucket_id: client.put(bucket_id, KEY, b"", rf=3), b""),
    "replace": (lambda client, bucket_id: client.put(bucket_id, KEY, DATA, chunk_size=400, replace=True), DATA),
    "delete": (lambda client, bucket_id: client.delete(KEY, bucket_id), None),
}


async def check_mended(vss: LocalVSS, bucket_id: str, mend: str) -> None:
    """Mend a state, and check that readers, listings and the raw listing agree."""
    wire = RawRequests(vss)
    act, content = MENDS[mend]
    async with client_of(vss) as client:
        (await act(client, bucket_id)).unwrap()
        balls = (await client.list_balls(bucket_id)).unwrap()
        rows = {row["key"] for row in wire.listed_in(bucket_id)}
        assert (await client.exists(bucket_id, KEY)).unwrap() is (content is not None)
        if content is None:
            assert (balls, rows) == ([], set())
            assert wire.metadata(bucket_id, f"{KEY}_0")[0] == 500
            assert (await client.put(bucket_id, KEY, DATA)).unwrap() is True
            return
        assert [(ball.key, ball.size, ball.checksum) for ball in balls] == [(KEY, len(content), sha256(content))]
        assert bytes((await client.get(bucket_id, KEY)).unwrap().data) == content
        assert rows == ({f"{KEY}_0", f"{KEY}_1"} if content else {companion_key(KEY)})
        if not content:
            assert wire.metadata(bucket_id, f"{KEY}_0")[0] == 200


@pytest.mark.parametrize("mend", MENDS)
@pytest.mark.parametrize("missing", [f"{KEY}_0", companion_key(KEY)])
async def test_half_of_a_pair_is_mended(vss: LocalVSS, bucket_id: str, missing: str, mend: str) -> None:
    async with client_of(vss) as client:
        (await client.put(bucket_id, KEY, b"", rf=2)).unwrap()
    assert RawRequests(vss).delete_chunk(bucket_id, missing) == 2
    await check_mended(vss, bucket_id, mend)


async def test_companion_alone_does_not_block_other_bytes(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        (await client.put(bucket_id, KEY, b"")).unwrap()
        RawRequests(vss).delete_chunk(bucket_id, f"{KEY}_0")
        assert (await client.put(bucket_id, KEY, DATA, chunk_size=400)).unwrap() is True
        assert [ball.size for ball in (await client.list_balls(bucket_id)).unwrap()] == [len(DATA)]
        assert {row["key"] for row in RawRequests(vss).listed_in(bucket_id)} == {f"{KEY}_0", f"{KEY}_1"}


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("number", range(1, PUT_REQUESTS + 1))
async def test_put_killed_at_any_request_is_mended(vss: LocalVSS, bucket_id: str, number: int, answered: bool) -> None:
    for mend in ("put", "replace", "delete"):
        place = f"{bucket_id}-{mend}"
        assert await kill_at(vss, number, answered, "put", place, KEY, data=b"")
        await check_mended(vss, place, mend)


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("number", [4, 5, 6])
async def test_delete_killed_at_any_delete_is_mended(
    vss: LocalVSS, bucket_id: str, number: int, answered: bool
) -> None:
    for mend in ("put", "replace", "delete"):
        place = f"{bucket_id}-{mend}"
        async with client_of(vss) as client:
            (await client.put(place, KEY, b"")).unwrap()
        assert await kill_at(vss, number, answered, "delete", KEY, place)
        await check_mended(vss, place, mend)


async def test_delete_killed_beside_a_stale_companion_leaves_no_empty_object(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    async with client_of(vss) as client:
        (await client.put(bucket_id, KEY, b"")).unwrap()
        wire.delete_chunk(bucket_id, f"{KEY}_0")
        wire.put(bucket_id, KEY, [DATA])
        assert await kill_at(vss, 4, True, "delete", KEY, bucket_id)
        assert [ball.size for ball in (await client.list_balls(bucket_id)).unwrap()] == [len(DATA)]


async def test_delete_killed_between_its_deletes_leaves_no_companion(vss: LocalVSS, bucket_id: str) -> None:
    """An empty ball without its companion is what other writers leave; a companion alone would be listed."""
    async with client_of(vss) as client:
        (await client.put(bucket_id, KEY, b"")).unwrap()
    assert await kill_at(vss, 5, True, "delete", KEY, bucket_id)
    assert RawRequests(vss).listed_in(bucket_id) == []
    assert RawRequests(vss).metadata(bucket_id, f"{KEY}_0")[0] == 200
