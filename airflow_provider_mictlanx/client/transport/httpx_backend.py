"""HTTP by httpx: for HTTP/2 where a URI asks for it, and for a client that the caller brings."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast

import httpx

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.transport.backend import (
    Body,
    BrokenError,
    InvalidResponseError,
    InvalidUrlError,
    NotConnectedError,
    ResponseStream,
    Upload,
    WireError,
)
from airflow_provider_mictlanx.client.transport.limits import CONNECT_TIMEOUT, IDLE_SECONDS, MAX_IDLE

GRACE = 1.0
"""A cancelled request may go on for this long (seconds), so that its connection returns to the pool in order."""

_TIMEOUT = httpx.Timeout(None, connect=CONNECT_TIMEOUT)


class HttpxStream:
    """An answer that has begun."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.response = response
        # Unlike aiter_raw the stream leaves the closing to us. An event hook may have read it already.
        self._pieces: AsyncIterator[bytes] = (
            response.aiter_bytes()
            if response.is_stream_consumed
            else aiter(cast(httpx.AsyncByteStream, response.stream))
        )

    async def next_piece(self) -> bytes | None:
        """Wait for the next piece of the body; None at its end."""
        try:
            return await anext(self._pieces, None)
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise _translate(error) from None  # the text may be the server's


class HttpxBackend:
    """
    A pool of httpx, which loses a connection when a request is cancelled at a bad moment: requests run in tasks of their own.

    :param context: of TLS
    :param http2: whether to offer HTTP/2
    :param client: the caller's, to use instead; it is not closed, and serves one event loop
    """

    def __init__(
        self, context: ssl.SSLContext | None = None, http2: bool = False, client: httpx.AsyncClient | None = None
    ) -> None:
        self._is_own = client is None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._client = client or httpx.AsyncClient(
            verify=context or False,
            http2=http2,
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=MAX_IDLE, keepalive_expiry=IDLE_SECONDS
            ),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            trust_env=False,
        )

    async def begin(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> HttpxStream:
        """Send a request, once, and wait for the head of the answer."""
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise ValidationError(
                "http_client must be used in one event loop, got another one; bring a client for each"
            )
        sending = loop.create_task(self._send(method, url, headers, body))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            self._keep(sending)
            sending.add_done_callback(self._discard)
            loop.call_later(GRACE, sending.cancel)
            raise

    async def _send(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> HttpxStream:
        upload = Upload(body)
        try:
            request = self._client.build_request(
                method, url, headers={**headers, **upload.headers}, content=upload.content, timeout=_TIMEOUT
            )
            stream = HttpxStream(await self._client.send(request, stream=True, follow_redirects=False))
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _translate(error) from None  # the text may be the server's
        try:
            upload.check_answer(stream.status)
        except WireError:
            await stream.response.aclose()
            raise
        return stream

    def _discard(self, sending: asyncio.Task[HttpxStream]) -> None:
        if not sending.cancelled() and sending.exception() is None:
            self._keep(asyncio.create_task(sending.result().response.aclose()))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._background.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # read, so that asyncio does not report it

    async def end(self, stream: ResponseStream) -> None:
        """Return the connection to the pool, also when the task is cancelled just then."""
        closing = asyncio.create_task(cast(HttpxStream, stream).response.aclose())
        self._keep(closing)
        try:
            await asyncio.shield(closing)
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise _translate(error) from None  # the text may be the server's

    async def aclose(self) -> None:
        """Close all connections, unless the client is the caller's, and wait for cancelled requests to end."""
        if self._is_own:
            await self._client.aclose()
        while self._background:
            await asyncio.wait(self._background)


def _translate(error: Exception) -> Exception:
    reason = str(error) or type(error).__name__
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return NotConnectedError(reason)
        case httpx.RemoteProtocolError() if "disconnected" not in reason and "closed" not in reason:
            return InvalidResponseError(reason)
        case httpx.InvalidURL() | httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            return InvalidUrlError(reason)
    return BrokenError(reason.rstrip("."))
