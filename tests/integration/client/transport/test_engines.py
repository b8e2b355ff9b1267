"""The HTTP engines over real sockets: which connections are used again, and which never."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from airflow_provider_mictlanx.client.transport import aiohttp_backend, backend, httpx_backend
from airflow_provider_mictlanx.client.transport.backend import (
    BackendFactory,
    BrokenError,
    HttpBackend,
    NotConnectedError,
)
from airflow_provider_mictlanx.client.transport.httpx_backend import HttpxBackend
from airflow_provider_mictlanx.client.transport.network_errors import _causes
from tests.support.engines import ENGINES, busy_connections

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A server that does with every connection what it is told to."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.connections = 0
        self.url = ""

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with server:
            yield self


async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)


async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(OK)


async def get(pool: HttpBackend, url: str) -> bytes:
    return await send(pool, url, b"")


async def send(pool: HttpBackend, url: str, body: backend.Body) -> bytes:
    exchange = await pool.begin("POST" if body else "GET", url, {}, body)
    try:
        parts = []
        while (piece := await exchange.next_piece()) is not None:
            parts.append(piece)
        return b"".join(parts)
    finally:
        await pool.end(exchange)


Run = Callable[[Serve, Callable[[HttpBackend, Server], Awaitable[None]]], None]


@pytest.fixture(params=ENGINES.values(), ids=ENGINES)
def engine(request: pytest.FixtureRequest) -> BackendFactory:
    factory: BackendFactory = request.param
    return factory


@pytest.fixture
def run(engine: BackendFactory) -> Run:
    return functools.partial(run_on, engine)


def run_on(engine: BackendFactory, serve: Serve, work: Callable[[HttpBackend, Server], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(60), Server(serve).running() as server:
            pool = engine(None)
            try:
                await work(pool, server)
                while busy_connections(pool):  # httpx ends a cancelled request a while later
                    await asyncio.sleep(0.01)
            finally:
                await pool.aclose()

    asyncio.run(scenario())


def test_one_after_the_other_use_one_connection(run: Run) -> None:
    async def work(pool: HttpBackend, server: Server) -> None:
        for _ in range(5):
            assert await get(pool, server.url) == b"ok"
        assert server.connections == 1

    run(answer_all, work)


def test_at_once_use_as_many_and_keep_them(run: Run) -> None:
    async def work(pool: HttpBackend, server: Server) -> None:
        for _ in range(3):
            await asyncio.gather(*(get(pool, server.url) for _ in range(4)))
        assert server.connections == 4

    run(answer_all, work)


def test_a_connection_that_the_server_closed_is_not_used_again(run: Run) -> None:
    async def work(pool: HttpBackend, server: Server) -> None:
        for count in range(1, 4):
            assert await get(pool, server.url) == b"ok"
            assert server.connections == count
            await asyncio.sleep(0.05)  # its end arrives

    run(answer_once, work)


def test_an_idle_connection_is_closed_in_time(
    engine: BackendFactory, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp_backend, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(httpx_backend, "_LIMITS", httpx.Limits(keepalive_expiry=0.05))
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer_all(reader, writer)
        finally:
            ended.set()

    async def work(pool: HttpBackend, server: Server) -> None:
        await get(pool, server.url)
        if engine is HttpxBackend:  # it closes what has been idle for too long when it is used again
            await asyncio.sleep(0.1)
        else:
            await ended.wait()
        assert await get(pool, server.url) == b"ok"
        assert server.connections == 2

    run(serve, work)


def test_a_cancelled_request_takes_its_connection_with_it(run: Run) -> None:
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if not asked.is_set():
            asked.set()
            await reader.read()  # until the client is gone
        else:
            writer.write(OK)

    async def work(pool: HttpBackend, server: Server) -> None:
        request = asyncio.create_task(get(pool, server.url))
        await asked.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert await get(pool, server.url) == b"ok"
        assert server.connections == 2

    run(serve, work)


async def long_pieces() -> AsyncGenerator[bytes]:
    for _ in range(64):
        yield bytes(1_000_000)


@pytest.mark.parametrize("reads_on", [True, False])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_an_early_refusal_is_the_answer(engine: BackendFactory, run: Run, in_pieces: bool, reads_on: bool) -> None:
    """As of a proxy that limits what a request may hold: it answers after the head, and some read the rest."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await asyncio.sleep(0.2)  # the client's buffers are full
        while reads_on and await reader.read(1_000_000):
            pass

    async def work(pool: HttpBackend, server: Server) -> None:
        body = long_pieces() if in_pieces else bytes(64_000_000)
        if engine is HttpxBackend and not reads_on:  # it reads the answer after the whole body only
            with pytest.raises(BrokenError):
                await pool.begin("POST", server.url, {}, body)
            return
        exchange = await pool.begin("POST", server.url, {}, body)
        assert exchange.status == 413
        assert await exchange.next_piece() == b"no"
        await pool.end(exchange)

    run(serve, work)


@pytest.mark.parametrize("in_pieces", [False, True])
def test_an_early_success_acknowledges_nothing(run: Run, in_pieces: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.2)

    async def work(pool: HttpBackend, server: Server) -> None:
        with pytest.raises(BrokenError):
            await pool.begin("POST", server.url, {}, long_pieces() if in_pieces else bytes(64_000_000))

    run(serve, work)


def test_bodies_arrive_whole(run: Run) -> None:
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b"chunked" in head:
                parts = []
                while size := int(await reader.readline(), 16):
                    parts.append(await reader.readexactly(size))
                    await reader.readline()
                await reader.readline()
                got.append(b"".join(parts))
            else:
                got.append(await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0])))
            writer.write(OK)

    body = bytes(range(256)) * 20_000

    async def pieces() -> AsyncGenerator[bytes]:
        yield body[:1]
        yield b""
        yield body[1:]

    async def work(pool: HttpBackend, server: Server) -> None:
        for sent in (body, body[:1000], memoryview(body)[:1000], pieces()):
            assert await send(pool, server.url, sent) == b"ok"
        assert got == [body, body[:1000], body[:1000], body]
        assert server.connections == 1

    run(serve, work)


def test_nobody_there(run: Run) -> None:
    async def work(pool: HttpBackend, server: Server) -> None:
        with pytest.raises(NotConnectedError) as caught:
            await get(pool, "http://127.0.0.1:1/")
        assert any(isinstance(cause, ConnectionRefusedError) for cause in _causes(caught.value))

    run(answer_all, work)


def test_a_connection_that_is_closed_unanswered(run: Run) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async def work(pool: HttpBackend, server: Server) -> None:
        with pytest.raises(BrokenError, match="without sending"):
            await get(pool, server.url)

    run(serve, work)
