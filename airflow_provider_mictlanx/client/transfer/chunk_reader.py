"""
Read and verify one chunk: from the router's cache, then past the cache, then from each peer.

Only reading proves that a chunk is stored (protocol page, *Reading*): its size and SHA-256 must be the announced ones.
The router's cache and the first peer may both have wrong bytes.
"""

from __future__ import annotations

from airflow_provider_mictlanx.client.concurrency import Threads
from airflow_provider_mictlanx.client.empty_objects import EMPTY_CHECKSUM
from airflow_provider_mictlanx.client.errors import GetChunkError, IntegrityError, MictlanXError, NotFoundError
from airflow_provider_mictlanx.client.local_io.sinks import NullSink, Sink, VerifyingWriter
from airflow_provider_mictlanx.client.models import Metadata, PeersResponse
from airflow_provider_mictlanx.client.transfer.listing import get_peers
from airflow_provider_mictlanx.client.transfer.router_pool import RequestSender

_NOT_STORED = (IntegrityError, GetChunkError, NotFoundError)
"""Answers that a peer does not have the bytes of a chunk."""


class ChunkReader:
    """
    Reads chunks for one call.

    :param force: bypass the routers' caches from the start
    """

    def __init__(self, routers: RequestSender, threads: Threads, force: bool = False) -> None:
        self._routers = routers
        self._threads = threads
        self._force = force
        self._peers: PeersResponse | None = None

    async def peers(self) -> PeersResponse:
        """Return the storage space's peers; requested once per call, and again after a failed read."""
        if self._peers is None:
            self._peers = await get_peers(self._routers)
        return self._peers

    async def read(self, chunk: Metadata, offset: int, sink: Sink, retry_missing: bool = True) -> None:
        """
        Read a chunk into a sink, with retries.

        ``IntegrityError``: every readable copy is wrong. ``GetChunkError``: no copy could be read.

        :param offset: of the chunk in the sink (bytes)
        :param retry_missing: retry even if every peer answered that it has no copy: a peer may be coming back
        """
        if chunk.size == 0 and chunk.checksum == EMPTY_CHECKSUM:
            return  # it has no bytes, and may be known from its companion only
        await self._routers.with_retries(lambda: self._read_somewhere(chunk, offset, sink, retry_missing))

    async def is_stored_on(self, chunk: Metadata, peer_id: str = "") -> bool:
        """
        Return whether a peer returns the correct bytes, past the router's cache.

        An empty chunk has no bytes: its announcement is checked instead, which only one peer returns.

        :param peer_id: ``""`` for any peer that the router chooses
        """
        try:
            if chunk.size == 0:
                answer = await self._routers.request(
                    lambda router, options: router.get_metadata(chunk.bucket_id, chunk.key, **options)
                )
                return answer.metadata.size == 0 and peer_id in ("", answer.peer_id)
            await self._read_past_the_cache(chunk, peer_id)
        except _NOT_STORED:
            return False
        return True

    async def has_data(self, chunk: Metadata, peer_id: str) -> bool:
        """Return whether a peer returns any bytes under a chunk's key, correct or not."""
        try:
            await self._read_past_the_cache(chunk, peer_id)
        except (GetChunkError, NotFoundError):
            return False
        except IntegrityError:
            pass
        return True

    async def _read_past_the_cache(self, chunk: Metadata, peer_id: str) -> None:
        await self._routers.with_retries(lambda: self._read_once(chunk, 0, NullSink(), True, peer_id), _NOT_STORED)

    async def _read_somewhere(self, chunk: Metadata, offset: int, sink: Sink, retry_missing: bool) -> None:
        problems: list[MictlanXError] = []
        for force in (True,) if self._force else (False, True):
            try:
                return await self._read_once(chunk, offset, sink, force, "")
            except (IntegrityError, GetChunkError) as error:
                problems.append(error)
        peers = await self.peers()
        for peer in peers.available:
            try:
                return await self._read_once(chunk, offset, sink, True, peer.peer_id)
            except MictlanXError as error:
                problems.append(error)
        self._peers = None
        all_answered = not peers.unavailable and all(isinstance(p, IntegrityError | GetChunkError) for p in problems)
        failed = _read_error(chunk, problems, peers, transient=retry_missing or not all_answered)
        failed.peer_silent = not all_answered
        raise failed

    async def _read_once(self, chunk: Metadata, offset: int, sink: Sink, force: bool, peer_id: str) -> None:
        """Read, write and verify a chunk once; raise ``IntegrityError`` if size or SHA-256 is wrong."""
        writer = VerifyingWriter(sink, self._threads, offset)
        await self._routers.request_once(
            lambda router, options: router.read_data(
                chunk.bucket_id,
                chunk.key,
                writer.reset().write,
                **options,
                max_size=chunk.size,
                force=force,
                peer_id=peer_id,
            )
        )
        await writer.finish(f"peer {peer_id}" if peer_id else "the router", chunk.size, chunk.checksum)


def _read_error(
    chunk: Metadata, problems: list[MictlanXError], peers: PeersResponse, transient: bool
) -> IntegrityError | GetChunkError:
    where = f"chunk {chunk.bucket_id}/{chunk.key} ({chunk.size} bytes, SHA-256 {chunk.checksum[:12]}…)"
    unavailable = ", ".join(peer.peer_id for peer in peers.unavailable)
    hint = f" (peer {unavailable} is unavailable and may have a correct copy)" if unavailable else ""
    wrong = [problem for problem in problems if isinstance(problem, IntegrityError)]
    if wrong:
        return IntegrityError(
            f"reading {where} failed: every readable copy is wrong: {wrong[-1]}{hint}; put the ball again with "
            "replace=True, or find out who else writes it",
            transient=transient,
        )
    return GetChunkError(
        f"reading {where} failed: it was announced, but none of the {len(peers.available)} available peers returned "
        f"it: {problems[-1]}{hint}. Its writer ({chunk.producer_id or 'unknown'}) is still writing or was interrupted, "
        "or every copy is lost; check the writer, and whether peers were emptied or replaced; putting the same bytes "
        "again completes the ball",
        transient=transient,
    )
