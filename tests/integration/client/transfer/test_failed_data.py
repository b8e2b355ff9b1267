"""A data request that fails: read back, sent again to the same task, and only then cleared and announced anew."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import AsyncClient, BallConflictError, IntegrityError, UnknownError
from tests.support.addresses import uri_of
from tests.support.clients import client_of
from tests.support.intercepting_router import Asked, InterceptingRouter, Reply, intercepting
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import cut, pattern
from tests.support.vss import LocalVSS

DATA = pattern(1000)
CHUNKS = 20
PIECES = cut(pattern(CHUNKS * 50), *[50] * (CHUNKS - 1))


def _put(vss: LocalVSS, key: str = "k", data: bytes = DATA, **options: Any) -> Any:
    async def scenario() -> Any:
        async with client_of(vss) as client:
            return await client.put("b", key, data, max_backoff=0.05, **options)

    return asyncio.run(scenario())


def _announcements(vss: LocalVSS) -> int:
    return len(vss.requests("POST", "b/metadata$"))


def _has_no_announcement_without_data(vss: LocalVSS, key: str, pieces: list[bytes], bucket_id: str = "b") -> bool:
    wire = RawRequests(vss)
    listed = Counter(chunk["key"] for chunk in wire.listed(bucket_id, key))
    return all(
        listed[f"{key}_{index}"] == len(wire.peers_with(bucket_id, f"{key}_{index}", piece)) == 1
        for index, piece in enumerate(pieces)
    )


@pytest.mark.parametrize("status", [404, 500, 502, 503])
def test_data_that_failed_is_sent_again_to_the_same_task(own_vss: Callable[..., LocalVSS], status: int) -> None:
    vss = own_vss()
    with vss.fault("status", method="POST", path="/data/", status=status, count=1):
        assert _put(vss).unwrap() is True
    sent = vss.requests("POST", "/data/")
    assert [seen["status"] for seen in sent] == [status, 200]
    assert len({seen["path"] for seen in sent}) == 1
    assert _announcements(vss) == 1
    assert _has_no_announcement_without_data(vss, "k", [DATA])


@pytest.mark.parametrize("rf", [1, 2])
def test_data_that_was_stored_before_the_failure_is_read_back(own_vss: Callable[..., LocalVSS], rf: int) -> None:
    """Sent again, the router would answer that no peer stored it."""
    vss = own_vss()
    with vss.fault("fail_after_storing", count=1):
        assert _put(vss, rf=rf).unwrap() is True
    assert len(vss.requests("POST", "/data/")) == 1
    assert _announcements(vss) == 1


@pytest.mark.parametrize("rf", [1, 2])
def test_resend_that_is_answered_without_peers_is_read_back(own_vss: Callable[..., LocalVSS], rf: int) -> None:
    """The first read-back is not answered, and the second send is acknowledged by no peer, as it is stored already."""
    vss = own_vss()
    with (
        vss.fault("fail_after_storing", count=1),
        vss.fault("status", method="GET", path="/b/k_0$", status=404, count=1),
    ):
        assert _put(vss, rf=rf).unwrap() is True
    assert [seen["status"] for seen in vss.requests("POST", "/data/")] == [500, 200]
    assert _announcements(vss) == 1
    assert vss.requests("DELETE") == []


def test_refused_data_is_cleared_before_it_is_announced_anew(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    with vss.fault("refuse_data", count=2):
        assert _put(vss).unwrap() is True
    assert _announcements(vss) == 3
    assert len(vss.requests("DELETE", "/b/k_0$")) == 2
    assert _has_no_announcement_without_data(vss, "k", [DATA])


def test_a_peer_that_refuses_all_data_costs_no_put(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    with vss.fault("refuse_data", peer="peer-1"):
        for number in range(6):
            assert _put(vss, f"k{number}").unwrap() is True
    assert all(_has_no_announcement_without_data(vss, f"k{number}", [DATA]) for number in range(6))


def test_announcement_whose_answer_was_lost_is_cleared(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    with vss.fault("reset", method="POST", path="b/metadata$", when="after", count=2):
        assert _put(vss).unwrap() is True
    assert _has_no_announcement_without_data(vss, "k", [DATA])


async def test_clearing_deletes_no_announcement_of_another_writer(own_vss: Callable[..., LocalVSS]) -> None:
    """Another writer of the same bytes has announced them between our announcement and our data."""
    vss = own_vss()
    wire = RawRequests(vss)
    tasks: list[str] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if "/data/" in asked.path and not tasks:
            tasks.append((await asyncio.to_thread(wire.announce, "b", "k", 0, DATA, DATA, 1))[0])
        return None

    with vss.fault("refuse_data", count=1):
        async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
            assert (await client.put("b", "k", DATA, max_backoff=0.05)).unwrap() is True
    assert vss.requests("DELETE") == []
    assert wire.send(tasks[0], DATA)


async def test_rival_before_second_announcement_is_conflict(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    wire = RawRequests(vss)
    rivals: list[Any] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "DELETE" and not rivals:
            reply = await pass_on(asked)
            rivals.append(await asyncio.to_thread(wire.put, "b", "k", [pattern(1000, 1)]))
            return reply
        return None

    with vss.fault("refuse_data", count=1):
        async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
            error = (await client.put("b", "k", DATA, max_backoff=0.05)).unwrap_err()
            assert isinstance(error, BallConflictError)
    assert wire.peers_with("b", "k_0", DATA) == set()


@pytest.mark.parametrize("rf", [1, 2])
async def test_router_lost_before_the_data_is_replaced_by_another(own_vss: Callable[..., LocalVSS], rf: int) -> None:
    """A task is known only to the router that gave it: another router needs a new announcement."""
    vss = own_vss()
    interceptors: list[InterceptingRouter] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "POST" and asked.path.endswith("/metadata"):
            reply = await pass_on(asked)
            if sum(len(interceptor.seen("POST")) for interceptor in interceptors) == 1:
                next(interceptor for interceptor in interceptors if asked in interceptor.asked).refuse_connections()
                return Reply(reply.status, reply.body, {**reply.headers, "Connection": "close"})
            return reply
        return None

    async with (
        intercepting(handler, vss) as first,
        intercepting(handler, vss) as second,
        AsyncClient(uri_of(first.port, second.port), "tests") as client,
    ):
        interceptors.extend((first, second))
        put = await client.put("b", "k", DATA, rf=rf, max_tries=3, max_backoff=0.05)
        assert put.unwrap() is True
    wire = RawRequests(vss)
    assert _announcements(vss) == 2
    assert len(vss.requests("POST", "/data/")) == 1
    assert len(wire.listed("b", "k")) == len(wire.peers_with("b", "k_0", DATA)) == rf


def test_max_tries_counts_per_request(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    with vss.fault("status", method="POST", path="/data/", status=503) as failing:
        assert _put(vss, max_tries=3).is_err
        assert failing.triggered == 3
    with vss.fault("status", method="POST", path="b/metadata$", status=503) as failing:
        assert _put(vss, "other", max_tries=3).is_err
        assert failing.triggered == 3


# -- servers that fail by a pattern ----------------------------------------------------------------------------------------


def _each_third(asked: Counter[str], key: str) -> Reply | None:
    asked[key] += 1
    return Reply(500, b'{"detail": "every third"}') if asked[key] % 3 == 0 else None


def _first_two(asked: Counter[str], key: str) -> Reply | None:
    asked[key] += 1
    return Reply(404, b'{"detail": "try again later"}') if asked[key] <= 2 else None


@pytest.mark.parametrize("at_once", [1, 10])
@pytest.mark.parametrize("pattern_of", [_each_third, _first_two])
def test_server_that_fails_by_a_pattern_stops_no_put(
    vss: LocalVSS, bucket_id: str, pattern_of: Callable[[Counter[str], str], Reply | None], at_once: int
) -> None:
    """Each path has a pattern of its own, and so has each chunk's data, whatever its task."""
    max_tries = 5 if at_once == 1 else 10  # requests at once share a pattern: one may fail several times by chance
    asked: Counter[str] = Counter()
    chunk_of: dict[str, str] = {}

    async def handler(request: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        task = request.path.split("/")[-2] if "/data/" in request.path else ""
        if reply := pattern_of(asked, chunk_of.get(task, f"{request.method} {request.path}")):
            return reply
        if request.method == "POST" and request.path.endswith("/metadata"):
            reply = await pass_on(request)
            answer = reply.json()
            chunk_of[answer["tasks_ids"][0]] = f"data of {answer['key']}"
            return reply
        return None

    async def scenario() -> None:
        async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
            for number in range(3):
                asked.clear()
                put = await client.put(
                    bucket_id,
                    f"k{number}",
                    b"".join(PIECES),
                    chunk_size=50,
                    max_tries=max_tries,
                    max_backoff=0.02,
                    max_concurrency=at_once,
                )
                assert put.unwrap() is True

    asyncio.run(scenario())
    wire = RawRequests(vss)
    for number in range(3):
        assert len(wire.listed(bucket_id, f"k{number}")) == CHUNKS
        assert wire.peers_with(bucket_id, f"k{number}_7", PIECES[7])


async def test_streamed_chunk_of_a_file_is_read_again_for_the_next_try(
    own_vss: Callable[..., LocalVSS], tmp_path: Any
) -> None:
    vss = own_vss()
    path = tmp_path / "file"
    content = pattern(5_000_000)
    path.write_bytes(content)
    with vss.fault("status", method="POST", path="/data/", status=503, count=2):
        async with client_of(vss) as client:
            result = await client.put_file("b", "k", path, chunk_size="2.5MB", max_concurrency=1, max_backoff=0.05)
            assert result.unwrap() is True
    assert [seen["status"] for seen in vss.requests("POST", "/data/")] == [503, 503, 200, 200]
    assert _announcements(vss) == 2
    assert _has_no_announcement_without_data(vss, "k", [content[:2_500_000], content[2_500_000:]])


# -- a source that changes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [1, 4])
async def test_put_of_a_file_that_changed_leaves_nothing_in_the_way(
    own_vss: Callable[..., LocalVSS], tmp_path: Any, chunks: int
) -> None:
    vss = own_vss()
    size = 2_000_000  # a small file is read once, and kept
    path = tmp_path / "file"
    path.write_bytes(pattern(size))
    changed = pattern(size, seed=9)

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.path.endswith("/k/chunks"):
            path.write_bytes(changed)
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        options: dict[str, Any] = {"chunk_size": size // chunks, "max_concurrency": 1}
        error = (await client.put_file("b", "k", path, **options)).unwrap_err()
        assert isinstance(error, IntegrityError)
        assert RawRequests(vss).listed("b", "k") == []
        assert (await client.put_file("b", "k", path, **options)).unwrap() is True
        assert bytes((await client.get("b", "k")).unwrap().data) == changed


async def test_withdrawal_deletes_no_object_that_a_namesake_completed(
    vss: LocalVSS, bucket_id: str, tmp_path: Path
) -> None:
    """A slow put counts as abandoned after a while: another task of the same client id deletes its announcement."""
    path = tmp_path / "file"
    path.write_bytes(pattern(2_000_000))
    done: list[bool] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if not asked.path.endswith("/k/chunks") or done:
            return None
        reply = await pass_on(asked)
        assert await asyncio.to_thread(RawRequests(vss).delete_chunk, bucket_id, "k_0") == 1
        done.append((await rival.put_file(bucket_id, "k", path, chunk_size=2_000_000)).unwrap())
        path.write_bytes(pattern(2_000_000, seed=9))
        return reply

    async with client_of(vss) as rival, intercepting(handler, vss) as router:
        async with AsyncClient(router.uri, rival.client_id, log_output_path=None) as client:
            error = (await client.put_file(bucket_id, "k", path, chunk_size=2_000_000)).unwrap_err()
        assert type(error) is IntegrityError
        assert done == [True]
        assert (await rival.get(bucket_id, "k")).unwrap().data == pattern(2_000_000)


@pytest.mark.parametrize("reads", [0, 6], ids=["while it is hashed", "while it is sent"])
async def test_read_error_of_the_disk_is_a_result(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3_000_000))
    read, done = os.preadv, 0

    def preadv(*arguments: Any) -> int:
        nonlocal done
        done += 1
        if done > reads:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(*arguments)

    async with client_of(vss) as client:
        with monkeypatch.context() as patch:
            patch.setattr(os, "preadv", preadv)
            error = (await client.put_file(bucket_id, "k", path, chunk_size="3MB")).unwrap_err()
        assert type(error) is UnknownError
        assert f"putting {bucket_id}/k failed: {path}: Input/output error; check the disk" in str(error)
        assert bool(vss.requests("POST", f"{bucket_id}/metadata$")) is (reads > 0)
        assert (await client.put_file(bucket_id, "k", path, chunk_size="3MB")).unwrap() is True


async def test_read_error_of_the_disk_fails_one_ball_of_a_bulk(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are stored, in the same window too."""
    items = []
    for number in range(20):
        (path := tmp_path / f"{number}").write_bytes(bytes([number]) * 1_500_000)
        items.append({"bucket_id": bucket_id, "ball_id": f"k{number}", "source": str(path), "chunk_size": "2MB"})
    read = os.preadv

    def preadv(descriptor: int, *arguments: Any) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(tmp_path / "7"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(descriptor, *arguments)

    monkeypatch.setattr(os, "preadv", preadv)
    async with client_of(vss) as client:
        (await client.put_bulk("bulk", items)).unwrap()
        result = (await client.await_bulk("bulk")).unwrap()
    assert (result["successed"], result["failed"]) == (19, 1)
    assert f"{tmp_path}/7: Input/output error" in str(result["failures"][0]["error"])
    assert result["failures"][0]["item"]["ball_id"] == "k7"


@pytest.mark.parametrize("detail", ["Task(a) not found", "400: Expected tasks > 0, but got 0"])
async def test_spent_task_is_announced_again(vss: LocalVSS, bucket_id: str, detail: str) -> None:
    """The placement service's own words: the same data is not sent to the task again."""
    sent: list[str] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if "/data/" in asked.path:
            sent.append(asked.path)
        return Reply(500, json.dumps({"detail": detail}).encode()) if asked.path in sent[:1] else None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        assert (await client.put(bucket_id, "k", DATA, max_tries=2, max_backoff=0.05)).unwrap() is True
    assert len(sent) == len(set(sent)) == 2
    assert _has_no_announcement_without_data(vss, "k", [DATA], bucket_id)


async def test_task_that_keeps_failing_is_announced_again(vss: LocalVSS, bucket_id: str) -> None:
    """A 500 that persists means that the task is spent, whatever its text."""
    sent: list[str] = []

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if "/data/" not in asked.path:
            return None
        sent.append(asked.path)
        return Reply(500, b'{"detail": "unexpected"}') if asked.path == sent[0] else None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        assert (await client.put(bucket_id, "k", DATA, max_tries=3, max_backoff=0.05)).unwrap() is True
    first, again, second = sent
    assert first == again != second
    assert _has_no_announcement_without_data(vss, "k", [DATA], bucket_id)
