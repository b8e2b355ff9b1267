"""
The placement service: the peers of every chunk, and the tasks that wait for data.

It stores ``normalized`` names, while the peers store the names of the requests. A lookup uses the name of the request,
so a chunk under an unsafe name is placed, acknowledged and never found again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from cachetools import TTLCache

from airflow_provider_mictlanx.client.models import PutMetadataRequest
from airflow_provider_mictlanx.local_vss.database import Database


def normalized(name: str) -> str:
    """Return a name in the placement service's form."""
    return re.sub(r"[-_]{2,}", "-", re.sub(r"[^A-Za-z0-9_-]", "", name)).strip("-")


class Task(NamedTuple):
    """Announced data that has not arrived yet."""

    task_id: str
    announced: PutMetadataRequest
    peer_ids: list[str]


class Tasks(TTLCache[str, Task]):
    """
    The tasks that wait for data, by id. A restart forgets them, as that of the real service does.

    :param lifetime: time after which a task is forgotten (seconds)
    """

    def __init__(self, lifetime: float) -> None:
        super().__init__(math.inf, lifetime)


class NoPeerLeftError(Exception):
    """
    No peer can store a further replica of a chunk.

    :ivar holders: the peers that have one
    :ivar everywhere: True if every peer has one (code 666), False if the other peers are unavailable
    """

    def __init__(self, holders: list[str], *, everywhere: bool) -> None:
        super().__init__(f"every available peer has a replica; the holders are {holders}")
        self.holders = holders
        self.everywhere = everywhere


class Placement:
    """The placement of chunks on peers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next = 0

    def choose(self, bucket_id: str, key: str, copies: int, peers: Sequence[str], available: set[str]) -> list[str]:
        """
        Choose available peers without a replica, in turn, for up to ``copies`` further replicas.

        Raise ``NoPeerLeftError`` if no peer is left.
        """
        holders = self.holders(normalized(bucket_id), normalized(key))
        start = self._next % max(1, len(peers))
        in_turn = [*peers[start:], *peers[:start]]
        chosen = [peer for peer in in_turn if peer in available and peer not in holders][:copies]
        if not chosen:
            raise NoPeerLeftError(holders, everywhere=bool(peers) and set(peers) <= set(holders))
        self._next = peers.index(chosen[-1]) + 1
        return chosen

    def add(self, bucket_id: str, key: str, peers: Sequence[str]) -> None:
        """Place a chunk on peers, within a transaction."""
        for peer in peers:
            name = normalized(bucket_id), normalized(key)
            self._database.execute("insert into placement (bucket_id, key, peer_id) values (?, ?, ?)", *name, peer)

    def holders(self, bucket_id: str, key: str) -> list[str]:
        """Return the peers of a chunk, under exactly this name."""
        where = "bucket_id = ? and key = ? order by peer_id"
        return [
            row[0] for row in self._database.execute(f"select peer_id from placement where {where}", bucket_id, key)
        ]

    def forget(self, bucket_id: str, key: str) -> None:
        """Delete the placement of a chunk, under exactly this name."""
        self._database.execute("delete from placement where bucket_id = ? and key = ?", bucket_id, key)

    def clear(self) -> None:
        """Delete every placement, and begin with the first peer again."""
        self._database.execute("delete from placement")
        self._next = 0

    def forget_peer(self, peer_id: str) -> None:
        """Delete the placement of all chunks on a peer."""
        self._database.execute("delete from placement where peer_id = ?", peer_id)
