"""Files from S3 to MictlanX and back, with a server that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.providers.common.io.operators.file_transfer import FileTransferOperator

from airflow_provider_mictlanx.fs.filesystem import MictlanXFileSystem


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto_server = pytest.importorskip("moto.server")  # imported by the tests' worker only
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch, bucket_id: str) -> Iterator[Any]:
    """An S3 whose filesystem is attached to Airflow, as the Amazon provider does it."""
    s3fs = pytest.importorskip("s3fs")
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    if ObjectStoragePath.__module__ == "airflow.io.path":
        from airflow.io import store
    else:
        from airflow.sdk.io import store
    close = s3fs.S3FileSystem.close_session
    # Closed below: whenever garbage is collected, s3fs would start a task for it in the event loop of another test.
    monkeypatch.setattr(s3fs.S3FileSystem, "close_session", staticmethod(lambda loop, session: None))
    fs = s3fs.S3FileSystem(endpoint_url=server, key="id", secret="secret", skip_instance_cache=True)
    fs.mkdir(bucket_id)
    monkeypatch.setitem(store._STORE_CACHE, "s3", store.ObjectStore(protocol="s3", conn_id=None, fs=fs))
    yield fs
    close(fs.loop, fs._s3creator)


def transfer(src: ObjectStoragePath, dst: ObjectStoragePath) -> None:
    FileTransferOperator(task_id="transfer", src=src, dst=dst).execute({})


def test_files_go_from_s3_to_mictlanx_and_back(s3: Any, conn_id: str, fs: MictlanXFileSystem, bucket_id: str) -> None:
    data = bytes(range(256)) * 40_000
    s3.pipe(f"{bucket_id}/in/a.bin", data)
    here = ObjectStoragePath(f"mictlanx://{bucket_id}/a.bin", conn_id=conn_id)
    transfer(ObjectStoragePath(f"s3://{bucket_id}/in/a.bin"), here)
    assert fs.cat(f"{bucket_id}/a.bin") == data
    transfer(here, ObjectStoragePath(f"s3://{bucket_id}/back.bin"))
    assert s3.cat(f"{bucket_id}/back.bin") == data


def test_fsspec_copies_between_s3_and_mictlanx(s3: Any, fs: MictlanXFileSystem, bucket_id: str) -> None:
    s3.pipe({f"{bucket_id}/x/{name}": name.encode() for name in ("1", "2", "sub/3")})
    for path in s3.find(f"{bucket_id}/x"):
        with s3.open(path) as source, fs.open(path, "wb") as target:
            target.write(source.read())
    assert fs.find(f"{bucket_id}/x") == s3.find(f"{bucket_id}/x")


FOLDER = ("1.txt", "2.txt", "3.txt")


@pytest.mark.skipif(ObjectStoragePath.__module__ == "airflow.io.path", reason="seen with Airflow 3")
@pytest.mark.parametrize("source", ["s3", "mictlanx"])
def test_a_folder_that_goes_to_s3_becomes_one_file(
    s3: Any, conn_id: str, fs: MictlanXFileSystem, bucket_id: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Airflow's ``FileTransferOperator`` writes all files of a folder onto one key, and is green; the docs warn of it.

    If this fails because all files arrive, Airflow has mended it: remove the warning from ``docs/works-with.md``.
    """
    from airflow.sdk.io import store

    {"s3": s3, "mictlanx": fs}[source].pipe({f"{bucket_id}/folder/{name}": name.encode() for name in FOLDER})
    # Another connection: within one store, Airflow lets the filesystem copy.
    monkeypatch.setitem(store._STORE_CACHE, "s3-second", store.ObjectStore(protocol="s3", conn_id="second", fs=s3))
    src = ObjectStoragePath(f"{source}://{bucket_id}/folder", conn_id=conn_id if source == "mictlanx" else None)
    transfer(src, ObjectStoragePath(f"s3://{bucket_id}/out", conn_id="second"))
    assert s3.find(f"{bucket_id}/out") == [f"{bucket_id}/out"]
    assert s3.cat(f"{bucket_id}/out") == b"3.txt"


@pytest.mark.skipif(ObjectStoragePath.__module__ == "airflow.io.path", reason="seen with Airflow 3")
def test_a_folder_that_goes_to_mictlanx_keeps_its_keys(
    s3: Any, conn_id: str, fs: MictlanXFileSystem, bucket_id: str
) -> None:
    s3.pipe({f"{bucket_id}/folder/{name}": name.encode() for name in FOLDER})
    src = ObjectStoragePath(f"s3://{bucket_id}/folder")
    transfer(src, ObjectStoragePath(f"mictlanx://{bucket_id}/out", conn_id=conn_id))
    assert fs.find(f"{bucket_id}/out") == [f"{bucket_id}/out/folder/{name}" for name in FOLDER]
