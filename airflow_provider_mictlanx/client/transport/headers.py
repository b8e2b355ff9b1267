"""Validate and merge HTTP headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from airflow_provider_mictlanx.client.errors import ValidationError

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
"""Default for further headers: empty and read-only."""

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?|")
_FRAMING = frozenset({"content-length", "transfer-encoding"})


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return valid headers, or raise ``ValidationError``. It never shows a value, which may be a secret."""
    if not isinstance(headers, Mapping):
        raise ValidationError(f"headers must be a dict of str, got {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ValidationError(f"headers must be str, got another type for name or value of {name!r}")
        if not _NAME.fullmatch(name):
            raise ValidationError(f"names of headers must be valid in HTTP, got {name!r}")
        if not _VALUE.fullmatch(value):
            raise ValidationError(f"the value of header {name!r} contains characters not allowed in an HTTP header")
        if name.lower() in _FRAMING:
            raise ValidationError(f"header {name!r} must not be set: the client sets it for every body")
    return dict(headers)


def add_headers(headers: Mapping[str, str], further: Mapping[str, str]) -> Mapping[str, str]:
    """Merge a caller's headers, which are checked, with those of a request, which take precedence."""
    return merge_headers(check_headers(headers), further)


def merge_headers(headers: Mapping[str, str], further: Mapping[str, str]) -> Mapping[str, str]:
    """Return both together; ``further`` replaces headers with the same name, in upper or lower case."""
    if not further:
        return headers
    names = {name.lower() for name in further}
    return {**{name: value for name, value in headers.items() if name.lower() not in names}, **further}
