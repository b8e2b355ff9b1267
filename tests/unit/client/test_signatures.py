"""The documented surface: names, order and defaults are those of the pages, which are read here and not repeated."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import re
import typing
from typing import Any

import pytest

from airflow_provider_mictlanx import client
from airflow_provider_mictlanx.client import AsyncClient, Chunk, Metadata
from tests.support import documented_surface as pages
from tests.support.docstrings import undescribed_parameters
from tests.support.documented_surface import REQUIRED, Documented

API = pages.api_reference()
TABLE = pages.client_table()
CONSTRUCTORS = {**pages.constructors(), **pages.inline_calls("AsyncClient")}


def assert_documented(function: Any, documented: Documented) -> None:
    """The documented parameters come first, with those names and defaults; what follows is keyword-only."""
    actual = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    positional = [p for p in actual if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in positional] == [name for name, _ in documented.parameters]
    for parameter, (name, default) in zip(positional, documented.parameters, strict=True):
        if default is REQUIRED:
            assert parameter.default is REQUIRED, f"{name} is required"
        else:
            assert parameter.default == default, f"{name} has the default {default!r}"
            assert isinstance(parameter.default, bool) == isinstance(default, bool), name
    further = actual[len(positional) :]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY and p.default is not REQUIRED for p in further)


def given_by(function: Any) -> Any:
    """What is in the Result: the annotation of the function that the decorator wraps."""
    return typing.get_type_hints(function)["return"]


def names_in(kind: Any) -> set[str]:
    """The names under which a result's parts are found."""
    if typing.is_typeddict(kind):
        return set(kind.__annotations__)
    fields = (
        {f.name for f in dataclasses.fields(kind)}
        if dataclasses.is_dataclass(kind)
        else set(getattr(kind, "__struct_fields__", getattr(kind, "model_fields", {})))
    )
    return fields | {name for name, value in inspect.getmembers(kind) if isinstance(value, property)}


def test_the_pages_are_read() -> None:
    """Nothing below could fail if nothing was found in the pages."""
    assert [d.name for d in API["AsyncClient"]][:2] == ["__init__", "await_bulk"]
    assert {d.name for d in API["AsyncRouter"]} == {"get_by_checksum_to_file", "get_metadata"}
    assert len(API["AsyncClient"]) == 8
    assert len(TABLE) == 17
    assert set(CONSTRUCTORS) == {"AsyncRouter", "AsyncPeer", "Chunk", "RetryPolicy"}
    assert TABLE[0].parameters[:4] == [
        ("bucket_id", REQUIRED),
        ("key", REQUIRED),
        ("value", REQUIRED),
        ("chunk_size", "256kb"),
    ]


@pytest.mark.parametrize(
    ("owner", "documented"),
    [(owner, documented) for owner, found in API.items() for documented in found],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_api_reference(owner: str, documented: Documented) -> None:
    function = getattr(getattr(client, owner), documented.name)
    assert_documented(function, documented)
    if documented.gives:
        given = given_by(function)
        assert given.__name__ == documented.gives
        assert given is bool or getattr(client, documented.gives) is given


@pytest.mark.parametrize("documented", TABLE, ids=lambda documented: documented.name)
def test_client_table(documented: Documented) -> None:
    function = getattr(AsyncClient, documented.name)
    assert_documented(function, documented)
    assert inspect.getdoc(function)


@pytest.mark.parametrize("name", [name for name in dir(AsyncClient) if not name.startswith("_")])
def test_every_parameter_is_described(name: str) -> None:
    assert undescribed_parameters(AsyncClient, name) == set()


@pytest.mark.parametrize("documented", TABLE, ids=lambda documented: documented.name)
def test_what_is_in_the_result(documented: Documented) -> None:
    given = given_by(getattr(AsyncClient, documented.name))
    if documented.gives.startswith("no Result"):
        assert documented.inside == ["(Metadata, memoryview)"]
        assert typing.get_origin(given) is collections.abc.AsyncGenerator
        assert typing.get_args(given)[0] == tuple[Metadata, memoryview]
        return
    first, *rest = documented.inside or ["bool"]  # "as above"
    if first.startswith("("):
        assert given == tuple[Chunk, Metadata]
        assert first == "(Chunk, Metadata)"
        return
    name, _, fields = first.partition("(")
    if name in ("bool", "str"):
        assert given.__name__ == name
        return
    assert given is getattr(client, name)
    parts = fields.removesuffix(")") or ", ".join(rest)
    wanted = set(re.findall(r"(?:^|, )(\w+)(?=$|,|:| )", parts)) if fields or name != "Bucket" else set()
    if fields or name in ("Ball", "BulkPutResponse"):
        assert wanted
        assert wanted <= names_in(given)
    if name == "Bucket":
        assert rest == ["len()", "size_bytes()", "size()"]
        assert callable(given.__len__)
        assert callable(given.__iter__)
        assert all(callable(getattr(given, method)) for method in ("size_bytes", "size"))


@pytest.mark.parametrize("name", sorted(CONSTRUCTORS))
def test_constructors(name: str) -> None:
    assert_documented(getattr(client, name), CONSTRUCTORS[name])


def test_chunk_tells_size_and_checksum() -> None:
    chunk = Chunk("ball", 2, b"abc")
    assert chunk.size == 3
    assert chunk.checksum == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert chunk.chunk_id == "ball_2"
    assert chunk.metadata == {}
    assert Chunk("ball", 0, b"", "own", {"a": "b"}).metadata == {"a": "b"}


def test_errors_are_the_documented_ones() -> None:
    assert issubclass(client.BallConflictError, client.FileAlreadyExists)
    for function in (getattr(AsyncClient, documented.name) for documented in TABLE):
        hints = typing.get_type_hints(function)
        assert all(hint is not inspect.Parameter.empty for hint in hints.values())
        assert set(inspect.signature(function).parameters) - {"self"} <= set(hints)
