"""
Where the balls of a batch go below a folder: which file each key is, and that no two keys are one. Pure, but for ``folds_names``.

A key comes out of the storage, so it is what some writer wrote: none leads out of the folder, and what can't be a file is refused
before anything is read, instead of being renamed to something that nobody asked for.
"""

from __future__ import annotations

import os
import secrets
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.files import check_file_name

SHOWN = 5
"""How many keys an error names."""


def place_of(key: str) -> PurePosixPath:
    """
    Give the path of a key below the folder: leading, doubled and trailing ``/`` and ``.`` don't count.

    ``ValidationError``: it has ``..`` in it, or something that no file can be called.
    """
    parts = [part for part in key.split("/") if part not in ("", ".")]
    if not parts:
        raise ValidationError(f"{key!r} names no file")
    for part in parts:
        check_file_name(part)
    return PurePosixPath(*parts)


def places_of(keys: Iterable[str], folds: bool = False) -> dict[str, PurePosixPath]:
    """
    Give the path of every key below the folder.

    ``ValidationError``: a key can't be a file, two keys would be the same file, or one would be a folder of the other; it names
    the first few.

    :param folds: whether the file system takes names for the same that differ in case, or in how letters are composed
    """
    places: dict[str, PurePosixPath] = {}
    problems: list[str] = []
    for key in keys:
        try:
            places[key] = place_of(key)
        except ValidationError as error:
            problems.append(str(error))
    problems += _clashes(places, folds)
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ValidationError(
            f"these keys can't all be files of one folder: {'; '.join(problems[:SHOWN])}{more}. Nothing was read; choose others "
            "by prefix or glob, or read single ones with a filename of your own"
        )
    return places


def _clashes(places: dict[str, PurePosixPath], folds: bool) -> list[str]:
    problems: list[str] = []
    files: dict[str, str] = {}
    for key, place in places.items():
        file = _folded(place, folds)
        if (other := files.setdefault(file, key)) != key:
            problems.append(f"{other!r} and {key!r} are the same file")
    for key, place in places.items():
        for folder in list(place.parents)[:-1]:
            if (file := _folded(folder, folds)) in files:
                problems.append(f"{files[file]!r} would be a folder, because of {key!r}")
                break
    return problems


def _folded(place: PurePosixPath, folds: bool) -> str:
    return unicodedata.normalize("NFC", str(place)).casefold() if folds else str(place)


def folds_names(folder: Path) -> bool:
    """Tell whether the file system of a folder, in which a file is made for it, takes ``A`` for ``a``, or ``é`` for ``e`` and an accent."""
    name = f".mictlanx-{secrets.token_hex(8)}-\u00c9.part"
    probe = folder / name
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    try:
        others = (name.lower(), unicodedata.normalize("NFD", name))
        return any(os.path.lexists(folder / other) for other in others)
    finally:
        os.unlink(probe)
