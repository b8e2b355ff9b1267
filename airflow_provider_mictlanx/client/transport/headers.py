"""Validate and merge HTTP headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from airflow_provider_mictlanx.client.errors import ValidationError

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
"""What stands where no further headers are given; equals ``{}``, and can't be changed."""


_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?|")
_FRAMING = frozenset({"content-length", "transfer-encoding"})


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
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
        if name.lower() in _FRAMING:
            raise ValidationError(f"header {name!r} tells where the body ends, and is the client's own")
    return dict(headers)


def merge_headers(headers: Mapping[str, str], further: Mapping[str, str]) -> Mapping[str, str]:
    """Give both together; of two with the same name, in whatever case, the further one."""
    if not further:
        return headers
    names = {name.lower() for name in further}
    return {**{name: value for name, value in headers.items() if name.lower() not in names}, **further}
