"""MictlanX as the filesystem of a complete Airflow: paths, XCom and task state, by a connection from the database."""

from __future__ import annotations

import gzip
from pathlib import Path

from airflow_provider_mictlanx.fs.filesystem import MictlanXFileSystem
from tests.e2e.distributed.conftest import Starter
from tests.support.airflow_runs import Run
from tests.support.vss import LocalVSS


def test_files_xcom_and_state_use_a_connection_from_the_database(
    start_airflow: Starter, vss: LocalVSS, bucket_id: str, tmp_path: Path
) -> None:
    environment = {
        "AIRFLOW__CORE__XCOM_BACKEND": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"mictlanx://from_database@{bucket_id}/xcom",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "1000",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_COMPRESSION": "gzip",
        "AIRFLOW__WORKERS__STATE_STORE_BACKEND": (
            "airflow.providers.common.io.state_store.backend.StateStoreObjectStorageBackend"
        ),
        "AIRFLOW__COMMON_IO__STATE_STORE_OBJECTSTORAGE_PATH": f"mictlanx://from_database@{bucket_id}/state",
        "AIRFLOW__COMMON_IO__STATE_STORE_OBJECTSTORAGE_THRESHOLD": "1000",
        # The default connection leads nowhere: nothing may use it.
        "AIRFLOW_CONN_MICTLANX_DEFAULT": "mictlanx://router-0@127.0.0.1:1/?protocol=http",
    }
    with start_airflow(vss, environment, slots=4) as airflow:
        airflow.add_connection("from_database", vss.uri)
        run = Run(airflow, "files_everywhere", bucket_id=bucket_id)
        run.finish()
        assert run.xcom("read") == "written by a task"
        assert run.xcom("add") == sum(range(50_000))
        assert run.xcom("remember") == [1000, 2]
        assert [run.xcom("mapped", index) for index in range(3)] == [1, 2, 3]
        numbers = run.xcom("numbers")
        assert isinstance(numbers, str)
        assert numbers.startswith(f"mictlanx://from_database@{bucket_id}/xcom/files_everywhere/")

    fs = MictlanXFileSystem(uri=vss.uri)
    files = fs.find(f"{bucket_id}/files")
    assert gzip.decompress(fs.cat(f"{bucket_id}/files/copy.gz")) == b"written by a task"
    assert f"{bucket_id}/files/a b/ñ.txt.gz" in files
    assert len(files) == 5
    assert len(fs.glob(f"{bucket_id}/xcom/**/*.gz")) == 1
    assert len([name for name in fs.find(f"{bucket_id}/state") if "done" in name]) == 1
