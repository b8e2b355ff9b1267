"""Arguments of the hook's calls are checked before the connection is read."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook


@pytest.mark.parametrize(
    ("call", "flag", "value"),
    [
        (lambda hook, **flag: hook.aput("b", "k", "x", **flag), "replace", "False"),
        (lambda hook, **flag: hook.aget_to_file("b", "k", "out", **flag), "replace", "{{ params.replace }}"),
        (lambda hook, **flag: hook.adelete_matching("b", prefix="", **flag), "allow_whole_bucket", "no"),
        (lambda hook, **flag: hook.adelete_matching("b", prefix="x", **flag), "dry_run", ""),
        (lambda hook, **flag: hook.asweep("b", "30d", **flag), "dry_run", None),
        (lambda hook, **flag: hook.aawait_bulk("bulk", **flag), "remove_on_completion", "False"),
    ],
)
async def test_flag_that_is_no_bool_is_refused(call: Callable[..., Awaitable[Any]], flag: str, value: object) -> None:
    """``"False"`` is true: it would delete what should be kept."""
    with pytest.raises(ValidationError, match=f"^{flag} must be True or False, got "):
        await call(MictlanXHook(), **{flag: value})
