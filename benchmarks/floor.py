"""
The floor: the same transfers over raw asyncio sockets, with the same hashing, and nothing else.

It has no checks, no retries and no readable errors, and sends as few requests as the protocol allows. The cost of a
client is its additional time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

PIECE = 4 * 1024 * 1024
SLICE = 256 * 1024


class Wire(asyncio.Protocol):
    """One connection for consecutive requests; answers have a Content-Length or are chunked."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._clear_to_write = asyncio.Event()
        self._clear_to_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def pause_writing(self) -> None:
        self._clear_to_write.clear()

    def resume_writing(self) -> None:
        self._clear_to_write.set()

    def close(self) -> None:
        self._transport.close()

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Send a request and return the answer's body."""
        self._head, self._missing = b"", -1
        self._parts: list[bytes] = []
        self._chunked = False
        self._answer: asyncio.Future[bytes] = self._loop.create_future()
        head = f"{method} /api/v4/{path} HTTP/1.1\r\nHost: floor\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        if len(body) <= SLICE:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            view = memoryview(body)
            for start in range(0, len(body), SLICE):
                await self._clear_to_write.wait()
                self._transport.write(view[start : start + SLICE])
        return await self._answer

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            self._head += data
            if (end := self._head.find(b"\r\n\r\n")) < 0:
                return
            head, data = self._head[:end].lower(), self._head[end + 4 :]
            self._chunked = b"transfer-encoding: chunked" in head
            self._missing = 0 if self._chunked else int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            self._head = b""
        if self._chunked:
            self._take_chunks(data)
            return
        self._parts.append(data)
        self._missing -= len(data)
        if self._missing == 0:
            self._answer.set_result(b"".join(self._parts))

    def _take_chunks(self, data: bytes) -> None:
        while data:
            if self._missing:
                part = data if len(data) <= self._missing else data[: self._missing]
                self._parts.append(part)
                self._missing -= len(part)
                data = data[len(part) :]
                continue
            self._head += data
            line, found, rest = self._head.lstrip(b"\r\n").partition(b"\r\n")
            if not found:
                return
            self._missing = int(line, 16)
            if self._missing == 0:
                if rest:
                    self._answer.set_result(b"".join(self._parts))
                return
            self._head, data = b"", rest


async def each(port: int, items: Iterable[Any], work: Callable[[Wire, Any], Awaitable[None]], at_once: int) -> None:
    """Run work for every item over a limited number of connections."""
    iterator = iter(items)
    loop = asyncio.get_running_loop()

    async def worker() -> None:
        _, wire = await loop.create_connection(Wire, "127.0.0.1", port)
        try:
            for item in iterator:
                await work(wire, item)
        finally:
            wire.close()

    await asyncio.gather(*(worker() for _ in range(at_once)))


async def announce_and_send(
    wire: Wire, bucket_id: str, ball_id: str, data: bytes, checksum: str, tags: dict[str, str]
) -> None:
    """Write one chunk."""
    chunk = {
        "bucket_id": bucket_id,
        "key": f"{ball_id}_{tags['index']}",
        "ball_id": ball_id,
        "checksum": checksum,
        "size": len(data),
        "tags": tags,
        "producer_id": "floor",
        "content_type": "application/octet-stream",
        "is_disabled": False,
        "replication_factor": 1,
    }
    answer = json.loads(await wire.ask("POST", f"buckets/{bucket_id}/metadata", json.dumps(chunk).encode()))
    await wire.ask("POST", f"buckets/data/{answer['tasks_ids'][0]}/chunked", data)


async def put_file(port: int, bucket_id: str, ball_id: str, path: Path, chunk_size: int, at_once: int) -> None:
    """Write a file: hash file and chunks in one pass, and hash each chunk again while it is sent."""
    size, descriptor = path.stat().st_size, os.open(path, os.O_RDONLY)
    whole = hashlib.sha256()
    checksums: list[str] = []
    for offset in range(0, size, chunk_size):
        chunk = hashlib.sha256()
        for at in range(offset, min(offset + chunk_size, size), PIECE):
            piece = os.pread(descriptor, min(PIECE, offset + chunk_size - at), at)
            whole.update(piece)
            chunk.update(piece)
        checksums.append(chunk.hexdigest())
    shared = {"num_chunks": str(len(checksums)), "full_checksum": whole.hexdigest(), "group_id": ball_id}

    async def put(wire: Wire, index: int) -> None:
        data = os.pread(descriptor, chunk_size, index * chunk_size)
        assert hashlib.sha256(data).hexdigest() == checksums[index]
        tags = {**shared, "index": str(index), "chunk_size": str(len(data))}
        await announce_and_send(wire, bucket_id, ball_id, data, checksums[index], tags)

    await each(port, range(len(checksums)), put, at_once)
    os.close(descriptor)


async def get_file(port: int, bucket_id: str, ball_id: str, path: Path, at_once: int) -> None:
    """Read a ball into a file; hash each chunk on arrival and the ball in order."""
    listing: dict[str, Any] = {}

    async def list_chunks(wire: Wire, _: int) -> None:
        listing.update(json.loads(await wire.ask("GET", f"buckets/{bucket_id}/metadata/{ball_id}/chunks")))

    await each(port, [0], list_chunks, 1)
    chunks = sorted(listing["chunks"], key=lambda chunk: int(chunk["tags"]["index"]))
    places, offset = [], 0
    for index, chunk in enumerate(chunks):
        places.append((index, offset, chunk))
        offset += chunk["size"]
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    whole, waiting, behind = hashlib.sha256(), dict[int, bytes](), 0

    async def get(wire: Wire, place: tuple[int, int, dict[str, Any]]) -> None:
        nonlocal behind
        index, at, chunk = place
        data = await wire.ask("GET", f"buckets/{bucket_id}/{chunk['key']}")
        assert hashlib.sha256(data).hexdigest() == chunk["checksum"]
        os.pwrite(descriptor, data, at)
        waiting[index] = data
        while behind in waiting:
            whole.update(waiting.pop(behind))
            behind += 1

    await each(port, places, get, at_once)
    assert whole.hexdigest() == chunks[0]["tags"]["full_checksum"]
    os.fsync(descriptor)
    os.close(descriptor)


async def put_balls(port: int, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
    """Write many balls of one chunk."""

    async def put(wire: Wire, ball: tuple[str, bytes]) -> None:
        ball_id, data = ball
        checksum = hashlib.sha256(data).hexdigest()
        tags = {"index": "0", "num_chunks": "1", "full_checksum": checksum, "chunk_size": str(len(data))}
        await announce_and_send(wire, bucket_id, ball_id, data, checksum, {**tags, "group_id": ball_id})

    await each(port, balls.items(), put, at_once)


async def get_balls(port: int, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
    """Read many balls of one chunk, with a listing and a data request each."""

    async def get(wire: Wire, ball_id: str) -> None:
        listing = json.loads(await wire.ask("GET", f"buckets/{bucket_id}/metadata/{ball_id}/chunks"))
        for chunk in listing["chunks"]:
            data = await wire.ask("GET", f"buckets/{bucket_id}/{chunk['key']}")
            assert hashlib.sha256(data).hexdigest() == chunk["checksum"]

    await each(port, balls, get, at_once)
