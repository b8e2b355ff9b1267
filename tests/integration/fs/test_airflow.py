"""Airflow's own users of filesystems, with MictlanX: paths, XCom, the state store and ``FileTransferOperator``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.providers.common.io.operators.file_transfer import FileTransferOperator
from airflow.providers.common.io.xcom import backend as xcom_backend
from airflow.providers.common.io.xcom.backend import XComObjectStorageBackend

from airflow_provider_mictlanx.fs.filesystem import MictlanXFileSystem
from tests.support.vss import LocalVSS

IS_AIRFLOW_3 = ObjectStoragePath.__module__ != "airflow.io.path"


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch, conn_id: str, bucket_id: str) -> Iterator[Callable[..., str]]:
    """Configure the XCom backend and the state store of ``common.io``; return their folder."""
    folder = f"mictlanx://{conn_id}@{bucket_id}"

    def forget() -> None:
        for module in modules:
            for setting in ("_get_base_path", "_get_compression", "_get_threshold"):
                getattr(module, setting).cache_clear()

    modules: list[Any] = [xcom_backend]
    if IS_AIRFLOW_3:
        from airflow.providers.common.io.state_store import backend as state_store_backend

        modules.append(state_store_backend)

    def set_up(compression: str = "", threshold: int = 100) -> str:
        for kind in ("XCOM", "STATE_STORE"):
            monkeypatch.setenv(f"AIRFLOW__COMMON_IO__{kind}_OBJECTSTORAGE_PATH", f"{folder}/{kind.lower()}")
            monkeypatch.setenv(f"AIRFLOW__COMMON_IO__{kind}_OBJECTSTORAGE_THRESHOLD", str(threshold))
            monkeypatch.setenv(f"AIRFLOW__COMMON_IO__{kind}_OBJECTSTORAGE_COMPRESSION", compression)
        forget()
        return folder

    yield set_up
    forget()


def stored(value: Any) -> Any:
    """Return the XCom as the database has it: in Airflow 2 it is JSON in bytes."""
    return json.loads(value) if isinstance(value, bytes) else value


@pytest.mark.parametrize("compression", ["", "gzip", "bz2", "xz"])
def test_large_xcoms_go_to_mictlanx(
    configure: Callable[..., str], fs: MictlanXFileSystem, bucket_id: str, compression: str
) -> None:
    folder = configure(compression)
    value = {"rows": list(range(200)), "name": "ñ"}
    at = {"key": "return_value", "task_id": "task", "dag_id": "dag", "run_id": "manual__2026-01-01T00:00:00+00:00"}
    reference = XComObjectStorageBackend.serialize_value(value, **at)
    url = stored(reference)
    assert url.startswith(f"{folder}/xcom/dag/manual__2026")
    assert len(fs.find(bucket_id)) == 1
    result = SimpleNamespace(value=reference if IS_AIRFLOW_3 else json.dumps(url).encode())
    assert XComObjectStorageBackend.deserialize_value(result) == value
    XComObjectStorageBackend.purge(SimpleNamespace(value=url))
    assert fs.find(bucket_id) == []


def test_small_xcoms_stay_in_the_database(
    configure: Callable[..., str], fs: MictlanXFileSystem, bucket_id: str
) -> None:
    configure()
    assert stored(XComObjectStorageBackend.serialize_value({"a": 1}, key="k", dag_id="d")) == {"a": 1}
    assert fs.find(bucket_id) == []


def test_an_xcom_that_cannot_be_read_is_an_error(
    own_vss: Callable[..., LocalVSS],
    connect: Callable[..., None],
    configure: Callable[..., str],
    conn_id: str,
    no_retry_waits: None,
) -> None:
    vss = own_vss()
    connect(vss, conn_id)
    configure()
    reference = XComObjectStorageBackend.serialize_value(list(range(100)), key="k", dag_id="d")
    result = SimpleNamespace(value=reference if IS_AIRFLOW_3 else json.dumps(stored(reference)).encode())
    with vss.fault("status", status=503), pytest.raises(OSError, match="failed"):
        XComObjectStorageBackend.deserialize_value(result)


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="Airflow 2 has no state store")
@pytest.mark.parametrize("compression", ["", "gzip"])
def test_task_state_is_stored_in_mictlanx(
    configure: Callable[..., str], fs: MictlanXFileSystem, bucket_id: str, compression: str
) -> None:
    from airflow.providers.common.io.state_store.backend import StateStoreObjectStorageBackend
    from airflow.sdk.state import AssetScope, TaskScope

    configure(compression, threshold=0)
    backend = StateStoreObjectStorageBackend()
    scope = TaskScope(dag_id="dag", run_id="run 1", task_id="task", map_index=0)
    other = TaskScope(dag_id="dag", run_id="run 1", task_id="task", map_index=1)
    reference = backend.serialize_task_state_store_to_ref(value={"done": [1, 2]}, key="progress", scope=scope)
    assert backend.deserialize_task_state_store_from_ref(reference) == {"done": [1, 2]}
    backend.set(scope, "progress", '"new"')
    backend.set(other, "progress", '"other"')
    assert backend.get(scope, "progress") == '"new"'
    assert backend.get(scope, "absent") is None
    backend.clear(scope)
    assert backend.get(scope, "progress") is None
    backend.clear(scope, all_map_indices=True)
    backend.delete(other, "progress")
    assert fs.find(bucket_id) == []
    asset = AssetScope(uri="mictlanx://b/k")
    backend.set(asset, "watermark", '"2026"')
    assert backend.get(asset, "watermark") == '"2026"'


def transfer(src: Any, dst: Any, **options: Any) -> None:
    FileTransferOperator(task_id="transfer", src=src, dst=dst, **options).execute({})


def test_files_are_transferred_both_ways(conn_id: str, fs: MictlanXFileSystem, bucket_id: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"1,2\n")
    remote = f"mictlanx://{bucket_id}/in/a.csv"
    transfer(f"file://{tmp_path}/a.csv", remote, dest_conn_id=conn_id)
    assert fs.cat(f"{bucket_id}/in/a.csv") == b"1,2\n"
    transfer(ObjectStoragePath(remote, conn_id=conn_id), f"file://{tmp_path}/b.csv")
    assert (tmp_path / "b.csv").read_bytes() == b"1,2\n"
    with pytest.raises(ValueError, match="already exists"):
        transfer(f"file://{tmp_path}/a.csv", remote, dest_conn_id=conn_id)
    (tmp_path / "a.csv").write_bytes(b"3,4\n")
    transfer(f"file://{tmp_path}/a.csv", remote, dest_conn_id=conn_id, overwrite=True)
    transfer(remote, f"mictlanx://{bucket_id}/copy.csv", source_conn_id=conn_id, dest_conn_id=conn_id)
    assert fs.cat(f"{bucket_id}/copy.csv") == b"3,4\n"


def test_a_path_behaves_as_airflow_documents(conn_id: str, bucket_id: str, tmp_path: Path) -> None:
    base = ObjectStoragePath(f"mictlanx://{conn_id}@{bucket_id}/data")
    (base / "x" / "1.txt").write_text("1")
    (base / "x" / "2.txt").write_bytes(b"22")
    assert sorted(path.name for path in (base / "x").iterdir()) == ["1.txt", "2.txt"]
    assert sorted(path.name for path in base.rglob("*.txt")) == ["1.txt", "2.txt"]
    assert ((base / "x").is_dir(), (base / "x" / "1.txt").is_file(), (base / "no").exists()) == (True, True, False)
    stat = (base / "x" / "2.txt").stat()
    assert stat.st_size == 2
    assert stat.st_mtime > 1_700_000_000
    assert (base / "x" / "2.txt").size() == 2
    (base / "x").copy(ObjectStoragePath(f"file://{tmp_path}/out"), recursive=True)
    assert (tmp_path / "out" / "2.txt").read_bytes() == b"22"
    (base / "x" / "1.txt").move(base / "y" / "1.txt")
    assert not (base / "x" / "1.txt").exists()
    assert (base / "y" / "1.txt").read_text() == "1"
    (base / "y" / "1.txt").unlink()
    (base / "y" / "1.txt").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (base / "y" / "1.txt").unlink()
    made = base / "made"
    made.mkdir(parents=True, exist_ok=True)
    assert made.is_dir()
    again = ObjectStoragePath.deserialize((base / "x").serialize(), 1)
    assert (again / "2.txt").read_bytes() == b"22"
