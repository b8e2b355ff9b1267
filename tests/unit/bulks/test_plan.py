"""Plans: canonical, read back as they were written; shares: disjoint, together everything, balanced, the same everywhere."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_mictlanx.bulks.plan import (
    BALL_COST,
    PlannedBall,
    assign_shards,
    listing_digest,
    make_plan,
    read_plan,
    select_shard,
)
from airflow_provider_mictlanx.bulks.records import format_ranges, parse_ranges, records_bucket
from airflow_provider_mictlanx.bulks.sources import SourceBall, check_balls
from airflow_provider_mictlanx.client.errors import IntegrityError, ValidationError
from airflow_provider_mictlanx.safe_ids import is_safe_id

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
LISTINGS = st.dictionaries(KEYS, st.integers(0, 10**10), max_size=60).map(
    lambda sizes: check_balls([SourceBall("frames", key, size, f"/data/{key}") for key, size in sizes.items()])
)


@given(LISTINGS, st.integers(1, 7), st.randoms(use_true_random=False))
def test_shares_are_a_partition_whatever_the_order(listing: list[SourceBall], shards: int, rng) -> None:  # type: ignore[no-untyped-def]
    shares = [select_shard(listing, shard, shards) for shard in range(shards)]
    assert sorted(ball.key for share in shares for ball in share) == sorted(ball.key for ball in listing)
    shuffled = list(listing)
    rng.shuffle(shuffled)
    assert [select_shard(shuffled, shard, shards) for shard in range(shards)] == shares


@given(LISTINGS, st.integers(1, 7))
def test_shares_are_about_the_same_work(listing: list[SourceBall], shards: int) -> None:
    """No shard has more than another but for one ball, the last it got."""
    costs = [0] * shards
    biggest = [0] * shards
    for shard, ball in assign_shards(listing, shards):
        costs[shard] += ball.size + BALL_COST
        biggest[shard] = max(biggest[shard], ball.size + BALL_COST)
    assert all(cost - min(costs) <= most for cost, most in zip(costs, biggest, strict=True) if cost)


def test_shares_go_by_bytes_too() -> None:
    big = [SourceBall("b", f"big{number}", 10**9, "x") for number in range(2)]
    small = [SourceBall("b", f"small{number}", 10, "x") for number in range(100)]
    shares = [select_shard([*big, *small], shard, 2) for shard in range(2)]
    assert [sum(ball.size > 10 for ball in share) for share in shares] == [1, 1]


@pytest.mark.parametrize(("shard", "shards"), [(-1, 2), (2, 2), (0, 0), (True, 2), ("0", 1), (0, 1.0)])
def test_wrong_shard(shard: object, shards: object) -> None:
    with pytest.raises(ValidationError):
        select_shard([], shard, shards)  # type: ignore[arg-type]


PLANNED = st.builds(
    PlannedBall,
    bucket_id=st.just("frames"),
    key=KEYS,
    size=st.integers(0, 2**40),
    checksum=st.text("0123456789abcdef", min_size=64, max_size=64),
    chunk_size=st.integers(1, 2**40),
    source=st.text(st.characters(exclude_categories=["Cs"])),
)


@given(st.lists(PLANNED, max_size=20), LISTINGS, st.booleans())
@settings(max_examples=50)
def test_plan_is_canonical_and_read_back(balls: list[PlannedBall], listing: list[SourceBall], own: bool) -> None:
    plan, content = make_plan("nightly", 1, 3, balls, listing, own)
    again, content_again = make_plan("nightly", 1, 3, list(balls), list(reversed(listing)) if own else listing, own)
    assert (again.record, content_again) == (plan.record, content)
    assert read_plan(plan.record, content) == plan
    assert plan.record.listing == ("" if own else listing_digest(listing))
    for wrong in (content[:-1], content + b"x", b"", content.replace(b"nightly", b"other")):
        with pytest.raises(IntegrityError):
            read_plan(plan.record, wrong)


@given(LISTINGS.filter(bool))
def test_digest_of_a_listing_tells_any_difference(listing: list[SourceBall]) -> None:
    first = listing[0]
    grown = [SourceBall(first.bucket_id, first.key, first.size + 1, first.source), *listing[1:]]
    assert len({listing_digest(listing), listing_digest(grown), listing_digest(listing[1:])}) == 3


@given(st.sets(st.integers(0, 300)))
def test_ranges_are_read_back(indexes: set[int]) -> None:
    assert parse_ranges(format_ranges(indexes), 301) == indexes


def test_ranges_are_short() -> None:
    assert format_ranges([3, 0, 1, 2, 7, 9, 8]) == "0-3,7-9"


@given(st.text("0123456789-,x ", max_size=12))
def test_garbage_is_no_range(text: str) -> None:
    with contextlib.suppress(IntegrityError):
        assert all(0 <= index < 50 for index in parse_ranges(text, 50))


@pytest.mark.parametrize("text", ["5-3", "50", "0-50", "1-2-3", "-1", "٣"])
def test_wrong_range(text: str) -> None:
    with pytest.raises(IntegrityError):
        parse_ranges(text, 50)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_is_a_bulk_id(bulk_id: str) -> None:
    assert is_safe_id(records_bucket(bulk_id))
    assert len(records_bucket(bulk_id)) < 255


@pytest.mark.parametrize("bulk_id", ["", None, 3, "\ud800"])
def test_what_is_no_bulk_id(bulk_id: object) -> None:
    with pytest.raises(ValidationError):
        records_bucket(bulk_id)  # type: ignore[arg-type]


def test_long_bulk_id_is_hashed() -> None:
    assert records_bucket("a" * 200) == "bulk-" + "a" * 200
    assert len(records_bucket("a" * 201)) == len("bulk-") + 64
