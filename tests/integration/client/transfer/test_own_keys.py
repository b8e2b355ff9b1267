"""Objects whose chunk key is not ``{ball_id}_{index}``, as the official client's getting-started page stores them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import (
    AsyncClient,
    BallConflictError,
    MictlanXError,
    NotFoundError,
    PutChunksError,
    UnavailableError,
    ValidationError,
)
from tests.support.clients import checked_client
from tests.support.raw_requests import RawRequests
from tests.support.router_requests import peer_of, put, router_of
from tests.support.sample_bytes import pattern, sha256
from tests.support.vss import LocalVSS

DATA = pattern(1000)
OTHER = pattern(700, seed=1)

OBJECTS = {
    "through_a_router": ("router", "bx", "hello-object-router"),
    "directly_to_a_peer": ("peer", "b1", "hello-object"),
    "a_frame_directly_to_a_peer": ("peer", "video123", "video123_001.jpg"),
    "a_frame_with_leading_zeros": ("router", "video123", "video123_001"),
    "under_its_ball_id": ("router", "hello", "hello"),
}

FRAMES = [f"video123_{number:03}.jpg" for number in range(1, 4)]


async def store(vss: LocalVSS, bucket_id: str, where: str, ball_id: str, key: str, data: bytes = DATA) -> None:
    """Store an object as the official pages do: without tags."""
    async with router_of(vss) if where == "router" else peer_of(vss, 1) as target:
        await put(target, bucket_id, ball_id, data, key=key, tags={})


async def store_frames(vss: LocalVSS, bucket_id: str, where: str = "peer") -> None:
    for number, key in enumerate(FRAMES):
        await store(vss, bucket_id, where, "video123", key, pattern(100, seed=number))


async def keys_of(client: AsyncClient, bucket_id: str) -> list[str]:
    return [ball.key for ball in (await client.list_balls(bucket_id)).unwrap()]


def stored(vss: LocalVSS, bucket_id: str, ball_id: str) -> list[str]:
    """Return the keys that peers list under a ball id."""
    return sorted(row["key"] for row in RawRequests(vss).listed(bucket_id, ball_id))


@pytest.mark.parametrize("name", OBJECTS)
async def test_object_is_read_by_its_key_and_its_ball_id(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, name: str
) -> None:
    where, ball_id, key = OBJECTS[name]
    await store(vss, bucket_id, where, ball_id, key)
    async with checked_client(vss) as client:
        for number, known in enumerate((key, ball_id)):
            got = (await client.get(bucket_id, known)).unwrap()
            assert (bytes(got.data), got.verified, got.metadatas[0].key) == (DATA, True, key)
            ball = (await client.get_metadata(bucket_id, known, check_storage=True)).unwrap()
            assert (ball.key, ball.ball_id, ball.size, ball.checksum) == (key, ball_id, 1000, sha256(DATA))
            assert (await client.exists(bucket_id, known)).unwrap() is True
            assert [bytes(data) async for _, data in client.get_chunks(bucket_id, known)] == [DATA]
            path = (await client.get_to_file(bucket_id, known, tmp_path / str(number))).unwrap()
            assert (Path(path).name, Path(path).read_bytes()) == (key, DATA)
        assert await keys_of(client, bucket_id) == [key]
        assert (await client.list_balls(bucket_id)).unwrap()[0].verified is True


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("call", ["delete", "delete by ball id", "delete_by_key"])
async def test_object_is_deleted_and_confirmed(vss: LocalVSS, bucket_id: str, name: str, call: str) -> None:
    where, ball_id, key = OBJECTS[name]
    await store(vss, bucket_id, where, ball_id, key)
    async with checked_client(vss) as client:
        if call == "delete_by_key":
            assert (await client.delete_by_key(key, bucket_id)).unwrap().n_deletes == 1
        else:
            known = key if call == "delete" else ball_id
            assert (await client.delete(known, bucket_id)).unwrap().n_deletes == 1
            assert (await client.delete(known, bucket_id)).unwrap().n_deletes == 0
        assert (await client.exists(bucket_id, key)).unwrap() is False
    assert stored(vss, bucket_id, ball_id) == []
    assert RawRequests(vss).peers_with(bucket_id, key, DATA) == set()


@pytest.mark.parametrize("name", OBJECTS)
async def test_object_is_copied_under_its_key(vss: LocalVSS, bucket_id: str, name: str) -> None:
    where, ball_id, key = OBJECTS[name]
    await store(vss, bucket_id, where, ball_id, key)
    async with checked_client(vss) as client:
        assert (await client.copy(bucket_id, key, f"{bucket_id}-copy")).unwrap().uploaded is True
        copy = (await client.get_metadata(f"{bucket_id}-copy", key)).unwrap()
        assert (copy.key, copy.own_key, copy.checksum) == (key, "", sha256(DATA))


@pytest.mark.parametrize("where", ["router", "peer"])
async def test_each_key_of_a_ball_id_is_an_object(vss: LocalVSS, bucket_id: str, where: str) -> None:
    await store_frames(vss, bucket_id, "peer")
    async with checked_client(vss) as client:
        assert await keys_of(client, bucket_id) == FRAMES
        for number, key in enumerate(FRAMES):
            assert (await client.get(bucket_id, key)).unwrap().data == pattern(100, seed=number)
        for call in (client.get, client.get_metadata, client.exists):
            error = (await call(bucket_id, "video123")).unwrap_err()
            assert type(error) is ValidationError
            assert all(key in str(error) for key in FRAMES)
        assert type((await client.delete("video123", bucket_id)).unwrap_err()) is ValidationError
        assert await keys_of(client, bucket_id) == FRAMES


async def test_delete_of_a_placed_key_keeps_the_others(vss: LocalVSS, bucket_id: str) -> None:
    for key in ("one", "two", "three"):
        await store(vss, bucket_id, "router", "bx", key)
    async with checked_client(vss) as client:
        assert (await client.delete("two", bucket_id)).unwrap().n_deletes == 1
        assert (await client.delete_by_key("one", bucket_id)).unwrap().n_deletes == 1
        assert await keys_of(client, bucket_id) == ["three"]


@pytest.mark.parametrize("call", ["delete", "delete_by_key"])
async def test_delete_of_an_unplaced_key_names_the_others(vss: LocalVSS, bucket_id: str, call: str) -> None:
    """Only a delete by ball id clears a chunk without placement, and it takes every key of that ball id."""
    await store_frames(vss, bucket_id)
    async with checked_client(vss) as client:
        error = (await getattr(client, call)(FRAMES[0], bucket_id)).unwrap_err()
        assert type(error) is ValidationError
        assert FRAMES[1] in str(error)
        assert FRAMES[2] in str(error)
        error = (await getattr(client, call)(FRAMES[0], bucket_id, also=FRAMES[:2])).unwrap_err()
        assert FRAMES[1] not in str(error)
        assert stored(vss, bucket_id, "video123") == FRAMES
        assert (await getattr(client, call)(FRAMES[0], bucket_id, also=FRAMES)).unwrap().n_deletes == 3
        assert await keys_of(client, bucket_id) == []


async def test_ball_wins_over_an_equal_chunk_key(vss: LocalVSS, bucket_id: str) -> None:
    await store(vss, bucket_id, "router", "bx", "hello")
    async with checked_client(vss) as client:
        assert (await client.put(bucket_id, "hello", OTHER)).unwrap() is True
        assert (await client.get(bucket_id, "hello")).unwrap().data == OTHER
        assert (await client.get(bucket_id, "bx")).unwrap().data == DATA
        assert [
            (ball.key, ball.ball_id)
            for ball in sorted((await client.list_balls(bucket_id)).unwrap(), key=lambda ball: ball.ball_id)
        ] == [("hello", "bx"), ("hello", "hello")]
        assert (await client.delete("hello", bucket_id)).unwrap().n_deletes == 1
        assert (await client.get(bucket_id, "hello")).unwrap().data == DATA


@pytest.mark.parametrize("where", ["router", "peer"])
async def test_ball_and_keys_with_the_same_ball_id_stay_apart(vss: LocalVSS, bucket_id: str, where: str) -> None:
    await store(vss, bucket_id, where, "bx", "hello")
    async with checked_client(vss) as client:
        for is_new in (True, False):  # the object does not conflict
            assert (await client.put(bucket_id, "bx", OTHER)).unwrap() is is_new
        assert (await client.put(bucket_id, "bx", DATA[:50], replace=True)).unwrap() is True
        assert (await client.get(bucket_id, "bx")).unwrap().data == DATA[:50]
        assert (await client.get(bucket_id, "hello")).unwrap().data == DATA
        assert (await client.delete("bx", bucket_id)).unwrap().n_deletes == 1
        assert await keys_of(client, bucket_id) == ["hello"]


async def test_stale_copy_of_a_ball_is_not_deleted_with_keys(vss: LocalVSS, bucket_id: str) -> None:
    """A returning peer's chunk without placement needs a delete by ball id, which would delete the object too."""
    async with peer_of(vss, 0) as peer:
        await put(peer, bucket_id, "bx", OTHER)
    await store(vss, bucket_id, "router", "bx", "hello")
    async with checked_client(vss) as client:
        error = (await client.delete("bx", bucket_id)).unwrap_err()
        assert type(error) is ValidationError
        assert "hello" in str(error)
        error = (await client.put(bucket_id, "bx", DATA[:5], replace=True)).unwrap_err()
        assert "hello" in str(error)
        assert (await client.get(bucket_id, "hello")).unwrap().data == DATA
        assert (await client.delete("bx", bucket_id, also=["hello"])).unwrap().n_deletes == 2


async def test_failed_announcement_is_not_cleared_with_keys(own_vss: Callable[..., LocalVSS]) -> None:
    """An announcement without placement is cleared by ball id, unless an object has that ball id."""
    vss = own_vss()
    for number in range(4):
        await store(vss, "b", "peer", f"k{number}", f"hello{number}")
    async with checked_client(vss) as client:
        with vss.fault("peer_silent", peer="peer-2"):
            for number in range(4):
                await client.put("b", f"k{number}", OTHER, rf=2, max_tries=2)
    for number in range(4):
        assert f"hello{number}" in stored(vss, "b", f"k{number}")
        assert RawRequests(vss).peers_with("b", f"hello{number}", DATA) == {"peer-1"}


@pytest.mark.parametrize("data", [DATA, OTHER], ids=["same bytes", "other bytes"])
async def test_chunk_of_another_ball_is_not_replaced(vss: LocalVSS, bucket_id: str, data: bytes) -> None:
    await store(vss, bucket_id, "router", "other", "bx_0")
    async with checked_client(vss) as client:
        assert (await client.exists(bucket_id, "bx")).unwrap() is False
        for replace in (False, True):
            error = (await client.put(bucket_id, "bx", data, replace=replace)).unwrap_err()
            assert type(error) is BallConflictError
            assert "another object, with ball id other" in str(error)
        assert (await client.get(bucket_id, "bx_0")).unwrap().data == DATA


async def test_later_chunk_under_a_key_of_another_ball_is_no_success(own_vss: Callable[..., LocalVSS]) -> None:
    """Code 666: the only peer stores the right bytes, but lists them under the other ball's id."""
    vss = own_vss(peers=1)
    await store(vss, "b", "router", "other", "k_1")
    async with checked_client(vss) as client:
        error = (await client.put("b", "k", OTHER[:500] + DATA[500:] + DATA, chunk_size=1000)).unwrap_err()
        assert type(error) is PutChunksError
        assert "that of another object" in str(error)
        assert (await client.get("b", "k_1")).unwrap().data == DATA


@pytest.mark.parametrize("where", ["router", "peer"])
async def test_chunk_with_any_key_is_deleted_by_it(vss: LocalVSS, bucket_id: str, where: str) -> None:
    """The official client's chunks may have any key, and tags that place them in their ball."""
    data = {"first": DATA, "second": OTHER}
    async with router_of(vss) if where == "router" else peer_of(vss, 1) as target:
        for index, (key, chunk) in enumerate(data.items()):
            tags = {"index": str(index), "num_chunks": "2", "full_checksum": sha256(DATA + OTHER)}
            await put(target, bucket_id, "bx", chunk, key=key, tags=tags)
    async with checked_client(vss) as client:
        assert (await client.get(bucket_id, "bx")).unwrap().data == DATA + OTHER
        deleted = await client.delete_by_key("second", bucket_id)
        if where == "peer":  # without placement, it can only be deleted with the ball
            assert type(deleted.unwrap_err()) is UnavailableError
        else:
            assert deleted.unwrap().n_deletes == 1
    assert RawRequests(vss).peers_with(bucket_id, "second", OTHER) == ({"peer-1"} if where == "peer" else set())
    assert len(RawRequests(vss).peers_with(bucket_id, "first", DATA)) == 1


async def test_chunk_of_a_ball_is_no_object(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        assert (await client.put(bucket_id, "k", DATA, chunk_size=400)).unwrap() is True
        assert (await client.exists(bucket_id, "k_1")).unwrap() is False
        assert type((await client.get(bucket_id, "k_0")).unwrap_err()) is NotFoundError
        assert (await client.delete("k_1", bucket_id)).unwrap().n_deletes == 0
        assert (await client.get(bucket_id, "k")).unwrap().data == DATA


@pytest.mark.parametrize("call", ["delete", "replace"])
async def test_delete_of_an_incomplete_ball_keeps_another_ones_key(vss: LocalVSS, bucket_id: str, call: str) -> None:
    """The key of another client's object may be that of the chunk which the ball lacks."""
    RawRequests(vss).put(bucket_id, "k", [OTHER, OTHER], only=[0])
    await store(vss, bucket_id, "router", "other", "k_1")
    async with checked_client(vss) as client:
        if call == "delete":
            assert (await client.delete("k", bucket_id)).unwrap().n_deletes == 1
        else:
            assert (await client.put(bucket_id, "k", OTHER, replace=True)).unwrap() is True
        assert (await client.get(bucket_id, "k_1")).unwrap().data == DATA


async def test_delete_bucket_deletes_and_names_every_key(vss: LocalVSS, bucket_id: str) -> None:
    await store_frames(vss, bucket_id)
    await store(vss, bucket_id, "router", "bx", "hello")
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "k", DATA)).unwrap()
        report = (await client.delete_bucket(bucket_id)).unwrap()
        assert (report.keys, report.deleted, report.total, report.failed) == (["hello", "k", *FRAMES], 5, 5, 0)
        assert await keys_of(client, bucket_id) == []
        assert (await client.exists(bucket_id, FRAMES[0])).unwrap() is False


@pytest.mark.parametrize("where", ["router", "peer"])
async def test_key_on_a_silent_peer_is_unavailable(own_vss: Callable[..., LocalVSS], where: str) -> None:
    vss = own_vss()
    await store(vss, "b", where, "bx", "hello")
    (peer,) = RawRequests(vss).peers_with("b", "hello", DATA)
    calls: list[Callable[[AsyncClient], Any]] = [
        lambda client: client.get("b", "hello", max_retries=2),
        lambda client: client.get("b", "bx", max_retries=2),
        lambda client: client.exists("b", "hello"),
        lambda client: client.delete("hello", "b"),
        lambda client: client.delete("bx", "b"),
        lambda client: client.delete_by_key("hello", "b"),
        lambda client: client.delete_bucket("b"),
    ]
    async with checked_client(vss) as client:
        for call in calls:
            with vss.fault("peer_silent", peer=peer):
                error: MictlanXError = (await call(client)).unwrap_err()
            assert type(error) is UnavailableError
            assert peer in str(error)
        assert (await client.get("b", "hello")).unwrap().data == DATA


async def test_placed_object_with_replicas_is_read_and_deleted(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        await put(router, bucket_id, "bx", DATA, key="hello", tags={}, replication_factor=2)
    async with checked_client(vss) as client:
        assert (await client.get(bucket_id, "hello")).unwrap().data == DATA
        assert (await client.delete("hello", bucket_id)).unwrap().n_deletes == 2


async def test_empty_object_with_a_placed_key_is_read(vss: LocalVSS, bucket_id: str) -> None:
    await store(vss, bucket_id, "router", "bx", "nothing", b"")
    async with checked_client(vss) as client:
        assert (await client.get(bucket_id, "nothing")).unwrap().data == b""


async def test_own_key_wins_over_the_ball_id_of_another(vss: LocalVSS, bucket_id: str) -> None:
    """Listings show an object under its own key, so that key must never reach another object."""
    await store(vss, bucket_id, "router", "bx", "hello")
    await store(vss, bucket_id, "router", "by", "bx", OTHER)
    async with checked_client(vss) as client:
        assert await keys_of(client, bucket_id) == ["bx", "hello"]
        assert (await client.get(bucket_id, "bx")).unwrap().data == OTHER
        assert (await client.delete("bx", bucket_id)).unwrap().n_deletes == 1
        assert await keys_of(client, bucket_id) == ["hello"]
        assert (await client.get(bucket_id, "bx")).unwrap().data == DATA  # now only a ball id


@pytest.mark.parametrize("companion", [True, False])
@pytest.mark.parametrize("call", ["delete", "delete_by_key"])
async def test_delete_of_an_unplaced_key_keeps_the_empty_ball(
    vss: LocalVSS, bucket_id: str, call: str, companion: bool
) -> None:
    await store(vss, bucket_id, "peer", "video123", FRAMES[0])
    async with checked_client(vss) as client:
        if companion:
            (await client.put(bucket_id, "video123", b"")).unwrap()
        else:
            RawRequests(vss).put(bucket_id, "video123", [b""])
        error = (await getattr(client, call)(FRAMES[0], bucket_id)).unwrap_err()
        assert (await client.exists(bucket_id, "video123")).unwrap() is True
        assert type(error) is ValidationError, error
        assert "can only be deleted with all objects of ball id video123: video123" in str(error)
        assert (await client.get(bucket_id, FRAMES[0])).unwrap().data == DATA
