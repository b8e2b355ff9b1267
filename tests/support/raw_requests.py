"""
The wire without the client: what another writer sends, what a reader sees, and a router that lies.

Set-ups are made with these and never with the client under test, so that a fault of the client can't hide in both.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from airflow_provider_mictlanx.client import AsyncClient
from tests.support.vss import LocalVSS

# As in tests/support/vss.py: to make one for each request would take most of the tests' time.
_HOW: Any = {
    "verify": False,
    "trust_env": False,
    "timeout": 30,
    "limits": httpx.Limits(max_keepalive_connections=0),
}
_HTTP = httpx.Client(**_HOW)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes that repeat nowhere near a chunk's border, so that chunks that change places are seen."""
    blocks = (hashlib.sha256(f"{seed}:{n}".encode()).digest() for n in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def cut(data: bytes, *sizes: int) -> list[bytes]:
    """Cut bytes into pieces of these sizes; what is left over is the last one."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]] if at < len(data) or not pieces else pieces


def client_of(vss: LocalVSS, **arguments: Any) -> AsyncClient:
    return AsyncClient(vss.uri, "tests", **arguments)


def uri_of(*ports: int) -> str:
    routers = ",".join(f"r{index}@127.0.0.1:{port}" for index, port in enumerate(ports))
    return f"mictlanx://{routers}/?protocol=http"


class Wire:
    """Requests as another client would make them."""

    def __init__(self, vss: LocalVSS, router: int = 0) -> None:
        self.vss = vss
        self.api = f"{vss.api(router)}/buckets"

    def announce(
        self,
        bucket_id: str,
        ball_id: str,
        index: int,
        data: bytes,
        whole: bytes,
        num_chunks: int,
        rf: int = 1,
        tags: Mapping[str, str] | None = None,
        standard_tags: bool = True,
    ) -> tuple[str, list[str]]:
        """Announce a chunk; gives its task and the peers that are to have it."""
        standard = {
            "index": str(index),
            "num_chunks": str(num_chunks),
            "full_checksum": sha256(whole),
            "chunk_size": str(len(data)),
            "group_id": ball_id,
        }
        answer = self._checked(
            "POST",
            f"{self.api}/{bucket_id}/metadata",
            json={
                "bucket_id": bucket_id,
                "key": f"{ball_id}_{index}",
                "ball_id": ball_id,
                "checksum": sha256(data),
                "size": len(data),
                "tags": {**(standard if standard_tags else {}), **(tags or {})},
                "producer_id": "another",
                "content_type": "application/octet-stream",
                "is_disabled": False,
                "replication_factor": rf,
            },
        ).json()
        return answer["tasks_ids"][0], answer["replicas"]

    def send(self, task_id: str, data: bytes) -> list[str]:
        """Send the data of a task; gives the peers that stored it."""
        answer = self._checked("POST", f"{self.api}/data/{task_id}/chunked", content=data).json()
        peers: list[str] = answer["peer_ids"]
        return peers

    def put(
        self,
        bucket_id: str,
        ball_id: str,
        chunks: Sequence[bytes],
        *,
        rf: int = 1,
        only: Sequence[int] | None = None,
        announced_only: Sequence[int] = (),
        tags: Mapping[str, str] | None = None,
        standard_tags: bool = True,
    ) -> dict[int, list[str]]:
        """Put a ball of these chunks, or ``only`` some of them; gives the peers that stored each."""
        stored = {}
        for index, data in enumerate(chunks):
            if only is not None and index not in only:
                continue
            task, _ = self.announce(
                bucket_id, ball_id, index, data, b"".join(chunks), len(chunks), rf, tags, standard_tags
            )
            if index not in announced_only:
                stored[index] = self.send(task, data)
        return stored

    def listed(self, bucket_id: str, ball_id: str) -> list[dict[str, Any]]:
        """Give what the peers list of a ball."""
        answer = self._request("GET", f"{self.api}/{bucket_id}/metadata/{ball_id}/chunks")
        if answer.status_code == 404:
            return []
        answer.raise_for_status()
        chunks: list[dict[str, Any]] = answer.json()["chunks"]
        return chunks

    def data(self, bucket_id: str, key: str, peer_id: str = "", force: bool = True) -> bytes | None:
        """Give the bytes of a chunk, None where there are none."""
        headers = {**({"Force-Get": "1"} if force else {}), **({"Peer-Id": peer_id} if peer_id else {})}
        answer = self._request("GET", f"{self.api}/{bucket_id}/{key}", headers=headers)
        return answer.content if answer.status_code == 200 else None

    def peers_with(self, bucket_id: str, key: str, data: bytes) -> set[str]:
        """Give the peers that have exactly these bytes of a chunk."""
        peers = [f"peer-{number}" for number in range(self.vss.peers)]
        return {peer for peer in peers if self.data(bucket_id, key, peer) == data}

    def metadata(self, bucket_id: str, key: str) -> tuple[int, Any]:
        """Give the status and the body of the question for a chunk's metadata."""
        answer = self._request("GET", f"{self.api}/{bucket_id}/metadata/{key}")
        return answer.status_code, answer.json()

    def delete(self, bucket_id: str, ball_id: str) -> int:
        answer = self._checked("DELETE", f"{self.api}/{bucket_id}/bid/{ball_id}", headers={"Force": "1"}).json()
        number: int = answer["n_deletes"]
        return number

    def delete_chunk(self, bucket_id: str, key: str) -> int:
        answer = self._checked("DELETE", f"{self.api}/{bucket_id}/{key}", headers={"Force": "1"}).json()
        number: int = answer["n_deletes"]
        return number

    def forget_at_peer(self, peer: int, bucket_id: str, ball_id: str) -> None:
        """Let a peer lose a ball, without a word to the placement service."""
        self._checked("DELETE", f"{self.vss.peer_api(peer)}/buckets/{bucket_id}/bid/{ball_id}")

    def break_off_upload(self, task_id: str, data: bytes, size: int) -> None:
        """Begin to send ``size`` bytes, and close the connection after ``data``."""
        url = urlsplit(f"{self.api}/data/{task_id}/chunked")
        with socket.create_connection((url.hostname, url.port)) as connection:
            head = f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: {size}\r\n\r\n"
            connection.sendall(head.encode() + data)

    def _checked(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        answer = self._request(method, url, **arguments)
        answer.raise_for_status()
        return answer

    @staticmethod
    def _request(method: str, url: str, **arguments: Any) -> httpx.Response:
        return _HTTP.request(method, url, **arguments)


@dataclass
class Asked:
    """A request that came to a ``Meddler``."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """An answer: status, body, and headers; ``raw`` is sent as it is instead; ``drop`` closes the connection unanswered."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    raw: bytes | None = None
    drop: bool = False

    def json(self) -> Any:
        return json.loads(self.body)


Handler = Callable[[Asked, Callable[[Asked], Awaitable[Reply]]], Awaitable[Reply | None]]


class Meddler:
    """
    A router that stands before another one and meddles with what it likes to; without another one it makes all answers up.

    :param handler: is given a request and what passes it on; gives a reply, or None to pass it on as it is
    """

    def __init__(self, handler: Handler, upstream: str = "") -> None:
        self._handler = handler
        self._upstream = upstream
        self.asked: list[Asked] = []
        self.port = 0
        self.server: asyncio.Server | None = None
        self.http = httpx.AsyncClient(**_HOW)

    @property
    def uri(self) -> str:
        return uri_of(self.port)

    def refuse_connections(self) -> None:
        """Stop listening; connections that are open stay open."""
        if self.server is not None:
            self.server.close()

    def seen(self, method: str, part: str = "") -> list[Asked]:
        """Give the requests of a method that have this in their path."""
        return [asked for asked in self.asked if asked.method == method and part in asked.path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                asked = await _read_request(head, reader)
                self.asked.append(asked)
                reply = await self._handler(asked, self._pass_on)
                reply = await self._pass_on(asked) if reply is None else reply
                if reply.drop:
                    break
                writer.write(_as_bytes(reply) if reply.raw is None else reply.raw)
                await writer.drain()
                if reply.raw is not None:
                    break
        writer.close()

    async def _pass_on(self, asked: Asked) -> Reply:
        headers = {name: value for name, value in asked.headers.items() if name not in ("host", "content-length")}
        answer = await self.http.request(
            asked.method, self._upstream + asked.path, headers=headers, content=asked.body or None
        )
        return Reply(answer.status_code, answer.content, {"Content-Type": answer.headers.get("content-type", "")})


async def _read_request(head: bytes, reader: asyncio.StreamReader) -> Asked:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, path, headers, body)


def _as_bytes(reply: Reply) -> bytes:
    headers = {**reply.headers, "Content-Length": str(len(reply.body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {reply.status} Whatever\r\n{lines}\r\n".encode("latin-1") + reply.body


@asynccontextmanager
async def meddling(handler: Handler, vss: LocalVSS | None = None) -> AsyncIterator[Meddler]:
    """Run a ``Meddler`` on a free port, in front of a VSS where one is given."""
    meddler = Meddler(handler, vss.url() if vss else "")
    meddler.server = await asyncio.start_server(meddler.serve, "127.0.0.1", 0)
    meddler.port = meddler.server.sockets[0].getsockname()[1]
    try:
        yield meddler
    finally:
        meddler.refuse_connections()
        await meddler.http.aclose()


def free_port() -> int:
    """Give a port on which nobody listens just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
