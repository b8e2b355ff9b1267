"""
``mictlanx://`` router URIs, parsed and formatted.

The form is the protocol page's (*Connection URI*)::

    mictlanx://[router_id@]host[/path]:port[,[router_id@]host[/path]:port…][/][?protocol=https&api_version=4&http2=0]

with the odd forms that are in use: port ``-1`` or ``0`` for "no port", and a query that begins with a slash of its own.
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
    Where one router is.

    :ivar host: name or address; IPv6 in brackets
    :ivar port: 1–65535, or None where the protocol's own port is meant
    :ivar path: prefix of a proxy, without slashes at its ends
    :ivar router_id: what the router is called in logs and errors; empty where the URI does not tell
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
    The routers of one storage space, and how to speak to them.

    ``MictlanXURI.parse(text)`` reads a URI, ``str(uri)`` writes it.

    :ivar routers: at least one
    :ivar protocol: ``http`` or ``https``
    :ivar api_version: of the paths, ``/api/v{api_version}``
    :ivar http2: whether to speak HTTP/2
    """

    routers: tuple[RouterAddress, ...]
    protocol: str = "https"
    api_version: int = DEFAULT_API_VERSION
    http2: bool = False

    def __post_init__(self) -> None:
        if not self.routers:
            raise ValidationError(f"a MictlanX URI names at least one router, as in {ACCEPTED_FORM}")
        router_ids = [router.router_id for router in self.named_routers]
        if repeated := next((name for name in router_ids if router_ids.count(name) > 1), ""):
            raise ValidationError(f"two routers are called {repeated!r}: each needs an id of its own")

    @property
    def named_routers(self) -> tuple[RouterAddress, ...]:
        """The routers, each with an id: ``router-{n}`` where the URI gives none."""
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
        Parse a URI; raise ``ValidationError`` that names what is wrong.

        :param text: as ``mictlanx://router-0@host:60666/?protocol=http``
        :param default_port: of routers without a port, which are refused otherwise
        """
        if not text.strip():
            raise ValidationError(f"the MictlanX URI is empty; it looks like {ACCEPTED_FORM}")
        text = text.strip()
        if not text.lower().startswith(SCHEME):
            raise ValidationError(f"a MictlanX URI begins with {SCHEME}, as in {ACCEPTED_FORM}")
        authority = text[len(SCHEME) :].partition("?")[0]
        routers = tuple(_parse_router(part, default_port) for part in authority.removesuffix("/").split(","))
        return cls(routers, **_parse_query(text))


def _parse_router(text: str, default_port: int | None) -> RouterAddress:
    text = text.strip()
    router_id, at, address = text.rpartition("@")
    if at and not _ROUTER_ID.fullmatch(router_id):
        raise ValidationError(
            f"router {_redact(text)}: {router_id!r} is no router id (letters, digits, '.', '_', '-'); a token belongs "
            "into the connection's password, not into the URI"
            if ":" not in router_id
            else f"the part before '@' in a router address is its id and holds no ':' (of a router on {address!r}); "
            "a token belongs into the connection's password, not into the URI"
        )
    if not address:
        raise ValidationError(f"a router is missing in the MictlanX URI; it looks like {ACCEPTED_FORM}")
    where, colon, port_text = address.rpartition(":")
    if not colon or address.endswith("]"):
        if default_port is None:
            raise ValidationError(
                f"router {_redact(text)} has no port; write host:port, as in router-0@{address}:{DEFAULT_PORT}"
            )
        where, port_text = address, str(default_port)
    if not _PORT.fullmatch(port_text) or int(port_text) > 65535:
        # What is no number may be a password that was cut at a ',' or a '?' of its own.
        said = repr(port_text) if re.fullmatch(r"-?\d+", port_text, re.ASCII) else "what follows its last ':'"
        raise ValidationError(f"router {_redact(where)}: {said} is no port; ports are 1 to 65535")
    host, _, path = where.partition("/")
    path = path.strip("/")
    if not _HOST.fullmatch(host):
        raise ValidationError(f"router {_redact(text)}: {host!r} is no host name or address")
    if path and not _PATH.fullmatch(path):
        raise ValidationError(f"router {_redact(text)}: {path!r} is no path")
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
            shown = repr(name) if re.fullmatch(r"\w+", name, re.ASCII) else "what follows '?'"
            raise ValidationError(f"{shown} is no option of a MictlanX URI; there are {', '.join(parsers)}")
        options[name] = parsers[name](value)
    return options


def check_protocol(value: str) -> str:
    """Return ``http`` or ``https`` in lower case, or raise ``ValidationError``."""
    if str(value).lower() not in ("http", "https"):
        raise ValidationError(f"protocol is http or https, not {value!r}")
    return str(value).lower()


def check_api_version(value: str | int) -> int:
    """Return the version as an int, or raise ``ValidationError``."""
    text = str(value)
    if not re.fullmatch(r"\d{1,4}", text, re.ASCII):
        raise ValidationError(f"api_version is a whole number such as {DEFAULT_API_VERSION}, not {value!r}")
    return int(text)


def check_flag(name: str, value: str | bool | int) -> bool:
    """Read ``1 true yes on`` and ``0 false no off`` (any case, or a real bool), or raise ``ValidationError``."""
    text = str(value).lower()
    if text not in (*_TRUE, *_FALSE):
        raise ValidationError(f"{name} must be one of {' '.join(_TRUE)} or {' '.join(_FALSE)}, got {value!r}")
    return text in _TRUE


def _redact(text: str) -> str:
    """Quote a router address for an error, without what may be a password in front of the '@'."""
    return repr(text.rpartition("@")[2] if ":" in text.rpartition("@")[0] else text)
