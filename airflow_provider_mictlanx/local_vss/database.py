"""
The SQLite file of the metadata.

A request is acknowledged after its commit. All writes happen on the event loop, which serializes them. A commit takes
some microseconds, because it reaches only the operating system. With ``fsync``, requests wait for the disk together, in
a thread.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

_SCHEMA = """
create table if not exists peers (
    peer_id  text primary key,
    position integer not null unique
);
create table if not exists placement (
    bucket_id text not null,
    key       text not null,
    peer_id   text not null,
    primary key (bucket_id, key, peer_id)
) without rowid;
create table if not exists replicas (
    seq       integer primary key autoincrement,
    peer_id   text not null,
    bucket_id text not null,
    key       text not null,
    ball_id   text not null,
    size      integer not null,
    checksum  text not null,
    task_id   text not null,
    metadata  text not null,
    blob      text,
    unique (peer_id, bucket_id, key)
);
create index if not exists replicas_by_ball on replicas (peer_id, bucket_id, ball_id);
create index if not exists replicas_by_checksum on replicas (checksum);
"""


class Database:
    """
    The metadata of one data folder.

    :param path: the SQLite file, created if missing
    :param fsync: True = a commit waits for the disk and survives a power failure; False = it waits for the operating
        system and survives the death of the process
    """

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self._path = path
        self._fsync = fsync
        self._connections = threading.local()
        self._unneeded: list[Path] = []
        self._disk = asyncio.Lock()
        self._commits = self._commits_on_disk = 0
        self._last_timestamp = 0
        self._connection().executescript(_SCHEMA)

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Run one statement; outside ``transaction`` it is committed at once."""
        return self._connection().execute(statement, values)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit all statements of the block, or none if it raises. The block must not await."""
        unneeded = self._unneeded = []
        connection = self._connection()
        connection.execute("begin immediate")
        with connection:
            yield
        self._commits += 1
        if self._fsync:
            await self._wait_for_disk()
        for path in unneeded:
            path.unlink(missing_ok=True)

    async def _wait_for_disk(self) -> None:
        """Wait until all previous commits are on the disk. Concurrent requests share one wait."""
        needed = self._commits
        async with self._disk:
            if self._commits_on_disk < needed:
                commits = self._commits
                await asyncio.to_thread(sync_to_disk, self._path.with_name(f"{self._path.name}-wal"))
                self._commits_on_disk = commits

    def remove_after_commit(self, path: Path) -> None:
        """Delete a file after the commit that deletes its metadata."""
        self._unneeded.append(path)

    def timestamp(self) -> int:
        """Return nanoseconds since 1970 that never repeat, so that ``updated_at`` orders all announcements."""
        self._last_timestamp = max(time.time_ns(), self._last_timestamp + 1)
        return self._last_timestamp

    def close(self) -> None:
        """Close the connection of the calling thread."""
        self._connection().close()

    def _connection(self) -> sqlite3.Connection:
        """Return the connection of the calling thread: listings read in threads, and see committed data only."""
        connection: sqlite3.Connection | None = getattr(self._connections, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=30, cached_statements=256)
            connection.execute("pragma journal_mode = wal")
            # In pages; rarely, because a checkpoint waits for the disk.
            connection.execute("pragma wal_autocheckpoint = 8000")
            connection.execute("pragma synchronous = normal")  # only checkpoints wait for the disk
            self._connections.connection = connection
        return connection


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
