"""How long announcements without data are left to their writer, where an earlier listing showed some of them."""

from __future__ import annotations

import time
from typing import Any, cast

import msgspec
import pytest

from airflow_provider_mictlanx.client.concurrency import Threads
from airflow_provider_mictlanx.client.local_io.sources import BytesSource
from airflow_provider_mictlanx.client.models import Metadata
from airflow_provider_mictlanx.client.object_ids import ObjectId
from airflow_provider_mictlanx.client.transfer.chunk_upload import GRACE, PutOptions, Seen
from airflow_provider_mictlanx.client.transfer.upload import MAX_ANNOUNCED_SECONDS, Upload

AGO = 5.0


def announced(at: int, **changed: Any) -> Metadata:
    told = {"key": "k_0", "ball_id": "k", "bucket_id": "b", "checksum": "c", "size": 1, "producer_id": "one"} | changed
    return msgspec.convert({**told, "tags": {"index": "0", "num_chunks": "1", "updated_at": str(at)}}, Metadata)


def upload_after(*seen: Metadata) -> Upload:
    upload = Upload(cast(Any, None), Threads(1), ObjectId("b", "k", "k"), BytesSource(b"x"), PutOptions(), {})
    upload._seen = Seen(seen, time.monotonic() - AGO)
    return upload


@pytest.mark.parametrize(
    "listed",
    [[announced(7)], [announced(7), announced(5)], []],
    ids=["the same", "an older replica that the listing hid", "nothing"],
)
def test_grace_begins_with_the_listing(listed: list[Metadata]) -> None:
    assert upload_after(announced(7)).grace_for(listed) == pytest.approx(GRACE - AGO, abs=1)


@pytest.mark.parametrize(
    "other",
    [announced(8), announced(7, checksum="d"), announced(7, size=2), announced(7, producer_id="two")],
    ids=["newer", "other bytes", "other size", "another writer"],
)
def test_grace_is_complete_for_what_was_not_seen(other: Metadata) -> None:
    assert upload_after(announced(7)).grace_for([announced(7), other]) == GRACE


def test_grace_is_complete_without_a_listing() -> None:
    upload = upload_after()
    upload._seen = None
    assert upload.grace_for([announced(7)]) == GRACE


def test_grace_is_longer_than_a_window() -> None:
    """Otherwise another put would delete the announcements of a window whose data is under way."""
    assert GRACE > MAX_ANNOUNCED_SECONDS
