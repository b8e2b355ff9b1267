"""
``AsyncPeer``: one method per request of the peers' dialect, and nothing else. No retries; only files are verified.

A peer speaks for itself: it knows its own replicas, and nothing of where others are. What it answers with 404 it does not
have, which says nothing of the storage space. Every method returns a ``Result``.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from airflow_provider_mictlanx.client.errors import BallConflictError, MictlanXError, UpstreamProtocolError
from airflow_provider_mictlanx.client.models import (
    DeletedByBallIdResponse,
    DeletedByKeyResponse,
    GetSizeResponse,
    PeerBallResponse,
    PeerBucketResponse,
    PeerInfo,
    PeerPutChunkedResponse,
    PeerPutMetadataResponse,
    PeerStats,
    PeerUFs,
    PutMetadataRequest,
)
from airflow_provider_mictlanx.client.protocol.common_requests import CommonRequests
from airflow_provider_mictlanx.client.protocol.endpoint import Body, as_body, quote_id, shorten
from airflow_provider_mictlanx.client.result import returns_result, unwrap
from airflow_provider_mictlanx.client.transport.connections import Transport
from airflow_provider_mictlanx.client.transport.headers import NO_HEADERS
from airflow_provider_mictlanx.client.transport.limits import MAX_LISTING
from airflow_provider_mictlanx.client.transport.tls import Verify


class AsyncPeer(CommonRequests):
    """
    One storage peer, asked directly.

    What is written here is known to this peer only: the routers' placement service hears nothing of it. Data that routers
    are to serve is written through ``AsyncRouter``.

    Every method takes ``timeout`` (seconds, for the whole request), ``headers`` (sent besides) and ``verify`` (how TLS is
    checked: True = by the system's authorities, False = not at all, a text = by the authorities of that file, or an
    ``ssl.SSLContext``), and returns a ``Result``. Any of them may end in ``NetworkError`` (no answer), ``UnknownError`` (the
    peer failed), ``AuthenticationError``, ``PermissionError``, ``ValidationError`` (an argument is wrong, or was refused),
    ``NotFoundError`` (the peer does not have it) or ``UpstreamProtocolError`` (the answer is none of the protocol's); what
    else there is stands with each.

    Use it as ``async with AsyncPeer(...) as peer``, or call ``aclose`` in the end.

    :param peer_id: what it is called in logs and errors
    :param ip_addr: host name or address, with the path of a proxy behind it if there is one
    :param port: 1–65535; 0 or -1 for the protocol's own port. It is used with ``https`` too
    :param protocol: ``http`` or ``https``
    :param api_version: of the paths, ``/api/v{api_version}``
    :param transport: the connections to use; they are the giver's to close. Own ones are made where none are given

    Raises ``ValidationError`` where an argument is wrong.
    """

    kind: ClassVar[str] = "peer"

    def __init__(
        self,
        peer_id: str,
        ip_addr: str,
        port: int,
        protocol: str = "http",
        api_version: int = 4,
        *,
        transport: Transport | None = None,
    ) -> None:
        super().__init__(peer_id, ip_addr, port, protocol, False, api_version, transport)
        self.peer_id = peer_id

    @classmethod
    def at(cls, peer: PeerInfo, transport: Transport | None = None) -> AsyncPeer:
        """Make the peer that a router names (``AsyncRouter.get_peers``)."""
        return cls(peer.peer_id, peer.ip_addr, peer.port, peer.protocol, peer.api_version, transport=transport)

    def __repr__(self) -> str:
        return f"AsyncPeer({self.peer_id!r}, {self.base_url()!r})"

    # -- writing ---------------------------------------------------------------------------------------------------

    @returns_result
    async def put_metadata(
        self,
        metadata: PutMetadataRequest,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
        *,
        task_id: str = "",
        update: bool = False,
    ) -> PeerPutMetadataResponse:
        """
        Announce a chunk to this peer; gives the task that its data is sent to.

        ``BallConflictError``: the peer knows the chunk with other bytes, and ``update`` is not set.

        :param metadata: what the chunk is; ``replication_factor`` is the routers' and is not sent
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        :param task_id: what the task is to be called (header ``Task-Id``); a fresh random id unless given
        :param update: replace what the peer knows under this key (header ``Update``)
        """
        told = metadata.model_dump(exclude={"replication_factor", "is_disabled"})
        return await self._json(
            PeerPutMetadataResponse,
            "POST",
            f"/buckets/{quote_id(metadata.bucket_id, 'bucket_id')}/metadata",
            self._action("announcing chunk", metadata.bucket_id, metadata.key),
            timeout,
            {**headers, "Task-Id": task_id or uuid.uuid4().hex, "Update": "1" if update else "0"},
            verify,
            status_handler=_announcement_error,
            content=json.dumps({**told, "is_disable": metadata.is_disabled}).encode(),
            content_type="application/json",
        )

    @returns_result
    async def put_chunked(
        self,
        task_id: str,
        chunks: Body,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
        *,
        action: str = "",
    ) -> PeerPutChunkedResponse:
        """
        Send the data of an announced chunk.

        ``ValidationError``: what came is not what was announced, and is not stored.

        :param task_id: of the announcement; it is spent by this request, whatever comes of it
        :param chunks: the bytes, or an iterable or async iterable of pieces of them. A plain iterable is gone through on the
            event loop: where its pieces have to be waited for, take an async one
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        :param action: what is being sent, for errors
        """
        return await self._json(
            PeerPutChunkedResponse,
            "POST",
            f"/buckets/data/{quote_id(task_id, 'task_id')}/chunked",
            f"{action or f'sending the data of task {task_id}'} to {self._label}",
            timeout,
            headers,
            verify,
            content=as_body(chunks),
            content_type="application/octet-stream",
        )

    # -- reading ---------------------------------------------------------------------------------------------------

    @returns_result
    async def get_by_ball_id(
        self,
        bucket_id: str,
        ball_id: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
    ) -> PeerBallResponse:
        """
        List the chunks of a ball that this peer knows; none where it knows none.

        :param bucket_id: the bucket
        :param ball_id: the ball
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        return await self._json(
            PeerBallResponse,
            "GET",
            f"/buckets/{quote_id(bucket_id, 'bucket_id')}/metadata/{quote_id(ball_id, 'ball_id')}/group",
            self._action("chunks of ball", bucket_id, ball_id),
            timeout,
            headers,
            verify,
            max_size=MAX_LISTING,
        )

    @returns_result
    async def get_chunks_metadata(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
    ) -> PeerBallResponse:
        """
        List the chunks of a ball that this peer knows: ``get_by_ball_id`` under the routers' name.

        :param bucket_id: the bucket
        :param key: the ball id
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        return unwrap(await self.get_by_ball_id(bucket_id, key, timeout, headers, verify))

    @returns_result
    async def get_bucket_metadata(
        self,
        bucket_id: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
    ) -> PeerBucketResponse:
        """
        List the chunks of a bucket that this peer knows.

        :param bucket_id: the bucket; one that the peer does not know reads as an empty one
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        return await self._json(
            PeerBucketResponse,
            "GET",
            f"/buckets/{quote_id(bucket_id, 'bucket_id')}/metadata",
            f"listing bucket {bucket_id} at {self._label}",
            timeout,
            headers,
            verify,
            max_size=MAX_LISTING,
        )

    @returns_result
    async def get_size(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
    ) -> GetSizeResponse:
        """
        Get the size of a chunk, as it was announced to this peer (bytes).

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        action = self._action("size of chunk", bucket_id, key)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}/size"
        return await self._json(GetSizeResponse, "GET", path, action, timeout, headers, verify)

    # -- deleting --------------------------------------------------------------------------------------------------

    @returns_result
    async def delete(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
        *,
        force: bool = True,
    ) -> DeletedByKeyResponse:
        """
        Delete this peer's replica of a chunk; ``n_deletes`` is 0 where it has none.

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        :param force: the header ``Force``
        """
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}"
        action = self._action("deleting chunk", bucket_id, key)
        return DeletedByKeyResponse(
            n_deletes=await self._count_deletes(path, action, timeout, headers, verify, force), key=key
        )

    @returns_result
    async def delete_by_ball_id(
        self,
        bucket_id: str,
        ball_id: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
        *,
        force: bool = True,
    ) -> DeletedByBallIdResponse:
        """
        Delete this peer's replicas of a ball's chunks; ``n_deletes`` says how many there were.

        :param bucket_id: the bucket
        :param ball_id: the ball
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        :param force: the header ``Force``
        """
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/bid/{quote_id(ball_id, 'ball_id')}"
        action = self._action("deleting ball", bucket_id, ball_id)
        return DeletedByBallIdResponse(
            n_deletes=await self._count_deletes(path, action, timeout, headers, verify, force), ball_id=ball_id
        )

    async def _count_deletes(
        self, path: str, action: str, timeout: float, headers: Mapping[str, str], verify: Verify, force: bool
    ) -> int:
        """Delete, and give the number that a peer says in the header ``n-deletes`` of an answer without a body."""
        sent = {**headers, "Force": "1" if force else "0"}
        response = await self._send("DELETE", path, action, timeout, sent, verify)
        number = response.headers.get("n-deletes", "")
        if not (number.isascii() and number.isdigit()):
            raise UpstreamProtocolError(
                f"{action}: the answer is none of the protocol's: its header n-deletes is {number!r}, not a number"
            )
        return int(number)

    # -- the peer itself -------------------------------------------------------------------------------------------

    @returns_result
    async def get_stats(
        self, timeout: float = 120, headers: Mapping[str, str] = NO_HEADERS, verify: Verify = False
    ) -> PeerStats:
        """
        Get the use of the peer's disk, and what it holds.

        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        action = f"statistics of {self._label}"
        return await self._json(PeerStats, "GET", "/stats", action, timeout, headers, verify, max_size=MAX_LISTING)

    @returns_result
    async def get_ufs(
        self, timeout: float = 120, headers: Mapping[str, str] = NO_HEADERS, verify: Verify = False
    ) -> PeerUFs:
        """
        Get the use of the peer's disk: bytes, and the share in use.

        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        return await self._json(
            PeerUFs, "GET", "/stats/ufs", f"use of the disk of {self._label}", timeout, headers, verify
        )

    @returns_result
    async def get_balls_len(
        self, timeout: float = 120, headers: Mapping[str, str] = NO_HEADERS, verify: Verify = False
    ) -> int:
        """
        Get how many chunks the peer holds; there is no request of its own for it, so ``get_stats`` is counted.

        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        return len(unwrap(await self.get_stats(timeout, headers, verify)).balls)

    @returns_result
    async def health(
        self, timeout: float = 10, headers: Mapping[str, str] = NO_HEADERS, verify: Verify = False
    ) -> bool:
        """
        Ask whether the peer is up; gives True, and an error where it is not.

        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        await self._send("GET", "/health", f"health of {self._label}", timeout, headers, verify)
        return True


def _announcement_error(status: int, detail: Any, action: str) -> MictlanXError | None:
    if status == 409:
        return BallConflictError(
            f"{action}: status 409, {shorten(detail)}; it is known with other bytes, and update=True replaces them", 409
        )
    return None
