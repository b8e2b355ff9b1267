"""The aiohttp engine, the default, for HTTP/1.1. The first request imports it, because the import takes 0.1 s."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from yarl import URL

from airflow_provider_mictlanx.client.texts import excerpt
from airflow_provider_mictlanx.client.transport import backend
from airflow_provider_mictlanx.client.transport.limits import CONNECT_TIMEOUT, IDLE_SECONDS
from airflow_provider_mictlanx.client.transport.proxies import Proxy

READ_BUFFER = 64 * 1024
"""aiohttp stops reading from a connection while twice this size (bytes) waits for the reader."""

_ERRORS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], type[backend.WireError]], ...] = (
    ((aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError), backend.InvalidUrlError),
    ((aiohttp.ClientConnectorError, aiohttp.ClientConnectorCertificateError), backend.NotConnectedError),
    (aiohttp.ConnectionTimeoutError, backend.NotConnectedError),
    ((aiohttp.ClientResponseError, HttpProcessingError), backend.InvalidResponseError),
    (Exception, backend.BrokenError),
)


class _Response(aiohttp.ClientResponse):
    """
    A response that drops its connection if no further request can use it.

    aiohttp only closes such a connection, and so waits until the server has read the buffered bytes. aiohttp also
    accepts an answer that arrived while the connection was idle.
    """

    protocol: ResponseHandler | None = None
    transport: asyncio.Transport | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        self.protocol, self.transport = connection.protocol, connection.transport
        try:
            # The request was written just now: bytes that have already arrived cannot answer it.
            if self.protocol is None or self.protocol.should_close:
                raise backend.BrokenError("it was closed, or the server sent more than the answers to its requests")
            return await super().start(connection)
        except BaseException:
            self.abort()
            raise

    @property
    def was_reset(self) -> bool:
        """Return whether a reset ended a body without Content-Length, for which aiohttp raises no error."""
        is_framed = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        is_lost = self.protocol is not None and isinstance(self.protocol.exception(), OSError)
        return is_lost and not is_framed and self.content is not aiohttp.EMPTY_PAYLOAD

    def abort(self) -> None:
        if self.transport is not None:
            with suppress(AttributeError):  # asyncio's transport raises it after it has closed itself
                self.transport.abort()
        self.close()


class AiohttpStream:
    """An answer whose headers have arrived."""

    def __init__(self, response: _Response, upload: backend.Upload) -> None:
        self.status = response.status
        self.headers = {name.lower(): ", ".join(response.headers.getall(name)) for name in response.headers}
        self.sock = response.transport.get_extra_info("socket") if response.transport else None
        self.response = response
        self.upload = upload

    async def next_piece(self) -> bytes | None:
        """Return the next piece of the body, or None at its end."""
        with _IN_THE_ANSWER:
            piece = await self.response.content.readany()
        if not piece and self.response.was_reset:
            raise backend.BrokenError("the server reset it in the middle of the answer")
        return piece or None


class AiohttpBackend(backend.HttpBackend):
    """
    A pool of HTTP/1.1 connections.

    :param context: TLS context; None for http
    :param proxy: proxy of all requests
    """

    def __init__(self, context: ssl.SSLContext | None = None, proxy: Proxy | None = None) -> None:
        connector = aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=IDLE_SECONDS,
            ssl=context or True,
            resolver=aiohttp.ThreadedResolver(),  # the system resolver, even if aiodns is installed
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT),
            skip_auto_headers=("Content-Type",),
            auto_decompress=False,
            read_bufsize=READ_BUFFER,
            response_class=_Response,
            middlewares=(_send_once,),
            proxy=proxy.url if proxy else None,
        )
        headers = proxy.headers if proxy else {}
        self._tunnel_headers, self._headers = (headers, {}) if context else ({}, headers)

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], upload: backend.Upload
    ) -> AiohttpStream:
        with _BEFORE_THE_ANSWER:
            response = await self._session.request(
                method,
                _parse_url(url),
                data=upload.content or None,
                headers={**headers, **self._headers},
                proxy_headers=self._tunnel_headers or None,
                allow_redirects=False,
            )
        return AiohttpStream(cast(_Response, response), upload)

    async def end(self, stream: AiohttpStream) -> None:
        """Release the connection; drop it if the request or the answer is incomplete."""
        if not (stream.response.closed and stream.upload.is_complete):
            stream.response.abort()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Raise the errors after which aiohttp would repeat a request that the server may already have executed."""
    with _BEFORE_THE_ANSWER:
        return await handler(request)


def _parse_url(url: str) -> URL:
    """Parse a URL, and quote it only if it contains characters that are not allowed in a URL."""
    is_quoted = url.isascii() and url.isprintable() and " " not in url
    try:
        parsed = URL(url, encoded=is_quoted)
        parsed.explicit_port  # noqa: B018 - parses the port now, so that errors are raised here
        return parsed
    except ValueError as error:
        raise backend.InvalidUrlError(f"URL must be valid, got {url!r}: {error}") from None


class _TranslatedErrors:
    """
    Context manager that converts errors of aiohttp.

    Their cause is the system's error: the text of aiohttp's may be the server's.
    """

    def __init__(self, when: str) -> None:
        self._when = when

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            _translate(error, self._when)


_BEFORE_THE_ANSWER = _TranslatedErrors("without sending a response")
_IN_THE_ANSWER = _TranslatedErrors("in the middle of the answer")


def _translate(error: BaseException, when: str) -> None:
    """Raise the error of this package for one of aiohttp."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        raise backend.ProxyRefusedError(f"{error.status} {excerpt(error.message, 200)}", error.status) from None
    if isinstance(error, aiohttp.ServerDisconnectedError):
        raise backend.BrokenError(f"the server closed it {when}") from None
    if isinstance(error, aiohttp.ClientError | HttpProcessingError):
        said = getattr(error, "message", "") or str(error) or type(error).__name__
        kind = next(kind for library, kind in _ERRORS if isinstance(error, library))
        cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error.__cause__)
        raise kind(excerpt(" ".join(said.split()), 200)) from cause if kind is backend.NotConnectedError else None
