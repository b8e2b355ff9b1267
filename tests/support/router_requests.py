"""What the tests of ``AsyncRouter`` and ``AsyncPeer`` have in common."""

from __future__ import annotations

from typing import Any

from option import Result

from airflow_provider_mictlanx.client import AsyncPeer, AsyncRouter, MictlanXError, PutMetadataRequest
from airflow_provider_mictlanx.client.protocol.common_requests import CommonRequests
from tests.support.sample_bytes import sha256
from tests.support.vss import LocalVSS

Target = AsyncRouter | AsyncPeer


def router_of(vss: LocalVSS, number: int = 0) -> AsyncRouter:
    return AsyncRouter(f"router-{number}", "127.0.0.1", vss.port + number)


def peer_of(vss: LocalVSS, number: int = 0) -> AsyncPeer:
    return AsyncPeer(f"peer-{number}", "127.0.0.1", vss.peer_port(number))


def chunk_of(bucket_id: str, ball_id: str, data: bytes, index: int = 0, /, **fields: Any) -> PutMetadataRequest:
    """Return the announcement of a chunk."""
    known = {
        "bucket_id": bucket_id,
        "key": f"{ball_id}_{index}",
        "ball_id": ball_id,
        "checksum": sha256(data),
        "size": len(data),
        "tags": {"index": str(index), "num_chunks": "1", "full_checksum": sha256(data)},
        "producer_id": "tests",
    }
    return PutMetadataRequest(**{**known, **fields})


async def put(target: Target, bucket_id: str, ball_id: str, data: bytes, index: int = 0, **fields: Any) -> str:
    """Announce and send a chunk; return its key."""
    announcement = chunk_of(bucket_id, ball_id, data, index, **fields)
    task_id = await announce(target, announcement)
    sent = (await target.put_chunked(task_id, data)).unwrap()
    assert getattr(sent, "peer_ids", None) or getattr(sent, "node_id", None)
    return announcement.key


async def announce(target: Target, announcement: PutMetadataRequest, **arguments: Any) -> str:
    """Announce a chunk; return its task."""
    if isinstance(target, AsyncPeer):
        return (await target.announce(announcement, **arguments)).unwrap().task_id
    return (await target.announce(announcement, **arguments)).unwrap().tasks_ids[0]


async def read(target: CommonRequests, bucket_id: str, key: str, **arguments: Any) -> bytes:
    async with (await target.get_streaming(bucket_id, key, **arguments)).unwrap() as pieces:
        return b"".join([piece async for piece in pieces])


def error_of(result: Result[Any, MictlanXError]) -> MictlanXError:
    """Return the error of a Result, which must be an Err."""
    assert result.is_err, f"an error was expected, not {result}"
    return result.unwrap_err()
