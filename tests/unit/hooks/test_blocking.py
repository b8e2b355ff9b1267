"""Blocking methods that are derived from coroutines: what readers, tools and Airflow see of them; and blocking_types.py."""

from __future__ import annotations

import asyncio
import inspect
import typing
from typing import Any

import pytest

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.docstrings import undescribed_parameters
from tests.support.public_names import async_twins, hook_methods

try:
    from airflow.sdk.bases.decorator import is_async_callable
except ImportError:  # before Airflow 3.2, which has no async tasks
    is_async_callable = inspect.iscoroutinefunction

NO_TWIN = {"aget_settings"}
"""Coroutines whose blocking form is a property."""

TWINS = sorted(async_twins())


def pair(name: str) -> tuple[Any, Any]:
    return vars(MictlanXHook)[name[1:]], vars(MictlanXHook)[name]


def test_coroutine_has_a_twin() -> None:
    coroutines = {name for name in hook_methods() if inspect.iscoroutinefunction(vars(MictlanXHook)[name])}
    assert coroutines - NO_TWIN == set(TWINS)
    assert len(TWINS) > 20


@pytest.mark.parametrize("name", TWINS)
def test_twin_is_described_as_its_coroutine(name: str) -> None:
    twin, coroutine = pair(name)
    assert (twin.__name__, twin.__qualname__) == (name[1:], f"MictlanXHook.{name[1:]}")
    assert twin.__module__ == MictlanXHook.__module__
    assert inspect.getdoc(twin) == inspect.getdoc(coroutine)
    assert inspect.signature(twin) == inspect.signature(coroutine)
    assert inspect.signature(getattr(MictlanXHook(), name[1:])) == inspect.signature(getattr(MictlanXHook(), name))
    assert typing.get_type_hints(twin) == typing.get_type_hints(coroutine)


@pytest.mark.parametrize("name", TWINS)
def test_only_the_coroutine_is_awaited_by_airflow(name: str) -> None:
    hook = MictlanXHook()
    for owner in (MictlanXHook, hook):
        assert is_async_callable(getattr(owner, name))
        assert not is_async_callable(getattr(owner, name[1:]))


def test_overridden_coroutine_is_what_the_twin_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hook(MictlanXHook):
        async def aexists(self, bucket_id: str, key: str, **_: Any) -> bool:
            return await asyncio.sleep(0, (bucket_id, key) == ("b", "k"))

    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", "mictlanx://r0@127.0.0.1:1/?protocol=http")
    assert Hook().exists("b", key="k")
    assert not Hook().exists("b", key="other")


def test_every_shared_parameter_is_described() -> None:
    missing = {name: undescribed_parameters(MictlanXHook, name) for name in TWINS}
    assert {name: parameters for name, parameters in missing.items() if parameters} == {}


@pytest.mark.parametrize(("name", "arguments"), [("put", ("b", "k")), ("find", ("b",)), ("get", ("b", "k", "made up"))])
def test_wrong_arguments_name_the_called_method(name: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises(TypeError, match=rf"^MictlanXHook\.{name}\(\) (missing|too many)"):
        getattr(MictlanXHook(), name)(*arguments)
