"""
The storage space of the fault suite: a local VSS of two routers, a hostile router before each, and looks past both.

What is set up and what is looked at afterwards goes straight to the real routers and peers, by ``http.client``, never through
the client under test.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support.hostile_router import HostileRouter
from tests.support.vss import LocalVSS

PEERS = 3


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Space:
    """
    The storage space.

    :ivar front: the hostile router before the first router, to which clients go
    :ivar second: the one before the second router
    :ivar two_routers: whether clients know of the second
    """

    def __init__(self, vss: LocalVSS, front: HostileRouter, second: HostileRouter) -> None:
        self.vss = vss
        self.front = front
        self.second = second
        self.two_routers = False
        self.host = "127.0.0.1"
        front.elsewhere = second.port
        self._connections: dict[int, http.client.HTTPConnection] = {}

    @property
    def uri(self) -> str:
        """What clients are given."""
        routers = [f"front@{self.host}:{self.front.port}"]
        if self.two_routers:
            routers.append(f"second@127.0.0.1:{self.second.port}")
        return f"mictlanx://{','.join(routers)}/?protocol=http"

    # -- past the client ---------------------------------------------------------------------------------------------

    def ask(self, method: str, port: int, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Send a request; return status and body."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        for again in (True, False):
            connection = self._connections.setdefault(port, http.client.HTTPConnection("127.0.0.1", port, timeout=30))
            try:
                connection.request(method, path, content, headers)
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (http.client.HTTPException, OSError):
                connection.close()
                del self._connections[port]
                if not again:
                    raise
        raise AssertionError

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    @contextmanager
    def fault(self, kind: str, **parameters: Any) -> Iterator[str]:
        """Switch a fault of the local VSS on for the block; return its id."""
        _, answer = self.ask("PUT", self.vss.port, "/_faults", {"kind": kind, **parameters})
        fault_id: str = json.loads(answer)["faults"][-1]["id"]
        try:
            yield fault_id
        finally:
            self.ask("DELETE", self.vss.port, f"/_faults/{fault_id}")

    def triggered(self, fault_id: str) -> int:
        """Return how often a fault was triggered."""
        faults = json.loads(self.ask("GET", self.vss.port, "/_faults")[1])["faults"]
        times: int = next(fault["triggered"] for fault in faults if fault["id"] == fault_id)
        return times

    def announce(
        self, bucket_id: str, ball_id: str, index: int, chunks: Sequence[bytes], rf: int, data: bytes | None = None
    ) -> tuple[str, list[str]]:
        """Announce a chunk as another writer; return its task and its peers."""
        chunk = chunks[index] if data is None else data
        tags = {
            "index": str(index),
            "num_chunks": str(len(chunks)),
            "full_checksum": sha256(b"".join(chunks)),
            "chunk_size": str(len(chunk)),
            "group_id": ball_id,
        }
        announcement = {
            "bucket_id": bucket_id,
            "key": f"{ball_id}_{index}",
            "ball_id": ball_id,
            "checksum": sha256(chunk),
            "size": len(chunk),
            "tags": tags,
            "producer_id": "another",
            "replication_factor": rf,
        }
        status, answer = self.ask("POST", self.vss.port, f"/api/v4/buckets/{bucket_id}/metadata", announcement)
        assert status == 200, answer
        told = json.loads(answer)
        return told["tasks_ids"][0], told["replicas"]

    def send(self, task_id: str, data: bytes) -> list[str]:
        """Send the data of a task; return the peers that stored it."""
        status, answer = self.ask("POST", self.vss.port, f"/api/v4/buckets/data/{task_id}/chunked", data)
        assert status == 200, answer
        peers: list[str] = json.loads(answer)["peer_ids"]
        return peers

    def put(self, bucket_id: str, ball_id: str, chunks: Sequence[bytes], rf: int = 2) -> None:
        """Store a ball."""
        for index, chunk in enumerate(chunks):
            task, replicas = self.announce(bucket_id, ball_id, index, chunks, rf)
            assert self.send(task, chunk) == replicas

    def copies(self, bucket_id: str, key: str) -> dict[str, bytes]:
        """Return each peer's copy of a chunk, read from the peers directly."""
        found = {}
        for number in range(PEERS):
            status, body = self.ask("GET", self.vss.peer_port(number), f"/api/v4/buckets/{bucket_id}/{key}")
            if status == 200:
                found[f"peer-{number}"] = body
        return found

    def listed(self, bucket_id: str) -> set[str]:
        """Return the keys of the chunks that the peers list."""
        status, answer = self.ask("GET", self.vss.port, f"/api/v4/buckets/{bucket_id}/metadata")
        assert status == 200
        return {chunk["key"] for chunk in json.loads(answer)["balls"]}

    def forget(self, peer_id: str, bucket_id: str, ball_id: str) -> None:
        """Remove a ball from a peer without telling the placement service."""
        port = self.vss.peer_port(int(peer_id.removeprefix("peer-")))
        self.ask("DELETE", port, f"/api/v4/buckets/{bucket_id}/bid/{ball_id}")


@contextmanager
def running(vss: LocalVSS) -> Iterator[Space]:
    """Put the hostile routers before a local VSS of two routers."""
    with HostileRouter(vss.port) as front, HostileRouter(vss.port + 1) as second:
        space = Space(vss, front, second)
        with contextlib.closing(space):
            yield space


Kept = Mapping[str, Sequence[bytes]]
"""Balls by their ids: their chunks."""
