"""Records and plans of bulks are what somebody stored: they are understood, or an ``IntegrityError``."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from airflow_provider_mictlanx.bulks.plan import PlannedBall, make_plan, read_plan
from airflow_provider_mictlanx.bulks.records import RECORD_TAG, Record, format_ranges, parse_ranges, read_listing
from airflow_provider_mictlanx.bulks.status import compute_status
from airflow_provider_mictlanx.client.errors import IntegrityError, MictlanXError
from airflow_provider_mictlanx.client.models import GetRouterBucketMetadataResponse, Metadata
from airflow_provider_mictlanx.client.versions import group_versions
from tests.support.malformed_values import spoilt, texts
from tests.unit.bulks.test_status import BULK, histories, listing_of


@given(histories(), st.data())
def test_spoilt_records_are_understood_or_refused(records: list[Record], data: st.DataObject) -> None:
    listing = listing_of(records)
    if not listing:
        return
    at = data.draw(st.integers(0, len(listing) - 1))
    told = json.loads(listing[at].tags[RECORD_TAG])
    text = data.draw(spoilt(told).map(json.dumps) | texts)
    tags = {**listing[at].tags, RECORD_TAG: text}
    with contextlib.suppress(IntegrityError):
        compute_status(
            read_listing(BULK, [*listing[:at], structs.replace(listing[at], tags=tags), *listing[at + 1 :]], True)
        )


@given(histories(), st.data())
def test_spoilt_listings_are_understood_or_refused(records: list[Record], data: st.DataObject) -> None:
    listing = [structs.asdict(chunk) for chunk in listing_of(records)]
    if not listing:
        return
    with contextlib.suppress(IntegrityError, msgspec.ValidationError):  # the client refuses such a listing
        bucket = {"bucket_id": BULK, "peers_ids": [], "balls": data.draw(spoilt(listing))}
        told = msgspec.convert(bucket, GetRouterBucketMetadataResponse)
        compute_status(read_listing(BULK, told.balls, True))


TAGS = st.fixed_dictionaries(
    {},
    optional={name: texts | st.integers(-1, 5).map(str) for name in ("index", "num_chunks", "updated_at")}
    | {"full_checksum": st.sampled_from(["", "a" * 64, "b" * 64])},
)
CHUNKS = st.builds(
    Metadata,
    key=st.integers(0, 5).map("k_{}".format) | texts,
    size=st.integers(0, 5),
    checksum=st.sampled_from(["c" * 64, "d" * 64, ""]),
    tags=TAGS,
    ball_id=st.just("k"),
    bucket_id=st.just("b"),
)


@given(st.lists(CHUNKS, max_size=12))
def test_any_listing_makes_versions_that_hold_together(chunks: list[Metadata]) -> None:
    for version in group_versions(chunks):
        assert version.chunks
        assert all(index == chunk.index < version.num_chunks for index, chunk in version.chunks.items())
        assert {chunk.full_checksum for chunk in version.ordered} == {version.checksum}
        if version.is_complete:
            assert sorted(version.chunks) == list(range(version.num_chunks))
            assert version.size == sum(chunk.size for chunk in version.ordered)


BALLS = [PlannedBall("frames", f"k{number}", number, "e" * 64, 1000, f"/k{number}") for number in range(3)]
PLAN, CONTENT = make_plan("bulk", 0, 1, BALLS, [], items_per_shard=True)


@given(st.data())
def test_spoilt_plans_are_read_or_refused(data: st.DataObject) -> None:
    lines = data.draw(spoilt([json.loads(line) for line in CONTENT.splitlines()]))
    broken = "\n".join(map(json.dumps, [*lines, ""] if isinstance(lines, list) else [lines]))
    content = data.draw(st.binary(max_size=60) | texts.map(str.encode) | st.just(broken.encode()))
    record = PLAN.record.model_copy(update={"digest": hashlib.sha256(content).hexdigest()})
    with contextlib.suppress(IntegrityError):
        plan: Any = read_plan(record, content)
        assert len(plan.balls) == record.balls


@given(texts | st.text("0123456789,-", max_size=20), st.integers(0, 50))
def test_ranges_are_read_or_refused(text: str, most: int) -> None:
    with contextlib.suppress(MictlanXError):
        indexes = parse_ranges(text, most)
        assert all(0 <= index < most for index in indexes)
        assert parse_ranges(format_ranges(indexes), most) == indexes
