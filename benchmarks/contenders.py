"""
Contenders: the client, the floor, and others that move the same bytes.

``Client`` uses the documented methods of the official client. If that is installed
(``MICTLANX_OFFICIAL=module:Class``, by default ``mictlanx:AsyncClient``), the same code measures it. Otherwise
``PerRequest`` moves bytes the way the official client does: a new ``httpx.AsyncClient`` for every request, bodies in
pieces of an async generator.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.local_io.chunk_sizes import chunk_size_for, concurrency_for
from benchmarks import floor
from benchmarks.servers import Server

T = TypeVar("T")

BUCKET = "bench"
OFFICIAL = os.environ.get("MICTLANX_OFFICIAL", "mictlanx:AsyncClient")


class Contender(Protocol):
    """Interface of everything that is measured."""

    name: str

    async def put_file(self, server: Server, ball_id: str, path: Path, chunk_size: int, at_once: int) -> None:
        """Write a file."""

    async def get_file(self, server: Server, ball_id: str, folder: Path, at_once: int) -> None:
        """Read a ball into a file in an empty folder."""

    async def put_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        """Write small balls."""

    async def get_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        """Read small balls into memory."""


def cut_of(size: int, chunk_size: int | None, at_once: int | None) -> tuple[int, int]:
    """Return chunk size and chunks in flight, chosen like in the hook if None."""
    chunk = chunk_size_for(size, chunk_size)
    return chunk, concurrency_for(chunk, at_once)


class Client:
    """The client, through its documented methods."""

    def __init__(self, name: str = "client", of_class: Callable[..., Any] = AsyncClient) -> None:
        self.name = name
        self._class = of_class

    def _made(self, server: Server) -> Any:
        return self._class(server.uri, "benchmark", debug=False, log_output_path="", capacity_storage="1kb")

    async def put_file(self, server: Server, ball_id: str, path: Path, chunk_size: int, at_once: int) -> None:
        client = self._made(server)
        assert (
            await client.put_file(BUCKET, ball_id, str(path), chunk_size=f"{chunk_size}b", max_concurrency=at_once)
        ).unwrap()
        await closed(client)

    async def get_file(self, server: Server, ball_id: str, folder: Path, at_once: int) -> None:
        client = self._made(server)
        (await client.get_to_file(BUCKET, ball_id, str(folder), max_paralell_gets=at_once)).unwrap()
        await closed(client)

    async def put_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        client = self._made(server)

        async def put(ball: tuple[str, bytes]) -> None:
            assert (await client.put(bucket_id, *ball)).unwrap()

        await for_each(balls.items(), put, at_once)
        await closed(client)

    async def get_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        client = self._made(server)

        async def get(ball_id: str) -> None:
            assert len((await client.get(bucket_id, ball_id)).unwrap().data) == len(balls[ball_id])

        await for_each(balls, get, at_once)
        await closed(client)


async def closed(client: Any) -> None:
    """Close the client if it has a close method."""
    if close := getattr(client, "aclose", None):
        await close()


class Floor:
    """Raw asyncio sockets."""

    name = "floor"

    async def put_file(self, server: Server, ball_id: str, path: Path, chunk_size: int, at_once: int) -> None:
        await floor.put_file(server.port, BUCKET, ball_id, path, chunk_size, at_once)

    async def get_file(self, server: Server, ball_id: str, folder: Path, at_once: int) -> None:
        await floor.get_file(server.port, BUCKET, ball_id, folder / "got", at_once)

    async def put_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        await floor.put_balls(server.port, bucket_id, balls, at_once)

    async def get_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        await floor.get_balls(server.port, bucket_id, balls, at_once)


class PerRequest:
    """A new HTTP client for every request."""

    name = "client per request"

    async def put_file(self, server: Server, ball_id: str, path: Path, chunk_size: int, at_once: int) -> None:
        content = path.read_bytes()
        whole = hashlib.sha256(content).hexdigest()
        starts = range(0, len(content), chunk_size)
        shared = {"num_chunks": str(len(starts)), "full_checksum": whole, "group_id": ball_id}

        async def put(place: tuple[int, int]) -> None:
            index, start = place
            data = content[start : start + chunk_size]
            await self._put(server, BUCKET, ball_id, data, {**shared, "index": str(index)})

        await for_each(enumerate(starts), put, at_once)

    async def get_file(self, server: Server, ball_id: str, folder: Path, at_once: int) -> None:
        data = await self._get(server, BUCKET, ball_id, at_once)
        (folder / "got").write_bytes(data)

    async def put_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        async def put(ball: tuple[str, bytes]) -> None:
            ball_id, data = ball
            whole = hashlib.sha256(data).hexdigest()
            tags = {"num_chunks": "1", "full_checksum": whole, "group_id": ball_id, "index": "0"}
            await self._put(server, bucket_id, ball_id, data, tags)

        await for_each(balls.items(), put, at_once)

    async def get_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        async def get(ball_id: str) -> None:
            await self._get(server, bucket_id, ball_id, 1)

        await for_each(balls, get, at_once)

    async def _get(self, server: Server, bucket_id: str, ball_id: str, at_once: int) -> bytes:
        listing = json.loads(await self._ask(server, "GET", f"buckets/{bucket_id}/metadata/{ball_id}/chunks"))
        chunks = sorted(listing["chunks"], key=lambda chunk: int(chunk["tags"]["index"]))
        parts: dict[int, bytes] = {}

        async def get(place: tuple[int, dict[str, Any]]) -> None:
            index, chunk = place
            parts[index] = await self._ask(server, "GET", f"buckets/{bucket_id}/{chunk['key']}")
            assert hashlib.sha256(parts[index]).hexdigest() == chunk["checksum"]

        await for_each(enumerate(chunks), get, at_once)
        data = b"".join(parts[index] for index in sorted(parts))
        assert hashlib.sha256(data).hexdigest() == chunks[0]["tags"]["full_checksum"]
        return data

    async def _put(self, server: Server, bucket_id: str, ball_id: str, data: bytes, tags: dict[str, str]) -> None:
        announced = {
            "bucket_id": bucket_id,
            "key": f"{ball_id}_{tags['index']}",
            "ball_id": ball_id,
            "checksum": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "tags": {**tags, "chunk_size": str(len(data))},
            "producer_id": "benchmark",
            "content_type": "application/octet-stream",
            "is_disabled": False,
            "replication_factor": 1,
        }
        text = json.dumps(announced).encode()
        answer = json.loads(await self._ask(server, "POST", f"buckets/{bucket_id}/metadata", text))

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 65536):
                yield data[start : start + 65536]

        sized = {"Content-Length": str(len(data))}
        await self._ask(server, "POST", f"buckets/data/{answer['tasks_ids'][0]}/chunked", pieces(), sized)

    async def _ask(
        self, server: Server, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None
    ) -> bytes:
        async with httpx.AsyncClient(verify=False, timeout=120) as http:
            url = f"http://127.0.0.1:{server.port}/api/v4/{path}"
            response = await http.request(method, url, content=content, headers=headers)
            response.raise_for_status()
            return response.content


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """Run work for every item, with limited concurrency."""
    iterator = iter(items)

    async def worker() -> None:
        for item in iterator:
            await work(item)

    await asyncio.gather(*(worker() for _ in range(at_once)))


def official() -> Client | None:
    """Return the official client if it is installed."""
    module, _, name = OFFICIAL.partition(":")
    try:
        return Client(f"official ({module})", getattr(importlib.import_module(module), name))
    except ImportError:
        return None
