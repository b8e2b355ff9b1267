"""
What a bulk uploads: files, folders and globs of this machine and of other stores, and items that the caller lists.

Knows the client's names, and of other stores' paths that they have ``fs``, ``path`` and ``protocol`` (as ``ObjectStoragePath``
and every ``UPath`` have), where ``fs`` is a filesystem as fsspec defines it.

Keys: of a folder, the paths relative to it; of a glob, relative to the folder before the first wildcard; of a single file,
its name; of a list, each by its own rule. A folder gives every file in it, hidden ones too; a glob gives hidden ones only
where the pattern names the dot, as a shell does. A symbolic link is followed to a file inside the folder; one that leaves
the folder, or leads to a folder or to nothing, is an error, as are sockets, pipes and devices, and folders that can't be
read: leaving them out without a word would lose them. In other stores the same rules hold, as far as they have such things.
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

from airflow_provider_mictlanx.batches.runner import format_first
from airflow_provider_mictlanx.client.errors import MictlanXError, UnknownError, ValidationError
from airflow_provider_mictlanx.client.local_io.fsspec_source import CONTENT_FIELDS, FsspecFile, content_fingerprint
from airflow_provider_mictlanx.client.object_ids import check_bucket_id, make_ball_id
from airflow_provider_mictlanx.client.validation import check_str, check_tags

NO_TAGS: Mapping[str, str] = MappingProxyType({})
"""No tags of the ball's own."""

LOCAL = ("", "file", "local")
"""The protocols of paths of this machine."""


@dataclass(frozen=True, slots=True)
class SourceBall:
    """
    One ball that is to be uploaded.

    :ivar size: bytes
    :ivar source: the path, or what stands for it
    :ivar data: the bytes, where they were given
    :ivar file: a file of another store, with what tells that it is still the same
    :ivar mark: changes with a file's content (``_mark``); 0 where nothing is known that does
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
    :param key_prefix: put before every key, unchanged
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
    List items that the caller gives, sorted by key.

    :param items: dicts with ``key``, ``source`` (a path) or ``data`` (str or bytes), and optionally ``bucket_id`` and
        ``tags``; a ``source`` that is bytes is data too
    :param bucket_id: bucket of items without one
    """
    return check_balls([_item(item, place, bucket_id, key_prefix) for place, item in enumerate(items)])


def check_balls(balls: list[SourceBall]) -> list[SourceBall]:
    """Return the balls sorted by bucket and key; raise ``ValidationError`` for an invalid or duplicate name."""
    seen: set[bytes] = set()  # of a million, names would be twice as large
    for ball in balls:
        check_bucket_id(ball.bucket_id)
        name = _digest_of(ball)
        if name in seen:
            other = next(other for other in balls if _digest_of(other) == name)
            raise ValidationError(
                f"two sources have the key {ball.key!r} of bucket {ball.bucket_id}: {other.source} and {ball.source}; give "
                "one of them a key_prefix or a key of its own"
            )
        seen.add(name)
    return sorted(balls, key=lambda ball: (ball.bucket_id, ball.key))


def _digest_of(ball: SourceBall) -> bytes:
    return hashlib.sha256(f"{ball.bucket_id}/{make_ball_id(ball.key)}".encode()).digest()


def _item(item: Mapping[str, Any], place: int, bucket_id: str, key_prefix: str) -> SourceBall:
    where = f"ball {place} of the list"
    if not isinstance(item, Mapping):
        raise ValidationError(f"{where} is no dictionary: {type(item).__name__}")
    if unknown := sorted(str(name) for name in item.keys() - {"bucket_id", "key", "source", "data", "tags"}):
        raise ValidationError(f"{where}: {', '.join(unknown)} is unknown; there are bucket_id, data, key, source, tags")
    source, data, key = item.get("source"), item.get("data"), item.get("key")
    if isinstance(source, bytes):
        source, data = None, source
    if (source is None) == (data is None):
        raise ValidationError(f"{where} has either source (a path) or data (text or bytes)")
    if key is not None and not isinstance(key, str):
        raise ValidationError(f"{where}: key is a text, not {key!r}")
    tags = NO_TAGS if item.get("tags") is None else check_tags(item["tags"])
    bucket = item.get("bucket_id") or bucket_id
    if source is not None:
        found = _list_single(source, where)
        name = key_prefix + (key or found.key)
        return SourceBall(bucket, name, found.size, found.source, tags=tags, file=found.file, mark=found.mark)
    if not key:
        raise ValidationError(f"{where} has data, and needs a key")
    content = data.encode() if isinstance(data, str) else data
    if not isinstance(content, bytes):
        raise ValidationError(f"{where}: data is text or bytes, not {type(content).__name__}")
    mark = _mark(hashlib.sha256(content).hexdigest())
    return SourceBall(bucket, key_prefix + key, len(content), f"data of {key}", content, tags, mark=mark)


@dataclass(frozen=True, slots=True)
class _Found:
    """A file that was found."""

    key: str
    size: int
    source: str
    file: FsspecFile | None = None
    mark: int = 0


def _mark(*facts: int | str) -> int:
    """Return a 64-bit digest of facts; an int, since there may be a million of them."""
    return int.from_bytes(hashlib.blake2b(repr(facts).encode(), digest_size=8).digest()) or 1


def _mark_of(status: os.stat_result) -> int:
    """
    Return the mark of a file: content cannot change without the times or, where another file takes its place, the inode.

    The time of the inode's change is among them: unlike the other one, it can't be set back.
    """
    return _mark(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _list_any(source: Any) -> Iterator[_Found]:
    """Yield every file of one source."""
    if _is_remote(source):
        yield from _list_remote(source)
    else:
        yield from _list_local(_local_path(source))


def _list_single(source: Any, where: str) -> _Found:
    """Return the file that a source names."""
    if not _is_remote(source):
        return _regular(_local_path(source))
    [*found] = _list_remote(source)
    if len(found) != 1 or found[0].source != str(source):
        raise ValidationError(f"{where}: {source} is no file")
    return found[0]


def _is_remote(source: Any) -> bool:
    return getattr(source, "protocol", "") not in LOCAL and hasattr(source, "fs") and hasattr(source, "path")


def _local_path(source: Any) -> str:
    if isinstance(source, str | os.PathLike) and not hasattr(source, "protocol"):
        path = os.fspath(source)
    else:
        path = getattr(source, "path", None)  # of a path of another store's kind, but of this machine
    if not isinstance(path, str):
        raise ValidationError(f"source is a path, not {source!r}")
    if "://" in path and not os.path.lexists(path):
        raise ValidationError(f"source {path!r} is of another store: give it as ObjectStoragePath({path!r})")
    return path


# -- this machine --------------------------------------------------------------------------------------------------


def _list_local(source: str) -> Iterator[_Found]:
    if not source or "\0" in source:
        raise ValidationError(f"source {source!r} is no path")
    if glob.has_magic(source) and not os.path.lexists(source):
        base, pattern = _split(source)
        yield from _listed(Path(base or "."), _walk(base or ".", pattern))
    elif os.path.isdir(source):
        yield from _listed(Path(source), _walk(source, None))
    else:
        yield _regular(source)


def _split(source: str) -> tuple[str, tuple[str, ...]]:
    """Split a glob into the folder before the first wildcard, and the parts of the pattern."""
    parts = [part for part in source.split("/") if part not in ("", ".")]
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    if ".." in parts[first:]:
        raise ValidationError(
            f"source {source!r}: '..' after a wildcard leads out of the folder that keys are relative to"
        )
    base = ("/" if source.startswith("/") else "") + "/".join(parts[:first])
    pattern = parts[first:] + (["*"] if parts[-1] == "**" else [])
    return base, tuple(
        part for place, part in enumerate(pattern) if (part, pattern[place - 1 : place]) != ("**", ["**"])
    )


def _walk(folder: str, pattern: tuple[str, ...] | None) -> Iterator[str]:
    """Yield the paths in a folder, or those that match, and the links to folders that would have to be followed."""

    def give_up(error: OSError) -> None:
        raise ValidationError(f"folder {error.filename} can't be read: {error.strerror}") from error

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


def _listed(base: Path, paths: Iterable[str]) -> Iterator[_Found]:
    inside = os.path.realpath(base)
    wrong: list[str] = []
    found: list[_Found] = []
    for path in paths:
        status = _check_listed_file(path, inside)
        if isinstance(status, str):
            wrong.append(f"{path} {status}")
        else:
            key = _as_key(os.path.relpath(path, base))
            found.append(_Found(key, status.st_size, path, mark=_mark_of(status)))
    if wrong:
        raise ValidationError(
            f"these can't be uploaded: {format_first(sorted(wrong), '; ')}. Take them out of the folder, or choose the others "
            "with a glob"
        )
    yield from found


def _check_listed_file(path: str, inside: str) -> os.stat_result | str:
    """Return the status of a path that was found, or what is wrong with it."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return "is a symbolic link that leads nowhere"
    except OSError as error:
        return f"can't be looked at ({error.strerror})"
    if os.path.islink(path):
        if stat.S_ISDIR(status.st_mode):
            return "is a symbolic link to a folder"
        if os.path.commonpath([inside, os.path.realpath(path)]) != inside:
            return "is a symbolic link that leaves the folder"
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    return status


def _regular(path: str) -> _Found:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValidationError(f"source {path!r} can't be read: {reason}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ValidationError(f"source {path} is no regular file")
    return _Found(_as_key(os.path.basename(path)), status.st_size, path, mark=_mark_of(status))


def _as_key(path: str) -> str:
    """Return a path as a key; raise ``ValidationError`` if it is not valid Unicode."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ValidationError(f"the file name {path!r} is no valid Unicode text, and so can't be a key") from error
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
        raise ValidationError(f"source {shown} is not there")


def _list_remote_folder(source: Any, base: str, pattern: tuple[str, ...] | None) -> Iterator[_Found]:
    """Yield the files below a folder, or those that match, by one listing."""
    found: Mapping[str, Mapping[str, Any]] = _call_store(str(source), lambda: source.fs.find(base, detail=True))
    for path, info in found.items():
        key = path.removeprefix(base).lstrip("/")
        if info.get("type") == "directory" or path.endswith("/"):  # a folder's own entry
            continue
        if pattern is None or matches(key.split("/"), pattern):
            yield _remote(source, path, info, key)


def _remote(source: Any, path: str, info: Mapping[str, Any], key: str) -> _Found:
    shown = f"{source.protocol}://{path.removeprefix('/')}" if path != source.path else str(source)
    if not isinstance(info.get("size"), int):
        raise ValidationError(f"source {shown}: its store does not tell its size")
    content = [str(info[name]) for name in sorted(info) if name.lower() in CONTENT_FIELDS and info[name] is not None]
    mark = _mark(info["size"], *content) if content else 0  # times may be set, and be as coarse as a day
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
    """Call another store; any error of its filesystem is raised as ``UnknownError``."""
    try:
        return question()
    except MictlanXError:
        raise
    except Exception as error:
        raise UnknownError(f"source {shown} can't be listed: {type(error).__name__}", transient=False) from error
