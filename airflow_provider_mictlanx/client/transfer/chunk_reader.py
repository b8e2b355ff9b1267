"""
Read and verify one chunk: from the router's cache, then past the cache, then from each peer.

Only reading proves that a chunk is stored (protocol page, *Reading*): its size and SHA-256 must be the announced ones.
The router's cache and the first peer may both have wrong bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from humanfriendly.text import pluralize

from airflow_provider_mictlanx.client.concurrency import Threads
from airflow_provider_mictlanx.client.empty_objects import EMPTY_CHECKSUM
from airflow_provider_mictlanx.client.errors import GetChunkError, IntegrityError, MictlanXError, NotFoundError
from airflow_provider_mictlanx.client.local_io.sinks import NullSink, Sink, VerifyingWriter
from airflow_provider_mictlanx.client.models import Metadata, PeersResponse
from airflow_provider_mictlanx.client.transfer.listing import PEER_CHECK_TIMEOUT, get_peers, silent_peers
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
        problems: dict[str, MictlanXError] = {}
        for force in (True,) if self._force else (False, True):
            try:
                return await self._read_once(chunk, offset, sink, force, "")
            except (IntegrityError, GetChunkError) as error:
                problems["the router past its cache" if force else "the router"] = error
        peers = await self.peers()
        for peer in peers.available:
            try:
                return await self._read_once(chunk, offset, sink, True, peer.peer_id)
            except MictlanXError as error:
                problems[peer.peer_id] = error
        self._peers = None
        silent = await self._silent_peers(chunk.bucket_id, peers, problems)
        failed = _read_error(chunk, problems, silent, transient=retry_missing or bool(silent))
        failed.peer_silent = bool(silent)
        raise failed

    async def _silent_peers(
        self, bucket_id: str, peers: PeersResponse, problems: Mapping[str, MictlanXError]
    ) -> list[str]:
        """
        Return the peers whose answer to a failed read is unknown; they may store the chunk.

        The router answers for a silent peer as for one that does not have the data, so a roll-call finds them.
        """
        unknown = {peer.peer_id for peer in peers.unavailable}
        unknown |= {peer.peer_id for peer in peers.available if not isinstance(problems[peer.peer_id], _NOT_STORED)}
        try:
            unknown |= set(await silent_peers(self._routers.with_timeout(PEER_CHECK_TIMEOUT), bucket_id, peers))
        except MictlanXError:
            return sorted(peers.peer_ids)
        return sorted(unknown)

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
    chunk: Metadata, problems: Mapping[str, MictlanXError], silent: Sequence[str], transient: bool
) -> IntegrityError | GetChunkError:
    where = f"chunk {chunk.bucket_id}/{chunk.key} ({pluralize(chunk.size, 'byte')}, SHA-256 {chunk.checksum[:12]}…)"
    asked = _answers(problems, silent)
    names = f"peer {', '.join(silent)} did not answer"
    wrong = [problem for problem in problems.values() if isinstance(problem, IntegrityError)]
    if wrong:
        hint = f" ({names} and may have a correct copy)" if silent else ""
        return IntegrityError(
            f"reading {where} failed: every readable copy is wrong: {wrong[-1]}{hint}; put the object again with "
            f"replace=True, or find out who else writes it; {asked}",
            transient=transient,
        )
    if silent:
        return GetChunkError(
            f"reading {where} failed: it was announced, but {names}, so it is unknown whether it is stored; try again "
            f"when every peer answers; {asked}",
            transient=transient,
        )
    return GetChunkError(
        f"reading {where} failed: it was announced, but every peer answered that it does not have it. Its writer "
        f"({chunk.producer_id or 'unknown'}) is still writing or was interrupted, or every copy is lost; check the "
        "writer, and whether peers were emptied or replaced; putting the same bytes again completes the object; "
        f"{asked}",
        transient=transient,
    )


def _answers(problems: Mapping[str, MictlanXError], silent: Sequence[str]) -> str:
    """Return which router and peers were asked, and what each answered."""
    answers = {name: _answer(problem) for name, problem in problems.items()}
    answers.update(dict.fromkeys((peer for peer in silent if answers.get(peer) != "wrong bytes"), "no answer"))
    return "asked: " + ", ".join(f"{name}: {answer}" for name, answer in answers.items())


def _answer(problem: MictlanXError) -> str:
    if isinstance(problem, IntegrityError):
        return "wrong bytes"
    return "not stored" if isinstance(problem, _NOT_STORED) else type(problem).__name__
