"""What is found in files, folders, globs, lists and other stores: with which keys, and what is refused."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mictlanx.bulks.sources import SourceBall, leads_to, list_items, list_sources, matches
from airflow_provider_mictlanx.client.errors import MictlanXError, UnknownError, ValidationError


def keys(*sources: Any, **told: Any) -> list[str]:
    return [ball.key for ball in list_sources(list(sources), "frames", **told)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.txt", ".hidden.jpg", "sub/c.jpg", "sub/deep/d.jpg", "sub/.dot/e.jpg", "leer"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "leer" else name.encode())
    return tmp_path / "tree"


def test_folder_gives_everything(tree: Path) -> None:
    everything = [".hidden.jpg", "a.jpg", "b.txt", "leer", "sub/.dot/e.jpg", "sub/c.jpg", "sub/deep/d.jpg"]
    assert keys(tree) == keys(str(tree) + "/") == everything


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg"]),
        ("**/*.jpg", ["a.jpg", "sub/c.jpg", "sub/deep/d.jpg"]),
        ("**", ["a.jpg", "b.txt", "leer", "sub/c.jpg", "sub/deep/d.jpg"]),
        ("**/**/*.jpg", ["a.jpg", "sub/c.jpg", "sub/deep/d.jpg"]),
        (".*.jpg", [".hidden.jpg"]),
        ("**/.dot/*", ["sub/.dot/e.jpg"]),
        ("*/*.jpg", ["sub/c.jpg"]),
        ("s*/deep/?.jpg", ["sub/deep/d.jpg"]),
        ("[ab].*", ["a.jpg", "b.txt"]),
        ("[!a].*", ["b.txt"]),
        ("*/c.jpg", ["sub/c.jpg"]),
        ("*.png", []),
        ("*/*/*/*/*", []),
    ],
)
def test_glob(tree: Path, pattern: str, expected: list[str]) -> None:
    assert keys(f"{tree}/{pattern}") == expected


def test_glob_keys_are_relative_to_folder_before_wildcard(tree: Path) -> None:
    assert keys(f"{tree}/sub/**/*.jpg") == ["c.jpg", "deep/d.jpg"]
    assert keys(f"{tree}/sub/deep/*") == ["d.jpg"]


def test_relative_glob(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert keys("*.jpg") == ["a.jpg"]
    assert keys("./sub/*.jpg") == ["c.jpg"]
    assert keys("sub") == [".dot/e.jpg", "c.jpg", "deep/d.jpg"]


def test_file_prefix_and_several_sources(tree: Path) -> None:
    assert keys(tree / "sub" / "c.jpg", key_prefix="x/") == ["x/c.jpg"]
    assert keys(tree / "a.jpg", tree / "sub") == [".dot/e.jpg", "a.jpg", "c.jpg", "deep/d.jpg"]


def test_name_with_wildcards_is_a_name_where_it_is_there(tree: Path) -> None:
    (tree / "[x].jpg").write_bytes(b"x")
    assert keys(tree / "[x].jpg") == ["[x].jpg"]


def test_two_sources_with_one_key(tree: Path) -> None:
    (tree / "sub" / "a.jpg").write_bytes(b"other")
    with pytest.raises(ValidationError, match=r"got 'a.jpg' for .*tree/a.jpg and .*sub/a.jpg"):
        keys(tree / "a.jpg", tree / "sub")


def test_keys_with_one_ball_id(tree: Path) -> None:
    """A key that is no safe id is stored under its SHA-256: a file of that name would be the same ball."""
    import hashlib

    (tree / hashlib.sha256(b"a.jpg").hexdigest()).write_bytes(b"x")
    with pytest.raises(ValidationError, match="keys must be unique"):
        keys(tree)


# Links, and what is no file


def test_link_to_a_file_inside_is_followed(tree: Path) -> None:
    (tree / "link.jpg").symlink_to(tree / "sub" / "c.jpg")
    [ball] = [ball for ball in list_sources(tree, "frames") if ball.key == "link.jpg"]
    assert ball.size == len("sub/c.jpg")


@pytest.mark.parametrize("how", ["folder", "glob"])
@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("link out", "leaves the folder"),
        ("link to a folder", "link to a folder"),
        ("link to a folder outside", "link to a folder"),
        ("link to nothing", "leads nowhere"),
        ("loop", "symbolic link|can't be read"),
        ("socket", "not a regular file"),
        ("pipe", "not a regular file"),
    ],
)
def test_what_is_refused(
    tree: Path, tmp_path: Path, kind: str, why: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(b"secret")
    odd = tree / "odd.jpg"
    if kind == "link out":
        odd.symlink_to(outside / "secret.jpg")
    elif kind == "link to a folder":
        odd.symlink_to(tree / "sub")
    elif kind == "link to a folder outside":
        odd.symlink_to(outside)
    elif kind == "link to nothing":
        odd.symlink_to(tree / "nothing")
    elif kind == "loop":
        odd.symlink_to(odd)
    elif kind == "pipe":
        os.mkfifo(odd)
    else:
        monkeypatch.chdir(tree)  # a socket's path has to be short
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("odd.jpg")
    with pytest.raises(ValidationError, match=why) as error:
        keys(tree if how == "folder" else f"{tree}/**/*.jpg")
    assert "odd.jpg" in str(error.value)


def test_links_that_a_glob_does_not_lead_to_are_nothing_to_it(tree: Path, tmp_path: Path) -> None:
    (tree / "sub" / "out").symlink_to(tmp_path)
    assert keys(f"{tree}/*.jpg") == ["a.jpg"]


def test_glob_does_not_follow_links_to_folders(tree: Path, tmp_path: Path) -> None:
    """Neither out of the folder nor in circles; and what may be behind them is not lost without a word."""
    (tree / "round").symlink_to(tree)
    with pytest.raises(ValidationError, match="round is a symbolic link to a folder"):
        keys(f"{tree}/**/*.jpg")


def test_folder_that_is_itself_a_link(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(tree)
    assert keys(tmp_path / "current") == keys(tree)
    assert keys(f"{tmp_path}/current/*.jpg") == ["a.jpg"]


def test_many_wrong_ones_are_counted(tree: Path) -> None:
    for number in range(8):
        (tree / f"x{number}").symlink_to("nowhere")
    with pytest.raises(ValidationError, match="and 3 more"):
        keys(tree)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_folder_that_may_not_be_read(tree: Path) -> None:
    (tree / "sub").chmod(0)
    try:
        with pytest.raises(ValidationError, match=r"reading folder .* failed"):
            keys(f"{tree}/**/*.jpg")
    finally:
        (tree / "sub").chmod(0o755)


def test_name_that_is_no_text(tree: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tree) + b"/bad\xff.jpg"))).write_bytes(b"x")
    with pytest.raises(ValidationError, match="must be valid Unicode"):
        keys(tree)


@pytest.mark.parametrize(
    "source", ["", "/nowhere/at/all", "/dev/null", None, 3, "s3://bucket/key", "nul\0byte", "/tmp/*/../x", b"bytes"]
)
def test_what_is_no_source(source: Any) -> None:
    with pytest.raises(ValidationError):
        keys(source)


NAMES = st.lists(st.sampled_from(["a", "b", ".h", "ab"]), max_size=4)
PATTERNS = st.lists(st.sampled_from(["a", "*", "**", ".*", "?", "a*"]), min_size=1, max_size=4)


@given(NAMES, PATTERNS)
def test_every_folder_above_a_match_leads_to_it(names: list[str], pattern: list[str]) -> None:
    if matches(names, pattern):
        assert all(leads_to(names[:depth], pattern) for depth in range(len(names)))


# Lists


def test_items(tree: Path) -> None:
    balls = list_items(
        [
            {"key": "text", "data": "grün"},
            {"key": "bytes", "data": b"12", "bucket_id": "other", "tags": {"a": "b"}},
            {"key": "source", "source": b"345"},
            {"source": str(tree / "a.jpg")},
            {"source": tree / "b.txt", "key": "renamed"},
        ],
        "frames",
        "p/",
    )
    assert [(ball.bucket_id, ball.key, ball.size) for ball in balls] == [
        ("frames", "p/a.jpg", 5),
        ("frames", "p/renamed", 5),
        ("frames", "p/source", 3),
        ("frames", "p/text", 5),
        ("other", "p/bytes", 2),
    ]


@pytest.mark.parametrize(
    "item",
    [
        "text",
        {},
        {"key": "k"},
        {"data": "x"},
        {"key": "k", "data": "x", "source": "y"},
        {"key": "k", "data": 3},
        {"key": 3, "data": "x"},
        {"key": "k", "data": "x", "size": 1},
        {"key": "k", "data": "x", "tags": {"a": 1}},
        {"key": "k", "data": "x", "tags": {"mictlanx_filters": "[]"}},
        {"key": "k", "data": "x", "bucket_id": "no safe id"},
        {"key": "k", "source": "/nowhere"},
        {"key": "k", "source": "/tmp"},
    ],
)
def test_wrong_item(item: Any) -> None:
    with pytest.raises(ValidationError):
        list_items([{"key": "good", "data": "x"}, item], "frames")


def test_item_without_a_bucket() -> None:
    with pytest.raises(ValidationError, match="bucket_id"):
        list_items([{"key": "k", "data": "x"}])


# Other stores


class FakeStore:
    """A filesystem of another store, as fsspec defines them."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.broken = False

    def info(self, path: str) -> Mapping[str, Any]:
        if self.broken:
            raise RuntimeError("no such bucket, and the key is s3cr3t")
        if path in self.files:
            return {"name": path, "size": len(self.files[path]), "type": "file", "ETag": f"e{hash(self.files[path])}"}
        if any(name.startswith(path.rstrip("/") + "/") for name in self.files):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def find(self, path: str, detail: bool) -> dict[str, Mapping[str, Any]]:
        assert detail
        return {name: self.info(name) for name in self.files if name.startswith(path.rstrip("/") + "/")}

    def open(self, path: str, mode: str) -> io.BytesIO:
        return io.BytesIO(self.files[path])


class FakePath:
    protocol = "s3"

    def __init__(self, fs: FakeStore, path: str) -> None:
        self.fs = fs
        self.path = path

    def __str__(self) -> str:
        return f"s3://{self.path}"


STORE = FakeStore({"b/x/a.jpg": b"a", "b/x/sub/c.jpg": b"cc", "b/x/.h.jpg": b"h", "b/x/folder/": b"", "b/y": b"y"})


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("b/x", [".h.jpg", "a.jpg", "sub/c.jpg"]),
        ("b/x/", [".h.jpg", "a.jpg", "sub/c.jpg"]),
        ("b/x/*.jpg", ["a.jpg"]),
        ("b/x/**/*.jpg", ["a.jpg", "sub/c.jpg"]),
        ("b/*/sub/*", ["x/sub/c.jpg"]),
        ("b/y", ["y"]),
    ],
)
def test_other_store(path: str, expected: list[str]) -> None:
    balls = list_sources(FakePath(STORE, path), "frames")
    assert [ball.key for ball in balls] == expected
    for ball in balls:
        assert ball.file is not None
        assert ball.file.fingerprint is not None
        assert "ETag" in ball.file.fingerprint
        assert ball.source.startswith("s3://b/")


def test_item_of_another_store() -> None:
    [ball] = list_items([{"source": FakePath(STORE, "b/x/a.jpg"), "key": "k"}], "frames")
    assert (ball.key, ball.size, ball.source) == ("k", 1, "s3://b/x/a.jpg")
    with pytest.raises(ValidationError, match="must be a file"):
        list_items([{"source": FakePath(STORE, "b/x"), "key": "k"}], "frames")


def test_other_store_where_nothing_is() -> None:
    with pytest.raises(ValidationError, match="s3://b/z does not exist"):
        list_sources(FakePath(STORE, "b/z"), "frames")
    assert list_sources(FakePath(STORE, "b/z*"), "frames") == []


def test_other_store_that_fails() -> None:
    broken = FakeStore({})
    broken.broken = True
    with pytest.raises(UnknownError, match="RuntimeError") as error:
        list_sources(FakePath(broken, "b/z"), "frames")
    assert "s3cr3t" not in str(error.value)
    assert isinstance(error.value, MictlanXError)


def test_path_of_this_machine_in_the_clothes_of_another_store(tree: Path) -> None:
    class LocalPath:
        protocol = "file"
        path = str(tree)

    assert keys(LocalPath()) == keys(tree)


def test_balls_have_no_dictionary_each() -> None:
    """There may be a million of them."""
    assert not hasattr(SourceBall("b", "k", 1, "s"), "__dict__")
