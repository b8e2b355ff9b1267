"""In-process bulks, with a put that is told what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import pytest

from airflow_provider_mictlanx.client import (
    BallConflictError,
    NotFoundError,
    PutReport,
    UnknownError,
    ValidationError,
)
from airflow_provider_mictlanx.client.background_bulks import BallK, BulkJobs, check_items
from airflow_provider_mictlanx.client.object_ids import ObjectId
from airflow_provider_mictlanx.client.transfer.upload_window import UploadWindows


def items(*names: str) -> list[tuple[BallK, int]]:
    return [({"bucket_id": "bucket", "key": name, "source": name.encode()}, len(name)) for name in names]


def jobs_of(put: Callable[[BallK], Awaitable[PutReport]]) -> BulkJobs:
    """Return jobs whose balls are too few for a window."""

    async def announce(number: int) -> None:
        raise AssertionError

    def open_windows(arguments: Callable[[int], Mapping[str, Any]], max_concurrency: int) -> UploadWindows:
        return UploadWindows(lambda number: ObjectId("b", "k", "k"), announce, cast(Any, None), max_concurrency)

    return BulkJobs(lambda item, known: put(item), open_windows)


def report(item: BallK) -> PutReport:
    source = item["source"]
    assert isinstance(source, bytes)
    return PutReport("bucket", item["key"], item["key"], len(source), "", 1, 1, True, 0.0)


class Puts:
    """Puts that wait until they are let go on, and count how many there are at once."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun: list[str] = []
        self.at_once = 0
        self.most = 0

    async def __call__(self, item: BallK) -> PutReport:
        self.begun.append(item["key"])
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.go_on.wait()
        finally:
            self.at_once -= 1
        return report(item)


async def test_no_more_at_once_than_asked_also_when_balls_are_added() -> None:
    puts = Puts()
    jobs = jobs_of(puts)
    jobs.start("b", items(*"abc"), 2, False)
    jobs.start("b", items(*"defg"), 3, False)
    await asyncio.sleep(0)
    assert puts.begun == ["a", "b", "c"]
    puts.go_on.set()
    response = await jobs.wait("b", False)
    assert puts.most == 3
    assert sorted(done["item"]["key"] for done in response["successes"]) == list("abcdefg")
    assert response["uploaded_size"] == 7


async def test_ball_added_as_last_worker_ends_is_put() -> None:
    async def put(item: BallK) -> PutReport:
        return report(item)

    jobs = jobs_of(put)
    jobs.start("b", items("a"), 1, False)
    [worker] = jobs._jobs["b"].workers
    while not worker.done():
        await asyncio.sleep(0)  # it resumes here in the same turn in which the worker ended, or in the next
    jobs.start("b", items("late"), 1, False)
    response = await jobs.wait("b", False)
    assert [done["item"]["key"] for done in response["successes"]] == ["a", "late"]


async def test_unexpected_exception_fails_only_its_ball() -> None:
    async def put(item: BallK) -> PutReport:
        if item["key"] == "bad":
            raise RuntimeError("a fault in the code")
        return report(item)

    jobs = jobs_of(put)
    jobs.start("b", items("bad", "x", "y"), 1, False)
    response = await jobs.wait("b", False)
    [failure] = response["failures"]
    assert isinstance(failure["error"], UnknownError)
    assert "RuntimeError: a fault in the code" in str(failure["error"])
    assert isinstance(failure["error"].__cause__, RuntimeError)
    assert response["successed"] == 2


async def test_stop_on_failure_stops_only_what_has_not_begun() -> None:
    puts = Puts()

    async def put(item: BallK) -> PutReport:
        if item["key"] == "bad":
            raise BallConflictError("other bytes")
        return await puts(item)

    jobs = jobs_of(put)
    jobs.start("b", items("under-way", "bad", "late-1", "late-2"), 2, True)
    await asyncio.sleep(0)
    puts.go_on.set()
    response = await jobs.wait("b", False)
    assert [done["item"]["key"] for done in response["successes"]] == ["under-way"]
    errors = {failed["item"]["key"]: failed["error"] for failed in response["failures"]}
    assert isinstance(errors["bad"], BallConflictError)
    assert "another object of the bulk failed: bucket/bad: other bytes" in str(errors["late-1"])
    assert "another object of the bulk failed: bucket/bad: other bytes" in str(errors["late-2"])
    assert (response["total_balls"], response["successed"], response["failed"]) == (4, 1, 3)


async def test_an_await_that_was_cancelled_leaves_the_bulk_as_it_was() -> None:
    puts = Puts()
    jobs = jobs_of(puts)
    jobs.start("b", items("a"), 1, False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(jobs.wait("b", True), 0.01)
    jobs.start("b", items("b"), 1, False)  # nobody awaits it any more, so it can be added to
    puts.go_on.set()
    assert (await jobs.wait("b", False))["successed"] == 2


async def test_add_while_awaited_is_refused_then_starts_new_bulk() -> None:
    puts = Puts()
    jobs = jobs_of(puts)
    jobs.start("b", items("a"), 1, False)
    waiting = asyncio.create_task(jobs.wait("b", False))
    await asyncio.sleep(0)
    with pytest.raises(ValidationError, match="await_bulk is waiting"):
        jobs.start("b", items("b"), 1, False)
    puts.go_on.set()
    assert (await waiting)["successed"] == 1
    assert await jobs.wait("b", False) == await waiting
    jobs.start("b", items("b"), 1, False)
    response = await jobs.wait("b", True)
    assert [done["item"]["key"] for done in response["successes"]] == ["b"]
    with pytest.raises(NotFoundError, match="bulk 'b' was not found"):
        await jobs.wait("b", False)


async def test_ending_with_cancel_tells_who_awaits() -> None:
    jobs = jobs_of(Puts())
    jobs.start("b", items("begun", "not-begun"), 1, False)
    waiting = asyncio.create_task(jobs.wait("b", False))
    await asyncio.sleep(0)
    await jobs.end(cancel=True)
    response = await waiting
    errors = {failed["item"]["key"]: str(failed["error"]) for failed in response["failures"]}
    assert errors == {
        "begun": "bucket/begun: cancelled: the client was closed",
        "not-begun": "bucket/not-begun: not started: the client was closed",
    }
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_ending_waits_for_what_is_added_and_removed_meanwhile() -> None:
    puts = Puts()
    jobs = jobs_of(puts)
    for name in "abc":
        jobs.start(name, items(name), 1, False)
    removing = asyncio.create_task(jobs.wait("b", True))
    ending = asyncio.create_task(jobs.end(cancel=False))
    await asyncio.sleep(0)
    jobs.start("d", items("d"), 1, False)
    puts.go_on.set()
    await ending
    assert (await removing)["successed"] == 1
    assert sorted(puts.begun) == list("abcd")
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_end_that_is_cancelled_leaves_no_task() -> None:
    jobs = jobs_of(Puts())
    jobs.start("a", items("a"), 1, False)
    jobs.start("b", items("b"), 1, False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(jobs.end(cancel=False), 0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}


BAD_ITEMS: list[tuple[Any, str]] = [
    ({}, "bucket_id"),
    ({"bucket_id": "a.b", "key": "k", "source": b""}, "bucket_id must be a safe id"),
    ({"bucket_id": "b", "source": b""}, "key must be a str"),
    (5, "it must be a dict, got int"),
    ("key", "it must be a dict, got str"),
    ({"bucket_id": "b", "key": "k"}, "source must be bytes or the path of a file, got None"),
    ({"bucket_id": "b", "key": "k", "source": 5}, "source must be bytes or the path of a file, got 5"),
    (
        {"bucket_id": "b", "key": "k", "source": "/no/such/file"},
        "source must be bytes or the path of a file, got '/no/such/file'",
    ),
    ({"bucket_id": "b", "key": "k", "source": "/"}, "source must be bytes or the path of a file, got '/'"),
    ({"bucket_id": "b", "key": "k", "source": b"", "chunk_size": "many"}, "chunk_size must be a size"),
    ({"bucket_id": "b", "key": "k", "source": b"", "rf": 0}, "rf must be an int of at least 1"),
    ({"bucket_id": "b", "key": "k", "source": b"", "timeout": 0}, "timeout must be a number of seconds above 0"),
    ({"bucket_id": "b", "key": "k", "source": b"", "max_tries": "5"}, "max_tries must be an int of at least 1"),
    ({"bucket_id": "b", "key": "k", "source": b"", "max_backoff": -1}, "of at least 0"),
    ({"bucket_id": "b", "key": "k", "source": b"", "max_concurrency": True}, "max_concurrency must be an int"),
    ({"bucket_id": "b", "key": "k", "source": b"", "tags": {"n": 1}}, "tags must be a dict of non-empty str to str"),
    ({"bucket_id": "b", "key": "k", "source": b"", "colour": "red"}, "options must be among ball_id, bucket_id"),
]


@pytest.mark.parametrize(("bad", "why"), BAD_ITEMS, ids=[why for _, why in BAD_ITEMS])
def test_a_bad_item_is_named(bad: Any, why: str) -> None:
    with pytest.raises(ValidationError) as raised:
        check_items([items("good")[0][0], bad])
    assert str(raised.value).startswith("item 1 of the bulk")
    assert why in str(raised.value)


@pytest.mark.parametrize("balls", [None, 7, "text", b"bytes", {"bucket_id": "b", "key": "k", "source": b""}])
def test_balls_that_are_not_a_list_are_refused(balls: Any) -> None:
    with pytest.raises(ValidationError, match=f"balls must be a list of dicts, got {type(balls).__name__}"):
        check_items(balls)


def test_bytes_that_can_be_written_to_are_copied() -> None:
    source = bytearray(b"abc")
    [(item, _)] = check_items([{"bucket_id": "b", "key": "k", "source": source}])
    source[:] = b"xyz"
    assert item["source"] == b"abc"


@pytest.mark.parametrize(("bulk_id", "most"), [("", 1), (5, 1), ("b", 0), ("b", True), ("b", "3")])
async def test_bad_bulk_id_or_concurrency(bulk_id: Any, most: Any) -> None:
    jobs = jobs_of(Puts())
    with pytest.raises(ValidationError):
        jobs.start(bulk_id, items("a"), most, False)
