"""``MictlanXGetToFolderOperator`` with a folder of another store: S3 by a server that speaks it, and a store without atomic puts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from airflow_provider_mictlanx.batches.export import Store
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXGetToFolderOperator, MictlanXSyncOperator
from tests.support.operator_runs import run
from tests.support.vss import LocalVSS

OBJECTS = {"a": b"1", "sub/b.csv": b"22", "empty": b"", "sub/c d": b"4444", "big": os.urandom(300_000)}


@pytest.fixture
def stored(hook: MictlanXHook, bucket_id: str) -> str:
    for key, data in OBJECTS.items():
        hook.put(bucket_id, key, data, chunk_size="100kb")
    return bucket_id


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    moto_server = pytest.importorskip("moto.server")
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


class Target:
    """A folder of another store, and what is in it."""

    def __init__(self, path: UPath) -> None:
        self.path = path

    def read(self) -> dict[str, bytes]:
        root = self.path.path.rstrip("/")
        self.path.fs.invalidate_cache()
        return {name.removeprefix(f"{root}/"): self.path.fs.cat_file(name) for name in self.path.fs.find(root)}

    def write(self, name: str, data: bytes) -> None:
        self.path.fs.pipe_file(f"{self.path.path}/{name}", data)


@pytest.fixture(params=["s3", "memory"])
def target(request: pytest.FixtureRequest, bucket_id: str) -> Iterator[Target]:
    if request.param == "memory":
        yield Target(UPath(f"memory://{bucket_id}/out"))
        fsspec.filesystem("memory").rm(f"/{bucket_id}", recursive=True)
        return
    pytest.importorskip("s3fs")
    options = {"key": "id", "secret": "s3cr3t", "endpoint_url": request.getfixturevalue("s3_server")}
    path = UPath(f"s3://{bucket_id}/out", **options)
    path.fs.mkdir(bucket_id)
    yield Target(path)


def export(target: Target, **arguments: Any) -> dict[str, Any]:
    quick = {"max_tries": 2, "max_backoff": 0.05}
    result: dict[str, Any] = run(
        MictlanXGetToFolderOperator(task_id="export", output_path=target.path, **quick, **arguments)
    )
    return result


def test_export_writes_and_resumes(stored: str, target: Target, vss: LocalVSS) -> None:
    first = export(target, bucket_id=stored)
    assert target.read() == OBJECTS
    assert (first["total_balls"], first["downloaded"], first["downloaded_size"]) == (5, 5, 300_007)
    assert first["output_path"] == str(target.path)
    target.path.fs.rm_file(f"{target.path.path}/sub/b.csv")
    vss.reset_requests()
    again = export(target, bucket_id=stored)
    assert (again["downloaded"], again["skipped"], again["failed"]) == (1, 4, 0)
    assert len(vss.requests("GET", rf"/buckets/{stored}/\w+_0$")) == 1
    assert target.read() == OBJECTS


def test_folder_that_looks_like_a_glob_is_exported(hook: MictlanXHook, stored: str, target: Target) -> None:
    hook.put(stored, "x[1]/e*", "e")
    assert export(target, bucket_id=stored, prefix="x")["downloaded"] == 1
    assert target.read() == {"x[1]/e*": b"e"}


def test_file_with_other_content_is_left_unless_replaced(stored: str, target: Target) -> None:
    target.write("a", b"!")  # of the same size
    target.write("big", b"other")
    result = export(target, bucket_id=stored, fail_on_error=False)
    assert (result["downloaded"], result["failed"], {failure["code"] for failure in result["failures"]}) == (
        3,
        2,
        {405},
    )
    assert target.read() == {**OBJECTS, "a": b"!", "big": b"other"}
    assert export(target, bucket_id=stored, replace=True)["downloaded"] == 2
    assert target.read() == OBJECTS


@pytest.mark.parametrize("target", ["memory"], indirect=True)
def test_wrong_bytes_never_get_a_name(
    hook: MictlanXHook, own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str, target: Target
) -> None:
    vss = own_vss(peers=1)
    connect(vss)
    for key, data in OBJECTS.items():
        hook.put(bucket_id, key, data, chunk_size="100kb")
    vss.restart()  # a router keeps in memory what it has passed on
    stored = bucket_id
    with vss.fault("flip_bit", key="big_1"):
        result = export(target, bucket_id=stored, fail_on_error=False)
    assert (result["failed"], result["failures"][0]["key"]) == (1, "big")
    assert target.read() == {key: data for key, data in OBJECTS.items() if key != "big"}
    assert export(target, bucket_id=stored)["downloaded"] == 1


def test_key_that_leaves_the_folder_fails_alone(hook: MictlanXHook, stored: str, target: Target) -> None:
    hook.put(stored, "../up", "x")
    result = export(target, bucket_id=stored, fail_on_error=False)
    assert (result["downloaded"], result["failed"]) == (5, 1)
    assert target.read() == OBJECTS


def test_bulk_is_exported_as_it_was_uploaded(hook: MictlanXHook, bucket_id: str, bulk_id: str, target: Target) -> None:
    hook.put_bulk(bulk_id, bucket_id, balls=[{"key": key, "data": data} for key, data in OBJECTS.items()])
    assert export(target, bulk_id=bulk_id)["downloaded"] == 5
    assert target.read() == OBJECTS


def test_s3_and_sync(stored: str, target: Target) -> None:
    target.write("extra", b"e")
    target.write("a", b"!")
    sync = MictlanXSyncOperator(
        task_id="sync", source=f"mictlanx://{stored}", destination=target.path, delete_extra=True
    )
    result = run(sync)
    assert (result["transferred"], result["first_deleted"], result["deleted_size"]) == (5, ["extra"], 1)
    assert target.read() == OBJECTS
    assert run(sync)["skipped"] == 5


class FailingStore(MemoryFileSystem):
    """Writes half of a file, and fails."""

    protocol = "failing"
    cachable = False

    def put_file(self, lpath: str, rpath: str, callback: Any = None, **kwargs: Any) -> None:
        data = Path(lpath).read_bytes()
        self.pipe_file(rpath, data[: len(data) // 2])
        raise PermissionError(13, "with a s3cr3t in it", rpath)


@pytest.mark.parametrize("shorter", [True, False])
def test_half_a_file_never_gets_its_name(
    hook: MictlanXHook, stored: str, monkeypatch: pytest.MonkeyPatch, shorter: bool, logged: Callable[[], list[str]]
) -> None:
    """Without atomic puts, the name comes last; the error names the store, the file and the system's reason."""
    fs = FailingStore()
    if shorter:  # it forgets bytes, and says nothing
        put = FailingStore.put_file

        def lose(*arguments: Any, **more: Any) -> None:
            with pytest.raises(PermissionError):
                put(*arguments, **more)

        monkeypatch.setattr(FailingStore, "put_file", lose)
    root = f"/{stored}/half"
    path = type("Path", (), {"fs": fs, "path": root, "protocol": "failing", "__str__": lambda _: f"failing:/{root}"})()
    result = hook.get_to_folder(path, stored, fail_on_error=False, max_tries=1)
    messages = {failure["key"]: failure["message"] for failure in result["failures"]}
    reason = "2 of 4 bytes arrived" if shorter else "Permission denied"
    assert messages["sub/c d"].startswith(f"writing sub/c d in failing:/{root} failed: {reason}")
    assert "s3cr3t" not in "".join(logged())
    assert set(fs.find(root)) <= {f"{root}/empty"}


def test_local_paths_are_no_other_store(hook: MictlanXHook, stored: str, tmp_path: Path) -> None:
    result = hook.get_to_folder(ObjectStoragePath(f"file://{tmp_path}/out"), stored)
    assert (result["downloaded"], result["output_path"]) == (5, f"{tmp_path}/out")
    assert Store.at(tmp_path) is None
    assert Store.at(str(tmp_path)) is None
    assert Store.at(UPath(tmp_path)) is None
