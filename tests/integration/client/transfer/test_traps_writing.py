"""The traps of writing (docs/protocol-traps.md): what the service does, and what the client makes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.client import (
    AsyncClient,
    BallConflictError,
    NotFoundError,
    PutChunksError,
    UnavailableError,
    ValidationError,
)
from tests.support.addresses import uri_of
from tests.support.clients import client_of
from tests.support.intercepting_router import Asked, InterceptingRouter, Reply, intercepting
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import cut, pattern, sha256
from tests.support.vss import LocalVSS

DATA = pattern(1000)
OTHER = pattern(1000, seed=1)


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a.b c", "a__b", "-a", "ünï/cødé.txt", "../x", "x " * 1500, "a_", "\t"])
async def test_unsafe_key_is_stored_by_sha256_and_read_by_name(vss: LocalVSS, bucket_id: str, key: str) -> None:
    async with client_of(vss) as client:
        assert (await client.put(bucket_id, key, DATA)).unwrap()
        assert bytes((await client.get(bucket_id, key)).unwrap().data) == DATA
        assert [ball.key for ball in (await client.list_balls(bucket_id)).unwrap()] == [key]
        assert (await client.delete(key, bucket_id)).unwrap().n_deletes == 1
    ball_id = sha256(key.encode())
    asked = vss.requests(path=bucket_id)
    assert asked
    assert all(f"/{bucket_id}/" in f"{seen['path']}/" for seen in asked)
    assert all(ball_id in seen["path"] for seen in asked if not seen["path"].endswith(f"{bucket_id}/metadata"))


@pytest.mark.parametrize("bad", ["a.b", "", "a__b", "-a", "a b", "ü", "../x", "a\n"])
async def test_unsafe_bucket_id_is_refused_before_the_first_byte(own_vss: Callable[..., LocalVSS], bad: str) -> None:
    vss = own_vss()
    async with client_of(vss) as client:
        assert isinstance((await client.put(bad, "k", DATA)).unwrap_err(), ValidationError)
        assert isinstance((await client.get(bad, "k")).unwrap_err(), ValidationError)
        assert isinstance((await client.delete_bucket(bad)).unwrap_err(), ValidationError)
    assert vss.requests() == []


# -- what is an acknowledgement ------------------------------------------------------------------------------------------


async def test_200_without_peer_ids_is_announced_and_sent_again(vss: LocalVSS, bucket_id: str) -> None:
    with vss.fault("refuse_data", bucket=bucket_id, count=1) as refused:
        async with client_of(vss) as client:
            assert (await client.put(bucket_id, "k", DATA)).unwrap()
        assert refused.triggered == 1
    assert len(RawRequests(vss).peers_with(bucket_id, "k_0", DATA)) == 1


async def test_200_without_peer_ids_in_all_tries_is_an_error(vss: LocalVSS, bucket_id: str) -> None:
    with vss.fault("refuse_data", bucket=bucket_id):
        async with client_of(vss) as client:
            error = (await client.put(bucket_id, "k", DATA, max_tries=2)).unwrap_err()
            assert isinstance(error, PutChunksError)
            assert f"putting chunk 0 of {bucket_id}/k " in str(error)
            assert "0 peers instead of 1" in str(error)


async def test_fewer_peer_ids_than_asked_are_made_up_for(vss: LocalVSS, bucket_id: str) -> None:
    with vss.fault("refuse_data", bucket=bucket_id, count=1):
        async with client_of(vss) as client:
            report = (await client.upload(bucket_id, "k", data=DATA, rf=2)).unwrap()
            assert report.replicas == 2
    assert len(RawRequests(vss).peers_with(bucket_id, "k_0", DATA)) == 2


async def test_only_the_replicas_that_are_missing_are_asked_for_again(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss(peers=5)
    with vss.fault("refuse_data", bucket="b", count=1):
        async with client_of(vss) as client:
            assert (await client.put("b", "k", DATA, rf=2)).unwrap()
    assert len(RawRequests(vss).peers_with("b", "k_0", DATA)) == 2


async def test_fewer_peer_ids_than_asked_in_all_tries_is_an_error(vss: LocalVSS, bucket_id: str) -> None:
    with vss.fault("refuse_data", bucket=bucket_id, peer="peer-1"):
        async with client_of(vss) as client:
            error = (await client.put(bucket_id, "k", DATA, rf=3)).unwrap_err()
            assert isinstance(error, PutChunksError)
            assert "2 peers instead of 3" in str(error)


async def test_more_replicas_than_peers_are_as_many_as_there_are(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        assert (await client.upload(bucket_id, "k", data=DATA, rf=9)).unwrap().replicas == 3
    assert len(RawRequests(vss).peers_with(bucket_id, "k_0", DATA)) == 3


async def test_a_peer_that_is_away_counts_as_a_peer(own_vss: Callable[..., LocalVSS], bucket_id: str) -> None:
    """Two of three replicas do not suffice because the third peer is unavailable."""
    vss = own_vss()
    with vss.fault("peer_down", peer="peer-2"):
        async with client_of(vss) as client:
            error = (await client.put(bucket_id, "k", DATA, rf=3, max_tries=2)).unwrap_err()
            assert isinstance(error, UnavailableError)


# -- what is left behind -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_grace")
async def test_leftover_announcement_is_not_taken_for_the_data(vss: LocalVSS, bucket_id: str) -> None:
    pieces = cut(DATA, 300, 300)
    RawRequests(vss).put(bucket_id, "k", pieces, announced_only=[0, 1, 2])
    async with client_of(vss) as client:
        assert (await client.put(bucket_id, "k", DATA, chunk_size=300)).unwrap()
        assert bytes((await client.get(bucket_id, "k", force=True)).unwrap().data) == DATA
    for index, piece in enumerate(pieces):
        assert RawRequests(vss).peers_with(bucket_id, f"k_{index}", piece)


@pytest.mark.usefixtures("short_grace")
async def test_incomplete_upload_is_completed_without_resending(vss: LocalVSS, bucket_id: str) -> None:
    pieces = cut(DATA, 300, 300)
    RawRequests(vss).put(bucket_id, "k", pieces, only=[0, 1], announced_only=[1])
    vss.reset_requests()
    async with client_of(vss) as client:
        assert (await client.put(bucket_id, "k", DATA, chunk_size=300)).unwrap()
    assert len(vss.requests("POST", "/data/")) == 2
    assert len(RawRequests(vss).peers_with(bucket_id, "k_0", pieces[0])) == 1


@pytest.mark.parametrize("chunk_size", [300, 350, 1000, 77])
async def test_incomplete_upload_is_completed_in_the_cut_that_is_there(
    vss: LocalVSS, bucket_id: str, chunk_size: int
) -> None:
    pieces = cut(DATA, 400, 400)  # as put_file of the official client cuts it
    RawRequests(vss).put(bucket_id, "k", pieces, only=[0])
    async with client_of(vss) as client:
        report = (await client.upload(bucket_id, "k", data=DATA, chunk_size=chunk_size)).unwrap()
        assert (report.num_chunks, report.uploaded) == (3, True)
    listed = RawRequests(vss).listed(bucket_id, "k")
    assert sorted((chunk["key"], chunk["size"]) for chunk in listed) == [("k_0", 400), ("k_1", 400), ("k_2", 200)]
    assert {chunk["tags"]["num_chunks"] for chunk in listed} == {"3"}


async def test_cut_of_upload_stopped_after_last_chunk_is_found(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 400, 400), only=[2])
    async with client_of(vss) as client:
        assert (await client.put(bucket_id, "k", DATA, chunk_size=100)).unwrap()
        assert bytes((await client.get(bucket_id, "k", force=True)).unwrap().data) == DATA


async def test_same_bytes_whole_in_another_cut_are_stored_already(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 100, 700))
    vss.reset_requests()
    async with client_of(vss) as client:
        report = (await client.upload(bucket_id, "k", data=DATA, chunk_size=500)).unwrap()
        assert (report.num_chunks, report.uploaded) == (3, False)
    assert vss.requests("POST") == []


async def test_same_bytes_complete_in_two_equal_cuts_are_stored(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 400, 400))
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 350, 350))
    async with client_of(vss) as client:
        report = (await client.upload(bucket_id, "k", data=DATA, chunk_size=1000)).unwrap()
        assert (report.num_chunks, report.uploaded) == (3, False)


# -- nothing is overwritten ----------------------------------------------------------------------------------------------


async def test_same_bytes_are_not_sent_again(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        assert (await client.put(bucket_id, "k", DATA, chunk_size=300)).unwrap() is True
        vss.reset_requests()
        assert (await client.put(bucket_id, "k", DATA, chunk_size=300)).unwrap() is False
        assert vss.requests("POST") == []
    assert len(RawRequests(vss).listed(bucket_id, "k")) == 3


async def test_same_bytes_with_more_replicas_add_what_is_missing(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        assert (await client.put(bucket_id, "k", DATA, rf=1)).unwrap() is True
        assert (await client.upload(bucket_id, "k", data=DATA, rf=2)).unwrap().replicas == 2
    assert len(RawRequests(vss).peers_with(bucket_id, "k_0", DATA)) == 2


async def test_other_bytes_are_a_conflict_and_nothing_is_announced(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", [OTHER])
    vss.reset_requests()
    async with client_of(vss) as client:
        error = (await client.put(bucket_id, "k", DATA)).unwrap_err()
        assert isinstance(error, BallConflictError)
        assert error.permanent
        assert f"{bucket_id}/k" in str(error)
        assert "replace=True" in str(error)
    assert vss.requests("POST") == []
    assert RawRequests(vss).data(bucket_id, "k_0") == OTHER


@pytest.mark.usefixtures("short_grace")
async def test_other_bytes_that_were_only_announced_are_cleared(vss: LocalVSS, bucket_id: str) -> None:
    """Every peer answers, and none can deliver them: they would block the key for ever."""
    RawRequests(vss).put(bucket_id, "k", [OTHER], announced_only=[0])
    async with client_of(vss) as client:
        assert (await client.put(bucket_id, "k", DATA)).unwrap() is True
    assert [chunk["checksum"] for chunk in RawRequests(vss).listed(bucket_id, "k")] == [sha256(DATA)]


def _together(vss: LocalVSS, bucket_id: str, *puts: tuple[bytes, int], replace: bool = False) -> list[Any]:
    """Put one ball from several writers: all look, then all announce, then all list."""
    first = iter(puts)

    async def scenario() -> list[Any]:
        all_of_them = asyncio.Barrier(len(puts))

        async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
            if asked.method != "POST" or not asked.path.endswith(f"{bucket_id}/metadata") or not next(first, None):
                return None
            await all_of_them.wait()
            reply = await pass_on(asked)
            await all_of_them.wait()
            return reply

        async with intercepting(handler, vss) as router:
            writers = (_put_at(router, bucket_id, data, chunk_size=size, replace=replace) for data, size in puts)
            return await asyncio.gather(*writers)

    return asyncio.run(scenario())


def test_two_writers_of_other_bytes_never_both_succeed(vss: LocalVSS, bucket_id: str) -> None:
    results = _together(vss, bucket_id, (DATA, 1000), (OTHER, 1000))
    assert all(result.is_err and isinstance(result.unwrap_err(), BallConflictError) for result in results)
    assert RawRequests(vss).peers_with(bucket_id, "k_0", DATA) == set()
    assert RawRequests(vss).peers_with(bucket_id, "k_0", OTHER) == set()


def test_two_writers_that_replace_may_try_again(vss: LocalVSS, bucket_id: str) -> None:
    """Both have deleted the old bytes, so neither failure is final."""
    RawRequests(vss).put(bucket_id, "k", [b"old"])
    errors = [result.unwrap_err() for result in _together(vss, bucket_id, (DATA, 1000), (OTHER, 1000), replace=True)]
    assert [type(error) for error in errors] == [BallConflictError] * 2
    assert not any(error.permanent for error in errors)
    assert all(str(error).count("put it again") and not str(error).count("replace=True") for error in errors)


async def test_other_bytes_are_conflict_whatever_the_peers_clocks(vss: LocalVSS, bucket_id: str) -> None:
    """The other writer was first and has stored its bytes, but the clock of its peer is years ahead."""
    wire = RawRequests(vss)

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "POST" and asked.path.endswith("/metadata"):
            await asyncio.to_thread(wire.put, bucket_id, "k", [OTHER])
        if not asked.path.endswith("/k/chunks"):
            return None
        reply = await pass_on(asked)
        listing = json.loads(reply.body)
        for chunk in listing["chunks"]:
            if chunk["checksum"] == sha256(OTHER):
                chunk["tags"]["updated_at"] = "4" * 19
        return Reply(reply.status, json.dumps(listing).encode())

    async with intercepting(handler, vss) as interceptor:
        assert isinstance((await _put_at(interceptor, bucket_id, DATA)).unwrap_err(), BallConflictError)
        assert interceptor.seen("POST", "/data/") == []


def test_two_writers_of_the_same_bytes_at_once_both_succeed(vss: LocalVSS, bucket_id: str) -> None:
    results = _together(vss, bucket_id, (DATA, 400), (DATA, 400))
    assert [result.is_ok for result in results] == [True, True]

    async def read() -> bytes:
        async with client_of(vss) as client:
            return bytes((await client.get(bucket_id, "k", force=True)).unwrap().data)

    assert asyncio.run(read()) == DATA


def test_two_writers_of_the_same_bytes_in_two_cuts_agree_on_one(vss: LocalVSS, bucket_id: str) -> None:
    results = _together(vss, bucket_id, (DATA, 300), (DATA, 500))
    assert [result.is_ok for result in results] == [True, True]
    listed = RawRequests(vss).listed(bucket_id, "k")
    cuts = {chunk["tags"]["num_chunks"] for chunk in listed if chunk["key"] != "k_0"}
    assert len(cuts) == 1  # the other one got no further than the announcement of its first chunk


@pytest.mark.usefixtures("short_grace")
async def test_nothing_is_sent_while_announcement_is_unlisted(own_vss: Callable[..., LocalVSS]) -> None:
    """The listing that has to show who else writes lacks the peers' parts, and nothing says so."""
    vss = own_vss()
    with vss.fault("hide_from_listing"):
        async with client_of(vss) as client:
            assert isinstance((await client.put("b", "k", DATA)).unwrap_err(), UnavailableError)
            vss.clear_faults()
            assert (await client.put("b", "k", DATA)).unwrap() is True
    assert len(vss.requests("POST", "/data/")) == 1


# -- code 666 ------------------------------------------------------------------------------------------------------------


async def test_666_without_data_is_cleared_and_begun_again(vss: LocalVSS, bucket_id: str) -> None:
    """Another writer announced the same bytes everywhere after the look, and never sends them."""
    announced: list[bool] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "POST" and asked.path.endswith("/metadata") and not announced:
            announced.append(True)
            await asyncio.to_thread(RawRequests(vss).announce, bucket_id, "k", 0, DATA, DATA, 1, 3)
        return None

    async with intercepting(handler, vss) as interceptor:
        assert (await _put_at(interceptor, bucket_id, DATA)).unwrap() is True
    assert len(RawRequests(vss).peers_with(bucket_id, "k_0", DATA)) == 1


async def test_666_with_data_on_a_later_peer_deletes_nothing(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    task, holders = wire.announce(bucket_id, "k", 0, DATA, DATA, 1, rf=3)
    with (
        vss.fault("refuse_data", bucket=bucket_id, peer=holders[0]),
        vss.fault("refuse_data", bucket=bucket_id, peer=holders[1]),
    ):
        assert wire.send(task, DATA) == [holders[2]]
    async with client_of(vss) as client:
        assert (await client.put(bucket_id, "k", DATA)).unwrap() is False
    assert vss.requests("DELETE", bucket_id) == []
    assert wire.peers_with(bucket_id, "k_0", DATA) == {holders[2]}


async def test_666_on_a_chunk_with_too_few_replicas_deletes_no_copy(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    task, holders = wire.announce(bucket_id, "k", 0, DATA, DATA, 1, rf=3)
    with vss.fault("refuse_data", bucket=bucket_id, peer=holders[1]):
        wire.send(task, DATA)
    async with client_of(vss) as client:
        assert isinstance((await client.put(bucket_id, "k", DATA, rf=3)).unwrap_err(), PutChunksError)
    assert vss.requests("DELETE", bucket_id) == []
    assert wire.peers_with(bucket_id, "k_0", DATA) == {holders[0], holders[2]}


async def test_too_few_replicas_are_mended_by_replace(vss: LocalVSS, bucket_id: str) -> None:
    """A peer that refused once has the announcement, and takes the data only after the chunk was deleted."""
    wire = RawRequests(vss)
    async with client_of(vss) as client:
        with vss.fault("refuse_data", bucket=bucket_id, peer="peer-1"):
            error = (await client.put(bucket_id, "k", DATA, rf=3)).unwrap_err()
            assert isinstance(error, PutChunksError)
            assert error.permanent, "no retry can mend it"
            assert "replace=True" in str(error)
        report = (await client.upload(bucket_id, "k", data=DATA, rf=3, replace=True)).unwrap()
        assert (report.replicas, report.uploaded) == (3, True)
    assert wire.peers_with(bucket_id, "k_0", DATA) == {"peer-0", "peer-1", "peer-2"}


async def test_666_without_data_is_checked_twice_before_deleting(own_vss: Callable[..., LocalVSS]) -> None:
    """Another writer of the same bytes may have announced everywhere, and be about to send."""
    vss = own_vss()
    tasks: list[str] = []
    asked_for_peers: list[bool] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "POST" and asked.path.endswith("/metadata") and not tasks:  # after the look
            tasks.append((await asyncio.to_thread(RawRequests(vss).announce, "b", "k", 0, DATA, DATA, 1, 3))[0])
        if asked.method == "GET" and asked.path.endswith("/peers"):
            asked_for_peers.append(True)
            if len(asked_for_peers) == 2:  # the second look after code 666
                await asyncio.to_thread(RawRequests(vss).send, tasks[0], DATA)
        return None

    async with intercepting(handler, vss) as interceptor:
        assert (await _put_at(interceptor, "b", DATA)).is_ok
        assert interceptor.seen("DELETE") == []
    assert len(asked_for_peers) == 2
    assert len(RawRequests(vss).peers_with("b", "k_0", DATA)) == 3


@pytest.mark.usefixtures("short_grace")
async def test_an_empty_ball_on_one_peer_is_not_counted_as_on_several(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        await client.put(bucket_id, "empty", b"")
        vss.reset_requests()
        assert (await client.upload(bucket_id, "empty", data=b"", rf=2)).unwrap().uploaded is True
        for _ in range(3):  # once every peer has it, it is not an error
            assert (await client.put(bucket_id, "empty", b"", rf=3)).is_ok


@pytest.mark.usefixtures("short_grace")
async def test_666_while_a_peer_is_away_deletes_nothing(own_vss: Callable[..., LocalVSS], bucket_id: str) -> None:
    """The peer that is away may have the only copy."""
    vss = own_vss()
    RawRequests(vss).put(bucket_id, "k", [DATA], rf=3, announced_only=[0])
    refusal = {"detail": {"msg": "No available peers.", "code": 666, "replicas": ["peer-0", "peer-1", "peer-2"]}}
    with (
        vss.fault("peer_down", peer="peer-1"),
        vss.fault("status", method="POST", path="/metadata$", status=404, body=refusal),
    ):
        async with client_of(vss) as client:
            assert isinstance((await client.put(bucket_id, "k", DATA)).unwrap_err(), UnavailableError)
    assert vss.requests("DELETE") == []


@pytest.mark.usefixtures("short_grace")
async def test_666_with_a_silent_peer_proves_no_empty_ball(own_vss: Callable[..., LocalVSS]) -> None:
    """Another writer of the same ball announced it everywhere after the look; a peer is silent since then."""
    vss = own_vss()
    announced: list[bool] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "POST" and asked.path.endswith("/metadata") and not announced:
            announced.append(True)
            RawRequests(vss).announce("b", "k", 0, b"", b"", 1, rf=3)
            vss.set_fault("peer_silent", peer="peer-2")
        return None

    async with intercepting(handler, vss) as interceptor:
        result = await _put_at(interceptor, "b", b"", max_tries=2)
        assert isinstance(result.unwrap_err(), UnavailableError)
        assert interceptor.seen("DELETE") == []


def _other_writer_comes_first(vss: LocalVSS, bucket_id: str, data: bytes) -> Any:
    """Return a handler: between the client's look and its announcement, another writer puts a ball on all peers."""
    done: list[bool] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "POST" and asked.path.endswith("/metadata") and not done:
            done.append(True)
            RawRequests(vss).put(bucket_id, "k", [data], rf=3)
        return None

    return handler


def _put_at(interceptor: InterceptingRouter, bucket_id: str, data: bytes, **arguments: Any) -> Awaitable[Any]:
    async def put() -> Any:
        async with AsyncClient(interceptor.uri, "tests") as client:
            return await client.put(bucket_id, "k", data, **arguments)

    return put()


async def test_666_for_other_bytes_is_a_conflict_and_deletes_nothing(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    async with intercepting(_other_writer_comes_first(vss, "b", OTHER), vss) as interceptor:
        result = await _put_at(interceptor, "b", DATA)
        assert isinstance(result.unwrap_err(), BallConflictError)
        assert interceptor.seen("DELETE") == []
    assert len(RawRequests(vss).peers_with("b", "k_0", OTHER)) == 3


async def test_666_for_the_same_bytes_of_another_writer_is_a_success(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    async with intercepting(_other_writer_comes_first(vss, "b", DATA), vss) as interceptor:
        assert (await _put_at(interceptor, "b", DATA)).is_ok
        assert interceptor.seen("DELETE") == []
    assert len(RawRequests(vss).peers_with("b", "k_0", DATA)) == 3


async def test_666_without_data_waits_for_who_may_be_sending(vss: LocalVSS, bucket_id: str) -> None:
    """Another writer of the same bytes has announced them everywhere; its data comes while the first 666 is looked into."""
    wire = RawRequests(vss)
    tasks: list[str] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "POST" and asked.path.endswith("/metadata"):
            if tasks:
                await asyncio.to_thread(wire.send, tasks[0], DATA)
            else:  # after the look
                tasks.append((await asyncio.to_thread(wire.announce, bucket_id, "k", 0, DATA, DATA, 1, 3))[0])
        return None

    async with intercepting(handler, vss) as interceptor:
        assert (await _put_at(interceptor, bucket_id, DATA)).is_ok
        assert interceptor.seen("DELETE") == []
    assert len(wire.peers_with(bucket_id, "k_0", DATA)) == 3


@pytest.mark.usefixtures("short_grace")
async def test_666_with_a_peer_left_out_of_the_listing_deletes_nothing(own_vss: Callable[..., LocalVSS]) -> None:
    """Every peer knows the key, and answers the roll-call; one is silent in the ball's listing, and has other bytes stored."""
    vss = own_vss()
    wire = RawRequests(vss)
    task, (holder,) = wire.announce("b", "k", 0, OTHER, OTHER, 1, rf=1)
    wire.send(task, OTHER)
    wire.announce("b", "k", 0, DATA, DATA, 1, rf=2)

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.path.endswith("/metadata/k_0"):  # answered by the others only: announcements of the same bytes
            return Reply(404, b'{"detail": "try again later"}')
        if asked.path.endswith("/k/chunks"):
            with vss.fault("peer_silent", peer=holder):
                return await pass_on(asked)
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        error = (await client.put("b", "k", DATA)).unwrap_err()
        assert "a peer with other bytes under its key does not always answer" in str(error)
    assert vss.requests("DELETE") == []
    assert wire.data("b", "k_0", holder) == OTHER


# -- other answers to an announcement ------------------------------------------------------------------------------------


@pytest.mark.parametrize("detail", ["No available peers.", "Put remote metadata failed"])
async def test_404_at_the_announcement_may_pass(vss: LocalVSS, bucket_id: str, detail: str) -> None:
    with vss.fault(
        "status", method="POST", path=f"{bucket_id}/metadata$", status=404, body={"detail": detail}, count=2
    ) as refused:
        async with client_of(vss) as client:
            assert (await client.put(bucket_id, "k", DATA, max_tries=3)).unwrap() is True
        assert refused.triggered == 2


@pytest.mark.parametrize("detail", ["No available peers.", "Put remote metadata failed"])
async def test_404_at_every_announcement_is_unavailable_and_not_absent(
    vss: LocalVSS, bucket_id: str, detail: str
) -> None:
    with vss.fault("status", method="POST", path=f"{bucket_id}/metadata$", status=404, body={"detail": detail}):
        async with client_of(vss) as client:
            error = (await client.put(bucket_id, "k", DATA, max_tries=2)).unwrap_err()
            assert isinstance(error, UnavailableError)
            assert not isinstance(error, NotFoundError)


async def test_404_to_the_data_may_pass(vss: LocalVSS, bucket_id: str) -> None:
    """A router that was restarted, or a proxy without a router behind it: nothing is absent."""
    with vss.fault("status", method="POST", path="/chunked$", bucket=bucket_id, status=404, count=1) as refused:
        async with client_of(vss) as client:
            assert (await client.put(bucket_id, "k", DATA, max_tries=2)).unwrap() is True
        assert refused.triggered == 1


# -- tasks ---------------------------------------------------------------------------------------------------------------


async def test_expired_task_starts_again_with_an_announcement(own_vss: Callable[..., LocalVSS], bucket_id: str) -> None:
    vss = own_vss(options=("--task-lifetime", "0.4"))
    with vss.fault("latency", method="POST", path="data/", seconds=0.8, count=1):
        async with client_of(vss) as client:
            assert (await client.put(bucket_id, "k", DATA, max_tries=2)).unwrap() is True
    assert [seen["status"] for seen in vss.requests("POST", "data/")] == [500, 200]


async def test_task_is_used_once(vss: LocalVSS, bucket_id: str) -> None:
    with vss.fault("refuse_data", bucket=bucket_id, count=2):
        seen_before = {seen["path"] for seen in vss.requests("POST", "data/")}
        async with client_of(vss) as client:
            assert (await client.put(bucket_id, "k", DATA)).unwrap() is True
    paths = [seen["path"] for seen in vss.requests("POST", "data/") if seen["path"] not in seen_before]
    assert len(paths) == len(set(paths)) == 3


async def test_task_goes_to_the_router_that_gave_it(own_vss: Callable[..., LocalVSS]) -> None:
    """A task is known to the router that gave it: the chunk's data must not go to the one that is next."""
    vss = own_vss(routers=2)
    async with client_of(vss) as client:
        assert (await client.put("b", "k", DATA, chunk_size=100)).unwrap() is True
    announced = {server: len(vss.requests("POST", "/metadata$", server=server)) for server in ("router-0", "router-1")}
    sent = {server: len(vss.requests("POST", "/data/", server=server)) for server in ("router-0", "router-1")}
    assert announced == sent
    assert all(announced.values())


async def test_lost_answer_is_looked_up_before_anything_is_repeated(vss: LocalVSS, bucket_id: str) -> None:
    with vss.fault("reset", method="POST", path="data/", bucket=bucket_id, when="after", count=1) as lost:
        async with client_of(vss) as client:
            assert (await client.put(bucket_id, "k", DATA)).unwrap() is True
        assert lost.triggered == 1
    assert len(vss.requests("POST", f"{bucket_id}/metadata$")) == 1
    assert len(RawRequests(vss).peers_with(bucket_id, "k_0", DATA)) == 1
    assert len(RawRequests(vss).listed(bucket_id, "k")) == 1


async def test_data_that_did_not_arrive_is_announced_and_sent_again(vss: LocalVSS, bucket_id: str) -> None:
    with vss.fault("reset", method="POST", path="data/", bucket=bucket_id, when="before", count=1):
        async with client_of(vss) as client:
            assert (await client.put(bucket_id, "k", DATA)).unwrap() is True
    assert len(RawRequests(vss).peers_with(bucket_id, "k_0", DATA)) == 1


async def test_lost_answer_to_an_announcement_is_announced_again(own_vss: Callable[..., LocalVSS]) -> None:
    """With one peer the first announcement is in the way of the second one (code 666), without data."""
    vss = own_vss(peers=1)
    with vss.fault("reset", method="POST", path="/metadata$", when="after", count=1):
        async with client_of(vss) as client:
            assert (await client.put("b", "k", DATA)).unwrap() is True
    assert RawRequests(vss).data("b", "k_0") == DATA


@pytest.mark.parametrize("rival_data", [DATA, OTHER], ids=["same bytes", "other bytes"])
async def test_lost_announcement_deletes_no_data_of_its_namesake(
    vss: LocalVSS, bucket_id: str, rival_data: bytes
) -> None:
    """All tasks have the connection's client id, so a listed announcement of that id may be another task's."""
    lost: list[Asked] = []

    async def handler(asked: Asked, pass_on: object) -> Reply | None:
        if asked.method == "POST" and asked.path.endswith("/metadata") and not lost:
            lost.append(asked)
            assert (await rival.put(bucket_id, "k", rival_data)).unwrap() is True
            return Reply(drop=True)
        return None

    async with client_of(vss) as rival, intercepting(handler, vss) as router:
        async with AsyncClient(router.uri, rival.client_id, debug=False, log_output_path=None) as client:
            done = await client.put(bucket_id, "k", DATA)
        if rival_data == DATA:
            assert done.unwrap() is False
        else:
            assert type(done.unwrap_err()) is BallConflictError
        assert router.seen("DELETE") == []
        assert (await rival.get(bucket_id, "k")).unwrap().data == rival_data
    assert len(RawRequests(vss).peers_with(bucket_id, "k_0", rival_data)) == 1


async def test_no_html_page_of_a_proxy_is_taken_for_an_acknowledgement(vss: LocalVSS, bucket_id: str) -> None:
    page = "<html><body>200 OK</body></html>"
    with vss.fault(
        "status",
        method="POST",
        path="data/",
        bucket=bucket_id,
        status=200,
        body=page,
        content_type="text/html",
        count=1,
    ):
        async with client_of(vss) as client:
            assert (await client.put(bucket_id, "k", DATA)).unwrap() is True
    assert len(RawRequests(vss).peers_with(bucket_id, "k_0", DATA)) == 1


# -- empty balls ---------------------------------------------------------------------------------------------------------


async def test_empty_ball_is_stored_found_and_read_back_empty(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        assert (await client.put(bucket_id, "k", b"")).unwrap() is True
        assert (await client.put(bucket_id, "k", b"")).unwrap() is False
        assert (await client.exists(bucket_id, "k")).unwrap() is True
        assert (await client.exists(bucket_id, "k", check_storage=True)).unwrap() is True
        assert bytes((await client.get(bucket_id, "k")).unwrap().data) == b""
        assert (await client.get_metadata(bucket_id, "k")).unwrap().size == 0
        assert isinstance((await client.put(bucket_id, "k", DATA)).unwrap_err(), BallConflictError)
        assert (await client.put(bucket_id, "k", DATA, replace=True)).unwrap() is True
        assert (await client.put(bucket_id, "k", b"", replace=True)).unwrap() is True
        assert (await client.delete("k", bucket_id)).unwrap().n_deletes == 1
        assert (await client.exists(bucket_id, "k")).unwrap() is False


# -- replacing -----------------------------------------------------------------------------------------------------------


async def test_replace_deletes_sees_it_gone_and_writes(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(OTHER, 300, 300), rf=2)
    async with client_of(vss) as client:
        assert (await client.put(bucket_id, "k", DATA, replace=True)).unwrap() is True
        assert bytes((await client.get(bucket_id, "k")).unwrap().data) == DATA
    assert [(chunk["key"], chunk["checksum"]) for chunk in RawRequests(vss).listed(bucket_id, "k")] == [
        ("k_0", sha256(DATA))
    ]
    asked = vss.requests(path=f"{bucket_id}|/roll-call/|/data/")
    steps = [seen["method"] if seen["method"] != "GET" else seen["path"].split("/buckets/")[1] for seen in asked]
    roll_call, listing = "roll-call/metadata", f"{bucket_id}/metadata/k/chunks"
    look, deletes = f"{bucket_id}/metadata/k_0", ["DELETE"] * 3
    expected = [look, listing, roll_call, listing, *deletes, roll_call, listing, "POST", listing, "POST"]
    own = steps[steps.index(look) :]
    assert own[: len(expected)] == expected


async def test_replace_while_a_peer_is_away_deletes_nothing(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    stored = wire.put("b", "k", cut(OTHER, 300, 300), rf=2)
    away = next(peer for peer in ("peer-0", "peer-1", "peer-2") if peer not in stored[0])
    with vss.fault("peer_down", peer=away):
        async with client_of(vss) as client:
            error = (await client.put("b", "k", DATA, replace=True)).unwrap_err()
            assert isinstance(error, UnavailableError)
            assert away in str(error)
    assert vss.requests("DELETE") == []
    assert len(wire.listed("b", "k")) == 6


async def test_replace_with_the_same_bytes_deletes_nothing(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300))
    async with client_of(vss) as client:
        assert (await client.put(bucket_id, "k", DATA, replace=True)).unwrap() is False
    assert vss.requests("DELETE", bucket_id) == []


async def test_replace_reads_the_source_before_it_deletes(vss: LocalVSS, bucket_id: str, tmp_path: Any) -> None:
    RawRequests(vss).put(bucket_id, "k", [OTHER])
    async with client_of(vss) as client:
        missing = await client.put_file(bucket_id, "k", tmp_path / "none", replace=True)
        assert isinstance(missing.unwrap_err(), ValidationError)
    assert RawRequests(vss).data(bucket_id, "k_0") == OTHER


async def test_replace_goes_past_what_a_peer_brought_back(own_vss: Callable[..., LocalVSS]) -> None:
    """A peer that missed a delete lists its copy again, while the placement service knows nothing of it any more."""
    vss = own_vss()
    wire = RawRequests(vss)
    ((holder,),) = wire.put("b", "k", [OTHER]).values()
    with vss.fault("peer_down", peer=holder):
        wire.delete_chunk("b", "k_0")
    assert wire.metadata("b", "k_0")[0] == 500
    assert len(wire.listed("b", "k")) == 1
    async with client_of(vss) as client:
        assert (await client.put("b", "k", DATA, replace=True)).unwrap() is True
        assert bytes((await client.get("b", "k")).unwrap().data) == DATA
    assert [chunk["checksum"] for chunk in wire.listed("b", "k")] == [sha256(DATA)]


async def test_put_does_not_take_a_dead_routers_task_to_another(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        return Reply(drop=True) if asked.method == "POST" and "/data/" in asked.path else None

    async with (
        intercepting(handler, vss) as interceptor,
        AsyncClient(uri_of(interceptor.port, vss.port), "tests") as client,
    ):
        assert (await client.put("b", "k", DATA, max_tries=4)).unwrap() is True
    assert RawRequests(vss).peers_with("b", "k_0", DATA)


@pytest.mark.parametrize(("replace", "what_to_do"), [(False, "replace=True replaces them"), (True, "delete them")])
async def test_same_bytes_begun_in_an_unknown_layout_conflict(
    vss: LocalVSS, bucket_id: str, replace: bool, what_to_do: str
) -> None:
    wire = RawRequests(vss)
    task, _ = wire.announce(bucket_id, "k", 0, DATA[:600], DATA, 3)
    wire.send(task, DATA[:600])
    async with client_of(vss) as client:
        error = (await client.put(bucket_id, "k", DATA, replace=replace)).unwrap_err()
        assert isinstance(error, BallConflictError)
        assert "in chunks of other sizes" in str(error)
        assert what_to_do in str(error)
        (await client.delete("k", bucket_id)).unwrap()
        assert (await client.put(bucket_id, "k", DATA)).unwrap()
