"""What an HTTP backend has to offer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol, TypeAlias

from airflow_provider_mictlanx.client.texts import clean

Body: TypeAlias = bytes | memoryview | AsyncGenerator[bytes]


class WireError(Exception):
    """
    Base of the errors of a carrier. Its text is cleaned: it stands in tracebacks as the cause of the client's own error.

    :param message: what went wrong, maybe in the server's words
    """

    def __init__(self, message: str) -> None:
        super().__init__(clean(message))


class NotConnectedError(WireError):
    """There is no connection; the cause says why. Nothing was sent."""


class BrokenError(WireError):
    """The connection broke, or was closed before the answer's end."""


class InvalidResponseError(WireError):
    """What came is no HTTP/1.1."""


class InvalidUrlError(WireError, ValueError):
    """The URL leads nowhere."""


class ResponseStream(Protocol):
    """A request whose answer has begun."""

    @property
    def status(self) -> int:
        """The status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By name in lower case."""
        ...

    async def next_piece(self) -> bytes | None:
        """Give the next piece of the body as it comes, None at its end."""
        ...


class HttpBackend(Protocol):
    """What carries requests: ``Pool`` here, and one for HTTP/2. Both raise the errors of this module."""

    async def begin(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> ResponseStream:
        """Send a request, and wait for the answer's head; ``InvalidUrlError`` where the URL is none."""
        ...

    async def end(self, stream: ResponseStream) -> None:
        """Let go of the connection, wherever the answer is; also when the task is cancelled just then."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
