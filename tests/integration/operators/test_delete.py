"""``MictlanXDeleteOperator`` by a list of keys and by prefix; by one key it is tested with the other operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXDeleteOperator
from tests.support.operator_runs import run, store
from tests.support.raw_requests import RawRequests
from tests.support.vss import LocalVSS


def deleted(bucket_id: str, **arguments: Any) -> Any:
    result = run(MictlanXDeleteOperator(task_id="delete", bucket_id=bucket_id, **arguments))
    assert result.pop("response_time") >= 0
    return result


def test_by_keys(hook: MictlanXHook, bucket_id: str, told: Callable[[], list[str]]) -> None:
    store(hook, bucket_id, "a", "b/1", "c")
    result = deleted(bucket_id, keys=["a", "b/1", "not there", "a"])
    assert result == {"bucket_id": bucket_id, "deleted": 2, "absent": 1, "failed": 0, "total": 3, "failures": []}
    assert hook.list_keys(bucket_id) == ["c"]
    assert told()[-1:] == [f"Deleting 4 keys of bucket {bucket_id}: 2 objects deleted; 1 not stored, 0 failed"]
    assert deleted(bucket_id, keys=[])["total"] == 0


def test_by_prefix_half_written_ones_too(hook: MictlanXHook, vss: LocalVSS, bucket_id: str) -> None:
    store(hook, bucket_id, "a/1", "a/2", "b")
    RawRequests(vss).put(bucket_id, "half", [b"1", b"2"], only=[0])
    result = deleted(bucket_id, prefix="a/")
    assert (result["deleted"], result["failed"], result["total"]) == (2, 0, 2)
    assert deleted(bucket_id, prefix="half")["deleted"] == 1
    assert hook.list_keys(bucket_id) == ["b"]
    assert RawRequests(vss).listed(bucket_id, "half") == []
    assert deleted(bucket_id, prefix="nothing")["total"] == 0


def test_empty_objects_by_prefix_and_by_keys(hook: MictlanXHook, vss: LocalVSS, bucket_id: str) -> None:
    for key in ("a/1", "a/2", "b"):
        hook.put(bucket_id, key, "")
    assert deleted(bucket_id, prefix="a/")["deleted"] == 2
    assert deleted(bucket_id, keys=["b", "a/1"])["deleted"] == 1
    assert not any(hook.exists(bucket_id, key) for key in ("a/1", "a/2", "b"))
    assert RawRequests(vss).listed_in(bucket_id) == []


def test_what_comes_in_meanwhile_goes_too(hook: MictlanXHook, bucket_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_mictlanx.client import AsyncClient

    store(hook, bucket_id, "a/1")
    original = AsyncClient.delete

    async def delete(self: AsyncClient, ball_id: str, *args: Any, **kwargs: Any) -> Any:
        if ball_id == "a/1":
            await self.put(bucket_id, "a/2", b"late")
        return await original(self, ball_id, *args, **kwargs)

    monkeypatch.setattr(AsyncClient, "delete", delete)
    assert deleted(bucket_id, prefix="a/")["deleted"] == 2
    assert hook.list_keys(bucket_id) == []


@pytest.mark.parametrize("which", [{"keys": ["one", "two"]}, {"prefix": "t"}])
def test_one_that_fails(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str, which: dict[str, Any]
) -> None:
    vss = own_vss(peers=1)
    connect(vss)
    store(MictlanXHook(), bucket_id, "one", "two")
    vss.set_fault("status", method="DELETE", path="/two_0$", status=403, body={"detail": "no"})
    result = deleted(bucket_id, fail_on_error=False, **which)
    assert (result["failed"], result["deleted"]) == (1, len(which.get("keys", "t")) - 1)
    assert [(failure["key"], failure["code"]) for failure in result["failures"]] == [("two", 403)]
    store(MictlanXHook(), bucket_id, "one")
    with pytest.raises(AirflowFailException, match=r"1 of \d objects failed: two"):
        deleted(bucket_id, **which)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prefix": ""},
        {"prefix": 7},
        {"glob": "*"},
        {"glob": "?*"},
        {"keys": "a text"},
        {"keys": ["a", ""]},
        {"keys": ["a", 1]},
        {"keys": ["a"], "bucket_id": "a.b"},
        {"keys": ["a"], "max_concurrency": 0},
        {"keys": ["a"], "deadline": -1},
        {"key": ""},
    ],
)
def test_bad_input_is_refused_before_the_first_request(vss: LocalVSS, hook: MictlanXHook, wrong: Any) -> None:
    vss.reset_requests()
    with pytest.raises(AirflowFailException):
        deleted(**{"bucket_id": "bucket", **wrong})
    assert vss.requests() == []


@pytest.mark.parametrize(
    ("given", "told"),
    [({}, "none"), ({"key": "a", "keys": []}, "key and keys"), ({"key": "", "prefix": ""}, "key and prefix")],
)
def test_exactly_one_way(given: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"one of key, keys, prefix and glob must be given, got {told}"):
        MictlanXDeleteOperator(task_id="delete", bucket_id="bucket", **given)


def test_nothing_left_after_rendering(hook: MictlanXHook) -> None:
    operator = MictlanXDeleteOperator(task_id="delete", bucket_id="bucket", key="{{ none }}")
    operator.key = None
    with pytest.raises(AirflowFailException, match="exactly one of key, keys, prefix and glob must be given, got none"):
        operator.execute({})


def test_age_that_renders_to_none_deletes_nothing(hook: MictlanXHook, bucket_id: str) -> None:
    """As ``older_than=task.output`` of a task that returned None; it once deleted objects of any age."""
    store(hook, bucket_id, "a")
    operator = MictlanXDeleteOperator(task_id="delete", bucket_id=bucket_id, prefix="a", older_than="{{ none }}")
    operator.older_than = None
    with pytest.raises(AirflowFailException, match="older_than must not be None after rendering"):
        run(operator)
    assert hook.list_keys(bucket_id) == ["a"]
