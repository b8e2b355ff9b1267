"""``MictlanXListOperator`` and ``MictlanXGetOperator``: what goes into XCom, and what is too much for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mictlanx.client.errors import NotFoundError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXGetOperator, MictlanXListOperator
from tests.support.operator_runs import run, store
from tests.support.vss import LocalVSS


def listed(bucket_id: str, **arguments: Any) -> Any:
    return run(MictlanXListOperator(task_id="list", bucket_id=bucket_id, **arguments))


def got(bucket_id: str, key: str, **arguments: Any) -> Any:
    return run(MictlanXGetOperator(task_id="get", bucket_id=bucket_id, key=key, **arguments))


def test_keys_are_listed(hook: MictlanXHook, bucket_id: str, told: Callable[[], list[str]]) -> None:
    store(hook, bucket_id, "b", "a/2.csv", "a/1.csv", "a/1.txt")
    assert listed(bucket_id) == ["a/1.csv", "a/1.txt", "a/2.csv", "b"]
    assert listed(bucket_id, prefix="a/1") == ["a/1.csv", "a/1.txt"]
    assert listed(bucket_id, glob="*.csv") == ["a/1.csv", "a/2.csv"]
    assert listed(bucket_id, prefix="nothing") == []
    assert f"Listed *.csv of bucket {bucket_id}: 2 keys" in told()
    hook.put(bucket_id, "a/_SUCCESS", "")
    assert listed(bucket_id, prefix="a/_") == ["a/_SUCCESS"]


def test_folders_below_a_prefix_are_listed(hook: MictlanXHook, bucket_id: str, told: Callable[[], list[str]]) -> None:
    store(hook, bucket_id, "a/1", "a/b/2", "a/b/3", "a-b/1", "a//c", "top")
    assert listed(bucket_id, delimiter="/") == ["a-b/", "a/"]
    assert listed(bucket_id, prefix="a/", delimiter="/") == ["a//", "a/b/"]
    assert listed(bucket_id, prefix="a", delimiter="-") == ["a-"]
    assert listed(bucket_id, prefix="a/b/", delimiter="/", max_keys=1) == []
    assert f"Listed * of bucket {bucket_id}: 2 folders" in told()
    with pytest.raises(AirflowFailException, match="has 2 folders, more than max_keys=1"):
        listed(bucket_id, delimiter="/", max_keys=1)


def test_no_more_keys_than_asked_for(hook: MictlanXHook, bucket_id: str) -> None:
    store(hook, bucket_id, "a", "b", "c")
    assert len(listed(bucket_id, max_keys=3)) == 3
    with pytest.raises(AirflowFailException, match=r"has 3 keys, more than max_keys=2; narrow prefix or glob"):
        listed(bucket_id, max_keys=2)
    assert len(listed(bucket_id, max_keys=None)) == 3
    assert listed(bucket_id, prefix="a", max_keys=1) == ["a"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"bucket_id": "a.b"},
        {"prefix": "a", "glob": "b"},
        {"delimiter": "/", "glob": "b"},
        {"delimiter": 1},
        {"max_keys": 0},
        {"prefix": 1},
        {"request_timeout": -1},
    ],
)
def test_bad_listing_is_refused_before_the_first_request(vss: LocalVSS, hook: MictlanXHook, wrong: Any) -> None:
    vss.reset_requests()
    with pytest.raises(AirflowFailException):
        listed(**{"bucket_id": "bucket", **wrong})
    assert vss.requests() == []


def test_text_comes_into_xcom(hook: MictlanXHook, bucket_id: str, told: Callable[[], list[str]]) -> None:
    hook.put(bucket_id, "a/text", "¡hola!\n")
    hook.put(bucket_id, "latin", "¡hola!".encode("latin-1"))
    hook.put(bucket_id, "empty", "")
    assert got(bucket_id, "a/text") == "¡hola!\n"
    assert f"Read {bucket_id}/a/text: 7 characters" in told()
    assert got(bucket_id, "latin", encoding="latin-1") == "¡hola!"
    assert got(bucket_id, "empty") == ""


def test_what_is_too_large_is_not_read(hook: MictlanXHook, vss: LocalVSS, bucket_id: str) -> None:
    hook.put(bucket_id, "large", b"x" * 48_001)
    hook.put(bucket_id, "fits", b"x" * 48_000)
    assert len(got(bucket_id, "fits")) == 48_000
    vss.reset_requests()
    with pytest.raises(AirflowFailException, match="48001 bytes, more than the allowed 48000"):
        got(bucket_id, "large")
    assert not vss.requests("GET", "/large_0$")
    assert len(got(bucket_id, "large", max_size="1MB")) == 48_001


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"\xff\xfe\xfa", "as utf-8 failed: .*choose another encoding"), (b"a\0b", "NUL characters")],
)
def test_what_is_no_text_fails_at_once(hook: MictlanXHook, bucket_id: str, data: bytes, why: str) -> None:
    hook.put(bucket_id, "binary", data)
    with pytest.raises(AirflowFailException, match=why):
        got(bucket_id, "binary")


@pytest.mark.parametrize("wrong", [{"encoding": "klingon"}, {"encoding": None}, {"max_size": "much"}, {"max_size": -1}])
def test_bad_get_is_refused_before_the_first_request(vss: LocalVSS, hook: MictlanXHook, wrong: Any) -> None:
    vss.reset_requests()
    with pytest.raises(AirflowFailException):
        got("bucket", "key", **wrong)
    assert vss.requests() == []


def test_what_is_not_there_may_be_there_later(hook: MictlanXHook, bucket_id: str) -> None:
    with pytest.raises(NotFoundError):
        got(bucket_id, "nothing")
