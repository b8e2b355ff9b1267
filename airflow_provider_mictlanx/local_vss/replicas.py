"""
What the peers know of their replicas: the statements on the database's table. Standard library only.

A replica's metadata is kept as the JSON text that listings answer, so that a listing of many chunks costs no parsing.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

METADATA_FIELDS = (
    "key",
    "size",
    "checksum",
    "tags",
    "content_type",
    "producer_id",
    "ball_id",
    "bucket_id",
    "is_disabled",
)


@dataclass(frozen=True)
class Replica:
    """
    One replica as its peer knows it.

    :ivar blob: the name of the file with its bytes; None while nothing was stored
    """

    peer_id: str
    key: str
    size: int
    checksum: str
    metadata: str
    blob: str | None

    @property
    def content_type(self) -> str:
        """The content type that was announced."""
        return str(json.loads(self.metadata)["content_type"])


class _Clock:
    """Nanoseconds since 1970 that never repeat, so that ``updated_at`` always tells which came later."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self._last = max(time.time_ns(), self._last + 1)
            return self._last


updated_at = _Clock()


def announce(connection: sqlite3.Connection, peer_id: str, task_id: str, metadata: Mapping[str, Any]) -> list[str]:
    """
    Note an announcement at a peer, and give the files that are not needed any more.

    A copy that a missed delete left at the peer is replaced: the placement service does not know of it.

    :param metadata: the fields of ``METADATA_FIELDS``
    """
    name = (peer_id, metadata["bucket_id"], metadata["key"])
    left_over = connection.execute(
        "delete from replicas where peer_id = ? and bucket_id = ? and key = ? returning blob", name
    ).fetchall()
    connection.execute(
        "insert into replicas (peer_id, bucket_id, key, ball_id, size, checksum, task_id, metadata) "
        "values (?, ?, ?, ?, ?, ?, ?, ?)",
        (*name, metadata["ball_id"], metadata["size"], metadata["checksum"], task_id, _as_text(metadata)),
    )
    return [row[0] for row in left_over if row[0] is not None]


def attach(connection: sqlite3.Connection, peer_id: str, bucket_id: str, key: str, task_id: str, blob: str) -> bool:
    """Note that the data of an announcement is stored; False if the announcement is gone meanwhile."""
    cursor = connection.execute(
        "update replicas set blob = ? where peer_id = ? and bucket_id = ? and key = ? and task_id = ? and blob is null",
        (blob, peer_id, bucket_id, key, task_id),
    )
    return cursor.rowcount == 1


def find(connection: sqlite3.Connection, peer_id: str, bucket_id: str, key: str) -> Replica | None:
    """Give a peer's replica of a chunk."""
    return _one(connection, "peer_id = ? and bucket_id = ? and key = ?", (peer_id, bucket_id, key))


def find_content(connection: sqlite3.Connection, peer_id: str, checksum: str) -> Replica | None:
    """Give a peer's replica with these bytes."""
    return _one(connection, "peer_id = ? and checksum = ? and blob is not null", (peer_id, checksum))


def of_ball(connection: sqlite3.Connection, peer_id: str, bucket_id: str, ball_id: str) -> list[Replica]:
    """Give a peer's replicas of a ball's chunks, in the order of their announcements."""
    where = "peer_id = ? and bucket_id = ? and ball_id = ? order by seq"
    return _all(connection, where, (peer_id, bucket_id, ball_id))


def of_bucket(connection: sqlite3.Connection, peer_id: str, bucket_id: str) -> list[str]:
    """Give the metadata (JSON) of a peer's replicas in a bucket, in the order of their announcements, but empty ones."""
    rows = connection.execute(
        "select metadata from replicas where peer_id = ? and bucket_id = ? and size > 0 order by seq",
        (peer_id, bucket_id),
    )
    return [row[0] for row in rows]


def of_peer(connection: sqlite3.Connection, peer_id: str) -> list[Replica]:
    """Give everything that a peer knows."""
    return _all(connection, "peer_id = ? order by seq", (peer_id,))


def delete_key(connection: sqlite3.Connection, peer_id: str, bucket_id: str, key: str) -> list[str | None]:
    """Delete a peer's replica of a chunk; gives its file, or None for an announcement without data."""
    rows = connection.execute(
        "delete from replicas where peer_id = ? and bucket_id = ? and key = ? returning blob", (peer_id, bucket_id, key)
    )
    return [row[0] for row in rows.fetchall()]


def delete_ball(
    connection: sqlite3.Connection, peer_id: str, bucket_id: str, ball_id: str
) -> list[tuple[str, str | None]]:
    """Delete a peer's replicas of a ball's chunks; gives their keys and files."""
    rows = connection.execute(
        "delete from replicas where peer_id = ? and bucket_id = ? and ball_id = ? returning key, blob",
        (peer_id, bucket_id, ball_id),
    )
    return [(row[0], row[1]) for row in rows.fetchall()]


def change(
    connection: sqlite3.Connection, peer_id: str, bucket_id: str, key: str, how: Callable[[dict[str, Any]], None]
) -> bool:
    """Change a replica's metadata in place, and stamp it; False if the peer has none."""
    replica = find(connection, peer_id, bucket_id, key)
    if replica is None:
        return False
    metadata = json.loads(replica.metadata)
    how(metadata)
    connection.execute(
        "update replicas set metadata = ? where peer_id = ? and bucket_id = ? and key = ?",
        (_as_text(metadata), peer_id, bucket_id, key),
    )
    return True


def files_in_use(connection: sqlite3.Connection, peer_id: str) -> set[str]:
    """Give the names of the files that belong to a peer's replicas."""
    rows = connection.execute("select blob from replicas where peer_id = ? and blob is not null", (peer_id,))
    return {row[0] for row in rows}


def _as_text(metadata: Mapping[str, Any]) -> str:
    told = {name: metadata[name] for name in METADATA_FIELDS}
    told["tags"] = {**metadata["tags"], "updated_at": str(updated_at())}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _one(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> Replica | None:
    found = _all(connection, f"{where} limit 1", values)
    return found[0] if found else None


def _all(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[Replica]:
    rows = connection.execute(
        f"select peer_id, key, size, checksum, metadata, blob from replicas where {where}", values
    )
    return [Replica(*row) for row in rows]
