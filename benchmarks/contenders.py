"""
Contenders: the client, the floor, and others that move the same bytes.

``Client`` uses the documented methods of the official client. If that is installed
(``MICTLANX_OFFICIAL=module:Class``, by default ``mictlanx:AsyncClient``), the same code measures it too.

``Reference`` moves bytes the way the official client does: two requests for a put, two for a get, a new
``httpx.AsyncClient`` for every request, bodies in pieces of an async generator.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import for_each
from airflow_provider_mictlanx.client.local_io.chunk_sizes import chunk_size_for, concurrency_for
from benchmarks import floor
from benchmarks.servers import Server

BUCKET = "bench"
OFFICIAL = os.environ.get("MICTLANX_OFFICIAL", "mictlanx:AsyncClient")


@dataclass(frozen=True)
class Cut:
    """Chunk size, and chunks in flight; ``automatic`` leaves both to the client."""

    chunk_size: int
    at_once: int
    automatic: bool = False


def automatic(size: int) -> Cut:
    """Return the cut that the client chooses for a file, for contenders that don't choose."""
    chunk_size = chunk_size_for(size)
    return Cut(chunk_size, concurrency_for(chunk_size), automatic=True)


class Contender(Protocol):
    """Interface of everything that is measured."""

    async def put_file(self, server: Server, ball_id: str, path: Path, cut: Cut) -> None:
        """Write a file."""

    async def get_file(self, server: Server, ball_id: str, folder: Path, cut: Cut) -> None:
        """Read a ball into a file in an empty folder."""

    async def put_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        """Write small balls."""

    async def get_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        """Read small balls into memory."""


class Client:
    """The client, through its documented methods."""

    def __init__(self, of_class: Callable[..., Any] = AsyncClient) -> None:
        self._class = of_class

    def _made(self, server: Server) -> Any:
        return self._class(server.uri, "benchmark", debug=False, log_output_path="", capacity_storage="1kb")

    async def put_file(self, server: Server, ball_id: str, path: Path, cut: Cut) -> None:
        client = self._made(server)
        if cut.automatic:
            stored = await client.upload(BUCKET, ball_id, path=path, chunk_size=None, max_concurrency=None)
        else:
            sizes = {"chunk_size": f"{cut.chunk_size}b", "max_concurrency": cut.at_once}
            stored = await client.put_file(BUCKET, ball_id, str(path), **sizes)
        assert stored.unwrap()
        await closed(client)

    async def get_file(self, server: Server, ball_id: str, folder: Path, cut: Cut) -> None:
        client = self._made(server)
        if cut.automatic:
            (await client.download(BUCKET, ball_id, folder)).unwrap()
        else:
            (await client.get_to_file(BUCKET, ball_id, str(folder), max_paralell_gets=cut.at_once)).unwrap()
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

    async def put_file(self, server: Server, ball_id: str, path: Path, cut: Cut) -> None:
        await floor.put_file(server.port, BUCKET, ball_id, path, cut.chunk_size, cut.at_once)

    async def get_file(self, server: Server, ball_id: str, folder: Path, cut: Cut) -> None:
        await floor.get_file(server.port, BUCKET, ball_id, folder / "got", cut.at_once)

    async def put_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        await floor.put_balls(server.port, bucket_id, balls, at_once)

    async def get_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        await floor.get_balls(server.port, bucket_id, balls, at_once)


class Reference:
    """The requests of the official client, with a new HTTP client for every request."""

    async def put_file(self, server: Server, ball_id: str, path: Path, cut: Cut) -> None:
        content = path.read_bytes()
        whole = hashlib.sha256(content).hexdigest()
        starts = range(0, len(content), cut.chunk_size)
        shared = {"num_chunks": str(len(starts)), "full_checksum": whole, "group_id": ball_id}

        async def put(place: tuple[int, int]) -> None:
            index, start = place
            data = content[start : start + cut.chunk_size]
            await self._put(server, BUCKET, ball_id, data, {**shared, "index": str(index)})

        await for_each(enumerate(starts), put, cut.at_once)

    async def get_file(self, server: Server, ball_id: str, folder: Path, cut: Cut) -> None:
        data = await self._get(server, BUCKET, ball_id, cut.at_once)
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


def known_contenders() -> dict[str, Contender]:
    """Return the contenders by name; the official client only if it is installed."""
    found: dict[str, Contender] = {"client": Client(), "reference": Reference(), "floor": Floor()}
    module, _, name = OFFICIAL.partition(":")
    with contextlib.suppress(ImportError):
        found["official"] = Client(getattr(importlib.import_module(module), name))
    return found
