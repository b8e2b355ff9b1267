"""
Reads the two pages of the documented surface in ``tests/data``: the API reference, and the table of the client's surface.

What they say is taken apart here, never repeated: a test that compares with them compares with the pages themselves.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data"
REQUIRED = inspect.Parameter.empty

_CALL = re.compile(r"(\w+)\((.*)\)", re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")


@dataclass
class Documented:
    """A callable as a page shows it: its name, its parameters with their defaults, and what is said of what it gives."""

    name: str
    parameters: list[tuple[str, Any]]
    gives: str = ""
    inside: list[str] = field(default_factory=list)


def parse_call(text: str) -> Documented:
    """Read ``name(a, b=1)``."""
    found = _CALL.fullmatch(text.strip())
    assert found, text
    [function] = ast.parse(f"def {found[1]}({found[2]}): ...").body
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    assert [arguments.kwonlyargs, arguments.vararg, arguments.kwarg] == [[], None, None], text
    without = [REQUIRED] * (len(arguments.args) - len(arguments.defaults))
    defaults = [*without, *(_value(default) for default in arguments.defaults)]
    return Documented(
        found[1], [(argument.arg, default) for argument, default in zip(arguments.args, defaults, strict=True)]
    )


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        assert ast.unparse(node.func) == "os.environ.get"
        return os.environ.get(*(ast.literal_eval(argument) for argument in node.args))
    return ast.literal_eval(node)


def api_reference() -> dict[str, list[Documented]]:
    """Return the callables of the API reference, by the class of their section."""
    sections: dict[str, list[Documented]] = {}
    section = ""
    lines = (DATA / "api-reference.txt").read_text().splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if heading := re.fullmatch(r"(\w+)¶", line):
            section = {"Router": "AsyncRouter", "Peer": "AsyncPeer"}.get(heading[1], heading[1])
            sections[section] = []
        elif re.fullmatch(r"[a-z_]+\(.*\)", line) and following in ("async", "¶"):
            sections[section].append(parse_call(line))
        elif (result := re.fullmatch(r"Result\[(\w+), \w+\]", line)) and section:
            sections[section][-1].gives = result[1]
    return sections


def surface_sections() -> dict[str, str]:
    """Return the text of each section of the surface page, by its heading."""
    parts = re.split(r"^## (.+)$", (DATA / "client-surface.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def client_table() -> list[Documented]:
    """Return the rows of the table of ``AsyncClient``."""
    rows = []
    for line in surface_sections()["AsyncClient"].splitlines():
        if line.startswith("| `"):
            call, gives = line.strip("| ").split(" | ", 1)
            documented = parse_call(_CODE.findall(call)[0])
            documented.gives = gives
            documented.inside = _CODE.findall(gives)
            rows.append(documented)
    return rows


def inline_calls(section: str) -> dict[str, Documented]:
    """Return the classes that a section's text, outside of tables, shows with their parameters."""
    text = "\n".join(line for line in surface_sections()[section].splitlines() if not line.startswith("|"))
    calls = [
        parse_call(code)
        for code in _CODE.findall(text)
        if re.fullmatch(r"[A-Z]\w+\(.*\)", code) and "Error" not in code
    ]
    return {call.name: call for call in calls}


def constructors() -> dict[str, Documented]:
    """Return the classes whose constructor is a heading: ``AsyncRouter(router_id, …)``."""
    calls = [parse_call(heading) for heading in surface_sections() if "(" in heading]
    return {call.name: call for call in calls}
