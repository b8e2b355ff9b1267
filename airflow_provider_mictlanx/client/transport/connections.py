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
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow_provider_mictlanx import __version__
from airflow_provider_mictlanx.client.errors import UpstreamProtocolError, ValidationError
from airflow_provider_mictlanx.client.texts import excerpt, is_secret_name, remember_header, remember_secret
from airflow_provider_mictlanx.client.transport.backend import BackendFactory, Body, HttpBackend, ResponseStream
from airflow_provider_mictlanx.client.transport.headers import NO_HEADERS, check_headers, merge_headers
from airflow_provider_mictlanx.client.transport.limits import MAX_SMALL_RESPONSE
from airflow_provider_mictlanx.client.transport.network_errors import NetworkErrors, RequestScope
from airflow_provider_mictlanx.client.transport.proxies import Proxy, ProxyRules
from airflow_provider_mictlanx.client.transport.tls import Verify, tls_context

if TYPE_CHECKING:
    import httpx

_CODINGS = (("content-encoding", "identity"), ("transfer-encoding", "chunked"))
"""Supported codings: an engine may not support others."""

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
            RequestScope(timeout, action),
            self.stream(method, url, action=action, timeout=timeout, content=content, **options) as (head, pieces),
        ):
            parts = [piece async for piece in pieces]
        return Response(head.status, head.headers, parts[0] if len(parts) == 1 else b"".join(parts))

    def stream(
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
    ) -> _Exchange:
        """
        Return a context manager that sends a request; it yields the head of the answer and an iterator of its body.

        The caller limits the time. The iterator may be finished by another task than the one that began it.

        :param action: action and objects, for errors
        :param timeout: the caller's limit, for errors (seconds)
        :param max_size: maximum size of the answer (bytes)
        """
        request = (method, url, self._headers_with(headers), content)
        proxy = self._proxies.for_url(url)
        errors = NetworkErrors(action, timeout, proxy)
        return _Exchange(lambda: self._backend(url, verify, proxy), request, errors, action, max_size)

    def _headers_with(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        if headers is NO_HEADERS:
            return self._headers
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
            self._pools.setdefault(loop, _Pools())
        pools = self._pools[loop]
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


class _Exchange:
    """One request and its answer, as a context manager; a generator would cost as much as the request's timeout."""

    def __init__(
        self,
        find_backend: Callable[[], Awaitable[HttpBackend]],
        request: tuple[str, str, Mapping[str, str], Body],
        errors: NetworkErrors,
        action: str,
        max_size: int,
    ) -> None:
        self._find_backend = find_backend
        self._request = request
        self._errors = errors
        self._action = action
        self._max_size = max_size

    async def __aenter__(self) -> tuple[Response, AsyncIterator[bytes]]:
        with self._errors:
            self._backend = await self._find_backend()
            self._stream = await self._backend.begin(*self._request)
        head = Response(self._stream.status, self._stream.headers)
        return head, _Pieces(self._stream, self._action, self._max_size)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._errors:
            await self._backend.end(self._stream)
        self._errors.__exit__(kind, error, trace)


class _Pieces(AsyncIterator[bytes]):
    """The body of an answer, with a limit of its size."""

    def __init__(self, stream: ResponseStream, action: str, max_size: int) -> None:
        self._stream = stream
        self._action = action
        self._max_size = max_size
        self._read = 0
        self._is_checked = False

    async def __anext__(self) -> bytes:
        if not self._is_checked:
            self._check_codings()
        piece = await self._stream.next_piece()
        if piece is None:
            raise StopAsyncIteration
        self._read += len(piece)
        if self._read > self._max_size:
            error = UpstreamProtocolError(
                f"{self._action} failed: the answer is longer than {self._max_size} bytes, and the rest was not read; "
                "check that the address is that of a MictlanX router"
            )
            error.too_long = True
            raise error
        return piece

    def _check_codings(self) -> None:
        self._is_checked = True
        for name, usual in _CODINGS:
            if (coding := self._stream.headers.get(name, usual)).lower() != usual:
                raise UpstreamProtocolError(
                    f"{self._action} failed: the answer is compressed or encoded ({excerpt(coding, 40)}), which was "
                    "not requested; check whether a proxy does it"
                )
