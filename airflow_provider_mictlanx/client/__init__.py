"""The MictlanX client and its public names; independent of Airflow."""

from __future__ import annotations

from airflow_provider_mictlanx.client.async_client import AsyncClient as AsyncClient
from airflow_provider_mictlanx.client.background_bulks import (
    BallK as BallK,
    BallKDTO as BallKDTO,
    BulkPutResponse as BulkPutResponse,
)
from airflow_provider_mictlanx.client.chunks import Chunk as Chunk, Chunks as Chunks
from airflow_provider_mictlanx.client.errors import (
    AuthenticationError as AuthenticationError,
    BallConflictError as BallConflictError,
    CertificateError as CertificateError,
    ConnectFailedError as ConnectFailedError,
    DeadlineExceededError as DeadlineExceededError,
    DNSResolutionError as DNSResolutionError,
    FileAlreadyExists as FileAlreadyExists,
    GetChunkError as GetChunkError,
    IntegrityError as IntegrityError,
    MaxAvailabilityReachedError as MaxAvailabilityReachedError,
    MictlanXError as MictlanXError,
    NetworkError as NetworkError,
    NotFoundError as NotFoundError,
    PermissionError as PermissionError,
    PutChunksError as PutChunksError,
    RequestTimeoutError as RequestTimeoutError,
    UnavailableError as UnavailableError,
    UnknownError as UnknownError,
    UpstreamProtocolError as UpstreamProtocolError,
    ValidationError as ValidationError,
)
from airflow_provider_mictlanx.client.models import (
    AsyncGetResponse as AsyncGetResponse,
    Ball as Ball,
    BallChunksResponse as BallChunksResponse,
    BallSize as BallSize,
    Bucket as Bucket,
    DeleteBucketResponse as DeleteBucketResponse,
    DeletedByBallIdResponse as DeletedByBallIdResponse,
    DeletedByKeyResponse as DeletedByKeyResponse,
    FileReport as FileReport,
    GetMetadataResponse as GetMetadataResponse,
    GetRouterBucketMetadataResponse as GetRouterBucketMetadataResponse,
    GetSizeResponse as GetSizeResponse,
    Metadata as Metadata,
    PeerBallResponse as PeerBallResponse,
    PeerBucketResponse as PeerBucketResponse,
    PeerInfo as PeerInfo,
    PeerPutChunkedResponse as PeerPutChunkedResponse,
    PeerPutMetadataResponse as PeerPutMetadataResponse,
    PeersResponse as PeersResponse,
    PeerStats as PeerStats,
    PeerUFs as PeerUFs,
    PutChunkedResponse as PutChunkedResponse,
    PutMetadataRequest as PutMetadataRequest,
    PutMetadataResponse as PutMetadataResponse,
    PutReport as PutReport,
    RetryPolicy as RetryPolicy,
    RouterCheck as RouterCheck,
    StoredBall as StoredBall,
    UpdateMetadataRequest as UpdateMetadataRequest,
)
from airflow_provider_mictlanx.client.protocol.peer import AsyncPeer as AsyncPeer
from airflow_provider_mictlanx.client.protocol.router import AsyncRouter as AsyncRouter
from airflow_provider_mictlanx.client.protocol.stream import DataStream as DataStream
from airflow_provider_mictlanx.client.uri import MictlanXURI as MictlanXURI, RouterAddress as RouterAddress
