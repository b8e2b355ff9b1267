"""
The placement service: which peers are to hold which chunk, and the tasks that wait for data. Standard library only.

It knows names, not data, and it knows them in its own spelling (``normalised``), while the peers keep what they were
sent. Looked up is what the request says: so a chunk under an unsafe name is placed, acknowledged and never found again.
"""

from __future__ import annotations

import re
import sqlite3
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_DROPPED = re.compile(r"[^A-Za-z0-9_-]")
_RUN = re.compile(r"[-_]{2,}")


def normalised(name: str) -> str:
    """Give a name in the placement service's own spelling."""
    return _RUN.sub("-", _DROPPED.sub("", name)).strip("-_")


@dataclass(frozen=True)
class Task:
    """Data that was announced and has not come yet."""

    bucket_id: str
    key: str
    size: int
    checksum: str
    content_type: str
    peer_ids: tuple[str, ...]
    task_id: str

    @classmethod
    def of(cls, metadata: Mapping[str, Any], peer_ids: Sequence[str], task_id: str | None = None) -> Task:
        """Give the task of an announcement."""
        names = ("bucket_id", "key", "size", "checksum", "content_type")
        announced = {name: metadata[name] for name in names}
        return cls(**announced, peer_ids=tuple(peer_ids), task_id=task_id or str(uuid.uuid4()))


class Tasks:
    """
    The tasks that wait for data, in memory: a restart forgets them, as it does with the real service.

    :param lifetime: seconds after which a task is forgotten
    """

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._tasks: OrderedDict[str, tuple[float, Task]] = OrderedDict()

    def add(self, task: Task) -> None:
        """Wait for a task's data."""
        self._forget_expired()
        self._tasks[task.task_id] = (time.monotonic() + self._lifetime, task)

    def look(self, task_id: str) -> Task | None:
        """Give a task that waits, without spending it."""
        self._forget_expired()
        waiting = self._tasks.get(task_id)
        return waiting[1] if waiting else None

    def spend(self, task_id: str) -> Task | None:
        """Give a task that waits, once: after that it is gone."""
        task = self.look(task_id)
        if task is not None:
            del self._tasks[task_id]
        return task

    def _forget_expired(self) -> None:
        now = time.monotonic()
        while self._tasks:
            oldest = next(iter(self._tasks))
            if self._tasks[oldest][0] > now:
                return
            del self._tasks[oldest]


class NoPeerLeftError(Exception):
    """
    A chunk can't be placed.

    :ivar holders: the peers that have it
    :ivar everywhere: whether every peer has it (code 666), or the others are away (which may pass)
    """

    def __init__(self, holders: list[str], *, everywhere: bool) -> None:
        super().__init__(f"no peer is left; holders are {holders}")
        self.holders = holders
        self.everywhere = everywhere


class Placement:
    """Where chunks are, as the placement service has it. All but ``__init__`` takes a connection of the database."""

    def __init__(self) -> None:
        self._next = 0  # only touched where the database is written

    def place(
        self,
        connection: sqlite3.Connection,
        bucket_id: str,
        key: str,
        copies: int,
        peers: Sequence[str],
        available: set[str],
    ) -> list[str]:
        """
        Place ``copies`` further replicas, in turn, on available peers that have none; fewer where there are fewer.

        Raises ``NoPeerLeftError`` where there is none.
        """
        bucket_id, key = normalised(bucket_id), normalised(key)
        holders = self.holders(connection, bucket_id, key)
        start = self._next % len(peers)
        in_turn = [*peers[start:], *peers[:start]]
        chosen = [peer for peer in in_turn if peer in available and peer not in holders][:copies]
        if not chosen:
            raise NoPeerLeftError(holders, everywhere=set(peers) <= set(holders))
        self._next = peers.index(chosen[-1]) + 1
        connection.executemany(
            "insert into placement (bucket_id, key, peer_id) values (?, ?, ?)",
            [(bucket_id, key, peer) for peer in chosen],
        )
        return chosen

    def holders(self, connection: sqlite3.Connection, bucket_id: str, key: str) -> list[str]:
        """Give the peers that are to hold a chunk, under exactly this name."""
        rows = connection.execute("select peer_id from placement where bucket_id = ? and key = ?", (bucket_id, key))
        return [row[0] for row in rows]

    def forget(
        self, connection: sqlite3.Connection, bucket_id: str, key: str, peers: Sequence[str] | None = None
    ) -> None:
        """Forget where a chunk is: on these peers, or on all."""
        if peers is None:
            connection.execute("delete from placement where bucket_id = ? and key = ?", (bucket_id, key))
            return
        connection.executemany(
            "delete from placement where bucket_id = ? and key = ? and peer_id = ?",
            [(normalised(bucket_id), normalised(key), peer) for peer in peers],
        )
