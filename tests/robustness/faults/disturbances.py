"""
The faults: one table, from which the tests and ``docs/faults.md`` come.

A fault knows at which places of an operation it can happen, and is switched on at one of them: once, or until it is mended.
Times are given as they would be in earnest, and multiplied by ``SCALE``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from airflow_provider_mictlanx.bulks.verification import StorageCheck
from airflow_provider_mictlanx.client import AsyncClient
from tests.robustness.faults.operations import CHUNK, RF, SIZE, Cell, How, Operation
from tests.robustness.faults.space import PEERS, Space
from tests.support import router_behaviours as b
from tests.support.hostile_router import KINDS, Behaviour, Exchange

SCALE = float(os.environ.get("FAULTS_TIME_SCALE", "0.05"))
"""By what every time is multiplied: 1 takes them as they are."""

JSON = frozenset(KINDS) - {"read"}
WRITES = frozenset({"announce", "data"})
DATA = frozenset({"data", "read"})
LISTINGS = frozenset({"chunks", "bucket"})
EVERYWHERE = frozenset(KINDS)

Hits = Callable[[], int]
"""Tells how often a fault has happened."""


class Fault:
    """
    One row of the table.

    :ivar name: as the table has it
    :ivar passes: whether it can happen once and be over
    :ivar lasts: whether it can stay until somebody mends it
    :ivar timed: whether it is about time: then tries are apart, as in earnest
    :ivar hurried: whether it is about times that a busy machine may not keep
    :ivar stores_wrong_bytes: whether wrong bytes are stored on purpose; nobody may ever get them
    """

    name: str
    passes: bool = True
    lasts: bool = True
    timed: bool = False
    hurried: bool = False
    stores_wrong_bytes: bool = False

    def places(self, operation: Operation) -> Sequence[str]:
        """Name the places of an operation at which it can happen; none where it can't."""
        raise NotImplementedError

    def on(
        self, cell: Cell, operation: Operation, place: str, lasting: bool
    ) -> contextlib.AbstractContextManager[Hits]:
        """Switch it on."""
        raise NotImplementedError

    def how(self, operation: Operation, lasting: bool, patience: int) -> How:
        """
        Return the operation's timeouts for this fault.

        :param patience: by which times are multiplied, on a machine that is too busy for them
        """
        return How(tries=2 if lasting else 5, connect_patience=0 if lasting else 2)

    def mend(self, cell: Cell) -> None:
        """Mend what a person or another writer has to, after it was switched off."""


@dataclass(frozen=True)
class AtRequest(Fault):
    """
    Something goes wrong with a request: at the hostile router, and where the local VSS can do it, there too.

    :ivar kinds: the requests at which it can happen
    :ivar local: the same as a fault of the local VSS, if it has it
    :ivar timeout: of a request (seconds, in earnest), where it is about time
    :ivar deadline: of the whole call (seconds, in earnest)
    """

    name: str
    behaviour: Behaviour
    kinds: frozenset[str] = EVERYWHERE
    local: Mapping[str, Any] | None = None
    passes: bool = True
    lasts: bool = True
    timed: bool = False
    timeout: float | None = None
    deadline: float | None = None
    where: Callable[[Operation], bool] = lambda operation: True

    @property
    def hurried(self) -> bool:  # type: ignore[override]
        return self.timeout is not None or self.deadline is not None

    def places(self, operation: Operation) -> Sequence[str]:
        kinds = [kind for kind in operation.kinds if kind in self.kinds] if self.where(operation) else []
        local = kinds if self.local is not None and operation.name in TO_BOTH else []
        return [*kinds, *(f"{kind}, by the local VSS" for kind in local)]

    @contextmanager
    def on(self, cell: Cell, operation: Operation, place: str, lasting: bool) -> Iterator[Hits]:
        kind, _, local = place.partition(", ")
        space = cell.space
        if not local:
            with space.front.misbehaving(self.behaviour, {kind}, None if lasting else 1) as rule:
                yield lambda: rule.hits
            return
        method, pattern = KINDS[kind]
        count = {} if lasting else {"count": 1}
        fault = {**(self.local or {}), **count, "router": "router-0", "method": method, "path": pattern}
        with space.fault(**fault) as fault_id:
            yield lambda: space.triggered(fault_id)

    def how(self, operation: Operation, lasting: bool, patience: int) -> How:
        usual = super().how(operation, lasting, patience)
        deadline = self.deadline * SCALE * patience if self.deadline and operation.takes_deadline else None
        if self.timeout is None and self.deadline is None:
            return usual
        # A timeout that is not met for want of a fast machine must not end what only one late answer should delay.
        scaled = (self.timeout or self.deadline or 0) * SCALE * patience
        return How(
            timeout=(scaled if lasting else 5 * scaled) if deadline is None else 30,
            tries=usual.tries,
            deadline=deadline,
        )


@dataclass(frozen=True)
class Often(Fault):
    """
    Some of all requests fail.

    :ivar behaviour: builds what decides which ones
    :ivar tries: of each request
    """

    name: str
    behaviour: Callable[[], Behaviour]
    tries: int = 20
    lasts: bool = field(default=False, init=False)

    def places(self, operation: Operation) -> Sequence[str]:
        return ["anywhere"]

    @contextmanager
    def on(self, cell: Cell, operation: Operation, place: str, lasting: bool) -> Iterator[Hits]:
        with cell.space.front.misbehaving(self.behaviour(), EVERYWHERE) as rule:
            yield lambda: rule.hits

    def how(self, operation: Operation, lasting: bool, patience: int) -> How:
        return How(tries=self.tries)


@dataclass(frozen=True)
class AtPeers(Fault):
    """
    Peers misbehave, as the local VSS can make them.

    :ivar peers: who misbehaves; an empty id for whoever it is
    :ivar rf: how many copies are asked for where it lasts: all peers, where it matters which of them come first
    :ivar once: who does so in a fault that passes, once each; nobody where it can't pass
    """

    name: str
    kind: str
    peers: Sequence[str]
    operations: frozenset[str]
    once: Sequence[str] = ()
    rf: int = RF

    def how(self, operation: Operation, lasting: bool, patience: int) -> How:
        return How(tries=2 if lasting else 5, rf=self.rf if lasting else RF)

    @property
    def passes(self) -> bool:  # type: ignore[override]
        return bool(self.once)

    def places(self, operation: Operation) -> Sequence[str]:
        return ["peers"] if operation.name in self.operations else []

    @contextmanager
    def on(self, cell: Cell, operation: Operation, place: str, lasting: bool) -> Iterator[Hits]:
        space = cell.space
        stateful = self.kind in ("peer_down", "hide_from_listing")
        when = {} if lasting or stateful else {"count": 1}
        bucket = {} if stateful else {"bucket": f"*{cell.bucket_id}"}
        with contextlib.ExitStack() as stack:
            ids = [
                stack.enter_context(space.fault(self.kind, **({"peer": peer} if peer else {}), **bucket, **when))
                for peer in (self.peers if lasting else self.once)
            ]
            yield lambda: 1 if stateful else sum(space.triggered(fault_id) for fault_id in ids)


@dataclass(frozen=True)
class PeerLost(Fault):
    """
    A peer gives no answer from some request on, for this request or until it is mended, while it is listed as available.

    It is a peer that has a copy of the first chunk, or the next one that is to get one.

    :ivar kind: ``peer_silent`` or ``peer_hung``
    """

    name: str
    kind: str
    passes: bool = True

    @property
    def hurried(self) -> bool:  # type: ignore[override]
        return self.kind == "peer_hung"

    def places(self, operation: Operation) -> Sequence[str]:
        return operation.kinds

    @contextmanager
    def on(self, cell: Cell, operation: Operation, place: str, lasting: bool) -> Iterator[Hits]:
        space, peer = cell.space, _concerned(cell)
        came = len(space.front.requests)
        with contextlib.ExitStack() as lost:

            def lose() -> None:
                seconds = {"seconds": 60} if self.hurried else {}
                lost.enter_context(space.fault(self.kind, peer=peer, **seconds))

            async def behave(exchange: Exchange) -> None:
                await asyncio.to_thread(lose)
                reply = await exchange.answer()
                if not lasting:
                    await asyncio.to_thread(lost.close)
                await exchange.send(reply)

            with space.front.misbehaving(behave, {place}, 1) as rule:
                yield lambda: rule.hits
            if lasting and place in operation.before_deleting:
                assert not [r for r in space.front.requests[came:] if r.method == "DELETE"], "a copy was deleted"
        if self.hurried:
            time.sleep(0.1)  # what was given up is carried out by now

    def how(self, operation: Operation, lasting: bool, patience: int) -> How:
        # A new ball goes past a peer that does not answer: the next announcement is placed on another one.
        if self.hurried:
            return How(tries=3, timeout=12 * SCALE * patience, roll_call=10 * SCALE * patience)
        return How(tries=5)


def _concerned(cell: Cell) -> str:
    if holders := cell.space.copies(cell.bucket_id, "ball_0"):
        return min(holders)
    _, [last] = cell.space.announce(f"{cell.bucket_id}-placed", "before", 0, cell.chunks, 1)
    return f"peer-{(int(last.removeprefix('peer-')) + 1) % PEERS}"  # placement goes round


@dataclass(frozen=True)
class Before(Fault):
    """
    Something happened before: the operation meets what it left.

    :ivar arrange: makes it so
    :ivar mends: is done before the retry, where that alone would change nothing
    """

    name: str
    arrange: Callable[[Cell], None]
    operations: frozenset[str]
    mends: Callable[[Cell], None] = lambda cell: None
    stores_wrong_bytes: bool = False
    passes: bool = field(default=False, init=False)

    def places(self, operation: Operation) -> Sequence[str]:
        return ["before"] if operation.name in self.operations else []

    @contextmanager
    def on(self, cell: Cell, operation: Operation, place: str, lasting: bool) -> Iterator[Hits]:
        self.arrange(cell)
        yield lambda: 1

    def mend(self, cell: Cell) -> None:
        self.mends(cell)


@dataclass(frozen=True)
class RouterLost(Fault):
    """
    The router is gone from some request on.

    :ivar seconds: for how long (in earnest); None for good
    :ivar operations: only these
    :ivar second: whether there is another one
    """

    name: str
    seconds: float | None = None
    operations: frozenset[str] | None = None
    second: bool = False
    passes: bool = True
    lasts: bool = True
    timed: bool = field(default=True, init=False)
    hurried: bool = field(default=True, init=False)

    def places(self, operation: Operation) -> Sequence[str]:
        return operation.kinds if self.operations is None or operation.name in self.operations else []

    @contextmanager
    def on(self, cell: Cell, operation: Operation, place: str, lasting: bool) -> Iterator[Hits]:
        space = cell.space
        seconds = self.seconds * SCALE if self.seconds and not lasting else None
        space.two_routers = self.second
        try:
            with space.front.misbehaving(b.gone_for(seconds), {place}, 1) as first:
                if not self.second:
                    yield lambda: first.hits
                else:
                    # Whichever of them is asked first; the other one stays.
                    with both_routers(space, place) as hits:
                        yield hits
        finally:
            space.two_routers = False
            space.front.accept()
            space.second.accept()

    def how(self, operation: Operation, lasting: bool, patience: int) -> How:
        return How(tries=2 if lasting else 5, connect_patience=0 if lasting else 40 * SCALE * patience)


@contextmanager
def both_routers(space: Space, place: str) -> Iterator[Hits]:
    """Stop the router that is asked first."""
    lost: list[str] = []

    async def behave(exchange: Exchange) -> None:
        if lost:
            await exchange.send(await exchange.answer())
        else:
            lost.append(exchange.request.kind)
            await b.gone_for(None)(exchange)

    with space.front.misbehaving(behave, {place}), space.second.misbehaving(behave, {place}):
        yield lambda: len(lost)


@dataclass(frozen=True)
class NoAddress(Fault):
    """The router's name has no address."""

    name: str = "DNS failure"

    def places(self, operation: Operation) -> Sequence[str]:
        return ["look-up"]

    @contextmanager
    def on(self, cell: Cell, operation: Operation, place: str, lasting: bool) -> Iterator[Hits]:
        real, asked = socket.getaddrinfo, list[str]()

        def look_up(host: Any, *arguments: Any, **further: Any) -> Any:
            if host not in ("router.test", b"router.test"):
                return real(host, *arguments, **further)
            asked.append(host)
            if lasting or len(asked) == 1:
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return real("127.0.0.1", *arguments, **further)

        cell.space.host = "router.test"
        try:
            with mock.patch("socket.getaddrinfo", look_up):
                yield lambda: len(asked)
        finally:
            cell.space.host = "127.0.0.1"


@dataclass(frozen=True)
class AcceptedWrong(Fault):
    """Data is changed on its way, and the peers store it all the same, and say so: a lie, which only reading tells."""

    name: str = "a peer that acknowledges wrong bytes"
    passes: bool = field(default=False, init=False)
    stores_wrong_bytes: bool = field(default=True, init=False)

    def places(self, operation: Operation) -> Sequence[str]:
        return ["data"] if operation.name in WRITERS else []

    @contextmanager
    def on(self, cell: Cell, operation: Operation, place: str, lasting: bool) -> Iterator[Hits]:
        async def behave(exchange: Exchange) -> None:
            records = exchange.request.length != CHUNK
            await (b.late(0) if records else b.bodies(b.flipped))(exchange)

        with (
            cell.space.fault("accept_wrong_bytes", bucket=cell.bucket_id),
            cell.space.front.misbehaving(behave, {place}) as rule,
        ):
            yield lambda: rule.hits

    def mend(self, cell: Cell) -> None:
        """Read a bulk back, as its gate does with ``check_storage``: what it finds is sent again by the next attempt."""

        async def check() -> None:
            async with AsyncClient(cell.space.vss.uri, "gate", debug=False, log_output_path=None) as client:
                assert await StorageCheck(cell.bulk_id).go_on(client, 60)

        asyncio.run(check())


# -- what happened before ------------------------------------------------------------------------------------------------


def _half_a_put(cell: Cell) -> None:
    """Another writer of the same bytes announced the first chunk on every peer, and died."""
    cell.space.announce(cell.bucket_id, "ball", 0, cell.chunks, PEERS)


def _too_few_copies(cell: Cell) -> None:
    """Another writer of the same bytes announced the first chunk on every peer, and one of them took the data."""
    task, (first, *others) = cell.space.announce(cell.bucket_id, "ball", 0, cell.chunks, PEERS)
    with contextlib.ExitStack() as refused:
        for peer in others:
            refused.enter_context(cell.space.fault("refuse_data", peer=peer, bucket=cell.bucket_id))
        assert cell.space.send(task, cell.chunks[0]) == [first]


def _wrong_on_one(cell: Cell) -> None:
    """One of the peers that have the first chunk has wrong bytes."""
    _wrong(cell, RF - 1)


def _wrong_on_all(cell: Cell) -> None:
    """All of them have."""
    _wrong(cell, RF)


def _wrong(cell: Cell, copies: int) -> None:
    _forget_first(cell)
    for number in range(RF):
        task, _ = cell.space.announce(cell.bucket_id, "ball", 0, cell.chunks, 1)
        with cell.space.fault("accept_wrong_bytes", bucket=cell.bucket_id):
            cell.space.send(task, b"wrong" * (CHUNK // 5) if number < copies else cell.chunks[0])


def _lost_by_all(cell: Cell) -> None:
    """Every peer that had the first chunk lost its data, and has the announcement still."""
    _forget_first(cell)
    cell.space.announce(cell.bucket_id, "ball", 0, cell.chunks, RF)


def _forget_first(cell: Cell) -> None:
    cell.space.ask("DELETE", cell.space.vss.port, f"/api/v4/buckets/{cell.bucket_id}/ball_0")


def _put_first(cell: Cell) -> None:
    """Put the first chunk again."""
    _forget_first(cell)
    task, _ = cell.space.announce(cell.bucket_id, "ball", 0, cell.chunks, RF)
    cell.space.send(task, cell.chunks[0])


def _missing(cell: Cell) -> None:
    """It was never written; the metadata of what is placed nowhere is answered with 500."""
    for index in range(len(cell.chunks)):
        cell.space.ask("DELETE", cell.space.vss.port, f"/api/v4/buckets/{cell.bucket_id}/ball_{index}")


def _put(cell: Cell) -> None:
    cell.space.put(cell.bucket_id, "ball", cell.chunks)


TO_BOTH = frozenset({"put", "get", "delete", "sensor"})
"""The operations that meet what both servers can do at both of them; the others make the same requests."""

EVERY_PEER = ("peer-0", "peer-1", "peer-2")
READERS = frozenset({"get", "get_to_file", "sensor"})
WRITERS = frozenset({"put", "put_file", "bulk", "cleared bulk", "copy"})
TO_PEERS = WRITERS | {"replace", "windowed bulk", "windowed copy"}
"""The operations that send data to peers."""

PATIENT = frozenset({"put", "put_file", "replace", "get", "get_to_file"})
"""The operations that a long outage is tried with: it takes its time."""

ALL = READERS | TO_PEERS | {"delete", "delete_bucket"}


def parses_for_itself(operation: Operation) -> bool:
    """Return False for copies: what they get is parsed as in a get, and what they put as in a put."""
    return "copy" not in operation.name


INTERNAL_ERROR = b.status(500, "Internal Server Error")
TRY_AGAIN = b.status(404, "Fail to fetch from peer peer-0, try again later.")

FAULTS: tuple[Fault, ...] = (
    AtPeers("200 with empty `peer_ids`", "refuse_data", EVERY_PEER, TO_PEERS, once=EVERY_PEER),
    # Not of a cleared bulk, which has to ask for as many replicas as the first time.
    AtPeers(
        "fewer replicas than asked",
        "refuse_data",
        ("peer-1", "peer-2"),
        TO_PEERS - {"cleared bulk"},
        once=("peer-1",),
        rf=PEERS,
    ),
    Often("500 at 1 % of all requests", lambda: b.sometimes(0.01, INTERNAL_ERROR)),
    Often("500 at 10 % of all requests", lambda: b.sometimes(0.1, INTERNAL_ERROR)),
    Often("500 at 50 % of all requests", lambda: b.sometimes(0.5, INTERNAL_ERROR)),
    Often("500 at every third request of each path", lambda: b.by_turn(lambda n: n % 3 == 0, INTERNAL_ERROR), 5),
    Often("404 at the first two requests of each path", lambda: b.by_turn(lambda n: n <= 2, TRY_AGAIN), 5),
    AtRequest("500", INTERNAL_ERROR, local={"kind": "status", "status": 500}),
    AtPeers("500 after the data was stored", "fail_after_storing", ("",), TO_PEERS, once=("",)),
    RouterLost("connection refused", seconds=1),
    AtRequest("reset before the body", b.reset_before, local={"kind": "reset", "when": "before"}),
    AtRequest("reset during the body", b.reset_during),
    AtRequest("reset after the body", b.reset_after, local={"kind": "reset", "when": "after"}),
    AtRequest("a response that never comes", b.never, timeout=3),
    AtRequest("a body cut short", b.bodies(b.short), JSON | DATA),
    AtRequest("a body that is too long", b.bodies(b.long), JSON | DATA),
    AtRequest("a body with a flipped bit", b.bodies(b.flipped), DATA),
    AtRequest("a stale cache", b.stale(bytes(SIZE)), frozenset({"read"})),
    AtRequest("a duplicate listing", b.listing(b.thrice, b.as_it_is), LISTINGS),
    AtRequest("a partial listing, with 200", b.listing(b.without_first, b.without_first), LISTINGS),
    AtRequest("an empty listing, with 200", b.listing(b.nothing, b.nothing), LISTINGS),
    AtPeers("a peer that is down", "peer_down", ("peer-1",), ALL),
    PeerLost("a peer that is silent, and listed as available", "peer_silent"),
    PeerLost("a peer that hangs, and is listed as available", "peer_hung", passes=False),
    AtRequest("404 for a live object", TRY_AGAIN, local={"kind": "status", "status": 404}),
    Before("500 for a missing object", _missing, READERS | {"delete", "delete_bucket"}, _put),
    Before("666 after half a put", _half_a_put, WRITERS),
    Before("666 with too few copies", _too_few_copies, WRITERS),
    AtRequest("task expired", b.expired, frozenset({"data"})),
    AcceptedWrong(),
    Before("wrong bytes at one of two peers", _wrong_on_one, READERS, stores_wrong_bytes=True),
    Before("wrong bytes at both of two peers", _wrong_on_all, READERS, _put_first, stores_wrong_bytes=True),
    AtPeers(
        "a peer that reads wrong bytes",
        "flip_bit",
        EVERY_PEER,
        READERS | {"copy", "windowed copy"},
        once=("peer-1",),
    ),
    RouterLost("a router lost in the middle, a second one alive", second=True, lasts=False),
    RouterLost("all routers down for 20 s", seconds=20, operations=PATIENT, lasts=False),
    NoAddress(),
    AtRequest(
        "a slow router (10 s per answer) with a deadline", b.late(10 * SCALE), timed=True, deadline=4, passes=False
    ),
    AtRequest("HTML instead of JSON", b.instead(200, b.HTML, "text/html"), where=parses_for_itself),
    AtRequest("JSON with missing fields", b.changed(b.without_fields), where=parses_for_itself),
    AtRequest(
        "JSON with missing inner fields",
        b.changed(b.without_inner_fields),
        LISTINGS | {"peers", "metadata"},
        where=parses_for_itself,
    ),
    AtRequest("JSON of wrong types", b.changed(b.of_other_types), JSON, where=parses_for_itself),
    AtRequest("JSON with huge numbers", b.changed(b.with_numbers(b.HUGE)), JSON, where=parses_for_itself),
    AtRequest("JSON with NaN", b.changed(b.with_numbers(float("nan"))), JSON, where=parses_for_itself),
    AtRequest("a redirect to elsewhere", b.redirect, where=parses_for_itself),
    AtRequest("a gzip bomb", b.compressed(labelled=True), where=parses_for_itself),
    AtRequest("a gzip bomb without its header", b.compressed(labelled=False), where=parses_for_itself),
    AtRequest("endless headers", b.heavy_headers, where=parses_for_itself),
    AtRequest("an endless answer", b.endless, EVERYWHERE - LISTINGS, where=parses_for_itself),
    Before("all peers of a chunk lost it", _lost_by_all, READERS | {"delete", "delete_bucket"}, _put_first),
)
"""All of them, in the table's order."""
