"""``put_bulk`` and ``await_bulk`` against the local VSS."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import BallConflictError, NotFoundError, ValidationError
from airflow_provider_mictlanx.client.background_bulks import BallK, BulkJobs, check_items
from airflow_provider_mictlanx.client.models import PutReport
from tests.support.clients import checked_client, client_of, other_tasks
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import pattern
from tests.support.vss import LocalVSS


def balls(bucket_id: str, *names: str, **options: Any) -> list[Any]:
    return [
        {"bucket_id": bucket_id, "key": name, "source": pattern(100, seed=n), **options} for n, name in enumerate(names)
    ]


async def test_bytes_and_files_are_put_in_the_background(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    path = tmp_path / "a file.bin"
    path.write_bytes(pattern(2500))
    in_memory = b"only in memory, never told again"
    async with checked_client(vss) as client:
        given = [
            {"bucket_id": bucket_id, "ball_id": "one", "source": in_memory, "tags": {"colour": "red"}, "rf": 2},
            {"bucket_id": bucket_id, "key": "2026/two.bin", "source": str(path), "chunk_size": "1kb"},
            {"bucket_id": bucket_id, "key": "three", "source": path},
        ]
        assert (await client.put_bulk("bulk", given)).unwrap() is True
        response = (await client.await_bulk("bulk")).unwrap()
        assert set(response) == {
            *("successes", "failures", "uploaded_size", "total_balls", "successed", "failed", "response_time")
        }
        assert response["failures"] == []
        assert (response["total_balls"], response["successed"], response["failed"]) == (3, 3, 0)
        assert response["uploaded_size"] == len(in_memory) + 5000
        assert response["response_time"] > 0
        told = {done["item"]["key"]: done["item"] for done in response["successes"]}
        assert told["one"] == {
            "bucket_id": bucket_id,
            "ball_id": "one",
            "key": "one",
            "source": "",
            "in_memory": True,
            "tags": {"colour": "red"},
            "rf": 2,
        }
        assert (told["2026/two.bin"]["source"], told["2026/two.bin"]["in_memory"]) == (str(path), False)
        assert len(told["2026/two.bin"]["ball_id"]) == 64
        assert "in memory, never told" not in repr(response)
        assert bytes((await client.get(bucket_id, "one")).unwrap().data) == in_memory
        two = (await client.get(bucket_id, "2026/two.bin")).unwrap()
        assert [metadata.size for metadata in two.metadatas] == [1000, 1000, 500]
        assert bytes(two.data) == pattern(2500)


async def test_put_bulk_returns_before_the_uploads_are_done(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        with vss.fault("latency", path=bucket_id, seconds=0.2):
            (await client.put_bulk("b", balls(bucket_id, "x"))).unwrap()
            assert other_tasks()
            assert (await client.await_bulk("b")).unwrap()["successed"] == 1
        assert other_tasks() == set()


async def test_a_second_call_adds_until_it_is_awaited(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put_bulk("b", balls(bucket_id, "a", "b"))).unwrap()
        (await client.put_bulk("b", balls(bucket_id, "c"))).unwrap()
        assert (await client.await_bulk("b")).unwrap()["total_balls"] == 3
        assert (await client.await_bulk("b", remove_on_completion=True)).unwrap()["total_balls"] == 3
        assert isinstance((await client.await_bulk("b")).unwrap_err(), NotFoundError)
        (await client.put_bulk("b", balls(bucket_id, "d"))).unwrap()
        assert (await client.await_bulk("b")).unwrap()["total_balls"] == 1
        (await client.put_bulk("b", [])).unwrap()
        assert (await client.await_bulk("b")).unwrap()["total_balls"] == 0


async def test_adding_to_a_bulk_that_is_being_awaited_is_an_error(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        with vss.fault("latency", path=bucket_id, seconds=0.3):
            (await client.put_bulk("b", balls(bucket_id, "a"))).unwrap()
            awaiting = asyncio.create_task(client.await_bulk("b"))
            await asyncio.sleep(0.05)
            refused = (await client.put_bulk("b", balls(bucket_id, "b"))).unwrap_err()
            assert isinstance(refused, ValidationError)
            assert "await_bulk is waiting" in str(refused)
            assert (await awaiting).unwrap()["total_balls"] == 1
        assert (await client.exists(bucket_id, "b")).unwrap() is False


async def test_unknown_bulk(vss: LocalVSS) -> None:
    async with checked_client(vss) as client:
        error = (await client.await_bulk("never-started")).unwrap_err()
        assert isinstance(error, NotFoundError)
        assert "'never-started'" in str(error)


@pytest.mark.parametrize("stop", [False, True])
async def test_failures_are_told_and_stop_on_failure_stops_the_rest(vss: LocalVSS, bucket_id: str, stop: bool) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "taken", b"other bytes")).unwrap()
        given = balls(bucket_id, "first", "taken", "third", "fourth")
        (await client.put_bulk("b", given, max_concurrency=1, stop_on_failure=stop)).unwrap()
        response = (await client.await_bulk("b")).unwrap()
        errors = {failed["item"]["key"]: failed["error"] for failed in response["failures"]}
        assert isinstance(errors["taken"], BallConflictError)
        assert set(errors) == ({"taken", "third", "fourth"} if stop else {"taken"})
        assert (await client.exists(bucket_id, "first")).unwrap()
        assert (await client.exists(bucket_id, "third")).unwrap() is not stop
        assert bytes((await client.get(bucket_id, "taken")).unwrap().data) == b"other bytes"


async def test_a_cancelled_await_does_not_cancel_the_uploads(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        with vss.fault("latency", path=bucket_id, seconds=0.3):
            (await client.put_bulk("b", balls(bucket_id, "a"))).unwrap()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.await_bulk("b"), 0.05)
        assert (await client.await_bulk("b")).unwrap()["successed"] == 1


async def test_closing_waits_for_the_uploads(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put_bulk("b", balls(bucket_id, *"abcdef"), max_concurrency=2)).unwrap()
    assert all(RawRequests(vss).data(bucket_id, f"{name}_0") == pattern(100, seed=n) for n, name in enumerate("abcdef"))


@pytest.mark.parametrize("how", ["aclose", "exception"])
async def test_closing_can_cancel_the_uploads_and_leaves_no_task(vss: LocalVSS, bucket_id: str, how: str) -> None:
    with vss.fault("latency", path=bucket_id, seconds=30):
        client = client_of(vss)
        try:
            async with asyncio.timeout(20), client:
                (await client.put_bulk("b", balls(bucket_id, *"abcdef"), max_concurrency=2)).unwrap()
                await asyncio.sleep(0.1)
                if how == "exception":
                    raise RuntimeError("of the caller")
                await client.aclose(cancel_bulks=True)
        except RuntimeError:
            assert how == "exception"
        assert other_tasks() == set()
    assert RawRequests(vss).listed(bucket_id, "a") == []


async def test_number_of_balls_at_once_may_be_automatic(vss: LocalVSS, tmp_path: Path) -> None:
    """Up to 64 balls, of which files hold at most 64 MB together: the caller's bytes are in memory anyway."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(100_000_000)
    running, most = 0, 0

    async def put(ball: BallK, known: object) -> PutReport:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1
        return PutReport("b", "k", "k", 1, "", 1, 1, True, 0.0)

    async with client_of(vss) as client:
        jobs = BulkJobs(put, client.upload_windows)
        for source, at_once, expected in ((b"small", 10, 10), (b"small", None, 64), (large, None, 16)):
            most = 0
            given = [  # in different buckets, so that no window is opened
                {"bucket_id": f"bucket{number}", "key": "k", "source": source, "chunk_size": "8mb"}
                for number in range(100)
            ]
            jobs.start("bulk", check_items(given), at_once, stop_on_failure=False)
            await jobs.wait("bulk", remove_on_completion=True)
            assert most == expected


async def test_a_bad_item_is_refused_before_the_first_request(own_vss: Any, bucket_id: str) -> None:
    vss = own_vss()
    async with checked_client(vss) as client:
        bad = {"bucket_id": bucket_id, "key": "k", "source": "/no/such/file"}
        error = (await client.put_bulk("b", [*balls(bucket_id, "good"), bad])).unwrap_err()
        assert isinstance(error, ValidationError)
        assert str(error) == "item 1 of the bulk: source must be bytes or the path of a file, got '/no/such/file'"
        assert isinstance((await client.await_bulk("b")).unwrap_err(), NotFoundError)
    assert vss.requests() == []


async def test_an_item_s_own_options_hold(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put_bulk("b", balls(bucket_id, "k", rf=3, chunk_size=40, tags={"colour": "red"}))).unwrap()
        (await client.await_bulk("b")).unwrap()
    listed = RawRequests(vss).listed(bucket_id, "k")
    assert sorted(chunk["size"] for chunk in listed) == [40, 40, 40, 60, 60, 60]
    assert {chunk["tags"]["colour"] for chunk in listed} == {"red"}
