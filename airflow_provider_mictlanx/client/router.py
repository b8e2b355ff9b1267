"""
``AsyncRouter``: one method per request of the router protocol, and nothing else. No retries, no verification.

What an answer means is decided here, once: which 404 is a no and which only a "not now" (protocol page, the **trap**
lines). Every method returns a ``Result``.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel
from pydantic import ValidationError as InvalidModel

from airflow_provider_mictlanx.client.errors import (
    AuthenticationError,
    GetChunkError,
    IntegrityError,
    MaxAvailabilityReachedError,
    MictlanXError,
    NotFoundError,
    PermissionError,
    UnavailableError,
    UnknownError,
    UpstreamProtocolError,
    ValidationError,
)
from airflow_provider_mictlanx.client.models import (
    BallChunksResponse,
    DeletedByBallIdResponse,
    DeletedByKeyResponse,
    GetMetadataResponse,
    GetRouterBucketMetadataResponse,
    PeersResponse,
    PutChunkedResponse,
    PutMetadataRequest,
    PutMetadataResponse,
)
from airflow_provider_mictlanx.client.result import returns_result
from airflow_provider_mictlanx.client.transport import LONGEST_LISTING, SMALL_ANSWER, Answer, Transport, Verify
from airflow_provider_mictlanx.client.uri import RouterAddress

M = TypeVar("M", bound=BaseModel)

NO_HEADERS: Mapping[str, str] = {}
PLACED_NOWHERE = "404: No available peers"
"""What the placement service says of a chunk that it knows no replica of: with status 500, and the only real no."""

Body = bytes | Iterable[bytes] | AsyncIterable[bytes]


class AsyncRouter:
    """
    One router of a storage space.

    :param router_id: what it is called in logs and errors
    :param ip_addr: host name or address, with the path of a proxy behind it if there is one (``example.org/mictlanx``)
    :param port: 1–65535; 0 or -1 for the protocol's own port. With ``https`` it is not used, as in the official client
    :param protocol: ``http`` or ``https``
    :param http2: whether to offer HTTP/2; needs the package ``h2``
    :param api_version: of the paths, ``/api/v{api_version}``
    :param transport: the connections to use; an own one is made where none is given, to be closed with ``aclose``
    """

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
        host, _, path = ip_addr.partition("/")
        self.router_id = router_id
        self.ip_addr = ip_addr
        self.host = host
        self.path = path.strip("/")
        self.port = port
        self.protocol = protocol
        self.http2 = http2
        self.api_version = api_version
        self._transport = transport or Transport(http2=http2)
        self._root = f"{self.base_url()}/api/v{api_version}"

    @classmethod
    def at(
        cls, address: RouterAddress, protocol: str, http2: bool, api_version: int, transport: Transport
    ) -> AsyncRouter:
        """Make the router of an address of a ``MictlanXURI``."""
        where = f"{address.host}/{address.path}" if address.path else address.host
        return cls(address.router_id, where, address.port or 0, protocol, http2, api_version, transport=transport)

    def __repr__(self) -> str:
        return f"AsyncRouter({self.router_id!r}, {self.base_url()!r})"

    async def __aenter__(self) -> AsyncRouter:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    def base_url(self) -> str:
        """Give the address before ``/api``; with ``https`` the port is left out, as URIs in use rely on it."""
        port = f":{self.port}" if self.protocol == "http" and self.port > 0 else ""
        path = f"/{self.path}" if self.path else ""
        return f"{self.protocol}://{self.host}{port}{path}"

    def get_addr(self) -> str:
        """Give ``host:port``."""
        return f"{self.ip_addr}:{self.port}"

    # -- writing ---------------------------------------------------------------------------------------------------

    @returns_result
    async def put_metadata(
        self,
        metadata: PutMetadataRequest,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
    ) -> PutMetadataResponse:
        """
        Announce a chunk; gives the task that its data is sent to, and the peers that are to store it.

        ``MaxAvailabilityReachedError`` (code 666) when every peer knows the chunk already: its ``replicas`` names them.
        """
        what = self._what("announcing chunk", metadata.bucket_id, metadata.key)
        return await self._json(
            PutMetadataResponse,
            "POST",
            f"/buckets/{_id(metadata.bucket_id)}/metadata",
            what,
            timeout,
            headers,
            verify,
            explain=_announcement_refused,
            content=metadata.model_dump_json(),
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
        what: str = "",
    ) -> PutChunkedResponse:
        """
        Send the data of an announced chunk; gives the peers that stored it, which may be none.

        :param task_id: of the announcement; it is spent by this request, whatever comes of it
        :param chunks: the bytes, or an iterator of pieces of them
        :param what: what is being sent, for errors
        """
        return await self._json(
            PutChunkedResponse,
            "POST",
            f"/buckets/data/{_id(task_id)}/chunked",
            f"{what or f'sending the data of task {task_id}'} to {self._name()}",
            timeout,
            headers,
            verify,
            content=chunks,
            content_type="application/octet-stream",
        )

    # -- reading ---------------------------------------------------------------------------------------------------

    @returns_result
    async def get_metadata(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 300,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
    ) -> GetMetadataResponse:
        """
        Get the metadata of one chunk.

        ``NotFoundError``: the placement service knows no replica. ``UnavailableError``: a replica is placed, but the peer
        that was asked just now did not tell.

        :param key: the chunk's key, ``{ball_id}_{index}``
        """
        return await self._json(
            GetMetadataResponse,
            "GET",
            f"/buckets/{_id(bucket_id)}/metadata/{_id(key)}",
            self._what("metadata of chunk", bucket_id, key),
            timeout,
            headers,
            verify,
            explain=_metadata_refused,
        )

    @returns_result
    async def get_chunks_metadata(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
    ) -> BallChunksResponse:
        """
        List the announced chunks of a ball, replicas and divergent versions side by side.

        ``NotFoundError``: no peer that answered knows one; it may be an outage.

        :param key: the ball id
        """
        return await self._json(
            BallChunksResponse,
            "GET",
            f"/buckets/{_id(bucket_id)}/metadata/{_id(key)}/chunks",
            self._what("chunks of ball", bucket_id, key),
            timeout,
            headers,
            verify,
            longest=LONGEST_LISTING,
        )

    @returns_result
    async def get_bucket_metadata(
        self,
        bucket_id: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
    ) -> GetRouterBucketMetadataResponse:
        """List the announced chunks of a bucket (but those of size 0), repeated; ``peers_ids`` names who answered."""
        return await self._json(
            GetRouterBucketMetadataResponse,
            "GET",
            f"/buckets/{_id(bucket_id)}/metadata",
            f"listing bucket {bucket_id} at {self._name()}",
            timeout,
            headers,
            verify,
            longest=LONGEST_LISTING,
        )

    @returns_result
    async def read_data(
        self,
        bucket_id: str,
        key: str,
        into: Callable[[bytes], Awaitable[None]],
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
        *,
        longest: int,
        force: bool = False,
        peer_id: str = "",
    ) -> int:
        """
        Read the data of a chunk piece by piece; gives the number of bytes.

        ``GetChunkError``: the peer that was asked just now does not have it. ``IntegrityError``: there is more of it than
        ``longest``. Whether it is right is for the caller to find out.

        :param into: awaited with every piece as it comes
        :param longest: the most that is taken (bytes)
        :param force: bypass the router's cache
        :param peer_id: ask this peer and no other
        """
        what = self._what("data of chunk", bucket_id, key) + (f", peer {peer_id}" if peer_id else "")
        sent = {**headers, **({"Force-Get": "1"} if force else {}), **({"Peer-Id": peer_id} if peer_id else {})}
        url = f"{self._root}/buckets/{_id(bucket_id)}/{_id(key)}"
        read = 0
        async with self._transport.stream(
            "GET", url, what=what, timeout=timeout, verify=verify, headers=sent, longest=longest + SMALL_ANSWER
        ) as (answer, pieces):
            if answer.status != 200:
                body = b"".join([piece async for piece in pieces])
                raise _refusal(Answer(answer.status, answer.headers, body), what, _data_refused)
            async for piece in pieces:
                read += len(piece)
                if read > longest:
                    raise IntegrityError(f"{what}: more came than the announced {longest} bytes")
                await into(piece)
        return read

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
        Delete every replica of a chunk, and its placement.

        ``NotFoundError``: the placement service knows no replica.

        :param key: the chunk's key
        """
        return await self._json(
            DeletedByKeyResponse,
            "DELETE",
            f"/buckets/{_id(bucket_id)}/{_id(key)}",
            self._what("deleting chunk", bucket_id, key),
            timeout,
            {**headers, "Force": "1" if force else "0"},
            verify,
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
        """Delete every replica of every chunk of a ball that the peers know; 0 when there is none."""
        return await self._json(
            DeletedByBallIdResponse,
            "DELETE",
            f"/buckets/{_id(bucket_id)}/bid/{_id(ball_id)}",
            self._what("deleting ball", bucket_id, ball_id),
            timeout,
            {**headers, "Force": "1" if force else "0"},
            verify,
        )

    # -- the storage space -----------------------------------------------------------------------------------------

    @returns_result
    async def get_peers(
        self, timeout: float = 120, headers: Mapping[str, str] = NO_HEADERS, verify: Verify = False
    ) -> PeersResponse:
        """Get the peers behind the router: those that answer and those that don't."""
        return await self._json(
            PeersResponse,
            "GET",
            "/peers",
            f"peers of {self._name()}",
            timeout,
            headers,
            verify,
            longest=LONGEST_LISTING,
        )

    # -- how it is done --------------------------------------------------------------------------------------------

    def _name(self) -> str:
        return f"router {self.router_id} ({self.base_url()})"

    def _what(self, doing: str, bucket_id: str, key: str) -> str:
        return f"{doing} {bucket_id}/{key} at {self._name()}"

    async def _json(
        self,
        model: type[M],
        method: str,
        path: str,
        what: str,
        timeout: float,
        headers: Mapping[str, str],
        verify: Verify,
        *,
        explain: Callable[[int, Any, str], MictlanXError | None] | None = None,
        content_type: str = "",
        **request: Any,
    ) -> M:
        """Send a request, and give the answer as the model that it has to fit."""
        if content_type:
            headers = {**headers, "Content-Type": content_type}
        answer = await self._transport.send(
            method, self._root + path, what=what, timeout=timeout, verify=verify, headers=headers, **request
        )
        if not 200 <= answer.status < 300:
            raise _refusal(answer, what, explain)
        try:
            return model.model_validate_json(answer.body)
        except InvalidModel as error:
            raise UpstreamProtocolError(
                f"{what}: the answer is none of the protocol's: {_first_fault(error)}"
            ) from error


def _id(text: str) -> str:
    return quote(text, safe="")


def _first_fault(error: InvalidModel) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])


def _detail(answer: Answer) -> Any:
    """Give what an error answer says: the JSON's ``detail``, else the beginning of the text."""
    try:
        found = json.loads(answer.body)
    except ValueError:
        text = answer.body[:300].decode("utf-8", "replace")
        return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text)).strip()[:160]
    return found.get("detail", found) if isinstance(found, dict) else found


def _refusal(
    answer: Answer, what: str, explain: Callable[[int, Any, str], MictlanXError | None] | None = None
) -> MictlanXError:
    """Give the error that a status other than 2xx stands for; ``explain`` knows what it means for this very request."""
    status, detail = answer.status, _detail(answer)
    if explain and (error := explain(status, detail, what)):
        return error
    said = f"{what}: status {status}, {_short(detail)}"
    match status:
        case 301 | 302 | 303 | 307 | 308:
            return UpstreamProtocolError(
                f"{what}: status {status}, a redirect, which is not followed; name the final address in the URI",
                status,
                transient=False,
                permanent=True,
            )
        case 400 | 422:
            return ValidationError(said, status)
        case 401:
            return AuthenticationError(f"{said}; check the token (the connection's password)", status)
        case 403:
            return PermissionError(said, status)
        case 404:
            return NotFoundError(said, status)
        case 413:
            return ValidationError(
                f"{said}; a proxy limits what one request may hold: choose a smaller chunk_size", status
            )
        case 408 | 409 | 425 | 429 | 499:
            return UnknownError(said, status)
        case _ if status >= 500:
            return UnknownError(said, status)
    return UpstreamProtocolError(said, status)


def _short(detail: Any) -> str:
    text = detail if isinstance(detail, str) else json.dumps(detail)
    return text if len(text) <= 300 else f"{text[:300]}…"


def _announcement_refused(status: int, detail: Any, what: str) -> MictlanXError | None:
    if status != 404:
        return None
    if isinstance(detail, dict) and detail.get("code") == 666:
        holders = detail.get("replicas")
        error = MaxAvailabilityReachedError(f"{what}: every peer knows it already (code 666)")
        error.replicas = [str(peer) for peer in holders] if isinstance(holders, list) else []
        return error
    return UnavailableError(f"{what}: status 404, {_short(detail)}; no peer takes it just now", status)


def _metadata_refused(status: int, detail: Any, what: str) -> MictlanXError | None:
    if status == 500 and detail == PLACED_NOWHERE:
        return NotFoundError(f"{what}: it is placed nowhere")
    if status == 404 or (status == 500 and isinstance(detail, str) and detail.startswith("404:")):
        return UnavailableError(
            f"{what}: status {status}, {_short(detail)}; it is placed, but its peer did not tell", status
        )
    return None


def _data_refused(status: int, detail: Any, what: str) -> MictlanXError | None:
    if status == 404:
        return GetChunkError(f"{what}: status 404, {_short(detail)}", 404)
    return None
