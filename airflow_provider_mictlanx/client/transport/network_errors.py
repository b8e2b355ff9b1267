"""Map network failures to the client's errors."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from airflow_provider_mictlanx.client.errors import (
    AuthenticationError,
    CertificateError,
    ConnectFailedError,
    DNSResolutionError,
    MictlanXError,
    NetworkError,
    RequestTimeoutError,
    UpstreamProtocolError,
    ValidationError,
)
from airflow_provider_mictlanx.client.transport.backend import (
    BrokenError,
    InvalidResponseError,
    InvalidUrlError,
    NotConnectedError,
    ProxyRefusedError,
)
from airflow_provider_mictlanx.client.transport.limits import CONNECT_TIMEOUT
from airflow_provider_mictlanx.client.transport.proxies import Proxy
from airflow_provider_mictlanx.client.validation import check_timeout

SLOW = "; is the router overloaded, or the timeout too short for it?"
"""What to look at after a time that was not enough."""


@asynccontextmanager
async def request_scope(timeout: float, action: str) -> AsyncIterator[None]:
    """Bound a request."""
    scope = asyncio.timeout(check_timeout(timeout))
    try:
        async with scope:
            yield
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise RequestTimeoutError(f"{action}: no full answer within {timeout:g} s{SLOW}") from error


class NetworkErrors:
    """Turns what goes wrong on the way, maybe through a proxy, into the client's errors."""

    def __init__(self, action: str, timeout: float, proxy: Proxy | None = None) -> None:
        self._action = action
        self._timeout = timeout
        self._proxy = proxy

    def __enter__(self) -> None:
        pass

    def __exit__(self, exc_type: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NotConnectedError):
            raise _not_connected(error, self._action, self._timeout, self._proxy) from error
        if isinstance(error, ProxyRefusedError):
            raise _refused_by_proxy(error, self._action, self._proxy) from error
        if isinstance(error, BrokenError):
            hint = "; was the router, or a proxy before it, restarted?"
            if "without sending a response" in str(error):
                hint += " Or a router that speaks https does that to http"
            raise NetworkError(f"{self._action}: the connection broke ({error}){hint}") from error
        if isinstance(error, InvalidResponseError):
            raise UpstreamProtocolError(
                f"{self._action}: the answer is no HTTP: {error}; does a MictlanX router answer here?"
            ) from error
        if isinstance(error, InvalidUrlError):
            raise ValidationError(f"{self._action}: {error}") from error


def _refused_by_proxy(error: ProxyRefusedError, action: str, proxy: Proxy | None) -> MictlanXError:
    said = f"{action}: proxy {proxy} opened no connection to the router: {error}"
    if error.status == 407:
        return AuthenticationError(f"{said}; check user and password in the connection's Proxy", error.status)
    return ConnectFailedError(f"{said}; does the proxy reach the router, and permit it?")


def _not_connected(error: NotConnectedError, action: str, timeout: float, proxy: Proxy | None) -> MictlanXError:
    if proxy is not None:
        action = f"{action} through proxy {proxy}"
    why = str(error)
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError(verify_message=message):  # aiohttp's of the same class has no message
                return CertificateError(
                    f"{action}: the certificate was refused: {message or cause}. Name the CA that signed it "
                    "(ca_file), or correct the host name"
                )
            case socket.gaierror():
                return DNSResolutionError(f"{action}: the host name has no address ({cause.strerror}); is it right?")
            case ssl.SSLError(reason=reason):
                hint = "; it speaks no TLS there: is it protocol=http?" if reason == "WRONG_VERSION_NUMBER" else ""
                said = f"{action}: TLS failed: {reason or cause}{hint}"
                return CertificateError(said, transient=True, permanent=False)
            case TimeoutError():
                return ConnectFailedError(f"{action}: no connection within {min(timeout, CONNECT_TIMEOUT):g} s")
            case OSError(errno=int(number)):
                why = os.strerror(number)  # "Connection refused"; asyncio says it in words of its own
    whose = "is the router" if proxy is None else "are proxy and router"
    return ConnectFailedError(f"{action}: no connection ({why}); {whose} running, and is the address right?")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
