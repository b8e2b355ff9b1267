"""``AsyncRouter``: one method per request of the router protocol. No retries; only files are verified."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from airflow_provider_mictlanx.client.errors import UpstreamProtocolError, ValidationError
from airflow_provider_mictlanx.client.models import (
    AllPeersStats,
    BallChunksResponse,
    GetRouterBucketMetadataResponse,
    PeerStats,
    PutChunkedResponse,
    PutMetadataRequest,
    PutMetadataResponse,
)
from airflow_provider_mictlanx.client.object_ids import is_safe_id
from airflow_provider_mictlanx.client.protocol.common_requests import CommonRequests
from airflow_provider_mictlanx.client.protocol.endpoint import Headers, RequestOptions, parse_date, quote_id
from airflow_provider_mictlanx.client.protocol.status_handlers import ROUTER_STATUS_HANDLERS
from airflow_provider_mictlanx.client.result import returns_result
from airflow_provider_mictlanx.client.transport.connections import Transport
from airflow_provider_mictlanx.client.transport.headers import NO_HEADERS
from airflow_provider_mictlanx.client.transport.limits import MAX_LISTING
from airflow_provider_mictlanx.client.transport.tls import Verify
from airflow_provider_mictlanx.client.uri import MictlanXURI, RouterAddress


class AsyncRouter(CommonRequests[PutChunkedResponse]):
    """
    One router of a storage space.

    Every method takes ``timeout`` (seconds, for the whole request), ``headers`` (sent besides) and ``verify`` (how TLS
    is checked: True = by the system's authorities, False = not at all, a text = by the authorities of that file, or an
    ``ssl.SSLContext``), and returns a ``Result``. Any of them may end in ``NetworkError`` (no answer), ``UnknownError``
    (the service failed), ``AuthenticationError``, ``PermissionError``, ``ValidationError`` (an argument is wrong, or
    was refused) or ``UpstreamProtocolError`` (the answer is none of the protocol's); what else there is stands with
    each.

    Use it as ``async with AsyncRouter(...) as router``, or call ``aclose`` in the end.

    :param router_id: its name in logs and errors
    :param ip_addr: host name or address, with the path of a proxy behind it if there is one (``example.org/mictlanx``)
    :param port: 1–65535; 0 or -1 for the protocol's own port. With ``https`` it is not used, as in the official client:
        where a router answers ``https`` on another port than 443, that one stands in ``ip_addr``
        (``example.org:8443/mictlanx``)
    :param protocol: ``http`` or ``https``
    :param http2: whether to offer HTTP/2, which is agreed on over ``https`` only; ``ValidationError`` without the
        package ``h2`` (the extra ``[http2]``)
    :param api_version: of the paths, ``/api/v{api_version}``
    :param transport: the connections to use, which the caller closes; own ones are made by default

    Raises ``ValidationError`` where an argument is wrong.
    """

    kind: ClassVar[str] = "router"
    https_has_port: ClassVar[bool] = False  # URIs in use name one that is not to be used
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

    def __repr__(self) -> str:
        return f"AsyncRouter({self.router_id!r}, {self.base_url()!r})"

    # -- writing ---------------------------------------------------------------------------------------------------

    @returns_result
    async def put_metadata(
        self, metadata: PutMetadataRequest, timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> PutMetadataResponse:
        """
        Announce a chunk; return the task that its data is sent to, and the peers that are to store it.

        ``MaxAvailabilityReachedError`` (code 666): every peer knows the chunk already, and ``replicas`` names them.
        ``UnavailableError``: no peer takes it now. ``ValidationError``: a name is not a safe id, and nothing was sent.

        :param metadata: the chunk, and on how many peers it is to be stored
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        _check_names(metadata)
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        return await self._announce(PutMetadataResponse, metadata, metadata.model_dump_json(), options)

    # -- reading ---------------------------------------------------------------------------------------------------

    @returns_result
    async def get_chunks_metadata(
        self, bucket_id: str, key: str, timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> BallChunksResponse:
        """
        List the announced chunks of a ball, replicas and divergent versions side by side.

        ``NotFoundError``: no peer that answered knows one; it may be an outage.

        :param bucket_id: the bucket
        :param key: the ball id
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/metadata/{quote_id(key, 'key')}/chunks"
        action = self._action("chunks of ball", bucket_id, key)
        return await self._json(BallChunksResponse, "GET", path, action, options, max_size=MAX_LISTING)

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
        List the announced chunks of a bucket (but those of size 0), repeated.

        ``peers_ids`` of the result names the peers that answered.

        :param bucket_id: the bucket; an unknown one reads as an empty one
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        :param max_size: maximum bytes to read; a longer listing is an ``UpstreamProtocolError`` that is ``too_long``
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/metadata"
        action = f"listing bucket {bucket_id} at {self._label}"
        limit = MAX_LISTING if max_size is None else min(max_size, MAX_LISTING)
        try:
            response = await self._send("GET", path, action, options, "storage space", max_size=limit)
        except UpstreamProtocolError as error:
            if max_size is not None and error.too_long:
                error.transient = False  # asking again does not shorten it
            raise
        listing = await self._parse(GetRouterBucketMetadataResponse, response, action)
        return listing.model_copy(update={"answered_at": parse_date(response)})

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

        ``GetChunkError``: the peer that was asked does not have it. ``IntegrityError``: there is more of it than
        ``max_size``. The caller verifies the bytes.

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param into: awaited with every piece as it comes
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        :param max_size: maximum bytes to read
        :param force: bypass the router's cache
        :param peer_id: ask this peer and no other
        """
        sent = {**headers, **({"Force-Get": "1"} if force else {}), **({"Peer-Id": peer_id} if peer_id else {})}
        options = RequestOptions(timeout=timeout, headers=sent, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}"
        action = self._action("data of chunk", bucket_id, key) + (f", peer {peer_id}" if peer_id else "")
        return await self._read(path, into, action, options, "data", max_size)

    # -- the storage space -----------------------------------------------------------------------------------------

    @returns_result
    async def get_stats(
        self, timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> list[PeerStats]:
        """
        Return the disk use of every answering peer, and what it holds.

        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        action = f"statistics of the peers of {self._label}"
        response = await self._json(
            AllPeersStats, "GET", "/peers/stats", action, options, "storage space", max_size=MAX_LISTING
        )
        return response.root


def _check_names(metadata: PutMetadataRequest) -> None:
    """Raise for a name that the placement service does not keep: the chunk could never be read back."""
    for name in ("bucket_id", "ball_id", "key"):
        if not is_safe_id(value := getattr(metadata, name)):
            raise ValidationError(
                f"{name} must be a safe id (letters, digits, and single '-' or '_' between them), got {value!r}; "
                "a chunk written under another name could never be read back"
            )
