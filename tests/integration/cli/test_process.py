"""The shell as a process: it starts without Airflow, and Ctrl-C and a closed pipe end it quietly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from airflow_provider_mictlanx.client.object_ids import is_part_name
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.forked_processes import Child, ForkedProcesses
from tests.support.vss import LocalVSS

_PROCESSES = ForkedProcesses(
    "airflow_provider_mictlanx.cli.main", "airflow_provider_mictlanx.client.transport.aiohttp_backend"
)

LOADED = """
import sys
from airflow_provider_mictlanx.__main__ import main
code = main()
print("airflow" in sys.modules, "httpx" in sys.modules, "rich" in sys.modules)
sys.exit(code)
"""


def start(vss: LocalVSS, arguments: Sequence[object], **environment: str) -> Child:
    line = ["--uri", vss.uri, *map(str, arguments)]
    return _PROCESSES.start("airflow_provider_mictlanx.cli.main:main", line, os.environ | environment)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_start_with_a_uri_imports_no_airflow(vss: LocalVSS, bucket_id: str) -> None:
    command = [sys.executable, "-c", LOADED, "ls", bucket_id]
    ran = subprocess.run(command, env={"MICTLANX_URI": vss.uri}, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (3, "False False False\n", 1)


def test_module_is_the_command() -> None:
    command = [sys.executable, "-m", "airflow_provider_mictlanx", "ls"]
    ran = subprocess.run(command, env={}, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "mictlanx ls: the following arguments are required" in ran.stderr


@pytest.mark.parametrize("command", ["get", "put", "sync"])
def test_interrupt_is_one_line_and_no_half_file(
    command: str, connected: LocalVSS, bucket_id: str, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "big").write_bytes(os.urandom(3_000_000))
    MictlanXHook().put_file(bucket_id, "big", source / "big", chunk_size="100kb")
    arguments = {
        "get": ("get", f"{bucket_id}/big", f"{target}/"),
        "put": ("put", source, f"{bucket_id}/other", "--chunk-size", "100kb"),
        "sync": ("sync", f"mictlanx://{bucket_id}", target),
    }[command]
    with connected.fault("latency", bucket=bucket_id, skip=8, seconds=5) as delayed:
        child = start(connected, arguments)
        wait_until(lambda: delayed.triggered)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(60)
    assert (child.wait(1), err) == (130, "mictlanx: interrupted\n")
    if command != "put":
        assert [name for name in os.listdir(target) if not is_part_name(name)] == []
    assert MictlanXHook().list_keys(bucket_id) == ["big"]


@pytest.mark.parametrize(("ending", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_ended_upload_leaves_no_object_without_data(
    ending: str, code: int, word: str, connected: LocalVSS, bucket_id: str, tmp_path: Path
) -> None:
    """Small files are announced in windows, which would be listed."""
    for number in range(30):
        (tmp_path / f"{number}").write_bytes(os.urandom(100))
    with connected.fault("latency", bucket=bucket_id, skip=35, seconds=0.5) as delayed:
        child = start(connected, ("put", tmp_path, bucket_id, "--max-concurrency", 1))
        wait_until(lambda: delayed.triggered)
        child.send_signal(signal.Signals[ending])
    _, err = child.communicate(60)
    assert (child.wait(1), err) == (code, f"mictlanx: {word}\n")
    read = MictlanXHook().get_to_folder(tmp_path / "out", bucket_id, max_tries=1, fail_on_error=False)
    assert read["failed"] <= 1  # whose data was on its way


@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM"])
def test_signal_ends_the_wait_for_standard_input(ending: str, vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    child = start(vss, ("put", "-", f"{bucket_id}/a"), TMPDIR=str(tmp_path))
    wait_until(lambda: list(tmp_path.rglob("a")))
    time.sleep(0.2)
    child.send_signal(signal.Signals[ending])
    assert (child.wait(60), child.stderr.read()) == (130, "mictlanx: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_closed_pipe_is_silent(connected: LocalVSS, bucket_id: str) -> None:
    MictlanXHook().put(bucket_id, "a", bytes(100_000))
    for arguments in (("ls", bucket_id), ("cat", f"{bucket_id}/a")):
        command = [sys.executable, "-m", "airflow_provider_mictlanx", "--uri", connected.uri, *arguments]
        with connected.fault("latency", bucket=bucket_id, seconds=0.5):
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert child.stdout
            child.stdout.close()
            assert child.stderr
            assert (child.stderr.read(), child.wait(60)) == (b"", 141)
            child.stderr.close()
