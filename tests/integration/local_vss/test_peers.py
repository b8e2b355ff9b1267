"""The peers' own ports: the same paths in the peers' dialect."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest


@pytest.fixture
def peer(vss):
    """A client of peer-1."""
    with httpx.Client(base_url=vss.peer_api(1), trust_env=False, verify=False) as client:
        yield client


def announcement(bucket_id: str, key: str, data: bytes) -> dict[str, Any]:
    return {
        "bucket_id": bucket_id,
        "key": key,
        "ball_id": key.rpartition("_")[0],
        "checksum": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "tags": {"index": "0"},
        "producer_id": "test",
        "is_disable": False,
    }


def put(peer: httpx.Client, bucket_id: str, key: str, data: bytes, **headers: str) -> httpx.Response:
    announced = peer.post(f"/buckets/{bucket_id}/metadata", json=announcement(bucket_id, key, data), headers=headers)
    assert announced.status_code == 200, announced.text
    return peer.post(f"/buckets/data/{announced.json()['task_id']}/chunked", content=data)


def test_announce_and_send(peer, bucket_id) -> None:
    body = announcement(bucket_id, "ball_0", b"data")
    announced = peer.post(f"/buckets/{bucket_id}/metadata", json=body, headers={"Task-Id": "mine"}).json()
    assert announced == {
        "key": "ball_0",
        "service_time": announced["service_time"],
        "task_id": "mine",
        "node_id": "peer-1",
    }
    sent = peer.post("/buckets/data/mine/chunked", content=b"data").json()
    assert set(sent) == {"node_id", "combined_key", "bucket_id", "key", "size", "throughput", "service_time"}
    assert (sent["node_id"], sent["combined_key"], sent["size"]) == ("peer-1", f"{bucket_id}@ball_0", 4)
    assert peer.post("/buckets/data/mine/chunked", content=b"data").status_code == 500
    assert peer.get(f"/buckets/{bucket_id}/ball_0").content == b"data"


def test_multipart(peer, bucket_id) -> None:
    body = announcement(bucket_id, "ball_0", b"data")
    task = peer.post(f"/buckets/{bucket_id}/metadata", json=body).json()["task_id"]
    assert peer.post(f"/buckets/data/{task}", files={"data": b"data"}).status_code == 201
    assert peer.get(f"/buckets/{bucket_id}/ball_0").content == b"data"


def test_wrong_data_is_refused(peer, bucket_id) -> None:
    body = announcement(bucket_id, "ball_0", b"data")
    task = peer.post(f"/buckets/{bucket_id}/metadata", json=body).json()["task_id"]
    assert peer.post(f"/buckets/data/{task}/chunked", content=b"date").status_code == 400
    assert peer.get(f"/buckets/{bucket_id}/ball_0").status_code == 404


def test_metadata_in_all_forms(peer, bucket_id) -> None:
    put(peer, bucket_id, "ball_0", b"data")
    put(peer, bucket_id, "ball_1", b"more")
    one = peer.get(f"/buckets/{bucket_id}/metadata/ball_0").json()
    assert (one["peer_id"], one["local_peer_id"], one["metadata"]["is_disabled"]) == ("peer-1", "peer-1", False)
    group = peer.get(f"/buckets/{bucket_id}/metadata/ball/group").json()
    assert (group["bucket_id"], group["ball_id"], group["size"]) == (bucket_id, "ball", 8)
    assert [ball["key"] for ball in group["balls"]] == ["ball_0", "ball_1"]
    listing = peer.get(f"/buckets/{bucket_id}/metadata").json()
    assert listing["peer_id"] == "peer-1"
    assert listing["balls"] == group["balls"]
    size = peer.get(f"/buckets/{bucket_id}/ball_1/size").json()
    assert size == {"bucket_id": bucket_id, "key": "ball_1", "peer_id": "peer-1", "size": 4}
    assert peer.get(f"/buckets/{bucket_id}/metadata/none_0").status_code == 404
    assert peer.get(f"/buckets/{bucket_id}/none_0/size").status_code == 404


def test_by_content(peer, bucket_id) -> None:
    data = bucket_id.encode()
    put(peer, bucket_id, "ball_0", data)
    assert peer.get(f"/buckets/checksum/{hashlib.sha256(data).hexdigest()}").content == data
    assert peer.get(f"/buckets/checksum/{'0' * 64}").status_code == 404


def test_deletes_say_how_many_in_a_header(peer, bucket_id) -> None:
    put(peer, bucket_id, "ball_0", b"data")
    put(peer, bucket_id, "ball_1", b"data")
    put(peer, bucket_id, "other_0", b"data")
    for path, number in (("bid/ball", "2"), ("bid/ball", "0"), ("other_0", "1"), ("other_0", "0")):
        answer = peer.delete(f"/buckets/{bucket_id}/{path}")
        assert (answer.status_code, answer.headers["n-deletes"]) == (204, number)
    assert peer.get(f"/buckets/{bucket_id}/metadata").json()["balls"] == []


def test_other_bytes_need_the_header_update(peer, bucket_id) -> None:
    put(peer, bucket_id, "ball_0", b"old")
    body = announcement(bucket_id, "ball_0", b"new!")
    assert peer.post(f"/buckets/{bucket_id}/metadata", json=body).status_code == 409
    assert put(peer, bucket_id, "ball_0", b"new!", Update="1").status_code == 200
    assert peer.get(f"/buckets/{bucket_id}/ball_0").content == b"new!"


def test_change_and_disable(peer, bucket_id) -> None:
    put(peer, bucket_id, "ball_0", b"data")
    assert peer.post(f"/u/buckets/{bucket_id}/ball_0", json={"tags": {"colour": "red"}}).status_code == 204
    assert peer.post(f"/buckets/{bucket_id}/ball_0/disable").status_code == 204
    metadata = peer.get(f"/buckets/{bucket_id}/metadata/ball_0").json()["metadata"]
    assert metadata["is_disabled"] is True
    assert metadata["tags"]["colour"] == "red"
    assert peer.post(f"/buckets/{bucket_id}/none_0/disable").status_code == 404


def test_stats_and_health(vss, peer, bucket_id) -> None:
    put(peer, bucket_id, "ball_0", b"data")
    stats, ufs = peer.get("/stats").json(), peer.get("/stats/ufs").json()
    assert stats["peer_id"] == "peer-1"
    assert {"key": "ball_0", "size": 4, "checksum": hashlib.sha256(b"data").hexdigest()} in stats["balls"]
    assert set(ufs) == {"total_disk", "used_disk", "disk_uf"}
    assert peer.get("/health").status_code == 200
    assert httpx.get(f"http://127.0.0.1:{vss.peer_port(1)}/health", verify=False).status_code == 200


def test_lists_of_stored_chunks(vss, peer, bucket_id) -> None:
    before = peer.get("/balls/len").json()["len"]
    put(peer, bucket_id, "ball_0", b"data")
    put(peer, bucket_id, "ball_1", b"more!")
    assert peer.get("/balls/len").json() == {"len": before + 2}
    rows = [[bucket_id, "ball_0", 4], [bucket_id, "ball_1", 5]]
    for path in ("/xballs", "/xballs/size"):
        assert [row for row in peer.get(path).json() if row[0] == bucket_id] == rows
        some = peer.get(path, params={"start": before + 1, "end": before + 2}).json()
        assert some == peer.get(path).json()[before + 1 : before + 2]
    assert peer.get("/xballs", params={"start": "x"}).status_code == 422
    state = peer.get("/peers/state").json()
    assert (state["peer_id"], state["peers"]) == ("peer-1", ["peer-0", "peer-2"])


def test_flushed_tasks_accept_no_data(peer, bucket_id) -> None:
    task = peer.post(f"/buckets/{bucket_id}/metadata", json=announcement(bucket_id, "ball_0", b"data")).json()[
        "task_id"
    ]
    assert peer.delete("/tasks").status_code == 204
    assert peer.post(f"/buckets/data/{task}/chunked", content=b"data").status_code == 500


def test_flushed_tasks_of_a_router_accept_no_data(peer, wire, bucket_id) -> None:
    announced = wire.announce(bucket_id, "ball_0", b"data", replication_factor=3).json()
    assert peer.delete("/tasks").status_code == 204
    assert sorted(wire.send(announced["tasks_ids"][0], b"data").json()["peer_ids"]) == ["peer-0", "peer-2"]
    assert wire.client.delete("/tasks").status_code == 404  # routers have none


def test_replicate_copies_to_a_peer_without_one(vss, peer, bucket_id) -> None:
    put(peer, bucket_id, "ball_0", b"data")
    path = f"/buckets/{bucket_id}/ball_0/replicate"
    assert peer.post(path).json() == {"bucket_id": bucket_id, "key": "ball_0", "peer_ids": ["peer-0"]}
    assert peer.post(path).json()["peer_ids"] == ["peer-2"]
    assert peer.post(path).status_code == 404
    assert peer.post(f"/buckets/{bucket_id}/none_0/replicate").status_code == 404
    assert peer.delete(f"/buckets/{bucket_id}/ball_0").headers["n-deletes"] == "1"
    for number in (0, 2):
        assert httpx.get(f"{vss.peer_api(number)}/buckets/{bucket_id}/ball_0", verify=False).content == b"data"


def test_what_a_router_wrote_is_at_its_peers(vss, wire, bucket_id) -> None:
    holders = wire.put(bucket_id, "ball_0", b"data", rf=2)
    for number in range(3):
        answer = httpx.get(f"{vss.peer_api(number)}/buckets/{bucket_id}/ball_0", verify=False)
        assert answer.status_code == (200 if f"peer-{number}" in holders else 404)


def test_what_only_a_peer_knows_is_listed_and_not_placed(peer, wire, bucket_id) -> None:
    put(peer, bucket_id, "ball_0", b"data")
    assert wire.listed(bucket_id) == ["ball_0"]
    assert wire.metadata(bucket_id, "ball_0").json() == {"detail": "404: No available peers"}
    assert wire.get(bucket_id, "ball_0", Peer_Id="peer-1").content == b"data"
