"""The traps of a filesystem over MictlanX, in Airflow and in fsspec, one test or more for each."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import hashlib
import itertools
import os
import pickle
import resource
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from airflow.providers.common.compat.sdk import Asset, ObjectStoragePath

from airflow_provider_mictlanx.assets.mictlanx import uri_of
from airflow_provider_mictlanx.fs import mictlanx
from airflow_provider_mictlanx.fs.chunk_cache import CHUNKS, ChunkCache
from airflow_provider_mictlanx.fs.files import KEPT_IN_MEMORY
from airflow_provider_mictlanx.fs.filesystem import MictlanXFileSystem
from tests.support.vss import LocalVSS

OwnVSS = Callable[..., LocalVSS]
Connect = Callable[..., None]


def failing(vss: LocalVSS) -> Any:
    """Let the routers of a VSS answer every request with an error."""
    return vss.fault("status", status=503)


@pytest.fixture
def impatient(own_vss: OwnVSS, no_retry_waits: None) -> tuple[LocalVSS, MictlanXFileSystem]:
    vss = own_vss()
    return vss, MictlanXFileSystem(uri=vss.uri)


def test_a_missing_connection_never_leads_to_another_one(
    vss: LocalVSS, connect: Connect, fs: MictlanXFileSystem, bucket_id: str
) -> None:
    connect(vss)  # the default connection, which must not be used
    fs.pipe(f"{bucket_id}/a", b"kept")
    assert mictlanx.get_fs("no_such_connection") is not None
    path = ObjectStoragePath(f"mictlanx://no_such_connection@{bucket_id}/a")
    for use in (path.exists, path.read_bytes, path.unlink, path.stat, path.is_file):
        with pytest.raises(OSError, match="no_such_connection"):
            use()
    assert fs.cat(f"{bucket_id}/a") == b"kept"


def test_an_airflow_path_uses_its_own_connection(
    own_vss: OwnVSS, vss: LocalVSS, connect: Connect, conn_id: str, fs: MictlanXFileSystem, bucket_id: str
) -> None:
    connect(own_vss())  # another storage space behind the default connection
    path = ObjectStoragePath(f"mictlanx://{conn_id}@{bucket_id}/a b/ñ.txt")
    path.write_text("here")
    assert path.exists()
    assert fs.cat(f"{bucket_id}/a b/ñ.txt") == b"here"
    assert [child.key for child in path.parent.iterdir()] == ["a b/ñ.txt"]
    path.unlink()
    assert not fs.exists(f"{bucket_id}/a b/ñ.txt")


def test_a_url_of_another_connection_is_refused(fs: MictlanXFileSystem, bucket_id: str) -> None:
    with pytest.raises(OSError, match="must name no connection, got 'other'"):
        fs.cat(f"mictlanx://other@{bucket_id}/a")


@pytest.mark.parametrize("options", [{"mictlanx_conn_id": "other"}, {"conn_id": "other", "uri": "mictlanx://r@h:1"}])
def test_another_storage_space_is_never_used_silently(
    vss: LocalVSS, connect: Connect, bucket_id: str, options: dict[str, Any]
) -> None:
    connect(vss)
    connect(vss, "other")
    fs = mictlanx.get_fs(None, options)
    for use in (fs.cat, fs.exists, fs.ls, fs.rm, fs.open):
        with pytest.raises(OSError, match="conn_id"):
            use(f"{bucket_id}/a")
    with pytest.raises(OSError, match="conn_id"):
        asyncio.run(MictlanXFileSystem(asynchronous=True, **options)._cat_file(f"{bucket_id}/a"))
    assert mictlanx.get_fs("other", {"anon": True}).find(bucket_id) == []


def test_after_a_fork_the_same_filesystem_works(fs: MictlanXFileSystem, bucket_id: str) -> None:
    fs.pipe(f"{bucket_id}/a", b"data")
    open_file = fs.open(f"{bucket_id}/a")
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            signal.alarm(60)
            right = fs.cat(f"{bucket_id}/a") == b"data" and open_file.read() == b"data"
            fs.pipe(f"{bucket_id}/b", b"child")
            os._exit(0 if right else 1)
        os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert fs.cat(f"{bucket_id}/b") == b"child"


def test_a_file_that_is_being_written_survives_a_fork(
    fs: MictlanXFileSystem, bucket_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = fs.open(f"{bucket_id}/a", "wb")
    file.write(bytes(KEPT_IN_MEMORY + 1))
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            file.close()
            os._exit(0)
        os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert not fs.exists(f"{bucket_id}/a")
    file.close()
    assert fs.size(f"{bucket_id}/a") == KEPT_IN_MEMORY + 1


def test_large_writes_go_through_a_temporary_file(
    fs: MictlanXFileSystem, bucket_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with fs.open(f"{bucket_id}/a", "wb") as file:
        for _ in range(9):
            file.write(bytes(1_000_000))
        assert [entry.stat().st_size for entry in tmp_path.iterdir()] != []
    assert list(tmp_path.iterdir()) == []
    assert fs.size(f"{bucket_id}/a") == 9_000_000


@pytest.mark.parametrize("size", [KEPT_IN_MEMORY - 1, 8_000_000, 16_000_000, 19_999_999])
def test_data_written_in_any_pieces_arrives(fs: MictlanXFileSystem, bucket_id: str, size: int) -> None:
    data = os.urandom(size)
    with fs.open(f"{bucket_id}/a", "wb") as file:
        at = 0
        for number in itertools.count(1):
            file.write(data[at : at + number * 70_001])
            at += number * 70_001
            if at >= size:
                break
    assert fs.cat(f"{bucket_id}/a") == data
    assert fs.info(f"{bucket_id}/a")["checksum"] == hashlib.sha256(data).hexdigest()


def test_data_may_be_written_out_of_order(fs: MictlanXFileSystem, bucket_id: str) -> None:
    with fs.open(f"{bucket_id}/a", "wb") as file:
        file.write(bytes(5_000_000))
        file.seek(1)
        file.write(b"header")
        file.seek(0, 2)
        file.write(bytes(5_000_000))
    assert fs.cat(f"{bucket_id}/a") == b"\0header" + bytes(9_999_993)


def test_a_full_folder_for_temporary_files_is_named(
    fs: MictlanXFileSystem, bucket_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = fs.open(f"{bucket_id}/a", "wb")
    resource.setrlimit(resource.RLIMIT_FSIZE, (KEPT_IN_MEMORY + 1_000_000, hard))
    try:
        with pytest.raises(OSError, match=rf"{tmp_path}.*nothing was stored.*TMPDIR"):
            file.write(bytes(9_000_000))
        with pytest.raises(OSError, match="nothing was stored"):
            file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    assert not fs.exists(f"{bucket_id}/a")


def test_wrong_chunk_size_fails_when_a_file_is_opened(vss: LocalVSS, bucket_id: str) -> None:
    fs = MictlanXFileSystem(uri=vss.uri, chunk_size="much")
    with pytest.raises(OSError, match="chunk_size must be"):
        fs.open(f"{bucket_id}/a", "wb")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("rf", value) for value in (0, -1, False, True, 1.0, "2", "")),
        *(("chunk_size", value) for value in (0, -1, False, True, "", b"256kb")),
        *(("listings_expiry_time", value) for value in (-1, False, True, "5", float("nan"))),
        *(("batch_size", value) for value in (0, -2, False, True, 1.0, "2")),
    ],
)
def test_wrong_number_fails_before_the_first_request(tmp_path: Path, name: str, wrong: Any) -> None:
    """It would fail late, with an error of Python, or stand for the default."""
    options = {"uri": "mictlanx://r@127.0.0.1:1/?protocol=http", name: wrong}  # nothing answers there
    fs = MictlanXFileSystem(**options)
    (tmp_path / "a").write_bytes(b"data")
    for use in (
        lambda: fs.pipe("b/a", b"data"),
        lambda: fs.put(str(tmp_path / "a"), "b/a"),
        lambda: fs.open("b/a", "wb"),
        lambda: fs.ls("b"),
        lambda: asyncio.run(MictlanXFileSystem(asynchronous=True, **options)._find("b")),
    ):
        with pytest.raises(OSError, match=rf"{name} must be .*, got {wrong!r}"):
            use()


@pytest.mark.parametrize("batch_size", [None, -1, 1])
def test_batch_sizes_of_fsspec_are_accepted(vss: LocalVSS, bucket_id: str, batch_size: int | None) -> None:
    fs = MictlanXFileSystem(uri=vss.uri, batch_size=batch_size)
    fs.pipe({f"{bucket_id}/a": b"a", f"{bucket_id}/b": b"b"})
    fs.mv(f"{bucket_id}/a", f"{bucket_id}/c")
    assert fs.find(bucket_id) == [f"{bucket_id}/b", f"{bucket_id}/c"]
    fs.rm(bucket_id, recursive=True)
    assert fs.find(bucket_id) == []


class InterruptedError_(Exception):
    """Raised to end the blocks of these tests."""


def open_of_fs(fs: MictlanXFileSystem, path: str, mode: str, compression: str | None) -> Any:
    return fs.open(path, mode, compression=compression)


def open_of_fsspec(fs: MictlanXFileSystem, path: str, mode: str, compression: str | None) -> Any:
    return fsspec.open(f"mictlanx://{path}", mode, uri=fs.uri, compression=compression)


@pytest.mark.parametrize("opened", [open_of_fs, open_of_fsspec])
@pytest.mark.parametrize("mode", ["wb", "w", "xb"])
@pytest.mark.parametrize("compression", [None, "gzip", "bz2", "xz", "zip"])
def test_an_exception_in_a_with_block_stores_nothing(
    fs: MictlanXFileSystem, bucket_id: str, opened: Callable[..., Any], mode: str, compression: str | None
) -> None:
    path = f"{bucket_id}/{uuid.uuid4().hex}"
    with pytest.raises(InterruptedError_), opened(fs, path, mode, compression) as file:  # noqa: PT012
        file.write("half" if mode == "w" else b"half")
        raise InterruptedError_
    del file
    gc.collect()
    assert not fs.exists(path)
    with opened(fs, path, mode, compression) as file:
        file.write("whole" if mode == "w" else b"whole")
    with fs.open(path, compression=compression) as file:
        assert file.read() == b"whole"


def test_a_file_written_while_an_exception_is_handled_is_stored(fs: MictlanXFileSystem, bucket_id: str) -> None:
    before, wrapped = fs.open(f"{bucket_id}/before", "wb"), fs.open(f"{bucket_id}/wrapped", "wb")
    try:
        raise InterruptedError_
    except InterruptedError_:
        before.write(b"1")
        before.close()
        with contextlib.closing(wrapped):
            wrapped.write(b"3")
        with fsspec.open(f"mictlanx://{bucket_id}/report", "wb", uri=fs.uri) as file:
            file.write(b"2")
    assert [fs.cat(f"{bucket_id}/{name}") for name in ("before", "report", "wrapped")] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("mode", ["wb", "w"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_file_that_is_never_closed_stores_nothing(
    fs: MictlanXFileSystem, bucket_id: str, mode: str, compression: str | None
) -> None:
    file = fs.open(f"{bucket_id}/a", mode, compression=compression)
    file.write("half" if mode == "w" else b"half")
    del file
    gc.collect()
    assert not fs.exists(f"{bucket_id}/a")


def test_an_upload_that_fails_at_close_raises_and_stores_nothing(
    impatient: tuple[LocalVSS, MictlanXFileSystem],
) -> None:
    vss, fs = impatient
    with failing(vss), pytest.raises(OSError, match="chunk b/a_0"), fs.open("b/a", "wb", compression="gzip") as file:
        file.write(b"data")
    assert not fs.exists("b/a")
    with fs.open("b/a", "wb", compression="gzip") as file:
        file.write(b"data")
    assert gzip.decompress(fs.cat("b/a")) == b"data"


@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz", "zip", "infer"])
def test_a_compressed_file_is_stored_when_it_is_closed(
    fs: MictlanXFileSystem, bucket_id: str, compression: str
) -> None:
    path = f"{bucket_id}/a.gz"
    with fs.open(path, "wb", compression=compression) as file:
        file.write(b"line 1\nline 2\n")
    assert fs.cat(path) != b"line 1\nline 2\n"
    with fs.open(path, "r", compression=compression) as file:
        assert file.read() == "line 1\nline 2\n"


def test_unanswered_questions_are_errors_and_not_no(impatient: tuple[LocalVSS, MictlanXFileSystem]) -> None:
    vss, fs = impatient
    fs.pipe("b/a", b"data")
    with failing(vss):
        for ask in (fs.isfile, fs.isdir, fs.exists, fs.info, fs.ls, fs.find, fs.cat, fs.open, fs.rm, fs.glob, fs.du):
            with pytest.raises(OSError, match="failed") as caught:
                ask("b/a")
            assert not isinstance(caught.value, FileNotFoundError)
        with pytest.raises(OSError, match="failed"):
            list(fs.walk("b"))
    with vss.fault("peer_down", peer="peer-1"):
        for ask in (fs.isfile, fs.exists):
            with pytest.raises(OSError, match=r"does not answer|unavailable|cannot be confirmed") as caught:
                ask("b/absent")
            assert not isinstance(caught.value, FileNotFoundError)
    assert (fs.isfile("b/a"), fs.isdir("b"), fs.exists("b/b"), fs.isdir("b/a")) == (True, True, False, False)


def test_errors_have_the_classes_of_a_filesystem(
    impatient: tuple[LocalVSS, MictlanXFileSystem], bucket_id: str
) -> None:
    vss, fs = impatient
    for read in (fs.cat, fs.info, fs.open, fs.ls, fs.rm, fs.size):
        with pytest.raises(FileNotFoundError):
            read("no.bucket/a")
        with pytest.raises(FileNotFoundError):
            read("b/absent")
    assert (fs.exists("no.bucket/a"), fs.isdir("no.bucket"), fs.glob("no.bucket/*")) == (False, False, [])
    with pytest.raises(OSError, match="bucket_id must be a safe id") as refused:
        fs.pipe("no.bucket/a", b"")
    assert not isinstance(refused.value, FileNotFoundError)
    with pytest.raises(IsADirectoryError):
        fs.pipe("bucket", b"")
    for status, kind in ((401, PermissionError), (403, PermissionError)):
        with vss.fault("status", status=status), pytest.raises(kind):
            fs.cat("b/a")
    with pytest.raises(FileNotFoundError):
        fs.put_file("/no/such/file", "b/a")


def test_a_slow_router_is_a_timeout(own_vss: OwnVSS, connect: Connect, no_retry_waits: None) -> None:
    vss = own_vss()
    connect(vss, "slow", timeout=0.2)
    fs = MictlanXFileSystem(conn_id="slow", skip_instance_cache=True)
    with vss.fault("latency", seconds=3), pytest.raises(TimeoutError, match="connection 'slow'"):
        fs.cat("b/a")


class Killed(Exception):
    """Raised by a signal handler."""


@pytest.mark.parametrize("way", ["pipe", "put", "close"])
def test_a_signal_in_the_caller_stops_the_upload(own_vss: OwnVSS, tmp_path: Path, way: str) -> None:
    vss = own_vss()
    fs = MictlanXFileSystem(uri=vss.uri, chunk_size=100_000)
    data = os.urandom(20_000_000)  # more chunks than are in flight
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data + b"b")

    def kill(*_: object) -> None:
        raise Killed

    def work() -> None:
        if way == "pipe":
            fs.pipe({"bucket/a": data, "bucket/b": data + b"b"})
        elif way == "put":
            fs.put(f"{tmp_path}/", "bucket/", recursive=True)
        else:
            with fs.open("bucket/a", "wb") as file:
                file.write(data)

    before = signal.signal(signal.SIGUSR1, kill)
    killer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        with vss.fault("latency", seconds=0.8, method="POST", path="chunked"):
            killer.start()
            with pytest.raises(Killed):
                work()
            sent = -1
            while sent < (sent := len(vss.requests("POST", "chunked"))):  # requests under way end
                time.sleep(2)
            assert sent < len(data) // 100_000
    finally:
        killer.cancel()
        signal.signal(signal.SIGUSR1, before)
    assert fs.find("bucket") == []


async def test_a_cancelled_coroutine_stops_its_tasks(own_vss: OwnVSS) -> None:
    vss = own_vss()
    fs = MictlanXFileSystem(uri=vss.uri, chunk_size=100_000, asynchronous=True, skip_instance_cache=True)
    data = os.urandom(20_000_000)
    with vss.fault("latency", seconds=0.8, method="POST", path="chunked"):
        work = asyncio.create_task(fs._pipe({"bucket/a": data, "bucket/b": data + b"b"}))
        await asyncio.sleep(0.8)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        sent = -1
        while sent < (sent := len(vss.requests("POST", "chunked"))):  # requests under way end
            await asyncio.sleep(2)
        assert sent < len(data) // 100_000
    assert await fs._find("bucket") == []
    await fs.aclose()


def test_exclusive_writes_look_first(fs: MictlanXFileSystem, bucket_id: str) -> None:
    path = f"{bucket_id}/a"
    fs.pipe_file(path, b"same", mode="create")
    with pytest.raises(FileExistsError):
        fs.open(path, "xb")
    with pytest.raises(FileExistsError):
        fs.pipe_file(path, b"same", mode="create")
    with fs.open(f"{bucket_id}/b", "xb") as file:
        file.write(b"1")
        fs.pipe_file(f"{bucket_id}/b", b"2")  # another writer is faster
        with pytest.raises(FileExistsError):
            file.close()
    assert fs.cat(f"{bucket_id}/b") == b"2"
    with pytest.raises(ValueError, match="mode must be"):
        fs.pipe_file(path, b"", mode="append")


FOLDERS = 200


@pytest.fixture
def many_folders(own_vss: OwnVSS) -> tuple[LocalVSS, MictlanXFileSystem]:
    vss = own_vss(peers=1)
    fs = MictlanXFileSystem(uri=vss.uri)
    fs.pipe({f"b/{folder}/sub/x.txt": b"x" for folder in range(FOLDERS)})
    return vss, fs


def test_a_glob_over_many_folders_is_one_listing(many_folders: tuple[LocalVSS, MictlanXFileSystem]) -> None:
    vss, fs = many_folders

    def listings(call: Callable[[], Any], expected: int) -> None:
        vss.reset_requests()
        assert len(call()) == expected
        assert len(vss.requests("GET", "buckets/b/metadata$")) == 1

    listings(lambda: fs.glob("b/**"), 3 * FOLDERS + 1)
    listings(lambda: fs.glob("b/**/*.txt"), FOLDERS)
    listings(lambda: fs.find("b"), FOLDERS)
    listings(lambda: list(fs.walk("b")), 2 * FOLDERS + 1)
    listings(lambda: fs.du("b", total=False), FOLDERS)
    listings(lambda: fs.expand_path("b", recursive=True), 3 * FOLDERS + 1)
    listings(lambda: fs.ls("b"), FOLDERS)


def test_listings_are_fresh_unless_a_time_is_given(vss: LocalVSS, fs: MictlanXFileSystem, bucket_id: str) -> None:
    keeping = MictlanXFileSystem(uri=vss.uri, listings_expiry_time=60)
    fs.pipe(f"{bucket_id}/a", b"")
    assert fs.ls(bucket_id, detail=False) == keeping.ls(bucket_id, detail=False) == [f"{bucket_id}/a"]
    fs.pipe(f"{bucket_id}/b", b"")
    assert len(fs.ls(bucket_id)) == 2
    assert len(keeping.ls(bucket_id)) == 1
    assert len(keeping.ls(bucket_id, refresh=True)) == 2
    keeping.pipe(f"{bucket_id}/c", b"")  # its own writes are seen at once
    assert len(keeping.ls(bucket_id)) == 3
    briefly = MictlanXFileSystem(uri=vss.uri, listings_expiry_time=0.2)
    assert len(briefly.ls(bucket_id)) == 3
    fs.pipe(f"{bucket_id}/d", b"")
    time.sleep(0.3)
    assert len(briefly.ls(bucket_id)) == 4


def test_chunks_are_read_once_by_all_files_and_threads(own_vss: OwnVSS) -> None:
    vss = own_vss()
    data = os.urandom(1_000_000)
    MictlanXFileSystem(uri=vss.uri, chunk_size=100_000).pipe("b/a", data)
    vss.reset_requests()
    results: list[bytes] = []
    filesystems = [MictlanXFileSystem(uri=vss.uri, skip_instance_cache=True) for _ in range(4)]
    with vss.fault("latency", seconds=0.1, path="/b/a_"):
        threads = [threading.Thread(target=lambda fs=fs: results.append(fs.open("b/a").read())) for fs in filesystems]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [data] * 4
    assert filesystems[0].open("b/a").read() == data  # from the cache
    assert len(vss.requests("GET", r"buckets/b/a_\d+$")) == 10


async def test_the_chunk_cache_is_bounded_and_survives_a_failed_reader() -> None:
    cache = ChunkCache(capacity=100)

    async def read(size: int) -> memoryview:
        return memoryview(bytes(size))

    for name in "abc":
        await cache.get(name, lambda: read(40))
    assert list(cache._kept) == ["b", "c"]
    await cache.get("large", lambda: read(101))
    assert list(cache._kept) == ["b", "c"]

    started = asyncio.Event()

    async def hang() -> memoryview:
        started.set()
        await asyncio.sleep(60)
        raise AssertionError

    first = asyncio.create_task(cache.get("d", hang))
    await started.wait()
    second = asyncio.create_task(cache.get("d", lambda: read(3)))
    await asyncio.sleep(0)
    first.cancel()
    assert len(await second) == 3


def test_an_open_file_reads_one_version(own_vss: OwnVSS, no_retry_waits: None) -> None:
    vss = own_vss()
    fs = MictlanXFileSystem(uri=vss.uri, chunk_size=1000)
    old, new = os.urandom(5000), os.urandom(5000)
    fs.pipe("b/a", old)
    with fs.open("b/a") as file:
        assert file.read(1500) == old[:1500]
        pickled = pickle.dumps(file)
        fs.pipe("b/a", new)
        with pytest.raises(OSError, match=r"reading chunk|b/a"):
            file.read()
    with pytest.raises(OSError, match="replaced since this file was opened"):
        pickle.loads(pickled)
    assert fs.open("b/a").read() == new


def test_wrong_bytes_are_an_error_and_are_not_kept(own_vss: OwnVSS, no_retry_waits: None) -> None:
    vss = own_vss(peers=1)
    fs = MictlanXFileSystem(uri=vss.uri)
    fs.pipe("b/a", os.urandom(1000))
    vss.restart()  # the router has kept the bytes
    with vss.fault("flip_bit"), pytest.raises(OSError, match="SHA-256"):
        fs.open("b/a").read()
    assert fs.checksum("b/a") == int(fs.info("b/a")["checksum"], 16)
    assert fs.info("b/a")["checksum"] not in CHUNKS._kept
    assert len(fs.open("b/a").read()) == 1000


def test_made_directories_are_remembered_until_they_are_removed(
    vss: LocalVSS, fs: MictlanXFileSystem, bucket_id: str
) -> None:
    fs.mkdir(f"{bucket_id}/a/b")
    other = MictlanXFileSystem(uri=vss.uri, skip_instance_cache=True)
    assert other.isdir(f"{bucket_id}/a/b")
    assert other.ls(f"{bucket_id}/a", detail=False) == [f"{bucket_id}/a/b"]
    fs.cp(f"{bucket_id}/a/b", f"{bucket_id}/c", recursive=True)
    assert fs.isdir(f"{bucket_id}/c")
    with pytest.raises(FileExistsError):
        fs.makedirs(f"{bucket_id}/c")
    fs.makedirs(f"{bucket_id}/c", exist_ok=True)
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir(f"{bucket_id}/a")
    with pytest.raises(IsADirectoryError):
        fs.rm(f"{bucket_id}/a")
    fs.rm(f"{bucket_id}/a", recursive=True)
    fs.rmdir(f"{bucket_id}/c")
    assert not fs.exists(f"{bucket_id}/a/b")
    assert not fs.exists(f"{bucket_id}/c")


def test_buckets_cannot_be_listed(fs: MictlanXFileSystem, bucket_id: str) -> None:
    fs.pipe(f"{bucket_id}/a", b"")
    assert (fs.ls(""), fs.find(""), fs.glob("*"), list(fs.walk("mictlanx://"))) == ([], [], [], [("", [], [])])
    assert fs.isdir("")


@pytest.mark.parametrize("key", ["a b/ñ", "100%", "a+b/c", "x.csv", "%20"])
def test_an_asset_of_a_path_is_the_asset_of_the_object(key: str) -> None:
    if not key.isascii() and ObjectStoragePath.__module__ == "airflow.io.path":
        pytest.skip("Airflow 2 refuses such URIs before they reach the provider")
    path = ObjectStoragePath(f"mictlanx://conn@bucket/{key}")
    if key != "%20":  # read as an encoded space
        assert Asset(uri=str(path)).uri == uri_of("bucket", key)
    assert Asset(uri=uri_of("bucket", key)).uri == uri_of("bucket", key)


def test_appending_is_not_implemented(fs: MictlanXFileSystem, bucket_id: str) -> None:
    for mode in ("ab", "a", "r+b"):
        with pytest.raises(NotImplementedError, match="mode must be"):
            fs.open(f"{bucket_id}/a", mode)
    with pytest.raises(NotImplementedError):
        fs.sign(f"{bucket_id}/a")
