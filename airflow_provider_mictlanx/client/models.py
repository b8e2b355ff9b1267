"""
Models of requests, answers and results.

Models of answers ignore unknown fields, which newer services may send, and are strict about the fields they need: an
answer that does not fit is an ``UpstreamProtocolError``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any

import humanfriendly
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel

Size = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
"""A number of bytes."""

Count = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
"""A number of things."""

Checksum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 in lower-case hex."""


Tags = Annotated[dict[str, str], BeforeValidator(lambda tags: {} if tags is None else tags)]


class WireModel(BaseModel):
    """Base of everything that is read from or written to the wire."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Metadata(WireModel):
    """
    What the service knows of one replica of one chunk.

    :ivar key: the chunk's key, ``{ball_id}_{index}``
    :ivar size: announced size in bytes
    :ivar checksum: announced SHA-256 of the chunk, in hex
    :ivar tags: ``index``, ``num_chunks``, ``full_checksum`` …; ``updated_at`` (nanoseconds) is added by the peer
    """

    key: str
    size: Size
    checksum: str
    tags: Tags = Field(default_factory=dict)
    content_type: str = "application/octet-stream"
    producer_id: str = ""
    ball_id: str
    bucket_id: str
    is_disabled: bool = False

    @cached_property
    def index(self) -> int:
        """The chunk's place in the ball: of the tag ``index``, else of the key; -1 where neither tells."""
        text = self.tags.get("index") or self.key.removeprefix(f"{self.ball_id}_")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1

    @cached_property
    def num_chunks(self) -> int | None:
        """How many chunks the ball has, as far as this chunk's tags tell."""
        text = self.tags.get("num_chunks", "")
        return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 10 else None

    @cached_property
    def full_checksum(self) -> str | None:
        """The SHA-256 of the whole ball: of the tags, or this chunk's own where it is the only one."""
        return self.tags.get("full_checksum") or (self.checksum if self.num_chunks == 1 else None)

    @cached_property
    def updated_at(self) -> int:
        """When the peer took the announcement (nanoseconds since 1970); 0 where it does not tell."""
        text = self.tags.get("updated_at", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 25 else 0


class PutMetadataRequest(WireModel):
    """The announcement of a chunk: ``POST /buckets/{bucket_id}/metadata``."""

    bucket_id: str
    key: str
    ball_id: str
    checksum: str
    size: Size
    tags: dict[str, str] = Field(default_factory=dict)
    producer_id: str
    content_type: str = "application/octet-stream"
    is_disabled: bool = False
    replication_factor: int = Field(default=1, ge=1)


class PutMetadataResponse(WireModel):
    """
    The answer to an announcement.

    :ivar tasks_ids: the task that the data is sent to, once
    :ivar replicas: the peers that are to store it
    """

    key: str
    bucket_id: str
    tasks_ids: list[str] = Field(min_length=1)
    replicas: list[str]
    service_time: float | None = None
    extra: dict[str, Any] | None = None


class PutChunkedResponse(WireModel):
    """
    The answer to the data.

    :ivar peer_ids: the peers that stored it: the only acknowledgement there is
    :ivar size: the announced size in bytes, not what arrived
    """

    peer_ids: list[str]
    combined_key: str = ""
    bucket_id: str = ""
    key: str = ""
    size: Size = 0


class GetMetadataResponse(WireModel):
    """The metadata of one chunk, and which peer told it."""

    service_time: float | None = None
    peer_id: str = ""
    local_peer_id: str = ""
    metadata: Metadata


class BallChunksResponse(WireModel):
    """Every announced chunk of a ball; replicas repeat, the order is not by index, and versions stand side by side."""

    bucket_id: str
    ball_id: str
    chunks: list[Metadata]
    size: str = ""
    size_bytes: Size = 0
    checksum: str = ""


class GetRouterBucketMetadataResponse(WireModel):
    """
    Every announced chunk of a bucket (but those of size 0), repeated.

    :ivar peers_ids: the peers that answered: what the others hold is missing
    :ivar answered_at: when, by the router's own clock (seconds since 1970); None where it does not tell
    """

    bucket_id: str
    peers_ids: list[str]
    balls: list[Metadata]
    extra: dict[str, Any] = Field(default_factory=dict)
    answered_at: float | None = None

    @property
    def peer_ids(self) -> list[str]:
        """The peers that answered, under the official client's name."""
        return self.peers_ids


class PeerInfo(WireModel):
    """One peer behind a router."""

    peer_id: str
    ip_addr: str = ""
    port: int = Field(default=0, ge=-1, le=65535)
    protocol: str = "http"
    api_version: Count = 4


class PeersResponse(WireModel):
    """The peers of the storage space: those that answer and those that don't."""

    available: list[PeerInfo]
    unavailable: list[PeerInfo] = Field(default_factory=list)

    @property
    def peer_ids(self) -> list[str]:
        """Every peer's id, the unavailable ones last."""
        return [peer.peer_id for peer in (*self.available, *self.unavailable)]


class UpdateMetadataRequest(WireModel):
    """
    What is to be changed of a chunk's metadata; what is None stays as it is.

    :ivar tags: all of the chunk's tags from now on: readers need those of the writing client (``index``,
        ``num_chunks``, ``full_checksum`` …), so give them too
    """

    tags: dict[str, str] | None = None
    content_type: str | None = None
    producer_id: str | None = None
    is_disabled: bool | None = None


class StoredBall(WireModel):
    """
    One chunk that a peer holds, as its statistics list it.

    :ivar size: bytes
    """

    key: str
    size: Size
    checksum: str = ""


class PeerUFs(WireModel):
    """
    The use of a peer's disk.

    :ivar total_disk: bytes
    :ivar used_disk: bytes
    :ivar disk_uf: the share in use, from 0 to 1
    """

    total_disk: Size
    used_disk: Size
    disk_uf: float


class PeerStats(PeerUFs):
    """
    The use of a peer's disk, and what it holds.

    :ivar available_disk: bytes
    :ivar balls: the chunks that it holds
    :ivar peers: ids of the peers that it knows
    """

    peer_id: str
    available_disk: int = Field(ge=-(2**63), lt=2**63)
    balls: list[StoredBall] = Field(default_factory=list, repr=False)
    peers: list[str] = Field(default_factory=list)


def _listed(stats: Any) -> Any:
    return list(stats.values()) if isinstance(stats, dict) else stats


class AllPeersStats(RootModel[Annotated[list[PeerStats], BeforeValidator(_listed)]]):
    """The statistics of every peer that answers: listed, or under the peers' ids."""


class PeerPutMetadataResponse(WireModel):
    """
    A peer's answer to an announcement.

    :ivar task_id: what the data is sent to, once
    :ivar node_id: the peer
    """

    key: str
    task_id: str
    node_id: str = ""
    service_time: float | None = None


class PeerPutChunkedResponse(WireModel):
    """
    A peer's answer to the data.

    :ivar node_id: the peer that stored it
    :ivar size: the announced size in bytes
    :ivar throughput: bytes per second, as the peer measured it
    """

    node_id: str
    combined_key: str = ""
    bucket_id: str = ""
    key: str = ""
    size: Size = 0
    throughput: float | None = None
    service_time: float | None = None


class PeerBallResponse(WireModel):
    """
    What one peer knows of the chunks of a ball.

    :ivar size: of these chunks together, in bytes or as a text for people
    """

    bucket_id: str
    ball_id: str
    balls: list[Metadata]
    size: Size | str = 0

    @property
    def chunks(self) -> list[Metadata]:
        """The chunks, under the name that the routers' answer has."""
        return self.balls


class PeerBucketResponse(WireModel):
    """What one peer knows of the chunks of a bucket."""

    peer_id: str
    balls: list[Metadata]


class GetSizeResponse(WireModel):
    """
    The size of a chunk at a peer.

    :ivar size: bytes
    """

    bucket_id: str
    key: str
    peer_id: str = ""
    size: Size


class DeletedByKeyResponse(WireModel):
    """How many replicas of a chunk were deleted."""

    n_deletes: Count
    key: str = ""


class DeletedByBallIdResponse(WireModel):
    """How many replicas of a ball's chunks were deleted."""

    n_deletes: Count
    ball_id: str = ""


class DeleteBucketResponse(WireModel):
    """
    The result of deleting a bucket.

    :ivar deleted: balls that are gone
    :ivar failed: balls that could not be deleted
    :ivar total: balls that were seen
    :ivar keys: the ids of the deleted balls
    :ivar failures: why, by the id of each ball that is still there
    :ivar response_time: seconds
    """

    bucket_id: str
    deleted: int
    failed: int
    total: int
    keys: list[str] = Field(default_factory=list)
    failures: dict[str, str] = Field(default_factory=dict)
    response_time: float = 0.0


NO_TAGS: Mapping[str, str] = MappingProxyType({})


class Chunk:
    """
    A piece of a ball.

    :param group_id: the ball id
    :param index: the chunk's place in the ball, from 0
    :param data: the bytes
    :param chunk_id: the chunk's key; ``{group_id}_{index}`` unless given
    :param metadata: tags of this chunk
    """

    def __init__(
        self, group_id: str, index: int, data: bytes, chunk_id: str | None = None, metadata: Mapping[str, str] = NO_TAGS
    ) -> None:
        self.group_id = group_id
        self.index = index
        self.data = data
        self.chunk_id = f"{group_id}_{index}" if chunk_id is None else chunk_id
        self.metadata = dict(metadata or {})

    @property
    def size(self) -> int:
        """Bytes in this chunk."""
        return len(self.data)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the chunk, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    def __repr__(self) -> str:
        return f"Chunk(group_id={self.group_id!r}, index={self.index}, size={self.size})"


@dataclass(frozen=True)
class RetryPolicy:
    """
    How often a request is tried again, under the official client's names.

    :ivar retries: tries after the first one
    :ivar initial_delay: the wait before the second try is at most this (seconds)
    :ivar backoff_factor: by which that bound grows with every further try
    :ivar max_delay: the longest wait (seconds)
    :ivar jitter: whether a wait is drawn evenly from zero to its bound, or is its bound
    """

    retries: int = 3
    initial_delay: float = 1.0
    backoff_factor: float = 2.0
    max_delay: float = 30.0
    jitter: bool = True


@dataclass(frozen=True)
class Ball:
    """
    A logical object as the storage lists it: its newest whole version.

    :ivar bucket_id: the bucket
    :ivar ball_id: the id it is stored under
    :ivar chunks: one replica's metadata of every chunk, ordered by index
    :ivar checksum: SHA-256 of the whole in hex; empty where its writer did not say
    :ivar size: bytes
    :ivar key: the ball as its writer named it; the ball id unless the tags tell more
    :ivar updated_at: when the newest of its chunks was announced (nanoseconds since 1970)
    """

    bucket_id: str
    ball_id: str
    chunks: list[Metadata] = field(repr=False)
    checksum: str
    size: int
    key: str
    updated_at: int = 0

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the first chunk."""
        return self.chunks[0].tags

    @property
    def num_chunks(self) -> int:
        """How many chunks it is cut into."""
        return len(self.chunks)

    @property
    def extension(self) -> str:
        """The file's extension without the dot, as its writer sent it."""
        return self.tags.get("extension", "")

    @property
    def filename(self) -> str:
        """The file's name without extension, as its writer sent it."""
        return self.tags.get("filename", "")

    @property
    def fullname(self) -> str:
        """The file's name, as its writer sent it: not to be used as a path unchecked."""
        return self.tags.get("fullname", "")

    @property
    def full_path(self) -> str:
        """The file's path, as its writer sent it: not to be used as a path unchecked."""
        return self.tags.get("full_path", "")

    @property
    def bucket_relative_path(self) -> str:
        """The file's folder with a trailing ``/``, as its writer sent it: not to be used as a path unchecked."""
        return self.tags.get("bucket_relative_path", "")


@dataclass(frozen=True)
class Bucket:
    """The balls of a bucket: iterable, with a length and a size."""

    bucket_id: str
    balls: list[Ball] = field(default_factory=list, repr=False)

    def __iter__(self) -> Iterator[Ball]:
        return iter(self.balls)

    def __len__(self) -> int:
        return len(self.balls)

    def size_bytes(self) -> int:
        """Bytes of all balls together."""
        return sum(ball.size for ball in self.balls)

    def size(self) -> str:
        """The same for people, as ``1.5 MB``."""
        return str(humanfriendly.format_size(self.size_bytes()))


@dataclass(frozen=True)
class AsyncGetResponse:
    """
    A ball that was read and verified.

    :ivar data: the bytes
    :ivar metadatas: the metadata of every chunk, ordered by index
    """

    data: memoryview
    metadatas: list[Metadata]


@dataclass(frozen=True)
class PutReport:
    """
    The result of a put.

    :ivar size: bytes
    :ivar checksum: SHA-256 of the whole, in hex
    :ivar num_chunks: how many chunks the stored ball has
    :ivar replicas: on how many peers each chunk is known to be stored: the smallest number over all chunks
    :ivar uploaded: False where exactly these bytes were stored already, and nothing was sent
    :ivar response_time: seconds
    """

    bucket_id: str
    key: str
    ball_id: str
    size: int
    checksum: str
    num_chunks: int
    replicas: int
    uploaded: bool
    response_time: float


@dataclass(frozen=True)
class FileReport:
    """
    The result of a download to a file.

    :ivar path: of the file
    :ivar size: bytes
    :ivar checksum: SHA-256 of the whole, in hex
    :ivar downloaded: False where a file with the same content was there already
    :ivar response_time: seconds
    """

    bucket_id: str
    key: str
    ball_id: str
    path: str
    size: int
    checksum: str
    num_chunks: int
    downloaded: bool
    response_time: float


@dataclass(frozen=True)
class RouterCheck:
    """
    One router's answer to a request for its peers.

    :ivar url: the router's address
    :ivar available: ids of the peers that answer
    :ivar unavailable: ids of the peers that don't
    :ivar milliseconds: until the answer was there
    :ivar error: why there is none; None where there is one
    """

    router_id: str
    url: str
    available: list[str]
    unavailable: list[str]
    milliseconds: float
    error: Exception | None = None
