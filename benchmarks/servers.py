"""Servers for benchmarks, each in a process of its own: the local VSS, and a router in memory with several speeds."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.vss import LocalVSS

ROOT = Path(__file__).parents[1]

MOODS = {
    "memory": (),
    "slow": ("--per-request", "0.02"),
    "far": ("--far", "0.05"),
    "like the router": ("--like-the-router",),
    "small files": ("--small-files",),
}


@dataclass(frozen=True)
class Server:
    """Address of a server."""

    port: int

    @property
    def uri(self) -> str:
        """Return the connection URI."""
        return f"mictlanx://router-0@127.0.0.1:{self.port}/?protocol=http&api_version=4&http2=0"


@contextmanager
def memory_server(mood: str) -> Iterator[Server]:
    """Run a router in memory, which ends with this process."""
    command = [sys.executable, "-m", "benchmarks.memory_server", *MOODS[mood]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Server(int(process.stdout.readline()))
        finally:
            process.stdin.close()
            process.wait(10)


@contextmanager
def local_vss() -> Iterator[Server]:
    """Run a local VSS with three peers."""
    with tempfile.TemporaryDirectory() as folder, LocalVSS(Path(folder) / "vss") as vss:
        yield Server(vss.port)


@contextmanager
def server(kind: str) -> Iterator[Server]:
    """Run a server: ``local VSS``, or a speed of the router in memory."""
    with local_vss() if kind == "local VSS" else memory_server(kind) as running:
        yield running
