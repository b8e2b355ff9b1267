"""What an attempt takes over from the records of earlier ones: checked against the storage and the source before it is believed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from airflow_provider_mictlanx.bulks import attempt as uploading
from airflow_provider_mictlanx.bulks import inventory
from airflow_provider_mictlanx.bulks.monitor import await_bulk, bulk_status
from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.bulks.records import Done, Part
from airflow_provider_mictlanx.bulks.sources import SourceBall, list_items, list_sources
from airflow_provider_mictlanx.bulks.status import State
from airflow_provider_mictlanx.bulks.verification import StorageCheck
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.empty_objects import companion_key
from airflow_provider_mictlanx.client.errors import (
    BallConflictError,
    MictlanXError,
    NotFoundError,
    PutChunksError,
    UnavailableError,
)
from airflow_provider_mictlanx.client.transfer import chunk_upload, upload_window
from tests.support.bulk_uploads import make_files, on_peers, one_version_each, uncached_client, upload, versions
from tests.support.forked_processes import ForkedProcesses
from tests.support.raw_requests import RawRequests
from tests.support.vss import LocalVSS

_PROCESSES = ForkedProcesses("tests.support.bulk_attempt")

FEW = inventory.FEWEST_BALLS
MANY = FEW + 4
SIZES = pytest.mark.parametrize("number", [FEW, MANY], ids=["few", "many"])
"""Bulks whose balls are asked for one by one, and bulks whose bucket is listed."""


@pytest.fixture
def bulk_id() -> str:
    return f"taken over {uuid.uuid4()}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def files(folder: Path, number: int, size: int = 50) -> dict[str, bytes]:
    return make_files(folder, {f"f{index:02}": size for index in range(number)})


async def state_of(client: AsyncClient, bulk_id: str) -> tuple[State, int]:
    status = await bulk_status(client, bulk_id)
    return status.state, status.acknowledged


# What the storage has lost


@SIZES
async def test_cleared_run_sends_what_was_deleted(
    vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path, number: int
) -> None:
    contents = files(folder, number)
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        assert (await client.delete_bucket(bucket_id)).unwrap().failed == 0
        lines: list[str] = []
        again = await upload(client, bulk_id, bucket_id, folder, lines=lines)
        assert (again.total_balls, again.uploaded, again.skipped, again.failed) == (number, number, 0, 0)
        assert any(f"{number} objects again, which the storage has lost" in line for line in lines)
        assert await state_of(client, bulk_id) == (State.COMPLETE, number)
        assert await versions(client, bucket_id) == one_version_each(contents)
        assert set(on_peers(vss, bucket_id, contents).values()) == {1}
        third = await upload(client, bulk_id, bucket_id, folder)
        assert (third.uploaded, third.skipped) == (0, number)


@SIZES
async def test_lost_ball_is_sent_again(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path, number: int) -> None:
    contents = files(folder, number)
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        (await client.delete("f03", bucket_id)).unwrap()
        vss.reset_requests()
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.uploaded, again.skipped, again.failed) == (1, number - 1, 0)
        assert len(vss.requests("POST", f"/buckets/{bucket_id}/metadata$")) == 1
        assert min(on_peers(vss, bucket_id, contents).values()) == 1
        told = await await_bulk(client, bulk_id, timeout=0, include_items=True)
        assert (told["state"], len(told["successes"]), told["failures"]) == ("complete", number, [])


@SIZES
async def test_chunk_that_is_lost(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path, number: int) -> None:
    """Of a ball of three chunks the last one; what is left of it is not sent again."""
    contents = files(folder, number, size=2500)
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder, chunk_size="1kb")
        RawRequests(vss).delete_chunk(bucket_id, "f05_2")
        vss.reset_requests()
        again = await upload(client, bulk_id, bucket_id, folder, chunk_size="1kb")
        assert (again.uploaded, again.skipped, again.failed) == (1, number - 1, 0)
        assert len(vss.requests("POST", f"/buckets/{bucket_id}/metadata$")) == 1
        assert bytes((await client.get(bucket_id, "f05")).unwrap().data) == contents["f05"]


async def test_lost_while_a_ball_was_missing_anyway(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    files(folder, MANY)
    vss = own_vss()
    async with uncached_client(vss) as client:
        with vss.fault("refuse_data", key="f03_0"):
            assert (await upload(client, bulk_id, bucket_id, folder)).failed == 1
        (await client.delete("f07", bucket_id)).unwrap()
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.uploaded, again.skipped, again.failed) == (2, MANY - 2, 0)
        assert await state_of(client, bulk_id) == (State.COMPLETE, MANY)


async def test_empty_balls(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    make_files(folder, {f"f{index:02}": 50 for index in range(MANY)} | {"empty": 0, "empty-too": 0})
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        (await client.delete("empty", bucket_id)).unwrap()
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.uploaded, again.skipped, again.failed) == (1, MANY + 1, 0)
        assert (await client.exists(bucket_id, "empty")).unwrap()
        assert (await upload(client, bulk_id, bucket_id, folder)).skipped == MANY + 2
        ends = (await RecordStore(client, bulk_id).read_completely()).dones
        assert [end.lost for end in sorted(ends, key=lambda end: end.sequence)] == [0, 1, 0]


@pytest.mark.parametrize("others", [0, MANY])
async def test_empty_ball_without_its_companion_is_put_again(
    vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path, others: int
) -> None:
    """A few balls are looked up one by one, many in one listing."""
    make_files(folder, {f"f{index:02}": 50 for index in range(others)} | {"empty": 0, "empty-too": 0})
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        RawRequests(vss).delete_chunk(bucket_id, companion_key("empty"))
        vss.reset_requests()
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.uploaded, again.skipped, again.failed) == (0, others + 2, 0)
        assert len(vss.requests("POST", f"/{bucket_id}/metadata$")) == 1
        assert len((await client.list_balls(bucket_id)).unwrap()) == others + 2
        assert (await upload(client, bulk_id, bucket_id, folder)).skipped == others + 2
        ends = (await RecordStore(client, bulk_id).read_completely()).dones
        assert [end.lost for end in sorted(ends, key=lambda end: end.sequence)] == [0, 1, 0]


async def test_only_the_cleared_shard_is_mended(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    files(folder, 2 * MANY)
    async with uncached_client(vss) as client:
        for shard in range(2):
            await upload(client, bulk_id, bucket_id, folder, shard=shard, shards=2)
        await client.delete_bucket(bucket_id)
        first = await upload(client, bulk_id, bucket_id, folder, shard=0, shards=2)
        assert (first.uploaded, first.failed) == (MANY, 0)
        second = await upload(client, bulk_id, bucket_id, folder, shard=1, shards=2)
        assert (second.uploaded, second.failed) == (MANY, 0)
        assert await state_of(client, bulk_id) == (State.COMPLETE, 2 * MANY)
        assert len(await versions(client, bucket_id)) == 2 * MANY


async def test_several_buckets(vss: LocalVSS, bulk_id: str, bucket_id: str) -> None:
    """Each destination is listed once."""

    def listing() -> list[SourceBall]:
        places = [(f"{bucket_id}-{place}", f"f{index:02}") for place in "ab" for index in range(MANY)]
        return list_items([{"bucket_id": bucket, "key": key, "data": "x"} for bucket, key in places])

    async with uncached_client(vss) as client:
        await upload(client, bulk_id, "", listing=listing, items_per_shard=True)
        await client.delete_bucket(f"{bucket_id}-b")
        vss.reset_requests()
        again = await upload(client, bulk_id, "", listing=listing, items_per_shard=True)
        assert (again.uploaded, again.skipped, again.failed) == (MANY, MANY, 0)
        assert len(vss.requests("GET", f"/buckets/{bucket_id}-a/metadata$")) == 1
        assert len(vss.requests("GET", f"/buckets/{bucket_id}-b/metadata$")) == 3  # and around its window


async def test_other_bytes_under_a_key_since_then(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    contents = files(folder, MANY)
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        (await client.put(bucket_id, "f03", b"other", replace=True)).unwrap()
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.uploaded, again.skipped, again.failed) == (0, MANY - 1, 1)
        assert (again.failures[0].key, again.failures[0].code) == ("f03", BallConflictError.default_error_code)
        assert await state_of(client, bulk_id) == (State.FAILED, MANY - 1)
        assert (await upload(client, bulk_id, bucket_id, folder, options={"replace": True})).uploaded == 1
        assert await versions(client, bucket_id) == one_version_each(contents)


@pytest.mark.usefixtures("short_grace")
@SIZES
async def test_announced_anew_without_data(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path, number: int
) -> None:
    """
    A listing shows announcements: one that came after the record is not the one that the record acknowledges.

    Somebody deleted the ball, and a writer of the same bytes died before its data. What is newer than the record is read.
    """
    contents = files(folder, number)
    vss = own_vss()
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        wire = RawRequests(vss)
        for key in ("f03", "f04"):
            wire.delete_chunk(bucket_id, f"{key}_0")
        wire.announce(bucket_id, "f03", 0, contents["f03"], contents["f03"], 1)
        wire.put(bucket_id, "f04", [contents["f04"]])
        vss.reset_requests()
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.uploaded, again.skipped, again.failed) == (1, number - 1, 0)
        read = {seen["path"].rpartition("/")[2] for seen in vss.requests("GET", f"/buckets/{bucket_id}/f.._0$")}
        assert read == {"f03_0", "f04_0"}
        assert min(on_peers(vss, bucket_id, contents).values()) == 1


@pytest.mark.usefixtures("short_grace")
async def test_unreadable_ball_that_is_listed_is_mended_after_a_check(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """The peer lost the data and lists it still. What a storage check could not read is read by the next attempt, and sent."""
    files(folder, MANY)
    vss = own_vss()
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        with contextlib.closing(sqlite3.connect(vss.data / "metadata.sqlite3")) as books, books:
            books.execute("update replicas set blob = null where bucket_id = ? and key = 'f03_0'", (bucket_id,))
        vss.restart()  # for the router remembers it
        assert (await upload(client, bulk_id, bucket_id, folder)).skipped == MANY, "the listing shows it"
        check = StorageCheck(bulk_id, run="first")
        assert await check.go_on(client, 60)
        assert [failure.key for failure in check.failures] == ["f03"]
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.uploaded, again.skipped, again.failed) == (1, MANY - 1, 0)
        second = StorageCheck(bulk_id, run="second")
        assert await second.go_on(client, 60)
        assert (second.checked, second.failed) == (MANY, 0)
        vss.reset_requests()
        third = await upload(client, bulk_id, bucket_id, folder)
        assert (third.uploaded, third.skipped) == (0, MANY)
        read = {seen["path"].rpartition("/")[2] for seen in vss.requests("GET", f"/buckets/{bucket_id}/f.._0$")}
        assert read == {"f03_0"}, "only what was in doubt is read"


# What is not to be believed, and what it costs


@SIZES
async def test_peer_that_does_not_answer(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path, number: int
) -> None:
    """It may have what nobody lists: nothing is claimed, neither that a ball is stored nor that it is lost."""
    files(folder, number)
    vss = own_vss()
    faults: list[Any] = []

    def listing() -> list[SourceBall]:  # after the records were read, before the storage is asked
        if not faults:
            faults.append(vss.set_fault("peer_down", peer="peer-1"))
        return list_sources(str(folder), bucket_id)

    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        with pytest.raises(UnavailableError, match=f"{bulk_id}.*peer-1"):
            await upload(client, bulk_id, bucket_id, folder, listing=listing, options={"will_retry": True})
        faults[0].off()
        records = await RecordStore(client, bulk_id).read_completely()
        assert [done.lost for done in records.dones] == [0, 0]
        assert await state_of(client, bulk_id) == (State.COMPLETE, number)
        vss.reset_requests()
        assert (await upload(client, bulk_id, bucket_id, folder)).skipped == number
        assert vss.requests("POST", f"/buckets/{bucket_id}/metadata$") == []


@pytest.mark.parametrize("balls", [MANY, 3 * MANY])
async def test_one_listing_for_all_balls(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path, balls: int) -> None:
    files(folder, balls)
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        vss.reset_requests()
        assert (await upload(client, bulk_id, bucket_id, folder)).skipped == balls
        assert [seen["path"].rpartition("/")[2] for seen in vss.requests(path=bucket_id)] == ["metadata"]


async def test_few_balls_are_asked_for_one_by_one(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    files(folder, FEW)
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        vss.reset_requests()
        assert (await upload(client, bulk_id, bucket_id, folder)).skipped == FEW
        assert [seen["path"].rpartition("/")[2] for seen in vss.requests(path=bucket_id)] == ["chunks"] * FEW


async def test_bucket_far_larger_than_the_bulk(
    vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its listing is not read to its end; the balls are asked for one by one."""
    files(folder, MANY)
    monkeypatch.setattr(upload_window, "ROWS_PER_BALL", 1)
    async with uncached_client(vss) as client:
        for number in range(MANY):
            (await client.put(bucket_id, f"other-{number}", b"x" * 100, tags={"t": "x" * 500})).unwrap()
        await upload(client, bulk_id, bucket_id, folder)
        (await client.delete("f03", bucket_id)).unwrap()
        vss.reset_requests()
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.uploaded, again.skipped, again.failed) == (1, MANY - 1, 0)
        asked = [seen["path"] for seen in vss.requests("GET", bucket_id)]
        assert len([path for path in asked if path.endswith(f"{bucket_id}/metadata")]) == 1
        assert len({path for path in asked if path.endswith("/chunks")}) == MANY


# The records say so


@pytest.mark.usefixtures("short_grace")
async def test_gate_pokes_while_it_is_sent_again(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    files(folder, MANY)
    vss = own_vss()
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        (await client.delete("f03", bucket_id)).unwrap()
        slow = vss.set_fault("latency", path="/buckets/data/", seconds=20, skip=2)  # not that of the records before it
        again = asyncio.create_task(upload(client, bulk_id, bucket_id, folder))
        while not slow.triggered:
            await asyncio.sleep(0.01)
        vss.reset_requests()
        assert await state_of(client, bulk_id) == (State.UPLOADING, MANY - 1)
        assert len(vss.requests()) == 1, "a poke is one listing"
        slow.off()
        again.cancel()
        with pytest.raises(asyncio.CancelledError):
            await again
        assert (await state_of(client, bulk_id))[0] is not State.COMPLETE
        await upload(client, bulk_id, bucket_id, folder)
        assert await state_of(client, bulk_id) == (State.COMPLETE, MANY)


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("deleted", ["one", "all"])
async def test_killed_after_it_recorded_the_loss(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path, deleted: str
) -> None:
    """It died after it announced a ball: the listing shows that one, and an old record acknowledges it; both don't count."""
    contents = files(folder, MANY)
    vss = own_vss()
    lost = MANY if deleted == "all" else 1
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        if deleted == "all":
            (await client.delete_bucket(bucket_id)).unwrap()
        else:
            (await client.delete("f03", bucket_id)).unwrap()
        told = {"uri": vss.uri, "bulk_id": bulk_id, "bucket_id": bucket_id, "folder": str(folder)}
        dying = _PROCESSES.start("tests.support.bulk_attempt:main", {**told, "die_after": f"/{bucket_id}/metadata"})
        output, _ = await asyncio.to_thread(dying.communicate, timeout=60)
        assert dying.returncode == -signal.SIGKILL, output
        announced = (await client.get_chunks_by_bucket_id(bucket_id)).unwrap().balls
        assert {chunk.ball_id for chunk in announced} >= ({"f03"} if deleted == "one" else set())
        assert await state_of(client, bulk_id) == (State.UPLOADING, MANY - lost)
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.uploaded, again.skipped, again.failed) == (lost, MANY - lost, 0)
        assert min(on_peers(vss, bucket_id, contents).values()) == 1
        assert await state_of(client, bulk_id) == (State.COMPLETE, MANY)


@pytest.mark.usefixtures("short_grace")
async def test_bytes_of_the_record_of_the_loss_are_lost(
    vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """Nobody knows which balls it named: every acknowledgement before it is looked into."""
    contents = files(folder, MANY)
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        store = RecordStore(client, bulk_id)
        records = await store.read_completely()
        later = records.starts[0].model_copy(update={"attempt": "f" * 16, "sequence": 2})
        plan = records.plans[0].digest
        await store.write(later)
        part = Part(shard=0, attempt=later.attempt, sequence=2, number=0, plan=plan, lost=1)
        await store.write(part, b"no JSON")
        RawRequests(vss).delete_chunk(bucket_id, "f03_0")
        RawRequests(vss).announce(bucket_id, "f03", 0, contents["f03"], contents["f03"], 1)
        assert (await bulk_status(client, bulk_id)).state is State.UPLOADING
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.uploaded, again.skipped, again.failed) == (1, MANY - 1, 0)
        assert min(on_peers(vss, bucket_id, contents).values()) == 1


async def test_loss_that_can_not_be_recorded_stops_the_attempt(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """Nothing is announced that an old record would be believed for."""
    files(folder, MANY)
    vss = own_vss()
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        await client.delete_bucket(bucket_id)
        vss.reset_requests()
        with vss.fault("refuse_data", key="part-*"), pytest.raises(PutChunksError):
            await upload(client, bulk_id, bucket_id, folder, options={"will_retry": True})
        assert vss.requests("POST", f"/buckets/{bucket_id}/metadata$") == []
        assert (await bulk_status(client, bulk_id)).state is State.UPLOADING, "the end says so too"
        assert (await upload(client, bulk_id, bucket_id, folder)).uploaded == MANY


async def test_loss_has_to_be_recorded_on_as_many_peers_as_a_start(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """A listing that lacks the peers that have this record shows a bulk that is complete."""
    files(folder, MANY)
    vss = own_vss()

    class Lines(list[str]):
        def append(self, line: str) -> None:
            if "which the storage has lost" in line:
                vss.set_fault("peer_down", peer="peer-1")

    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        await client.delete_bucket(bucket_id)
        vss.reset_requests()
        with pytest.raises(MictlanXError, match="part-0-"):
            await upload(client, bulk_id, bucket_id, folder, lines=Lines())
        assert vss.requests("POST", f"/buckets/{bucket_id}/metadata$") == []
        vss.clear_faults()
        await upload(client, bulk_id, bucket_id, folder)
        last = max((await RecordStore(client, bulk_id).read()).parts, key=lambda part: part.sequence)
        assert last.lost
        assert len(RawRequests(vss).listed(RecordStore(client, bulk_id).bucket_id, last.name)) == 3


async def test_what_another_attempt_stored_may_be_lost_again(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure is none where another attempt has stored the ball since; but not where it is gone by now."""
    monkeypatch.setattr(chunk_upload, "GRACE", 0.3)  # of what the first attempt has announced and not sent yet
    files(folder, MANY)
    vss = own_vss()
    async with uncached_client(vss) as client:
        original = client.upload

        async def beside_another(key: str, **told: Any) -> Any:
            if key not in ("f03", "f04"):
                return await original(key=key, **told)
            with vss.fault("refuse_data", bucket=bucket_id, key=f"{key}_0"):
                result = await original(key=key, **told)
            if key == "f04":
                async with uncached_client(vss) as other:
                    assert (await upload(other, bulk_id, bucket_id, folder)).failed == 0
                    (await other.delete("f03", bucket_id)).unwrap()
            return result

        client.upload = beside_another  # type: ignore[method-assign]
        result = await upload(client, bulk_id, bucket_id, folder, options={"max_concurrency": 1})
        assert [failure.key for failure in result.failures] == ["f03"]


async def test_ball_that_can_not_be_sent_again_fails_the_bulk(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    files(folder, MANY)
    vss = own_vss()
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        (await client.delete("f03", bucket_id)).unwrap()
        (folder / "f03").unlink()
        again = await upload(client, bulk_id, bucket_id, folder)
        assert [failure.key for failure in again.failures] == ["f03"]
        assert await state_of(client, bulk_id) == (State.FAILED, MANY - 1)
        told = await await_bulk(client, bulk_id, timeout=0, fail_on_error=False, include_items=True)
        assert (told["total_balls"], told["succeeded"], told["failed"]) == (MANY, MANY - 1, 1)
        assert {ball["key"] for ball in told["successes"]} == {f"f{n:02}" for n in range(MANY)} - {"f03"}
        assert [failure["key"] for failure in told["failures"]] == ["f03"]


async def test_two_attempts_find_the_loss_at_once(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    contents = files(folder, MANY)
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        await client.delete_bucket(bucket_id)
        async with uncached_client(vss) as other:
            both = await asyncio.gather(*(upload(each, bulk_id, bucket_id, folder) for each in (client, other)))
        assert [end.failed for end in both] == [0, 0]
        assert await state_of(client, bulk_id) == (State.COMPLETE, MANY)
        assert min(on_peers(vss, bucket_id, contents).values()) >= 1
        assert await versions(client, bucket_id) == one_version_each(contents)


async def test_parts_of_an_attempt_that_sends_again(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts never acknowledge what it found lost before it was sent, however many there are and whatever is tidied up."""
    monkeypatch.setattr(uploading, "FIRST_PART", 0.005)
    monkeypatch.setattr(uploading, "LAST_PART", 0.005)
    monkeypatch.setattr(uploading, "FULL_PART", 3)
    files(folder, 60)
    vss = own_vss()
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        await client.delete_bucket(bucket_id)
        seen: list[tuple[State, int]] = []

        async def look() -> None:
            while True:
                seen.append(await state_of(client, bulk_id))
                await asyncio.sleep(0.01)

        with vss.fault("latency", path=f"/buckets/{bucket_id}/metadata$", method="POST", seconds=0.05):
            again = asyncio.create_task(upload(client, bulk_id, bucket_id, folder, options={"max_concurrency": 2}))
            while not any(record.lost for record in (await RecordStore(client, bulk_id).read()).parts):
                await asyncio.sleep(0.01)
            looking = asyncio.create_task(look())
            await again
            looking.cancel()
        states = [state for state, _ in seen]
        assert State.UPLOADING in states
        assert State.COMPLETE not in states[: -1 or None][: states.count(State.UPLOADING)]
        counts = [count for state, count in seen if state is State.UPLOADING]
        assert counts == sorted(counts)
        assert counts[0] < 60
        assert await state_of(client, bulk_id) == (State.COMPLETE, 60)


# What became of the source


def in_place(path: Path, keep_times: bool = False) -> None:
    """Change a byte of a file in place; its size stays as it is, and its times if told so."""
    before = path.stat()
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("keep_times", [False, True])
@pytest.mark.parametrize("size", [50, 1_500_000])
async def test_file_that_changed_in_place(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path, keep_times: bool, size: int
) -> None:
    """A file of the same size with other bytes is a failure, also where it is stored as planned; and it names the ways out."""
    make_files(folder, {"changed": size, "kept": size, "missing": 10})
    vss = own_vss()
    async with uncached_client(vss) as client:
        with vss.fault("refuse_data", key="missing_0"):
            assert (await upload(client, bulk_id, bucket_id, folder)).failed == 1
        in_place(folder / "changed", keep_times)
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.total_balls, again.uploaded, again.skipped, again.failed) == (3, 1, 1, 1)
        [failure] = again.failures
        assert failure.key == "changed"
        for way_out in ("changed after planning", "another bulk_id", "delete_bulk", "replace=True"):
            assert way_out in failure.message
        assert await state_of(client, bulk_id) == (State.FAILED, 2)
        told = await await_bulk(client, bulk_id, timeout=0, fail_on_error=False)
        assert (told["total_balls"], told["succeeded"], told["failed"]) == (3, 2, 1)
        in_place(folder / "changed")  # and back
        mended = await upload(client, bulk_id, bucket_id, folder)
        assert (mended.uploaded, mended.skipped, mended.failed) == (0, 3, 0)
        assert await state_of(client, bulk_id) == (State.COMPLETE, 3)


async def test_file_that_changed_before_it_was_recorded(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """Stored by an attempt that was killed, and found stored by the next one, which has not read the file for the plan."""
    make_files(folder, {"changed": 1_500_000})
    vss = own_vss()
    async with uncached_client(vss) as client:
        told = {"uri": vss.uri, "bulk_id": bulk_id, "bucket_id": bucket_id, "folder": str(folder)}
        dying = _PROCESSES.start(
            "tests.support.bulk_attempt:main", {**told, "die_after": "/buckets/data/", "nth": 3, "part": 60}
        )
        output, _ = await asyncio.to_thread(dying.communicate, timeout=60)
        assert dying.returncode == -signal.SIGKILL, output
        assert (await client.exists(bucket_id, "changed", check_storage=True)).unwrap(), "it came so far"
        in_place(folder / "changed")
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.uploaded, again.skipped, again.failed) == (0, 0, 1)
        assert "changed since" in again.failures[0].message


async def test_grown_or_gone_after_it_was_stored(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """A file that is gone leaves its ball as planned; one that has grown is another one than that which is stored."""
    make_files(folder, {"gone": 10, "grown": 10, "kept": 10, "missing": 10})
    vss = own_vss()
    async with uncached_client(vss) as client:
        with vss.fault("refuse_data", key="missing_0"):
            await upload(client, bulk_id, bucket_id, folder)
        (folder / "gone").unlink()
        (folder / "grown").write_bytes(b"x" * 11)
        lines: list[str] = []
        again = await upload(client, bulk_id, bucket_id, folder, lines=lines)
        assert (again.uploaded, again.skipped) == (1, 2)
        assert [failure.key for failure in again.failures] == ["grown"]
        assert "10 bytes then, 11 now" in again.failures[0].message
        assert any("Ignoring 1 source deleted after their objects were stored" in line for line in lines)


async def test_files_as_they_were_are_not_read_again(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """Where no time and no size tells of a change, a retry reads only what it sends; where one does, it compares."""
    files(folder, MANY)
    vss = own_vss()
    async with uncached_client(vss) as client:
        plan, read = client.plan, list[str]()

        async def counted(**told: Any) -> Any:
            read.append(Path(told["path"]).name)
            return await plan(**told)

        with vss.fault("refuse_data", key="f03_0"):
            await upload(client, bulk_id, bucket_id, folder)
        client.plan = counted  # type: ignore[method-assign]
        assert (await upload(client, bulk_id, bucket_id, folder)).uploaded == 1
        assert read == []
        (folder / "f05").touch()
        assert (await upload(client, bulk_id, bucket_id, folder)).skipped == MANY
        assert set(read) == {f"f{number:02}" for number in range(MANY)}
        read.clear()
        assert (await upload(client, bulk_id, bucket_id, folder)).skipped == MANY
        assert read == [], "the comparison is on record"


async def test_killed_attempt_that_saw_a_change(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """What it has not compared itself, its records don't vouch for."""
    files(folder, MANY)
    vss = own_vss()
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        (await client.delete("f03", bucket_id)).unwrap()
        in_place(folder / "f05")
        for _ in range(2):
            again = await upload(client, bulk_id, bucket_id, folder)
            assert [failure.key for failure in again.failures] == ["f05"]


async def test_data_that_changed(vss: LocalVSS, bulk_id: str, bucket_id: str) -> None:
    def listing(content: str) -> Callable[[], list[SourceBall]]:
        return lambda: list_items([{"key": "a", "data": content}, {"key": "b", "data": "b"}], bucket_id)

    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, listing=listing("x"), items_per_shard=True)
        assert (await upload(client, bulk_id, bucket_id, listing=listing("x"), items_per_shard=True)).skipped == 2
        again = await upload(client, bulk_id, bucket_id, listing=listing("y"), items_per_shard=True)
        assert [failure.key for failure in again.failures] == ["a"]


async def test_file_of_another_store_that_changed(vss: LocalVSS, bulk_id: str, bucket_id: str) -> None:
    base = UPath(f"memory://{uuid.uuid4().hex}")
    for key in "ab":
        base.fs.pipe_file(f"{base.path}/{key}", key.encode() * 10)

    def listing() -> list[SourceBall]:
        return list_sources(base, bucket_id)

    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, listing=listing)
        assert (await upload(client, bulk_id, bucket_id, listing=listing)).skipped == 2
        await asyncio.sleep(0.002)  # times are compared to the millisecond
        base.fs.pipe_file(f"{base.path}/a", b"x" * 10)
        again = await upload(client, bulk_id, bucket_id, listing=listing)
        assert [failure.key for failure in again.failures] == ["a"]


async def test_file_of_another_store_whose_time_is_set_back(vss: LocalVSS, bulk_id: str, bucket_id: str) -> None:
    """A store that tells no ETag or the like has nothing that cannot be set: its files are read and compared."""
    base = UPath(f"memory://{uuid.uuid4().hex}")
    base.fs.pipe_file(f"{base.path}/a", b"a" * 10)

    def listing() -> list[SourceBall]:
        return list_sources(base, bucket_id)

    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, listing=listing)
        before = base.fs.store[f"{base.path}/a"]
        base.fs.pipe_file(f"{base.path}/a", b"x" * 10)
        after = base.fs.store[f"{base.path}/a"]
        after.created, after.modified = before.created, before.modified
        again = await upload(client, bulk_id, bucket_id, listing=listing)
        assert [failure.key for failure in again.failures] == ["a"]


async def test_source_that_changes_while_it_is_sent_names_the_ways_out(
    vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    make_files(folder, {"big": 3_000_000})
    async with uncached_client(vss) as client:
        plan = client.plan

        async def plan_and_change(**told: Any) -> Any:
            answer = await plan(**told)
            in_place(folder / "big")
            return answer

        client.plan = plan_and_change  # type: ignore[method-assign]
        for _ in range(2):
            result = await upload(client, bulk_id, bucket_id, folder, chunk_size="1MB")
            client.plan = plan  # type: ignore[method-assign]
            assert (result.uploaded, result.failed) == (0, 1)
            for way_out in ("another bulk_id", "delete_bulk", "replace=True"):
                assert way_out in result.failures[0].message


async def test_reader_finds_what_the_cleared_run_reports(
    vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """In the words of the report: the gate opens, and the reader finds every ball."""
    contents = files(folder, 4)
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        await await_bulk(client, bulk_id, timeout=0)
        await client.delete_bucket(bucket_id)
        assert isinstance((await client.get(bucket_id, "f00")).unwrap_err(), NotFoundError)
        result = await upload(client, bulk_id, bucket_id, folder)
        assert (result.uploaded, result.skipped, result.failed) == (4, 0, 0)
        assert (await await_bulk(client, bulk_id, timeout=0))["state"] == "complete"
        for key, content in contents.items():
            assert bytes((await client.get(bucket_id, key)).unwrap().data) == content
        ends = (await RecordStore(client, bulk_id).read_completely()).dones
        assert sorted((end.lost, end.uploaded) for end in ends if isinstance(end, Done)) == [(0, 4), (4, 4)]
