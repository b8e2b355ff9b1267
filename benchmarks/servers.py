"""Servers for benchmarks, each in a process of its own: the local VSS, and a router in memory with several speeds."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.vss import LocalVSS

ROOT = Path(__file__).parents[1]

SPEEDS = {
    "memory": (),
    "router": ("--router", "1"),
    "quick router": ("--router", "0.1"),
    "WAN": ("--far", "0.1", "--per-byte", "1e-7"),
}
"""Options of the router in memory: as fast as possible, as slow as the real one, 100 ms and 10 MB/s per connection."""


@dataclass(frozen=True)
class Server:
    """Address of a server."""

    port: int

    @property
    def uri(self) -> str:
        """Return the connection URI."""
        return f"mictlanx://router-0@127.0.0.1:{self.port}/?protocol=http&api_version=4&http2=0"

    def requests(self) -> Counter[tuple[str, str]]:
        """Return the number of requests to a router in memory since the last call, by bucket and kind."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v4/_requests") as answer:
            counts = json.load(answer)
        found: Counter[tuple[str, str]] = Counter()
        for name, number in counts.items():
            bucket_id, _, kind = name.partition(" ")
            found[bucket_id, kind] = number
        return found


@contextmanager
def memory_server(speed: str, peers: int) -> Iterator[Server]:
    """Run a router in memory, which ends with this process."""
    command = [sys.executable, "-m", "benchmarks.memory_server", "--peers", str(peers), *SPEEDS[speed]]
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
def server(kind: str, peers: int = 3) -> Iterator[Server]:
    """Run a server: ``local VSS``, or a speed of the router in memory."""
    with local_vss() if kind == "local VSS" else memory_server(kind, peers) as running:
        yield running
