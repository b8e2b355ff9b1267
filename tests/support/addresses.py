"""Free ports, and the URI of routers on ports of this machine."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


def uri_of(*ports: int) -> str:
    routers = ",".join(f"r{index}@127.0.0.1:{port}" for index, port in enumerate(ports))
    return f"mictlanx://{routers}/?protocol=http"


def free_port() -> int:
    """Return a port on which no server listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def reserved(*ports: int) -> Iterator[None]:
    """Let no other server have these ports, while connections to them are refused."""
    with contextlib.ExitStack() as sockets:
        for port in ports:
            holder = sockets.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last server may remain
            holder.bind(("127.0.0.1", port))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        yield


def taken_ports(*ports: int) -> list[int]:
    """Return the ports on which a server of this machine listens."""
    taken = []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last server may remain
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                taken.append(port)
    return taken
