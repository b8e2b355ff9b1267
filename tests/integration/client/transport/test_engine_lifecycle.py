"""Both HTTP engines over their life: cancelled requests, threads, several loops, forks, pickled hooks, uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import pickle
import random
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import uvloop

from airflow_provider_mictlanx.client import AsyncClient, NetworkError, RequestTimeoutError
from airflow_provider_mictlanx.client.transport import connections
from airflow_provider_mictlanx.client.transport.backend import BackendFactory, BrokenError
from airflow_provider_mictlanx.client.transport.connections import Transport
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.engines import ENGINES, busy_connections_of, each_engine
from tests.support.forked_processes import ForkedProcesses
from tests.support.vss import LocalVSS

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_PROCESSES = ForkedProcesses("tests.support.forked_transport")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def started(serve: Serve) -> tuple[asyncio.Server, str]:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def send(transport: Transport, method: str, url: str, timeout: float = 30, **request: Any) -> bytes:
    response = await transport.send(method, url, action="asking", timeout=timeout, verify=False, **request)
    return response.body


def ask_peers(vss: LocalVSS, transport: Transport) -> Awaitable[bytes]:
    return send(transport, "GET", f"{vss.api()}/peers")


@each_engine
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_cancelled_requests_leave_no_busy_connection(
    engine: BackendFactory, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    chance = random.Random(13)
    sizes = (0, 10, 1_000_000, 5_000_000)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n")
            await asyncio.sleep(chance.choice((0, 0.001)))
            writer.write(bytes(300_000))
            await writer.drain()

    async def cancelled_request(transport: Transport, url: str, moment: int) -> None:
        size = chance.choice(sizes)
        method = "POST" if size else "GET"
        request = asyncio.create_task(send(transport, method, url, content=bytes(size)))
        if moment % 2:
            await asyncio.sleep(chance.uniform(0, 0.004))
        else:
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0)
        request.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await request

    async def scenario() -> None:
        server, url = await started(serve)
        transport = Transport(backend_factory=engine)
        async with asyncio.timeout(120), server:
            try:
                for moment in range(150):
                    await cancelled_request(transport, url, moment)
                while busy_connections_of(transport):
                    await asyncio.sleep(0.01)
                for _ in range(5):
                    bodies = await asyncio.gather(*(send(transport, "GET", url) for _ in range(8)))
                    assert {len(body) for body in bodies} == {300_000}
            finally:
                await transport.aclose()  # else uvloop's server waits for its connections for ever

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scenario())


@each_engine
async def test_delete_is_sent_once_when_the_connection_breaks(engine: BackendFactory) -> None:
    deletions = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal deletions
        while not (await reader.readuntil(b"\r\n\r\n")).startswith(b"DELETE"):
            writer.write(OK)
        deletions += 1

    server, url = await started(serve)
    transport = Transport(backend_factory=engine)
    async with asyncio.timeout(60), server:
        for _ in range(3):
            assert await send(transport, "GET", url) == b"ok"
            with pytest.raises(NetworkError, match="broke"):
                await send(transport, "DELETE", url)
        await transport.aclose()
    assert deletions == 3


@each_engine
@pytest.mark.parametrize("error", [ValueError("source"), OSError(5, "source"), BrokenError("source")], ids=repr)
@pytest.mark.parametrize("size", [0, 10_000_000])
async def test_error_of_a_body_arrives_as_it_was_raised(engine: BackendFactory, error: Exception, size: int) -> None:
    async def body() -> AsyncGenerator[bytes]:
        yield bytes(size)
        raise error

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1_000_000):
            pass

    server, url = await started(serve)
    async with asyncio.timeout(60), server:
        backend = engine(None)
        with pytest.raises(type(error)) as caught:
            await backend.begin("POST", url, {}, body())
        assert caught.value is error
        await backend.aclose()


@each_engine
async def test_head_after_many_interim_answers_is_in_time_or_never(engine: BackendFactory) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    server, url = await started(serve)
    async with asyncio.timeout(60), server:
        transport = Transport(backend_factory=engine)
        with pytest.raises(RequestTimeoutError):
            await send(transport, "GET", url, timeout=0.3)
        while busy_connections_of(transport):
            await asyncio.sleep(0.01)
        await transport.aclose()


@each_engine
async def test_abandoned_upload_keeps_no_socket(engine: BackendFactory) -> None:
    """The server takes nothing more: a connection that waits for that before it closes would stay for good."""
    served = []
    released = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(open_files())
        await released.wait()

    server, url = await started(serve)
    async with asyncio.timeout(30), server:
        transport = Transport(backend_factory=engine)
        with pytest.raises(RequestTimeoutError):
            await send(transport, "POST", url, timeout=0.5, content=bytes(20_000_000))
        while open_files() >= served[0]:
            await asyncio.sleep(0.01)
        await transport.aclose()
        released.set()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@each_engine
def test_threads_with_loops_of_their_own_share_a_transport(engine: BackendFactory, vss: LocalVSS) -> None:
    transport = Transport(backend_factory=engine)
    errors: list[BaseException] = []

    async def work() -> None:
        for _ in range(10):
            await asyncio.gather(*(ask_peers(vss, transport) for _ in range(3)))
        await transport.aclose()

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert "0 pools" in repr(transport)


@each_engine
def test_each_loop_keeps_its_pool_until_it_is_closed(
    engine: BackendFactory, vss: LocalVSS, caplog: pytest.LogCaptureFixture
) -> None:
    transport = Transport(backend_factory=engine)
    loops = [asyncio.new_event_loop() for _ in range(2)]
    pools = []
    for loop in loops * 2:
        loop.run_until_complete(ask_peers(vss, transport))
        pools.append(next(iter(transport._pools[loop].backends.values())))
    assert pools[:2] == pools[2:]
    assert pools[0] is not pools[1]
    loops[0].run_until_complete(transport.aclose())
    for loop in loops:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()  # the second one's pool is still open
    pools.clear()
    with caplog.at_level(logging.WARNING):
        asyncio.run(_ask_and_close(vss, transport))
        gc.collect()
    assert "0 pools" in repr(transport)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def _ask_and_close(vss: LocalVSS, transport: Transport) -> None:
    await ask_peers(vss, transport)
    await transport.aclose()


@pytest.mark.parametrize("what", ["uses", "closes", "forgets"])
@pytest.mark.parametrize("engine", ENGINES)
def test_fork_leaves_the_pool_to_its_parent(vss: LocalVSS, engine: str, what: str) -> None:
    process = _PROCESSES.start("tests.support.forked_transport:main", [f"{vss.api()}/peers", engine, what])
    output, errors = process.communicate(100)
    assert (output, errors, process.wait()) == ("done\n", "", 0)


@each_engine
def test_pickled_hook_works_after_it_was_used(
    engine: BackendFactory, vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_import_aiohttp", lambda: engine)
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", vss.uri)
    hook = MictlanXHook()
    hook.put(bucket_id, "ball", b"data")
    other = pickle.loads(pickle.dumps(hook))
    assert other.get(bucket_id, "ball") == hook.get(bucket_id, "ball") == b"data"


@pytest.mark.parametrize("engine", ENGINES)
def test_client_works_on_uvloop(vss: LocalVSS, bucket_id: str, engine: str) -> None:
    data = bytes(range(256)) * 50_000

    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as stack:
            brought = None
            if engine == "httpx":
                brought = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
            client = AsyncClient(
                vss.uri.replace("127.0.0.1", "localhost"), "tests", log_output_path=None, http_client=brought
            )
            async with client:
                for chunk_size in ("1MB", "5MB"):
                    key = f"ball-{engine}-{chunk_size}"
                    (await client.put(bucket_id, key, data, chunk_size=chunk_size)).unwrap()
                    assert (await client.get(bucket_id, key)).unwrap().data == data

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
