"""A fixed number of workers that pull from an iterator: bounded work on any number of things. Standard library only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[object]], max_concurrency: int) -> None:
    """
    Do some work for every item, at most ``max_concurrency`` at once, in the items' order.

    The first error ends it: the other workers are cancelled, and that error is raised as it is.

    :param items: pulled one by one, so that they never all have to exist at once
    """
    iterator = iter(items)
    try:
        async with asyncio.TaskGroup() as group:
            for first in _take(iterator, max_concurrency):
                group.create_task(_work_through(first, iterator, work))
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


def _take(iterator: Iterator[T], most: int) -> Iterator[T]:
    for _ in range(most):
        try:
            yield next(iterator)
        except StopIteration:
            return


async def _work_through(first: T, rest: Iterator[T], work: Callable[[T], Awaitable[object]]) -> None:
    await work(first)
    for item in rest:
        await work(item)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
