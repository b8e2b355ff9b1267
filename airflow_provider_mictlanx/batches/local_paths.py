"""
Map the balls of a batch to files below a folder. Pure, except for ``is_case_insensitive``.

Any writer to the storage chooses keys. A key that can't be a file is an error of that ball alone. Another file name
would surprise the reader, and failing the batch would let one writer block the reading of all other balls.
"""

from __future__ import annotations

import os
import secrets
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.local_io.atomic_file import check_file_name

Ball = tuple[str, str]
"""A ball by bucket and key."""

HOW_TO_RESOLVE = "read it separately, with a filename"


def local_path(key: str) -> PurePosixPath:
    """
    Return the path of a key below the folder, without empty components and ``.``.

    Raises ``ValidationError`` if a component is ``..``, or can't be the name of a file.
    """
    parts = [part for part in key.split("/") if part not in ("", ".")]
    if not parts:
        raise ValidationError("it contains no file name")
    for part in parts:
        check_file_name(part)
    return PurePosixPath(*parts)


def local_paths(balls: Iterable[Ball], case_insensitive: bool = False) -> dict[Ball, PurePosixPath | ValidationError]:
    """
    Return the path of every ball below the folder, or the error for a ball that can't be a file there.

    Balls that would be the same file are all errors: only the caller can choose one.

    :param case_insensitive: whether the file system ignores the case of names, or the composition of their letters
    """
    found: dict[Ball, PurePosixPath | ValidationError] = {}
    files: dict[str, list[Ball]] = {}
    for ball in balls:
        try:
            found[ball] = place = local_path(ball[1])
        except ValidationError as error:
            found[ball] = ValidationError(f"the key can't be a file below the folder: {error}; {HOW_TO_RESOLVE}")
        else:
            files.setdefault(_fold_case(place, case_insensitive), []).append(ball)
    for same in [same for same in files.values() if len(same) > 1]:
        for ball, other in zip(same, [*same[1:], same[0]], strict=True):
            found[ball] = ValidationError(f"{_name(other)} would be the same file; {HOW_TO_RESOLVE}")
    alone = {file: same[0] for file, same in files.items() if len(same) == 1}
    for ball in list(alone.values()):
        for folder in list(local_path(ball[1]).parents)[:-1]:
            if (file := alone.get(_fold_case(folder, case_insensitive))) is not None:
                found[file] = ValidationError(
                    f"it would be a folder, since {_name(ball)} is below it; {HOW_TO_RESOLVE}"
                )
    return found


def _name(ball: Ball) -> str:
    return repr("/".join(ball))


def _fold_case(place: PurePosixPath, case_insensitive: bool) -> str:
    return unicodedata.normalize("NFC", str(place)).casefold() if case_insensitive else str(place)


def is_case_insensitive(folder: Path) -> bool:
    """Return whether a folder treats ``A`` as ``a``, or ``é`` as ``e`` with an accent, by creating a file in it."""
    name = f".mictlanx-{secrets.token_hex(8)}-\u00c9.part"
    probe = folder / name
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    try:
        others = (name.lower(), unicodedata.normalize("NFD", name))
        return any(os.path.lexists(folder / other) for other in others)
    finally:
        os.unlink(probe)
