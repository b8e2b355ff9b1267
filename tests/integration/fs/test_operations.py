"""Operations that fsspec's own suite does not test: transactions, callbacks, walks, ranges, pickling and coroutines."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fsspec.callbacks import Callback
from upath import UPath

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.fs.filesystem import MictlanXFileSystem
from tests.support.raw_requests import RawRequests
from tests.support.vss import LocalVSS


def test_a_transaction_stores_all_or_nothing(fs: MictlanXFileSystem, bucket_id: str) -> None:
    with pytest.raises(RuntimeError, match="stop"), fs.transaction:  # noqa: PT012
        with fs.open(f"{bucket_id}/a", "wb") as file:
            file.write(b"a")
        raise RuntimeError("stop")
    assert fs.find(bucket_id) == []
    with fs.transaction:
        with fs.open(f"{bucket_id}/a", "wb") as file:
            file.write(b"a")
        with fs.open(f"{bucket_id}/b.gz", "w", compression="infer") as text:
            text.write("b")
        assert fs.find(bucket_id) == []
    assert fs.cat(f"{bucket_id}/a") == b"a"
    with fs.open(f"{bucket_id}/b.gz", "r", compression="infer") as text:
        assert text.read() == "b"


@pytest.mark.parametrize("value", [5, [1, 2], "text"])
def test_only_bytes_are_piped(fs: MictlanXFileSystem, bucket_id: str, value: Any) -> None:
    with pytest.raises(TypeError):
        fs.pipe(f"{bucket_id}/a", value)
    assert fs.find(bucket_id) == []


@pytest.mark.parametrize("how", [{"mode": "w"}, {"mode": "wb", "compression": "gzip"}, {"mode": "wb"}])
def test_a_file_left_open_in_a_transaction_is_an_error(
    fs: MictlanXFileSystem, bucket_id: str, how: dict[str, str]
) -> None:
    """A text file or a compressor still has bytes that the file under it does not know."""
    file = None
    with pytest.raises(OSError, match="must be closed before its transaction ends"), fs.transaction:  # noqa: PT012
        file = fs.open(f"{bucket_id}/a", **how)
        file.write("a" if how["mode"] == "w" else b"a")
    file.close()
    assert not fs.exists(f"{bucket_id}/a")


def test_a_file_in_a_folder_is_named_after_its_key(
    fs: MictlanXFileSystem, vss: LocalVSS, bucket_id: str, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("kept")
    RawRequests(vss).put(bucket_id, "a", [b"theirs"], tags={"fullname": "mine"})
    fs.get_file(f"{bucket_id}/a", f"{tmp_path}/")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"mine": "kept", "a": "theirs"}


def test_callbacks_are_told_sizes(fs: MictlanXFileSystem, bucket_id: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1000))
    for call in (
        lambda callback: fs.put_file(str(tmp_path / "a"), f"{bucket_id}/a", callback=callback),
        lambda callback: fs.get_file(f"{bucket_id}/a", str(tmp_path / "b"), callback=callback),
    ):
        callback = Callback()
        call(callback)
        assert (callback.size, callback.value) == (1000, 1000)
    many = Callback()
    fs.put([str(tmp_path / "a"), str(tmp_path / "b")], [f"{bucket_id}/1", f"{bucket_id}/2"], callback=many)
    assert (many.size, many.value) == (2, 2)


def test_a_walk_can_be_pruned(fs: MictlanXFileSystem, bucket_id: str) -> None:
    fs.pipe({f"{bucket_id}/{name}": b"" for name in ("a", "skip/b", "keep/c", "keep/deep/d")})
    seen = []
    for folder, dirs, files in fs.walk(bucket_id):
        if "skip" in dirs:
            dirs.remove("skip")
        seen.append((folder.removeprefix(bucket_id), dirs, files))
    assert seen == [("", ["keep"], ["a"]), ("/keep", ["deep"], ["c"]), ("/keep/deep", [], ["d"])]
    assert [folder for folder, *_ in fs.walk(bucket_id, topdown=False)][-1] == bucket_id
    assert [len(files) for _, _, files in fs.walk(bucket_id, maxdepth=1)] == [1]
    details = next(iter(fs.walk(bucket_id, detail=True)))
    assert (details[2]["a"]["size"], details[1]["keep"]["type"]) == (0, "directory")
    assert list(fs.walk(f"{bucket_id}/none")) == [(f"{bucket_id}/none", [], [])]
    with pytest.raises(FileNotFoundError):
        list(fs.walk(f"{bucket_id}/none", on_error="raise"))


@pytest.mark.parametrize("chunk_size", [7, 100, 1000])
def test_ranges_are_those_of_a_slice(vss: LocalVSS, bucket_id: str, chunk_size: int) -> None:
    fs = MictlanXFileSystem(uri=vss.uri, chunk_size=chunk_size)
    data = os.urandom(200)
    fs.pipe(f"{bucket_id}/a", data)
    for start, end in ((0, 10), (5, 8), (-10, None), (None, 3), (190, 500), (50, 50), (60, 40), (-5, -2), (None, None)):
        assert fs.cat_file(f"{bucket_id}/a", start, end) == data[start:end]
    assert fs.cat_ranges([f"{bucket_id}/a"] * 2, [1, 3], [4, 9]) == [data[1:4], data[3:9]]
    assert (fs.head(f"{bucket_id}/a", 9), fs.tail(f"{bucket_id}/a", 9)) == (data[:9], data[-9:])
    assert fs.read_block(f"{bucket_id}/a", 13, 20) == data[13:33]
    with fs.open(f"{bucket_id}/a") as file:
        file.seek(-20, 2)
        assert file.read(5) == data[180:185]
        file.seek(3)
        assert file.read() == data[3:]
        assert file.read() == b""


def test_lines_are_read_from_binary_and_text_files(vss: LocalVSS, bucket_id: str) -> None:
    fs = MictlanXFileSystem(uri=vss.uri, chunk_size=1000)
    lines = [f"line {number} ñ\n" for number in range(500)]
    with fs.open(f"{bucket_id}/a", "w", encoding="utf-8", newline="") as file:
        file.writelines(lines)
    with fs.open(f"{bucket_id}/a", "r", encoding="utf-8") as file:
        assert list(file) == lines
    with fs.open(f"{bucket_id}/a") as file:
        assert [line.decode() for line in file] == lines
    with fs.open(f"{bucket_id}/a") as file:
        assert file.readline(4) == b"line"
        assert file.readline() == " 0 ñ\n".encode()


def test_properties_of_a_file(fs: MictlanXFileSystem, bucket_id: str) -> None:
    path = f"{bucket_id}/a"
    fs.pipe(path, b"1")
    first, mark = fs.checksum(path), fs.ukey(path)
    now = datetime.now(UTC)
    assert now - timedelta(minutes=10) < fs.created(path) <= fs.modified(path) < now + timedelta(minutes=10)
    fs.pipe(path, b"2")
    assert (fs.checksum(path) != first, fs.ukey(path) != mark) == (True, True)
    assert fs.info(path)["size"] == fs.size(path) == 1
    fs.touch(path)
    assert fs.size(path) == 0
    with pytest.raises(NotImplementedError):
        fs.touch(path, truncate=False)
    fs.touch(f"{bucket_id}/b", truncate=False)
    assert fs.du(bucket_id) == 0


def test_moving_a_file_onto_itself_keeps_it(fs: MictlanXFileSystem, bucket_id: str) -> None:
    fs.pipe(f"{bucket_id}/a", b"1")
    fs.mv(f"{bucket_id}/a", f"mictlanx://{bucket_id}/a")
    fs.cp(f"{bucket_id}/a", f"{bucket_id}/a")
    assert fs.cat(f"{bucket_id}/a") == b"1"


@pytest.mark.parametrize(
    ("originals", "target", "left"),
    [
        ("d/a", "d/", ["d/a", "d/b"]),
        ("d/*", "d", ["d/a", "d/b"]),
        ("d", "", ["d/a", "d/b"]),
        ("d", "d/sub", ["d/sub/a", "d/sub/b"]),
        ("d", "e", ["e/a", "e/b"]),
    ],
)
def test_moving_deletes_no_copy(
    fs: MictlanXFileSystem, bucket_id: str, originals: str, target: str, left: list[str]
) -> None:
    fs.pipe({f"{bucket_id}/d/{name}": name.encode() for name in "ab"})
    fs.mv(f"{bucket_id}/{originals}", f"{bucket_id}/{target}", recursive=True)
    assert fs.cat(bucket_id, recursive=True) == {f"{bucket_id}/{name}": name[-1].encode() for name in left}


@pytest.mark.parametrize(
    ("method", "targets"),
    [
        ("mv", "dest/"),
        ("mv", ["dest", "dest"]),
        ("mv", ["y/a", "x/a"]),
        ("mv", ["x/a", "x/a"]),
        ("cp", "dest/"),
        ("cp", ["dest", "dest"]),
        ("cp", ["y/a", "x/a"]),
        ("cp", ["x/a", "x/a"]),
    ],
)
def test_files_with_one_new_path_change_nothing(
    fs: MictlanXFileSystem, bucket_id: str, method: str, targets: str | list[str]
) -> None:
    data = {f"{bucket_id}/x/a": b"1", f"{bucket_id}/y/a": b"2"}
    fs.pipe(data)
    there = f"{bucket_id}/{targets}" if isinstance(targets, str) else [f"{bucket_id}/{name}" for name in targets]
    with pytest.raises(OSError, match="nothing was changed"):
        getattr(fs, method)(list(data), there)
    assert fs.cat(bucket_id, recursive=True) == data


def test_copying_into_an_empty_folder_of_the_folder_works(fs: MictlanXFileSystem, bucket_id: str) -> None:
    fs.pipe(f"{bucket_id}/d/a", b"1")
    fs.mkdir(f"{bucket_id}/d/sub")
    fs.cp(f"{bucket_id}/d/", f"{bucket_id}/d/sub/", recursive=True)
    assert fs.find(bucket_id) == [f"{bucket_id}/d/a", f"{bucket_id}/d/sub/a"]


def test_moving_one_file_onto_itself_keeps_it(fs: MictlanXFileSystem, bucket_id: str) -> None:
    fs.pipe(f"{bucket_id}/a", b"1")
    fs.mv_file(f"{bucket_id}/a", f"{bucket_id}/a")
    assert fs.cat(f"{bucket_id}/a") == b"1"


def test_a_key_that_ends_with_a_slash_is_a_directory(vss: LocalVSS, fs: MictlanXFileSystem, bucket_id: str) -> None:
    async def put() -> None:
        async with AsyncClient(vss.uri, "test", debug=False) as client:
            unwrap(await client.put(bucket_id, "folder/", b"marker"))

    async def get(key: str) -> bytes:
        async with AsyncClient(vss.uri, "test", debug=False) as client:
            return unwrap(await client.get(bucket_id, key)).data.tobytes()

    asyncio.run(put())
    assert fs.isdir(f"{bucket_id}/folder")
    fs.pipe(f"{bucket_id}/folder/a", b"")
    fs.cp(f"{bucket_id}/folder", f"{bucket_id}/copy", recursive=True)
    fs.mv(f"{bucket_id}/folder", f"{bucket_id}/moved", recursive=True, batch_size=1)
    assert not fs.exists(f"{bucket_id}/folder")
    assert asyncio.run(get("moved/")) == asyncio.run(get("copy/")) == b"marker"
    fs.rm(f"{bucket_id}/moved", recursive=True)
    assert not fs.exists(f"{bucket_id}/moved")


def test_a_key_does_not_lead_out_of_the_folder(fs: MictlanXFileSystem, bucket_id: str, tmp_path: Path) -> None:
    """Older releases of fsspec call ``get_file`` so for ``get(…, recursive=True)``."""
    fs.pipe(f"{bucket_id}/d/../../evil", b"1")
    with pytest.raises(OSError, match="lead out of the folder"):
        fs.get_file(f"{bucket_id}/d/../../evil", f"{tmp_path}/one/two/../../evil")
    assert list(tmp_path.iterdir()) == []
    fs.get_file(f"{bucket_id}/d/../../evil", f"{tmp_path}/good")
    assert (tmp_path / "good").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["*", "a[1]", "a?", "d[1]/x"])
def test_a_path_that_exists_is_no_glob(vss: LocalVSS, fs: MictlanXFileSystem, bucket_id: str, name: str) -> None:
    data = {f"{bucket_id}/{key}": key.encode() for key in ("*", "a[1]", "a?", "a1", "d[1]/x", "d1/x")}
    fs.pipe(data)
    UPath(f"mictlanx://{bucket_id}/{name}", uri=vss.uri).unlink()
    del data[f"{bucket_id}/{name}"]
    assert fs.cat(bucket_id, recursive=True) == data


def test_a_directory_that_exists_is_no_glob(fs: MictlanXFileSystem, bucket_id: str) -> None:
    fs.pipe({f"{bucket_id}/{key}": key.encode() for key in ("d[1]/x/y", "d1/x/y")})
    fs.rm(f"{bucket_id}/d[1]", recursive=True)
    assert fs.find(bucket_id) == [f"{bucket_id}/d1/x/y"]
    fs.rm(f"{bucket_id}/d[1]", recursive=True)
    assert fs.find(bucket_id) == []


def test_a_file_and_a_folder_may_have_one_name(fs: MictlanXFileSystem, bucket_id: str) -> None:
    fs.pipe({f"{bucket_id}/a": b"1", f"{bucket_id}/a/b": b"2"})
    assert fs.find(f"{bucket_id}/a") == [f"{bucket_id}/a", f"{bucket_id}/a/b"]
    assert (fs.isfile(f"{bucket_id}/a"), fs.isdir(f"{bucket_id}/a")) == (True, True)
    fs.rm(f"{bucket_id}/a")
    assert fs.find(bucket_id) == [f"{bucket_id}/a/b"]


def test_pickled_filesystems_and_files_work(fs: MictlanXFileSystem, bucket_id: str) -> None:
    fs.pipe(f"{bucket_id}/a", b"12345")
    assert pickle.loads(pickle.dumps(fs)).cat(f"{bucket_id}/a") == b"12345"
    with fs.open(f"{bucket_id}/a") as file:
        file.read(2)
        assert pickle.loads(pickle.dumps(file)).read() == b"345"
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(fs.open(f"{bucket_id}/b", "wb"))


def test_threads_share_a_filesystem(fs: MictlanXFileSystem, bucket_id: str) -> None:
    def work(number: int) -> None:
        fs.pipe(f"{bucket_id}/{number}", str(number).encode())
        read.append(fs.cat(f"{bucket_id}/{number}") == str(number).encode())

    read: list[bool] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [True] * 8


async def test_coroutines_do_the_same(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    fs = MictlanXFileSystem(uri=vss.uri, asynchronous=True, chunk_size=1000)
    data = os.urandom(5500)
    async with await fs.open_async(f"{bucket_id}/a", "wb") as file:
        await file.write(data[:3000])
        await file.write(data[3000:])
    with pytest.raises(RuntimeError, match="stop"):  # noqa: PT012
        async with await fs.open_async(f"{bucket_id}/b", "wb") as file:
            await file.write(data)
            raise RuntimeError("stop")
    with pytest.raises(FileExistsError):
        await fs.open_async(f"{bucket_id}/a", "xb")
    async with await fs.open_async(f"{bucket_id}/a") as file:
        assert await file.read(1500) == data[:1500]
        assert await file.read() == data[1500:]
    await fs._get_file(f"{bucket_id}/a", str(tmp_path / "a"))
    await fs._put_file(str(tmp_path / "a"), f"{bucket_id}/c/d")
    assert (tmp_path / "a").read_bytes() == data
    assert await fs._find(bucket_id) == [f"{bucket_id}/a", f"{bucket_id}/c/d"]
    assert [step async for step in fs._walk(bucket_id)] == [
        (bucket_id, ["c"], ["a"]),
        (f"{bucket_id}/c", [], ["d"]),
    ]
    await fs._rm(bucket_id, recursive=True)
    assert not await fs._exists(f"{bucket_id}/a")
    await fs.aclose()


def test_cat_recursive_reads_files_only(fs: MictlanXFileSystem, bucket_id: str) -> None:
    fs.pipe({f"{bucket_id}/a/1": b"1", f"{bucket_id}/a/b/2": b"2"})
    fs.mkdir(f"{bucket_id}/empty")
    assert fs.cat(f"{bucket_id}/a", recursive=True) == {f"{bucket_id}/a/1": b"1", f"{bucket_id}/a/b/2": b"2"}
    assert fs.cat(f"{bucket_id}/empty", recursive=True) == {}
    with pytest.raises(FileNotFoundError):
        fs.cat(f"{bucket_id}/none", recursive=True)


def test_directory_has_no_time(fs: MictlanXFileSystem, bucket_id: str) -> None:
    fs.pipe(f"{bucket_id}/a/1", b"1")
    for time_of in (fs.created, fs.modified):
        with pytest.raises(IsADirectoryError):
            time_of(f"{bucket_id}/a")


def test_missing_file_copied_onto_itself_is_missing(fs: MictlanXFileSystem, bucket_id: str) -> None:
    with pytest.raises(FileNotFoundError):
        fs.cp_file(f"{bucket_id}/a", f"{bucket_id}/a")


def test_token_can_be_left_out_of_the_json() -> None:
    fs = MictlanXFileSystem(uri="mictlanx://router-0@localhost:1/?protocol=http", token="s3cret")
    assert "s3cret" not in fs.to_json(include_password=False) + repr(fs) + fs.fsid
    assert "s3cret" in fs.to_json()


def test_url_with_a_connection_is_refused_without_one(fs: MictlanXFileSystem, bucket_id: str) -> None:
    with pytest.raises(OSError, match="must name no connection, got 'other'"):
        fs.cp(f"{bucket_id}/a", f"mictlanx://other@{bucket_id}/b")
