"""
One storage peer: its replicas' metadata in the common database, its bytes in a folder of its own.

A peer stores what has the announced size and SHA-256 and refuses anything else.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from airflow_provider_mictlanx.local_vss import replicas
from airflow_provider_mictlanx.local_vss.blobs import INLINE, BlobFolder, Data, IncomingBody
from airflow_provider_mictlanx.local_vss.database import Database
from airflow_provider_mictlanx.local_vss.faults import FaultBoard
from airflow_provider_mictlanx.local_vss.placement import Task, Tasks
from airflow_provider_mictlanx.local_vss.replicas import Replica

_UNREACHABLE = ("peer_down", "peer_silent", "peer_hung")


class PeerDownError(Exception):
    """The peer can't be reached."""

    def __init__(self, peer_id: str) -> None:
        super().__init__(f"peer {peer_id} can't be reached")
        self.peer_id = peer_id


class Peer:
    """
    One storage peer.

    :param peer_id: ``peer-0`` …; a safe id, as its folder is called so
    :param folder: where its files are
    :param fsync: whether a stored file is on the disk before it is acknowledged
    :param task_lifetime: seconds that tasks of the peer's own dialect wait for their data
    """

    def __init__(
        self,
        peer_id: str,
        folder: Path,
        database: Database,
        faults: FaultBoard,
        threads: Executor,
        *,
        fsync: bool,
        task_lifetime: float,
    ) -> None:
        self.peer_id = peer_id
        self.port = 0  # known once its socket is bound
        self.tasks = Tasks(task_lifetime)
        self._database = database
        self._faults = faults
        self._threads = threads
        self._fsync = fsync
        self.blobs = BlobFolder(folder, fsync=fsync)

    @property
    def is_unavailable(self) -> bool:
        """Whether the placement service knows that the peer cannot be reached."""
        return bool(self._faults) and self._faults.state_of(self.peer_id, "peer_down") is not None

    @property
    def is_down(self) -> bool:
        """Whether the peer cannot be reached now, whatever the placement service knows."""
        return bool(self._faults) and self._faults.state_of(self.peer_id, *_UNREACHABLE) is not None

    @property
    def is_hidden(self) -> bool:
        """Whether the peer does not answer listings now."""
        return (
            bool(self._faults) and self._faults.state_of(self.peer_id, *_UNREACHABLE, "hide_from_listing") is not None
        )

    async def wait_while_hung(self) -> None:
        """Wait as a router does for a peer that keeps the connection and never answers."""
        started = time.monotonic()
        while self._faults and (fault := self._faults.state_of(self.peer_id, "peer_hung")):
            if time.monotonic() - started >= fault.seconds:
                return
            await asyncio.sleep(0.02)

    def _check_up(self) -> None:
        if self.is_down:
            raise PeerDownError(self.peer_id)

    async def announce(self, task: Task, metadata: Mapping[str, Any]) -> None:
        """Note an announcement that came to the peer itself."""
        unneeded = await self._database.write(
            lambda connection: replicas.announce(connection, self.peer_id, task.task_id, metadata)
        )
        self.blobs.remove(unneeded)

    async def store(self, task: Task, body: IncomingBody) -> bool:
        """Take the data of an announcement; False if the peer is down or refuses it."""
        context = {"peer": self.peer_id, "bucket": task.bucket_id, "key": task.key}
        if self.is_down or (self._faults and self._faults.take("refuse_data", context)):
            return False
        right = body.size == task.size and body.checksum == task.checksum
        if not right and not (self._faults and self._faults.take("accept_wrong_bytes", context)):
            return False
        if self._faults and self._faults.take("ack_without_storing", context):
            return True
        return await self._keep(task, body)

    async def _keep(self, task: Task, body: IncomingBody) -> bool:
        if self._fsync or body.size > INLINE:
            loop = asyncio.get_running_loop()
            blob = await loop.run_in_executor(self._threads, self.blobs.store, task.bucket_id, task.key, body)
        else:
            blob = self.blobs.store(task.bucket_id, task.key, body)
        attached = False
        try:
            attached = await self._database.write(
                lambda connection: replicas.attach(
                    connection, self.peer_id, task.bucket_id, task.key, task.task_id, blob
                )
            )
        finally:
            if not attached:
                self.blobs.remove([blob])
        return attached

    def find(self, bucket_id: str, key: str) -> Replica | None:
        """Give the peer's replica of a chunk; raises ``PeerDownError``."""
        self._check_up()
        return replicas.find(self._database.reader(), self.peer_id, bucket_id, key)

    def read(self, bucket_id: str, key: str) -> Data | None:
        """Give the bytes of a chunk, None where the peer has none; raises ``PeerDownError``."""
        replica = self.find(bucket_id, key)
        return None if replica is None else self._data_of(replica, bucket_id)

    def read_content(self, checksum: str) -> Data | None:
        """Give the bytes with this SHA-256, None where the peer has none; raises ``PeerDownError``."""
        self._check_up()
        replica = replicas.find_content(self._database.reader(), self.peer_id, checksum)
        return None if replica is None else self._data_of(replica, None)

    def _data_of(self, replica: Replica, bucket_id: str | None) -> Data | None:
        if replica.blob is None:
            return None
        path = self.blobs.path(replica.blob)
        try:
            size = path.stat().st_size
        except FileNotFoundError:  # somebody removed it from the folder: to a reader the data is missing
            return None
        flip = self._faults and self._faults.take(
            "flip_bit", {"peer": self.peer_id, "bucket": bucket_id, "key": replica.key}
        )
        return Data(replica.content_type, path=path, size=size, flip=bool(flip))

    def ball(self, bucket_id: str, ball_id: str) -> list[Replica]:
        """Give the peer's replicas of a ball's chunks; raises ``PeerDownError``."""
        if self.is_hidden:
            raise PeerDownError(self.peer_id)
        return replicas.of_ball(self._database.reader(), self.peer_id, bucket_id, ball_id)

    def bucket(self, bucket_id: str) -> list[str]:
        """Give the metadata (JSON) of the peer's chunks in a bucket, but empty ones; raises ``PeerDownError``."""
        if self.is_hidden:
            raise PeerDownError(self.peer_id)
        return replicas.of_bucket(self._database.reader(), self.peer_id, bucket_id)

    def usage(self) -> dict[str, Any]:
        """Give what the peer says of itself: disk in bytes and its share in use, and what it holds."""
        stored = [r for r in replicas.of_peer(self._database.reader(), self.peer_id) if r.blob is not None]
        used, total = sum(replica.size for replica in stored), shutil.disk_usage(self.blobs.folder).total
        return {
            "peer_id": self.peer_id,
            "used_disk": used,
            "total_disk": total,
            "available_disk": max(0, total - used),
            "disk_uf": used / total if total else 0.0,
            "balls": [{"key": replica.key, "size": replica.size, "checksum": replica.checksum} for replica in stored],
        }

    def delete_key(self, connection: sqlite3.Connection, bucket_id: str, key: str) -> tuple[int, list[str]]:
        """Within a transaction: delete a chunk; gives how many replicas it were, and the files to remove after it."""
        blobs = replicas.delete_key(connection, self.peer_id, bucket_id, key)
        return len(blobs), [blob for blob in blobs if blob is not None]

    def delete_ball(self, connection: sqlite3.Connection, bucket_id: str, ball_id: str) -> tuple[list[str], list[str]]:
        """Within a transaction: delete a ball's chunks; gives their keys, and the files to remove after it."""
        deleted = replicas.delete_ball(connection, self.peer_id, bucket_id, ball_id)
        return [key for key, _ in deleted], [blob for _, blob in deleted if blob is not None]

    def sweep(self, before: float) -> int:
        """Remove files that no replica knows, left behind by a process that was killed."""
        return self.blobs.sweep(replicas.files_in_use(self._database.reader(), self.peer_id), before)


def started_at() -> float:
    """Give a time before which no file of this process was written (file systems may keep times coarsely)."""
    return time.time() - 2
