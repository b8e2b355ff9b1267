"""A terminal in which a test types what a page says, as a person does."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from pathlib import Path

from scripts.end_with_parent import processes_of_session

DONE = "[done]"


def _control_terminal() -> None:
    """Let standard input control this session; Ctrl-C and the terminal's end count even if the tests ignore them."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


class Terminal:
    """
    Bash on a pseudo-terminal; it closes when a command fails. ``close`` kills everything that was started in it.

    :ivar output: everything printed so far
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.output = ""
        self._typed_at = 0
        self._closed = False
        self._printed = threading.Condition()
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (50, 200))
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-e"],
            cwd=folder,
            env={**environment, "PS1": "", "PS2": "", "TERM": "dumb", "VIRTUAL_ENV_DISABLE_PROMPT": "1"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_control_terminal,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            try:
                text = decoder.decode(os.read(self._master, 65536))
            except OSError:  # the last process of the terminal has ended
                break
            with self._printed:
                self.output += text.replace("\r\n", "\n")
                self._printed.notify_all()
        with self._printed:
            self._closed = True
            self._printed.notify_all()

    def type(self, lines: str) -> None:
        """Type lines, of which the last may run until ``interrupt``."""
        self._typed_at = len(self.output)
        os.write(self._master, f"{lines.rstrip()}\n".encode())

    def run(self, lines: str, seconds: float = 120) -> str:
        """Type lines, wait until all of them have succeeded, and return what they printed."""
        self.type(f"{lines.rstrip()}\necho '{DONE}'")
        return self.wait_for(DONE, seconds).removesuffix(DONE)

    def wait_for(self, text: str, seconds: float = 120) -> str:
        """Wait for a text after the last typed line, and return what was printed up to its end."""
        with self._printed:
            self._printed.wait_for(lambda: text in self.output[self._typed_at :] or self._closed, seconds)
            printed, found, _ = self.output[self._typed_at :].partition(text)
        assert found, f"{text!r} must be printed within {seconds} s, got:\n{printed[-8000:]}"
        return printed + found

    def interrupt(self, seconds: float = 120) -> None:
        """Press Ctrl-C, wait until the shell is back, and check that no process is left."""
        os.write(self._master, b"\x03")
        self.run("", seconds)
        assert processes_of_session(self._shell.pid) == [self._shell.pid]

    def close(self) -> None:
        """Kill everything that was started here, and print what it printed: pytest shows it if the test failed."""
        while processes := processes_of_session(self._shell.pid):
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._shell.poll()
        self._shell.wait()
        self._reader.join()
        os.close(self._master)
        sys.stdout.write(f"---- terminal ----\n{self.output}")
