"""Sources of other stores, through fsspec's paths, as Airflow's ``ObjectStoragePath`` is one: read twice, and compared both times."""

from __future__ import annotations

import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from airflow_provider_mictlanx.bulks.monitor import bulk_status
from airflow_provider_mictlanx.bulks.sources import list_items, list_sources
from airflow_provider_mictlanx.bulks.status import State
from airflow_provider_mictlanx.client.errors import IntegrityError, UnknownError
from airflow_provider_mictlanx.client.local_io.fsspec_source import FsspecFile
from tests.support.bulk_uploads import one_version_each, uncached_client, upload, versions
from tests.support.vss import LocalVSS


@pytest.fixture
def base() -> UPath:
    """A folder of a store in memory that nobody else uses."""
    return UPath(f"memory://{uuid.uuid4().hex}")


def fill(base: UPath, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        base.fs.pipe_file(f"{base.path}/{name}", content)
        time.sleep(0.002)  # times are compared to the millisecond


async def test_folder_of_another_store(vss: LocalVSS, base: UPath, bucket_id: str) -> None:
    contents = {"a": os.urandom(10), "b": b"", "c": os.urandom(1_500_000), "sub-d": os.urandom(3_000_000)}
    fill(base, contents)
    bulk_id = f"memory {uuid.uuid4()}"
    async with uncached_client(vss) as client:
        told: dict[str, Any] = {"listing": lambda: list_sources(base, bucket_id), "chunk_size": "4MB"}
        result = await upload(client, bulk_id, bucket_id, **told)
        assert (result.uploaded, result.failed) == (4, 0)
        for key, content in contents.items():
            assert bytes((await client.get(bucket_id, key)).unwrap().data) == content
        assert (await bulk_status(client, bulk_id)).state is State.COMPLETE
        assert (await upload(client, bulk_id, bucket_id, **told)).skipped == 4


def test_local_path_of_this_kind(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    path = UPath(f"file://{tmp_path}")
    assert [(ball.key, ball.file) for ball in list_sources(path, bucket_id)] == [("a", None)]


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_file_that_changes_after_it_was_listed(vss: LocalVSS, base: UPath, bucket_id: str, size: int) -> None:
    """The same size, other bytes: the marks tell, before anything is sent."""
    fill(base, {"a": b"x" * size})
    listing = list_sources(base, bucket_id)
    async with uncached_client(vss) as client:
        fill(base, {"a": b"y" * size})
        with pytest.raises(IntegrityError, match="changed since it was listed"):
            await upload(client, f"memory {uuid.uuid4()}", bucket_id, listing=lambda: listing)
        assert await versions(client, bucket_id) == {}


@pytest.mark.parametrize("how", ["changes", "goes away"])
async def test_file_that_changes_between_hashing_and_sending(
    vss: LocalVSS, base: UPath, bucket_id: str, how: str
) -> None:
    fill(base, {"a": b"x" * 10, "b": b"z" * 10})
    async with uncached_client(vss) as client:
        original = client.upload

        async def change_first(**told: Any) -> Any:
            if how == "changes":
                fill(base, {"a": b"y" * 10})
            elif base.fs.exists(f"{base.path}/a"):
                base.fs.rm(f"{base.path}/a")
            return await original(**told)

        client.upload = change_first  # type: ignore[method-assign]
        result = await upload(
            client, f"memory {uuid.uuid4()}", bucket_id, listing=lambda: list_sources(base, bucket_id)
        )
        assert (result.total_balls, result.uploaded) == (2, 1), result
        assert [failure.key for failure in result.failures] == ["a"]
        assert ("changed" if how == "changes" else "no longer exists") in result.failures[0].message
        assert await versions(client, bucket_id) == one_version_each({"b": b"z" * 10})


async def test_items_of_another_store(vss: LocalVSS, base: UPath, bucket_id: str) -> None:
    fill(base, {"a": b"a"})
    async with uncached_client(vss) as client:
        items = [{"source": base / "a", "key": "x/y"}, {"key": "inline", "data": "text"}]
        result = await upload(
            client,
            f"memory {uuid.uuid4()}",
            bucket_id,
            listing=lambda: list_items(items, bucket_id),
            items_per_shard=True,
        )
        assert result.uploaded == 2
        assert bytes((await client.get(bucket_id, "x/y")).unwrap().data) == b"a"


async def test_pieces_are_read_one_after_the_other(vss: LocalVSS, base: UPath, bucket_id: str) -> None:
    """One open file has one place in it: two chunks that are read at once must not move each other's."""
    content = os.urandom(5_000_000)
    fill(base, {"a": content})
    at_once, lock = [0, 0], threading.Lock()

    class Watched:
        def __init__(self, opened: Any) -> None:
            self._opened = opened

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int) -> None:
            with lock:
                at_once[0] += 1
                at_once[1] = max(at_once)
            self._opened.seek(offset)

        def read(self, size: int) -> bytes:
            data: bytes = self._opened.read(size)
            with lock:
                at_once[0] -= 1
            return data

        def close(self) -> None:
            self._opened.close()

    class Store:
        def info(self, path: str) -> Any:
            return base.fs.info(path)

        def open(self, path: str, mode: str) -> Any:
            return Watched(base.fs.open(path, mode))

    async with uncached_client(vss) as client:
        file = FsspecFile(Store(), f"{base.path}/a", "memory://a")
        (await client.upload(bucket_id, "a", file=file, chunk_size="100kb", max_concurrency=8)).unwrap()
        assert bytes((await client.get(bucket_id, "a")).unwrap().data) == content
    assert at_once == [0, 1]


async def test_errors_of_a_store_are_the_clients(vss: LocalVSS, base: UPath, bucket_id: str) -> None:
    fill(base, {"a": b"a"})

    class Failing:
        def info(self, path: str) -> Any:
            return base.fs.info(path)

        def open(self, path: str, mode: str) -> Any:
            raise RuntimeError("the key was s3cr3t")

    async with uncached_client(vss) as client:
        answer = await client.upload(bucket_id, "a", file=FsspecFile(Failing(), f"{base.path}/a", "memory://a"))
        error = answer.unwrap_err()
        assert isinstance(error, UnknownError)
        assert "reading memory://a failed: RuntimeError in open (bulks/test_other_stores.py, line " in str(error)
        assert "s3cr3t" not in str(error)
