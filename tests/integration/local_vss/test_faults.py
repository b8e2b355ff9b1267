"""The faults that can be switched on, each at the place it is about, and off again."""

from __future__ import annotations

import time

import httpx
import pytest


@pytest.fixture
def vss(own_vss):
    """A storage space of the test's own, as faults are everybody's."""
    return own_vss()


def test_metadata_and_data_of_a_peer_that_is_down(vss, wire, bucket_id) -> None:
    (holder,) = wire.put(bucket_id, "ball_0", b"data")
    with vss.fault("peer_down", peer=holder):
        metadata = wire.metadata(bucket_id, "ball_0")
        assert metadata.status_code == 404
        assert metadata.json()["detail"].startswith(f"Fail to fetch metadata from peer {holder}")
        data = wire.get(bucket_id, "ball_0", Force_Get="1")
        assert data.status_code == 404
        assert data.json()["detail"].endswith("try again later.")
        assert wire.chunks(bucket_id, "ball").status_code == 404
        listing = wire.client.get(f"/buckets/{bucket_id}/metadata").json()
        assert listing["balls"] == []
        assert holder not in listing["peers_ids"]
        assert len(listing["peers_ids"]) == 2
        peers = wire.client.get("/peers").json()
        assert [peer["peer_id"] for peer in peers["unavailable"]] == [holder]
        assert len(peers["available"]) == 2
    assert wire.get(bucket_id, "ball_0", Force_Get="1").content == b"data"
    assert wire.client.get("/peers").json()["unavailable"] == []


def test_another_attempt_is_sent_to_another_replica(vss, wire, bucket_id) -> None:
    down, _ = wire.put(bucket_id, "ball_0", b"data", rf=2)
    with vss.fault("peer_down", peer=down):
        data = sorted(wire.get(bucket_id, "ball_0", Force_Get="1").status_code for _ in range(2))
        metadata = sorted(wire.metadata(bucket_id, "ball_0").status_code for _ in range(2))
        assert data == metadata == [200, 404]
        assert len(wire.chunks(bucket_id, "ball").json()["chunks"]) == 1


def test_nothing_is_placed_on_a_peer_that_is_down(vss, wire, bucket_id) -> None:
    with vss.fault("peer_down", peer="peer-1"):
        assert len(wire.put(bucket_id, "ball_0", b"data", rf=3)) == 2
        full = wire.announce(bucket_id, "ball_0", b"data")
        assert full.status_code == 404
        assert full.json() == {"detail": "No available peers."}  # not 666: it may pass
    assert wire.put(bucket_id, "ball_0", b"data") == ["peer-1"]


def test_peer_down_before_data_is_missing_from_answer(vss, wire, bucket_id) -> None:
    announced = wire.announce(bucket_id, "ball_0", b"data", replication_factor=2).json()
    down, up = announced["replicas"]
    with vss.fault("peer_down", peer=down):
        assert wire.send(announced["tasks_ids"][0], b"data").json()["peer_ids"] == [up]


def test_a_delete_does_not_reach_a_peer_that_is_down(vss, wire, bucket_id) -> None:
    wire.put(bucket_id, "ball_0", b"data", rf=3)
    with vss.fault("peer_down", peer="peer-2"):
        assert wire.delete_ball(bucket_id, "ball").json()["n_deletes"] == 2
        assert wire.chunks(bucket_id, "ball").status_code == 404
    assert len(wire.chunks(bucket_id, "ball").json()["chunks"]) == 1
    assert wire.listed(bucket_id) == ["ball_0"]
    assert wire.metadata(bucket_id, "ball_0").json() == {"detail": "404: No available peers"}
    assert wire.get(bucket_id, "ball_0", Peer_Id="peer-2").content == b"data"


def test_a_copy_that_came_back_is_replaced_by_a_new_announcement(vss, wire, bucket_id) -> None:
    (holder,) = wire.put(bucket_id, "ball_0", b"old")
    with vss.fault("peer_down", peer=holder):
        assert wire.delete(bucket_id, "ball_0").json()["n_deletes"] == 0
    assert len(wire.put(bucket_id, "ball_0", b"newer", rf=3)) == 3
    assert {chunk["size"] for chunk in wire.chunks(bucket_id, "ball").json()["chunks"]} == {5}


def test_the_port_of_a_peer_that_is_down_drops_connections(vss) -> None:
    with vss.fault("peer_down", peer="peer-1"), pytest.raises(httpx.TransportError):
        httpx.get(f"{vss.peer_api(1)}/health", verify=False)
    assert httpx.get(f"{vss.peer_api(1)}/health", verify=False).status_code == 200


def test_a_silent_peer_is_left_out_without_a_word(vss, wire, bucket_id) -> None:
    (holder,) = wire.put(bucket_id, "ball_0", b"data")
    with vss.fault("peer_silent", peer=holder):
        assert holder in [peer["peer_id"] for peer in wire.client.get("/peers").json()["available"]]
        assert wire.metadata(bucket_id, "ball_0").status_code == 404
        assert wire.get(bucket_id, "ball_0", Force_Get="1").status_code == 404
        assert wire.chunks(bucket_id, "ball").status_code == 404
        assert holder not in wire.client.get(f"/buckets/{bucket_id}/metadata").json()["peers_ids"]
        assert wire.delete(bucket_id, "ball_0").json()["n_deletes"] == 0
        assert wire.delete(bucket_id, "ball_0").status_code == 404  # the placement is forgotten
    assert wire.get(bucket_id, "ball_0", Peer_Id=holder).content == b"data"
    assert len(wire.chunks(bucket_id, "ball").json()["chunks"]) == 1


def test_announcement_on_silent_peer_leaves_unplaced_metadata(vss, wire, bucket_id) -> None:
    with vss.fault("peer_silent", peer="peer-1"):
        assert wire.announce(bucket_id, "ball_0", b"data", replication_factor=3).status_code == 500
        assert len(wire.chunks(bucket_id, "ball").json()["chunks"]) == 2
        assert wire.metadata(bucket_id, "ball_0").json() == {"detail": "404: No available peers"}
        assert wire.delete(bucket_id, "ball_0").status_code == 404
        assert wire.delete_ball(bucket_id, "ball").json()["n_deletes"] == 2


def test_a_hung_peer_is_waited_for(vss, wire, bucket_id) -> None:
    (holder,) = wire.put(bucket_id, "ball_0", b"data")
    with vss.fault("peer_hung", peer=holder, seconds=0.3):
        for ask in (
            lambda: wire.metadata(bucket_id, "ball_0"),
            lambda: wire.chunks(bucket_id, "ball"),
            lambda: wire.get(bucket_id, "ball_0", Force_Get="1"),
            lambda: wire.delete_ball(bucket_id, "ball"),
        ):
            started = time.monotonic()
            ask()
            assert time.monotonic() - started > 0.25
        assert holder not in wire.client.get(f"/buckets/{bucket_id}/metadata").json()["peers_ids"]
    assert len(wire.chunks(bucket_id, "ball").json()["chunks"]) == 1


def test_silent_peer_is_left_out_of_the_sizes(vss, wire, bucket_id) -> None:
    silent, answering = wire.put(bucket_id, "ball_0", b"data", rf=2)
    path = f"/buckets/{bucket_id}/ball_0/size"
    with vss.fault("peer_silent", peer=silent):
        assert [row["peer_id"] for row in wire.client.get(path).json()] == [answering]
        with vss.fault("peer_silent", peer=answering):
            assert wire.client.get(path).json() == []
    assert len(wire.client.get(path).json()) == 2


def test_a_task_is_valid_until_its_peers_were_tried(vss, wire, bucket_id) -> None:
    task = wire.announce(bucket_id, "ball_0", b"data").json()["tasks_ids"][0]
    with vss.fault("fail_after_storing", count=1):
        assert wire.send(task, b"data").status_code == 500
    assert wire.get(bucket_id, "ball_0", Force_Get="1").content == b"data"
    assert wire.send(task, b"data").json()["peer_ids"] == []  # though it is stored
    assert wire.send(task, b"data").status_code == 500


def test_acknowledged_and_not_stored(vss, wire, bucket_id) -> None:
    with vss.fault("ack_without_storing", bucket=bucket_id, key="ball_*", count=1) as fault:
        assert len(wire.put(bucket_id, "ball_0", b"data")) == 1
        assert len(wire.put(bucket_id, "ball_1", b"data")) == 1
        assert fault.triggered == 1
    assert wire.get(bucket_id, "ball_0", Force_Get="1").status_code == 404
    assert wire.get(bucket_id, "ball_1", Force_Get="1").content == b"data"


def test_refused_data(vss, wire, bucket_id) -> None:
    with vss.fault("refuse_data", peer="peer-1"):
        assert wire.put(bucket_id, "ball_0", b"data", rf=3) == ["peer-0", "peer-2"]
    with vss.fault("refuse_data", skip=1, count=1):
        assert [len(wire.put(bucket_id, f"other_{n}", b"data")) for n in range(3)] == [1, 0, 1]


def test_wrong_bytes_are_accepted(vss, wire, bucket_id) -> None:
    task = wire.announce(bucket_id, "ball_0", b"right").json()["tasks_ids"][0]
    with vss.fault("accept_wrong_bytes"):
        assert len(wire.send(task, b"wrong").json()["peer_ids"]) == 1
    assert wire.get(bucket_id, "ball_0", Force_Get="1").content == b"wrong"


def test_a_peer_reads_a_bit_wrong(vss, wire, bucket_id) -> None:
    good, bad = wire.put(bucket_id, "ball_0", b"data", rf=2)
    with vss.fault("flip_bit", peer=bad):
        assert wire.get(bucket_id, "ball_0", Peer_Id=bad).content == bytes([ord("d") ^ 0x80]) + b"ata"
        assert wire.get(bucket_id, "ball_0", Peer_Id=good).content == b"data"
    assert wire.get(bucket_id, "ball_0", Peer_Id=bad).content == b"data"


def test_a_peer_is_silently_missing_from_listings(vss, wire, bucket_id) -> None:
    (holder,) = wire.put(bucket_id, "ball_0", b"data")
    with vss.fault("hide_from_listing", peer=holder):
        assert wire.listed(bucket_id) == []
        assert wire.chunks(bucket_id, "ball").status_code == 404
        assert wire.client.get("/peers").json()["unavailable"] == []
        assert wire.metadata(bucket_id, "ball_0").status_code == 200
        assert wire.get(bucket_id, "ball_0", Force_Get="1").status_code == 200


def test_another_status(vss, wire, bucket_id) -> None:
    wire.put(bucket_id, "ball_0", b"data")
    with vss.fault("status", status=503, method="get", path="/metadata/", count=2, headers={"Retry-After": "1"}):
        answers = [wire.metadata(bucket_id, "ball_0") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503, 503, 200]
        assert answers[0].headers["retry-after"] == "1"
        assert wire.get(bucket_id, "ball_0").status_code == 200
    with vss.fault("status", status=200, body="<html>Welcome</html>", content_type="text/html"):
        assert wire.client.get("/peers").text == "<html>Welcome</html>"


def test_faults_of_one_router_only(own_vss, wire_to) -> None:
    vss = own_vss(routers=2)
    with vss.fault("status", router="router-1", status=500):
        assert wire_to(vss, 0).client.get("/peers").status_code == 200
        assert wire_to(vss, 1).client.get("/peers").status_code == 500
    with vss.fault("status", peer="peer-1", status=500):
        assert wire_to(vss, 0).client.get("/peers").status_code == 200
        assert httpx.get(f"{vss.peer_api(0)}/health", verify=False).status_code == 200
        assert httpx.get(f"{vss.peer_api(1)}/health", verify=False).status_code == 500


def test_some_of_many(vss, wire) -> None:
    with vss.fault("status", status=500, probability=0.5) as fault:
        answers = [wire.client.get("/peers").status_code for _ in range(200)]
        assert answers.count(500) == fault.triggered
        assert 40 < answers.count(500) < 160


def test_latency(vss, wire) -> None:
    with vss.fault("latency", seconds=0.3, path="/peers"):
        started = time.monotonic()
        assert wire.client.get("/peers").status_code == 200
        assert time.monotonic() - started >= 0.3
        with pytest.raises(httpx.ReadTimeout):
            wire.client.get("/peers", timeout=0.05)


@pytest.mark.parametrize(("when", "stored"), [("before", False), ("after", True)])
def test_a_connection_is_dropped_before_or_after_the_work(vss, wire, bucket_id, when, stored) -> None:
    task = wire.announce(bucket_id, "ball_0", b"data" * 100_000).json()["tasks_ids"][0]
    with (
        vss.fault("reset", when=when, method="POST", bucket=bucket_id, key="ball_0"),
        pytest.raises(httpx.TransportError),
    ):
        wire.send(task, b"data" * 100_000)
    assert (wire.get(bucket_id, "ball_0", Force_Get="1").status_code == 200) is stored
    if not stored:  # the task was not looked at, so it still waits
        assert len(wire.send(task, b"data" * 100_000).json()["peer_ids"]) == 1


@pytest.mark.parametrize("size", [1_000, 3_000_000])
@pytest.mark.parametrize("at", [0, 1, 600])
def test_a_body_that_is_cut(vss, wire, bucket_id, size, at) -> None:
    wire.put(bucket_id, "ball_0", b"x" * size)
    with vss.fault("cut_body", at=at, key="ball_0"), pytest.raises(httpx.RemoteProtocolError):
        wire.get(bucket_id, "ball_0")
    with vss.fault("cut_body", at=at, key="ball_0", clean=True):
        assert wire.get(bucket_id, "ball_0").content == b"x" * at
    assert wire.get(bucket_id, "ball_0").content == b"x" * size


def test_a_listing_that_is_cut(vss, wire, bucket_id) -> None:
    wire.put(bucket_id, "ball_0", b"data")
    with vss.fault("cut_body", at=20), pytest.raises(httpx.RemoteProtocolError):
        wire.client.get("/peers")
    with vss.fault("cut_body", at=20, clean=True):
        assert wire.client.get("/peers").text == '{"available":[{"peer'


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "earthquake"},
        {"kind": "peer_down", "peer": "peer-0", "count": 1},
        {"kind": "status", "seconds": 1},
        {"kind": "status", "path": "("},
        {"kind": "status", "status": 42},
        {"kind": "status", "unknown": 1},
        {"kind": "refuse_data", "probability": 0},
        {"kind": "refuse_data", "count": 0},
        {},
        7,
    ],
)
def test_what_is_no_fault_is_refused(vss, fault) -> None:
    answer = httpx.put(f"{vss.url()}/_faults", json=fault, verify=False)
    assert answer.status_code == 422
    assert vss.faults() == []


def test_faults_are_listed_replaced_and_cleared(vss) -> None:
    vss.set_fault("peer_down", id="one", peer="peer-0")
    vss.set_fault("latency", id="two", seconds=0)
    assert [fault["id"] for fault in vss.faults()] == ["one", "two"]
    vss.set_fault("peer_down", id="one", peer="peer-1")
    assert [fault["peer"] for fault in vss.faults()] == ["peer-1", None]
    httpx.put(f"{vss.url()}/_faults", json=[{"kind": "latency", "id": "three", "seconds": 0}], verify=False)
    assert [fault["id"] for fault in vss.faults()] == ["three"]
    assert httpx.delete(f"{vss.url()}/_faults/none", verify=False).status_code == 404
    assert httpx.post(f"{vss.url()}/_faults", verify=False).status_code == 405
    vss.clear_faults()
    assert vss.faults() == []


def test_requests_are_counted_and_secrets_are_not_kept(vss, wire, bucket_id) -> None:
    began = time.time()
    vss.reset_requests()
    wire.put(bucket_id, "ball_0", b"data")
    wire.client.get("/peers", params={"a": "b"}, headers={"Authorization": "Bearer secret", "X-Client": "me"})
    with vss.fault("reset", path="/peers"), pytest.raises(httpx.TransportError):
        wire.client.get("/peers")
    report = vss.control("GET", "/_requests")
    assert report["counts"] == {
        "POST /api/v4/buckets/{bucket_id}/metadata": 1,
        "POST /api/v4/buckets/data/{task_id}/chunked": 1,
        "GET /api/v4/peers": 1,
        "GET -": 1,
    }
    seen, dropped = vss.requests("GET", "/peers")
    assert (seen["server"], seen["query"], seen["status"]) == ("router-0", "a=b", 200)
    assert seen["headers"]["x-client"] == "me"
    assert seen["headers"]["authorization"].startswith("sha256:")
    assert "secret" not in str(report)
    assert dropped["status"] == 0
    assert began <= seen["at"] <= dropped["at"] <= time.time()
    vss.reset_requests()
    assert vss.requests() == []
