"""Places that data comes from and goes to, as lineage tells of them: few, however many objects there are. Imports names only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_mictlanx.assets.mictlanx import SCHEME

MOST = 100
"""How many places one task tells of, in each direction: what Airflow's own collector takes."""


@dataclass(frozen=True)
class Place:
    """
    An object, a part of a bucket, a file or a folder.

    :ivar scheme: ``mictlanx``, ``file``, or that of another store
    :ivar container: the bucket; empty for files of the worker
    :ivar name: the key, its beginning, or the path
    """

    scheme: str
    container: str
    name: str


def in_bucket(bucket_id: str, key: str = "") -> Place:
    """
    Give the place of an object, of the objects that begin with a prefix, or of a whole bucket.

    :param key: a key or a prefix; empty for the bucket
    """
    return Place(SCHEME, bucket_id, key)


def matching(bucket_id: str, prefix: str, glob: str) -> Place:
    """Give the place of what a prefix or a glob chooses: of a glob, what stands before its first wildcard."""
    return in_bucket(bucket_id, prefix or re.split(r"[*?[]", glob)[0])


def on_disk(path: str | os.PathLike[str]) -> Place:
    """Give the place of a file or a folder of this machine."""
    return Place("file", "", os.path.abspath(os.fspath(path)))


def of_source(source: str) -> Place:
    """Give the place of what a bulk uploads: a path of this machine, or the URI of another store; of a glob, the folder before it."""
    fixed = re.split(r"[*?[]", source)[0]
    if fixed != source:
        fixed = fixed[: fixed.rfind("/") + 1] or "."
    uri = urlsplit(fixed)
    if not uri.scheme or "://" not in fixed:
        return on_disk(fixed)
    if uri.scheme == "file":
        return on_disk(uri.path)
    return Place(uri.scheme, uri.netloc.rpartition("@")[2], uri.path.strip("/"))


def sources_of(sources: Iterable[str], balls: Iterable[Mapping[str, Any]]) -> list[Place]:
    """
    Give the places of what a bulk uploads; of many single files, their folders.

    :param balls: with a path in their ``source``
    """
    paths = [str(ball["source"]) for ball in balls if ball.get("source") is not None]
    if len(paths) > MOST:
        paths = [path.rpartition("/")[0] or "." for path in paths]
    return list(dict.fromkeys(map(of_source, [*sources, *paths])))


def keys_of(bucket_id: str, keys: Iterable[str]) -> list[Place]:
    """Give the places of some keys; of many, their bucket."""
    found = list(dict.fromkeys(keys))
    return [in_bucket(bucket_id, key) for key in found] if len(found) <= MOST else [in_bucket(bucket_id)]


@dataclass
class Trace:
    """
    What a hook has read, written and deleted so far, each place once, no more than ``MOST`` of them.

    :ivar drops: what was deleted
    """

    reads: dict[Place, None] = field(default_factory=dict)
    writes: dict[Place, None] = field(default_factory=dict)
    drops: dict[Place, None] = field(default_factory=dict)

    def add(self, reads: Iterable[Place], writes: Iterable[Place], drops: Iterable[Place]) -> None:
        """Remember places."""
        for kept, places in ((self.reads, reads), (self.writes, writes), (self.drops, drops)):
            for place in places:
                if len(kept) < MOST:
                    kept.setdefault(place)
