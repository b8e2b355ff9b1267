"""
What type checkers see of a method that is derived from a coroutine.

``make types`` checks this file, and also that each error which is ignored here is found.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, assert_type

from airflow_provider_mictlanx.hooks.sync_runner import blocking

P = ParamSpec("P")
T = TypeVar("T")


class Hook:
    def _run(self, method: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        raise NotImplementedError

    async def aput(self, key: str, *, rf: int = 1) -> dict[str, Any]:
        raise NotImplementedError

    put = blocking(aput)


def calls(hook: Hook) -> None:
    assert_type(hook.put("key", rf=2), dict[str, Any])
    hook.put("key", rf="two")  # type: ignore[arg-type]
    hook.put("key", unknown=1)  # type: ignore[call-arg]
    hook.put()  # type: ignore[call-arg]
