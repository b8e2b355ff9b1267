"""
What a bulk uploads: files, folders and globs of this machine, and items that the caller lists. Knows the client's names.

Keys: of a folder, the paths relative to it; of a glob, relative to the folder before the first wildcard; of a single file,
its name; of a list, each by its own rule. A folder gives every file in it, hidden ones too; a glob gives hidden ones only
where the pattern names the dot, as a shell does. A symbolic link is followed to a file inside the folder; one that leaves
the folder, or leads to a folder or to nothing, is an error, as are sockets, pipes and devices: leaving them out without a
word would lose them.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.names import ball_id_of, check_bucket_id

SHOWN = 5
"""How many wrong sources an error names."""


@dataclass(frozen=True, slots=True)
class SourceBall:
    """
    One ball that is to be uploaded.

    :ivar size: bytes
    :ivar source: the path, or what stands for it
    :ivar data: the bytes, where they were given
    """

    bucket_id: str
    key: str
    size: int
    source: str
    data: bytes | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def list_sources(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], bucket_id: str, key_prefix: str = ""
) -> list[SourceBall]:
    """
    List files, folders and globs, sorted by key.

    ``ValidationError``: a source is not there, or can't be uploaded, or two of them would have one key.

    :param sources: a path, a glob (``**`` stands for any folders), or several of these
    :param bucket_id: of all balls
    :param key_prefix: is put before every key as it is
    """
    check_bucket_id(bucket_id)
    listed = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    balls = [
        SourceBall(bucket_id, key_prefix + key, size, path)
        for source in listed
        for key, path, size in _list_one(os.fspath(source))
    ]
    return checked(balls)


def list_items(items: Iterable[Mapping[str, Any]], bucket_id: str = "", key_prefix: str = "") -> list[SourceBall]:
    """
    List items that the caller gives, sorted by key.

    :param items: dictionaries with ``key``, ``source`` (a path) or ``data`` (text or bytes), and optionally ``bucket_id`` and
        ``tags``; a ``source`` that is bytes is data too
    :param bucket_id: of items that name none
    """
    return checked([_item(item, place, bucket_id, key_prefix) for place, item in enumerate(items)])


def checked(balls: list[SourceBall]) -> list[SourceBall]:
    """Give the balls sorted by bucket and key, or raise ``ValidationError`` where a name is wrong, or there twice."""
    seen: dict[tuple[str, str], SourceBall] = {}
    for ball in balls:
        check_bucket_id(ball.bucket_id)
        name = (ball.bucket_id, ball_id_of(ball.key))
        if other := seen.get(name):
            raise ValidationError(
                f"two sources have the key {ball.key!r} of bucket {ball.bucket_id}: {other.source} and {ball.source}; give "
                "one of them a key_prefix or a key of its own"
            )
        seen[name] = ball
    return sorted(balls, key=lambda ball: (ball.bucket_id, ball.key))


def _item(item: Mapping[str, Any], place: int, bucket_id: str, key_prefix: str) -> SourceBall:
    where = f"ball {place} of the list"
    if not isinstance(item, Mapping):
        raise ValidationError(f"{where} is no dictionary: {type(item).__name__}")
    if unknown := sorted(str(name) for name in item.keys() - {"bucket_id", "key", "source", "data", "tags"}):
        raise ValidationError(f"{where}: {', '.join(unknown)} is unknown; there are bucket_id, data, key, source, tags")
    source, data = item.get("source"), item.get("data")
    if isinstance(source, bytes):
        source, data = None, source
    if (source is None) == (data is None):
        raise ValidationError(f"{where} has either source (a path) or data (text or bytes)")
    bucket, tags = item.get("bucket_id") or bucket_id, item.get("tags") or {}
    if source is not None:
        path, size = _regular(os.fspath(source))
        return SourceBall(bucket, key_prefix + (item.get("key") or Path(path).name), size, path, tags=tags)
    if not item.get("key"):
        raise ValidationError(f"{where} has data, and needs a key")
    content = data.encode() if isinstance(data, str) else data
    if not isinstance(content, bytes):
        raise ValidationError(f"{where}: data is text or bytes, not {type(content).__name__}")
    return SourceBall(bucket, key_prefix + item["key"], len(content), f"data of {item['key']}", content, tags)


def _list_one(source: str) -> Iterator[tuple[str, str, int]]:
    """Give key, path and size of every file of one source."""
    if not source:
        raise ValidationError("source is an empty path")
    if glob.has_magic(source) and not os.path.lexists(source):
        yield from _list_glob(source)
    elif os.path.isdir(source):
        yield from _listed(Path(source), _walk(source))
    else:
        path, size = _regular(source)
        yield _as_key(os.path.basename(path)), path, size


def _list_glob(pattern: str) -> Iterator[tuple[str, str, int]]:
    parts = Path(pattern).parts
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    base = Path(*parts[:first]) if first else Path()
    found = (path for path in glob.iglob(pattern, recursive=True) if not os.path.isdir(path) or os.path.islink(path))
    yield from _listed(base, found)


def _walk(folder: str) -> Iterator[str]:
    def give_up(error: OSError) -> None:
        raise ValidationError(f"folder {error.filename} can't be read: {error.strerror}") from error

    for parent, folders, files in os.walk(folder, onerror=give_up):
        yield from (os.path.join(parent, name) for name in files)
        yield from (path for name in folders if os.path.islink(path := os.path.join(parent, name)))


def _listed(base: Path, paths: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    inside = os.path.realpath(base)
    wrong: list[str] = []
    found: list[tuple[str, str, int]] = []
    for path in paths:
        problem, size = _looked_at(path, inside)
        if problem:
            wrong.append(f"{path} {problem}")
        else:
            found.append((_as_key(Path(os.path.relpath(path, base)).as_posix()), path, size))
    if wrong:
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise ValidationError(
            f"these can't be uploaded: {'; '.join(sorted(wrong)[:SHOWN])}{more}. Take them out of the source"
        )
    yield from found


def _looked_at(path: str, inside: str) -> tuple[str, int]:
    """Tell what is wrong with a path that was found, if anything, and its size (bytes)."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return "is a symbolic link that leads nowhere", 0
    except OSError as error:
        return f"can't be looked at ({error.strerror})", 0
    if os.path.islink(path):
        if stat.S_ISDIR(status.st_mode):
            return "is a symbolic link to a folder", 0
        if os.path.commonpath([inside, os.path.realpath(path)]) != inside:
            return "is a symbolic link that leaves the folder", 0
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file", 0
    return "", status.st_size


def _regular(path: str) -> tuple[str, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise ValidationError(f"source {path} can't be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ValidationError(f"source {path} is no regular file")
    return path, status.st_size


def _as_key(path: str) -> str:
    """Give a path as a key; a name that is no valid text can't be one."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(f"the file name {path!r} is no valid Unicode text, and so can't be a key") from error
    return path
