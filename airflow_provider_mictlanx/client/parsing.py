"""
Answers into models. A long listing is read item by item. Knows no model; imports nothing of the client but ``threads``.

One call into a parser written in C keeps every other thread waiting until it returns: 0.15 s for 10,000 chunks, in which a
triggerer's loop would serve none of its other triggers. Item by item the interpreter changes threads in between.
"""

from __future__ import annotations

import json
from json.decoder import WHITESPACE  # type: ignore[attr-defined]
from typing import Any, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import from_json

from airflow_provider_mictlanx.client.threads import INLINE

M = TypeVar("M", bound=BaseModel)


def model_of(model: type[M], body: bytes) -> M:
    """
    Give a JSON answer as the model that it has to fit; ``pydantic.ValidationError`` where it does not.

    :param body: to be read in a thread where it is longer than ``INLINE``
    """
    listed = _listed_field(model) if len(body) > INLINE else None
    if listed is not None:
        try:
            return model.model_validate(_Reader(body.decode(), *listed).members())
        except (ValueError, IndexError, RecursionError):
            pass  # what is wrong with it is told by the parser that knows how to
    return model.model_validate_json(body)


def _listed_field(model: type[BaseModel]) -> tuple[str, type[BaseModel]] | None:
    """Give the field that is a list of models, and which."""
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is list:
            (item,) = get_args(field.annotation)
            if isinstance(item, type) and issubclass(item, BaseModel):
                return name, item
    return None


class _Reader:
    """Reads an object of JSON member by member, and one of them, a list, item by item; anything wrong is a ``ValueError`` or an ``IndexError``."""

    def __init__(self, text: str, listed: str, item: type[BaseModel]) -> None:
        self._text = text
        self._at = 0
        self._listed = listed
        self._item = item
        self._decode = json.JSONDecoder(parse_constant=_refuse).raw_decode
        # Python takes half of a surrogate pair for a character; pydantic does not, and nor does anything that encodes it later.
        self._surrogates = "\\ud" in text or "\\uD" in text

    def members(self) -> dict[str, Any]:
        """Read the whole text."""
        found: dict[str, Any] = {}
        for _ in self._between("{", "}"):
            name = self._value()
            self._expect(":")
            found[name] = self._items() if name == self._listed and self._next() == "[" else self._value()
        if self._next(or_end=True):
            raise ValueError("something follows the object")
        return found

    def _items(self) -> list[BaseModel]:
        return [self._item.model_validate(self._value()) for _ in self._between("[", "]")]

    def _between(self, opens: str, closes: str) -> Any:
        """Stop at every member between two brackets."""
        self._expect(opens)
        if self._next() == closes:
            self._expect(closes)
            return
        while True:
            yield
            if self._next() == closes:
                self._expect(closes)
                return
            self._expect(",")

    def _value(self) -> Any:
        self._next()
        begin = self._at
        value, self._at = self._decode(self._text, begin)
        return from_json(self._text[begin : self._at]) if self._surrogates else value

    def _expect(self, character: str) -> None:
        if self._next() != character:
            raise ValueError(f"{character!r} is missing")
        self._at += 1

    def _next(self, *, or_end: bool = False) -> str:
        self._at = WHITESPACE.match(self._text, self._at).end()
        return "" if or_end and self._at == len(self._text) else self._text[self._at]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
