"""
Measure the listing of a large bucket: CPU, peak memory, and the longest stall of the event loop.

``python -m benchmarks.listings WORK CHUNKS REPLICAS`` prints them as JSON, measured in a process of its own. Works:
``chunks`` lists the announced chunks, ``balls`` lists the balls, and ``poke`` is one poke of
``MictlanXBucketUnchangedSensor``. Every replica has its own ``updated_at``, the worst case for memory.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import run_in_thread
from airflow_provider_mictlanx.hooks.bucket_inactivity import InactivityMonitor
from benchmarks.memory import peak, reset_peak, resident
from benchmarks.memory_server import listing_bucket
from benchmarks.scenarios import MiB
from benchmarks.servers import ROOT, server

BEAT = 0.001
"""Seconds between two beats of the event loop."""

REPLICAS = 3


@dataclass(frozen=True)
class Listed:
    """
    One listing of a bucket.

    :ivar cpu: seconds of this process, in all threads
    :ivar stall: longest time in which the event loop ran nothing else (seconds)
    """

    work: str
    chunks: int
    replicas: int
    cpu: float
    mib: float
    stall: float


async def list_chunks(client: AsyncClient, bucket_id: str) -> int:
    """List the announced chunks; return their number."""
    return len((await client.get_chunks_by_bucket_id(bucket_id)).unwrap().balls)


async def list_balls(client: AsyncClient, bucket_id: str) -> int:
    """List the balls; return the number of listed replicas."""
    return len((await client.list_balls(bucket_id)).unwrap()) * REPLICAS


async def poke(client: AsyncClient, bucket_id: str) -> int:
    """Compare a listing with an earlier one, as a triggerer does; return the number of chunks."""
    monitor = InactivityMonitor(bucket_id, inactivity_period=60)
    listing = (await client.get_chunks_by_bucket_id(bucket_id)).unwrap()
    found = await run_in_thread(lambda: monitor.update(listing))
    assert found is not None
    return len(listing.balls)


WORKS: dict[str, Callable[[AsyncClient, str], Awaitable[int]]] = {
    "chunks": list_chunks,
    "balls": list_balls,
    "poke": poke,
}


async def beat(gaps: list[float]) -> None:
    """Record the longest gap between two beats, in excess of the beat."""
    last = time.perf_counter()
    while True:
        await asyncio.sleep(BEAT)
        now = time.perf_counter()
        gaps[0] = max(gaps[0], now - last - BEAT)
        last = now


async def measured(uri: str, work: str, chunks: int, replicas: int) -> Listed:
    """List once, after a first small listing that loads all modules."""
    async with AsyncClient(uri, "benchmark", debug=False, log_output_path=None) as client:
        bucket_id = listing_bucket(chunks, replicas)
        await WORKS[work](client, listing_bucket(100, replicas))
        gaps = [0.0]
        beating = asyncio.create_task(beat(gaps))
        before = resident()
        reset_peak()
        began = time.process_time()
        number = await WORKS[work](client, bucket_id)
        cpu = time.process_time() - began
        beating.cancel()
        assert number == chunks * replicas
        return Listed(work, chunks, replicas, cpu, (peak() - before) / MiB, gaps[0])


def measured_elsewhere(work: str, chunks: int, replicas: int) -> Listed:
    """List in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.listings", work, str(chunks), str(replicas)]
    answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return Listed(**json.loads(answer.stdout.splitlines()[-1]))


def measure_listings(quick: bool) -> list[Listed]:
    """Measure every work with a tenth of the chunks and with all; medians of several runs."""
    found: list[Listed] = []
    for work in ["chunks"] if quick else WORKS:
        for chunks in (200, 2_000) if quick else (10_000, 100_000):
            runs = [measured_elsewhere(work, chunks, REPLICAS) for _ in range(1 if quick else 3)]
            middle = {name: statistics.median(getattr(run, name) for run in runs) for name in ("cpu", "mib", "stall")}
            found.append(Listed(work, chunks, REPLICAS, **middle))
    return found


def main() -> None:
    """Measure one listing."""
    work, chunks, replicas = sys.argv[1:]
    with server("memory") as running:
        row = asyncio.run(measured(running.uri, work, int(chunks), int(replicas)))
    sys.stdout.write(json.dumps(vars(row)) + "\n")


if __name__ == "__main__":
    main()
