"""
The local VSS of the pytest plugin, with what only the package's own tests need: a quick start, and its requests.

Everything here is synchronous, so that it can be used from plain tests and from coroutines alike (the calls take a few
milliseconds).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from airflow_provider_mictlanx import testing
from airflow_provider_mictlanx.testing import FaultHandle
from tests.support.forked_processes import ForkedProcesses

__all__ = ["MAIN", "PROCESSES", "FaultHandle", "LocalVSS"]

PROCESSES = ForkedProcesses(
    *("airflow_provider_mictlanx.local_vss.__main__", "airflow_provider_mictlanx.local_vss.server"),
    *("uvicorn.lifespan.off", "uvicorn.protocols.http.auto", "encodings.idna", "tests.support.warm_vss"),
)
"""Forks local VSSs: ``PROCESSES.start(MAIN, arguments)`` does what the command does with these arguments."""
MAIN = "airflow_provider_mictlanx.local_vss.__main__:main"


class LocalVSS(testing.LocalVSS):
    """A local VSS that is forked from a process that has imported what it needs; parameters of the plugin's class."""

    def _create_process(self, arguments: Sequence[str]) -> Any:
        return PROCESSES.start(MAIN, arguments)

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

    # -- the request log -----------------------------------------------------------------------------------------------

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
