"""
One address that answers the storage protocol, router or peer: how a request is sent, and what a refusal stands for.

Knows the transport, the errors and the models; which requests there are is said by the rooms above it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Self, TypeAlias, TypeVar
from urllib.parse import quote

from pydantic import BaseModel
from pydantic import ValidationError as InvalidModel

from airflow_provider_mictlanx.client.concurrency import Threads
from airflow_provider_mictlanx.client.errors import (
    AuthenticationError,
    IntegrityError,
    MictlanXError,
    NotFoundError,
    PermissionError,
    RequestTimeoutError,
    UnknownError,
    UpstreamProtocolError,
    ValidationError,
)
from airflow_provider_mictlanx.client.protocol.stream import DataStream
from airflow_provider_mictlanx.client.texts import excerpt
from airflow_provider_mictlanx.client.transport.connections import Response, Transport
from airflow_provider_mictlanx.client.transport.headers import check_headers
from airflow_provider_mictlanx.client.transport.limits import MAX_SMALL_RESPONSE
from airflow_provider_mictlanx.client.transport.tls import Verify
from airflow_provider_mictlanx.client.validation import check_timeout

M = TypeVar("M", bound=BaseModel)

StatusHandler: TypeAlias = Callable[[int, Any, str], MictlanXError | None]
"""Knows what a refusal (status, detail, what was being done) means for one kind of request; None where it does not."""

Body: TypeAlias = bytes | bytearray | memoryview | Iterable[bytes] | AsyncIterable[bytes]
"""The bytes of a chunk, at once or in pieces."""

MAX_THREADS = 2
"""The most threads of an endpoint: they write files, and read long listings."""


class Endpoint:
    """
    One address that answers the storage protocol.

    :param name: what it is called in logs and errors
    :param ip_addr: host name or address, with the path of a proxy behind it if there is one (``example.org/mictlanx``)
    :param port: 1–65535; 0 or -1 for the protocol's own port
    :param protocol: ``http`` or ``https``
    :param http2: whether to offer HTTP/2, over ``https``; ``ValidationError`` without the package ``h2``
    :param api_version: of the paths, ``/api/v{api_version}``
    :param transport: the connections to use; they are the giver's to close. Where none is given, own ones are made
    """

    kind: ClassVar[str]
    """What it is: ``router`` or ``peer``."""

    https_has_port: ClassVar[bool] = True
    """Whether the port is part of the address with ``https`` too."""

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
        """Close the connections, unless they were given, and let the threads end."""
        if self._own_transport:
            await self._transport.aclose()
        self._threads.close()

    def base_url(self) -> str:
        """Give the address before ``/api``."""
        port = f":{self.port}" if self.port > 0 and (self.protocol == "http" or self.https_has_port) else ""
        path = f"/{self.path}" if self.path else ""
        return f"{self.protocol}://{self.host}{port}{path}"

    def get_addr(self) -> str:
        """Give ``host:port``, as they were given."""
        return f"{self.ip_addr}:{self.port}"

    def _action(self, doing: str, bucket_id: str, key: str) -> str:
        return f"{doing} {bucket_id}/{key} at {self._label}"

    async def _send(
        self,
        method: str,
        path: str,
        action: str,
        timeout: float,
        headers: Mapping[str, str],
        verify: Verify,
        *,
        status_handler: StatusHandler | None = None,
        content_type: str = "",
        **request: Any,
    ) -> Response:
        """Send a request; a status other than 2xx is raised as the error that it stands for."""
        if content_type:
            headers = {**headers, "Content-Type": content_type}
        response = await self._transport.send(
            method, self._root + path, action=action, timeout=timeout, verify=verify, headers=headers, **request
        )
        if not 200 <= response.status < 300:
            raise _error_for_status(response, action, status_handler)
        return response

    async def _json(self, model: type[M], method: str, path: str, action: str, *how: Any, **request: Any) -> M:
        """Send a request as ``_send`` does, and give the answer as the model that it has to fit."""
        return await self._parse(model, await self._send(method, path, action, *how, **request), action)

    async def _parse(self, model: type[M], response: Response, action: str) -> M:
        """
        Give an answer as the model that it has to fit; a long one is read in a thread, as a triggerer's loop has others to serve.

        pydantic comes back to Python for the tags of every chunk, and there the interpreter changes threads.
        """
        try:
            return await self._threads.run_sized(len(response.body), model.model_validate_json, response.body)
        except InvalidModel as error:
            said = f"{action}: the answer is none of the protocol's: {_first_fault(error)}"
            if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
                begins = _beginning(response.body)
                kind = response.headers.get("content-type", "of no type")
                said += f"; it is {kind} and begins {begins!r}"
            said += ". Does a MictlanX router answer at this address?"
            raise UpstreamProtocolError(said) from None

    async def _read(
        self,
        path: str,
        into: Callable[[bytes], Awaitable[None]],
        action: str,
        timeout: float,
        headers: Mapping[str, str],
        verify: Verify,
        *,
        max_size: int | None,
        status_handler: StatusHandler | None = None,
    ) -> int:
        """
        Read bytes piece by piece; gives how many they were.

        :param max_size: the most that there may be (bytes), else it is an ``IntegrityError``; None for any number
        """
        read = 0
        async with self._transport.stream(
            "GET",
            self._root + path,
            action=action,
            timeout=timeout,
            verify=verify,
            headers=headers,
            max_size=sys.maxsize if max_size is None else max_size + MAX_SMALL_RESPONSE,
        ) as (response, pieces):
            if response.status != 200:
                raise _error_for_status(await _with_body(response, pieces), action, status_handler)
            async for piece in pieces:
                read += len(piece)
                if max_size is not None and read > max_size:
                    raise IntegrityError(f"{action}: more came than the announced {max_size} bytes")
                await into(piece)
        return read

    async def _open(
        self,
        path: str,
        action: str,
        timeout: float,
        headers: Mapping[str, str],
        verify: Verify,
        *,
        status_handler: StatusHandler | None = None,
    ) -> DataStream:
        """Ask for bytes, and give them as a stream that has begun."""
        ends = asyncio.get_running_loop().time() + check_timeout(timeout)
        url = self._root + path
        try:
            async with asyncio.timeout_at(ends), AsyncExitStack() as stack:
                response, pieces = await stack.enter_async_context(
                    self._transport.open_stream(
                        "GET", url, action=action, timeout=timeout, verify=verify, headers=headers, max_size=sys.maxsize
                    )
                )
                if response.status != 200:
                    raise _error_for_status(await _with_body(response, pieces), action, status_handler)
                return DataStream(
                    stack.pop_all(), response, pieces, ends, f"{action}: no full answer within {timeout:g} s"
                )
        except TimeoutError as error:
            raise RequestTimeoutError(f"{action}: no answer within {timeout:g} s") from error


def parse_date(response: Response) -> float | None:
    """Give the time that an answer was sent at, by its sender's clock (seconds since 1970); None where it does not tell."""
    try:
        return parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except ValueError:
        return None


def quote_id(text: str, name: str) -> str:
    """
    Give an id as a part of a path; one that would lead to another path is a ``ValidationError``.

    :param name: of the parameter, for the error
    """
    if not isinstance(text, str) or text in ("", ".", ".."):
        raise ValidationError(f"{name} is a text that is neither empty nor '.' nor '..', not {text!r}")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise ValidationError(f"{name} {text!r} is no valid Unicode text: {error.reason}") from error


def as_body(chunks: Body) -> bytes | memoryview | AsyncGenerator[bytes]:
    """Give the body of a data request in a form that can be sent; what holds no bytes is a ``ValidationError``."""
    if isinstance(chunks, memoryview) and chunks.readonly and chunks.contiguous and chunks.itemsize == 1:
        return chunks
    if isinstance(chunks, bytes | bytearray | memoryview):
        return bytes(chunks)
    if isinstance(chunks, str | Mapping) or not isinstance(chunks, Iterable | AsyncIterable):
        raise ValidationError(f"the data is bytes, or an iterable of pieces of them, not a {type(chunks).__name__}")
    return _checked_pieces(chunks)


async def _checked_pieces(chunks: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[bytes]:
    if isinstance(chunks, AsyncIterable):
        async for piece in chunks:
            yield _checked_piece(piece)
    else:
        for piece in chunks:
            yield _checked_piece(piece)


def make_form(name: str, filename: str, content_type: str, data: bytes) -> tuple[str, bytes]:
    """Return the content type and the body of a form with one file in it; ``ValidationError`` for a malformed content type."""
    import httpx  # slow to import, and few requests need it

    check_headers({"Content-Type": content_type})
    try:
        request = httpx.Request("POST", "http://form", files={name: (filename, data, content_type)})
    except UnicodeEncodeError as error:
        raise ValidationError(f"filename {filename!r} is no valid Unicode text: {error.reason}") from error
    return request.headers["Content-Type"], request.read()


def _checked_piece(piece: object) -> bytes:
    if not isinstance(piece, bytes | bytearray | memoryview):
        raise ValidationError(f"the pieces of the data are bytes, not a {type(piece).__name__}")
    return bytes(piece)


def shorten(detail: Any) -> str:
    """Give what an answer says as a text that fits into an error."""
    return excerpt(detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False), 300)


def _check_address(kind: str, ip_addr: str, port: int, protocol: str, api_version: int) -> None:
    if not isinstance(ip_addr, str) or not ip_addr or "://" in ip_addr or re.search(r"[\s?#@\\]", ip_addr):
        shown = ip_addr.rpartition("@")[2] if isinstance(ip_addr, str) else ip_addr  # without user and password
        raise ValidationError(
            f"the ip_addr of a {kind} is a host name or an address, with the path of a proxy behind it if there is one "
            f"(example.org/mictlanx), not {shown!r}"
        )
    if isinstance(port, bool) or not isinstance(port, int) or not -1 <= port <= 65535:
        raise ValidationError(f"the port of a {kind} is 1–65535, or 0 for the protocol's own, not {port!r}")
    if protocol not in ("http", "https"):
        raise ValidationError(f"the protocol of a {kind} is http or https, not {protocol!r}")
    if isinstance(api_version, bool) or not isinstance(api_version, int) or api_version < 1:
        raise ValidationError(f"the api_version of a {kind} is a whole number from 1 on, not {api_version!r}")


def _first_fault(error: InvalidModel) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])


async def _with_body(response: Response, pieces: AsyncIterator[bytes]) -> Response:
    """Read as much of an error answer as anybody will look at."""
    body = b""
    async for piece in pieces:
        body += piece
        if len(body) > MAX_SMALL_RESPONSE:
            break
    return Response(response.status, response.headers, body)


def _detail(response: Response) -> Any:
    """Give what an error answer says: the JSON's ``detail``, else the beginning of the text."""
    try:
        found = json.loads(response.body)
    except (ValueError, RecursionError):
        return _beginning(response.body)
    return found.get("detail", found) if isinstance(found, dict) else found


def _beginning(body: bytes) -> str:
    """Give the first words of what is no JSON, without the tags of a page."""
    text = re.sub(r"<[^>]*>", " ", excerpt(body, 300))
    return excerpt(re.sub(r"\s+", " ", text).strip(), 160)


def _error_for_status(response: Response, action: str, status_handler: StatusHandler | None) -> MictlanXError:
    """Give the error that a status other than 2xx stands for; ``status_handler`` knows what it means for this very request."""
    status, detail = response.status, _detail(response)
    if status_handler and (error := status_handler(status, detail, action)):
        return error
    said = f"{action}: status {status}, {shorten(detail)}"
    match status:
        case 301 | 302 | 303 | 307 | 308:
            return UpstreamProtocolError(
                f"{action}: status {status}, a redirect, which is not followed; name the final address in the URI",
                status,
                transient=False,
                permanent=True,
            )
        case 400 | 422:
            return ValidationError(said, status)
        case 401:
            return AuthenticationError(f"{said}; check the token (the connection's password)", status)
        case 403:
            check = "check what the token (the connection's password) may do in this bucket, and what a proxy forbids"
            return PermissionError(f"{said}; {check}", status)
        case 404:
            return NotFoundError(said, status)
        case 413:
            return ValidationError(
                f"{said}; a proxy limits what one request may hold: choose a smaller chunk_size", status
            )
        case 408 | 409 | 425 | 429 | 499:
            return UnknownError(said, status)
        case _ if status >= 500:
            return UnknownError(f"{said}; the fault is the service's, and its log tells more", status)
    return UpstreamProtocolError(said, status)
