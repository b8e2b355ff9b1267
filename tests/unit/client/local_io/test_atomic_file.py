"""Files that appear whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_mictlanx.client.concurrency import Threads
from airflow_provider_mictlanx.client.errors import FileAlreadyExists, UnknownError, ValidationError
from airflow_provider_mictlanx.client.local_io.atomic_file import (
    OpenFolder,
    PartFile,
    check_file_name,
    disk_errors,
    has_content,
)


@contextlib.contextmanager
def making(folder: Path, name: str = "name") -> Iterator[PartFile]:
    with OpenFolder(folder) as place, place.make(name) as file:
        yield file


def test_file_appears_under_its_name_only_when_told(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with making(folder) as file:
        os.write(file.descriptor, b"data")
        assert not (folder / "name").exists()
        assert len(list(folder.iterdir())) == 1
        assert file.publish(replace=False) == folder / "name"
    assert [path.name for path in folder.iterdir()] == ["name"]
    assert (folder / "name").read_bytes() == b"data"


def test_nothing_is_left_of_what_did_not_appear(tmp_path: Path) -> None:
    with contextlib.suppress(KeyError), making(tmp_path) as file:
        os.write(file.descriptor, b"data")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file.descriptor)


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"mine")
    with making(tmp_path) as file:
        os.write(file.descriptor, b"data")
        with pytest.raises(FileAlreadyExists, match="name"):
            file.publish(replace=False)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"mine"]


def test_another_file_is_replaced_when_told(tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"mine")
    with making(tmp_path) as file:
        os.write(file.descriptor, b"data")
        file.publish(replace=True)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"data"]


@pytest.mark.parametrize("dangling", [True, False])
def test_symbolic_link_is_not_written_through(tmp_path: Path, dangling: bool) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    folder.mkdir()
    if not dangling:
        outside.write_bytes(b"mine")
    (folder / "name").symlink_to(outside)
    with making(folder) as file:
        with pytest.raises(FileAlreadyExists):
            file.publish(replace=False)
        file.publish(replace=True)
    assert not (folder / "name").is_symlink()
    assert not dangling or not outside.exists()
    assert dangling or outside.read_bytes() == b"mine"


def test_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    with making(tmp_path) as file:
        for replace in (True, False):
            with pytest.raises(FileAlreadyExists):
                file.publish(replace=replace)
    assert (tmp_path / "name").is_dir()


def test_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    with making(tmp_path) as file:
        os.write(file.descriptor, b"data")
        file.publish(replace=False)
    assert (tmp_path / "name").read_bytes() == b"data"
    with making(tmp_path) as file, pytest.raises(FileAlreadyExists):
        file.publish(replace=False)
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_file_has_the_rights_of_a_new_file(tmp_path: Path) -> None:
    with making(tmp_path) as file:
        file.publish(replace=False)
    (tmp_path / "other").touch()
    assert (tmp_path / "name").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("where", ["file", "file/below", "link"])
def test_what_is_no_folder_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(ValidationError, match="output_path"), OpenFolder(tmp_path / where):
        pass


def test_folder_that_can_not_be_written_to_is_refused() -> None:
    with pytest.raises(ValidationError, match="/proc/here"), OpenFolder("/proc/here"):
        pass


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\\b", "a\0", "x" * 256, "ü" * 128, None, 3])
def test_names_that_are_no_plain_names(name: object) -> None:
    with pytest.raises(ValidationError):
        check_file_name(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a", ".a", "a b", "...", "ü" * 127, "x" * 255])
def test_plain_names(name: str) -> None:
    assert check_file_name(name) == name


def test_content_is_compared(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"data")
    link.symlink_to(path)
    os.mkfifo(tmp_path / "fifo")

    async def same(path: Path, data: bytes) -> bool:
        return await has_content(path, len(data), hashlib.sha256(data).hexdigest(), Threads(1))

    assert asyncio.run(same(path, b"data"))
    assert not asyncio.run(same(path, b"date"))
    assert not asyncio.run(same(path, b"data+"))
    assert not asyncio.run(same(link, b"data"))
    assert not asyncio.run(same(tmp_path / "none", b""))
    assert not asyncio.run(same(tmp_path / "fifo", b""))
    assert not asyncio.run(same(tmp_path, b""))


def test_disk_errors_say_what_was_being_done() -> None:
    with (
        pytest.raises(UnknownError, match="writing b/k to /out failed: No space left") as caught,
        disk_errors("writing b/k to /out"),
    ):
        raise OSError(28, "No space left on device")
    assert not caught.value.transient
    with pytest.raises(UnknownError, match="failed: /out/b: No space left"), disk_errors("writing b/k to /out"):
        raise OSError(28, "No space left on device", "/out/b")
    with pytest.raises(TimeoutError), disk_errors("writing b/k to /out"):
        raise TimeoutError("of the caller's HTTP client")
