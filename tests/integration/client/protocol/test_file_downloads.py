"""Bytes that become a file: whole, right, or not at all. For routers and peers alike."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import (
    FileAlreadyExists,
    IntegrityError,
    NotFoundError,
    RequestTimeoutError,
    UnknownError,
    UpstreamProtocolError,
    ValidationError,
)
from tests.support.router_requests import Target, announce, chunk_of, error_of, peer_of, put, router_of
from tests.support.sample_bytes import sha256
from tests.support.vss import LocalVSS

DATA = os.urandom(700_001)

targets = pytest.mark.parametrize("target_of", [router_of, peer_of], ids=["router", "peer"])


@targets
async def test_chunk_becomes_a_file(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, target_of: Callable[..., Target]
) -> None:
    async with target_of(vss) as target:
        key = await put(target, bucket_id, "ball", DATA)
        folder = tmp_path / "made" / "if missing"
        path = (await target.get_to_file(bucket_id, key, "100kb", folder)).unwrap()
        assert path == str(folder / "ball_0")
        assert Path(path).read_bytes() == DATA
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o666 & ~umask
        named = await target.get_to_file(bucket_id, key, sink_folder_path=str(folder), filename="n", extension=".bin")
        assert named.unwrap() == f"{folder}/n.bin"
        assert sorted(os.listdir(folder)) == ["ball_0", "n.bin"]


async def test_piece_size_is_asked_for(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    async with router_of(vss) as router:
        key = await put(router, bucket_id, "ball", DATA)
        assert (await router.get_to_file(bucket_id, key, "10kb", tmp_path)).is_ok
        (asked,) = vss.requests("GET", f"{bucket_id}/{key}$")
        assert asked["headers"]["chunk-size"] == "10000"


@targets
async def test_chunk_without_bytes(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, target_of: Callable[..., Target]
) -> None:
    async with target_of(vss) as target:
        await announce(target, chunk_of(bucket_id, "ball", b""))
        path = (await target.get_to_file(bucket_id, "ball_0", sink_folder_path=tmp_path)).unwrap()
        assert Path(path).read_bytes() == b""


@targets
async def test_missing_chunk_leaves_nothing(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, target_of: Callable[..., Target]
) -> None:
    async with target_of(vss) as target:
        error = error_of(await target.get_to_file(bucket_id, "none_0", sink_folder_path=tmp_path))
        assert type(error) is NotFoundError
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "fault",
    [{"kind": "cut_body", "at": 300_000, "clean": True}, {"kind": "flip_bit"}],
    ids=["cut short, as if whole", "a bit flipped"],
)
async def test_wrong_bytes_leave_nothing(vss: LocalVSS, bucket_id: str, tmp_path: Path, fault: dict[str, Any]) -> None:
    async with router_of(vss) as router:
        key = await put(router, bucket_id, "ball", DATA)
        kept = tmp_path / "kept"
        kept.write_bytes(b"what was there")
        path = {"path": f"{bucket_id}/{key}$"} if fault["kind"] == "cut_body" else {}
        with vss.fault(**fault, **path, bucket=bucket_id) as switched:
            how = {"sink_folder_path": tmp_path, "headers": {"Force-Get": "1"}}
            error = error_of(await router.get_to_file(bucket_id, key, filename="kept", replace=True, **how))
            assert type(error) is IntegrityError
            assert "router-0" in str(error)
            assert switched.triggered == 1
        assert os.listdir(tmp_path) == ["kept"]
        assert kept.read_bytes() == b"what was there"
        assert (await router.get_to_file(bucket_id, key, filename="kept", replace=True, **how)).is_ok
        assert kept.read_bytes() == DATA


async def test_longer_data_than_announced_is_not_written(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    """A router's cache holds what came, not what was announced."""
    async with router_of(vss) as router:
        with vss.fault("accept_wrong_bytes", bucket=bucket_id):
            task_id = await announce(router, chunk_of(bucket_id, "ball", DATA))
            assert (await router.put_chunked(task_id, DATA + b"more")).is_ok
        error = error_of(await router.get_to_file(bucket_id, "ball_0", sink_folder_path=tmp_path))
        assert type(error) is IntegrityError
        assert os.listdir(tmp_path) == []


async def test_what_is_there_is_kept_or_is_a_hit(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    async with router_of(vss) as router:
        key = await put(router, bucket_id, "ball", DATA)
        target = tmp_path / key
        target.write_bytes(b"other content")
        error = error_of(await router.get_to_file(bucket_id, key, sink_folder_path=tmp_path))
        assert type(error) is FileAlreadyExists
        assert "replace=True" in str(error)
        assert target.read_bytes() == b"other content"
        target.write_bytes(DATA)
        before = target.stat().st_ino
        assert (await router.get_to_file(bucket_id, key, sink_folder_path=tmp_path)).unwrap() == str(target)
        assert target.stat().st_ino == before
        assert not vss.requests("GET", f"{bucket_id}/{key}$"), "the data of a hit is not asked for"
        assert os.listdir(tmp_path) == [key]


async def test_chunk_that_was_encrypted_or_compressed_is_refused(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    async with router_of(vss) as router:
        key = await put(router, bucket_id, "ball", DATA, tags={"index": "0", "mictlanx_filters": '["zstd"]'})
        error = error_of(await router.get_to_file(bucket_id, key, sink_folder_path=tmp_path))
        assert type(error) is UpstreamProtocolError
        assert error.permanent
        assert os.listdir(tmp_path) == []


async def test_cancelled_download_leaves_nothing(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    async with router_of(vss) as router:
        key = await put(router, bucket_id, "ball", DATA)
        with vss.fault("latency", path=f"{bucket_id}/{key}$", seconds=30):
            download = asyncio.create_task(router.get_to_file(bucket_id, key, sink_folder_path=tmp_path))
            while not any(name.endswith(".part") for name in os.listdir(tmp_path)):
                await asyncio.sleep(0.01)
            download.cancel()
            with pytest.raises(asyncio.CancelledError):
                await download
            assert os.listdir(tmp_path) == []
            error = error_of(await router.get_to_file(bucket_id, key, sink_folder_path=tmp_path, timeout=0.2))
            assert type(error) is RequestTimeoutError
            assert os.listdir(tmp_path) == []


# -- by content ----------------------------------------------------------------------------------------------------------


async def test_content_becomes_a_file(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    async with peer_of(vss) as peer:
        data = DATA + bucket_id.encode()  # no other test stores, or damages, these bytes
        await put(peer, bucket_id, "ball", data)
        path = (await peer.get_by_checksum_to_file(sha256(data), "1MB", tmp_path)).unwrap()
        assert path == str(tmp_path / sha256(data))
        assert Path(path).read_bytes() == data
        upper = sha256(data).upper()
        named = await peer.get_by_checksum_to_file(
            upper, sink_folder_path=tmp_path, filename="name.tar", extension="gz"
        )
        assert named.unwrap() == str(tmp_path / "name.tar.gz")
        assert Path(named.unwrap()).read_bytes() == data


async def test_present_routers_do_not_answer_by_content(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    async with router_of(vss) as router:
        await put(router, bucket_id, "ball", DATA)
        error = error_of(await router.get_by_checksum_to_file(sha256(DATA), sink_folder_path=tmp_path))
        assert type(error) is NotFoundError
        assert "by its key" in str(error)
        assert os.listdir(tmp_path) == []


async def test_older_routers_do(vss: LocalVSS, tmp_path: Path) -> None:
    """An older router answers the bytes; here one answer is made up, and the same one under a wrong checksum."""
    text = "the bytes of an older router"
    async with router_of(vss) as router:
        with vss.fault("status", status=200, path="/checksum/", body=text, content_type="application/octet-stream"):
            right, wrong = sha256(text.encode()), sha256(b"other bytes")
            path = (await router.get_by_checksum_to_file(right, sink_folder_path=tmp_path, extension="txt")).unwrap()
            assert path == str(tmp_path / f"{right}.txt")
            assert Path(path).read_text() == text
            error = error_of(await router.get_by_checksum_to_file(wrong, sink_folder_path=tmp_path))
            assert type(error) is IntegrityError
        assert os.listdir(tmp_path) == [f"{right}.txt"]


async def test_content_that_is_there_is_not_asked_for(vss: LocalVSS, tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(DATA)
    async with router_of(vss) as router:
        vss.reset_requests()
        hit = await router.get_by_checksum_to_file(sha256(DATA), sink_folder_path=tmp_path, filename="name")
        assert hit.unwrap() == str(tmp_path / "name")
        other = error_of(await router.get_by_checksum_to_file(sha256(b""), sink_folder_path=tmp_path, filename="name"))
        assert type(other) is FileAlreadyExists
        assert not vss.requests("GET", "/checksum/")


@pytest.mark.parametrize("checksum", ["", "abc", "g" * 64, "../" + "a" * 61, "a" * 65], ids=repr)
async def test_checksum_has_to_be_one(vss: LocalVSS, tmp_path: Path, checksum: str) -> None:
    async with router_of(vss) as router:
        error = error_of(await router.get_by_checksum_to_file(checksum, sink_folder_path=tmp_path))
        assert type(error) is ValidationError


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"filename": "../up"}, "sink_folder_path"),
        ({"filename": "a/b"}, "sink_folder_path"),
        ({"filename": ".."}, "sink_folder_path"),
        ({"extension": "/etc/passwd"}, "sink_folder_path"),
        ({"chunk_size": "much"}, "chunk_size"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"sink_folder_path": "/dev/null"}, "sink_folder_path must be a folder, got '/dev/null'"),
        ({"sink_folder_path": "a\0b"}, "sink_folder_path"),
        ({"sink_folder_path": 5}, "sink_folder_path"),
        ({"headers": {"X-Token": "sec\nret"}}, "X-Token"),
    ],
    ids=repr,
)
async def test_wrong_arguments(vss: LocalVSS, tmp_path: Path, arguments: dict[str, Any], said: str) -> None:
    given = {"sink_folder_path": tmp_path, **arguments}
    async with router_of(vss) as router, peer_of(vss) as peer:
        vss.reset_requests()
        for target in (router, peer):
            error = error_of(await target.get_by_checksum_to_file(sha256(DATA), **given))
            assert type(error) is ValidationError
            assert said in str(error)
            assert "sec" not in str(error).replace("seconds", "")
        assert not vss.requests(server="")
        assert os.listdir(tmp_path) == []


async def test_full_disk_is_told(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    """A file size limit stands for the full disk: the writing fails in the same place."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    async with peer_of(vss) as peer:
        await put(peer, bucket_id, "ball", DATA)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            error = error_of(await peer.get_by_checksum_to_file(sha256(DATA), sink_folder_path=tmp_path))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert type(error) is UnknownError
        assert not error.transient
        assert str(tmp_path) in str(error)
        assert os.listdir(tmp_path) == []
