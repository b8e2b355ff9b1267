"""Which file a key is, and which keys can't be files of one folder."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from airflow_provider_mictlanx.batches.local_paths import is_case_insensitive, local_path, local_paths
from airflow_provider_mictlanx.client.errors import ValidationError


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("a.txt", "a.txt"),
        ("2026/05/a b.txt", "2026/05/a b.txt"),
        ("/etc/passwd", "etc/passwd"),
        ("a//b/./c/", "a/b/c"),
        ("...", "..."),
        ("año/¿.txt", "año/¿.txt"),
    ],
)
def test_place_of_a_key(key: str, place: str) -> None:
    assert str(local_path(key)) == place


def places(*keys: str, case_insensitive: bool = False) -> dict[str, str]:
    """Return the place, or the error, of each key of one bucket."""
    return {key: str(found) for (_, key), found in local_paths([("b", key) for key in keys], case_insensitive).items()}


@pytest.mark.parametrize("key", ["..", "a/../b", "../../up", "a\\..\\b", "a\0b", "/", ".", "x" * 256, "a/" + "é" * 128])
def test_key_that_can_be_no_file_is_refused_alone(key: str) -> None:
    found = local_paths([("b", "fine"), ("b", key), ("b", "c/fine")])
    assert {name: str(place) for name, place in found.items() if name != ("b", key)} == {
        ("b", "fine"): "fine",
        ("b", "c/fine"): "c/fine",
    }
    error = found["b", key]
    assert isinstance(error, ValidationError)
    assert str(error).startswith("the key can't be a file below the folder: ")
    assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        (["a/b", "a//b"], {"a/b": "'b/a//b' would be the same file", "a//b": "'b/a/b' would be the same file"}),
        (["/a", "a"], {"/a": "'b/a' would be the same file", "a": "'b//a' would be the same file"}),
        (["a", "a/b"], {"a": "it would be a folder, since 'b/a/b' is below it"}),
        (["a/b/c/d", "a/b"], {"a/b": "it would be a folder, since 'b/a/b/c/d' is below it"}),
        # What can't be read itself is in nobody's way.
        (["a", "a/../b"], {"a/../b": "plain file name"}),
        (["a", "a/b", "a//b"], {"a/b": "the same file", "a//b": "the same file"}),
    ],
)
def test_keys_that_clash_are_refused_and_no_others(keys: list[str], refused: dict[str, str]) -> None:
    found = local_paths([("b", key) for key in [*keys, "other", "z/other"]])
    errors = {key: str(error) for (_, key), error in found.items() if isinstance(error, ValidationError)}
    assert errors.keys() == refused.keys()
    assert all(why in errors[key] for key, why in refused.items())
    assert str(found["b", "z/other"]) == "z/other"


def test_one_key_in_two_buckets_is_one_file() -> None:
    found = local_paths([("b", "k"), ("c", "k"), ("b", "l")])
    assert "'c/k' would be the same file" in str(found["b", "k"])
    assert "'b/k' would be the same file" in str(found["c", "k"])
    assert str(found["b", "l"]) == "l"


COMPOSED = unicodedata.normalize("NFC", "é")
DECOMPOSED = unicodedata.normalize("NFD", "é")


@pytest.mark.parametrize("keys", [["A/b", "a/B"], ["a", "A/b"], [COMPOSED, DECOMPOSED], ["straße", "STRASSE"]])
def test_names_that_only_some_file_systems_tell_apart(keys: list[str]) -> None:
    assert places(*keys) == {key: key for key in keys}
    folded = places(*keys, case_insensitive=True)
    assert "the same file" in folded[keys[0]] or "it would be a folder" in folded[keys[0]]


def test_a_file_system_is_asked_and_left_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_case_insensitive(tmp_path) is (tmp_path.parent / tmp_path.name.upper()).exists()
    monkeypatch.setattr("os.path.lexists", lambda path: "\u00e9" in str(path))  # as a Mac does
    assert is_case_insensitive(tmp_path)
    assert list(tmp_path.iterdir()) == []
