"""Downloads that were interrupted, and go on: from what is right in their parts, and from nothing else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_provider_mictlanx.client import (
    AsyncClient,
    FileReport,
    GetChunkError,
    IntegrityError,
    UnknownError,
    ValidationError,
)
from airflow_provider_mictlanx.client.local_io.atomic_file import OpenFolder
from airflow_provider_mictlanx.client.object_ids import part_name
from tests.support.clients import client_of
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import cut, pattern, sha256
from tests.support.vss import LocalVSS

CHUNK = 300_000
DATA = pattern(2_500_000)  # nine chunks
CHUNKS = cut(DATA, *[CHUNK] * 8)
LAST = len(CHUNKS) - 1


def download(vss: LocalVSS, bucket_id: str, folder: Path, key: str = "ball", **how: object) -> FileReport:
    async def run() -> FileReport:
        async with client_of(vss) as client:
            given = {"filename": "target", "max_concurrency": 2, "max_tries": 1, **how}
            return await downloaded(client, bucket_id, key, folder, **given)

    return asyncio.run(run())


async def downloaded(client: AsyncClient, *arguments: object, **how: object) -> FileReport:
    result = await client.download(*arguments, **how)  # type: ignore[arg-type]
    if result.is_err:
        raise result.unwrap_err()
    return result.unwrap()


def asked_for(vss: LocalVSS, bucket_id: str) -> list[int]:
    """Return the indexes of the chunks whose data was requested since the last call, in order."""
    paths = [seen["path"] for seen in vss.requests("GET", f"/buckets/{bucket_id}/ball_\\d+$")]
    vss.reset_requests()
    return sorted(int(path.rpartition("_")[2]) for path in paths)


@contextmanager
def last_chunk_missing(vss: LocalVSS, bucket_id: str) -> Iterator[None]:
    with vss.fault("status", status=500, method="GET", bucket=bucket_id, key=f"ball_{LAST}", path=f"ball_{LAST}$"):
        yield


def interrupted(vss: LocalVSS, bucket_id: str, folder: Path) -> Path:
    """Download all but the last chunk; return the partial file."""
    with last_chunk_missing(vss, bucket_id), pytest.raises(UnknownError):
        download(vss, bucket_id, folder, max_concurrency=1)
    vss.reset_requests()
    [part] = folder.iterdir()
    assert part.name == part_name("target", 0)
    return part


def test_what_failed_goes_on_where_it_was(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "ball", CHUNKS)
    interrupted(vss, bucket_id, tmp_path)
    report = download(vss, bucket_id, tmp_path)
    assert asked_for(vss, bucket_id) == [LAST]
    assert (report.size, report.checksum, report.downloaded) == (len(DATA), sha256(DATA), True)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target").read_bytes() == DATA


def test_cancelled_download_resumes_and_old_file_stays(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "ball", CHUNKS)
    (tmp_path / "target").write_bytes(b"the old one")

    async def until_all_but_one_are_there(part: Path) -> None:
        while not part.exists() or part.stat().st_size < LAST * CHUNK:
            await asyncio.sleep(0.01)

    async def run() -> None:
        async with client_of(vss) as client:
            going = asyncio.create_task(
                downloaded(client, bucket_id, "ball", tmp_path, filename="target", replace=True)
            )
            await asyncio.wait_for(until_all_but_one_are_there(tmp_path / part_name("target", 0)), 30)
            await asyncio.sleep(0.3)  # the chunks before the last one written may still be on their way
            going.cancel()
            with pytest.raises(asyncio.CancelledError):
                await going

    with vss.fault("latency", seconds=60, method="GET", bucket=bucket_id, key=f"ball_{LAST}", path=f"ball_{LAST}$"):
        asyncio.run(run())
    assert (tmp_path / "target").read_bytes() == b"the old one"
    vss.reset_requests()
    download(vss, bucket_id, tmp_path, replace=True)
    assert LAST in (asked := asked_for(vss, bucket_id))
    assert len(asked) <= 2
    assert (tmp_path / "target").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_what_was_killed_goes_on(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "ball", CHUNKS)
    part = tmp_path / part_name("target", 0)
    command = [sys.executable, "-m", "tests.support.interrupted_download", vss.uri, bucket_id, "ball"]
    with vss.fault("latency", seconds=60, method="GET", bucket=bucket_id, key=f"ball_{LAST}", path=f"ball_{LAST}$"):
        process = subprocess.Popen([*command, str(tmp_path)])
        try:
            until = time.monotonic() + 60
            while not (part.exists() and part.stat().st_size == LAST * CHUNK) and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(0.3)  # the chunks before the last one written may still be on their way
        finally:
            process.kill()
            process.wait()
    vss.reset_requests()
    download(vss, bucket_id, tmp_path)
    assert LAST in (asked := asked_for(vss, bucket_id))
    assert len(asked) <= 2
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target").read_bytes() == DATA


def test_chunks_of_another_version_are_not_used(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "ball", CHUNKS)
    interrupted(vss, bucket_id, tmp_path)
    new = cut(pattern(2_000_000, seed=1), *[CHUNK] * 6)
    new[3] = CHUNKS[3]  # the same bytes at the same place: they may stay

    async def replaced() -> None:
        async with client_of(vss) as client:
            (await client.put(bucket_id, "ball", b"".join(new), chunk_size=CHUNK, replace=True)).unwrap()

    asyncio.run(replaced())
    vss.reset_requests()
    download(vss, bucket_id, tmp_path)
    assert 3 not in asked_for(vss, bucket_id)
    assert (tmp_path / "target").read_bytes() == b"".join(new)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_part_that_was_tampered_with_is_mended(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "ball", CHUNKS)
    part = interrupted(vss, bucket_id, tmp_path)
    with part.open("r+b") as file:
        file.seek(2 * CHUNK + 7)
        file.write(b"\0" * 11)
        file.seek(0, os.SEEK_END)
        file.write(b"more than there should be" * 100_000)
    download(vss, bucket_id, tmp_path)
    assert asked_for(vss, bucket_id) == [2, LAST]
    assert (tmp_path / "target").read_bytes() == DATA


def test_a_part_is_not_kept_where_the_same_call_would_fail_again(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "ball", CHUNKS)
    with vss.fault("flip_bit", bucket=bucket_id, key=f"ball_{LAST}"), pytest.raises(IntegrityError):
        download(vss, bucket_id, tmp_path, force=True)
    assert list(tmp_path.iterdir()) == []


def test_little_is_not_worth_a_part(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "ball", cut(DATA[:30_000], 10_000, 10_000), announced_only=[2])
    with pytest.raises(GetChunkError):
        download(vss, bucket_id, tmp_path)
    assert list(tmp_path.iterdir()) == []


# -- at the same time --------------------------------------------------------------------------------------------------


def test_downloads_to_one_target_do_not_disturb_one_another(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    other = pattern(2_100_000, seed=2)
    RawRequests(vss).put(bucket_id, "ball", CHUNKS)
    RawRequests(vss).put(bucket_id, "other", cut(other, *[CHUNK] * 6))
    command = [sys.executable, "-m", "tests.support.interrupted_download", vss.uri, bucket_id, "ball"]
    with vss.fault("latency", seconds=0.1, bucket=bucket_id, method="GET", path="ball_|other_"):
        process = subprocess.Popen([*command, str(tmp_path)])

        async def here() -> list[FileReport]:
            async with client_of(vss) as client:
                how = {"filename": "target", "replace": True}
                keys = ["ball", "other", "ball", "other"]
                return await asyncio.gather(*(downloaded(client, bucket_id, key, tmp_path, **how) for key in keys))

        try:
            asyncio.run(here())
        finally:
            process.wait(60)  # whatever it came to: the file may have been there already
    assert (tmp_path / "target").read_bytes() in (DATA, other)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


async def test_slower_download_of_the_same_object_is_no_failure(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "ball", CHUNKS)
    async with client_of(vss) as client:
        with vss.fault("latency", seconds=0.2, bucket=bucket_id, method="GET", path="ball_"):
            both = await asyncio.gather(
                *(downloaded(client, bucket_id, "ball", tmp_path, filename="target") for _ in range(2))
            )
    assert sorted(report.downloaded for report in both) == [False, True]
    assert (tmp_path / "target").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


# -- what somebody put in the way --------------------------------------------------------------------------------------


def test_a_link_in_the_place_of_a_part_is_not_written_through(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "ball", CHUNKS)
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.write_bytes(b"mine")
    folder.mkdir()
    (folder / part_name("target", 0)).symlink_to(outside)
    (folder / part_name("target", 1)).mkdir()
    os.mkfifo(folder / part_name("target", 2))
    download(vss, bucket_id, folder)
    assert (folder / "target").read_bytes() == DATA
    assert outside.read_bytes() == b"mine"


def test_a_target_whose_part_was_not_removed_is_left_as_it_is(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    """Killed after the link and before the removal of the part: both names are one file."""
    RawRequests(vss).put(bucket_id, "ball", CHUNKS)
    (tmp_path / "target").write_bytes(b"the old one")
    os.link(tmp_path / "target", tmp_path / part_name("target", 0))
    with last_chunk_missing(vss, bucket_id), pytest.raises(UnknownError):
        download(vss, bucket_id, tmp_path, replace=True)
    assert (tmp_path / "target").read_bytes() == b"the old one"
    download(vss, bucket_id, tmp_path, replace=True)
    assert (tmp_path / "target").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_folder_replaced_by_link_stays_the_opened_one(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "ball", CHUNKS)
    folder, moved, elsewhere = tmp_path / "folder", tmp_path / "moved", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    with OpenFolder(folder) as place, place.make("target") as file:
        os.write(file.descriptor, b"data")
        folder.rename(moved)
        folder.symlink_to(elsewhere)
        file.publish(replace=True)
    assert list(elsewhere.iterdir()) == []
    assert (moved / "target").read_bytes() == b"data"


@pytest.mark.parametrize(
    "fullname",
    [
        "../../escaped",
        "/etc/cron.d/escaped",
        "..\\..\\escaped",
        part_name("target", 0),
        "..",
        "a\0b",
        "sub/../../x",
        "~/x",
    ],
)
def test_no_name_in_tags_leaves_the_folder_or_takes_a_parts_name(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, fullname: str
) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    tags = {"fullname": fullname, "full_path": fullname, "bucket_relative_path": "../../", "extension": "../x"}
    RawRequests(vss).put(bucket_id, "ball", [DATA[:1000]], tags=tags)
    path = Path(download(vss, bucket_id, folder, filename="").path)
    assert path.parent == folder
    assert path.read_bytes() == DATA[:1000]
    assert not path.name.endswith(".part")
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]


def test_a_parts_name_can_not_be_asked_for(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="partial downloads"):
        download(vss, bucket_id, tmp_path, filename=part_name("target", 0))


# -- parts and locks ---------------------------------------------------------------------------------------------------


def test_each_maker_of_a_file_has_a_part_of_its_own(tmp_path: Path) -> None:
    with OpenFolder(tmp_path) as place:
        with place.make("target") as first, place.make("target") as second, place.make("other") as third:
            assert len({os.fstat(file.descriptor).st_ino for file in (first, second, third)}) == 3
            os.write(first.descriptor, b"first")
            os.write(second.descriptor, b"second")
            first.publish(replace=True)
            with place.make("target") as fourth:  # the first name is free again, and empty
                assert fourth.leftover_size == 0
            second.publish(replace=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["target"]
        assert (tmp_path / "target").read_bytes() == b"second"


def test_parts_that_nobody_is_at_go_when_the_target_appears(tmp_path: Path) -> None:
    for slot in (0, 1, 5):
        (tmp_path / part_name("target", slot)).write_bytes(b"left by a kill")
    (tmp_path / part_name("another", 0)).write_bytes(b"left too")
    with OpenFolder(tmp_path) as place, place.make("target") as file:
        assert file.leftover_size == len(b"left by a kill")
        file.truncate(0)
        file.publish(replace=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([part_name("another", 0), "target"])


def test_more_makers_than_names_and_file_systems_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    (tmp_path / part_name("target", 0)).write_bytes(b"somebody's")
    with OpenFolder(tmp_path) as place, place.make("target") as file:
        assert file.leftover_size == 0
        os.write(file.descriptor, b"data")
        file.publish(replace=False)
    assert (tmp_path / "target").read_bytes() == b"data"
    assert (tmp_path / part_name("target", 0)).read_bytes() == b"somebody's"
    assert sorted(path.name for path in tmp_path.iterdir()) == [part_name("target", 0), "target"]
