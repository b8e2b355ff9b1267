"""Empty objects: listings show them through their companions, and every operation treats the pair as one object."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import (
    AsyncClient,
    BallConflictError,
    Chunk,
    NotFoundError,
    UnavailableError,
    ValidationError,
)
from airflow_provider_mictlanx.client.empty_objects import COMPANION_TAG, companion_key
from airflow_provider_mictlanx.client.object_ids import make_ball_id
from tests.support.clients import client_of
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import cut, pattern, sha256
from tests.support.vss import LocalVSS

DATA = pattern(1000)
KEYS = ("k", "out/_SUCCESS", "ünï/cødé.txt", "empty-object")


async def keys(client: AsyncClient, bucket_id: str, **how: str) -> list[str]:
    return [ball.key for ball in (await client.list_balls(bucket_id, **how)).unwrap()]


def interceptor_client(uri: str) -> AsyncClient:
    return AsyncClient(uri, "tests", debug=False, log_output_path=None)


def companion_of(vss: LocalVSS, bucket_id: str, key: str = "k") -> dict[str, Any]:
    """Return the companion in the raw listing."""
    ball_id = make_ball_id(key)
    return next(row for row in RawRequests(vss).listed_in(bucket_id) if row["key"] == companion_key(ball_id))


def leave_stale_companion(vss: LocalVSS, bucket_id: str, chunks: list[bytes], *, only: list[int] | None = None) -> None:
    """Let another writer put other bytes in place of the empty ball ``k``, beside its companion."""
    wire = RawRequests(vss)
    wire.delete_chunk(bucket_id, "k_0")
    wire.put(bucket_id, "k", chunks, only=only)


# -- listing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
async def test_listing_shows_what_get_metadata_returns(vss: LocalVSS, bucket_id: str, key: str) -> None:
    async with client_of(vss) as client:
        (await client.put(bucket_id, key, b"", rf=2, tags={"index": "7", "colour": "red"})).unwrap()
        (listed,) = (await client.list_balls(bucket_id)).unwrap()
        found = (await client.get_metadata(bucket_id, key)).unwrap()
        assert (listed.key, listed.ball_id, listed.size, listed.num_chunks) == (key, make_ball_id(key), 0, 1)
        assert (listed.checksum, listed.tags["colour"]) == (sha256(b""), "red")
        assert COMPANION_TAG not in listed.tags
        RawRequests(vss).delete_chunk(bucket_id, companion_key(listed.ball_id))
        alone = (await client.get_metadata(bucket_id, key)).unwrap()
        for ball in (listed, found, alone):
            tags = {name: tag for name, tag in ball.tags.items() if name != "updated_at"}
            (chunk,) = ball.chunks
            described = (chunk.key, chunk.size, chunk.checksum, chunk.producer_id, chunk.index, chunk.num_chunks)
            assert described == (f"{listed.ball_id}_0", 0, sha256(b""), "tests", 0, 1)
            assert tags == {name: tag for name, tag in alone.tags.items() if name != "updated_at"}


async def test_prefix_glob_and_sizes_include_empty_objects(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        (await client.put(bucket_id, "a", DATA)).unwrap()
        for key in KEYS:
            (await client.put(bucket_id, key, b"")).unwrap()
        assert await keys(client, bucket_id) == sorted(("a", *KEYS))
        assert await keys(client, bucket_id, prefix="out/") == ["out/_SUCCESS"]
        assert await keys(client, bucket_id, glob="*_SUCCESS") == ["out/_SUCCESS"]
        bucket = (await client.get_bucket_metadata(bucket_id)).unwrap()
        assert (len(bucket), bucket.size_bytes()) == (5, 1000)


@pytest.mark.parametrize("how", ["file", "chunks", "single chunk"])
async def test_every_put_of_an_empty_object_is_listed(vss: LocalVSS, bucket_id: str, how: str, tmp_path: Path) -> None:
    (tmp_path / "none.txt").touch()
    async with client_of(vss) as client:
        if how == "file":
            (await client.put_file(bucket_id, "k", tmp_path / "none.txt")).unwrap()
        elif how == "chunks":
            (await client.put_chunks(bucket_id, "k", [Chunk("k", 0, b"", metadata={"num_chunks": "1"})])).unwrap()
        else:
            (await client.put_single_chunk(bucket_id, "k", Chunk("k", 0, b""))).unwrap()
        (ball,) = (await client.list_balls(bucket_id)).unwrap()
        assert (ball.key, ball.size) == ("k", 0)
        assert ball.fullname == ("none.txt" if how == "file" else "")
        parts = [(chunk.key, bytes(data)) async for chunk, data in client.get_chunks(bucket_id, "k")]
        assert parts == [("k_0", b"")]


@pytest.mark.parametrize("how", ["key", "tag", "both"])
async def test_only_tag_with_key_makes_a_companion(vss: LocalVSS, bucket_id: str, how: str) -> None:
    """A name of that form is a key like any other, and a tag that another writer copied hides no ball."""
    tags = {COMPANION_TAG: "k"}
    ball_id = "empty-object" if how == "tag" else companion_key("k")
    RawRequests(vss).put(bucket_id, ball_id, [b"\n"], tags=None if how == "key" else tags)
    async with client_of(vss) as client:
        (await client.put(bucket_id, "k", b"")).unwrap()
        balls = {ball.key: ball.size for ball in (await client.list_balls(bucket_id)).unwrap()}
        assert balls == {"k": 0, ball_id: 1}
        (await client.delete("k", bucket_id)).unwrap()
        assert await keys(client, bucket_id) == [ball_id]
        assert bytes((await client.get(bucket_id, ball_id)).unwrap().data) == b"\n"


async def test_tag_of_a_companion_is_refused_from_users(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        refused = await client.put(bucket_id, "k", b"1", tags={COMPANION_TAG: "k"})
        assert isinstance(refused.unwrap_err(), ValidationError)


async def test_empty_ball_of_another_writer_is_found_by_its_key(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", [b""])
    async with client_of(vss) as client:
        assert (await client.exists(bucket_id, "k")).unwrap()
        assert bytes((await client.get(bucket_id, "k")).unwrap().data) == b""
        assert await keys(client, bucket_id) == []
        assert (await client.put(bucket_id, "k", b"")).unwrap() is False
        assert await keys(client, bucket_id) == ["k"]


@pytest.mark.parametrize("turn", [0, 1])
async def test_empty_ball_that_one_peer_lost_is_a_conflict(vss: LocalVSS, bucket_id: str, turn: int) -> None:
    """No listing shows it, so one peer that does not know it must not make its placement a stale one."""
    wire = RawRequests(vss)
    lost = sorted(wire.put(bucket_id, "k", [b""], rf=2)[0])[turn]
    wire.forget_at_peer(int(lost[-1]), bucket_id, "k")
    for _ in range(turn):  # the router asks the replicas in turn: the put's first look asks the one that lost it
        wire.metadata(bucket_id, "k_0")
    async with client_of(vss) as client:
        assert type((await client.put(bucket_id, "k", b"other")).unwrap_err()) is BallConflictError
    assert 200 in [wire.metadata(bucket_id, "k_0")[0] for _ in range(2)]


async def test_empty_ball_is_not_deleted_as_a_stale_placement(vss: LocalVSS, bucket_id: str) -> None:
    """Another reader takes every second turn, so each look asks the peer that lost the ball."""
    wire = RawRequests(vss)
    lost, holder = sorted(wire.put(bucket_id, "k", [b""], rf=2)[0])
    wire.forget_at_peer(int(lost[-1]), bucket_id, "k")

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if not asked.path.endswith("/metadata/k_0"):
            return None
        reply = await pass_on(asked)
        assert (await pass_on(asked)).json()["peer_id"] == holder
        return reply

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        error = (await client.put(bucket_id, "k", b"other", max_tries=2)).unwrap_err()
        assert type(error) is UnavailableError
        assert interceptor.seen("DELETE") == []
    assert wire.data(bucket_id, "k_0", holder) == b""


# -- replacing and deleting ------------------------------------------------------------------------------------------


async def test_replace_and_delete_treat_the_pair_as_one(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    async with client_of(vss) as client:
        (await client.put(bucket_id, "k", b"", rf=2)).unwrap()
        assert isinstance((await client.put(bucket_id, "k", DATA)).unwrap_err(), BallConflictError)
        (await client.put(bucket_id, "k", DATA, replace=True)).unwrap()
        assert {row["key"] for row in wire.listed_in(bucket_id)} == {"k_0"}
        (await client.put(bucket_id, "k", b"", rf=3, replace=True)).unwrap()
        assert [ball.size for ball in (await client.list_balls(bucket_id)).unwrap()] == [0]
        assert len(wire.listed(bucket_id, "k")) == 3
        assert (await client.delete("k", bucket_id)).unwrap().n_deletes == 3  # without the companion's
        assert wire.listed_in(bucket_id) == []
        assert (await client.exists(bucket_id, "k")).unwrap() is False
        assert (await client.delete("k", bucket_id)).unwrap().n_deletes == 0


async def test_delete_by_chunk_key_deletes_the_companion_too(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        (await client.put(bucket_id, "k", b"")).unwrap()
        assert (await client.delete_by_key("k_0", bucket_id)).unwrap().n_deletes == 1
        assert RawRequests(vss).listed_in(bucket_id) == []
        assert (await client.exists(bucket_id, "k")).unwrap() is False


async def test_delete_bucket_deletes_every_empty_object(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    async with client_of(vss) as client:
        for key in KEYS:
            (await client.put(bucket_id, key, b"", rf=2)).unwrap()
        report = (await client.delete_bucket(bucket_id)).unwrap()
        assert (report.deleted, report.failed, report.total) == (4, 0, 4)
        assert wire.listed_in(bucket_id) == []
        for key in KEYS:
            assert (await client.exists(bucket_id, key)).unwrap() is False
            for chunk_key in (f"{make_ball_id(key)}_0", companion_key(make_ball_id(key))):
                assert wire.metadata(bucket_id, chunk_key) == (500, {"detail": "404: No available peers"})


async def test_delete_bucket_deletes_each_chunk_of_a_pair(own_vss: Callable[..., LocalVSS]) -> None:
    """The delete by ball id may miss the peer of the empty chunk, which no later listing shows."""
    vss = own_vss()
    await put_empty(vss, "b", "k")

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        ignored = asked.method == "DELETE" and asked.path.endswith("/bid/k")
        return Reply(body=json.dumps({"n_deletes": 1, "ball_id": "k"}).encode()) if ignored else None

    async with intercepting(handler, vss) as interceptor, interceptor_client(interceptor.uri) as client:
        assert (await client.delete_bucket("b")).unwrap().failed == 0
        assert (await client.exists("b", "k")).unwrap() is False


async def test_companion_is_deleted_before_its_ball(vss: LocalVSS, bucket_id: str) -> None:
    """After an interrupted delete, a companion alone would be listed as an empty object."""
    async with client_of(vss) as client:
        for number in range(6):  # on several peers, which are listed one after the other
            await put_empty(vss, bucket_id, "k")
            leave_stale_companion(vss, bucket_id, cut(DATA, 400, 400))
            vss.reset_requests()
            (await client.delete("k", bucket_id)).unwrap()
            deleted = [seen["path"].rpartition("/")[2] for seen in vss.requests("DELETE")]
            assert (deleted[0], sorted(deleted[1:])) == (companion_key("k"), ["k_0", "k_1", "k_2"]), number


# -- stale companions ------------------------------------------------------------------------------------------------


async def test_stale_companion_does_not_count(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        (await client.put(bucket_id, "k", b"")).unwrap()
        leave_stale_companion(vss, bucket_id, [DATA])
        (ball,) = (await client.list_balls(bucket_id)).unwrap()
        assert (ball.size, ball.checksum) == (1000, sha256(DATA))
        assert bytes((await client.get(bucket_id, "k")).unwrap().data) == DATA
        assert (await client.put(bucket_id, "k", DATA)).unwrap() is False
        assert (await client.delete("k", bucket_id)).unwrap().n_deletes == 1
        assert RawRequests(vss).listed_in(bucket_id) == []


async def test_companion_counts_beside_an_incomplete_ball(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        (await client.put(bucket_id, "k", b"")).unwrap()
        leave_stale_companion(vss, bucket_id, cut(DATA, 400, 400), only=[1])
        assert [ball.size for ball in (await client.list_balls(bucket_id)).unwrap()] == [0]
        assert bytes((await client.get(bucket_id, "k")).unwrap().data) == b""


@pytest.mark.parametrize("how", ["delete_bucket", "put", "replace"])
async def test_stale_companion_is_removed(vss: LocalVSS, bucket_id: str, how: str) -> None:
    async with client_of(vss) as client:
        (await client.put(bucket_id, "k", b"")).unwrap()
        leave_stale_companion(vss, bucket_id, [] if how == "put" else [DATA])
        if how == "delete_bucket":
            assert (await client.delete_bucket(bucket_id)).unwrap().total == 1
        else:
            (await client.put(bucket_id, "k", DATA[:500], chunk_size=200, replace=how == "replace")).unwrap()
        rows = RawRequests(vss).listed_in(bucket_id)
        assert {row["key"] for row in rows} == (set() if how == "delete_bucket" else {"k_0", "k_1"})


async def test_stale_companion_that_stays_fails_no_put(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        (await client.put(bucket_id, "k", b"")).unwrap()
        leave_stale_companion(vss, bucket_id, [])
        with vss.fault("status", status=503, method="DELETE", bucket=bucket_id):
            assert (await client.put(bucket_id, "k", DATA, max_tries=2)).unwrap() is True
        assert [ball.size for ball in (await client.list_balls(bucket_id)).unwrap()] == [1000]


def keep_only_companion(vss: LocalVSS, bucket_id: str, key: str) -> bool:
    """Let the peer of a ball's chunk 0 lose the ball, unless that peer stores the companion too."""
    wire = RawRequests(vss)
    holder = wire.metadata(bucket_id, f"{key}_0")[1]["peer_id"]
    if wire.data(bucket_id, companion_key(key), holder) is not None:
        return False
    wire.forget_at_peer(int(holder[-1]), bucket_id, key)
    return True


@pytest.fixture
def lost(vss: LocalVSS, bucket_id: str) -> str:
    """A key with a companion, and with a placement of other bytes that their peer has lost."""
    wire = RawRequests(vss)
    for key in (f"k{number}" for number in range(50)):
        asyncio.run(put_empty(vss, bucket_id, key))
        wire.delete_chunk(bucket_id, f"{key}_0")
        wire.put(bucket_id, key, [DATA])
        if keep_only_companion(vss, bucket_id, key):
            return key
    raise AssertionError("chunk 0 and the companion are always placed on the same peer")


async def put_empty(vss: LocalVSS, bucket_id: str, key: str) -> None:
    async with client_of(vss) as client:
        (await client.put(bucket_id, key, b"")).unwrap()


async def test_companion_hides_no_lost_bytes(vss: LocalVSS, bucket_id: str, lost: str) -> None:
    """Other bytes have a placement: the object may not be empty."""
    async with client_of(vss) as client:
        assert isinstance((await client.get(bucket_id, lost)).unwrap_err(), UnavailableError)
        assert isinstance((await client.exists(bucket_id, lost)).unwrap_err(), UnavailableError)


async def test_placement_without_data_beside_companion_does_not_block_the_key(
    vss: LocalVSS, bucket_id: str, lost: str
) -> None:
    vss.reset_requests()
    async with client_of(vss) as client:
        assert (await client.put(bucket_id, lost, DATA)).unwrap() is True
        assert len(vss.requests("DELETE", f"/{lost}_0$")) == 1
        assert bytes((await client.get(bucket_id, lost)).unwrap().data) == DATA


async def test_companion_is_not_believed_while_a_peer_does_not_answer(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    await put_empty(vss, "b", "k")
    leave_stale_companion(vss, "b", [DATA])
    holder = RawRequests(vss).metadata("b", "k_0")[1]["peer_id"]
    async with client_of(vss) as client:
        with vss.fault("peer_silent", peer=holder):
            assert isinstance((await client.get("b", "k", max_retries=2)).unwrap_err(), UnavailableError)
            assert isinstance((await client.list_balls("b")).unwrap_err(), UnavailableError)


@pytest.mark.parametrize("rounds", [1, 100])
@pytest.mark.parametrize("key", ["k_0", companion_key("k")])
async def test_delete_that_changed_nothing_is_noticed(own_vss: Callable[..., LocalVSS], key: str, rounds: int) -> None:
    """The router answers the delete of a chunk, and the peers keep it."""
    vss = own_vss()
    await put_empty(vss, "b", "k")
    ignored = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method != "DELETE" or not asked.path.endswith(f"/{key}") or len(ignored) >= rounds:
            return None
        ignored.append(asked)
        return Reply(body=json.dumps({"n_deletes": 0, "key": key}).encode())

    async with intercepting(handler, vss) as interceptor, interceptor_client(interceptor.uri) as client:
        (await client.delete("k", "b")).unwrap()
        assert (await client.exists("b", "k")).unwrap() is False
    assert RawRequests(vss).listed_in("b") == []


async def test_delete_of_a_companion_alone_keeps_the_empty_ball(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    await put_empty(vss, "b", "k")

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        ignored = asked.method == "DELETE" and asked.path.endswith(companion_key("k"))
        return Reply(body=json.dumps({"n_deletes": 1, "key": ""}).encode()) if ignored else None

    async with intercepting(handler, vss) as interceptor, interceptor_client(interceptor.uri) as client:
        assert isinstance((await client.delete_by_key(companion_key("k"), "b")).unwrap_err(), UnavailableError)
    assert RawRequests(vss).metadata("b", "k_0")[0] == 200
    async with client_of(vss) as client:
        assert (await client.delete_by_key(companion_key("k"), "b")).unwrap().n_deletes == 1
        assert await keys(client, "b") == []
        assert (await client.exists("b", "k")).unwrap()


# -- how many requests -----------------------------------------------------------------------------------------------


REQUESTS: dict[str, tuple[Callable[[AsyncClient, str], Awaitable[Any]], int]] = {
    "put": (lambda client, bucket_id: client.put(bucket_id, "new", DATA), 4),
    "put over a stale companion": (lambda client, bucket_id: client.put(bucket_id, "stale", DATA), 5),
    "put empty": (lambda client, bucket_id: client.put(bucket_id, "new", b""), 8),
    "put empty again": (lambda client, bucket_id: client.put(bucket_id, "empty", b""), 6),
    "get empty": (lambda client, bucket_id: client.get(bucket_id, "empty"), 2),
    "get": (lambda client, bucket_id: client.get(bucket_id, "data"), 2),
    "delete": (lambda client, bucket_id: client.delete("data", bucket_id), 6),
    "delete absent": (lambda client, bucket_id: client.delete("none", bucket_id), 8),
    "delete empty": (lambda client, bucket_id: client.delete("empty", bucket_id), 9),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_requests_for_objects_beside_companions(vss: LocalVSS, bucket_id: str, name: str) -> None:
    call, number = REQUESTS[name]
    async with client_of(vss) as client:
        (await client.put(bucket_id, "data", DATA)).unwrap()
        for key in ("empty", "stale"):
            (await client.put(bucket_id, key, b"")).unwrap()
        RawRequests(vss).delete_chunk(bucket_id, "stale_0")
        vss.reset_requests()
        (await call(client, bucket_id)).unwrap()
        assert len(vss.requests()) == number, [(seen["method"], seen["path"]) for seen in vss.requests()]


# -- copying ---------------------------------------------------------------------------------------------------------


async def test_copy_of_an_empty_object_is_listed_with_its_tags(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        (await client.put(bucket_id, "a b", b"", tags={"colour": "red"})).unwrap()
        (await client.copy(bucket_id, "a b", bucket_id, "c d")).unwrap()
        copied = (await client.list_balls(bucket_id)).unwrap()[1]
        assert (copied.key, copied.size, copied.tags["colour"]) == ("c d", 0, "red")
        (await client.delete("a b", bucket_id)).unwrap()
        assert await keys(client, bucket_id) == ["c d"]
        assert companion_of(vss, bucket_id, "c d")["tags"][COMPANION_TAG] == "c d"


async def test_companion_without_its_empty_ball_is_the_object(vss: LocalVSS, bucket_id: str) -> None:
    """Reads and listings agree on what an interrupted put or another writer's delete left."""
    async with client_of(vss) as client:
        (await client.put(bucket_id, "k", b"")).unwrap()
        leave_stale_companion(vss, bucket_id, [])
        assert await keys(client, bucket_id) == ["k"]
        assert (await client.exists(bucket_id, "k", check_storage=True)).unwrap()
        chunk, _ = (await client.get_chunk(bucket_id, "k", 0)).unwrap()
        assert chunk.data == b""
        assert [bytes(data) async for _, data in client.get_chunks(bucket_id, "k", order=True)] == [b""]
        assert (await client.delete("k", bucket_id)).is_ok
        assert isinstance((await client.get(bucket_id, "k")).unwrap_err(), NotFoundError)
        assert await keys(client, bucket_id) == []
