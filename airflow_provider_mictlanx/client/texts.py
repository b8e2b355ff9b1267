"""
Clean text for errors and log records: redact secrets and escape characters that are not printable.

Every ``MictlanXError`` cleans its message, and every logger of the package its records. The secrets are those that this
process sends: each client adds its token and its headers.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

from airflow_provider_mictlanx.client.redaction import Secrets

SHORTEST_VALUE = 8
"""Shorter header values (characters) are redacted only if the header's name is secret: many are plain words."""

NAMES_SHOWN = 5
"""Maximum number of objects that an error names."""

_WINDOW = 4096
"""Number of characters that an excerpt is taken from: redacting a megabyte would block the event loop."""

_SEPARATORS = re.compile(r"""[\s;,=&"']+""")
_SECRET_NAME = re.compile(r"auth|cookie|credential|key|pass|secret|session|signature|token", re.IGNORECASE)

_secrets = Secrets()


def clean(text: str) -> str:
    """Return a text with secrets redacted and with characters that are not printable escaped."""
    return printable(redact(text))


def printable(text: str) -> str:
    """Return a text with Python escapes, as in a ``repr``, for characters that are not printable."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def redact(text: str) -> str:
    """Return a text with ``***`` instead of every secret, in any encoding."""
    return _secrets.redact(text)


def excerpt(text: str | bytes, max_size: int) -> str:
    """Return the beginning of a text. It is redacted before it is cut, because half a secret is not recognized."""
    beginning = text[:_WINDOW].decode("utf-8", "replace") if isinstance(text, bytes) else text[:_WINDOW]
    redacted = redact(beginning)
    return redacted if len(redacted) <= max_size else f"{redacted[:max_size]}…"


def truncate(text: str, max_size: int) -> str:
    """Return at most ``max_size`` characters of a text, with an ellipsis if it is longer; ``excerpt`` also redacts."""
    return text if len(text) <= max_size else f"{text[: max_size - 1]}…"


def format_first(texts: Sequence[str], separator: str = ", ", most: int = NAMES_SHOWN) -> str:
    """Return the first few texts, and the number of the others."""
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return separator.join(texts[:most]) + more


# Secrets


def remember_secret(secret: str) -> None:
    """Redact a secret from now on."""
    _secrets.remember(secret)


def remember_header(name: str, value: str) -> None:
    """Redact the value of a header and its longer parts from now on: a server may echo a cookie without its name."""
    if is_secret_name(name):
        _secrets.remember(value)
    for secret in (value, *_SEPARATORS.split(value), *_credentials_in(value)):
        if len(secret) >= SHORTEST_VALUE:
            _secrets.remember(secret)


@lru_cache(maxsize=256)
def is_secret_name(name: str) -> bool:
    """Return whether the header of this name has a secret value, as ``Authorization`` has."""
    return _SECRET_NAME.search(name) is not None


def _credentials_in(value: str) -> Iterator[str]:
    """Yield ``user:password``, and the password alone, from a header of basic authentication (RFC 7617)."""
    scheme, _, encoded = value.partition(" ")
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(encoded.strip()).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        yield from (decoded, decoded.partition(":")[2])


# Logging


class _Cleaning(logging.Filter):
    """Clean the message of a record, which then has one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = clean(record.getMessage()), None
        return True


_CLEANING = _Cleaning()
_LOGGING = frozenset({"debug", "info", "warning", "error", "critical", "exception"})


def get_logger(name: str) -> logging.Logger:
    """Return a logger that cleans its records."""
    logger = logging.getLogger(name)
    logger.addFilter(_CLEANING)
    return logger


def clean_logger(logger: Any) -> Any:
    """Return a logger that cleans its messages, for one of the standard library or of structlog (Airflow 3)."""
    if isinstance(logger, logging.Logger):
        logger.addFilter(_CLEANING)
        return logger
    return _CleanLogger(logger)


class _CleanFormat(str):
    """Format the message that is the first argument with the other ones, and clean it."""

    def __mod__(self, arguments: tuple[object, ...]) -> str:
        message, *values = arguments
        return clean(str(message) % tuple(values) if values else str(message))


class _CleanLogger:
    """Wrap a logger without filters. No frame is between it and its caller, whose file and line the log shows."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._logger, name)
        return partial(found, _CleanFormat()) if name in _LOGGING else found
