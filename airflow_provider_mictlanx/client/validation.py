"""Check arguments before the first request."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache

import humanfriendly
from humanfriendly.text import pluralize

from airflow_provider_mictlanx.client.errors import ValidationError


def check_int(name: str, value: int, least: int = 1) -> int:
    """
    Return an int, or raise ``ValidationError`` that names the parameter.

    :param least: smallest accepted value
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValidationError(f"{name} must be an int of at least {least}, got {value!r}")
    return value


def _is_number(value: object) -> bool:
    """Return whether a value is an int or a float; an int beyond the largest float is not, as waits are floats."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return not sys.float_info.max < value < math.inf


def check_non_negative(name: str, value: float) -> float:
    """Return a number of at least 0, or raise ``ValidationError`` that names the parameter."""
    if not _is_number(value) or not value >= 0:
        raise ValidationError(f"{name} must be a number of at least 0, got {value!r}")
    return value


def check_seconds(name: str, value: timedelta | float) -> float:
    """Return a time in seconds, or raise ``ValidationError`` that names the parameter."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if not _is_number(number) or not 0 <= number < math.inf:
        raise ValidationError(f"{name} must be a timedelta or a number of seconds of at least 0, got {value!r}")
    return number


def check_bool(name: str, value: bool) -> bool:
    """Return a bool, or raise ``ValidationError`` that names the parameter: a str such as ``"False"`` would be true."""
    if not isinstance(value, bool):
        raise ValidationError(f"{name} must be True or False, got {value!r}")
    return value


def check_str(name: str, value: str) -> str:
    """Return a str, or raise ``ValidationError`` that names the parameter."""
    if not isinstance(value, str):
        raise ValidationError(f"{name} must be a str, got {value!r}")
    return value


def is_unicode(text: str) -> bool:
    """Return False for a str with half of a surrogate pair, which has no UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


_parse_text = lru_cache(maxsize=100)(humanfriendly.parse_size)
"""Parse a size; every put parses its default."""


def parse_size(text: str | int, name: str = "chunk_size", least: int = 1) -> int:
    """
    Return a number of bytes.

    :param text: ``"256kb"`` (1 kb = 1,000 bytes), ``"1MiB"`` (1,024 × 1,024) or a number of bytes
    :param name: name of the parameter, for the ``ValidationError``
    :param least: smallest accepted size (bytes)
    """
    try:
        size = text if isinstance(text, int) and not isinstance(text, bool) else _parse_text(text)
    except (humanfriendly.InvalidSize, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise ValidationError(f"{name} must be a size such as '256kb', '1MB' or '8MiB', got {text!r}") from error
    if size < least:
        raise ValidationError(f"{name} must be at least {pluralize(least, 'byte')}, got {text!r}")
    return int(size)


RESERVED_PREFIX = "mictlanx_"

MAX_TAGS = 1_000_000
"""Maximum number of characters of all tags, so that their JSON fits into an answer (``MAX_METADATA``)."""


def check_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    """Return tags, or raise ``ValidationError`` if one is not a str or has a reserved name, or all are too long."""
    if not isinstance(tags, Mapping):
        raise ValidationError(f"tags must be a dict of str, got {type(tags).__name__}")
    for name, tag in tags.items():
        if not isinstance(name, str) or not isinstance(tag, str) or not name:
            raise ValidationError(f"tags must be a dict of non-empty str to str, got {name!r}: {tag!r}")
        if not is_unicode(name + tag):
            raise ValidationError(f"tags must be valid Unicode, got {tag!r} under {name!r}")
        if name.startswith(RESERVED_PREFIX):
            raise ValidationError(f"names of tags must not begin with {RESERVED_PREFIX!r}, got {name!r}")
    if (size := sum(len(name) + len(tag) for name, tag in tags.items())) > MAX_TAGS:
        raise ValidationError(f"tags must have at most {MAX_TAGS:,} characters, got {size:,}; store them as an object")
    return tags


def check_timeout(seconds: float, name: str = "timeout") -> float:
    """Return a number of seconds above 0, or raise ``ValidationError`` that names the parameter."""
    if not _is_number(seconds) or not seconds > 0:
        raise ValidationError(f"{name} must be a number of seconds above 0, got {seconds!r}")
    return seconds
