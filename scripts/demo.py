"""
Run the example DAGs with real files against a local storage space, and report the results (``make demo``).

The first DAG stores each file separately; it runs in one process, without a scheduler. The second one uploads the
same files as a bulk, with a gate beside it. It needs a complete Airflow 3, which starts meanwhile.

With ``--open`` the same Airflow then runs the DAG of the README with the files, and stays with the local VSS until
Ctrl-C.

All files are below one working folder: copies of a migrated Airflow database, the local VSS with its data, and the
files that the DAGs read back. All of it is deleted at the end, and all processes end with the demo, also if it is
interrupted. After SIGKILL the processes end too, but the files stay. Airflow's settings in the environment
(``AIRFLOW_HOME``, ``AIRFLOW__…``) have no effect. Airflow logs to a file, whose name is shown after a failure. The DAGs
run in processes of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import platform
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from humanfriendly import format_size
from humanfriendly.text import pluralize
from rich.console import Console
from running_airflow import USER, NotRunningError, RunningAirflow, clean_environment, end, start_attached
from tabulate import tabulate

ROOT = Path(__file__).resolve().parent.parent
DAG_ID = "example_mictlanx"
BULK_DAG_ID = "example_mictlanx_bulk"
OPEN_DAG_ID = "nightly"
SLOW = {"kind": "latency", "method": "POST", "path": "/buckets/data/", "bucket": "airflow-example-*", "seconds": 3}
"""Fault of the local VSS that slows an upload until the gate has been seen waiting."""
MAX_FILES = 6
"""Number of files for the first DAG, with four tasks each; the bulk takes all files."""
PEERS = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CONSOLE = Console()


class DemoError(Exception):
    """Raised when the demo fails; the message is for the person at the terminal."""


def main() -> int:
    """Run the demo. The exit status is 0 only if every file was read back unchanged and nothing is left."""
    parser = argparse.ArgumentParser(description="Run the example DAG with real files against a local storage space.")
    parser.add_argument("source", type=Path, help="a file, or a folder of files, to store and read back")
    parser.add_argument("--open", action="store_true", help="keep Airflow and the local VSS running until Ctrl-C")
    parser.add_argument("--work", type=Path, default=ROOT / ".demo", help="working folder (default: .demo)")
    args = parser.parse_args()
    source, work = args.source.expanduser().resolve(), args.work.resolve()
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        started = time.monotonic()
        size = _look_at(source, work)
        print(f"MictlanX demo: Airflow {version('apache-airflow')}, Python {platform.python_version()}")
        print(f"Source   {source} ({size})", flush=True)
        work.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="run-", dir=work) as folder:
            _logged(source, Path(folder), args.open)
        print(f"\nEverything is stopped; {time.monotonic() - started:.0f} s in all. {_left(work)}")
        return 0
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nStopped; nothing was left running. {_left(work)}", file=sys.stderr)
        return 130


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Handle Ctrl-C, SIGTERM and a closed terminal alike; a second signal does not interrupt the cleanup."""
    for signal_number in SIGNALS:
        signal.signal(signal_number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _left(work: Path) -> str:
    return f"Left in {work}: {', '.join(sorted(path.name for path in work.glob('[!.]*'))) or 'nothing'}"


def _look_at(source: Path, work: Path) -> str:
    """Return a description of the source's size. An invalid source fails here, before anything starts."""
    if work.is_relative_to(source):
        raise DemoError(f"SOURCE must not contain the folder of the demo, {work}, got {source}")
    if not source.exists():
        raise DemoError(f"SOURCE must be an existing file or folder, got {source}")
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    if not files:
        raise DemoError(f"SOURCE must contain at least one file, got the folder {source}")
    note = f"; one by one the first {MAX_FILES}, as a bulk all of them" if len(files) > MAX_FILES else ""
    return f"{pluralize(len(files), 'file')}, {format_size(sum(path.stat().st_size for path in files))}{note}"


def _logged(source: Path, folder: Path, stay: bool) -> None:
    """Run the demo with a log file, which is kept only after a failure."""
    log = folder.with_suffix(".log")
    log.touch()
    try:
        _demo(source, folder, log, stay)
    except DemoError as error:
        raise DemoError(f"{error}\nLog file: {log}") from error
    except KeyboardInterrupt:
        log.unlink()
        raise
    log.unlink()


def _demo(source: Path, folder: Path, log: Path, stay: bool) -> None:
    dags = Path(shutil.copytree(ROOT / "example_dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__")))
    _with_own_folders(dags / "example_mictlanx_nightly.py", source, folder / "copies")
    environment = clean_environment(folder / "airflow", dags)
    _migrated_database(folder / "airflow", environment, log)
    with _local_vss(folder, environment, log) as uri:
        print(f"Storage  {uri} (local VSS, {PEERS} peers)", flush=True)
        environment["AIRFLOW_CONN_MICTLANX_DEFAULT"] = uri
        with _whole_airflow(folder, environment, log) as airflow:
            print(f"DAG run  {DAG_ID} …", flush=True)
            with _live(Progress(folder / "airflow", DAG_ID, uri).line):
                report = _run_dag(source, folder, environment, log)
            tasks = _successful(report)
            _nothing_left(uri)
            _print_summary(report, tasks)
            if airflow is not None:
                _run_bulk_dag(airflow, source, folder, uri)
                if stay:
                    _stay_open(airflow, uri)


def _with_own_folders(dag_file: Path, source: Path, copies: Path) -> None:
    """Replace the folders in a copy of the README's DAG."""
    code = dag_file.read_text(encoding="utf-8")
    for folder, own in (("/data/frames", source), ("/data/out", copies)):
        code = code.replace(f'"{folder}"', repr(str(own)))
    dag_file.write_text(code, encoding="utf-8")


class Progress:
    """
    How far a DAG run is, by Airflow's database and the storage space.

    :param home: the ``AIRFLOW_HOME`` with the database
    """

    def __init__(self, home: Path, dag_id: str, uri: str) -> None:
        self._database = home / "airflow.db"
        self._dag_id = dag_id
        self._uri = uri
        self._stored = (time.monotonic(), 0)

    def line(self) -> str:
        """Return ``7 of 29 tasks done, 1.2 MB stored, 300 KB/s  put_file``, or that Airflow starts."""
        query = """SELECT count(*), count(*) FILTER (WHERE state = 'success'), group_concat(DISTINCT task_id)
            FILTER (WHERE state IN ('running', 'deferred')) FROM task_instance WHERE dag_id = ?"""
        with contextlib.closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as database:
            total, done, active = database.execute(query, (self._dag_id,)).fetchone()
        if not total:
            return "Airflow starts"
        then, before = self._stored
        now, size = self._stored = time.monotonic(), sum(peer["used_disk"] for peer in _peers(self._uri))
        rate = f", {format_size(int((size - before) / (now - then)))}/s" if size > before else ""
        names = ", ".join(task_id.rpartition(".")[2] for task_id in (active or "").split(","))
        return f"{done} of {pluralize(total, 'task')} done, {format_size(size)} stored{rate}  {names}"


@contextlib.contextmanager
def _live(line: Callable[[], str]) -> Iterator[None]:
    """Show a line and renew it while the block runs; without a terminal, print it every few seconds."""
    started, ended = time.monotonic(), threading.Event()

    def renew() -> None:
        while not ended.wait(0.5 if CONSOLE.is_interactive else 5):
            with contextlib.suppress(OSError, sqlite3.Error):  # the server or the database is busy
                text = f"{time.monotonic() - started:5.0f} s  {line()}"
                status.update(text) if CONSOLE.is_interactive else print(text, flush=True)

    with CONSOLE.status("    0 s") as status:
        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _migrated_database(home: Path, environment: dict[str, str], log: Path) -> None:
    """Copy a migrated database into the run's Airflow home; the migration runs once per Airflow version."""
    template = home.parent.parent / f"airflow-{version('apache-airflow')}.db"
    home.mkdir()
    if not template.exists():
        print("Airflow  preparing its database (once) …", flush=True)
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        with _live(lambda: "airflow db migrate"), _process(command, environment, log) as process:
            if process.wait():
                raise DemoError(f"airflow db migrate ended with exit status {process.returncode}")
        # Copied under another name first, so that an existing template is complete.
        partial = Path(shutil.copy(home / "airflow.db", home / "template.db"))
        partial.replace(template)
    shutil.copy(template, home / "airflow.db")


@contextlib.contextmanager
def _local_vss(folder: Path, environment: dict[str, str], log: Path) -> Iterator[str]:
    """Run a storage space on free ports, and yield its connection URI."""
    output = folder / "local-vss.txt"
    output.touch()
    command = [sys.executable, "-m", "airflow_provider_mictlanx.local_vss", "--data", str(folder / "vss")]
    command += ["--port", "0", "--peers", str(PEERS), "--peer-port-base", "0"]
    try:
        with _process(command, environment, output) as process:
            yield _uri_of(process, output)
    finally:
        _append(log, output)


def _uri_of(process: subprocess.Popen[bytes], output: Path) -> str:
    """Wait for the line with the connection to the local VSS, and return its URI."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := re.search("'(mictlanx://.+)'\n", output.read_text(encoding="utf-8", errors="replace")):
            return found[1]
        if process.poll() is not None:
            raise DemoError(f"the local VSS ended with exit status {process.returncode}")
        time.sleep(0.05)
    raise DemoError("the local VSS did not print its connection within 30 s")


def _run_dag(source: Path, folder: Path, environment: dict[str, str], log: Path) -> dict[str, Any]:
    result = folder / "result.json"
    conf = {"source": str(source), "target": str(folder / "copies"), "max_files": MAX_FILES}
    command = [sys.executable, str(ROOT / "scripts" / "run_example_dag.py"), DAG_ID]
    command += ["--conf", json.dumps(conf), "--result", str(result)]
    with _process(command, environment, log) as process:
        process.wait()
    if not result.exists():
        raise DemoError(f"the DAG run ended with exit status {process.returncode} and without a result")
    report: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return report


def _successful(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the XComs by task, in the order of the files. Raise ``DemoError`` if a task failed."""
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


def _nothing_left(uri: str) -> None:
    """Check with the storage space itself, not the provider, that no peer stores anything."""
    left = [found["key"] for peer in _peers(uri) for found in peer["balls"]]
    if left:
        raise DemoError(f"{pluralize(len(left), 'chunk')} remained in the storage: {', '.join(left[:5])}")


def _peers(uri: str) -> list[dict[str, Any]]:
    return list(_ask(uri, "GET", "/api/v4/peers/stats").values())


def _ask(uri: str, method: str, path: str, body: Any = None) -> Any:
    base = "http://" + uri.removeprefix("mictlanx://").partition("@")[2].partition("/")[0]
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(base + path, data=data, method=method), timeout=10) as answer:
        return json.loads(answer.read() or b"null")


@contextlib.contextmanager
def _whole_airflow(folder: Path, environment: dict[str, str], log: Path) -> Iterator[RunningAirflow | None]:
    """Run an Airflow with scheduler and triggerer, logging to the demo's log; None on Airflow 2."""
    if version("apache-airflow").startswith("2."):
        yield None
        return
    home = folder / "whole-airflow"
    home.mkdir()
    shutil.copy(folder / "airflow" / "airflow.db", home)
    more = {"AIRFLOW_HOME": str(home), "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True"}
    try:
        with RunningAirflow(environment | more, grace=3) as airflow:
            yield airflow
    except (NotRunningError, urllib.error.URLError) as error:
        raise DemoError(str(error)) from error
    finally:
        _append(log, *sorted(home.glob("*.log")))


def _run_bulk_dag(airflow: RunningAirflow, source: Path, folder: Path, uri: str) -> None:
    """Upload the files as a bulk that a gate waits for, and print the times."""
    print(f"\nDAG run  {BULK_DAG_ID}, under a scheduler (LocalExecutor), the gate in the triggerer …", flush=True)
    with _live(Progress(airflow.home, BULK_DAG_ID, uri).line):
        airflow.wait_until_healthy()
        fault = _ask(uri, "PUT", "/_faults", SLOW)["faults"][0]["id"]
        conf = {"source": str(_as_folder(source, folder)), "target": str(folder / "copies")}
        run_id = airflow.trigger(BULK_DAG_ID, conf)

        def gate_waits() -> bool:
            states = _states(airflow, run_id)
            if states.get("upload") in ("success", "failed", "up_for_retry") or "failed" in states.values():
                raise _failure("the gate did not wait while the upload ran", airflow, BULK_DAG_ID, run_id)
            return states.get("upload") == "running" and states.get("ready") == "deferred"

        airflow.wait_for("a gate that waits", gate_waits, 120, pause=0.2)
        print("         the upload runs, slowed by the demo; the gate waits in the triggerer", flush=True)
        _ask(uri, "DELETE", f"/_faults/{fault}")
        state = airflow.wait_for_run(BULK_DAG_ID, run_id, 240)
    if {state, *_states(airflow, run_id).values()} != {"success"}:
        raise _failure(f"the DAG run ended as {state!r}", airflow, BULK_DAG_ID, run_id)
    _print_bulk(airflow, run_id)
    _nothing_left(uri)


def _stay_open(airflow: RunningAirflow, uri: str) -> None:
    """Run the DAG of the README, and keep everything running until Ctrl-C."""
    print(f"\nDAG run  {OPEN_DAG_ID}, the DAG of the README: it keeps what it stores …", flush=True)
    with _live(Progress(airflow.home, OPEN_DAG_ID, uri).line):
        run_id = airflow.trigger(OPEN_DAG_ID, {})
        state = airflow.wait_for_run(OPEN_DAG_ID, run_id, 240)
    if state != "success":
        raise _failure(f"the DAG run ended as {state!r}", airflow, OPEN_DAG_ID, run_id)
    print(f"Open     {airflow.url}/plugin/mictlanx for its bulk and objects, {airflow.url} for its runs")
    print(f"Log in   as {USER} with the password {airflow.password}")
    print("Ctrl-C stops Airflow and the storage, and deletes what they stored.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        airflow.wait_for("Ctrl-C", lambda: None, math.inf)


def _as_folder(source: Path, folder: Path) -> Path:
    """Return the folder for the bulk; a single file is put into a new one."""
    if source.is_dir():
        return source
    (folder / "source").mkdir()
    shutil.copy(source, folder / "source")
    return folder / "source"


def _states(airflow: RunningAirflow, run_id: str) -> dict[str, str]:
    return {task["task_id"]: task["state"] for task in airflow.task_instances(BULK_DAG_ID, run_id)}


def _failure(what: str, airflow: RunningAirflow, dag_id: str, run_id: str) -> DemoError:
    """Return an error with the states of the tasks, and the causes from the logs of those that failed."""
    lines = [what]
    for task in airflow.task_instances(dag_id, run_id):
        task_id, state = task["task_id"], task["state"]
        lines.append(f"{task_id}: {state}")
        if state in ("failed", "up_for_retry"):
            log = airflow.task_log(dag_id, run_id, task_id, task["try_number"]).splitlines()
            entries = [json.loads(line) for line in log if line.startswith("{")]
            lines += [detail["exc_value"] for entry in entries for detail in entry.get("error_detail") or []]
    return DemoError("\n  ".join(lines))


def _print_bulk(airflow: RunningAirflow, run_id: str) -> None:
    upload, ready, compared, deleted = (
        airflow.xcom(BULK_DAG_ID, run_id, task_id) for task_id in ("upload", "ready", "compare", "delete_bucket")
    )
    tasks = {task["task_id"]: task for task in airflow.task_instances(BULK_DAG_ID, run_id)}
    start = min(_time(task, "start_date") for task in tasks.values())
    seconds = {name: _time(task, "end_date") - start for name, task in tasks.items()}
    files = f"{pluralize(upload['uploaded'], 'file')}, {format_size(upload['uploaded_size'])}"
    objects = pluralize(deleted["deleted"], "object")
    print("Seconds after the start of the first task:")
    print(f"{seconds['upload']:5.1f} s  the upload is done: {files} in one task")
    print(f"{seconds['ready']:5.1f} s  the gate opened: {ready['succeeded']} of {ready['total_balls']} stored")
    print(
        f"{seconds['compare']:5.1f} s  the largest one is back: {compared['key']}, {compared['checksum'][:16]}… equal"
    )
    print(f"{max(seconds.values()):5.1f} s  deleted: {objects}, and the bulk's records; no peer stores anything")


def _time(task: dict[str, Any], which: str) -> float:
    return datetime.fromisoformat(task[which]).timestamp()


def _print_summary(report: dict[str, Any], tasks: dict[str, list[dict[str, Any]]]) -> None:
    puts, gets, compared = tasks["put_file"], tasks["get_file"], tasks["compare"]
    rows = [
        {
            "file": put["key"],
            "size": format_size(put["size"]),
            "chunks": put["num_chunks"],
            "put": f"{put['response_time'] * 1000:,.0f} ms",
            "get": f"{got['response_time'] * 1000:,.0f} ms",
            "SHA-256 of file, put, get and copy": f"{same['checksum'][:16]}… equal",
        }
        for put, got, same in zip(puts, gets, compared, strict=True)
    ]
    aligned = ("left", "right", "right", "right", "right", "left")
    print(f"\n{tabulate(rows, headers='keys', tablefmt='plain', colalign=aligned)}")
    deleted = tasks["delete_bucket"][0]
    print(f"\nStored    {_transfer(puts)}, and a text")
    print(f"Read back {_transfer(gets)}")
    print(f"Verified  {len(compared)} of {len(puts)}: the SHA-256 of file, put, get and copy are equal")
    print(f"Deleted   {pluralize(deleted['deleted'], 'object')} and the text; no peer stores anything")
    print(f"DAG run   {report['state']}, {pluralize(len(report['tasks']), 'task')} in {report['seconds']:.1f} s")


def _transfer(results: Sequence[dict[str, Any]]) -> str:
    size, seconds = (sum(result[name] for result in results) for name in ("size", "response_time"))
    return f"{pluralize(len(results), 'file')}, {format_size(size)} in {seconds:.1f} s"


def _append(log: Path, *parts: Path) -> None:
    with log.open("ab") as stream:
        for part in parts:
            stream.write(f"\n== {part.name}\n".encode() + part.read_bytes())


@contextlib.contextmanager
def _process(command: Sequence[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process; when the block ends, or the demo is killed, it and all that it started are stopped."""
    process = None
    try:
        with _signals_held():  # a process must be known below before a signal ends the demo
            process = start_attached(command, environment, log, grace=5)
        yield process
    finally:
        if process is not None:
            end(process)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Defer the signals that end the demo until the block ends."""
    held: list[int] = []
    handlers = {number: signal.signal(number, lambda came, frame: held.append(came)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])


if __name__ == "__main__":
    sys.exit(main())
