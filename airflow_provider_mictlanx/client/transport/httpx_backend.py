"""The httpx engine: for HTTP/2, if the URI enables it, and for an httpx client of the caller."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast

import httpx

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.transport import backend
from airflow_provider_mictlanx.client.transport.limits import CONNECT_TIMEOUT, IDLE_SECONDS, MAX_IDLE
from airflow_provider_mictlanx.client.transport.proxies import Proxy

GRACE = 1.0
"""A cancelled request may continue for this time (seconds), so that its connection returns to the pool."""

_HTTPX_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, backend.WireError)

_END_OF_HTTP2 = re.compile(r"<(StreamReset|ConnectionTerminated)\b.*?\berror_code:([\w.]+)")
"""h2's message for the end of a stream or a connection. The bytes after it may contain half a secret in hexadecimal."""

_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=MAX_IDLE, keepalive_expiry=IDLE_SECONDS)
_TIMEOUT = httpx.Timeout(None, connect=CONNECT_TIMEOUT)


class HttpxStream:
    """An answer whose headers have arrived."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.response = response
        network = None if response.http_version == "HTTP/2" else response.extensions.get("network_stream")
        self.sock = network and network.get_extra_info("socket")
        # Unlike aiter_raw, the stream does not close itself. An event hook may have read it already.
        self._pieces: AsyncIterator[bytes] = (
            response.aiter_bytes()
            if response.is_stream_consumed
            else aiter(cast(httpx.AsyncByteStream, response.stream))
        )

    async def next_piece(self) -> bytes | None:
        """Return the next piece of the body, or None at its end."""
        try:
            return await anext(self._pieces, None)
        except Exception as error:  # httpx does not wrap some errors of h2
            raise _translate(error) from None  # its text may be the server's


class _OwnAnswer:
    """Refuse an answer that arrived with an earlier one: httpcore parses it before the event loop runs again."""

    def __init__(self) -> None:
        self._may_be_answered = False

    async def __call__(self, event: str, info: object) -> None:
        if event == "http11.receive_response_headers.started":
            self._may_be_answered = False
            asyncio.get_running_loop().call_soon(setattr, self, "_may_be_answered", True)
        elif event == "http11.receive_response_headers.complete" and not self._may_be_answered:
            raise backend.BrokenError("the server sent more than the answers to its requests")


class HttpxBackend(backend.HttpBackend):
    """
    A pool of httpx connections.

    A cancelled request may make httpx lose its connection, so every request runs in its own task.

    :param context: TLS context; None for http
    :param proxy: proxy of all requests
    :param http2: offer HTTP/2
    :param client: client of the caller to use instead; it is not closed, and serves one event loop
    """

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
        http2: bool = False,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._is_own = client is None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._client = client or httpx.AsyncClient(
            verify=context or False,
            http2=http2,
            limits=_LIMITS,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            trust_env=False,
            proxy=httpx.Proxy(proxy.url, headers=proxy.headers) if proxy else None,
        )

    async def begin(self, method: str, url: str, headers: Mapping[str, str], body: backend.Body) -> Any:
        """Send a request once, and return the answer after its headers have arrived."""
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise ValidationError(
                "http_client must be used in one event loop, got a second one; create one client for each"
            )
        sending = loop.create_task(super().begin(method, url, headers, body))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            self._keep(sending)
            sending.add_done_callback(self._discard)
            loop.call_later(GRACE, sending.cancel)
            raise

    async def _request(self, method: str, url: str, headers: Mapping[str, str], upload: backend.Upload) -> HttpxStream:
        try:
            request = self._client.build_request(
                method,
                url,
                headers=headers,
                content=bytes(upload.content) if isinstance(upload.content, memoryview) else upload.content,
                timeout=_TIMEOUT,
                extensions={"trace": _OwnAnswer()},
            )
            return HttpxStream(await self._client.send(request, stream=True, follow_redirects=False))
        except Exception as error:
            # Other errors come from an event hook of the caller's client.
            if error is upload.error or not (self._is_own or isinstance(error, _HTTPX_ERRORS)):
                raise
            raise _translate(error) from None  # its text may be the server's

    def _discard(self, sending: asyncio.Task[Any]) -> None:
        if not sending.cancelled() and sending.exception() is None:
            self._keep(asyncio.create_task(sending.result().response.aclose()))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        # Without this, asyncio logs the unread error.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def end(self, stream: HttpxStream) -> None:
        """Return the connection to the pool, even if the task is cancelled."""
        closing = asyncio.create_task(stream.response.aclose())
        self._keep(closing)
        try:
            await asyncio.shield(closing)
        except Exception as error:
            raise _translate(error) from None  # its text may be the server's

    async def aclose(self) -> None:
        """Close all connections, unless the client is the caller's, and wait for cancelled requests."""
        if self._is_own:
            await self._client.aclose()
        while self._background:
            await asyncio.wait(self._background)


def _translate(error: Exception) -> Exception:
    reason = str(error).rstrip(".") or type(error).__name__
    if event := _END_OF_HTTP2.match(reason):
        return backend.BrokenError(f"the server ended it: {event[1]}, error code {event[2]}")
    match error:
        case backend.WireError():
            return error
        case httpx.ProxyError():
            return backend.ProxyRefusedError(reason, int(reason[:3]) if reason[:3].isdigit() else 0)
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return backend.NotConnectedError(reason)
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return backend.InvalidUrlError(reason)
        case httpx.RemoteProtocolError() if "disconnected" in reason or "closed" in reason:
            return backend.BrokenError(reason)
        case httpx.NetworkError() | httpx.TimeoutException() | httpx.StreamError():
            return backend.BrokenError(reason)
    # This includes httpx's local errors: h2 raises them for malformed answers too.
    return backend.InvalidResponseError(reason)
