"""How a server may write a secret or forge a line: encoders, and strategies for secrets, spellings and texts that are not printable."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

from hypothesis import strategies as st

Encoder = Callable[[str], str]


def _each(form: str) -> Encoder:
    """Build an encoder that writes every character by its number."""
    return lambda text: "".join(form.format(ord(char)) for char in text)


def _each_byte(form: str) -> Encoder:
    """Build an encoder that writes every byte of UTF-8."""
    return lambda text: "".join(form.format(byte) for byte in text.encode())


def _mixed_case(text: str) -> str:
    return "".join(f"%{byte:02x}" if at % 2 else f"%{byte:02X}" for at, byte in enumerate(text.encode()))


def _base64(alphabet: bytes, before: bytes, after: bytes, *, padded: bool) -> Encoder:
    """Build an encoder that writes the text between other bytes, as ``Basic`` does with a user's name."""

    def encode(text: str) -> str:
        encoded = base64.b64encode(before + text.encode() + after, alphabet).decode()
        return encoded if padded else encoded.rstrip("=")

    return encode


def _wrapped(text: str) -> str:
    encoded = base64.b64encode(text.encode()).decode()
    return "\n".join(encoded[at : at + 8] for at in range(0, len(encoded), 8))


ENCODERS: dict[str, Encoder] = {
    "unchanged": str,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, slashes escaped": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON, every character": _each("\\u{:04x}"),
    "JSON, every character, upper case": _each("\\u{:04X}"),
    "JSON, punctuation": lambda text: "".join(c if c.isalnum() else f"\\u{ord(c):04X}" for c in text),
    "percent": lambda text: quote(text, safe=""),
    "percent, a form": quote_plus,
    "percent, every character": _each_byte("%{:02x}"),
    "percent, mixed case": _mixed_case,
    "HTML": html.escape,
    "HTML, decimal": _each("&#{};"),
    "HTML, hexadecimal": _each("&#x{:x};"),
    "hexadecimal escapes": _each_byte("\\x{:02x}"),
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal, upper case": lambda text: text.encode().hex().upper(),
    "base64": _base64(b"+/", b"", b"", padded=True),
    "base64, after one byte": _base64(b"+/", b":", b"", padded=False),
    "base64, between bytes": _base64(b"+/", b"me:", b"?!", padded=True),
    "base64, after two bytes": _base64(b"+/", b"m:", b"!", padded=True),
    "base64 of URLs": _base64(b"-_", b"user:", b"", padded=False),
    "base64, in lines": _wrapped,
    "upper case": str.upper,
    "zero-width characters between": "\u200b".join,
}
"""By name: what writes a secret in another way."""

_ESCAPES = [name for name in ENCODERS if not name.startswith("base64") and not name.startswith("hexadecimal")]
_ESCAPES += ["hexadecimal escapes"]
_SEARCHED = [name for name in ENCODERS if name not in _ESCAPES]
"""What is undone by a search, not by decoding, and so is looked for inside and outside of the usual escapes only."""

_USUAL = ["unchanged", "JSON", "percent"]

PAIRS = [
    *((first, second) for first in _ESCAPES for second in _ESCAPES),
    *((first, second) for first in _USUAL for second in _SEARCHED),
    *((first, second) for first in _SEARCHED for second in [*_USUAL, "HTML, decimal"]),
    *((first, second) for first in ["base64", "base64 of URLs"] for second in _SEARCHED if second.startswith("base64")),
]
"""Encoders that servers use one after the other."""

_PRINTABLE = [chr(code) for code in range(0x21, 0x7F)]

tokens = st.text(_PRINTABLE, min_size=8, max_size=30)
"""What a token may be."""

header_values = st.lists(tokens, min_size=1, max_size=3).map(" ".join)
"""What the value of a header may be."""


encoders = st.lists(st.sampled_from(_ESCAPES), min_size=1, max_size=3) | st.tuples(
    st.sampled_from(_USUAL), st.sampled_from(_SEARCHED), st.sampled_from(_USUAL)
).map(list)
"""The names of the encoders that a secret goes through, the first one first."""


def spell(secret: str, names: list[str]) -> str:
    """Write a secret as the encoders do, one after the other."""
    for name in names:
        secret = ENCODERS[name](secret)
    return secret


EVIL = (
    "\n",
    "\r",
    "\t",
    "\0",
    "\x1b[31m",
    "\x1b]8;;http://example.org\x07",
    "\x7f",
    "\x85",
    "\x9b2J",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u2066",
    "\u200b",
    "\u200f",
    "\ufeff",
    "\ud800",
    "\udcff",
    "\U000e0041",
)
"""What forges lines, colours and directions."""

evil_texts = st.lists(
    st.sampled_from(EVIL) | st.text(max_size=4) | st.sampled_from(["ñ", "日本", "a", "/"]), max_size=8
).map("".join)
"""Texts with what is not printable in them."""
