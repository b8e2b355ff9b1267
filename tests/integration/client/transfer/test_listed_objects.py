"""Objects that are read, copied or deleted as a bucket's listing shows them, without a listing of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.batches.copy import CopyOptions, copy_all
from airflow_provider_mictlanx.batches.delete import DeleteOptions, Selection, delete_keys, delete_matching
from airflow_provider_mictlanx.batches.download import download_items, list_bucket_items
from airflow_provider_mictlanx.batches.runner import BatchResult, TransferOptions
from airflow_provider_mictlanx.client import AsyncClient, Ball, UnavailableError, ValidationError
from airflow_provider_mictlanx.client.empty_objects import companion_key
from airflow_provider_mictlanx.client.result import unwrap
from tests.support.clients import checked_client
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.raw_requests import RawRequests
from tests.support.router_requests import peer_of, put, router_of
from tests.support.sample_bytes import cut, pattern
from tests.support.vss import LocalVSS

DATA = pattern(1000)
OTHER = pattern(1000, seed=1)

QUICK = {"max_tries": 2, "max_backoff": 0.05, "timeout": 5}


async def read_into(
    client: AsyncClient, bucket_id: str, folder: Path, before: Callable[[], object] = str
) -> BatchResult:
    """Read a bucket into a folder; ``before`` happens between the listing and the reads."""
    items = await list_bucket_items(client, bucket_id)
    before()
    return await download_items(client, items, folder, options=TransferOptions(**QUICK))


async def listed(client: AsyncClient, bucket_id: str, key: str = "k") -> Ball:
    (ball,) = [ball for ball in unwrap(await client.list_balls(bucket_id)) if ball.key == key]
    return ball


async def store_own_key(vss: LocalVSS, ball_id: str, key: str, data: bytes, where: str = "router") -> None:
    """Store an object under a chunk key of its own, as the official pages do."""
    async with router_of(vss) if where == "router" else peer_of(vss, 1) as target:
        await put(target, "b", ball_id, data, key=key, tags={})


def overwrite(vss: LocalVSS, bucket_id: str, data: bytes) -> Callable[[], object]:
    """Return what replaces the ball ``k``, as another client does."""
    wire = RawRequests(vss)
    return lambda: (wire.delete_chunk(bucket_id, "k_0"), wire.put(bucket_id, "k", [data]))


# -- reading -------------------------------------------------------------------------------------------------------------


async def test_listed_object_needs_only_its_data(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 400, 400))
    async with checked_client(vss) as client:
        unwrap(await client.put(bucket_id, "folder/empty", b""))
        vss.reset_requests()
        assert (await read_into(client, bucket_id, tmp_path)).done == 2
    assert (tmp_path / "k").read_bytes() == DATA
    assert (tmp_path / "folder" / "empty").read_bytes() == b""
    asked = sorted(seen["path"].rpartition("/")[2] for seen in vss.requests())
    assert asked == ["k_0", "k_1", "k_2", "metadata", "peers"]


@pytest.mark.parametrize("size", [1000, 500])
async def test_object_overwritten_after_the_listing_is_read(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, size: int
) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA])
    async with checked_client(vss) as client:
        result = await read_into(client, bucket_id, tmp_path, overwrite(vss, bucket_id, OTHER[:size]))
    assert result.failures == []
    assert (tmp_path / "k").read_bytes() == OTHER[:size]


async def test_object_deleted_after_the_listing_is_absent(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, "k", [DATA])
    async with checked_client(vss) as client:
        result = await read_into(client, bucket_id, tmp_path, lambda: wire.delete_chunk(bucket_id, "k_0"))
    assert [(failure.key, failure.code) for failure in result.failures] == [("k", 404)]
    assert not (tmp_path / "k").exists()


async def test_version_hidden_by_an_announcement_is_read(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    """The bucket's listing shows the newer announcement, and may hide the older version that has data."""
    wire = RawRequests(vss)
    for number in range(6):  # on several peers, which are listed one after the other
        wire.put(bucket_id, f"k{number}", [DATA])
        wire.announce(bucket_id, f"k{number}", 0, OTHER, OTHER, 1)
    async with checked_client(vss) as client:
        result = await read_into(client, bucket_id, tmp_path)
    assert result.failures == []
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {DATA}


async def test_version_of_another_checksum_is_looked_up(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    """A bulk's reader wants the bytes that the bulk uploaded, also below a newer version."""
    wire = RawRequests(vss)
    wire.put(bucket_id, "k", [DATA])
    async with checked_client(vss) as client:
        checksum = (await listed(client, bucket_id)).checksum
        wire.put(bucket_id, "k", [OTHER])
        ball = await listed(client, bucket_id)
        assert ball.checksum != checksum
        unwrap(await client.download(bucket_id, "k", tmp_path, checksum=checksum, listed=ball))
    assert (tmp_path / "k").read_bytes() == DATA


async def test_companion_beside_a_hidden_ball_is_not_empty(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    """Another writer's announcements hide the ball that makes the companion stale."""
    wire = RawRequests(vss)
    async with checked_client(vss) as client:
        for number in range(6):
            key = f"k{number}"
            unwrap(await client.put(bucket_id, key, b""))
            wire.delete_chunk(bucket_id, f"{key}_0")
            wire.put(bucket_id, key, cut(DATA, 500))
            wire.announce(bucket_id, key, 0, OTHER, OTHER, 2)
        result = await read_into(client, bucket_id, tmp_path)
    assert result.failures == []
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {DATA}


async def test_listed_own_key_is_read_without_a_look(own_vss: Callable[..., LocalVSS], tmp_path: Path) -> None:
    vss = own_vss()
    await store_own_key(vss, "bx", "hello", DATA)
    async with checked_client(vss) as client:
        vss.reset_requests()
        assert (await read_into(client, "b", tmp_path)).done == 1
    assert (tmp_path / "hello").read_bytes() == DATA
    assert len(vss.requests()) == 3


async def test_ball_and_own_key_of_one_name_are_read_as_the_ball(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    await store_own_key(vss, "bx", "hello", DATA)
    RawRequests(vss).put("b", "hello", [OTHER])
    async with checked_client(vss) as client:
        items = await list_bucket_items(client, "b")
        result = await copy_all(client, items, "copies", str, dest=client, options=CopyOptions(**QUICK))
        assert result.failures == []
        assert bytes(unwrap(await client.get("copies", "hello")).data) == OTHER


async def test_listed_ball_without_length_is_looked_up(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 500), standard_tags=False)
    async with checked_client(vss) as client:
        ball = await listed(client, bucket_id)
        vss.reset_requests()
        assert not unwrap(await client.download(bucket_id, "k", tmp_path, listed=ball)).verified
    assert len(vss.requests("GET", "/k/chunks$")) == 1


async def test_another_ball_than_the_listed_is_an_error(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA])
    async with checked_client(vss) as client:
        ball = await listed(client, bucket_id)
        calls: list[Awaitable[Any]] = [
            client.download(bucket_id, "other", tmp_path, listed=ball),
            client.copy(bucket_id, "other", bucket_id, "new", listed=ball),
            client.get_metadata(bucket_id, "other", check_storage=True, listed=ball),
        ]
        for call in calls:
            error = (await call).unwrap_err()
            assert type(error) is ValidationError
            assert f"got {bucket_id}/k" in str(error)


@pytest.mark.parametrize("overwritten", [False, True])
async def test_copies_read_the_listed_versions(vss: LocalVSS, bucket_id: str, overwritten: bool) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA], tags={"colour": "red"})
    async with checked_client(vss) as client:
        items = await list_bucket_items(client, bucket_id)
        if overwritten:
            overwrite(vss, bucket_id, OTHER)()
        vss.reset_requests()
        options = CopyOptions(**QUICK)
        result = await copy_all(client, items, f"{bucket_id}-copy", str, dest=client, options=options)
        assert result.failures == []
        assert len(vss.requests("GET", f"/{bucket_id}/metadata/k/chunks$")) == overwritten
        copy = unwrap(await client.get(f"{bucket_id}-copy", "k"))
        assert bytes(copy.data) == (OTHER if overwritten else DATA)
        assert copy.metadatas[0].tags.get("colour") == (None if overwritten else "red")


async def test_storage_check_reads_past_the_listing(vss: LocalVSS, bucket_id: str) -> None:
    """The listed announcement has no data, and hides the older version that has."""
    wire = RawRequests(vss)
    wire.put(bucket_id, "k", [DATA])
    async with checked_client(vss) as client:
        ball = await listed(client, bucket_id)
        vss.reset_requests()
        assert (
            unwrap(await client.get_metadata(bucket_id, "k", check_storage=True, listed=ball)).checksum == ball.checksum
        )
        assert len(vss.requests()) == 1
        wire.announce(bucket_id, "k", 0, OTHER, OTHER, 1)
        newer = await listed(client, bucket_id)
        assert newer.checksum != ball.checksum
        found = unwrap(await client.get_metadata(bucket_id, "k", check_storage=True, listed=newer))
        assert found.checksum == ball.checksum


# -- deleting ------------------------------------------------------------------------------------------------------------


async def by_bucket(client: AsyncClient) -> tuple[int, int]:
    report = unwrap(await client.delete_bucket("b", max_concurrency=1))
    return report.deleted, report.failed


async def by_prefix(client: AsyncClient) -> tuple[int, int]:
    result = await delete_matching(client, "b", Selection("k"), DeleteOptions(timeout=5, max_concurrency=1))
    return result.done, result.failed


DELETES = [by_bucket, by_prefix]

Delete = Callable[[AsyncClient], Awaitable[tuple[int, int]]]


@pytest.mark.parametrize("delete", DELETES)
async def test_deletes_are_one_request_per_chunk(own_vss: Callable[..., LocalVSS], delete: Delete) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    for number in range(5):
        wire.put("b", f"k{number}", [DATA], rf=2)
    wire.put("b", "k-long", cut(DATA, 400, 400), rf=3)
    async with checked_client(vss) as client:
        vss.reset_requests()
        assert await delete(client) == (6, 0)
    deleted = sorted(seen["path"].rpartition("/")[2] for seen in vss.requests("DELETE"))
    assert deleted == ["k-long_0", "k-long_1", "k-long_2", *(f"k{number}_0" for number in range(5))]
    assert len(vss.requests()) == 8 + 4
    assert wire.listed_in("b") == []
    assert wire.metadata("b", "k0_0") == (500, {"detail": "404: No available peers"})


@pytest.mark.parametrize("delete", DELETES)
async def test_empty_chunk_is_deleted_before_its_companion(own_vss: Callable[..., LocalVSS], delete: Delete) -> None:
    """The listing shows the companion only: if the delete is interrupted, the next one finds the pair."""
    vss = own_vss()
    async with checked_client(vss) as client:
        unwrap(await client.put("b", "k", b""))
        vss.reset_requests()
        assert await delete(client) == (1, 0)
    deleted = [seen["path"].rpartition("/")[2] for seen in vss.requests("DELETE")]
    assert deleted == ["k_0", companion_key("k")]
    assert RawRequests(vss).metadata("b", "k_0") == (500, {"detail": "404: No available peers"})


@pytest.mark.parametrize("delete", DELETES)
async def test_missed_replica_of_an_empty_chunk_is_deleted(own_vss: Callable[..., LocalVSS], delete: Delete) -> None:
    """No listing shows the empty chunk, so its delete is compared with the one of its companion."""
    vss = own_vss()

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method != "DELETE" or not asked.path.endswith("/k_0") or len(interceptor.seen("DELETE", "/k_0")) > 1:
            return None
        return Reply(body=json.dumps({"n_deletes": 1, "key": "k_0"}).encode())

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        unwrap(await client.put("b", "k", b"", rf=2))
        assert await delete(client) == (1, 0)
        assert unwrap(await client.exists("b", "k")) is False


@pytest.mark.parametrize("delete", DELETES)
async def test_replica_without_placement_is_deleted_by_ball(own_vss: Callable[..., LocalVSS], delete: Delete) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    for number in range(3):  # a returning peer brings its replica back
        wire.put("b", f"k{number}", [DATA])
        (peer,) = wire.peers_with("b", f"k{number}_0", DATA)
        with vss.fault("peer_silent", peer=peer):
            wire.delete_chunk("b", f"k{number}_0")
    assert len({row["key"] for row in wire.listed_in("b")}) == 3
    async with checked_client(vss) as client:
        assert await delete(client) == (3, 0)
    assert wire.listed_in("b") == []


@pytest.mark.parametrize("delete", DELETES)
async def test_silent_peer_stops_deletes_before_the_first(own_vss: Callable[..., LocalVSS], delete: Delete) -> None:
    vss = own_vss()
    RawRequests(vss).put("b", "k", [DATA], rf=3)
    async with checked_client(vss) as client:
        with vss.fault("peer_silent", peer="peer-1"), pytest.raises(UnavailableError, match="peer-1"):
            await delete(client)
    assert vss.requests("DELETE") == []


@pytest.mark.parametrize("delete", DELETES)
async def test_peer_silent_between_deletes_stops_them(own_vss: Callable[..., LocalVSS], delete: Delete) -> None:
    """The first delete that finds no replica stops the others: the service forgets each placement that it tries."""
    vss = own_vss(peers=1)
    wire = RawRequests(vss)
    for number in range(9):
        wire.put("b", f"k{number}", [DATA])

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "DELETE" and len(interceptor.seen("DELETE")) == 3:
            await asyncio.to_thread(vss.set_fault, "peer_silent", id="silent", peer="peer-0")
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        with pytest.raises(UnavailableError, match="peer-0"):
            await delete(client)
        assert len(interceptor.seen("DELETE")) == 3
        vss.clear_faults()
        assert (await delete(client))[1] == 0
    assert wire.listed_in("b") == []


@pytest.mark.parametrize("delete", DELETES)
async def test_peer_that_missed_one_replica_is_found_at_the_end(
    own_vss: Callable[..., LocalVSS], delete: Delete
) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    wire.put("b", "k", [DATA], rf=3)

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method != "DELETE":
            return None
        await asyncio.to_thread(vss.set_fault, "peer_silent", id="silent", peer="peer-1")
        reply = await pass_on(asked)
        assert reply.json()["n_deletes"] == 2
        return reply

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        with pytest.raises(UnavailableError, match="peer-1"):
            await delete(client)
    vss.clear_faults()
    assert wire.peers_with("b", "k_0", DATA) == {"peer-1"}
    async with checked_client(vss) as client:
        assert await delete(client) == (1, 0)
    assert wire.listed_in("b") == []


@pytest.mark.parametrize("where", ["router", "peer"])
async def test_prefix_leaves_other_keys_of_the_ball_id(own_vss: Callable[..., LocalVSS], where: str) -> None:
    """A chunk without placement can only be deleted with its ball id, which another object has too."""
    vss = own_vss()
    for key in ("k1", "k2", "other"):
        await store_own_key(vss, "bx", key, DATA, where)
    async with checked_client(vss) as client:
        result = await delete_matching(client, "b", Selection("k"), DeleteOptions(timeout=5))
        keys = [ball.key for ball in unwrap(await client.list_balls("b"))]
    if where == "router":
        assert (result.done, result.failed, keys) == (2, 0, ["other"])
    else:
        assert (result.done, result.failed, keys) == (0, 2, ["k1", "k2", "other"])
        assert all("other" in failure.message for failure in result.failures)


@pytest.mark.parametrize("delete", DELETES)
async def test_own_keys_without_placement_are_deleted_together(
    own_vss: Callable[..., LocalVSS], delete: Delete
) -> None:
    vss = own_vss()
    for key in ("k1", "k2"):
        await store_own_key(vss, "bx", key, DATA, "peer")
    async with checked_client(vss) as client:
        assert (await delete(client))[1] == 0
    assert RawRequests(vss).listed_in("b") == []


# -- deleting by keys ----------------------------------------------------------------------------------------------------

KEYS = [f"k{number}" for number in range(5)]


@pytest.fixture
def _many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_mictlanx.batches.delete.FEWEST_BALLS", 4)


async def delete_by_keys(client: AsyncClient, keys: list[str] = KEYS) -> BatchResult:
    return await delete_keys(client, "b", keys, DeleteOptions(timeout=5, max_concurrency=1))


@pytest.mark.usefixtures("_many_keys")
async def test_keys_that_are_not_listed_are_confirmed_alone(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    for key in (*KEYS[1:], "other"):
        wire.put("b", key, [DATA])
    async with checked_client(vss) as client:
        vss.reset_requests()
        result = await delete_by_keys(client)
    assert (result.total, result.done, result.skipped, result.failed) == (5, 4, 1, 0)
    assert {row["key"] for row in wire.listed_in("b")} == {"other_0"}
    assert len(vss.requests("GET", "/b/metadata/.*/chunks$")) == 1, "of the absent one"


@pytest.mark.usefixtures("_many_keys")
async def test_silent_peer_fails_keys_and_nothing_is_deleted(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    for key in KEYS:
        RawRequests(vss).put("b", key, [DATA])
    async with checked_client(vss) as client:
        with vss.fault("peer_silent", peer="peer-1"):
            result = await delete_by_keys(client)
    assert (result.failed, result.permanently_failed) == (5, False)
    assert all("peer-1" in failure.message for failure in result.failures)
    assert vss.requests("DELETE") == []


@pytest.mark.usefixtures("_many_keys")
async def test_peer_that_missed_a_replica_fails_the_keys(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    for key in KEYS:
        wire.put("b", key, [DATA], rf=3)

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "DELETE":
            await asyncio.to_thread(vss.set_fault, "peer_silent", id="silent", peer="peer-1")
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        with pytest.raises(UnavailableError, match="peer-1"):
            await delete_by_keys(client)
    vss.clear_faults()
    async with checked_client(vss) as client:
        assert (await delete_by_keys(client)).done == 5
    assert wire.listed_in("b") == []


@pytest.mark.usefixtures("_many_keys")
async def test_key_of_a_ball_and_an_own_key_deletes_the_ball(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    await store_own_key(vss, "bx", "k1", DATA)
    wire = RawRequests(vss)
    for key in KEYS:
        wire.put("b", key, [OTHER])
    async with checked_client(vss) as client:
        assert (await delete_by_keys(client)).done == 5
    assert {row["ball_id"] for row in wire.listed_in("b")} == {"bx"}


@pytest.mark.usefixtures("_many_keys")
async def test_keys_of_a_far_larger_bucket_are_deleted_alone(
    own_vss: Callable[..., LocalVSS], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_mictlanx.client.transfer.upload_window.ROWS_PER_BALL", 0)
    vss = own_vss()
    for key in KEYS:
        RawRequests(vss).put("b", key, [DATA])
    async with checked_client(vss) as client:
        assert (await delete_by_keys(client)).done == 5
    assert len(vss.requests("GET", "/chunks$")) >= 5
