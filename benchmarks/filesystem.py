"""The filesystem compared with the hook: both move one file to and from a router in memory."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.scenarios import Cell, Cells, MiB
from benchmarks.servers import server

BUCKET = "bench"
PIECE = 1024 * 1024


def measure_filesystem(quick: bool, say: Callable[[str], None]) -> Cells:
    """Measure hook, ``put`` and ``get`` of the filesystem, and copies through open files."""
    from airflow_provider_mictlanx.fs.chunk_cache import CHUNKS
    from airflow_provider_mictlanx.fs.filesystem import MictlanXFileSystem
    from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

    size = (16 if quick else 256) * MiB
    with tempfile.TemporaryDirectory() as folder, server("memory") as running:
        os.environ["AIRFLOW_CONN_BENCHMARK"] = json.dumps({"conn_type": "mictlanx", "extra": {"uri": running.uri}})
        source, target = Path(folder, "source"), Path(folder, "target")
        source.write_bytes(os.urandom(size))  # no chunk twice, since open files share chunks
        hook, fs = MictlanXHook("benchmark"), MictlanXFileSystem(conn_id="benchmark")

        def copy(read: Any, write: Any) -> None:
            with read as from_file, write as to_file:
                shutil.copyfileobj(from_file, to_file, PIECE)

        ways: dict[str, tuple[Callable[[str], Any], Callable[[str], Any]]] = {
            "hook": (
                lambda key: hook.put_file(BUCKET, key, source),
                lambda key: hook.get_to_file(BUCKET, key, folder, filename=target.name),
            ),
            "put and get": (
                lambda key: fs.put(str(source), f"{BUCKET}/{key}"),
                lambda key: fs.get(f"{BUCKET}/{key}", str(target)),
            ),
            "open": (
                lambda key: copy(source.open("rb"), fs.open(f"{BUCKET}/{key}", "wb")),
                lambda key: copy(fs.open(f"{BUCKET}/{key}", "rb"), target.open("wb")),
            ),
        }
        title = f"{size // MiB} MiB, automatic"
        up, down = ({way: Cell(title, which, way, size / 1e6, "MB/s") for way in ways} for which in ("up", "down"))
        hook.put(BUCKET, "warm", b"warm")
        fs.cat(f"{BUCKET}/warm")
        for number in range(1 if quick else 5):
            for way in [*ways][number % 3 :] + [*ways][: number % 3]:
                for cells, work in zip((up, down), ways[way], strict=True):
                    CHUNKS.clear()
                    target.unlink(missing_ok=True)
                    began, cpu = time.perf_counter(), time.process_time()
                    work(f"{way}-{number}")
                    cells[way].seconds.append(time.perf_counter() - began)
                    cells[way].cpu.append(time.process_time() - cpu)
    for cells in (up, down):
        say(f"{title}, {cells['hook'].direction}: " + ", ".join(f"{way} {cells[way].rate:,.0f}" for way in ways))
    return {(title, "up"): up, (title, "down"): down}
