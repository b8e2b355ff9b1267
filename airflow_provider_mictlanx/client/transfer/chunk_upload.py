"""
Upload one chunk: announce it, send its data, and count the peers that stored it.

Only ``peer_ids`` in the answer to the data, or reading the bytes back, proves that a chunk is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TypeAlias

from humanfriendly.text import pluralize
from option import Result

from airflow_provider_mictlanx.client.byte_counter import count_bytes
from airflow_provider_mictlanx.client.concurrency import Threads, for_each
from airflow_provider_mictlanx.client.errors import (
    ConnectFailedError,
    DNSResolutionError,
    IntegrityError,
    MaxAvailabilityReachedError,
    MictlanXError,
    NetworkError,
    PutChunksError,
    RequestTimeoutError,
    UnavailableError,
    UnknownError,
    UpstreamProtocolError,
)
from airflow_provider_mictlanx.client.local_io.chunk_splitter import ChunkManifest, PlannedChunk, read_planned
from airflow_provider_mictlanx.client.local_io.sources import Source
from airflow_provider_mictlanx.client.models import Metadata, PutMetadataRequest, PutMetadataResponse, PutReport
from airflow_provider_mictlanx.client.object_ids import ObjectId
from airflow_provider_mictlanx.client.protocol.endpoint import RequestOptions
from airflow_provider_mictlanx.client.protocol.router import AsyncRouter
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.transfer.chunk_reader import ChunkReader
from airflow_provider_mictlanx.client.transfer.listing import (
    delete_chunk,
    get_peers,
    list_bucket,
    list_chunks,
    list_rows,
    require_all_peers,
    silent_peers,
)
from airflow_provider_mictlanx.client.transfer.router_pool import RequestSender
from airflow_provider_mictlanx.client.transport.backend import SizedBody
from airflow_provider_mictlanx.client.validation import check_bool, check_int, check_tags

log = get_logger(__name__)


GRACE = 12.0
"""
After this time (seconds), an announcement without data on any peer counts as abandoned by its put.

It is longer than ``MAX_ANNOUNCED_SECONDS``, the time that a window may take.
"""


@dataclass(frozen=True)
class Seen:
    """
    Announcements of a ball that a listing showed before the put.

    :ivar at: time before the listing (``time.monotonic``)
    """

    rows: Sequence[Metadata]
    at: float

    def shows(self, chunk: Metadata) -> bool:
        """Return whether the listing showed an announcement, or a newer replica, behind which a listing hides it."""
        *identity, updated_at = _announcement(chunk)
        return any(seen == identity and newest >= updated_at for *seen, newest in map(_announcement, self.rows))


@dataclass(frozen=True)
class PutOptions:
    """
    Options of a put.

    :param rf: number of peers to store each chunk on, at least 1
    :param max_concurrency: maximum number of chunks in flight, at least 1
    :param replace: delete other bytes under the same key first, instead of raising ``BallConflictError``
    :param tags: str by name; the client's own tags take precedence
    :param producer_id: the writer's ``client_id``
    """

    rf: int = 1
    max_concurrency: int = 10
    replace: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    producer_id: str = ""

    def __post_init__(self) -> None:
        check_int("rf", self.rf)
        check_int("max_concurrency", self.max_concurrency)
        check_bool("replace", self.replace)
        check_tags(self.tags)


class UploadBase(ABC):
    """
    Base class for the upload of a ball and of a single chunk, used by ``ChunkUpload``.

    :param own_tags: the client's own tags for every chunk, besides ``layout_tags``
    :param chunk_tags: the caller's tags for single chunks by index, valid for the caller's chunk layout
    """

    def __init__(
        self,
        routers: RequestSender,
        threads: Threads,
        name: ObjectId,
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
        self._plan = ChunkManifest(0, "", ())
        self._sent = False
        self._fewest = options.rf
        self.announced: Counter[str] = Counter()
        """Number of replicas that this put may have announced, by chunk key; includes requests with lost answers."""
        self._seen: Seen | None = None
        self.only_announced = False
        """True while the ball consists only of this put's announcements, as far as known."""
        self.in_window = False
        """True for an announcement in a window: the complete put deals with other writers' announcements."""

    @abstractmethod
    def layout_tags(self, chunk: PlannedChunk) -> dict[str, str]:
        """Return the tags for a chunk's place in the ball."""

    @abstractmethod
    async def check_no_conflict(self) -> None:
        """Raise ``BallConflictError`` if other bytes are announced."""

    def announcement_for(self, chunk: PlannedChunk, rf: int) -> PutMetadataRequest:
        """Build the announcement of a chunk for ``rf`` peers."""
        tags = {
            **self.options.tags,
            **self._chunk_tags.get(chunk.index, {}),
            **self._own_tags,
            **self.layout_tags(chunk),
        }
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
        """Return whether this put announced all listed chunks; another writer may have announced the same bytes."""
        others = any(chunk.producer_id != self.options.producer_id for chunk in listed)
        return not others and Counter(chunk.key for chunk in listed) <= self.announced

    async def complete(self, chunks: Sequence[PlannedChunk], announced: Collection[str]) -> None:
        """
        Put chunks of which some were already announced; do not send those that enough peers return correctly.

        :param announced: keys of the announced chunks
        """
        unsent: list[ChunkUpload] = []

        async def complete_one(chunk: PlannedChunk) -> None:
            chunk_upload = ChunkUpload(self, chunk)
            await chunk_upload.find_replicas()
            if chunk_upload.is_missing and self.name.chunk(chunk.index) in announced:
                unsent.append(chunk_upload)
            else:
                await chunk_upload.put()

        await for_each(chunks, complete_one, self.options.max_concurrency)
        if unsent:
            await self._clear_unsent(unsent)
            await for_each(unsent, ChunkUpload.put, self.options.max_concurrency)

    async def _clear_unsent(self, unsent: Sequence[ChunkUpload]) -> None:
        """
        Delete announcements without data on any peer, to which the router would send readers.

        Wait ``GRACE`` seconds first, because their writer may still be sending. Keep them while a peer does not answer.
        """
        announced = await list_chunks(self.routers, self.name)
        await asyncio.sleep(self.grace_for(announced))
        await for_each(unsent, ChunkUpload.find_replicas, self.options.max_concurrency)
        with contextlib.suppress(UnavailableError):
            empty = [chunk for chunk in unsent if chunk.is_missing and await chunk.has_no_data()]
            await require_all_peers(self.routers, f"putting {self.name}", self.name.bucket_id)
            now = await list_chunks(self.routers, self.name)
            # Announcements made since then are kept: their writers have GRACE seconds too.
            stale = [chunk for chunk in empty if chunk.replicas_in(now) == chunk.replicas_in(announced) != Counter()]
            await for_each(stale, ChunkUpload.clear_unsent, self.options.max_concurrency)

    def grace_for(self, listed: Iterable[Metadata]) -> float:
        """Return the rest of ``GRACE`` for listed announcements, which began if an earlier listing showed them."""
        if self._seen is None or not all(map(self._seen.shows, listed)):
            return GRACE
        return max(0.0, self._seen.at + GRACE - time.monotonic())

    def stored(self, replicas: int, sent: bool) -> None:
        """Record the number of peers that store a chunk, and whether data was sent."""
        self._fewest = min(self._fewest, replicas)
        self._sent = self._sent or sent

    def report(self) -> PutReport:
        """Build the report of the put."""
        if self._fewest < self.options.rf:
            log.warning(
                "Put %s on %d peers instead of rf=%d: the storage space has no more peers; add peers or lower rf",
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


class ChunkUpload:
    """
    Puts one chunk: announces it, sends its data, and counts the peers that store it.

    ``max_tries`` applies per request. After a failure, the data is read back and sent again to the same task. A new
    announcement would use up another peer and leave one without data, to which the router would send readers.
    """

    def __init__(self, upload: UploadBase, chunk: PlannedChunk) -> None:
        self._upload = upload
        self._chunk = chunk
        self._rf = upload.options.rf
        self._stored_on: set[str] = set()
        self._sent = False
        self._task: tuple[AsyncRouter, PutMetadataResponse] | None = None
        self._failures = 0
        """Number of consecutive data requests of the task with status 500."""
        self._seen_without_data = False
        self._cleared = False
        """True after deleting other writers' announcements: another put may have begun since."""
        self._problem = ""
        """The last failure to send the data."""
        self._label = f"chunk {chunk.index} of {upload.name} ({pluralize(chunk.size, 'byte')})"

    @cached_property
    def _metadata(self) -> Metadata:
        """The chunk's metadata as a reader sees it."""
        request = self._upload.announcement_for(self._chunk, self._rf)
        return Metadata(**request.model_dump(exclude={"replication_factor"}))

    @property
    def announced(self) -> int:
        """Number of peers that accepted the current announcement, whose data is not sent yet."""
        return len(self.replicas)

    @property
    def replicas(self) -> Sequence[str]:
        """The peers that accepted the current announcement."""
        return self._task[1].replicas if self._task else ()

    def take_over(self, announced: ChunkUpload) -> None:
        """Continue with the announcement of another put of the same chunk, whose data is not sent yet."""
        self._task = announced._task

    async def withdraw(self) -> None:
        """Delete the announcement, whose data is not sent."""
        self._task = None
        await self._clear(())

    @property
    def is_missing(self) -> bool:
        """Return whether no peer is known to store the chunk."""
        return not self._stored_on

    def replicas_in(self, listed: Sequence[Metadata]) -> Counter[_Announcement]:
        """Return the listed announcements under the chunk's key, in any layout."""
        return Counter(_announcement(chunk) for chunk in listed if chunk.key == self._metadata.key)

    async def put(self) -> None:
        """Put the chunk; raise the error of the last try."""
        if not await self._is_done():
            data = await read_planned(self._upload.source, self._chunk, self._upload.threads)
            await self._upload.routers.with_retries(lambda: self._store(data))
        self._upload.stored(len(self._stored_on), self._sent)
        count_bytes(self._chunk.size)

    async def find_replicas(self) -> None:
        """Read the chunk back until enough peers are known to store it."""
        await self._upload.routers.with_retries(self._find_replicas)

    async def _find_replicas(self) -> None:
        reader = self._upload.reader
        if self._rf == 1 and await reader.is_stored_on(self._metadata):
            self._stored_on.add("")  # the router does not name the peer
        else:  # the router may have asked a replica without data or of another layout
            await self._read_back([peer.peer_id for peer in (await reader.peers()).available])

    # -- announcing ------------------------------------------------------------------------------------------------

    async def announce(self) -> None:
        """Announce the missing replicas, and keep the task."""
        try:
            await self._announce()
            if await self._blocked_by_stale_announcements():
                await self._announce()  # raises code 666: no peer is left
        except MaxAvailabilityReachedError:
            self._task = None
            if not await self._every_peer_knows_it():
                await self._announce()

    async def _blocked_by_stale_announcements(self) -> bool:
        """
        Return whether peers are blocked by an earlier announcement of the chunk while no peer stores it.

        An earlier put died between announcement and data. Those peers refuse a new announcement, so the old one must be
        deleted before anything is stored.
        """
        if self._stored_on or self._chunk.size == 0 or self.announced >= self._rf:
            return False
        peers = await self._upload.reader.peers()
        if peers.unavailable or self.announced >= min(self._rf, len(peers.peer_ids)):
            return False
        await self._read_back(peers.peer_ids)
        return not self._stored_on

    async def _announce(self) -> None:
        async def announce_once() -> None:
            request = self._upload.announcement_for(self._chunk, self._rf - len(self._stored_on))
            asked: list[AsyncRouter] = []

            async def ask(router: AsyncRouter, options: RequestOptions) -> Result[PutMetadataResponse, MictlanXError]:
                asked.append(router)
                return await router.announce(request, **options)

            try:
                self._task = None
                answer = await self._upload.routers.request_once(ask)
            except (UnknownError, UpstreamProtocolError, RequestTimeoutError, NetworkError) as error:
                if not isinstance(error, ConnectFailedError | DNSResolutionError | UnavailableError):
                    self._upload.announced[request.key] += request.replication_factor
                    await self._clear((), is_answer_lost=True)
                    if await self._is_done():  # another writer with the same name has put it meanwhile
                        return
                raise
            self._upload.announced[request.key] += len(answer.replicas)
            self._failures = 0
            self._task = (asked[-1], answer)

        await self._upload.routers.repeat_request(announce_once)

    async def _clear(self, sent_to: Collection[str], is_answer_lost: bool = False) -> None:
        """
        Delete this put's announcement if it has no data, since the router would send readers to it.

        The delete removes every replica of the chunk. So nothing is deleted while a replica is readable, another
        writer's announcement is listed, or a peer outside ``sent_to`` does not answer.

        :param sent_to: the peers to which the data was sent without success
        :param is_answer_lost: whether the announcement may not have arrived: a listed one may then be another writer's
        """
        upload, key = self._upload, self._metadata.key
        listed = await list_rows(upload.routers, upload.name)  # a delete by ball id deletes objects with own keys too
        replicas = [chunk for chunk in listed if chunk.key == key]
        if self._stored_on or not replicas or not upload.is_own(replicas):
            return
        if any((chunk.size, chunk.checksum) != (self._chunk.size, self._chunk.checksum) for chunk in replicas):
            return
        if is_answer_lost or not upload.only_announced:
            peers = await get_peers(upload.routers)
            silent = await silent_peers(upload.routers, upload.name.bucket_id, peers)
            await self._read_back([peer for peer in peers.peer_ids if peer not in silent])
            if self._stored_on or not (upload.only_announced or set(silent) <= set(sent_to)):
                return
        if not await delete_chunk(upload.routers, upload.name.bucket_id, key):  # one of the announcement's peers failed
            if not upload.only_announced or len(listed) > len(replicas):
                return
            await upload.routers.request(
                lambda router, options: router.delete_by_ball_id(upload.name.ball_id, upload.name.bucket_id, **options)
            )
        upload.announced[key] = 0

    async def has_no_data(self) -> bool:
        """Return whether no available peer returns bytes under the chunk's key; a delete would remove any layout's."""
        reader = self._upload.reader
        return not any(
            [await reader.has_data(self._metadata, peer.peer_id) for peer in (await reader.peers()).available]
        )

    async def clear_unsent(self) -> None:
        """Delete the chunk's announcements by any writer."""
        self._cleared = True
        await delete_chunk(self._upload.routers, self._upload.name.bucket_id, self._metadata.key)
        self._upload.announced[self._metadata.key] = 0

    # -- sending ---------------------------------------------------------------------------------------------------

    async def _store(self, data: bytes | memoryview | SizedBody) -> None:
        """Announce the chunk unless that is done, and send its data until the task is spent."""
        if self._task is None:
            again = bool(self._problem)
            await self.announce()
            if self._task is None:  # every peer knows it, and enough peers store it
                return
            if again or self._cleared:
                await self._upload.check_no_conflict()
        router, task = self._task
        await self._upload.routers.repeat_request(lambda: self._send(router, task, data))
        self._task = None
        if await self._is_done():
            return
        await self._clear(task.replicas)
        if not await self._is_done():
            raise PutChunksError(
                f"putting {self._label} failed: it is stored on {len(self._stored_on)} peers instead of {self._rf}: "
                f"{self._problem}; put it again to store the missing replicas, or with replace=True if no peer is left"
            )

    async def _send(self, router: AsyncRouter, task: PutMetadataResponse, data: bytes | memoryview | SizedBody) -> None:
        """
        Send the data to a task, and read it back if the answer does not acknowledge it.

        Returns when the task is complete or spent; raises a transient error if the data should be sent again.
        """
        known = len(self._stored_on)
        try:
            answer = await self._upload.routers.request_to(
                router,
                lambda router, options: router.put_chunked(
                    task.tasks_ids[0], data, **options, action=f"sending {self._label}"
                ),
            )
        except (ConnectFailedError, DNSResolutionError) as error:  # no data was sent
            self._problem = str(error)
            if len(self._upload.routers.pool.routers) == 1:
                raise
            return  # only this router knows the task; another one needs a new announcement
        except IntegrityError:  # the source changed while it was sent
            raise
        except MictlanXError as error:
            self._problem = str(error)
            if isinstance(error, RequestTimeoutError):
                await require_all_peers(self._upload.routers, f"sending {self._label}", self._upload.name.bucket_id)
            await self._read_back(task.replicas)
            self._sent = self._sent or len(self._stored_on) > known  # stored by this put, although its answer was lost
            if await self._is_done() or isinstance(error, PutChunksError):
                return
            self._failures = self._failures + 1 if error.status_code == 500 else 0
            if self._failures < 2:
                raise
            return
        self._sent = True
        self._stored_on.update(answer.peer_ids)
        await self._read_back(task.replicas)  # a send that had failed may have stored it
        self._problem = (
            f"router {router.router_id} ({router.base_url()}) accepted the data, but not all of the peers "
            f"{', '.join(task.replicas)} stored it"
        )

    async def _read_back(self, peer_ids: Sequence[str]) -> None:
        for peer_id in peer_ids:
            if len(self._stored_on) >= self._rf:
                return
            if peer_id not in self._stored_on and await self._upload.reader.is_stored_on(self._metadata, peer_id):
                self._stored_on.add(peer_id)

    async def _is_done(self) -> bool:
        """Return whether the chunk is stored on ``rf`` peers, or on all peers if there are fewer."""
        if not self._stored_on or len(self._stored_on) >= self._rf:
            return bool(self._stored_on)
        peers = await self._upload.reader.peers()
        return len(self._stored_on) >= min(self._rf, len(peers.peer_ids))

    async def _every_peer_knows_it(self) -> bool:
        """
        Resolve code 666: return True if enough peers store the chunk, or False if it can be announced again.

        Its announcements are deleted only if every peer answers and none has a correct copy, in two tries: then nobody
        is sending it. With ``replace``, they are also deleted if too few peers have a copy, since a peer with only the
        announcement accepts no new one.
        """
        upload = self._upload
        peers = await require_all_peers(upload.routers, f"finding the replicas of {self._label}", upload.name.bucket_id)
        if self._chunk.size == 0:  # an empty chunk has only its announcement
            await upload.check_no_conflict()
            self._stored_on.update(peers.peer_ids)
        await self._read_back(peers.peer_ids)
        if await self._is_done():
            if self._chunk.size and not self.replicas_in(await list_chunks(upload.routers, upload.name)):
                raise PutChunksError(
                    f"putting {self._label} failed: its key is that of another object, with another ball id and the "
                    "same bytes; delete that object, or choose another key",
                    transient=False,
                    permanent=True,
                )
            return True
        if self._stored_on and not upload.options.replace:
            raise PutChunksError(
                f"putting {self._label} failed: it is stored on {len(self._stored_on)} peers instead of {self._rf}; "
                "every other peer refuses it because of an announcement without data"
                f"{f' ({self._problem})' if self._problem else ''}; use replace=True, delete the object before the "
                "next put, or lower rf",
                permanent=True,  # still retried within the call: another writer may be sending it to them
            )
        if not self._seen_without_data and (upload.in_window or upload.routers.retry.max_tries > 1):
            self._seen_without_data = True
            raise PutChunksError(
                f"putting {self._label} failed: it is announced on every peer and stored on none: "
                f"{self._problem or 'another writer may be sending it'}; put it again later"
            )
        self._stored_on.clear()
        await upload.check_no_conflict()
        await self._check_listing(len(peers.peer_ids))
        await self.clear_unsent()
        return False

    async def _check_listing(self, peers: int) -> None:
        """
        Raise unless every peer was listed, since an omitted peer may store other bytes under the key.

        If the ball's listing has fewer announcements than peers, list the bucket, which names the peers that answered.
        """
        upload, key = self._upload, self._metadata.key
        listed = [chunk for chunk in await list_chunks(upload.routers, upload.name) if chunk.key == key]
        if self._chunk.size == 0 or len(listed) >= peers:  # listings omit empty chunks
            return
        bucket = await list_bucket(upload.routers, upload.name.bucket_id)
        if any(chunk.key == key and chunk.checksum != self._chunk.checksum for chunk in bucket.balls):
            await upload.check_no_conflict()
            raise UnavailableError(
                f"putting {self._label} failed: a peer with other bytes under its key does not always answer; try again"
            )


_Announcement: TypeAlias = tuple[str, str, int, str, int]


def _announcement(chunk: Metadata) -> _Announcement:
    """Return what identifies an announcement: key, SHA-256, size, writer and time."""
    return chunk.key, chunk.checksum, chunk.size, chunk.producer_id, chunk.updated_at
