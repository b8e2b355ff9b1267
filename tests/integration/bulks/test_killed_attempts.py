"""Attempts that die at any moment, or are only cut off: the next one ends exactly right."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sqlite3
import threading
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.bulks.monitor import await_bulk, bulk_status
from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.bulks.records import parse_ranges
from airflow_provider_mictlanx.bulks.status import State
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.local_io.chunk_sizes import MAX_IN_FLIGHT
from airflow_provider_mictlanx.client.transfer import chunk_upload
from tests.support.bulk_uploads import make_files, on_peers, one_version_each, uncached_client, upload, versions
from tests.support.forked_processes import Child, ForkedProcesses
from tests.support.vss import LocalVSS

BALLS = 200
RF = 2
IN_FLIGHT = MAX_IN_FLIGHT
"""Maximum number of balls that a bulk uploads at the same time."""
KILLS = 20
KILLED_BALLS = 96
"""Of an attempt that is killed at any request: enough for two windows, of 64 and 32 balls."""
REQUESTS = 3 * KILLED_BALLS + 20
"""About as many requests as this attempt makes."""

_PROCESSES = ForkedProcesses("tests.support.bulk_attempt")


def attempt(vss: LocalVSS, **told: Any) -> Child:
    return _PROCESSES.start("tests.support.bulk_attempt:main", {"uri": vss.uri, **told})


async def acknowledged(client: AsyncClient, bulk_id: str) -> set[int]:
    """Return the balls that the records acknowledge and that can be read."""
    store = RecordStore(client, bulk_id)
    records = await store.read_completely()
    told = await store.read_items([*records.parts, *records.dones])
    return set().union(*(parse_ranges(items.acknowledged, KILLED_BALLS) for _, items in told))


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_upload, "GRACE", 0.5)  # the killed attempt sends no more


@pytest.fixture(scope="module")
def killed_vss(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with LocalVSS(tmp_path_factory.mktemp("killed")) as running:
        yield running


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("seed", range(KILLS))
async def test_killed(
    killed_vss: LocalVSS, bucket_id: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    vss = killed_vss
    rng = random.Random(seed)
    contents = make_files(tmp_path, {f"f{number:03}": rng.randint(1, 3000) for number in range(KILLED_BALLS)})
    bulk_id = f"killed {uuid.uuid4()}"
    # Half of the moments are while records are written and plans made, at the beginning and at the end.
    die_at = rng.randint(1, 20) if seed % 5 == 0 else rng.randint(20, REQUESTS)
    temporary = tmp_path_factory.mktemp("temporary")
    dying = attempt(
        vss,
        bulk_id=bulk_id,
        bucket_id=bucket_id,
        folder=str(tmp_path),
        rf=RF,
        die_at=die_at,
        how=rng.choice(["before", "after", "middle"]),
        temporary=str(temporary),
    )
    output, _ = dying.communicate(timeout=120)
    assert dying.returncode == -signal.SIGKILL, output
    assert list(temporary.iterdir()) == []
    async with uncached_client(vss) as client:
        known = await acknowledged(client, bulk_id)
        keys = sorted(contents)
        vss.reset_requests()
        result = await upload(client, bulk_id, bucket_id, tmp_path, rf=RF)
        touched = {seen["path"] for seen in vss.requests(path=bucket_id)}
        assert not {keys[index] for index in known} & {path.rpartition("/")[2].removesuffix("_0") for path in touched}
        announced = Counter(seen["status"] for seen in vss.requests("POST", f"/buckets/{bucket_id}/metadata$"))
        # A ball that was in flight may be announced on peers that never got its data. Then the first announcement goes to the
        # peer that is left, two find none (404, code 666; the second in case somebody was still sending), and one is made
        # after the chunk was deleted.
        assert announced.keys() <= {200, 404}
        assert announced[200] <= KILLED_BALLS - len(known) + IN_FLIGHT
        assert announced[404] <= 2 * IN_FLIGHT
        assert [failure.message for failure in result.failures] == []
        assert (result.total_balls, result.failed) == (KILLED_BALLS, 0)
        assert result.uploaded + result.skipped == KILLED_BALLS
        assert result.skipped >= len(known)
        found = on_peers(vss, bucket_id, contents)
        assert min(found.values()) >= RF
        assert await versions(client, bucket_id) == one_version_each(contents)
        told = await await_bulk(client, bulk_id, timeout=0)
        assert (told["state"], told["succeeded"], told["failed"]) == ("complete", KILLED_BALLS, 0)
        assert told["uploaded_size"] == sum(map(len, contents.values()))


@pytest.mark.parametrize(
    ("part", "nth"),
    [("/metadata", 10), ("/metadata", 66), ("/chunked", 3), ("/chunked", 40), ("/metadata", 150), ("/chunked", 150)],
    ids=["first window", "all of it", "its first data", "within its data", "second window", "its data"],
)
async def test_killed_within_a_window(
    killed_vss: LocalVSS, bucket_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, nth: int
) -> None:
    """Up to a thousand announcements without data are left; the next attempt waits for all of them at once, and clears them."""
    monkeypatch.setattr(chunk_upload, "GRACE", 2.0)
    vss = killed_vss
    contents = make_files(tmp_path, {f"f{number:03}": 100 for number in range(BALLS)})
    told = {"bulk_id": f"killed {uuid.uuid4()}", "bucket_id": bucket_id}
    dying = attempt(vss, **told, folder=str(tmp_path), die_after=part, nth=nth, part=60)
    output, _ = dying.communicate(timeout=120)
    assert dying.returncode == -signal.SIGKILL, output
    unsent = _unsent(vss, bucket_id)
    async with uncached_client(vss) as client:
        result = await upload(client, **told, source=tmp_path)
        assert (result.failed, result.uploaded + result.skipped) == (0, BALLS)
        assert result.response_time < max(2.0 * unsent / IN_FLIGHT, 20)
        assert _unsent(vss, bucket_id) == 0
        assert min(on_peers(vss, bucket_id, contents).values()) == 1
        assert await versions(client, bucket_id) == one_version_each(contents)
        assert (await bulk_status(client, told["bulk_id"])).state is State.COMPLETE


def _unsent(vss: LocalVSS, bucket_id: str) -> int:
    """Return the number of announcements without data."""
    with contextlib.closing(sqlite3.connect(vss.data / "metadata.sqlite3")) as books:
        asked = "select count(*) from replicas where bucket_id = ? and blob is null"
        [number] = books.execute(asked, (bucket_id,)).fetchone()
        return int(number)


def test_cut_off_but_not_dead(killed_vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    """The first attempt stands still while a second one comes to its end; then it goes on, and both end well."""
    vss = killed_vss
    contents = make_files(tmp_path, {f"f{number:03}": 2000 for number in range(BALLS)})
    bulk_id = f"cut off {uuid.uuid4()}"
    first = attempt(vss, bulk_id=bulk_id, bucket_id=bucket_id, folder=str(tmp_path), rf=RF)

    async def second() -> None:
        async with uncached_client(vss) as client:
            while True:  # until it is in the middle of it
                status = await bulk_status(client, bulk_id)
                if status.state is not State.UNPLANNED and status.acknowledged:
                    break
                await asyncio.sleep(0.01)
            first.send_signal(signal.SIGSTOP)
            result = await upload(client, bulk_id, bucket_id, tmp_path, rf=RF)
            assert (result.failed, result.total_balls) == (0, BALLS)
            assert (await bulk_status(client, bulk_id)).state is State.COMPLETE

    async def both() -> None:
        async with uncached_client(vss) as client:
            assert (await bulk_status(client, bulk_id)).state is State.COMPLETE
            assert min(on_peers(vss, bucket_id, contents).values()) >= RF
            assert await versions(client, bucket_id) == one_version_each(contents)

    try:
        asyncio.run(second())
        first.send_signal(signal.SIGCONT)
        output, _ = first.communicate(timeout=120)
    finally:
        first.kill()
        first.wait()
    told = json.loads(output.splitlines()[-1])
    assert (told["failed"], told["total_balls"], told["uploaded"] + told["skipped"]) == (0, BALLS, BALLS)
    asyncio.run(both())


def test_stopped_while_it_lists(killed_vss: LocalVSS, bucket_id: str) -> None:
    """A source that takes for ever to be listed does not keep a killed task, nor its process."""
    began, go_on = threading.Event(), threading.Event()

    def listing() -> list[Any]:
        began.set()
        assert go_on.wait(60)
        return []

    async def cancelled() -> bool:
        async with uncached_client(killed_vss) as client:
            uploading = asyncio.create_task(upload(client, f"slow {uuid.uuid4()}", bucket_id, listing=listing))
            await asyncio.to_thread(began.wait, 60)
            uploading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await uploading
            return go_on.is_set()

    try:
        assert asyncio.run(cancelled()) is False, "nobody waited for the end of the listing"
    finally:
        go_on.set()
    for thread in threading.enumerate():
        if thread.name == "mictlanx-bulk":
            thread.join(60)
