"""A peer that does not answer while ``GET /peers`` lists it as available: what is absent, deleted or replaced then."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import (
    AsyncClient,
    BallConflictError,
    Chunk,
    GetChunkError,
    IntegrityError,
    NotFoundError,
    RequestTimeoutError,
    UnavailableError,
)
from airflow_provider_mictlanx.client.transfer import chunk_upload, listing
from tests.support import bulk_uploads as bulks
from tests.support.clients import client_of
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import cut, pattern, sha256
from tests.support.vss import LocalVSS

DATA = pattern(1000)
OTHER = pattern(1000, seed=1)
SILENT = ["peer_silent", "peer_hung"]

Call = Callable[[AsyncClient], Awaitable[Any]]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PEER_CHECK_TIMEOUT", 0.5)
    monkeypatch.setattr(chunk_upload, "GRACE", 0.2)


async def _call(vss: LocalVSS, call: Call) -> Any:
    async with client_of(vss) as client:
        return await call(client)


def _read(vss: LocalVSS, key: str = "k") -> bytes:
    return bytes(asyncio.run(_call(vss, lambda client: client.get("b", key, force=True))).unwrap().data)


def _while_silent(vss: LocalVSS, kind: str, peer: str, call: Call) -> Any:
    seconds = {"seconds": 30} if kind == "peer_hung" else {}
    with vss.fault(kind, peer=peer, **seconds):
        return asyncio.run(_call(vss, call))


ONE_OF_SEVERAL = {"num_chunks": "3", "full_checksum": sha256(OTHER)}

PUTS: dict[str, Call] = {
    "put": lambda client: client.put("b", "k", OTHER, max_tries=2, timeout=1),
    "put_single_chunk": lambda client: client.put_single_chunk("b", "k", Chunk("k", 0, OTHER), max_tries=2, timeout=1),
    "replace": lambda client: client.put("b", "k", OTHER, replace=True, max_tries=2, timeout=1),
    "put_one_of_several": lambda client: client.put_single_chunk(
        "b", "k", Chunk("k", 0, OTHER), tags=ONE_OF_SEVERAL, max_tries=2, timeout=1
    ),
    "replace_one_of_several": lambda client: client.put_single_chunk(
        "b", "k", Chunk("k", 0, OTHER), tags=ONE_OF_SEVERAL, replace=True, max_tries=2, timeout=1
    ),
}
DELETES: dict[str, Call] = {
    "delete": lambda client: client.delete("k", "b", timeout=1, deadline=20),
    "delete_by_key": lambda client: client.delete_by_key("k_0", "b", timeout=1, deadline=20),
    "delete_bucket": lambda client: client.delete_bucket("b", timeout=1, deadline=20),
}


@pytest.mark.parametrize("kind", SILENT)
@pytest.mark.parametrize("rf", [1, 2])
@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("call", [*PUTS, *DELETES])
def test_write_with_silent_peer_changes_nothing(
    own_vss: Callable[..., LocalVSS], kind: str, rf: int, chunks: int, call: str
) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    stored = wire.put("b", "k", cut(DATA, *[1000 // chunks] * (chunks - 1)), rf=rf)
    holder = stored[0][-1]
    vss.reset_requests()
    started = time.monotonic()
    result = _while_silent(vss, kind, holder, {**PUTS, **DELETES}[call])
    assert time.monotonic() - started < 25
    assert result.is_err
    assert isinstance(result.unwrap_err(), UnavailableError | BallConflictError), result
    assert vss.requests("DELETE") == []
    assert vss.requests("POST", "/data/") == []
    assert len(wire.listed("b", "k")) == rf * chunks
    assert _read(vss) == DATA


@pytest.mark.parametrize("call", ["replace", "delete"])
def test_hung_peer_is_found_within_the_roll_calls_timeout(own_vss: Callable[..., LocalVSS], call: str) -> None:
    vss = own_vss()
    RawRequests(vss).put("b", "k", [DATA], rf=2)
    started = time.monotonic()
    with vss.fault("peer_hung", peer="peer-2", seconds=60):
        error = asyncio.run(
            _call(
                vss,
                lambda client: (
                    client.delete("k", "b")
                    if call == "delete"
                    else client.put("b", "k", OTHER, replace=True, timeout=2)
                ),
            )
        ).unwrap_err()
    assert isinstance(error, UnavailableError)
    assert "within 0.5 s" in str(error)
    assert time.monotonic() - started < 30, "half of what the peer takes"


async def test_hung_peer_stops_a_bulk_soon(own_vss: Callable[..., LocalVSS], tmp_path: Path) -> None:
    """The records are listed first; a hung peer is not waited for as long as a request may take, in every try."""
    vss = own_vss()
    (tmp_path / "file").write_bytes(DATA)
    started = time.monotonic()
    with vss.fault("peer_hung", peer="peer-2", seconds=60):
        async with client_of(vss) as client:
            with pytest.raises(UnavailableError, match=r"within 0\.5 s"):
                await bulks.upload(client, "bulk", "b", tmp_path, options={"max_tries": 3})
    assert time.monotonic() - started < 30, "half of what the peer takes"


@pytest.mark.parametrize("call", ["delete", "delete_bucket", "replace"])
@pytest.mark.parametrize("reply", [Reply(500, b'{"detail": "a moment"}'), Reply(drop=True)], ids=["500", "reset"])
async def test_roll_call_that_the_router_failed_is_repeated(
    own_vss: Callable[..., LocalVSS], call: str, reply: Reply
) -> None:
    """The first answer to every question of a roll-call gets lost, before a delete and after it."""
    vss = own_vss()
    RawRequests(vss).put("b", "k", cut(DATA, 400, 400), rf=2)
    asked_before: Counter[str] = Counter()
    calls: dict[str, Call] = {
        "delete": lambda client: client.delete("k", "b"),
        "delete_bucket": lambda client: client.delete_bucket("b"),
        "replace": lambda client: client.put("b", "k", OTHER, replace=True),
    }

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        path = asked.path.rpartition("/api/v4")[2]
        if path not in ("/peers", f"/buckets/{listing.PEER_CHECK_BUCKET}/metadata", "/buckets/b/metadata"):
            return None
        asked_before[path] += 1
        return reply if asked.method == "GET" and asked_before[path] % 2 else None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        assert (await calls[call](client)).is_ok
    assert asked_before["/peers"] >= 2


@pytest.mark.parametrize("kind", SILENT)
@pytest.mark.parametrize("method", ["get", "exists", "get_metadata"])
def test_read_with_silent_peer_is_not_absent(own_vss: Callable[..., LocalVSS], kind: str, method: str) -> None:
    vss = own_vss()
    (holder,) = RawRequests(vss).put("b", "k", [DATA])[0]
    options = {"max_retries": 1} if method == "get" else {}
    error = _while_silent(
        vss, kind, holder, lambda client: getattr(client, method)("b", "k", timeout=1, deadline=30, **options)
    ).unwrap_err()
    assert not isinstance(error, NotFoundError)
    assert error.error_code in (1000, 1004)


@pytest.mark.parametrize("rf", [1, 2])
@pytest.mark.parametrize("kind", ["ball", "chunk"])
async def test_delete_missed_by_a_peer_is_error_until_repeated(
    own_vss: Callable[..., LocalVSS], rf: int, kind: str
) -> None:
    """The peer answers the roll-call, is silent for the time of the delete, and comes back."""
    vss = own_vss()
    wire = RawRequests(vss)
    holder = wire.put("b", "k", cut(DATA, 400, 400), rf=rf)[0][0]
    silent: list[Any] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "DELETE" and not silent:
            silent.append(await asyncio.to_thread(vss.set_fault, "peer_silent", peer=holder))
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        delete = client.delete if kind == "ball" else client.delete_by_key
        key = "k" if kind == "ball" else "k_0"
        error = (await delete(key, "b", deadline=3)).unwrap_err()
        assert isinstance(error, UnavailableError) or error.error_code == 1004
        assert holder in str(error)
        assert f"k_0 ({rf - 1} of {rf} replicas)" in str(error) or "does not answer" in str(error)
        assert len(wire.listed("b", "k")) >= 2 * rf - (rf - 1), "the other chunks are still there"
        silent[0].off()
        result = await delete(key, "b")
        if kind == "ball":
            assert result.is_ok
            assert (await client.exists("b", "k")).unwrap() is False
            assert wire.listed("b", "k") == []


async def test_delete_stops_at_the_first_shortfall(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    pieces = cut(DATA, *[100] * 9)
    wire.put("b", "k", pieces, rf=3)
    deletes: list[str] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "DELETE":
            if not deletes:
                await asyncio.to_thread(vss.set_fault, "peer_silent", peer="peer-1")
            deletes.append(asked.path)
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        error = (await client.delete("k", "b", deadline=4)).unwrap_err()
        assert error.error_code in (1000, 1004)
    assert deletes == ["/api/v4/buckets/b/k_0"]
    assert all(len(wire.peers_with("b", f"k_{index}", piece)) == 2 for index, piece in enumerate(pieces) if index)


async def test_failed_delete_ends_after_all_of_its_requests(vss: LocalVSS, bucket_id: str) -> None:
    """A late one could delete what is written next under the key."""
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300))
    begun: list[str] = []
    answered: list[str] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method != "DELETE":
            return None
        begun.append(asked.path)
        number = len(begun)
        if number == 3:
            await asyncio.sleep(0.5)
        answered.append(asked.path)
        return Reply(403, b"{}") if number == 2 else await pass_on(asked)

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        assert (await client.delete("k", bucket_id)).unwrap_err().error_code == 403
        assert len(answered) == len(begun) == 3


@pytest.mark.parametrize("call", ["delete", "delete_by_key", "replace"])
def test_delete_of_unlisted_stored_ball_changes_nothing(own_vss: Callable[..., LocalVSS], call: str) -> None:
    """Its peers are silent in one question only: the roll-call and the metadata of the first chunk are answered."""
    vss = own_vss()
    wire = RawRequests(vss)
    wire.put("b", "k", cut(DATA, 400, 400), rf=2)

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        return Reply(404, b'{"detail": "b@k not found"}') if asked.path.endswith("/k/chunks") else None

    async def scenario() -> None:
        async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
            deleting = {
                "delete": lambda: client.delete("k", "b", deadline=3),
                "delete_by_key": lambda: client.delete_by_key("k_0", "b", deadline=3),
                "replace": lambda: client.put("b", "k", OTHER, replace=True, max_tries=2),
            }[call]
            error = (await deleting()).unwrap_err()
            assert isinstance(error, UnavailableError) or error.error_code == 1004
            assert "k_0 failed: it is stored, but no peer lists it" in str(error)
            assert interceptor.seen("DELETE") + interceptor.seen("POST") == []

    asyncio.run(scenario())
    assert _read(vss) == DATA


def test_ball_that_claims_countless_chunks_is_deleted(vss: LocalVSS, bucket_id: str) -> None:
    """Any writer can claim them, and each chunk that is not listed is deleted by its key."""
    wire = RawRequests(vss)
    wire.put(bucket_id, "k", [DATA], tags={"num_chunks": "999999999"})

    deleted = asyncio.run(_call(vss, lambda client: client.delete("k", bucket_id, deadline=20)))
    assert deleted.unwrap().n_deletes == 1
    assert len(vss.requests("DELETE", bucket_id)) < 200
    assert wire.listed(bucket_id, "k") == []


@pytest.mark.parametrize("call", ["delete", "replace", "delete_bucket"])
async def test_peer_that_hangs_during_a_delete_is_found_after_one_try(
    own_vss: Callable[..., LocalVSS], call: str
) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    holder = wire.put("b", "k", cut(DATA, 400, 400), rf=2)[0][0]
    for number in range(10):
        wire.put("b", f"other{number}", [DATA])
    calls: dict[str, Call] = {
        "delete": lambda client: client.delete("k", "b", timeout=1),
        "replace": lambda client: client.put("b", "k", OTHER, replace=True, timeout=1),
        "delete_bucket": lambda client: client.delete_bucket("b", timeout=1, max_concurrency=1),
    }

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "DELETE":
            await asyncio.to_thread(vss.set_fault, "peer_hung", id="hung", peer=holder, seconds=30)
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        error = (await calls[call](client)).unwrap_err()
        assert isinstance(error, UnavailableError), error
        assert "within 0.5 s" in str(error)
        assert len(interceptor.seen("DELETE")) == 1
        assert interceptor.seen("POST") == []


def test_peers_that_are_not_told_in_time_are_no_hung_peer(own_vss: Callable[..., LocalVSS]) -> None:
    """The router answers ``GET /peers`` without asking any of them."""
    vss = own_vss()
    RawRequests(vss).put("b", "k", [DATA])
    with vss.fault("latency", path="/peers$", seconds=5):
        error = asyncio.run(_call(vss, lambda client: client.delete("k", "b", deadline=20))).unwrap_err()
    assert isinstance(error, RequestTimeoutError)
    assert "hung" not in str(error)


def test_replace_losing_a_peer_during_delete_writes_nothing(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    holder = wire.put("b", "k", [OTHER], rf=1)[0][0]

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "DELETE":
            await asyncio.to_thread(vss.set_fault, "peer_silent", peer=holder)
        return None

    async def scenario() -> None:
        async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
            error = (await client.put("b", "k", DATA, replace=True, max_tries=2)).unwrap_err()
            assert isinstance(error, UnavailableError)
            assert "0 of 1 replicas" in str(error) or holder in str(error)
            assert interceptor.seen("POST") == []

    asyncio.run(scenario())
    vss.clear_faults()
    assert asyncio.run(_call(vss, lambda client: client.put("b", "k", DATA, replace=True))).unwrap() is True
    assert _read(vss) == DATA
    assert {chunk["checksum"] for chunk in wire.listed("b", "k")} == {sha256(DATA)}


def test_put_with_unrelated_silent_peer_succeeds(own_vss: Callable[..., LocalVSS]) -> None:
    """A silent peer that the chunk is not placed on stands in no way of a new ball."""
    vss = own_vss()
    with vss.fault("peer_silent", peer="peer-1"):
        for number in range(6):
            assert asyncio.run(_call(vss, lambda client: client.put("b", f"k{number}", DATA))).unwrap() is True  # noqa: B023
    for number in range(6):
        assert len(RawRequests(vss).peers_with("b", f"k{number}_0", DATA)) == 1


@pytest.mark.parametrize("peers", [3, 4])
def test_announcement_that_failed_on_one_of_its_peers_is_cleared(own_vss: Callable[..., LocalVSS], peers: int) -> None:
    """
    With rf 2 the router answers 500, and leaves metadata on the peer that is up, placed nowhere.

    Of four peers, the next announcement is accepted by the two others, and does not replace it.
    """
    vss = own_vss(peers=peers)
    with vss.fault("peer_silent", peer="peer-1"):
        for number in range(4):
            put = _call(vss, lambda client: client.put("b", f"k{number}", DATA, rf=2))  # noqa: B023
            assert asyncio.run(put).unwrap() is True
    wire = RawRequests(vss)
    for number in range(4):
        assert len(wire.listed("b", f"k{number}")) == 2
        assert len(wire.peers_with("b", f"k{number}_0", DATA) - {"peer-1"}) == 2


@pytest.mark.parametrize("call", ["put", "put_one_of_several"])
async def test_put_whose_listing_lacks_an_own_replica_sends_nothing(
    own_vss: Callable[..., LocalVSS], call: str
) -> None:
    """A peer that took the announcement and is missing in the next listing may hide a rival's."""
    vss = own_vss()
    calls: dict[str, Call] = {
        "put": lambda client: client.put("b", "k", OTHER, rf=3, max_tries=2),
        "put_one_of_several": lambda client: client.put_single_chunk(
            "b", "k", Chunk("k", 0, OTHER), rf=3, tags=ONE_OF_SEVERAL, max_tries=2
        ),
    }

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.path.endswith("/k/chunks"):
            await asyncio.to_thread(vss.set_fault, "hide_from_listing", id="hidden", peer="peer-1")
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        error = (await calls[call](client)).unwrap_err()
        assert isinstance(error, UnavailableError)
        assert interceptor.seen("POST", "/data/") == []


@pytest.mark.parametrize("call", ["put", "put_one_of_several"])
async def test_rival_between_look_and_announcement_is_a_conflict(own_vss: Callable[..., LocalVSS], call: str) -> None:
    vss = own_vss()
    wire = RawRequests(vss)

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "POST" and asked.path.endswith("/metadata"):
            await asyncio.to_thread(wire.put, "b", "k", cut(DATA, 400, 400))
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        error = (await PUTS[call](client)).unwrap_err()
        assert isinstance(error, BallConflictError)
        assert interceptor.seen("POST", "/data/") == []


# -- placements and announcements without data ----------------------------------------------------------------------------


@pytest.mark.parametrize("replace", [False, True])
def test_placement_that_outlived_its_data_does_not_block_the_key(
    own_vss: Callable[..., LocalVSS], replace: bool
) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    (holder,) = wire.put("b", "k", [OTHER])[0]
    wire.forget_at_peer(int(holder[-1]), "b", "k")
    assert wire.metadata("b", "k_0")[1]["detail"].startswith("404: No metadata found")
    assert asyncio.run(_call(vss, lambda client: client.put("b", "k", DATA, replace=replace))).unwrap() is True
    assert _read(vss) == DATA


@pytest.mark.parametrize("same", [False, True])
def test_three_writers_at_once_leave_a_key_that_can_be_written(own_vss: Callable[..., LocalVSS], same: bool) -> None:
    vss = own_vss(peers=4)
    datas = [pattern(500, seed) for seed in range(3)]

    async def together() -> list[Any]:
        return await asyncio.gather(
            *(_call(vss, lambda client, data=data: client.put("b", "k", data)) for data in datas)
        )

    with vss.fault("latency", method="POST", path="b/metadata$", seconds=0.3):
        results = asyncio.run(together())
    assert all(isinstance(result.unwrap_err(), BallConflictError) for result in results if result.is_err)
    assert sum(result.is_ok for result in results) <= 1
    data = datas[0] if same else DATA
    if not any(result.is_ok for result in results):
        assert asyncio.run(_call(vss, lambda client: client.put("b", "k", data))).unwrap() is True
        assert _read(vss) == data
        assert {chunk["checksum"] for chunk in RawRequests(vss).listed("b", "k")} == {sha256(data)}


def test_same_bytes_beside_other_announcement_are_no_conflict(
    own_vss: Callable[..., LocalVSS],
) -> None:
    """A writer that lost leaves its announcement beside the winner's bytes; the winner's retry is a success."""
    vss = own_vss()
    wire = RawRequests(vss)
    wire.put("b", "k", [DATA])
    wire.put("b", "k", [OTHER], announced_only=[0])
    assert asyncio.run(_call(vss, lambda client: client.put("b", "k", DATA))).unwrap() is False
    error = asyncio.run(_call(vss, lambda client: client.put("b", "k", pattern(1000, 2)))).unwrap_err()
    assert isinstance(error, BallConflictError)
    assert vss.requests("DELETE") == []


async def test_other_bytes_on_a_peer_that_comes_back_are_not_cleared(own_vss: Callable[..., LocalVSS]) -> None:
    """One peer has only their announcement; the one that has them is silent until the first roll-call."""
    vss = own_vss()
    wire = RawRequests(vss)
    task, (without, holder) = wire.announce("b", "k", 0, OTHER, OTHER, 1, rf=2)
    with vss.fault("refuse_data", peer=without):
        assert wire.send(task, OTHER) == [holder]
    silent = vss.set_fault("peer_silent", peer=holder)

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.path.endswith(f"/{listing.PEER_CHECK_BUCKET}/metadata") and vss.faults():
            await asyncio.to_thread(silent.off)
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        error = (await client.put("b", "k", DATA)).unwrap_err()
        assert isinstance(error, BallConflictError), error
        assert interceptor.seen("DELETE") == []
    assert wire.peers_with("b", "k_0", OTHER) == {holder}


async def test_other_bytes_are_read_again_with_each_roll_call(own_vss: Callable[..., LocalVSS]) -> None:
    """The peer that has them is silent while it is read and in the first roll-call, twice, and answers the second one."""
    vss = own_vss()
    wire = RawRequests(vss)
    task, (without, holder) = wire.announce("b", "k", 0, OTHER, OTHER, 1, rf=2)
    with vss.fault("refuse_data", peer=without):
        assert wire.send(task, OTHER) == [holder]
    calls = 0

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        nonlocal calls
        if asked.path.endswith(f"/{listing.PEER_CHECK_BUCKET}/metadata"):
            calls += 1
            if calls % 2:
                with vss.fault("peer_silent", peer=holder):
                    return await pass_on(asked)
        elif asked.path.endswith("/b/k_0") and calls in (0, 2):
            return Reply(404, b'{"detail": "try again later"}')
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        error = (await client.put("b", "k", DATA)).unwrap_err()
        assert isinstance(error, BallConflictError), error
        assert interceptor.seen("DELETE") == []
    assert wire.peers_with("b", "k_0", OTHER) == {holder}


def test_announcement_with_data_within_grace_is_conflict(
    own_vss: Callable[..., LocalVSS], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_upload, "GRACE", 5.0)
    vss = own_vss()
    wire = RawRequests(vss)
    task, _ = wire.announce("b", "k", 0, OTHER, OTHER, 1)

    async def scenario() -> None:
        async with client_of(vss) as client:
            put = asyncio.create_task(client.put("b", "k", DATA))
            while not await asyncio.to_thread(vss.requests, "GET", "/b/k_0$"):
                await asyncio.sleep(0.02)
            asked = 0
            while asked < (asked := len(await asyncio.to_thread(vss.requests))):  # until it waits for the data
                await asyncio.sleep(0.5)
            await asyncio.to_thread(wire.send, task, OTHER)
            assert isinstance((await put).unwrap_err(), BallConflictError)

    asyncio.run(scenario())
    assert _read(vss) == OTHER


def test_announcement_is_not_cleared_while_a_peer_is_silent(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    _, (holder,) = wire.announce("b", "k", 0, OTHER, OTHER, 1)
    other = next(peer for peer in ("peer-0", "peer-1", "peer-2") if peer != holder)
    error = _while_silent(
        vss, "peer_silent", other, lambda client: client.put("b", "k", DATA, max_tries=2)
    ).unwrap_err()
    assert isinstance(error, UnavailableError)
    assert other in str(error)
    assert vss.requests("DELETE") == []


def test_refused_data_is_not_cleared_while_a_peer_is_silent(own_vss: Callable[..., LocalVSS]) -> None:
    """The silent peer may store the chunk, and a delete would forget its placement."""
    vss = own_vss()
    with vss.fault("peer_silent", peer="peer-2"), vss.fault("refuse_data", peer="peer-0"):
        put = _call(vss, lambda client: client.put("b", "k", DATA, max_backoff=0.05))
        assert asyncio.run(put).unwrap() is True
    assert vss.requests("DELETE") == []
    assert RawRequests(vss).peers_with("b", "k_0", DATA) == {"peer-1"}


async def test_placement_is_not_stale_if_its_peer_did_not_answer(vss: LocalVSS, bucket_id: str) -> None:
    """The peer is silent in each look, and answers the roll-calls between them."""
    RawRequests(vss).put(bucket_id, "k", [OTHER])
    silent = {
        "/metadata/k_0": b'{"detail": "Fail to fetch metadata from peer peer-0, try again later."}',
        "/metadata/k/chunks": b'{"detail": "not found"}',
        "/k_0": b'{"detail": "No found available replica peer or data, try again later."}',
    }

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        found = [body for end, body in silent.items() if asked.path.endswith(bucket_id + end)]
        return Reply(404, found[0]) if asked.method == "GET" and found else None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        assert type((await client.put(bucket_id, "k", DATA, max_tries=2)).unwrap_err()) is UnavailableError
        assert interceptor.seen("DELETE") == []


# -- more replicas than peers ---------------------------------------------------------------------------------------------


async def test_rf_above_the_number_of_peers_stores_on_all_and_warns(
    vss: LocalVSS, bucket_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with client_of(vss) as client:
            assert (await client.upload(bucket_id, "k", data=DATA, rf=5)).unwrap().replicas == 3
    (line,) = [record.getMessage() for record in caplog.records if "instead of rf=5" in record.getMessage()]
    assert f"{bucket_id}/k" in line


# -- what an error says of the copies ------------------------------------------------------------------------------------


async def test_copies_are_called_lost_only_if_every_peer_answered(own_vss: Callable[..., LocalVSS]) -> None:
    """A router answers for a silent peer as for one without the data; only a roll-call distinguishes them."""
    vss = own_vss()
    wire = RawRequests(vss)
    _, replicas = wire.announce("b", "k", 0, DATA, DATA, 1, rf=2)
    lost = "every copy is lost"
    async with client_of(vss) as client:
        error = (await client.get("b", "k", max_retries=2)).unwrap_err()
        assert type(error) is GetChunkError
        assert lost in str(error)
        assert all(f"peer-{number}: not stored" in str(error) for number in range(3))
        assert (await client.exists("b", "k", check_storage=True)).unwrap() is False
        for kind, silent in (("peer_silent", replicas[0]), ("peer_down", replicas[0])):
            with vss.fault(kind, peer=silent):
                error = (await client.get("b", "k", max_retries=2)).unwrap_err()
                assert type(error) is GetChunkError
                assert lost not in str(error)
                assert f"peer {silent} did not answer" in str(error)
                assert f"{silent}: no answer" in str(error)
                assert f"{replicas[1]}: not stored" in str(error)
                exists = (await client.exists("b", "k", check_storage=True)).unwrap_err()
                assert type(exists) is UnavailableError


async def test_wrong_copy_beside_a_silent_peer_names_that_peer(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    task, replicas = wire.announce("b", "k", 0, DATA, DATA, 1, rf=2)
    with vss.fault("accept_wrong_bytes"):
        wire.send(task, OTHER)
    async with client_of(vss) as client:
        with vss.fault("peer_silent", peer=replicas[0]):
            error = (await client.get("b", "k", max_retries=2)).unwrap_err()
        assert type(error) is IntegrityError
        assert f"peer {replicas[0]} did not answer and may have a correct copy" in str(error)
        assert f"{replicas[0]}: no answer" in str(error)
        assert f"{replicas[1]}: wrong bytes" in str(error)


async def test_failed_roll_call_names_who_answered(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    async with client_of(vss) as client:
        for call in (client.exists("b", "none"), client.list_balls("b"), client.delete("none", "b")):
            with vss.fault("peer_silent", peer="peer-1"):
                error = (await call).unwrap_err()
            assert type(error) is UnavailableError
            assert "asked: peer-0: answered, peer-1: no answer, peer-2: answered" in str(error)


async def test_first_chunk_without_tags_is_not_the_object(own_vss: Callable[..., LocalVSS]) -> None:
    """Its writer did not record how many chunks it has, and the silent peer stores the other one."""
    vss = own_vss()
    wire = RawRequests(vss)
    while True:
        stored = wire.put("b", "k", [DATA, OTHER], standard_tags=False)
        if stored[0] != stored[1]:
            break
        wire.delete("b", "k")
    async with client_of(vss) as client:
        with vss.fault("peer_silent", peer=stored[1][0]):
            assert type((await client.put("b", "k", DATA)).unwrap_err()) is UnavailableError
        assert type((await client.put("b", "k", DATA)).unwrap_err()) is BallConflictError
        assert (await client.get("b", "k")).unwrap().data == DATA + OTHER


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get("b", "k", max_retries=2),
        lambda client: client.exists("b", "k"),
        lambda client: client.list_balls("b"),
        lambda client: client.delete("k", "b"),
        lambda client: client.delete_by_key("k_0", "b"),
        lambda client: client.delete_bucket("b"),
    ],
)
async def test_nothing_is_absent_while_no_peer_is_known(call: Call) -> None:
    """A placement service that has just been restarted may not have heard of the peers yet."""
    answers = {
        "/peers": (200, {"available": [], "unavailable": []}),
        "/metadata": (200, {"bucket_id": "b", "peers_ids": [], "balls": []}),
        "/k_0": (500, {"detail": "404: No available peers"}),
    }

    async def handler(asked: Asked, pass_on: object) -> Reply:
        known = (answer for end, answer in answers.items() if asked.method == "GET" and asked.path.endswith(end))
        status, body = next(known, (404, {"detail": "b@k not found"}))
        return Reply(status, json.dumps(body).encode())

    async with intercepting(handler) as router, AsyncClient(router.uri, "tests", log_output_path=None) as client:
        error = (await call(client)).unwrap_err()
    assert type(error) is UnavailableError
    assert "lists no peer" in str(error)


async def test_peer_that_hangs_before_the_data_is_found_soon(own_vss: Callable[..., LocalVSS]) -> None:
    """A roll-call finds it; reading back and sending again would wait for it in every request."""
    vss = own_vss()

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if "/data/" in asked.path:
            vss.set_fault("peer_hung", id="hung", seconds=60)
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        error = (await client.put("b", "k", DATA, timeout=2, max_tries=2)).unwrap_err()
        assert type(error) is UnavailableError
        assert "within 0.5 s" in str(error)
        assert len(interceptor.seen("POST", "/data/")) == 1
        assert interceptor.seen("GET", "/b/k_0") == []


async def test_roll_call_that_names_nobody_asks_for_the_bucket(vss: LocalVSS, bucket_id: str) -> None:
    """A router may name no peer for a bucket that does not exist."""

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if f"/{listing.PEER_CHECK_BUCKET}/" not in asked.path:
            return None
        nobody = {"bucket_id": listing.PEER_CHECK_BUCKET, "peers_ids": [], "balls": []}
        return Reply(200, json.dumps(nobody).encode())

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        assert (await client.put(bucket_id, "k", DATA)).unwrap() is True
        assert (await client.exists(bucket_id, "none")).unwrap() is False
        assert (await client.delete("k", bucket_id)).unwrap().n_deletes == 1
