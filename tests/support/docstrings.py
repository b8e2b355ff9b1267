"""Parameters as docstrings describe them: in a method's own, in one that it refers to, or shared in that of a class."""

from __future__ import annotations

import inspect
import re
from typing import Any

SHARED = "Parameters that the methods share:"

_FIELD = re.compile(r"^:param (\w+): (.*(?:\n +.*)*)", re.MULTILINE)
_REFERENCE = re.compile(r"arameters[\w ]*: see ((?:``\w+``(?:, | and )?)+)")


def own_parameters(function: Any) -> dict[str, str]:
    """Return the descriptions in a method's own docstring."""
    return _fields(inspect.getdoc(function) or "")


def shared_parameters(owner: type) -> dict[str, str]:
    """Return the descriptions that the methods of a class share; each is written in one class only."""
    found: dict[str, str] = {}
    for part in owner.__mro__:
        _, _, shared = inspect.cleandoc(vars(part).get("__doc__") or "").partition(SHARED)
        for name, text in _fields(shared).items():
            assert name not in found, f"{part.__name__} describes the shared parameter {name} again"
            found[name] = text
    return found


def described_parameters(owner: type, name: str) -> dict[str, str]:
    """Return the descriptions that a reader of a method's docstring finds: there, one reference away, or shared."""
    found = shared_parameters(owner)
    for references in _REFERENCE.findall(" ".join((inspect.getdoc(getattr(owner, name)) or "").split())):
        for other in re.findall(r"``(\w+)``", references):
            found |= own_parameters(getattr(owner, other))
    return found | own_parameters(getattr(owner, name))


def undescribed_parameters(owner: type, name: str) -> set[str]:
    """Return the parameters of a method that nothing describes."""
    return {*inspect.signature(getattr(owner, name)).parameters} - {"self"} - {*described_parameters(owner, name)}


def _fields(doc: str) -> dict[str, str]:
    return {name: " ".join(text.split()) for name, text in _FIELD.findall(doc)}
