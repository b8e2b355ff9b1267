"""The sockets and the life of the process: binds every port, serves routers and peers on one loop, stops on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator

import uvicorn

from airflow_provider_mictlanx.local_vss.middleware import FaultMiddleware
from airflow_provider_mictlanx.local_vss.peer import Peer
from airflow_provider_mictlanx.local_vss.peer_app import PeerApp
from airflow_provider_mictlanx.local_vss.request_log import RequestLog
from airflow_provider_mictlanx.local_vss.router import Router
from airflow_provider_mictlanx.local_vss.router_app import RouterApp
from airflow_provider_mictlanx.local_vss.storage_space import Options, Space, StartError

_GRACE = 2


class _Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to the process, as there are several of them in it, and says when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_serving = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_serving.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class LocalVSS:
    """
    The local VSS: ``await LocalVSS(options).run(ready)`` serves until a signal comes, or until ``stop`` is called.

    :param options: what it is started with
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.uri = ""
        self._log = RequestLog()
        self._servers: list[_Server] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End it: requests under way may finish for two seconds."""
        self._stopping.set()

    async def run(self, ready: Callable[[str], None]) -> None:
        """
        Serve until it is stopped. Raises ``StartError`` where it can't start.

        :param ready: called with the connection URI once every port answers
        """
        _check_certificates(self.options)
        with contextlib.ExitStack() as sockets:
            routers = self._bind(sockets, self.options.routers, self.options.port, "--port")
            space = Space(self.options)
            try:
                peers = self._bind(sockets, len(space.peers), self.options.peer_port_base, "--peer-port-base")
                self._listen_for_signals()
                space.start()
                await self._serve(space, routers, peers, ready)
            finally:
                space.close()

    async def _serve(
        self, space: Space, routers: list[socket.socket], peers: list[socket.socket], ready: Callable[[str], None]
    ) -> None:
        for peer, sock in zip(space.peers.values(), peers, strict=True):
            self._serve_peer(space, peer, sock)
        for number, sock in enumerate(routers):
            self._serve_router(space, f"router-{number}", sock)
        self.uri = self._uri([sock.getsockname()[1] for sock in routers])
        await asyncio.gather(*(server.is_serving.wait() for server in self._servers))
        ready(self.uri)
        await self._stopping.wait()
        for server in self._servers:
            server.should_exit = True
        await asyncio.gather(*self._serving)

    def _serve_router(self, space: Space, router_id: str, sock: socket.socket) -> None:
        async def add_peer(peer_id: str, port: int) -> Peer:
            peer_sock = _bound(self.options.host, port)
            peer = await space.add_peer(peer_id)
            self._serve_peer(space, peer, peer_sock)
            return peer

        app = RouterApp(Router(router_id, space), self._log, add_peer).application()
        prefix = self.options.path_prefix
        front = FaultMiddleware(app, router_id, space.faults, self._log, space.tasks, is_peer=False, path_prefix=prefix)
        self._start(front, sock, tls=True)

    def _serve_peer(self, space: Space, peer: Peer, sock: socket.socket) -> None:
        peer.port = sock.getsockname()[1]
        app = PeerApp(peer, space).application()
        front = FaultMiddleware(
            app, peer.peer_id, space.faults, self._log, peer.tasks, is_peer=True, is_down=lambda: peer.is_down
        )
        self._start(front, sock, tls=False)

    def _start(self, front: FaultMiddleware, sock: socket.socket, *, tls: bool) -> None:
        options = self.options
        config = uvicorn.Config(
            front,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_GRACE,
            backlog=2048,
            ws="none",
            ssl_certfile=options.certificate if tls else None,
            ssl_keyfile=options.private_key if tls else None,
            ssl_ca_certs=str(options.client_ca) if tls and options.client_ca else None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if tls and options.client_ca else ssl.CERT_NONE,
        )
        server = _Server(config)
        self._servers.append(server)
        task = asyncio.get_running_loop().create_task(server.serve([sock]))
        self._serving.add(task)

    def _bind(self, sockets: contextlib.ExitStack, number: int, base: int, option: str) -> list[socket.socket]:
        bound: list[socket.socket] = []
        for n in range(number):
            port = base + n if base else 0
            if port > 65535:
                raise StartError(f"{number} ports from {base} on end beyond 65535; give {option} a smaller number")
            try:
                sock = _bound(self.options.host, port)
            except OSError as error:
                raise StartError(
                    f"{self.options.host}:{port} can't be listened on: {_reason(error)}; give {option} another port"
                ) from error
            bound.append(sockets.enter_context(sock))
        return bound

    def _uri(self, ports: list[int]) -> str:
        options = self.options
        host = f"[{options.host}]" if ":" in options.host else options.host
        routers = ",".join(f"router-{n}@{host}{options.path_prefix}:{port}" for n, port in enumerate(ports))
        protocol = "https" if options.certificate else "http"
        return f"mictlanx://{routers}/?protocol={protocol}&api_version=4&http2=0"

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    def exit_with_parent(self) -> None:
        """Stop when standard input ends: whoever started the process holds its other end, and has gone away."""
        loop = asyncio.get_running_loop()

        def on_input() -> None:
            if not os.read(sys.stdin.fileno(), 4096):
                loop.remove_reader(sys.stdin.fileno())
                self.stop()

        loop.add_reader(sys.stdin.fileno(), on_input)


def _check_certificates(options: Options) -> None:
    """Say now what would else be a traceback of the server's."""
    if options.certificate is None:
        if options.private_key or options.client_ca:
            raise StartError("--private-key and --client-ca mean nothing without --certificate")
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.private_key)
        if options.client_ca:
            context.load_verify_locations(options.client_ca)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(f) for f in (options.certificate, options.private_key, options.client_ca) if f)
        raise StartError(f"the certificate can't be used ({files}): {error}") from error


def is_loopback(host: str) -> bool:
    """Tell whether an address or a name means this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)
    except OSError:
        sock.close()
        raise
    return sock


def _reason(error: OSError) -> str:
    # A name that does not resolve has a number of its own, below 0, that is none of the system's.
    return (os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)).lower()
