"""A hostile HTTP/2 server, frame by frame, and its answers as data."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hpack import Decoder, Encoder

from tests.robustness.hostile.answers import BODY, IMPATIENT, OK, PATIENT
from tests.support.hostile_server import Dropped, Request

DATA, HEADERS, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM = ACK = 1
END_HEADERS = 4
NO_ERROR, INTERNAL_ERROR, REFUSED = 0, 2, 7
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Stream:
    """A request, and all that a script can do with it."""

    def __init__(self, connection: _Connection, number: int, request: Request) -> None:
        self._connection = connection
        self.number = number
        self.request = request
        self.complete = asyncio.Event()
        self.is_read = False

    async def read(self) -> None:
        """Read the body: until then the client may send no more than the first window."""
        self.is_read = True
        await self.grant(2**24)
        await self.complete.wait()

    async def grant(self, size: int) -> None:
        """Allow the client to send this number of further bytes."""
        for number in (0, self.number):
            await self._connection.frame(WINDOW, 0, number, struct.pack(">I", size))

    async def headers(self, status: int | str, *fields: tuple[str, str], end: bool = False) -> None:
        block = self._connection.encoder.encode([(":status", str(status)), *fields])
        await self.frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), block)

    async def data(self, data: bytes, end: bool = False) -> None:
        await self.frame(DATA, END_STREAM if end else 0, data)

    async def trailers(self, *fields: tuple[str, str]) -> None:
        await self.frame(HEADERS, END_HEADERS | END_STREAM, self._connection.encoder.encode(list(fields)))

    async def reset(self, code: int) -> None:
        await self.frame(RESET, 0, struct.pack(">I", code))

    async def frame(self, kind: int, flags: int, payload: bytes, number: int | None = None) -> None:
        await self._connection.frame(kind, flags, self.number if number is None else number, payload)

    async def close(self) -> None:
        self._connection.writer.close()
        raise Dropped


Script = Callable[[Stream], Awaitable[None]]


class _Connection:
    def __init__(self, server: Http2Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self.writer = writer
        self.encoder, self._decoder = Encoder(), Decoder()
        self._streams: dict[int, Stream] = {}
        self._scripts: set[asyncio.Task[None]] = set()

    async def frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self.writer.write(
            struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", number) + payload
        )
        await self.writer.drain()
        await asyncio.sleep(0)

    async def serve(self) -> None:
        try:
            await self._reader.readexactly(len(PREFACE))
            await self.frame(SETTINGS, 0, 0, b"")
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3]))
                await self._take(head[3], head[4], int.from_bytes(head[5:]), payload)
        finally:
            for script in self._scripts:
                script.cancel()
            await asyncio.gather(*self._scripts, return_exceptions=True)

    async def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == HEADERS:
            fields = dict(self._decoder.decode(payload))
            request = Request(fields[":method"], fields[":path"], fields)
            self._server.requests.append(request)
            self._streams[number] = stream = Stream(self, number, request)
            self._scripts.add(asyncio.create_task(self._run(stream)))
        elif kind == DATA:
            self._streams[number].request.take(payload)
            if self._streams[number].is_read and payload:
                await self._streams[number].grant(len(payload))
        elif kind == SETTINGS and not flags & ACK:
            await self.frame(SETTINGS, ACK, 0, b"")
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self._streams[number].request.end()
            self._streams[number].complete.set()

    async def _run(self, stream: Stream) -> None:
        with contextlib.suppress(Dropped, OSError):
            if stream.request.path.startswith("/good/"):
                word = stream.request.path.removeprefix("/good/").encode()
                await stream.headers(200, ("content-length", str(len(word))))
                await stream.data(word, end=True)
            else:
                await self._server.script(stream)


class Http2Server:
    """
    Serve HTTP/2 on a free port.

    :param script: handles every request but those to ``/good/…``
    :ivar requests: every request that came
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def seen(self, path: str) -> list[Request]:
        """Return the requests to a path."""
        return [one for one in self.requests if one.path == path]

    async def settle(self) -> None:
        """Wait until the client has seen what the script did."""
        await asyncio.sleep(0.03)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle a connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
                await _Connection(self, reader, writer).serve()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def end(self) -> None:
        """Drop all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def serving_http2(script: Script, tls: ssl.SSLContext) -> AsyncIterator[Http2Server]:
    """Run a ``Http2Server`` while the context lasts."""
    server = Http2Server(script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await server.end()


@dataclass(frozen=True)
class Http2Case:
    """
    An answer, and what a client may make of it.

    :ivar accepts: the answers that may be accepted: status and body
    :ivar may_fail: whether an error is right, too
    :ivar waits: whether the error may be a timeout; else the fault can be seen at once
    :ivar upload: whether the request has a body
    """

    name: str
    script: Script
    accepts: tuple[tuple[int, bytes], ...]
    may_fail: bool
    waits: bool
    upload: bool

    @property
    def timeout(self) -> float:
        return IMPATIENT if self.waits else PATIENT


CASES: list[Http2Case] = []


def case(
    name: str, *accepts: tuple[int, bytes], may_fail: bool = True, waits: bool = False, upload: bool = False
) -> Callable[[Script], Script]:
    def add(script: Script) -> Script:
        CASES.append(Http2Case(name, script, accepts, may_fail, waits, upload))
        return script

    return add


@case("proper answer with trailers", OK, may_fail=False)
async def _proper(stream: Stream) -> None:
    await stream.headers(200)
    await stream.data(BODY)
    await stream.trailers(("x-sum", "1"))


@case("103 first", OK, may_fail=False)
async def _early_hints(stream: Stream) -> None:
    await stream.headers(103)
    await stream.headers(200, ("content-length", "32"))
    await stream.data(BODY, end=True)


@case("fewer bytes than the length")
async def _fewer(stream: Stream) -> None:
    await stream.headers(200, ("content-length", "100"))
    await stream.data(BODY, end=True)


@case("more bytes than the length")
async def _more(stream: Stream) -> None:
    await stream.headers(200, ("content-length", "10"))
    await stream.data(BODY, end=True)


@case("two lengths")
async def _two_lengths(stream: Stream) -> None:
    await stream.headers(200, ("content-length", "32"), ("content-length", "5"))
    await stream.data(BODY, end=True)


@case("length of a word")
async def _word(stream: Stream) -> None:
    await stream.headers(200, ("content-length", "many"))
    await stream.data(BODY, end=True)


@case("no end", waits=True)
async def _no_end(stream: Stream) -> None:
    await stream.headers(200)
    await stream.data(BODY)


@case("reset in the middle")
async def _reset(stream: Stream) -> None:
    await stream.headers(200)
    await stream.data(BODY)
    await stream.reset(INTERNAL_ERROR)


@case("reset without an error in the middle")
async def _reset_without_error(stream: Stream) -> None:
    await stream.headers(200)
    await stream.data(BODY)
    await stream.reset(NO_ERROR)


@case("refused")
async def _refused(stream: Stream) -> None:
    await stream.reset(REFUSED)


@case("closed in the middle")
async def _closed(stream: Stream) -> None:
    await stream.headers(200)
    await stream.data(BODY)
    await stream.close()


@case("goodbye in the middle")
async def _goodbye(stream: Stream) -> None:
    await stream.headers(200)
    await stream.data(BODY)
    await stream.frame(GOAWAY, 0, struct.pack(">II", 0, INTERNAL_ERROR) + b"s3cret-token-of-the-tests", 0)
    await stream.close()


@case("body before the head")
async def _body_first(stream: Stream) -> None:
    await stream.data(BODY, end=True)


@case("no status", (200, b""))  # httpcore takes it for 200, and shows it nowhere
async def _no_status(stream: Stream) -> None:
    await stream.trailers(("content-length", "0"))


@case("status of a word")
async def _odd_status(stream: Stream) -> None:
    await stream.headers("okay", end=True)


@case("headers that cannot be decoded")
async def _undecodable(stream: Stream) -> None:
    await stream.frame(HEADERS, END_HEADERS | END_STREAM, b"\xff" * 20)


@case("header of HTTP/1.1", OK)
async def _connection_header(stream: Stream) -> None:
    await stream.headers(200, ("transfer-encoding", "chunked"))
    await stream.data(BODY, end=True)


@case("endless body, more than the window")
async def _window(stream: Stream) -> None:
    await stream.headers(200)
    while True:
        await stream.data(bytes(16384))


@case("frame that is too large")
async def _large_frame(stream: Stream) -> None:
    await stream.headers(200)
    await stream.data(bytes(2**20), end=True)


@case("promise nobody asked for")
async def _promise(stream: Stream) -> None:
    await stream.frame(PUSH, END_HEADERS, struct.pack(">I", 2) + b"\x82\x87\x84")
    await stream.headers(200)


@case("flood of informational answers", waits=True)
async def _informational_flood(stream: Stream) -> None:
    while True:
        await stream.headers(103)


@case("flood of continuations", waits=True)
async def _continuation_flood(stream: Stream) -> None:
    await stream.frame(HEADERS, 0, b"")
    while True:
        await stream.frame(CONTINUATION, 0, b"\x00\x01a" + b"\x7f\x81\x7d" + b"b" * 16000)


@case("flood of pings", waits=True)
async def _ping_flood(stream: Stream) -> None:
    while True:
        await stream.frame(PING, 0, bytes(8), 0)


@case("flood of settings", waits=True)
async def _settings_flood(stream: Stream) -> None:
    while True:
        await stream.frame(SETTINGS, 0, b"", 0)


@case("flood of empty data", waits=True)
async def _empty_flood(stream: Stream) -> None:
    await stream.headers(200)
    while True:
        await stream.data(b"")


@case("upload with no window", waits=True, upload=True)
async def _no_window(stream: Stream) -> None:
    await stream.complete.wait()


@case("upload acknowledged and reset at once", waits=True, upload=True)
async def _early_success(stream: Stream) -> None:
    await stream.headers(201, end=True)
    await stream.reset(NO_ERROR)


@case("upload refused and reset at once", (413, b""), waits=True, upload=True)
async def _early_refusal(stream: Stream) -> None:
    await stream.headers(413, end=True)
    await stream.reset(NO_ERROR)


@case("upload reset in the middle", waits=True, upload=True)
async def _upload_reset(stream: Stream) -> None:
    await stream.grant(1_000_000)
    await asyncio.sleep(0.05)
    await stream.reset(INTERNAL_ERROR)


@case("upload closed in the middle", upload=True)
async def _upload_closed(stream: Stream) -> None:
    await stream.grant(1_000_000)
    await asyncio.sleep(0.05)
    await stream.close()


@case("upload without an answer", waits=True, upload=True)
async def _unanswered(stream: Stream) -> None:
    await stream.read()


@case("upload with a proper answer", (201, b"stored"), may_fail=False, upload=True)
async def _answered(stream: Stream) -> None:
    await stream.read()
    await stream.headers(201)
    await stream.data(b"stored", end=True)
