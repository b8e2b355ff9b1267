"""The client's calls against the local VSS: what they give, how many requests they make, and what they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import (
    AsyncClient,
    ConnectFailedError,
    DeadlineExceededError,
    DNSResolutionError,
    FileAlreadyExists,
    IntegrityError,
    MictlanXError,
    NetworkError,
    RequestTimeoutError,
    ValidationError,
)
from tests.support.addresses import free_port, uri_of
from tests.support.clients import client_of
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.new_threads import NewThreads
from tests.support.raw_requests import RawRequests
from tests.support.router_requests import router_of
from tests.support.sample_bytes import cut, pattern, sha256
from tests.support.vss import LocalVSS

DATA = pattern(1000)


def value_of(vss: LocalVSS, method: str, *arguments: Any, **further: Any) -> Any:
    async def scenario() -> Any:
        async with client_of(vss) as client:
            return (await getattr(client, method)(*arguments, **further)).unwrap()

    return asyncio.run(scenario())


def error_of(vss: LocalVSS, method: str, *arguments: Any, **further: Any) -> MictlanXError:
    async def scenario() -> MictlanXError:
        async with client_of(vss) as client:
            error: MictlanXError = (await getattr(client, method)(*arguments, **further)).unwrap_err()
            return error

    return asyncio.run(scenario())


@contextlib.contextmanager
def nothing_left_behind(folder: Path) -> Iterator[None]:
    """See that no file, no open file and no thread is left of what is done within."""
    files, open_files, threads = set(folder.rglob("*")), _open_files(), NewThreads()
    yield
    assert set(folder.rglob("*")) == files
    assert _open_files() - open_files == set()
    assert threads.after_their_end() == []


def _open_files() -> set[str]:
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {name for name in found if name.startswith("/") and not name.startswith(("/dev/", "/proc/"))}


# -- put and get ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 299, 300, 301, 599, 600, 899, 900, 1000])
def test_bytes_are_cut_as_the_official_put_does(vss: LocalVSS, bucket_id: str, size: int) -> None:
    report = value_of(vss, "upload", bucket_id, "k", data=DATA[:size], chunk_size=300)
    assert (report.size, report.checksum, report.num_chunks) == (size, sha256(DATA[:size]), max(size // 300, 1))
    assert (report.bucket_id, report.key, report.ball_id, report.replicas) == (bucket_id, "k", "k", 1)
    assert report.uploaded
    got = value_of(vss, "get", bucket_id, "k")
    assert bytes(got.data) == DATA[:size]
    assert [metadata.index for metadata in got.metadatas] == list(range(report.num_chunks))


@pytest.mark.parametrize("size", [0, 1, 299, 300, 301, 600, 899, 900, 1000])
def test_files_are_cut_as_the_official_put_file_does(vss: LocalVSS, bucket_id: str, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(DATA[:size])
    assert value_of(vss, "put_file", bucket_id, "k", source, chunk_size=300) is True
    ball = value_of(vss, "get_metadata", bucket_id, "k")
    assert ball.num_chunks == max(-(-size // 300), 1)
    assert [chunk.size for chunk in ball.chunks[:-1]] == [300] * (ball.num_chunks - 1)
    assert (ball.fullname, ball.filename, ball.extension) == ("source.bin", "source", "bin")
    path = value_of(vss, "get_to_file", bucket_id, "k", str(tmp_path / "out"))
    assert Path(path) == tmp_path / "out" / "source.bin"
    assert Path(path).read_bytes() == DATA[:size]


def test_large_file_with_many_chunks_comes_back_identical(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(pattern(9_000_001))
    report = value_of(vss, "upload", bucket_id, "ä/b.bin", path=source, chunk_size="1MB", rf=2)
    assert (report.num_chunks, report.replicas) == (10, 2)
    got = value_of(vss, "download", bucket_id, "ä/b.bin", tmp_path / "out")
    assert (got.downloaded, got.size, got.checksum, got.num_chunks) == (True, 9_000_001, report.checksum, 10)
    assert Path(got.path).name == "b.bin"
    assert Path(got.path).read_bytes() == source.read_bytes()
    again = value_of(vss, "download", bucket_id, "ä/b.bin", tmp_path / "out")
    assert (again.downloaded, again.path) == (False, got.path)


def test_tags_are_stored_and_the_clients_own_win(vss: LocalVSS, bucket_id: str) -> None:
    tags = {"colour": "blau", "num_chunks": "99", "full_checksum": "x", "group_id": "y", "full_path": "z", "ü": "é"}
    value_of(vss, "put", bucket_id, "a/b.txt", DATA, chunk_size=500, tags=tags)
    ball = value_of(vss, "get_metadata", bucket_id, "a/b.txt")
    assert (ball.tags["colour"], ball.tags["ü"]) == ("blau", "é")
    assert ball.tags["num_chunks"] == "2"
    assert (ball.checksum, ball.key, ball.full_path) == (sha256(DATA), "a/b.txt", "a/b.txt")
    assert (ball.fullname, ball.bucket_relative_path) == ("b.txt", "a/")
    assert tags["num_chunks"] == "99"  # the caller's own are left alone


@pytest.mark.parametrize("value", [bytearray(DATA), memoryview(DATA), memoryview(bytearray(DATA * 2))[:1000]])
def test_bytes_likes_are_put(vss: LocalVSS, bucket_id: str, value: Any) -> None:
    assert value_of(vss, "put", bucket_id, "k", value, chunk_size=300) is True
    assert bytes(value_of(vss, "get", bucket_id, "k").data) == DATA


async def test_bytearray_changed_during_put_is_not_stored_mixed(vss: LocalVSS, bucket_id: str) -> None:
    with vss.fault("latency", bucket=bucket_id, seconds=0.2, count=1):
        value = bytearray(DATA)
        async with client_of(vss) as client:
            task = asyncio.create_task(client.put(bucket_id, "k", value, chunk_size=100))  # type: ignore[arg-type]
            await asyncio.sleep(0.05)
            value[:] = bytes(1000)
            assert (await task).is_ok
            assert bytes((await client.get(bucket_id, "k")).unwrap().data) == DATA


def test_get_with_a_limit(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 500))
    assert bytes(value_of(vss, "get", bucket_id, "k", max_size=1000).data) == DATA
    error = error_of(vss, "get", bucket_id, "k", max_size=999)
    assert isinstance(error, ValidationError)
    assert "1000 bytes" in str(error)
    assert len(vss.requests("GET", f"{bucket_id}/k_")) == 2


def test_get_from_a_chunk_on(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300))
    assert bytes(value_of(vss, "get", bucket_id, "k", chunk_index=1).data) == DATA[300:]
    assert bytes(value_of(vss, "get", bucket_id, "k", chunk_index=2).data) == DATA[600:]
    assert isinstance(error_of(vss, "get", bucket_id, "k", chunk_index=3), ValidationError)
    path = value_of(vss, "get_to_file", bucket_id, "k", str(tmp_path), chunk_index=1)
    assert Path(path).read_bytes() == DATA[300:]


def test_ball_of_another_client_without_tags_is_read(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300), standard_tags=False)
    assert bytes(value_of(vss, "get", bucket_id, "k").data) == DATA
    assert value_of(vss, "get_metadata", bucket_id, "k").checksum == ""


def test_client_is_used_in_two_loops_after_each_other(vss: LocalVSS, bucket_id: str) -> None:
    client = client_of(vss)

    async def put() -> None:
        assert (await client.put(bucket_id, "k", DATA)).unwrap()

    async def get() -> bytes:
        data = bytes((await client.get(bucket_id, "k", force=True)).unwrap().data)
        await client.aclose()
        return data

    asyncio.run(put())
    assert asyncio.run(get()) == DATA


async def test_many_calls_at_once_on_one_client(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        results = await asyncio.gather(*(client.put(bucket_id, f"k{n}", pattern(50, n)) for n in range(30)))
        assert all(result.unwrap() for result in results)
        balls = (await client.list_balls(bucket_id)).unwrap()
        assert [ball.key for ball in balls] == sorted(f"k{n}" for n in range(30))
        report = (await client.delete_bucket(bucket_id)).unwrap()
        assert (report.deleted, report.failed, report.total, len(report.keys)) == (30, 0, 30, 30)
        assert (await client.list_balls(bucket_id)).unwrap() == []
        assert (await client.delete_bucket(bucket_id)).unwrap().total == 0


async def test_list_balls_chooses_by_prefix_or_glob(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        for key in ("a/1.jpg", "a/2.png", "b/1.jpg", "plain"):
            (await client.put(bucket_id, key, DATA)).unwrap()
        (await client.put(bucket_id, "empty", b"")).unwrap()

        async def keys(**how: str) -> list[str]:
            return [ball.key for ball in (await client.list_balls(bucket_id, **how)).unwrap()]

        assert await keys() == ["a/1.jpg", "a/2.png", "b/1.jpg", "empty", "plain"]
        assert await keys(prefix="a/") == ["a/1.jpg", "a/2.png"]
        assert await keys(glob="*.jpg") == ["a/1.jpg", "b/1.jpg"]
        assert await keys(glob="?/[2-9].*") == ["a/2.png"]
        both = await client.list_balls(bucket_id, prefix="a", glob="b")
        assert isinstance(both.unwrap_err(), ValidationError)


# -- how many requests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [1, 2, 7])
async def test_requests_of_every_operation(vss: LocalVSS, bucket_id: str, tmp_path: Path, chunks: int) -> None:
    data = pattern(100 * chunks)
    async with client_of(vss) as client:

        async def requests_of(call: Awaitable[Any]) -> int:
            vss.reset_requests()
            (await call).unwrap()
            return len(vss.requests(path=f"{bucket_id}|/data/|/peers$|/roll-call/"))

        assert await requests_of(client.put(bucket_id, "k", data, chunk_size=100)) == 2 * chunks + 2
        # Found stored: a look, a listing, and every chunk read back.
        assert await requests_of(client.put(bucket_id, "k", data, chunk_size=100)) == chunks + 2
        assert await requests_of(client.get(bucket_id, "k", force=True)) == chunks + 1
        assert await requests_of(client.get_to_file(bucket_id, "k", str(tmp_path))) == chunks + 1
        assert await requests_of(client.get_to_file(bucket_id, "k", str(tmp_path))) == 1
        assert await requests_of(client.exists(bucket_id, "k")) == 1
        assert await requests_of(client.exists(bucket_id, "k", check_storage=True)) == chunks + 1
        assert await requests_of(client.exists(bucket_id, "none")) == 8
        assert await requests_of(client.exists(bucket_id, "none/in/folders")) == 4
        assert await requests_of(client.get_metadata(bucket_id, "k")) == 1
        assert await requests_of(client.list_balls(bucket_id)) == 2
        # The peers, a roll-call and a listing; every chunk's key; a roll-call and a listing.
        assert await requests_of(client.delete("k", bucket_id)) == chunks + 5
        assert await requests_of(client.delete("k", bucket_id)) == 8
        assert await requests_of(client.put(bucket_id, "k", data, chunk_size=100, rf=3)) == 2 * chunks + 2


# -- bad input -------------------------------------------------------------------------------------------------------------

BAD_PUTS: list[dict[str, Any]] = [
    {"bucket_id": ""},
    {"bucket_id": "a b"},
    {"bucket_id": None},
    {"key": ""},
    {"key": None},
    {"key": "\ud800"},
    {"value": "text"},
    {"value": None},
    {"chunk_size": "abc"},
    {"chunk_size": 0},
    {"chunk_size": "0kb"},
    {"chunk_size": -1},
    {"chunk_size": None},
    {"chunk_size": True},
    {"rf": 0},
    {"rf": -1},
    {"rf": 1.5},
    {"rf": "2"},
    {"rf": True},
    {"timeout": 0},
    {"timeout": -1},
    {"timeout": "1"},
    {"timeout": float("nan")},
    {"timeout": 10**400},
    {"max_tries": 0},
    {"max_tries": 1.5},
    {"max_concurrency": 0},
    {"max_concurrency": "2"},
    {"max_backoff": -1},
    {"max_backoff": "5"},
    {"max_backoff": float("nan")},
    {"max_backoff": 10**400},
    {"replace": "False"},
    {"replace": 1},
    {"tags": {"a": 1}},
    {"tags": {1: "a"}},
    {"tags": {"": "a"}},
    {"tags": ["a"]},
    {"tags": {"a": "\ud800"}},
    {"tags": {"mictlanx_filters": "[]"}},
    {"deadline": 0},
    {"deadline": -1},
    {"deadline": "1"},
    {"deadline": float("nan")},
    {"deadline": 10**400},
]


@pytest.mark.parametrize("bad", BAD_PUTS, ids=str)
async def test_bad_input_of_put_causes_no_request(bad: dict[str, Any], tmp_path: Path) -> None:
    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        return Reply(500)

    source = tmp_path / "source"
    source.write_bytes(DATA)
    async with intercepting(handler) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        arguments = {"bucket_id": "b", "key": "k", "value": DATA, **bad}
        error = (await client.put(**arguments)).unwrap_err()
        assert isinstance(error, ValidationError), error
        assert error.permanent
        if "value" not in bad:
            arguments = {"bucket_id": "b", "key": "k", "path": source, **bad}
            assert isinstance((await client.put_file(**arguments)).unwrap_err(), ValidationError)
        assert interceptor.asked == []


async def test_largest_tags_can_be_put_again_and_replaced(vss: LocalVSS, bucket_id: str) -> None:
    """Every put reads the metadata of chunk 0, whose size is limited; JSON needs six bytes for this character."""
    tags = {"a": "\x01" * 999_999}
    async with client_of(vss) as client:
        assert (await client.put(bucket_id, "k", DATA, tags=tags)).unwrap() is True
        assert (await client.put(bucket_id, "k", DATA, tags=tags)).unwrap() is False
        assert (await client.put(bucket_id, "k", DATA[:5], replace=True)).unwrap() is True
        error = (await client.put(bucket_id, "k2", DATA, tags={"ab": tags["a"]})).unwrap_err()
        assert type(error) is ValidationError
        assert "at most 1,000,000 characters, got 1,000,001" in str(error)


BAD_GETS: list[dict[str, Any]] = [
    {"bucket_id": "a/b"},
    {"key": ""},
    {"max_paralell_gets": 0},
    {"max_paralell_gets": "2"},
    {"timeout": 0},
    {"max_retries": 0},
    {"max_delay": -1},
    {"chunk_index": -1},
    {"chunk_index": "0"},
    {"deadline": 0},
    {"headers": {"x": "a\r\nb: c"}},
    {"headers": {"x y": "a"}},
    {"headers": {"x": 1}},
    {"headers": "x"},
]


@pytest.mark.parametrize("bad", BAD_GETS, ids=str)
async def test_bad_input_of_get_causes_no_request(bad: dict[str, Any], tmp_path: Path) -> None:
    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        return Reply(500)

    async with intercepting(handler) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        assert isinstance((await client.get(**{"bucket_id": "b", "key": "k", **bad})).unwrap_err(), ValidationError)
        arguments = {"bucket_id": "b", "ball_id": "k", "output_path": str(tmp_path / "out"), **bad}
        if "key" in arguments:
            arguments["ball_id"] = arguments.pop("key")
        assert isinstance((await client.get_to_file(**arguments)).unwrap_err(), ValidationError)
        assert interceptor.asked == []


@pytest.mark.parametrize("replace", ["False", 1])
async def test_only_true_replaces_a_file(vss: LocalVSS, bucket_id: str, tmp_path: Path, replace: Any) -> None:
    (tmp_path / "f").write_text("mine")
    async with client_of(vss) as client:
        (await client.put(bucket_id, "k", DATA)).unwrap()
        vss.reset_requests()
        for error in (
            (await client.get_to_file(bucket_id, "k", tmp_path, "f", replace=replace)).unwrap_err(),
            (await client.download(bucket_id, "k", tmp_path, filename="f", replace=replace)).unwrap_err(),
        ):
            assert f"replace must be True or False, got {replace!r}" in str(error)
        async with router_of(vss) as router:
            error = (await router.get_to_file(bucket_id, "k", sink_folder_path=tmp_path, replace=replace)).unwrap_err()
            assert f"replace must be True or False, got {replace!r}" in str(error)
        assert vss.requests() == []
    assert (tmp_path / "f").read_text() == "mine"


async def test_bad_files_cause_no_request(tmp_path: Path) -> None:
    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        return Reply(500)

    (tmp_path / "file").write_bytes(DATA)
    os.mkfifo(tmp_path / "fifo")
    async with intercepting(handler) as interceptor, AsyncClient(interceptor.uri, "tests") as client:

        async def refused(call: Awaitable[Any]) -> str:
            error = (await call).unwrap_err()
            assert isinstance(error, ValidationError)
            return str(error)

        assert "must be an existing file" in await refused(client.put_file("b", "k", tmp_path / "none"))
        assert "got a folder" in await refused(client.put_file("b", "k", tmp_path))
        assert "got a special file" in await refused(client.put_file("b", "k", tmp_path / "fifo"))
        assert "exactly one of" in await refused(client.upload("b", "k"))
        assert "exactly one of" in await refused(client.upload("b", "k", data=b"", path=tmp_path / "file"))
        for name in ("..", "a/b", "", ".", "a\\b", "x" * 256, "a\0b"):
            if name:
                await refused(client.get_to_file("b", "k", str(tmp_path / "out"), fullname=name))
        assert "must be a folder" in await refused(client.get_to_file("b", "k", str(tmp_path / "file")))
        assert "must be a folder" in await refused(client.get_to_file("b", "k", str(tmp_path / "file" / "below")))
        assert "must be writable" in await refused(client.get_to_file("b", "k", "/proc/here"))
        assert interceptor.asked == []
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_what_may_not_be_read_or_written_is_refused(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    source.chmod(0)
    assert isinstance(error_of(vss, "put_file", bucket_id, "k", source), ValidationError)
    folder = tmp_path / "out"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert isinstance(error_of(vss, "get_to_file", bucket_id, "k", str(folder)), ValidationError)


# -- sources that change -----------------------------------------------------------------------------------------------------


def test_file_that_changes_while_it_is_put_is_not_stored_mixed(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    old, new = pattern(3_000_000), pattern(3_000_000, seed=1)
    source.write_bytes(old)

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "POST" and "/data/" in asked.path and source.read_bytes() == old:
            source.write_bytes(new)
        return None

    async def scenario() -> None:
        async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
            result = await client.put_file(bucket_id, "k", source, chunk_size="1MB", max_concurrency=1)
            error = result.unwrap_err()
            assert isinstance(error, IntegrityError)
            assert str(source) in str(error)
            assert not error.transient

    asyncio.run(scenario())
    assert value_of(vss, "exists", bucket_id, "k") is False
    for index in range(3):
        assert RawRequests(vss).peers_with(bucket_id, f"k_{index}", new[index * 1_000_000 :][:1_000_000]) == set()


async def test_file_that_becomes_shorter_while_it_is_put(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(pattern(3_000_000))

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        if asked.method == "POST":
            os.truncate(source, 1000)
        return None

    async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
        result = await client.put_file(bucket_id, "k", source, chunk_size="1MB", max_concurrency=1)
        assert isinstance(result.unwrap_err(), IntegrityError)


def test_file_with_a_name_that_is_no_text_is_put(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    source.write_bytes(DATA)
    assert value_of(vss, "put_file", bucket_id, "k", source) is True
    assert value_of(vss, "get_metadata", bucket_id, "k").extension == "txt"


# -- files that appear -------------------------------------------------------------------------------------------------------


def test_another_file_is_left_alone_unless_it_is_to_be_replaced(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300))
    target = tmp_path / "k"
    target.write_bytes(b"mine")
    before = len(vss.requests("GET", f"{bucket_id}/k_"))
    error = error_of(vss, "get_to_file", bucket_id, "k", str(tmp_path))
    assert isinstance(error, FileAlreadyExists)
    assert str(target) in str(error)
    assert target.read_bytes() == b"mine"
    assert len(vss.requests("GET", f"{bucket_id}/k_")) == before  # known before anything is read
    assert Path(value_of(vss, "get_to_file", bucket_id, "k", str(tmp_path), replace=True)).read_bytes() == DATA
    assert sorted(tmp_path.iterdir()) == [target]


def test_symbolic_link_is_not_written_through(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA])
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.write_bytes(b"mine")
    folder.mkdir()
    (folder / "k").symlink_to(outside)
    assert isinstance(error_of(vss, "get_to_file", bucket_id, "k", str(folder)), FileAlreadyExists)
    value_of(vss, "get_to_file", bucket_id, "k", str(folder), replace=True)
    assert outside.read_bytes() == b"mine"
    assert not (folder / "k").is_symlink()
    assert (folder / "k").read_bytes() == DATA


async def test_two_downloads_to_one_file_at_once(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300))
    async with client_of(vss) as client:
        results = await asyncio.gather(*(client.get_to_file(bucket_id, "k", str(tmp_path)) for _ in range(5)))
        for result in results:
            assert result.is_ok or isinstance(result.unwrap_err(), FileAlreadyExists)
        assert any(result.is_ok for result in results)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [DATA]


# -- time and cancellation ---------------------------------------------------------------------------------------------------


def test_timeout_is_per_request(vss: LocalVSS, bucket_id: str) -> None:
    RawRequests(vss).put(bucket_id, "k", [DATA])
    with vss.fault("latency", bucket=bucket_id, seconds=5):
        error = error_of(vss, "get", bucket_id, "k", timeout=0.2, max_retries=2)
    assert isinstance(error, RequestTimeoutError)
    assert not isinstance(error, DeadlineExceededError)
    assert "0.2 s" in str(error)


def test_deadline_is_for_the_whole_call(vss: LocalVSS, bucket_id: str) -> None:
    with vss.fault("status", bucket=bucket_id, status=503):
        error = error_of(vss, "put", bucket_id, "k", DATA, deadline=0.3, max_tries=1_000_000)
    assert isinstance(error, DeadlineExceededError)
    assert not error.transient
    assert f"{bucket_id}/k" in str(error)
    assert "0.3 s" in str(error)


@pytest.mark.parametrize("what", ["put_file", "get_to_file", "put", "get"])
def test_cancelled_call_leaves_nothing_behind(vss: LocalVSS, bucket_id: str, tmp_path: Path, what: str) -> None:
    source = tmp_path / "source"  # too small for a part that is worth keeping
    source.write_bytes(pattern(600_000))
    folder = tmp_path / "out"
    folder.mkdir()
    if what.startswith("get"):
        value_of(vss, "put_file", bucket_id, "k", source, chunk_size="100kb")
    calls: dict[str, Callable[[AsyncClient], Awaitable[Any]]] = {
        "put": lambda client: client.put(bucket_id, "k", pattern(600_000), chunk_size="100kb"),
        "put_file": lambda client: client.put_file(bucket_id, "k", source, chunk_size="100kb"),
        "get": lambda client: client.get(bucket_id, "k", force=True),
        "get_to_file": lambda client: client.get_to_file(bucket_id, "k", str(folder), force=True),
    }
    slow = {"put": ("POST", "/data/"), "get": ("GET", f"{bucket_id}/k_[345]$")}[what[:3]]

    async def scenario() -> None:
        async with client_of(vss) as client:
            task = asyncio.ensure_future(calls[what](client))
            while not slowed.triggered:
                await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert list(folder.iterdir()) == []
            others = asyncio.all_tasks() - {asyncio.current_task()}
            assert not others

    with (
        vss.fault("latency", method=slow[0], path=slow[1], bucket=bucket_id, seconds=20) as slowed,
        nothing_left_behind(tmp_path),
    ):
        asyncio.run(scenario())


def test_failed_download_leaves_nothing_behind(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300), announced_only=[2])
    with nothing_left_behind(tmp_path):
        error_of(vss, "get_to_file", bucket_id, "k", str(tmp_path), max_retries=1)


# -- routers -----------------------------------------------------------------------------------------------------------------


async def test_dead_router_is_passed_over(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    async with AsyncClient(uri_of(free_port(), vss.port), "tests") as client:
        assert (await client.put("b", "k", DATA, chunk_size=100, max_tries=1)).unwrap() is True
        assert bytes((await client.get("b", "k", max_retries=1)).unwrap().data) == DATA


async def test_all_routers_dead_is_an_error_that_names_one() -> None:
    port = free_port()
    async with AsyncClient(uri_of(port), "tests", connect_patience=0) as client:
        error = (await client.get("b", "k", max_retries=2)).unwrap_err()
        assert isinstance(error, ConnectFailedError)
        assert f"127.0.0.1:{port}" in str(error)


async def test_unknown_host_is_a_dns_error() -> None:
    async with AsyncClient("mictlanx://r@no-such-host.invalid:1/?protocol=http", "tests", connect_patience=0) as client:
        assert isinstance((await client.get("b", "k", max_retries=1)).unwrap_err(), DNSResolutionError)


async def test_https_asked_of_http_is_an_error(vss: LocalVSS) -> None:
    """With https the port is left out, so this asks 443 of the machine, where nobody answers with TLS."""
    uri = f"mictlanx://r@127.0.0.1:{vss.port}/?protocol=https"
    async with AsyncClient(uri, "tests", connect_patience=0) as client:
        assert isinstance((await client.get("b", "k", max_retries=1)).unwrap_err(), NetworkError)


async def test_requests_go_to_the_router_with_the_fewest_in_flight(own_vss: Callable[..., LocalVSS]) -> None:
    """One router is slow: while it has a request in flight, the others go to the other one."""
    vss = own_vss(routers=2)
    RawRequests(vss).put("b", "k", [pattern(10, n) for n in range(20)])
    with vss.fault("latency", router="router-0", path="/b/k_", seconds=0.7):
        async with client_of(vss) as client:
            (await client.get("b", "k", max_paralell_gets=2, force=True)).unwrap()
    slow = len(vss.requests("GET", "/b/k_", server="router-0"))
    fast = len(vss.requests("GET", "/b/k_", server="router-1"))
    assert slow + fast == 20
    assert slow <= 4


async def test_check_routers_tells_each_router(own_vss: Callable[..., LocalVSS]) -> None:
    vss = own_vss()
    dead = free_port()
    with vss.fault("peer_down", peer="peer-1"):
        async with AsyncClient(uri_of(vss.port, dead), "tests") as client:
            alive, gone = (await client.check_routers()).unwrap()
            assert (alive.router_id, alive.url) == ("r0", f"http://127.0.0.1:{vss.port}")
            assert (alive.available, alive.unavailable) == (["peer-0", "peer-2"], ["peer-1"])
            assert alive.error is None
            assert alive.milliseconds > 0
            assert isinstance(gone.error, ConnectFailedError)
            assert (gone.available, gone.unavailable) == ([], [])


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
def test_faults_that_pass_are_tried_again(vss: LocalVSS, bucket_id: str, status: int) -> None:
    with vss.fault(
        "status", bucket=bucket_id, status=status, body="<html>busy</html>", content_type="text/html", count=3
    ):
        assert value_of(vss, "put", bucket_id, "k", DATA) is True


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "ValidationError"),
        (401, "AuthenticationError"),
        (403, "PermissionError"),
        (413, "ValidationError"),
        (422, "ValidationError"),
    ],
)
def test_refusals_are_not_tried_again(vss: LocalVSS, bucket_id: str, status: int, name: str) -> None:
    with vss.fault("status", bucket=bucket_id, status=status, body={"detail": "No."}) as refused:
        error = error_of(vss, "put", bucket_id, "k", DATA)
        assert refused.triggered == 1
    assert type(error).__name__ == name
    assert (error.permanent, error.transient, error.status_code) == (True, False, status)
    assert "No." in str(error)


# -- secrets -----------------------------------------------------------------------------------------------------------------


async def test_token_and_headers_are_sent_and_never_shown(vss: LocalVSS, bucket_id: str) -> None:
    with vss.fault("status", bucket=bucket_id, status=401):
        async with client_of(vss, token="s3cret-token", headers={"X-Key": "s3cret-header"}) as client:
            result = await client.put(bucket_id, "k", DATA)
            shown = [repr(client), str(result.unwrap_err()), repr(result.unwrap_err())]
            assert not any("s3cret" in text for text in shown)
            for attribute in vars(client).values():
                assert "s3cret" not in repr(attribute)
    (seen,) = vss.requests(path=bucket_id)
    assert seen["headers"]["authorization"] == "sha256:" + sha256(b"Bearer s3cret-token")
    assert seen["headers"]["x-key"] == "s3cret-header"


@pytest.mark.parametrize(
    "secret", [{"token": "s3cret\r\nx: y"}, {"headers": {"X-Key": "s3cret\n"}}, {"token": "s3cr\u00e9t"}]
)
def test_secret_that_no_header_can_hold_is_refused_and_not_shown(secret: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        AsyncClient(uri_of(1), "tests", **secret)
    assert "s3c" not in str(caught.value)


# -- memory ------------------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_file(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    """A file of 256 MiB goes up and down with less than 100 MiB of added memory."""
    source = tmp_path / "source"
    with source.open("wb") as file:
        block = pattern(1024 * 1024)
        for number in range(256):
            file.write(number.to_bytes(4, "big") + block[4:])
    program = """
        import asyncio, resource, sys
        from airflow_provider_mictlanx.client import AsyncClient

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

        async def main(uri, bucket_id, source, folder):
            async with AsyncClient(uri, "tests") as client:
                (await client.put(bucket_id, "small", b"x" * 1000)).unwrap()
                before = peak()
                (await client.put_file(bucket_id, "k", source, chunk_size="8MiB", max_concurrency=2)).unwrap()
                (await client.get_to_file(bucket_id, "k", folder, fullname="out", max_paralell_gets=4)).unwrap()
                sys.stdout.write(str(peak() - before))

        asyncio.run(main(*sys.argv[1:]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), vss.uri, bucket_id, str(source), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert int(done.stdout) < 100 * 1024 * 1024
    compared = subprocess.run(["cmp", str(source), str(tmp_path / "out" / "out")], check=False)
    assert compared.returncode == 0
    source.unlink()
    (tmp_path / "out" / "out").unlink()
    value_of(vss, "delete", "k", bucket_id)
