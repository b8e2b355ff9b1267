"""
A router in memory for benchmarks, as fast as raw asyncio allows.

It answers the requests of a transfer, always successfully: it checks nothing and keeps all data until it ends. Equal
chunks are stored once, so that it can hold a file of 16 GiB made of repeated blocks. Data is sent without a
Content-Length, in pieces of up to 10 MB, as by the real routers. ``GET /api/v4/_requests`` returns the number of
requests since the last such request, by bucket and kind.

``python -m benchmarks.memory_server`` prints its port and serves until its standard input closes. ``--peers`` sets
the number of peers. Other options make it slow:

``--far S``       delay every answer and every new connection by S seconds (a distant router)
``--per-byte S``  delay an answer by S seconds per byte of data sent or received (the rate of one connection)
``--router F``    take F times as long as the real router, which works on one request at a time (``COSTS``)
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import re
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import unquote

PIECE = 10_000_000

# Seconds of the real router with three peers, by kind of request: its own work, during which all other requests wait;
# the duration of a request alone; its work per byte. The durations were measured at a quiet router. The work was fitted
# to transfers: 200 × 10 kB took the official client 14.3 s, and this one with a listing per object 39.7 s (the fit gives
# 13 and 38 s); 64 MiB up and down took 15 to 29 and 12 to 23 s in chunks of 256 kB, 0.9 and 0.7 s in chunks of 8 MB
# (18 and 12; 1.0 and 0.7 s).
COSTS = {
    "look": (0.002, 0.003, 0.0),
    "peers": (0.002, 0.003, 0.0),
    "announce": (0.028, 0.048, 0.0),
    "send": (0.038, 0.056, 6e-9),
    "data": (0.045, 0.049, 3.5e-9),
}
OTHER = (0.030, 0.049, 0.0)
"""Costs of a request to the peers that store a chunk: its metadata, its size, a delete."""

PER_PEER = (0.040, 0.146 / 3, 0.0)
"""Costs of a listing, for every peer: each is asked over a new connection."""

FAN_OUT = ("list", "list bucket")
"""Kinds of requests that ask every peer."""


LISTING = re.compile(r"listing-(\d+)-(\d+)")


def listing_bucket(chunks: int, replicas: int) -> str:
    """Return the id of a bucket whose listing is made up: balls of one chunk each, on several peers."""
    return f"listing-{chunks}-{replicas}"


def peer_ids(number: int) -> list[str]:
    """Return the ids of the peers."""
    return [f"peer-{peer}" for peer in range(number)]


def made_up_listing(chunks: int, replicas: int) -> bytes:
    """Return the listing of a bucket that stores nothing, peer after peer as the real router does."""
    rows = []
    for replica in range(replicas):
        for number in range(chunks):
            key = f"2026-11-{number // 1000:04}-frame-{number:07}"
            checksum = hashlib.sha256(key.encode()).hexdigest()
            tags = {"index": "0", "num_chunks": "1", "full_checksum": checksum, "chunk_size": str(100_000 + number)}
            tags |= {"group_id": key, "fullname": f"{key}.jpg", "filename": key, "extension": "jpg"}
            tags |= {"full_path": f"frames/{key}.jpg", "bucket_relative_path": "frames/"}
            tags["updated_at"] = str(1_795_425_636_389_432_932 + 1000 * number + replica)
            row = {"key": f"{key}_0", "size": 100_000 + number, "checksum": checksum, "tags": tags}
            row |= {"content_type": "application/octet-stream", "producer_id": "airflow", "ball_id": key}
            row |= {"bucket_id": listing_bucket(chunks, replicas), "is_disabled": False}
            rows.append(json.dumps(row, separators=(",", ":")))
    head = {"bucket_id": listing_bucket(chunks, replicas), "peers_ids": peer_ids(replicas)}
    return f'{json.dumps(head)[:-1]},"balls":[{",".join(rows)}]}}'.encode()


class Store:
    """All stored data."""

    def __init__(self, peers: int) -> None:
        self.peers = peer_ids(peers)
        self.blobs: dict[str, bytes] = {}
        self.balls: defaultdict[str, dict[str, dict[str, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
        """Announced chunks by bucket, ball and key."""
        self.chunks: dict[tuple[str, str], dict[str, Any]] = {}
        self.replicas: dict[tuple[str, str], list[str]] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.numbers = itertools.count()
        self.counts: Counter[str] = Counter()

    def announce(self, announced: dict[str, Any]) -> dict[str, Any]:
        """Record an announcement."""
        task_id, place = f"task-{next(self.numbers)}", (announced["bucket_id"], announced["key"])
        self.replicas[place] = self.peers[: announced.pop("replication_factor", 1)]
        announced["tags"]["updated_at"] = str(time.time_ns())
        self.tasks[task_id] = self.chunks[place] = announced
        self.balls[announced["bucket_id"]][announced["ball_id"]][announced["key"]] = announced
        told = {"key": announced["key"], "bucket_id": announced["bucket_id"], "service_time": 0}
        return {**told, "tasks_ids": [task_id], "replicas": self.replicas[place], "extra": {}}

    def store(self, task: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Store the data of a task."""
        self.blobs.setdefault(task["checksum"], data)
        told = {name: task[name] for name in ("bucket_id", "key", "size")}
        peers = self.replicas[task["bucket_id"], task["key"]]
        return {**told, "combined_key": f"{task['bucket_id']}@{task['key']}", "peer_ids": peers}

    def replicated(self, bucket_id: str, chunks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows of a listing, one per replica."""
        return [chunk for chunk in chunks for _ in self.replicas[bucket_id, chunk["key"]]]

    def listed(self, bucket_id: str) -> dict[str, Any] | bytes:
        """List a bucket."""
        if made_up := LISTING.fullmatch(bucket_id):
            return made_up_listing(int(made_up[1]), int(made_up[2]))
        chunks = (chunk for ball in self.balls[bucket_id].values() for chunk in ball.values() if chunk["size"])
        return {"bucket_id": bucket_id, "peers_ids": self.peers, "balls": self.replicated(bucket_id, chunks)}

    def delete(self, bucket_id: str, key: str) -> int:
        """Delete a chunk; return the number of deleted replicas."""
        if (chunk := self.chunks.pop((bucket_id, key), None)) is None:
            return 0
        ball = self.balls[bucket_id][chunk["ball_id"]]
        del ball[key]
        if not ball:
            del self.balls[bucket_id][chunk["ball_id"]]
        return len(self.replicas.pop((bucket_id, key)))

    def answer(self, method: str, parts: list[str], body: bytes) -> tuple[str, int, Any]:
        """Return the kind of request, the status, and the answer (JSON or data), and count it."""
        bucket_id = parts[1] if len(parts) > 1 else ""
        kind, status, answer = "other", 404, cast(Any, {"detail": f"{method} {'/'.join(parts)}"})
        match method, parts:
            case "GET", ["_requests"]:
                counts, self.counts = self.counts, Counter()
                return "peers", 200, dict(counts)
            case "POST", ["buckets", _, "metadata"]:
                kind, status, answer = "announce", 200, self.announce(json.loads(body))
            case "POST", ["buckets", "data", task_id, "chunked"]:
                task = self.tasks.pop(task_id)
                bucket_id = task["bucket_id"]
                kind, status, answer = "send", 200, self.store(task, body)
            case "GET", ["buckets", _, "metadata"]:
                kind, status, answer = "list bucket", 200, self.listed(bucket_id)
            case "GET", ["buckets", _, "metadata", ball_id, "chunks"]:
                chunks = self.replicated(bucket_id, self.balls[bucket_id].get(ball_id, {}).values())
                found = {"bucket_id": bucket_id, "ball_id": ball_id, "size_bytes": 0, "size": "", "checksum": ""}
                kind, status, answer = (
                    "list",
                    200 if chunks else 404,
                    {**found, "chunks": chunks, "detail": "not found"},
                )
            case "GET", ["buckets", _, "metadata", key]:
                kind, status, answer = "look", 500, {"detail": "404: No available peers"}
                if chunk := self.chunks.get((bucket_id, key)):
                    found = {"service_time": 0, "peer_id": "p", "local_peer_id": "p", "metadata": chunk}
                    kind, status, answer = "metadata", 200, found
            case "GET", ["buckets", _, key, "size"]:
                size = self.chunks.get((bucket_id, key), {}).get("size")
                peers = self.replicas.get((bucket_id, key), [])
                rows = [{"bucket_id": bucket_id, "key": key, "peer_id": peer, "size": size} for peer in peers]
                kind, status, answer = "size", 200, rows
            case "GET", ["buckets", _, key]:
                kind, status, answer = "data", 200, self.blobs[self.chunks[bucket_id, key]["checksum"]]
            case "DELETE", ["buckets", _, "bid", ball_id]:
                n_deletes = sum(self.delete(bucket_id, key) for key in list(self.balls[bucket_id].get(ball_id, {})))
                kind, status, answer = "delete ball", 200, {"ball_id": ball_id, "n_deletes": n_deletes}
            case "DELETE", ["buckets", _, key]:
                n_deletes = self.delete(bucket_id, key)
                found = {"key": key, "n_deletes": n_deletes, "detail": ""}
                kind, status, answer = "delete chunk", 200 if n_deletes else 404, found
            case "GET", ["peers"]:
                peer = {"ip_addr": "127.0.0.1", "port": 1, "protocol": "http", "api_version": 4}
                available = [{**peer, "peer_id": name} for name in self.peers]
                kind, status, answer = "peers", 200, {"available": available, "unavailable": []}
        self.counts[f"{bucket_id} {kind}"] += 1
        return kind, status, answer


class Pace:
    """
    The delay of answers.

    :param far: seconds of a round trip
    :param per_byte: seconds per byte of data
    :param router: factor of the real router's costs; 0 for none
    """

    def __init__(self, far: float, per_byte: float, router: float, peers: int) -> None:
        self.opening = far
        self._per_byte = per_byte
        self._router = router
        self._peers = peers
        self._busy_until = 0.0

    def seconds(self, now: float, kind: str, size: int) -> float:
        """Return the delay of an answer."""
        delay = self.opening + self._per_byte * size
        if not self._router:
            return delay
        work, alone, per_byte = PER_PEER if kind in FAN_OUT else COSTS.get(kind, OTHER)
        factor = self._router * (self._peers if kind in FAN_OUT else 1)
        self._busy_until = max(now, self._busy_until) + factor * (work + per_byte * size)
        return delay + self._busy_until - now + factor * (alone - work)


class Connection(asyncio.Protocol):
    """A client's connection with consecutive requests."""

    def __init__(self, store: Store, pace: Pace, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._pace = pace
        self._loop = loop
        self._head = b""
        self._parts: list[bytes] = []
        self._missing = 0
        self._request: tuple[str, list[str]] = ("", [])
        self._opens_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set up the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._opens_at = self._loop.time() + self._pace.opening

    def data_received(self, data: bytes) -> None:
        """Handle received bytes."""
        if not self._missing:
            self._head += data
            if (end := self._head.find(b"\r\n\r\n")) < 0:
                return
            head, data, self._head = self._head[:end], self._head[end + 4 :], b""
            self._begin(head)
        if data:
            self._parts.append(data)
            self._missing -= len(data)
        if not self._missing:
            body, self._parts = b"".join(self._parts), []
            self._answer(body)

    def _begin(self, head: bytes) -> None:
        line, *headers = head.split(b"\r\n")
        method, path, _ = line.decode().split(" ")
        self._request = (method, [unquote(part) for part in path.partition("?")[0].split("/")[3:]])
        for header in headers:
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                self._missing = int(value)

    def _answer(self, body: bytes) -> None:
        kind, status, answer = self._store.answer(*self._request, body)
        size = len(answer) if isinstance(answer, bytes) else len(body)
        now = self._loop.time()
        wait = self._pace.seconds(now, kind, size) + max(0.0, self._opens_at - now)
        if wait:
            self._loop.call_later(wait, self._send, status, answer)
        else:
            self._send(status, answer)

    def _send(self, status: int, answer: Any) -> None:
        if self._transport.is_closing():
            return
        head = f"HTTP/1.1 {status} -\r\nContent-Type: "
        if isinstance(answer, bytes):
            self._transport.write(f"{head}application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            for start in range(0, len(answer), PIECE):
                piece = memoryview(answer)[start : start + PIECE]
                self._transport.write(b"%x\r\n" % len(piece))
                self._transport.write(piece)
                self._transport.write(b"\r\n")
            self._transport.write(b"0\r\n\r\n")
        else:
            text = json.dumps(answer, separators=(",", ":")).encode()
            self._transport.write(f"{head}application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)


async def serve(store: Store, pace: Pace) -> None:
    """Serve until standard input closes."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(lambda: Connection(store, pace, loop), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()
    server.close()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="A router in memory, for measuring clients.")
    parser.add_argument("--peers", type=int, default=3)
    for option in ("--far", "--per-byte", "--router"):
        parser.add_argument(option, type=float, default=0.0)
    told = parser.parse_args()
    asyncio.run(serve(Store(told.peers), Pace(told.far, told.per_byte, told.router, told.peers)))


if __name__ == "__main__":
    main()
