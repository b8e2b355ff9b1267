"""
What a router does with a request, without HTTP: asks the placement service, then the peers, and keeps a cache.

Where the protocol's page does not say what the service answers, a comment here says what was chosen.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import humanfriendly

from airflow_provider_mictlanx.client.models import PutMetadataRequest
from airflow_provider_mictlanx.local_vss import replicas
from airflow_provider_mictlanx.local_vss.blobs import Data, IncomingBody
from airflow_provider_mictlanx.local_vss.peer import Peer, PeerDownError
from airflow_provider_mictlanx.local_vss.placement import NoPeerLeftError, Task, normalised
from airflow_provider_mictlanx.local_vss.replicas import Replica
from airflow_provider_mictlanx.local_vss.storage_space import Space

NO_DATA = "No found available replica peer or data, try again later."


class ProtocolError(Exception):
    """
    An answer that is no success.

    :ivar status: the HTTP status
    :ivar detail: what the answer's ``detail`` says: a text, a list or an object
    """

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class Cache:
    """
    The chunks that a router received or read last, within a number of bytes; the least recently used goes first.

    :param capacity: bytes; a chunk of more than half of it is not kept
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: OrderedDict[tuple[str, str], Data] = OrderedDict()
        self._size = 0

    @property
    def largest(self) -> int:
        """Bytes of the largest chunk that is kept."""
        return self._capacity // 2

    def get(self, bucket_id: str, key: str) -> Data | None:
        """Give a chunk that is kept."""
        data = self._held.get((bucket_id, key))
        if data is not None:
            self._held.move_to_end((bucket_id, key))
        return data

    def put(self, bucket_id: str, key: str, data: Data) -> None:
        """Keep a chunk in memory, in the place of what was kept under its name."""
        self.drop(bucket_id, key)
        if data.size > self.largest:
            return
        self._held[bucket_id, key] = data
        self._size += data.size
        while self._size > self._capacity:
            self._size -= self._held.popitem(last=False)[1].size

    def drop(self, bucket_id: str, key: str) -> None:
        """Forget a chunk."""
        data = self._held.pop((bucket_id, key), None)
        if data is not None:
            self._size -= data.size


class _Turns:
    """Whose turn it is, per chunk: every request for one is sent to its next replica."""

    _LIMIT = 10_000

    def __init__(self) -> None:
        self._turns: OrderedDict[tuple[str, ...], int] = OrderedDict()

    def next(self, names: tuple[str, ...], holders: Sequence[str]) -> str:
        turn = self._turns.pop(names, 0)
        self._turns[names] = turn + 1
        if len(self._turns) > self._LIMIT:
            self._turns.popitem(last=False)
        return holders[turn % len(holders)]


class Router:
    """
    One router before the storage space.

    :param router_id: ``router-0`` …
    """

    def __init__(self, router_id: str, space: Space) -> None:
        self.router_id = router_id
        self.space = space
        self.cache = Cache(space.options.cache_size)
        self._turns = _Turns()

    async def announce(self, announcement: PutMetadataRequest) -> Task:
        """Place a chunk, tell the chosen peers, and give the task that waits for its data."""
        space, metadata = self.space, announcement.model_dump()
        peers = list(space.peers)
        available = {peer_id for peer_id, peer in space.peers.items() if not peer.is_unavailable}
        failing = {peer_id for peer_id in available if space.peers[peer_id].is_down}

        def place(connection: sqlite3.Connection) -> tuple[Task, list[tuple[str, list[str]]]]:
            chosen = space.placement.place(
                connection,
                announcement.bucket_id,
                announcement.key,
                announcement.replication_factor,
                peers,
                available,
            )
            task = Task.of(metadata, chosen)
            reached = [peer_id for peer_id in chosen if peer_id not in failing]
            if len(reached) < len(chosen):
                space.placement.forget(connection, announcement.bucket_id, announcement.key, chosen)
            return task, [(p, replicas.announce(connection, p, task.task_id, metadata)) for p in reached]

        try:
            task, unneeded = await space.database.write(place)
        except NoPeerLeftError as error:
            raise _no_peer_left(announcement, error) from None
        for peer_id, blobs in unneeded:
            space.peers[peer_id].blobs.remove(blobs)
        if missed := failing.intersection(task.peer_ids):
            for peer_id in missed:
                await space.peers[peer_id].wait_while_hung()
            # The peers that took the announcement keep it, placed nowhere.
            raise ProtocolError(500, f"Put remote metadata failed: peer {', '.join(sorted(missed))} did not answer")
        space.tasks.add(task)
        return task

    def task(self, task_id: str) -> Task:
        """Return the task that data came for; it stays valid until its peers were tried."""
        task = self.space.tasks.look(task_id)
        if task is None:
            raise ProtocolError(500, f"Task({task_id}) not found")
        return task

    def remember(self, task: Task, body: IncomingBody) -> None:
        """Put what came into the cache: before any peer has accepted it, and however much of it there is."""
        if body.pieces is None:
            self.cache.drop(task.bucket_id, task.key)
        else:
            self.cache.put(task.bucket_id, task.key, Data.in_memory(body.pieces, task.content_type))

    async def send(self, task: Task, body: IncomingBody) -> list[str]:
        """Hand the data to the task's peers, and give those that stored it."""
        if task.size == 0 and body.size > 0:
            raise ProtocolError(500, f"Unexpected data of {body.size} bytes for a chunk of size 0")
        for peer_id in task.peer_ids:
            await self.space.peers[peer_id].wait_while_hung()
        if len(task.peer_ids) == 1:
            stored = [await self.space.peers[task.peer_ids[0]].store(task, body)]
        else:
            stored = await asyncio.gather(*(self.space.peers[peer_id].store(task, body) for peer_id in task.peer_ids))
        if self.space.faults.take("fail_after_storing", {"bucket": task.bucket_id, "key": task.key}):
            raise ProtocolError(500, "500: the placement service did not answer")
        self.space.tasks.spend(task.task_id)
        return [peer_id for peer_id, ok in zip(task.peer_ids, stored, strict=True) if ok]

    async def wait_for_peers(self) -> None:
        """Wait for the peers that hang, one after the other, as a router does that asks all of them."""
        for peer in list(self.space.peers.values()):
            await peer.wait_while_hung()

    async def metadata(self, bucket_id: str, key: str) -> Replica:
        """Give a chunk's metadata from the replica whose turn it is."""
        holders = self.space.placement.holders(self.space.database.reader(), bucket_id, key)
        if not holders:
            raise ProtocolError(500, "404: No available peers")
        peer = self.space.peers[self._turns.next(("metadata", bucket_id, key), holders)]
        await peer.wait_while_hung()
        try:
            replica = peer.find(bucket_id, key)
        except PeerDownError as error:
            raise ProtocolError(404, f"Fail to fetch metadata from peer {error.peer_id}, try again later.") from error
        if replica is None:
            raise ProtocolError(500, f"404: No metadata found for {bucket_id}@{key}")
        return replica

    async def data(self, bucket_id: str, key: str, *, force: bool, peer_id: str | None) -> Data:
        """
        Give a chunk's bytes: from the cache, or from the replica whose turn it is.

        :param force: not from the cache, which is then left as it is
        :param peer_id: from this peer, whatever the placement service says
        """
        if peer_id is not None:
            return await self._data_of_peer(peer_id, bucket_id, key)
        if not force and (cached := self.cache.get(bucket_id, key)) is not None:
            return cached
        data = await self._data_in_turn(bucket_id, key)
        if force or data.size > self.cache.largest:
            return data
        held = Data.in_memory([piece async for piece in data.pieces(self.space.threads)], data.content_type)
        self.cache.put(bucket_id, key, held)
        return held

    async def _data_in_turn(self, bucket_id: str, key: str) -> Data:
        holders = self.space.placement.holders(self.space.database.reader(), bucket_id, key)
        if not holders:
            raise ProtocolError(404, NO_DATA)
        return await self._data_of_peer(self._turns.next(("data", bucket_id, key), holders), bucket_id, key)

    async def _data_of_peer(self, peer_id: str, bucket_id: str, key: str) -> Data:
        peer = self.space.peers.get(peer_id)
        if peer is None:
            raise ProtocolError(404, NO_DATA)
        await peer.wait_while_hung()
        try:
            data = peer.read(bucket_id, key)
        except PeerDownError as error:
            raise ProtocolError(404, f"Fail to fetch data from peer {error.peer_id}, try again later.") from error
        if data is None:
            raise ProtocolError(404, NO_DATA)
        return data

    def ball(self, bucket_id: str, ball_id: str) -> dict[str, Any]:
        """Give every announced chunk of a ball that the answering peers know; empty ones are left out."""
        chunks = [json.loads(r.metadata) for r in self._known_of_ball(bucket_id, ball_id) if r.size > 0]
        if not chunks:
            raise ProtocolError(404, f"{bucket_id}@{ball_id} not found")
        by_age = sorted(chunks, key=lambda chunk: int(chunk["tags"]["updated_at"]))
        # The page gives no rule for the size where replicas repeat: every chunk counts once, as its oldest replica says.
        sizes = {chunk["key"]: chunk["size"] for chunk in reversed(by_age)}
        size = sum(sizes.values())
        return {
            "bucket_id": bucket_id,
            "ball_id": ball_id,
            "size": humanfriendly.format_size(size),
            "size_bytes": size,
            "checksum": by_age[0]["tags"].get("full_checksum", ""),
            "chunks": chunks,
        }

    def bucket(self, bucket_id: str) -> tuple[list[str], list[str]]:
        """Give the peers that answered, and the metadata (JSON): for every peer, what was gathered so far."""
        answered: list[str] = []
        so_far: list[str] = []
        listed: list[str] = []
        for peer in list(self.space.peers.values()):
            try:
                so_far.extend(peer.bucket(bucket_id))
            except PeerDownError:
                continue  # silently: a listing never says that it is not complete
            answered.append(peer.peer_id)
            listed.extend(so_far)
        return answered, listed

    async def merged(self, bucket_id: str, ball_id: str) -> tuple[str, AsyncIterator[bytes]]:
        """Give the content type and the bytes of a whole ball; once they flow, a failure only makes them end early."""
        known = self._known_of_ball(bucket_id, ball_id)
        keys = sorted({replica.key for replica in known}, key=lambda key: _index(key, ball_id))
        try:
            first = await self._data_in_turn(bucket_id, keys[0]) if keys else None
        except ProtocolError:
            first = None
        if first is None:
            raise ProtocolError(404, "No available peer; try again later.")
        return first.content_type, self._stream(bucket_id, keys, first)

    async def _stream(self, bucket_id: str, keys: list[str], first: Data) -> AsyncIterator[bytes]:
        for position, key in enumerate(keys):
            try:
                data = first if position == 0 else await self._data_in_turn(bucket_id, key)
                async for piece in data.pieces(self.space.threads):
                    yield piece
            except (ProtocolError, OSError):
                return

    async def delete_key(self, bucket_id: str, key: str) -> int:
        """Delete a chunk at every peer that is up, and its placement; gives how many replicas were deleted."""
        await self.wait_for_peers()
        peers = self._up()

        def delete(connection: sqlite3.Connection) -> tuple[bool, list[tuple[Peer, int, list[str]]]]:
            placed = bool(self.space.placement.holders(connection, bucket_id, key))
            if placed:
                self.space.placement.forget(connection, bucket_id, key)
            return placed, [(p, *p.delete_key(connection, bucket_id, key)) for p in peers] if placed else []

        placed, deleted = await self.space.database.write(delete)
        self.cache.drop(bucket_id, key)
        if not placed:
            raise ProtocolError(404, f"{bucket_id}@{key} not found")
        self._remove((peer, blobs) for peer, _, blobs in deleted)
        return sum(number for _, number, _ in deleted)

    async def delete_ball(self, bucket_id: str, ball_id: str) -> int:
        """Delete what the peers that are up know of a ball, and the placement of just that."""
        await self.wait_for_peers()
        peers = self._up()

        def delete(connection: sqlite3.Connection) -> list[tuple[Peer, list[str], list[str]]]:
            deleted = [(peer, *peer.delete_ball(connection, bucket_id, ball_id)) for peer in peers]
            for key in {key for _, keys, _ in deleted for key in keys}:
                # The peers' spelling, and the placement's may be another: what it can't find, it keeps.
                self.space.placement.forget(connection, bucket_id, key)
            return deleted

        deleted = await self.space.database.write(delete)
        for key in {key for _, keys, _ in deleted for key in keys}:
            self.cache.drop(bucket_id, key)
        self._remove((peer, blobs) for peer, _, blobs in deleted)
        return sum(len(keys) for _, keys, _ in deleted)

    async def change(self, bucket_id: str, key: str, how: Callable[[dict[str, Any]], None]) -> None:
        """Change a chunk's metadata at every peer that is up and has it."""
        peers = [peer.peer_id for peer in self._up()]

        def apply(connection: sqlite3.Connection) -> bool:
            changed = [replicas.change(connection, peer_id, bucket_id, key, how) for peer_id in peers]
            return any(changed)

        if not await self.space.database.write(apply):
            raise ProtocolError(404, f"{bucket_id}@{key} not found")

    def _known_of_ball(self, bucket_id: str, ball_id: str) -> list[Replica]:
        known: list[Replica] = []
        for peer in list(self.space.peers.values()):
            try:
                known.extend(peer.ball(bucket_id, ball_id))
            except PeerDownError:
                continue  # silently: a listing never says that it is not complete
        return known

    def _up(self) -> list[Peer]:
        return [peer for peer in self.space.peers.values() if not peer.is_down]

    @staticmethod
    def _remove(blobs_of_peers: Any) -> None:
        for peer, blobs in blobs_of_peers:
            peer.blobs.remove(blobs)


def _index(key: str, ball_id: str) -> tuple[int, str]:
    text = key.removeprefix(f"{ball_id}_")
    return (int(text) if text.isascii() and text.isdigit() else -1, key)


def _no_peer_left(announcement: PutMetadataRequest, error: NoPeerLeftError) -> ProtocolError:
    if not error.everywhere:
        # Peers without a replica exist, but they are away: the plain text, which may pass.
        return ProtocolError(404, "No available peers.")
    return ProtocolError(
        404,
        {
            "msg": "No available peers.",
            "suggestion": "Add more peers or delete replicas.",
            "bucket_id": normalised(announcement.bucket_id),
            "key": normalised(announcement.key),
            "replicas": error.holders,
            "code": 666,
        },
    )
