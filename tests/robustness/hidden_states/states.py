"""
The hidden states: what the storage can look like after other writers' accidents, each made by raw requests.

``OURS`` are the bytes that the operations put; ``THEIRS`` are other ones.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import cut, pattern

OURS = pattern(1000)
THEIRS = pattern(1000, seed=1)
KEY = "k"
HUNG = 0.7
"""How long a router waits for a peer that hangs (seconds): longer than a roll-call waits, and less than a request."""

State = Callable[[RawRequests, str], None]


def absent(wire: RawRequests, bucket_id: str) -> None:
    """Nothing was ever there."""


def stored(wire: RawRequests, bucket_id: str) -> None:
    """The bytes are there, whole: what a put leaves whose answer got lost with its writer."""
    wire.put(bucket_id, KEY, cut(OURS, 400, 400))


def announced(wire: RawRequests, bucket_id: str) -> None:
    """Announced, and never sent."""
    wire.put(bucket_id, KEY, cut(OURS, 400, 400), announced_only=[0, 1, 2])


def announced_everywhere(wire: RawRequests, bucket_id: str) -> None:
    """Announced on every peer, and never sent: a further announcement is answered with code 666."""
    wire.put(bucket_id, KEY, cut(OURS, 400, 400), rf=3, announced_only=[0, 1, 2])


def announced_twice(wire: RawRequests, bucket_id: str) -> None:
    """Announced by two writers, one after the other, and never sent."""
    announced(wire, bucket_id)
    announced(wire, bucket_id)


def announced_beside_stored(wire: RawRequests, bucket_id: str) -> None:
    """The bytes are there, and were announced once more and never sent."""
    stored(wire, bucket_id)
    announced(wire, bucket_id)


def cached_only(wire: RawRequests, bucket_id: str) -> None:
    """Announced, and sent; every peer refused the data, and the router's cache has it."""
    with wire.vss.fault("refuse_data", bucket=bucket_id):
        assert wire.put(bucket_id, KEY, cut(OURS, 400, 400)) == {0: [], 1: [], 2: []}


def half_sent(wire: RawRequests, bucket_id: str) -> None:
    """One chunk is stored, one was announced only, and the last not even that."""
    wire.put(bucket_id, KEY, cut(OURS, 400, 400), only=[0, 1], announced_only=[1])


def others_announced(wire: RawRequests, bucket_id: str) -> None:
    """Other bytes were announced, and never sent."""
    wire.put(bucket_id, KEY, cut(THEIRS, 400, 400), announced_only=[0, 1, 2])


def newer_announcement(wire: RawRequests, bucket_id: str) -> None:
    """The bytes are there, and other bytes were announced after them and never sent."""
    wire.put(bucket_id, KEY, cut(OURS, 400, 400))
    wire.put(bucket_id, KEY, cut(THEIRS, 500), announced_only=[0, 1])


def newer_half(wire: RawRequests, bucket_id: str) -> None:
    """The bytes are there, and of other, newer bytes the first chunk is stored too."""
    wire.put(bucket_id, KEY, cut(OURS, 400, 400))
    wire.put(bucket_id, KEY, cut(THEIRS, 500), announced_only=[1])


def two_cuts(wire: RawRequests, bucket_id: str) -> None:
    """The same bytes are stored twice, in chunks of 400 and of 300 bytes."""
    wire.put(bucket_id, KEY, cut(OURS, 400, 400))
    wire.put(bucket_id, KEY, cut(OURS, 300, 300, 300))


def two_cuts_one_sent(wire: RawRequests, bucket_id: str) -> None:
    """The same bytes, stored in chunks of 400 bytes, and announced after that in chunks of 500."""
    wire.put(bucket_id, KEY, cut(OURS, 400, 400))
    wire.put(bucket_id, KEY, cut(OURS, 500), announced_only=[0, 1])


def placed_without_data(wire: RawRequests, bucket_id: str) -> None:
    """The placement outlived the data: the peers lost the ball, and the placement service was not told."""
    for index, peers in wire.put(bucket_id, KEY, cut(OURS, 400, 400)).items():
        assert len(peers) == 1, index
        wire.forget_at_peer(int(peers[0][-1]), bucket_id, KEY)


def placed_everywhere_without_data(wire: RawRequests, bucket_id: str) -> None:
    """Every peer lost all that it had of the ball, and the placement service was not told."""
    wire.put(bucket_id, KEY, cut(OURS, 400, 400), rf=3)
    for peer in range(wire.vss.peers):
        wire.forget_at_peer(peer, bucket_id, KEY)


def brought_back(wire: RawRequests, bucket_id: str) -> None:
    """It was deleted while a peer was down, which is back with its copy: it is listed, and placed nowhere."""
    _bring_back(wire, bucket_id, OURS)


def others_brought_back(wire: RawRequests, bucket_id: str) -> None:
    """Other bytes were deleted while a peer was down, which is back with its copy."""
    _bring_back(wire, bucket_id, THEIRS)


def _bring_back(wire: RawRequests, bucket_id: str, data: bytes) -> None:
    [holder] = wire.put(bucket_id, KEY, [data])[0]
    with wire.vss.fault("peer_down", peer=holder):
        wire.delete_chunk(bucket_id, f"{KEY}_0")
    assert wire.metadata(bucket_id, f"{KEY}_0")[0] == 500
    assert len(wire.listed(bucket_id, KEY)) == 1


def silent_peer(wire: RawRequests, bucket_id: str) -> None:
    """Nothing was ever there, and a peer is silent."""
    wire.vss.set_fault("peer_silent", peer="peer-1")


def only_copy_silent(wire: RawRequests, bucket_id: str) -> None:
    """The bytes are there, and the peer with their only copy is silent."""
    _silence_a_holder(wire, bucket_id, OURS, 1)


def one_of_two_copies_silent(wire: RawRequests, bucket_id: str) -> None:
    """The bytes are there, and one of the two peers that have them is silent."""
    _silence_a_holder(wire, bucket_id, OURS, 2)


def others_only_copy_silent(wire: RawRequests, bucket_id: str) -> None:
    """Other bytes are there, and the peer with their only copy is silent."""
    _silence_a_holder(wire, bucket_id, THEIRS, 1)


def others_one_of_two_copies_silent(wire: RawRequests, bucket_id: str) -> None:
    """Other bytes are there, and one of the two peers that have them is silent."""
    _silence_a_holder(wire, bucket_id, THEIRS, 2)


def hung_peer(wire: RawRequests, bucket_id: str) -> None:
    """Nothing was ever there, and a peer hangs."""
    wire.vss.set_fault("peer_hung", peer="peer-1", seconds=HUNG)


def only_copy_hung(wire: RawRequests, bucket_id: str) -> None:
    """The bytes are there, and the peer with their only copy hangs."""
    _silence_a_holder(wire, bucket_id, OURS, 1, "peer_hung", seconds=HUNG)


def one_of_two_copies_hung(wire: RawRequests, bucket_id: str) -> None:
    """The bytes are there, and one of the two peers that have them hangs."""
    _silence_a_holder(wire, bucket_id, OURS, 2, "peer_hung", seconds=HUNG)


def _silence_a_holder(
    wire: RawRequests, bucket_id: str, data: bytes, rf: int, fault: str = "peer_silent", **options: float
) -> None:
    holders = wire.put(bucket_id, KEY, [data], rf=rf)[0]
    assert len(holders) == rf
    wire.vss.set_fault(fault, peer=holders[-1], **options)


def answers_lost(wire: RawRequests, bucket_id: str) -> None:
    """Nothing is there; and the first answer to every kind of request gets lost after all was done (``lose_answers``)."""


def stored_and_answers_lost(wire: RawRequests, bucket_id: str) -> None:
    """The bytes are there; and the first answer to every kind of request gets lost after all was done."""
    stored(wire, bucket_id)


def lose_answers(wire: RawRequests, bucket_id: str) -> None:
    """Lose the first answer to every kind of request from now on."""
    for method, path in (
        ("POST", f"{bucket_id}/metadata$"),
        ("POST", "/data/"),
        ("GET", f"{bucket_id}/metadata"),
        ("GET", f"{bucket_id}/{KEY}_"),
        ("DELETE", f"{bucket_id}/bid/"),
        ("DELETE", f"{bucket_id}/{KEY}_"),
    ):
        wire.vss.set_fault("reset", method=method, path=path, bucket=bucket_id, when="after", count=1)
