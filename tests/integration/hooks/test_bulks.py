"""The hook's bulk calls against the local VSS: what they give, what they refuse, and what it takes to begin anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.bulks.errors import BulkConflictError, BulkFailedError
from airflow_provider_mictlanx.client.errors import DeadlineExceededError, RequestTimeoutError, ValidationError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.airflow_bulks import ONE_TRY
from tests.support.vss import LocalVSS

RESULT = [
    "bulk_id",
    "shard",
    "shards",
    "total_balls",
    "uploaded",
    "skipped",
    "failed",
    "uploaded_size",
    "response_time",
]
SUMMARY = [
    *("bulk_id", "state", "shards", "total_balls", "succeeded", "failed", "uploaded_size", "response_time"),
    *("failures", "problems"),
]


@pytest.fixture(params=["blocking", "awaited", "blocking in a loop"])
def call(request: pytest.FixtureRequest, hook: MictlanXHook) -> Callable[..., Any]:
    """Call a method of the hook in one of the ways that there are; what it gives is JSON."""

    def called(name: str, *args: Any, **kwargs: Any) -> Any:
        async def in_a_loop() -> Any:
            return getattr(hook, name)(*args, **kwargs)

        if request.param == "blocking":
            result = getattr(hook, name)(*args, **kwargs)
        elif request.param == "awaited":
            result = asyncio.run(getattr(hook, f"a{name}")(*args, **kwargs))
        else:
            result = asyncio.run(in_a_loop())
        assert json.loads(json.dumps(result)) == result
        return result

    return called


def test_whole_life_of_a_bulk(
    call: Callable[..., Any], hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    assert call("bulk_status", bulk_id)["state"] == "unplanned"
    put = call("put_bulk", bulk_id, bucket_id, folder, key_prefix="in/", tags={"run": "r1"}, rf=2)
    assert list(put) == RESULT
    assert (put["bulk_id"], put["total_balls"], put["uploaded"], put["uploaded_size"]) == (bulk_id, 3, 3, 6)
    status = call("bulk_status", bulk_id)
    assert (status["state"], status["finished"], status["acknowledged_size"]) == ("complete", True, 6)
    again = call("put_bulk", bulk_id, bucket_id, folder, key_prefix="in/", tags={"run": "r1"}, rf=2)
    assert (again["uploaded"], again["skipped"], again["uploaded_size"]) == (0, 3, 0)
    items = call("await_bulk", bulk_id, include_items=True)
    assert sorted((ball["key"], ball["size"]) for ball in items["successes"]) == [
        ("in/a", 1),
        ("in/b", 2),
        ("in/sub/c", 3),
    ]
    assert all(ball["checksum"] == hook.get_metadata(bucket_id, ball["key"])["checksum"] for ball in items["successes"])
    assert hook.get_metadata(bucket_id, "in/a")["tags"]["run"] == "r1"
    result = call("await_bulk", bulk_id, remove_on_completion=True)
    assert list(result) == SUMMARY
    assert call("find_bulk", bulk_id) == result == call("await_bulk", bulk_id, timeout=0)
    closed = call("bulk_status", bulk_id)
    assert (closed["state"], closed["result"]) == ("closed", result)
    assert call("delete_bulk", bulk_id)["deleted"] == 1
    assert call("delete_bulk", bulk_id)["deleted"] == 0, "what nobody knows is forgotten already"
    assert call("bulk_status", bulk_id)["state"] == "unplanned"
    assert hook.get(bucket_id, "in/sub/c") == b"333", "its balls stay"


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ("{}", ["a", "b", "sub/c"]),
        ("{}/a", ["a"]),
        ("{}/**", ["a", "b", "sub/c"]),
        ("{}/*/c", ["sub/c"]),
        (["{}/a", "{}/sub"], ["a", "c"]),
        (("{}/a", "{}/b"), ["a", "b"]),
    ],
)
def test_sources(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path, source: Any, keys: list[str]) -> None:
    given = source.format(folder) if isinstance(source, str) else type(source)(one.format(folder) for one in source)
    hook.put_bulk(bulk_id, bucket_id, given)
    assert [ball["key"] for ball in hook.list_balls(bucket_id)] == keys


def test_balls(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path) -> None:
    balls = [
        {"key": "text", "data": "¡hola!"},
        {"key": "bytes", "data": b"\x00", "tags": {"kind": "b"}},
        {"source": str(folder / "a"), "bucket_id": f"{bucket_id}-2"},
        {"key": "empty", "data": ""},
    ]
    assert hook.put_bulk(bulk_id, bucket_id, balls=balls)["uploaded"] == 4
    assert hook.get(bucket_id, "text").decode() == "¡hola!"
    assert hook.get_metadata(bucket_id, "bytes")["tags"]["kind"] == "b"
    assert hook.get(f"{bucket_id}-2", "a") == b"1"
    assert hook.get(bucket_id, "empty") == b""


def test_shards_of_lists_of_their_own(hook: MictlanXHook, bulk_id: str, bucket_id: str) -> None:
    for shard, owner in enumerate("ab"):
        hook.put_bulk(
            bulk_id,
            bucket_id,
            balls=[{"key": f"of-{owner}", "data": owner}],
            shard=shard,
            shards=2,
            owner={"owner": owner},
        )
    assert hook.await_bulk(bulk_id, timeout=0)["succeeded"] == 2


def test_key_in_two_shards_is_reported(hook: MictlanXHook, bulk_id: str, bucket_id: str) -> None:
    hook.put_bulk(bulk_id, bucket_id, balls=[{"key": "k", "data": "x"}], shard=0, shards=2)
    with pytest.raises(
        BulkFailedError, match="must be in the list of one shard, got 'k' in that of shard 0 too"
    ) as caught:
        hook.put_bulk(bulk_id, bucket_id, balls=[{"key": "k", "data": "x"}], shard=1, shards=2, will_retry=True)
    assert caught.value.permanent
    with pytest.raises(BulkFailedError, match="failed permanently"):
        hook.await_bulk(bulk_id, timeout=0)


def test_failures(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path) -> None:
    hook.put(bucket_id, "b", "other bytes")
    with pytest.raises(BulkFailedError, match=r"1 of 3 objects are not stored: b: .*No retry can fix this") as caught:
        hook.put_bulk(bulk_id, bucket_id, folder)
    assert (caught.value.permanent, caught.value.result["failed"]) == (True, 1)
    result = hook.put_bulk(bulk_id, bucket_id, folder, fail_on_error=False)
    assert list(result) == [*RESULT, "failures"]
    (failure,) = result["failures"]
    assert (failure["bucket_id"], failure["key"], failure["code"]) == (bucket_id, "b", 405)
    replaced = hook.put_bulk(bulk_id, bucket_id, folder, replace=True)
    assert (replaced["uploaded"], replaced["failed"]) == (1, 0)
    assert hook.get(bucket_id, "b") == b"22"
    assert hook.await_bulk(bulk_id, timeout=0)["failures"] == []


def test_stop_on_failure(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path) -> None:
    hook.put(bucket_id, "a", "other bytes")
    result = hook.put_bulk(
        bulk_id, bucket_id, folder, stop_on_failure=True, max_concurrency=1, fail_on_error=False, **ONE_TRY
    )
    assert (result["uploaded"], result["failed"]) == (0, 3)
    assert "not started, because a failed" in result["failures"][1]["message"]


# Whose bulk it is


def test_other_owner_is_refused_before_the_first_byte(
    hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    hook.put_bulk(bulk_id, bucket_id, folder, owner={"job": "one"})
    (folder / "d").write_text("4444")
    with pytest.raises(BulkConflictError, match=r"belongs to job one, not to job two.*another bulk_id.*delete_bulk"):
        hook.put_bulk(bulk_id, bucket_id, folder, owner={"job": "two"})
    assert not hook.exists(bucket_id, "d")
    hook.delete_bulk(bulk_id)
    assert hook.put_bulk(bulk_id, bucket_id, folder, owner={"job": "two"})["uploaded"] == 1


def test_owner_is_the_client_unless_told(
    hook: MictlanXHook, connect: Callable[..., None], vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    hook.put_bulk(bulk_id, bucket_id, folder)
    connect(vss, client_id="another")
    with pytest.raises(BulkConflictError, match="belongs to owner airflow, not to owner another"):
        MictlanXHook().put_bulk(bulk_id, bucket_id, folder)


def test_other_spec_is_refused(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path) -> None:
    hook.put_bulk(bulk_id, bucket_id, folder)
    with pytest.raises(BulkConflictError, match=r"was started with .*\"rf\":1.*now with .*\"rf\":2"):
        hook.put_bulk(bulk_id, bucket_id, folder, rf=2)


def test_connection_gives_defaults(
    connect: Callable[..., None], vss: LocalVSS, bulk_id: str, bucket_id: str, make_files: Callable[..., Path]
) -> None:
    connect(vss, chunk_size="1kb", max_concurrency=2, timeout=30)
    hook = MictlanXHook()
    hook.put_bulk(bulk_id, bucket_id, make_files({"a": "x" * 2500}))
    assert hook.get_metadata(bucket_id, "a")["num_chunks"] == 3


# What is refused


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "exactly one of source and balls must be given, got none"),
        ({"source": "/tmp", "balls": []}, "must be given, got source and balls"),
        ({"source": "/tmp", "bucket_id": None}, "bucket_id must be given"),
        ({"source": "/tmp", "bucket_id": "a.b"}, "a\\.b"),
        ({"source": "/nowhere/at/all"}, "reading source '/nowhere/at/all' failed"),
        ({"source": ""}, "source must be a path, got ''"),
        ({"balls": "[{'key': 'a'}]"}, r"list of dict, got str.*task\.output"),
        ({"balls": {"key": "a"}}, "list of dict, got dict"),
        ({"balls": 3}, "list of dict, got int"),
        ({"balls": ["a"]}, "object 0 of the list must be a dict, got str"),
        ({"balls": []}, "the list has no objects.*allow_empty"),
        ({"balls": [{"key": "a", "data": "x"}], "shard": 1}, "shard must be from 0 to shards - 1, got 1 of 1"),
        ({"balls": [{"key": "a", "data": "x"}], "shard": "x"}, "shard must be an int, got 'x'"),
        ({"balls": [{"key": "a", "data": "x"}], "owner": {"a": 1}}, "owner must be a dict of str to str"),
        ({"balls": [{"key": "a", "data": "x"}], "owner": "me"}, "owner must be a dict of str to str"),
        ({"balls": [{"key": "a", "data": "x"}], "rf": 0}, "rf"),
        ({"balls": [{"key": "a", "data": "x"}], "chunk_size": "many"}, "chunk_size"),
        ({"balls": [{"key": "a", "data": "x"}], "tags": {"a": 1}}, "tag"),
        ({"balls": [{"key": "a", "data": "x"}], "max_concurrency": 0}, "max_concurrency"),
        ({"source": "/tmp", "bucket_id": b"x"}, "bucket_id must be a str, got b'x'"),
        ({"source": "/tmp", "key_prefix": Path("x")}, "key_prefix must be a str"),
        ({"balls": [{"key": "a", "data": "x"}], "will_retry": None}, "will_retry must be True or False, got None"),
        ({"balls": [{"key": "a", "data": "x"}], "replace": "no"}, "replace must be True or False, got 'no'"),
    ],
)
def test_bad_input(hook: MictlanXHook, bulk_id: str, bucket_id: str, arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        hook.put_bulk(bulk_id, **{"bucket_id": bucket_id, **arguments})
    assert hook.list_balls(bucket_id) == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"poke_interval": "10"}, "poke_interval must be a number of at least 0, got '10'"),
        ({"poke_interval": -1}, "poke_interval"),
        ({"poke_interval": float("nan")}, "poke_interval"),
        ({"timeout": "60"}, "timeout must be a number of at least 0, got '60'"),
        ({"timeout": timedelta(seconds=1)}, "timeout"),
    ],
)
def test_await_with_bad_input(hook: MictlanXHook, bulk_id: str, arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        hook.await_bulk(bulk_id, **{"timeout": 0, **arguments})


def test_await_ends(hook: MictlanXHook, bulk_id: str) -> None:
    with pytest.raises(DeadlineExceededError, match=r"^waiting for bulk .* failed after 0\.2 s: .* is not planned yet"):
        hook.await_bulk(bulk_id, poke_interval=0.05, timeout=0.2)


def test_request_timeouts(own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bulk_id: str) -> None:
    vss = own_vss(peers=1)
    connect(vss)
    hook = MictlanXHook()
    vss.set_fault("latency", path="/metadata$", seconds=5)
    for look in (
        lambda: hook.bulk_status(bulk_id, request_timeout=0.1),
        lambda: hook.await_bulk(bulk_id, request_timeout=0.1),
        lambda: hook.find_bulk(bulk_id, request_timeout=0.1),
        lambda: hook.delete_bulk(bulk_id, request_timeout=0.1),
        lambda: hook.put_bulk(bulk_id, "bucket", balls=[{"key": "a", "data": "x"}], request_timeout=0.1),
    ):
        with pytest.raises(RequestTimeoutError):
            look()


# What the log tells


def test_log(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path, logged: Callable[[], list[str]]) -> None:
    hook.put(bucket_id, "b", "other bytes")
    hook.put_bulk(bulk_id, bucket_id, folder, fail_on_error=False)
    (end,) = (line for line in logged() if "objects uploaded" in line)
    assert end.startswith(f"Bulk {bulk_id!r}: 2 objects uploaded, 4 bytes in ")
    assert "0 skipped, 1 failed; slowest: " in end
    assert any(line.startswith(f"{bucket_id}/b failed: ") for line in logged())
