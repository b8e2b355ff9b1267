"""
Redact secrets in text, in whatever encoding a server returns them.

Text and secret are compared in lower case, without blanks, line ends and characters beyond ASCII. Escapes (JSON,
percent, HTML) are decoded layer by layer. For hexadecimal and base64, the text is searched for the encoded secret.
"""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from urllib.parse import quote, quote_plus

MIN_SECRET_LENGTH = 4
"""Shorter secrets (characters) are not redacted, because they occur in words."""

MAX_SECRETS = 200
"""Maximum number of secrets in memory, the latest ones: tokens may change every hour."""

_MAX_LAYERS = 8
"""Maximum number of layers of escapes that are decoded."""

_INVISIBLE = re.compile(r"[^\x21-\x7e]+")
_VISIBLE = re.compile(r"[\x21-\x7e]")
_BASE64 = re.compile(r"[a-z0-9+/_=-]")
_BASE64_EDGE = 3
"""Number of base64 characters on either side of an encoded secret that may contain some of its bits."""

_ESCAPE = re.compile(
    r"\\u\{0*([0-9a-f]{1,6})\}|\\u([0-9a-f]{4})|\\x([0-9a-f]{2})|%u([0-9a-f]{4})|%([0-9a-f]{2})"  # by number
    r"|\\([^a-z0-9])|(\\[abefnrtv0])|(&(?:\#x?[0-9a-f]+|[a-z][a-z0-9]{1,31});)"
)
_HALF_ESCAPE = re.compile(
    r"(?:\\(?:u[0-9a-f]{0,3}|x[0-9a-f]?)?|%(?:u[0-9a-f]{0,3}|[0-9a-f]?)|&(?:\#x?[0-9a-f]{0,6})?)$"
)
"""The end of a secret that can form an escape with the characters after it."""


class Secrets:
    """
    The secrets of a process.

    :param most: maximum number of remembered secrets
    """

    def __init__(self, most: int = MAX_SECRETS) -> None:
        self._most = most
        self._known: dict[str, tuple[_Spelling, ...]] = {}
        self._spellings: tuple[_Spelling, ...] = ()
        self._lock = threading.Lock()

    def remember(self, secret: str) -> None:
        """Redact a secret from now on, unless it is too short."""
        if len(secret.strip()) < MIN_SECRET_LENGTH:
            return
        with self._lock:
            spellings = self._known.pop(secret, None)
            self._known[secret] = spellings or tuple(_spellings(secret))  # now the latest
            if spellings is None:
                if len(self._known) > self._most:
                    del self._known[next(iter(self._known))]
                self._spellings = tuple(chain.from_iterable(self._known.values()))

    def redact(self, text: str) -> str:
        """Return a text with ``***`` instead of every secret, in any encoding."""
        parts, at = [], -1
        for start, end in sorted(self._find(text)):
            if start > at:  # else it overlaps or follows the previous one
                parts += [text[max(at, 0) : start], "***"]
            at = max(at, end)
        return "".join([*parts, text[max(at, 0) :]])

    def _find(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield start and end of every secret."""
        spellings, flat = self._spellings, _flat(text)
        if not any(spelling.text in flat for spelling in spellings) and not _ESCAPE.search(flat):
            return  # the usual case, much faster than mapping every character
        level: _Level | None = _Level.undecoded(text)
        for _ in range(_MAX_LAYERS):
            if level is None:
                return
            for spelling in spellings:
                yield from level.find(spelling)
            level = level.decoded()


@dataclass(frozen=True)
class _Spelling:
    """
    One encoding of a secret.

    :ivar is_base64: True if the characters beside it may contain some of its bits
    """

    text: str
    is_base64: bool = False


class _Level:
    """A partly decoded text, with the position of every character in the original."""

    def __init__(self, text: str, starts: list[int], ends: list[int]) -> None:
        self.text = text
        self._starts = starts
        self._ends = ends

    @classmethod
    def undecoded(cls, text: str) -> _Level:
        starts = [match.start() for match in _VISIBLE.finditer(text)]
        return cls(_flat(text), starts, [start + 1 for start in starts])

    def find(self, spelling: _Spelling) -> Iterator[tuple[int, int]]:
        """Yield start and end of a secret in the original."""
        at = self.text.find(spelling.text)
        while at >= 0:
            first, last = at, at + len(spelling.text) - 1
            if spelling.is_base64:
                first, last = self._widened(first, last)
            yield self._starts[first], self._ends[last]
            at = self.text.find(spelling.text, at + len(spelling.text))

    def _widened(self, first: int, last: int) -> tuple[int, int]:
        for _ in range(_BASE64_EDGE):
            first -= first > 0 and _BASE64.match(self.text[first - 1]) is not None
            last += last + 1 < len(self.text) and _BASE64.match(self.text[last + 1]) is not None
        return first, last

    def decoded(self) -> _Level | None:
        """Return the text with one layer of escapes decoded, or None if it has no escapes."""
        texts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        at = 0
        for match in _ESCAPE.finditer(self.text):
            first, after = match.span()
            meant = _flat(_unescape(match))
            texts += [self.text[at:first], meant]
            starts += self._starts[at:first] + [self._starts[first]] * len(meant)
            ends += self._ends[at:first] + [self._ends[after - 1]] * len(meant)
            at = after
        decoded = "".join([*texts, self.text[at:]])
        if decoded == self.text:  # unknown entities remain
            return None
        return _Level(decoded, starts + self._starts[at:], ends + self._ends[at:])


def _flat(text: str) -> str:
    return _INVISIBLE.sub("", text).lower()


def _unescape(escape: re.Match[str]) -> str:
    *numbers, punctuation, _, entity = escape.groups()
    if number := next(filter(None, numbers), None):
        return chr(int(number, 16)) if int(number, 16) < 0x80 else ""
    return html.unescape(entity) if entity else punctuation or ""


def _spellings(secret: str) -> Iterator[_Spelling]:
    forms = {secret, secret.replace(" ", "+"), json.dumps(secret)[1:-1], quote(secret, safe=""), quote_plus(secret)}
    plain = {_flat(form) for form in forms} | {form.encode().hex() for form in forms}
    plain.add(_flat(_HALF_ESCAPE.sub("", secret.lower())))
    for form in forms:
        level = _Level.undecoded(form)
        while deeper := level.decoded():
            level = deeper
            plain.add(level.text)
    once = {encoded for form in forms for encoded in _base64_forms(form)}
    twice = {encoded for form in once for encoded in _base64_forms(form)}
    encoded = {_Spelling(_flat(form), is_base64=True) for form in once | twice}
    found = encoded.union(_Spelling(text) for text in plain)
    yield from (spelling for spelling in found if len(spelling.text) >= MIN_SECRET_LENGTH)


def _base64_forms(text: str) -> Iterator[str]:
    """Yield the three base64 forms of a text, as its bytes begin at a multiple of three or not."""
    data = text.encode()
    for before in range(3):
        shared = base64.b64encode(bytes(before) + data).decode()[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
        yield shared
        yield shared.replace("+", "-").replace("/", "_")
