"""Bare clients of local VSSs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.bare_client import BareClient
from tests.support.vss import LocalVSS


@pytest.fixture
def wire_to() -> Iterator[Callable[..., BareClient]]:
    """Open bare clients: ``wire_to(vss, router=1)``."""
    opened: list[BareClient] = []

    def to(vss: LocalVSS, router: int = 0) -> BareClient:
        opened.append(BareClient(vss, router))
        return opened[-1]

    yield to
    for wire in opened:
        wire.client.close()


@pytest.fixture
def wire(vss: LocalVSS, wire_to: Callable[..., BareClient]) -> BareClient:
    """A bare client of the storage space that tests share."""
    return wire_to(vss)
