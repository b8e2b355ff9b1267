"""
HTTP to the routers and peers: who carries a request, what time and size are allowed, and what its failures are called.

HTTP/1.1 is carried by ``wire.py``, HTTP/2 by httpx (``http2.py``). One pool of connections for every event loop, process and TLS setting: a pool is never shared between loops or across a fork.
Redirects are not followed (the token goes to the configured routers only), answers are not decompressed (nothing here is
ever sent compressed) and are bounded in size, and proxies and ``.netrc`` of the environment are not used.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from airflow_provider_mictlanx import __version__
from airflow_provider_mictlanx.client.errors import (
    CertificateError,
    ConnectFailedError,
    DNSResolutionError,
    MictlanXError,
    NetworkError,
    RequestTimeoutError,
    UpstreamProtocolError,
    ValidationError,
)
from airflow_provider_mictlanx.client.texts import is_secret_name, remember_header, remember_secret
from airflow_provider_mictlanx.client.wire import (
    CONNECT_TIMEOUT,
    Body,
    BrokenError,
    Carrier,
    Exchange,
    NoHttpError,
    NotConnectedError,
    NoUrlError,
    Pool,
)

Verify: TypeAlias = "bool | str | ssl.SSLContext"
"""True = the system's authorities, False = no check, a text = path of a CA file, or a context made by the caller."""

SMALL_ANSWER = 1024 * 1024
"""The most that an answer may hold that is neither data nor a listing (bytes)."""

LONGEST_LIST_OF_PEERS = 16 * 1024 * 1024
"""The most that the list of peers may hold (bytes): a hundred thousand of them."""

LONGEST_LISTING = 2 * 1024**3
"""The most that a listing may hold (bytes): a bucket's has no paging, and repeats itself for every peer."""

SLOW = "; is the router overloaded, or the timeout too short for it?"
"""What to look at after a time that was not enough."""

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
"""What stands where no further headers are given; equals ``{}``, and can't be changed."""

DEFAULT_HEADERS = {
    "User-Agent": f"airflow-provider-mictlanx/{__version__}",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers (names in lower case) and, unless it was streamed, the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Transport:
    """
    Sends requests, and turns whatever goes wrong on the way into a ``NetworkError``.

    :param token: sent as ``Authorization: Bearer`` with every request
    :param headers: sent with every request
    :param http2: whether to offer HTTP/2, which is agreed on over ``https`` only; ``ValidationError`` without the package
        ``h2``
    """

    def __init__(self, token: str | None = None, headers: Mapping[str, str] | None = None, http2: bool = False) -> None:
        if http2 and importlib.util.find_spec("h2") is None:
            raise ValidationError("http2 needs the package h2: pip install 'airflow-provider-mictlanx[http2]'")
        own = merged(DEFAULT_HEADERS, checked_headers(headers or {}))
        self._headers = merged(own, checked_headers({"Authorization": f"Bearer {token}"} if token else {}))
        if token:
            remember_secret(token)
        for name, value in (headers or {}).items():
            remember_header(name, value)
        self._http2 = http2
        self._carriers: dict[Verify | None, Carrier] = {}
        self._contexts: dict[Verify, ssl.SSLContext] = {}
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._pid = 0
        self._building = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Transport of {len(self._carriers)} pools>"

    async def send(
        self,
        method: str,
        url: str,
        *,
        what: str,
        timeout: float,
        verify: Verify,
        headers: Mapping[str, str] = NO_HEADERS,
        content: Body = b"",
        longest: int = SMALL_ANSWER,
    ) -> Answer:
        """
        Send a request and read the whole answer.

        :param what: what is being done, for errors
        :param timeout: for the whole request (seconds)
        :param content: the body: bytes, or an async generator of pieces
        :param longest: the most that the answer may hold (bytes)
        """
        request = (method, url, self._headers_with(headers), content)
        with _Translating(what, timeout):
            async with _within(timeout, what):
                carrier = await self._carrier(url, verify)
                exchange = await carrier.begin(*request)
                try:
                    parts = [piece async for piece in _pieces(exchange, what, longest)]
                finally:
                    await carrier.end(exchange)
        return Answer(exchange.status, exchange.headers, parts[0] if len(parts) == 1 else b"".join(parts))

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        what: str,
        timeout: float,
        verify: Verify,
        headers: Mapping[str, str] = NO_HEADERS,
        longest: int = SMALL_ANSWER,
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """
        Send a request and give the answer's head, and its body piece by piece while the context lasts.

        The parameters are those of ``send``; the time is bounded until the context ends.
        """
        async with (
            _within(timeout, what),
            self.unbounded(
                method, url, what=what, timeout=timeout, verify=verify, headers=headers, longest=longest
            ) as found,
        ):
            yield found

    @asynccontextmanager
    async def unbounded(
        self,
        method: str,
        url: str,
        *,
        what: str,
        timeout: float,
        verify: Verify,
        headers: Mapping[str, str] = NO_HEADERS,
        longest: int = SMALL_ANSWER,
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """
        Do as ``stream`` does, but leave the time to the caller; one task may begin with the answer and another one end.

        :param timeout: what the caller allows, for errors (seconds)
        """
        request = (method, url, self._headers_with(headers), b"")
        with _Translating(what, timeout):
            carrier = await self._carrier(url, verify)
            exchange = await carrier.begin(*request)
            try:
                yield Answer(exchange.status, exchange.headers), _pieces(exchange, what, longest)
            finally:
                await carrier.end(exchange)

    def _headers_with(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in (checked := checked_headers(headers)).items():
            if is_secret_name(name):  # the others are the protocol's: checksums and sizes, which errors have to show
                remember_header(name, value)
        return merged(self._headers, checked)

    async def aclose(self) -> None:
        """Close all connections of this loop."""
        carriers, self._carriers = self._carriers, {}
        if self._is_mine():
            for carrier in carriers.values():
                await carrier.aclose()

    def _is_mine(self) -> bool:
        return self._pid == os.getpid() and self._loop is not None and self._loop() is asyncio.get_running_loop()

    async def _carrier(self, url: str, verify: Verify) -> Carrier:
        if not self._is_mine():
            self._carriers = {}  # of another loop or process: not ours to close
            self._building = asyncio.Lock()
            self._loop, self._pid = weakref.ref(asyncio.get_running_loop()), os.getpid()
        key: Verify | None = verify if url.startswith("https") else None
        if carrier := self._carriers.get(key):
            return carrier
        async with self._building:
            if key not in self._carriers:
                self._carriers[key] = await self._made(key)
            return self._carriers[key]

    async def _made(self, verify: Verify | None) -> Carrier:
        if verify is None:
            return Pool(None)
        context = await self._context(verify)
        if not self._http2:
            return Pool(context)
        from airflow_provider_mictlanx.client.http2 import HttpxCarrier  # only some users need it, and it takes a while

        return HttpxCarrier(context)

    async def _context(self, verify: Verify) -> ssl.SSLContext:
        if isinstance(verify, ssl.SSLContext):
            return verify
        if verify not in self._contexts:
            self._contexts[verify] = await asyncio.to_thread(tls_context, verify)
        return self._contexts[verify]


def checked_timeout(timeout: float) -> float:
    """Give a number of seconds above 0 back; anything else is a ``ValidationError``."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise ValidationError(f"timeout is a number of seconds above 0, not {timeout!r}")
    return timeout


def tls_context(verify: bool | str) -> ssl.SSLContext:
    """
    Build a TLS context; takes tens of milliseconds, so it is done off the event loop.

    :param verify: True = the system's authorities, False = no check, a text = path of a CA file
    """
    if verify is False:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if verify is True:
        import httpx  # its set of authorities; a while to import, and most routers speak no TLS

        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=verify)
    except (OSError, ssl.SSLError) as error:
        raise ValidationError(f"the CA file {verify} can't be read: {error.strerror or error}") from error


async def _pieces(exchange: Exchange, what: str, longest: int) -> AsyncIterator[bytes]:
    encoding = exchange.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UpstreamProtocolError(
            f"{what}: the answer is compressed ({encoding}), which was not asked for; is a proxy doing it?"
        )
    read = 0
    while (piece := await exchange.next_piece()) is not None:
        read += len(piece)
        if read > longest:
            error = UpstreamProtocolError(
                f"{what}: the answer is longer than {longest} bytes; the rest was not read. Does a MictlanX router answer here?"
            )
            error.too_long = True
            raise error
        yield piece


@asynccontextmanager
async def _within(timeout: float, what: str) -> AsyncIterator[None]:
    """Bound a request."""
    scope = asyncio.timeout(checked_timeout(timeout))
    try:
        async with scope:
            yield
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise RequestTimeoutError(f"{what}: no full answer within {timeout:g} s{SLOW}") from error


_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?|")
_OURS = frozenset({"content-length", "transfer-encoding"})


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Give headers that can be sent; the error names a header, never its value, which may be a secret."""
    if not isinstance(headers, Mapping):
        raise ValidationError(f"headers are a dictionary of texts, not {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValidationError(f"header {name!r} is no text")
        if not _NAME.fullmatch(name):
            raise ValidationError(f"{name!r} is no name of an HTTP header")
        if not _VALUE.fullmatch(value):
            raise ValidationError(f"the value of header {name!r} holds characters that no header can hold")
        if name.lower() in _OURS:
            raise ValidationError(f"header {name!r} tells where the body ends, and is the client's own")
    return dict(headers)


def merged(headers: Mapping[str, str], further: Mapping[str, str]) -> Mapping[str, str]:
    """Give both together; of two with the same name, in whatever case, the further one."""
    if not further:
        return headers
    names = {name.lower() for name in further}
    return {**{name: value for name, value in headers.items() if name.lower() not in names}, **further}


class _Translating:
    """Turns what goes wrong on the way into the client's errors."""

    def __init__(self, what: str, timeout: float) -> None:
        self._what = what
        self._timeout = timeout

    def __enter__(self) -> None:
        pass

    def __exit__(self, exc_type: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NotConnectedError):
            raise _not_connected(error, self._what, self._timeout) from error
        if isinstance(error, BrokenError):
            hint = "; was the router, or a proxy before it, restarted?"
            if "without sending a response" in str(error):
                hint += " Or a router that speaks https does that to http"
            raise NetworkError(f"{self._what}: the connection broke ({error}){hint}") from error
        if isinstance(error, NoHttpError):
            raise UpstreamProtocolError(
                f"{self._what}: the answer is no HTTP: {error}; does a MictlanX router answer here?"
            ) from error
        if isinstance(error, NoUrlError):
            raise ValidationError(f"{self._what}: {error}") from error


def _not_connected(error: NotConnectedError, what: str, timeout: float) -> MictlanXError:
    why = str(error)
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return CertificateError(
                    f"{what}: the certificate was refused: {cause.verify_message or cause}. Name the CA that signed it "
                    "(ca_file), or correct the host name"
                )
            case socket.gaierror():
                return DNSResolutionError(f"{what}: the host name has no address ({cause.strerror}); is it right?")
            case ssl.SSLError():
                hint = (
                    "; it speaks no TLS there: is it protocol=http?" if cause.reason == "WRONG_VERSION_NUMBER" else ""
                )
                said = f"{what}: TLS failed: {cause.reason or cause}{hint}"
                return CertificateError(said, transient=True, permanent=False)
            case TimeoutError():
                return ConnectFailedError(f"{what}: no connection within {min(timeout, CONNECT_TIMEOUT):g} s")
            case OSError(errno=int(number)):
                why = os.strerror(number)  # "Connection refused"; asyncio says it in words of its own
    return ConnectFailedError(f"{what}: no connection ({why}); is the router running, and is this its address?")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
