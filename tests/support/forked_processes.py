"""
Processes that begin at once: forked from one that has imported what they need, instead of importing it each time.

To import what it needs takes a local VSS most of a second of a processor, and an Airflow task several. A test run starts
hundreds of the one and dozens of the other. What is forked here is a process like any other: with pipes of its own, to be
signalled, killed and waited for. How the real commands start is tested elsewhere.

As a program it is the process that forks: ``python -m tests.support.forked_processes SOCKET MODULE…``. All workers of a test run
share it. It has one thread, ends with the last of its connections, and leaves its children alone then.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

_ROOT = Path(__file__).resolve().parents[2]
_LONGEST = 1 << 18
"""The longest call (bytes as JSON)."""


class Child:
    """A process that was forked, with as much of ``subprocess.Popen`` as tests need."""

    def __init__(self, pid: int, pipes: Sequence[int], ended: int) -> None:
        self.pid = pid
        self.stdin: IO[str] = os.fdopen(pipes[0], "w")
        self.stdout: IO[str] = os.fdopen(pipes[1])
        self.stderr: IO[str] = os.fdopen(pipes[2])
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """Return the exit status, or minus the signal; None while the process runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; ``subprocess.TimeoutExpired`` if the process still runs after ``timeout`` seconds."""
        if (status := self._look(timeout)) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return status

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end, and return what was written since; ``subprocess.TimeoutExpired`` as in ``wait``."""
        self.stdin.close()
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.append(self.stderr.read()), daemon=True)
        reader.start()
        watchdog = threading.Timer(timeout or 0, self.kill)
        if timeout is not None:
            watchdog.start()
        output = self.stdout.read()
        reader.join()
        in_time = timeout is None or watchdog.is_alive()
        watchdog.cancel()
        if not in_time:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0, output)
        self.wait()
        return output, "".join(errors)

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still lives."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it at once."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], timeout)[0]:
            told = os.read(self._ended, 32)
            os.close(self._ended)
            self.returncode = int(told) if told else -signal.SIGKILL  # who forked it is gone
        return self.returncode


class ForkedProcesses:
    """
    Forks processes that have imported some modules already; it starts with the first of them.

    :param modules: what to import beforehand
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def start(self, function: str, argument: object, environment: Mapping[str, str] | None = None) -> Child:
        """
        Call a function in a new process; its result is the exit status.

        :param function: as ``package.module:name``
        :param argument: of the function, as JSON can tell it
        :param environment: of the process; default: this one's, as it is now
        """
        call = {"function": function, "argument": argument, "environment": dict(environment or os.environ)}
        (stdin, to_stdin), (stdout, to_stdout), (stderr, to_stderr), (ended, to_ended) = (os.pipe() for _ in range(4))
        theirs = [stdin, to_stdout, to_stderr, to_ended]
        with self._lock:
            channel = self._socket = self._socket or self._begin()
            socket.send_fds(channel, [json.dumps(call).encode()], theirs)
            answer = b""
            with contextlib.suppress(ConnectionResetError):  # it ended before it accepted us
                answer = channel.recv(32)
        for descriptor in theirs:
            os.close(descriptor)
        if not answer:
            raise RuntimeError(f"no process can be forked with {', '.join(self._modules)}; standard error tells why")
        return Child(int(answer), (to_stdin, stdout, stderr), ended)

    def _begin(self) -> socket.socket:
        """Connect to the process that forks, and start it unless another worker has."""
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or os.getpid()
        modules = hashlib.sha256(" ".join(self._modules).encode()).hexdigest()
        address = f"\0{run} {modules[:16]}"  # a name without a file
        channel, listener = (socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _LONGEST)
        with listener:
            while True:
                try:
                    listener.bind(address)
                    break
                except OSError:  # another worker was first: it does not listen yet, it does, or it has just ended
                    if channel.connect_ex(address) != errno.ECONNREFUSED:
                        return channel
                    time.sleep(0.001)
            listener.listen()
            channel.connect(address)
            command = [sys.executable, "-m", "tests.support.forked_processes", str(listener.fileno()), *self._modules]
            subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.DEVNULL, pass_fds=[listener.fileno()])
        return channel


def main(number: int, modules: Sequence[str]) -> None:
    """Fork whenever a connection says so, and tell how each process ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests, which end us
    listener = socket.socket(fileno=number)
    channels = [listener.accept()[0]]
    for module in modules:
        importlib.import_module(module)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # again: a local VSS that ran meanwhile has reset it
    gc.collect()
    gc.freeze()  # what was imported stays shared with the children
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    living: dict[int, int] = {}
    while channels:
        readable, _, _ = select.select([listener, woken, *channels], [], [])
        if woken in readable:
            os.read(woken, 4096)
            _tell_ends(living)
        if listener in readable:
            channels.append(listener.accept()[0])
        for channel in [channel for channel in channels if channel in readable]:
            message, descriptors, *_ = socket.recv_fds(channel, _LONGEST, 4)
            if not message:
                channels.remove(channel)
                continue
            if (pid := os.fork()) == 0:
                _be(json.loads(message), descriptors[:3])
            living[pid] = descriptors[3]
            for descriptor in descriptors[:3]:
                os.close(descriptor)
            channel.send(str(pid).encode())


def _tell_ends(living: dict[int, int]) -> None:
    for pid, pipe in list(living.items()):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            with contextlib.suppress(BrokenPipeError):  # the reader is gone
                os.write(pipe, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(living.pop(pid))


def _be(call: dict[str, object], pipes: Sequence[int]) -> NoReturn:
    """Become the process that was asked for."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, descriptor in enumerate(pipes):
            os.dup2(descriptor, number)
        os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(call["environment"])  # type: ignore[call-overload]
        module, _, name = str(call["function"]).partition(":")
        status = getattr(importlib.import_module(module), name)(call["argument"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status or 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
