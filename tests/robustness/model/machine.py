"""
The storage as a dictionary: client and local VSS do at random what users do, and have to agree with a few lines of Python.

What was interrupted is not known: then a key has several *possible* contents, and stays *unsure* until a put, a delete or a replace
has come to its end. Whatever else is known has to be so, after every kill.

A peer may be silent, or hang, while it is listed as available, for some calls or from the middle of one. Then calls may fail, but nothing
that was acknowledged is lost, nothing that was deleted comes back, and a call that began in silence has deleted nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from airflow_provider_mictlanx.client import (
    AsyncClient,
    BallConflictError,
    GetChunkError,
    MictlanXError,
    NotFoundError,
    PutChunksError,
    UnavailableError,
    UnknownError,
)
from tests.robustness.model.killed import kill_a_bulk, kill_at
from tests.support import bulk_uploads as bulks
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.sample_bytes import pattern, sha256
from tests.support.vss import FaultHandle, LocalVSS

Place = tuple[str, str]

BUCKETS = ("one", "two")
KEYS = ("ball", "folder/any name.txt")
CONTENTS = tuple(pattern(size, seed) for size, seed in ((0, 0), (1, 0), (900, 0), (900, 1), (1500, 2)))
BULKS = ((CONTENTS[2], CONTENTS[4]), (CONTENTS[0], CONTENTS[3]))
"""What is uploaded as a bulk: a content for each key."""
CUTS = (400, 700, 5000)

places = st.tuples(st.sampled_from(BUCKETS), st.sampled_from(KEYS))
contents = st.sampled_from(CONTENTS)
cuts = st.sampled_from(CUTS)
requests = st.integers(1, 7)
long_requests = st.integers(1, 14)
peers = st.sampled_from(("peer-0", "peer-1", "peer-2"))
kinds = st.sampled_from(("peer_silent", "peer_silent", "peer_hung"))

HUNG = 1.25
"""How long a router waits for a peer that hangs (seconds): longer than a roll-call waits, and less than a request."""

SILENCE = (UnavailableError, UnknownError, PutChunksError)
"""What a put may end in while a peer is silent: it may be the only one that an announcement can still be placed on."""


@dataclass(frozen=True)
class Known:
    """
    What is known of a key.

    :ivar possible: its contents; None for absent
    :ivar sure: whether that is what is read; else reading may also fail
    :ivar leftovers: whether announcements without data may be in the way of further replicas
    :ivar beside: whether a peer that was silent may bring back older bytes beside it, which no delete has reached; the
        newest bytes are read, and putting them again may be a conflict
    """

    possible: frozenset[bytes | None]
    sure: bool = True
    leftovers: bool = False
    beside: bool = False

    @classmethod
    def exactly(cls, content: bytes | None, leftovers: bool = False, beside: bool = False) -> Known:
        return cls(frozenset({content}), True, leftovers, beside)

    def interrupted(self, *further: bytes | None) -> Known:
        return Known(self.possible | set(further), False, True, self.beside)

    @property
    def content(self) -> bytes | None:
        (content,) = self.possible
        return content

    def allows(self, data: bytes) -> bool:
        """Return whether a put without ``replace`` can't meet other bytes."""
        return self.possible <= {data, None} and not self.beside


class StorageMachine(RuleBasedStateMachine):
    """One life of some buckets; the storage space is the same for all lives."""

    steps = 0
    restarts = 0
    kills = 0
    silences = 0
    hangs = 0

    def __init__(self, vss: LocalVSS) -> None:
        super().__init__()
        self._vss = vss
        self._life = uuid.uuid4().hex
        self._known: dict[Place, Known] = {}
        self._since_restart = 0
        self._faults = 0
        self._silent: FaultHandle | None = None
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory()

    @initialize()
    def begin(self) -> None:
        self._known = {(bucket, key): Known.exactly(None) for bucket in BUCKETS for key in KEYS}
        self._client = AsyncClient(self._vss.uri, "model", debug=False, log_output_path=None)
        self._runner.run(self._client.__aenter__())

    def teardown(self) -> None:
        """In the end everything is as it is known to be, and can be deleted."""
        try:
            if self._known:
                self._vss.clear_faults()
                self._silent = None
                for place in self._known:
                    self._check(place)
                    assert self._do(self._client.delete(place[1], self._bucket(place[0]))).is_ok
                    assert isinstance(self._get(place).unwrap_err(), NotFoundError)
        finally:
            if self._known:
                self._runner.run(self._client.__aexit__(None, None, None))
            self._runner.close()
            self._folder.cleanup()

    # -- what users do ---------------------------------------------------------------------------------------------

    @rule(place=places, data=contents, cut=cuts, rf=st.sampled_from((1, 1, 2)), file=st.booleans(), over=st.booleans())
    def put(self, place: Place, data: bytes, cut: int, rf: int, file: bool, over: bool) -> None:
        known = self._known[place]
        given: dict[str, Any] = {"chunk_size": cut, "rf": 1 if known.leftovers else rf, "replace": over}
        if file:
            given["path"] = self._file(data)
        else:
            given["data"] = data
        result = self._do(self._client.upload(self._bucket(place[0]), place[1], **given))
        self._after_put(place, data, over, result)

    def _after_put(self, place: Place, data: bytes, over: bool, result: Any, silence: bool = False) -> None:
        """
        Note what a put came to.

        :param silence: whether a peer fell silent during the put
        """
        known = self._known[place]
        silence = silence or self._silent is not None
        if (over or known.allows(data)) and not (silence and result.is_err):
            report = result.unwrap()
            assert (report.size, report.checksum) == (len(data), sha256(data))
            assert report.uploaded or data in known.possible or self._faults
        if result.is_ok:
            assert known.allows(data) or over or not known.sure or known.content == data
            leftovers = (known.leftovers and not over) or bool(self._faults) or silence
            older = known.possible - {data, None}
            beside = (known.beside and not over) or (silence and bool(older or known.beside))
            self._known[place] = Known.exactly(data, leftovers, beside)
            if beside and not data:  # older bytes that are listed beside a companion are found instead
                self._known[place] = Known(known.possible | {data}, False, True, True)
        elif isinstance(result.unwrap_err(), BallConflictError):
            assert not over
        else:
            assert silence
            assert isinstance(result.unwrap_err(), SILENCE)
            self._after_interrupted_put(place, data, over)

    @rule(place=places)
    def delete(self, place: Place) -> None:
        result = self._do(self._client.delete(place[1], self._bucket(place[0])))
        if self._silent is not None:
            assert isinstance(result.unwrap_err(), UnavailableError)
            return
        assert result.is_ok, repr(result)
        self._known[place] = Known.exactly(None)

    @rule(bucket=st.sampled_from(BUCKETS))
    def delete_bucket(self, bucket: str) -> None:
        result = self._do(self._client.delete_bucket(self._bucket(bucket)))
        if self._silent is not None:
            assert isinstance(result.unwrap_err(), UnavailableError)
            return
        report = result.unwrap()
        assert report.failed == 0
        for place, known in self._of(bucket).items():
            # An interrupted put may leave an empty ball without its companion, which is not listed.
            left = frozenset({None}) if known.sure else known.possible & {b""} | {None}
            self._known[place] = replace(known, possible=left, beside=False)

    @precondition(lambda self: self._silent is None)
    @rule(bucket=st.sampled_from(BUCKETS), number=st.sampled_from((0, 0, 1)), die_at=st.none() | st.integers(1, 25))
    def run_a_bulk(self, bucket: str, number: int, die_at: int | None) -> None:
        """
        Upload the same bulk again and again, whatever was deleted and replaced in between; now and then it is killed.

        Its records stay for the whole life, and acknowledge what may be there no more.
        """
        places = dict(zip(((bucket, key) for key in KEYS), BULKS[number], strict=True))
        name = f"bulk-{number}"
        folder = Path(self._folder.name) / name
        for (_, key), content in places.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / key).exists():
                (folder / key).write_bytes(content)
        told = {"bulk_id": f"{bucket} {self._life} {name}", "bucket_id": self._bucket(bucket)}
        if die_at is not None:
            options = {"replace": True}
            killed = kill_a_bulk(uri=self._vss.uri, folder=str(folder), die_at=die_at, options=options, **told)
            type(self).steps += 1
            type(self).kills += killed
            for place, content in places.items():
                if not self._known[place].sure or self._known[place].content != content:
                    self._known[place] = self._known[place].interrupted(content, None)
            return
        options = {"replace": True, "max_tries": 5}
        result = self._do(bulks.upload(self._client, source=folder, options=options, **told))
        assert (result.total_balls, result.failures) == (len(KEYS), [])
        for place, content in places.items():
            self._known[place] = Known.exactly(content, self._known[place].leftovers or bool(self._faults))
            self._check(place)

    @rule(place=places)
    def read(self, place: Place) -> None:
        self._check(place)

    @rule(place=places)
    def read_to_file(self, place: Place) -> None:
        folder = Path(self._folder.name) / uuid.uuid4().hex
        result = self._do(self._client.get_to_file(self._bucket(place[0]), place[1], str(folder), "file"))
        self._check_read(place, result.map(lambda path: Path(path).read_bytes()))
        assert [path.name for path in folder.iterdir()] == (["file"] if result.is_ok else [])

    @rule(place=places, check=st.booleans())
    def exists(self, place: Place, check: bool) -> None:
        known = self._known[place]
        result = self._do(self._client.exists(self._bucket(place[0]), place[1], check_storage=check))
        if result.is_err:
            assert not known.sure or self._silent is not None
            assert isinstance(result.unwrap_err(), UnavailableError)
        elif known.sure:
            assert result.unwrap() is (known.content is not None)

    @rule(bucket=st.sampled_from(BUCKETS))
    def list_bucket(self, bucket: str) -> None:
        result = self._do(self._client.list_balls(self._bucket(bucket)))
        if self._silent is not None:
            assert isinstance(result.unwrap_err(), UnavailableError)
            return
        listed = {ball.key: ball for ball in result.unwrap()}
        for (_, key), known in self._of(bucket).items():
            if known.sure and known.content is None:
                assert key not in listed
            elif known.sure and known.content is not None:
                assert (listed[key].size, listed[key].checksum) == (len(known.content), sha256(known.content))
        assert set(listed) <= set(KEYS)

    # -- what happens to them --------------------------------------------------------------------------------------

    @rule(when=st.sampled_from(("before", "after")), method=st.sampled_from(("GET", "POST", "DELETE")))
    @precondition(lambda self: self._faults < 2)
    def lose_an_answer(self, when: str, method: str) -> None:
        """The next request of a kind gets no answer, and the client has to find out what became of it."""
        type(self).steps += 1
        self._vss.set_fault("reset", when=when, method=method, count=1)
        self._faults += 1

    @rule(peer=peers, kind=kinds)
    @precondition(lambda self: self._silent is None)
    def silence_a_peer(self, peer: str, kind: str) -> None:
        """A peer answers nobody from now on, and is listed as available."""
        type(self).steps += 1
        self._silent = self._silence(peer, kind)

    def _silence(self, peer: str, kind: str) -> FaultHandle:
        type(self).silences += 1
        type(self).hangs += kind == "peer_hung"
        return self._vss.set_fault(kind, peer=peer, **({"seconds": HUNG} if kind == "peer_hung" else {}))

    @rule()
    @precondition(lambda self: self._silent is not None)
    def let_the_peer_come_back(self) -> None:
        """It does, with all that it had."""
        type(self).steps += 1
        assert self._silent is not None
        self._silent.off()
        self._silent = None

    @rule(
        place=places,
        data=contents,
        cut=cuts,
        rf=st.sampled_from((1, 2)),
        over=st.booleans(),
        peer=peers,
        kind=kinds,
        number=long_requests,
    )
    @precondition(lambda self: self._silent is None)
    def silence_a_peer_during_a_put(
        self, place: Place, data: bytes, cut: int, rf: int, over: bool, peer: str, kind: str, number: int
    ) -> None:
        given = {"chunk_size": cut, "rf": 1 if self._known[place].leftovers else rf, "replace": over}
        result, fell = self._beside_a_silence(
            peer, kind, number, lambda client: client.upload(self._bucket(place[0]), place[1], data=data, **given)
        )
        self._after_put(place, data, over, result, silence=fell)

    @rule(place=places, peer=peers, kind=kinds, number=long_requests)
    @precondition(lambda self: self._silent is None)
    def silence_a_peer_during_a_delete(self, place: Place, peer: str, kind: str, number: int) -> None:
        result, fell = self._beside_a_silence(
            peer, kind, number, lambda client: client.delete(place[1], self._bucket(place[0]))
        )
        if result.is_ok:
            self._known[place] = Known.exactly(None)
        else:
            assert fell
            assert isinstance(result.unwrap_err(), UnavailableError)
            self._after_interrupted_delete(place)

    @rule(kill=st.booleans())
    @precondition(lambda self: self._since_restart >= 25)
    def restart_the_server(self, kill: bool) -> None:
        type(self).steps += 1
        self._vss.restart(kill=kill)
        self._restarted()

    @rule(place=places, data=contents, cut=cuts, over=st.booleans(), number=long_requests, answered=st.booleans())
    def kill_a_client_that_puts(
        self, place: Place, data: bytes, cut: int, over: bool, number: int, answered: bool
    ) -> None:
        given = {"chunk_size": cut, "replace": over, "max_concurrency": 2}
        self._killed(number, answered, "put", self._bucket(place[0]), place[1], data=data, **given)
        self._after_interrupted_put(place, data, over)

    def _after_interrupted_put(self, place: Place, data: bytes, over: bool) -> None:
        known = self._known[place]
        if known.sure and known.content is not None:
            if known.content == data or not over:
                # Stored already, or other bytes: what is there stays, and copies on a silent peer may be announced anew.
                self._known[place] = replace(known, leftovers=True)
                return
            if self._silent is not None:
                return  # nothing is replaced while a peer does not answer
        self._known[place] = known.interrupted(data, *([None] if over else []))

    @rule(place=places, number=requests, answered=st.booleans())
    def kill_a_client_that_deletes(self, place: Place, number: int, answered: bool) -> None:
        self._killed(number, answered, "delete", place[1], self._bucket(place[0]))
        if self._silent is None:  # nothing is deleted while a peer does not answer
            self._after_interrupted_delete(place)

    def _after_interrupted_delete(self, place: Place) -> None:
        known = self._known[place]
        if not known.sure or known.content is not None:
            self._known[place] = known.interrupted(None)

    @rule(bucket=st.sampled_from(BUCKETS), number=requests, answered=st.booleans())
    def kill_a_client_that_deletes_a_bucket(self, bucket: str, number: int, answered: bool) -> None:
        self._killed(number, answered, "delete_bucket", self._bucket(bucket))
        for place, known in self._of(bucket).items():
            if self._silent is None and (not known.sure or known.content is not None):
                self._known[place] = known.interrupted(None)

    @rule(place=places, data=contents, cut=cuts, over=st.booleans(), number=requests)
    @precondition(lambda self: self._since_restart >= 25)
    def kill_the_server_during_a_put(self, place: Place, data: bytes, cut: int, over: bool, number: int) -> None:
        type(self).steps += 1
        result, killed = self._runner.run(self._put_beside_a_kill(place, data, cut, over, number))
        if killed:
            self._vss.start()
            self._restarted()
        if killed and result.is_err:
            assert isinstance(result.unwrap_err(), MictlanXError)
            self._after_interrupted_put(place, data, over)
        else:
            self._after_put(place, data, over, result)

    async def _put_beside_a_kill(
        self, place: Place, data: bytes, cut: int, over: bool, number: int
    ) -> tuple[Any, bool]:
        seen = 0

        async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
            nonlocal seen
            seen += 1
            if seen == number:
                await asyncio.to_thread(self._vss.kill)
            return Reply(drop=True) if seen >= number else None

        async with (
            intercepting(handler, self._vss) as interceptor,
            AsyncClient(interceptor.uri, "model", debug=False, log_output_path=None) as client,
        ):
            given = {"chunk_size": cut, "replace": over, "max_concurrency": 1}
            result = await client.upload(self._bucket(place[0]), place[1], data=data, **given)
        return result, seen >= number

    def _beside_a_silence(
        self, peer: str, kind: str, number: int, call: Callable[[AsyncClient], Awaitable[Any]]
    ) -> tuple[Any, bool]:
        """Make a call during which a peer falls silent at the n-th request; return the result, and whether that happened."""
        silent: list[FaultHandle] = []
        seen = 0

        async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
            nonlocal seen
            seen += 1
            if seen == number:
                silent.append(await asyncio.to_thread(self._silence, peer, kind))
            return None

        async def make() -> Any:
            async with (
                intercepting(handler, self._vss) as interceptor,
                AsyncClient(interceptor.uri, "model", debug=False, log_output_path=None) as client,
            ):
                return await call(client)

        result = self._do(make())
        for fault in silent:
            fault.off()
        return result, bool(silent)

    # -- help ------------------------------------------------------------------------------------------------------

    def _bucket(self, name: str) -> str:
        return f"{name}-{self._life}"

    def _of(self, bucket: str) -> dict[Place, Known]:
        return {place: known for place, known in self._known.items() if place[0] == bucket}

    def _file(self, data: bytes) -> Path:
        path = Path(self._folder.name) / "source"
        path.write_bytes(data)
        return path

    def _do(self, call: Awaitable[Any]) -> Any:
        async def make() -> Any:
            return await call

        type(self).steps += 1
        self._since_restart += 1
        return self._runner.run(make())

    def _killed(self, number: int, answered: bool, method: str, *arguments: Any, **further: Any) -> None:
        type(self).steps += 1
        self._since_restart += 1
        type(self).kills += self._runner.run(kill_at(self._vss, number, answered, method, *arguments, **further))

    def _restarted(self) -> None:
        type(self).restarts += 1
        self._since_restart = self._faults = 0
        self._silent = None  # no fault outlives a restart

    def _get(self, place: Place) -> Any:
        return self._do(self._client.get(self._bucket(place[0]), place[1]))

    def _check(self, place: Place) -> None:
        self._check_read(place, self._get(place).map(lambda got: bytes(got.data)))

    def _check_read(self, place: Place, result: Any) -> None:
        known = self._known[place]
        if result.is_ok:
            assert result.unwrap() in known.possible
        elif known.sure and self._silent is not None:
            assert isinstance(result.unwrap_err(), UnavailableError | GetChunkError)
        elif known.sure:
            assert known.content is None
            assert isinstance(result.unwrap_err(), NotFoundError)
        else:
            assert isinstance(result.unwrap_err(), NotFoundError | GetChunkError | UnavailableError), repr(result)
