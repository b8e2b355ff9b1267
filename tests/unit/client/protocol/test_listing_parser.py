"""Listings that are parsed piece by piece: the same result as at once, however they are cut, indented or spoilt."""

from __future__ import annotations

import itertools
import json
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mictlanx.client.models import (
    BallChunksResponse,
    BallListing,
    GetRouterBucketMetadataResponse,
    Metadata,
)
from airflow_provider_mictlanx.client.protocol import listing_parser
from airflow_provider_mictlanx.client.protocol.listing_parser import ListingParser
from tests.support.malformed_values import spoilt, texts

INVALID = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

tricky = st.lists(
    st.sampled_from(["{", "}", "},{", "} , {", '"', "\\", "[", "]", ",", '"balls":[', '{"balls": [{', "ü", " ", "\n"]),
    max_size=6,
).map("".join)
anything = (
    tricky | texts | st.integers() | st.none() | st.lists(st.dictionaries(tricky, tricky, max_size=2), max_size=3)
)
rows = st.fixed_dictionaries(
    {
        "key": st.integers(0, 4).map("k_{}".format),
        "size": st.integers(0, 9),
        "checksum": st.sampled_from(["c", "d"]),
        "ball_id": st.sampled_from(["k", "l"]),
        "bucket_id": st.just("b"),
    },
    optional={
        "tags": st.none() | st.dictionaries(tricky | st.just("updated_at"), tricky, max_size=3),
        "is_disabled": st.booleans(),
        "more": anything,
    },
)


@st.composite
def listings(draw: st.DrawFn) -> bytes:
    """Return a listing with its fields in any order, with spaces or without, perhaps with something wrong."""
    fields = {
        "bucket_id": draw(tricky),
        "peers_ids": draw(st.lists(tricky, max_size=3)),
        "balls": draw(st.lists(rows, max_size=8)),
        "more": draw(anything),
        "extra": draw(st.dictionaries(tricky, anything, max_size=2)),
    }
    told: Any = {name: fields[name] for name in draw(st.permutations(sorted(fields)))}
    if draw(st.booleans()):
        told = draw(spoilt(told))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]))
    indent = draw(st.sampled_from([None, 1, 4]))
    body = json.dumps(told, separators=separators, indent=indent, ensure_ascii=draw(st.booleans()))
    encoded = body.encode("utf-8", "surrogatepass")
    return encoded[: draw(st.integers(0, len(encoded)))] if draw(st.integers(0, 9)) == 0 else encoded


def parse(model: type[BallListing], body: bytes, cuts: list[int]) -> BallListing:
    parser = ListingParser(model)
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        parser.feed(body[start:end])
    return parser.finish()


@given(body=listings(), cuts=st.lists(st.integers(0, 5000), max_size=30), at_once=st.integers(1, 200))
def test_listing_in_pieces_equals_listing_at_once(body: bytes, cuts: list[int], at_once: int) -> None:
    try:
        expected: Any = msgspec.json.decode(body, type=GetRouterBucketMetadataResponse)
    except INVALID:
        expected = None
    with mock.patch.object(listing_parser, "SLICE", at_once):
        try:
            found: Any = parse(GetRouterBucketMetadataResponse, body, cuts)
        except INVALID:
            found = None
    assert found == expected


def listing(rows: list[dict[str, Any]], name: str = "balls") -> bytes:
    return json.dumps({"bucket_id": "b", "ball_id": "k", "peers_ids": ["p"], name: rows, "size": "", "x": 1}).encode()


def row(index: int, **other: Any) -> dict[str, Any]:
    tags = {"index": str(index), "updated_at": "1"}
    return {"key": f"k_{index}", "size": 5, "checksum": "c", "ball_id": "k", "bucket_id": "b", "tags": tags, **other}


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_parser, "SLICE", 300)


@pytest.mark.usefixtures("small_slices")
def test_rows_are_decoded_before_the_end() -> None:
    parser = ListingParser(BallChunksResponse)
    body = listing([row(index) for index in range(100)], "chunks")
    parser.feed(body[: len(body) // 2])
    with mock.patch.object(msgspec.json, "decode", wraps=msgspec.json.decode) as decode:
        parser.feed(body[len(body) // 2 :])
        assert [chunk.index for chunk in parser.finish().chunks] == list(range(100))
    assert max(len(call.args[0]) for call in decode.call_args_list) < len(body) / 10


@pytest.mark.usefixtures("small_slices")
def test_invalid_row_is_named_by_its_place_in_the_listing() -> None:
    body = listing([row(index, **({"size": "5"} if index == 77 else {})) for index in range(100)])
    with pytest.raises(msgspec.ValidationError, match=r"Expected `int`, got `str` - at `\$\.balls\[77\]\.size`"):
        parse(GetRouterBucketMetadataResponse, body, list(range(0, len(body), 500)))


@pytest.mark.usefixtures("small_slices")
def test_replicas_share_what_they_have_in_common() -> None:
    replicas = [row(index, tags={"index": "0", "updated_at": at}) for at in ("1", "1", "2") for index in range(9)]
    first, same, other = parse(GetRouterBucketMetadataResponse, listing(replicas), [1000]).balls[::9]  # type: ignore[attr-defined]
    assert first is same
    assert first.checksum is other.checksum
    assert (first.updated_at, other.updated_at) == (1, 2)


@pytest.mark.usefixtures("small_slices")
def test_replicas_that_differ_stay_apart() -> None:
    given_rows = [row(0), row(0, size=6), row(0, checksum="d"), row(0, tags={}), row(0, tags=None), row(0, ball_id="l")]
    found = parse(GetRouterBucketMetadataResponse, listing(given_rows), [400])
    assert found.balls == [msgspec.convert(told, Metadata) for told in given_rows]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("text", ["{" * 50_000, "},{" * 20_000, '"balls":[' * 10_000, "[" * 50_000])
def test_misleading_text_costs_few_decodes(text: str) -> None:
    body = listing([row(0), row(1, tags={"full_path": text}), row(2)])
    with mock.patch.object(listing_parser, "_decode_rows", wraps=listing_parser._decode_rows) as decode:
        found = parse(GetRouterBucketMetadataResponse, body, list(range(0, len(body), 100)))
    assert [chunk.index for chunk in found.balls] == [0, 1, 2]  # type: ignore[attr-defined]
    assert decode.call_count < 20


@pytest.mark.usefixtures("small_slices")
def test_nested_listing_is_skipped_with_few_decodes() -> None:
    told = {"more": [{"a": 1, "balls": [{"a": 1}, {"a": 2}]}] * 5_000, **json.loads(listing([row(0), row(1)]))}
    body = json.dumps(told).encode()
    with mock.patch.object(listing_parser, "_decode_object", wraps=listing_parser._decode_object) as decode:
        found = parse(GetRouterBucketMetadataResponse, body, list(range(0, len(body), 100)))
    assert [chunk.index for chunk in found.balls] == [0, 1]  # type: ignore[attr-defined]
    assert decode.call_count < 1_000
