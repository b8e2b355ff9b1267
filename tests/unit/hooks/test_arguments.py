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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda hook: hook.acopy("b", "k", "c", dest_key=""), "dest_key must be a str that is not empty, got ''"),
        (lambda hook: hook.acopy("b", "k", "c", dest_key=5), "dest_key must be a str that is not empty, got 5"),
        (lambda hook: hook.acopy("b", "", "c"), "key must be a str that is not empty, got ''"),
        (lambda hook: hook.acopy("b", "k", "c!"), "dest_bucket_id must be a safe id .*, got 'c!'"),
        (lambda hook: hook.acopy_prefix("b", "", "c!"), "dest_bucket_id must be a safe id .*, got 'c!'"),
        (lambda hook: hook.asynchronize(None, "mictlanx://b"), "source must be a path, got None"),
        (lambda hook: hook.asynchronize("mictlanx://b", ""), "destination must not be empty"),
        (
            lambda hook: hook.aget_to_file("b", "k", "/tmp", filename="a/b"),
            "filename must be a plain file name .*, got 'a/b'",
        ),
        (
            lambda hook: hook.aput("b", "k", "", tags={"a": 1}),
            "tags must be a dict of non-empty str to str, got 'a': 1",
        ),
    ],
)
async def test_error_names_the_parameter_of_the_call(
    call: Callable[[MictlanXHook], Awaitable[Any]], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MICTLANX_DEFAULT", "http://127.0.0.1:9")
    with pytest.raises(ValidationError, match=message):
        await call(MictlanXHook())
