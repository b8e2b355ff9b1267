"""Which file a key is, and which keys can't be files of one folder."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from airflow_provider_mictlanx.batches.places import folds_names, place_of, places_of
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
    assert str(place_of(key)) == place


@pytest.mark.parametrize("key", ["..", "a/../b", "../../up", "a\\..\\b", "a\0b", "/", ".", "x" * 256, "a/" + "é" * 128])
def test_key_that_can_be_no_file_is_refused_by_name(key: str) -> None:
    with pytest.raises(ValidationError, match="Nothing was read"):
        places_of(["fine", key])


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (["a/b", "a//b"], "'a/b' and 'a//b' are the same file"),
        (["/a", "a"], "'/a' and 'a' are the same file"),
        (["a", "a/b"], "'a' would be a folder, because of 'a/b'"),
        (["a/b/c/d", "a/b"], "'a/b' would be a folder, because of 'a/b/c/d'"),
    ],
)
def test_keys_that_clash_are_refused(keys: list[str], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        places_of(keys)


COMPOSED = unicodedata.normalize("NFC", "é")
DECOMPOSED = unicodedata.normalize("NFD", "é")


@pytest.mark.parametrize("keys", [["A/b", "a/B"], ["a", "A/b"], [COMPOSED, DECOMPOSED], ["straße", "STRASSE"]])
def test_names_that_only_some_file_systems_tell_apart(keys: list[str]) -> None:
    assert set(places_of(keys)) == set(keys)
    with pytest.raises(ValidationError, match=r"same file|would be a folder"):
        places_of(keys, folds=True)


def test_an_error_names_a_few_and_counts_the_others() -> None:
    with pytest.raises(ValidationError, match="and 15 more") as caught:
        places_of([f"../{number}" for number in range(20)])
    assert len(str(caught.value)) < 1500


def test_a_file_system_is_asked_and_left_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folds_names(tmp_path) is (tmp_path.parent / tmp_path.name.upper()).exists()
    monkeypatch.setattr("os.path.lexists", lambda path: "\u00e9" in str(path))  # as a Mac does
    assert folds_names(tmp_path)
    assert list(tmp_path.iterdir()) == []
