"""
Pytest plugin: test DAGs against a real storage space, which runs on this machine and misbehaves on request.

The extra ``[testing]`` installs what it needs. Every pytest run imports this module, so it must stay light: only pytest
and what pytest itself imports.
"""

from __future__ import annotations

import errno
import json
import random
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

_START_TIMEOUT = 60
_STOP_TIMEOUT = 60
_ATTEMPTS = 20
_PORTS_EACH = 64
"""Size of a block of ports: one that reserves the block, then those of the routers and peers."""
_BLOCKS = (20000, 32000, _PORTS_EACH)  # below the ports of outgoing connections
_RANDOM = random.SystemRandom()  # pytest-randomly seeds the default one, alike in all workers


@pytest.fixture(scope="session")
def mictlanx_vss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVSS]:
    """
    Start a local storage space in a process of its own, which all tests of this pytest process share.

    It has one router and three peers. It is empty, and without faults, in each test that uses ``mictlanx_conn`` too.
    """
    with LocalVSS(tmp_path_factory.mktemp("mictlanx")) as vss:
        yield vss


@pytest.fixture
def mictlanx_conn(mictlanx_vss: LocalVSS, monkeypatch: pytest.MonkeyPatch) -> str:
    """
    Lead the default connection to ``mictlanx_vss``, empty and without faults, and return its id: ``mictlanx_default``.

    The environment variable ``AIRFLOW_CONN_MICTLANX_DEFAULT`` contains it until the test ends.
    """
    if not mictlanx_vss.is_running:
        mictlanx_vss.start()
    mictlanx_vss.clear()
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", mictlanx_vss.uri)
    return "mictlanx_default"


class LocalVSS:
    """
    A local VSS in a process of its own, on free ports: ``with LocalVSS(tmp_path, routers=2) as vss:``.

    It ends with the process that started it and the forks of that process, even if they are killed.

    :param data: its data folder; a restart continues with it
    :param peers: number of storage peers
    :param routers: number of routers in front of them
    :param options: further arguments of ``mictlanx-local-vss``, such as ``("--task-lifetime", "0.5")``
    :ivar uri: URI of a connection to all its routers
    :ivar port: port of the first router; the other routers and the peers follow
    """

    def __init__(self, data: Path, *, peers: int = 3, routers: int = 1, options: Sequence[str] = ()) -> None:
        if 1 + routers + peers > _PORTS_EACH:
            raise ValueError(f"routers and peers must be fewer than {_PORTS_EACH} together, got {routers} and {peers}")
        self.data = data
        self.peers = peers
        self.routers = routers
        self.options = tuple(options)
        self.uri = ""
        self.port = 0
        self.process: subprocess.Popen[str] | None = None
        self._error_reader: threading.Thread | None = None
        self._reservation: socket.socket | None = None

    def __enter__(self) -> Self:
        return self if self.process else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the process ---------------------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Return whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> Self:
        """
        Start it: the first time on free ports, then on the same ones. Its data is kept, faults are off.

        Raise ``RuntimeError`` with the reason if it cannot start, and ``OSError`` if another process took its ports.
        """
        if self.port:
            self._launch(self.port)
            return self
        for _ in range(_ATTEMPTS):
            # The first port of a block reserves it: no other local VSS takes it, even while this one is stopped.
            block = _RANDOM.randrange(*_BLOCKS)
            reservation = socket.socket()
            try:
                reservation.bind(("127.0.0.1", block))
                self._launch(block + 1)
            except OSError as error:
                reservation.close()
                last_error = error
            except BaseException:
                reservation.close()
                raise
            else:
                self._reservation = reservation
                self.port = block + 1
                return self
        raise RuntimeError(f"starting the local VSS failed {_ATTEMPTS} times; the last error was: {last_error}")

    def stop(self) -> int:
        """Stop it with SIGTERM, and return its exit status. Running requests have two seconds to finish."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._end(signal.SIGKILL)

    def restart(self, *, kill: bool = False) -> Self:
        """Stop or kill it, and start it again."""
        if kill:
            self.kill()
        else:
            self.stop()
        return self.start()

    def close(self) -> None:
        """Kill it if it runs, and give its ports back."""
        if self.process is not None:
            self.kill()
        if self._reservation is not None:
            self._reservation.close()

    def _launch(self, port: int) -> None:
        arguments = [
            *("--data", str(self.data), "--port", str(port), "--routers", str(self.routers)),
            *("--peers", str(self.peers), "--peer-port-base", str(port + self.routers), "--exit-with-parent"),
            *self.options,
        ]
        process = self._create_process(arguments)
        assert process.stdout
        # A start that hangs ends here; the timer closes standard output, so that the line below comes back empty.
        watchdog = threading.Timer(_START_TIMEOUT, process.kill)
        watchdog.start()
        try:
            printed = process.stdout.readline().strip()
        finally:
            watchdog.cancel()
        if printed:  # export AIRFLOW_CONN_MICTLANX_DEFAULT='…'
            self.process, self.uri = process, shlex.split(printed)[1].partition("=")[2]
            self._error_reader = threading.Thread(target=_show_errors, args=(process,), daemon=True)
            self._error_reader.start()
            return
        _, errors = process.communicate()
        if "listening on" in errors:
            raise OSError(errno.EADDRINUSE, errors)
        errors = errors.replace("[local-vss]", "[testing]")  # the extra that this module needs
        raise RuntimeError(f"starting the local VSS failed with exit status {process.returncode}: {errors}")

    def _create_process(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        # -P: modules in the current folder must not replace those of Python or of the package.
        command = [sys.executable, "-P", "-m", "airflow_provider_mictlanx.local_vss", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            raise RuntimeError("the local VSS does not run")
        assert process.stdin
        assert process.stdout
        assert self._error_reader
        process.send_signal(number)
        try:
            return process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdin.close()
            process.stdout.close()
            self._error_reader.join()

    # -- data and faults -----------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Delete all data, and switch every fault off."""
        self.clear_faults()
        self.control("DELETE", "/_data")

    @contextmanager
    def fault(self, kind: str, **parameters: Any) -> Iterator[FaultHandle]:
        """
        Switch a fault on for the block: ``with vss.fault("peer_silent", peer="peer-0"):``.

        :param kind: ``peer_down``, ``peer_silent``, ``latency``, ``status``, ``reset`` or another kind of the page
            "The local VSS"; ``ValueError`` if it is unknown
        :param parameters: parameters of that kind
        """
        handle = self.set_fault(kind, **parameters)
        try:
            yield handle
        finally:
            if self.is_running:
                handle.off()

    def set_fault(self, kind: str, **parameters: Any) -> FaultHandle:
        """Switch a fault on until it is switched off; parameters as in ``fault``."""
        answer = self.control("PUT", "/_faults", {"kind": kind, **parameters})
        return FaultHandle(self, answer["faults"][0]["id"])

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults that are switched on."""
        found: list[dict[str, Any]] = self.control("GET", "/_faults")["faults"]
        return found

    def clear_faults(self) -> None:
        """Switch every fault off."""
        self.control("DELETE", "/_faults")

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request that controls the server: ``/_faults``, ``/_requests`` or ``/_data``. Return its JSON."""
        import http.client

        port = self.port + self.routers  # a peer's, because routers may use https
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            reason = answer.decode()
            if response.status == 422:
                problem = json.loads(answer)["detail"][0]
                name = ".".join(map(str, problem["loc"][2:]))  # of the parameter, behind the body and its model
                reason = f"{name}: {problem['msg']}" if name else problem["msg"]
            raise ValueError(f"{method} {path} {body or ''} failed with {response.status}: {reason}")
        return json.loads(answer) if answer else None


class FaultHandle:
    """A fault that was switched on."""

    def __init__(self, vss: LocalVSS, fault_id: str) -> None:
        self._vss = vss
        self._triggered = 0
        self.id = fault_id

    @property
    def triggered(self) -> int:
        """Return how often it has happened, or had when it was switched off."""
        if self._vss.is_running:
            self._is_on()
        return self._triggered

    def off(self) -> None:
        """Switch it off, unless a restart has done so."""
        if self._is_on():
            self._vss.control("DELETE", f"/_faults/{self.id}")

    def _is_on(self) -> bool:
        for fault in self._vss.faults():
            if fault["id"] == self.id:
                self._triggered = fault["triggered"]
                return True
        return False


def _show_errors(process: subprocess.Popen[str]) -> None:
    assert process.stderr
    with process.stderr as lines:
        for line in lines:
            sys.stderr.write(f"local VSS: {line}")
