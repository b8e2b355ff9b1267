"""Answers of the page's routes about bulks, routers and buckets, and their cost for the storage."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from airflow_provider_mictlanx.bulks.records import records_bucket
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.plugins.web import looks, queries
from tests.support.vss import LocalVSS

SECRET = "s3cr3t-of-the-connection"


@pytest.fixture
def bulk_id(bucket_id: str) -> str:
    return f"bulk of {bucket_id}"


@pytest.fixture
def stored_bulk(hook: MictlanXHook, bucket_id: str, bulk_id: str, tmp_path: Path) -> str:
    """A complete bulk of three files."""
    for number in range(3):
        (tmp_path / f"{number}.bin").write_bytes(bytes(1000))
    hook.put_bulk(bulk_id, bucket_id=bucket_id, source=str(tmp_path))
    return bulk_id


def listings(vss: LocalVSS, bulk_id: str) -> int:
    return len(vss.requests("GET", f"/buckets/{records_bucket(bulk_id)}/metadata$"))


def test_bulk_is_described(
    sign_in: Callable[..., TestClient], upload: Callable[..., None], stored_bulk: str, bucket_id: str
) -> None:
    for number in range(queries.MAX_LINKED_TASKS + 1):
        upload(stored_bulk, map_index=number, state="running" if number == 3 else "success")
    (bulk,) = sign_in("viewer").get("/bulks").json()
    assert bulk["verdict"] == "complete"
    assert bulk["error"] is None
    expected = {"total_balls": 3, "acknowledged": 3, "total_size": 3000, "acknowledged_size": 3000, "shards": 1}
    assert bulk.items() >= expected.items()
    assert abs(bulk["last_heard"] / 1e9 - time.time()) < 60
    assert bulk["task_count"] == queries.MAX_LINKED_TASKS + 1
    assert len(bulk["tasks"]) == queries.MAX_LINKED_TASKS
    assert bulk["tasks"][0] == {
        "dag_id": "dag",
        "run_id": "run",
        "task_id": "upload",
        "map_index": 3,
        "state": "running",
    }


def test_closed_bulk_keeps_its_numbers(
    sign_in: Callable[..., TestClient], upload: Callable[..., None], hook: MictlanXHook, stored_bulk: str
) -> None:
    hook.await_bulk(stored_bulk, remove_on_completion=True)
    upload(stored_bulk)
    (bulk,) = sign_in("viewer").get("/bulks").json()
    assert bulk["verdict"] == "complete"
    assert (
        bulk.items() >= {"total_balls": 3, "acknowledged": 3, "acknowledged_size": 3000, "shards_complete": 1}.items()
    )


def test_bulk_of_no_task_is_found_by_its_connection(
    sign_in: Callable[..., TestClient], connected: LocalVSS, stored_bulk: str
) -> None:
    found = sign_in("op").get("/connections/mictlanx_default/bulk", params={"bulk": stored_bulk}).json()
    assert found.items() >= {"verdict": "complete", "acknowledged": 3, "tasks": []}.items()
    absent = sign_in("op").get("/connections/mictlanx_default/bulk", params={"bulk": f"no {stored_bulk}"}).json()
    assert absent["verdict"] == "absent"


def test_bulks_active_ones_come_first_and_are_limited(
    sign_in: Callable[..., TestClient],
    connected: LocalVSS,
    upload: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queries, "MAX_BULKS", 3)
    for age, (bulk_id, state) in enumerate(
        {"new": "success", "old": "failed", "busy": "running", "last": None}.items()
    ):
        upload(bulk_id, state=state, age=age, map_index=age)
    upload(None, map_index=6)
    upload(["not", "a str"], map_index=7)
    upload("other operator", map_index=8, operator="BulkCompleteSensor")
    assert [bulk["bulk_id"] for bulk in sign_in("viewer").get("/bulks").json()] == ["busy", "new", "old"]


def test_look_is_shared_and_repeated_only_while_a_bulk_can_change(
    sign_in: Callable[..., TestClient], upload: Callable[..., None], connected: LocalVSS, stored_bulk: str
) -> None:
    upload(stored_bulk, task_id="finished")
    unfinished = f"unfinished {stored_bulk}"
    upload(unfinished, task_id="running", state="running")
    connected.reset_requests()

    def look() -> tuple[int, int]:
        for role in ("viewer", "admin"):
            assert len(sign_in(role).get("/bulks").json()) == 2
        return listings(connected, stored_bulk), listings(connected, unfinished)

    first = look()
    assert first == (1, 1)
    looks._shared.clear()  # five seconds later
    assert look() == (1, 2)
    upload(stored_bulk, task_id="finished", map_index=0)  # a task joins, as another try would
    looks._shared.clear()
    assert look() == (2, 3)


def test_look_at_a_silent_router_ends_and_is_told(
    sign_in: Callable[..., TestClient],
    upload: Callable[..., None],
    own_vss: Callable[..., LocalVSS],
    connect: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looks, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(looks, "LOOK_SECONDS", 0.4)
    vss = own_vss()
    connect(vss)
    vss.set_fault("latency", seconds=60)
    upload("nightly", state="running")
    started = time.monotonic()
    (bulk,) = sign_in("viewer").get("/bulks").json()
    routers = sign_in("op").get("/connections/mictlanx_default/routers").json()
    bucket = sign_in("op").get("/connections/mictlanx_default/bucket", params={"bucket": "frames"})
    assert time.monotonic() - started < 30
    assert bulk["verdict"] == "unknown"
    assert "mictlanx_default" in bulk["error"]
    assert "0.4 s" in bulk["error"]
    assert "0.2 s" in routers["routers"][0]["error"]
    assert routers["peers_error"]
    assert bucket.status_code == 502
    assert "0.4 s" in bucket.json()["detail"]


def test_routers_and_peers_that_do_not_answer_are_named(
    sign_in: Callable[..., TestClient], own_vss: Callable[..., LocalVSS], connect: Callable[..., None]
) -> None:
    vss = own_vss(routers=2)
    connect(vss)
    client = sign_in("op")
    healthy = client.get("/connections/mictlanx_default/routers").json()
    assert [router["error"] for router in healthy["routers"]] == [None, None]
    assert all(router["milliseconds"] > 0 for router in healthy["routers"])
    assert len(healthy["peers"]) == 3
    assert healthy["silent_peers"] == []

    vss.set_fault("peer_silent", peer=healthy["peers"][1])  # GET /peers still lists it as available
    connect(vss, conn_id="broken", routers=[vss.url(), "http://127.0.0.1:9"], uri="")
    broken = client.get("/connections/broken/routers").json()
    assert broken["silent_peers"] == healthy["peers"][1:2]
    assert [bool(router["error"]) for router in broken["routers"]] == [False, True]
    assert "127.0.0.1:9" in broken["routers"][1]["url"]


def test_bucket_shows_its_first_objects(
    sign_in: Callable[..., TestClient],
    connected: LocalVSS,
    hook: MictlanXHook,
    bucket_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key in ("b/2", "a/1", "b/1", "b/3"):
        hook.put(bucket_id, key, b"four")
    monkeypatch.setattr(looks, "MAX_OBJECTS", 2)

    def ask(bucket: str, prefix: str = "") -> Any:
        return sign_in("op").get("/connections/mictlanx_default/bucket", params={"bucket": bucket, "prefix": prefix})

    answer = ask(bucket_id, "b/").json()
    assert [named["key"] for named in answer["objects"]] == ["b/1", "b/2"]
    assert answer.items() >= {"total": 3, "total_size": 12}.items()
    assert answer["objects"][0].items() >= {"size": 4, "num_chunks": 1}.items()
    assert ask(f"{bucket_id}-none").json() == {"total": 0, "total_size": 0, "objects": []}
    assert ask("no bucket!").status_code == 400

    monkeypatch.setattr(looks, "MAX_LISTING_SIZE", 100)
    looks._shared.clear()
    too_long = ask(bucket_id)
    assert too_long.status_code == 502
    assert bucket_id in too_long.json()["detail"]


def test_no_answer_contains_a_secret(
    sign_in: Callable[..., TestClient],
    upload: Callable[..., None],
    vss: LocalVSS,
    connect: Callable[..., None],
    bucket_id: str,
) -> None:
    connections: dict[str, dict[str, Any]] = {
        "echoed": {"headers": {"X-Api-Key": SECRET}},
        "proxied": {"proxy": f"http://me:{SECRET}@127.0.0.1:9"},
        "malformed": {"timeout": "never"},
        "in_uri": {"uri": f"mictlanx://r@me:{SECRET}@127.0.0.1:60666/"},
        "in_router": {"uri": "", "routers": [f"http://me:{SECRET}@127.0.0.1:9"]},
    }
    texts = []
    client = sign_in("op")
    # A hostile writer's bulk id and key repeat the token: the storage's texts are no more trusted than a server's.
    for conn_id, extra in connections.items():
        connect(vss, conn_id=conn_id, password=SECRET, **extra)
        upload(f"bulk {SECRET} {conn_id}", conn_id=conn_id, state="running", task_id=conn_id)
        for route in ("routers", "bulk", "bucket"):
            query = {"bulk": f"bulk {SECRET}", "bucket": f"{bucket_id}", "prefix": SECRET}
            texts.append(client.get(f"/connections/{conn_id}/{route}", params=query).text)
    texts += [client.get("/bulks").text, client.get("/connections").text]
    assert [text for text in texts if SECRET in text] == []
    assert all(conn_id in texts[-2] for conn_id in connections)


def test_unknown_or_foreign_connection_is_explained(
    sign_in: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "postgres://user:password@host/")
    for conn_id, words in {"nobody": "no such connection", "other": "not mictlanx"}.items():
        answer = sign_in("op").get(f"/connections/{conn_id}/routers")
        assert answer.status_code == 400
        assert words in answer.json()["detail"]
        assert "password@" not in answer.text
