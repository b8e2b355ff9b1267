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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.contenders import BUCKET, Client, Contender, Cut, for_each
from benchmarks.scenarios import Balls, Cells, Files, Measuring, MiB
from benchmarks.servers import Server
from tests.support.vss import LocalVSS

SECRET = "benchmark"
NAMES = ("client", "boto3", "s3fs", "obstore")


class Boto3(Contender):
    """The AWS SDK, with threads."""

    def _made(self, server: Server) -> Any:
        import boto3

        return boto3.client("s3", endpoint_url=url(server))

    async def put_file(self, server: Server, ball_id: str, path: Path, cut: Cut) -> None:
        await asyncio.to_thread(self._made(server).upload_file, str(path), BUCKET, ball_id)

    async def get_file(self, server: Server, ball_id: str, folder: Path, cut: Cut) -> None:
        await asyncio.to_thread(self._made(server).download_file, BUCKET, ball_id, str(folder / "got"))

    async def put_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        client = self._made(server)
        with ThreadPoolExecutor(at_once) as threads:
            work = threads.map(lambda ball: client.put_object(Bucket=BUCKET, Key=ball[0], Body=ball[1]), balls.items())
            list(work)

    async def get_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        client = self._made(server)
        with ThreadPoolExecutor(at_once) as threads:
            for found, data in zip(
                threads.map(lambda key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read(), balls),
                balls.values(),
                strict=True,
            ):
                assert found == data


class S3fs(Contender):
    """The fsspec filesystem."""

    async def _made(self, server: Server) -> Any:
        import s3fs

        system = s3fs.S3FileSystem(asynchronous=True, endpoint_url=url(server), skip_instance_cache=True)
        await system.set_session()
        return system

    async def put_file(self, server: Server, ball_id: str, path: Path, cut: Cut) -> None:
        system = await self._made(server)
        await system._put_file(str(path), f"{BUCKET}/{ball_id}")
        await system._s3.close()

    async def get_file(self, server: Server, ball_id: str, folder: Path, cut: Cut) -> None:
        system = await self._made(server)
        await system._get_file(f"{BUCKET}/{ball_id}", str(folder / "got"))
        await system._s3.close()

    async def put_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        system = await self._made(server)
        await for_each(balls.items(), lambda ball: system._pipe_file(f"{BUCKET}/{ball[0]}", ball[1]), at_once)
        await system._s3.close()

    async def get_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        system = await self._made(server)

        async def get(key: str) -> None:
            assert await system._cat_file(f"{BUCKET}/{key}") == balls[key]

        await for_each(balls, get, at_once)
        await system._s3.close()


class Obstore(Contender):
    """The Rust object store."""

    def _made(self, server: Server) -> Any:
        from obstore.store import S3Store

        return S3Store(BUCKET, endpoint=url(server), client_options={"allow_http": True})

    async def put_file(self, server: Server, ball_id: str, path: Path, cut: Cut) -> None:
        await self._made(server).put_async(ball_id, path)

    async def get_file(self, server: Server, ball_id: str, folder: Path, cut: Cut) -> None:
        found = await self._made(server).get_async(ball_id)
        with (folder / "got").open("wb") as file:
            async for piece in found.stream():
                file.write(piece)

    async def put_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        store = self._made(server)

        async def put(ball: tuple[str, bytes]) -> None:
            await store.put_async(*ball)

        await for_each(balls.items(), put, at_once)

    async def get_balls(self, server: Server, bucket_id: str, balls: dict[str, bytes], at_once: int) -> None:
        store = self._made(server)

        async def get(key: str) -> None:
            assert bytes(await (await store.get_async(key)).bytes_async()) == balls[key]

        await for_each(balls, get, at_once)


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
