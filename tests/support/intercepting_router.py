"""A router in front of another one, or of none: it passes requests on, answers them itself, or breaks them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from tests.support.addresses import uri_of
from tests.support.vss import LocalVSS


@dataclass
class Asked:
    """A request that came to an ``InterceptingRouter``."""

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


class InterceptingRouter:
    """
    A router that passes requests on to another one, or answers them itself; without another one it answers all of them.

    :param handler: gets a request and the function that passes it on; returns a reply, or None to pass the request on unchanged
    """

    def __init__(self, handler: Handler, http: aiohttp.ClientSession, upstream: str = "") -> None:
        self._handler = handler
        self._http = http
        self._upstream = upstream
        self.asked: list[Asked] = []
        self.port = 0
        self.server: asyncio.Server | None = None

    @property
    def uri(self) -> str:
        return uri_of(self.port)

    def refuse_connections(self) -> None:
        """Stop listening; connections that are open stay open."""
        if self.server is not None:
            self.server.close()

    def seen(self, method: str, part: str = "") -> list[Asked]:
        """Return the requests of a method whose path contains this."""
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
        url = URL(self._upstream + asked.path, encoded=True)
        async with self._http.request(asked.method, url, headers=headers, data=asked.body or None) as answer:
            content = await answer.read()
            return Reply(answer.status, content, {"Content-Type": answer.headers.get("Content-Type", "")})


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
async def intercepting(handler: Handler, vss: LocalVSS | None = None) -> AsyncIterator[InterceptingRouter]:
    """Run an ``InterceptingRouter`` on a free port, in front of a VSS where one is given."""
    connector = aiohttp.TCPConnector(force_close=True)  # the VSS may have been restarted since the last request
    timeout = aiohttp.ClientTimeout(30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as http:
        router = InterceptingRouter(handler, http, vss.url() if vss else "")
        router.server = await asyncio.start_server(router.serve, "127.0.0.1", 0)
        router.port = router.server.sockets[0].getsockname()[1]
        try:
            yield router
        finally:
            router.refuse_connections()
