"""
``AsyncPeer``: one method per request of the peer protocol, without retries; only files are verified.

A peer knows only its own replicas, so its 404 does not mean that an object is absent from the storage space.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from airflow_provider_mictlanx.client.errors import UpstreamProtocolError
from airflow_provider_mictlanx.client.models import (
    NO_TAGS,
    BallCount,
    BallSize,
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
from airflow_provider_mictlanx.client.protocol.endpoint import (
    A,
    Headers,
    RequestOptions,
    build_model,
    page_query,
    quote_id,
)
from airflow_provider_mictlanx.client.protocol.status_handlers import PEER_STATUS_HANDLERS
from airflow_provider_mictlanx.client.result import returns_result, unwrap
from airflow_provider_mictlanx.client.transport.connections import Response, Transport
from airflow_provider_mictlanx.client.transport.headers import NO_HEADERS, add_headers
from airflow_provider_mictlanx.client.transport.limits import MAX_LISTING
from airflow_provider_mictlanx.client.transport.tls import Verify
from airflow_provider_mictlanx.client.validation import check_bool


class AsyncPeer(CommonRequests[PeerPutChunkedResponse]):
    """
    A storage peer, accessed directly.

    A chunk written here is unknown to the routers' placement service. Use ``AsyncRouter`` to write data that routers
    serve.

    Shared parameters, results and errors are described at ``CommonRequests``. A further error is ``NotFoundError``: the
    peer does not have the chunk.

    Use it as ``async with AsyncPeer(...) as peer``, or call ``aclose`` when done. Parameters and errors: see
    ``AsyncRouter``, and:

    :param peer_id: its name in logs and errors
    :param port: 1–65535, also used with ``https``; 0 or -1 for the protocol's default port
    """

    kind: ClassVar[str] = "peer"
    acknowledgement = PeerPutChunkedResponse
    status_handlers = PEER_STATUS_HANDLERS

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
        """Build a peer from a router's ``PeerInfo`` (``AsyncRouter.get_peers``)."""
        return cls(peer.peer_id, peer.ip_addr, peer.port, peer.protocol, peer.api_version, transport=transport)

    @staticmethod
    def empty() -> AsyncPeer:
        """Return a placeholder for "no peer": its id is empty, and its host cannot exist."""
        return AsyncPeer("", "peer.invalid", 0)

    def to_dict(self) -> dict[str, str | int]:
        """Return id and address of the peer."""
        return {
            "peer_id": self.peer_id,
            "ip_addr": self.ip_addr,
            "port": self.port,
            "protocol": self.protocol,
            "api_version": self.api_version,
        }

    def __repr__(self) -> str:
        return f"AsyncPeer({self.peer_id!r}, {self.base_url()!r})"

    # -- writing ---------------------------------------------------------------------------------------------------

    @returns_result
    async def put_metadata(
        self,
        key: str,
        size: int,
        checksum: str,
        producer_id: str,
        content_type: str,
        ball_id: str,
        bucket_id: str,
        tags: Mapping[str, str] = NO_TAGS,
        timeout: float = 120,
        is_disable: bool = False,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
        *,
        task_id: str = "",
        update: bool = False,
    ) -> PeerPutMetadataResponse:
        """
        Announce a chunk to this peer; return the task to send its data to.

        Parameters and errors: see ``announce``, which takes a ``PutMetadataRequest``, and:

        :param is_disable: mark the chunk as disabled
        """
        metadata = build_model(
            PutMetadataRequest,
            bucket_id=bucket_id,
            key=key,
            ball_id=ball_id,
            checksum=checksum,
            size=size,
            tags=tags,
            producer_id=producer_id,
            content_type=content_type,
            is_disabled=is_disable,
        )
        return unwrap(await self.announce(metadata, timeout, headers, verify, task_id=task_id, update=update))

    @returns_result
    async def announce(
        self,
        metadata: PutMetadataRequest,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
        *,
        task_id: str = "",
        update: bool = False,
    ) -> PeerPutMetadataResponse:
        """
        Announce a chunk to this peer; return the task to send its data to.

        ``BallConflictError``: the peer knows the chunk with other bytes, and ``update`` is not set.

        :param metadata: the chunk; ``replication_factor`` is not sent, as only routers use it
        :param task_id: the id of the task (header ``Task-Id``); a random id by default
        :param update: replace an earlier announcement of this key (header ``Update``)
        """
        own = {"Task-Id": task_id or uuid.uuid4().hex, "Update": str(int(check_bool("update", update)))}
        options = RequestOptions(timeout=timeout, headers=add_headers(headers, own), verify=verify)
        fields = metadata.model_dump(exclude={"replication_factor", "is_disabled"})
        content = json.dumps({**fields, "is_disable": metadata.is_disabled})
        return await self._announce(PeerPutMetadataResponse, metadata, content, options)

    # -- reading ---------------------------------------------------------------------------------------------------

    @returns_result
    async def get_by_ball_id(
        self, bucket_id: str, ball_id: str, timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> PeerBallResponse:
        """List the chunks of a ball that this peer knows, which may be none."""
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/metadata/{quote_id(ball_id, 'ball_id')}/group"
        action = self._action("listing the chunks of object", bucket_id, ball_id)
        listing, _ = await self._list(PeerBallResponse, path, action, options)
        return listing

    @returns_result
    async def get_chunks_metadata(
        self,
        ball_id: str,
        bucket_id: str = "",
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
    ) -> PeerBallResponse:
        """
        List the chunks of a ball, as ``get_by_ball_id`` does.

        :param bucket_id: the bucket; required, although the official client's default is empty
        """
        return unwrap(await self.get_by_ball_id(bucket_id, ball_id, timeout, headers, verify))

    @returns_result
    async def get_bucket_metadata(
        self, bucket_id: str, timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> PeerBucketResponse:
        """
        List the chunks of a bucket that this peer knows.

        :param bucket_id: the bucket; an unknown one is listed as empty
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/metadata"
        action = f"listing bucket {bucket_id} at {self._label}"
        listing, _ = await self._list(PeerBucketResponse, path, action, options)
        return listing

    @returns_result
    async def get_size(
        self, bucket_id: str, key: str, timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> GetSizeResponse:
        """Return the size of a chunk as announced to this peer (bytes)."""
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}/size"
        return await self._json(
            GetSizeResponse, "GET", path, self._action("reading the size of chunk", bucket_id, key), options
        )

    @returns_result
    async def get_balls(
        self,
        start: int = 0,
        end: int = 0,
        headers: Headers = NO_HEADERS,
        timeout: float = 120,
        verify: Verify = False,
    ) -> list[BallSize]:
        """
        List the chunks stored on the peer, as ``(bucket_id, key, size)``.

        :param start: number of chunks to skip
        :param end: number of the chunk before which the list ends; 0 for the peer's default
        """
        return await self._ball_sizes("/xballs", start, end, headers, timeout, verify)

    @returns_result
    async def get_all_ball_sizes(
        self,
        headers: Headers = NO_HEADERS,
        timeout: float = 120,
        start: int = 0,
        end: int = 0,
        verify: Verify = False,
    ) -> list[BallSize]:
        """
        List the sizes of the chunks stored on the peer, as ``(bucket_id, key, size)``.

        Parameters: see ``get_balls``.
        """
        return await self._ball_sizes("/xballs/size", start, end, headers, timeout, verify)

    async def _ball_sizes(
        self, path: str, start: int, end: int, headers: Headers, timeout: float, verify: Verify
    ) -> list[BallSize]:
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path, action = path + page_query(start, end), f"listing the chunks of {self._label}"
        return await self._json(list[BallSize], "GET", path, action, options, max_size=MAX_LISTING)

    @returns_result
    async def get_balls_len(self, headers: Headers = NO_HEADERS, timeout: float = 120, verify: Verify = False) -> int:
        """Return the number of chunks stored on the peer."""
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        action = f"counting the chunks of {self._label}"
        return (await self._json(BallCount, "GET", "/balls/len", action, options)).len

    # -- replicating and deleting ----------------------------------------------------------------------------------

    @returns_result
    async def replicate(
        self, bucket_id: str, key: str, timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> bool:
        """
        Ask the peer to copy a chunk to another peer; return True if it accepted.

        ``NotFoundError``: the peer does not have the chunk, or does not support this request.
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}/replicate"
        return await self._confirm("POST", path, self._action("replicating chunk", bucket_id, key), options)

    @returns_result
    async def delete(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
        *,
        force: bool = True,
    ) -> DeletedByKeyResponse:
        """Delete the peer's replica of a chunk; return the number of deleted replicas, 0 if it has none."""
        return await self._delete(
            bucket_id, key, RequestOptions(timeout=timeout, headers=headers, verify=verify), force
        )

    def _parse_deleted(self, model: type[A], response: Response, action: str, **names: str) -> A:
        """Parse the answer to a delete, which has the number in a header and no body."""
        number = response.headers.get("n-deletes", "")
        if not (number.isascii() and number.isdigit()):
            raise UpstreamProtocolError(
                f"{action} failed: unexpected answer: the header n-deletes must be a number, got {number!r}"
            )
        return model(n_deletes=int(number), **names)

    # -- the peer itself -------------------------------------------------------------------------------------------

    @returns_result
    async def get_stats(
        self,
        headers: Headers = NO_HEADERS,
        timeout: float = 120,
        start: int = 0,
        end: int = 0,
        verify: Verify = False,
    ) -> PeerStats:
        """
        Return the disk usage of the peer and the chunks stored on it.

        Parameters: see ``get_balls``.
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        action = f"reading the statistics of {self._label}"
        return await self._json(
            PeerStats, "GET", "/stats" + page_query(start, end), action, options, max_size=MAX_LISTING
        )

    @returns_result
    async def get_state(
        self,
        headers: Headers = NO_HEADERS,
        timeout: float = 120,
        start: int = 0,
        end: int = 0,
        verify: Verify = False,
    ) -> dict[str, Any]:
        """
        Return the state of the peer, as it reports it.

        Parameters: see ``get_balls``; here they count entries.
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path, action = "/peers/state" + page_query(start, end), f"reading the state of {self._label}"
        return await self._json(dict[str, Any], "GET", path, action, options, max_size=MAX_LISTING)

    @returns_result
    async def get_ufs(self, timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False) -> PeerUFs:
        """Return the disk usage of the peer: bytes and the fraction in use."""
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        return await self._json(PeerUFs, "GET", "/stats/ufs", f"reading the disk usage of {self._label}", options)

    @returns_result
    async def flush_tasks(self, headers: Headers = NO_HEADERS, timeout: float = 120, verify: Verify = False) -> bool:
        """Delete the tasks of the peer, so that announcements without data accept none any more; return True."""
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        return await self._confirm("DELETE", "/tasks", f"deleting the tasks of {self._label}", options)

    @returns_result
    async def health(self, timeout: float = 10, headers: Headers = NO_HEADERS, verify: Verify = False) -> bool:
        """Check that the peer answers; return True, or an error if it does not."""
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        return await self._confirm("GET", "/health", f"checking the health of {self._label}", options)
