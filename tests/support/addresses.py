"""Free ports, and the URI of routers on ports of this machine."""

from __future__ import annotations

import socket


def uri_of(*ports: int) -> str:
    routers = ",".join(f"r{index}@127.0.0.1:{port}" for index, port in enumerate(ports))
    return f"mictlanx://{routers}/?protocol=http"


def free_port() -> int:
    """Return a port on which no server listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
