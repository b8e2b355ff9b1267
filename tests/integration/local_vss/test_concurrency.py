"""Many requests at once: nobody gets anybody else's answer, and nothing is placed twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.bare_client import BareClient


@pytest.mark.parametrize("options", [(), ("--fsync",)])
def test_many_writers_and_readers(own_vss, bucket_id, options) -> None:
    vss = own_vss(routers=2, options=options)

    def work(worker: int) -> None:
        wire, other = BareClient(vss, worker % 2), BareClient(vss, (worker + 1) % 2)
        for n in range(25):
            data = f"{worker}:{n}".encode() * (1 + 20_000 * (n % 2))
            assert len(wire.put(bucket_id, f"w{worker}_{n}", data, rf=2)) == 2
            assert other.get(bucket_id, f"w{worker}_{n}", Force_Get="1").content == data
        assert len(wire.chunks(bucket_id, f"w{worker}").json()["chunks"]) == 50
        if worker % 2:
            assert other.delete_ball(bucket_id, f"w{worker}").json()["n_deletes"] == 50

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    expected = {f"w{worker}_{n}" for worker in range(0, 8, 2) for n in range(25)}
    assert set(BareClient(vss).listed(bucket_id)) == expected


@pytest.mark.parametrize("options", [(), ("--fsync",)])
def test_announcements_of_one_key_never_share_a_peer(own_vss, bucket_id, options) -> None:
    vss = own_vss(peers=5, options=options)

    def announce(_: int) -> list[str] | None:
        answer = BareClient(vss).announce(bucket_id, "ball_0", b"data")
        return answer.json()["replicas"] if answer.status_code == 200 else None

    with ThreadPoolExecutor(12) as pool:
        placed = [peers for peers in pool.map(announce, range(12)) if peers]
    assert sorted(peer for (peer,) in placed) == [f"peer-{n}" for n in range(5)]


def test_a_large_body_does_not_hold_up_others(vss, wire, bucket_id) -> None:
    task = wire.announce(bucket_id, "large_0", b"x" * 1_000_000).json()["tasks_ids"][0]
    other = BareClient(vss)

    def slowly():
        for n in range(100):
            yield b"x" * 10_000
            if n % 10 == 0:
                assert other.put(bucket_id, f"small_{n}", b"data") != []

    sent = wire.client.post(f"/buckets/data/{task}/chunked", content=slowly())
    assert len(sent.json()["peer_ids"]) == 1
