"""The virtual storage space: peers, placement service and data folder, which all routers share."""

from __future__ import annotations

import fcntl
import itertools
import sqlite3
from pathlib import Path
from typing import IO

from cachetools import LRUCache

from airflow_provider_mictlanx.local_vss.blobs import ChunkData, IncomingBody
from airflow_provider_mictlanx.local_vss.database import Database
from airflow_provider_mictlanx.local_vss.faults import FaultBoard
from airflow_provider_mictlanx.local_vss.options import Options, StartError
from airflow_provider_mictlanx.local_vss.peer import Peer
from airflow_provider_mictlanx.local_vss.placement import Placement, Tasks


class StorageSpace:
    """
    The peers and the placement service of one data folder. Raise ``StartError`` if the folder cannot be used.

    :param options: the options of the command line
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.faults = FaultBoard()
        self.tasks = Tasks(options.task_lifetime)
        self.peers: dict[str, Peer] = {}
        self.caches: list[LRUCache[tuple[str, str], ChunkData]] = []  # of the routers
        self._removed: dict[str, Peer] = {}
        try:
            options.data.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(options.data)
            self.database = Database(options.data / "metadata.sqlite3", fsync=options.fsync)
            self.placement = Placement(self.database)
            # Peers of earlier starts remain: without them, their replicas would be lost.
            for (peer_id,) in self.database.execute("select peer_id from peers order by position").fetchall():
                self._open_peer(peer_id)
            new_ids = (peer_id for n in itertools.count() if (peer_id := f"peer-{n}") not in self.peers)
            while len(self.peers) < options.peers:
                self.add_peer(next(new_ids))
        except (OSError, sqlite3.Error) as error:
            raise StartError(
                f"opening the data folder {options.data} failed: {error}; set --data to another folder"
            ) from error

    def add_peer(self, peer_id: str) -> Peer:
        """Add a new peer to the space permanently."""
        self.database.execute("insert into peers select ?, coalesce(max(position), -1) + 1 from peers", peer_id)
        return self._open_peer(peer_id)

    def remove_peer(self, peer_id: str) -> bool:
        """Remove a peer and its placements until the next start; return False if its id is unknown."""
        peer = self.peers.pop(peer_id, None)
        if peer is not None:
            self._removed[peer_id] = peer
            self.placement.forget_peer(peer_id)
        return peer is not None

    def restore_peer(self, peer_id: str) -> bool:
        """Add a removed peer again, with its replicas; return False if its id is unknown."""
        peer = self._removed.pop(peer_id, None)
        if peer is not None:
            self.peers[peer_id] = peer
        return peer is not None

    def incoming_body(self) -> IncomingBody:
        """Return an empty body for the data of a request."""
        return IncomingBody(self.options.data)

    async def clear(self) -> None:
        """Delete all data: replicas and placements, what the routers cached, and tasks that wait for data."""
        self.tasks.clear()
        async with self.database.transaction():
            self.placement.clear()
            for peer in (*self.peers.values(), *self._removed.values()):
                peer.clear()
        for cache in self.caches:
            cache.clear()

    def close(self) -> None:
        """Close the database and unlock the folder."""
        self.database.close()
        self._lock.close()

    def _open_peer(self, peer_id: str) -> Peer:
        peer = self.peers[peer_id] = Peer(peer_id, self.options, self.database, self.faults)
        return peer


def _lock(folder: Path) -> IO[str]:
    """Lock the folder: two processes would not see each other's placement."""
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StartError(
            f"locking the data folder {folder} failed: another local VSS uses it; stop it, or set another --data"
        ) from None
    return lock
