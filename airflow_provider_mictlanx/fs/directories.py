"""
The directories of a bucket: the folders in the keys of its objects, and the ones that ``mkdir`` has made.

MictlanX has no directories. One that is made exists in this process only, until it is removed.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

from airflow_provider_mictlanx.client.models import Ball

Info: TypeAlias = dict[str, Any]
"""The description of a file or directory, as ``info`` returns it."""


def file_info(ball: Ball) -> Info:
    """Return the description of an object."""
    modified = _time(ball.updated_at)
    return {
        "name": f"{ball.bucket_id}/{ball.key}",
        "type": "file",
        "size": ball.size,
        "created": _time(min(chunk.updated_at for chunk in ball.chunks)),
        "LastModified": modified,
        "mtime": modified.timestamp(),
        "ETag": ball.checksum or None,
        "checksum": ball.checksum or None,
        "ball_id": ball.ball_id,
        "num_chunks": ball.num_chunks,
    }


def directory_info(name: str) -> Info:
    """Return the description of a directory."""
    return {"name": name, "type": "directory", "size": 0}


def _time(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def parents(path: str) -> Iterator[str]:
    """Yield the directories above a path, the closest first, down to the bucket."""
    while "/" in path:
        path = path.rpartition("/")[0].rstrip("/")
        yield path


class Tree:
    """
    The files and directories of one listing of a bucket.

    :param made: directories of this bucket that ``mkdir`` has made
    :ivar files: by name
    :ivar directories: by name
    :ivar markers: keys that end in ``/``, by the directory that they mark
    """

    def __init__(self, balls: Iterable[Ball], made: Iterable[str]) -> None:
        self.files: dict[str, Info] = {}
        self.directories: dict[str, Info] = {}
        self.markers: dict[str, str] = {}
        self._children: defaultdict[str, list[Info]] = defaultdict(list)
        for ball in balls:
            info = file_info(ball)
            if ball.key.endswith("/"):
                self._add_directory(info["name"].rstrip("/"))
                self.markers[info["name"].rstrip("/")] = ball.key
            else:
                self.files[info["name"]] = info
                self._add_child(info)
        for name in made:
            self._add_directory(name)

    def _add_directory(self, name: str) -> None:
        if name not in self.directories:
            self.directories[name] = directory_info(name)
            self._add_child(self.directories[name])

    def _add_child(self, info: Info) -> None:
        parent = next(parents(info["name"]), None)
        if parent is not None:
            self._children[parent].append(info)
            self._add_directory(parent)

    def children(self, path: str) -> list[Info]:
        """Return the files and directories of a directory, sorted by name; a file of the same name comes first."""
        own = [self.files[path]] if path in self.files else []
        return own + sorted(self._children.get(path, ()), key=lambda info: str(info["name"]))

    def find(self, path: str, maxdepth: int | None = None) -> Iterator[Info]:
        """Yield everything below a path, and the file of this name."""
        if path in self.files:
            yield self.files[path]
        level = [path]
        while level and (maxdepth is None or maxdepth > 0):
            found = [info for name in level for info in self._children.get(name, ())]
            yield from found
            level = [info["name"] for info in found if info["type"] == "directory"]
            maxdepth = None if maxdepth is None else maxdepth - 1


class MadeDirectories:
    """The directories that ``mkdir`` has made in this process, by storage space."""

    def __init__(self) -> None:
        self._made: defaultdict[str, set[str]] = defaultdict(set)
        self.renew_lock()

    def renew_lock(self) -> None:
        """Replace the lock, which another thread may have held when this process was forked."""
        self._lock = threading.Lock()

    def add(self, space: str, path: str) -> None:
        """Remember a directory and the ones above it."""
        with self._lock:
            self._made[space].update((path, *parents(path)))

    def forget(self, space: str, path: str) -> None:
        """Forget a directory and everything below it."""
        with self._lock:
            self._made[space] = {made for made in self._made[space] if made != path and path not in parents(made)}

    def of_bucket(self, space: str, bucket_id: str) -> list[str]:
        """Return the remembered directories of a bucket, the bucket itself included."""
        with self._lock:
            return [made for made in self._made[space] if made == bucket_id or made.startswith(f"{bucket_id}/")]


MADE = MadeDirectories()
"""The directories of this process: filesystems without arguments and with the default connection share them."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=MADE.renew_lock)
