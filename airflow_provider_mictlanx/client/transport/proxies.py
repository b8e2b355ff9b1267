"""Choose the HTTP proxy of a request: the configured one, or one of the environment."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from functools import cache
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.texts import remember_secret


@dataclass(frozen=True)
class Proxy:
    """
    An HTTP proxy. Its ``str`` and ``repr`` show no credentials.

    :ivar url: as ``http://proxy.example.org:3128``
    :ivar user: sent to the proxy only; None for no authentication
    :ivar password: sent with ``user``
    """

    url: str
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.url

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers for the proxy itself."""
        if self.user is None:
            return {}
        credentials = base64.b64encode(f"{self.user}:{self.password}".encode())
        return {"Proxy-Authorization": f"Basic {credentials.decode()}"}

    @classmethod
    def parse(cls, text: str, name: str = "proxy") -> Self:
        """
        Parse ``http://user:password@host:port``, or raise ``ValidationError`` that shows no credentials.

        :param name: name of the setting, for errors
        """
        address = f"{name} must be a URL such as http://user:password@proxy.example.org:3128, got "
        if not isinstance(text, str):
            raise ValidationError(f"{address}{type(text).__name__}")
        text = text.strip()
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            raise ValidationError(f"{address}a malformed one") from None
        shown = repr(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
        if parts.scheme.startswith("socks"):
            raise ValidationError(f"{name} must be an HTTP proxy, got {shown}; SOCKS proxies are not supported")
        if parts.scheme != "http":
            raise ValidationError(f"{name} must be reached over http, got {shown}; https to the router is tunnelled")
        if not parts.hostname or not parts.netloc.isprintable() or " " in parts.netloc or _has_rest(parts):
            raise ValidationError(f"{address}{shown}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if ":" in user:
            raise ValidationError(f"{name} must have a user without a colon")
        if password:
            remember_secret(password)
            remember_secret(f"{user}:{password}")
        return cls(f"http://{host}{port}", user or None, password)


def _has_rest(parts: SplitResult) -> bool:
    return parts.path not in ("", "/") or bool(parts.query or parts.fragment)


class ProxyRules:
    """
    Rules that choose the proxy of a request.

    :param proxy: proxy of every request, in the form of ``Proxy.parse``
    :param trust_env: without ``proxy``, use ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY`` of the environment. They
        are read once for each router
    """

    def __init__(self, proxy: str | None = None, trust_env: bool = False) -> None:
        self._proxy = Proxy.parse(proxy) if proxy else None
        self._from_environment = cache(_find_in_environment) if trust_env else None

    def for_url(self, url: str) -> Proxy | None:
        """Return the proxy of a request; raise ``ValidationError`` if the environment has an invalid one."""
        if self._proxy is not None or self._from_environment is None:
            return self._proxy
        scheme, _, rest = url.partition("://")
        return self._from_environment(scheme, rest.partition("/")[0])


def _find_in_environment(scheme: str, address: str) -> Proxy | None:
    proxy = getproxies().get(scheme)
    if not proxy or proxy_bypass(address):
        return None
    return Proxy.parse(proxy, f"{scheme.upper()}_PROXY of the environment")
