"""Every request of ``AsyncPeer`` against the local VSS's peer ports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.client import (
    AsyncPeer,
    BallConflictError,
    ConnectFailedError,
    NetworkError,
    NotFoundError,
    PeerInfo,
    UnknownError,
    UpdateMetadataRequest,
    UpstreamProtocolError,
    ValidationError,
)
from tests.support.router_requests import announce, chunk_of, error_of, peer_of, put, read, router_of
from tests.support.sample_bytes import sha256
from tests.support.vss import LocalVSS

DATA = b"some bytes of a chunk" * 10


async def test_chunk_goes_out_and_comes_back(vss: LocalVSS, bucket_id: str) -> None:
    async with peer_of(vss) as peer:
        announced = (await peer.announce(chunk_of(bucket_id, "ball", DATA), task_id="task-of-mine")).unwrap()
        assert (announced.key, announced.task_id, announced.node_id) == ("ball_0", "task-of-mine", "peer-0")
        sent = (await peer.put_chunked(announced.task_id, [DATA[:7], DATA[7:]])).unwrap()
        assert (sent.node_id, sent.bucket_id, sent.key, sent.size) == ("peer-0", bucket_id, "ball_0", len(DATA))
        known = (await peer.get_metadata(bucket_id, "ball_0")).unwrap()
        assert (known.peer_id, known.metadata.size, known.metadata.checksum) == ("peer-0", len(DATA), sha256(DATA))
        assert await read(peer, bucket_id, "ball_0") == DATA


async def test_announcement_is_in_the_peers_dialect(vss: LocalVSS, bucket_id: str) -> None:
    async with peer_of(vss) as peer:
        first = await announce(peer, chunk_of(bucket_id, "ball", DATA, is_disabled=True, replication_factor=2))
        second = await announce(peer, chunk_of(bucket_id, "ball", DATA))
        assert first != second
        seen = vss.requests("POST", f"{bucket_id}/metadata$", server="peer-0")
        assert [asked["headers"]["update"] for asked in seen] == ["0", "0"]
        assert [asked["headers"]["task-id"] for asked in seen] == [first, second]


async def test_is_disable_is_taken(vss: LocalVSS, bucket_id: str) -> None:
    async with peer_of(vss) as peer:
        await announce(peer, chunk_of(bucket_id, "ball", DATA, is_disabled=True))
        assert (await peer.get_metadata(bucket_id, "ball_0")).unwrap().metadata.is_disabled


async def test_other_bytes_are_announced_with_update_only(vss: LocalVSS, bucket_id: str) -> None:
    async with peer_of(vss) as peer:
        await put(peer, bucket_id, "ball", DATA)
        error = error_of(await peer.announce(chunk_of(bucket_id, "ball", b"other")))
        assert type(error) is BallConflictError
        assert "update=True" in str(error)
        assert await read(peer, bucket_id, "ball_0") == DATA
        task_id = await announce(peer, chunk_of(bucket_id, "ball", b"other"), update=True)
        assert (await peer.put_data(task_id, "ball_0", b"other", "application/octet-stream")).unwrap() is True
        assert await read(peer, bucket_id, "ball_0") == b"other"


async def test_what_was_not_announced_is_refused(vss: LocalVSS, bucket_id: str) -> None:
    async with peer_of(vss) as peer:
        task_id = await announce(peer, chunk_of(bucket_id, "ball", DATA))
        assert type(error_of(await peer.put_chunked(task_id, DATA[:-1]))) is ValidationError
        assert type(error_of(await peer.put_chunked(task_id, DATA))) is UnknownError  # it was spent
        assert type(error_of(await peer.get_streaming(bucket_id, "ball_0"))) is NotFoundError


async def test_missing_chunk(vss: LocalVSS, bucket_id: str) -> None:
    async with peer_of(vss) as peer:
        assert type(error_of(await peer.get_metadata(bucket_id, "none_0"))) is NotFoundError
        assert type(error_of(await peer.get_streaming(bucket_id, "none_0"))) is NotFoundError
        assert type(error_of(await peer.get_size(bucket_id, "none_0"))) is NotFoundError
        assert type(error_of(await peer.disable(bucket_id, "none_0"))) is NotFoundError
        change = UpdateMetadataRequest(producer_id="me")
        assert type(error_of(await peer.update_metadata(bucket_id, "none_0", change))) is NotFoundError
        assert (await peer.get_by_ball_id(bucket_id, "none")).unwrap().balls == []
        assert (await peer.get_bucket_metadata(bucket_id)).unwrap().balls == []
        assert (await peer.delete(bucket_id, "none_0")).unwrap().n_deletes == 0
        assert (await peer.delete_by_ball_id("none", bucket_id)).unwrap().n_deletes == 0


async def test_peer_lists_its_own_only(vss: LocalVSS, bucket_id: str) -> None:
    async with peer_of(vss) as peer, peer_of(vss, 1) as other:
        for index, data in enumerate((b"first", b"second")):
            await put(peer, bucket_id, "ball", data, index)
        ball = (await peer.get_by_ball_id(bucket_id, "ball")).unwrap()
        assert (ball.bucket_id, ball.ball_id, ball.size) == (bucket_id, "ball", 11)
        assert {chunk.key: chunk.size for chunk in ball.balls} == {"ball_0": 5, "ball_1": 6}
        assert (await peer.get_chunks_metadata("ball", bucket_id)).unwrap().chunks == ball.balls
        bucket = (await peer.get_bucket_metadata(bucket_id)).unwrap()
        assert (bucket.peer_id, {chunk.key for chunk in bucket.balls}) == ("peer-0", {"ball_0", "ball_1"})
        assert (await other.get_by_ball_id(bucket_id, "ball")).unwrap().balls == []
        assert (await other.get_bucket_metadata(bucket_id)).unwrap().balls == []


async def test_deletes_are_counted_in_a_header(vss: LocalVSS, bucket_id: str) -> None:
    async with peer_of(vss) as peer:
        for index in (0, 1, 2):
            await put(peer, bucket_id, "ball", DATA, index)
        deleted = (await peer.delete(bucket_id, "ball_0")).unwrap()
        assert (deleted.n_deletes, deleted.key) == (1, "ball_0")
        rest = (await peer.delete_by_ball_id("ball", bucket_id)).unwrap()
        assert (rest.n_deletes, rest.ball_id) == (2, "ball")
        assert (await peer.get_by_ball_id(bucket_id, "ball")).unwrap().balls == []


@pytest.mark.parametrize("headers", [{}, {"n-deletes": "some"}, {"n-deletes": "-1"}], ids=repr)
async def test_delete_without_a_number_is_no_answer(vss: LocalVSS, bucket_id: str, headers: dict[str, str]) -> None:
    async with peer_of(vss) as peer:
        with vss.fault("status", peer="peer-0", bucket=bucket_id, method="DELETE", status=200, headers=headers):
            assert type(error_of(await peer.delete(bucket_id, "ball_0"))) is UpstreamProtocolError


async def test_disable_update_and_size(vss: LocalVSS, bucket_id: str) -> None:
    async with peer_of(vss) as peer:
        key = await put(peer, bucket_id, "ball", DATA)
        assert (await peer.disable(bucket_id, key)).unwrap() is True
        change = UpdateMetadataRequest(producer_id="somebody")
        assert (await peer.update_metadata(bucket_id, key, change)).unwrap() is True
        known = (await peer.get_metadata(bucket_id, key)).unwrap().metadata
        assert (known.is_disabled, known.producer_id) == (True, "somebody")
        size = (await peer.get_size(bucket_id, key)).unwrap()
        assert (size.bucket_id, size.key, size.peer_id, size.size) == (bucket_id, key, "peer-0", len(DATA))


async def test_stats_ufs_and_health(own_vss: Callable[..., LocalVSS], bucket_id: str) -> None:
    vss = own_vss(peers=2)
    async with peer_of(vss, 1) as peer:
        assert (await peer.get_balls_len()).unwrap() == 0
        for index in (0, 1):
            await put(peer, bucket_id, "ball", DATA, index)
        stats = (await peer.get_stats()).unwrap()
        assert (stats.peer_id, stats.used_disk, stats.peers) == ("peer-1", 2 * len(DATA), ["peer-0"])
        assert [ball.key for ball in stats.balls] == ["ball_0", "ball_1"]
        assert (await peer.get_balls_len()).unwrap() == 2
        ufs = (await peer.get_ufs()).unwrap()
        assert (ufs.used_disk, ufs.total_disk, ufs.disk_uf) == (
            2 * len(DATA),
            stats.total_disk,
            2 * len(DATA) / stats.total_disk,
        )
        assert (await peer.health()).unwrap() is True
        with vss.fault("peer_down", peer="peer-1"):
            assert isinstance(error_of(await peer.health()), NetworkError)
    vss.stop()
    async with peer_of(vss, 1) as peer:
        assert type(error_of(await peer.health())) is ConnectFailedError


async def test_stats_may_be_the_disk_usage_only(vss: LocalVSS) -> None:
    """The protocol page gives ``/stats`` the fields of ``/stats/ufs``."""
    usage = {"total_disk": 4, "used_disk": 1, "disk_uf": 0.25}
    async with peer_of(vss) as peer:
        with vss.fault("status", status=200, body=usage, peer="peer-0", path="/stats$"):
            stats = (await peer.get_stats()).unwrap()
    assert (stats.total_disk, stats.used_disk, stats.disk_uf) == (4, 1, 0.25)
    assert (stats.peer_id, stats.available_disk, stats.balls, stats.peers) == ("", None, [], [])


async def test_peers_of_a_peer(vss: LocalVSS) -> None:
    """The local VSS's peers have no list of peers; one that answers as a router does is understood."""
    info: dict[str, Any] = {"peer_id": "a", "ip_addr": "10.0.0.1", "port": 1, "protocol": "http", "api_version": 4}
    async with peer_of(vss) as peer:
        assert type(error_of(await peer.get_peers())) is NotFoundError
        assert type(error_of(await peer.add_peers([PeerInfo(**info)]))) is NotFoundError
        answer = {"available": [info], "unavailable": []}
        with vss.fault("status", peer="peer-0", path="/api/v4/x?peers$", status=200, body=answer):
            assert (await peer.get_peers()).unwrap().available == [PeerInfo(**info)]
            assert (await peer.add_peers([PeerInfo(**info)])).unwrap() is True


async def test_peers_that_a_router_names_can_be_asked(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        announced = (await router.announce(chunk_of(bucket_id, "ball", DATA))).unwrap()
        (holder,) = (await router.put_chunked(announced.tasks_ids[0], DATA)).unwrap().peer_ids
        for info in (await router.get_peers()).unwrap().available:
            async with AsyncPeer.at(info) as peer:
                found = await peer.get_streaming(bucket_id, "ball_0")
                assert found.is_ok == (info.peer_id == holder)
                if found.is_ok:
                    await found.unwrap().aclose()
