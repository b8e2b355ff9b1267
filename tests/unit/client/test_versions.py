"""What a listing means: which chunks belong together."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mictlanx.client.models import Metadata
from airflow_provider_mictlanx.client.versions import group_by_object, group_versions


def checksum(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


def announced(
    index: int,
    size: int,
    whole: str = "w",
    num_chunks: int = 3,
    at: int = 1,
    ball_id: str = "k",
    place: str = "",
    **tags: str,
) -> Metadata:
    standard = {
        "index": place or str(index),
        "num_chunks": str(num_chunks),
        "full_checksum": checksum(whole),
        "updated_at": str(at),
    }
    return Metadata(
        key=f"{ball_id}_{index}",
        size=size,
        checksum=checksum((whole, index, size)),
        tags={**standard, **tags},
        ball_id=ball_id,
        bucket_id="b",
    )


def ball(*sizes: int, whole: str = "w", at: int = 1) -> list[Metadata]:
    return [announced(index, size, whole, len(sizes), at + index) for index, size in enumerate(sizes)]


def shape(version: Any) -> tuple[bool, list[int]]:
    return version.is_complete, [chunk.size for chunk in version.ordered]


def test_nothing_listed_is_no_version() -> None:
    assert group_versions([]) == []


def test_replicas_repeat_and_come_in_any_order() -> None:
    chunks = ball(10, 10, 5) * 3
    random.Random(1).shuffle(chunks)
    (version,) = group_versions(chunks)
    assert shape(version) == (True, [10, 10, 5])
    assert (version.size, version.num_chunks, version.checksum) == (25, 3, checksum("w"))
    assert (version.begun_at, version.updated_at) == (1, 3)


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 6))
def test_versions_of_other_bytes_are_never_mixed(seed: int, first: int, second: int) -> None:
    chunks = ball(*[10] * first, whole="old", at=1) + ball(*[10] * second, whole="new", at=100)
    random.Random(seed).shuffle(chunks)
    newest, oldest = group_versions(chunks)
    assert (newest.checksum, oldest.checksum) == (checksum("new"), checksum("old"))
    assert (newest.is_complete, oldest.is_complete, newest.num_chunks, oldest.num_chunks) == (True, True, second, first)


def test_whole_versions_come_first_even_older_ones() -> None:
    versions = group_versions(ball(10, 10, 5, whole="old") + ball(9, 9, whole="new", at=100)[:1])
    assert [(version.checksum, version.is_complete) for version in versions] == [
        (checksum("old"), True),
        (checksum("new"), False),
    ]


def test_same_bytes_in_cuts_of_other_numbers_are_two_versions() -> None:
    versions = group_versions(ball(10, 10, 5) + ball(20, 5, at=50))
    assert [shape(version) for version in versions] == [(True, [20, 5]), (True, [10, 10, 5])]


@given(st.integers(0, 2**32))
def test_same_bytes_in_two_equal_cuts_are_two_versions(seed: int) -> None:
    chunks = ball(10, 10, 5) + ball(9, 9, 7, at=50)
    random.Random(seed).shuffle(chunks)
    shapes = [shape(version) for version in group_versions(chunks)]
    assert shapes[0] == (True, [9, 9, 7])
    assert (True, [10, 10, 5]) in shapes


def test_two_cuts_that_were_announced_in_turns_are_both_found() -> None:
    """Two writers at once: for some indexes the one is newer, for others the other."""
    chunks = [
        *(announced(0, 10, at=1), announced(0, 9, at=2)),
        *(announced(1, 10, at=3), announced(1, 9, at=4)),
        *(announced(2, 7, at=5), announced(2, 5, at=6)),
    ]
    shapes = [shape(version) for version in group_versions(chunks)]
    assert (True, [10, 10, 5]) in shapes
    assert (True, [9, 9, 7]) in shapes


def test_missing_index_is_not_whole() -> None:
    (version,) = group_versions([announced(0, 10), announced(2, 5)])
    assert shape(version) == (False, [10, 5])


def test_missing_num_chunks_counts_up_to_highest_index() -> None:
    def untagged(index: int) -> Metadata:
        return Metadata(key=f"k_{index}", size=10, checksum=checksum(index), ball_id="k", bucket_id="b")

    (version,) = group_versions([untagged(0), untagged(1)])
    assert (version.is_complete, version.num_chunks, version.checksum) == (True, 2, None)
    (version,) = group_versions([untagged(0), untagged(2)])
    assert (version.is_complete, version.num_chunks) == (False, 3)


def test_one_untagged_chunk_of_one_has_its_own_checksum() -> None:
    chunk = announced(0, 10, num_chunks=1, full_checksum="")
    assert group_versions([chunk])[0].checksum == chunk.checksum


def test_what_has_no_place_is_left_out() -> None:
    chunks = [
        announced(0, 10, num_chunks=1),
        announced(0, 10, num_chunks=1, place="x"),
        announced(7, 10, num_chunks=1),
        announced(0, 10, num_chunks=1, place="-1"),
        announced(0, 10, num_chunks=1, place="99999999999999999999"),
    ]
    assert [shape(version) for version in group_versions(chunks)] == [(True, [10])]


def test_filters_of_any_chunk_are_the_versions() -> None:
    chunks = [*ball(10, 10, 5)[:2], announced(2, 5, mictlanx_filters='["zstd"]')]
    assert group_versions(chunks)[0].filters == '["zstd"]'
    assert group_versions(ball(10, 10, 5))[0].filters == ""
    assert group_versions([announced(0, 1, num_chunks=1, mictlanx_filters="[]")])[0].filters == ""


def test_tail_has_no_checksum() -> None:
    (version,) = group_versions(ball(10, 10, 5))
    assert version.tail(0) is version
    rest = version.tail(1)
    assert (rest.checksum, rest.size, [chunk.index for chunk in rest.ordered]) == (None, 15, [1, 2])


def test_ball_of_a_version() -> None:
    path = "a/b.txt"
    ball_id = hashlib.sha256(path.encode()).hexdigest()
    chunk = announced(0, 10, num_chunks=1, ball_id=ball_id, full_path=path, fullname="b.txt")
    found = group_versions([chunk])[0].as_ball()
    assert (found.key, found.ball_id, found.size, found.num_chunks, found.fullname) == (path, ball_id, 10, 1, "b.txt")


def test_bucket_is_sorted_by_ball() -> None:
    listing = [announced(0, 10, ball_id="x"), announced(0, 10, ball_id="y"), announced(1, 10, ball_id="x")]
    assert {row: len(chunks) for row, chunks in group_by_object(listing).items()} == {("x", ""): 2, ("y", ""): 1}


TAGS = st.dictionaries(
    st.sampled_from(["index", "num_chunks", "full_checksum", "updated_at", "mictlanx_filters"]),
    st.text(max_size=5) | st.integers(0, 4).map(str),
)


@given(
    st.lists(
        st.builds(
            lambda tags, size, key: Metadata(
                key=f"k_{key}", size=size, checksum=checksum(size), tags=tags, ball_id="k", bucket_id="b"
            ),
            TAGS,
            st.integers(0, 5),
            st.integers(0, 4),
        ),
        max_size=12,
    )
)
def test_no_listing_makes_it_fail(chunks: list[Metadata]) -> None:
    versions = group_versions(chunks)
    for version in versions:
        assert version.chunks
        assert len({chunk.full_checksum for chunk in version.ordered}) == 1
        assert all(chunk.index == index for index, chunk in version.chunks.items())
        if version.is_complete:
            assert sorted(version.chunks) == list(range(version.num_chunks))
            version.as_ball()
    assert sorted(versions, key=lambda version: not version.is_complete) == versions
