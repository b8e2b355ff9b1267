"""Downloads onto disks that are full or read-only, and into folders of somebody else: for real."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_mictlanx.client import FileReport, UnknownError, ValidationError
from airflow_provider_mictlanx.client.object_ids import part_name
from tests.support.clients import client_of
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import cut, pattern
from tests.support.vss import LocalVSS

DATA = pattern(4_000_000)
NOBODY = 65534


@pytest.fixture
def ball(vss: LocalVSS, bucket_id: str) -> str:
    RawRequests(vss).put(bucket_id, "ball", cut(DATA, *[500_000] * 7))
    return bucket_id


def download(vss: LocalVSS, bucket_id: str, folder: Path, **how: object) -> FileReport:
    async def run() -> FileReport:
        async with client_of(vss) as client:
            result = await client.download(bucket_id, "ball", folder, **{"filename": "target", "max_tries": 2, **how})
            if result.is_err:
                raise result.unwrap_err()
            return result.unwrap()

    return asyncio.run(run())


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    vss: LocalVSS, ball: str, small_disk: Callable[..., Path]
) -> None:
    disk = small_disk("3m")
    (disk / "target").write_bytes(b"the old one")
    with pytest.raises(UnknownError, match="No space left") as caught:
        download(vss, ball, disk, replace=True)
    assert str(disk) in str(caught.value)
    assert "nothing was left behind" in str(caught.value)
    assert not caught.value.permanent  # somebody may make room: Airflow's retry finds out
    assert [path.name for path in disk.iterdir()] == ["target"]
    assert (disk / "target").read_bytes() == b"the old one"
    room = os.statvfs(disk)
    assert room.f_bavail * room.f_bsize > 2_500_000  # nor is room taken by what nobody sees


def test_a_disk_that_becomes_full_goes_on_when_there_is_room(
    vss: LocalVSS, ball: str, small_disk: Callable[..., Path]
) -> None:
    disk = small_disk("6m")
    (disk / "other").write_bytes(b"x" * 3_000_000)
    with pytest.raises(UnknownError, match="No space left"):
        download(vss, ball, disk)
    (disk / "other").unlink()
    download(vss, ball, disk)
    assert (disk / "target").read_bytes() == DATA
    assert [path.name for path in disk.iterdir()] == ["target"]


def test_a_disk_without_room_for_a_name(vss: LocalVSS, ball: str, small_disk: Callable[..., Path]) -> None:
    disk = small_disk("1m", "nr_inodes=2")
    (disk / "only").touch()
    with pytest.raises(UnknownError, match="No space left"):
        download(vss, ball, disk)
    assert [path.name for path in disk.iterdir()] == ["only"]


def test_a_read_only_disk_is_refused(vss: LocalVSS, ball: str, small_disk: Callable[..., Path]) -> None:
    disk = small_disk("1m", "ro")
    with pytest.raises(ValidationError, match=r"must be writable, got .*: Read-only file system") as caught:
        download(vss, ball, disk)
    assert caught.value.permanent


# -- another user --------------------------------------------------------------------------------------------------------

CHILD = """
import os, sys, tempfile
from pathlib import Path
from tests.e2e.privileged.test_disks import download
class Vss:
    uri = sys.argv[1]
with tempfile.TemporaryDirectory() as folder:  # so that everything is imported that this user may not read
    download(Vss(), sys.argv[2], Path(folder))
os.setgroups([]); os.setgid({gid}); os.setuid({uid})
try:
    print(download(Vss(), sys.argv[2], Path(sys.argv[3])).path)
except Exception as error:
    print(type(error).__name__, error)
"""


def download_as_nobody(vss: LocalVSS, bucket_id: str, folder: Path) -> str:
    """Download as a user who owns nothing; return the path, or the error."""
    script = CHILD.format(uid=NOBODY, gid=NOBODY)
    command = [sys.executable, "-c", script, vss.uri, bucket_id, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that every user can reach; pytest's own are for root only."""
    folder = tmp_path_factory.mktemp("shared")
    for parent in (folder, *folder.parents):
        if parent == Path(parent.anchor) or parent.name == "tmp":
            break
        parent.chmod(parent.stat().st_mode | 0o055)
    return folder


def test_a_folder_that_may_not_be_written_to_is_refused(vss: LocalVSS, ball: str, shared: Path) -> None:
    folder = shared / "read-only"
    folder.mkdir(mode=0o755)
    (folder / "target").write_bytes(b"mine")
    said = download_as_nobody(vss, ball, shared / "read-only")
    assert said.startswith("FileAlreadyExists"), said
    (folder / "target").unlink()
    said = download_as_nobody(vss, ball, folder)
    assert said.startswith("ValidationError"), said
    assert "must be writable" in said
    assert "Permission denied" in said
    assert list(folder.iterdir()) == []
    said = download_as_nobody(vss, ball, folder / "below")
    assert said.startswith("ValidationError"), said


def test_a_part_of_another_user_is_not_used(vss: LocalVSS, ball: str, shared: Path) -> None:
    """In a folder for all, somebody puts a file where a part would be, and could change it after it was verified."""
    folder = shared / "sticky"
    folder.mkdir()
    folder.chmod(0o1777)
    planted = folder / part_name("target", 0)
    planted.write_bytes(DATA[:3_000_000])
    planted.chmod(0o666)
    said = download_as_nobody(vss, ball, folder)
    assert said == str(folder / "target")
    assert (folder / "target").read_bytes() == DATA
    assert (folder / "target").stat().st_uid == NOBODY
    assert planted.read_bytes() == DATA[:3_000_000]
    # … and for root too, who may write to it all the same
    (folder / "target").unlink()
    os.chown(planted, NOBODY, NOBODY)
    download(vss, ball, folder)
    assert (folder / "target").stat().st_uid == 0
    assert planted.exists()
