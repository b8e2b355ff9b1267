"""Companions in listings: what is one, and what object it stands for."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_mictlanx.client.empty_objects import (
    COMPANION_TAG,
    EMPTY_CHECKSUM,
    NO_PLACE,
    CompanionId,
    companion_key,
    is_companion,
    with_empty_objects,
)
from airflow_provider_mictlanx.client.models import Metadata
from airflow_provider_mictlanx.client.versions import group_versions
from tests.support.sample_bytes import sha256


def row(key: str, ball_id: str = "k", size: int = 1, **tags: str) -> Metadata:
    return Metadata(key=key, size=size, checksum=sha256(b"\n"), tags=tags, ball_id=ball_id, bucket_id="b")


def companion(ball_id: str = "k", **tags: str) -> Metadata:
    placed = {"index": "0", **NO_PLACE, "updated_at": "7", COMPANION_TAG: ball_id, **tags}
    return row(companion_key(ball_id), ball_id, **placed)


def data(index: int, num_chunks: int, ball_id: str = "k") -> Metadata:
    tags = {"index": str(index), "num_chunks": str(num_chunks), "full_checksum": "c"}
    return row(f"{ball_id}_{index}", ball_id, 9, **tags)


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        (companion(), True),
        (row(companion_key("k")), False),
        (row("k_0", **{COMPANION_TAG: "k"}), False),
        (row(companion_key("k"), "other", **{COMPANION_TAG: "k"}), False),
    ],
)
def test_companion_has_the_tag_and_the_key(chunk: Metadata, expected: bool) -> None:
    assert is_companion(chunk) is expected


def test_key_of_a_companion_is_no_key_of_a_chunk() -> None:
    assert CompanionId("b", "k", "k").chunk(0) == companion_key("k")
    assert not companion_key("k").rpartition("_")[2].isdigit()


def test_companion_belongs_to_no_version() -> None:
    """Readers that do not know companions must not hand out its byte."""
    assert group_versions([companion()]) == []


def test_companion_becomes_the_empty_chunk() -> None:
    (chunk,) = with_empty_objects([companion(colour="red")])
    assert (chunk.key, chunk.size, chunk.checksum, chunk.updated_at) == ("k_0", 0, EMPTY_CHECKSUM, 7)
    assert chunk.tags["colour"] == "red"
    assert COMPANION_TAG not in chunk.tags
    (version,) = group_versions([chunk])
    assert (version.is_complete, version.size, version.checksum) == (True, 0, EMPTY_CHECKSUM)


@pytest.mark.parametrize(
    ("listing", "keys"),
    [
        ([], []),
        ([data(0, 1)], ["k_0"]),
        ([data(0, 1), companion()], ["k_0"]),
        ([companion(), data(1, 2)], ["k_1", "k_0"]),
        ([companion(), companion(), data(0, 1, "o"), companion("o")], ["o_0", "k_0", "k_0"]),
    ],
)
def test_stale_companions_are_left_out(listing: list[Metadata], keys: list[str]) -> None:
    found: Any = with_empty_objects(listing)
    assert [chunk.key for chunk in found] == keys
    assert all(chunk.size == 9 for chunk in found if chunk.key != "k_0" or chunk in listing)
