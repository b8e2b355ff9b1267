"""HTTP/1.1 answers, however the network cuts them; framing that contradicts itself; where a URL leads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.client.transport.backend import BrokenError, InvalidResponseError, InvalidUrlError
from airflow_provider_mictlanx.client.transport.http1 import MAX_HEAD, READ_AHEAD, Connection, parse_origin, split_url

BODY = b"abc" * 7


class Line(asyncio.Transport):
    """A transport that notes what is done with it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.aborted = False
        self.reading = True

    def write(self, data: Any) -> None:
        self.sent.append(bytes(data))

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


async def asked() -> tuple[Connection, Line, asyncio.Task[None]]:
    """Give a connection that waits for an answer."""
    connection, line = Connection(parse_origin("http", "host")), Line()
    connection.connection_made(line)
    task = asyncio.create_task(connection.ask(b"GET / HTTP/1.1\r\n\r\n", b""))
    await asyncio.sleep(0)
    return connection, line, task


async def whole(connection: Connection) -> bytes:
    parts = []
    while (piece := await connection.next_piece()) is not None:
        parts.append(piece)
    return b"".join(parts)


async def answered(*parts: bytes, ends: bool = False) -> tuple[Connection, bytes]:
    """Give a connection, and the body of the answer that came in these parts; ``ends``: the server closes it then."""
    connection, _, task = await asked()
    for part in parts:
        connection.data_received(part)
    if ends:
        connection.connection_lost(None)
    await task
    return connection, await whole(connection)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(bounded())


def chunked(*sizes: int, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    parts, at = [], 0
    for size in sizes:
        parts.append(b"%x%s\r\n%s\r\n" % (size, extension, BODY[at : at + size]))
        at += size
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n" + BODY,
    "no reason": b"HTTP/1.1 200\r\ncontent-length:21\r\n\r\n" + BODY,
    "two equal lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 21\r\nContent-Length: 21\r\n\r\n" + BODY,
    "chunks": chunked(1, 16, 4),
    "one chunk": chunked(21, extension=b";name=value"),
    "trailers": chunked(20, 1, trailers=b"X-Sum: 1\r\nX-More: 2\r\n"),
    "100 first": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n" + BODY,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_the_same_however_it_is_cut(name: str) -> None:
    answer = ANSWERS[name]

    async def cut_everywhere() -> None:
        for at in range(1, len(answer)):
            connection, body = await answered(answer[:at], answer[at:])
            assert (connection.status, body) == (200, BODY), at
            assert connection.finish(), at
        connection, body = await answered(*(answer[at : at + 1] for at in range(len(answer))))
        assert body == BODY
        assert connection.finish()

    run(cut_everywhere)


def test_answers_without_a_body() -> None:
    async def scenario() -> None:
        for head in (
            b"HTTP/1.1 204 No Content\r\nn-deletes: 3\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ):
            connection, body = await answered(head)
            assert body == b""
            assert connection.finish()
        connection, _ = await answered(b"HTTP/1.1 204 \r\nN-Deletes: 3\r\nn-deletes: 4\r\n\r\n")
        assert connection.headers == {"n-deletes": "3, 4"}

    run(scenario)


def test_a_body_that_ends_with_the_connection() -> None:
    async def scenario() -> None:
        connection, body = await answered(b"HTTP/1.1 200 OK\r\n\r\n", BODY, ends=True)
        assert body == BODY
        assert not connection.finish()

    run(scenario)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 21\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: Close\r\ncontent-length: 21\r\n\r\n",
    ],
)
def test_a_connection_that_the_server_is_about_to_close_serves_no_other_request(head: bytes) -> None:
    async def scenario() -> None:
        connection, body = await answered(head + BODY)
        assert body == BODY
        assert not connection.finish()

    run(scenario)


NO_HTTP = {
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
    "list of lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\n",
    "length in other digits": "HTTP/1.1 200 OK\r\ncontent-length: ²\r\n\r\n".encode("latin-1"),
    "gzip, chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    "folded header": b"HTTP/1.1 200 OK\r\na: b\r\n c: d\r\n\r\n",
    "space before the colon": b"HTTP/1.1 200 OK\r\ncontent-length : 3\r\n\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\nabc\r\n\r\n",
    "bare line feed": b"HTTP/1.1 200 OK\r\na: b\ncontent-length: 3\r\n\r\n",
    "long head": b"HTTP/1.1 200 OK\r\n" + b"a" * MAX_HEAD + b"\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"a" * MAX_HEAD,
    "more than the length": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcd",
    "body of a 204": b"HTTP/1.1 204 No Content\r\n\r\nabc",
    "no size of a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    "signed size of a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n",
    "huge size of a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n",
    "longer chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n",
    "line feed after a size": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\nabc\r\n",
    "endless size": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;" + b"a" * MAX_HEAD,
    "more after the chunks": chunked(21) + b"HTTP/1.1 200 OK\r\n\r\n",
}


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_clear_http(name: str) -> None:
    async def scenario() -> None:
        connection, line, task = await asked()
        connection.data_received(NO_HTTP[name])
        with pytest.raises(InvalidResponseError):
            await asyncio.gather(task, whole(connection))
        assert line.aborted
        assert not connection.finish()

    run(scenario)


def test_a_connection_that_breaks() -> None:
    async def scenario() -> None:
        for come, error in (
            (b"", None),
            (b"", ConnectionResetError("reset")),
            (b"HTTP/1.1 200 OK\r\ncontent-le", None),
        ):
            connection, _, task = await asked()
            if come:
                connection.data_received(come)
            connection.connection_lost(error)
            with pytest.raises(BrokenError, match="reset" if error else "in the middle" if come else "without sending"):
                await task
        for start in (ANSWERS["length"][:-1], ANSWERS["chunks"][:-2]):
            with pytest.raises(BrokenError, match="in the middle"):
                await answered(start, ends=True)

    run(scenario)


def test_what_nobody_asked_for_ends_the_connection() -> None:
    async def scenario() -> None:
        connection, _ = await answered(ANSWERS["length"])
        assert connection.finish()
        connection.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
        assert not connection.is_open

    run(scenario)


def test_no_more_is_read_than_the_reader_takes() -> None:
    async def scenario() -> None:
        connection, line, task = await asked()
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (READ_AHEAD * 3))
        await task
        while line.reading:
            connection.data_received(bytes(READ_AHEAD // 4))
        assert connection._waiting <= READ_AHEAD * 1.5
        while not line.reading:
            await connection.next_piece()
        assert connection._waiting <= READ_AHEAD // 2

    run(scenario)


@pytest.mark.parametrize(
    ("url", "host", "port", "header", "target"),
    [
        ("http://host/a/b?c=d", "host", 80, "host", "/a/b?c=d"),
        ("https://host:8443", "host", 8443, "host:8443", "/"),
        ("http://[::1]:80/a", "::1", 80, "[::1]:80", "/a"),
        ("https://[::1]/a%20b", "::1", 443, "[::1]", "/a%20b"),
        ("http://m\u00fcller.example/\u00e4 b", "xn--mller-kva.example", 80, "xn--mller-kva.example", "/%C3%A4%20b"),
    ],
)
def test_where_a_url_leads(url: str, host: str, port: int, header: str, target: str) -> None:
    origin, asked_for = split_url(url)
    assert (origin.host, origin.port, origin.header, asked_for) == (host, port, header, target)
    assert origin.tls == url.startswith("https")


@pytest.mark.parametrize(
    "url",
    ["ftp://host/", "host/a", "http:///a", "http://host:x/", "http://host:70000/", "http://[::1/", "http://\u00e4..b/"],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(InvalidUrlError):
        split_url(url)


def test_a_target_holds_nothing_that_ends_a_line() -> None:
    _, target = split_url("http://host/a b\r\nX: y\x00")
    assert target == "/a%20b%0D%0AX:%20y%00"
