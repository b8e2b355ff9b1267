"""
One storage peer: the metadata of its replicas in the shared database, their bytes in its own folder.

File names are random: no text of a user becomes a path, and no file is written twice. Only the metadata assigns files
to replicas. A killed process may leave files without metadata, which the next start removes. All files are in one
folder, because many folders make new files ten times slower on ext4.

Metadata is stored as the JSON of listings, so that a listing of many chunks parses nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from airflow_provider_mictlanx.local_vss.blobs import INLINE, ChunkData, IncomingBody, run_by_size
from airflow_provider_mictlanx.local_vss.database import Database, sync_to_disk
from airflow_provider_mictlanx.local_vss.faults import FaultBoard
from airflow_provider_mictlanx.local_vss.options import Options
from airflow_provider_mictlanx.local_vss.placement import Task, Tasks

_METADATA = ("key", "size", "checksum", "tags", "content_type", "producer_id", "ball_id", "bucket_id", "is_disabled")
_UNREACHABLE = ("peer_down", "peer_silent", "peer_hung")
_ONE_CHUNK = "bucket_id = ? and key = ?"
_ONE_BALL = "bucket_id = ? and ball_id = ?"


class PeerDownError(Exception):
    """The peer does not answer."""

    def __init__(self, peer_id: str) -> None:
        super().__init__(f"peer {peer_id} does not answer")
        self.peer_id = peer_id


class Replica(NamedTuple):
    """
    One replica in the peer's metadata.

    :ivar metadata: JSON
    :ivar blob: name of the file with its bytes; None until they are stored
    """

    peer_id: str
    key: str
    size: int
    checksum: str
    metadata: str
    blob: str | None


def updated_at(metadata: str) -> str:
    """Return ``updated_at`` of JSON metadata without parsing it, which would take seconds in a long listing."""
    return metadata.partition('"updated_at":"')[2].partition('"')[0]


class Peer:
    """
    One storage peer. Reads raise ``PeerDownError`` while a fault keeps it from answering.

    :param peer_id: ``peer-0`` …; a safe id, because its folder has this name
    """

    def __init__(self, peer_id: str, options: Options, database: Database, faults: FaultBoard) -> None:
        self.peer_id = peer_id
        self.port = 0  # known once its socket is bound
        self.tasks = Tasks(options.task_lifetime)  # tasks announced to the peer itself
        self._fsync = options.fsync
        self._database = database
        self._faults = faults
        self._folder = options.data / "peers" / peer_id
        self._folder.mkdir(parents=True, exist_ok=True)
        in_use = {name for (name,) in database.execute("select blob from replicas where peer_id = ?", peer_id)}
        for entry in os.scandir(self._folder):
            if entry.name not in in_use:
                os.unlink(entry)

    # -- faults --------------------------------------------------------------------------------------------------------

    @property
    def is_unavailable(self) -> bool:
        """Return whether the placement service knows that the peer does not answer."""
        return self._faults.peer_state(self.peer_id, "peer_down") is not None

    @property
    def is_down(self) -> bool:
        """Return whether the peer does not answer, even if the placement service does not know it."""
        return self._faults.peer_state(self.peer_id, *_UNREACHABLE) is not None

    async def wait_while_hung(self, timeout: float = 120) -> None:
        """
        Wait as long as a router waits for a hung peer.

        :param timeout: the real router's timeout of the request to the peer (seconds)
        """
        started = time.monotonic()
        while fault := self._faults.peer_state(self.peer_id, "peer_hung"):
            if time.monotonic() - started >= min(timeout, fault.seconds):
                return
            await asyncio.sleep(0.02)

    def _happens(self, kind: str, bucket_id: str | None, key: str) -> bool:
        return self._faults.take(kind, {"peer": self.peer_id, "bucket": bucket_id, "key": key}) is not None

    def _check_up(self, *further_kinds: str) -> None:
        if self._faults.peer_state(self.peer_id, *_UNREACHABLE, *further_kinds):
            raise PeerDownError(self.peer_id)

    # -- writing -------------------------------------------------------------------------------------------------------

    def announce(self, task: Task) -> None:
        """
        Store the metadata of an announcement, within a transaction.

        It replaces a replica that the placement service no longer knows, which a missed delete has left.
        """
        announced = task.announced
        self.delete_key(announced.bucket_id, announced.key)
        self._database.execute(
            "insert into replicas (peer_id, bucket_id, key, ball_id, size, checksum, task_id, metadata) "
            "values (?, ?, ?, ?, ?, ?, ?, ?)",
            *(self.peer_id, announced.bucket_id, announced.key, announced.ball_id),
            *(announced.size, announced.checksum, task.task_id, self._to_json(announced.model_dump())),
        )

    async def store(self, task: Task, body: IncomingBody) -> bool:
        """Store the data of an announcement; return False if the peer does not answer or refuses it."""
        announced = task.announced
        bucket_id, key = announced.bucket_id, announced.key
        if self.is_down or self._happens("refuse_data", bucket_id, key):
            return False
        is_right = (body.size, body.checksum) == (announced.size, announced.checksum)
        if not is_right and not self._happens("accept_wrong_bytes", bucket_id, key):
            return False
        if self._happens("ack_without_storing", bucket_id, key):
            return True
        path = self._folder / uuid.uuid4().hex
        is_stored = False
        try:
            if self._fsync:
                await asyncio.to_thread(self._write, path, body)
            else:
                await run_by_size(body.size, lambda: self._write(path, body))
            # The announcement may have been deleted or replaced meanwhile.
            where = f"peer_id = ? and {_ONE_CHUNK} and task_id = ? and blob is null"
            values = (path.name, self.peer_id, bucket_id, key, task.task_id)
            async with self._database.transaction():
                updated = self._database.execute(f"update replicas set blob = ? where {where}", *values)
                is_stored = updated.rowcount == 1
        finally:
            if not is_stored:
                path.unlink(missing_ok=True)
        return is_stored

    def _write(self, path: Path, body: IncomingBody) -> None:
        path.write_bytes(body.content)
        if self._fsync:
            sync_to_disk(path)
            sync_to_disk(self._folder)

    def change(self, bucket_id: str, key: str, changes: Mapping[str, Any]) -> bool:
        """Change the metadata of a replica; return False if the peer has no replica."""
        replica = self.find(bucket_id, key)
        if replica is not None:
            metadata = self._to_json({**json.loads(replica.metadata), **changes})
            where = f"peer_id = ? and {_ONE_CHUNK}"
            self._database.execute(
                f"update replicas set metadata = ? where {where}", metadata, self.peer_id, bucket_id, key
            )
        return replica is not None

    def _to_json(self, metadata: Mapping[str, Any]) -> str:
        fields = {name: metadata[name] for name in _METADATA}
        fields["tags"] = {**metadata["tags"], "updated_at": str(self._database.timestamp())}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))

    def flush_tasks(self) -> None:
        """Forget all tasks: the data of earlier announcements is refused."""
        self.tasks.clear()
        self._database.execute("update replicas set task_id = '' where peer_id = ? and blob is null", self.peer_id)

    def copy_to(self, other: Peer, replica: Replica, bucket_id: str) -> None:
        """Copy a stored replica to another peer, within a transaction. Files never change, so a link is a copy."""
        blob = uuid.uuid4().hex
        os.link(self._folder / str(replica.blob), other._folder / blob)
        if self._fsync:
            sync_to_disk(other._folder)
        columns = "bucket_id, key, ball_id, size, checksum, task_id, metadata"
        statement = f"insert into replicas (peer_id, blob, {columns}) select ?, ?, {columns} from replicas"
        values = (other.peer_id, blob, self.peer_id, bucket_id, replica.key)
        self._database.execute(f"{statement} where peer_id = ? and {_ONE_CHUNK}", *values)

    def delete_key(self, bucket_id: str, key: str) -> list[str]:
        """Delete a chunk, within a transaction; return its key, or nothing if the peer had no replica."""
        return self._delete(_ONE_CHUNK, bucket_id, key)

    def delete_ball(self, bucket_id: str, ball_id: str) -> list[str]:
        """Delete a ball's chunks, within a transaction; return their keys."""
        return self._delete(_ONE_BALL, bucket_id, ball_id)

    def clear(self) -> None:
        """Forget all tasks and delete every chunk, within a transaction."""
        self.tasks.clear()
        self._delete("true")

    def _delete(self, where: str, *values: str) -> list[str]:
        statement = f"delete from replicas where peer_id = ? and {where} returning key, blob"
        deleted = self._database.execute(statement, self.peer_id, *values).fetchall()
        for _, blob in deleted:
            if blob is not None:
                self._database.remove_after_commit(self._folder / blob)
        return [key for key, _ in deleted]

    # -- reading -------------------------------------------------------------------------------------------------------

    def find(self, bucket_id: str, key: str) -> Replica | None:
        """Return the peer's replica of a chunk."""
        self._check_up()
        return next(iter(self._select(_ONE_CHUNK, bucket_id, key)), None)

    def read(self, bucket_id: str, key: str) -> ChunkData | None:
        """Return the bytes of a chunk, or None if the peer has no replica."""
        return self._open(self.find(bucket_id, key), bucket_id)

    def read_content(self, checksum: str) -> ChunkData | None:
        """Return the bytes with this SHA-256, or None."""
        self._check_up()
        return self._open(next(iter(self._select("checksum = ? and blob is not null limit 1", checksum)), None), None)

    def _open(self, replica: Replica | None, bucket_id: str | None) -> ChunkData | None:
        if replica is None or replica.blob is None:
            return None
        try:
            file = (self._folder / replica.blob).open("rb")
        except FileNotFoundError:  # a user deleted it from the folder
            return None
        size = os.fstat(file.fileno()).st_size
        content_type = json.loads(replica.metadata)["content_type"]
        flip = self._happens("flip_bit", bucket_id, replica.key)
        if size > INLINE:
            return ChunkData(content_type, file, size, flip)
        with file:
            return ChunkData(content_type, file.read(), size, flip)

    def ball(self, bucket_id: str, ball_id: str) -> list[Replica]:
        """Return the peer's replicas of a ball's chunks, in the order of their announcements."""
        self._check_up("hide_from_listing")
        return self._select(f"{_ONE_BALL} order by seq", bucket_id, ball_id)

    def bucket(self, bucket_id: str) -> list[tuple[str, str]]:
        """Return key and metadata (JSON) of the peer's chunks in a bucket, without chunks of size 0."""
        self._check_up("hide_from_listing")
        statement = "select key, metadata from replicas where peer_id = ? and bucket_id = ? and size > 0 order by seq"
        return self._database.execute(statement, self.peer_id, bucket_id).fetchall()

    def sizes(self) -> list[tuple[str, str, int]]:
        """Return bucket id, key and size of the stored chunks, in the order of their announcements."""
        columns, where = "bucket_id, key, size", "peer_id = ? and blob is not null order by seq"
        return self._database.execute(f"select {columns} from replicas where {where}", self.peer_id).fetchall()

    def usage(self, rows: slice) -> dict[str, Any]:
        """Return the peer's statistics: disk size and use (bytes), used fraction, and the selected stored chunks."""
        stored = self._select("blob is not null order by seq")
        used, total = sum(replica.size for replica in stored), shutil.disk_usage(self._folder).total
        return {
            "peer_id": self.peer_id,
            "used_disk": used,
            "total_disk": total,
            "available_disk": max(0, total - used),
            "disk_uf": used / total if total else 0.0,
            "balls": [
                {"key": replica.key, "size": replica.size, "checksum": replica.checksum} for replica in stored[rows]
            ],
        }

    def _select(self, where: str, *values: str) -> list[Replica]:
        columns = ", ".join(Replica._fields)
        statement = f"select {columns} from replicas where peer_id = ? and {where}"
        return list(map(Replica._make, self._database.execute(statement, self.peer_id, *values)))
