"""
The placement service: which peers are to hold which chunk, and the tasks that wait for data.

It keeps names in a spelling of its own (``normalized``), while the peers keep the names that they were sent. A lookup
uses the name of the request: so a chunk under an unsafe name is placed, acknowledged and never found again.
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
    """Return a name in the placement service's own spelling."""
    return re.sub(r"[-_]{2,}", "-", re.sub(r"[^A-Za-z0-9_-]", "", name)).strip("-_")


class Task(NamedTuple):
    """Data that was announced and has not come yet."""

    task_id: str
    announced: PutMetadataRequest
    peer_ids: list[str]


class Tasks(TTLCache[str, Task]):
    """
    The tasks that wait for data, by id. They are in memory: a restart forgets them, as it does with the real service.

    :param lifetime: seconds after which a task is forgotten
    """

    def __init__(self, lifetime: float) -> None:
        super().__init__(math.inf, lifetime)


class NoPeerLeftError(Exception):
    """
    A chunk can't be placed.

    :ivar holders: the peers that have it
    :ivar everywhere: whether every peer has it (code 666), or the others are unavailable (which may pass)
    """

    def __init__(self, holders: list[str], *, everywhere: bool) -> None:
        super().__init__(f"no peer is left; holders are {holders}")
        self.holders = holders
        self.everywhere = everywhere


class Placement:
    """Where chunks are, as the placement service has it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next = 0

    def choose(self, bucket_id: str, key: str, copies: int, peers: Sequence[str], available: set[str]) -> list[str]:
        """
        Choose peers for up to ``copies`` further replicas: in turn, available ones that have none.

        Raise ``NoPeerLeftError`` where there is none.
        """
        holders = self.holders(normalized(bucket_id), normalized(key))
        start = self._next % len(peers)
        in_turn = [*peers[start:], *peers[:start]]
        chosen = [peer for peer in in_turn if peer in available and peer not in holders][:copies]
        if not chosen:
            raise NoPeerLeftError(holders, everywhere=set(peers) <= set(holders))
        self._next = peers.index(chosen[-1]) + 1
        return chosen

    def add(self, bucket_id: str, key: str, peers: Sequence[str]) -> None:
        """Store that these peers are to hold a chunk, within a transaction."""
        for peer in peers:
            name = normalized(bucket_id), normalized(key)
            self._database.execute("insert into placement (bucket_id, key, peer_id) values (?, ?, ?)", *name, peer)

    def holders(self, bucket_id: str, key: str) -> list[str]:
        """Return the peers that are to hold a chunk, under exactly this name."""
        where = "bucket_id = ? and key = ? order by peer_id"
        return [
            row[0] for row in self._database.execute(f"select peer_id from placement where {where}", bucket_id, key)
        ]

    def forget(self, bucket_id: str, key: str) -> None:
        """Forget where a chunk is, under exactly this name."""
        self._database.execute("delete from placement where bucket_id = ? and key = ?", bucket_id, key)
