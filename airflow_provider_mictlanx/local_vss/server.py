"""Sockets and lifetime of the process: bind all ports, serve routers and peers on one loop, stop on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from airflow_provider_mictlanx.local_vss.middleware import FaultMiddleware
from airflow_provider_mictlanx.local_vss.options import Options, StartError
from airflow_provider_mictlanx.local_vss.peer import Peer
from airflow_provider_mictlanx.local_vss.peer_app import PeerApp
from airflow_provider_mictlanx.local_vss.request_log import RequestLog
from airflow_provider_mictlanx.local_vss.router import Router
from airflow_provider_mictlanx.local_vss.storage_space import StorageSpace


class _Server(uvicorn.Server):
    """A uvicorn server that does not handle signals, because the process has several servers."""

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
    The local VSS: ``await LocalVSS(options).run(ready)`` serves until a signal arrives, or until ``stop`` is called.

    :param options: the options of the command line
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._log = RequestLog()
        self._servers: dict[_Server, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Stop serving; running requests have two seconds to finish."""
        self._stopping.set()

    async def run(self, ready: Callable[[str], None]) -> None:
        """
        Serve until it is stopped. Raise ``StartError`` if it cannot start.

        :param ready: called with the connection URI when every port answers
        """
        options = self._options
        with contextlib.ExitStack() as resources:
            routers = self._bind(resources, options.routers, options.port, "--port")
            space = StorageSpace(options)
            resources.callback(space.close)
            peers = self._bind(resources, len(space.peers), options.peer_port_base, "--peer-port-base")
            self._handle_stop_requests()
            for peer, sock in zip(space.peers.values(), peers, strict=True):
                self._serve_peer(space, peer, sock)
            for number, sock in enumerate(routers):
                self._serve_router(space, f"router-{number}", sock)
            await asyncio.gather(*(server.is_serving.wait() for server in self._servers))
            ready(self._uri([sock.getsockname()[1] for sock in routers]))
            await self._stopping.wait()
            for server in self._servers:
                server.should_exit = True
            await asyncio.gather(*self._servers.values())

    def _serve_router(self, space: StorageSpace, router_id: str, sock: socket.socket) -> None:
        def start_peer(peer_id: str, port: int) -> None:
            peer_sock = listen(self._options.host, port)
            self._serve_peer(space, space.add_peer(peer_id), peer_sock)

        app = Router(router_id, space, self._log, start_peer).application()
        self._start(FaultMiddleware(app, router_id, space, self._log), sock, tls=True)

    def _serve_peer(self, space: StorageSpace, peer: Peer, sock: socket.socket) -> None:
        peer.port = sock.getsockname()[1]
        app = PeerApp(peer, space).application()
        self._start(FaultMiddleware(app, peer.peer_id, space, self._log, peer), sock, tls=False)

    def _start(self, app: ASGIApp, sock: socket.socket, *, tls: bool) -> None:
        options = self._options
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
            backlog=2048,
            ws="none",
            ssl_certfile=options.certificate if tls else None,
            ssl_keyfile=options.private_key if tls else None,
            ssl_ca_certs=str(options.client_ca) if tls and options.client_ca else None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if tls and options.client_ca else ssl.CERT_NONE,
        )
        try:
            config.load()
        except OSError as error:  # SSLError is one
            files = ", ".join(str(f) for f in (options.certificate, options.private_key, options.client_ca) if f)
            raise StartError(
                f"reading the certificate failed ({files}): {error}; check --certificate, --private-key and --client-ca"
            ) from error
        server = _Server(config)
        self._servers[server] = asyncio.get_running_loop().create_task(server.serve([sock]))

    def _bind(self, resources: contextlib.ExitStack, number: int, base: int, option: str) -> list[socket.socket]:
        if base + number - 1 > 65535:
            raise StartError(f"{option} must leave room for {number} ports up to 65535, got {base}")
        host, sockets = self._options.host, []
        for port in range(base, base + number) if base else [0] * number:
            try:
                sockets.append(resources.enter_context(listen(host, port)))
            except OSError as error:
                # A name that does not resolve has a negative number, which os.strerror does not know.
                reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
                raise StartError(
                    f"listening on {host}:{port} failed: {reason.lower()}; set {option} to another port"
                ) from error
        return sockets

    def _uri(self, ports: list[int]) -> str:
        options = self._options
        host = f"[{options.host}]" if ":" in options.host else options.host
        routers = ",".join(f"router-{n}@{host}{options.path_prefix}:{port}" for n, port in enumerate(ports))
        protocol = "https" if options.certificate else "http"
        return f"mictlanx://{routers}/?protocol={protocol}&api_version=4&http2=0"

    def _handle_stop_requests(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

        def on_input() -> None:
            if not os.read(sys.stdin.fileno(), 4096):
                loop.remove_reader(sys.stdin.fileno())
                self.stop()

        if self._options.exit_with_parent:
            # The parent holds the other end of standard input, which closes when the parent ends.
            loop.add_reader(sys.stdin.fileno(), on_input)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket."""
    # socket.create_server names no protocol: asyncio then sets no TCP_NODELAY, and answers wait 40 ms.
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
