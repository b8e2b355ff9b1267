"""
Models of requests, answers and results.

Answers are msgspec structs: a listing has hundreds of thousands of rows. They may have unknown fields, which newer
services send. A missing or invalid field raises ``UpstreamProtocolError``. Requests are pydantic models, which check
what a user passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, TypeAlias

import humanfriendly
from msgspec import Meta, Struct
from msgspec.structs import force_setattr
from pydantic import BaseModel, ConfigDict, Field

Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A number of bytes."""

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""A number of chunks, balls or the like."""

if TYPE_CHECKING:
    Tags: TypeAlias = dict[str, str]
else:
    Tags = dict[str, str] | None  # services may answer null, which is read as an empty dict


_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
"""The index in a chunk's key; ``video_007`` does not belong to the ball ``video``, but is an object of its own."""


class RequestModel(BaseModel):
    """Base class of request bodies."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Answer(Struct, frozen=True, kw_only=True):
    """Base class of answers."""


class Metadata(Answer, frozen=True, kw_only=True, gc=False):  # without cycles, so nothing for the garbage collector
    """
    The metadata of one replica of a chunk.

    :ivar key: the chunk's key: ``{ball_id}_{index}``, or any name if it is an object of its own (``own_key``)
    :ivar size: announced size (bytes)
    :ivar checksum: announced SHA-256 of the chunk, in hex
    :ivar tags: ``index``, ``num_chunks``, ``full_checksum`` …; ``updated_at`` (nanoseconds) is added by the peer
    """

    key: str
    size: Size
    checksum: str
    tags: Tags = {}
    content_type: str = "application/octet-stream"
    producer_id: str = ""
    ball_id: str
    bucket_id: str
    is_disabled: bool = False

    def __post_init__(self) -> None:
        if self.tags is None:
            force_setattr(self, "tags", {})

    @property
    def index(self) -> int:
        """The chunk's index in the ball, from the tag ``index`` or the key; -1 if neither contains it."""
        if self.own_key:
            return 0
        text = self.tags.get("index") or self.key.removeprefix(f"{self.ball_id}_")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1

    @property
    def own_key(self) -> str:
        """
        The key of a chunk that is a complete object of its own; empty for a chunk of a ball.

        Other clients store objects under any key, without tags. Only ``{ball_id}_{index}``, with the index written as
        Python writes an int, and chunks with the tag ``index`` belong to a ball.
        """
        if self.tags.get("index"):
            return ""
        ball_id, _, index = self.key.rpartition("_")
        return "" if ball_id == self.ball_id and _INDEX.fullmatch(index) else self.key

    @property
    def num_chunks(self) -> int | None:
        """The ball's number of chunks, from this chunk's tags; None if they do not contain it."""
        if self.own_key:
            return 1
        text = self.tags.get("num_chunks", "")
        return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 10 else None

    @property
    def full_checksum(self) -> str | None:
        """The SHA-256 of the ball, from the tags, or from this chunk if it is the only one."""
        if self.own_key:
            return self.checksum
        return self.tags.get("full_checksum") or (self.checksum if self.num_chunks == 1 else None)

    @property
    def updated_at(self) -> int:
        """Time when the peer accepted the announcement (nanoseconds since 1970); 0 if unknown."""
        text = self.tags.get("updated_at", "")
        # 19 digits last until the year 2286; dates can't represent times far beyond.
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


class BallListing(Answer, frozen=True, kw_only=True):
    """Base class of answers with many chunks."""

    rows_field: ClassVar[str] = "balls"
    """The field with the chunks."""


class PutMetadataRequest(RequestModel):
    """The announcement of a chunk: ``POST /buckets/{bucket_id}/metadata``."""

    bucket_id: str
    key: str
    ball_id: str
    checksum: str
    size: int = Field(ge=0, lt=2**63, strict=True)
    tags: dict[str, str] = Field(default_factory=dict)
    producer_id: str
    content_type: str = "application/octet-stream"
    is_disabled: bool = False
    replication_factor: int = Field(default=1, ge=1)


class PutMetadataResponse(Answer, frozen=True, kw_only=True):
    """
    The answer to an announcement.

    :ivar tasks_ids: the task to send the data to; it accepts data once
    :ivar replicas: the peers chosen to store the chunk
    """

    key: str
    bucket_id: str
    tasks_ids: Annotated[list[str], Meta(min_length=1)]
    replicas: list[str]
    service_time: float | None = None
    extra: dict[str, Any] | None = None


class PutChunkedResponse(Answer, frozen=True, kw_only=True):
    """
    The answer to the data.

    :ivar peer_ids: the peers that stored the chunk; only this acknowledges it
    :ivar size: the announced size (bytes), which may differ from what arrived
    """

    peer_ids: list[str]
    combined_key: str = ""
    bucket_id: str = ""
    key: str = ""
    size: Size = 0


class GetMetadataResponse(Answer, frozen=True, kw_only=True):
    """The metadata of one chunk, and the peer that returned it."""

    service_time: float | None = None
    peer_id: str = ""
    local_peer_id: str = ""
    metadata: Metadata


class BallChunksResponse(BallListing, frozen=True, kw_only=True):
    """Every announced chunk of a ball, unordered: replicas of a chunk repeat, and versions are mixed."""

    rows_field: ClassVar[str] = "chunks"

    bucket_id: str
    ball_id: str
    chunks: list[Metadata]
    size: str = ""
    size_bytes: Size = 0
    checksum: str = ""


class GetRouterBucketMetadataResponse(BallListing, frozen=True, kw_only=True):
    """
    Every announced chunk of a bucket, once per replica; chunks of size 0 are missing.

    :ivar peers_ids: the peers that answered; the chunks of the other peers are missing
    :ivar answered_at: time of the answer by the router's clock (seconds since 1970); None if unknown
    """

    bucket_id: str
    peers_ids: list[str]
    balls: list[Metadata]
    extra: dict[str, Any] = {}
    answered_at: float | None = None

    @property
    def peer_ids(self) -> list[str]:
        """The peers that answered, under the official client's name."""
        return self.peers_ids


class PeerInfo(Answer, frozen=True, kw_only=True):
    """One peer behind a router."""

    peer_id: str
    ip_addr: str = ""
    port: Annotated[int, Meta(ge=-1, le=65535)] = 0
    protocol: str = "http"
    api_version: Count = 4


class PeersResponse(Answer, frozen=True, kw_only=True):
    """The available and the unavailable peers of the storage space."""

    available: list[PeerInfo]
    unavailable: list[PeerInfo] = []

    @property
    def peer_ids(self) -> list[str]:
        """Every peer's id, the unavailable ones last."""
        return [peer.peer_id for peer in (*self.available, *self.unavailable)]


class UpdateMetadataRequest(RequestModel):
    """
    Changes of a chunk's metadata; a field that is None is not changed.

    :ivar tags: replaces all of the chunk's tags; include the writing client's (``index``, ``num_chunks``,
        ``full_checksum`` …), which readers need
    """

    tags: dict[str, str] | None = None
    content_type: str | None = None
    producer_id: str | None = None
    is_disabled: bool | None = None


class StoredBall(Answer, frozen=True, kw_only=True):
    """
    One chunk in the statistics of a peer.

    :ivar size: bytes
    """

    key: str
    size: Size
    checksum: str = ""


class PeerUFs(Answer, frozen=True, kw_only=True):
    """
    Disk usage of a peer.

    :ivar total_disk: bytes
    :ivar used_disk: bytes
    :ivar disk_uf: fraction in use, from 0 to 1
    """

    total_disk: Size
    used_disk: Size
    disk_uf: float


class PeerStats(PeerUFs, frozen=True, kw_only=True):
    """
    Disk usage of a peer, and the chunks stored on it.

    :ivar peer_id: empty if the peer did not send it
    :ivar available_disk: bytes; None if the peer did not send it
    :ivar balls: the stored chunks
    :ivar peers: ids of the peers that it knows
    """

    peer_id: str = ""
    available_disk: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    balls: list[StoredBall] = []
    peers: list[str] = []


class BallSize(NamedTuple):
    """
    One chunk stored on a peer.

    :ivar size: bytes
    """

    bucket_id: str
    key: str
    size: Size


class BallCount(Answer, frozen=True, kw_only=True):
    """The number of chunks stored on a peer."""

    len: Count


class PeerPutMetadataResponse(Answer, frozen=True, kw_only=True):
    """
    A peer's answer to an announcement.

    :ivar task_id: the task to send the data to; it accepts data once
    :ivar node_id: the peer's id
    """

    key: str
    task_id: str
    node_id: str = ""
    service_time: float | None = None


class PeerPutChunkedResponse(Answer, frozen=True, kw_only=True):
    """
    A peer's answer to the data.

    :ivar node_id: id of the peer that stored the chunk
    :ivar size: the announced size (bytes)
    :ivar throughput: bytes per second, as the peer measured it
    """

    node_id: str
    combined_key: str = ""
    bucket_id: str = ""
    key: str = ""
    size: Size = 0
    throughput: float | None = None
    service_time: float | None = None


class PeerBallResponse(BallListing, frozen=True, kw_only=True):
    """
    The chunks of a ball that one peer knows.

    :ivar size: total size of these chunks: bytes as an int, or a str such as ``1.5 MB``
    """

    bucket_id: str
    ball_id: str
    balls: list[Metadata]
    size: Size | str = 0

    @property
    def chunks(self) -> list[Metadata]:
        """The chunks, under the name used in routers' answers."""
        return self.balls


class PeerBucketResponse(BallListing, frozen=True, kw_only=True):
    """The chunks of a bucket that one peer knows."""

    peer_id: str
    balls: list[Metadata]


class GetSizeResponse(Answer, frozen=True, kw_only=True):
    """
    The size of a chunk at a peer.

    :ivar size: bytes
    """

    bucket_id: str
    key: str
    peer_id: str = ""
    size: Size


class DeletedByKeyResponse(Answer, frozen=True, kw_only=True):
    """The number of deleted replicas of a chunk."""

    n_deletes: Count
    key: str = ""


class DeletedByBallIdResponse(Answer, frozen=True, kw_only=True):
    """The number of deleted replicas of a ball's chunks."""

    n_deletes: Count
    ball_id: str = ""


class DeleteBucketResponse(RequestModel):
    """
    The result of deleting a bucket.

    :ivar deleted: number of deleted balls
    :ivar failed: number of balls that could not be deleted
    :ivar total: number of listed balls
    :ivar keys: the ids of the deleted balls, and the keys of objects with keys of their own
    :ivar failures: the cause of each failure, by ball id or key
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


@dataclass(frozen=True)
class RetryPolicy:
    """
    Retry settings of a request, under the official client's names.

    :ivar retries: number of tries after the first one
    :ivar initial_delay: maximum wait before the second try (seconds)
    :ivar backoff_factor: multiplies the maximum wait after every further try
    :ivar max_delay: maximum wait between two tries (seconds)
    :ivar jitter: whether each wait is random between zero and its maximum, instead of the maximum
    """

    retries: int = 3
    initial_delay: float = 1.0
    backoff_factor: float = 2.0
    max_delay: float = 30.0
    jitter: bool = True


@dataclass(frozen=True, slots=True)
class Ball:
    """
    The newest complete version of a stored object, as listed.

    :ivar bucket_id: the bucket
    :ivar ball_id: the id under which it is stored
    :ivar chunks: one replica's metadata of every chunk, ordered by index
    :ivar checksum: SHA-256 of the ball in hex; empty if its writer did not record it
    :ivar size: bytes
    :ivar key: the key that its writer used: the chunk's own key, or from the tags; the ball id by default
    :ivar updated_at: time of its newest announcement (nanoseconds since 1970)
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
        """The number of chunks."""
        return len(self.chunks)

    @property
    def own_key(self) -> str:
        """The chunk's key if it is not ``{ball_id}_{index}``, as other clients use; empty for a ball."""
        return self.chunks[0].own_key

    @property
    def verified(self) -> bool:
        """Return whether its writer recorded a SHA-256 of the complete object, which every read verifies."""
        return bool(self.checksum)

    @property
    def extension(self) -> str:
        """The file's extension without the dot, as sent by its writer."""
        return self.tags.get("extension", "")

    @property
    def filename(self) -> str:
        """The file's name without extension, as sent by its writer."""
        return self.tags.get("filename", "")

    @property
    def fullname(self) -> str:
        """The file's name, as sent by its writer; check it before using it as a path."""
        return self.tags.get("fullname", "")

    @property
    def full_path(self) -> str:
        """The file's path, as sent by its writer; check it before using it as a path."""
        return self.tags.get("full_path", "")

    @property
    def bucket_relative_path(self) -> str:
        """The file's folder with a trailing ``/``, as sent by its writer; check it before using it as a path."""
        return self.tags.get("bucket_relative_path", "")


@dataclass(frozen=True)
class Bucket:
    """The balls of a bucket; supports iteration and ``len``."""

    bucket_id: str
    balls: list[Ball] = field(default_factory=list, repr=False)

    def __iter__(self) -> Iterator[Ball]:
        return iter(self.balls)

    def __len__(self) -> int:
        return len(self.balls)

    def size_bytes(self) -> int:
        """Return the total size of the balls (bytes)."""
        return sum(ball.size for ball in self.balls)

    def size(self) -> str:
        """Return the total size as a str such as ``1.5 MB``."""
        return str(humanfriendly.format_size(self.size_bytes()))


@dataclass(frozen=True)
class AsyncGetResponse:
    """
    A verified ball.

    :ivar data: the bytes
    :ivar metadatas: the metadata of every chunk, ordered by index
    :ivar verified: False if its writer recorded no SHA-256 of the complete ball, so only its chunks were verified
    """

    data: memoryview
    metadatas: list[Metadata]
    verified: bool = True


@dataclass(frozen=True)
class PutReport:
    """
    The result of a put.

    :ivar size: bytes
    :ivar checksum: SHA-256 of the ball, in hex
    :ivar num_chunks: number of chunks of the stored ball
    :ivar replicas: number of peers known to store each chunk; the minimum over all chunks
    :ivar uploaded: False if the same bytes were already stored, so nothing was sent
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
    :ivar checksum: SHA-256 of the ball, in hex
    :ivar downloaded: False if a file with the same content already existed
    :ivar response_time: seconds
    :ivar verified: False if its writer recorded no SHA-256 of the complete ball, so only its chunks were verified
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
    verified: bool = True


@dataclass(frozen=True)
class RouterCheck:
    """
    The result of asking one router for its peers.

    :ivar url: the router's address
    :ivar available: ids of the available peers
    :ivar unavailable: ids of the unavailable peers
    :ivar milliseconds: time until the answer
    :ivar error: the cause of the failure; None if the router answered
    """

    router_id: str
    url: str
    available: list[str]
    unavailable: list[str]
    milliseconds: float
    error: Exception | None = None
