"""
A router in memory for benchmarks, as fast as raw asyncio allows.

It answers the requests of a transfer, always successfully: it checks nothing and keeps all data until it ends. Equal
chunks are stored once, so that it can hold a file of 4 GiB made of repeated blocks. Data is sent without a
Content-Length, in pieces of up to 10 MB, as by the real routers.

``python -m benchmarks.memory_server`` prints its port and serves until its standard input closes. Options make it
slow:

``--per-request S``    delay every answer by S seconds, concurrently (a slow network behind the router)
``--far S``            delay every answer and every new connection by S seconds (a distant router)
``--like-the-router``  handle one request at a time, with the duration of the real router (``BUSY``)
``--small-files``      the same, with the durations of its requests for small files (``SMALL``)
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
from collections import defaultdict
from typing import Any
from urllib.parse import unquote

PEERS = ["peer-0", "peer-1", "peer-2"]
PIECE = 10_000_000

# Seconds of the real router per request and per byte, fitted to measured transfers of 64 MiB (chunk, in flight: write,
# read): 256 kB, 10: 14.5 s, 13.1 s; 1 MB, 10: 4.1 s, 3.5 s; 8 MB, 2: 0.93 s, 0.68 s. The fit gives 14.3, 13.1; 4.0, 3.5;
# 0.9, 0.7.
BUSY = {
    "announce": (0.020, 0.0),
    "store": (0.033, 6e-9),
    "data": (0.049, 3.5e-9),
    "other": (0.020, 0.0),
}

# The same for small files (seconds per request and per byte), as measured at the real router with three peers: only
# the listings open a connection to every peer, and a look at an absent chunk asks the placement service alone.
SMALL = {
    "look": (0.003, 0.0),
    "peers": (0.003, 0.0),
    "announce": (0.048, 0.0),
    "store": (0.056, 6e-9),
    "data": (0.049, 3.5e-9),
    "list": (0.146, 0.0),
    "other": (0.048, 0.0),
}


LISTING = re.compile(r"listing-(\d+)-(\d+)")


def listing_bucket(chunks: int, replicas: int) -> str:
    """Return the id of a bucket whose listing is made up: balls of one chunk each, on several peers."""
    return f"listing-{chunks}-{replicas}"


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
    head = {"bucket_id": listing_bucket(chunks, replicas), "peers_ids": PEERS}
    return f'{json.dumps(head)[:-1]},"balls":[{",".join(rows)}]}}'.encode()


class Store:
    """All stored data."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.chunks: dict[tuple[str, str], dict[str, Any]] = {}
        self.balls: defaultdict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
        self.replicas: dict[tuple[str, str], int] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.numbers = itertools.count()

    def announce(self, announced: dict[str, Any]) -> dict[str, Any]:
        """Record an announcement."""
        task_id = f"task-{next(self.numbers)}"
        replicas = PEERS[: announced.pop("replication_factor", 1)]
        announced["tags"]["updated_at"] = str(time.time_ns())
        self.tasks[task_id] = {**announced, "replicas": replicas}
        self.chunks[announced["bucket_id"], announced["key"]] = announced
        self.replicas[announced["bucket_id"], announced["key"]] = len(replicas)
        self.balls[announced["bucket_id"], announced["ball_id"]][announced["key"]] = announced
        told = {"key": announced["key"], "bucket_id": announced["bucket_id"], "service_time": 0}
        return {**told, "tasks_ids": [task_id], "replicas": replicas, "extra": {}}

    def store(self, task_id: str, data: bytes) -> dict[str, Any]:
        """Store the data of a task."""
        task = self.tasks.pop(task_id)
        self.blobs.setdefault(task["checksum"], data)
        told = {name: task[name] for name in ("bucket_id", "key", "size")}
        return {**told, "combined_key": f"{task['bucket_id']}@{task['key']}", "peer_ids": task["replicas"]}

    def listed(self, bucket_id: str) -> dict[str, Any] | bytes:
        """List a bucket."""
        if made_up := LISTING.fullmatch(bucket_id):
            return made_up_listing(int(made_up[1]), int(made_up[2]))
        chunks = [chunk for (bucket, _), chunk in self.chunks.items() if bucket == bucket_id and chunk["size"]]
        balls = [chunk for chunk in chunks for _ in range(self.replicas[bucket_id, chunk["key"]])]
        return {"bucket_id": bucket_id, "peers_ids": PEERS, "balls": balls}

    def delete(self, bucket_id: str, key: str) -> int:
        """Delete a chunk."""
        if (chunk := self.chunks.pop((bucket_id, key), None)) is None:
            return 0
        self.balls[bucket_id, chunk["ball_id"]].pop(key)
        return 1

    def answer(self, method: str, parts: list[str], body: bytes) -> tuple[str, int, dict[str, Any] | bytes]:
        """Return the kind of request, the status, and the answer (JSON or data)."""
        match method, parts:
            case "POST", ["buckets", _, "metadata"]:
                return "announce", 200, self.announce(json.loads(body))
            case "POST", ["buckets", "data", task_id, "chunked"]:
                return "store", 200, self.store(task_id, body)
            case "GET", ["buckets", bucket_id, "metadata"]:
                return "list", 200, self.listed(bucket_id)
            case "GET", ["buckets", bucket_id, "metadata", ball_id, "chunks"]:
                balls = self.balls.get((bucket_id, ball_id), {})
                chunks = [chunk for key, chunk in balls.items() for _ in range(self.replicas[bucket_id, key])]
                found = {"bucket_id": bucket_id, "ball_id": ball_id, "size_bytes": 0, "size": "", "checksum": ""}
                return "list", (200 if chunks else 404), {**found, "chunks": chunks, "detail": "not found"}
            case "GET", ["buckets", bucket_id, "metadata", key]:
                if chunk := self.chunks.get((bucket_id, key)):
                    return "look", 200, {"service_time": 0, "peer_id": "p", "local_peer_id": "p", "metadata": chunk}
                return "look", 500, {"detail": "404: No available peers"}
            case "GET", ["buckets", bucket_id, key]:
                return "data", 200, self.blobs[self.chunks[bucket_id, key]["checksum"]]
            case "DELETE", ["buckets", bucket_id, "bid", ball_id]:
                keys = list(self.balls.get((bucket_id, ball_id), {}))
                return "other", 200, {"ball_id": ball_id, "n_deletes": sum(self.delete(bucket_id, key) for key in keys)}
            case "DELETE", ["buckets", bucket_id, key]:
                n_deletes = self.delete(bucket_id, key)
                return "other", (200 if n_deletes else 404), {"key": key, "n_deletes": n_deletes, "detail": ""}
            case "GET", ["peers"]:
                peer = {"ip_addr": "127.0.0.1", "port": 1, "protocol": "http", "api_version": 4}
                return "peers", 200, {"available": [{**peer, "peer_id": name} for name in PEERS], "unavailable": []}
        return "other", 404, {"detail": f"{method} {'/'.join(parts)}"}


class Pace:
    """The delay of answers."""

    def __init__(self, per_request: float, far: float, busy: dict[str, tuple[float, float]] | None) -> None:
        self.opening = far
        self._later = per_request + far
        self._busy = busy
        self._busy_until = 0.0

    def seconds(self, now: float, kind: str, size: int) -> float:
        """Return the delay of an answer."""
        if self._busy is None:
            return self._later
        each, per_byte = self._busy.get(kind, self._busy["other"])
        self._busy_until = max(now, self._busy_until) + each + per_byte * size
        return self._busy_until - now


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

    def _send(self, status: int, answer: dict[str, Any] | bytes) -> None:
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


async def serve(pace: Pace) -> None:
    """Serve until standard input closes."""
    store, loop, ended = Store(), asyncio.get_running_loop(), asyncio.Event()
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
    parser.add_argument("--per-request", type=float, default=0.0)
    parser.add_argument("--far", type=float, default=0.0)
    parser.add_argument("--like-the-router", action="store_true")
    parser.add_argument("--small-files", action="store_true")
    told = parser.parse_args()
    busy = SMALL if told.small_files else BUSY if told.like_the_router else None
    asyncio.run(serve(Pace(told.per_request, told.far, busy)))


if __name__ == "__main__":
    main()
