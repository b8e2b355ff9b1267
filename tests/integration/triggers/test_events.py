"""Events of objects and bulks, against the local VSS; tests of what only Airflow 3.3 does use ``state_store``."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow.sdk", reason="asset watchers need Airflow 3")

from airflow_provider_mictlanx.bulks import record_store
from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.client.errors import UnavailableError
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.triggers import watchers
from airflow_provider_mictlanx.triggers.events import MictlanXBulkCompleteEventTrigger, MictlanXObjectEventTrigger
from airflow_provider_mictlanx.triggers.watchers import ObjectWatcher, StorageReader, describe
from tests.support.event_watchers import POKE, SHARES_STREAMS, StateStore, Triggerer, wait_until
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import sha256
from tests.support.vss import LocalVSS

needs_streams = pytest.mark.skipif(not SHARES_STREAMS, reason="states and shared streams need Airflow 3.3")


@pytest.fixture(autouse=True)
def _surroundings(request: pytest.FixtureRequest, connected: LocalVSS) -> None:
    if SHARES_STREAMS:
        request.getfixturevalue("state_store")


def objects(bucket_id: str, **arguments: Any) -> MictlanXObjectEventTrigger:
    return MictlanXObjectEventTrigger(bucket_id=bucket_id, poke_interval=POKE, **arguments)


async def baseline(store: StateStore, count: int = 1) -> None:
    """Wait until watchers have stored what they found first."""
    await wait_until(lambda: len(store.kept) >= count)


# Which changes are events


async def test_new_objects_fire_and_existing_ones_do_not(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore
) -> None:
    await hook.aput(bucket_id, "old", "1")
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        await baseline(state_store)
        stored = await hook.aput(bucket_id, "in/añb", "22")
        await triggerer.wait_for(1)
    (event,) = triggerer.events
    assert len(event.pop("event_id")) == 64
    expected = {"bucket_id": bucket_id, "key": "in/añb", "checksum": stored["checksum"], "size": 2, "change": "new"}
    assert event == expected


async def test_existing_objects_fire_if_wanted(hook: MictlanXHook, bucket_id: str) -> None:
    await hook.aput(bucket_id, "old", "1")
    await hook.aput(bucket_id, "empty", "")
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id, existing=True), "asset")
        await triggerer.wait_for(2)
    assert sorted(triggerer.changes) == [("empty", "new"), ("old", "new")]


async def test_only_other_bytes_are_a_change(hook: MictlanXHook, bucket_id: str, state_store: StateStore) -> None:
    await hook.aput(bucket_id, "a", "1")
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        await baseline(state_store)
        await hook.aput(bucket_id, "a", "1")
        await hook.aput(bucket_id, "a", "1", rf=3)
        await hook.aput(bucket_id, "a", "1", rf=2, replace=True)
        await triggerer.wait_for(0)
        await hook.aput(bucket_id, "b", "1")
        await triggerer.wait_for(1)
        await hook.adelete(bucket_id, "a")
        await triggerer.wait_for(1)
        await hook.aput(bucket_id, "a", "1")
        await triggerer.wait_for(2)
    assert triggerer.changes == [("b", "new"), ("a", "new")]


async def test_replaced_object_is_changed(hook: MictlanXHook, bucket_id: str, state_store: StateStore) -> None:
    await hook.aput(bucket_id, "a", "1")
    async with Triggerer() as triggerer:
        watcher = triggerer.watch(objects(bucket_id), "asset")
        await baseline(state_store)
        await triggerer.cancel(watcher)  # so that no poll sees the gap of the replace
        await hook.aput(bucket_id, "a", "2", replace=True)
        triggerer.watch(objects(bucket_id), "asset")
        await triggerer.wait_for(1)
    assert triggerer.changes == [("a", "changed")]


@pytest.mark.parametrize(
    ("choice", "expected"), [({"prefix": "in/"}, ["in/a", "in/b.csv"]), ({"glob": "*.csv"}, ["b.csv", "in/b.csv"])]
)
async def test_only_selected_keys_fire(
    hook: MictlanXHook, bucket_id: str, choice: dict[str, str], expected: list[str]
) -> None:
    for key in ("a", "in/a", "b.csv", "in/b.csv"):
        await hook.aput(bucket_id, key, key)
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id, existing=True, **choice), "asset")
        await triggerer.wait_for(2)
    assert sorted(key for key, _ in triggerer.changes) == expected


async def test_unchanged_listing_is_compared_once(
    hook: MictlanXHook, bucket_id: str, vss: LocalVSS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comparing takes the processor for each watcher, and most polls find what the poll before found."""
    compare, compared = ObjectWatcher.compare, []

    async def note(watcher: ObjectWatcher, *args: Any) -> Any:
        compared.append(watcher)
        return await compare(watcher, *args)

    monkeypatch.setattr(ObjectWatcher, "compare", note)
    await hook.aput(bucket_id, "a", "1")
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "one")
        triggerer.watch(objects(bucket_id, prefix="a"), "two")
        await wait_until(lambda: len(vss.requests("GET", f"/buckets/{bucket_id}/metadata$")) >= 8)
    assert len(compared) == len(set(compared)) == 2


async def test_more_events_wait_for_the_next_poll(hook: MictlanXHook, bucket_id: str, vss: LocalVSS) -> None:
    for number in range(5):
        await hook.aput(bucket_id, f"{number}", "1")
    async with Triggerer() as triggerer:
        triggerer.watch(
            MictlanXObjectEventTrigger(bucket_id=bucket_id, existing=True, max_events_per_poll=2, poke_interval=3)
        )
        await wait_until(lambda: len(triggerer.events) == 2)
        await asyncio.sleep(0.5)
        assert triggerer.changes == [("0", "new"), ("1", "new")], "the oldest first"
        await triggerer.wait_for(5)


async def test_object_fires_once_its_data_is_readable(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str
) -> None:
    connect(vss := own_vss(peers=1))
    wire = RawRequests(vss)
    task, _ = wire.announce(bucket_id, "lost", 0, b"1", b"1", 1)
    await MictlanXHook().aput(bucket_id, "stored", "2")
    async with Triggerer() as checking, Triggerer() as trusting:
        checking.watch(objects(bucket_id, existing=True, max_events_per_poll=1))
        trusting.watch(objects(bucket_id, existing=True, check_storage=False))
        await trusting.wait_for(2)
        await checking.wait_for(1)
        assert checking.changes == [("stored", "new")]
        await asyncio.to_thread(wire.send, task, b"1")  # a put might clear the announcement: then it fires twice
        await checking.wait_for(2)
        assert checking.changes[1] == ("lost", "new")


async def test_changed_object_fires_once_its_new_data_is_readable(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str
) -> None:
    """The older version stays readable meanwhile, so a read of the object does not fail."""
    connect(vss := own_vss(peers=2))
    wire = RawRequests(vss)
    await asyncio.to_thread(wire.put, bucket_id, "a", [b"old"])
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id, existing=True))
        await triggerer.wait_for(1)
        task, _ = await asyncio.to_thread(wire.announce, bucket_id, "a", 0, b"new!", b"new!", 1)
        await triggerer.wait_for(1)
        await asyncio.to_thread(wire.send, task, b"new!")
        await triggerer.wait_for(2)
    assert [event["checksum"] for event in triggerer.events] == [sha256(b"old"), sha256(b"new!")]


async def test_object_fires_beside_one_of_its_name(hook: MictlanXHook, bucket_id: str, vss: LocalVSS) -> None:
    """Another client's object may have a key of its own that is the id of a ball."""
    await asyncio.to_thread(RawRequests(vss).put_own_key, bucket_id, "x", "report", b"own")
    await hook.aput(bucket_id, "report", "ball")
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id, existing=True))
        await triggerer.wait_for(2)
    assert {(event["key"], event["checksum"]) for event in triggerer.events} == {
        ("report", sha256(b"own")),
        ("report", sha256(b"ball")),
    }


async def test_reading_stops_when_the_object_is_gone(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str
) -> None:
    """An object that is stored under its name later is read again."""
    connect(vss := own_vss(peers=1))
    hook = MictlanXHook()
    await hook.aput(bucket_id, "a", "1")
    async with hook.open_client() as client:
        reader = StorageReader(client)
        (listed,) = map(describe, unwrap(await client.list_balls(bucket_id)))
        with vss.fault("latency", seconds=30, path="/a_0$"):
            reading = asyncio.create_task(reader.read(listed))
            await asyncio.sleep(0)
            await reader.forget_all_but({})
            assert await reading is not None
        assert await reader.read(listed) is None
        reader.close()
        vss.reset_requests()
        assert await reader.read(listed) is not None, "the client is closed, and would open again"
        assert vss.requests() == []


async def test_unreadable_object_does_not_fill_the_log(
    vss: LocalVSS, bucket_id: str, logged: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    read = StorageReader.read

    async def count(self: StorageReader, listed: Any) -> Any:
        reads.append(listed)
        return await read(self, listed)

    monkeypatch.setattr(StorageReader, "read", count)
    await asyncio.to_thread(RawRequests(vss).announce, bucket_id, "lost", 0, b"1", b"1", 1)
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id, existing=True))
        await wait_until(lambda: len(reads) >= 8)
    lines = [line for line in logged() if f"{bucket_id}/lost is not readable yet" in line]
    assert 1 < len(lines) <= len(reads) / 2


async def test_objects_that_take_long_to_fail_do_not_hold_up_others(
    hook: MictlanXHook, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits any more when reading them fails, and the next poll forgets the failure."""
    monkeypatch.setattr(watchers, "READ_SECONDS", 2 * POKE)
    read = StorageReader._read

    async def fail_slowly(self: StorageReader, listed: Any) -> Any:
        if not listed.ball.key.startswith("slow"):
            return await read(self, listed)
        async with self._slots:
            await asyncio.sleep(8 * POKE)
        return UnavailableError("no answer")

    monkeypatch.setattr(StorageReader, "_read", fail_slowly)
    for key in ("slow-1", "slow-2", "quick"):
        await hook.aput(bucket_id, key, "1")
    async with Triggerer() as triggerer:
        triggerer.watch(MictlanXObjectEventTrigger(bucket_id=bucket_id, existing=True, poke_interval=16 * POKE))
        await triggerer.wait_for(1, 20)
    assert triggerer.changes == [("quick", "new")]


async def test_sizes_that_airflow_cannot_send_are_limited(hook: MictlanXHook, vss: LocalVSS, bucket_id: str) -> None:
    """Any writer can announce them; Airflow's message would end the triggerer."""
    await asyncio.to_thread(RawRequests(vss).announce_sizes, bucket_id, "large", [2**63 - 1] * 3)
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id, existing=True, check_storage=False))
        await triggerer.wait_for(1)
    assert triggerer.events[0]["size"] == 2**63 - 1


# Restarts


async def test_restart_goes_on_where_events_were_stored(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore
) -> None:
    async with Triggerer() as first:
        first.watch(objects(bucket_id), "asset")
        await baseline(state_store)
        await hook.aput(bucket_id, "a", "1")
        await first.wait_for(1)
    await hook.aput(bucket_id, "b", "1")  # while no triggerer runs
    async with Triggerer() as second:
        second.watch(objects(bucket_id, existing=True, check_storage=False), "asset")
        await second.wait_for(1)
    assert (first.changes, second.changes) == ([("a", "new")], [("b", "new")])


async def test_events_that_were_not_stored_fire_again(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore
) -> None:
    async with Triggerer(confirms=False) as first:
        first.watch(objects(bucket_id), "asset")
        await baseline(state_store)
        await hook.aput(bucket_id, "a", "1")
        await first.wait_for(1)
    assert state_store.writes == 1
    async with Triggerer() as second:
        second.watch(objects(bucket_id), "asset")
        await second.wait_for(1)
    assert first.events == second.events


async def test_events_that_are_never_confirmed_are_not_noted(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore
) -> None:
    async with Triggerer(confirms=False, ack_timeout=0.3) as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        await baseline(state_store)
        await hook.aput(bucket_id, "a", "1")
        await wait_until(lambda: bool(triggerer.ended))
        await asyncio.sleep(4 * POKE)
    assert (triggerer.changes, state_store.writes) == ([("a", "new")], 1)


async def test_unconfirmed_event_is_repeated_in_spite_of_later_ones(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore
) -> None:
    async with Triggerer(confirms=False, ack_timeout=3) as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        await baseline(state_store)
        for key in ("lost", "stored"):
            await hook.aput(bucket_id, key, "1")
            await wait_until(lambda key=key: (key, "new") in triggerer.changes)
            triggerer.confirms = True
        await wait_until(lambda: bool(triggerer.ended))
        triggerer.watch(objects(bucket_id), "asset")
        await triggerer.wait_for(4)
    assert triggerer.changes[2:] == triggerer.changes[:2]


async def test_removed_watcher_does_not_restart_the_others(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = ObjectWatcher.compare

    async def slowly(self: Any, content: Any, reader: Any, state: Any) -> Any:
        await asyncio.sleep(60 if self.trigger.prefix == "slow" and content else 0)
        return await compare(self, content, reader, state)

    monkeypatch.setattr(ObjectWatcher, "compare", slowly)
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        slow = triggerer.watch(objects(bucket_id, prefix="slow"), "slow")
        await baseline(state_store, 2)
        await hook.aput(bucket_id, "a", "1")
        await triggerer.wait_for(1)
        await hook.aput(bucket_id, "b", "1")
        await triggerer.wait_for(2)
        await triggerer.cancel(slow)  # it has not seen the second listing
        await wait_until(lambda: state_store.writes == 4)
        await triggerer.wait_for(2)
    assert triggerer.ended == []


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("blocked", [0, 5 * POKE])
async def test_event_that_airflow_drops_with_its_watcher_fires_again(
    hook: MictlanXHook,
    bucket_id: str,
    state_store: StateStore,
    monkeypatch: pytest.MonkeyPatch,
    others: bool,
    blocked: float,
) -> None:
    """Airflow confirms it, but ends its watcher at once; other watchers that it starts may come in between."""
    # Airflow calls it after it has written to the log in a thread.
    monkeypatch.setattr(MictlanXObjectEventTrigger, "cleanup", lambda trigger: asyncio.sleep(0))
    async with Triggerer(confirms=False) as triggerer:
        watcher = triggerer.watch(objects(bucket_id), "asset")
        if others:
            triggerer.watch(objects(bucket_id, prefix="none"), "other")
        await baseline(state_store, 1 + others)
        monkeypatch.setattr(watchers, "SETTLE_SECONDS", 4 * POKE)
        await hook.aput(bucket_id, "a", "1")
        await triggerer.wait_for(1)
        triggerer.confirm()
        await asyncio.sleep(POKE)
        time.sleep(blocked)  # Airflow imports the classes of other triggers on the event loop
        for _ in range(4):
            await asyncio.sleep(0)
        await triggerer.cancel(watcher)
        await asyncio.sleep(8 * POKE)
        triggerer.watch(objects(bucket_id, max_events_per_poll=1), "asset")
        await triggerer.wait_for(2)


async def test_event_dropped_while_the_next_ones_fire_comes_again(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watcher that is cancelled between two events is suspended, and closed later than it ended."""
    for number in range(4):
        await hook.aput(bucket_id, f"{number}", "1")
    monkeypatch.setattr(watchers, "SETTLE_SECONDS", 4 * POKE)
    async with Triggerer(confirms=False) as triggerer:

        def end_in_the_second_snapshot() -> None:
            if len(triggerer.events) == 2:
                triggerer.confirm()
                triggerer._tasks[watcher].cancel()

        triggerer.before_event = end_in_the_second_snapshot
        watcher = triggerer.watch(objects(bucket_id, existing=True, max_events_per_poll=2), "asset")
        triggerer.watch(objects(bucket_id, prefix="none"), "other")
        await triggerer.wait_for(3)
        await asyncio.sleep(8 * POKE)
        assert {asset for asset, _ in state_store.kept} == {"other"}


async def test_watcher_cancelled_between_events_fires_the_rest(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore
) -> None:
    for number in range(4):
        await hook.aput(bucket_id, f"{number}", "1")

    def stop() -> None:
        if len(first.events) == 2:
            raise asyncio.CancelledError

    async with Triggerer() as first:
        first.before_event = stop
        first.watch(objects(bucket_id, existing=True), "asset")
        first.watch(objects(bucket_id, prefix="none"), "other")  # keeps the stream open
        await wait_until(lambda: len(first.events) == 2)
    async with Triggerer() as second:
        second.watch(objects(bucket_id, existing=True), "asset")
        await second.wait_for(4)
    assert first.events == second.events[:2]


@needs_streams
async def test_existing_objects_fire_once_in_all_restarts(hook: MictlanXHook, bucket_id: str) -> None:
    await hook.aput(bucket_id, "old", "1")
    for expected in (1, 0):
        async with Triggerer() as triggerer:
            triggerer.watch(objects(bucket_id, existing=True), "asset")
            await triggerer.wait_for(expected)


async def test_two_assets_on_one_trigger_go_on_with_the_oldest_state(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore
) -> None:
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "one", "two")
        await baseline(state_store, 2)
        before = dict(state_store.kept)
        await hook.aput(bucket_id, "a", "1")
        await triggerer.wait_for(1)
    assert state_store.newest("one") == state_store.newest("two") not in before.values()
    # As after a crash between the two writes.
    state_store.kept = {key: state for key, state in state_store.kept.items() if key[0] == "one" or key in before}
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "one", "two")
        await triggerer.wait_for(1)
    assert triggerer.changes == [("a", "new")]
    assert state_store.newest("one") == state_store.newest("two")


async def test_assets_with_other_histories_lose_no_event(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore
) -> None:
    """The state that was written more often may be the older one."""
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "often")
        await baseline(state_store)
        for number in range(3):
            await hook.aput(bucket_id, f"{number}", "1")
            await triggerer.wait_for(number + 1)
    await hook.aput(bucket_id, "a", "1")
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "late")
        await wait_until(lambda: any(asset == "late" for asset, _ in state_store.kept))
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "often", "late")
        await triggerer.wait_for(1)
    assert triggerer.changes == [("a", "new")]
    assert state_store.newest("often") == state_store.newest("late")


async def test_asset_that_joins_goes_on_with_the_state_of_the_other(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore
) -> None:
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "one")
        await baseline(state_store)
    await hook.aput(bucket_id, "a", "1")
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "one", "two")
        await triggerer.wait_for(1)
    assert state_store.newest("one") == state_store.newest("two")


async def test_state_is_not_written_while_nothing_changes(bucket_id: str, state_store: StateStore) -> None:
    for _ in range(2):
        async with Triggerer() as triggerer:
            triggerer.watch(objects(bucket_id), "asset")
            await baseline(state_store)
            await asyncio.sleep(10 * POKE)
    assert state_store.writes == 1


@pytest.mark.parametrize("leftover", ["nothing", "announcement"])
async def test_killed_write_of_a_state_repeats_events(
    hook: MictlanXHook, vss: LocalVSS, bucket_id: str, states_in_mictlanx: str, leftover: str, short_grace: None
) -> None:
    """A replace deletes, announces and sends: a kill leaves nothing, or an announcement without data."""
    fired = []
    for key, count in (("a", 1), ("b", 1), ("c", 2), ("d", 3)):
        await hook.aput(bucket_id, key, "1")
        async with Triggerer() as triggerer:
            triggerer.watch(objects(bucket_id, existing=True), "asset")
            await triggerer.wait_for(count)
        fired.append("".join(sorted(changed for changed, _ in triggerer.changes)))
        async with hook.open_client() as client:
            states = unwrap(await client.list_balls(states_in_mictlanx))
        assert len(states) == (1 if key == "a" else 2)
        if key != "a":
            broken = max(states, key=lambda state: state.updated_at)
            await hook.adelete(states_in_mictlanx, broken.key)
            if leftover == "announcement":
                RawRequests(vss).announce(
                    *(states_in_mictlanx, broken.ball_id, 0, b"1", b"1", 1), tags=broken.chunks[0].tags
                )
    assert fired == ["a", "b", "bc", "bcd"]


# Failures


async def test_unreadable_state_is_no_baseline(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore, logged: Callable[[], list[str]]
) -> None:
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        await baseline(state_store)
    await hook.aput(bucket_id, "a", "1")
    state_store.failing = True
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        await triggerer.wait_for(0)
        key = min(state_store.refused)
        assert any(f"reading state {key} failed: ConnectionError: the API server does not" in line for line in logged())
        state_store.failing = False
        await triggerer.wait_for(1)


@pytest.mark.parametrize("damage", [{"state": "cut off"}, {"state": 1}, {"sequence": "x"}, {"sequence": None}])
async def test_damaged_state_is_skipped(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore, damage: dict[str, Any]
) -> None:
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        await baseline(state_store)
        await hook.aput(bucket_id, "a", "1")
        await triggerer.wait_for(1)
        await wait_until(lambda: state_store.writes == 2)
    newest = next(key for key, state in state_store.kept.items() if state == state_store.newest("asset"))
    state_store.kept[newest] = json.dumps(json.loads(state_store.kept[newest]) | damage)
    await hook.aput(bucket_id, "b", "1")
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        await triggerer.wait_for(2)
    assert sorted(triggerer.changes) == [("a", "new"), ("b", "new")]


async def test_state_that_was_not_written_is_written_later(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore
) -> None:
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        await baseline(state_store)
        state_store.failing = True
        await hook.aput(bucket_id, "a", "1")
        await triggerer.wait_for(1)
        await wait_until(lambda: len(state_store.refused) > 1)
        state_store.failing = False
    assert state_store.writes == 2
    assert len(set(state_store.refused)) == 1, "the other key keeps the state before"


async def test_state_that_is_too_large_names_prefix(
    hook: MictlanXHook,
    bucket_id: str,
    state_store: StateStore,
    monkeypatch: pytest.MonkeyPatch,
    logged: Callable[[], list[str]],
) -> None:
    monkeypatch.setenv("AIRFLOW__STATE_STORE__MAX_VALUE_STORAGE_BYTES", "400")
    for number in range(40):
        await hook.aput(bucket_id, f"{number}", "1")
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        await wait_until(lambda: any("with prefix or glob" in line for line in logged()))
        await hook.aput(bucket_id, "late", "1")
        await triggerer.wait_for(0)
        assert not state_store.kept
        monkeypatch.delenv("AIRFLOW__STATE_STORE__MAX_VALUE_STORAGE_BYTES")
        await baseline(state_store)
        await hook.aput(bucket_id, "later", "1")
        await triggerer.wait_for(1)


async def test_silent_peer_loses_and_invents_no_event(
    own_vss: Callable[..., LocalVSS],
    connect: Callable[..., None],
    bucket_id: str,
    state_store: StateStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchers, "MAX_PAUSE", 4 * POKE)
    connect(vss := own_vss(peers=3), timeout=2)
    hook = MictlanXHook()
    for number in range(6):
        await hook.aput(bucket_id, f"{number}", "1")
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        await baseline(state_store)
        for kind in ("peer_silent", "peer_down"):
            with vss.fault(kind, peer="peer-1"):
                await asyncio.sleep(3)
        assert triggerer.events == []
        await hook.aput(bucket_id, "a", "1")
        await triggerer.wait_for(1)
    assert triggerer.changes == [("a", "new")]


async def test_missing_connection_does_not_end_a_watcher(
    vss: LocalVSS,
    connect: Callable[..., None],
    bucket_id: str,
    monkeypatch: pytest.MonkeyPatch,
    logged: Callable[[], list[str]],
) -> None:
    monkeypatch.setattr(watchers, "MAX_PAUSE", POKE)
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id, mictlanx_conn_id="later", existing=True))
        await wait_until(lambda: any("Watching bucket" in line and "later" in line for line in logged()))
        connect(vss, "later")
        await MictlanXHook("later").aput(bucket_id, "a", "1")
        await triggerer.wait_for(1)


async def test_changed_connection_is_used_after_failed_polls(
    own_vss: Callable[..., LocalVSS],
    connect: Callable[..., None],
    bucket_id: str,
    monkeypatch: pytest.MonkeyPatch,
    logged: Callable[[], list[str]],
) -> None:
    """Also if only a peer is silent: the other storage space may be there because that peer is lost."""
    monkeypatch.setattr(watchers, "MAX_PAUSE", POKE)
    connect(vss := own_vss(peers=2), timeout=1)
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id, existing=True))
        with vss.fault("peer_silent", peer="peer-1"):
            await wait_until(lambda: any("Watching bucket" in line for line in logged()))
            connect(own_vss(peers=1))
            await MictlanXHook().aput(bucket_id, "a", "1")
            await triggerer.wait_for(1, 20)


async def test_failed_poll_does_not_interrupt_reading(
    hook: MictlanXHook, vss: LocalVSS, bucket_id: str, logged: Callable[[], list[str]]
) -> None:
    read = f"{bucket_id}/a_0$"
    await hook.aput(bucket_id, "a", "1")
    vss.reset_requests()
    with vss.fault("latency", seconds=2, path=read) as reading:
        async with Triggerer() as triggerer:
            triggerer.watch(objects(bucket_id, existing=True))
            await wait_until(lambda: reading.triggered > 0)
            with vss.fault("status", status=403, path=f"{bucket_id}/metadata$", count=1):
                await wait_until(lambda: any("Watching bucket" in line for line in logged()))
            await triggerer.wait_for(1, 20)
    assert len(vss.requests("GET", read)) == 1


async def test_slow_watcher_skips_outdated_listings(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    compare = ObjectWatcher.compare

    async def slowly(self: Any, content: Any, *rest: Any) -> Any:
        compared.append(len(content))
        await asyncio.sleep(0 if len(compared) > 1 else 20 * POKE)
        return await compare(self, content, *rest)

    monkeypatch.setattr(ObjectWatcher, "compare", slowly)
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        await wait_until(lambda: len(compared) == 1)
        await hook.aput(bucket_id, "a", "1")
        await triggerer.wait_for(1)
    assert compared[:2] == [0, 1]


async def test_hanging_state_store_does_not_hold_up_the_end(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore
) -> None:
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id), "asset")
        await baseline(state_store)
        state_store.hanging = threading.Event()
        await hook.aput(bucket_id, "a", "1")
        await triggerer.wait_for(1)
        began = time.monotonic()
    assert time.monotonic() - began < 30, "half of what the store hangs"
    state_store.hanging.set()


# One listing for all


async def test_fifty_watchers_share_one_listing_per_poll(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str, state_store: StateStore
) -> None:
    connect(vss := own_vss())
    hook = MictlanXHook()
    async with Triggerer() as triggerer:
        for number in range(50):
            trigger = MictlanXObjectEventTrigger(bucket_id=bucket_id, prefix=f"{number:02}/", poke_interval=0.5)
            triggerer.watch(trigger, f"asset-{number}")
        await baseline(state_store, 50)
        for number in range(50):
            await hook.aput(bucket_id, f"{number:02}/a", "1")
        await wait_until(lambda: len(triggerer.events) == 50)
        vss.reset_requests()
        began = time.monotonic()
        await wait_until(lambda: len(vss.requests("GET", f"/buckets/{bucket_id}/metadata$")) >= 4)
        polls = (time.monotonic() - began) / 0.5
    assert sorted(key for key, _ in triggerer.changes) == [f"{number:02}/a" for number in range(50)]
    assert polls > 4 - 1.5
    assert state_store.writes >= 100


@needs_streams
async def test_object_is_read_once_for_all_watchers(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str
) -> None:
    connect(vss := own_vss())
    await MictlanXHook().aput(bucket_id, "a", "1")
    vss.reset_requests()
    async with Triggerer() as triggerer:
        for number in range(5):
            triggerer.watch(objects(bucket_id, existing=True, max_events_per_poll=100 + number))
        await triggerer.wait_for(5)
    assert len(vss.requests("GET", f"/buckets/{bucket_id}/a_0$")) == 1


async def test_all_watchers_compare_in_one_thread(
    hook: MictlanXHook, bucket_id: str, state_store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the event loop, nor in many threads at once, for which the loop would wait."""
    threads: dict[str, set[str]] = {}

    def observe(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any) -> Any:
            threads.setdefault(name, set()).add(threading.current_thread().name)
            return original(*args)

        monkeypatch.setattr(owner, name, call)

    for owner, name in (
        *((ObjectWatcher, name) for name in ("_find_changes", "encode")),
        *((watchers, name) for name in ("describe", "decode_seen")),
    ):
        observe(owner, name)
    await hook.aput(bucket_id, "a", "1")
    for expected in ("encode", "decode_seen"):  # the second one finds states
        async with Triggerer() as triggerer:
            for number in range(5):
                triggerer.watch(objects(bucket_id, max_events_per_poll=100 + number), f"asset-{number}")
            await wait_until(lambda expected=expected: expected in threads)
            await baseline(state_store, 5)
    assert threads == {name: {"mictlanx-events_0"} for name in ("describe", "_find_changes", "encode", "decode_seen")}


async def test_no_watcher_blocks_the_loop(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    connect(vss := own_vss(peers=1))
    await MictlanXHook().aput(bucket_id, "a", "1")
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    vss.set_fault("latency", seconds=3)
    loop.slow_callback_duration = 2
    async with Triggerer() as triggerer:
        triggerer.watch(objects(bucket_id, existing=True), "asset")
        await wait_until(lambda: len(triggerer.events) == 1, 60)
    assert [record.getMessage() for record in caplog.records if "took" in record.getMessage()] == []


# Airflow before 3.3


async def test_run_alone_fires_the_same_events(hook: MictlanXHook, bucket_id: str, vss: LocalVSS) -> None:
    trigger = objects(bucket_id)
    found: list[Any] = []

    async def run() -> None:
        async for event in trigger.run():
            found.append(event.payload["key"])

    await hook.aput(bucket_id, "old", "1")
    vss.reset_requests()
    task = asyncio.create_task(run())
    await wait_until(lambda: len(vss.requests("GET", f"/buckets/{bucket_id}/metadata$")) >= 2)
    await hook.aput(bucket_id, "a", "1")
    await wait_until(lambda: "a" in found)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# Bulks


def bulk(bulk_id: str) -> MictlanXBulkCompleteEventTrigger:
    return MictlanXBulkCompleteEventTrigger(bulk_id=bulk_id, poke_interval=POKE)


@needs_streams
async def test_bulk_fires_once_for_each_upload(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path) -> None:
    async with Triggerer() as first:
        first.watch(bulk(bulk_id), "asset")
        await hook.aput_bulk(bulk_id, bucket_id, folder)
        await first.wait_for(1)
        await hook.aput_bulk(bulk_id, bucket_id, folder)  # as a cleared task
        await first.wait_for(1)
    (event,) = first.events
    event_id = event.pop("event_id")
    result = await hook.aawait_bulk(bulk_id, timeout=0)
    assert {**event, "response_time": 0} == {**result, "response_time": 0}
    async with Triggerer() as second:
        second.watch(bulk(bulk_id), "asset")
        await hook.aawait_bulk(bulk_id, timeout=0, remove_on_completion=True)
        await second.wait_for(0)
        await hook.adelete_bulk(bulk_id)
        await second.wait_for(0)
        await hook.aput_bulk(bulk_id, bucket_id, folder)
        await second.wait_for(1)
    assert second.events[0]["event_id"] != event_id


async def test_bulk_uploaded_again_between_two_polls_fires(
    hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    ids = []
    for _ in range(2):
        await hook.adelete_bulk(bulk_id)
        await hook.aput_bulk(bulk_id, bucket_id, folder)
        async with Triggerer() as triggerer:
            triggerer.watch(bulk(bulk_id), "asset")
            await triggerer.wait_for(1)
        ids += [event["event_id"] for event in triggerer.events]
    assert len(set(ids)) == 2


async def test_closed_bulk_fires(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path) -> None:
    await hook.aput_bulk(bulk_id, bucket_id, folder)
    await hook.aawait_bulk(bulk_id, timeout=0, remove_on_completion=True)
    async with Triggerer() as triggerer:
        triggerer.watch(bulk(bulk_id), "asset")
        await triggerer.wait_for(1)


async def test_closed_bulk_fires_again_after_its_delete(
    hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    async with Triggerer() as triggerer:
        watcher = triggerer.watch(bulk(bulk_id), "asset")
        await hook.aput_bulk(bulk_id, bucket_id, folder)
        await triggerer.wait_for(1)
        await hook.adelete_bulk(bulk_id)
        await triggerer.wait_for(1)
        await triggerer.cancel(watcher)  # so that no poll sees the upload
        await hook.aput_bulk(bulk_id, bucket_id, folder)
        await hook.aawait_bulk(bulk_id, timeout=0, remove_on_completion=True)
        triggerer.watch(bulk(bulk_id), "asset")
        await triggerer.wait_for(2)


async def test_closed_bulk_that_was_uploaded_again_fires(
    hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    async with Triggerer() as triggerer:
        watcher = triggerer.watch(bulk(bulk_id), "asset")
        await hook.aput_bulk(bulk_id, bucket_id, folder)
        await triggerer.wait_for(1)
        await triggerer.cancel(watcher)  # so that no poll sees the delete
        await hook.adelete_bulk(bulk_id)
        await hook.aput_bulk(bulk_id, bucket_id, folder)
        await hook.aawait_bulk(bulk_id, timeout=0, remove_on_completion=True)
        triggerer.watch(bulk(bulk_id), "asset")
        await triggerer.wait_for(2)


async def test_closed_bulk_keeps_the_id_of_its_event(
    hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    ids = []
    await hook.aput_bulk(bulk_id, bucket_id, folder)
    for _ in range(2):
        async with Triggerer() as triggerer:  # without a state
            triggerer.watch(bulk(bulk_id))
            await triggerer.wait_for(1)
        ids += [event["event_id"] for event in triggerer.events]
        await hook.aawait_bulk(bulk_id, timeout=0, remove_on_completion=True)
    assert len(set(ids)) == 1


@needs_streams
async def test_bulk_that_is_being_deleted_fires_nothing(
    hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """The first attempt's start is gone; that of a retry, and what both have stored, are left."""
    for _ in range(2):
        await hook.aput_bulk(bulk_id, bucket_id, folder)
    async with hook.open_client() as client, Triggerer() as triggerer:
        triggerer.watch(bulk(bulk_id), "asset")
        await triggerer.wait_for(1)
        records = RecordStore(client, bulk_id)
        first = min((await records.read()).starts, key=lambda start: start.sequence)
        await records.delete([first.name])
        await triggerer.wait_for(1)
        assert (await hook.aawait_bulk(bulk_id, timeout=0))["state"] == "complete"


async def test_many_records_are_parsed_in_a_thread(
    hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four thousand of them, as a large bulk has, would block the loop for 0.3 s."""
    parsers = set()
    parse = record_store.read_listing

    def observe(*args: Any, **kwargs: Any) -> Any:
        parsers.add(threading.current_thread())
        return parse(*args, **kwargs)

    await hook.aput_bulk(bulk_id, bucket_id, folder)
    monkeypatch.setattr(record_store, "read_listing", observe)
    monkeypatch.setattr(record_store, "INLINE_ROWS", 2)
    async with Triggerer() as triggerer:
        triggerer.watch(bulk(bulk_id))
        await triggerer.wait_for(1)
    assert parsers
    assert threading.current_thread() not in parsers


@pytest.mark.parametrize("late", [False, True])
async def test_bulk_fires_in_spite_of_records_of_a_deleted_one(
    hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path, late: bool
) -> None:
    """An upload whose bulk is deleted meanwhile records its end all the same, before or after the next upload."""
    await hook.aput_bulk(bulk_id, bucket_id, folder)
    async with hook.open_client() as client:
        records = RecordStore(client, bulk_id)
        (ended,) = (await records.read()).dones
        await hook.adelete_bulk(bulk_id)
        if late:
            await hook.aput_bulk(bulk_id, bucket_id, folder)
        await records.write(ended)
    await hook.aput_bulk(bulk_id, bucket_id, folder)
    async with Triggerer() as triggerer:
        triggerer.watch(bulk(bulk_id), "asset")
        await triggerer.wait_for(1)


async def test_silent_peer_does_not_repeat_a_bulks_event(
    own_vss: Callable[..., LocalVSS],
    connect: Callable[..., None],
    bulk_id: str,
    bucket_id: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchers, "MAX_PAUSE", 4 * POKE)
    connect(vss := own_vss(peers=3), timeout=2)
    await MictlanXHook().aput_bulk(bulk_id, bucket_id, folder)
    async with Triggerer() as triggerer:
        triggerer.watch(bulk(bulk_id), "asset")
        await triggerer.wait_for(1)
        for peers in (("peer-0",), ("peer-0", "peer-1", "peer-2")):
            faults = [vss.set_fault("peer_silent", peer=peer) for peer in peers]
            await asyncio.sleep(1.5)
            for fault in faults:
                fault.off()
        await triggerer.wait_for(1)


async def test_bulk_with_failures_fires_once_it_is_mended(
    hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    await hook.aput(bucket_id, "b", "other bytes")
    async with Triggerer() as triggerer:
        triggerer.watch(bulk(bulk_id), "asset")
        with pytest.raises(Exception, match="not stored"):
            await hook.aput_bulk(bulk_id, bucket_id, folder)
        await triggerer.wait_for(0)
        await hook.adelete(bucket_id, "b")
        await hook.aput_bulk(bulk_id, bucket_id, folder)
        await triggerer.wait_for(1)
    assert triggerer.events[0]["state"] == "complete"
