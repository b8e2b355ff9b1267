"""Event triggers without a storage: their arguments, the form of their state, and where it is stored."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from math import inf, nan
from typing import Any

import pytest
from option import Ok, Result

pytest.importorskip("airflow.sdk", reason="asset watchers need Airflow 3")

from airflow_provider_mictlanx.bulks.records import Done, Plan, Records, Start
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.models import Ball, GetRouterBucketMetadataResponse, Metadata
from airflow_provider_mictlanx.triggers import watchers
from airflow_provider_mictlanx.triggers.events import (
    MictlanXBulkCompleteEventTrigger,
    MictlanXObjectEventTrigger,
    SnapshotProducer,
)
from airflow_provider_mictlanx.triggers.watchers import (
    DEFAULT_MAX_STATE,
    MAX_PAUSE,
    OTHER,
    BulkWatcher,
    ObjectWatcher,
    StorageReader,
    decode_seen,
    describe,
    encode_seen,
    seen_in_all,
)


@pytest.mark.parametrize("count", [0, 1, 2, 3000])
def test_seen_objects_survive_encoding(count: int) -> None:
    seen = {os.urandom(6): os.urandom(5) for _ in range(count)}
    assert decode_seen(encode_seen(seen)) == seen


def test_what_one_state_lacks_is_not_seen_in_all() -> None:
    """An object that they have seen with different bytes counts as changed, whichever bytes it has now."""
    one, two = {b"both": b"1", b"one": b"1", b"changed": b"1"}, {b"changed": b"2", b"both": b"1", b"two": b"2"}
    assert seen_in_all([one, two]) == seen_in_all([two, one]) == {b"both": b"1", b"changed": OTHER}
    assert seen_in_all([one]) == one


def test_five_thousand_objects_fit_in_the_state() -> None:
    assert len(encode_seen({os.urandom(6): os.urandom(5) for _ in range(5000)})) < DEFAULT_MAX_STATE


def ball(key: str = "a", checksum: str = "c0", updated_at: int = 1, chunk: str = "c1") -> Ball:
    metadata = Metadata(
        key="a_0", size=1, checksum=chunk, tags={}, content_type="", producer_id="", ball_id=key, bucket_id="b"
    )
    return Ball(
        bucket_id="b", ball_id=key, chunks=[metadata], checksum=checksum, size=1, key=key, updated_at=updated_at
    )


def test_objects_are_compared_by_id_and_bytes() -> None:
    assert describe(ball()) == describe(ball(updated_at=2))
    assert describe(ball()) != describe(ball(checksum="c9"))
    assert describe(ball()) != describe(ball(key="b"))
    assert describe(ball(checksum="")) != describe(ball(checksum="", chunk="c9")), "no checksum recorded"
    assert describe(ball()).event_id == describe(ball(updated_at=2)).event_id != describe(ball(key="b")).event_id


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bucket_id": "a/b"}, "bucket_id"),
        ({"prefix": "a", "glob": "b"}, "prefix and glob must not both be set"),
        ({"poke_interval": 0}, "poke_interval must be greater than 0, got 0"),
        *(
            ({"poke_interval": value}, "poke_interval must be a")
            for value in ("5", True, nan, inf, 10**400, timedelta(seconds=5))
        ),
        ({"existing": "False"}, "existing must be True or False, got 'False'"),
        ({"check_storage": 1}, "check_storage must be True or False, got 1"),
        ({"mictlanx_conn_id": None}, "mictlanx_conn_id must be a str"),
        ({"max_events_per_poll": 0}, "max_events_per_poll"),
    ],
)
def test_wrong_arguments_fail_in_the_dag_file_only(wrong: dict[str, Any], message: str) -> None:
    trigger = MictlanXObjectEventTrigger(**{"bucket_id": "b", **wrong})  # in the triggerer, an error here would end it
    with pytest.raises(ValidationError, match=message):
        trigger.serialize()


def test_bulk_id_must_not_be_empty() -> None:
    with pytest.raises(ValidationError, match="bulk_id must not be empty"):
        MictlanXBulkCompleteEventTrigger(bulk_id="").serialize()


class Clocks:
    """A client of a storage with peers whose clocks differ: a newer announcement hides an object from the listing."""

    def __init__(self, rows: list[Metadata]) -> None:
        self.listing = GetRouterBucketMetadataResponse(bucket_id="b", peers_ids=["p"], balls=rows)
        self.found: list[Ball] = []
        self.built = 0

    async def get_chunks_by_bucket_id(self, bucket_id: str) -> Result[Any, Exception]:
        return Ok(self.listing)

    async def list_balls(self, bucket_id: str, listing: Any) -> Result[Any, Exception]:
        self.built += 1
        return Ok(self.found)


async def test_objects_of_an_unchanged_listing_are_built_once() -> None:
    storage: Any = Clocks([*ball(key="a").chunks, *ball(key="a", chunk="c1").chunks])
    storage.found = [ball(key="a")]
    watcher, reader = ObjectWatcher(MictlanXObjectEventTrigger(bucket_id="b")), StorageReader(storage)
    first = await watcher.apoll(storage, reader)
    assert await watcher.apoll(storage, reader) is first
    assert storage.built == 1


async def test_object_that_the_listing_hides_is_found_by_the_next_poll() -> None:
    """The local VSS has one clock for all peers, so it can't show this."""
    [row] = ball(key="a", chunk="announced").chunks
    storage: Any = Clocks([row])
    watcher, reader = ObjectWatcher(MictlanXObjectEventTrigger(bucket_id="b")), StorageReader(storage)
    assert list(await watcher.apoll(storage, reader)) == []
    storage.found = [ball(key="a")]
    assert [listed.ball.key for listed in await watcher.apoll(storage, reader)] == ["a"]


async def test_closed_reader_stops_the_reading_of_a_backlog() -> None:
    """A failed poll closes it; the log would tell of every object that waits."""
    storage: Any = None
    watcher, reader = ObjectWatcher(MictlanXObjectEventTrigger(bucket_id="b")), StorageReader(storage)
    reader.close()
    found = await watcher.compare({describe(ball("a")): None, describe(ball("b")): None}, reader, {})
    assert (found.payloads, found.is_waiting) == ([], True)
    assert set(watcher._failed_reads.values()) == {0}


def test_watchers_of_a_bucket_share_a_stream() -> None:
    def key(**arguments: Any) -> Any:
        return MictlanXObjectEventTrigger(**{"bucket_id": "b", **arguments}).shared_stream_key()

    assert key(prefix="a") == key(glob="*.csv", existing=True, check_storage=False)
    assert len({key(), key(bucket_id="c"), key(mictlanx_conn_id="other"), key(poke_interval=1)}) == 4


def test_pauses_grow_after_failures() -> None:
    def pauses(poke_interval: float) -> list[float]:
        watcher = ObjectWatcher(MictlanXObjectEventTrigger(bucket_id="b", poke_interval=poke_interval))
        return [watcher.pause_after(failures) for failures in (0, 1, 2, 3, 5000)]

    assert pauses(60) == [60, 120, 240, MAX_PAUSE, MAX_PAUSE]
    assert pauses(900) == [900] * 5


class Store:
    def set(self, key: str, value: Any) -> None: ...


class Iterable(dict[str, Store]):
    """As a later Airflow may offer the stores of several assets."""


def stores_of(offered: Any) -> list[Any]:
    trigger = MictlanXObjectEventTrigger(bucket_id="b")
    trigger.asset_state_store = offered
    return ObjectWatcher(trigger)._stores()


def test_stores_are_found_however_they_are_offered() -> None:
    one, two = Store(), Store()
    assert stores_of(None) == []
    assert stores_of(one) == [one]
    assert stores_of([one, two]) == [one, two]
    assert stores_of(Iterable(a=one, b=two)) == [one, two]
    one._by_name = {"a": two}  # type: ignore[attr-defined]
    assert stores_of(one) == [two]


def test_airflow_without_state_store_is_no_error() -> None:
    trigger = MictlanXObjectEventTrigger(bucket_id="b")
    vars(trigger).pop("asset_state_store", None)
    watcher = ObjectWatcher(trigger)
    assert watcher._stores() == []
    assert decode_seen(watcher.encode({b"abcdef": b"12345"})) == {b"abcdef": b"12345"}


async def test_watchers_are_imported_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    class ImportedInThreadError(Exception): ...

    def create_watcher(self: MictlanXObjectEventTrigger) -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        raise ImportedInThreadError

    async def nothing() -> AsyncIterator[Any]:
        yield

    monkeypatch.setattr(MictlanXObjectEventTrigger, "create_watcher", create_watcher)
    trigger = MictlanXObjectEventTrigger(bucket_id="b")
    for stream in (trigger.run(), SnapshotProducer(trigger).open_stream(), trigger.filter_shared_stream(nothing())):
        with pytest.raises(ImportedInThreadError):
            await anext(stream)


@pytest.mark.parametrize("steps", range(5))
async def test_watcher_is_cancelled_while_the_state_store_answers(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Otherwise it would go on, and the triggerer would wait for it at its end."""
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(watchers, "run_in_thread", lambda work: answer)
    call = asyncio.create_task(watchers._in_thread(asyncio.Semaphore(), lambda: None))
    await asyncio.sleep(0.01)
    answer.set_result(None)
    for _ in range(steps):
        await asyncio.sleep(0)
    was_running = call.cancel()
    await asyncio.wait({call})
    assert call.cancelled() == was_running


async def test_retry_with_a_slow_clock_repeats_no_event() -> None:
    """The peer of its start has a clock that is behind that of the first attempt's."""
    plan = Plan(
        shard=0,
        digest="d" * 64,
        shards=1,
        balls=1,
        size=1,
        listing="l",
        listing_balls=1,
        listing_size=1,
        updated_at=101,
    )

    def attempt(number: int, at: int) -> tuple[Start, Done]:
        named = {"shard": 0, "attempt": f"{number:016x}", "sequence": number, "updated_at": at}
        ended = Done(**named, plan=plan.digest, balls=1, acknowledged=1, size=1)
        return Start(**named, shards=1, owner={}, spec=""), ended

    watcher = BulkWatcher(MictlanXBulkCompleteEventTrigger(bulk_id="b"))
    (first, first_end), (again, again_end) = attempt(1, 100), attempt(2, 50)
    reader: Any = None
    found = await watcher.compare(Records("b", True, [first], [plan], [], [first_end]), reader, None)
    assert len(found.payloads) == 1
    records = Records("b", True, [first, again], [plan], [], [first_end, again_end])
    assert (await watcher.compare(records, reader, found.state)).payloads == []
    after_loss_of_state = await watcher.compare(records, reader, None)
    assert after_loss_of_state.payloads[0]["event_id"] == found.payloads[0]["event_id"]
