"""The traps of reading and deleting (docs/protocol-traps.md): what the service does, and what the client makes of it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import (
    AsyncClient,
    GetChunkError,
    IntegrityError,
    MictlanXError,
    NotFoundError,
    UnavailableError,
    UpstreamProtocolError,
)
from tests.support.addresses import uri_of
from tests.support.clients import client_of
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.raw_requests import RawRequests
from tests.support.router_requests import chunk_of, router_of
from tests.support.sample_bytes import cut, pattern, sha256
from tests.support.vss import LocalVSS

DATA = pattern(1000)
OTHER = pattern(1000, seed=1)


def got(vss: LocalVSS, bucket_id: str, key: str = "k", **arguments: Any) -> bytes:
    async def scenario() -> bytes:
        async with client_of(vss) as client:
            return bytes((await client.get(bucket_id, key, **arguments)).unwrap().data)

    return asyncio.run(scenario())


def error_of(vss: LocalVSS, method: str, *arguments: Any, **further: Any) -> MictlanXError:
    async def scenario() -> MictlanXError:
        async with client_of(vss) as client:
            error: MictlanXError = (await getattr(client, method)(*arguments, **further)).unwrap_err()
            return error

    return asyncio.run(scenario())


def value_of(vss: LocalVSS, method: str, *arguments: Any, **further: Any) -> Any:
    async def scenario() -> Any:
        async with client_of(vss) as client:
            return (await getattr(client, method)(*arguments, **further)).unwrap()

    return asyncio.run(scenario())


# -- absent, or not? -----------------------------------------------------------------------------------------------------


def test_500_for_a_missing_ball_is_a_no(vss: LocalVSS, bucket_id: str) -> None:
    error = error_of(vss, "get_metadata", bucket_id, "none")
    assert type(error) is NotFoundError
    assert f"{bucket_id}/none" in str(error)
    assert type(error_of(vss, "get", bucket_id, "none")) is NotFoundError
    assert value_of(vss, "exists", bucket_id, "none") is False
    assert len(vss.requests("GET", f"{bucket_id}/metadata/none_0")) == 3  # asked once each, as it is a no


def test_404_for_data_of_a_live_ball_is_asked_again(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA])
    body = {"detail": "Fail to fetch data from peer peer-0, try again later."}
    with vss.fault("status", path=f"{bucket_id}/k_0$", method="GET", status=404, body=body, count=6) as refused:
        assert got(vss, bucket_id) == DATA
        assert refused.triggered == 6


def test_404_for_metadata_and_chunks_of_a_placed_ball_is_no_no(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA])
    body = {"detail": "Fail to fetch metadata from peer peer-0, try again later."}
    with (
        vss.fault("status", path=f"{bucket_id}/metadata/k_0$", status=404, body=body),
        vss.fault("status", path=f"{bucket_id}/metadata/k/chunks$", status=404, body={"detail": "not found"}),
    ):
        assert isinstance(error_of(vss, "exists", bucket_id, "k"), UnavailableError)
        assert isinstance(error_of(vss, "get", bucket_id, "k"), UnavailableError)


def test_500_no_metadata_found_is_no_no(vss: LocalVSS, bucket_id: str) -> None:
    """The placement service knows a replica, and its peer lost it, or was restarted just now."""
    ((peer,),) = RawRequests(vss).put(bucket_id, "k", [DATA]).values()
    RawRequests(vss).forget_at_peer(int(peer[-1]), bucket_id, "k")
    assert RawRequests(vss).metadata(bucket_id, "k_0") == (
        500,
        {"detail": f"404: No metadata found for {bucket_id}@k_0"},
    )
    assert isinstance(error_of(vss, "exists", bucket_id, "k"), UnavailableError)
    assert isinstance(error_of(vss, "get_metadata", bucket_id, "k"), UnavailableError)


def test_missing_while_a_peer_is_away_is_not_known(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    with vss.fault("peer_down", peer="peer-1"):
        error = error_of(vss, "exists", "b", "none")
        assert isinstance(error, UnavailableError)
        assert "peer-1" in str(error)
    assert value_of(vss, "exists", "b", "none") is False


@pytest.mark.parametrize("number", range(3))
def test_ball_on_a_peer_that_is_away_is_not_absent(own_vss: Callable[..., LocalVSS], number: int) -> None:
    """One chunk on each peer, so that one of the ball's chunks is missing in the listing, whichever peer is away."""
    vss = own_vss()
    RawRequests(vss).put("b", "k", cut(DATA, 300, 300))
    with vss.fault("peer_down", peer=f"peer-{number}"):
        assert isinstance(error_of(vss, "exists", "b", "k"), UnavailableError)
        assert isinstance(error_of(vss, "get", "b", "k"), UnavailableError)
        assert isinstance(error_of(vss, "list_balls", "b"), UnavailableError)
        assert isinstance(error_of(vss, "delete_bucket", "b"), UnavailableError)
    assert got(vss, "b") == DATA


def test_bucket_listing_that_lacks_a_peer_is_not_believed(own_vss: Callable[..., LocalVSS]) -> None:
    """``GET /peers`` calls all of them available, and the listing names those that answered."""
    vss = own_vss()
    ((peer,),) = RawRequests(vss).put("b", "k", [DATA]).values()
    with vss.fault("hide_from_listing", peer=peer):
        error = error_of(vss, "list_balls", "b")
        assert isinstance(error, UnavailableError)
        assert peer in str(error)
        assert isinstance(error_of(vss, "delete_bucket", "b"), UnavailableError)
    assert [ball.key for ball in value_of(vss, "list_balls", "b")] == ["k"]


def test_ball_listing_that_lacks_a_peer_is_not_believed(own_vss: Callable[..., LocalVSS]) -> None:
    """A chunk that is placed, and listed by nobody although every peer is available, is not a chunk that is missing."""
    vss = own_vss()
    stored = RawRequests(vss).put("b", "k", cut(DATA, 300, 300))
    with vss.fault("hide_from_listing", peer=stored[1][0]):
        assert isinstance(error_of(vss, "exists", "b", "k"), UnavailableError)
        assert isinstance(error_of(vss, "get_metadata", "b", "k"), UnavailableError)


def test_ball_that_was_never_written_to_its_end_does_not_exist(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300), only=[0, 2])
    assert value_of(vss, "exists", bucket_id, "k") is False
    error = error_of(vss, "get", bucket_id, "k")
    assert isinstance(error, NotFoundError)
    assert "2 of its 3 chunks" in str(error)
    assert value_of(vss, "list_balls", bucket_id) == []


def test_empty_first_chunk_of_several_is_no_empty_ball(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).announce(bucket_id, "k", 0, b"", DATA, 3)
    assert isinstance(error_of(vss, "get", bucket_id, "k"), MictlanXError)
    assert isinstance(error_of(vss, "exists", bucket_id, "k"), UnavailableError)


# -- a listing shows announcements ---------------------------------------------------------------------------------------


def test_announced_and_never_sent_is_listed_and_not_believed(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA], announced_only=[0])
    assert value_of(vss, "exists", bucket_id, "k") is True  # the listing answers, as the documentation says
    assert value_of(vss, "exists", bucket_id, "k", check_storage=True) is False
    error = error_of(vss, "get", bucket_id, "k", max_retries=2)
    assert isinstance(error, GetChunkError)
    assert f"{bucket_id}/k_0" in str(error)
    assert isinstance(error_of(vss, "get_metadata", bucket_id, "k", check_storage=True), GetChunkError)


def test_check_storage_finds_acknowledged_but_missing_data(vss: LocalVSS, bucket_id: str) -> None:
    with vss.fault("ack_without_storing", bucket=bucket_id):
        RawRequests(vss).put(bucket_id, "k", [DATA])
    # The router's cache has what it received: only a read past it tells.
    assert value_of(vss, "exists", bucket_id, "k", check_storage=True) is False


async def test_no_readable_copy_with_silent_peer_is_not_absent(own_vss: Callable[..., LocalVSS]) -> None:
    """The listing has every chunk, and then the peer goes away before its data is read."""
    vss = own_vss()
    ((peer,),) = RawRequests(vss).put("b", "k", [DATA]).values()

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.path.endswith("/b/k_0") and not vss.faults():
            vss.set_fault("peer_down", peer=peer)
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        error = (await client.exists("b", "k", check_storage=True)).unwrap_err()
        assert isinstance(error, UnavailableError)


# -- versions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_older_there", [True, False])
async def test_announced_size_beyond_memory_is_no_crash(vss: LocalVSS, bucket_id: str, is_older_there: bool) -> None:
    if is_older_there:
        RawRequests(vss).put(bucket_id, "k", [DATA])
    async with router_of(vss) as router, client_of(vss) as client:
        (await router.announce(chunk_of(bucket_id, "k", OTHER, size=2**62))).unwrap()
        read, chunk = await client.get(bucket_id, "k"), await client.get_chunk(bucket_id, "k", 0, max_retries=5)
        if is_older_there:
            assert (read.unwrap().data, chunk.unwrap()[0].data) == (DATA, DATA)
        else:
            for error in (read.unwrap_err(), chunk.unwrap_err()):
                assert type(error) is GetChunkError
                assert f"{2**62} bytes do not fit into memory" in str(error)


def test_newer_announcement_does_not_hide_older_ball(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300))
    RawRequests(vss).put(bucket_id, "k", [OTHER], announced_only=[0])
    assert got(vss, bucket_id) == DATA
    assert value_of(vss, "exists", bucket_id, "k", check_storage=True) is True


def test_newer_incomplete_version_does_not_hide_complete_one(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300))
    RawRequests(vss).put(bucket_id, "k", cut(OTHER, 300, 300), only=[0, 1])
    assert got(vss, bucket_id) == DATA


@pytest.mark.parametrize("chunks", [cut(DATA, 300, 300), [DATA]], ids=["several chunks", "one chunk"])
def test_ball_hidden_by_newer_announcement_is_listed(
    own_vss: Callable[..., LocalVSS], bucket_id: str, chunks: list[bytes]
) -> None:
    vss = own_vss(peers=2)
    with vss.fault("peer_down", peer="peer-0"):
        RawRequests(vss).put(bucket_id, "k", chunks)
    RawRequests(vss).put(bucket_id, "k", cut(OTHER, 500), only=[0], announced_only=[0])
    RawRequests(vss).put(bucket_id, "incomplete", cut(OTHER, 500), only=[0])
    vss.reset_requests()
    (ball,) = value_of(vss, "list_balls", bucket_id)
    assert (ball.key, ball.checksum, ball.size) == ("k", sha256(DATA), len(DATA))
    assert len(vss.requests("GET", "/chunks$")) == 2
    assert value_of(vss, "list_balls", bucket_id, "other") == []
    assert len(vss.requests("GET", "/chunks$")) == 2  # only the requested keys are looked up
    # A peer that falls silent after the bucket's listing is noticed.
    silent = {"bucket_id": bucket_id, "peers_ids": ["peer-0"], "balls": []}
    with (
        vss.fault("status", path="/chunks$", status=404, body={"detail": "not found"}),
        vss.fault("status", method="GET", path="/metadata$", status=200, body=silent, skip=1),
    ):
        assert isinstance(error_of(vss, "list_balls", bucket_id), UnavailableError)


def test_differing_replicas_newest_complete_version_is_read(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(OTHER, 300, 300))
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300))
    for _ in range(6):  # the router asks another replica every time
        assert got(vss, bucket_id) == DATA


def test_same_bytes_in_two_cuts_are_not_mixed(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300))
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 500))
    for _ in range(4):
        assert got(vss, bucket_id) == DATA


def test_same_bytes_in_two_cuts_of_as_many_chunks_are_not_mixed(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300))
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 400, 400))
    for _ in range(4):
        assert got(vss, bucket_id) == DATA


def test_merge_is_never_asked_for(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300))
    got(vss, bucket_id)
    value_of(vss, "get_to_file", bucket_id, "k", str(tmp_path))
    assert vss.requests(path=f"{bucket_id}/k/merge") == []


def test_one_replica_that_is_wrong_is_passed_over(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA], rf=3)
    for peer in ("peer-0", "peer-1"):
        with vss.fault("flip_bit", bucket=bucket_id, peer=peer):
            for _ in range(4):
                assert got(vss, bucket_id, force=True) == DATA


def test_replica_only_one_peer_has_is_found(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    task, holders = wire.announce(bucket_id, "k", 0, DATA, DATA, 1, rf=3)
    with (
        vss.fault("refuse_data", bucket=bucket_id, peer=holders[0]),
        vss.fault("refuse_data", bucket=bucket_id, peer=holders[1]),
    ):
        wire.send(task, DATA)
    assert got(vss, bucket_id, force=True, max_retries=1) == DATA


def test_wrong_in_every_replica_is_an_integrity_error(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA], rf=2)
    with vss.fault("flip_bit", bucket=bucket_id):
        error = error_of(vss, "get", bucket_id, "k", max_retries=2, force=True)
        assert isinstance(error, IntegrityError)
        assert f"{bucket_id}/k_0" in str(error)
        assert isinstance(
            error_of(vss, "get_to_file", bucket_id, "k", str(tmp_path), max_retries=1, force=True), IntegrityError
        )
        assert value_of(vss, "exists", bucket_id, "k", check_storage=True) is False
    assert list(tmp_path.iterdir()) == []


def test_chunks_that_are_right_and_a_whole_that_is_not(vss: LocalVSS, bucket_id: str) -> None:
    """Its writer named another whole: every chunk is as announced, and the ball is not."""
    wire = RawRequests(vss)
    for index, piece in enumerate(cut(DATA, 300, 300)):
        task, _ = wire.announce(bucket_id, "k", index, piece, OTHER, 3)
        wire.send(task, piece)
    assert isinstance(error_of(vss, "get", bucket_id, "k", max_retries=1), IntegrityError)


# -- the routers' caches -------------------------------------------------------------------------------------------------


def test_stale_cache_of_another_router_is_passed_over(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss(routers=2)
    second = uri_of(vss.port + 1)

    async def read() -> bytes:
        async with AsyncClient(second, "tests") as client:
            return bytes((await client.get("b", "k")).unwrap().data)

    async def ask() -> bool:
        async with AsyncClient(second, "tests") as client:
            there: bool = (await client.exists("b", "k")).unwrap()
            return there

    first = RawRequests(vss)
    first.put("b", "k", [OTHER])
    assert asyncio.run(read()) == OTHER  # the second router has it in its cache now
    first.delete("b", "k")
    assert RawRequests(vss, router=1).data("b", "k_0", force=False) == OTHER
    assert asyncio.run(ask()) is False
    first.put("b", "k", [DATA])
    assert RawRequests(vss, router=1).data("b", "k_0", force=False) == OTHER
    assert asyncio.run(read()) == DATA


def test_cut_short_upload_in_the_cache_is_passed_over(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, "k", [DATA])
    task, _ = wire.announce(bucket_id, "k", 0, DATA, DATA, 1)
    wire.break_off_upload(task, DATA[:400], len(DATA))
    for _ in range(100):
        if wire.data(bucket_id, "k_0", force=False) == DATA[:400]:
            break
    else:
        pytest.fail("the router did not keep what it received")
    assert got(vss, bucket_id) == DATA
    path = value_of(vss, "get_to_file", bucket_id, "k", str(tmp_path))
    assert Path(path).read_bytes() == DATA


def test_force_bypasses_the_cache_from_the_start(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA])
    assert got(vss, bucket_id, force=True) == DATA
    (asked,) = vss.requests("GET", f"{bucket_id}/k_0$")
    assert asked["headers"]["force-get"] == "1"


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("at", [0, 1, 999])
def test_body_that_ends_early_is_read_again(vss: LocalVSS, bucket_id: str, at: int, clean: bool) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA])
    with vss.fault("cut_body", method="GET", path=f"{bucket_id}/k_0$", at=at, clean=clean, count=1) as broken:
        assert got(vss, bucket_id) == DATA
        assert broken.triggered == 1


def test_body_that_always_ends_early_is_an_error_and_no_file(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 400))
    with vss.fault("cut_body", method="GET", path=f"{bucket_id}/k_1$", at=500, clean=True):
        error = error_of(vss, "get_to_file", bucket_id, "k", str(tmp_path), max_retries=2)
        assert isinstance(error, IntegrityError)
        assert "500 bytes instead of 600" in str(error)
    assert list(tmp_path.iterdir()) == []


def test_body_that_does_not_end_is_not_taken(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA])
    with vss.fault(
        "status", method="GET", path=f"{bucket_id}/k_0$", status=200, body="x" * 5000, content_type="text/plain"
    ):
        error = error_of(vss, "get", bucket_id, "k", max_retries=1)
        assert isinstance(error, IntegrityError)


# -- names in tags -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"fullname": "../../etc/passwd"}, "passwd"),
        ({"fullname": "/etc/passwd"}, "passwd"),
        ({"fullname": "..\\..\\boot.ini"}, "boot.ini"),
        ({"fullname": ".."}, "k"),
        ({"fullname": "/"}, "k"),
        ({"fullname": "..", "extension": "../../x"}, "k.x"),
        ({"extension": "csv"}, "k.csv"),
        ({"fullname": "x" * 300}, "k"),
        ({"fullname": "fine.csv", "bucket_relative_path": "../../up/", "full_path": "/etc/fine.csv"}, "fine.csv"),
        ({}, "k"),
    ],
)
def test_path_in_tags_does_not_leave_the_folder(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, tags: dict[str, str], expected: str
) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA], tags=tags)
    folder = tmp_path / "a" / "b" / "out"
    path = Path(value_of(vss, "get_to_file", bucket_id, "k", str(folder)))
    assert path == folder / expected
    assert path.read_bytes() == DATA
    assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == [path]


# -- deleting ------------------------------------------------------------------------------------------------------------


def test_delete_clears_the_placement_too(vss: LocalVSS, bucket_id: str) -> None:
    """A peer lost the ball; deleting it by its id would leave it placed, and unwritable, for ever."""
    wire = RawRequests(vss)
    ((peer,),) = wire.put(bucket_id, "k", [DATA]).values()
    wire.forget_at_peer(int(peer[-1]), bucket_id, "k")
    assert wire.metadata(bucket_id, "k_0")[1]["detail"].startswith("404: No metadata found")
    assert value_of(vss, "delete", "k", bucket_id).ball_id == "k"
    assert wire.metadata(bucket_id, "k_0") == (500, {"detail": "404: No available peers"})
    assert value_of(vss, "exists", bucket_id, "k") is False


def test_delete_clears_placement_of_unlisted_chunks(vss: LocalVSS, bucket_id: str) -> None:
    """A peer lost its chunk: the others tell how many chunks there were."""
    wire = RawRequests(vss)
    stored = wire.put(bucket_id, "k", cut(DATA, 300, 300))
    wire.forget_at_peer(int(stored[1][0][-1]), bucket_id, "k")
    assert {chunk["key"] for chunk in wire.listed(bucket_id, "k")} == {"k_0", "k_2"}
    assert value_of(vss, "delete", "k", bucket_id).n_deletes == 2
    for index in range(3):
        assert wire.metadata(bucket_id, f"k_{index}") == (500, {"detail": "404: No available peers"})


def test_delete_while_a_peer_is_away_is_no_success(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    stored = RawRequests(vss).put("b", "k", [DATA], rf=2)
    with vss.fault("peer_down", peer=stored[0][0]):
        assert isinstance(error_of(vss, "delete", "k", "b"), UnavailableError)
    assert len(RawRequests(vss).listed("b", "k")) == 2  # nothing was deleted, so that nothing is brought back
    assert value_of(vss, "delete", "k", "b").n_deletes == 2
    assert value_of(vss, "exists", "b", "k") is False


async def test_fewer_deletes_than_replicas_listed_is_looked_into(
    own_vss: Callable[..., LocalVSS], bucket_id: str
) -> None:
    """The peer answers the listing, misses the delete and is there again at once: only the number tells."""
    vss = own_vss()
    wire = RawRequests(vss)
    holder = wire.put(bucket_id, "k", [DATA], rf=2)[0][0]
    rounds: list[str] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "DELETE":
            rounds.append(asked.path)
            if len(rounds) == 1:
                with vss.fault("peer_down", peer=holder):
                    return await pass_on(asked)
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        (await client.delete("k", bucket_id)).unwrap()
    assert wire.listed(bucket_id, "k") == []
    assert rounds[1:] == [f"/api/v4/buckets/{bucket_id}/bid/k"]


async def test_delete_missed_by_unlisted_peer_is_no_success(
    own_vss: Callable[..., LocalVSS],
) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    holder = wire.put("b", "k", [DATA], rf=2)[0][0]
    met: list[str] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method != "DELETE" or met:
            return None
        met.append(asked.path)
        with vss.fault("peer_down", peer=holder):
            reply = await pass_on(asked)
        vss.set_fault("hide_from_listing", peer=holder)
        return reply

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        assert isinstance((await client.delete("k", "b")).unwrap_err(), UnavailableError)
        vss.clear_faults()
        assert (await client.delete("k", "b")).unwrap().n_deletes == 1
    assert wire.listed("b", "k") == []


def test_delete_of_what_is_not_there_is_a_success(vss: LocalVSS, bucket_id: str) -> None:
    assert value_of(vss, "delete", "none", bucket_id).n_deletes == 0


async def test_delete_bucket_lists_again_until_nothing_is_left(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, "a", [DATA], rf=2)
    added: list[str] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "DELETE" and not added:
            added.append("late")
            await asyncio.to_thread(wire.put, bucket_id, "late", [DATA])
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        report = (await client.delete_bucket(bucket_id)).unwrap()
        assert (report.deleted, report.failed, report.total) == (2, 0, 2)
        assert report.keys == ["a", "late"]
    assert wire.listed(bucket_id, "late") == []


# -- answers that are none of the protocol's -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirect_is_not_followed(status: int) -> None:
    async def elsewhere(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        return Reply(200, b"{}")

    async with intercepting(elsewhere) as target:

        async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
            return Reply(status, b"", {"Location": f"http://127.0.0.1:{target.port}{asked.path}"})

        async with (
            intercepting(handler) as interceptor,
            AsyncClient(interceptor.uri, "tests", token="secret") as client,
        ):
            for result in (
                await client.get("b", "k"),
                await client.put("b", "k", DATA),
                await client.delete("k", "b"),
            ):
                error = result.unwrap_err()
                assert isinstance(error, UpstreamProtocolError)
                assert error.permanent
                assert "redirect" in str(error)
            assert len(interceptor.asked) == 3
        assert target.asked == []


async def test_compressed_answers_are_not_asked_for_and_not_taken(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, "k", [DATA])
    squeezed = gzip.compress(DATA)
    answered: list[str] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        assert asked.headers["accept-encoding"] == "identity"
        if asked.path.endswith("/k_0") and "/metadata/" not in asked.path and not answered:
            answered.append(asked.path)
            return Reply(200, squeezed, {"Content-Encoding": "gzip"})
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        assert bytes((await client.get(bucket_id, "k")).unwrap().data) == DATA
    assert answered


async def test_compressed_listing_is_an_error() -> None:
    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        return Reply(
            200, gzip.compress(b'{"peers_ids": [], "bucket_id": "b", "balls": []}'), {"Content-Encoding": "gzip"}
        )

    async with intercepting(handler) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        error = (await client.list_balls("b")).unwrap_err()
        assert isinstance(error, UpstreamProtocolError)
        assert "compressed" in str(error)


ODD_ANSWERS = [
    b"<html><body>It works!</body></html>",
    b"",
    b"null",
    b"[]",
    b"{}",
    b'{"bucket_id": "b", "peers_ids": ["p"]}',
    b'{"bucket_id": "b", "peers_ids": null, "balls": []}',
    b'{"bucket_id": "b", "peers_ids": [], "balls": [{"key": "k_0"}]}',
    b'{"bucket_id": "b", "peers_ids": [], "balls": [{"key": "k_0", "size": -1, "checksum": "", "ball_id": "k", "bucket_id": "b"}]}',
    b'{"bucket_id": "b", "peers_ids": [], "balls"',
    b"\xff\xfe",
]


@pytest.mark.parametrize("body", ODD_ANSWERS)
async def test_malformed_answer_is_error_not_empty_bucket(body: bytes) -> None:
    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        return Reply(200, b'{"available": [{"peer_id": "p"}]}' if asked.path.endswith("/peers") else body)

    async with intercepting(handler) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        for result in (
            await client.list_balls("b"),
            await client.exists("b", "k"),
            await client.put("b", "k", DATA),
        ):
            assert isinstance(result.unwrap_err(), UpstreamProtocolError)
        assert interceptor.seen("POST") == []


def test_data_answer_without_peer_ids_is_no_acknowledgement(vss: LocalVSS, bucket_id: str) -> None:
    with vss.fault("status", method="POST", path="/data/", bucket=bucket_id, status=200, body={"size": 1000}):
        error = error_of(vss, "put", bucket_id, "k", DATA, max_tries=2)
    assert isinstance(error, UpstreamProtocolError)
    assert "peer_ids" in str(error)


async def test_answer_that_is_no_http_is_an_error() -> None:
    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        return Reply(raw=b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    async with intercepting(handler) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        assert isinstance((await client.get("b", "k")).unwrap_err(), UpstreamProtocolError)


# -- newer clients -------------------------------------------------------------------------------------------------------


def test_filtered_ball_is_refused_without_stored_bytes(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300), tags={"mictlanx_filters": '["zstd"]'})
    for error in (
        error_of(vss, "get", bucket_id, "k"),
        error_of(vss, "get_to_file", bucket_id, "k", str(tmp_path)),
        error_of(vss, "exists", bucket_id, "k", check_storage=True),
    ):
        assert isinstance(error, UpstreamProtocolError)
        assert error.permanent
        assert "zstd" in str(error)
    assert list(tmp_path.iterdir()) == []
    assert vss.requests("GET", f"{bucket_id}/k_") == []


def test_put_of_same_bytes_over_filtered_ball_is_conflict(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA], tags={"mictlanx_filters": '["zstd"]'})
    assert error_of(vss, "put", bucket_id, "k", DATA).permanent


def test_checksum_of_the_listing_itself_is_not_used(vss: LocalVSS, bucket_id: str) -> None:
    """It is that of the oldest replica, whatever was written since."""
    RawRequests(vss).put(bucket_id, "k", [OTHER])
    RawRequests(vss).put(bucket_id, "k", [DATA])
    assert value_of(vss, "get_metadata", bucket_id, "k").checksum == sha256(DATA)
