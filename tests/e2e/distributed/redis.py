"""A Redis of a test's own."""

from __future__ import annotations

import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.running_airflow import end, free_port, start_attached

_ATTEMPTS = 5
_START_TIMEOUT = 60


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Run a Redis that keeps nothing on the disk, and give its URL, without the number of a database."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.fail("redis-server is missing; on Debian: apt-get install redis-server", pytrace=False)
    for _ in range(_ATTEMPTS):
        port, password, log = free_port(), secrets.token_urlsafe(), folder / "redis.log"
        settings = folder / "redis.conf"
        settings.touch(mode=0o600)
        settings.write_text(f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\ndir "{folder}"\n')
        process = start_attached([program, str(settings)], {}, log)
        try:
            if _answers(port, process):
                yield f"redis://:{password}@127.0.0.1:{port}"
                return
        finally:
            end(process)
    pytest.fail(f"redis-server did not start:\n{log.read_text()}", pytrace=False)


def _answers(port: int, process: object) -> bool:
    """Wait until it answers; False if it ended, because somebody else has the port."""
    deadline = time.monotonic() + _START_TIMEOUT
    while process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                # It is ours if it asks for the password.
                return connection.recv(64).startswith(b"-NOAUTH")
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
    return False
