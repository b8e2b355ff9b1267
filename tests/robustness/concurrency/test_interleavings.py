"""
Clients at once, in chosen interleavings: nothing is overwritten, mixed or lost, whoever's request comes first.

What can't be had without a conditional put is on the page of the protocol's traps; these tests hold the line up to there.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from unittest import mock

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from option import Err, Ok, Result

from airflow_provider_mictlanx.client import (
    AsyncClient,
    BallConflictError,
    GetChunkError,
    MictlanXError,
    NotFoundError,
    UnavailableError,
)
from airflow_provider_mictlanx.client.transfer import upload_window
from tests.support.clients import client_of
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.raw_requests import RawRequests
from tests.support.request_order import Actor, Turns
from tests.support.sample_bytes import pattern
from tests.support.vss import LocalVSS

KEY = "k"
ONE = pattern(900)
TWO = pattern(900, seed=1)

sampled = settings(
    max_examples=12, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)


def schedules(clients: int, turns: int = 24) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, clients - 1), min_size=turns // 2, max_size=turns)


class Meeting:
    """A bucket in which clients meet in a given order."""

    def __init__(self, vss: LocalVSS, schedule: Sequence[int]) -> None:
        self.vss = vss
        self.wire = RawRequests(vss)
        self.bucket_id = f"bucket-{uuid.uuid4().hex}"
        self._schedule = schedule
        self.order: list[tuple[int, str]] = []

    def puts(self, data: bytes, chunk_size: int = 900, **arguments: Any) -> Actor:
        return lambda client: client.put(
            self.bucket_id, KEY, data, chunk_size=chunk_size, max_concurrency=1, **arguments
        )

    def puts_in_a_window(self, data: bytes) -> Actor:
        async def put(client: AsyncClient) -> Result[bool, MictlanXError]:
            balls: list[Any] = [{"bucket_id": self.bucket_id, "key": KEY, "source": data}]
            (await client.put_bulk("bulk", balls, max_concurrency=1)).unwrap()
            response = (await client.await_bulk("bulk")).unwrap()
            return Err(response["failures"][0]["error"]) if response["failed"] else Ok(True)

        return put

    def reads(self, times: int) -> Actor:
        async def read(client: AsyncClient) -> list[Any]:
            return [await client.get(self.bucket_id, KEY, max_paralell_gets=1) for _ in range(times)]

        return read

    def deletes(self) -> Actor:
        return lambda client: client.delete(KEY, self.bucket_id)

    def deletes_bucket(self) -> Actor:
        return lambda client: client.delete_bucket(self.bucket_id, max_concurrency=1)

    def hold(self, *actors: Actor) -> list[Any]:
        """Run them together; return the outcome of each."""

        async def scenario() -> list[Any]:
            turns = Turns(self.vss, self._schedule)
            results = await turns.run(*actors)
            self.order = turns.order
            return results

        return asyncio.run(scenario())

    def read(self) -> Any:
        """Read the ball afterwards, past the cache."""
        return self.do(lambda client: client.get(self.bucket_id, KEY, force=True))

    def do(self, call: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
        async def scenario() -> Any:
            async with client_of(self.vss) as client:
                return await call(client)

        return asyncio.run(scenario())

    @property
    def deletes_were_sent(self) -> bool:
        return any(request.startswith("DELETE") for _, request in self.order)


ORDERS = [tuple(0 if turn in first else 1 for turn in range(8)) for first in itertools.combinations(range(8), 4)]
"""Each way to interleave two writers of a new ball of one chunk: look, announce, list, send."""


@pytest.mark.parametrize("orders", [ORDERS[at::7] for at in range(7)], ids=range(7))
def test_of_two_writers_of_other_bytes_one_at_most_succeeds(vss: LocalVSS, orders: list[tuple[int, ...]]) -> None:
    for order in orders:
        meeting = Meeting(vss, order)
        results = meeting.hold(meeting.puts(ONE), meeting.puts(TWO))
        _one_at_most(meeting, results, [ONE, TWO])


@sampled
@given(schedule=schedules(3))
def test_three_writers_of_other_bytes_one_at_most_succeeds(vss: LocalVSS, schedule: list[int]) -> None:
    contents = [pattern(900, seed) for seed in range(3)]
    meeting = Meeting(vss, schedule)
    results = meeting.hold(*(meeting.puts(data, 300) for data in contents))
    _one_at_most(meeting, results, contents)


@sampled
@given(schedule=schedules(2))
def test_two_windows_of_other_bytes_one_at_most_succeeds(vss: LocalVSS, schedule: list[int]) -> None:
    meeting = Meeting(vss, schedule)
    with mock.patch.object(upload_window, "FEWEST_BALLS", 0):
        results = meeting.hold(meeting.puts_in_a_window(ONE), meeting.puts_in_a_window(TWO))
    hidden = _is_hidden_rival(meeting, 0) or _is_hidden_rival(meeting, 1)
    _one_at_most(meeting, results, [ONE, TWO], hidden)


@sampled
@given(schedule=schedules(2))
def test_window_beside_a_put_of_other_bytes_one_at_most_succeeds(vss: LocalVSS, schedule: list[int]) -> None:
    meeting = Meeting(vss, schedule)
    with mock.patch.object(upload_window, "FEWEST_BALLS", 0):
        results = meeting.hold(meeting.puts_in_a_window(ONE), meeting.puts(TWO))
    _one_at_most(meeting, results, [ONE, TWO], _is_hidden_rival(meeting, 0))


@sampled
@given(schedule=schedules(2))
def test_two_windows_of_the_same_bytes_both_succeed(vss: LocalVSS, schedule: list[int]) -> None:
    meeting = Meeting(vss, schedule)
    with mock.patch.object(upload_window, "FEWEST_BALLS", 0):
        results = meeting.hold(meeting.puts_in_a_window(ONE), meeting.puts_in_a_window(ONE))
    assert [result.is_ok for result in results] == [True, True]
    assert bytes(meeting.read().unwrap().data) == ONE


@sampled
@given(schedule=schedules(2))
def test_window_beside_a_delete_loses_no_later_data(vss: LocalVSS, schedule: list[int]) -> None:
    """A delete may take the announcement away at any moment: data that is sent after it is stored, or is no success."""
    meeting = Meeting(vss, schedule)
    with mock.patch.object(upload_window, "FEWEST_BALLS", 0):
        stored, deleted = meeting.hold(meeting.puts_in_a_window(ONE), meeting.deletes())
    assert deleted.is_ok or isinstance(deleted.unwrap_err(), UnavailableError)
    sent = max((at for at, (_, request) in enumerate(meeting.order) if "/buckets/data/" in request), default=0)
    if stored.is_ok and not any(request.startswith("DELETE") for _, request in meeting.order[sent:]):
        assert bytes(meeting.read().unwrap().data) == ONE
    assert meeting.do(meeting.puts(ONE)).is_ok
    assert bytes(meeting.read().unwrap().data) == ONE


def _is_hidden_rival(meeting: Meeting, one: int) -> bool:
    """
    Return whether the other client announced and listed between this one's look and announcement.

    A bucket's listing may hide the other's version then, so both may succeed: the documented limit of windows.
    """
    announcement, listing = ("POST", ("/metadata",)), ("GET", (f"/{meeting.bucket_id}/metadata", "/chunks"))
    requests = [(client, *request.split(" ", 1)) for client, request in meeting.order]

    def at(client: int, method: str, ends: tuple[str, ...], start: int = 0) -> int:
        found = (n for n, asked in enumerate(requests) if n >= start and asked[:2] == (client, method))
        return next((n for n in found if requests[n][2].endswith(ends)), len(requests))

    look, announced = at(one, "GET", (f"/metadata/{KEY}_0",)), at(one, *announcement)
    rival = at(1 - one, *announcement)
    return look < rival < at(1 - one, *listing, rival) < announced < len(requests)


def _one_at_most(meeting: Meeting, results: list[Any], contents: list[bytes], hidden_rival: bool = False) -> None:
    """Check that one writer at most succeeded, two at most beside a hidden rival, and that a reader gets its bytes."""
    stored = [data for data, result in zip(contents, results, strict=True) if result.is_ok]
    assert len(stored) <= 1 + hidden_rival
    assert {type(result.unwrap_err()) for result in results if result.is_err} <= {BallConflictError}
    read = meeting.read()
    if stored:
        assert bytes(read.unwrap().data) in stored
    else:
        assert isinstance(read.unwrap_err(), NotFoundError | GetChunkError)  # what the losers announced, without data


@sampled
@given(schedule=schedules(2))
def test_two_writers_of_the_same_bytes_both_succeed(vss: LocalVSS, schedule: list[int]) -> None:
    meeting = Meeting(vss, schedule)
    results = meeting.hold(meeting.puts(ONE, 300), meeting.puts(ONE, 300))
    assert [result.is_ok for result in results] == [True, True]
    assert bytes(meeting.read().unwrap().data) == ONE
    assert not meeting.deletes_were_sent


@sampled
@given(schedule=schedules(2))
def test_two_writers_of_the_same_bytes_in_two_cuts_both_succeed(vss: LocalVSS, schedule: list[int]) -> None:
    meeting = Meeting(vss, schedule)
    results = meeting.hold(meeting.puts(ONE, 300), meeting.puts(ONE, 450))
    assert [result.is_ok for result in results] == [True, True]
    assert bytes(meeting.read().unwrap().data) == ONE
    assert not meeting.deletes_were_sent


@sampled
@given(schedule=schedules(4, 40))
def test_more_writers_of_the_same_bytes_than_peers_all_succeed(vss: LocalVSS, schedule: list[int]) -> None:
    meeting = Meeting(vss, schedule)
    results = meeting.hold(*[meeting.puts(ONE, 450)] * 4)
    assert [result.is_ok for result in results] == [True] * 4
    assert bytes(meeting.read().unwrap().data) == ONE


@sampled
@given(schedule=schedules(2, 40))
def test_reader_during_a_replace_sees_old_or_new_or_nothing(vss: LocalVSS, schedule: list[int]) -> None:
    meeting = Meeting(vss, schedule)
    assert meeting.do(meeting.puts(ONE, 300)).is_ok
    replaced, reads = meeting.hold(meeting.puts(TWO, 450, replace=True), meeting.reads(3))
    assert replaced.unwrap() is True
    for read in reads:
        if read.is_ok:
            assert bytes(read.unwrap().data) in (ONE, TWO)
        else:
            assert isinstance(read.unwrap_err(), NotFoundError | GetChunkError | UnavailableError)
    assert bytes(meeting.read().unwrap().data) == TWO


@sampled
@given(schedule=schedules(3, 40))
def test_nobody_reads_a_mixture_while_two_replace(vss: LocalVSS, schedule: list[int]) -> None:
    """Two who replace one key may take it from one another, but what is read is one of the versions, whole."""
    meeting = Meeting(vss, schedule)
    assert meeting.do(meeting.puts(pattern(900, seed=2), 300)).is_ok
    *_, reads = meeting.hold(
        meeting.puts(ONE, 300, replace=True), meeting.puts(TWO, 450, replace=True), meeting.reads(3)
    )
    for read in [*reads, meeting.read()]:
        if read.is_ok:
            assert bytes(read.unwrap().data) in (ONE, TWO, pattern(900, seed=2))
        else:
            assert isinstance(read.unwrap_err(), NotFoundError | GetChunkError | UnavailableError)
    assert meeting.do(meeting.puts(ONE, replace=True)).is_ok
    assert bytes(meeting.read().unwrap().data) == ONE


@sampled
@given(schedule=schedules(2, 40))
def test_delete_bucket_beside_writer_empties_or_reports_rest(vss: LocalVSS, schedule: list[int]) -> None:
    meeting = Meeting(vss, schedule)
    assert meeting.do(lambda client: client.put(meeting.bucket_id, "before", TWO)).is_ok
    written, deleted = meeting.hold(meeting.puts(ONE, 300), meeting.deletes_bucket())
    report = deleted.unwrap()
    assert report.failed == 0
    assert "before" in report.keys
    # What is there in the end was announced after the last look, which found the bucket empty.
    last_look = max(
        at
        for at, (client, request) in enumerate(meeting.order)
        if client == 1 and request.endswith(f"/buckets/{meeting.bucket_id}/metadata")
    )
    announced_later = [
        request for client, request in meeting.order[last_look:] if client == 0 and request.endswith("/metadata")
    ]
    listed = {chunk["key"] for chunk in meeting.wire.listed(meeting.bucket_id, KEY)}
    assert len(listed) <= len(announced_later)
    if not announced_later:
        assert KEY in report.keys or written.is_err
    assert meeting.do(meeting.puts(ONE, 300)).is_ok
    assert bytes(meeting.read().unwrap().data) == ONE


async def test_bucket_written_to_all_the_time_is_reported_not_empty(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    added: list[str] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.path.endswith(f"/buckets/{bucket_id}/metadata"):  # before each look of the deleter
            added.append(f"late-{len(added)}")
            await asyncio.to_thread(wire.put, bucket_id, added[-1], [ONE])
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        report = (await client.delete_bucket(bucket_id)).unwrap()
        assert (report.failed, report.total) == (1, len(added))
        assert list(report.failures) == added[-1:]
        assert "while the bucket was deleted" in report.failures[added[-1]]
        assert report.keys == sorted(added[:-1])
    assert wire.data(bucket_id, f"{added[-1]}_0") == ONE
