"""Send a request to one router or peer, and parse its answer into a model or an error."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Self, TypeAlias, TypedDict, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from pydantic import BaseModel
from pydantic import ValidationError as InvalidModel

from airflow_provider_mictlanx.client.concurrency import Threads
from airflow_provider_mictlanx.client.errors import (
    IntegrityError,
    MictlanXError,
    RequestTimeoutError,
    UpstreamProtocolError,
    ValidationError,
)
from airflow_provider_mictlanx.client.models import Answer, BallListing
from airflow_provider_mictlanx.client.protocol.listing_parser import ListingParser
from airflow_provider_mictlanx.client.protocol.status_handlers import RequestKind, StatusHandlers, error_for_status
from airflow_provider_mictlanx.client.protocol.stream import DataStream
from airflow_provider_mictlanx.client.texts import excerpt
from airflow_provider_mictlanx.client.transport.backend import SizedBody
from airflow_provider_mictlanx.client.transport.connections import Response, Transport
from airflow_provider_mictlanx.client.transport.headers import add_headers, check_headers
from airflow_provider_mictlanx.client.transport.limits import MAX_LISTING, MAX_SMALL_RESPONSE
from airflow_provider_mictlanx.client.transport.network_errors import RequestScope
from airflow_provider_mictlanx.client.transport.tls import Verify
from airflow_provider_mictlanx.client.validation import check_int, check_timeout

M = TypeVar("M")
T = TypeVar("T")
A = TypeVar("A", bound=Answer)
B = TypeVar("B", bound=BaseModel)
L = TypeVar("L", bound=BallListing)

Headers: TypeAlias = Mapping[str, str]

Body: TypeAlias = bytes | bytearray | memoryview | SizedBody | Iterable[bytes] | AsyncIterable[bytes]
"""The bytes of a chunk, as one object or as an iterable."""

_UNQUOTED = re.compile(r"[A-Za-z0-9_-]+")

MAX_THREADS = 2
"""Maximum number of threads of an endpoint, for writing files."""


class RequestOptions(TypedDict):
    """Parameters common to all requests: the timeout (seconds), further headers, and how TLS is checked."""

    timeout: float
    headers: Headers
    verify: Verify


class Endpoint:
    """
    A router or a peer at one address.

    Parameters: see ``AsyncRouter``, and:

    :param name: its name in logs and errors
    """

    kind: ClassVar[str]
    """``router`` or ``peer``."""

    https_has_port: ClassVar[bool] = True
    """True if the address includes the port with ``https`` too."""

    status_handlers: ClassVar[StatusHandlers] = {}
    """Handlers of error statuses that depend on the kind of request, by kind and status."""

    def __init__(
        self,
        name: str,
        ip_addr: str,
        port: int,
        protocol: str,
        http2: bool,
        api_version: int,
        transport: Transport | None,
    ) -> None:
        _check_address(self.kind, ip_addr, port, protocol, api_version)
        host, _, path = ip_addr.partition("/")
        self.ip_addr = ip_addr
        self.host = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
        self.path = path.strip("/")
        self.port = port
        self.protocol = protocol
        self.http2 = http2
        self.api_version = api_version
        self._label = f"{self.kind} {name} ({self.base_url()})"
        self._root = f"{self.base_url()}/api/v{api_version}"
        self._own_transport = transport is None
        self._transport = transport or Transport(http2=http2)
        self._threads = Threads(MAX_THREADS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections unless the caller created them, and end the threads."""
        if self._own_transport:
            await self._transport.aclose()
        self._threads.close()

    def base_url(self) -> str:
        """Return the address before ``/api``."""
        port = f":{self.port}" if self.port > 0 and (self.protocol == "http" or self.https_has_port) else ""
        path = f"/{self.path}" if self.path else ""
        return f"{self.protocol}://{self.host}{port}{path}"

    def get_addr(self) -> str:
        """Return ``host:port`` as passed to the constructor."""
        return f"{self.ip_addr}:{self.port}"

    def _action(self, doing: str, bucket_id: str, key: str) -> str:
        return f"{doing} {bucket_id}/{key} at {self._label}"

    async def _send(
        self,
        method: str,
        path: str,
        action: str,
        options: RequestOptions,
        kind: RequestKind = "other",
        *,
        content_type: str = "",
        **request: Any,
    ) -> Response:
        """
        Send a request; raise the error of a status other than 2xx.

        :param action: description of the request, for errors
        :param kind: selects the ``status_handlers``
        :param request: ``content`` and ``max_size`` of ``Transport.send``
        """
        if content_type:
            options = {**options, "headers": add_headers(options["headers"], {"Content-Type": content_type})}
        response = await self._transport.send(method, self._root + path, action=action, **options, **request)
        if not 200 <= response.status < 300:
            raise self._error_from_response(response, action, kind)
        return response

    async def _confirm(self, method: str, path: str, action: str, options: RequestOptions, **request: Any) -> bool:
        """Send a request with ``_send`` whose success is its status; return True unless a web page answers it."""
        response = await self._send(method, path, action, options, **request)
        if response.body.lstrip().startswith(b"<"):  # a proxy's sign-in page comes with 200
            self._parse(bool, response, action)
        return True

    async def _json(self, model: type[M], method: str, path: str, action: str, *args: Any, **request: Any) -> M:
        """Send a request with ``_send``, and parse its answer."""
        return self._parse(model, await self._send(method, path, action, *args, **request), action)

    def _parse(self, model: type[M], response: Response, action: str) -> M:
        """Parse an answer into a model."""
        with self._invalid_answers(response, action):
            return msgspec.json.decode(response.body, type=model)

    async def _list(
        self,
        model: type[L],
        path: str,
        action: str,
        options: RequestOptions,
        kind: RequestKind = "other",
        max_size: int = MAX_LISTING,
    ) -> tuple[L, Response]:
        """
        Request a listing, and parse its rows while they arrive; return it with the head of its answer.

        The event loop runs other tasks between the pieces, so a large bucket does not stall a triggerer.
        """
        stream = self._transport.stream("GET", self._root + path, action=action, max_size=max_size, **options)
        async with RequestScope(options["timeout"], action), stream as (response, pieces):
            await self._check_status(response, pieces, action, kind)
            parser = ListingParser(model)
            fed = False
            with self._invalid_answers(response, action, parser):
                async for piece in pieces:
                    if fed:  # a short listing is one piece
                        await asyncio.sleep(0)
                    parser.feed(piece)
                    fed = True
                return parser.finish(), response

    @contextmanager
    def _invalid_answers(
        self, response: Response, action: str, parser: ListingParser[Any] | None = None
    ) -> Iterator[None]:
        """Raise ``UpstreamProtocolError`` for an answer that does not follow the protocol."""
        try:
            yield
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            said = f"{action} failed: unexpected answer: {error}"
            if not isinstance(error, msgspec.ValidationError):
                content_type = response.headers.get("content-type", "unknown")
                body = parser.beginning if parser else response.body
                said += f" (content type {content_type}, beginning with {_beginning(body)!r})"
            raise UpstreamProtocolError(f"{said}; check that a MictlanX {self.kind} answers at this address") from None

    async def _read(
        self,
        path: str,
        into: Callable[[bytes], Awaitable[None]],
        action: str,
        options: RequestOptions,
        kind: RequestKind,
        max_size: int | None,
    ) -> int:
        """
        Read data piece by piece; return the number of bytes.

        :param max_size: maximum size (bytes); ``IntegrityError`` if there are more; None for no limit
        """
        read = 0
        limit = sys.maxsize if max_size is None else max_size + MAX_SMALL_RESPONSE
        url = self._root + path
        stream = self._transport.stream("GET", url, action=action, max_size=limit, **options)
        async with RequestScope(options["timeout"], action), stream as (response, pieces):
            await self._check_status(response, pieces, action, kind)
            async for piece in pieces:
                read += len(piece)
                if max_size is not None and read > max_size:
                    raise IntegrityError(f"{action} failed: received more than the announced {max_size} bytes")
                await into(piece)
        return read

    async def _open(self, path: str, action: str, options: RequestOptions, kind: RequestKind) -> DataStream:
        """Request data; return it as a stream once the answer has begun."""
        timeout = check_timeout(options["timeout"])
        ends = asyncio.get_running_loop().time() + timeout
        opened = self._transport.stream("GET", self._root + path, action=action, max_size=sys.maxsize, **options)
        try:
            async with asyncio.timeout_at(ends), AsyncExitStack() as stack:
                response, pieces = await stack.enter_async_context(_end_when_dropped(opened))
                await self._check_status(response, pieces, action, kind)
                too_late = f"{action} failed: no complete answer within {timeout:g} s"
                return DataStream(stack.pop_all(), response, pieces, ends, too_late)
        except TimeoutError as error:
            raise RequestTimeoutError(f"{action} failed: no answer within {timeout:g} s") from error

    async def _check_status(
        self, response: Response, pieces: AsyncIterator[bytes], action: str, kind: RequestKind
    ) -> None:
        """Raise the error of a status other than 200, with the beginning of the body."""
        if response.status == 200:
            return
        body = b""
        async for piece in pieces:
            body += piece
            if len(body) > MAX_SMALL_RESPONSE:
                break
        raise self._error_from_response(Response(response.status, response.headers, body), action, kind)

    def _error_from_response(self, response: Response, action: str, kind: RequestKind) -> MictlanXError:
        return error_for_status(self.status_handlers, kind, response.status, _detail(response), action)


@asynccontextmanager
async def _end_when_dropped(context: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
    """Enter a context, and leave it when the caller drops the generator: asyncio closes unused generators."""
    async with context as entered:
        yield entered


def parse_date(response: Response) -> float | None:
    """Return the time of an answer by its sender's clock (seconds since 1970); None if unknown."""
    try:
        return parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except (ValueError, OverflowError):
        return None


def build_model(model: type[B], **fields: Any) -> B:
    """Build the body of a request; raise ``ValidationError`` that names an invalid field."""
    try:
        return model(**fields)
    except InvalidModel as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        constraint = fault["msg"].removeprefix("Input should be ")
        raise ValidationError(f"{where} must be {constraint}, got {fault['input']!r}") from None


def page_query(start: int, end: int) -> str:
    """Return the query for a part of a list; empty for the service's default."""
    check_int("start", start, least=0)
    check_int("end", end, least=0)
    return "?" + urlencode({"start": start, "end": end}) if start or end else ""


def quote_id(text: str, name: str) -> str:
    """
    Quote an id as a path segment; raise ``ValidationError`` for one that would change the path.

    :param name: of the parameter, for the error
    """
    if not isinstance(text, str) or text in ("", ".", ".."):
        raise ValidationError(f"{name} must be a str other than '', '.' and '..', got {text!r}")
    if _UNQUOTED.fullmatch(text):  # faster than quote, which every request needs several times
        return text
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise ValidationError(f"{name} must be valid Unicode, got {text!r}: {error.reason}") from error


def as_body(chunks: Body) -> bytes | memoryview | SizedBody | AsyncGenerator[bytes]:
    """Convert the data of a chunk to a body that the transport accepts."""
    if isinstance(chunks, SizedBody):
        return chunks
    if isinstance(chunks, memoryview) and chunks.readonly and chunks.contiguous and chunks.itemsize == 1:
        return chunks
    return bytes(chunks) if isinstance(chunks, bytes | bytearray | memoryview) else _pieces(chunks)


async def _pieces(chunks: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    if isinstance(chunks, AsyncIterable):
        async for piece in chunks:
            yield _as_bytes(piece)
    else:
        for piece in chunks:
            yield _as_bytes(piece)


def _as_bytes(piece: object) -> bytes:
    if not isinstance(piece, bytes | bytearray | memoryview):  # bytes(5) would be five zeros
        raise ValidationError(
            f"chunks must be bytes or an iterable of bytes, got an item of type {type(piece).__name__}"
        )
    return bytes(piece)


def make_form(name: str, filename: str, content_type: str, data: bytes) -> tuple[str, bytes]:
    """Build a multipart form with one file; return its content type and its body."""
    import httpx  # slow to import, and few requests need it

    check_headers({"Content-Type": content_type})
    try:
        request = httpx.Request("POST", "http://form", files={name: (filename, data, content_type)})
    except UnicodeEncodeError as error:
        raise ValidationError(f"filename must be valid Unicode, got {filename!r}: {error.reason}") from error
    return request.headers["Content-Type"], request.read()


def _check_address(kind: str, ip_addr: str, port: int, protocol: str, api_version: int) -> None:
    if not isinstance(ip_addr, str) or not ip_addr or "://" in ip_addr or re.search(r"[\s?#@\\]", ip_addr):
        shown = ip_addr.rpartition("@")[2] if isinstance(ip_addr, str) else ip_addr  # without user and password
        raise ValidationError(
            f"ip_addr of a {kind} must be a host name or an address, optionally followed by the path of a proxy "
            f"(example.org/mictlanx), got {shown!r}"
        )
    if isinstance(port, bool) or not isinstance(port, int) or not -1 <= port <= 65535:
        raise ValidationError(f"port of a {kind} must be 1–65535, or 0 for the protocol's default, got {port!r}")
    if protocol not in ("http", "https"):
        raise ValidationError(f"protocol of a {kind} must be http or https, got {protocol!r}")
    check_int(f"api_version of a {kind}", api_version)


def _detail(response: Response) -> Any:
    """Return the ``detail`` of an error answer's JSON, or the beginning of its text."""
    try:
        found = json.loads(response.body)
    except (ValueError, RecursionError):
        return _beginning(response.body)
    return found.get("detail", found) if isinstance(found, dict) else found


def _beginning(body: bytes) -> str:
    """Return the beginning of an answer that is not JSON, without HTML tags."""
    text = re.sub(r"<[^>]*>", " ", excerpt(body, 300))
    return excerpt(re.sub(r"\s+", " ", text).strip(), 160)
