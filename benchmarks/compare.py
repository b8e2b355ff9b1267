"""
Compare with S3 (``make bench COMPARE=1``): boto3, s3fs and obstore with one S3 server, the client with the local VSS.

Each contender uses its defaults. Both servers run on uvicorn in one process, store on disk, and wait for the disk. The
S3 server (nanio) computes the MD5 of everything and checks ``Content-MD5``; the local VSS checks sizes and SHA-256.
What was read is compared with the original here, because S3 clients do not verify it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from airflow_provider_mictlanx.client.concurrency import for_each
from benchmarks.contenders import BUCKET, Client, Contender, Cut
from benchmarks.scenarios import Balls, Cells, Files, Measuring, MiB
from benchmarks.servers import Server
from tests.support.vss import LocalVSS

SECRET = "benchmark"
NAMES = ("client", "boto3", "s3fs", "obstore")


class S3Client(Contender):
    """Base of the S3 clients: subclasses upload, download, put and get with what ``_open`` returns."""

    _open: Callable[[Server], Awaitable[Any]]
    _upload: Callable[[Any, str, Path], Awaitable[Any]]
    _download: Callable[[Any, str, Path], Awaitable[Any]]
    _put: Callable[[Any, str, bytes], Awaitable[Any]]
    _get: Callable[[Any, str], Awaitable[bytes]]

    async def _close(self, client: Any) -> None:
        """Close what ``_open`` returned."""

    async def put_file(self, server: Server, ball_id: str, path: Path, cut: Cut) -> None:
        client = await self._open(server)
        await self._upload(client, ball_id, path)
        await self._close(client)

    async def get_file(self, server: Server, ball_id: str, folder: Path, cut: Cut) -> None:
        client = await self._open(server)
        await self._download(client, ball_id, folder / "got")
        await self._close(client)

    async def put_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        client = await self._open(server)
        await for_each(balls.items(), lambda ball: self._put(client, *ball), at_once)
        await self._close(client)

    async def get_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        client = await self._open(server)

        async def get(key: str) -> None:
            assert await self._get(client, key) == balls[key]

        await for_each(balls, get, at_once)
        await self._close(client)


class Boto3(S3Client):
    """The AWS SDK, in threads."""

    async def _open(self, server: Server) -> Any:
        import boto3

        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))
        return boto3.client("s3", endpoint_url=url(server))

    async def _upload(self, client: Any, key: str, path: Path) -> None:
        await asyncio.to_thread(client.upload_file, str(path), BUCKET, key)

    async def _download(self, client: Any, key: str, path: Path) -> None:
        await asyncio.to_thread(client.download_file, BUCKET, key, str(path))

    async def _put(self, client: Any, key: str, data: bytes) -> None:
        await asyncio.to_thread(lambda: client.put_object(Bucket=BUCKET, Key=key, Body=data))

    async def _get(self, client: Any, key: str) -> Any:
        return await asyncio.to_thread(lambda: client.get_object(Bucket=BUCKET, Key=key)["Body"].read())


class S3fs(S3Client):
    """The fsspec filesystem."""

    async def _open(self, server: Server) -> Any:
        import s3fs

        system = s3fs.S3FileSystem(asynchronous=True, endpoint_url=url(server), skip_instance_cache=True)
        await system.set_session()
        return system

    async def _close(self, client: Any) -> None:
        await client._s3.close()

    async def _upload(self, client: Any, key: str, path: Path) -> None:
        await client._put_file(str(path), f"{BUCKET}/{key}")

    async def _download(self, client: Any, key: str, path: Path) -> None:
        await client._get_file(f"{BUCKET}/{key}", str(path))

    async def _put(self, client: Any, key: str, data: bytes) -> None:
        await client._pipe_file(f"{BUCKET}/{key}", data)

    async def _get(self, client: Any, key: str) -> Any:
        return await client._cat_file(f"{BUCKET}/{key}")


class Obstore(S3Client):
    """The Rust object store."""

    async def _open(self, server: Server) -> Any:
        from obstore.store import S3Store

        return S3Store(BUCKET, endpoint=url(server), client_options={"allow_http": True})

    async def _upload(self, client: Any, key: str, path: Path) -> None:
        await client.put_async(key, path)

    async def _download(self, client: Any, key: str, path: Path) -> None:
        found = await client.get_async(key)
        with path.open("wb") as file:
            async for piece in found.stream():
                file.write(piece)

    async def _put(self, client: Any, key: str, data: bytes) -> None:
        await client.put_async(key, data)

    async def _get(self, client: Any, key: str) -> bytes:
        return bytes(await (await client.get_async(key)).bytes_async())


def url(server: Server) -> str:
    """Return the endpoint of the S3 server."""
    return f"http://127.0.0.1:{server.port}"


class ClientOfVSS(Client):
    """The client, with the local VSS instead of the S3 server."""

    def __init__(self, vss: Server) -> None:
        super().__init__()
        self._vss = vss

    def _made(self, server: Server) -> Any:
        return super()._made(self._vss)


@contextmanager
def s3_server(folder: Path) -> Iterator[Server]:
    """Run the S3 server with one bucket."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = ["-m", "nanio", "serve", "--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    (folder / BUCKET).mkdir(parents=True)
    keys = {"NANIO_ACCESS_KEY": SECRET, "NANIO_SECRET_KEY": SECRET}
    quiet = ("--no-access-log", "--log-level", "error")
    with subprocess.Popen([sys.executable, *command, *quiet], env={**os.environ, **keys}) as process:
        try:
            wait_for_port(port, process)
            yield Server(port)
        finally:
            process.terminate()


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server listens."""
    while process.poll() is None:
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the S3 server ended with status {process.returncode}")


def scenarios(quick: bool) -> list[Files | Balls]:
    """Return the scenarios."""
    small, few = (4 * MiB, 50) if quick else (64 * MiB, 1_000)
    return [
        Files(title="64 MiB", size=small, contenders=NAMES, repetitions=3),
        Balls(title="1,000 × 10 kB, 10 at once", number=few, contenders=NAMES, repetitions=3),
    ]


def measure_comparison(quick: bool, say: Callable[[str], None]) -> Cells:
    """Measure all scenarios."""
    os.environ |= {"AWS_ACCESS_KEY_ID": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with s3_server(folder / "s3") as s3, LocalVSS(folder / "vss", options=["--fsync"]) as vss:
            contenders = {
                "client": ClientOfVSS(Server(vss.port)),
                "boto3": Boto3(),
                "s3fs": S3fs(),
                "obstore": Obstore(),
            }
            return Measuring(quick, say).run(scenarios(quick), contenders, lambda scenario: nullcontext(s3))
