"""Bulks against a real server: uploaded, retried, awaited, closed; and everything that goes wrong on the way."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.batches.runner import Failure
from airflow_provider_mictlanx.bulks import attempt as uploading
from airflow_provider_mictlanx.bulks.errors import BulkConflictError, BulkFailedError
from airflow_provider_mictlanx.bulks.monitor import await_bulk, bulk_status, delete_bulk, is_wait_over, list_bulk_items
from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.bulks.records import Closed, Part, Record, records_bucket
from airflow_provider_mictlanx.bulks.sources import SourceBall, list_items, list_sources
from airflow_provider_mictlanx.bulks.status import State
from airflow_provider_mictlanx.bulks.summary import status_line
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import (
    DeadlineExceededError,
    IntegrityError,
    MictlanXError,
    UnavailableError,
    ValidationError,
)
from tests.support.bulk_uploads import make_files, on_peers, one_version_each, uncached_client, upload, versions
from tests.support.vss import LocalVSS


@pytest.fixture
def bulk_id() -> str:
    return f"manual__2026-11-23T00:00:00+00:00 {uuid.uuid4()}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


async def test_full_run(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    contents = make_files(folder, {"a": 10, "empty": 0, "c": 1_500_000, "d": 100})
    lines: list[str] = []
    async with uncached_client(vss) as client:
        result = await upload(
            client, bulk_id, bucket_id, folder, lines=lines, rf=2, chunk_size="400kb", tags={"x": "y"}
        )
        assert (result.total_balls, result.uploaded, result.skipped, result.failed) == (4, 4, 0, 0)
        assert result.uploaded_size == sum(map(len, contents.values()))
        for key, content in contents.items():
            got = (await client.get(bucket_id, key)).unwrap()
            assert bytes(got.data) == content
            assert got.metadatas[0].tags["x"] == "y"
        told = await await_bulk(client, bulk_id, timeout=0, include_items=True)
        assert {ball["key"]: ball["size"] for ball in told["successes"]} == {
            key: len(data) for key, data in contents.items()
        }
        assert told["failures"] == []


async def test_again_sends_nothing(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    make_files(folder, {f"f{number}": 50 for number in range(20)})
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        vss.reset_requests()
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.uploaded, again.skipped) == (0, 20)
        asked = [(seen["method"], seen["path"].rpartition("/")[2]) for seen in vss.requests(path=bucket_id)]
        assert asked == [("GET", "metadata")], "the records tell, and one listing confirms it"


async def test_sharded(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    contents = make_files(folder, {f"x/{number}": 50 * number for number in range(1, 31)})
    async with uncached_client(vss) as client:
        results = await asyncio.gather(
            *(upload(client, bulk_id, bucket_id, folder, shard=shard, shards=4) for shard in range(4))
        )
        assert sum(result.uploaded for result in results) == len(contents)
        status = await bulk_status(client, bulk_id)
        assert (status.state, status.total_balls, status.acknowledged) == (State.COMPLETE, 30, 30)


async def test_shard_that_gets_nothing(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    make_files(folder, {"only": 5})
    async with uncached_client(vss) as client:
        results = [await upload(client, bulk_id, bucket_id, folder, shard=shard, shards=3) for shard in range(3)]
        assert [result.total_balls for result in results] == [1, 0, 0]
        assert (await bulk_status(client, bulk_id)).state is State.COMPLETE


async def test_nothing_to_upload(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    async with uncached_client(vss) as client:
        with pytest.raises(ValidationError, match="allow_empty"):
            await upload(client, bulk_id, bucket_id, folder)
        assert (await bulk_status(client, bulk_id)).state is State.FAILED
        result = await upload(client, bulk_id, bucket_id, folder, options={"allow_empty": True})
        assert result.total_balls == 0
        assert (await await_bulk(client, bulk_id, timeout=0))["total_balls"] == 0


async def test_retry_after_a_failure(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """The gate is not broken by what a retry mends, and the retry sends only what is missing."""
    contents = make_files(folder, {f"f{number}": 50 for number in range(10)})
    vss = own_vss()
    async with uncached_client(vss) as client:
        with vss.fault("refuse_data", key="f3_0"):
            first = await upload(client, bulk_id, bucket_id, folder, options={"will_retry": True})
        assert (first.uploaded, first.failed, first.failures[0].key) == (9, 1, "f3")
        status = await bulk_status(client, bulk_id)
        assert (status.state, status.has_retryable_failures, status.failed) == (State.UPLOADING, True, 1)
        assert "which a retry may still fix" in status_line(status)
        assert not is_wait_over(status, fail_on_error=True)
        second = await upload(client, bulk_id, bucket_id, folder)
        assert (second.uploaded, second.skipped, second.failed) == (1, 9, 0)
        assert is_wait_over(await bulk_status(client, bulk_id), fail_on_error=True)
        assert await versions(client, bucket_id) == one_version_each(contents)


async def test_failed_for_good_and_mended(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    make_files(folder, {f"f{number}": 50 for number in range(10)})
    vss = own_vss()
    async with uncached_client(vss) as client:
        with vss.fault("refuse_data", key="f3_0"):
            await upload(client, bulk_id, bucket_id, folder)
        status = await bulk_status(client, bulk_id)
        with pytest.raises(BulkFailedError, match="f3") as failed:
            is_wait_over(status, fail_on_error=True)
        assert (failed.value.result["succeeded"], failed.value.result["failed"]) == (9, 1)
        assert is_wait_over(status, fail_on_error=False)
        told = await await_bulk(client, bulk_id, timeout=0, fail_on_error=False, include_items=True)
        assert [failure["key"] for failure in told["failures"]] == ["f3"]
        assert len(told["successes"]) == 9
        await upload(client, bulk_id, bucket_id, folder)
        assert (await bulk_status(client, bulk_id)).state is State.COMPLETE


async def test_stop_on_failure(own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path) -> None:
    make_files(folder, {f"f{number}": 50 for number in range(10)})
    vss = own_vss()
    async with uncached_client(vss) as client:
        with vss.fault("refuse_data", key="f3_0"):
            told = {"stop_on_failure": True, "max_concurrency": 1}
            result = await upload(client, bulk_id, bucket_id, folder, options=told)
        assert (result.uploaded, result.failed) == (3, 7)
        assert "not started, because f3 failed" in result.failures[-1].message
        assert (await upload(client, bulk_id, bucket_id, folder)).skipped == 3


async def test_storage_that_takes_nothing_is_given_up(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    make_files(folder, {f"f{number:03}": 5 for number in range(100)})
    vss = own_vss()
    async with uncached_client(vss) as client:
        with vss.fault("refuse_data", bucket=bucket_id):
            options = {"max_tries": 1, "max_concurrency": 1, "will_retry": True}
            result = await upload(client, bulk_id, bucket_id, folder, options=options)
        assert result.failed == 100
        assert "not started, because the last 16 objects all failed" in result.failures[-1].message
        assert (await upload(client, bulk_id, bucket_id, folder)).failed == 0


async def test_other_bytes_under_a_key(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    contents = make_files(folder, {"a": 10, "b": 20})
    async with uncached_client(vss) as client:
        (await client.put(bucket_id, "a", b"other")).unwrap()
        result = await upload(client, bulk_id, bucket_id, folder)
        assert (result.uploaded, result.failed, result.failures[0].key, result.permanently_failed) == (1, 1, "a", True)
        assert bytes((await client.get(bucket_id, "a")).unwrap().data) == b"other"
        replaced = await upload(client, bulk_id, bucket_id, folder, options={"replace": True})
        assert (replaced.uploaded, replaced.failed) == (1, 0)
        assert await versions(client, bucket_id) == one_version_each(contents)


# Other owners, other specs, other sources


async def test_other_owner_or_spec(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    make_files(folder, {"a": 10, "b": 20})
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        with pytest.raises(BulkConflictError, match=r"dag_id nightly.*not to dag_id other"):
            await upload(client, bulk_id, bucket_id, folder, owner={"dag_id": "other"})
        with pytest.raises(BulkConflictError, match=r'"rf":1.*"rf":2'):
            await upload(client, bulk_id, bucket_id, folder, rf=2)
        assert (await bulk_status(client, bulk_id)).state is State.COMPLETE, "who was refused left no trace"


async def test_two_owners_at_once(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    """They may not see each other at the start; then the records contradict each other, and that is told."""
    make_files(folder, {f"f{number}": 10 for number in range(20)})
    async with uncached_client(vss) as client:
        ends = await asyncio.gather(
            upload(client, bulk_id, bucket_id, folder, owner={"who": "a"}),
            upload(client, bulk_id, bucket_id, folder, owner={"who": "b"}),
            return_exceptions=True,
        )
        assert any(isinstance(end, BulkConflictError) for end in ends)
        status = await bulk_status(client, bulk_id)
        refused_at_once = status.state is State.COMPLETE
        assert refused_at_once or "different owners" in "; ".join(status.problems)


async def test_two_attempts_at_once(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    contents = make_files(folder, {f"f{number}": 10 + number for number in range(40)})
    async with uncached_client(vss) as client:
        async with uncached_client(vss) as other:
            both = await asyncio.gather(
                upload(client, bulk_id, bucket_id, folder, rf=2), upload(other, bulk_id, bucket_id, folder, rf=2)
            )
        assert [(end.total_balls, end.failed) for end in both] == [(40, 0), (40, 0)]
        assert (await bulk_status(client, bulk_id)).state is State.COMPLETE
        assert await versions(client, bucket_id) == one_version_each(contents)
        assert min(on_peers(vss, bucket_id, contents).values()) >= 2


async def test_source_that_changed_between_attempts(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    contents = make_files(folder, dict.fromkeys(("changed", "gone", "grown", "kept", "stored"), 10))
    vss = own_vss()
    async with uncached_client(vss) as client:
        with vss.fault("status", method="POST", path=f"/buckets/{bucket_id}/metadata", skip=1, status=400):
            first = await upload(client, bulk_id, bucket_id, folder, options={"max_concurrency": 1})
        assert (first.uploaded, first.failed) == (1, 4)
        (folder / "gone").unlink()
        (folder / "grown").write_bytes(b"x" * 11)
        (folder / "kept").write_bytes(b"y" * 10)
        (folder / "added").write_bytes(b"new")
        second = await upload(client, bulk_id, bucket_id, folder)
        why = {failure.key: failure.message for failure in second.failures}
        assert set(why) == {"added", "gone", "grown", "kept"}
        assert "added after planning" in why["added"]
        assert "deleted after planning" in why["gone"]
        assert "10 bytes then, 11 now" in why["grown"]
        assert "changed since" in why["kept"]
        assert set(await versions(client, bucket_id)) <= {f"{name}_0" for name in contents}
        with pytest.raises(BulkFailedError):
            is_wait_over(await bulk_status(client, bulk_id), fail_on_error=True)
        told = await await_bulk(client, bulk_id, timeout=0, fail_on_error=False)
        assert told["succeeded"] + told["failed"] == told["total_balls"]


async def test_file_added_where_another_shard_is_done(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    make_files(folder, {f"f{number}": 10 for number in range(4)})
    vss = own_vss()
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder, shard=1, shards=2)
        with vss.fault("refuse_data", bucket=bucket_id):
            await upload(client, bulk_id, bucket_id, folder, shards=2)
        for number in range(4):
            (folder / f"new{number}").write_bytes(b"0123456789")
        result = await upload(client, bulk_id, bucket_id, folder, shards=2)
        assert {failure.key for failure in result.failures} == {f"new{number}" for number in range(4)}


async def test_shards_saw_different_sources(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    make_files(folder, {"a": 10, "b": 20})
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder, shards=2)
        (folder / "c").write_bytes(b"new")
        with pytest.raises(BulkConflictError, match=r"shards saw different sources: shard 0 saw 2.*shard 1 saw 3"):
            await upload(client, bulk_id, bucket_id, folder, shard=1, shards=2)
        status = await bulk_status(client, bulk_id)
        assert status.state is State.FAILED
        assert "shards saw different sources" in status.problems[0]


@pytest.mark.parametrize("how", ["vanished", "grown"])
async def test_source_that_changes_while_it_is_planned(
    vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path, how: str
) -> None:
    make_files(folder, {"a": 10, "b": 20})

    def listing() -> list[SourceBall]:
        found = list_sources(str(folder), bucket_id)
        (folder / "b").unlink()
        if how == "grown":
            (folder / "b").write_bytes(b"x" * 21)
        return found

    async with uncached_client(vss) as client:
        with pytest.raises(IntegrityError, match=r"changed during planning|deleted during planning") as error:
            await upload(client, bulk_id, bucket_id, listing=listing, options={"will_retry": True})
        assert not error.value.permanent, "a further attempt lists anew"
        assert await versions(client, bucket_id) == {}
        assert (await bulk_status(client, bulk_id)).state is State.UNPLANNED


async def test_file_that_grows_while_it_is_sent(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    make_files(folder, {"big": 3_000_000})
    async with uncached_client(vss) as client:
        plan = client.plan

        async def plan_and_change(**told: Any) -> Any:
            answer = await plan(**told)
            with (folder / "big").open("r+b") as file:
                file.write(b"changed")
            return answer

        client.plan = plan_and_change  # type: ignore[method-assign]
        result = await upload(client, bulk_id, bucket_id, folder, chunk_size="1MB")
        assert (result.uploaded, result.failed) == (0, 1)
        assert "changed" in result.failures[0].message


# Lists of their own


async def test_own_lists(vss: LocalVSS, bulk_id: str, bucket_id: str) -> None:
    def items(*keys: str) -> Callable[[], list[SourceBall]]:
        return lambda: list_items([{"key": key, "data": key} for key in keys], bucket_id)

    async with uncached_client(vss) as client:
        told: dict[str, Any] = {"shards": 2, "items_per_shard": True}
        first = await upload(client, bulk_id, bucket_id, listing=items("a", "b"), **told)
        second = await upload(client, bulk_id, bucket_id, listing=items("b", "c"), shard=1, **told)
        assert (first.failed, second.uploaded, second.failed) == (0, 1, 1)
        assert "in that of shard 0 too" in second.failures[0].message
        assert second.permanently_failed
        status = await bulk_status(client, bulk_id)
        assert (status.state, status.total_balls, status.acknowledged) == (State.FAILED, 4, 3)


async def test_own_lists_without_common_keys(vss: LocalVSS, bulk_id: str, bucket_id: str) -> None:
    async with uncached_client(vss) as client:
        for shard in range(3):
            listing = lambda shard=shard: list_items([{"key": f"k/{shard}", "data": b"x"}], bucket_id)  # noqa: E731
            await upload(client, bulk_id, bucket_id, listing=listing, shard=shard, shards=3, items_per_shard=True)
        assert (await bulk_status(client, bulk_id)).state is State.COMPLETE


async def test_balls_in_the_bucket_of_the_records(vss: LocalVSS, folder: Path) -> None:
    make_files(folder, {"a": 1})
    bulk_id = uuid.uuid4().hex
    async with uncached_client(vss) as client:
        with pytest.raises(ValidationError, match="must not begin with 'bulk-'"):
            await upload(client, bulk_id, records_bucket(bulk_id), folder)
        with pytest.raises(ValidationError, match=r"contains the records of bulk .*choose another one"):
            await upload(client, bulk_id, records_bucket(bulk_id), folder, allow_reserved_bucket=True)


async def test_ball_of_a_list_in_the_bucket_of_another_bulk(vss: LocalVSS, bulk_id: str, bucket_id: str) -> None:
    """It stops the bulk when it is planned, and the same bulk goes on when that is allowed."""
    items = [{"key": "a", "data": "1"}, {"key": "b", "data": "2", "bucket_id": f"bulk-{bucket_id}"}]
    async with uncached_client(vss) as client:
        given: dict[str, Any] = {"listing": lambda: list_items(items, bucket_id), "items_per_shard": True}
        with pytest.raises(ValidationError, match=f"must not begin with 'bulk-', got 'bulk-{bucket_id}'"):
            await upload(client, bulk_id, bucket_id, **given)
        assert vss.requests(path=f"/buckets/(bulk-)?{bucket_id}/") == []
        assert (await upload(client, bulk_id, bucket_id, **given, allow_reserved_bucket=True)).uploaded == 2


# Looking at it


async def test_one_poke_is_one_listing(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    make_files(folder, {f"f{number}": 50 for number in range(20)})

    async def poked(client: AsyncClient) -> tuple[State, int]:
        vss.reset_requests()
        status = await bulk_status(client, bulk_id)
        return status.state, len(vss.requests())

    async with uncached_client(vss) as client:
        assert await poked(client) == (State.UNPLANNED, 2)
        await upload(client, bulk_id, bucket_id, folder, shards=2)
        assert await poked(client) == (State.UPLOADING, 1)
        await upload(client, bulk_id, bucket_id, folder, shard=1, shards=2)
        assert await poked(client) == (State.COMPLETE, 1)
        async with uncached_client(vss) as cold:
            assert await poked(cold) == (State.COMPLETE, 1)


async def test_peer_that_is_away(own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path) -> None:
    make_files(folder, {"a": 10, "b": 20})
    vss = own_vss()
    async with uncached_client(vss) as client:
        with vss.fault("peer_down", peer="peer-1"):
            with pytest.raises(UnavailableError, match="a peer does not answer"):
                await upload(client, bulk_id, bucket_id, folder)
            status = await bulk_status(client, bulk_id)
            assert status.state is State.UPLOADING, "not known to be unplanned"
            assert "a peer does not answer" in status_line(status)
        assert (await bulk_status(client, bulk_id)).state is State.UNPLANNED
        with vss.fault("refuse_data", key="a_0"):
            await upload(client, bulk_id, bucket_id, folder)
        with vss.fault("peer_down", peer="peer-1"):
            assert (await bulk_status(client, bulk_id)).state is State.UPLOADING
        assert (await bulk_status(client, bulk_id)).state is State.FAILED
        await upload(client, bulk_id, bucket_id, folder)
        with vss.fault("peer_down", peer="peer-1"):
            assert (await bulk_status(client, bulk_id)).state is State.COMPLETE, "what is good is believed"


async def test_peer_that_goes_away_during_the_upload(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """What was stored is recorded on the peers that are left."""
    make_files(folder, {f"f{number}": 10 for number in range(10)})
    vss = own_vss()
    async with uncached_client(vss) as client:
        original = client.upload
        fault: list[Any] = []

        async def lose_a_peer(*args: Any, **told: Any) -> Any:
            if not fault:
                fault.append(vss.set_fault("peer_down", peer="peer-2"))
            return await original(*args, **told)

        client.upload = lose_a_peer  # type: ignore[method-assign]
        try:
            result = await upload(client, bulk_id, bucket_id, folder, options={"max_tries": 5})
            stored = result.uploaded
        except MictlanXError:
            stored = 0
        fault[0].off()
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.failed, again.uploaded + again.skipped) == (0, 10)
        assert again.skipped >= stored
        assert (await bulk_status(client, bulk_id)).state is State.COMPLETE


async def test_waiting_ends_in_time(vss: LocalVSS, bulk_id: str) -> None:
    async with uncached_client(vss) as client:
        with pytest.raises(DeadlineExceededError, match="is not planned yet"):
            await await_bulk(client, bulk_id, timeout=0.1, poke_interval=60)
        with pytest.raises(BulkFailedError, match="not finished"):
            await list_bulk_items(client, bulk_id)


# Closing it


async def test_closed(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    make_files(folder, {"a": 10, "b": 20})
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        first = await await_bulk(client, bulk_id, remove_on_completion=True)
        store = RecordStore(client, bulk_id)
        assert {chunk.ball_id for chunk in (await client.get_chunks_by_bucket_id(store.bucket_id)).unwrap().balls} == {
            "closed"
        }
        again = await await_bulk(client, bulk_id, remove_on_completion=True)
        assert first == again
        status = await bulk_status(client, bulk_id)
        assert (status.state, is_wait_over(status, fail_on_error=True)) == (State.CLOSED, True)
        with pytest.raises(BulkConflictError, match="closed"):
            await upload(client, bulk_id, bucket_id, folder)
        left = (await client.get_chunks_by_bucket_id(store.bucket_id)).unwrap().balls
        assert {chunk.ball_id for chunk in left} == {"closed"}, "who was refused left no trace"
        with pytest.raises(BulkConflictError, match="include_items"):
            await await_bulk(client, bulk_id, include_items=True)
        assert (await delete_bulk(client, bulk_id)).failed == 0
        assert (await upload(client, bulk_id, bucket_id, folder)).skipped == 2, "its balls were not deleted"


async def test_closed_with_items_keeps_them(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    """An await that is run again after it closed the bulk gives the same once more."""
    make_files(folder, {"a": 10, "b": 20})
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        first = await await_bulk(client, bulk_id, include_items=True, remove_on_completion=True)
        assert len(first["successes"]) == 2
        assert await await_bulk(client, bulk_id, include_items=True, remove_on_completion=True) == first


async def test_closed_twice_at_once(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    make_files(folder, {"a": 10, "b": 20})
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        async with uncached_client(vss) as other:
            both = await asyncio.gather(
                *(await_bulk(each, bulk_id, remove_on_completion=True) for each in (client, other))
            )
        assert both[0] == both[1] == await await_bulk(client, bulk_id)


async def test_cut_off_while_closing(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    make_files(folder, {"a": 10, "b": 20})
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        told = await await_bulk(client, bulk_id)
        store = RecordStore(client, bulk_id)
        await store.write(Closed(result=told), b"{}")  # and then it died
        assert (await bulk_status(client, bulk_id)).state is State.CLOSED
        assert await await_bulk(client, bulk_id, remove_on_completion=True) == told
        assert (await store.read()).names == []


async def test_closed_failure_opens_no_gate(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path
) -> None:
    make_files(folder, {"a": 10, "b": 20})
    vss = own_vss()
    async with uncached_client(vss) as client:
        with vss.fault("refuse_data", key="a_0"):
            await upload(client, bulk_id, bucket_id, folder)
        await await_bulk(client, bulk_id, fail_on_error=False, remove_on_completion=True)
        status = await bulk_status(client, bulk_id)
        assert is_wait_over(status, fail_on_error=False)
        with pytest.raises(BulkFailedError, match="1 of 2"):
            is_wait_over(status, fail_on_error=True)


async def test_end_of_an_upload_of_a_deleted_bulk_opens_no_gate(
    vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_files(folder, {"a": 10, "b": 20})
    async with uncached_client(vss) as client:

        async def forget(planner: object) -> None:  # when every object is sent, and the end not yet recorded
            await delete_bulk(client, bulk_id)

        with monkeypatch.context() as patch:
            patch.setattr(uploading.Planner, "learn_from_others", forget)
            await upload(client, bulk_id, bucket_id, folder)
        (await client.delete_bucket(bucket_id)).unwrap()
        with vss.fault("refuse_data", key="a_0"):
            assert (await upload(client, bulk_id, bucket_id, folder, options={"will_retry": True})).failed == 1
        assert (await bulk_status(client, bulk_id)).state is State.UPLOADING
        await upload(client, bulk_id, bucket_id, folder)
        assert (await bulk_status(client, bulk_id)).state is State.COMPLETE


async def test_loss_in_a_deleted_bulk_stops_no_later_one(
    vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    make_files(folder, {"a": 10, "b": 20})
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        store = RecordStore(client, bulk_id)
        (plan,) = (await store.read()).plans
        await delete_bulk(client, bulk_id)
        late = Part(shard=0, attempt="f" * 16, sequence=7, number=0, plan=plan.digest, lost=1)
        await store.write(late, b'{"acknowledged":"","lost":"0"}')
        await upload(client, bulk_id, bucket_id, folder)
        assert (await bulk_status(client, bulk_id)).state is State.COMPLETE


async def test_folder_whose_name_is_not_unicode_is_uploaded(
    vss: LocalVSS, bulk_id: str, bucket_id: str, tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    make_files(folder, {"a": 10, "b": 300_000})
    async with uncached_client(vss) as client:
        for uploaded in (2, 0):
            assert (await upload(client, bulk_id, bucket_id, folder)).uploaded == uploaded
        assert (await bulk_status(client, bulk_id)).state is State.COMPLETE


async def test_prefix_that_is_not_unicode_is_refused(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    make_files(folder, {"a": 10})
    async with uncached_client(vss) as client:
        with pytest.raises(ValidationError, match="key_prefix must be valid Unicode"):
            await upload(client, bulk_id, bucket_id, folder, key_prefix="\udce9/")
        assert (await RecordStore(client, bulk_id).read()).names == []


@pytest.mark.parametrize("items", [b"[]", b'{"acknowledged":0}', b'{"failures":[1]}'])
async def test_malformed_items_of_a_record_stop_nothing(
    vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path, items: bytes
) -> None:
    """Any writer to the storage can write records."""
    make_files(folder, {"a": 10, "b": 20})
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        store = RecordStore(client, bulk_id)
        [done] = (await store.read()).dones
        await store.delete([done.name])
        await store.write(done.model_copy(update={"acknowledged": 1, "failed": 1}), items)
        result = await await_bulk(client, bulk_id, timeout=0, include_items=True, fail_on_error=False)
        assert (result["state"], result["failures"]) == ("failed", [])
        assert (await upload(client, bulk_id, bucket_id, folder)).failed == 0
        assert (await bulk_status(client, bulk_id)).state is State.COMPLETE


@pytest.mark.parametrize("ball_id", ["somebodys", "closed", f"start-0-{'a' * 16}", f"done-0-{'b' * 16}"])
async def test_foreign_ball_among_the_records_stops_nothing(
    vss: LocalVSS, folder: Path, bucket_id: str, ball_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another client may know nothing of reserved buckets, and may use any name."""
    make_files(folder, {"a": 1})
    bulk_id = uuid.uuid4().hex
    with caplog.at_level("WARNING", "airflow_provider_mictlanx"):
        async with uncached_client(vss) as client:
            (await client.put(records_bucket(bulk_id), ball_id, b"data", allow_reserved_bucket=True)).unwrap()
            assert (await upload(client, bulk_id, bucket_id, folder)).uploaded == 1
            assert (await bulk_status(client, bulk_id)).state is State.COMPLETE
            assert (await await_bulk(client, bulk_id, timeout=0, include_items=True))["succeeded"] == 1
            assert f"contains 1 object besides the records of bulk '{bulk_id}'" in caplog.text
            assert repr(ball_id) in caplog.text
            caplog.clear()
            deleted = await delete_bulk(client, bulk_id)
            assert (deleted.deleted, deleted.failed, deleted.total) == (3, 0, 3)
            assert "not deleted" in caplog.text
            assert (await bulk_status(client, bulk_id)).state is State.UNPLANNED
            assert bytes((await client.get(records_bucket(bulk_id), ball_id)).unwrap().data) == b"data"


async def test_foreign_balls_are_warned_of_once_in_an_attempt(
    vss: LocalVSS, folder: Path, bucket_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_files(folder, {"a": 1})
    bulk_id = uuid.uuid4().hex
    with caplog.at_level("WARNING", "airflow_provider_mictlanx"):
        async with uncached_client(vss) as client:
            for number in range(7):
                (await client.put(records_bucket(bulk_id), f"b{number}", b"data", allow_reserved_bucket=True)).unwrap()
            await upload(client, bulk_id, bucket_id, folder)
    [warning] = [record.getMessage() for record in caplog.records if "records of bulk" in record.getMessage()]
    assert "7 objects" in warning
    assert "'b0', 'b1', 'b2', 'b3', 'b4' and 2 more" in warning


async def test_bulk_of_another_name_in_the_same_bucket(vss: LocalVSS, folder: Path, bucket_id: str) -> None:
    """An id that is the SHA-256 of another one has the same bucket."""
    make_files(folder, {"a": 1})
    bulk_id = f"no safe id {uuid.uuid4()}"
    twin = records_bucket(bulk_id).removeprefix("bulk-")
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        for call in (bulk_status(client, twin), delete_bulk(client, twin), upload(client, twin, bucket_id, folder)):
            with pytest.raises(IntegrityError, match="no safe id"):
                await call


# The records


async def test_parts_are_few(
    vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long an attempt takes, a poke lists a few of its parts; and what these tell is everything."""
    monkeypatch.setattr(uploading, "FIRST_PART", 0.01)
    monkeypatch.setattr(uploading, "LAST_PART", 0.01)
    monkeypatch.setattr(uploading, "FULL_PART", 3)
    make_files(folder, {f"f{number:03}": 50 for number in range(200)})
    async with uncached_client(vss) as client:
        most = 0

        async def look() -> None:
            nonlocal most
            while True:
                records = await RecordStore(client, bulk_id).read()
                most = max(most, len(records.parts))
                await asyncio.sleep(0.01)

        looking = asyncio.create_task(look())
        try:
            with vss.fault("latency", path=f"/buckets/{bucket_id}/metadata", seconds=0.02):
                await upload(client, bulk_id, bucket_id, folder)
        finally:
            looking.cancel()
        records = await RecordStore(client, bulk_id).read()
        assert max(part.number for part in records.parts) > 5, "there were many"
        assert most <= 5
        assert len(records.parts) <= 4
        again = await upload(client, bulk_id, bucket_id, folder)
        assert again.skipped == 200


async def test_killed_while_a_part_was_written(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    """A part that is listed, but whose bytes were never sent: its balls are read back, and not sent again."""
    make_files(folder, {f"f{number}": 50 for number in range(5)})
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, folder)
        store = RecordStore(client, bulk_id)
        records = await store.read()
        await store.delete([done.name for done in records.dones])
        part = Part(
            shard=0, attempt=records.starts[0].attempt, number=0, plan=records.plans[0].digest, acknowledged=5, size=250
        )
        with (
            vss.fault("refuse_data", key=f"{part.name}_0"),
            vss.fault("status", method="DELETE", path=part.name, status=403),  # it cannot be cleared either
            pytest.raises(MictlanXError),
        ):
            await store.write(part, b'{"acknowledged":"0-4"}')
        assert (await bulk_status(client, bulk_id)).acknowledged == 5
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.uploaded, again.skipped) == (0, 5)


@pytest.mark.parametrize("changed", [False, True])
async def test_plan_without_data(
    own_vss: Callable[..., LocalVSS],
    bulk_id: str,
    bucket_id: str,
    folder: Path,
    changed: bool,
    monkeypatch: pytest.MonkeyPatch,
    short_grace: None,
) -> None:
    """Cut off after the plan was announced, before its bytes were sent: the same plan is written again, another one is not."""
    make_files(folder, {"a": 10, "b": 20})
    vss = own_vss()

    async def once(self: RecordStore, record: Record, data: bytes, rf: int) -> None:
        told = record.tags(self.bulk_id)
        given = {"rf": rf, "tags": told, "max_tries": 1, "allow_reserved_bucket": True}
        (await self.client.put(self.bucket_id, record.name, data, **given)).unwrap()

    async with uncached_client(vss) as client:
        with monkeypatch.context() as patched:
            patched.setattr(RecordStore, "_put", once)
            fault = vss.set_fault("refuse_data", key="plan-*", bucket=records_bucket(bulk_id))
            uncleared = vss.set_fault("status", method="DELETE", path="/plan-", status=403)
            with pytest.raises(ValueError, match="status 403"):
                await upload(client, bulk_id, bucket_id, folder, options={"will_retry": True})
            fault.off()
            uncleared.off()
        vss.restart()  # for the router remembers what no peer took
        assert len((await RecordStore(client, bulk_id).read()).plans) == 1
        if not changed:
            assert (await upload(client, bulk_id, bucket_id, folder)).uploaded == 2
            return
        (folder / "c").write_bytes(b"new")
        with pytest.raises(IntegrityError, match="the source has changed since"):
            await upload(client, bulk_id, bucket_id, folder, options={"will_retry": True})
        (folder / "c").unlink()
        assert (await upload(client, bulk_id, bucket_id, folder)).uploaded == 2


async def test_cancelled_attempt_says_so_in_time(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path, short_grace: None
) -> None:
    make_files(folder, {f"f{number}": 50 for number in range(50)})
    vss = own_vss()
    async with uncached_client(vss) as client:
        attempt = asyncio.create_task(upload(client, bulk_id, bucket_id, folder, options={"will_retry": True}))
        slow = vss.set_fault("latency", path="/buckets/data/", skip=20, seconds=20)
        while not slow.triggered:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        assert time.monotonic() - began < 10, "half of what a request takes"
        slow.off()
        assert (await bulk_status(client, bulk_id)).state is State.UPLOADING
        again = await upload(client, bulk_id, bucket_id, folder)
        assert (again.failed, again.uploaded + again.skipped) == (0, 50)


async def test_cancelled_attempt_withdraws_its_announcements(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, folder: Path, short_grace: None
) -> None:
    """After a cancelled attempt, no listing shows an announcement of its window whose put has not begun."""

    async def listed(client: AsyncClient) -> set[str]:
        return {row.ball_id for row in (await client.get_chunks_by_bucket_id(bucket_id)).unwrap().balls}

    make_files(folder, {f"f{number}": 50 for number in range(50)})
    vss = own_vss()
    async with uncached_client(vss) as client:
        options = {"will_retry": True, "max_concurrency": 4}
        attempt = asyncio.create_task(upload(client, bulk_id, bucket_id, folder, options=options))
        hung = vss.set_fault("latency", path="/buckets/data/", skip=20, count=4, seconds=20)
        while not hung.triggered:
            await asyncio.sleep(0.01)
        assert len(await listed(client)) == 50
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        hung.off()
        assert len(await listed(client)) <= 20 + 4, "stored, and in flight"
        assert (await upload(client, bulk_id, bucket_id, folder)).failed == 0


async def test_summaries_are_small(vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    """Also of a bulk in which everything failed, for long reasons."""
    failures = [Failure(bucket_id="b" * 60, key="k" * 900, code=502, message="m" * 5000) for _ in range(5)]
    make_files(folder, {"a" * 250: 10})
    async with uncached_client(vss) as client:
        result = await upload(client, bulk_id, bucket_id, folder)
        store = RecordStore(client, bulk_id)
        [done] = (await store.read()).dones
        await store.delete([done.name])
        short = [uploading._shorten(failure) for failure in failures]
        bad = {"acknowledged": 0, "failed": 10_000, "failures": short, "error": "e" * 500}
        await store.write(done.model_copy(update=bad), json.dumps({"acknowledged": "", "failures": []}).encode())
        told = await await_bulk(client, bulk_id, timeout=0, fail_on_error=False)
        assert (told["failed"], len(json.dumps(told)) < 2000) == (10_000, True)
        assert told["failures"]
        assert result.total_balls == 1


async def test_many_small_files(
    vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path, no_window_ends_by_time: None
) -> None:
    """Requests grow: three for each ball and two for each window; no poke, second attempt or XCom grows with them."""
    asked: dict[int, list[int]] = {}
    async with uncached_client(vss) as client:
        for number in (100, 500):
            make_files(folder / str(number), {f"f{name:04}": 20 for name in range(number)})
            told = {"bulk_id": f"{bulk_id} {number}", "bucket_id": f"{bucket_id}-{number}"}
            asked[number] = []
            for step in ("first", "again", "poke", "await"):
                vss.reset_requests()
                if step == "poke":
                    await bulk_status(client, told["bulk_id"])
                elif step == "await":
                    assert len(json.dumps(await await_bulk(client, told["bulk_id"], timeout=0))) < 2000
                else:
                    await upload(client, **told, source=folder / str(number))
                asked[number].append(len(vss.requests()))
    assert asked[500][1:] == asked[100][1:]
    assert asked[500][2:] == [1, 1]
    assert asked[500][0] - asked[100][0] == 3 * 400 + 2  # windows of 64 and 36, and of 64, 128 and 308
