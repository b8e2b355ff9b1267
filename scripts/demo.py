"""
``make demo``: run the example DAG with real files against a local storage space, and tell what came of it.

Everything happens below one working folder: a fresh copy of a migrated Airflow database, the local VSS with its data, the
copies that the DAG reads back. All of it is gone in the end, and so are the processes, however the demo ends. Airflow's
settings of the surrounding shell (``AIRFLOW_HOME``, ``AIRFLOW__…``) play no part. What Airflow logs goes to a file that
is named if something fails. Standard library only; the DAG itself runs in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
DAG_ID = "example_mictlanx"
MAX_FILES = 100
PEERS = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoError(Exception):
    """Something the demo stands on did not work; the message is for the person at the terminal."""


def main() -> int:
    """Run the demo; the exit status is 0 only if every file came back as it went and nothing stayed behind."""
    parser = argparse.ArgumentParser(description="Run the example DAG with real files against a local storage space.")
    parser.add_argument("source", type=Path, help="a file, or a folder of files, to store and read back")
    parser.add_argument("--work", type=Path, default=ROOT / ".demo", help="the folder to work in (default: .demo)")
    args = parser.parse_args()
    source, work = args.source.expanduser().resolve(), args.work.resolve()
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        size = _look_at(source)
        print(f"MictlanX demo: Airflow {version('apache-airflow')}, Python {platform.python_version()}")
        print(f"Source   {source} ({size})", flush=True)
        work.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="run-", dir=work) as folder:
            _logged(source, Path(folder))
        return 0
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; nothing was left running.", file=sys.stderr)
        return 130


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """End the demo the same way at Ctrl-C, SIGTERM and a closed terminal; a second signal does not disturb the cleaning."""
    for signal_number in SIGNALS:
        signal.signal(signal_number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _look_at(source: Path) -> str:
    """Tell how much there is to store; a source that cannot be used fails here, before anything is started."""
    if not source.exists():
        raise DemoError(f"SOURCE={source}: there is no such file or folder")
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    if not files:
        raise DemoError(f"SOURCE={source}: there is no file in this folder")
    taken = files[:MAX_FILES]
    note = f"; the first {MAX_FILES} of {len(files):,} are taken" if len(files) > MAX_FILES else ""
    return f"{_count(len(taken), 'file')}, {_bytes(sum(path.stat().st_size for path in taken))}{note}"


def _logged(source: Path, folder: Path) -> None:
    """Run the demo with a log file of its own, which stays only if something failed."""
    log = folder.with_suffix(".log")
    with log.open("wb") as stream:
        try:
            _demo(source, folder, stream)
        except DemoError as error:
            raise DemoError(f"{error}\nWhat was logged: {log}") from error
    log.unlink()


def _demo(source: Path, folder: Path, log: Any) -> None:
    started = time.monotonic()
    home = folder / "airflow"
    environment = _environment(home)
    _migrated_database(home, environment, log)
    with _local_vss(folder, environment, log) as uri:
        print(f"Storage  {uri} (local VSS, {PEERS} peers)", flush=True)
        environment["AIRFLOW_CONN_MICTLANX_DEFAULT"] = uri
        print(f"DAG run  {DAG_ID} …", flush=True)
        report = _run_dag(source, folder, environment, log)
        tasks = _successful(report)
        bucket_id = tasks["delete_bucket"][0]["bucket_id"]
        left = _balls_left(uri, bucket_id)
    if left:
        raise DemoError(f"{_count(left, 'ball')} stayed behind in bucket {bucket_id}")
    _print_summary(report, tasks)
    print(f"\nEverything is stopped; {time.monotonic() - started:.0f} s in all.")


def _environment(home: Path) -> dict[str, str]:
    """Give the environment of every process of the demo: none of the user's Airflow, and no proxy on the way home."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
    loopback = "127.0.0.1,localhost"
    no_proxy = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    bypass = f"{no_proxy},{loopback}" if no_proxy else loopback
    return environment | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "example_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NO_PROXY": bypass,
        "no_proxy": bypass,
        "PYTHONUNBUFFERED": "1",
    }


def _migrated_database(home: Path, environment: dict[str, str], log: Any) -> None:
    """Put a migrated database into the run's Airflow home; the migration itself is done once per Airflow version."""
    template = home.parent.parent / f"airflow-{version('apache-airflow')}.db"
    home.mkdir()
    if not template.exists():
        print("Airflow  preparing its database (once) …", flush=True)
        _run([sys.executable, "-m", "airflow", "db", "migrate"], environment, log, "airflow db migrate")
        # Copied under another name first: a template that is there is whole.
        partial = Path(shutil.copy(home / "airflow.db", home / "template.db"))
        partial.replace(template)
    shutil.copy(template, home / "airflow.db")


@contextlib.contextmanager
def _local_vss(folder: Path, environment: dict[str, str], log: Any) -> Iterator[str]:
    """Run a storage space on free ports, and give its connection URI."""
    output = folder / "local-vss.txt"
    command = [sys.executable, "-m", "airflow_provider_mictlanx.local_vss", "--data", str(folder / "vss")]
    command += ["--port", "0", "--peers", str(PEERS), "--peer-port-base", "0", "--exit-with-parent"]
    with output.open("wb") as stream, _process(command, environment, stream, log) as process:
        yield _uri_of(process, output)


def _uri_of(process: subprocess.Popen[bytes], output: Path) -> str:
    """Wait for the line in which the local VSS tells its URI."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for word in output.read_text(encoding="utf-8", errors="replace").split():
            if word.startswith("mictlanx://"):
                return word
        if process.poll() is not None:
            raise DemoError(f"the local VSS ended with exit status {process.returncode}")
        time.sleep(0.05)
    raise DemoError("the local VSS did not tell its URI within 30 s")


def _run_dag(source: Path, folder: Path, environment: dict[str, str], log: Any) -> dict[str, Any]:
    result = folder / "result.json"
    conf = {"source": str(source), "target": str(folder / "copies"), "max_files": MAX_FILES}
    command = [sys.executable, str(ROOT / "scripts" / "run_example_dag.py"), DAG_ID]
    command += ["--conf", json.dumps(conf), "--result", str(result)]
    with _process(command, environment, log, log) as process:
        process.wait()
    if not result.exists():
        raise DemoError(f"the DAG run ended with exit status {process.returncode} and without a result")
    report: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return report


def _successful(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Give the XComs by task, in the order of the files; a run in which anything failed is an error that names it."""
    failed = [task for task in report["tasks"] if task["state"] != "success"]
    if failed or report["state"] != "success":
        reasons = [f"{_name(task)}: {task['error']}" for task in failed if task["error"]]
        reasons = reasons or [report["error"] or f"the run's state is {report['state']!r}"]
        raise DemoError("\n  ".join([f"the DAG run ended as {report['state']!r}", *reasons]))
    tasks: dict[str, list[dict[str, Any]]] = {}
    for task in sorted(report["tasks"], key=lambda task: task["map_index"]):
        tasks.setdefault(task["task_id"].rpartition(".")[2], []).append(task["xcom"])
    return tasks


def _name(task: dict[str, Any]) -> str:
    return task["task_id"] if task["map_index"] < 0 else f"{task['task_id']}[{task['map_index']}]"


def _balls_left(uri: str, bucket_id: str) -> int:
    """Ask the storage space itself, not the provider, what is left in the bucket."""
    base = "http://" + uri.removeprefix("mictlanx://").partition("@")[2].partition("/")[0]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{base}/api/v4/buckets/{bucket_id}/metadata", timeout=10) as answer:
        return len(json.load(answer)["balls"])


def _print_summary(report: dict[str, Any], tasks: dict[str, list[dict[str, Any]]]) -> None:
    puts, gets, compared = tasks["put_file"], tasks["get_file"], tasks["compare"]
    width = max(len(put["key"]) for put in puts)
    print(f"\n{'file':<{width}}  {'size':>9}  chunks  {'put':>8}  {'get':>8}  SHA-256 of file, put, get and copy")
    for put, got, same in zip(puts, gets, compared, strict=True):
        print(
            f"{put['key']:<{width}}  {_bytes(put['size']):>9}  {put['num_chunks']:>6}  {_milliseconds(put):>8}  "
            f"{_milliseconds(got):>8}  {same['checksum'][:16]}… equal"
        )
    deleted = tasks["delete_bucket"][0]
    total = _bytes(sum(put["size"] for put in puts))
    print(f"\nStored    {_count(len(puts), 'file')}, {total}, at {_rate(puts)}, and a text")
    print(f"Read back {_count(len(gets), 'file')}, {total}, at {_rate(gets)}")
    print(f"Verified  {len(compared)} of {len(puts)}: the SHA-256 of file, put, get and copy are equal")
    print(f"Deleted   bucket {deleted['bucket_id']}: {_count(deleted['deleted'], 'ball')}, none left")
    print(f"DAG run   {report['state']}, {len(report['tasks'])} tasks in {report['seconds']:.1f} s")


def _milliseconds(result: dict[str, Any]) -> str:
    return f"{result['response_time'] * 1000:,.0f} ms"


def _rate(results: Sequence[dict[str, Any]]) -> str:
    seconds = sum(result["response_time"] for result in results)
    return f"{sum(result['size'] for result in results) / 1e6 / seconds:,.1f} MB/s" if seconds else "-"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _run(command: Sequence[str], environment: dict[str, str], log: Any, what: str) -> None:
    with _process(command, environment, log, log) as process:
        if process.wait():
            raise DemoError(f"{what} ended with exit status {process.returncode}")


@contextlib.contextmanager
def _process(command: Sequence[str], environment: dict[str, str], stdout: Any, stderr: Any) -> Iterator[Any]:
    """
    Run a process in a session of its own; at the end, it and all that it started are stopped.

    Its standard input is a pipe that ends with the demo: so the local VSS stops even if the demo is killed.
    """
    process = None
    try:
        with _signals_held():  # a process that starts while a signal comes must be known below, or nobody stops it
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, start_new_session=True
            )
        yield process
    finally:
        if process is not None:
            _end(process)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Put off the signals that end the demo until the block is over."""
    held: list[int] = []
    handlers = {number: signal.signal(number, lambda came, frame: held.append(came)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            break
    if process.stdin:
        process.stdin.close()


if __name__ == "__main__":
    sys.exit(main())
