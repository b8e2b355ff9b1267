"""What was acknowledged is there after a restart, and after a death without warning."""

from __future__ import annotations

import hashlib
import os
import socket
import threading

import httpx
import pytest

from tests.support.bare_client import BareClient


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("options", [(), ("--fsync",)])
def test_everything_acknowledged_is_there_after_a_restart(own_vss, wire_to, bucket_id, kill, options) -> None:
    vss = own_vss(options=options)
    wire = wire_to(vss)
    for n in range(20):
        assert len(wire.put(bucket_id, f"ball_{n}", b"data%d" % n, rf=1 + n % 3)) == 1 + n % 3
    wire.put(bucket_id, "large_0", b"x" * 20_000_000)
    wire.put(bucket_id, "empty_0", b"")
    wire.announce(bucket_id, "announced_0", b"never sent")
    wire.delete(bucket_id, "ball_7")
    listed, ball = wire.listed(bucket_id), wire.chunks(bucket_id, "ball").json()
    placed = wire.metadata(bucket_id, "ball_5").json()["metadata"]

    vss.restart(kill=kill)

    assert wire.listed(bucket_id) == listed
    assert wire.chunks(bucket_id, "ball").json() == ball
    assert wire.metadata(bucket_id, "ball_5").json()["metadata"] == placed
    for n in set(range(20)) - {7}:
        assert wire.get(bucket_id, f"ball_{n}").content == b"data%d" % n
    assert wire.get(bucket_id, "large_0").content == b"x" * 20_000_000
    assert wire.metadata(bucket_id, "empty_0").json()["metadata"]["size"] == 0
    assert wire.metadata(bucket_id, "announced_0").status_code == 200
    assert wire.metadata(bucket_id, "ball_7").json() == {"detail": "404: No available peers"}
    assert wire.announce(bucket_id, "ball_2", b"data2").json()["detail"]["code"] == 666


@pytest.mark.parametrize("options", [(), ("--fsync",)])
def test_killed_in_the_middle_of_many_writes(own_vss, wire_to, bucket_id, options) -> None:
    vss = own_vss(options=options)
    acknowledged: list[tuple[str, bytes]] = []
    enough = threading.Event()

    def write(worker: int) -> None:
        wire = BareClient(vss)
        for n in range(100_000):
            key, data = f"w{worker}-{n}_0", f"{worker}/{n}".encode() * (5_000 if n % 5 == 0 else 1)
            try:
                stored = wire.put(bucket_id, key, data)
            except httpx.TransportError:
                return
            if stored:
                acknowledged.append((key, data))
            if len(acknowledged) >= 150:
                enough.set()

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for writer in writers:
        writer.start()
    assert enough.wait(120)
    vss.kill()
    for writer in writers:
        writer.join()
    vss.start()

    wire = wire_to(vss)
    for key, data in acknowledged:
        assert wire.get(bucket_id, key).content == data
    for key in wire.listed(bucket_id):  # what was not acknowledged is whole, or not there
        answer = wire.get(bucket_id, key, Force_Get="1")
        if answer.status_code == 200:
            checksum = wire.metadata(bucket_id, key).json()["metadata"]["checksum"]
            assert hashlib.sha256(answer.content).hexdigest() == checksum


def test_left_overs_are_swept_away(own_vss, wire_to, bucket_id) -> None:
    vss = own_vss()
    wire = wire_to(vss)
    (peer,) = wire.put(bucket_id, "ball_0", b"data")
    vss.kill()
    folder = vss.data / "peers" / peer
    (kept,) = folder.iterdir()
    for name in ("0123-4567", "0123-4567.part"):
        (folder / name).write_bytes(b"nobody's")
        os.utime(folder / name, (1, 1))
    vss.start()
    vss.stop()
    assert list(folder.iterdir()) == [kept]


def test_killed_while_a_long_body_comes_leaves_no_file(own_vss, wire_to, bucket_id) -> None:
    vss = own_vss()
    wire = wire_to(vss)
    task = wire.announce(bucket_id, "ball_0", b"x" * 40_000_000).json()["tasks_ids"][0]
    before = sorted(vss.data.rglob("*"))
    with socket.create_connection(("127.0.0.1", vss.port)) as connection:
        head = (
            f"POST /api/v4/buckets/data/{task}/chunked HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000000\r\n\r\n"
        )
        connection.sendall(head.encode() + b"x" * 35_000_000)  # more than is kept in memory, and in the sockets
        vss.kill()
    assert sorted(vss.data.rglob("*")) == before
    vss.start()
    assert wire.get(bucket_id, "ball_0").status_code == 404


def test_a_file_that_was_removed_is_missing_data(own_vss, wire_to, bucket_id) -> None:
    vss = own_vss()
    wire = wire_to(vss)
    (peer,) = wire.put(bucket_id, "ball_0", b"data")
    for path in (vss.data / "peers" / peer).iterdir():
        path.unlink()
    assert wire.get(bucket_id, "ball_0", Force_Get="1").status_code == 404


def test_fewer_peers_at_a_restart_lose_nothing(own_vss, wire_to, bucket_id) -> None:
    vss = own_vss(peers=3)
    wire = wire_to(vss)
    wire.put(bucket_id, "ball_0", b"data", rf=3)
    vss.peers = 2
    vss.restart()
    assert len(wire.client.get("/peers").json()["available"]) == 3
    vss.peers = 4
    vss.restart()
    assert len(wire.client.get("/peers").json()["available"]) == 4
    assert len(wire.chunks(bucket_id, "ball").json()["chunks"]) == 3
