"""The surface of ``AsyncRouter``, ``AsyncPeer``, ``Chunk`` and ``Chunks``: names, order and defaults of the tables."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from option import Result

from airflow_provider_mictlanx import client
from airflow_provider_mictlanx.client import AsyncPeer, AsyncRouter
from tests.support import official_surface as surface
from tests.support.docstrings import (
    described_parameters,
    own_parameters,
    shared_parameters,
    undescribed_parameters,
)
from tests.support.documented_surface import DATA, Documented, parse_call, surface_sections

OWN_REQUESTS = {
    AsyncRouter: ["announce", "get_peers", "read_data"],
    AsyncPeer: ["announce", "get_peers", "add_peers", "update_metadata", "get_by_checksum_to_file", "health"],
}
"""This client's further requests."""

EVERY_REQUEST = [
    (owner, name)
    for owner, own in OWN_REQUESTS.items()
    for name in [*(documented.name for documented in surface.REQUESTS[owner.__name__]), *own]
]
OFFICIAL = [
    (owner, documented)
    for owner in ("AsyncRouter", "AsyncPeer", "Chunk", "Chunks")
    for documented in [*surface.REQUESTS.get(owner, []), *surface.parse_lines(surface.PLAIN[owner])]
]
STATIC = ["from_str", "from_router", "empty", "from_bytes", "from_ndarray", "from_list"]


def assert_official(function: Any, documented: Documented) -> None:
    """The official parameters come first, by position and by name; each of the others has a default."""
    actual = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    official, further = actual[: len(documented.parameters)], actual[len(documented.parameters) :]
    assert [(p.name, p.default) for p in official] == documented.parameters
    assert all(
        type(p.default) is type(default)
        for p, (_, default) in zip(official, documented.parameters, strict=True)
        if default != {}
    )
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in official)
    assert all(p.default is not p.empty for p in further)


def _label(value: Any) -> str:
    return value if isinstance(value, str) else value.name


@pytest.mark.parametrize(("owner", "documented"), OFFICIAL, ids=_label)
def test_signature_is_official(owner: str, documented: Documented) -> None:
    assert_official(getattr(getattr(client, owner), documented.name), documented)


@pytest.mark.parametrize("owner", surface.CONSTRUCTORS)
def test_constructor_is_official(owner: str) -> None:
    assert_official(getattr(client, owner), parse_call(surface.CONSTRUCTORS[owner]))


@pytest.mark.parametrize(("owner", "documented"), OFFICIAL, ids=_label)
def test_static_methods_are_static(owner: str, documented: Documented) -> None:
    found = inspect.getattr_static(getattr(client, owner), documented.name)
    assert isinstance(found, staticmethod) == (documented.name in STATIC)


def test_tables_are_those_of_the_page() -> None:
    """Calls that the page shows in full are the same text there."""
    page = (DATA / "client-surface.md").read_text()
    for call in [*surface.WRITTEN_OUT, *surface.CONSTRUCTORS.values()]:
        name = call.partition("(")[0]
        assert f"{call}`" in page or f"## {call}\n" in page or name in surface.ABBREVIATED, call
        assert re.search(rf"[`. ]{name}\b", page), name


def test_every_row_of_the_page_is_in_the_tables() -> None:
    for owner in ("AsyncRouter", "AsyncPeer"):
        [text] = [text for heading, text in surface_sections().items() if heading.startswith(f"{owner}(")]
        names = {*re.findall(r"`([a-z_]+)\(", text), "base_url", "get_addr"}  # "the same names" at peers
        tables = {documented.name for documented in surface.REQUESTS[owner]}
        assert names == tables | {call.name for call in surface.parse_lines(surface.PLAIN[owner])}


@pytest.mark.parametrize(("endpoint", "name"), EVERY_REQUEST)
def test_every_request_takes_timeout_headers_and_verify(endpoint: type, name: str) -> None:
    function = getattr(endpoint, name)
    assert inspect.iscoroutinefunction(function)
    parameters = inspect.signature(function).parameters
    assert parameters["timeout"].default > 0
    assert parameters["headers"].default == {}
    assert parameters["verify"].default is False


@pytest.mark.parametrize(("endpoint", "name"), EVERY_REQUEST)
def test_no_default_can_be_changed(endpoint: type, name: str) -> None:
    for parameter in inspect.signature(getattr(endpoint, name)).parameters.values():
        assert not isinstance(parameter.default, dict | list | set)
        if isinstance(parameter.default, Mapping):
            with pytest.raises(TypeError):
                parameter.default["a"] = "b"  # type: ignore[index]


@pytest.mark.parametrize(("endpoint", "name"), EVERY_REQUEST)
def test_every_request_is_documented(endpoint: type, name: str) -> None:
    assert undescribed_parameters(endpoint, name) == set()
    assert "(seconds)" in described_parameters(endpoint, name)["timeout"]


@pytest.mark.parametrize("endpoint", OWN_REQUESTS)
def test_no_description_of_a_parameter_is_repeated(endpoint: type) -> None:
    own = [own_parameters(getattr(endpoint, name)) for owner, name in EVERY_REQUEST if owner is endpoint]
    counts = Counter(item for texts in [shared_parameters(endpoint), *own] for item in texts.items())
    assert [item for item, number in counts.items() if number > 1] == []


async def test_every_request_gives_a_result() -> None:
    """Asked without a server: what comes back is a ``Result`` all the same."""
    async with AsyncPeer("p", "127.0.0.1", 1) as peer:
        assert isinstance(await peer.health(), Result)
