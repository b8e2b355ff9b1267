"""
Send HTTP requests to routers and peers, with limits of time and size.

Every event loop, process, TLS setting and proxy has its own pool of connections. No pool is shared between loops or
across a fork. The engines follow no redirects, so the token reaches the configured routers only. They decompress
nothing and never read ``.netrc``.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import ssl
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_mictlanx import __version__
from airflow_provider_mictlanx.client.errors import UpstreamProtocolError, ValidationError
from airflow_provider_mictlanx.client.texts import excerpt, is_secret_name, remember_header, remember_secret
from airflow_provider_mictlanx.client.transport.backend import BackendFactory, Body, HttpBackend, ResponseStream
from airflow_provider_mictlanx.client.transport.headers import NO_HEADERS, check_headers, merge_headers
from airflow_provider_mictlanx.client.transport.limits import MAX_SMALL_RESPONSE
from airflow_provider_mictlanx.client.transport.network_errors import NetworkErrors, request_scope
from airflow_provider_mictlanx.client.transport.proxies import Proxy, ProxyRules
from airflow_provider_mictlanx.client.transport.tls import Verify, tls_context

if TYPE_CHECKING:
    import httpx

DEFAULT_HEADERS = {
    "User-Agent": f"airflow-provider-mictlanx/{__version__}",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}


_transports: weakref.WeakSet[Transport] = weakref.WeakSet()
_inherited: list[object] = []
"""Pools of the parent process. Closing them in the child would remove their sockets from the shared epoll."""


def _keep_inherited_pools() -> None:
    _inherited.extend([transport._pools for transport in _transports])


os.register_at_fork(after_in_child=_keep_inherited_pools)


@dataclass(frozen=True)
class Response:
    """Status, headers (names in lower case) and, unless it was streamed, the body of an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class _Pools:
    """The engines of one event loop, by TLS setting and proxy."""

    backends: dict[tuple[Verify | None, Proxy | None], HttpBackend] = field(default_factory=dict)
    building: asyncio.Lock = field(default_factory=asyncio.Lock)


class Transport:
    """
    The connections of one client. Failures of the network raise ``NetworkError``.

    :param token: sent as ``Authorization: Bearer`` with every request
    :param headers: sent with every request
    :param http2: offer HTTP/2 over ``https``; ``ValidationError`` without the package ``h2``
    :param proxies: rules that choose the proxy of a request
    :param backend_factory: creates the HTTP engine; None = httpx if HTTP/2 is offered, else aiohttp
    """

    def __init__(
        self,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        http2: bool = False,
        *,
        proxies: ProxyRules | None = None,
        backend_factory: BackendFactory | None = None,
    ) -> None:
        if http2 and importlib.util.find_spec("h2") is None:
            raise ValidationError("http2 needs the package h2: pip install 'airflow-provider-mictlanx[http2]'")
        own = merge_headers(DEFAULT_HEADERS, check_headers(headers or {}))
        self._headers = merge_headers(own, check_headers({"Authorization": f"Bearer {token}"} if token else {}))
        if token:
            remember_secret(token)
        for name, value in (headers or {}).items():
            remember_header(name, value)
        self._http2 = http2
        self._proxies = proxies or ProxyRules()
        self._backend_factory = backend_factory
        self._pools: dict[asyncio.AbstractEventLoop, _Pools] = {}
        self._contexts: dict[Verify, ssl.SSLContext] = {}
        self._pid = os.getpid()
        _transports.add(self)

    def __repr__(self) -> str:
        return f"<Transport with {sum(len(pools.backends) for pools in self._pools.values())} pools>"

    async def send(
        self, method: str, url: str, *, action: str, timeout: float, content: Body = b"", **options: Any
    ) -> Response:
        """
        Send a request, and return the complete answer within ``timeout``.

        Parameters: see ``stream``, and:

        :param content: the body: bytes, or an async generator of pieces
        """
        async with (
            request_scope(timeout, action),
            self.stream(method, url, action=action, timeout=timeout, content=content, **options) as (head, pieces),
        ):
            parts = [piece async for piece in pieces]
        return replace(head, body=parts[0] if len(parts) == 1 else b"".join(parts))

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        action: str,
        timeout: float,
        verify: Verify,
        headers: Mapping[str, str] = NO_HEADERS,
        content: Body = b"",
        max_size: int = MAX_SMALL_RESPONSE,
    ) -> AsyncIterator[tuple[Response, AsyncIterator[bytes]]]:
        """
        Send a request; yield the head of the answer and an iterator of its body.

        The caller limits the time. The iterator may be finished by another task than the one that began it.

        :param action: action and objects, for errors
        :param timeout: the caller's limit, for errors (seconds)
        :param max_size: maximum size of the answer (bytes)
        """
        request = (method, url, self._headers_with(headers), content)
        proxy = self._proxies.for_url(url)
        with NetworkErrors(action, timeout, proxy):
            backend = await self._backend(url, verify, proxy)
            stream = await backend.begin(*request)
            try:
                yield Response(stream.status, stream.headers), _pieces(stream, action, max_size)
            finally:
                await backend.end(stream)

    def _headers_with(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in (checked := check_headers(headers)).items():
            if is_secret_name(name):  # other headers are checksums and sizes, which errors show
                remember_header(name, value)
        return merge_headers(self._headers, checked)

    async def aclose(self) -> None:
        """Close all connections of the running event loop."""
        self._drop_inherited_pools()
        if pools := self._pools.pop(asyncio.get_running_loop(), None):
            for backend in pools.backends.values():
                await backend.aclose()

    def _drop_inherited_pools(self) -> None:
        if self._pid != os.getpid():
            self._pid, self._pools = os.getpid(), {}

    async def _backend(self, url: str, verify: Verify, proxy: Proxy | None) -> HttpBackend:
        self._drop_inherited_pools()
        loop = asyncio.get_running_loop()
        if loop not in self._pools:
            await self._drop_closed_loops()
        pools = self._pools.setdefault(loop, _Pools())
        key = (verify if url.startswith("https") else None, proxy)
        if backend := pools.backends.get(key):
            return backend
        async with pools.building:
            if key not in pools.backends:
                pools.backends[key] = await self._make_backend(*key)
            return pools.backends[key]

    async def _drop_closed_loops(self) -> None:
        for loop in [loop for loop in list(self._pools) if loop.is_closed()]:
            for backend in self._pools.pop(loop, _Pools()).backends.values():
                with suppress(RuntimeError):  # the loop is closed
                    await backend.aclose()

    async def _make_backend(self, verify: Verify | None, proxy: Proxy | None) -> HttpBackend:
        context = None if verify is None else await self._context(verify)
        factory = self._backend_factory
        if factory is None:
            factory = await asyncio.to_thread(_import_httpx if self._http2 and context else _import_aiohttp)
        return factory(context, proxy)

    async def _context(self, verify: Verify) -> ssl.SSLContext:
        if isinstance(verify, ssl.SSLContext):
            return verify
        if verify not in self._contexts:
            self._contexts[verify] = await asyncio.to_thread(tls_context, verify)
        return self._contexts[verify]


def borrow_client(client: httpx.AsyncClient) -> BackendFactory:
    """Return a factory that always returns the same engine, which sends with the caller's client."""
    import httpx

    from airflow_provider_mictlanx.client.transport.httpx_backend import HttpxBackend

    if not isinstance(client, httpx.AsyncClient):
        raise ValidationError(f"http_client must be an httpx.AsyncClient, got {type(client).__name__}")
    backend = HttpxBackend(client=client)
    return lambda _context, _proxy: backend


def _import_aiohttp() -> BackendFactory:
    from airflow_provider_mictlanx.client.transport.aiohttp_backend import AiohttpBackend

    return AiohttpBackend


def _import_httpx() -> BackendFactory:
    from airflow_provider_mictlanx.client.transport.httpx_backend import HttpxBackend

    return partial(HttpxBackend, http2=True)


async def _pieces(stream: ResponseStream, action: str, max_size: int) -> AsyncIterator[bytes]:
    codings = (
        ("content-encoding", "identity"),
        ("transfer-encoding", "chunked"),
    )  # an engine may not support other codings
    for name, usual in codings:
        if (coding := stream.headers.get(name, usual)).lower() != usual:
            raise UpstreamProtocolError(
                f"{action} failed: the answer is compressed or encoded ({excerpt(coding, 40)}), which was not "
                "requested; check whether a proxy does it"
            )
    read = 0
    while (piece := await stream.next_piece()) is not None:
        read += len(piece)
        if read > max_size:
            error = UpstreamProtocolError(
                f"{action} failed: the answer is longer than {max_size} bytes, and the rest was not read; check that "
                "the address is that of a MictlanX router"
            )
            error.too_long = True
            raise error
        yield piece
