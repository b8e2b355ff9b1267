"""``scripts/end_with_parent.py``: whatever a command started ends with it, however its starter ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

END_WITH_PARENT = Path(__file__).resolve().parents[3] / "scripts" / "end_with_parent.py"
SAY_WHO = "os.write(1, b'%d\\n' % os.getpid())"
"""In one piece: three processes share the pipe."""
IGNORE = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
CHILD = f"{IGNORE}; os.setpgid(0, 0); {SAY_WHO}; time.sleep(600)"
FAMILY = f"""
{IGNORE}
import subprocess, sys
processes = [subprocess.Popen([sys.executable, "-c", {CHILD!r}]) for _ in range(2)]
{SAY_WHO}
time.sleep(600)
"""
STARTER = """
import subprocess, sys, time
guardian = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def wait_until(done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def family_of(process: subprocess.Popen[str]) -> list[int]:
    """Wait until all three have said who they are."""
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(3)]


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started = []

    def start(*command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()  # which ends what is attached
        process.terminate()
        process.wait(60)


def attached(*command: str, grace: float = 0.2) -> list[str]:
    return [sys.executable, str(END_WITH_PARENT), "--grace", str(grace), *command]


def test_everything_ends_when_the_pipe_is_closed(start: Callable[..., subprocess.Popen[str]]) -> None:
    guardian = start(*attached(sys.executable, "-c", FAMILY))
    family = family_of(guardian)
    assert all(alive(pid) for pid in family)
    assert guardian.stdin is not None
    guardian.stdin.close()
    assert guardian.wait(60) != 0
    assert [pid for pid in family if alive(pid)] == []


def test_everything_ends_when_the_starter_is_killed(start: Callable[..., subprocess.Popen[str]]) -> None:
    starter = start(sys.executable, "-c", STARTER, *attached(sys.executable, "-c", FAMILY))
    family = family_of(starter)
    starter.kill()
    assert wait_until(lambda: not any(alive(pid) for pid in family))


def test_everything_ends_with_its_guardian(start: Callable[..., subprocess.Popen[str]]) -> None:
    guardian = start(*attached(sys.executable, "-c", FAMILY))
    family = family_of(guardian)
    guardian.send_signal(signal.SIGTERM)
    guardian.wait(60)
    assert [pid for pid in family if alive(pid)] == []


def test_what_a_command_left_behind_ends_with_it(start: Callable[..., subprocess.Popen[str]]) -> None:
    leaves = f"{FAMILY.rpartition('time.sleep')[0]}os._exit(3)"
    guardian = start(*attached(sys.executable, "-c", leaves))
    assert guardian.stdout is not None
    output = guardian.stdout.read()  # until nobody has the other end any more
    assert guardian.wait(60) == 3
    assert [pid for pid in map(int, output.split()) if alive(pid)] == []


def test_the_command_may_end_by_itself_in_its_time(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    tidy = (
        "import pathlib, signal, sys, time\n"
        "def tidy(*_):\n    time.sleep(0.5); pathlib.Path(sys.argv[1]).touch(); sys.exit(5)\n"
        "signal.signal(signal.SIGTERM, tidy); print(1, flush=True); time.sleep(600)"
    )
    guardian = start(*attached(sys.executable, "-c", tidy, str(tmp_path / "tidied"), grace=60))
    assert guardian.stdout is not None
    assert guardian.stdout.readline() == "1\n"
    assert guardian.stdin is not None
    guardian.stdin.close()
    assert guardian.wait(60) == 5
    assert (tmp_path / "tidied").exists()


def test_other_sessions_are_left_alone(start: Callable[..., subprocess.Popen[str]]) -> None:
    guardian = start(*attached(sys.executable, "-c", "pass"))
    assert guardian.wait(60) == 0
    assert alive(os.getpid())
