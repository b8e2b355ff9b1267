"""
The upload engine: a ball, chunk by chunk, until enough peers have acknowledged each.

Three rules carry it (protocol page, *Writing a ball*). Only ``peer_ids`` of the data's answer, or reading the bytes back,
tells that something is stored. Nothing is ever written twice with other bytes: the writer looks, announces its first chunk,
looks once more, and only then sends data. And what was begun with the same bytes is completed in the cut that is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from option import Result

from airflow_provider_mictlanx.client.checks import whole_number
from airflow_provider_mictlanx.client.chunks import BallPlan, PlannedChunk, Source, infer_cut, plan_ball, read_planned
from airflow_provider_mictlanx.client.dispatch import Dispatcher, How
from airflow_provider_mictlanx.client.errors import (
    BallConflictError,
    ConnectFailedError,
    DNSResolutionError,
    IntegrityError,
    MaxAvailabilityReachedError,
    MictlanXError,
    NetworkError,
    NotFoundError,
    PutChunksError,
    RequestTimeoutError,
    UnavailableError,
    UnknownError,
    UpstreamProtocolError,
    ValidationError,
)
from airflow_provider_mictlanx.client.lookup import (
    Name,
    first_chunk,
    get_peers,
    list_bucket,
    list_chunks,
    roll_call,
    silent_peers,
)
from airflow_provider_mictlanx.client.models import Metadata, PutMetadataRequest, PutMetadataResponse, PutReport
from airflow_provider_mictlanx.client.reader import ChunkReader
from airflow_provider_mictlanx.client.removal import Removal
from airflow_provider_mictlanx.client.router import AsyncRouter
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.threads import Threads
from airflow_provider_mictlanx.client.versions import Version, versions_of
from airflow_provider_mictlanx.client.workers import for_each

log = get_logger(__name__)

RESERVED_PREFIX = "mictlanx_"

GRACE = 2.0
"""Announcements whose data no peer has now, nor so much later (seconds), belong to no put that is under way."""


@dataclass(frozen=True)
class PutOptions:
    """
    How a ball is to be put.

    :param rf: on how many peers each chunk is to be stored, at least 1
    :param max_concurrency: the most chunks in flight, at least 1
    :param replace: whether other bytes under the same key are deleted first; else they are a ``BallConflictError``
    :param tags: texts by name; the client's own tags win
    :param producer_id: the writer's ``client_id``
    """

    rf: int = 1
    max_concurrency: int = 10
    replace: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    producer_id: str = ""

    def __post_init__(self) -> None:
        whole_number("rf", self.rf)
        whole_number("max_concurrency", self.max_concurrency)
        check_tags(self.tags)


def check_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    """Give tags back, or raise ``ValidationError`` where they are no texts, or MictlanX's own."""
    if not isinstance(tags, Mapping):
        raise ValidationError(f"tags are a dictionary of texts, not {type(tags).__name__}")
    for name, tag in tags.items():
        if not isinstance(name, str) or not isinstance(tag, str) or not name:
            raise ValidationError(f"tags are texts: {name!r} is {tag!r}")
        if any("\ud800" <= character <= "\udfff" for character in name + tag):
            raise ValidationError(f"tags are texts: {name!r} is {tag!r}, which is no valid Unicode")
        if name.startswith(RESERVED_PREFIX):
            raise ValidationError(f"tag {name!r}: names that begin with {RESERVED_PREFIX!r} are MictlanX's own")
    return tags


class Putting:
    """
    What a put of a ball and a put of one chunk have in common, for the sake of ``ChunkPut``.

    :param own_tags: tags of the client's own that every chunk gets, besides those that tell its place
    :param chunk_tags: the caller's tags of single chunks, by index; they belong to the caller's cut
    """

    def __init__(
        self,
        routers: Dispatcher,
        threads: Threads,
        name: Name,
        source: Source,
        options: PutOptions,
        own_tags: Mapping[str, str],
        chunk_tags: Mapping[int, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        self.routers = routers
        self.threads = threads
        self.name = name
        self.source = source
        self.options = options
        self.reader = ChunkReader(routers, threads)
        self._own_tags = own_tags
        self._chunk_tags = chunk_tags
        self._started = time.monotonic()
        self._plan = BallPlan(0, "", ())
        self._sent = False
        self._fewest = options.rf
        self.announced: Counter[str] = Counter()
        """Replicas that this put announced and that may be listed, by chunk key; those of lost answers included."""
        self.only_announced = False
        """Whether all that there is of the ball is what this put has announced, as far as it looked."""

    def place_of(self, chunk: PlannedChunk) -> dict[str, str]:
        """Give the tags that tell a chunk's place in the ball."""
        raise NotImplementedError

    async def refuse_others(self) -> None:
        """Raise ``BallConflictError`` where other bytes are announced by now."""
        raise NotImplementedError

    def announcement_of(self, chunk: PlannedChunk, rf: int) -> PutMetadataRequest:
        """Give the announcement of a chunk on so many peers."""
        tags = {**self.options.tags, **self._chunk_tags.get(chunk.index, {}), **self._own_tags, **self.place_of(chunk)}
        return PutMetadataRequest(
            bucket_id=self.name.bucket_id,
            key=self.name.chunk(chunk.index),
            ball_id=self.name.ball_id,
            checksum=chunk.checksum,
            size=chunk.size,
            tags=tags,
            producer_id=self.options.producer_id,
            replication_factor=rf,
        )

    def is_own(self, listed: Sequence[Metadata]) -> bool:
        """Return whether all that is listed was announced by this put; another writer may have announced the same bytes."""
        others = any(chunk.producer_id != self.options.producer_id for chunk in listed)
        return not others and Counter(chunk.key for chunk in listed) <= self.announced

    def stored(self, replicas: int, sent: bool) -> None:
        """Note that a chunk is stored on so many peers."""
        self._fewest = min(self._fewest, replicas)
        self._sent = self._sent or sent

    def report(self) -> PutReport:
        """Build the report of the put."""
        if self._fewest < self.options.rf:
            log.warning(
                "Put %s on %d peers instead of %d (rf): there are no more peers",
                self.name,
                self._fewest,
                self.options.rf,
            )
        return PutReport(
            bucket_id=self.name.bucket_id,
            key=self.name.key,
            ball_id=self.name.ball_id,
            size=self._plan.size,
            checksum=self._plan.checksum,
            num_chunks=len(self._plan.chunks),
            replicas=self._fewest,
            uploaded=self._sent,
            response_time=round(time.monotonic() - self._started, 6),
        )


class Upload(Putting):
    """Puts one ball."""

    async def run(self, cut: Sequence[int], expected: BallPlan | None = None) -> PutReport:
        """
        Put the ball; gives what became of it.

        ``BallConflictError``: other bytes are there; ``PutChunksError``: too few peers stored a chunk in all tries;
        ``IntegrityError``: the source changed; ``UnavailableError``: a peer is away, so that what is there can't be told.

        :param cut: the chunks' sizes (bytes), used unless the same bytes were begun in another cut
        :param expected: what hashing the source gave before; one with the same chunks need not be hashed again, for each
            chunk is as it is sent
        """
        self._plan = await self._planned(cut, expected)
        found = await self.routers.repeat(self._look)
        if others := [version for version in found if not self._is_same(version)]:
            found = await self._make_room(others, [version for version in found if version not in others])
        if found:
            await self._adopt_cut(found)
            await for_each(self._plan.chunks, self._complete, self.options.max_concurrency)
        elif not await self._begin():
            await self._adopt_cut(await self.routers.repeat(self._look))
            # Nothing is believed to be there already: a copy that a peer brought back after a delete can be read from that
            # peer, and is placed nowhere, so that no other client finds it and nobody keeps it.
            await for_each(self._plan.chunks, lambda chunk: ChunkPut(self, chunk).put(), self.options.max_concurrency)
        return self.report()

    async def _planned(self, cut: Sequence[int], expected: BallPlan | None) -> BallPlan:
        if expected is not None and not self.source.kept and [chunk.size for chunk in expected.chunks] == list(cut):
            return expected
        plan = await plan_ball(self.source, cut, self.threads)
        if expected is not None and plan.checksum != expected.checksum:
            raise IntegrityError(
                f"{self.source.name} changed since it was planned: {plan.size} bytes with SHA-256 {plan.checksum[:12]}… "
                f"instead of {expected.size} with {expected.checksum[:12]}…; nothing of it was sent"
            )
        return plan

    # -- looking ---------------------------------------------------------------------------------------------------

    async def _look(self) -> list[Version]:
        """Give what is announced under the ball's id: one request where there is nothing, and nothing is to be replaced."""
        listed: list[Metadata] = []
        lost_by_peer = False
        try:
            listed.append(await first_chunk(self.routers, self.name))
        except NotFoundError:
            if not self.options.replace:
                return []
            # A peer that missed a delete lists what is placed nowhere any more; other bytes have to go like anything else.
            listed = await list_chunks(self.routers, self.name)
            return [version for version in versions_of(listed) if not self._is_same(version)]
        except UnavailableError as error:
            lost_by_peer = error.unknown_to_peer
        listed += await list_chunks(self.routers, self.name)
        if not listed:
            await self._clear_placement(lost_by_peer)
        return versions_of(listed)

    async def _clear_placement(self, lost_by_peer: bool) -> None:
        """
        Delete the placement of a ball that no peer knows, once every peer has said so; else the key is blocked for ever.

        :param lost_by_peer: whether the peer on which it is placed answered that it does not know it
        """
        doing = f"putting {self.name}, of which a chunk is placed already"
        await roll_call(self.routers, doing, self.name.bucket_id)
        if not lost_by_peer or await list_chunks(self.routers, self.name):
            raise UnavailableError(f"{doing}: the peer on which it is placed did not answer; try again")
        with contextlib.suppress(NotFoundError):
            await self.routers.ask(
                lambda router, how: router.delete(self.name.bucket_id, self.name.chunk(0), **how),
                final=(NotFoundError,),
            )
        await roll_call(self.routers, doing, self.name.bucket_id)
        if await list_chunks(self.routers, self.name):
            raise UnavailableError(f"{doing}: a peer brought its copy back; try again")

    def _is_same(self, version: Version) -> bool:
        """Tell whether a version has the bytes that are to be put, whatever its cut and its tags."""
        if version.filters:
            return False
        if version.checksum is None and version.num_chunks == 1:
            return version.ordered[0].checksum == self._plan.checksum
        return version.checksum == self._plan.checksum

    async def _make_room(self, others: list[Version], same: list[Version]) -> list[Version]:
        """
        Delete other bytes that are to be replaced, or that were only announced; return the versions that stay.

        Raises ``BallConflictError`` for other bytes that a peer has. Several writers that announce at the same time all give up,
        and what they announced would block the key for ever.

        :param same: the listed versions with the bytes that are to be put
        """
        removal = Removal(self.routers, max_concurrency=self.options.max_concurrency)
        if self.options.replace:
            await removal.remove(self.name, "replacing")
            return []
        for wait in (0.0, GRACE):
            await asyncio.sleep(wait)
            for version in others:
                if await self._is_readable(version):
                    raise self._conflict(version)
        for version in same:
            if await self._is_readable(version):
                return same
        await removal.remove(self.name, "clearing announcements without data of")
        return []

    async def _is_readable(self, version: Version) -> bool:
        """Return whether any peer has data of a version; no is only concluded when every peer answers."""
        for chunk in version.ordered:
            if await self.reader.holds(chunk):
                return True
            for peer in (await self.reader.peers()).available:
                if await self.reader.holds(chunk, peer.peer_id):
                    return True
        await self.routers.repeat(lambda: roll_call(self.routers, f"putting {self.name}", self.name.bucket_id))
        return False

    def _conflict(self, other: Version, why: str = "") -> BallConflictError:
        there = f"{len(other.chunks)} of {other.num_chunks} chunks" if not other.whole else f"{other.size} bytes"
        by = f" by {other.ordered[0].producer_id!r}" if other.ordered[0].producer_id else ""
        return BallConflictError(
            f"putting {self.name} ({self._plan.size} bytes, SHA-256 {self._plan.checksum[:12]}…): "
            f"{why or 'other bytes'} were announced under this key{by} ({there}, SHA-256 {(other.checksum or 'unknown')[:12]}…). "
            "Nothing of it was overwritten; replace=True replaces it, or choose another key"
        )

    # -- a new ball ------------------------------------------------------------------------------------------------

    async def _begin(self) -> bool:
        """
        Put a ball that is not there: announce its first chunk, look who else did so, send.

        Gives False, with nothing sent, where somebody else has begun with the same bytes in another cut before.
        """
        first = ChunkPut(self, self._plan.chunks[0])
        self.only_announced = True
        await self.routers.repeat(first.announce)
        if not await self.routers.repeat(lambda: self._is_first(first)):
            return False
        self.only_announced = False

        async def put(chunk: PlannedChunk) -> None:
            await (first if chunk.index == 0 else ChunkPut(self, chunk)).put()

        try:
            await for_each(self._plan.chunks, put, self.options.max_concurrency)
        except IntegrityError:  # the source changed: what was stored of it would be a conflict for the next try
            await self._withdraw()
            raise
        return True

    async def _withdraw(self) -> None:
        """Delete what this put has stored of a ball that it cannot complete, unless somebody else writes it too."""
        try:
            if self.is_own(await list_chunks(self.routers, self.name)):
                await Removal(self.routers).remove(self.name, "clearing an unfinished upload of")
        except MictlanXError as error:
            log.warning("Part of an unfinished upload is left: %s", error)

    async def _is_first(self, first: ChunkPut) -> bool:
        """
        List the ball after the announcement of its first chunk; return whether this put began it.

        Raises ``BallConflictError`` where another writer announced other bytes.
        """
        listed = await list_chunks(self.routers, self.name)
        versions = versions_of(listed)
        for version in versions:
            if not self._is_same(version):
                raise self._conflict(version)
        if self._plan.size == 0:  # an empty ball is in no listing
            return True
        mine = [version for version in versions if self._has_my_cut(version)]
        if not mine or sum(chunk.key == self.name.chunk(0) for chunk in listed) < first.announced:
            raise UnavailableError(
                f"putting {self.name}: the listing lacks a peer that just took the announcement; try again when it answers"
            )
        return min(versions, key=lambda version: (version.begun_at, version.num_chunks)) in mine

    def _has_my_cut(self, version: Version) -> bool:
        planned = self._plan.chunks
        return version.num_chunks == len(planned) and all(
            (chunk.size, chunk.checksum) == (planned[index].size, planned[index].checksum)
            for index, chunk in version.chunks.items()
        )

    # -- a ball that was begun before ------------------------------------------------------------------------------

    async def _adopt_cut(self, found: list[Version]) -> None:
        """Take over the cut of what is there: of a whole version, else of the one that was begun first."""
        # A whole version of another size is a wrong guess: of chunks of two cuts that are as many (versions.py).
        possible = [version for version in found if not version.whole or version.size == self._plan.size] or found
        version = min(possible, key=lambda version: (not version.whole, version.begun_at), default=None)
        if version is None or self._has_my_cut(version):
            return
        if version.whole:
            cut = [chunk.size for chunk in version.ordered]
        else:
            chunk = version.ordered[0]
            cut = infer_cut(self._plan.size, version.num_chunks, chunk.index, chunk.size) or []
        if sum(cut) != self._plan.size:
            raise self._conflict(version, "the same bytes, but in chunks that don't make them up,")
        self._plan = await plan_ball(self.source, cut, self.threads)
        self._chunk_tags = {}
        if not self._has_my_cut(version):
            raise self._conflict(version, "the same bytes, but with other bytes in their chunks,")

    async def _complete(self, chunk: PlannedChunk) -> None:
        """Leave a chunk alone that enough peers give back right; put it where it is missing."""
        putting = ChunkPut(self, chunk)
        await self.routers.repeat(putting.find_replicas)
        await putting.put()

    # -- for the chunks --------------------------------------------------------------------------------------------

    def place_of(self, chunk: PlannedChunk) -> dict[str, str]:
        """Give the tags that tell a chunk's place in the ball."""
        return {
            "index": str(chunk.index),
            "num_chunks": str(len(self._plan.chunks)),
            "full_checksum": self._plan.checksum,
            "chunk_size": str(chunk.size),
            "group_id": self.name.ball_id,
        }

    async def refuse_others(self) -> None:
        """Raise ``BallConflictError`` where other bytes are announced under the key by now."""
        for version in versions_of(await list_chunks(self.routers, self.name)):
            if not self._is_same(version):
                raise self._conflict(version)


class ChunkPut:
    """
    Puts one chunk: announces, sends and counts the peers that have it.

    ``max_tries`` counts per request. Data that failed is read back, and sent again to the same task: announcing anew would use
    up a further peer, and leave an announcement without data that readers are sent to.
    """

    def __init__(self, upload: Putting, chunk: PlannedChunk) -> None:
        self._upload = upload
        self._chunk = chunk
        self._rf = upload.options.rf
        self._stored_on: set[str] = set()
        self._sent = False
        self._task: tuple[AsyncRouter, PutMetadataResponse] | None = None
        self._failures = 0
        """Data requests of the task that were answered with a fault of the service, one after the other."""
        self._met_without_data = False
        self._problem = ""
        """How sending the data failed the last time."""
        self._what = f"chunk {upload.name.bucket_id}/{upload.name.chunk(chunk.index)} ({chunk.size} bytes)"

    @cached_property
    def _metadata(self) -> Metadata:
        """The chunk as a reader knows it."""
        request = self._upload.announcement_of(self._chunk, self._rf)
        return Metadata.model_validate(request.model_dump(exclude={"replication_factor"}))

    @property
    def announced(self) -> int:
        """How many peers took the announcement that waits for its data."""
        return len(self._task[1].replicas) if self._task else 0

    async def put(self) -> None:
        """Put the chunk; raises the last try's error."""
        if not await self._is_done():
            data = await read_planned(self._upload.source, self._chunk, self._upload.threads)
            await self._upload.routers.repeat(lambda: self._store(data))
        self._upload.stored(len(self._stored_on), self._sent)

    async def find_replicas(self) -> None:
        """Read the chunk back until enough peers were found to have it."""
        reader = self._upload.reader
        if self._rf == 1 and await reader.holds(self._metadata):
            self._stored_on.add("")  # whichever peer it was
        else:  # the replica that the router asked may be one without data, or of another cut
            await self._read_back([peer.peer_id for peer in (await reader.peers()).available])

    # -- announcing ------------------------------------------------------------------------------------------------

    async def announce(self) -> None:
        """Announce the replicas that are missing, and keep the task."""
        try:
            await self._announce()
            if await self._is_held_up():
                await self._announce()  # there is no peer left: 666
        except MaxAvailabilityReachedError:
            self._task = None
            if not await self._every_peer_knows_it():
                await self._announce()

    async def _is_held_up(self) -> bool:
        """
        Return whether too few peers were left to take the chunk, and nobody has it: the others know it without its data.

        An earlier try died between announcement and data. What is stored now cannot get onto those peers any more, so
        this is settled before anything is stored.
        """
        if self._stored_on or self._chunk.size == 0 or self.announced >= self._rf:
            return False
        peers = await self._upload.reader.peers()
        if peers.unavailable or self.announced >= min(self._rf, len(peers.peer_ids)):
            return False
        await self._read_back(peers.peer_ids)
        return not self._stored_on

    async def _announce(self) -> None:
        request = self._upload.announcement_of(self._chunk, self._rf - len(self._stored_on))

        async def announce_once() -> None:
            asked: list[AsyncRouter] = []

            async def ask(router: AsyncRouter, how: How) -> Result[PutMetadataResponse, MictlanXError]:
                asked.append(router)
                return await router.put_metadata(request, **how)

            try:
                self._task = None
                answer = await self._upload.routers.once(ask)
            except (UnknownError, UpstreamProtocolError, RequestTimeoutError, NetworkError) as error:
                if not isinstance(error, ConnectFailedError | DNSResolutionError | UnavailableError):
                    self._upload.announced[request.key] += request.replication_factor
                    await self._clear(())
                raise
            self._upload.announced[request.key] += len(answer.replicas)
            self._failures = 0
            self._task = (asked[-1], answer)

        await self._upload.routers.repeat_request(announce_once)

    async def _clear(self, sent_to: Collection[str]) -> None:
        """
        Delete an announcement of this put that has no data, so that readers are not sent to it.

        The delete takes every replica of the chunk. So nothing is deleted while a replica is readable, another writer's
        announcement is listed, or a peer does not answer other than those that the data was sent to in vain.
        """
        upload, key = self._upload, self._metadata.key
        listed = await list_chunks(upload.routers, upload.name)
        replicas = [chunk for chunk in listed if chunk.key == key]
        if self._stored_on or not replicas or not upload.is_own(replicas):
            return
        if not upload.only_announced:
            peers = await get_peers(upload.routers)
            silent = await silent_peers(upload.routers, upload.name.bucket_id, peers)
            await self._read_back([peer for peer in peers.peer_ids if peer not in silent])
            if self._stored_on or not set(silent) <= set(sent_to):
                return
        try:
            await upload.routers.ask(
                lambda router, how: router.delete(upload.name.bucket_id, key, **how), final=(NotFoundError,)
            )
        except NotFoundError:  # placed nowhere, as where one of the announcement's peers failed
            if not upload.only_announced or len(listed) > len(replicas):
                return
            await upload.routers.ask(
                lambda router, how: router.delete_by_ball_id(upload.name.bucket_id, upload.name.ball_id, **how)
            )
        upload.announced[key] = 0

    # -- sending ---------------------------------------------------------------------------------------------------

    async def _store(self, data: bytes | memoryview) -> None:
        """Announce the chunk unless it is announced, and send its data until the task is spent."""
        if self._task is None:
            again = bool(self._problem)
            await self.announce()
            if self._task is None:  # every peer knows it, and enough of them have it
                return
            if again:
                await self._upload.refuse_others()
        router, task = self._task
        await self._upload.routers.repeat_request(lambda: self._send(router, task, data))
        self._task = None
        if await self._is_done():
            return
        await self._clear(task.replicas)
        if not await self._is_done():
            raise PutChunksError(
                f"{self._what} is stored on {len(self._stored_on)} peers instead of {self._rf}: {self._problem}; the next try asks "
                "for the missing ones again. Where no other peer is left to ask, replace=True begins the chunk anew"
            )

    async def _send(self, router: AsyncRouter, task: PutMetadataResponse, data: bytes | memoryview) -> None:
        """
        Send the data to a task, and read it back where the answer does not acknowledge it.

        Returns when the task has served its purpose, or is spent; raises what may pass when the same is sent again.
        """
        known = len(self._stored_on)
        try:
            answer = await self._upload.routers.at(
                router,
                lambda router, how: router.put_chunked(task.tasks_ids[0], data, **how, what=f"sending {self._what}"),
            )
        except (ConnectFailedError, DNSResolutionError) as error:  # nothing of it was sent
            self._problem = str(error)
            if len(self._upload.routers.balancer.routers) == 1:
                raise
            return  # only this router knows the task; another one takes a new announcement
        except MictlanXError as error:
            self._problem = str(error)
            if isinstance(error, RequestTimeoutError):
                await roll_call(self._upload.routers, f"sending {self._what}", self._upload.name.bucket_id)
            await self._read_back(task.replicas)
            self._sent = self._sent or len(self._stored_on) > known  # by this very put, though no answer said so
            if await self._is_done() or isinstance(error, PutChunksError):
                return
            self._failures = self._failures + 1 if error.status_code == 500 else 0
            if self._failures < 2:
                raise
            return
        self._sent = True
        self._stored_on.update(answer.peer_ids)
        await self._read_back(task.replicas)  # a send that had failed may have stored it
        self._problem = f"router {router.router_id} ({router.base_url()}) was sent the data, and of {', '.join(task.replicas)} not all took it"

    async def _read_back(self, peer_ids: Sequence[str]) -> None:
        for peer_id in peer_ids:
            if len(self._stored_on) >= self._rf:
                return
            if peer_id not in self._stored_on and await self._upload.reader.holds(self._metadata, peer_id):
                self._stored_on.add(peer_id)

    async def _is_done(self) -> bool:
        """Tell whether the chunk is on as many peers as asked, or on all there are."""
        if not self._stored_on or len(self._stored_on) >= self._rf:
            return bool(self._stored_on)
        peers = await self._upload.reader.peers()
        return len(self._stored_on) >= min(self._rf, len(peers.peer_ids))

    async def _every_peer_knows_it(self) -> bool:
        """
        Return what code 666 stands for: True where enough peers have the chunk, False where it can be announced again.

        It is deleted only when every peer answers and none has a right copy of it, twice: then all there is are announcements
        of an earlier try, and nobody is sending just now. With ``replace`` it is deleted too where too few have one: there is
        no other way to get it onto a peer that has its announcement only.
        """
        upload = self._upload
        peers = await roll_call(upload.routers, f"finding who has {self._what}", upload.name.bucket_id)
        if self._chunk.size == 0:  # the announcement is all there is of an empty chunk
            await upload.refuse_others()
            self._stored_on.update(peers.peer_ids)
        await self._read_back(peers.peer_ids)
        if await self._is_done():
            return True
        if self._stored_on and not upload.options.replace:
            raise PutChunksError(
                f"{self._what} is stored on {len(self._stored_on)} peers instead of {self._rf}, and every other peer has an "
                f"announcement of it without data, so that none takes it{f' ({self._problem})' if self._problem else ''}. replace=True deletes it and sends it again, and so "
                "does deleting the ball before the next put; a smaller rf is content with what is there",
                permanent=True,  # but tried again now: somebody else may be sending it to them
            )
        if not self._met_without_data and upload.routers.rule.max_tries > 1:
            self._met_without_data = True
            raise PutChunksError(
                f"{self._what} is announced on every peer and stored on none: "
                f"{self._problem or 'somebody may be sending it'}; put it again later"
            )
        self._stored_on.clear()
        await upload.refuse_others()
        await self._check_that_all_are_listed(len(peers.peer_ids))
        with contextlib.suppress(NotFoundError):  # somebody else has cleared it
            await upload.routers.ask(
                lambda router, how: router.delete(upload.name.bucket_id, self._metadata.key, **how),
                final=(NotFoundError,),
            )
        upload.announced[self._metadata.key] = 0
        return False

    async def _check_that_all_are_listed(self, peers: int) -> None:
        """
        Raise unless every peer's part was seen: one that the ball's listing left out may have other bytes, stored.

        Only the bucket's listing names the peers that answered; it is asked where fewer announcements than peers are listed.
        """
        upload, key = self._upload, self._metadata.key
        listed = [chunk for chunk in await list_chunks(upload.routers, upload.name) if chunk.key == key]
        if self._chunk.size == 0 or len(listed) >= peers:  # an empty chunk is in no listing
            return
        bucket = await list_bucket(upload.routers, upload.name.bucket_id)
        if any(chunk.key == key and chunk.checksum != self._chunk.checksum for chunk in bucket.balls):
            await upload.refuse_others()
            raise UnavailableError(f"{self._what}: a peer with other bytes under its key comes and goes; try again")
