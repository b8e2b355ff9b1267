"""
Read an Airflow connection and parse it into ``ConnectionSettings``.

Airflow parses a connection URI by its own rules and splits a MictlanX URI into login, password, host, port and schema:
``mictlanx://r0@h0:60666,r1@h1:60667/`` arrives as login ``r0@h0``, password ``60666,r1``, host ``h1``, port 60667. This
module joins the parts again, and converts every str of a form field to its type.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
import ssl
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self, TypeAlias
from urllib.parse import quote, urlencode, urlsplit
from weakref import WeakKeyDictionary

import pydantic
from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException, mask_secret
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from airflow_provider_mictlanx.client import uri as mictlanx_uri
from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.transfer.router_pool import CONNECT_PATIENCE
from airflow_provider_mictlanx.client.transport.proxies import Proxy
from airflow_provider_mictlanx.client.transport.tls import tls_context
from airflow_provider_mictlanx.client.uri import DEFAULT_PORT, MictlanXURI, RouterAddress
from airflow_provider_mictlanx.client.validation import is_unicode, parse_size

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseHook

try:
    from airflow.sdk.log import amask_secret
except ImportError:  # before Airflow 3.3.2
    amask_secret = None  # type: ignore[assignment, unused-ignore]

DEFAULT_CLIENT_ID = "airflow"

ACCEPTED_FORMS = (
    "Accepted forms of a MictlanX connection: mictlanx://router-0@host:60666,router-1@host:60667/?protocol=http, "
    "http://host:60666 and https://host/path"
)

_CONN_TYPES = ("mictlanx", "http", "https")
"""Airflow gives the type http or https to a router's URL in an environment variable."""

_URI_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "protocol": mictlanx_uri.check_protocol,
    "api_version": mictlanx_uri.check_api_version,
    "http2": partial(mictlanx_uri.check_flag, "http2"),
}
"""Options of a MictlanX URI that the extra may contain too, each with its parser."""

_ROUTER_FIELDS = ("routers", "uri", *_URI_OPTIONS)
_HTTPS_PORT = 443
_BETWEEN_ROUTERS = re.compile(r"[\r\n]+|[,;\s]\s*(?=(?:mictlanx|https?)://)", re.IGNORECASE)
_BEGINS_WITH_A_PORT = re.compile(r"(?:-1|\d{1,5}),", re.ASCII)
_TOKEN_BEFORE_A_LIST = re.compile(r"@.*:(?:-1|\d{1,5}),", re.ASCII)
_ENDS_WITH_A_PORT = re.compile(r":(?:-1|\d{1,5})$", re.ASCII)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")

_LOOKUP_LOCKS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class AirflowConnection(Protocol):
    """The fields that this module reads, in a connection of any Airflow version."""

    conn_id: Any
    host: Any
    login: Any
    password: Any
    port: Any
    schema: Any


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a bool is not a number")
    return value


def _check_chunk_size(value: Any) -> str:
    text = str(value).strip()
    parse_size(text)
    return text


def _check_proxy(value: Any) -> Any:
    if value is not None:
        Proxy.parse(value)
    return value


_Text = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, pattern=r"^[^\x00]*$")]
_Seconds = Annotated[float, BeforeValidator(_refuse_bool), Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, BeforeValidator(_refuse_bool), Field(ge=1, le=sys.maxsize)]
_Patience = Annotated[float, BeforeValidator(_refuse_bool), Field(ge=0, allow_inf_nan=False)]
_CONSTRAINTS = {
    "timeout": "a number of seconds above 0",
    "max_concurrency": "an int from 1 on",
    "connect_patience": "a number of seconds of at least 0",
}
"""Constraints in the words of an error; every other field that only pydantic checks is a str."""


class ConnectionSettings(BaseModel):
    """
    The typed values of a connection. Their ``repr`` shows no secret.

    :ivar conn_id: id of the connection, for errors
    :ivar uri: the routers, each with an id, and the protocol options
    :ivar verify: whether the routers' certificates are verified
    :ivar ca_file: PEM file with the certificates to trust
    :ivar client_cert: PEM file with the certificate that the client presents
    :ivar client_key: PEM file with the key of ``client_cert``
    :ivar client_id: producer that is stored with every object
    :ivar token: sent as ``Authorization: Bearer``
    :ivar headers: sent with every request
    :ivar proxy: URL of the HTTP proxy in front of the routers
    :ivar trust_env: whether the proxies of the environment are used if ``proxy`` is None
    :ivar timeout: seconds for one request
    :ivar chunk_size: size of chunks, such as ``256kb``
    :ivar max_concurrency: chunks in flight per transfer
    :ivar connect_patience: seconds for which a request waits while no router can be reached
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    conn_id: str
    uri: MictlanXURI
    verify: Annotated[bool, BeforeValidator(partial(mictlanx_uri.check_flag, "verify"))] = True
    ca_file: _Text | None = None
    client_cert: _Text | None = None
    client_key: _Text | None = None
    client_id: _Text = DEFAULT_CLIENT_ID
    token: str | None = Field(default=None, repr=False)
    headers: Mapping[str, str] = Field(default={}, repr=False)
    proxy: Annotated[str, BeforeValidator(_check_proxy)] | None = Field(default=None, repr=False)
    trust_env: Annotated[bool, BeforeValidator(partial(mictlanx_uri.check_flag, "trust_env"))] = False
    timeout: _Seconds | None = None
    chunk_size: Annotated[str, BeforeValidator(_check_chunk_size)] | None = None
    max_concurrency: _Count | None = None
    connect_patience: _Patience = CONNECT_PATIENCE

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if self.ca_file and not self.verify:
            raise ValidationError(
                f"ca_file must be empty if verify is False, got {self.ca_file!r}; remove it, or set verify to True"
            )
        if self.client_key and not self.client_cert:
            raise ValidationError(
                f"client_key must be empty without client_cert, got {self.client_key!r}; add client_cert, or remove it"
            )
        return self

    @property
    def secrets(self) -> list[str]:
        """The secrets to mask in logs: the token, the proxy's password and the values of extra headers."""
        password = Proxy.parse(self.proxy).password if self.proxy else None
        return [secret for secret in (self.token, password, *self.headers.values()) if secret]

    @property
    def reads_tls_files(self) -> bool:
        """True if ``tls`` reads files, so a coroutine must call it in a thread."""
        return self.uri.protocol == "https" and bool(self.ca_file or self.client_cert)

    def tls(self) -> bool | ssl.SSLContext:
        """Return ``verify`` for the client; raise ``ValidationError`` for a certificate file that can't be read."""
        if not self.reads_tls_files:
            return self.verify
        with _errors_begin_with_connection(self.conn_id):
            return tls_context(self.ca_file or self.verify, self.client_cert, self.client_key)


_FIELDS = (
    *_ROUTER_FIELDS,
    *(name for name in ConnectionSettings.model_fields if name not in ("conn_id", "uri", "token")),
)


def load_settings(conn_id: str, get_connection: Callable[[str], Any]) -> ConnectionSettings:
    """
    Read a connection from Airflow and parse it. Blocks: a coroutine awaits ``aload_settings``.

    Raises ``ValidationError`` if the connection is missing or invalid.

    :param get_connection: the hook's, or in a process without tasks that of ``airflow.models``
    """
    with _errors_name_missing(conn_id):
        connection = get_connection(conn_id)
    settings = parse_connection(connection, connection.extra_dejson)
    for secret in settings.secrets:
        mask_secret(secret)
    return settings


async def aload_settings(
    conn_id: str, hook: BaseHook, known: Callable[[], ConnectionSettings | None]
) -> ConnectionSettings:
    """
    Read a connection from Airflow and parse it, without blocking the event loop.

    Lookups of one event loop run one after the other. Airflow 3 fails at concurrent lookups: its lock to the supervisor
    stays bound to the first loop that waited for it. Lookups in a later loop then fail with a misleading "isn't
    defined".

    :param conn_id: the connection
    :param hook: the hook that needs it
    :param known: returns the settings that another coroutine has loaded meanwhile, or None
    """
    lock = _LOOKUP_LOCKS.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with lock:
        if (settings := known()) is not None:
            return settings
        with _errors_name_missing(conn_id):
            connection = await get_async_connection(conn_id, hook=hook)
        settings = parse_connection(connection, await get_async_extra_dejson(connection))
        for secret in settings.secrets:
            await _amask(secret)
        return settings


async def _amask(secret: str) -> None:
    """Mask a secret without blocking the event loop: ``mask_secret`` may wait for the supervisor."""
    if amask_secret is not None:
        await amask_secret(secret)
    else:
        await asyncio.to_thread(mask_secret, secret)


def check_conn_id(name: str, conn_id: str) -> str:
    """Return the id of a connection, or raise ``ValidationError`` that names the parameter."""
    if not isinstance(conn_id, str) or not conn_id or "\0" in conn_id or not is_unicode(conn_id):
        raise ValidationError(f"{name} must be a non-empty Unicode str without NUL characters, got {conn_id!r}")
    return conn_id


@contextmanager
def _errors_name_missing(conn_id: str) -> Iterator[None]:
    """Raise ``ValidationError`` if the id is invalid, or Airflow does not find the connection in the block."""
    check_conn_id("mictlanx_conn_id", conn_id)
    try:
        yield
    except AirflowNotFoundException as error:
        raise ValidationError(_not_found_message(conn_id)) from error


def _not_found_message(conn_id: str) -> str:
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if not os.environ.get(variable):
        return (
            f"reading connection {conn_id!r} failed: Airflow has no such connection; create one of type MictlanX in "
            f"Airflow's connection form, or set {variable}. {ACCEPTED_FORMS}"
        )
    return (
        f"reading connection {conn_id!r} failed: {variable} is set, but Airflow's parser rejects its value; write it "
        "as valid "
        f'JSON: {variable}=\'{{"conn_type": "mictlanx", "extra": {{"uri": '
        '"mictlanx://host:60666,host:60667/?protocol=http"}}\'. Airflow rejects a URI with several routers without '
        "ids, and "
        f"port -1. {ACCEPTED_FORMS}"
    )


def parse_connection(connection: AirflowConnection, extra: Mapping[str, Any]) -> ConnectionSettings:
    """
    Parse a connection; raise ``ValidationError`` with the cause and the accepted forms.

    :param connection: a connection of any Airflow version
    :param extra: its extra, parsed from JSON
    """
    conn_id = str(connection.conn_id)
    if (conn_type := getattr(connection, "conn_type", None)) and str(conn_type).lower() not in _CONN_TYPES:
        raise ValidationError(
            f"connection {conn_id!r} is of type {conn_type}, not mictlanx; choose a connection of type MictlanX, or "
            "change its type"
        )
    with _errors_begin_with_connection(conn_id):
        if not isinstance(extra, Mapping):
            raise ValidationError(f"extra must be a JSON object, got {type(extra).__name__}. {ACCEPTED_FORMS}")
        if not extra and not _is_json(getattr(connection, "extra", None) or "{}"):  # Airflow reads it as {}
            raise ValidationError(f"extra must be a JSON object, got a str that is not valid JSON. {ACCEPTED_FORMS}")
        given = _select_filled(extra)
        router_part, token = _split_password(connection)
        options: dict[str, Any] = {name: value for name, value in given.items() if name not in _ROUTER_FIELDS}
        options["headers"] = _parse_headers(options.get("headers"), has_token=bool(token))
        try:
            return ConnectionSettings(
                conn_id=conn_id,
                uri=_parse_routers(connection, given, router_part),
                token=_check_token(token),
                **options,
            )
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = str(first["loc"][0])
            constraint = _CONSTRAINTS.get(name, "a Unicode str without NUL characters")
            raise ValidationError(f"{name} must be {constraint}, got {first['input']!r}") from None


@contextmanager
def _errors_begin_with_connection(conn_id: str) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise ValidationError(f"connection {conn_id!r}: {error.message}") from None


def _select_filled(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are not empty. A pasted ``…?/protocol=http`` leaves a slash before the name."""
    given = {str(name).lstrip("/"): value for name, value in extra.items() if not _is_empty(value)}
    if unknown := sorted(set(given) - set(_FIELDS)):
        nearest = get_close_matches(unknown[0], _FIELDS, 1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        if "token" in unknown:
            hint = "; the token is the connection's password"
        names = ", ".join(map(repr, unknown))
        raise ValidationError(f"extra must only contain {', '.join(_FIELDS)}, got {names}{hint}")
    return given


def _is_json(text: Any) -> bool:
    try:
        json.loads(text)
    except (TypeError, ValueError):
        return False
    return True


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {}) or (isinstance(value, str) and not value.strip())


# The routers


def _parse_routers(connection: AirflowConnection, given: Mapping[str, Any], router_part: str | None) -> MictlanXURI:
    sources = [name for name in ("routers", "uri") if name in given] + (["host"] if connection.host else [])
    try:
        if len(sources) != 1:
            raise ValidationError(
                f"exactly one of routers, uri and host must be set, got {' and '.join(sources) or 'none'}"
            )
        options = {name: given[name] for name in _URI_OPTIONS if name in given}
        value = _join_host(connection, router_part, options) if sources == ["host"] else given[sources[0]]
        return _merge_routers([_read_line(line, _port(connection)) for line in _lines(sources[0], value)], options)
    except ValidationError as error:
        raise ValidationError(f"{error.message.removesuffix('.')}. {ACCEPTED_FORMS}") from None


def _split_password(connection: AirflowConnection) -> tuple[str | None, str | None]:
    """
    Split the password field: Airflow's URI parser may leave part of the router list in it, instead of the token.

    Such a part begins with a port and a comma, and comes with a login. A token contains no comma (RFC 6750).
    """
    password = connection.password or None
    if connection.login and password and _BEGINS_WITH_A_PORT.match(password):
        return password, None
    if connection.login and password and _TOKEN_BEFORE_A_LIST.search(password):
        raise ValidationError(
            "a URI of several routers must not contain a token, since Airflow's parser mixes the two; write the "
            f"connection as JSON, with the token as password. {ACCEPTED_FORMS}"
        )
    return None, password


def _port(connection: AirflowConnection) -> int | None:
    """Return the port for routers without one; Airflow's connection form stores 0 for an empty field."""
    return connection.port or None


def _join_host(connection: AirflowConnection, router_part: str | None, options: dict[str, Any]) -> str:
    """Join the parts of a URI that Airflow has split, or a single router in host, port and login."""
    host = str(connection.host).strip()
    if "://" in host:
        if connection.login or connection.schema:
            raise ValidationError("login and schema must be empty if host is a URL")
        return host
    if _is_ipv6(host):
        host = f"[{host}]"
    login = f"{connection.login}{':' + router_part if router_part else ''}@" if connection.login else ""
    port = f":{_port(connection)}" if _port(connection) else ""
    path = str(connection.schema or "").strip("/")
    if path.lower() in ("http", "https"):  # a habit from Airflow's HTTP connections
        options.setdefault("protocol", path)
        path = ""
    scheme = getattr(connection, "conn_type", None)
    if scheme in ("http", "https") and not login:  # a router's URL that was pasted into an environment variable
        return f"{options.get('protocol', scheme)}://{host}{port}/{quote(path, safe=_PATH_CHARACTERS)}"
    text = f"{login}{host}{port}{'/' + quote(path, safe=_PATH_CHARACTERS) if path else ''}"
    protocol = _read_options(options).get("protocol", "https")
    if not _ENDS_WITH_A_PORT.search(text) and not port:
        text += f":{DEFAULT_PORT if protocol == 'http' else _HTTPS_PORT}"
    # Airflow has moved the query into the extra; only these three options can be in it.
    return f"{mictlanx_uri.SCHEME}{text}/?{urlencode(options)}"


_PATH_CHARACTERS = "/:,@~!$&'()*+;=-._"


def _read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: parse(options[name]) for name, parse in _URI_OPTIONS.items() if name in options}


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _lines(name: str, value: Any) -> Iterator[str]:
    """Yield the routers' URIs from a list, or from a str with one per line."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValidationError(f"{name} must be a valid JSON list if it begins with a bracket: {error}") from error
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str):
            raise ValidationError(
                f"{name} must be a list of URIs, or a str with one per line, got {type(text).__name__}"
            )
        yield from (line.strip() for line in _BETWEEN_ROUTERS.split(text) if line.strip())


_Line: TypeAlias = tuple[tuple[RouterAddress, ...], dict[str, Any]]
"""The routers of one line, and the options that its URI contains."""


def _read_line(line: str, port: int | None) -> _Line:
    scheme = line.partition("://")[0].lower()
    if scheme == "mictlanx":
        uri = MictlanXURI.parse(line, default_port=port)
        stated: dict[str, Any] = {"api_version": uri.api_version, "http2": uri.http2}
        if "protocol" in dict(mictlanx_uri.read_query(line)):
            stated["protocol"] = uri.protocol
        return uri.routers, stated
    if scheme in ("http", "https") and "://" in line:
        return (_parse_router_url(line, port),), {"protocol": scheme}
    raise ValidationError(f"a router's URI must begin with mictlanx://, http:// or https://, got {_redact(line)}")


def _parse_router_url(url: str, default_port: int | None) -> RouterAddress:
    """Parse ``http(s)://host[:port][/path]``."""
    if "@" in url:  # before parsing, whose error quotes the part of a password before a "/", "?" or "#" as the port
        raise ValidationError(
            f"a router's URL must not contain a user or password, got {_redact(url)}; put a token into the "
            "connection's password"
        )
    try:
        parts = urlsplit(url)
        port = parts.port or default_port
    except ValueError as error:
        raise ValidationError(f"parsing router URL {_redact(url)} failed: {error}") from error
    if parts.query or parts.fragment:
        raise ValidationError(f"a router's URL must not contain a query or fragment, got {_redact(url)}")
    if parts.scheme.lower() == "https" and port not in (None, 443):
        raise ValidationError(
            f"the port of router {_redact(url)} must be 443 for https, got {port}; put the router behind a proxy on "
            "port 443, or use http"
        )
    path = parts.path.strip("/")
    default = 443 if parts.scheme.lower() == "https" else 80
    host = f"[{parts.hostname}]" if _is_ipv6(parts.hostname or "") else parts.hostname
    text = f"mictlanx://{host or ''}{'/' + path if path else ''}:{port or default}"
    return MictlanXURI.parse(text).routers[0]


def _merge_routers(lines: list[_Line], options: Mapping[str, Any]) -> MictlanXURI:
    """Merge all lines into one URI; their options must agree with one another and with the extra."""
    if not lines:
        raise ValidationError("at least one router must be given, got none")
    merged = _read_options(options)
    for _, stated in lines:
        for name, value in stated.items():
            if merged.setdefault(name, value) != value:
                raise ValidationError(
                    f"{name} must be the same for all routers, got "
                    f"{' and '.join(sorted([str(merged[name]), str(value)]))}"
                )
    routers = [router for found, _ in lines for router in found]
    if "protocol" not in merged:
        _refuse_unused_ports(routers)
    return MictlanXURI(tuple(_assign_router_ids(routers)), **merged)


def _refuse_unused_ports(routers: Iterable[RouterAddress]) -> None:
    """Raise ``ValidationError`` for a port that https, the default of a MictlanX URI, would not use."""
    for router in routers:
        if router.port not in (None, _HTTPS_PORT):
            where = str(router).removesuffix(f":{router.port}")
            raise ValidationError(
                f"protocol must be http or https for port {router.port} of router {where}, got none: http uses this "
                "port, https always uses port 443. Set the connection's field Protocol (protocol in its extra), or end "
                "the URI with /?protocol=http or /?protocol=https"
            )


def _assign_router_ids(routers: Iterable[RouterAddress]) -> Iterator[RouterAddress]:
    """Yield every router with an id: its own, or the first free ``router-{n}``, counted from its position."""
    routers = list(routers)
    taken = {router.router_id for router in routers}
    for index, router in enumerate(routers):
        if not router.router_id:
            free = next(name for number in count(index) if (name := f"router-{number}") not in taken)
            taken.add(free)
            router = replace(router, router_id=free)
        yield router


def _redact(text: str) -> str:
    """Return the ``repr`` of a URI, without a possible password in front of its '@'."""
    scheme, separator, rest = text.partition("://")
    return repr(f"{scheme}{separator}{rest.rpartition('@')[2]}" if "@" in rest else text)


# The token and the headers


def _check_token(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValidationError("password (the token) must contain only printable ASCII characters without spaces")
    return value


def _parse_headers(value: Any, *, has_token: bool) -> dict[str, str]:
    """Parse extra headers from an object, from JSON, or from lines ``Name: value``."""
    if value is None:
        return {}
    if isinstance(value, str):
        value = _read_headers(value)
    if not isinstance(value, Mapping):
        raise ValidationError(
            'headers must be an object such as {"X-Tenant": "genomics"}, or lines "Name: value", got '
            f"{type(value).__name__}"
        )
    headers = {}
    for name, content in value.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValidationError(f"headers must have valid header names, got {name!r}")
        if isinstance(content, bool) or not isinstance(content, str | int | float):
            raise ValidationError(f"header {name} must be str, int or float, got {type(content).__name__}")
        if not _HEADER_VALUE.fullmatch(str(content)):
            raise ValidationError(f"header {name} must contain only printable ASCII characters")
        if has_token and name.lower() == "authorization":
            raise ValidationError(
                "headers must not contain Authorization if the password (the token) is set; remove one of them"
            )
        headers[name] = str(content).strip()
    return headers


def _read_headers(text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            # Not chained: the error of json quotes a header's value.
            raise ValidationError("headers must be valid JSON if it begins with a brace") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if any(":" not in line for line in lines):
        raise ValidationError('every line of headers must be "Name: value"')
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
