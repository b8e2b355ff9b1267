"""``get_streaming``: pieces as they come, and a connection that is let go of whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from airflow_provider_mictlanx.client import AsyncRouter, NetworkError, RequestTimeoutError, ValidationError
from tests.support.router_requests import error_of, peer_of, put, read, router_of
from tests.support.vss import LocalVSS

DATA = bytes(range(256)) * 4000


async def test_pieces_come_in_the_size_that_is_asked_for(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        key = await put(router, bucket_id, "ball", DATA, content_type="text/plain")
        stream = (await router.get_streaming(bucket_id, key, headers={"Chunk-Size": "1000"})).unwrap()
        assert stream.content_type.startswith("text/plain")
        pieces = [piece async for piece in stream]
        assert b"".join(pieces) == DATA
        assert max(map(len, pieces)) < len(DATA)
        assert [piece async for piece in stream] == [], "what has ended stays ended"


async def test_empty_chunk_is_an_empty_stream(vss: LocalVSS, bucket_id: str) -> None:
    async with peer_of(vss) as peer:
        key = await put(peer, bucket_id, "ball", b"")
        assert await read(peer, bucket_id, key) == b""


async def test_connection_that_breaks_is_an_error(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        key = await put(router, bucket_id, "ball", DATA)
        with vss.fault("cut_body", at=1000, path=f"{bucket_id}/{key}$"):
            stream = (await router.get_streaming(bucket_id, key)).unwrap()
            came: list[bytes] = []
            with pytest.raises(NetworkError, match=f"{bucket_id}/{key} at router router-0"):
                await _collect(stream, came)
            assert b"".join(came) == DATA[:1000]
            assert [piece async for piece in stream] == []


class Endless:
    """A router whose answers begin and never end, and that knows how many connections are open."""

    def __init__(self) -> None:
        self.open = 0
        self.pause = 0.005
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            gone = False
            while not gone:
                writer.write(b"5\r\npiece\r\n")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.pause):
                        gone = await reader.read(1) == b""
        self.open -= 1
        writer.close()

    async def wait_until_closed(self) -> None:
        async with asyncio.timeout(10):
            while self.open:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def endless() -> AsyncIterator[tuple[Endless, AsyncRouter]]:
    """Run an ``Endless`` on a free port, and give a router that speaks to it."""
    server_side = Endless()
    server = await asyncio.start_server(server_side.serve, "127.0.0.1", 0)
    server_side.port = server.sockets[0].getsockname()[1]
    async with AsyncRouter("endless", "127.0.0.1", server_side.port) as router:
        yield server_side, router
    server.close()


async def test_leaving_the_context_closes_the_connection() -> None:
    async with endless() as (server, router):
        async with (await router.get_streaming("b", "k")).unwrap() as pieces:
            assert (await anext(pieces)).startswith(b"piece")
            assert server.open == 1
        await server.wait_until_closed()
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)


async def test_an_error_of_the_reader_closes_the_connection() -> None:
    async with endless() as (server, router):
        stream = (await router.get_streaming("b", "k")).unwrap()
        with contextlib.suppress(ZeroDivisionError):
            async with stream as pieces:
                async for _ in pieces:
                    raise ZeroDivisionError
        await server.wait_until_closed()


async def test_cancelling_the_reader_closes_the_connection() -> None:
    async with endless() as (server, router):
        server.pause = 30
        stream = (await router.get_streaming("b", "k")).unwrap()

        reader = asyncio.create_task(_collect(stream, []))
        await asyncio.sleep(0.05)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert [piece async for piece in stream] == []
        await server.wait_until_closed()


async def test_a_dropped_stream_is_let_go_of() -> None:
    async with endless() as (server, router):
        stream = (await router.get_streaming("b", "k")).unwrap()
        await anext(stream)
        del stream
        gc.collect()
        await server.wait_until_closed()


async def test_time_is_over_while_it_is_read() -> None:
    async with endless() as (server, router):
        stream = (await router.get_streaming("b", "k", timeout=0.5)).unwrap()
        with pytest.raises(RequestTimeoutError, match=r"reading chunk b/k at router endless .*within 0\.5 s"):
            await _collect(stream, [])
        await server.wait_until_closed()


async def test_expired_timeout_spares_who_stopped_reading() -> None:
    """The time is looked at while a piece is waited for, and never cancels the caller's own work."""
    async with endless() as (server, router):
        stream = (await router.get_streaming("b", "k", timeout=0.5)).unwrap()
        await anext(stream)
        await asyncio.sleep(0.6)
        with pytest.raises(RequestTimeoutError):
            await anext(stream)
        await server.wait_until_closed()


async def test_one_task_begins_and_another_one_ends() -> None:
    async with endless() as (server, router):
        stream = await asyncio.create_task(router.get_streaming("b", "k"))
        await asyncio.create_task(_anext(stream.unwrap()))
        await asyncio.create_task(stream.unwrap().aclose())
        await server.wait_until_closed()


async def _collect(stream: AsyncIterator[bytes], pieces: list[bytes]) -> None:
    async for piece in stream:
        pieces.append(piece)


async def _anext(stream: AsyncIterator[bytes]) -> bytes:
    return await anext(stream)


async def test_no_answer_in_time(vss: LocalVSS, bucket_id: str) -> None:
    async with router_of(vss) as router:
        with vss.fault("latency", bucket=bucket_id, seconds=30):
            error = error_of(await router.get_streaming(bucket_id, "k", timeout=0.2))
        assert type(error) is RequestTimeoutError
        assert type(error_of(await router.get_streaming(bucket_id, "k", timeout=-1))) is ValidationError
