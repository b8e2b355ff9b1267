"""
A hostile router, for tests: it stands before a real one, passes requests on as they are, and misbehaves where it is told to.

Raw asyncio over real sockets, in a thread with a loop of its own, so that clients that block can be served too. What it does
with a request is a ``Behaviour``: a coroutine function that is given the ``Exchange`` and does with it what it likes, down to
single bytes. The behaviours themselves are in ``router_behaviours.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

T = TypeVar("T")

KINDS: Mapping[str, tuple[str, str]] = {
    "peers": ("GET", r"/peers$"),
    "data": ("POST", r"/buckets/data/[^/]+/chunked$"),
    "announce": ("POST", r"/buckets/[^/]+/metadata$"),
    "bucket": ("GET", r"/buckets/[^/]+/metadata$"),
    "chunks": ("GET", r"/buckets/[^/]+/metadata/[^/]+/chunks$"),
    "metadata": ("GET", r"/buckets/[^/]+/metadata/[^/]+$"),
    "read": ("GET", r"/buckets/[^/]+/(?!metadata$)[^/]+$"),
    "delete ball": ("DELETE", r"/buckets/[^/]+/bid/[^/]+$"),
    "delete chunk": ("DELETE", r"/buckets/[^/]+/[^/]+$"),
}
"""The requests of the protocol that the client makes: method, and what the path (without its query) ends with."""


def kind_of(method: str, path: str) -> str:
    """Name a request."""
    path = path.partition("?")[0]
    return next((kind for kind, (m, pattern) in KINDS.items() if m == method and re.search(pattern, path)), "other")


@dataclass(frozen=True)
class Request:
    """The head of a request."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def kind(self) -> str:
        return kind_of(self.method, self.path)

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length", "0"))


@dataclass(frozen=True)
class Reply:
    """An answer, sent with its length, or (``open_end``) as data is: in pieces, ended by the last one."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    open_end: bool = False

    def head(self) -> bytes:
        length = {"transfer-encoding": "chunked"} if self.open_end else {"content-length": str(len(self.body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**self.headers, **length}.items())
        return f"HTTP/1.1 {self.status} Hostile\r\n{lines}\r\n".encode("latin-1")

    def as_bytes(self) -> bytes:
        if not self.open_end:
            return self.head() + self.body
        piece = b"%x\r\n%b\r\n" % (len(self.body), self.body) if self.body else b""
        return self.head() + piece + b"0\r\n\r\n"


class Gone(Exception):
    """The connection is closed, on purpose."""


class Exchange:
    """One request, and everything that can be done with it."""

    def __init__(self, router: HostileRouter, request: Request, reader: asyncio.StreamReader, connection: _Connection):
        self.router = router
        self.request = request
        self._reader = reader
        self._connection = connection
        self._body: bytes | None = None

    async def body(self, size: int | None = None) -> bytes:
        """Read the request's body, or the beginning of it."""
        if self._body is None:
            data = await self._reader.readexactly(self.request.length if size is None else size)
            if size is not None:
                return data
            self._body = data
        return self._body

    async def answer(self, body: bytes | None = None, path: str = "") -> Reply:
        """
        Forward the request to the real router.

        :param body: sent instead of the request's
        :param path: asked for instead of the request's
        """
        sent = await self.body()
        return await self._connection.ask(self.request, path or self.request.path, sent if body is None else body)

    async def send(self, reply: Reply) -> None:
        """Answer."""
        await self.body()  # else what is unread would be taken for the next request
        await self.raw(reply.as_bytes())

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._connection.writer.write(data)
        await self._connection.writer.drain()

    async def reset(self) -> None:
        """Drop the connection, so that the client's system reports "connection reset"."""
        sock = self._connection.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.writer.transport.abort()
        raise Gone

    async def never(self) -> None:
        """Wait until the client goes away."""
        while await self._reader.read(65536):
            pass
        raise Gone


Behaviour = Callable[[Exchange], Awaitable[None]]


@dataclass
class Rule:
    """
    When to misbehave, and how.

    :ivar kinds: at requests of these kinds
    :ivar times: the number of requests that are affected; None for all
    :ivar hits: how often it happened
    """

    behaviour: Behaviour
    kinds: Collection[str]
    times: int | None = None
    hits: int = 0

    def takes(self, request: Request) -> bool:
        if request.kind not in self.kinds or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


class HostileRouter:
    """
    Serves on a port of its own while the context lasts.

    :param upstream: port of the real router
    :ivar requests: every request that came
    :ivar swallowed: how often a client read an endless answer to its end
    :ivar elsewhere: the port to which redirects lead
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.port = 0
        self.rule: Rule | None = None
        self.requests: list[Request] = []
        self.swallowed = 0
        self.elsewhere = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hostile", daemon=True)
        self._server: asyncio.Server | None = None
        self._placeholder: socket.socket | None = None
        self._connections: dict[asyncio.Task[None], _Connection] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        self._placeholder = _reserved()
        self.port = self._placeholder.getsockname()[1]
        self.accept()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @contextmanager
    def misbehaving(self, behaviour: Behaviour, kinds: Collection[str], times: int | None = None) -> Iterator[Rule]:
        """Misbehave for the block."""
        self.rule = rule = Rule(behaviour, kinds, times)
        try:
            yield rule
        finally:
            self.rule = None

    def refuse(self) -> None:
        """Be gone: drop all connections and refuse new ones, until ``accept``."""
        self._do(self.arefuse())

    def accept(self) -> None:
        """Be there, again."""
        self._do(self.aaccept())

    async def arefuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self._placeholder = _reserved(
                self.port
            )  # bound, and not listening: connections are refused, the port is kept
        for task, connection in list(self._connections.items()):
            if task is not asyncio.current_task():
                connection.writer.transport.abort()

    async def aaccept(self) -> None:
        placeholder, self._placeholder = self._placeholder, None
        if placeholder is not None:
            self._server = await asyncio.start_server(self._serve, sock=placeholder, limit=2**24)

    async def _end(self) -> None:
        await self.arefuse()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._placeholder is not None:
            self._placeholder.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = self._connections[task] = _Connection(self.upstream, writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError, Gone):
                while True:
                    await self._exchange(reader, connection)
        finally:
            connection.close()
            del self._connections[task]

    async def _exchange(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        method, path, _ = first.split(" ")
        request = Request(method, path, _headers(lines))
        self.requests.append(request)
        exchange = Exchange(self, request, reader, connection)
        if self.rule is not None and self.rule.takes(request):
            await self.rule.behaviour(exchange)
        else:
            await exchange.send(await exchange.answer())


class _Connection:
    """A client's connection, with one to the real router behind it."""

    def __init__(self, upstream: int, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._upstream = upstream
        self._behind: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: Request, path: str, body: bytes) -> Reply:
        if self._behind is None:
            self._behind = await asyncio.open_connection("127.0.0.1", self._upstream, limit=2**24)
        reader, writer = self._behind
        kept = {name: value for name, value in request.headers.items() if name not in ("content-length", "host")}
        length = {"content-length": str(len(body))} if request.method in ("POST", "PUT") else {}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**kept, "host": "upstream", **length}.items())
        writer.write(f"{request.method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)
        first, *told = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        headers = _headers(told)
        open_end = headers.pop("transfer-encoding", "") == "chunked"
        answered = (
            await _pieces(reader) if open_end else await reader.readexactly(int(headers.get("content-length", 0)))
        )
        headers.pop("content-length", None)
        return Reply(int(first.split(" ")[1]), answered, headers, open_end)

    def close(self) -> None:
        self.writer.close()
        if self._behind is not None:
            self._behind[1].close()


def _headers(lines: list[str]) -> dict[str, str]:
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def _pieces(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)


def _reserved(port: int = 0) -> socket.socket:
    """Bind a port, below those that outgoing connections get, and don't listen on it yet."""
    for _ in range(100):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # pytest-randomly seeds the default generator, alike in all workers.
            sock.bind(("127.0.0.1", port or random.SystemRandom().randrange(12000, 20000)))
        except OSError:
            sock.close()
            if port:
                raise
        else:
            return sock
    raise OSError("no free port was found")
