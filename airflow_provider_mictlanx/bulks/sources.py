"""
List the sources of a bulk: files, folders and globs on this machine and in other stores, and lists of balls.

A path in another store has ``fs`` (an fsspec filesystem), ``path`` and ``protocol``, like ``ObjectStoragePath`` and
every ``UPath``.

The key of a file in a folder is its path relative to the folder. For a glob, it is relative to the folder before the
first wildcard. For a single file, it is the file's name. Each source of a list follows its own rule.

A folder contributes every file in it, hidden ones too. A glob matches a hidden file only if the pattern contains the
dot, as in a shell. A symbolic link to a file inside the folder is followed. A link that leaves the folder, or leads to
a folder or to nothing, is an error. So are sockets, pipes, devices and unreadable folders: skipping them silently would
lose data. In other stores the same rules apply, as far as they have such files.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from airflow_provider_mictlanx.batches.export import is_remote
from airflow_provider_mictlanx.client.errors import MictlanXError, UnknownError, ValidationError
from airflow_provider_mictlanx.client.local_io.fsspec_source import (
    CONTENT_FIELDS,
    FsspecFile,
    content_fingerprint,
    describe_error,
    find_files,
)
from airflow_provider_mictlanx.client.object_ids import check_bucket_id, make_ball_id
from airflow_provider_mictlanx.client.texts import format_first
from airflow_provider_mictlanx.client.validation import check_str, check_tags

NO_TAGS: Mapping[str, str] = MappingProxyType({})
"""Tags of a ball without own tags."""


@dataclass(frozen=True, slots=True)
class SourceBall:
    """
    A ball to upload.

    :ivar size: bytes
    :ivar source: the path, or a name for the data
    :ivar data: the content, if it was given as bytes
    :ivar file: a file of another store, with a fingerprint that shows whether it has changed
    :ivar mark: an int that changes with the content (``_mark``); 0 if unknown
    """

    bucket_id: str
    key: str
    size: int
    source: str
    data: bytes | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    file: FsspecFile | None = None
    mark: int = 0

    def given(self) -> dict[str, Any]:
        """Return the content as the client's argument: ``data``, ``file`` or ``path``."""
        if self.file is not None:
            return {"file": self.file}
        return {"path": self.source} if self.data is None else {"data": self.data}


def list_sources(sources: Any, bucket_id: str, key_prefix: str = "") -> list[SourceBall]:
    """
    List files, folders and globs, sorted by key.

    Raises ``ValidationError`` if a source is missing or can't be uploaded, or two have one key, and ``UnknownError`` if
    another store could not be listed.

    :param sources: a path, a glob (``**`` matches any folders), a path of another store (``ObjectStoragePath``), or a
        sequence of these
    :param bucket_id: bucket of all balls
    :param key_prefix: prepended to every key, unchanged
    """
    check_bucket_id(bucket_id)
    check_str("key_prefix", key_prefix)
    listed = list(sources) if isinstance(sources, Sequence) and not isinstance(sources, str) else [sources]
    balls = [
        SourceBall(bucket_id, key_prefix + found.key, found.size, found.source, file=found.file, mark=found.mark)
        for source in listed
        for found in _list_any(source)
    ]
    return check_balls(balls)


def list_items(items: Iterable[Mapping[str, Any]], bucket_id: str = "", key_prefix: str = "") -> list[SourceBall]:
    """
    List the balls that a caller describes, sorted by key.

    :param items: dicts with ``key``, ``source`` (a path) or ``data`` (str or bytes), and optionally ``bucket_id`` and
        ``tags``; a ``source`` that is bytes is data too
    :param bucket_id: bucket of items without one
    """
    return check_balls([_item(item, place, bucket_id, key_prefix) for place, item in enumerate(items)])


def check_balls(balls: list[SourceBall]) -> list[SourceBall]:
    """Return the balls sorted by bucket and key; raise ``ValidationError`` for an invalid or duplicate name."""
    seen: set[bytes] = set()  # digests: the names of a million balls take twice the memory
    for ball in balls:
        check_bucket_id(ball.bucket_id)
        name = _name_digest(ball)
        if name in seen:
            other = next(other for other in balls if _name_digest(other) == name)
            raise ValidationError(
                f"keys must be unique in bucket {ball.bucket_id}, got {ball.key!r} for {other.source} and "
                f"{ball.source}; change the key or key_prefix of one of them"
            )
        seen.add(name)
    return sorted(balls, key=lambda ball: (ball.bucket_id, ball.key))


def _name_digest(ball: SourceBall) -> bytes:
    return hashlib.sha256(f"{ball.bucket_id}/{make_ball_id(ball.key)}".encode()).digest()


def _item(item: Mapping[str, Any], place: int, bucket_id: str, key_prefix: str) -> SourceBall:
    where = f"object {place} of the list"
    if not isinstance(item, Mapping):
        raise ValidationError(f"{where} must be a dict, got {type(item).__name__}")
    if unknown := sorted(str(name) for name in item.keys() - {"bucket_id", "key", "source", "data", "tags"}):
        raise ValidationError(
            f"{where} must only contain bucket_id, data, key, source and tags, got {', '.join(unknown)}"
        )
    source, data, key = item.get("source"), item.get("data"), item.get("key")
    if isinstance(source, bytes):
        source, data = None, source
    if (source is None) == (data is None):
        raise ValidationError(f"{where} must have exactly one of source (a path) and data (str or bytes)")
    if key is not None and not isinstance(key, str):
        raise ValidationError(f"the key of {where} must be str, got {key!r}")
    tags = NO_TAGS if item.get("tags") is None else check_tags(item["tags"])
    bucket = item.get("bucket_id") or bucket_id
    if source is not None:
        found = _list_single(source, where)
        name = key_prefix + (key or found.key)
        return SourceBall(bucket, name, found.size, found.source, tags=tags, file=found.file, mark=found.mark)
    if not key:
        raise ValidationError(f"{where} must have a key, since it has data")
    content = data.encode() if isinstance(data, str) else data
    if not isinstance(content, bytes):
        raise ValidationError(f"the data of {where} must be str or bytes, got {type(content).__name__}")
    mark = _mark(hashlib.sha256(content).hexdigest())
    return SourceBall(bucket, key_prefix + key, len(content), f"data of {key}", content, tags, mark=mark)


@dataclass(frozen=True, slots=True)
class _Found:
    """A file of a source."""

    key: str
    size: int
    source: str
    file: FsspecFile | None = None
    mark: int = 0


def _mark(*facts: int | str) -> int:
    """Return a 64-bit digest of facts; it is an int, since there may be a million of them."""
    return int.from_bytes(hashlib.blake2b(repr(facts).encode(), digest_size=8).digest()) or 1


def file_mark(status: os.stat_result) -> int:
    """
    Return the mark of a file, made of size, times and inode: one of them changes with the content.

    The ctime is included because, unlike the mtime, it can't be set back.
    """
    return _mark(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _list_any(source: Any) -> Iterator[_Found]:
    """Yield every file of one source."""
    if is_remote(source):
        yield from _list_remote(source)
    else:
        yield from _list_local(_local_path(source))


def _list_single(source: Any, where: str) -> _Found:
    """Return the only file of a source."""
    if not is_remote(source):
        return _check_file(_local_path(source))
    [*found] = _list_remote(source)
    if len(found) != 1 or found[0].source != str(source):
        raise ValidationError(f"the source of {where} must be a file, got {source}")
    return found[0]


def _local_path(source: Any) -> str:
    if isinstance(source, str | os.PathLike) and not hasattr(source, "protocol"):
        path = os.fspath(source)
    else:
        path = getattr(source, "path", None)  # an ``ObjectStoragePath`` on this machine
    if not isinstance(path, str):
        raise ValidationError(f"source must be a path, got {source!r}")
    if "://" in path and not os.path.lexists(path):
        raise ValidationError(
            f"source must be a path on this machine, got {path!r}; for another store use ObjectStoragePath({path!r})"
        )
    return path


# -- this machine --------------------------------------------------------------------------------------------------


def _list_local(source: str) -> Iterator[_Found]:
    if not source or "\0" in source:
        raise ValidationError(f"source must be a path, got {source!r}")
    if glob.has_magic(source) and not os.path.lexists(source):
        base, pattern = _split(source)
        yield from _check_listed(Path(base or "."), _walk(base or ".", pattern))
    elif os.path.isdir(source):
        yield from _check_listed(Path(source), _walk(source, None))
    else:
        yield _check_file(source)


def _split(source: str) -> tuple[str, tuple[str, ...]]:
    """Split a glob into the folder before the first wildcard, and the parts of the pattern."""
    parts = [part for part in source.split("/") if part not in ("", ".")]
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    if ".." in parts[first:]:
        raise ValidationError(
            "source must not contain '..' after a wildcard, since keys are relative to the folder before it, got "
            f"{source!r}"
        )
    base = ("/" if source.startswith("/") else "") + "/".join(parts[:first])
    pattern = parts[first:] + (["*"] if parts[-1] == "**" else [])
    return base, tuple(
        part for place, part in enumerate(pattern) if (part, pattern[place - 1 : place]) != ("**", ["**"])
    )


def _walk(folder: str, pattern: tuple[str, ...] | None) -> Iterator[str]:
    """Yield the files in a folder, or those that match, and the symbolic links to folders, which are errors."""

    def give_up(error: OSError) -> None:
        raise ValidationError(
            f"reading folder {error.filename} failed: {error.strerror}; check source, and that this "
            "machine has the folder"
        ) from error

    for parent, folders, files in os.walk(folder, onerror=give_up):
        inside = tuple(Path(os.path.relpath(parent, folder)).parts) if parent != folder else ()
        if pattern is not None:
            files = [name for name in files if matches((*inside, name), pattern)]
            matched = [name for name in folders if matches((*inside, name), pattern)]
            folders[:] = [name for name in folders if leads_to((*inside, name), pattern)]
        else:
            matched = []
        yield from (os.path.join(parent, name) for name in files)
        yield from (path for name in {*folders, *matched} if os.path.islink(path := os.path.join(parent, name)))


def matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path, given by its parts, matches a pattern as in a shell; ``**`` matches any folders."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        return matches(names, pattern[1:]) or (
            len(names) > 1 and not names[0].startswith(".") and matches(names[1:], pattern)
        )
    return bool(names) and _matches_one(names[0], pattern[0]) and matches(names[1:], pattern[1:])


def leads_to(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a folder, given by its parts, may contain a match of a pattern."""
    if not names or not pattern:
        return bool(pattern)
    if pattern[0] == "**":
        return leads_to(names, pattern[1:]) or (not names[0].startswith(".") and leads_to(names[1:], pattern))
    return len(pattern) > 1 and _matches_one(names[0], pattern[0]) and leads_to(names[1:], pattern[1:])


def _matches_one(name: str, part: str) -> bool:
    if name.startswith(".") and not part.startswith("."):
        return False
    return fnmatch.fnmatchcase(name, part)


def _check_listed(base: Path, paths: Iterable[str]) -> Iterator[_Found]:
    inside = os.path.realpath(base)
    wrong: list[str] = []
    found: list[_Found] = []
    for path in paths:
        status = _check_listed_file(path, inside)
        if isinstance(status, str):
            wrong.append(f"{path} {status}")
        else:
            key = _as_key(os.path.relpath(path, base))
            found.append(_Found(key, status.st_size, path, mark=file_mark(status)))
    if wrong:
        raise ValidationError(
            f"source must contain only regular files, got: {format_first(sorted(wrong), '; ')}. Remove these, or "
            "select the others with a glob"
        )
    yield from found


def _check_listed_file(path: str, inside: str) -> os.stat_result | str:
    """Return the status of a listed file, or the reason why it can't be uploaded."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return "is a symbolic link that leads nowhere"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    if os.path.islink(path):
        if stat.S_ISDIR(status.st_mode):
            return "is a symbolic link to a folder"
        if os.path.commonpath([inside, os.path.realpath(path)]) != inside:
            return "is a symbolic link that leaves the folder"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    return status


def _check_file(path: str) -> _Found:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValidationError(f"reading source {path!r} failed: {reason}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ValidationError(f"source must be a regular file, got {path}")
    return _Found(_as_key(os.path.basename(path)), status.st_size, path, mark=file_mark(status))


def as_unicode(path: str) -> str:
    """Return a path for people; bytes of its name that are not UTF-8 are escaped."""
    return path.encode("utf-8", "backslashreplace").decode()


def _as_key(path: str) -> str:
    """Return a path as a key; raise ``ValidationError`` if it is not valid Unicode."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(f"the name of a file must be valid Unicode to be a key, got {path!r}") from error
    return path


# -- other stores --------------------------------------------------------------------------------------------------


def _list_remote(source: Any) -> Iterator[_Found]:
    path = str(source.path)
    shown = str(source)
    info = _call_store(shown, lambda: _info(source.fs, path))
    if info is not None and info.get("type") != "directory":
        yield _remote(source, path, info, path.rpartition("/")[2])
    elif info is not None:
        yield from _list_remote_folder(source, path.rstrip("/"), None)
    elif glob.has_magic(path):
        yield from _list_remote_folder(source, *_split(path))
    else:
        raise ValidationError(f"source {shown} does not exist")


def _list_remote_folder(source: Any, base: str, pattern: tuple[str, ...] | None) -> Iterator[_Found]:
    """Yield the files below a folder, or those that match, by one listing."""
    found: Mapping[str, Mapping[str, Any]] = _call_store(str(source), lambda: find_files(source.fs, base))
    for path, info in found.items():
        key = path.removeprefix(base).lstrip("/")
        if info.get("type") == "directory" or path.endswith("/"):  # a folder's own entry
            continue
        if pattern is None or matches(key.split("/"), pattern):
            yield _remote(source, path, info, key)


def _remote(source: Any, path: str, info: Mapping[str, Any], key: str) -> _Found:
    shown = f"{source.protocol}://{path.removeprefix('/')}" if path != source.path else str(source)
    if not isinstance(info.get("size"), int):
        raise ValidationError(f"listing source {shown} failed: its store does not report its size")
    content = [str(info[name]) for name in sorted(info) if name.lower() in CONTENT_FIELDS and info[name] is not None]
    mark = _mark(info["size"], *content) if content else 0  # times can be set, and may be as coarse as a day
    return _Found(
        _as_key(key), info["size"], shown, FsspecFile(source.fs, path, shown, content_fingerprint(info)), mark
    )


def _info(fs: Any, path: str) -> Mapping[str, Any] | None:
    try:
        info: Mapping[str, Any] = fs.info(path)
    except FileNotFoundError:
        return None
    return info


def _call_store(shown: str, question: Callable[[], Any]) -> Any:
    """Call another store; raise any error of its filesystem as ``UnknownError``."""
    try:
        return question()
    except MictlanXError:
        raise
    except Exception as error:
        raise UnknownError(f"listing source {shown} failed: {describe_error(error)}", transient=False) from error
