"""``AsyncRouter``: one method per request of the router protocol, without retries; only files are verified."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar, Protocol

from msgspec.structs import replace
from option import Err, Ok, Result

from airflow_provider_mictlanx.client.errors import MictlanXError, UpstreamProtocolError, ValidationError
from airflow_provider_mictlanx.client.models import (
    NO_TAGS,
    BallChunksResponse,
    DeletedByKeyResponse,
    GetRouterBucketMetadataResponse,
    PeerStats,
    PutChunkedResponse,
    PutMetadataRequest,
    PutMetadataResponse,
)
from airflow_provider_mictlanx.client.protocol.common_requests import CommonRequests
from airflow_provider_mictlanx.client.protocol.endpoint import (
    Headers,
    RequestOptions,
    build_model,
    page_query,
    parse_date,
    quote_id,
)
from airflow_provider_mictlanx.client.protocol.status_handlers import ROUTER_STATUS_HANDLERS
from airflow_provider_mictlanx.client.result import returns_result, unwrap
from airflow_provider_mictlanx.client.transport.connections import Transport
from airflow_provider_mictlanx.client.transport.headers import NO_HEADERS, add_headers
from airflow_provider_mictlanx.client.transport.limits import MAX_LISTING
from airflow_provider_mictlanx.client.transport.tls import Verify
from airflow_provider_mictlanx.client.uri import SCHEME, MictlanXURI, RouterAddress
from airflow_provider_mictlanx.client.validation import check_str
from airflow_provider_mictlanx.safe_ids import is_safe_id

_OLD_ROUTER_ID = re.compile(r"^([A-Za-z0-9._-]+):(?=[^@]+:-?\d+(?:/?\?|/?$))")
"""The router id of the older form ``router_id:host:port``."""


class RouterLike(Protocol):
    """A router of another class, such as the official client's."""

    router_id: str
    ip_addr: str
    port: int
    protocol: str
    api_version: int


class AsyncRouter(CommonRequests[PutChunkedResponse]):
    """
    A router of a storage space.

    Shared parameters, results and errors are described at ``CommonRequests``.

    Use it as ``async with AsyncRouter(...) as router``, or call ``aclose`` when done.

    :param router_id: its name in logs and errors
    :param ip_addr: host name or address, optionally followed by the path of a proxy (``example.org/mictlanx``)
    :param port: 1–65535; 0 or -1 for the protocol's default port. Ignored with ``https``, as in the official client;
        write a port other than 443 in ``ip_addr`` (``example.org:8443/mictlanx``)
    :param protocol: ``http`` or ``https``
    :param http2: whether to offer HTTP/2 over ``https``; ``ValidationError`` without the package ``h2`` (the extra
        ``[http2]``)
    :param api_version: of the paths, ``/api/v{api_version}``
    :param transport: the connections to use, closed by the caller; default: its own

    Raises ``ValidationError`` for an invalid argument.
    """

    kind: ClassVar[str] = "router"
    https_has_port: ClassVar[bool] = False  # existing URIs contain a port that must be ignored
    acknowledgement = PutChunkedResponse
    status_handlers = ROUTER_STATUS_HANDLERS

    def __init__(
        self,
        router_id: str,
        ip_addr: str,
        port: int,
        protocol: str = "http",
        http2: bool = False,
        api_version: int = 4,
        *,
        transport: Transport | None = None,
    ) -> None:
        super().__init__(router_id, ip_addr, port, protocol, http2, api_version, transport)
        self.router_id = router_id

    @classmethod
    def at(cls, address: RouterAddress, uri: MictlanXURI, transport: Transport | None = None) -> AsyncRouter:
        """Build the router at an address of a URI."""
        host = f"{address.host}/{address.path}" if address.path else address.host
        how = (uri.protocol, uri.http2, uri.api_version)
        return cls(address.router_id, host, address.port or 0, *how, transport=transport)

    @staticmethod
    def from_str(x: str) -> Result[AsyncRouter, MictlanXError]:
        """
        Build a router from its address; return it in a ``Result``.

        :param x: ``router-0@host:60666`` or ``router-0:host:60666``, optionally with the path of a proxy after the host
            and ``/?protocol=https`` at the end (``http`` by default); or a MictlanX URI of one router
        """
        try:
            if not check_str("x", x).lower().startswith(SCHEME):
                x = SCHEME + _OLD_ROUTER_ID.sub(r"\1@", x) + ("" if "?" in x else "/?protocol=http")
            uri = MictlanXURI.parse(x)
            if len(uri.routers) > 1:
                raise ValidationError(f"x must be the address of one router, got {len(uri.routers)} addresses")
            return Ok(AsyncRouter.at(uri.named_routers[0], uri))
        except MictlanXError as error:
            return Err(error)

    @staticmethod
    def from_router(x: RouterLike, http2: bool = False) -> AsyncRouter:
        """
        Build a router from another object of a router.

        :param x: any object with ``router_id``, ``ip_addr``, ``port``, ``protocol`` and ``api_version``
        :param http2: whether to offer HTTP/2 over ``https``
        """
        return AsyncRouter(x.router_id, x.ip_addr, x.port, x.protocol, http2, x.api_version)

    def __repr__(self) -> str:
        return f"AsyncRouter({self.router_id!r}, {self.base_url()!r})"

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
        is_disabled: bool = False,
        replication_factor: int = 1,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
    ) -> PutMetadataResponse:
        """
        Announce a chunk; return the task to send its data to, and the peers chosen to store it.

        Errors: see ``announce``, which takes a ``PutMetadataRequest``.

        :param is_disabled: mark the chunk as disabled
        :param replication_factor: number of replicas
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
            is_disabled=is_disabled,
            replication_factor=replication_factor,
        )
        return unwrap(await self.announce(metadata, timeout, headers, verify))

    @returns_result
    async def announce(
        self, metadata: PutMetadataRequest, timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> PutMetadataResponse:
        """
        Announce a chunk; return the task to send its data to, and the peers chosen to store it.

        ``MaxAvailabilityReachedError`` (code 666): every peer already knows the chunk, and ``replicas`` names them.
        ``UnavailableError``: no peer accepts it now. ``ValidationError``: a name is not a safe id; nothing was sent.

        :param metadata: the chunk and its replication factor
        """
        _check_names(metadata)
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        return await self._announce(PutMetadataResponse, metadata, metadata.model_dump_json(), options)

    # -- reading ---------------------------------------------------------------------------------------------------

    @returns_result
    async def get_chunks_metadata(
        self, key: str, bucket_id: str = "", timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> BallChunksResponse:
        """
        List the announced chunks of a ball, including replicas and divergent versions.

        ``NotFoundError``: no answering peer knows a chunk, which may be due to an outage.

        :param key: the ball id
        :param bucket_id: the bucket; required, although the official client's default is empty
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/metadata/{quote_id(key, 'key')}/chunks"
        action = self._action("listing the chunks of object", bucket_id, key)
        listing, _ = await self._list(BallChunksResponse, path, action, options)
        return listing

    @returns_result
    async def get_bucket_metadata(
        self,
        bucket_id: str,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
        *,
        max_size: int | None = None,
    ) -> GetRouterBucketMetadataResponse:
        """
        List the announced chunks of a bucket once per replica, except those of size 0.

        ``peers_ids`` of the result names the peers that answered.

        :param bucket_id: the bucket; an unknown one is listed as empty
        :param max_size: maximum size (bytes); a longer listing is an ``UpstreamProtocolError`` with ``too_long``
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/metadata"
        action = f"listing bucket {bucket_id} at {self._label}"
        limit = MAX_LISTING if max_size is None else min(max_size, MAX_LISTING)
        try:
            listing, response = await self._list(
                GetRouterBucketMetadataResponse, path, action, options, "storage space", limit
            )
        except UpstreamProtocolError as error:
            if max_size is not None and error.too_long:
                error.transient = False  # a retry does not shorten it
            raise
        return replace(listing, answered_at=parse_date(response))

    @returns_result
    async def read_data(
        self,
        bucket_id: str,
        key: str,
        into: Callable[[bytes], Awaitable[None]],
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
        *,
        max_size: int,
        force: bool = False,
        peer_id: str = "",
    ) -> int:
        """
        Read the data of a chunk piece by piece; return the number of bytes.

        ``GetChunkError``: the asked peer does not have it. ``IntegrityError``: the data is longer than ``max_size``.
        The caller verifies the bytes.

        :param into: awaited with every received piece
        :param max_size: maximum size (bytes)
        :param force: bypass the router's cache
        :param peer_id: ask only this peer
        """
        own = {**({"Force-Get": "1"} if force else {}), **({"Peer-Id": peer_id} if peer_id else {})}
        options = RequestOptions(timeout=timeout, headers=add_headers(headers, own), verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}"
        action = self._action("reading chunk", bucket_id, key) + (f", peer {peer_id}" if peer_id else "")
        return await self._read(path, into, action, options, "data", max_size)

    # -- deleting --------------------------------------------------------------------------------------------------

    @returns_result
    async def delete(
        self,
        bucket_id: str,
        key: str,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
        timeout: float = 120,
        *,
        force: bool = True,
    ) -> DeletedByKeyResponse:
        """
        Delete every replica of a chunk, and its placement; return the number of deleted replicas.

        ``NotFoundError``: the placement service knows no replica.
        """
        return await self._delete(
            bucket_id, key, RequestOptions(timeout=timeout, headers=headers, verify=verify), force
        )

    # -- the storage space -----------------------------------------------------------------------------------------

    @returns_result
    async def get_stats(
        self,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
        *,
        start: int = 0,
        end: int = 0,
    ) -> dict[str, PeerStats]:
        """
        Return, by peer id, the disk usage of every answering peer and the chunks stored on it.

        :param start: number of chunks of each peer to skip
        :param end: number of the chunk before which each list ends; 0 for the router's default of 100
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        action = f"reading the statistics of the peers of {self._label}"
        return await self._json(
            dict[str, PeerStats],
            "GET",
            "/peers/stats" + page_query(start, end),
            action,
            options,
            "storage space",
            max_size=MAX_LISTING,
        )


def _check_names(metadata: PutMetadataRequest) -> None:
    """Raise for a name that the placement service would change: the chunk could never be read back."""
    for name in ("bucket_id", "ball_id", "key"):
        if not is_safe_id(value := getattr(metadata, name)):
            raise ValidationError(
                f"{name} must be a safe id (letters, digits, and single '-' or '_' between them), got {value!r}; "
                "MictlanX changes other names, so their chunks can't be found"
            )
