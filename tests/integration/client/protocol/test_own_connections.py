"""Connections of ``AsyncRouter`` and ``AsyncPeer`` used on their own: who closes them, HTTP/2, TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config

from airflow_provider_mictlanx.client import AsyncPeer, AsyncRouter, CertificateError
from airflow_provider_mictlanx.client.transport.connections import Transport
from airflow_provider_mictlanx.local_vss.options import Options
from airflow_provider_mictlanx.local_vss.request_log import RequestLog
from airflow_provider_mictlanx.local_vss.router import Router
from airflow_provider_mictlanx.local_vss.storage_space import StorageSpace
from tests.support.certificates import Authority
from tests.support.new_threads import NewThreads
from tests.support.router_requests import error_of, peer_of, put, read, router_of
from tests.support.vss import LocalVSS


class Http2Router:
    """A router of a local VSS behind a server that speaks HTTP/2 over TLS."""

    def __init__(self, folder: Path) -> None:
        self.versions: list[str] = []
        authority = Authority(folder)
        self.certificate = authority.certificate
        self._own_certificate, self._key = authority.issue("server")
        self._space = StorageSpace(Options(data=folder / "vss"))
        self.address = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Http2Router]:
        app = Router("router-0", self._space, RequestLog(), start_peer=lambda *_: None).application()

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                self.versions.append(scope["http_version"])
                await app(scope, receive, send)

        config = Config()
        config.bind = ["127.0.0.1:0"]
        config.certfile, config.keyfile = str(self._own_certificate), str(self._key)
        config.errorlog = None
        sockets = config.create_sockets()
        port = sockets.secure_sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        config.create_sockets = lambda: sockets  # type: ignore[method-assign]
        end = asyncio.Event()
        server = asyncio.create_task(serve(watched, config, shutdown_trigger=end.wait, mode="asgi"))  # type: ignore[arg-type]
        try:
            await _listening(port)
            yield self
        finally:
            end.set()
            await server
            self._space.close()


async def _listening(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


@pytest.mark.parametrize(("http2", "version"), [(True, "2"), (False, "1.1")])
async def test_http2_is_agreed_on_where_it_is_asked_for(tmp_path: Path, http2: bool, version: str) -> None:
    data = bytes(300_000)
    async with Http2Router(tmp_path).serve() as server:
        router = AsyncRouter("router-0", server.address, 0, protocol="https", http2=http2)
        async with router:
            await put(router, "bucket", "ball", data)
            assert await read(router, "bucket", "ball_0", headers={"Force-Get": "1"}) == data
            path = (await router.get_to_file("bucket", "ball_0", sink_folder_path=tmp_path / "out")).unwrap()
            assert Path(path).read_bytes() == data
        assert set(server.versions) == {version}


async def test_verify_is_honoured(tmp_path: Path) -> None:
    async with (
        Http2Router(tmp_path).serve() as server,
        AsyncRouter("router-0", server.address, 0, protocol="https", http2=True) as router,
    ):
        assert type(error_of(await router.get_peers(verify=True))) is CertificateError
        for answer in (
            await router.get_streaming("b", "k", verify=True),
            await router.get_to_file("b", "k", sink_folder_path=tmp_path, verify=True),
            await router.get_by_checksum_to_file("a" * 64, sink_folder_path=tmp_path, verify=True),
        ):
            assert type(error_of(answer)) is CertificateError
        assert server.versions == []
        assert (await router.get_peers(verify=str(server.certificate))).is_ok
        assert (await router.get_peers(verify=False)).is_ok


async def test_own_connections_and_threads_end_with_the_context(vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    threads = NewThreads()
    async with router_of(vss) as router:
        key = await put(router, bucket_id, "ball", bytes(1_000_000))
        await router.get_to_file(bucket_id, key, sink_folder_path=tmp_path)
        assert "1 pools" in repr(router._transport)
        assert threads.alive()
    assert "0 pools" in repr(router._transport)
    assert await asyncio.to_thread(threads.after_their_end) == []


async def test_given_connections_stay_open(vss: LocalVSS) -> None:
    transport = Transport()
    async with AsyncRouter("r", "127.0.0.1", vss.port, transport=transport) as router:
        assert (await router.get_peers()).is_ok
    async with AsyncPeer("p", "127.0.0.1", vss.peer_port(), transport=transport) as peer:
        assert (await peer.health()).is_ok
    assert "1 pools" in repr(transport)
    await transport.aclose()


async def test_closed_ones_can_be_used_again(vss: LocalVSS) -> None:
    peer = peer_of(vss)
    async with peer:
        assert (await peer.health()).is_ok
    async with peer:
        assert (await peer.health()).is_ok


def test_one_router_in_several_loops(vss: LocalVSS, bucket_id: str) -> None:
    router = router_of(vss)

    async def use(index: int) -> None:
        await put(router, bucket_id, "ball", b"data", index)
        await router.aclose()

    for index in range(3):
        asyncio.run(use(index))
