"""
HTTP/1.1 over asyncio, as far as this client needs it: connections that are used again, one request at a time on each.

It is here because a transfer's price is requests: httpx takes 0.4 ms of a core for each, and this a tenth of that
(``docs/performance.md``). What it does not do is not needed: no redirects, cookies, proxies, decompression, caching.

What an answer may do to it is bounded: the head by ``MAX_HEAD``, what is read ahead of the reader by ``READ_AHEAD``; framing
that contradicts itself is no HTTP. ``connections.py`` is what the rest of the client knows.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from typing import cast
from urllib.parse import quote

from airflow_provider_mictlanx.client.texts import excerpt
from airflow_provider_mictlanx.client.transport.backend import (
    Body,
    BrokenError,
    InvalidResponseError,
    InvalidUrlError,
    NotConnectedError,
    ResponseStream,
)
from airflow_provider_mictlanx.client.transport.limits import CONNECT_TIMEOUT, IDLE_SECONDS, MAX_IDLE

MAX_HEAD = 64 * 1024
"""The most that the head of an answer, or the line before a chunk, may hold (bytes)."""

READ_AHEAD = 512 * 1024
"""No more is read from a connection while this much waits for its reader (bytes)."""

SLICE = 256 * 1024
"""A body is written in pieces of this size (bytes): what the socket does not take is copied."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: [^\r\n]*)?")
_TARGET = re.compile(r"[!$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]*")
_SAFE = "!$%&'()*+,-./:;=?@[]_~"
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?")


@dataclass(frozen=True)
class Origin:
    """Where a request goes: host and port, and what the header ``Host`` says."""

    host: str
    port: int
    tls: bool
    header: str

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address, of which there is one."""
        return ":" in self.host or self.host[-1].isdigit()


def split_url(url: str) -> tuple[Origin, str]:
    """Give where a URL leads, and what is asked for there; ``InvalidUrlError`` where it is none."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if scheme not in ("http", "https"):
        raise InvalidUrlError(f"{scheme[:10]!r} is neither http nor https")
    target = f"/{path}" if slash else "/"
    return parse_origin(scheme, authority), target if _TARGET.fullmatch(target) else quote(target, safe=_SAFE)


@lru_cache(maxsize=256)
def parse_origin(scheme: str, authority: str) -> Origin:
    """Give the origin of a URL's parts; ``InvalidUrlError`` where they are none."""
    host, port = authority, ""
    if authority.startswith("["):
        host, closed, port = authority[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            raise InvalidUrlError(f"{authority!r} is no address")
        port = port[1:]
    elif ":" in authority:
        host, _, port = authority.rpartition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and int(port) < 65536)):
        raise InvalidUrlError(f"{authority!r} is no address")
    try:
        ascii_host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError as error:
        raise InvalidUrlError(f"{host!r} is no host name: {error}") from error
    shown = f"[{ascii_host}]" if ":" in ascii_host else ascii_host
    return Origin(
        ascii_host,
        int(port) if port else (443 if scheme == "https" else 80),
        scheme == "https",
        f"{shown}:{port}" if port else shown,
    )


class Connection(asyncio.Protocol):
    """One connection. It is made by a ``Pool``, which sees to it that it serves one request at a time."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._lost: Exception | None = None
        self._is_lost = False
        self._full = False
        self._reading = True
        self._busy = False
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._buffer = b""
        self._left: int | None = None
        """Bytes of the body, or of the chunk, that are missing; None where they end with the connection."""
        self._chunked = False
        self._between = False
        """Whether the end of a chunk's line is next."""
        self._trailing = False
        self._complete = False
        self._keep = True
        self._fault: Exception | None = None

    # -- what asyncio calls --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that it ended; a body that has no other end ends with it."""
        self._is_lost, self._lost = True, exc
        self._keep = False
        if self.status and self._left is None and not self._chunked and exc is None:
            self._complete = True
        self._wake()

    def pause_writing(self) -> None:
        """Stop writing."""
        self._full = True

    def resume_writing(self) -> None:
        """Go on writing."""
        self._full = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if not self._busy or self._complete:  # nobody asked for that
            self._keep = False
            self.abort()
            return
        try:
            if not self.status:
                self._take_head(data)
            else:
                self._take_body(data)
        except InvalidResponseError as error:
            self._fault, self._complete, self._keep = error, False, False
            self.abort()
        if self.status or self._fault:
            self._wake()

    # -- the answer ----------------------------------------------------------------------------------------------------

    def _take_head(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        end = data.find(b"\r\n\r\n")
        if (end if end >= 0 else len(data)) > MAX_HEAD:
            raise InvalidResponseError(f"its head is longer than {MAX_HEAD} bytes")
        if end < 0:
            self._buffer = data
            if not b"HTTP/1.".startswith(data[:7]):
                raise InvalidResponseError(f"it begins {excerpt(data, 16)!r}")
            return
        self._buffer = b""
        status, headers, keep = _parse_head(data[:end])
        rest = data[end + 4 :]
        if status < 200:  # 100 Continue and the like: the answer is still to come
            if status == 101:
                raise InvalidResponseError("it changes to another protocol, which was not asked for")
            if rest:
                self._take_head(rest)
            return
        self._keep = self._keep and keep
        self._frame(status, headers)
        self.status, self.headers = status, headers
        if rest and not self._complete:
            self._take_body(rest)
        elif rest:
            raise InvalidResponseError("there is more of it than it says")

    def _frame(self, status: int, headers: Mapping[str, str]) -> None:
        """Find out where the body ends."""
        encoding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if status in (204, 304):
            self._complete = True
        elif encoding is not None:
            if encoding.lower() != "chunked" or length is not None:
                raise InvalidResponseError("it does not say clearly where it ends")
            self._chunked, self._left = True, 0
        elif length is not None:
            if not (length.isascii() and length.isdigit() and len(length) < 19):
                raise InvalidResponseError(f"its length is {excerpt(length, 20)!r}")
            self._left = int(length)
            self._complete = self._left == 0
        else:
            self._keep = False

    def _take_body(self, data: bytes) -> None:
        if self._chunked:
            self._take_chunks(data)
        elif self._left is None:
            self._give(data)
        elif len(data) > self._left:
            raise InvalidResponseError("there is more of it than it says")
        else:
            self._left -= len(data)
            self._complete = self._left == 0
            self._give(data)

    def _take_chunks(self, data: bytes) -> None:
        at, end = 0, len(data)
        while at < end:
            if self._left:
                part = data if at == 0 and end <= self._left else data[at : at + self._left]
                at += len(part)
                self._left -= len(part)
                self._between = self._left == 0
                self._give(part)
                continue
            newline = data.find(b"\n", at)
            if newline < 0:
                self._buffer += data[at:]
                if len(self._buffer) > MAX_HEAD:
                    raise InvalidResponseError("a line between its chunks has no end")
                return
            line = self._buffer + data[at : newline + 1]
            self._buffer, at = b"", newline + 1
            self._take_line(line)
            if self._complete:
                if at < end:
                    raise InvalidResponseError("there is more of it than it says")
                return

    def _take_line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            raise InvalidResponseError("a line between its chunks has no proper end")
        text = line[:-2]
        if self._between:
            if text:
                raise InvalidResponseError("a chunk of it is longer than it says")
            self._between = False
        elif self._trailing:
            self._complete = not text
        else:
            if not (found := _CHUNK_LINE.fullmatch(text)):
                raise InvalidResponseError(f"the length of a chunk of it is {excerpt(text, 20)!r}")
            self._left = int(found[1], 16)
            self._trailing = self._left == 0

    def _give(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._waiting += len(piece)
        if self._waiting > READ_AHEAD and self._reading and self._transport and not self._is_lost:
            self._reading = False
            self._transport.pause_reading()

    async def next_piece(self) -> bytes | None:
        """Give the next piece of the body as it comes, None at its end."""
        while not self._pieces:
            if self._complete:
                return None
            self._raise_if_ended()
            await self._wait()
        piece = self._pieces.popleft()
        self._waiting -= len(piece)
        if not self._reading and self._waiting <= READ_AHEAD // 2 and self._transport and not self._is_lost:
            self._reading = True
            self._transport.resume_reading()
        return piece

    # -- the request ---------------------------------------------------------------------------------------------------

    async def ask(self, head: bytes, body: Body) -> None:
        """
        Send a request and wait for the answer's head.

        :param head: everything before the body, the framing headers included
        :param body: the bytes, or pieces of a body that is sent in chunks
        """
        self._begin()
        self._busy = True
        self._raise_if_ended()
        transport = cast(asyncio.Transport, self._transport)
        if isinstance(body, bytes | memoryview):
            if len(body) <= SLICE:
                transport.write(b"".join((head, body)) if body else head)
            else:
                transport.write(head)
                await self._write_slices(transport, body)
        else:
            transport.write(head)
            await self._write_chunks(transport, body)
        while not self.status:
            self._raise_if_ended()
            await self._wait()

    async def _write_slices(self, transport: asyncio.Transport, body: bytes | memoryview) -> None:
        view = memoryview(body)
        for start in range(0, len(body), SLICE):
            if not await self._may_write():
                return
            transport.write(view[start : start + SLICE])

    async def _write_chunks(self, transport: asyncio.Transport, body: AsyncGenerator[bytes]) -> None:
        async with aclosing(body):
            async for piece in body:
                if not await self._may_write():
                    return
                if piece:
                    transport.writelines([b"%x\r\n" % len(piece), piece, b"\r\n"])
        transport.write(b"0\r\n\r\n")

    async def _may_write(self) -> bool:
        """Wait until there is room; False where the answer came, or the end, before all was sent: it is of no use then."""
        while self._full and not self.status and not self._is_lost:
            await self._wait()
        if self.status or self._is_lost or self._fault:
            self._keep = False
            return False
        return True

    # -- its end -------------------------------------------------------------------------------------------------------

    def finish(self) -> bool:
        """End the request; tells whether the connection can serve another one."""
        can_serve = self._busy and self._complete and self._keep and not self._pieces and not self._is_lost
        self._busy = False
        if not can_serve:
            self.abort()
        return can_serve

    @property
    def is_open(self) -> bool:
        """Whether it could serve a request."""
        return not self._is_lost and self._keep and self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """Drop it at once."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()

    def _raise_if_ended(self) -> None:
        if self._fault is not None:
            raise self._fault
        if self._is_lost:
            if self._lost is None:
                action = "in the middle of the answer" if self.status or self._buffer else "without sending a response"
                raise BrokenError(f"the server closed it {action}")
            raise BrokenError(str(self._lost) or type(self._lost).__name__) from self._lost

    async def _wait(self) -> None:
        """Wait until something happens."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _parse_head(head: bytes) -> tuple[int, dict[str, str], bool]:
    """Give the status, the headers by name in lower case, and whether the connection stays open after the answer."""
    line, *fields = head.split(b"\r\n")
    found = _STATUS_LINE.fullmatch(line)
    if not found:
        raise InvalidResponseError(f"it begins {excerpt(line, 16)!r}")
    headers: dict[str, str] = {}
    for field in fields:
        raw_name, colon, raw_value = field.partition(b":")
        name, value = raw_name.decode("latin-1").lower(), raw_value.strip(b" \t").decode("latin-1")
        if not colon or not name or raw_name.strip() != raw_name or "\n" in value or "\r" in value:
            raise InvalidResponseError(f"a header of it is {excerpt(field, 20)!r}")
        if name in headers:
            if name in ("content-length", "transfer-encoding") and headers[name] != value:
                raise InvalidResponseError("it does not say clearly where it ends")
            value = value if name == "content-length" else f"{headers[name]}, {value}"
        headers[name] = value
    options = headers.get("connection", "").lower()
    keep = "close" not in options and (found[1] == b"1" or "keep-alive" in options)
    return int(found[2]), headers, keep


def _make_head(method: str, origin: Origin, target: str, headers: Mapping[str, str], body: Body) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if not any(name.lower() == "host" for name in headers):
        lines.insert(1, f"Host: {origin.header}")
    if not isinstance(body, bytes | memoryview):
        lines.append("Transfer-Encoding: chunked")
    elif body or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


class Pool:
    """
    The connections of one event loop, with one way to check TLS.

    :param context: of TLS
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._idle: dict[Origin, deque[Connection]] = {}
        self._busy: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> int:
        """How many connections serve a request just now."""
        return len(self._busy)

    async def begin(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> Connection:
        """Send a request over a connection that is free, the one used last, or over a new one."""
        origin, target = split_url(url)
        connection = self._idle_one(origin) or await self._connected(origin)
        self._busy.add(connection)
        try:
            await connection.ask(_make_head(method, origin, target, headers, body), body)
        except BaseException:
            self._take_back(connection)
            raise
        return connection

    async def end(self, stream: ResponseStream) -> None:
        """Let the connection wait for a next request, if it can serve one."""
        self._take_back(cast(Connection, stream))

    def _take_back(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if not connection.finish():
            return
        idle = self._idle.setdefault(connection.origin, deque())
        if len(idle) >= MAX_IDLE:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        idle.append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(IDLE_SECONDS, self._sweep)

    def _idle_one(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while idle:
            connection = idle.pop()
            if connection.is_open and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def _connected(self, origin: Origin) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(origin),
                    origin.host,
                    origin.port,
                    ssl=self._context if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                    happy_eyeballs_delay=None if origin.is_address else 0.25,
                )
        except (OSError, UnicodeError) as error:  # TimeoutError and ssl.SSLError are OSErrors
            raise NotConnectedError(str(error) or type(error).__name__) from error
        return connection

    def _sweep(self) -> None:
        """Close what has been idle for too long."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_SECONDS
        for origin, idle in list(self._idle.items()):
            while idle and idle[0].idle_since <= oldest:
                idle.popleft().close()
            if not idle:
                del self._idle[origin]
        self._sweeping = loop.call_later(IDLE_SECONDS / 2, self._sweep) if self._idle else None

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connection in [*self._busy, *(one for idle in self._idle.values() for one in idle)]:
            connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # asyncio closes their sockets in the next turn of the loop
