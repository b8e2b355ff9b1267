"""Deletes by age and number, sweeps and forgotten bulks, through their operators."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mictlanx.batches import delete as batch_delete
from airflow_provider_mictlanx.client.errors import UnavailableError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXDeleteBulkOperator,
    MictlanXDeleteOperator,
    MictlanXSweepOperator,
)
from tests.support.operator_runs import run, store
from tests.support.raw_requests import RawRequests
from tests.support.vss import LocalVSS


def now() -> datetime:
    """Return a time that separates what was written before from what is written next."""
    time.sleep(0.002)
    at = datetime.now(UTC)
    time.sleep(0.002)
    return at


def upkeep(kind: type, **arguments: Any) -> dict[str, Any]:
    """Run an operator dry and for real; check that both name the same, and return the result."""
    dry = run(kind(task_id="dry", dry_run=True, **arguments))
    real = run(kind(task_id="real", dry_run=False, **arguments))
    for result in (dry, real):
        assert result.pop("response_time") >= 0
    assert (dry.pop("dry_run"), real.pop("dry_run")) == (True, False)
    assert dry == real
    assert isinstance(real, dict)
    return real


def delete(bucket_id: str, **arguments: Any) -> dict[str, Any]:
    return upkeep(MictlanXDeleteOperator, bucket_id=bucket_id, **arguments)


def sweep(bucket_id: str, older_than: Any) -> dict[str, Any]:
    return upkeep(MictlanXSweepOperator, bucket_id=bucket_id, older_than=older_than)


def put_half(vss: LocalVSS, bucket_id: str, ball_id: str) -> None:
    RawRequests(vss).put(bucket_id, ball_id, [b"first", b"second"], only=[0])


# Deletes


def test_old_objects_are_deleted(
    hook: MictlanXHook, vss: LocalVSS, bucket_id: str, told: Callable[[], list[str]]
) -> None:
    store(hook, bucket_id, "a/1", "a/22", "b")
    put_half(vss, bucket_id, "half")
    expiry = now()
    store(hook, bucket_id, "a/new")
    counts = {"deleted": 2, "kept": 1, "failed": 0, "total": 3, "bytes": 7, "first": ["a/1", "a/22"], "failures": []}
    result = delete(bucket_id, prefix="a/", older_than=expiry)
    assert result == {"bucket_id": bucket_id, "prefix": "a/", "glob": "", **counts}
    assert f"Deleting a/* of bucket {bucket_id}: 2 objects to delete, 7 bytes; 1 kept, 0 failed" in told()
    assert f"Deleting a/* of bucket {bucket_id}: 2 objects deleted, 7 bytes; 1 kept, 0 failed" in told()
    assert hook.list_keys(bucket_id) == ["a/new", "b"]
    # An upload that stopped half-way is no old object, and an age above those of all objects selects none.
    assert delete(bucket_id, prefix="half", older_than=str(expiry))["kept"] == 1
    assert delete(bucket_id, glob="*", allow_whole_bucket=True, older_than="1h")["deleted"] == 0
    assert delete(bucket_id, glob="?", older_than=now())["first"] == ["b"]
    assert hook.list_keys(bucket_id) == ["a/new"]
    assert RawRequests(vss).listed(bucket_id, "half") != []


def test_newest_objects_are_kept(hook: MictlanXHook, vss: LocalVSS, bucket_id: str) -> None:
    for key in ("x/c", "x/a", "x/b", "y"):
        store(hook, bucket_id, key)
        now()
    put_half(vss, bucket_id, "x_half")
    result = delete(bucket_id, prefix="x", keep_last=2)
    assert (result["deleted"], result["kept"], result["first"]) == (1, 3, ["x/c"])
    assert hook.list_keys(bucket_id) == ["x/a", "x/b", "y"]
    hook.put(bucket_id, "x/empty", "")
    assert delete(bucket_id, prefix="x", keep_last=1, older_than="1h")["deleted"] == 0
    assert delete(bucket_id, prefix="x", keep_last=1)["first"] == ["x/a", "x/b"]
    assert delete(bucket_id, prefix="x", keep_last=0)["first"] == ["x/empty"]
    assert hook.list_keys(bucket_id) == ["y"]


def test_whole_bucket_must_be_allowed(hook: MictlanXHook, vss: LocalVSS, bucket_id: str) -> None:
    store(hook, bucket_id, "a", "b/c")
    put_half(vss, bucket_id, "half")
    for whole in ({"prefix": ""}, {"glob": ""}, {"glob": "**"}, {"prefix": "", "older_than": "1d"}):
        with pytest.raises(AirflowFailException, match="set allow_whole_bucket=True"):
            run(MictlanXDeleteOperator(task_id="delete", bucket_id=bucket_id, **whole))
    result = delete(bucket_id, prefix="", allow_whole_bucket=True)
    assert (result["deleted"], result["first"]) == (3, ["a", "b/c", "half"])
    assert RawRequests(vss).listed_in(bucket_id) == []


def test_objects_that_change_meanwhile_are_kept(
    hook: MictlanXHook, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator lists again before it deletes."""
    store(hook, bucket_id, "a/1", "a/2", "a/gone")
    expiry = now()
    original = batch_delete.list_by_key
    listings = 0

    async def list_by_key(client: Any, *args: Any) -> Any:
        nonlocal listings
        listings += 1
        if listings == 2:
            await hook.aput(bucket_id, "a/2", "new", replace=True)
            await hook.adelete(bucket_id, "a/gone")
        return await original(client, *args)

    monkeypatch.setattr(batch_delete, "list_by_key", list_by_key)
    result = run(MictlanXDeleteOperator(task_id="delete", bucket_id=bucket_id, prefix="a/", older_than=expiry))
    assert (result["deleted"], result["kept"], result["first"]) == (1, 1, ["a/1"])
    assert hook.get(bucket_id, "a/2") == b"new"


def test_many_windows_have_one_result(hook: MictlanXHook, bucket_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_delete, "WINDOW", 2)
    monkeypatch.setattr("airflow_provider_mictlanx.hooks.summaries._MAX_OBJECTS", 4)
    store(hook, bucket_id, *"abcde", "x/1")
    result = delete(bucket_id, glob="?", older_than=now())
    assert (result["deleted"], result["total"], result["bytes"]) == (5, 5, 5)
    assert result["first"] == ["a", "b", "c", "d"]
    assert hook.list_keys(bucket_id) == ["x/1"]


def test_failed_deletes_are_counted(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str
) -> None:
    vss = own_vss(peers=1)
    connect(vss)
    store(MictlanXHook(), bucket_id, "one", "two")
    vss.set_fault("status", method="DELETE", path="/two_0$", status=403, body={"detail": "no"})
    arguments = {"bucket_id": bucket_id, "glob": "*o*", "older_than": now(), "fail_on_error": False}
    result = run(MictlanXDeleteOperator(task_id="delete", **arguments))
    assert (result["deleted"], result["failed"], result["first"]) == (1, 1, ["one"])
    assert [(failure["key"], failure["code"]) for failure in result["failures"]] == [("two", 403)]


@pytest.mark.parametrize("kind", ["peer_down", "peer_silent"])
def test_nothing_is_deleted_while_a_peer_is_silent(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str, kind: str
) -> None:
    vss = own_vss(peers=2)
    connect(vss, timeout=5)
    store(MictlanXHook(), bucket_id, "a", "b")
    put_half(vss, bucket_id, "half")
    before = now()
    calls: list[Any] = [
        MictlanXDeleteOperator(task_id="t", bucket_id=bucket_id, prefix="a", older_than=before),
        MictlanXDeleteOperator(task_id="t", bucket_id=bucket_id, glob="?", keep_last=1),
        MictlanXDeleteOperator(task_id="t", bucket_id=bucket_id, glob="?"),
        MictlanXSweepOperator(task_id="t", bucket_id=bucket_id, older_than=before, dry_run=False),
        MictlanXSweepOperator(task_id="t", bucket_id=bucket_id, older_than=before),
    ]
    vss.reset_requests()
    with vss.fault(kind, peer="peer-1"):
        for call in calls:
            with pytest.raises(UnavailableError, match="does not answer"):
                run(call)
    assert vss.requests("DELETE") == []
    assert len(RawRequests(vss).listed_in(bucket_id)) >= 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"older_than": "soon"},
        {"older_than": datetime(2026, 1, 1)},
        {"older_than": "2026-01-01"},
        {"older_than": timedelta(-1)},
        {"older_than": 7},
        {"older_than": "30"},
        {"older_than": "6M"},
        {"keep_last": -1},
        {"keep_last": "x"},
        {"prefix": 1},
    ],
)
def test_wrong_selection_is_refused_first(vss: LocalVSS, hook: MictlanXHook, wrong: dict[str, Any]) -> None:
    vss.reset_requests()
    with pytest.raises(AirflowFailException, match=f"{next(iter(wrong))} must be"):
        run(MictlanXDeleteOperator(task_id="delete", bucket_id="bucket", **{"prefix": "a", **wrong}))
    assert vss.requests() == []


@pytest.mark.parametrize("given", [{"older_than": "1d"}, {"keep_last": 1}, {"dry_run": True}])
def test_selection_needs_a_prefix_or_glob(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be given with prefix or glob only"):
        MictlanXDeleteOperator(task_id="delete", bucket_id="bucket", key="a", **given)


def test_random_deletes_agree_with_a_dictionary(hook: MictlanXHook, bucket_id: str) -> None:
    chance = random.Random(19)
    times: dict[str, datetime] = {}
    moments = [now()]
    for step in range(40):
        prefix = chance.choice(["a/", "b/"])
        if chance.random() < 0.6:
            key = prefix + chance.choice("xyz")
            hook.put(bucket_id, key, f"content {step}", replace=True)
            times[key] = now()
        else:
            keep_last = chance.choice([None, 0, 1, 2])
            older_than = chance.choice([None, *moments[-3:]]) if keep_last is not None else chance.choice(moments[-3:])
            newest_first = sorted((key for key in times if key.startswith(prefix)), key=times.__getitem__, reverse=True)
            chosen = [key for key in newest_first[keep_last or 0 :] if older_than is None or times[key] < older_than]
            result = delete(bucket_id, prefix=prefix, keep_last=keep_last, older_than=older_than)
            assert result["first"] == sorted(chosen)
            assert result["kept"] == len(newest_first) - len(chosen)
            for key in chosen:
                del times[key]
        moments.append(now())
        assert hook.list_keys(bucket_id) == sorted(times)


# Sweeps


def test_only_old_half_uploads_are_swept(hook: MictlanXHook, vss: LocalVSS, bucket_id: str) -> None:
    raw = RawRequests(vss)
    store(hook, bucket_id, "complete", "in/complete")
    hook.put(bucket_id, "in/empty", "")
    raw.put(bucket_id, "own", [b"1", b"2"], standard_tags=False, only=[1])  # nobody knows how many there should be
    replaced = [f"replaced{number}" for number in range(6)]  # the bucket's listing hides the complete version of some
    for ball_id in replaced:
        raw.put(bucket_id, ball_id, [b"old"])
    for ball_id in ("half", "young", *replaced):
        put_half(vss, bucket_id, ball_id)
    before = now()
    raw.put(bucket_id, "young", [b"first", b"second", b"third"], only=[1])
    assert sweep(bucket_id, timedelta(hours=1))["deleted"] == 0
    swept = sweep(bucket_id, before)
    assert (swept["deleted"], swept["bytes"], swept["first"], swept["failures"]) == (1, 5, ["half"], [])
    assert swept["kept"] >= 1
    assert raw.listed(bucket_id, "half") == []
    assert [len(raw.listed(bucket_id, ball_id)) for ball_id in ("own", "young", *replaced)] == [1, *7 * [2]]
    assert hook.list_keys(bucket_id) == ["complete", "in/complete", "in/empty", *replaced]
    assert hook.get(bucket_id, "in/empty") == b""
    assert all(hook.get(bucket_id, ball_id) == b"old" for ball_id in replaced)
    assert sweep(bucket_id, str(now()))["first"] == ["young"]


def test_swept_uploads_that_go_on_are_kept(
    hook: MictlanXHook, vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_half(vss, bucket_id, "half")
    before = now()
    original = batch_delete.list_by_key

    async def list_by_key(*args: Any) -> Any:
        RawRequests(vss).put(bucket_id, "half", [b"first", b"second"], only=[1])
        return await original(*args)

    monkeypatch.setattr(batch_delete, "list_by_key", list_by_key)
    result = run(MictlanXSweepOperator(task_id="t", bucket_id=bucket_id, older_than=before, dry_run=False))
    assert (result["deleted"], result["kept"]) == (0, 1)
    assert hook.get(bucket_id, "half") == b"firstsecond"


def test_chunk_that_no_peer_lists_keeps_its_upload(hook: MictlanXHook, vss: LocalVSS, bucket_id: str) -> None:
    peers = RawRequests(vss).put(bucket_id, "ball", [b"first", b"second"])
    RawRequests(vss).forget_at_peer(int(peers[1][0][-1]), bucket_id, "ball")
    left = RawRequests(vss).listed(bucket_id, "ball")
    assert left
    assert sweep(bucket_id, now())["deleted"] == 0
    assert RawRequests(vss).listed(bucket_id, "ball") == left


@pytest.mark.parametrize("wrong", [{"older_than": timedelta(0)}, {"older_than": "x"}, {"bucket_id": "a.b"}])
def test_wrong_sweep_is_refused_first(vss: LocalVSS, hook: MictlanXHook, wrong: dict[str, Any]) -> None:
    vss.reset_requests()
    with pytest.raises(AirflowFailException, match=f"{next(iter(wrong))} must"):
        run(MictlanXSweepOperator(task_id="t", **{"bucket_id": "bucket", "older_than": "1d", **wrong}))
    assert vss.requests() == []


# Bulks


def test_old_records_of_a_bulk_are_swept(hook: MictlanXHook, bucket_id: str, folder: Path) -> None:
    bulk_id = f"run-{bucket_id}"
    hook.put_bulk(bulk_id, bucket_id, [str(folder)])
    records = len(hook.list_keys(f"bulk-{bulk_id}"))
    assert sweep(f"bulk-{bulk_id}", "1h")["kept"] == records
    assert hook.bulk_status(bulk_id)["state"] == "complete"
    assert sweep(f"bulk-{bulk_id}", now())["deleted"] == records
    assert hook.bulk_status(bulk_id)["state"] == "unplanned"
    assert hook.list_keys(bucket_id) == ["a", "b", "sub/c"]


def test_copied_records_are_no_rubbish(hook: MictlanXHook, bucket_id: str, folder: Path) -> None:
    hook.put_bulk(f"run-{bucket_id}", bucket_id, [str(folder)])
    hook.copy_prefix(f"bulk-run-{bucket_id}", "", f"{bucket_id}-backup")
    assert sweep(f"{bucket_id}-backup", now())["deleted"] == 0


def test_bulk_is_forgotten_and_its_balls_stay(
    hook: MictlanXHook, bucket_id: str, folder: Path, told: Callable[[], list[str]]
) -> None:
    bulk_id = f"run {bucket_id}"
    hook.put_bulk(bulk_id, bucket_id, [str(folder)])
    result = run(MictlanXDeleteBulkOperator(task_id="forget", bulk_id=bulk_id))
    assert (result["bulk_id"], result["failed"]) == (bulk_id, 0)
    assert result["deleted"] == result["total"] > 0
    assert any(line.startswith(f"Forgot bulk {bulk_id!r}: deleted {result['deleted']} records") for line in told())
    assert hook.bulk_status(bulk_id)["state"] == "unplanned"
    assert hook.list_keys(bucket_id) == ["a", "b", "sub/c"]
    assert run(MictlanXDeleteBulkOperator(task_id="again", bulk_id=bulk_id))["deleted"] == 0


def test_records_that_stay_fail_the_task(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str, folder: Path
) -> None:
    vss = own_vss(peers=1)
    connect(vss)
    MictlanXHook().put_bulk(f"run-{bucket_id}", bucket_id, [str(folder)])
    vss.set_fault("status", method="DELETE", path="/done-", status=403, body={"detail": "no"})
    with pytest.raises(Exception, match=r"deleting 1 of \d records of bulk 'run-.*' failed; run the task again"):
        run(MictlanXDeleteBulkOperator(task_id="forget", bulk_id=f"run-{bucket_id}"))
