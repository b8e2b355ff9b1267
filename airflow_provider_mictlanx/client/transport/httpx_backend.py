"""HTTP/2 by httpx, where a URI asks for it. Another carrier behind ``connections.py``, with the errors of ``http1.py``."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import cast

import httpx

from airflow_provider_mictlanx.client.transport.backend import (
    Body,
    BrokenError,
    InvalidResponseError,
    InvalidUrlError,
    NotConnectedError,
    ResponseStream,
)
from airflow_provider_mictlanx.client.transport.limits import CONNECT_TIMEOUT, IDLE_SECONDS, MAX_IDLE


class HttpxResponseStream:
    """An answer that has begun."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.response = response
        # Unlike aiter_raw it leaves the closing to us.
        self._pieces: AsyncIterator[bytes] = aiter(cast(httpx.AsyncByteStream, response.stream))

    async def next_piece(self) -> bytes | None:
        """Give the next piece of the body, None at its end."""
        try:
            return await anext(self._pieces, None)
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise _translate(error) from None  # whose text may be the server's


class HttpxBackend:
    """
    A pool of connections that agree on HTTP/2 where the server speaks it.

    :param context: of TLS
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._client = httpx.AsyncClient(
            verify=context,
            http2=True,
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=MAX_IDLE, keepalive_expiry=IDLE_SECONDS
            ),
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT),
            follow_redirects=False,
            trust_env=False,
        )

    async def begin(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> HttpxResponseStream:
        """Send a request, and wait for the answer's head."""
        content = bytes(body) if isinstance(body, memoryview) else body
        try:
            request = self._client.build_request(method, url, headers=headers, content=content)
            return HttpxResponseStream(await self._client.send(request, stream=True))
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _translate(error) from None  # whose text may be the server's

    async def end(self, stream: ResponseStream) -> None:
        """Give the connection back to the pool, also when the task is cancelled just then: the pool would lose it for good."""
        closing = asyncio.ensure_future(cast(HttpxResponseStream, stream).response.aclose())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait([closing])
            raise
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise _translate(error) from None  # whose text may be the server's

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()


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
