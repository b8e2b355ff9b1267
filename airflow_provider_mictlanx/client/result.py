"""Convert between raised errors, as in internal code, and ``Result``, as in the public interface."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from option import Err, Ok, Result

from airflow_provider_mictlanx.client.errors import MictlanXError

P = ParamSpec("P")
T = TypeVar("T")


def returns_result(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[Result[T, MictlanXError]]]:
    """Return ``Ok(value)`` or ``Err(error)`` from a coroutine function that raises ``MictlanXError``."""

    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Result[T, MictlanXError]:
        try:
            return Ok(await function(*args, **kwargs))
        except MictlanXError as error:
            return Err(error)

    return wrapper


def unwrap(result: Result[T, MictlanXError]) -> T:
    """Return the value of an ``Ok``; raise the error of an ``Err``, where ``Result.unwrap`` raises a ``ValueError``."""
    if result.is_ok:
        return result.unwrap()
    raise result.unwrap_err()
