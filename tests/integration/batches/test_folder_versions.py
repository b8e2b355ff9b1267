"""Versions of a folder: published completely or not at all, read likewise, and removed when nothing needs them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_mictlanx.batches import folder_versions
from airflow_provider_mictlanx.batches.folder_versions import (
    MANIFEST_NAME,
    Release,
    fetch,
    find_current_version,
    publish,
    read_local_manifest,
    releases_bucket,
    remove_old_versions,
)
from airflow_provider_mictlanx.batches.runner import BatchError, TransferOptions
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import (
    IntegrityError,
    MictlanXError,
    NotFoundError,
    UnavailableError,
    ValidationError,
)
from airflow_provider_mictlanx.client.result import unwrap
from tests.robustness.model.killed import kill_at
from tests.support.clients import checked_client, client_of
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.vss import LocalVSS

DAY = 86_400


@pytest.fixture
async def client(vss: LocalVSS) -> AsyncIterator[AsyncClient]:
    async with checked_client(vss) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "dags", {"dag.py": "first", "pkg/__init__.py": "", "pkg/sub/__init__.py": ""})


def write(folder: Path, files: dict[str, str]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def contents(folder: Path) -> dict[str, str]:
    """Return the published files of a folder by their paths."""
    return {
        file.relative_to(folder).as_posix(): file.read_text()
        for file in folder.rglob("*")
        if file.is_file() and file.name != MANIFEST_NAME
    }


async def read(client: AsyncClient, bucket_id: str, target: Path, version: str = "") -> dict[str, str]:
    """Fetch a version, or the current one, as a reader without a local copy."""
    version = version or await find_current_version(client, bucket_id)
    await fetch(client, bucket_id, "dags", version, target, target.parent / "cache", options=TransferOptions())
    assert read_local_manifest(target) is not None
    return contents(target)


async def stored(client: AsyncClient, bucket_id: str) -> list[str]:
    return [ball.key for ball in unwrap(await client.list_balls(bucket_id))]


async def put_manifest(client: AsyncClient, bucket_id: str, files: list[dict[str, Any]]) -> str:
    """Store a manifest as somebody with access to the bucket can, and make it current."""
    data = json.dumps({"files": files}).encode()
    version = hashlib.sha256(data).hexdigest()
    unwrap(await client.put(bucket_id, f"dags/manifests/{version}", data))
    unwrap(await client.put(releases_bucket(bucket_id), Release(7, 1, version).name("dags"), b"x"))
    return version


# Publish and fetch


async def test_publish_changed_folder_sends_only_new_content(
    client: AsyncClient, vss: LocalVSS, bucket_id: str, folder: Path, tmp_path: Path
) -> None:
    (folder / "pkg/run.sh").write_text("#!/bin/sh")
    (folder / "pkg/run.sh").chmod(0o755)
    first = await publish(client, folder, bucket_id)
    assert (first["published"], first["total_files"], first["uploaded"]) == (True, 4, 3), "empty files are one"
    assert await publish(client, folder, bucket_id) == first | {
        "published": False,
        "uploaded": 0,
        "uploaded_size": 0,
        "response_time": pytest.approx(0, abs=60),
    }
    write(folder, {"dag.py": "second"})
    second = await publish(client, folder, bucket_id)
    assert (second["published"], second["uploaded"], second["uploaded_size"]) == (True, 1, 6)

    assert await read(client, bucket_id, tmp_path / "second") == contents(folder)
    assert (await read(client, bucket_id, tmp_path / "first", first["version"]))["dag.py"] == "first"
    assert os.access(tmp_path / "first/pkg/run.sh", os.X_OK)
    assert not os.access(tmp_path / "first/dag.py", os.X_OK)


async def test_publish_needs_no_three_peers(
    own_vss: Callable[..., LocalVSS], bucket_id: str, folder: Path, tmp_path: Path
) -> None:
    async with checked_client(own_vss(peers=1)) as client:
        await publish(client, folder, bucket_id)
        assert await read(client, bucket_id, tmp_path / "copy") == contents(folder)


async def test_publish_earlier_content_makes_it_current(
    client: AsyncClient, bucket_id: str, folder: Path, tmp_path: Path
) -> None:
    for number, content in enumerate(("one", "two", "one")):
        write(folder, {"dag.py": content})
        await publish(client, folder, bucket_id)
        assert (await read(client, bucket_id, tmp_path / str(number)))["dag.py"] == content


async def test_publish_leaves_out_caches_and_hidden_files(
    client: AsyncClient, bucket_id: str, folder: Path, tmp_path: Path
) -> None:
    kept = contents(folder) | {".airflowignore": "x", "pkg/link.py": "first"}
    write(folder, {".env": "secret", ".git/config": "x", "__pycache__/dag.pyc": "x", "pkg/old.pyc": "x"})
    write(folder, {".airflowignore": "x"})
    (folder / "pkg/link.py").symlink_to("../dag.py")
    (folder / ".venv").symlink_to("/")
    await publish(client, folder, bucket_id)
    assert await read(client, bucket_id, tmp_path / "copy") == kept


@pytest.mark.parametrize(
    "make", ["outside", "folder link", "dangling", "pipe", "empty", "missing", "backslash", "not UTF-8"]
)
async def test_publish_unfit_folder_is_refused_before_requests(
    client: AsyncClient, vss: LocalVSS, bucket_id: str, folder: Path, make: str
) -> None:
    {
        "outside": lambda: (folder / "x.py").symlink_to("/etc/hostname"),
        "folder link": lambda: (folder / "x").symlink_to("pkg"),
        "dangling": lambda: (folder / "x.py").symlink_to("nothing"),
        "pipe": lambda: os.mkfifo(folder / "x.py"),
        "empty": lambda: [file.unlink() for file in folder.rglob("*.py")],
        "missing": lambda: folder.rename(folder.with_name("other")),
        "backslash": lambda: (folder / "a\\b.py").touch(),
        "not UTF-8": lambda: (folder / os.fsdecode(b"\xff.py")).touch(),
    }[make]()
    with pytest.raises(ValidationError):
        await publish(client, folder, bucket_id)
    with pytest.raises(NotFoundError, match="publish a folder"):
        await find_current_version(client, bucket_id)


async def test_publish_file_that_vanishes_keeps_the_version(
    client: AsyncClient, bucket_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await publish(client, folder, bucket_id)
    list_releases = folder_versions._list_releases

    async def remove_file(*args: Any) -> Any:
        (folder / "dag.py").unlink()
        return await list_releases(*args)

    monkeypatch.setattr(folder_versions, "_list_releases", remove_file)
    with pytest.raises(IntegrityError, match=r"dag\.py changed while its folder was published"):
        await publish(client, folder, bucket_id)
    monkeypatch.undo()
    assert await find_current_version(client, bucket_id) == first["version"]


async def test_publish_failed_file_keeps_the_version(
    client: AsyncClient, vss: LocalVSS, bucket_id: str, folder: Path
) -> None:
    first = await publish(client, folder, bucket_id)
    write(folder, {"dag.py": "second"})
    with (
        vss.fault("status", method="POST", path="/buckets/data/", bucket=bucket_id, status=500),
        pytest.raises(BatchError, match=r"publishing .* 1 of 1 objects failed"),
    ):
        await publish(client, folder, bucket_id, options=TransferOptions(max_tries=1))
    assert await find_current_version(client, bucket_id) == first["version"]


@pytest.mark.parametrize("lost", ["file", "everything"])
async def test_publish_lost_file_sends_it_again(
    client: AsyncClient, bucket_id: str, folder: Path, tmp_path: Path, lost: str
) -> None:
    await publish(client, folder, bucket_id)
    [key] = [key for key in await stored(client, bucket_id) if hashlib.sha256(b"first").hexdigest() in key]
    if lost == "file":
        unwrap(await client.delete(key, bucket_id))
    else:
        unwrap(await client.delete_bucket(bucket_id))
    await publish(client, folder, bucket_id)
    assert await read(client, bucket_id, tmp_path / "copy") == contents(folder)


async def publish_until(vss: LocalVSS, number: int, folder: Path, bucket_id: str) -> bool:
    """Publish with a client whose requests after the n-th never arrive; return whether there were so many."""
    seen = 0

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        nonlocal seen
        seen += 1
        if seen == number:
            await pass_on(asked)
            publication.cancel()
        return None if seen < number else Reply(drop=True)

    async with intercepting(handler, vss) as interceptor, client_of(interceptor) as client:
        publication = asyncio.create_task(publish(client, folder, bucket_id))
        with suppress(asyncio.CancelledError):
            await publication
    return seen >= number


async def kill_publication(vss: LocalVSS, number: int, folder: Path, bucket_id: str) -> bool:
    """Publish in a process that gets SIGKILL with its n-th request; return whether there were so many."""
    return await kill_at(vss, number, True, f"{publish.__module__}:publish", str(folder), bucket_id)


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize(
    ("interrupt", "step"), [(publish_until, 1), (kill_publication, 6)], ids=["cut off", "killed process"]
)
async def test_publish_killed_at_any_request_old_or_new(
    own_vss: Callable[..., LocalVSS], tmp_path: Path, interrupt: Callable[..., Awaitable[bool]], step: int
) -> None:
    """Interrupt it at every request: a new reader gets the old version or the new one, and a retry the new one."""
    vss, number, seen = own_vss(), 0, set()
    old = write(tmp_path / "old", {"dag.py": "old", "helper.py": "old", "same.py": "same"})
    new = write(tmp_path / "new", {"dag.py": "new", "helper.py": "new", "same.py": "same"})
    async with checked_client(vss) as client:
        interrupted = True
        while interrupted:
            number += step
            bucket_id = f"bucket-{number}"
            await publish(client, old, bucket_id)
            interrupted = await interrupt(vss, number, new, bucket_id)
            found = await read(client, bucket_id, tmp_path / bucket_id)
            assert found in (contents(old), contents(new)), number
            seen.add(found["dag.py"])
            if number % 5 == 0:
                await publish(client, new, bucket_id)
                assert await read(client, bucket_id, tmp_path / f"{bucket_id}-again") == contents(new)
    assert number > 12
    assert seen == {"old", "new"}


# Which version is current


async def test_find_current_version_silent_peer_positive_only(
    own_vss: Callable[..., LocalVSS], bucket_id: str, folder: Path
) -> None:
    vss = own_vss()
    async with checked_client(vss) as client:
        version = (await publish(client, folder, bucket_id))["version"]
        with vss.fault("peer_silent", peer="peer-0"):
            assert await find_current_version(client, bucket_id) == version
            assert await find_current_version(client, bucket_id, known=version) == version
            with pytest.raises(UnavailableError, match="a release may be hidden"):
                await find_current_version(client, bucket_id, known="0" * 64)
            with pytest.raises(UnavailableError):
                await publish(client, folder, bucket_id)
            with pytest.raises(UnavailableError):
                await remove_old_versions(client, bucket_id, days=1)


async def test_find_current_version_ignores_other_bundles(client: AsyncClient, bucket_id: str, folder: Path) -> None:
    version = (await publish(client, folder, bucket_id, "dags"))["version"]
    write(folder, {"dag.py": "second"})
    other = (await publish(client, folder, bucket_id, "dags_2"))["version"]
    unwrap(await client.put(releases_bucket(bucket_id), "dags_x", b"x"))
    assert await find_current_version(client, bucket_id, "dags") == version
    assert await find_current_version(client, bucket_id, "dags_2") == other


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "a//b", "./a", "", "a\\b", "a\0", "x" * 300, "dag.py/below"]
)
async def test_fetch_unsafe_path_is_refused(client: AsyncClient, bucket_id: str, tmp_path: Path, path: str) -> None:
    about = {"sha256": "0" * 64, "size": 1, "executable": False, "sent": "2026-01-01"}
    version = await put_manifest(client, bucket_id, [{"path": "dag.py", **about}, {"path": path, **about}])
    with pytest.raises(IntegrityError, match="is invalid"):
        await read(client, bucket_id, tmp_path / "in" / "copy", version)
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("change", [{"sha256": "../x"}, {"sent": "../../x"}, {"size": -1}, {"link": "/etc/x"}])
async def test_fetch_invalid_manifest_is_refused(
    client: AsyncClient, bucket_id: str, tmp_path: Path, change: dict[str, Any]
) -> None:
    file = {"path": "dag.py", "sha256": "0" * 64, "size": 1, "executable": False, "sent": "2026-01-01"}
    version = await put_manifest(client, bucket_id, [file | change])
    with pytest.raises(IntegrityError, match="is invalid"):
        await read(client, bucket_id, tmp_path / "copy", version)


async def test_fetch_replaced_bytes_are_refused(
    client: AsyncClient, bucket_id: str, folder: Path, tmp_path: Path
) -> None:
    version = (await publish(client, folder, bucket_id))["version"]
    [key] = [key for key in await stored(client, bucket_id) if hashlib.sha256(b"first").hexdigest() in key]
    unwrap(await client.put(bucket_id, key, b"other", replace=True))
    with pytest.raises(BatchError):
        await read(client, bucket_id, tmp_path / "one", version)
    unwrap(await client.put(bucket_id, f"dags/manifests/{version}", b'{"files": []}', replace=True))
    with pytest.raises(IntegrityError, match="must have the SHA-256 in its name"):
        await read(client, bucket_id, tmp_path / "two", version)
    assert not (tmp_path / "one").exists()


# Remove


async def test_remove_old_versions_keeps_what_may_be_used(
    client: AsyncClient, bucket_id: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    versions = []

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls.fromtimestamp(time.time(), tz)

    monkeypatch.setattr(folder_versions, "datetime", Clock)
    for days, content in ((60, "one"), (50, "two"), (10, "three")):
        monkeypatch.setattr(time, "time", lambda days=days: now - days * DAY)
        write(folder, {"dag.py": content, f"{content}.py": content})
        versions.append((await publish(client, folder, bucket_id))["version"])
    monkeypatch.setattr(time, "time", lambda: now)
    unwrap(await client.put(bucket_id, f"dags/files/{datetime.now(UTC).date()}/{'0' * 64}", b"of a publication"))

    result = await remove_old_versions(client, bucket_id, days=30)
    assert result.items() >= {"removed": 1, "kept": 2, "failed": 0}.items()
    # The first version: its manifest and its release, and the file that no other version contains.
    assert result["deleted"] == 2
    with pytest.raises(NotFoundError, match="it was removed"):
        await read(client, bucket_id, tmp_path / "one", versions[0])
    assert (await read(client, bucket_id, tmp_path / "two", versions[1]))["dag.py"] == "two"
    assert await read(client, bucket_id, tmp_path / "three") == contents(folder)
    assert f"dags/files/{datetime.now(UTC).date()}/{'0' * 64}" in await stored(client, bucket_id)

    (folder / "one.py").unlink()
    await publish(client, folder, bucket_id)
    monkeypatch.setattr(time, "time", lambda: now + 40 * DAY)
    assert (await remove_old_versions(client, bucket_id, days=30))["kept"] == 1
    assert await read(client, bucket_id, tmp_path / "last") == contents(folder)
    files = [key for key in await stored(client, bucket_id) if "/files/" in key]
    assert len(files) == len(set(contents(folder).values())), "nothing but the current version"


async def test_remove_old_versions_keeps_foreign_objects(client: AsyncClient, bucket_id: str, folder: Path) -> None:
    await publish(client, folder, bucket_id)
    foreign = ["dags/files/1.txt", "dags/files/2020-01-01/notes"]
    for key in foreign:
        unwrap(await client.put(bucket_id, key, b"foreign"))
    assert (await remove_old_versions(client, bucket_id, days=1))["deleted"] == 0
    assert set(foreign) <= set(await stored(client, bucket_id))


async def test_remove_old_versions_beside_a_rollback(
    client: AsyncClient, bucket_id: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rollback has exactly the files of an expired version, whose manifest is removed just before the release."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 60 * DAY)
    with monkeypatch.context() as patched:
        long_ago = datetime.fromtimestamp(now - 60 * DAY, UTC)
        patched.setattr(folder_versions, "datetime", SimpleNamespace(now=lambda tz: long_ago))
        for is_new in (False, True, False, True):
            (folder / "new.py").write_text("new") if is_new else (folder / "new.py").unlink(missing_ok=True)
            await publish(client, folder, bucket_id)
    monkeypatch.setattr(time, "time", lambda: now)
    assert not (await publish(client, folder, bucket_id))["published"], "it is current, and an older version too"
    (folder / "new.py").unlink()
    put = folder_versions._put

    async def put_late(client: AsyncClient, bucket: str, *args: Any) -> None:
        if bucket == releases_bucket(bucket_id):
            assert (await remove_old_versions(client, bucket_id, days=30))["removed"] == 1
        await put(client, bucket, *args)

    monkeypatch.setattr(folder_versions, "_put", put_late)
    result = await publish(client, folder, bucket_id)
    assert await read(client, bucket_id, tmp_path / "current") == contents(folder)
    assert result["uploaded"] == 1, "a file with a new date makes another manifest"


@pytest.mark.parametrize("days", [0, 0.5, -1])
async def test_remove_old_versions_short_time_is_refused(client: AsyncClient, bucket_id: str, days: float) -> None:
    with pytest.raises(ValidationError, match="days"):
        await remove_old_versions(client, bucket_id, days=days)


async def test_remove_old_versions_interrupted_continues(
    client: AsyncClient, vss: LocalVSS, bucket_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    for days, content in ((60, "one"), (50, "two")):
        monkeypatch.setattr(time, "time", lambda days=days: now - days * DAY)
        write(folder, {"dag.py": content})
        await publish(client, folder, bucket_id)
    monkeypatch.setattr(time, "time", lambda: now)
    with vss.fault("status", method="DELETE", path="/", bucket=bucket_id, status=500), suppress(MictlanXError):
        await remove_old_versions(client, bucket_id, days=30)
    result = await remove_old_versions(client, bucket_id, days=30)
    assert result.items() >= {"removed": 1, "kept": 1, "failed": 0}.items()
    assert (await remove_old_versions(client, bucket_id, days=30))["removed"] == 0
