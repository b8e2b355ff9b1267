"""Reading a bulk back: bit by bit, in whatever process, each ball once, and only with all peers there."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_mictlanx.bulks.errors import BulkConflictError, BulkFailedError
from airflow_provider_mictlanx.bulks.monitor import await_bulk, bulk_status
from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.bulks.summary import summarize
from airflow_provider_mictlanx.bulks.verification import AT_ONCE, StorageCheck
from airflow_provider_mictlanx.client.errors import UnavailableError
from tests.support.bulk_uploads import make_files, uncached_client, upload
from tests.support.vss import LocalVSS


@pytest.fixture
def bulk_id() -> str:
    return f"checked {uuid.uuid4()}"


def reads(vss: LocalVSS, bucket_id: str) -> dict[str, int]:
    """Return how often the data of each chunk was read."""
    found: dict[str, int] = {}
    for seen in vss.requests("GET", f"/buckets/{bucket_id}/[^/]+$"):
        if not seen["path"].endswith("/metadata"):
            key = seen["path"].rpartition("/")[2]
            found[key] = found.get(key, 0) + 1
    return found


async def test_each_poke_another_process(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, tmp_path: Path
) -> None:
    """Nothing is remembered but what the records say; still every chunk is read once."""
    contents = make_files(tmp_path, {f"f{number:02}": 100 for number in range(50)} | {"big": 3000, "empty": 0})
    vss = own_vss()
    async with uncached_client(vss) as client:
        for shard in range(2):
            await upload(client, bulk_id, bucket_id, tmp_path, shard=shard, shards=2, chunk_size="1kb")
        vss.reset_requests()
        pokes = 0
        done = False
        while not done:
            async with uncached_client(vss) as cold:
                check = StorageCheck(bulk_id, run="sensor, first try")
                done = await check.go_on(cold, 0)
                pokes += 1
        assert pokes >= len(contents) / (2 * AT_ONCE)
        assert (check.checked, check.failed) == (len(contents), 0)
        expected = {f"{key}_0" for key in contents if contents[key]} | {"big_1", "big_2"}
        assert {key: count for key, count in reads(vss, bucket_id).items() if key in expected} == dict.fromkeys(
            expected, 1
        )
        assert (await bulk_status(client, bulk_id)).acknowledged == len(contents), "the status does not mind"


async def test_another_run_reads_anew(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, tmp_path: Path
) -> None:
    """A sensor that was cleared does not believe what an earlier one saw; one that was deferred goes on."""
    make_files(tmp_path, {f"f{number}": 100 for number in range(10)})
    vss = own_vss()
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, tmp_path)
        first = StorageCheck(bulk_id, run="try 1")
        assert await first.go_on(client, 60)
        vss.reset_requests()
        assert await StorageCheck(bulk_id, run=first.run).go_on(client, 60)
        assert reads(vss, bucket_id) == {}
        assert await StorageCheck(bulk_id, run="try 2").go_on(client, 60)
        assert len(reads(vss, bucket_id)) == 10


async def test_what_is_lost_is_found(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, tmp_path: Path
) -> None:
    make_files(tmp_path, {f"f{number:02}": 100 for number in range(20)})
    vss = own_vss()
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, tmp_path)
        (await client.delete("f03", bucket_id)).unwrap()
        (await client.put(bucket_id, "f07", b"other", replace=True)).unwrap()
        done, pokes = False, 0
        while not done:
            check = StorageCheck(bulk_id)
            done = await check.go_on(client, 0)
            pokes += 1
        assert pokes > 1
        assert {failure.key for failure in check.failures} == {"f03", "f07"}
        summary = summarize(await bulk_status(client, bulk_id))
        with pytest.raises(BulkFailedError, match="f03") as error:
            check.result(summary, fail_on_error=True)
        told = check.result(summary, fail_on_error=False)
        assert told == error.value.result
        assert (told["state"], told["succeeded"], told["failed"]) == ("failed", 18, 2)


async def test_peer_that_is_away_is_no_failure(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, tmp_path: Path
) -> None:
    """A ball on that peer can't be told lost; what was read before stays read, and the rest is read when it is back."""
    make_files(tmp_path, {f"f{number:02}": 100 for number in range(24)})
    vss = own_vss()
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, tmp_path)
        check = StorageCheck(bulk_id)
        await check.go_on(client, 0)
        read = check.checked
        assert 0 < read < 24
        with vss.fault("peer_down", peer="peer-0"), pytest.raises(UnavailableError):
            await check.go_on(client, 60)
        assert check.failed == 0
        again = StorageCheck(bulk_id)
        assert await again.go_on(client, 60)
        assert (again.checked, again.failed) == (24, 0)


async def test_killed_while_it_wrote_down_a_failure(
    own_vss: Callable[..., LocalVSS], bulk_id: str, bucket_id: str, tmp_path: Path
) -> None:
    """The record is listed, its bytes are not there: those balls are read again."""
    make_files(tmp_path, {f"f{number}": 100 for number in range(5)})
    vss = own_vss()
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, tmp_path)
        (await client.delete("f3", bucket_id)).unwrap()
        assert await StorageCheck(bulk_id).go_on(client, 60)
        store = RecordStore(client, bulk_id)
        [record] = (await store.read()).checks
        content = await store.read_content(record)
        await store.delete([record.name])
        with vss.fault("refuse_data", key="checked-*"):
            told = record.tags(bulk_id)
            assert (await client.put(store.bucket_id, record.name, content, tags=told, max_tries=1)).is_err
        vss.restart()  # for the router remembers what no peer took
        again = StorageCheck(bulk_id)
        assert await again.go_on(client, 60)
        assert (again.checked, [failure.key for failure in again.failures]) == (5, ["f3"])


async def test_closed_bulk_can_not_be_checked(vss: LocalVSS, bulk_id: str, bucket_id: str, tmp_path: Path) -> None:
    make_files(tmp_path, {"a": 1})
    async with uncached_client(vss) as client:
        await upload(client, bulk_id, bucket_id, tmp_path)
        assert await StorageCheck(bulk_id).go_on(client, 60)
        await await_bulk(client, bulk_id, remove_on_completion=True)
        assert (await RecordStore(client, bulk_id).read()).checks == []
        with pytest.raises(BulkConflictError, match="closed"):
            await StorageCheck(bulk_id).go_on(client, 60)
