"""
Measure bulks in an Airflow process: the upload by the operator, and the poke of the gate.

``python -m benchmarks.bulks PORT FILES FOLDER`` prints JSON. The folder becomes the ``AIRFLOW_HOME`` of the process.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.servers import ROOT, Server, server

SIZE = 10_000


@dataclass(frozen=True)
class Bulk:
    """Results for a bulk: files per second, and seconds of a poke with a new and with an open connection."""

    files: int
    rate: float
    cold: float
    warm: float


def measured(files: int, kind: str = "memory") -> Bulk:
    """Measure one bulk in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, server(kind) as running:
        command = [sys.executable, "-m", "benchmarks.bulks", str(running.port), str(files), folder]
        answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        return Bulk(files, **json.loads(answer.stdout.splitlines()[-1]))


def measure(port: int, files: int, folder: Path) -> dict[str, float]:
    """Upload files with the operator, then poke."""
    become_airflow(folder / "home", Server(port).uri)
    from airflow_provider_mictlanx.operators.mictlanx import MictlanXBulkPutOperator

    source = folder / "files"
    source.mkdir()
    for number in range(files):
        (source / f"{number:05}").write_bytes(number.to_bytes(4, "big") * (SIZE // 4))
    ti = SimpleNamespace(dag_id="dag", run_id="run", task_id="upload", map_index=-1, try_number=1, max_tries=0)
    operator = MictlanXBulkPutOperator(task_id="upload", bulk_id="bench", bucket_id="bulked", source=str(source))
    began = time.perf_counter()
    result: dict[str, Any] = inspect.unwrap(type(operator).execute)(operator, {"ti": ti})
    seconds = time.perf_counter() - began
    assert result["uploaded"] == files, result
    return {"rate": files / seconds, **asyncio.run(pokes())}


async def pokes() -> dict[str, float]:
    """Poke like the gate, with a new connection and again with an open one."""
    from airflow_provider_mictlanx.bulks.monitor import bulk_status
    from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

    began = time.perf_counter()
    assert (await MictlanXHook().abulk_status("bench"))["state"] == "complete"
    cold = time.perf_counter() - began
    async with MictlanXHook().open_client() as client:
        await bulk_status(client, "bench")
        began = time.perf_counter()
        for _ in range(10):
            await bulk_status(client, "bench")
        return {"cold": cold, "warm": (time.perf_counter() - began) / 10}


def become_airflow(home: Path, uri: str) -> None:
    """Set up an Airflow environment for this process, with a connection to the router."""
    for name in [name for name in os.environ if name.startswith(("AIRFLOW", "_AIRFLOW"))]:
        del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW_CONN_MICTLANX_DEFAULT": json.dumps({"conn_type": "mictlanx", "extra": {"uri": uri}}),
    }


if __name__ == "__main__":
    told = measure(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.write(json.dumps(told) + "\n")
