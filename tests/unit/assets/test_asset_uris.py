"""Asset URIs, and the places that lineage tells of."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.assets import Asset

from airflow_provider_mictlanx import lineage
from airflow_provider_mictlanx.assets import mictlanx
from airflow_provider_mictlanx.lineage import MAX_LOCATIONS, DataLocation, LineageTrace, bucket_location


@pytest.mark.parametrize(
    ("key", "uri"),
    [
        ("a.txt", "mictlanx://Bucket-1/a.txt"),
        ("a/b c?#%.txt", "mictlanx://Bucket-1/a/b%20c%3F%23%25.txt"),
        ("año", "mictlanx://Bucket-1/a%C3%B1o"),
        ("/abs", "mictlanx://Bucket-1//abs"),
        ("", "mictlanx://Bucket-1/"),
    ],
)
def test_asset_of_a_key_and_back(key: str, uri: str) -> None:
    asset = mictlanx.create_asset(bucket="Bucket-1", key=key, extra={"a": 1})
    assert (asset.uri, asset.extra) == (uri, {"a": 1})
    dataset = mictlanx.convert_asset_to_openlineage(asset, None)
    assert (dataset.namespace, dataset.name) == ("mictlanx://Bucket-1", key or "/")


@pytest.mark.parametrize("uri", ["mictlanx://conn@bucket/a/b", "MICTLANX://bucket/a/b/", "mictlanx://bucket/a/b#x"])
def test_airflow_sees_one_asset_through_every_connection(uri: str) -> None:
    assert Asset(uri=uri).uri == "mictlanx://bucket/a/b"


@pytest.mark.parametrize(
    "uri",
    [
        "mictlanx:///key",
        "mictlanx://router-0@host:60666/?protocol=http",
        "mictlanx://router-0:s3cr3t@host:60666/?protocol=http",
        "mictlanx://a.b/key",
        "mictlanx://bucket/k?a=b",
    ],
)
def test_what_is_no_asset_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="mictlanx://bucket/key") as caught:
        mictlanx.sanitize_uri(urlsplit(uri))  # Airflow 2 makes a warning of it
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("/data/a.txt", DataLocation("file", "", "/data/a.txt")),
        ("/data/frames/", DataLocation("file", "", "/data/frames")),
        ("/data/**/*.jpg", DataLocation("file", "", "/data")),
        ("/data/frame-?.jpg", DataLocation("file", "", "/data")),
        ("*.jpg", DataLocation("file", "", os.getcwd())),
        ("file:///data/a", DataLocation("file", "", "/data/a")),
        ("s3://my_conn@bucket/a/b", DataLocation("s3", "bucket", "a/b")),
        ("gs://bucket/a/*.csv", DataLocation("gs", "bucket", "a")),
    ],
)
def test_place_of_a_source(source: str, place: DataLocation) -> None:
    assert lineage.source_location(source) == place


def test_many_are_told_as_few() -> None:
    assert lineage.key_locations("b", ["one", "two", "one"]) == [
        bucket_location("b", "one"),
        bucket_location("b", "two"),
    ]
    assert lineage.key_locations("b", [f"{number}" for number in range(MAX_LOCATIONS + 1)]) == [bucket_location("b")]
    balls = [{"key": f"{number}", "source": f"/data/{number % 2}/{number}"} for number in range(MAX_LOCATIONS + 1)]
    assert lineage.source_locations([], balls) == [
        DataLocation("file", "", "/data/0"),
        DataLocation("file", "", "/data/1"),
    ]
    assert lineage.source_locations([], balls[:1]) == [DataLocation("file", "", "/data/0/0")]
    assert lineage.source_locations([], [{"key": "a", "data": "b"}]) == []
    assert lineage.selected_location("b", "", "2024/*.csv") == bucket_location("b", "2024/")
    trace = LineageTrace()
    trace.add([bucket_location("b", f"{number}") for number in range(10_000)], [bucket_location("b")] * 2, [])
    assert (len(trace.reads), list(trace.writes), list(trace.deletes)) == (MAX_LOCATIONS, [bucket_location("b")], [])


def test_relative_paths_are_told_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert lineage.file_location("a/../b") == DataLocation("file", "", str(tmp_path / "b"))


def test_place_of_what_openlineage_knows() -> None:
    asset = SimpleNamespace(uri="mictlanx://bucket/a%2Fb")
    assert mictlanx.convert_asset_to_openlineage(asset, None).name == "a/b"
