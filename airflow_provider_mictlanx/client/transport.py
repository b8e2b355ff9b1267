"""
HTTP to the routers and peers: the one module that knows httpx.

One pooled client for every event loop, process and TLS setting: a pool is never shared between loops or across a fork.
Redirects are not followed (the token goes to the configured routers only), answers are not decompressed (nothing here is
ever sent compressed) and are bounded in size, and proxies and ``.netrc`` of the environment are not used.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import httpx

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

Verify: TypeAlias = "bool | str | ssl.SSLContext"
"""True = the system's authorities, False = no check, a text = path of a CA file, or a context made by the caller."""

SMALL_ANSWER = 1024 * 1024
"""The most that an answer may hold that is neither data nor a listing (bytes)."""

LONGEST_LISTING = 2 * 1024**3
"""The most that a listing may hold (bytes): a bucket's has no paging, and repeats itself for every peer."""

CONNECT_TIMEOUT = 10.0
"""The most that a connection attempt may take (seconds), so that the next router gets its turn."""

SHORTEST_SECRET = 4
"""What is shorter is no secret (characters), and would be found all over an answer."""

SLOW = "; is the router overloaded, or the timeout too short for it?"
"""What to look at after a time that was not enough."""

IDLE_SECONDS = 4.0
"""An idle connection is closed before the usual servers do so (uvicorn: 5 s), which would lose a request."""


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
        self._headers = {"Accept-Encoding": "identity", **_checked_headers(headers or {})}
        if token:
            self._headers.update(_checked_headers({"Authorization": f"Bearer {token}"}))
        self._secrets = [
            form.encode()
            for secret in (token, *(headers or {}).values())
            if secret and len(secret) >= SHORTEST_SECRET
            for form in {secret, json.dumps(secret)[1:-1]}
        ]
        self._http2 = http2
        self._clients: dict[Verify, httpx.AsyncClient] = {}
        self._contexts: dict[Verify, ssl.SSLContext] = {}
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._pid = 0
        self._building = asyncio.Lock()

    def without_secrets(self, body: bytes) -> bytes:
        """Give what an answer says with ``***`` for the token and the header values, which some servers send back."""
        for secret in self._secrets:
            body = body.replace(secret, b"***")
        return body

    def __repr__(self) -> str:
        return f"<Transport of {len(self._clients)} clients>"

    async def send(
        self,
        method: str,
        url: str,
        *,
        what: str,
        timeout: float,
        verify: Verify,
        headers: Mapping[str, str] | None = None,
        longest: int = SMALL_ANSWER,
        **body: Any,
    ) -> Answer:
        """
        Send a request and read the whole answer.

        :param what: what is being done, for errors
        :param timeout: for the whole request (seconds)
        :param longest: the most that the answer may hold (bytes)
        :param body: ``content=``, ``json=``, ``files=`` or ``params=`` as httpx has them
        """
        parts: list[bytes] = []
        async with self.stream(
            method, url, what=what, timeout=timeout, verify=verify, headers=headers, longest=longest, **body
        ) as (answer, pieces):
            async for piece in pieces:
                parts.append(piece)
        return Answer(answer.status, answer.headers, parts[0] if len(parts) == 1 else b"".join(parts))

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        what: str,
        timeout: float,
        verify: Verify,
        headers: Mapping[str, str] | None = None,
        longest: int = SMALL_ANSWER,
        **body: Any,
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """
        Send a request and give the answer's head, and its body piece by piece while the context lasts.

        The parameters are those of ``send``; the time is bounded until the context ends.
        """
        time_left = asyncio.timeout(checked_timeout(timeout))
        try:
            async with (
                time_left,
                self.unbounded(
                    method, url, what=what, timeout=timeout, verify=verify, headers=headers, longest=longest, **body
                ) as found,
            ):
                yield found
        except TimeoutError as error:
            if not time_left.expired():
                raise
            raise RequestTimeoutError(f"{what}: no full answer within {timeout:g} s{SLOW}") from error

    @asynccontextmanager
    async def unbounded(
        self,
        method: str,
        url: str,
        *,
        what: str,
        timeout: float,
        verify: Verify,
        headers: Mapping[str, str] | None = None,
        longest: int = SMALL_ANSWER,
        **body: Any,
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """
        Do as ``stream`` does, but leave the time to the caller; one task may begin with the answer and another one end.

        :param timeout: what the caller allows, for errors (seconds)
        """
        client = await self._client(url, verify)
        try:
            request = client.build_request(method, url, headers=_checked_headers(headers or {}), **body)
            response = await client.send(request, stream=True)
            try:
                answer = Answer(response.status_code, response.headers)
                yield answer, _pieces(response, what, longest)
            finally:
                await _close_for_sure(response)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _translated(error, what, timeout) from error

    async def aclose(self) -> None:
        """Close all connections of this loop."""
        clients, self._clients = self._clients, {}
        if self._is_mine():
            for client in clients.values():
                await client.aclose()

    def _is_mine(self) -> bool:
        return self._pid == os.getpid() and self._loop is not None and self._loop() is asyncio.get_running_loop()

    async def _client(self, url: str, verify: Verify) -> httpx.AsyncClient:
        if not self._is_mine():
            self._clients = {}  # of another loop or process: not ours to close
            self._building = asyncio.Lock()
            self._loop, self._pid = weakref.ref(asyncio.get_running_loop()), os.getpid()
        key: Verify = verify if url.startswith("https") else False
        if client := self._clients.get(key):
            return client
        async with self._building:
            if key not in self._clients:
                self._clients[key] = httpx.AsyncClient(
                    verify=await self._context(key),
                    http2=self._http2,
                    headers=self._headers,
                    limits=httpx.Limits(
                        max_connections=None, max_keepalive_connections=64, keepalive_expiry=IDLE_SECONDS
                    ),
                    timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT),
                    follow_redirects=False,
                    trust_env=False,
                )
            return self._clients[key]

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
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=verify)
    except (OSError, ssl.SSLError) as error:
        raise ValidationError(f"the CA file {verify} can't be read: {error.strerror or error}") from error


async def _close_for_sure(response: httpx.Response) -> None:
    """Give the connection back to the pool, also when the task is cancelled just then: the pool would lose it for good."""
    closing = asyncio.ensure_future(response.aclose())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait([closing])
        raise


async def _pieces(response: httpx.Response, what: str, longest: int) -> AsyncIterator[bytes]:
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UpstreamProtocolError(
            f"{what}: the answer is compressed ({encoding}), which was not asked for; is a proxy doing it?"
        )
    read = 0
    stream = cast(httpx.AsyncByteStream, response.stream)
    async for piece in stream:  # unlike aiter_raw it leaves the closing to us
        read += len(piece)
        if read > longest:
            raise UpstreamProtocolError(
                f"{what}: the answer is longer than {longest} bytes; the rest was not read. Does a MictlanX router answer here?"
            )
        yield piece


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Give headers that can be sent; the error names a header, never its value, which may be a secret."""
    if not isinstance(headers, Mapping):
        raise ValidationError(f"headers are a dictionary of texts, not {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValidationError(f"header {name!r} is no text")
        if not name or not name.isascii() or not all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name):
            raise ValidationError(f"{name!r} is no name of an HTTP header")
        if not value.isascii() or any(ord(c) < 32 or ord(c) == 127 for c in value) or value != value.strip():
            raise ValidationError(f"the value of header {name!r} holds characters that no header can hold")
    return dict(headers)


def _translated(error: Exception, what: str, timeout: float) -> MictlanXError:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CertificateError(
                f"{what}: the certificate was refused: {cause.verify_message or cause}. Name the CA that signed it "
                "(ca_file), or correct the host name"
            )
        if isinstance(cause, socket.gaierror):
            return DNSResolutionError(f"{what}: the host name has no address ({cause.strerror})")
        if isinstance(cause, ssl.SSLError) and isinstance(error, httpx.ConnectError):
            hint = "; it speaks no TLS there: is it protocol=http?" if cause.reason == "WRONG_VERSION_NUMBER" else ""
            said = f"{what}: TLS failed: {cause.reason or cause}{hint}"
            return CertificateError(said, transient=True, permanent=False)
    reason = str(error) or type(error).__name__
    match error:
        case httpx.ConnectTimeout():
            return ConnectFailedError(f"{what}: no connection within {min(timeout, CONNECT_TIMEOUT):g} s")
        case httpx.ConnectError():
            return ConnectFailedError(
                f"{what}: no connection ({reason}); is the router running, and is this its address?"
            )
        case httpx.TimeoutException():
            return RequestTimeoutError(f"{what}: no answer within {timeout:g} s{SLOW}")
        case httpx.RemoteProtocolError() if "disconnected" not in reason and "closed" not in reason:
            return UpstreamProtocolError(
                f"{what}: the answer is no HTTP: {reason}; does a MictlanX router answer here?"
            )
        case httpx.InvalidURL() | httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            return ValidationError(f"{what}: {reason}")
    hint = "; was the router, or a proxy before it, restarted?"
    if "without sending a response" in reason:
        hint += " Or a router that speaks https does that to http"
    return NetworkError(f"{what}: the connection broke ({reason.rstrip('.')}){hint}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
