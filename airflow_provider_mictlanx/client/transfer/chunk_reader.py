"""
Reads one chunk, verified: what the router has at hand, then past its cache, then from each peer.

Only reading proves that a chunk is stored (protocol page, *Reading*): the size and the SHA-256 have to be those that were
announced. Neither the router's cache nor the first peer that is asked has to have the right bytes.
"""

from __future__ import annotations

from airflow_provider_mictlanx.client.concurrency import Threads
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
        """Give the storage space's peers; asked once for the whole call, and again after a failure."""
        if self._peers is None:
            self._peers = await get_peers(self._routers)
        return self._peers

    async def read(self, chunk: Metadata, offset: int, sink: Sink, retry_missing: bool = True) -> None:
        """
        Read a chunk into a sink, again while that may help.

        ``IntegrityError``: every copy that could be read is wrong; ``GetChunkError``: no copy could be read.

        :param offset: of the chunk in the sink (bytes)
        :param retry_missing: ask again, after a while, even when every peer has said no: one may be coming back
        """
        await self._routers.with_retries(lambda: self._read_somewhere(chunk, offset, sink, retry_missing))

    async def is_stored_on(self, chunk: Metadata, peer_id: str = "") -> bool:
        """
        Tell whether a peer (``""``: any that the router asks) gives the right bytes, past the router's cache.

        An empty chunk has no bytes to give: its announcement is all there is of it, of which one peer tells.
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
        """Return whether a peer returns any bytes under a chunk's key, right or wrong."""
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
        sure = not peers.unavailable and all(isinstance(p, IntegrityError | GetChunkError) for p in problems)
        failed = _conclusion(chunk, problems, peers, transient=retry_missing or not sure)
        failed.peer_silent = not sure
        raise failed

    async def _read_once(self, chunk: Metadata, offset: int, sink: Sink, force: bool, peer_id: str) -> None:
        """Read a chunk, hash and write it, and compare; ``IntegrityError`` where size or SHA-256 is another."""
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


def _conclusion(
    chunk: Metadata, problems: list[MictlanXError], peers: PeersResponse, transient: bool
) -> IntegrityError | GetChunkError:
    where = f"chunk {chunk.bucket_id}/{chunk.key} ({chunk.size} bytes, SHA-256 {chunk.checksum[:12]}…)"
    away = ", ".join(peer.peer_id for peer in peers.unavailable)
    hint = f"; peer {away} is away and may have it" if away else ""
    wrong = [problem for problem in problems if isinstance(problem, IntegrityError)]
    if wrong:
        return IntegrityError(
            f"{where}: no copy that could be read is right: {wrong[-1]}{hint}. Put the ball again with replace=True, or find "
            "out who else writes it",
            transient=transient,
        )
    return GetChunkError(
        f"{where}: it was announced, but none of the {len(peers.available)} peers that answer gave it: {problems[-1]}{hint}. "
        f"It is being written, its writer ({chunk.producer_id or 'unknown'}) did not come to the end, or every copy is lost: these "
        "can't be told apart from here. See whether the writer is at it still, and whether peers were emptied or replaced; "
        "putting the same bytes again completes it",
        transient=transient,
    )
