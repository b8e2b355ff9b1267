"""Answers on both HTTP engines: however the network cuts them, malformed ones, ones that break; and where a URL leads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from airflow_provider_mictlanx.client.transport.backend import (
    BackendFactory,
    BrokenError,
    HttpBackend,
    InvalidResponseError,
    InvalidUrlError,
    NotConnectedError,
)
from tests.support.engines import each_engine

BODY = b"abc" * 7
MAX_HEAD = 128 * 1024
"""More than this of a head is read by neither engine (bytes)."""


def chunked(*sizes: int, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    parts, at = [], 0
    for size in sizes:
        parts.append(b"%x%s\r\n%s\r\n" % (size, extension, BODY[at : at + size]))
        at += size
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


class Peer:
    """A server that sends given bytes for any request, in given parts, and shows the head of the last request."""

    def __init__(self) -> None:
        self.parts: tuple[bytes, ...] = ()
        self.closes = False
        self.connections = 0
        self.head = b""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.head = await reader.readuntil(b"\r\n\r\n")
                for part in self.parts:
                    writer.write(part)
                    for _ in range(3):  # the client reads it meanwhile
                        await asyncio.sleep(0)
                if self.closes:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@asynccontextmanager
async def connected(engine: BackendFactory) -> AsyncIterator[tuple[HttpBackend, Peer]]:
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    backend = engine(None)
    async with asyncio.timeout(60), server:
        try:
            yield backend, peer
        finally:
            await backend.aclose()  # from Python 3.12 on the server waits for its connections to end


async def ask(backend: HttpBackend, url: str) -> tuple[int, dict[str, str], bytes]:
    stream = await backend.begin("GET", url, {}, b"")
    try:
        parts = []
        while (piece := await stream.next_piece()) is not None:
            parts.append(piece)
        return stream.status, dict(stream.headers), b"".join(parts)
    finally:
        await backend.end(stream)


def run(engine: BackendFactory, work: Callable[[HttpBackend, Peer], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with connected(engine) as (backend, peer):
            await work(backend, peer)

    asyncio.run(scenario())


ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n" + BODY,
    "no reason": b"HTTP/1.1 200 \r\ncontent-length:21\r\n\r\n" + BODY,
    "chunks": chunked(1, 16, 4),
    "one chunk": chunked(21, extension=b";name=value"),
    "trailers": chunked(20, 1, trailers=b"X-Sum: 1\r\nX-More: 2\r\n"),
    "100 first": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n" + BODY,
}


@each_engine
@pytest.mark.parametrize("name", ANSWERS)
def test_answer_is_the_same_however_it_is_cut(engine: BackendFactory, name: str) -> None:
    answer = ANSWERS[name]

    async def cut_everywhere(backend: HttpBackend, peer: Peer) -> None:
        for at in range(1, len(answer)):
            peer.parts = (answer[:at], answer[at:])
            status, _, body = await ask(backend, peer.url)
            assert (status, body) == (200, BODY), at
        peer.parts = tuple(answer[at : at + 1] for at in range(len(answer)))
        assert (await ask(backend, peer.url))[2] == BODY
        assert peer.connections == 1

    run(engine, cut_everywhere)


@each_engine
def test_answers_without_a_body(engine: BackendFactory) -> None:
    async def work(backend: HttpBackend, peer: Peer) -> None:
        for head in (b"204 No Content\r\nn-deletes: 3\r\n", b"200 OK\r\nContent-Length: 0\r\n"):
            peer.parts = (b"HTTP/1.1 " + head + b"\r\n",)
            assert (await ask(backend, peer.url))[2] == b""
        assert peer.connections == 1
        peer.parts = (b"HTTP/1.1 204 No Content\r\nN-Deletes: 3\r\nn-deletes: 4\r\n\r\n",)
        assert (await ask(backend, peer.url))[1] == {"n-deletes": "3, 4"}

    run(engine, work)


@each_engine
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 21\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: Close\r\ncontent-length: 21\r\n\r\n",
    ],
)
def test_connection_that_ends_with_its_answer_is_not_used_again(engine: BackendFactory, head: bytes) -> None:
    async def work(backend: HttpBackend, peer: Peer) -> None:
        peer.parts, peer.closes = (head, BODY), b"content-length" not in head
        for count in (1, 2):
            assert (await ask(backend, peer.url))[2] == BODY
            assert peer.connections == count

    run(engine, work)


MALFORMED = {
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n",
    "length in other digits": "HTTP/1.1 200 OK\r\ncontent-length: ²\r\n\r\n".encode("latin-1"),
    "no colon": b"HTTP/1.1 200 OK\r\nabc\r\n\r\n",
    "long head": b"HTTP/1.1 200 OK\r\n" + b"a" * MAX_HEAD + b"\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"a" * MAX_HEAD,
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * MAX_HEAD,
    "no size of a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    "signed size of a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n",
    "longer chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n",
    "line feed after a size": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\nabc\r\n",
}


@each_engine
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_answer_is_refused_at_once(engine: BackendFactory, name: str) -> None:
    async def work(backend: HttpBackend, peer: Peer) -> None:
        peer.parts = (MALFORMED[name],)
        with pytest.raises(InvalidResponseError) as caught:
            await ask(backend, peer.url)
        assert len(str(caught.value)) < 300
        peer.parts = (ANSWERS["length"],)
        assert (await ask(backend, peer.url))[2] == BODY
        assert peer.connections == 2

    run(engine, work)


UNCLEAR = {
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 3\n\nabc",
    "length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunks and length": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "list of lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\n\r\nabc",
    "chunked twice": b"HTTP/1.1 200 OK\r\n" + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n3\r\nabc\r\n0\r\n\r\n",
    "space before the colon": b"HTTP/1.1 200 OK\r\ncontent-length : 3\r\n\r\nabc",
    "folded header": b"HTTP/1.1 200 OK\r\na: b\r\n c: d\r\ncontent-length: 3\r\n\r\nabc",
}


@each_engine
@pytest.mark.parametrize("name", UNCLEAR)
def test_unclear_answer_is_refused_or_its_one_body_read(engine: BackendFactory, name: str) -> None:
    """The libraries differ in how strict they are."""

    async def work(backend: HttpBackend, peer: Peer) -> None:
        peer.parts = (UNCLEAR[name],)
        try:
            async with asyncio.timeout(10):
                assert (await ask(backend, peer.url))[2] == b"abc"
        except InvalidResponseError:
            pass

    run(engine, work)


@each_engine
@pytest.mark.parametrize("more", [b"d", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nnew"], ids=["byte", "answer"])
def test_answer_with_more_than_its_length_changes_no_body(engine: BackendFactory, more: bytes) -> None:
    async def work(backend: HttpBackend, peer: Peer) -> None:
        peer.parts = (ANSWERS["length"] + more,)
        with suppress(InvalidResponseError):
            assert (await ask(backend, peer.url))[2] == BODY

    run(engine, work)


@each_engine
def test_connection_that_breaks(engine: BackendFactory) -> None:
    async def work(backend: HttpBackend, peer: Peer) -> None:
        peer.closes = True
        for come in (b"", b"HTTP/1.1 200 OK\r\ncontent-le", ANSWERS["length"][:-1], ANSWERS["chunks"][:-2]):
            peer.parts = (come,)
            with pytest.raises(BrokenError, match="." if come else "without sending"):
                await ask(backend, peer.url)

    run(engine, work)


@each_engine
def test_answer_to_no_request_is_given_to_no_other(engine: BackendFactory) -> None:
    async def work(backend: HttpBackend, peer: Peer) -> None:
        peer.parts = (ANSWERS["length"],)
        assert (await ask(backend, peer.url))[2] == BODY
        peer.parts = (ANSWERS["length"], *[b""] * 20, b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nnew")
        assert (await ask(backend, peer.url))[2] == BODY
        await asyncio.sleep(0.05)
        peer.parts = (ANSWERS["length"],)
        with suppress(BrokenError):
            assert (await ask(backend, peer.url))[2] == BODY
        assert (await ask(backend, peer.url))[2] == BODY
        assert peer.connections == 2

    run(engine, work)


@each_engine
async def test_no_more_is_read_than_the_reader_takes(engine: BackendFactory) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(bytes(100_000))
                await writer.drain()
                sent += 100_000
        except ConnectionError:
            writer.close()

    async with asyncio.timeout(60), await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        backend = engine(None)
        stream = await backend.begin("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, b"")
        assert await stream.next_piece()
        await asyncio.sleep(0.5)
        assert sent < 20_000_000  # the system's buffers take several
        await backend.end(stream)
        await backend.aclose()


@each_engine
@pytest.mark.parametrize("path", ["a/b?c=d", "a%20b", "a%2Fb%2fc", "%7Ea~", "a+b%2B", "a;b=c,d:e@f", "a//b", ""])
def test_url_is_sent_as_it_is_written(engine: BackendFactory, path: str) -> None:
    async def work(backend: HttpBackend, peer: Peer) -> None:
        peer.parts = (ANSWERS["length"],)
        await ask(backend, peer.url + path)
        assert peer.head.startswith(b"GET /%s HTTP/1.1\r\n" % path.encode())
        assert b"Host: 127.0.0.1:%d\r\n" % peer.port in peer.head

    run(engine, work)


@each_engine
def test_url_holds_nothing_that_ends_a_line(engine: BackendFactory) -> None:
    async def work(backend: HttpBackend, peer: Peer) -> None:
        peer.parts = (ANSWERS["length"],)
        try:
            await ask(backend, peer.url + "\u00e4 b\r\nX: y\x00")
        except InvalidUrlError:
            return
        line, *headers = peer.head.split(b"\r\n")
        assert line.startswith(b"GET /%C3%A4%20b")
        assert not any(header.startswith(b"X:") for header in headers)

    run(engine, work)


@each_engine
@pytest.mark.parametrize(
    "url", ["ftp://host/", "host/a", "http:///a", "http://host:x/", "http://host:70000/", "http://[::1/"]
)
def test_malformed_url_is_refused(engine: BackendFactory, url: str) -> None:
    async def work(backend: HttpBackend, peer: Peer) -> None:
        with pytest.raises((InvalidUrlError, NotConnectedError)):
            await ask(backend, url)

    run(engine, work)


@each_engine
def test_redirects_cookies_and_compression_are_left_alone(engine: BackendFactory) -> None:
    async def work(backend: HttpBackend, peer: Peer) -> None:
        head = b"HTTP/1.1 302 Found\r\nLocation: /other\r\nSet-Cookie: a=b\r\nContent-Encoding: gzip\r\n"
        peer.parts = (head + b"Content-Length: 21\r\n\r\n" + BODY,)
        for _ in range(2):
            status, headers, body = await ask(backend, peer.url)
            assert (status, headers["location"], headers["content-encoding"], body) == (302, "/other", "gzip", BODY)
            assert b"ookie" not in peer.head

    run(engine, work)
