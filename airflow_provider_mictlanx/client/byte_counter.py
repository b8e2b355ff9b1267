"""Count the bytes of every chunk that is stored or verified, so that a caller can show the progress of an object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_COUNT: ContextVar[Callable[[int], None]] = ContextVar("count_bytes", default=lambda size: None)


@contextmanager
def counting_bytes(count: Callable[[int], None]) -> Iterator[None]:
    """
    Count the bytes that the calls of a block transfer.

    :param count: receives the size of every chunk, in bytes, also of a chunk that needs no transfer
    """
    token = _COUNT.set(count)
    try:
        yield
    finally:
        _COUNT.reset(token)


def count_bytes(size: int) -> None:
    """Count a chunk that is stored or verified."""
    _COUNT.get()(size)
