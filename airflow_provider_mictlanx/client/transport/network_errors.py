"""Convert network failures into the client's errors."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from types import TracebackType

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


class RequestScope:
    """Context manager that limits the time of a request; it raises ``RequestTimeoutError`` after it."""

    def __init__(self, timeout: float, action: str) -> None:
        self._timeout = check_timeout(timeout)
        self._action = action
        self._scope = asyncio.timeout(timeout)

    async def __aenter__(self) -> None:
        await self._scope.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cause = error
        try:
            await self._scope.__aexit__(kind, error, trace)
        except TimeoutError as expired:
            cause = expired
        if isinstance(cause, TimeoutError) and self._scope.expired():
            raise RequestTimeoutError(
                f"{self._action} failed: no complete answer within {self._timeout:g} s; check whether the router is "
                "overloaded, or raise the request timeout"
            ) from cause


class NetworkErrors:
    """Context manager that converts errors of an engine into the client's errors."""

    def __init__(self, action: str, timeout: float, proxy: Proxy | None = None) -> None:
        self._action = action
        self._timeout = timeout
        self._proxy = proxy

    def __enter__(self) -> None:
        pass

    def __exit__(self, exc_type: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        if isinstance(error, NotConnectedError):
            raise _not_connected(error, self._action, self._timeout, self._proxy) from error
        if isinstance(error, ProxyRefusedError):
            raise _refused_by_proxy(error, self._action, self._proxy) from error
        if isinstance(error, BrokenError):
            hint = "; check whether the router, or a proxy before it, was restarted"
            if "without sending a response" in str(error):
                hint += ", or whether the router expects https"
            raise NetworkError(f"{self._action} failed: the connection broke ({error}){hint}") from error
        if isinstance(error, InvalidResponseError):
            raise UpstreamProtocolError(
                f"{self._action} failed: malformed HTTP answer: {error}; check that the address is that of a router"
            ) from error
        if isinstance(error, InvalidUrlError):
            raise ValidationError(f"{self._action} failed: {error}") from error


def _refused_by_proxy(error: ProxyRefusedError, action: str, proxy: Proxy | None) -> MictlanXError:
    said = f"{action} failed: proxy {proxy} did not connect to the router: {error}"
    if error.status == 407:
        return AuthenticationError(f"{said}; check user and password in the connection's Proxy", error.status)
    return ConnectFailedError(f"{said}; check that the proxy can reach the router and permits it")


def _not_connected(error: NotConnectedError, action: str, timeout: float, proxy: Proxy | None) -> MictlanXError:
    if proxy is not None:
        action = f"{action} through proxy {proxy}"
    why = str(error)
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError(verify_message=message):  # aiohttp's of the same class has no message
                return CertificateError(
                    f"{action} failed: the certificate was refused: {message or cause}; set ca_file to the CA that "
                    "signed it, or correct the host name"
                )
            case socket.gaierror():
                return DNSResolutionError(
                    f"{action} failed: the host name has no address ({cause.strerror}); check its spelling"
                )
            case ssl.SSLError(reason=reason):
                hint = "; the port speaks no TLS: set protocol=http" if reason == "WRONG_VERSION_NUMBER" else ""
                said = f"{action} failed: TLS error: {reason or cause}{hint}"
                return CertificateError(said, transient=True, permanent=False)
            case TimeoutError():
                return ConnectFailedError(f"{action} failed: no connection within {min(timeout, CONNECT_TIMEOUT):g} s")
            case OSError(errno=int(number)):
                why = os.strerror(number)  # "Connection refused"; asyncio's own message is longer
    who = "the router is" if proxy is None else "proxy and router are"
    return ConnectFailedError(f"{action} failed: no connection ({why}); check the address, and that {who} running")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
