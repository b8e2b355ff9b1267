"""Interface of the HTTP engines, their errors, and the body of a request."""

from __future__ import annotations

import fcntl
import ssl
import termios
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from socket import socket
from typing import Any, Protocol, TypeAlias

from airflow_provider_mictlanx.client.texts import clean
from airflow_provider_mictlanx.client.transport.proxies import Proxy


class SizedBody(ABC):
    """A body of known size, produced piece by piece and anew for every request."""

    size: int

    @abstractmethod
    def __aiter__(self) -> AsyncGenerator[bytes | memoryview]:
        """Produce the pieces."""


Body: TypeAlias = bytes | memoryview | SizedBody | AsyncGenerator[bytes]

SLICE = 256 * 1024
"""A longer body is passed to the engine in slices of this size (bytes)."""


class WireError(Exception):
    """
    Base of the errors of an engine. The message is cleaned, because tracebacks show it as the cause of a client error.

    :param message: the failure; it may contain text of the server
    """

    def __init__(self, message: str) -> None:
        super().__init__(clean(message))


class NotConnectedError(WireError):
    """The connection failed before anything was sent; see ``__cause__``."""


class ProxyRefusedError(WireError):
    """
    The proxy opened no tunnel to the router.

    :param message: the proxy's reason
    :param status: the proxy's HTTP status; 0 if unknown
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class BrokenError(WireError):
    """The connection broke, or was closed before the end of the answer."""


class InvalidResponseError(WireError):
    """The answer is malformed."""


class InvalidUrlError(WireError, ValueError):
    """The URL is malformed, or is neither http nor https."""


class Upload:
    """
    The body of a request; it knows whether the body was completely sent.

    A long body is passed to the engine in slices. An answer before the last slice acknowledges nothing. About 3 MB can
    wait in the buffers of this system: ``_is_delivered`` checks that the server's system has received them.

    :param body: the bytes, or pieces of a body of unknown length
    """

    def __init__(self, body: Body) -> None:
        self.is_complete = False
        self.error: Exception | None = None
        """The error that the generator of pieces raised, because engines wrap it."""
        self.headers: dict[str, str] = {}
        self.content: bytes | memoryview | AsyncGenerator[Any]
        if isinstance(body, SizedBody):
            self.headers["Content-Length"] = str(body.size)
            self.content = self._take(aiter(body))
        elif not isinstance(body, bytes | memoryview):
            self.content = self._take(body)
        elif len(body) <= SLICE:
            self.is_complete, self.content = True, body
        else:
            self.headers["Content-Length"] = str(len(body))
            self.content = self._take(_slices(memoryview(body)))

    async def _take(self, pieces: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    if piece:  # an empty piece would end a chunked body
                        yield piece
        except Exception as error:
            self.error = error
            raise
        self.is_complete = True

    def check_answer(self, status: int, sock: socket | None) -> None:
        """
        Raise ``BrokenError`` for a success before the complete body was sent; an error status may come at any time.

        :param sock: socket of a connection that serves only this request
        """
        if status < 200:
            raise InvalidResponseError("the server switched to another protocol, which was not requested")
        if status < 300 and not (self.is_complete and _is_delivered(sock)):
            raise BrokenError(f"the server answered {status} before the complete body was sent")


def _is_delivered(sock: socket | None) -> bool:
    """Return whether the server's system has acknowledged all sent bytes, which a correct answer implies."""
    with suppress(OSError, ValueError):  # the connection ended, or the system has no such count
        return sock is None or not any(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
    return True


async def _slices(body: memoryview) -> AsyncGenerator[memoryview]:
    for start in range(0, len(body), SLICE):
        yield body[start : start + SLICE]


class ResponseStream(Protocol):
    """An answer whose headers have arrived."""

    @property
    def status(self) -> int:
        """Return the status code."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers by lower-case name; values of the same name are joined by commas."""
        ...

    @property
    def sock(self) -> socket | None:
        """Return the socket of a connection that serves only this request, else None."""
        ...

    async def next_piece(self) -> bytes | None:
        """Return the next piece of the body, or None at its end."""
        ...


class HttpBackend(ABC):
    """
    An HTTP engine with a pool of connections, for the event loop that created it.

    Both engines raise only the errors of this module and the error of a body's generator. They follow no redirects,
    store no cookies and decode no bodies.
    """

    async def begin(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> ResponseStream:
        """
        Send a request once, and return the answer after its headers have arrived.

        The caller limits the time by cancelling: the engine itself limits only connecting.
        """
        upload = Upload(body)
        try:
            stream = await self._request(method, url, {**headers, **upload.headers}, upload)
        except WireError:
            if upload.error is not None:
                raise upload.error from None
            raise
        try:
            upload.check_answer(stream.status, stream.sock if body else None)
        except WireError:
            await self.end(stream)
            raise
        return stream

    @abstractmethod
    async def _request(self, method: str, url: str, headers: Mapping[str, str], upload: Upload) -> ResponseStream:
        """Send a request and return its answer; raise only errors of this module or of the caller."""

    @abstractmethod
    async def end(self, stream: Any) -> None:
        """Release the connection, even if the answer was not read or the task is cancelled."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close all connections."""


BackendFactory: TypeAlias = Callable[[ssl.SSLContext | None, Proxy | None], HttpBackend]
"""Function that creates the engine of one event loop, for a TLS context and a proxy."""
