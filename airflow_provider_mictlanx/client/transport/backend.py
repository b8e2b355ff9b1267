"""The interface of the HTTP engines, their errors, and the body of a request."""

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

Body: TypeAlias = bytes | memoryview | AsyncGenerator[bytes]

SLICE = 256 * 1024
"""A longer body is handed to the engine in slices of this size (bytes)."""


class WireError(Exception):
    """
    Base of the errors of an engine. Its text is cleaned: it stands in tracebacks as the cause of the client's own error.

    :param message: what went wrong, maybe in the server's words
    """

    def __init__(self, message: str) -> None:
        super().__init__(clean(message))


class NotConnectedError(WireError):
    """The connection failed before anything was sent; the cause says why."""


class ProxyRefusedError(WireError):
    """
    The proxy opened no tunnel to the router.

    :param message: what it said
    :param status: what it answered; 0 where that is unknown
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class BrokenError(WireError):
    """The connection broke, or was closed before the answer's end."""


class InvalidResponseError(WireError):
    """The answer is malformed."""


class InvalidUrlError(WireError, ValueError):
    """The URL is malformed, or neither http nor https."""


class Upload:
    """
    The body of a request, and how much of it the engine took.

    A longer body is handed over in slices: an answer that comes before the last one acknowledges nothing. The system's buffers
    take about 3 MB at once: for a shorter body, what the server's system has not acknowledged yet is counted.

    :param body: the bytes, or pieces of a body whose length is not known
    """

    def __init__(self, body: Body) -> None:
        self.is_complete = False
        self.error: Exception | None = None
        """What a generator of pieces raised. Engines wrap it."""
        self.headers: dict[str, str] = {}
        self.content: bytes | AsyncGenerator[Any]
        if not isinstance(body, bytes | memoryview):
            self.content = self._take(body)
        elif len(body) <= SLICE:
            self.is_complete, self.content = True, bytes(body)
        else:
            self.headers["Content-Length"] = str(len(body))
            self.content = self._take(_slices(memoryview(body)))

    async def _take(self, pieces: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    if piece:  # an empty one would end a body that is sent in chunks
                        yield piece
        except Exception as error:
            self.error = error
            raise
        self.is_complete = True

    def check_answer(self, status: int, sock: socket | None) -> None:
        """
        Raise ``BrokenError`` for a success before the whole body was sent; a refusal is an answer at any time.

        :param sock: of a connection that serves this request alone
        """
        if status < 200:
            raise InvalidResponseError("it changes to another protocol, which was not asked for")
        if status < 300 and not (self.is_complete and _is_delivered(sock)):
            raise BrokenError(f"the server answered {status} before the whole body was sent")


def _is_delivered(sock: socket | None) -> bool:
    """Return whether the server's system has everything, as it does when an answer comes that was made of the whole request."""
    with suppress(OSError, ValueError):  # the connection ended, or the system does not count
        return sock is None or not any(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
    return True


async def _slices(body: memoryview) -> AsyncGenerator[memoryview]:
    for start in range(0, len(body), SLICE):
        yield body[start : start + SLICE]


class ResponseStream(Protocol):
    """A request whose answer has begun."""

    @property
    def status(self) -> int:
        """Return the status code."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers by name in lower case; values of the same name are joined by commas."""
        ...

    @property
    def sock(self) -> socket | None:
        """Return the socket of a connection that serves this request alone."""
        ...

    async def next_piece(self) -> bytes | None:
        """Wait for the next piece of the body; None at its end."""
        ...


class HttpBackend(ABC):
    """
    An HTTP engine with a pool of connections. It belongs to the event loop that it is made in.

    Both engines raise the errors of this module and what a body's generator raised. They follow no redirect, keep no cookie
    and transform no body.
    """

    async def begin(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> ResponseStream:
        """
        Send a request, once, and wait for the head of the answer.

        Bound the time from outside, by cancelling: the engine itself bounds only the connecting.
        """
        upload = Upload(body)
        try:
            stream = await self._request(method, url, {**headers, **upload.headers}, upload)
        except WireError:
            if upload.error is not None:
                raise upload.error from None
            raise
        try:
            upload.check_answer(stream.status, stream.sock)
        except WireError:
            await self.end(stream)
            raise
        return stream

    @abstractmethod
    async def _request(self, method: str, url: str, headers: Mapping[str, str], upload: Upload) -> ResponseStream:
        """Send a request and wait for the head of the answer; raise only errors of this module or of the caller."""

    @abstractmethod
    async def end(self, stream: Any) -> None:
        """Release the connection, wherever the answer is; also when the task is cancelled just then."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close all connections."""


BackendFactory: TypeAlias = Callable[[ssl.SSLContext | None, Proxy | None], HttpBackend]
"""Makes the engine of one event loop, for the TLS context of its https connections and the proxy that they go through."""
