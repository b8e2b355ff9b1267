"""Bad input to the calls of the surface: always an ``Err(ValidationError)`` that names the parameter, and no request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from option import Result

from airflow_provider_mictlanx.client import MictlanXError, RetryPolicy, ValidationError
from tests.support.clients import checked_client
from tests.support.vss import LocalVSS

Call = Callable[..., Awaitable[Result[Any, MictlanXError]]]

NO_PATHS: list[Any] = [0, -1, 1.5, True, b"x", [], {}, object(), "a\0b", "\ud800"]
NO_TEXTS: list[Any] = [None, 0, 1.5, b"x", [], {}, object()]
NO_COUNTS: list[Any] = [0, -1, 1.5, True, "", "4", [], object()]
NO_WAITS: list[Any] = [None, -1, True, "", "5", float("nan"), [], object()]
NO_SIZES: list[Any] = [-1, 1.5, True, "", "1MB", float("inf"), [], object()]


def _cases() -> list[Any]:
    surface: list[tuple[str, str, list[Any]]] = [
        ("put_file", "path", [None, "", *NO_PATHS]),
        ("get_to_file", "output_path", [None, *NO_PATHS]),
        ("get_to_file", "fullname", ["a\0b", "\ud800", "a/b", ".."]),
        ("get_to_file", "max_delay", NO_WAITS),
        ("get", "max_backoff", NO_WAITS),
        ("get", "max_delay", NO_WAITS),
        ("get", "delay", NO_WAITS),
        ("get", "backoff_factor", NO_WAITS),
        ("get", "max_size", NO_SIZES),
        ("get", "max_paralell_gets", NO_COUNTS),
        ("get", "max_retries", NO_COUNTS),
        ("get_to_file", "max_paralell_gets", NO_COUNTS),
        ("get_chunk", "max_retries", NO_COUNTS),
        ("get_chunk", "index", [None, -1, 1.5, True, "0"]),
        ("get_metadata", "restart_policy", [RetryPolicy(retries=-1), RetryPolicy(retries="3")]),  # type: ignore[arg-type]
        ("list_balls", "prefix", NO_TEXTS),
        ("list_balls", "glob", NO_TEXTS),
        ("delete_bucket", "max_concurrency", NO_COUNTS),
    ]
    return [
        pytest.param(method, name, value, id=f"{method}-{name}-{place}")
        for method, name, values in surface
        for place, value in enumerate(values)
    ]


@pytest.mark.parametrize(("method", "name", "value"), _cases())
async def test_bad_input_is_an_error_before_the_first_request(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, method: str, name: str, value: Any
) -> None:
    good: dict[str, dict[str, Any]] = {
        "put_file": {"key": "k"},
        "get_to_file": {"ball_id": "k", "output_path": tmp_path},
        "get": {"key": "k"},
        "get_chunk": {"ball_id": "k", "index": 0},
        "get_metadata": {"ball_id": "k"},
    }
    async with checked_client(vss) as client:
        call: Call = getattr(client, method)
        error = (await call(bucket_id=bucket_id, **{**good.get(method, {}), name: value})).unwrap_err()
        assert type(error) is ValidationError, repr(error)
        assert {"fullname": "file name", "restart_policy": "RetryPolicy"}.get(name, name) in str(error)
        assert vss.requests(path=bucket_id) == []
    assert list(tmp_path.iterdir()) == []
