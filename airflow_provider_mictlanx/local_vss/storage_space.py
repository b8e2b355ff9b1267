"""The virtual storage space: the peers, the placement service and the data folder that all routers share."""

from __future__ import annotations

import fcntl
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from airflow_provider_mictlanx.local_vss.blobs import IncomingBody, empty_folder
from airflow_provider_mictlanx.local_vss.database import Database
from airflow_provider_mictlanx.local_vss.faults import FaultBoard
from airflow_provider_mictlanx.local_vss.peer import Peer, started_at
from airflow_provider_mictlanx.local_vss.placement import Placement, Tasks


class StartError(Exception):
    """The local VSS can't start; the message says why, for the person who started it."""


@dataclass(frozen=True)
class Options:
    """
    What the local VSS is started with.

    :ivar data: the folder that holds everything; made if missing
    :ivar peers: how many peers; a folder that has more keeps them
    :ivar host: the address to listen on
    :ivar port: of the first router; the others take the ports after it; 0 = any free port
    :ivar routers: how many routers stand before the same peers, each with a cache of its own
    :ivar peer_port_base: port of the first peer; the others take the ports after it; 0 = any free ports
    :ivar path_prefix: a path that the routers answer under too, as behind a reverse proxy
    :ivar fsync: whether what is acknowledged is on the disk, not only with the operating system
    :ivar cache_size: bytes that each router's cache holds
    :ivar task_lifetime: seconds that an announced chunk waits for its data
    :ivar certificate: PEM file; with it the routers speak https
    :ivar private_key: PEM file of the certificate's key
    :ivar client_ca: PEM file; with it the routers ask clients for a certificate of this CA
    """

    data: Path
    peers: int = 3
    host: str = "127.0.0.1"
    port: int = 60666
    routers: int = 1
    peer_port_base: int = 25000
    path_prefix: str = ""
    fsync: bool = False
    cache_size: int = 64 * 1024 * 1024
    task_lifetime: float = 600.0
    certificate: Path | None = None
    private_key: Path | None = None
    client_ca: Path | None = None


class Space:
    """
    The peers and the placement service over one data folder. Raises ``StartError`` where the folder can't be used.

    :param options: what the local VSS was started with
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.faults = FaultBoard()
        self.threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="files")
        self.placement = Placement()
        self.tasks = Tasks(options.task_lifetime)
        self.peers: dict[str, Peer] = {}
        try:
            options.data.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(options.data)
            self._incoming = empty_folder(options.data / "incoming")
            self.database = Database(options.data / "metadata.sqlite3", fsync=options.fsync)
            self._started_at = started_at()
            for peer_id in self._known_peers():
                self._open_peer(peer_id)
        except (OSError, sqlite3.Error) as error:
            raise StartError(f"the data folder {options.data} can't be used: {error}") from error

    def start(self) -> None:
        """Start the database's writer, and clear up in the background after a process that was killed."""
        self.database.start()
        self.threads.submit(self._sweep)

    def close(self) -> None:
        """Finish what was begun, and let go of the folder."""
        self.database.close()
        self.threads.shutdown()
        self._lock.close()

    def incoming_body(self) -> IncomingBody:
        """Give an empty body to collect a request's data in."""
        return IncomingBody(self._incoming)

    async def add_peer(self, peer_id: str) -> Peer:
        """Add a peer to the space, for good."""

        def note(connection: sqlite3.Connection) -> None:
            connection.execute(
                "insert or ignore into peers (peer_id, position) select ?, coalesce(max(position), -1) + 1 from peers",
                (peer_id,),
            )

        await self.database.write(note)
        return self._open_peer(peer_id)

    def _open_peer(self, peer_id: str) -> Peer:
        options = self.options
        peer = self.peers[peer_id] = Peer(
            peer_id,
            options.data / "peers" / peer_id,
            self.database,
            self.faults,
            self.threads,
            fsync=options.fsync,
            task_lifetime=options.task_lifetime,
        )
        return peer

    def _known_peers(self) -> list[str]:
        # A peer never leaves a folder: its replicas would be lost without anybody having deleted them.
        connection = self.database.reader()
        known = [row[0] for row in connection.execute("select peer_id from peers order by position")]
        for position in range(len(known), self.options.peers):
            peer_id = next(name for n in range(10**6) if (name := f"peer-{n}") not in known)
            known.append(peer_id)
            connection.execute("insert into peers (peer_id, position) values (?, ?)", (peer_id, position))
        return known

    def _sweep(self) -> None:
        for peer in list(self.peers.values()):
            peer.sweep(self._started_at)


def _lock(folder: Path) -> IO[str]:
    """Keep a second process out of the folder: two writers would not know of one another's placement."""
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StartError(
            f"the data folder {folder} is in use by another local VSS; stop that one, or give --data another folder"
        ) from None
    return lock
