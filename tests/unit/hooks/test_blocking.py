"""Blocking methods that are derived from coroutines: what readers, tools, type checkers and Airflow see of them."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.hooks import sync_runner
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
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
    """In the docstring itself, or in one that it refers to."""

    def described(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        doc = inspect.getdoc(vars(MictlanXHook)[name]) or ""
        own = {line.split(":")[1].removeprefix("param ") for line in doc.splitlines() if line.startswith(":param ")}
        referred = [part for part in doc.split("``") if part in TWINS and part not in seen | {name}]
        return own.union(*(described(other, seen | {name}) for other in referred))

    missing = {name: set(inspect.signature(pair(name)[1]).parameters) - {"self"} - described(name) for name in TWINS}
    assert {name: parameters for name, parameters in missing.items() if parameters} == {}


SNIPPET = """
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar
from airflow_provider_mictlanx.hooks.sync_runner import blocking

P = ParamSpec("P")
T = TypeVar("T")

class Hook:
    def _run(self, method: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T: ...

    async def aput(self, key: str, *, rf: int = 1) -> dict[str, Any]: ...

    put = blocking(aput)

reveal_type(Hook().put)
reveal_type(Hook().put("key", rf=2))
Hook().put("key", rf="two")
Hook().put("key", unknown=1)
Hook().put()
"""


def test_type_checkers_see_the_signature(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--strict", "--disable-error-code=empty-body", f"--cache-dir={tmp_path}"]
    # Other modules than these two say nothing about the signature, and take a quarter of a minute.
    command += ["--follow-imports=skip", str(snippet), sync_runner.__file__]
    checked = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    shown = checked.stdout.replace("builtins.", "")  # which older ones put before str
    types = [line.partition("Revealed type is ")[2] for line in shown.splitlines() if "note: Revealed" in line]
    assert types == ['"def (key: str, *, rf: int =) -> dict[str, Any]"', '"dict[str, Any]"']
    errors = [line.rpartition("[")[2] for line in shown.splitlines() if "error: " in line]
    assert errors == ["arg-type]", "call-arg]", "call-arg]"], shown
