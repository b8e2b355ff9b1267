"""
The metadata's SQLite file: one writer, and readers that never wait. Standard library only.

What a request acknowledges is committed before. A commit that only goes to the operating system takes some
microseconds, less than a change of threads, and is made at once, on the event loop. One that waits for the disk takes
a thousand times as long, so requests that write at the same time share it: a thread takes whatever is waiting, runs it
in one transaction (each in a savepoint of its own, so that one failure harms nobody else), commits, and only then lets
the waiting requests answer.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_BATCH = 256

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


@dataclass
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class Database:
    """
    The metadata of one data folder.

    :param path: the SQLite file, made if missing
    :param fsync: whether a commit waits for the disk (safe from power loss), or only for the operating system (safe
        from the death of the process)
    """

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self._path = path
        self._fsync = fsync
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._readers = threading.local()
        with self._connect() as connection:
            connection.executescript(_SCHEMA)
        connection.close()
        self._writer: threading.Thread | None = None

    def start(self) -> None:
        """Start the writer's thread, if there is to be one; called on the event loop that will write."""
        if not self._fsync:
            return
        loop = asyncio.get_running_loop()
        self._writer = threading.Thread(target=self._write_batches, args=(loop,), name="metadata-writer", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Finish what is waiting, and stop the writer."""
        if self._writer is not None:
            self._jobs.put(None)
            self._writer.join()
        self.reader().close()

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """
        Run ``work`` in a transaction and give what it gives, once that is committed.

        :param work: what it raises is raised here, and none of its changes remain
        """
        if not self._fsync:
            return self._write_at_once(work)
        job = _Job(work, asyncio.get_running_loop().create_future())
        self._jobs.put(job)
        result: T = await job.done
        return result

    def _write_at_once(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self.reader()
        connection.execute("begin immediate")
        try:
            result = work(connection)
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise
        return result

    def reader(self) -> sqlite3.Connection:
        """Give the calling thread's connection for reading; it sees everything that is committed."""
        connection: sqlite3.Connection | None = getattr(self._readers, "connection", None)
        if connection is None:
            connection = self._readers.connection = self._connect()
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=30, cached_statements=256)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma wal_autocheckpoint = 8000")  # pages: a checkpoint waits for the disk
        connection.execute(f"pragma synchronous = {'FULL' if self._fsync else 'NORMAL'}")
        return connection

    def _write_batches(self, loop: asyncio.AbstractEventLoop) -> None:
        connection = self._connect()
        while (job := self._jobs.get()) is not None:
            batch = [job]
            while len(batch) < _BATCH and not self._jobs.empty():
                following = self._jobs.get()
                if following is None:
                    self._jobs.put(None)
                    break
                batch.append(following)
            _commit(connection, batch)
            if not loop.is_closed():
                loop.call_soon_threadsafe(_deliver, batch)
        connection.close()


def _commit(connection: sqlite3.Connection, batch: list[_Job]) -> None:
    try:
        connection.execute("begin immediate")
        for job in batch:
            _attempt(connection, job)
        connection.execute("commit")
    except sqlite3.Error as error:  # a full disk, for one: nobody in the batch may believe that it was stored
        if connection.in_transaction:
            connection.execute("rollback")
        for job in batch:
            job.error = error


def _attempt(connection: sqlite3.Connection, job: _Job) -> None:
    connection.execute("savepoint job")
    try:
        job.result = job.work(connection)
    except Exception as error:
        connection.execute("rollback to job")
        job.error = error
    connection.execute("release job")


def _deliver(batch: list[_Job]) -> None:
    for job in batch:
        if job.done.done():  # the request was given up meanwhile
            continue
        if job.error is not None:
            job.done.set_exception(job.error)
        else:
            job.done.set_result(job.result)
