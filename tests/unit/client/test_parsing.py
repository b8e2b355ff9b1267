"""Answers into models: a long listing item by item gives what the whole would, and errors are those of the whole."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_mictlanx.client import parsing
from airflow_provider_mictlanx.client.models import BallChunksResponse, GetRouterBucketMetadataResponse, PeersResponse

Listing = GetRouterBucketMetadataResponse
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
chunks = st.fixed_dictionaries(
    {"key": texts, "size": st.integers(0, 2**63 - 1), "checksum": texts, "ball_id": texts, "bucket_id": texts},
    optional={"tags": st.none() | st.dictionaries(texts, texts, max_size=3), "unknown": st.none() | st.floats(0, 1)},
)
listings = st.fixed_dictionaries(
    {"bucket_id": texts, "peers_ids": st.lists(texts, max_size=3), "balls": st.lists(chunks, max_size=4)},
    optional={"extra": st.dictionaries(texts, st.integers() | texts | st.none(), max_size=2), "new": st.lists(texts)},
)


@pytest.fixture(autouse=True)
def everything_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "INLINE", -1)


@pytest.fixture
def never_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(body: bytes) -> None:
        raise AssertionError("parsed as a whole")

    for model in (Listing, BallChunksResponse):
        monkeypatch.setattr(model, "model_validate_json", refuse)


def outcome(read: Callable[[bytes], Any], body: bytes) -> Any:
    """Give the model, or what is wrong with the body."""
    try:
        return read(body)
    except ValidationError as error:
        return [(fault["type"], fault["loc"]) for fault in error.errors()]


def piece_by_piece(body: bytes) -> Any:
    return parsing.model_of(Listing, body)


@given(listing=listings, indent=st.none() | st.integers(0, 2), ascii_only=st.booleans())
def test_same_as_the_whole(listing: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    body = json.dumps(listing, indent=indent, ensure_ascii=ascii_only).encode()
    assert outcome(piece_by_piece, body) == outcome(Listing.model_validate_json, body)


@given(listing=listings, at=st.integers(0, 10_000), change=st.binary(max_size=2), cut=st.booleans())
def test_broken_as_the_whole(listing: dict[str, Any], at: int, change: bytes, cut: bool) -> None:
    body = json.dumps(listing).encode()
    at %= len(body)
    body = body[:at] + change + (b"" if cut else body[at + 1 :])
    assert outcome(piece_by_piece, body) == outcome(Listing.model_validate_json, body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[]",
        b"{}",
        b"null",
        b'{"bucket_id": "b", "peers_ids": [], "balls": []',
        b'{"bucket_id": "b", "peers_ids": [], "balls": [],}',
        b'{"bucket_id": "b", "peers_ids": [], "balls": [,]}',
        b'{"bucket_id": "b", "peers_ids": [], "balls": [1]}',
        b'{"bucket_id": "b", "peers_ids": [], "balls": {}}',
        b'{"bucket_id": "b", "peers_ids": [], "balls": null}',
        b'{"bucket_id": "b", "peers_ids": [], "balls": []} {}',
        b'{"bucket_id": "b", "peers_ids": [], "balls": []}\n',
        b'{"bucket_id": "b", "peers_ids": [], "balls": [], "balls": 5}',
        b'{"bucket_id": "b", "peers_ids": [], "balls": [], "answered_at": NaN}',
        b'{"bucket_id": "\\ud800", "peers_ids": [], "balls": []}',
        b'{"bucket_id": "\\ud83d\\ude00", "peers_ids": ["\\uDC00"], "balls": []}',
        b'{"bucket_id": "\xff", "peers_ids": [], "balls": []}',
        b"{1: 2}",
        b'{"balls": ' + b"[" * 100_000,
    ],
)
def test_odd_bodies(body: bytes) -> None:
    assert outcome(piece_by_piece, body) == outcome(Listing.model_validate_json, body)


@pytest.mark.usefixtures("never_as_a_whole")
def test_listings_are_read_item_by_item() -> None:
    chunk = {"key": "k_0", "size": 5, "checksum": "c", "ball_id": "k", "bucket_id": "b"}
    body = json.dumps({"bucket_id": "b", "peers_ids": ["p"], "balls": [chunk] * 3}).encode()
    assert [found.key for found in parsing.model_of(Listing, body).balls] == ["k_0"] * 3
    body = json.dumps({"bucket_id": "b", "ball_id": "k", "chunks": [chunk] * 3}).encode()
    assert [found.size for found in parsing.model_of(BallChunksResponse, body).chunks] == [5] * 3
    assert parsing.model_of(PeersResponse, b'{"available": []}').available == []


def test_another_thread_is_served_meanwhile() -> None:
    """With pydantic's or Python's own parser the other thread would see nothing between the beginning and the end."""
    chunk = {"key": "k_0", "size": 5, "checksum": "c", "ball_id": "k", "bucket_id": "b", "tags": {"index": "0"}}
    body = json.dumps({"bucket_id": "b", "peers_ids": ["p"], "balls": [chunk] * 30_000}).encode()
    ended = threading.Event()
    turns = 0

    def read() -> None:
        parsing.model_of(Listing, body)
        ended.set()

    thread = threading.Thread(target=read)
    thread.start()
    while not ended.wait(0.001):
        turns += 1
    thread.join()
    assert turns > 5
