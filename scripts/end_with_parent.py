"""
Run a command, and end it and all its processes when standard input ends.

    python end_with_parent.py [--grace SECONDS] COMMAND…

The parent holds the other end of the pipe, which closes however the parent ends, including SIGKILL. The command gets
a session of its own. At the end the command gets SIGTERM. After the grace period, all processes left in the session
get SIGKILL, including those in process groups of their own, such as Airflow's tasks. The exit status is the
command's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import NoReturn

import psutil

POLL = 0.1


def main() -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        description="Run a command, and end it and all its processes when standard input ends."
    )
    parser.add_argument("--grace", type=float, default=10, help="seconds between SIGTERM and SIGKILL (default: 10)")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    process = None
    try:
        process = subprocess.Popen(args.command, stdin=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None and not _input_ended():
            pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the command is being ended already
        if process is not None:
            _end(process, args.grace)
    return process.returncode


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _input_ended() -> bool:
    """Wait briefly for the end of standard input, ignoring its content."""
    readable, _, _ = select.select([0], [], [], POLL)
    return bool(readable) and not os.read(0, 4096)


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """Terminate the command, wait for the session to end, and kill the processes left in it."""
    process.terminate()
    deadline = time.monotonic() + grace
    while (process.poll() is None or processes_of_session(process.pid)) and time.monotonic() < deadline:
        time.sleep(POLL)
    while family := processes_of_session(process.pid):  # repeated, because one of them may have started another
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.poll()
        time.sleep(POLL)
    process.wait()


def processes_of_session(leader: int) -> list[int]:
    """Return the living processes of the session."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


if __name__ == "__main__":
    sys.exit(main())
