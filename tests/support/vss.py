"""
A local VSS in a process of its own, for tests: it starts on free ports, misbehaves on request, and can be restarted.

Everything here is synchronous, so that it can be used from plain tests and from coroutines alike (the calls take a few
milliseconds).
"""

from __future__ import annotations

import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.forked_processes import Child, ForkedProcesses

_PROCESSES = ForkedProcesses(
    *("airflow_provider_mictlanx.local_vss.__main__", "airflow_provider_mictlanx.local_vss.server"),
    *("uvicorn.lifespan.off", "uvicorn.protocols.http.auto", "encodings.idna"),
)
_START_TIMEOUT = 60
_STOP_TIMEOUT = 60
_ATTEMPTS = 20
_PORTS_EACH = 64
"""Of a local VSS: the ports of its routers and peers, and the one that reserves them."""
_RANDOM = random.SystemRandom()  # pytest-randomly seeds the default one, alike in all workers

# One for all, without kept connections: making one costs 20 to 100 ms unless it loads no certificates.
_HTTP = httpx.Client(verify=False, trust_env=False, timeout=30, limits=httpx.Limits(max_keepalive_connections=0))


def _reserve_ports() -> socket.socket:
    """
    Bind the first port of a free block: no other test takes the block, also while its server is stopped.

    The blocks are below the ports of outgoing connections.
    """
    reservation = socket.socket()
    try:
        reservation.bind(("127.0.0.1", _RANDOM.randrange(20000, 32000, _PORTS_EACH)))
    except OSError as error:
        reservation.close()
        raise PortTakenError(str(error)) from error
    return reservation


class FaultHandle:
    """A fault that is switched on; ``triggered`` asks the server how often it happened."""

    def __init__(self, vss: LocalVSS, fault_id: str) -> None:
        self._vss = vss
        self.id = fault_id

    @property
    def triggered(self) -> int:
        return next(fault["triggered"] for fault in self._vss.faults() if fault["id"] == self.id)

    def off(self) -> None:
        self._vss.control("DELETE", f"/_faults/{self.id}")


class LocalVSS:
    """
    A local VSS over a data folder. It ends with the test process, however that ends.

    :param data: its data folder; a restart goes on with it
    :param peers: how many storage peers
    :param routers: how many routers before them
    :param options: further arguments of the command line, as ``("--task-lifetime", "0.5")``
    """

    def __init__(self, data: Path, *, peers: int = 3, routers: int = 1, options: Sequence[str] = ()) -> None:
        self.data = data
        self.peers = peers
        self.routers = routers
        self.options = tuple(options)
        self.uri = ""
        self.port = 0
        self.process: Child | None = None
        self._errors = ""
        self._reservation: socket.socket | None = None

    def __enter__(self) -> Self:
        return self if self.process else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the process ---------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it: on ports that are free the first time, and on the same ones after that."""
        if self.port:
            self._launch(self.port)
            return self
        for _ in range(_ATTEMPTS):
            try:
                self._reservation = _reserve_ports()
                port = self._reservation.getsockname()[1] + 1
                self._launch(port)
            except PortTakenError:
                continue
            self.port = port
            return self
        raise RuntimeError(f"no free ports in {_ATTEMPTS} attempts; the last one said: {self._errors}")

    def stop(self) -> int:
        """Stop it as a user does (SIGTERM), and return its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it without a chance to clean up (SIGKILL)."""
        self._end(signal.SIGKILL)

    def restart(self, *, kill: bool = False) -> Self:
        """Stop or kill it, and start it again on the same ports over the same data. Faults are off after that."""
        if kill:
            self.kill()
        else:
            self.stop()
        return self.start()

    def close(self) -> None:
        """Kill it if it runs, and give its ports back. A stop waits up to two seconds for requests that hang."""
        if self.process is not None:
            self.kill()
        if self._reservation is not None:
            self._reservation.close()

    def _launch(self, port: int) -> None:
        arguments = [
            *(
                "--data",
                str(self.data),
                "--port",
                str(port),
                "--routers",
                str(self.routers),
                "--peers",
                str(self.peers),
            ),
            *("--peer-port-base", str(port + self.routers), "--exit-with-parent", *self.options),
        ]
        process = _PROCESSES.start("airflow_provider_mictlanx.local_vss.__main__:main", arguments)
        # A start that hangs ends here; the timer closes standard output, so that the line below comes back empty.
        watchdog = threading.Timer(_START_TIMEOUT, process.kill)
        watchdog.start()
        try:
            line = process.stdout.readline()
        finally:
            watchdog.cancel()
        if line:
            self.process, self.uri = process, line.split("'")[1]
            threading.Thread(target=self._collect_errors, args=(process,), daemon=True).start()
            return
        _, self._errors = process.communicate()
        if "listening on" in self._errors:
            raise PortTakenError(self._errors)
        raise RuntimeError(f"the local VSS did not start (status {process.returncode}): {self._errors}")

    def _collect_errors(self, process: Child) -> None:
        for line in process.stderr:
            sys.stderr.write(f"local VSS: {line}")

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            raise RuntimeError("the local VSS does not run")
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

    # -- where it is ---------------------------------------------------------------------------------------------------

    def url(self, router: int = 0) -> str:
        """Return the base URL of a router, such as ``http://127.0.0.1:23456``."""
        scheme = "https" if "--certificate" in self.options else "http"
        return f"{scheme}://127.0.0.1:{self.port + router}"

    def api(self, router: int = 0) -> str:
        """Return the URL that a router's paths begin with."""
        return f"{self.url(router)}/api/v4"

    def peer_api(self, peer: int = 0) -> str:
        """Return the URL that a peer's paths begin with."""
        return f"http://127.0.0.1:{self.peer_port(peer)}/api/v4"

    def peer_port(self, peer: int = 0) -> int:
        return self.port + self.routers + peer

    # -- faults and the request log --------------------------------------------------------------------------------------

    def control(self, method: str, path: str, json: Any = None) -> Any:
        """Send a request that steers the server, by way of a peer's port, which always speaks plain http."""
        response = _HTTP.request(method, f"http://127.0.0.1:{self.peer_port()}{path}", json=json)
        if response.is_error:
            raise ValueError(f"{method} {path}: {response.status_code} {response.text}")
        return response.json() if response.content else None

    @contextmanager
    def fault(self, kind: str, **parameters: Any) -> Iterator[FaultHandle]:
        """Switch a fault on for the block, as ``with vss.fault("peer_down", peer="peer-0"):``."""
        handle = self.set_fault(kind, **parameters)
        try:
            yield handle
        finally:
            if self.process is not None and any(fault["id"] == handle.id for fault in self.faults()):
                handle.off()

    def set_fault(self, kind: str, **parameters: Any) -> FaultHandle:
        """Switch a fault on until it is switched off."""
        answer = self.control("PUT", "/_faults", {"kind": kind, **parameters})
        return FaultHandle(self, answer["faults"][0]["id"])

    def faults(self) -> list[dict[str, Any]]:
        """Return the active faults."""
        found: list[dict[str, Any]] = self.control("GET", "/_faults")["faults"]
        return found

    def clear_faults(self) -> None:
        """Switch every fault off."""
        self.control("DELETE", "/_faults")

    def requests(self, method: str | None = None, path: str = "", server: str = "router") -> list[dict[str, Any]]:
        """
        Return the requests since the last ``reset_requests``, the oldest first.

        :param method: only those of this method
        :param path: only those with a path in which this regular expression is found
        :param server: only those to servers whose id begins so: ``router``, ``router-1``, ``peer``
        :return: dictionaries with ``server, method, path, query, route, status, headers, at``
        """
        return [
            seen
            for seen in self.control("GET", "/_requests")["recent"]
            if method in (None, seen["method"]) and re.search(path, seen["path"]) and seen["server"].startswith(server)
        ]

    def reset_requests(self) -> None:
        """Forget the requests that came so far."""
        self.control("DELETE", "/_requests")


class PortTakenError(RuntimeError):
    """Somebody else listens on the port."""
