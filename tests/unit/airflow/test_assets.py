"""Asset URIs, and the places that lineage tells of."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.assets import Asset

from airflow_provider_mictlanx.assets import mictlanx, places
from airflow_provider_mictlanx.assets.places import MOST, Place, Trace, in_bucket


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
        ("/data/a.txt", Place("file", "", "/data/a.txt")),
        ("/data/frames/", Place("file", "", "/data/frames")),
        ("/data/**/*.jpg", Place("file", "", "/data")),
        ("/data/frame-?.jpg", Place("file", "", "/data")),
        ("*.jpg", Place("file", "", os.getcwd())),
        ("file:///data/a", Place("file", "", "/data/a")),
        ("s3://my_conn@bucket/a/b", Place("s3", "bucket", "a/b")),
        ("gs://bucket/a/*.csv", Place("gs", "bucket", "a")),
    ],
)
def test_place_of_a_source(source: str, place: Place) -> None:
    assert places.of_source(source) == place


def test_many_are_told_as_few() -> None:
    assert places.keys_of("b", ["one", "two", "one"]) == [in_bucket("b", "one"), in_bucket("b", "two")]
    assert places.keys_of("b", [f"{number}" for number in range(MOST + 1)]) == [in_bucket("b")]
    balls = [{"key": f"{number}", "source": f"/data/{number % 2}/{number}"} for number in range(MOST + 1)]
    assert places.sources_of([], balls) == [Place("file", "", "/data/0"), Place("file", "", "/data/1")]
    assert places.sources_of([], balls[:1]) == [Place("file", "", "/data/0/0")]
    assert places.sources_of([], [{"key": "a", "data": "b"}]) == []
    assert places.matching("b", "", "2024/*.csv") == in_bucket("b", "2024/")
    trace = Trace()
    trace.add([in_bucket("b", f"{number}") for number in range(10_000)], [in_bucket("b")] * 2, [])
    assert (len(trace.reads), list(trace.writes), list(trace.drops)) == (MOST, [in_bucket("b")], [])


def test_relative_paths_are_told_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert places.on_disk("a/../b") == Place("file", "", str(tmp_path / "b"))


def test_place_of_what_openlineage_knows() -> None:
    asset = SimpleNamespace(uri="mictlanx://bucket/a%2Fb")
    assert mictlanx.convert_asset_to_openlineage(asset, None).name == "a/b"
