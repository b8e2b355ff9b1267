"""
Run a command, and end it with everything it started as soon as standard input ends.

    python end_with_parent.py [--grace SECONDS] COMMAND…

Who starts processes that must not outlive him holds the other end of that pipe: it closes however he ends, SIGKILL included.
The command gets a session of its own; whatever stays in it, in process groups of its own too (as Airflow's tasks are), gets
SIGTERM by way of the command, and SIGKILL when the grace is over. The exit status is the command's.
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
    """Run the command that the arguments name; gives its exit status."""
    parser = argparse.ArgumentParser(description="Run a command, and end it when standard input ends.")
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
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what follows is the answer to it already
        if process is not None:
            _end(process, args.grace)
    return process.returncode


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _input_ended() -> bool:
    """Wait a moment for the end of standard input; whatever comes through it is ignored."""
    readable, _, _ = select.select([0], [], [], POLL)
    return bool(readable) and not os.read(0, 4096)


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """Ask the command to end, give it and its family the time for it, and kill whoever is left."""
    process.terminate()
    deadline = time.monotonic() + grace
    while (process.poll() is None or _session(process.pid)) and time.monotonic() < deadline:
        time.sleep(POLL)
    while family := _session(process.pid):  # again, because one of them may have started another meanwhile
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.poll()
        time.sleep(POLL)
    process.wait()


def _session(leader: int) -> list[int]:
    """Give the processes of the session that live."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


if __name__ == "__main__":
    sys.exit(main())
