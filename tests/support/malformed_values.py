"""What strangers send: texts made of the pieces that parsers look for, and any JSON."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

PIECES = (
    *(
        "mictlanx://",
        "http://",
        "https://",
        "//",
        "/",
        "?",
        "#",
        "@",
        ":",
        ",",
        ";",
        "[",
        "]",
        "[::1]",
        "%",
        "%2f",
        "&",
        "=",
    ),
    *(
        "r0",
        "host",
        "a.example.org",
        "127.0.0.1",
        "-1",
        "0",
        "80",
        "60666",
        "99999",
        "\u0661",
        "\u00fc",
        "\uff0e",
        " ",
        "\n",
        "\0",
    ),
    *(
        "protocol",
        "http",
        "api_version",
        "http2",
        "1",
        "4",
        "yes",
        "kb",
        "MiB",
        ".",
        "..",
        "-",
        "_",
        "e9",
        "nan",
        "inf",
        "9" * 400,
    ),
)
"""Of URIs, sizes and names: what parsers split at, and what they mistake for numbers."""

texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map("".join)

scalars = (
    st.none() | st.booleans() | st.integers() | st.sampled_from([10**400, -1, 0, 2**63, 2**64]) | st.floats() | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a JSON value, itself included."""
    found = [path]
    if isinstance(value, dict):
        found += [place for name, inner in value.items() for place in places_in(inner, (*path, name))]
    if isinstance(value, list):
        found += [place for at, inner in enumerate(value) for place in places_in(inner, (*path, at))]
    return found


GONE = object()


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a JSON value with another value in one place, or without that place (``GONE``)."""
    if not path:
        return new
    copy = json.loads(json.dumps(value))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    if new is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return copy


@st.composite
def spoilt(draw: st.DrawFn, value: Any) -> Any:
    """Return a valid JSON value after changing or removing one or two places in it."""
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.sampled_from(places_in(value)))
        value = changed(value, place, draw(values | (st.just(GONE) if place else st.nothing())))
    return value
