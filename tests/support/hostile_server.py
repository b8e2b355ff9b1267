"""
A hostile HTTP server for tests: raw asyncio over real sockets, in the loop of the client under test.

A request to ``/good/WORD`` is answered properly, with ``WORD``. Every other request meets the script that the server was
started with: a coroutine function that writes bytes, waits, or drops the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

RECEIVE_BUFFER = 64 * 1024
"""The most that the server's system takes of a request that the script does not read (bytes, about)."""


class Dropped(Exception):
    """The script dropped the connection."""


@dataclass
class Request:
    """A request that came, as far as the server read it."""

    method: str
    path: str
    headers: dict[str, str]
    received: int = 0
    complete: bool = False
    digest: str = ""
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def take(self, data: bytes) -> None:
        """Count bytes of the body."""
        self.received += len(data)
        self._hash.update(data)

    def end(self) -> None:
        """Note that the body is complete."""
        self.complete, self.digest = True, self._hash.hexdigest()


class Connection:
    """The server's end of a connection, and all that a script can do with it."""

    def __init__(self, server: HostileServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self.request = Request("", "", {})
        self.number = 0
        """Number of requests that came over the connection."""
        self.written = 0
        """Bytes that were written to it."""
        self.settled = asyncio.Event()
        """Set while no script is about to write to it or to drop it."""
        self.settled.set()

    async def next_request(self) -> Request:
        """Read the head of a request."""
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.request = Request(method, path, headers)
        self.number += 1
        self._server.requests.append(self.request)
        if "transfer-encoding" not in headers and headers.get("content-length", "0") == "0":
            self.request.end()
        return self.request

    async def read_body(self, at_most: int | None = None) -> None:
        """Read the body of the request, or only its first bytes."""
        async for _ in self.body_pieces(at_most):
            pass

    async def body_pieces(self, at_most: int | None = None) -> AsyncIterator[int]:
        """Read the body of the request in pieces; yields their sizes."""
        request = self.request
        if request.complete:
            return
        if "transfer-encoding" not in request.headers:
            length = int(request.headers["content-length"])
            while request.received < length:
                if at_most is not None and request.received >= at_most:
                    return
                yield await self._take(min(65536, length - request.received))
        else:
            while left := int(await self._reader.readuntil(b"\r\n"), 16):
                while left:
                    if at_most is not None and request.received >= at_most:
                        return
                    taken = await self._take(min(65536, left))
                    left -= taken
                    yield taken
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
        request.end()

    async def _take(self, size: int) -> int:
        data = await self._reader.read(size)
        if not data:
            raise Dropped
        self.request.take(data)
        return len(data)

    async def write(self, data: bytes) -> None:
        """Send bytes, once those before them are sent."""
        self._writer.write(data)
        self.written += len(data)
        await self._writer.drain()
        await asyncio.sleep(0)  # drain() does not wait while the buffer is short: the client would have no turn

    async def drip(self, data: bytes, seconds: float) -> None:
        """Send bytes one by one, with a pause before each."""
        for at in range(len(data)):
            await asyncio.sleep(seconds)
            await self.write(data[at : at + 1])

    async def repeat(self, data: bytes, seconds: float = 0) -> None:
        """Send the same bytes until the client goes away, as fast as it takes them or with a pause before each time."""
        while True:
            if seconds:
                await asyncio.sleep(seconds)
            await self.write(data)

    async def finish(self) -> None:
        """Close both directions, in order; what was not read makes it a reset."""
        self._writer.close()
        raise Dropped

    async def finish_writing(self) -> None:
        """Close the direction towards the client only."""
        self._writer.write_eof()
        await asyncio.sleep(0)

    async def reset(self) -> None:
        """Drop the connection, so that the client's system reports a reset."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        raise Dropped

    async def ignore(self) -> None:
        """Read nothing and answer nothing until the server ends."""
        self.settled.set()
        await asyncio.Event().wait()


Script = Callable[[Connection], Awaitable[None]]


class HostileServer:
    """
    Serve on a free port.

    :param script: handles every request but those to ``/good/…``
    :ivar requests: every request that came
    :ivar connections: every connection that was accepted
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.url = ""

    def seen(self, path: str, method: str = "") -> list[Request]:
        """Return the requests to a path, or those of one method."""
        return [one for one in self.requests if one.path == path and method in ("", one.method)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle a connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = Connection(self, reader, writer)
        self.connections.append(connection)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, OSError, Dropped):
                while True:
                    request = await connection.next_request()
                    if request.path.startswith("/good/"):
                        await connection.read_body()
                        word = request.path.removeprefix("/good/").encode()
                        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(word), word))
                    else:
                        connection.settled.clear()
                        await self._script(connection)
                        connection.settled.set()
                        if not request.complete:
                            await connection.ignore()
        finally:
            self._tasks.discard(task)
            connection.settled.set()
            writer.close()

    async def settle(self) -> None:
        """Wait until the scripts have ended, and the client had time to notice."""
        for connection in self.connections:
            await connection.settled.wait()
        await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Drop all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[HostileServer]:
    """Run a ``HostileServer`` while the context lasts."""
    server = HostileServer(script)
    sock = socket.socket(
        proto=socket.IPPROTO_TCP
    )  # without it asyncio leaves Nagle on: what is written would come late
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)  # before listen(): accepted sockets inherit it
    sock.bind(("127.0.0.1", 0))
    listener = await asyncio.start_server(server.serve, sock=sock, ssl=tls)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{sock.getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await server.end()
