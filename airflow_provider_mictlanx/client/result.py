"""
The border between raising and returning.

Inside, code raises ``MictlanXError``; the documented surface returns ``Result``.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from option import Err, Ok, Result

from airflow_provider_mictlanx.client.errors import MictlanXError

P = ParamSpec("P")
T = TypeVar("T")


def returns_result(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[Result[T, MictlanXError]]]:
    """Turn a coroutine function that raises ``MictlanXError`` into one that returns ``Ok(value)`` or ``Err(error)``."""

    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Result[T, MictlanXError]:
        try:
            return Ok(await function(*args, **kwargs))
        except MictlanXError as error:
            return Err(error)

    return wrapper


def unwrap(result: Result[T, MictlanXError]) -> T:
    """Return the value of an ``Ok``; raise the error of an ``Err`` (``Result.unwrap`` would raise a ``ValueError``)."""
    if result.is_ok:
        return result.unwrap()
    raise result.unwrap_err()
