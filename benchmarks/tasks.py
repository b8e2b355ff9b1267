"""
Measure the work of tasks in an Airflow process: bulks, folders, deletes, and large files.

``python -m benchmarks.tasks PORT FILES SIZE STEP…`` runs steps one after the other with a router in memory, and prints
one ``Step`` per line as JSON. Every step uses the defaults of hook and operators.
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
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.memory import peak, reset_peak, resident
from benchmarks.servers import ROOT, Server

if TYPE_CHECKING:
    from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

SMALL = 10_000
"""Size of each file of a bulk (bytes)."""

BUCKET = "frames"
PREFIX = "2026-11/"
WARM_UP = 100_000


@dataclass
class Step:
    """
    The cost of one step.

    :ivar cpu: seconds of the client's process, in all threads
    :ivar mib: peak memory above the start of the step
    :ivar xcom: size of the result (bytes)
    :ivar requests: number of requests by kind, those of a bulk's records aside
    :ivar records: number of requests by kind for a bulk's records
    """

    name: str
    seconds: float
    cpu: float
    mib: float
    xcom: int
    requests: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Task:
    """Arguments of the steps."""

    hook: MictlanXHook
    folder: Path
    files: int
    size: int


def put_bulk(task: Task, bulk_id: str = "first") -> dict[str, Any]:
    """Upload the folder with the operator."""
    from airflow_provider_mictlanx.operators.mictlanx import MictlanXBulkPutOperator

    ti = SimpleNamespace(dag_id="dag", run_id="run", task_id=bulk_id, map_index=-1, try_number=1, max_tries=0)
    ti.xcom_push = lambda **link: None
    source = str(task.folder / "files")
    operator = MictlanXBulkPutOperator(
        task_id=bulk_id, bulk_id=bulk_id, bucket_id=BUCKET, source=source, key_prefix=PREFIX
    )
    result: dict[str, Any] = inspect.unwrap(type(operator).execute)(operator, {"ti": ti})
    assert result["uploaded"] == task.files, result
    return result


def put_in_client(task: Task) -> dict[str, Any]:
    """Put the same files as a bulk without records, into another bucket."""
    balls: list[Any] = [
        {"bucket_id": "others", "key": path.stem, "source": path.read_bytes()}
        for path in (task.folder / "files").iterdir()
    ]

    async def run() -> dict[str, Any]:
        async with task.hook.open_client() as client:
            (await client.put_bulk("bulk", balls, max_concurrency=None)).unwrap()
            result = (await client.await_bulk("bulk")).unwrap()
        assert result["successed"] == task.files, result
        return {"succeeded": task.files}

    return asyncio.run(run())


def read_folder(task: Task, **selection: Any) -> dict[str, Any]:
    """Read many objects into a new folder."""
    result = task.hook.get_to_folder(tempfile.mkdtemp(dir=task.folder), **selection)
    assert result["downloaded"] == task.files, result
    return result


def copy_prefix(task: Task) -> dict[str, Any]:
    """Copy many objects into another bucket."""
    result = task.hook.copy_prefix(BUCKET, PREFIX, "copies")
    assert result["copied"] == task.files, result
    return result


def delete(task: Task, work: Callable[..., dict[str, Any]], *arguments: str) -> dict[str, Any]:
    """Delete all objects."""
    result = work(BUCKET, *arguments)
    assert result["deleted"] == task.files, result
    return result


def get_file(task: Task) -> dict[str, Any]:
    """Read the large file."""
    (task.folder / "large").unlink(missing_ok=True)
    return task.hook.get_to_file(BUCKET, "large", task.folder / "got")


STEPS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "put bulk": put_bulk,
    "put in client": put_in_client,
    "poke": lambda task: task.hook.bulk_status("first"),
    "read bulk": lambda task: read_folder(task, bulk_id="first"),
    "read prefix": lambda task: read_folder(task, bucket_id=BUCKET, prefix=PREFIX),
    "copy prefix": copy_prefix,
    "delete prefix": lambda task: delete(task, task.hook.delete_matching, PREFIX),
    "put again": lambda task: put_bulk(task, "again"),
    "delete bucket": lambda task: delete(task, task.hook.delete_bucket),
    "put one": lambda task: task.hook.put(BUCKET, "one", b"one"),
    "get one": lambda task: {"size": len(task.hook.get(BUCKET, "one"))},
    "put file": lambda task: task.hook.put_file(BUCKET, "large", task.folder / "large"),
    "get file": get_file,
}


def measure_steps(running: Server, steps: Sequence[str], files: int = 0, size: int = 0) -> dict[str, Step]:
    """
    Run steps in a process of its own.

    :param files: number of small files of a bulk
    :param size: of the large file (bytes)
    """
    command = [sys.executable, "-m", "benchmarks.tasks", str(running.port), str(files), str(size), *steps]
    answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    rows = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith('{"name": ')]
    found = [Step(**row) for row in rows]
    for step in found:
        step.requests, step.records = Counter(step.requests), Counter(step.records)
    assert [step.name for step in found] == list(steps)
    return {step.name: step for step in found}


def measure(running: Server, name: str, task: Task) -> Step:
    """Run a step, and count its requests."""
    running.requests()
    before = resident()
    reset_peak()
    began, began_cpu = time.perf_counter(), time.process_time()
    result = STEPS[name](task)
    seconds, cpu, mib = time.perf_counter() - began, time.process_time() - began_cpu, (peak() - before) / 2**20
    step = Step(name, seconds, cpu, mib, len(json.dumps(result)))
    for (bucket_id, kind), number in running.requests().items():
        (step.records if bucket_id.startswith("bulk-") else step.requests)[kind] += number
    return step


def create_files(folder: Path, files: int, size: int) -> None:
    """Create the sources; a large file is sparse, so that it takes no space."""
    (folder / "files").mkdir()
    for number in range(files):
        (folder / "files" / f"{number:06}.bin").write_bytes(number.to_bytes(4, "big") * (SMALL // 4))
    for name, length in (("warm", WARM_UP), ("large", size)):
        with (folder / name).open("wb") as file:
            file.truncate(length)


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


def main() -> None:
    """Run the steps of the command line, after a first transfer that loads all modules."""
    port, files, size, *steps = sys.argv[1:]
    running = Server(int(port))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        become_airflow(folder / "home", running.uri)
        from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

        task = Task(MictlanXHook(), folder, int(files), int(size))
        create_files(folder, task.files, task.size)
        task.hook.put_file("warm", f"warm-{os.getpid()}", folder / "warm")
        task.hook.get_to_file("warm", f"warm-{os.getpid()}", folder / "warmed")
        for step in steps:
            sys.stdout.write(json.dumps(vars(measure(running, step, task))) + "\n")


if __name__ == "__main__":
    main()
