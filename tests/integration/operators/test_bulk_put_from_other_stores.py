"""Files of other stores, given as Airflow gives them: ``ObjectStoragePath``."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath

from airflow_provider_mictlanx.client.local_io.fsspec_source import content_fingerprint
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXBulkPutOperator
from tests.support.airflow_bulks import put_bulk
from tests.support.vss import LocalVSS

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2
    from airflow.io.store import attach


@pytest.fixture(autouse=True)
def _connected(connected: LocalVSS) -> None:
    pass


@pytest.fixture
def store() -> Iterator[str]:
    """A folder of another store, as a URI, with three files."""
    folder = f"/{uuid.uuid4().hex}"
    files = fsspec.filesystem("memory")
    attach(protocol="memory", fs=files)
    for name, content in {"a": "1", "b": "22", "sub/c": "333"}.items():
        files.pipe(f"{folder}/in/{name}", content.encode())
    yield f"memory:/{folder}"
    files.rm(folder, recursive=True)


@pytest.mark.parametrize(
    ("path", "keys"), [("in", ["a", "b", "sub/c"]), ("in/a", ["a"]), ("in/*", ["a", "b"]), ("in/sub", ["c"])]
)
def test_source(hook: MictlanXHook, bulk_id: str, bucket_id: str, store: str, path: str, keys: list[str]) -> None:
    arguments: dict[str, Any] = {
        "bulk_id": bulk_id,
        "bucket_id": bucket_id,
        "source": ObjectStoragePath(f"{store}/{path}"),
    }
    assert put_bulk(**arguments)["uploaded"] == len(keys)
    assert [ball["key"] for ball in hook.list_balls(bucket_id)] == keys
    assert put_bulk(**arguments)["skipped"] == len(keys), "the same task again"


def test_list_of_any_kinds(hook: MictlanXHook, bulk_id: str, bucket_id: str, store: str, folder: Path) -> None:
    source = [ObjectStoragePath(f"{store}/in/sub"), str(folder / "a"), folder / "b"]
    assert put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=source)["uploaded"] == 3
    assert [hook.get(bucket_id, key) for key in ("a", "b", "c")] == [b"1", b"22", b"333"]


def test_items(hook: MictlanXHook, bulk_id: str, bucket_id: str, store: str) -> None:
    put_bulk(
        bulk_id=bulk_id, bucket_id=bucket_id, balls=[{"key": "k", "source": ObjectStoragePath(f"{store}/in/sub/c")}]
    )
    assert hook.get(bucket_id, "k") == b"333"


def test_path_of_this_machine(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path) -> None:
    put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=ObjectStoragePath(f"file://{folder}"))
    assert hook.get(bucket_id, "sub/c") == b"333"


def test_bulk_in_a_dag_can_be_stored(store: str, folder: Path) -> None:
    """Airflow keeps DAGs, and what their templates are rendered to, as JSON."""
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialization
    except ImportError:  # Airflow 2
        from airflow.serialization.serialized_objects import SerializedDAG as Serialization

    with DAG("dag", schedule=None) as dag:
        MictlanXBulkPutOperator(task_id="path", bulk_id="b", bucket_id="b", source=[folder, ObjectStoragePath(store)])
        MictlanXBulkPutOperator(task_id="items", bulk_id="b", balls=[{"key": "k", "data": b"\x00"}])
        MictlanXBulkPutOperator.partial(task_id="map", bulk_id="b", bucket_id="b", source=folder, shards=2).expand(
            shard=[0, 1]
        )
    assert json.loads(json.dumps(Serialization.to_dict(dag)))


NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("listed", "looked_at", "same"),
    [
        ({"created": NOON.timestamp()}, {"created": NOON}, True),
        ({"LastModified": NOON, "ETag": '"1"'}, {"LastModified": NOON.replace(microsecond=1), "ETag": '"1"'}, True),
        ({"LastModified": NOON, "ETag": '"1"'}, {"LastModified": NOON, "ETag": '"2"'}, False),
        ({"LastModified": NOON}, {"LastModified": NOON.replace(second=1)}, False),
        ({"updated": "2026-11-23T12:00:00Z"}, {"updated": "2026-11-23T12:00:01Z"}, False),
        ({}, {"size": 2}, False),
        ({"StorageClass": "STANDARD"}, {"ContentType": "text/plain"}, True),
    ],
)
def test_marks_of_a_file(listed: dict[str, Any], looked_at: dict[str, Any], same: bool) -> None:
    """A store may tell other things, or in another way, when it lists and when it is asked for one file."""
    assert (content_fingerprint({"size": 1, **listed}) == content_fingerprint({"size": 1, **looked_at})) is same
