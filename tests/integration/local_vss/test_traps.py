"""What the real service does that loses data or misleads a naive client: the local VSS does it too."""

from __future__ import annotations

import time

import httpx
import pytest

NO_REPLICA = {"detail": "404: No available peers"}


# -- writing -----------------------------------------------------------------------------------------------------------


def test_consecutive_chunks_go_to_different_peers(wire, bucket_id) -> None:
    holders = [wire.put(bucket_id, f"ball_{n}", b"data%d" % n) for n in range(6)]
    assert sorted(peer for (peer,) in holders[:3]) == ["peer-0", "peer-1", "peer-2"]
    assert holders[:3] == holders[3:]


@pytest.mark.parametrize("sent", [b"whol", b"whole!", b"wh0le", b""])
def test_other_bytes_than_announced_are_acknowledged_by_nobody(wire, bucket_id, sent) -> None:
    task = wire.announce(bucket_id, "ball_0", b"whole").json()["tasks_ids"][0]
    answer = wire.send(task, sent)
    assert answer.status_code == 200
    assert answer.json()["peer_ids"] == []
    assert answer.json()["size"] == 5

    assert wire.metadata(bucket_id, "ball_0").status_code == 200  # the announcement stays behind
    assert wire.listed(bucket_id) == ["ball_0"]
    assert wire.get(bucket_id, "ball_0", Force_Get="1").status_code == 404
    assert wire.get(bucket_id, "ball_0").content == sent  # the router's cache has what came


def test_announcing_again_places_a_further_replica(wire, bucket_id) -> None:
    task = wire.announce(bucket_id, "ball_0", b"data").json()["tasks_ids"][0]
    wire.send(task, b"cut")
    (first,) = wire.metadata(bucket_id, "ball_0").json()["peer_id"].split()
    (second,) = wire.put(bucket_id, "ball_0", b"data")
    assert second != first
    (third,) = wire.put(bucket_id, "ball_0", b"data")
    assert {first, second, third} == {"peer-0", "peer-1", "peer-2"}

    full = wire.announce(bucket_id, "ball_0", b"data")
    assert full.status_code == 404
    assert full.json()["detail"]["code"] == 666
    assert sorted(full.json()["detail"]["replicas"]) == ["peer-0", "peer-1", "peer-2"]


def test_666_does_not_say_that_anything_is_stored(wire, bucket_id) -> None:
    wire.announce(bucket_id, "ball_0", b"data", replication_factor=3)
    assert wire.announce(bucket_id, "ball_0", b"data").json()["detail"]["code"] == 666
    assert wire.get(bucket_id, "ball_0").status_code == 404
    assert wire.delete(bucket_id, "ball_0").json() == {"n_deletes": 3, "key": "ball_0"}
    assert len(wire.put(bucket_id, "ball_0", b"data", rf=3)) == 3


def test_more_replicas_than_peers_stores_as_many_as_there_are(wire, bucket_id) -> None:
    assert len(wire.put(bucket_id, "ball_0", b"data", rf=9)) == 3


def test_replicas_with_other_bytes_are_read_in_turn(wire, bucket_id) -> None:
    wire.put(bucket_id, "ball_0", b"old")
    wire.put(bucket_id, "ball_0", b"new!")
    read = [wire.get(bucket_id, "ball_0", Force_Get="1").content for _ in range(4)]
    assert sorted(read[:2]) == [b"new!", b"old"]
    assert read[:2] == read[2:]
    sizes = {wire.metadata(bucket_id, "ball_0").json()["metadata"]["size"] for _ in range(2)}
    assert sizes == {3, 4}

    ball = wire.chunks(bucket_id, "ball").json()
    assert [chunk["key"] for chunk in ball["chunks"]] == ["ball_0", "ball_0"]
    oldest = min(ball["chunks"], key=lambda chunk: int(chunk["tags"]["updated_at"]))
    assert oldest["size"] == 3
    assert ball["size_bytes"] == 3


def test_checksum_of_a_ball_is_its_oldest_replicas(wire, bucket_id) -> None:
    for text in ("a" * 64, "b" * 64):
        tags = {"index": "0", "num_chunks": "1", "full_checksum": text}
        wire.put(bucket_id, "ball_0", text.encode(), tags=tags)
    assert wire.chunks(bucket_id, "ball").json()["checksum"] == "a" * 64


def test_merge_mixes_versions(wire, bucket_id) -> None:
    wire.put(bucket_id, "ball_0", b"one-")
    wire.put(bucket_id, "ball_1", b"one.")
    wire.put(bucket_id, "ball_0", b"two-")
    merged = {wire.client.get(f"/buckets/{bucket_id}/ball/merge").content for _ in range(2)}
    assert merged == {b"one-one.", b"two-one."}


def test_merge_is_ordered_by_index(wire, bucket_id) -> None:
    for n in (10, 2, 0, 1, *range(3, 10)):
        wire.put(bucket_id, f"ball_{n}", b"%d," % n)
    merged = wire.client.get(f"/buckets/{bucket_id}/ball/merge")
    assert merged.content == b"0,1,2,3,4,5,6,7,8,9,10,"


def test_merge_breaks_off_after_its_200(wire, bucket_id) -> None:
    wire.put(bucket_id, "ball_0", b"first")
    wire.announce(bucket_id, "ball_1", b"never sent")
    merged = wire.client.get(f"/buckets/{bucket_id}/ball/merge")
    assert merged.status_code == 200
    assert merged.content == b"first"


def test_a_task_is_spent_by_the_first_data_request(wire, bucket_id) -> None:
    task = wire.announce(bucket_id, "ball_0", b"data").json()["tasks_ids"][0]
    wire.send(task, b"cut")
    again = wire.send(task, b"data" * 1_000_000)
    assert again.status_code == 500
    assert again.json() == {"detail": f"Task({task}) not found"}


def test_a_task_expires(own_vss, wire_to, bucket_id) -> None:
    wire = wire_to(own_vss(options=("--task-lifetime", "0.1")))
    task = wire.announce(bucket_id, "ball_0", b"data").json()["tasks_ids"][0]
    time.sleep(0.2)
    assert wire.send(task, b"data").json() == {"detail": f"Task({task}) not found"}
    assert wire.metadata(bucket_id, "ball_0").status_code == 200


def test_client_that_disconnects_leaves_its_data_in_the_cache(wire, vss, bucket_id) -> None:
    task = wire.announce(bucket_id, "ball_0", b"whole").json()["tasks_ids"][0]

    def body():
        yield b"who"
        raise ConnectionAbortedError

    url, headers = f"{vss.api()}/buckets/data/{task}/chunked", {"Content-Length": "5"}
    with pytest.raises(ConnectionAbortedError):
        httpx.post(url, content=body(), headers=headers, verify=False)
    deadline = time.monotonic() + 60
    while (answer := wire.get(bucket_id, "ball_0")).status_code == 404 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert answer.content == b"who"
    assert wire.get(bucket_id, "ball_0", Force_Get="1").status_code == 404


def test_empty_balls_are_found_by_their_metadata_only(wire, bucket_id) -> None:
    assert len(wire.put(bucket_id, "ball_0", b"", rf=2)) == 2
    assert wire.metadata(bucket_id, "ball_0").json()["metadata"]["size"] == 0
    assert wire.get(bucket_id, "ball_0", Force_Get="1").content == b""
    assert wire.listed(bucket_id) == []
    assert wire.chunks(bucket_id, "ball").status_code == 404
    assert wire.delete_ball(bucket_id, "ball").json()["n_deletes"] == 2
    assert wire.metadata(bucket_id, "ball_0").json() == NO_REPLICA


def test_data_for_an_announced_size_of_zero_is_a_fault(wire, bucket_id) -> None:
    task = wire.announce(bucket_id, "ball_0", b"").json()["tasks_ids"][0]
    assert wire.send(task, b"something").status_code == 500


@pytest.mark.parametrize(
    ("name", "placed"),
    [("a__b", "a-b"), ("a-_-b", "a-b"), ("-a", "a"), ("a__", "a"), ("a.b c", "abc"), ("ä", "")],
)
def test_placement_has_a_spelling_of_its_own(wire, bucket_id, name, placed) -> None:
    announced = wire.announce(bucket_id, name, b"data", ball_id="ball").json()
    assert announced["key"] == placed
    assert wire.send(announced["tasks_ids"][0], b"data").json()["peer_ids"] != []
    assert wire.metadata(bucket_id, name).json() == NO_REPLICA
    assert wire.get(bucket_id, name, Force_Get="1").status_code == 404
    assert wire.listed(bucket_id) == [name]
    if placed:  # placed under a name that the peers do not know
        assert wire.metadata(bucket_id, placed).json() == {"detail": f"404: No metadata found for {bucket_id}@{placed}"}


def test_single_underscore_at_an_end_is_kept(wire, bucket_id) -> None:
    assert wire.announce(bucket_id, "_a_", b"data", ball_id="ball").json()["key"] == "_a_"
    assert wire.metadata(bucket_id, "_a_").status_code == 200


def test_names_never_leave_the_data_folder(own_vss, wire_to, tmp_path) -> None:
    vss = own_vss(data=tmp_path / "inside")
    wire = wire_to(vss)
    for name in ("../../../escape_0", "/etc/passwd_0", "nul\0_0", "x" * 3000 + "_0"):
        assert wire.put("bucket", name, b"data") != []
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    files = [path for path in (tmp_path / "inside" / "peers").rglob("*") if path.is_file()]
    assert len(files) == 4
    assert all(path.read_bytes() == b"data" for path in files)


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_listing_shows_announcements(wire, bucket_id) -> None:
    wire.announce(bucket_id, "ball_0", b"data")
    assert wire.listed(bucket_id) == ["ball_0"]
    assert wire.chunks(bucket_id, "ball").json()["size"] == "4 bytes"
    assert wire.get(bucket_id, "ball_0").status_code == 404


def rows_of(wire, bucket_id: str) -> list[tuple[str, int]]:
    """Return key and size of every row of a bucket's listing."""
    balls = wire.client.get(f"/buckets/{bucket_id}/metadata").json()["balls"]
    return [(ball["key"], ball["size"]) for ball in balls]


def test_bucket_listing_repeats_rows_for_later_peers(wire, bucket_id) -> None:
    for n in range(9):
        wire.put(bucket_id, f"ball{n}_0", b"data")
    assert len(rows_of(wire, bucket_id)) == 3 + 6 + 9
    wire.put(bucket_id + "-wide", "ball_0", b"data", rf=3)
    assert len(rows_of(wire, bucket_id + "-wide")) == 3  # one entry per key and peer, whatever the replicas


def test_bucket_listing_hides_older_version_on_later_peer(vss, wire, bucket_id) -> None:
    # The tag must not be taken for the peers' own "updated_at".
    tags = {"index": "0", "note": '"updated_at":"99999999999999999999"', "updated_at": "99999999999999999999"}
    placed = {}
    while placed.get(b"old") not in (["peer-1"], ["peer-2"]) or placed[b"new!"][0] > placed[b"old"][0]:
        wire.delete(bucket_id, "ball_0")
        placed = {data: wire.put(bucket_id, "ball_0", data, tags=tags) for data in (b"old", b"new!")}
    assert set(rows_of(wire, bucket_id)) == {("ball_0", 4)}
    assert sorted(chunk["size"] for chunk in wire.chunks(bucket_id, "ball").json()["chunks"]) == [3, 4]


def test_bucket_listing_shows_older_version_on_earlier_peer(wire, bucket_id) -> None:
    placed = {}
    while placed.get(b"new!") not in (["peer-1"], ["peer-2"]) or placed[b"new!"][0] < placed[b"old"][0]:
        wire.delete(bucket_id, "ball_0")
        placed = {data: wire.put(bucket_id, "ball_0", data) for data in (b"old", b"new!")}
    rows = rows_of(wire, bucket_id)
    assert rows == sorted(rows)
    assert set(rows) == {("ball_0", 3), ("ball_0", 4)}


def test_cache_is_per_router(own_vss, wire_to, bucket_id) -> None:
    vss = own_vss(routers=2)
    one, other = wire_to(vss, 0), wire_to(vss, 1)
    one.put(bucket_id, "ball_0", b"old")
    assert other.get(bucket_id, "ball_0").content == b"old"
    assert one.delete(bucket_id, "ball_0").json()["n_deletes"] == 1
    assert one.get(bucket_id, "ball_0").status_code == 404
    assert other.get(bucket_id, "ball_0").content == b"old"
    one.put(bucket_id, "ball_0", b"new")
    assert one.get(bucket_id, "ball_0").content == b"new"
    assert other.get(bucket_id, "ball_0").content == b"old"
    assert other.get(bucket_id, "ball_0", Force_Get="1").content == b"new"
    assert other.get(bucket_id, "ball_0").content == b"old"


def test_cache_is_bounded(own_vss, wire_to, bucket_id) -> None:
    wire = wire_to(own_vss(options=("--cache-size", "10kB")))
    for n, size in enumerate((6_000, 4_000, 4_000, 4_000)):
        task = wire.announce(bucket_id, f"ball_{n}", b"x" * size).json()["tasks_ids"][0]
        wire.send(task, b"x" * (size - 1))  # refused by the peers: only a cache can answer it
    cached = [wire.get(bucket_id, f"ball_{n}").status_code for n in range(4)]
    assert cached == [404, 404, 200, 200]


def test_a_task_may_be_served_by_another_router(own_vss, wire_to, bucket_id) -> None:
    vss = own_vss(routers=2)
    task = wire_to(vss, 0).announce(bucket_id, "ball_0", b"data").json()["tasks_ids"][0]
    assert len(wire_to(vss, 1).send(task, b"data").json()["peer_ids"]) == 1


def test_peer_id_asks_that_peer_only(wire, bucket_id) -> None:
    (holder,) = wire.put(bucket_id, "ball_0", b"data")
    for peer in ("peer-0", "peer-1", "peer-2", "nobody"):
        answer = wire.get(bucket_id, "ball_0", Peer_Id=peer)
        assert answer.status_code == (200 if peer == holder else 404)


@pytest.mark.parametrize("size", [0, 1, 300_000, 20_000_000])
def test_data_is_streamed_without_a_length(wire, bucket_id, size) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    assert len(wire.put(bucket_id, "ball_0", data, rf=2)) == 2
    for headers in ({}, {"Force_Get": "1"}, {"Force_Get": "1", "Chunk_Size": "64kb"}):
        answer = wire.get(bucket_id, "ball_0", **headers)
        assert "content-length" not in answer.headers
        assert answer.content == data


def test_present_routers_do_not_know_content(wire, bucket_id) -> None:
    wire.put(bucket_id, "ball_0", b"data")
    checksum = wire.metadata(bucket_id, "ball_0").json()["metadata"]["checksum"]
    assert wire.client.get(f"/buckets/checksum/{checksum}").status_code == 404


# -- deleting ----------------------------------------------------------------------------------------------------------


def test_delete_by_ball_keeps_placement_unknown_to_peers(vss, wire, bucket_id) -> None:
    (peer,) = wire.put(bucket_id, "ball_0", b"data")
    gone = httpx.delete(f"{vss.peer_api(int(peer[-1]))}/buckets/{bucket_id}/ball_0", verify=False)
    assert gone.headers["n-deletes"] == "1"
    assert wire.delete_ball(bucket_id, "ball").json()["n_deletes"] == 0
    assert wire.metadata(bucket_id, "ball_0").json() == {"detail": f"404: No metadata found for {bucket_id}@ball_0"}
    assert wire.delete(bucket_id, "ball_0").json() == {"n_deletes": 0, "key": "ball_0"}
    assert wire.metadata(bucket_id, "ball_0").json() == NO_REPLICA


def test_delete_removes_files(own_vss, wire_to, bucket_id) -> None:
    vss = own_vss()
    wire = wire_to(vss)
    wire.put(bucket_id, "ball_0", b"data", rf=3)
    wire.put(bucket_id, "ball_1", b"data", rf=3)
    assert wire.delete(bucket_id, "ball_1").json()["n_deletes"] == 3
    assert wire.delete_ball(bucket_id, "ball").json()["n_deletes"] == 3
    assert wire.listed(bucket_id) == []
    assert [path for path in (vss.data / "peers").rglob("*") if path.is_file()] == []


def test_disable_changes_the_metadata_of_every_replica(wire, bucket_id) -> None:
    wire.put(bucket_id, "ball_0", b"data", rf=3)
    assert wire.client.post(f"/buckets/{bucket_id}/ball_0/disable").status_code == 204
    for _ in range(3):
        metadata = wire.metadata(bucket_id, "ball_0").json()["metadata"]
        assert metadata["is_disabled"] is True
        assert metadata["size"] == 4
    assert wire.client.post(f"/buckets/{bucket_id}/none_0/disable").status_code == 404


def test_update_fails_in_plain_text_and_changes_nothing(wire, bucket_id) -> None:
    wire.put(bucket_id, "ball_0", b"data")
    before = wire.metadata(bucket_id, "ball_0").json()["metadata"]
    answer = wire.client.post(f"/u/buckets/{bucket_id}/ball_0", json={"tags": {"colour": "red"}})
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert answer.headers["content-type"].startswith("text/plain")
    assert wire.client.put(f"/buckets/{bucket_id}/metadata/ball_0", json={"tags": {}}).status_code == 405
    assert wire.metadata(bucket_id, "ball_0").json()["metadata"] == before


# -- the rest of the page ----------------------------------------------------------------------------------------------


def test_size_names_the_placed_replicas(vss, wire, bucket_id) -> None:
    holders = wire.put(bucket_id, "ball_0", b"data", rf=2)
    rows = [{"bucket_id": bucket_id, "key": "ball_0", "peer_id": peer, "size": 4} for peer in sorted(holders)]
    assert wire.client.get(f"/buckets/{bucket_id}/ball_0/size").json() == rows
    missing = wire.client.get(f"/buckets/{bucket_id}/none_0/size")
    assert (missing.status_code, missing.json()) == (200, [])
    # A replica without a placement, and a placement without a replica, have no row.
    (spare,) = {"peer-0", "peer-1", "peer-2"} - set(holders)
    source, target = (vss.peer_api(int(peer[-1])) for peer in (holders[0], spare))
    httpx.post(f"{source}/buckets/{bucket_id}/ball_0/replicate", verify=False)
    assert httpx.get(f"{target}/buckets/{bucket_id}/ball_0/size", verify=False).json()["size"] == 4
    httpx.delete(f"{source}/buckets/{bucket_id}/ball_0", verify=False)
    assert [row["peer_id"] for row in wire.client.get(f"/buckets/{bucket_id}/ball_0/size").json()] == [holders[1]]


def test_cache_is_listed_measured_and_cleared(own_vss, wire_to, bucket_id) -> None:
    vss = own_vss(routers=2, options=("--cache-size", "1000"))
    wire, other = wire_to(vss, 0), wire_to(vss, 1)
    assert wire.client.get("/cache").json() == {"keys": []}
    wire.put(bucket_id, "ball_0", b"data")
    assert wire.client.get("/cache").json() == {"keys": [f"{bucket_id}@ball_0"]}
    assert wire.client.get("/cache/stats").json() == {"total": 1000, "used": 4, "available": 996, "uf": 0.004}
    other.get(bucket_id, "ball_0")
    assert wire.client.delete("/cache/reset").status_code == 204
    assert wire.client.get("/cache").json() == {"keys": []}
    assert other.client.get("/cache").json() == {"keys": [f"{bucket_id}@ball_0"]}


def test_every_router_describes_and_counts_itself(vss, wire, bucket_id) -> None:
    wire.listed(bucket_id)
    described = httpx.get(f"{vss.url()}/openapi.json", verify=False).json()
    assert "/api/v4/buckets/{bucket_id}/metadata" in described["paths"]
    metrics = httpx.get(f"{vss.url()}/metrics", verify=False).text
    assert 'http_requests_total{handler="/api/v4/buckets/{bucket_id}/metadata",method="GET",status="200"}' in metrics
    assert httpx.get(f"{vss.url()}/health", verify=False).status_code == 404
    assert httpx.get(f"{vss.url()}/api/v3/peers", verify=False).status_code == 404


def test_stats_of_every_peer(own_vss, wire_to, bucket_id) -> None:
    wire = wire_to(own_vss())
    wire.put(bucket_id, "ball_0", b"data", rf=2)
    by_id = wire.client.get("/peers/stats").json()
    assert list(by_id) == ["peer-0", "peer-1", "peer-2"]
    stats = list(by_id.values())
    assert [peer["peer_id"] for peer in stats] == list(by_id)
    assert [peer["used_disk"] for peer in stats] == [4, 4, 0]
    assert [len(peer["balls"]) for peer in stats] == [1, 1, 0]
    assert stats[0]["peers"] == ["peer-1", "peer-2"]
    assert all(peer["available_disk"] == peer["total_disk"] - peer["used_disk"] for peer in stats)
    assert all(peer["disk_uf"] == peer["used_disk"] / peer["total_disk"] for peer in stats)
    wire.put(bucket_id, "ball_1", b"data", rf=3)
    some = wire.client.get("/peers/stats", params={"start": 1, "end": 2}).json()
    assert [[ball["key"] for ball in peer["balls"]] for peer in some.values()] == [["ball_1"], ["ball_1"], []]
    assert [peer["used_disk"] for peer in some.values()] == [8, 8, 4]


def test_a_peer_that_is_added_takes_replicas_and_stays(own_vss, wire_to, bucket_id) -> None:
    vss = own_vss(peers=1)
    wire = wire_to(vss)
    wire.put(bucket_id, "ball_0", b"data")
    assert wire.announce(bucket_id, "ball_0", b"data").json()["detail"]["code"] == 666
    extra = {"protocol": "http", "peer_id": "extra", "hostname": "127.0.0.1", "port": 0}
    assert wire.client.post("/xpeers", json=extra).status_code == 422
    assert wire.client.post("/xpeers", json=[{**extra, "peer_id": "../x"}]).status_code == 400
    assert wire.client.post("/xpeers", json=[extra]).status_code == 204
    assert wire.put(bucket_id, "ball_0", b"data") == ["extra"]
    (_, extra) = wire.client.get("/peers").json()["available"]
    assert httpx.get(f"http://127.0.0.1:{extra['port']}/health", verify=False).json()["peer_id"] == "extra"
    vss.restart()
    assert wire.get(bucket_id, "ball_0", Peer_Id="extra").content == b"data"


@pytest.mark.parametrize("many", [False, True])
def test_removed_peer_comes_back_without_placements(own_vss, wire_to, bucket_id, many) -> None:
    vss = own_vss(peers=2)
    wire = wire_to(vss)
    announced = wire.announce(bucket_id, "waiting_0", b"data", replication_factor=2).json()["tasks_ids"][0]
    wire.put(bucket_id, "ball_0", b"data", rf=2)
    peer = {"protocol": "http", "peer_id": "peer-1", "hostname": "127.0.0.1", "port": vss.peer_port(1)}
    if many:
        assert wire.client.request("DELETE", "/xpeers", json=["peer-1", "nobody"]).status_code == 204
    else:
        assert wire.client.delete("/peers/peer-1").status_code == 204
        assert wire.client.delete("/peers/peer-1").status_code == 404
    assert wire.client.get(f"/buckets/{bucket_id}/metadata").json()["peers_ids"] == ["peer-0"]
    assert [row["peer_id"] for row in wire.client.get(f"/buckets/{bucket_id}/ball_0/size").json()] == ["peer-0"]
    assert wire.send(announced, b"data").json()["peer_ids"] == ["peer-0"]
    assert wire.delete(bucket_id, "ball_0").json()["n_deletes"] == 1

    assert wire.client.post("/xpeers" if many else "/peers", json=[peer] if many else peer).status_code == 204
    assert wire.metadata(bucket_id, "ball_0").json() == NO_REPLICA
    assert len(wire.chunks(bucket_id, "ball").json()["chunks"]) == 1
    assert wire.client.request("DELETE", "/xpeers", json=[peer, "peer-0"]).status_code == 204
    assert wire.announce(bucket_id, "ball_0", b"data").json() == {"detail": "No available peers."}
    vss.restart()
    assert len(wire.put(bucket_id, "ball_0", b"data", rf=2)) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "json_invalid"),
        (b"[]", "model_type"),
        (b'{"bucket_id": 1}', "string_type"),
    ],
)
def test_what_is_no_announcement_is_answered_with_every_reason(wire, bucket_id, content, reason) -> None:
    answer = wire.client.post(f"/buckets/{bucket_id}/metadata", content=content)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == reason
    assert answer.json()["detail"][0]["loc"][0] == "body"


def test_a_chunk_size_that_is_none_is_a_fault(wire, bucket_id) -> None:
    wire.put(bucket_id, "ball_0", b"data")
    assert wire.get(bucket_id, "ball_0", Chunk_Size="abc").status_code == 500


def test_bucket_may_be_called_data(wire) -> None:
    wire.put("data", "ball_0", b"content")
    assert wire.get("data", "ball_0").content == b"content"
    assert wire.listed("data") == ["ball_0"]
    assert wire.delete("data", "ball_0").status_code == 200
