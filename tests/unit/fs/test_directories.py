"""The tree of a listing."""

from __future__ import annotations

import pytest

from airflow_provider_mictlanx.client.models import Ball, Metadata
from airflow_provider_mictlanx.fs.directories import MadeDirectories, Tree, parents


def ball(key: str) -> Ball:
    chunk = Metadata(
        key="x_0", size=3, checksum="0" * 64, ball_id="x", bucket_id="b", tags={"updated_at": "2000000000"}
    )
    return Ball("b", "x", [chunk], "0" * 64, 3, key, 2_000_000_000)


def names(found: object) -> list[str]:
    return [info["name"] for info in found]  # type: ignore[attr-defined]


def test_keys_are_shown_as_they_were_written() -> None:
    tree = Tree([ball(key) for key in ("a", "a/b", "c//d", "/e", "f/", "ñ x/y")], [])
    assert sorted(tree.files) == ["b//e", "b/a", "b/a/b", "b/c//d", "b/ñ x/y"]
    assert sorted(tree.directories) == ["b", "b/a", "b/c", "b/f", "b/ñ x"]
    assert tree.markers == {"b/f": "f/"}
    assert names(tree.children("b")) == ["b//e", "b/a", "b/a", "b/c", "b/f", "b/ñ x"]
    assert names(tree.children("b/c")) == ["b/c//d"]
    assert names(tree.children("b/a")) == ["b/a", "b/a/b"]
    assert names(tree.find("b/a")) == ["b/a", "b/a/b"]
    assert tree.files["b/a"]["created"].timestamp() == 2


def test_depth_is_limited() -> None:
    tree = Tree([ball("1"), ball("d/2"), ball("d/e/3")], [])
    assert names(tree.find("b", 1)) == ["b/1", "b/d"]
    assert names(tree.find("b", 2)) == ["b/1", "b/d", "b/d/2", "b/d/e"]


@pytest.mark.parametrize(
    ("path", "above"), [("b", []), ("b/a", ["b"]), ("b/a/c", ["b/a", "b"]), ("b//a", ["b"]), ("b/a//c", ["b/a", "b"])]
)
def test_parents_of_a_path(path: str, above: list[str]) -> None:
    assert list(parents(path)) == above


def test_made_directories_are_kept_by_storage_space() -> None:
    made = MadeDirectories()
    made.add("one", "b/x/y")
    made.add("one", "b/xy")
    assert made.of_bucket("two", "b") == []
    assert sorted(made.of_bucket("one", "b")) == ["b", "b/x", "b/x/y", "b/xy"]
    made.forget("one", "b/x")
    assert sorted(made.of_bucket("one", "b")) == ["b", "b/xy"]
