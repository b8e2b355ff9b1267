"""Every request of ``AsyncRouter`` against the local VSS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_mictlanx.client import (
    AsyncRouter,
    GetChunkError,
    IntegrityError,
    MaxAvailabilityReachedError,
    NotFoundError,
    PeerInfo,
    PutChunksError,
    UnavailableError,
    UpdateMetadataRequest,
    ValidationError,
)
from airflow_provider_mictlanx.client.models import Metadata
from airflow_provider_mictlanx.client.protocol import listing_parser
from airflow_provider_mictlanx.client.transport.backend import BackendFactory
from airflow_provider_mictlanx.client.transport.connections import Transport
from tests.support.engines import each_engine
from tests.support.hostile_server import Connection, serving
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.router_requests import announce, chunk_of, error_of, peer_of, put, read, router_of
from tests.support.sample_bytes import sha256
from tests.support.vss import LocalVSS

DATA = b"some bytes of a chunk" * 10


async def test_chunk_goes_out_and_comes_back(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        announced = (await router.announce(chunk_of(bucket_id, "ball", DATA, replication_factor=2))).unwrap()
        assert len(announced.replicas) == 2
        sent = (await router.put_chunked(announced.tasks_ids[0], DATA)).unwrap()
        assert sorted(sent.peer_ids) == sorted(announced.replicas)
        assert (sent.bucket_id, sent.key, sent.size) == (bucket_id, "ball_0", len(DATA))
        known = (await router.get_metadata(bucket_id, "ball_0")).unwrap()
        assert known.peer_id in announced.replicas
        assert (known.metadata.size, known.metadata.checksum) == (len(DATA), sha256(DATA))
        assert await read(router, bucket_id, "ball_0") == DATA


async def _async_pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _pieces(*pieces: bytes) -> Iterator[bytes]:
    yield from pieces


@pytest.mark.parametrize(
    "body",
    [
        lambda: b"abcdef",
        lambda: bytearray(b"abcdef"),
        lambda: memoryview(b"abcdef"),
        lambda: [b"abc", b"", b"def"],
        lambda: _pieces(b"a", b"bcdef"),
        lambda: _async_pieces(b"abcde", b"f"),
        lambda: (memoryview(b"abc"), bytearray(b"def")),
    ],
    ids=["bytes", "bytearray", "memoryview", "list", "generator", "async generator", "tuple of views"],
)
async def test_data_is_sent_in_any_form(vss: LocalVSS, bucket_id: str, body: Callable[[], Any]) -> None:
    async with router_of(vss) as router:
        task_id = await announce(router, chunk_of(bucket_id, "ball", b"abcdef"))
        assert (await router.put_chunked(task_id, body())).unwrap().peer_ids
        assert await read(router, bucket_id, "ball_0", headers={"Force-Get": "1"}) == b"abcdef"


@pytest.mark.parametrize("body", ["text", ["text"], [5]], ids=repr)
async def test_what_holds_no_bytes_is_refused(vss: LocalVSS, bucket_id: str, body: Any) -> None:
    async with router_of(vss) as router:
        task_id = await announce(router, chunk_of(bucket_id, "ball", b"text"))
        assert "bytes" in str(error_of(await router.put_chunked(task_id, body)))
        assert (await router.get_streaming(bucket_id, "ball_0", headers={"Force-Get": "1"})).is_err


async def test_an_iterators_own_error_is_not_hidden(vss: LocalVSS, bucket_id: str) -> None:
    def broken() -> Iterator[bytes]:
        yield b"abc"
        raise RuntimeError("the source broke")

    async with router_of(vss) as router:
        task_id = await announce(router, chunk_of(bucket_id, "ball", b"abcdef"))
        with pytest.raises(RuntimeError, match="the source broke"):
            await router.put_chunked(task_id, broken())


async def test_put_data_is_multipart(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        task_id = await announce(router, chunk_of(bucket_id, "ball", DATA))
        assert (await router.put_data(task_id, "ball_0", DATA, "application/octet-stream")).unwrap() is True
        (sent,) = vss.requests("POST", f"/buckets/data/{task_id}$")
        assert sent["status"] == 201
        assert sent["headers"]["content-type"].startswith("multipart/form-data")
        assert await read(router, bucket_id, "ball_0", headers={"Force-Get": "1"}) == DATA


async def test_peers_that_refuse_are_seen_by_put_chunked_only(own_vss: Callable[..., LocalVSS], bucket_id: str) -> None:
    vss = own_vss()
    async with router_of(vss) as router:
        with vss.fault("refuse_data"):
            task_id = await announce(router, chunk_of(bucket_id, "ball", DATA))
            assert (await router.put_chunked(task_id, DATA)).unwrap().peer_ids == []
            task_id = await announce(router, chunk_of(bucket_id, "other", DATA))
            assert (await router.put_data(task_id, "ball_0", DATA, "application/octet-stream")).unwrap() is True


async def test_task_is_spent_once(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        task_id = await announce(router, chunk_of(bucket_id, "ball", DATA))
        assert (await router.put_chunked(task_id, DATA)).is_ok
        error = error_of(await router.put_chunked(task_id, DATA))
        assert type(error) is PutChunksError
        assert f"Task({task_id}) not found" in str(error)


async def test_code_666_names_the_holders(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        announcement = chunk_of(bucket_id, "ball", DATA, replication_factor=3)
        await announce(router, announcement)
        error = error_of(await router.announce(announcement))
        assert type(error) is MaxAvailabilityReachedError
        assert sorted(error.replicas) == ["peer-0", "peer-1", "peer-2"]


async def test_other_404s_of_an_announcement_may_pass(own_vss: Callable[..., LocalVSS], bucket_id: str) -> None:
    vss = own_vss()
    async with router_of(vss) as router:
        with vss.fault("peer_down"):
            error = error_of(await router.announce(chunk_of(bucket_id, "ball", DATA)))
        assert type(error) is UnavailableError
        assert error.transient


@pytest.mark.parametrize(
    "names", [{"bucket_id": "a.b"}, {"key": "a b_0"}, {"ball_id": "a__b"}, {"bucket_id": ""}, {"key": "ä_0"}], ids=repr
)
async def test_names_that_could_not_be_read_back_are_not_announced(vss: LocalVSS, names: dict[str, str]) -> None:
    async with router_of(vss) as router:
        vss.reset_requests()
        error = error_of(await router.announce(chunk_of("bucket", "ball", DATA, **names)))
        assert type(error) is ValidationError
        assert repr(*names.values()) in str(error)
        assert not vss.requests("POST", "/metadata$")


async def test_missing_chunk(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        assert type(error_of(await router.get_metadata(bucket_id, "none_0"))) is NotFoundError
        assert type(error_of(await router.get_chunks_metadata("none", bucket_id))) is NotFoundError
        assert type(error_of(await router.get_streaming(bucket_id, "none_0"))) is GetChunkError
        assert type(error_of(await router.delete(bucket_id, "none_0"))) is NotFoundError
        assert type(error_of(await router.disable(bucket_id, "none_0"))) is NotFoundError
        assert (await router.get_bucket_metadata(bucket_id)).unwrap().balls == []
        assert (await router.delete_by_ball_id("none", bucket_id)).unwrap().n_deletes == 0


async def test_metadata_of_a_peer_that_is_away_is_no_no(own_vss: Callable[..., LocalVSS], bucket_id: str) -> None:
    vss = own_vss(peers=1)
    async with router_of(vss) as router:
        key = await put(router, bucket_id, "ball", DATA)
        with vss.fault("peer_down"):
            assert type(error_of(await router.get_metadata(bucket_id, key))) is UnavailableError
            assert type(error_of(await router.get_streaming(bucket_id, key, headers={"Force-Get": "1"}))) is (
                GetChunkError
            )


async def test_listings(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        for index, data in enumerate((b"first", b"second")):
            await put(router, bucket_id, "ball", data, index, tags={"index": str(index), "num_chunks": "2"})
        ball = (await router.get_chunks_metadata("ball", bucket_id)).unwrap()
        assert {chunk.index: chunk.size for chunk in ball.chunks} == {0: 5, 1: 6}
        assert (ball.bucket_id, ball.ball_id, ball.size_bytes) == (bucket_id, "ball", 11)
        bucket = (await router.get_bucket_metadata(bucket_id)).unwrap()
        assert {chunk.key for chunk in bucket.balls} == {"ball_0", "ball_1"}
        assert bucket.peer_ids == bucket.peers_ids == ["peer-0", "peer-1", "peer-2"]


async def test_loop_runs_between_pieces_of_a_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large bucket does not stall a triggerer: other tasks run while its rows are parsed."""
    row = {"size": 1, "checksum": "c", "ball_id": "k", "bucket_id": "b", "tags": {"full_path": "x" * 400}}
    rows = [{**row, "key": f"k_{index}"} for index in range(20_000)]
    body = json.dumps({"bucket_id": "b", "peers_ids": ["p"], "balls": rows}).encode()
    decoded: list[int] = []
    beats = 0

    def decode(rows: bytes, decode_rows: Any = listing_parser._decode_rows) -> list[Metadata]:
        decoded.append(len(rows))
        return decode_rows(rows)

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += bool(decoded)

    async def script(connection: Connection) -> None:
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    monkeypatch.setattr(listing_parser, "_decode_rows", decode)
    async with serving(script) as server, AsyncRouter("r", "127.0.0.1", urlsplit(server.url).port or 0) as router:
        beating = asyncio.create_task(beat())
        listing = (await router.get_bucket_metadata("b")).unwrap()
        beating.cancel()
    assert [chunk.key for chunk in listing.balls] == [row["key"] for row in rows]
    assert beats > 10
    assert max(decoded) < len(body) / 20
    assert sum(decoded) > len(body) * 0.95


async def test_deletes_count_replicas(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        for index in (0, 1, 2):
            await put(router, bucket_id, "ball", DATA, index, replication_factor=2)
        deleted = (await router.delete(bucket_id, "ball_0")).unwrap()
        assert (deleted.n_deletes, deleted.key) == (2, "ball_0")
        vss.reset_requests()
        rest = (await router.delete_by_ball_id("ball", bucket_id, force=False)).unwrap()
        assert (rest.n_deletes, rest.ball_id) == (4, "ball")
        assert vss.requests("DELETE")[0]["headers"]["force"] == "0"


async def test_disable_and_update(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        key = await put(router, bucket_id, "ball", DATA, replication_factor=3, tags={"index": "0", "old": "1"})
        assert (await router.disable(bucket_id, key)).unwrap() is True
        assert (await router.get_metadata(bucket_id, key)).unwrap().metadata.is_disabled
        change = UpdateMetadataRequest(tags={"index": "0", "new": "2"}, content_type="text/plain")
        failed = error_of(await router.update_metadata(bucket_id, key, change))
        assert "Internal Server Error" in str(failed)  # as routers of version 0.1.0a5 answer
        with vss.fault("status", path=f"/u/buckets/{bucket_id}/{key}$", method="POST", status=200, body={}):
            assert (await router.update_metadata(bucket_id, key, change)).unwrap() is True
        nothing = error_of(await router.update_metadata(bucket_id, key, UpdateMetadataRequest()))
        assert type(nothing) is ValidationError


async def test_stats_and_peers(own_vss: Callable[..., LocalVSS], bucket_id: str) -> None:
    vss = own_vss(peers=2)
    async with router_of(vss) as router:
        await put(router, bucket_id, "ball", DATA, replication_factor=2)
        stats = (await router.get_stats()).unwrap()
        assert [(peer_id, peer.peer_id) for peer_id, peer in stats.items()] == [
            ("peer-0", "peer-0"),
            ("peer-1", "peer-1"),
        ]
        for peer in stats.values():
            assert peer.used_disk == len(DATA)
            assert 0 < peer.available_disk < peer.total_disk
            assert 0 < peer.disk_uf < 1
            assert [(ball.key, ball.size, ball.checksum) for ball in peer.balls] == [
                ("ball_0", len(DATA), sha256(DATA))
            ]
        with vss.fault("peer_down", peer="peer-1"):
            peers = (await router.get_peers()).unwrap()
            assert [peer.peer_id for peer in peers.available] == ["peer-0"]
            assert [(peer.peer_id, peer.port) for peer in peers.unavailable] == [("peer-1", vss.peer_port(1))]
            assert list((await router.get_stats()).unwrap()) == ["peer-0"]
        await put(router, bucket_id, "other", DATA, replication_factor=2)
        for peer in (await router.get_stats(start=1, end=2)).unwrap().values():
            assert [ball.key for ball in peer.balls] == ["other_0"]
        new = PeerInfo(peer_id="peer-new", ip_addr="127.0.0.1", port=0)
        assert (await router.add_peers([new])).unwrap() is True
        assert "peer-new" in (await router.get_peers()).unwrap().peer_ids
        (sent,) = vss.requests("POST", "/xpeers$")
        assert sent["status"] == 204


async def test_add_peers_without_peers_is_an_error(vss: LocalVSS) -> None:
    async with router_of(vss) as router:
        assert type(error_of(await router.add_peers([]))) is ValidationError


async def test_a_peer_that_is_refused_is_an_error(vss: LocalVSS) -> None:
    async with router_of(vss) as router:
        error = error_of(await router.add_peers([PeerInfo(peer_id="no id", port=0)]))
        assert type(error) is ValidationError
        assert "no id" in str(error)


async def test_stats_may_lack_the_chunks(vss: LocalVSS) -> None:
    one = {"peer_id": "a", "used_disk": 1, "total_disk": 4, "available_disk": 3, "disk_uf": 0.25}
    async with router_of(vss) as router:
        with vss.fault("status", status=200, body={"a": one}, path="/peers/stats$"):
            stats = (await router.get_stats()).unwrap()["a"]
        assert (stats.peer_id, stats.disk_uf, stats.balls) == ("a", 0.25, [])


@pytest.mark.parametrize(
    "date",
    [
        "soon",
        "Mon, 30 Nov 2026 07:00:00 +99999999999999",
        "Mon, 30 Nov 99999999999999999999 07:00:00 GMT",
    ],
)
async def test_listing_with_an_invalid_date_has_no_time(date: str) -> None:
    body = json.dumps({"bucket_id": "b", "peers_ids": ["peer-0"], "balls": []}).encode()

    async def handler(asked: Asked, pass_on: object) -> Reply:
        return Reply(200, body, {"Date": date})

    async with intercepting(handler) as interceptor, AsyncRouter("r", "127.0.0.1", interceptor.port) as router:
        assert (await router.get_bucket_metadata("b")).unwrap().answered_at is None


async def test_read_data_is_bounded_and_asks_a_certain_peer(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        announced = (await router.announce(chunk_of(bucket_id, "ball", DATA))).unwrap()
        (holder,) = (await router.put_chunked(announced.tasks_ids[0], DATA)).unwrap().peer_ids
        pieces: list[bytes] = []

        async def keep(piece: bytes) -> None:
            pieces.append(piece)

        read_by = router.read_data
        assert (await read_by(bucket_id, "ball_0", keep, max_size=len(DATA), force=True, peer_id=holder)).unwrap() == (
            len(DATA)
        )
        assert b"".join(pieces) == DATA
        other = "peer-0" if holder != "peer-0" else "peer-1"
        assert type(error_of(await read_by(bucket_id, "ball_0", keep, max_size=len(DATA), peer_id=other))) is (
            GetChunkError
        )
        too_long = error_of(await read_by(bucket_id, "ball_0", keep, max_size=len(DATA) - 1))
        assert type(too_long) is IntegrityError


@each_engine
async def test_own_headers_replace_the_callers_in_any_case(
    vss: LocalVSS, bucket_id: str, engine: BackendFactory
) -> None:
    async def ignore(piece: bytes) -> None:
        pass

    headers = {"force-get": "0", "force": "0", "content-type": "text/plain"}
    async with (
        aclosing(Transport(backend_factory=engine)) as transport,
        AsyncRouter("router-0", "127.0.0.1", vss.port, transport=transport) as router,
    ):
        task_id = (await router.announce(chunk_of(bucket_id, "cut", DATA), headers=headers)).unwrap().tasks_ids[0]
        assert (await router.put_chunked(task_id, DATA[:-1], headers=headers)).unwrap().peer_ids == []
        # Only the router's cache returns what no peer has accepted.
        cached = await router.read_data(bucket_id, "cut_0", ignore, headers=headers, max_size=len(DATA), force=True)
        assert type(error_of(cached)) is GetChunkError
        await put(router, bucket_id, "ball", DATA, replication_factor=3)
        named = await router.read_data(
            bucket_id, "ball_0", ignore, headers={"peer-id": "nobody"}, max_size=len(DATA), peer_id="peer-1"
        )
        assert named.unwrap() == len(DATA)
        assert (await router.delete(bucket_id, "ball_0", headers=headers)).is_ok
        assert (await router.delete_by_ball_id("ball", bucket_id, headers=headers)).is_ok
        sent = [asked["headers"] for asked in vss.requests() if bucket_id in asked["path"]]
        assert [seen.get("force") for seen in sent][-2:] == ["1", "1"]
        assert sent[0]["content-type"] == "application/json"


@pytest.mark.parametrize("headers", [None, {"Accept": 1}, {1: "a"}], ids=str)
async def test_invalid_headers_are_an_error_of_every_request(vss: LocalVSS, tmp_path: Path, headers: Any) -> None:
    async with router_of(vss) as router, peer_of(vss) as peer:
        for target in (router, peer):
            for result in (
                await target.announce(chunk_of("bucket", "ball", DATA), headers=headers),
                await target.put_chunked("task", DATA, headers=headers),
                await target.get_streaming("bucket", "ball_0", headers=headers),
                await target.delete("bucket", "ball_0", headers=headers),
                await target.delete_by_ball_id("ball", "bucket", headers=headers),
                await target.disable("bucket", "ball_0", headers=headers),
                await target.get_by_checksum_to_file("0" * 64, sink_folder_path=tmp_path, headers=headers),
            ):
                assert type(error_of(result)) is ValidationError


@pytest.mark.parametrize("flag", ["False", None], ids=str)
async def test_flag_that_is_no_bool_is_an_error(vss: LocalVSS, flag: Any) -> None:
    async with router_of(vss) as router, peer_of(vss) as peer:
        for result in (
            await router.delete("bucket", "ball_0", force=flag),
            await router.delete_by_ball_id("ball", "bucket", force=flag),
            await peer.announce(chunk_of("bucket", "ball", DATA), update=flag),
        ):
            assert f"must be True or False, got {flag!r}" in str(error_of(result))


async def test_behind_a_proxy_with_a_path(own_vss: Callable[..., LocalVSS], bucket_id: str) -> None:
    vss = own_vss(options=("--path-prefix", "/v0/mictlanx"))
    async with AsyncRouter("router-0", "127.0.0.1/v0/mictlanx/", vss.port) as router:
        assert router.base_url() == f"http://127.0.0.1:{vss.port}/v0/mictlanx"
        await put(router, bucket_id, "ball", DATA)
        assert await read(router, bucket_id, "ball_0") == DATA


async def test_ids_are_quoted(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        assert type(error_of(await router.get_metadata(bucket_id, "a?b#c d%2F"))) is NotFoundError
        (asked,) = vss.requests("GET", f"{bucket_id}/metadata/")
        assert (asked["path"].rpartition("/")[2], asked["query"]) == ("a?b#c d%2F", "")
        for wrong in ("", ".", "..", None, 5, "\ud800"):
            for error in (
                error_of(await router.get_metadata(bucket_id, wrong)),  # type: ignore[arg-type]
                error_of(await router.delete(bucket_id, wrong)),  # type: ignore[arg-type]
                error_of(await router.delete_by_ball_id(wrong, "ball")),  # type: ignore[arg-type]
                error_of(await router.put_chunked(wrong, b"")),  # type: ignore[arg-type]
            ):
                assert type(error) is ValidationError
