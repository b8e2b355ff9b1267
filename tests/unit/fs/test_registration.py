"""The filesystem is found by fsspec, universal_pathlib and Airflow, and needs Airflow only for a connection."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import fsspec
import pytest
from upath import UPath

from airflow_provider_mictlanx.fs import mictlanx
from airflow_provider_mictlanx.fs.filesystem import MictlanXFileSystem
from airflow_provider_mictlanx.fs.upath import MictlanXPath
from airflow_provider_mictlanx.get_provider_info import get_provider_info

URI = "mictlanx://router-0@127.0.0.1:1/?protocol=http"


def test_fsspec_finds_the_filesystem() -> None:
    assert fsspec.get_filesystem_class("mictlanx") is MictlanXFileSystem
    fs, path = fsspec.url_to_fs("mictlanx://my.conn@bucket/a b/ñ")
    assert (fs.conn_id, path) == ("my.conn", "bucket/a b/ñ")
    assert fsspec.url_to_fs("mictlanx://bucket/a", uri=URI)[0].uri == URI


def test_upath_finds_the_path() -> None:
    path = UPath("mictlanx://bucket/a/b.txt", uri=URI)
    assert isinstance(path, MictlanXPath)
    assert isinstance(path.fs, MictlanXFileSystem)
    assert (path.drive, path.name, path.path, str(path.parent)) == (
        "",
        "b.txt",
        "bucket/a/b.txt",
        "mictlanx://bucket/a",
    )


@pytest.mark.parametrize("group", ["fsspec.specs", "universal_pathlib.implementations", "airflow.plugins"])
def test_entry_points_can_be_loaded(group: str) -> None:
    (entry_point,) = (found for found in entry_points(group=group) if found.value.startswith("airflow_provider_mic"))
    assert entry_point.load()


def test_airflow_finds_the_module() -> None:
    (name,) = get_provider_info()["filesystems"]
    module = import_module(name)
    assert module.schemes == ["mictlanx"]
    assert module.get_fs is mictlanx.get_fs


@pytest.mark.parametrize("options", [None, {}, {"rf": 2}, {"made_up": object()}])
def test_get_fs_never_raises(options: Any) -> None:
    assert mictlanx.get_fs("no_such_connection", options).conn_id == "no_such_connection"
    assert mictlanx.get_fs(None, options).conn_id == "mictlanx_default"
    assert mictlanx.get_fs(None) is MictlanXFileSystem()


def test_a_filesystem_with_a_uri_imports_nothing_of_airflow() -> None:
    code = (
        f"import sys, fsspec; fs = fsspec.filesystem('mictlanx', uri={URI!r}); fs.ls(''); fs.mkdir('b'); "
        "print([m for m in sys.modules if m.split('.')[0] == 'airflow'])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_connection_is_read_at_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = MictlanXFileSystem(conn_id="made_later")
    with pytest.raises(OSError, match="made_later"):
        fs.ls("bucket")
    monkeypatch.setenv("AIRFLOW_CONN_MADE_LATER", '{"conn_type": "mictlanx", "host": "127.0.0.1", "port": 1}')
    with pytest.raises(OSError, match="protocol must be http or https"):
        fs.ls("bucket")


def test_twins_have_the_names_and_docstrings_of_fsspec() -> None:
    fs = MictlanXFileSystem(uri=URI)
    for name in ("ls", "info", "cat_file", "put", "get", "find", "glob", "walk", "rm", "touch", "rmdir", "pipe_file"):
        twin = getattr(fs, name)
        assert twin.__name__ == name or name == "walk"
        assert twin.__doc__ or name in ("rmdir", "pipe_file")
        assert twin.__func__.__module__.startswith(("airflow_provider_mictlanx", "fsspec"))
    with pytest.raises(RuntimeError, match="asynchronous=True allows coroutines only"):
        MictlanXFileSystem(uri=URI, asynchronous=True).ls("bucket")
