"""Balls without the tags ``num_chunks`` and ``full_checksum``: only a listing by every peer shows how long they are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import AsyncClient, MictlanXError, NotFoundError, UnavailableError
from tests.support.clients import checked_client
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import cut, pattern, sha256
from tests.support.vss import LocalVSS

DATA = pattern(1000)

Call = Callable[[AsyncClient, Path], Any]

READS: dict[str, Call] = {
    "get": lambda client, folder: client.get("b", "k", max_retries=2),
    "get_to_file": lambda client, folder: client.get_to_file("b", "k", folder, max_retries=2),
    "get_metadata": lambda client, folder: client.get_metadata("b", "k"),
    "check_storage": lambda client, folder: client.get_metadata("b", "k", check_storage=True),
    "exists": lambda client, folder: client.exists("b", "k"),
    "copy": lambda client, folder: client.copy("b", "k", "copies", max_tries=2),
}


async def chunks_of(client: AsyncClient, order: bool) -> list[bytes]:
    return [bytes(data) async for _, data in client.get_chunks("b", "k", max_retries=2, order=order)]


@pytest.mark.parametrize("silent", range(3))
@pytest.mark.parametrize("tags", [{}, {"full_checksum": sha256(DATA)}], ids=["no_tags", "full_checksum"])
async def test_ball_is_not_read_short(
    own_vss: Callable[..., LocalVSS], tmp_path: Path, silent: int, tags: dict[str, str]
) -> None:
    """One chunk is on each peer, so whichever peer is silent, a chunk is missing."""
    vss = own_vss()
    stored = RawRequests(vss).put("b", "k", cut(DATA, 400, 300), tags=tags, standard_tags=False)
    assert {peer for peers in stored.values() for peer in peers} == {"peer-0", "peer-1", "peer-2"}
    async with checked_client(vss) as client:
        with vss.fault("peer_silent", peer=f"peer-{silent}"):
            for read in READS.values():
                error = (await read(client, tmp_path)).unwrap_err()
                assert type(error) is UnavailableError
                assert f"peer-{silent}" in str(error)
            for order in (True, False):
                with pytest.raises(UnavailableError):
                    await chunks_of(client, order)
        assert list(tmp_path.iterdir()) == []
        assert (await client.get("b", "k")).unwrap().data == DATA


@pytest.mark.parametrize("tags", [{}, {"full_checksum": sha256(DATA)}], ids=["no_tags", "full_checksum"])
async def test_listing_that_lacks_a_peer_once_is_not_believed(vss: LocalVSS, bucket_id: str, tags: Any) -> None:
    """A peer is silent while the ball is listed, and answers the next question."""
    wire = RawRequests(vss)
    wire.put(bucket_id, "k", cut(DATA, 400, 300), tags=tags, standard_tags=False)
    rows = [row for row in wire.listed(bucket_id, "k") if row["key"] != "k_2"]
    body = {"bucket_id": bucket_id, "ball_id": "k", "chunks": rows}
    async with checked_client(vss) as client:
        for order in (True, False):
            with vss.fault("status", path=f"{bucket_id}/metadata/k/chunks$", status=200, body=body, count=1) as short:
                got = [bytes(data) async for _, data in client.get_chunks(bucket_id, "k", order=order)]
                assert sorted(got) == sorted(cut(DATA, 400, 300))
                assert short.triggered == 1


async def test_result_says_that_it_is_unverified(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, "k", cut(DATA, 400, 300), standard_tags=False)
    wire.put(bucket_id, "tagged", cut(DATA, 400, 300))
    async with checked_client(vss) as client:
        with caplog.at_level(logging.WARNING):
            for key, verified in (("k", False), ("tagged", True)):
                caplog.clear()
                assert (await client.get(bucket_id, key, force=True)).unwrap().verified is verified
                warned = [record.getMessage() for record in caplog.records]
                warning = f"{bucket_id}/k: its writer recorded no SHA-256 of the complete object"
                assert len(warned) == (not verified)
                assert all(line.startswith(warning) for line in warned)
                assert (await client.download(bucket_id, key, tmp_path / key)).unwrap().verified is verified
                assert (await client.get_metadata(bucket_id, key)).unwrap().verified is verified
        listed = {ball.key: ball.verified for ball in (await client.list_balls(bucket_id)).unwrap()}
        assert listed == {"k": False, "tagged": True}


async def test_file_with_the_same_chunks_is_not_downloaded_again(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 400, 300), standard_tags=False)
    async with checked_client(vss) as client:
        for downloaded in (True, False):
            report = (await client.download(bucket_id, "k", tmp_path, filename="k")).unwrap()
            assert (report.downloaded, report.checksum, report.verified) == (downloaded, sha256(DATA), False)
        for other in (DATA[:-1], DATA[:-1] + b"x", DATA[::-1]):
            (tmp_path / "k").write_bytes(other)
            error = (await client.download(bucket_id, "k", tmp_path, filename="k")).unwrap_err()
            assert "exists with other content" in str(error)
            assert (tmp_path / "k").read_bytes() == other


async def test_gap_between_indexes_is_incomplete(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, "gap", cut(DATA, 400, 300), only=[0, 2], standard_tags=False)
    wire.put(bucket_id, "tail", cut(DATA, 400, 300), only=[1, 2], standard_tags=False)
    async with checked_client(vss) as client:
        for key in ("gap", "tail"):
            assert type((await client.get(bucket_id, key, max_retries=2)).unwrap_err()) is NotFoundError
            assert (await client.exists(bucket_id, key)).unwrap() is False
        assert (await client.list_balls(bucket_id)).unwrap() == []


async def test_older_version_is_not_read_short(own_vss: Callable[..., LocalVSS]) -> None:
    """The newest version has tags and no data; the older one lacks a chunk in the listing."""
    vss = own_vss()
    wire = RawRequests(vss)
    old = wire.put("b", "k", cut(DATA, 400, 300), standard_tags=False)
    wire.put("b", "k", [pattern(20, seed=1)], announced_only=[0])
    async with checked_client(vss) as client:
        assert (await client.get("b", "k", max_retries=2)).unwrap().data == DATA
        with vss.fault("peer_silent", peer=old[2][0]):
            error: MictlanXError = (await client.get("b", "k", max_retries=2)).unwrap_err()
        assert old[2][0] in str(error)


async def test_empty_first_chunk_is_not_the_complete_ball(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    stored = RawRequests(vss).put("b", "k", [b"", DATA], standard_tags=False)
    assert stored[0] != stored[1]
    async with checked_client(vss) as client:
        assert (await client.get("b", "k")).unwrap().data == DATA
        with vss.fault("peer_silent", peer=stored[1][0]):
            assert type((await client.get("b", "k", max_retries=2)).unwrap_err()) is UnavailableError


async def test_tagged_ball_is_read_beside_a_silent_peer(own_vss: Callable[..., LocalVSS]) -> None:
    """Every peer is needed only where the tags do not say how many chunks there are."""
    vss = own_vss()
    wire = RawRequests(vss)
    wire.put("b", "k", [b"old", b"er"], standard_tags=False)
    (peer,) = wire.put("b", "k", [DATA])[0]
    silent = next(f"peer-{number}" for number in range(3) if f"peer-{number}" != peer)
    async with checked_client(vss) as client:
        with vss.fault("peer_silent", peer=silent):
            assert (await client.get("b", "k")).unwrap().data == DATA
