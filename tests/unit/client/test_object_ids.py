"""Which names are safe ids, and how any other key maps to one and back."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.object_ids import (
    ObjectId,
    check_bucket_id,
    make_ball_id,
    original_key,
    path_tags,
    safe_file_name,
)
from airflow_provider_mictlanx.safe_ids import is_safe_id

KEYS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1)


@pytest.mark.parametrize("name", ["a", "A1", "a-b", "a_b", "a-b_c-d", "0", "frame-000", "x" * 5000])
def test_safe_ids(name: str) -> None:
    assert is_safe_id(name)
    assert make_ball_id(name) == name
    assert check_bucket_id(name) == name


@pytest.mark.parametrize(
    "name", ["", "-", "_", "-a", "a-", "_a", "a_", "a--b", "a__b", "a-_b", "a.b", "a b", "a/b", "ä", "a\n", "١", "a%62"]
)
def test_unsafe_ids(name: str) -> None:
    assert not is_safe_id(name)
    with pytest.raises(ValidationError):
        check_bucket_id(name)
    if name:
        assert make_ball_id(name) == hashlib.sha256(name.encode()).hexdigest()


@given(st.text(alphabet="ab-_.", min_size=1, max_size=8))
def test_a_safe_id_is_exactly_what_the_service_keeps(name: str) -> None:
    kept = re.sub(r"[-_]{2,}", "-", re.sub(r"[^A-Za-z0-9_-]", "", name)).strip("-_")
    assert is_safe_id(name) == (kept == name)


@given(KEYS)
def test_every_key_maps_to_a_safe_id_and_back(key: str) -> None:
    ball_id = make_ball_id(key)
    assert is_safe_id(ball_id)
    assert is_safe_id(ObjectId("bucket", ball_id).chunk(0))
    assert original_key(ball_id, {} if is_safe_id(key) else path_tags(key)) == key


@pytest.mark.parametrize("bad", [None, 1, b"k", "", "\ud800"])
def test_keys_that_are_none(bad: object) -> None:
    with pytest.raises(ValidationError):
        make_ball_id(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [None, 1, b"b", ""])
def test_bucket_ids_that_are_none(bad: object) -> None:
    with pytest.raises(ValidationError, match="bucket_id"):
        check_bucket_id(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("full_path", ["other/path.txt", "", "k", "\ud800", "../../etc/passwd"])
def test_key_of_believes_no_tag_that_the_ball_id_was_not_made_of(full_path: str) -> None:
    assert original_key("k", {"full_path": full_path}) == "k"
    assert original_key(hashlib.sha256(b"real/path").hexdigest(), {"full_path": full_path}) != full_path


def test_safe_key_is_never_a_mapped_one() -> None:
    """Somebody who stores under a SHA-256 and names a safe id in a tag has a ball of the SHA-256's name."""
    ball_id = hashlib.sha256(b"plain").hexdigest()
    assert original_key(ball_id, {"full_path": "plain"}) == ball_id


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b/c.tar.gz", ("a/b/c.tar.gz", "c.tar.gz", "c.tar", "gz", "a/b/")),
        ("c", ("c", "c", "c", "", None)),
        (".hidden", (".hidden", ".hidden", ".hidden", "", None)),
        ("a/", ("a/", "", "", "", "a/")),
        ("/c.txt", ("/c.txt", "c.txt", "c", "txt", "/")),
    ],
)
def test_path_tags(path: str, expected: tuple[str | None, ...]) -> None:
    tags = path_tags(path)
    names = ("full_path", "fullname", "filename", "extension", "bucket_relative_path")
    assert tuple(tags.get(name) for name in names) == expected


def test_path_tags_are_always_valid_text() -> None:
    for tag in path_tags("folder/caf\udce9.txt").values():
        tag.encode()


@given(st.text())
def test_safe_file_name_is_a_plain_name_or_none(name: str) -> None:
    safe = safe_file_name(name)
    if safe is not None:
        assert safe
        assert safe not in (".", "..")
        assert not set(safe) & set("/\\\0\n")
        assert len(safe.encode()) <= 255


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\boot.ini", "boot.ini"),
        ("a\\..\\..", None),
        ("a/..", None),
        (" .. ", None),
        ("", None),
        ("x" * 256, None),
        ("ü" * 128, None),
        ("a\x00b\nc", "a_b_c"),
        ("naïve.txt", "naïve.txt"),
    ],
)
def test_safe_file_names(name: str, expected: str | None) -> None:
    assert safe_file_name(name) == expected
