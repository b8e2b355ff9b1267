"""
Measure the peak memory of one transfer, in a process of its own.

``python -m benchmarks.memory up|down SIZE CHUNK_SIZE AT_ONCE`` creates a file of that size, transfers it with a
router in memory, and prints the peak memory in MiB above the start of the transfer. Chunk size and concurrency 0 are
chosen like in the hook.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import Client, cut_of
from benchmarks.scenarios import MiB, told, write_blocks
from benchmarks.servers import ROOT, Server, server

WARM_UP = 2 * MiB


@dataclass(frozen=True)
class Peak:
    """Peak memory of one transfer (MiB)."""

    title: str
    direction: str
    mib: float


def measure(direction: str, size: int, chunk_size: int, at_once: int) -> float:
    """Transfer, and return the MiB above the start; modules loaded by a first transfer do not count."""
    client = Client()
    chunk_size, at_once = cut_of(size, chunk_size or None, at_once or None)
    with tempfile.TemporaryDirectory() as folder, server("memory") as running:
        warm, path = Path(folder) / "warm", Path(folder) / "source"
        write_blocks(warm, WARM_UP)
        asyncio.run(up_and_down(client, running, warm, 256_000, 1))
        write_blocks_elsewhere(path, size)
        if direction == "down":
            put_elsewhere(running, path, chunk_size)
        before = resident()
        reset_peak()
        if direction == "up":
            asyncio.run(client.put_file(running, "ball", path, chunk_size, at_once))
        else:
            path.unlink()
            asyncio.run(client.get_file(running, "ball", Path(folder) / "out", at_once))
        return (peak() - before) / MiB


async def up_and_down(client: Client, running: Server, path: Path, chunk_size: int, at_once: int) -> None:
    """Transfer a file both ways."""
    await client.put_file(running, path.name, path, chunk_size, at_once)
    await client.get_file(running, path.name, path.parent / "warmed", at_once)


def write_blocks_elsewhere(path: Path, size: int) -> None:
    """Write the file in another process, so that it uses no memory here."""
    work = f"from benchmarks.scenarios import *; write_blocks(Path({str(path)!r}), {size})"
    subprocess.run([sys.executable, "-c", work], cwd=ROOT, check=True)


def put_elsewhere(running: Server, path: Path, chunk_size: int) -> None:
    """Write the ball in another process."""
    work = (
        "import asyncio\nfrom pathlib import Path\nfrom benchmarks.contenders import Floor\nfrom benchmarks.servers import Server\n"
        f"asyncio.run(Floor().put_file(Server({running.port}), 'ball', Path({str(path)!r}), {chunk_size}, 4))"
    )
    subprocess.run([sys.executable, "-c", work], cwd=ROOT, check=True)


def reset_peak() -> None:
    """Reset the recorded peak; possible on Linux only."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def peak() -> int:
    """Return the peak memory of this process (bytes)."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident() -> int:
    """Return the resident memory of this process (bytes)."""
    return _status("VmRSS") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(name: str) -> int:
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


def peaks(quick: bool) -> list[Peak]:
    """Measure all transfers, each in a process of its own."""
    sizes = [16 * MiB] if quick else [1024 * MiB, 4096 * MiB]
    found: list[Peak] = []
    for size in sizes:
        for cut, chunk_size, at_once in (("1 MB × 8", 1_000_000, 8), ("automatic", 0, 0)):
            for direction in ("up", "down"):
                numbers = [str(number) for number in (size, chunk_size, at_once)]
                command = [sys.executable, "-m", "benchmarks.memory", direction, *numbers]
                answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
                found.append(Peak(f"{told(size)}, {cut}", direction, float(answer.stdout)))
    return found


def main() -> None:
    """Measure one transfer."""
    direction, *numbers = sys.argv[1:]
    sys.stdout.write(f"{measure(direction, *(int(number) for number in numbers)):.1f}\n")


if __name__ == "__main__":
    main()
