"""
Parse and format ``mictlanx://`` URIs.

The format is that of the protocol page (*Connection URI*)::

    mictlanx://[router_id@]host[/path]:port[,[router_id@]host[/path]:port…][/][?protocol=https&api_version=4&http2=0]

Two further forms are in use: port ``-1`` or ``0`` for "no port", and a query that begins with a slash.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

from airflow_provider_mictlanx.client.errors import ValidationError

SCHEME = "mictlanx://"
DEFAULT_PORT = 60666
DEFAULT_API_VERSION = 4
ACCEPTED_FORM = "mictlanx://router-0@host:60666,router-1@host:60667/?protocol=http&api_version=4&http2=0"

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_ROUTER_ID = re.compile(r"[A-Za-z0-9._-]+")
_PATH = re.compile(r"[A-Za-z0-9._~%!$&'()*+;=-]+(?:/[A-Za-z0-9._~%!$&'()*+;=-]+)*")
_PORT = re.compile(r"-1|\d{1,5}", re.ASCII)


@dataclass(frozen=True)
class RouterAddress:
    """
    The address of one router.

    :ivar host: name or address; IPv6 in brackets
    :ivar port: 1–65535, or None for the default port of the protocol
    :ivar path: path prefix of a proxy, without slashes at its ends
    :ivar router_id: name of the router in logs and errors; empty if the URI has none
    """

    host: str
    port: int | None = DEFAULT_PORT
    path: str = ""
    router_id: str = ""

    def __str__(self) -> str:
        name = f"{self.router_id}@" if self.router_id else ""
        path = f"/{self.path}" if self.path else ""
        return f"{name}{self.host}{path}:{self.port or 0}"


@dataclass(frozen=True)
class MictlanXURI:
    """
    The routers of one storage space, and their protocol.

    ``MictlanXURI.parse(text)`` reads a URI, ``str(uri)`` writes it.

    :ivar routers: at least one
    :ivar protocol: ``http`` or ``https``
    :ivar api_version: version in the paths, ``/api/v{api_version}``
    :ivar http2: offer HTTP/2
    """

    routers: tuple[RouterAddress, ...]
    protocol: str = "https"
    api_version: int = DEFAULT_API_VERSION
    http2: bool = False

    def __post_init__(self) -> None:
        if not self.routers:
            raise ValidationError(f"routers must have at least one element, as in {ACCEPTED_FORM}")
        router_ids = [router.router_id for router in self.named_routers]
        if repeated := next((name for name in router_ids if router_ids.count(name) > 1), ""):
            raise ValidationError(f"router ids must be unique, got {repeated!r} twice")

    @property
    def named_routers(self) -> tuple[RouterAddress, ...]:
        """Return the routers, with ``router-{n}`` as id where the URI has none."""
        return tuple(
            router if router.router_id else replace(router, router_id=f"router-{index}")
            for index, router in enumerate(self.routers)
        )

    def __str__(self) -> str:
        routers = ",".join(str(router) for router in self.routers)
        query = urlencode({"protocol": self.protocol, "api_version": self.api_version, "http2": int(self.http2)})
        return f"{SCHEME}{routers}/?{query}"

    @classmethod
    def parse(cls, text: str, *, default_port: int | None = None) -> MictlanXURI:
        """
        Parse a URI, or raise ``ValidationError`` that names the invalid part.

        :param text: as ``mictlanx://router-0@host:60666/?protocol=http``
        :param default_port: port of routers without a port; None to refuse them
        """
        if not text.strip():
            raise ValidationError(f"the MictlanX URI must not be empty; the format is {ACCEPTED_FORM}")
        text = text.strip()
        if not text.lower().startswith(SCHEME):
            raise ValidationError(f"a MictlanX URI must begin with {SCHEME}, as in {ACCEPTED_FORM}")
        authority = text[len(SCHEME) :].partition("?")[0]
        routers = tuple(_parse_router(part, default_port) for part in authority.removesuffix("/").split(","))
        return cls(routers, **_parse_query(text))


def _parse_router(text: str, default_port: int | None) -> RouterAddress:
    text = text.strip()
    router_id, at, address = text.rpartition("@")
    if at and not _ROUTER_ID.fullmatch(router_id):
        raise ValidationError(
            f"router {_redact(text)}: router id must have only letters, digits, '.', '_' and '-', got {router_id!r}; "
            "write a token into the connection's password, not into the URI"
            if ":" not in router_id
            else f"router on {address!r}: router id, the part before '@', must not contain ':'; "
            "write a token into the connection's password, not into the URI"
        )
    if not address:
        raise ValidationError(f"a router is missing in the MictlanX URI; the format is {ACCEPTED_FORM}")
    where, colon, port_text = address.rpartition(":")
    if not colon or address.endswith("]"):
        if default_port is None:
            raise ValidationError(
                f"router {_redact(text)} has no port; write host:port, as in router-0@{address}:{DEFAULT_PORT}"
            )
        where, port_text = address, str(default_port)
    if not _PORT.fullmatch(port_text) or int(port_text) > 65535:
        # Anything but a number may be part of a password that contains ',' or '?'.
        shown = repr(port_text) if re.fullmatch(r"-?\d+", port_text, re.ASCII) else "other text after the last ':'"
        hint = "; a path stands before the port" if "/" in port_text else ""
        raise ValidationError(f"router {_redact(where)}: port must be 1 to 65535, got {shown}{hint}")
    host, _, path = where.partition("/")
    path = path.strip("/")
    if not _HOST.fullmatch(host):
        raise ValidationError(f"router {_redact(text)}: host must be a host name or an address, got {host!r}")
    if path and not _PATH.fullmatch(path):
        raise ValidationError(f"router {_redact(text)}: path must be a URL path, got {path!r}")
    port = int(port_text)
    return RouterAddress(host=host, port=port if port > 0 else None, path=path, router_id=router_id)


def read_query(text: str) -> list[tuple[str, str]]:
    """Return the options of a MictlanX URI, unchecked."""
    return parse_qsl(text.partition("?")[2].lstrip("/"), keep_blank_values=True)


def _parse_query(text: str) -> dict[str, Any]:
    parsers: dict[str, Callable[[str], Any]] = {
        "protocol": check_protocol,
        "api_version": check_api_version,
        "http2": partial(check_flag, "http2"),
    }
    options = {}
    for name, value in read_query(text):
        if name not in parsers:
            shown = repr(name) if re.fullmatch(r"\w+", name, re.ASCII) else "other text after '?'"
            raise ValidationError(f"options of a MictlanX URI must be among {', '.join(parsers)}, got {shown}")
        options[name] = parsers[name](value)
    return options


def check_protocol(value: str) -> str:
    """Return ``http`` or ``https`` in lower case, or raise ``ValidationError``."""
    if str(value).lower() not in ("http", "https"):
        raise ValidationError(f"protocol must be http or https, got {value!r}")
    return str(value).lower()


def check_api_version(value: str | int) -> int:
    """Return the version as an int, or raise ``ValidationError``."""
    text = str(value)
    if not re.fullmatch(r"\d{1,4}", text, re.ASCII):
        raise ValidationError(f"api_version must be a number such as {DEFAULT_API_VERSION}, got {value!r}")
    return int(text)


def check_flag(name: str, value: str | bool | int) -> bool:
    """Parse ``1 true yes on`` and ``0 false no off`` (any case, or a bool), or raise ``ValidationError``."""
    text = str(value).lower()
    if text not in (*_TRUE, *_FALSE):
        raise ValidationError(f"{name} must be one of {' '.join(_TRUE)} or {' '.join(_FALSE)}, got {value!r}")
    return text in _TRUE


def _redact(text: str) -> str:
    """Quote a router address for an error, without a possible password before the '@'."""
    return repr(text.rpartition("@")[2] if ":" in text.rpartition("@")[0] else text)
