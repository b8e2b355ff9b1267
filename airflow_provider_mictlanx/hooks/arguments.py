"""
Keyword arguments that the hook's calls share: their types, their defaults, and helpers that pass them on.

A coroutine of the hook takes them as ``**options: Unpack[…]``; ``list_arguments`` lists them in its signature.
"""

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import fields
from typing import Any, ParamSpec, TypedDict, TypeVar, get_args, get_type_hints

from humanfriendly.text import concatenate

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.validation import check_bool

P = ParamSpec("P")
T = TypeVar("T")

DEFAULTS: dict[str, Any] = {
    "request_timeout": None,
    "deadline": None,
    "max_tries": 5,
    "max_concurrency": None,
    "max_backoff": 5,
    "rf": 1,
    "replace": False,
    "allow_reserved_bucket": False,
    "chunk_size": None,
    "tags": None,
}


class CallArguments(TypedDict, total=False):
    """Arguments of every call."""

    request_timeout: float | None
    deadline: float | None


class RetryArguments(TypedDict, total=False):
    """Arguments of every transfer."""

    max_tries: int
    max_concurrency: int | None
    max_backoff: float


class GetArguments(CallArguments, RetryArguments):
    """Arguments of a call that reads objects."""


class _StoreArguments(TypedDict, total=False):
    rf: int
    replace: bool
    allow_reserved_bucket: bool


class CopyArguments(GetArguments, _StoreArguments):
    """Arguments of a copy."""


class _ContentArguments(TypedDict, total=False):
    chunk_size: str | None
    tags: Mapping[str, str] | None


class PutArguments(CopyArguments, _ContentArguments):
    """Arguments of an upload."""


class BulkArguments(RetryArguments, _StoreArguments, _ContentArguments):
    """Arguments of the upload of a bulk, which has no deadline."""

    request_timeout: float | None


class DeleteArguments(CallArguments):
    """Arguments of a call that deletes an object."""

    allow_reserved_bucket: bool


class SweepArguments(CallArguments):
    """Arguments of a call that works on many objects without transferring them."""

    max_concurrency: int | None


class BatchDeleteArguments(DeleteArguments, SweepArguments):
    """Arguments of a call that deletes many objects."""


def list_arguments(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """
    Replace ``**options`` in a coroutine's signature by the arguments that it stands for.

    The coroutine receives all of them: omitted ones have their default. An unknown argument raises ``TypeError``, and a
    flag that is not a bool ``ValidationError``.
    """
    signature = inspect.signature(method)
    *own, options = signature.parameters.values()
    [arguments] = get_args(get_type_hints(method)[options.name])
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS[name], annotation=kind)
        for name, kind in get_type_hints(arguments).items()
    ]
    listed = signature.replace(parameters=[*own, *shared])
    flags = [name for name, parameter in listed.parameters.items() if isinstance(parameter.default, bool)]

    @functools.wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            bound = listed.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{method.__qualname__}() {error}") from None
        bound.apply_defaults()
        for name in flags:
            check_bool(name, bound.arguments[name])
        return await method(*bound.args, **bound.kwargs)

    vars(call)["__signature__"] = listed
    return call


def attributes_for(call: Callable[..., object], owner: object) -> dict[str, Any]:
    """Return those attributes of an object for which a call has a parameter of the same name."""
    parameters = inspect.signature(call).parameters
    return {name: value for name, value in vars(owner).items() if name in parameters}


def check_flags(owner: Any) -> None:
    """Raise ``ValidationError`` for a flag of a dataclass that is not a bool."""
    for argument in fields(owner):
        if argument.type == "bool":
            check_bool(argument.name, getattr(owner, argument.name))


def exactly_one(**given: Any) -> tuple[str, Any]:
    """Return name and value of the argument that is not None; raise ``ValidationError`` unless exactly one is."""
    found = [(name, value) for name, value in given.items() if value is not None]
    if len(found) != 1:
        got = concatenate([name for name, _ in found]) or "none"
        raise ValidationError(f"exactly one of {concatenate(given)} must be given, got {got}")
    return found[0]


def attributes(owner: object, *names: str) -> dict[str, Any]:
    """Return attributes of an object as keyword arguments."""
    return {name: getattr(owner, name) for name in names}
