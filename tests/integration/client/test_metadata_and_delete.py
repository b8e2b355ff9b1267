"""Calls that tell what is there, and calls that delete, in the words of the documented surface."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.client import (
    AsyncClient,
    Chunk,
    NotFoundError,
    RetryPolicy,
    UnavailableError,
    UpstreamProtocolError,
    ValidationError,
)
from airflow_provider_mictlanx.client import async_client as looking
from airflow_provider_mictlanx.client.transfer import delete as client_delete
from airflow_provider_mictlanx.client.transfer import listing as client_listing
from tests.support.clients import checked_client
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import pattern, sha256
from tests.support.vss import LocalVSS

DATA = pattern(1000)


async def test_objects_of_a_listing_that_was_read_before(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        for key in ("in/a", "in/b", "empty"):
            (await client.put(bucket_id, key, b"" if key == "empty" else DATA, chunk_size=300, rf=2)).unwrap()
        listing = (await client.get_chunks_by_bucket_id(bucket_id)).unwrap()
        expected = (await client.list_balls(bucket_id)).unwrap()
        vss.reset_requests()
        assert [
            (ball.key, ball.checksum) for ball in (await client.list_balls(bucket_id, listing=listing)).unwrap()
        ] == [(ball.key, ball.checksum) for ball in expected]
        selected = (await client.list_balls(bucket_id, "in/", listing=listing)).unwrap()
        assert [ball.key for ball in selected] == ["in/a", "in/b"]
        with vss.fault("peer_silent", peer="peer-1"):
            part = (await client.get_chunks_by_bucket_id(bucket_id, partial=True)).unwrap()
        for wrong, bucket in ((part, bucket_id), (listing, f"{bucket_id}-other")):
            error = (await client.list_balls(bucket, listing=wrong)).unwrap_err()
            assert isinstance(error, ValidationError)
            assert str(error).startswith(f"listing must be a complete one of bucket {bucket}, got GetRouterBucket")
        assert len(vss.requests("GET", f"/buckets/{bucket_id}/metadata$")) == 1, "the partial one"


async def test_get_metadata_tells_of_the_ball(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "2026/05/frame 1.jpg", DATA, chunk_size=300, rf=2)).unwrap()
        ball = (await client.get_metadata(bucket_id, "2026/05/frame 1.jpg")).unwrap()
        assert (ball.bucket_id, ball.ball_id) == (bucket_id, sha256(b"2026/05/frame 1.jpg"))
        assert (ball.size, ball.checksum) == (1000, sha256(DATA))
        assert [chunk.size for chunk in ball.chunks] == [300, 300, 400]
        assert (ball.extension, ball.filename, ball.fullname) == ("jpg", "frame 1", "frame 1.jpg")
        assert (ball.full_path, ball.bucket_relative_path) == ("2026/05/frame 1.jpg", "2026/05/")
        assert ball.updated_at > 1_700_000_000_000_000_000
        by_id = (await client.get_metadata(bucket_id, ball.ball_id, restart_policy=RetryPolicy(retries=0))).unwrap()
        assert by_id == ball
        assert isinstance((await client.get_metadata(bucket_id, "absent")).unwrap_err(), NotFoundError)


async def test_get_metadata_by_key_tells_of_one_chunk(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "ball", [DATA[:400], DATA[400:]], only=[1])
    async with checked_client(vss) as client:
        found = (await client.get_metadata_by_key(bucket_id, "ball_1")).unwrap()
        assert found.metadata.checksum == sha256(DATA[400:])
        assert found.peer_id
        absent = (
            await client.get_metadata_by_key(bucket_id, "ball_0", retry_policy=RetryPolicy(retries=0))
        ).unwrap_err()
        assert isinstance(absent, NotFoundError)


async def test_a_retry_policy_says_how_often_is_asked(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss(peers=1)
    async with checked_client(vss) as client:
        for retries in (0, 2):
            vss.reset_requests()
            policy = RetryPolicy(retries=retries, initial_delay=0.01)
            with vss.fault("status", status=503):
                assert (await client.get_metadata_by_key("bucket", "ball_0", retry_policy=policy)).is_err
            assert len(vss.requests("GET")) == retries + 1
            vss.reset_requests()
            with vss.fault("status", status=503):
                assert (await client.get_metadata("bucket", "ball", restart_policy=policy)).is_err
            assert len(vss.requests("GET")) == retries + 1


async def test_a_bucket_as_balls_and_as_chunks(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        assert len((await client.get_bucket_metadata(bucket_id)).unwrap()) == 0
        (await client.put(bucket_id, "b", DATA, chunk_size=300, rf=2)).unwrap()
        (await client.put(bucket_id, "a/1", DATA * 2)).unwrap()
        (await client.put(bucket_id, "empty", b"")).unwrap()
        RawRequests(vss).put(bucket_id, "unfinished", [b"x", b"y"], only=[0])
        bucket = (await client.get_bucket_metadata(bucket_id)).unwrap()
        assert [ball.key for ball in bucket] == ["a/1", "b", "empty"]
        assert (len(bucket), bucket.size_bytes(), bucket.size()) == (3, 3000, "3 KB")
        listing = (await client.get_chunks_by_bucket_id(bucket_id)).unwrap()
        assert listing.bucket_id == bucket_id
        assert sorted(listing.peer_ids) == ["peer-0", "peer-1", "peer-2"]
        keys = {chunk.key for chunk in listing.balls}
        assert keys == {"b_0", "b_1", "b_2", "unfinished_0", f"{sha256(b'a/1')}_0", "empty_empty-object"}


@pytest.mark.parametrize("how", [{}, {"partial": True}, {"partial": True, "name_missing": False}])
async def test_listing_longer_than_allowed_is_given_up(vss: LocalVSS, bucket_id: str, how: dict[str, bool]) -> None:
    """It is not asked for again: that would not shorten it."""
    async with checked_client(vss) as client:
        for number in range(5):
            (await client.put(bucket_id, f"b{number}", DATA)).unwrap()
        vss.reset_requests()
        error = (await client.get_chunks_by_bucket_id(bucket_id, max_size=1000, **how)).unwrap_err()
        assert isinstance(error, UpstreamProtocolError)
        assert error.too_long
        assert len(vss.requests("GET", f"/{bucket_id}/metadata$")) == 1
        listing = (await client.get_chunks_by_bucket_id(bucket_id, max_size=100_000, **how)).unwrap()
        assert len({chunk.key for chunk in listing.balls}) == 5


async def test_listings_say_so_where_a_peer_is_away(own_vss: Callable[..., LocalVSS], bucket_id: str) -> None:
    vss = own_vss()
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "b", DATA)).unwrap()
        with vss.fault("peer_down", peer="peer-1"):
            for answer in (
                await client.get_chunks_by_bucket_id(bucket_id),
                await client.get_bucket_metadata(bucket_id),
                await client.delete_bucket(bucket_id),
                await client.delete_by_key("b_0", bucket_id),
                await client.exists(bucket_id, "absent"),
            ):
                error = answer.unwrap_err()
                assert isinstance(error, UnavailableError)
                assert "peer-1" in str(error)


async def test_unreadable_is_not_a_no_while_a_peer_is_away(own_vss: Callable[..., LocalVSS], bucket_id: str) -> None:
    vss = own_vss(peers=2)
    wire = RawRequests(vss)
    [holder] = wire.put(bucket_id, "ball", [DATA])[0]
    wire.put(bucket_id, "ball", [DATA], announced_only=[0])  # on the other peer
    async with checked_client(vss) as client:
        with vss.fault("peer_down", peer=holder):
            assert (await client.exists(bucket_id, "ball")).unwrap() is True  # the listing's word
            error = (await client.exists(bucket_id, "ball", check_storage=True)).unwrap_err()
            assert isinstance(error, UnavailableError)
            assert holder in str(error)
        assert (await client.exists(bucket_id, "ball", check_storage=True)).unwrap() is True
        with vss.fault("flip_bit", bucket=bucket_id):
            assert (await client.exists(bucket_id, "ball", check_storage=True)).unwrap() is False


async def test_unreadable_with_returned_peer_is_not_absent(
    own_vss: Callable[..., LocalVSS], bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vss = own_vss(peers=2)
    wire = RawRequests(vss)
    [holder] = wire.put(bucket_id, "ball", [DATA])[0]
    wire.put(bucket_id, "ball", [DATA], announced_only=[0])  # on the other peer

    async def all_back(*arguments: Any) -> Any:
        vss.clear_faults()
        return await client_listing.require_all_peers(*arguments)

    monkeypatch.setattr(looking, "require_all_peers", all_back)
    async with checked_client(vss) as client:
        with vss.fault("peer_down", peer=holder):
            error = (await client.exists(bucket_id, "ball", check_storage=True)).unwrap_err()
            assert isinstance(error, UnavailableError)
            assert holder in str(error)


# -- deleting ------------------------------------------------------------------------------------------------------------


async def test_delete_by_key_deletes_one_chunk_on_all_peers(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "ball", DATA, chunk_size=500, rf=3)).unwrap()
        gone = (await client.delete_by_key("ball_1", bucket_id)).unwrap()
        assert (gone.n_deletes, gone.key) == (3, "ball_1")
        assert (await client.delete_by_key("ball_1", bucket_id)).unwrap().n_deletes == 0
        assert (await client.exists(bucket_id, "ball")).unwrap() is False
        assert (await client.get_chunk(bucket_id, "ball", 0)).unwrap()[0].data == DATA[:500]
        assert (await client.put(bucket_id, "ball", DATA, chunk_size=500, rf=3)).unwrap() is True


@pytest.mark.parametrize("key", ["", "2026/frame 1.jpg_0", None])
async def test_a_chunk_s_key_is_made_of_the_ball_id(vss: LocalVSS, key: Any) -> None:
    vss.reset_requests()
    async with checked_client(vss) as client:
        for answer in (await client.delete_by_key(key, "bucket"), await client.get_metadata_by_key("bucket", key)):
            assert isinstance(answer.unwrap_err(), ValidationError)
            assert "{ball_id}_{index}" in str(answer.unwrap_err())
        assert "bucket_id must be" in str((await client.delete_by_key("ball_0")).unwrap_err())
    assert vss.requests() == []


async def test_delete_and_delete_bucket(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        for key in ("one", "2/two", "three"):
            (await client.put(bucket_id, key, DATA, chunk_size=500, rf=2)).unwrap()
        gone = (await client.delete("one", bucket_id)).unwrap()
        assert (gone.n_deletes, gone.ball_id) == (4, "one")
        assert (await client.delete("one", bucket_id)).unwrap().n_deletes == 0
        emptied = (await client.delete_bucket(bucket_id)).unwrap()
        assert (emptied.bucket_id, emptied.deleted, emptied.failed, emptied.total) == (bucket_id, 2, 0, 2)
        assert emptied.keys == sorted([sha256(b"2/two"), "three"])
        assert emptied.response_time > 0
        assert (await client.delete_bucket(bucket_id)).unwrap().total == 0


# -- headers -------------------------------------------------------------------------------------------------------------

ASKING: dict[str, Callable[[AsyncClient, str, dict[str, str]], Awaitable[Any]]] = {
    "get": lambda client, bucket, headers: client.get(bucket, "ball", headers=headers),
    "get_chunk": lambda client, bucket, headers: client.get_chunk(bucket, "ball", 0, headers=headers),
    "get_chunks": lambda client, bucket, headers: _all(client.get_chunks(bucket, "ball", headers=headers)),
    "get_metadata": lambda client, bucket, headers: client.get_metadata(bucket, "ball", headers=headers),
    "get_metadata_by_key": lambda client, bucket, headers: client.get_metadata_by_key(
        bucket, "ball_0", headers=headers
    ),
    "get_bucket_metadata": lambda client, bucket, headers: client.get_bucket_metadata(bucket, headers=headers),
    "get_chunks_by_bucket_id": lambda client, bucket, headers: client.get_chunks_by_bucket_id(bucket, headers=headers),
    "exists": lambda client, bucket, headers: client.exists(bucket, "ball", headers=headers, check_storage=True),
    "list_balls": lambda client, bucket, headers: client.list_balls(bucket, headers=headers),
    "delete": lambda client, bucket, headers: client.delete("ball", bucket, headers=headers),
    "delete_by_key": lambda client, bucket, headers: client.delete_by_key("ball_0", bucket, headers=headers),
    "delete_bucket": lambda client, bucket, headers: client.delete_bucket(bucket, headers=headers),
}


async def _all(chunks: Any) -> None:
    assert [data async for _, data in chunks]


@pytest.mark.parametrize("method", ASKING)
async def test_headers_go_with_every_request_of_the_call(vss: LocalVSS, bucket_id: str, method: str) -> None:
    async with checked_client(vss, headers={"X-Client": "all"}, token="secret") as client:
        (await client.put_single_chunk(bucket_id, "ball", Chunk("ball", 0, DATA))).unwrap()
        vss.reset_requests()
        answer = await ASKING[method](client, bucket_id, {"X-Request-Of": method})
        assert answer is None or answer.is_ok
    seen = [request["headers"] for request in vss.requests()]
    assert seen
    for headers in seen:
        assert headers["x-request-of"] == method
        assert headers["x-client"] == "all"
        assert headers["authorization"] == f"sha256:{sha256(b'Bearer secret')}"  # the local VSS keeps no secret


async def test_get_to_file_sends_headers_too_and_bad_ones_are_refused(
    vss: LocalVSS, bucket_id: str, tmp_path: Any
) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "ball", DATA)).unwrap()
        vss.reset_requests()
        (await client.get_to_file(bucket_id, "ball", str(tmp_path), headers={"X-Request-Of": "file"})).unwrap()
        seen = vss.requests()
        assert seen
        assert all(request["headers"]["x-request-of"] == "file" for request in seen)
        vss.reset_requests()
        error = (await client.get(bucket_id, "ball", headers={"X-Secret": "my secret\n"})).unwrap_err()
        assert isinstance(error, ValidationError)
        assert "X-Secret" in str(error)
        assert "my secret" not in str(error)
        assert vss.requests() == []


@pytest.mark.parametrize("what", ["ball", "chunk"])
async def test_delete_with_peer_returning_at_its_end_is_no_success(
    own_vss: Callable[..., LocalVSS], bucket_id: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It missed the delete, and by the time that somebody asks for the peers it is back, with its copy."""
    vss = own_vss(peers=2)

    calls: list[str] = []

    async def back_by_then(routers: Any, doing: str, *others: Any) -> Any:
        calls.append(doing)
        if len(calls) == 2:
            vss.clear_faults()
        elif len(calls) == 1:
            found = await client_listing.require_all_peers(routers, doing, *others)
            vss.set_fault("peer_down", peer="peer-1")
            return found
        return await client_listing.require_all_peers(routers, doing, *others)

    monkeypatch.setattr(client_delete, "require_all_peers", back_by_then)
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "ball", DATA, rf=2)).unwrap()
        delete = client.delete("ball", bucket_id) if what == "ball" else client.delete_by_key("ball_0", bucket_id)
        assert (await delete).unwrap().n_deletes == 2  # its copy is placed nowhere, and deleted by the ball's id
        assert (await client.exists(bucket_id, "ball", check_storage=True)).unwrap() is False


async def test_late_delete_spares_what_a_replace_wrote(own_vss: Callable[..., LocalVSS], bucket_id: str) -> None:
    """One chunk's delete fails, another one's is slow: the replace may not go on while that is under way."""
    vss = own_vss()
    new = pattern(1000, seed=1)
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "ball", DATA, chunk_size=500)).unwrap()
        slow = vss.fault("latency", seconds=1.5, method="DELETE", path=f"/{bucket_id}/ball_1$", count=1)
        failing = vss.fault("status", status=500, method="DELETE", path=f"/{bucket_id}/ball_0$", count=1)
        with slow as first, failing as second:
            put = await client.put(bucket_id, "ball", new, chunk_size=500, replace=True, max_backoff=0.1)
            assert put.unwrap() is True
            assert (first.triggered, second.triggered) == (1, 1)
            await asyncio.sleep(1.6)
        assert bytes((await client.get(bucket_id, "ball", force=True, max_retries=1)).unwrap().data) == new


@pytest.mark.parametrize("chunk_size", [1000, 300], ids=["one chunk", "three chunks"])
async def test_delete_whose_answer_was_lost_counts_every_replica(
    vss: LocalVSS, bucket_id: str, chunk_size: int
) -> None:
    """The repeated request finds nothing; 0 would mean that the object did not exist."""
    async with checked_client(vss) as client:
        for key in ("a", "b"):
            (await client.put(bucket_id, key, DATA, chunk_size=chunk_size, rf=2)).unwrap()
        lost = {"method": "DELETE", "bucket": bucket_id, "when": "after", "count": 1}
        with vss.fault("reset", **lost):
            deleted = (await client.delete("a", bucket_id)).unwrap()
            assert deleted.n_deletes == 2 * (3 if chunk_size == 300 else 1)
        with vss.fault("reset", **lost):
            assert (await client.delete_by_key("b_0", bucket_id)).unwrap().n_deletes == 2
        assert (await client.delete("a", bucket_id)).unwrap().n_deletes == 0
