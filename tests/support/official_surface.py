"""
The tables of the official client's routers, peers and chunks: names, order and defaults of ``tests/data/client-surface.md``.

Calls that the page abbreviates ("likewise", "the same") are written out here. A line is a call and what its result contains.
"""

from __future__ import annotations

from tests.support.documented_surface import Documented, parse_call

ROUTER = """
put_metadata(key, size, checksum, producer_id, content_type, ball_id, bucket_id, tags={}, timeout=120, is_disabled=False, replication_factor=1, headers={}, verify=False) -> PutMetadataResponse
put_data(task_id, key, value, content_type, timeout=120, headers={}, file_id="data", verify=False) -> bool
put_chunked(task_id, chunks, timeout=120, headers={}, verify=False) -> PutChunkedResponse
get_metadata(bucket_id, key, timeout=300, headers={}, verify=False) -> GetMetadataResponse
get_chunks_metadata(key, bucket_id="", timeout=120, headers={}, verify=False) -> BallChunksResponse
get_bucket_metadata(bucket_id, timeout=120, headers={}, verify=False) -> GetRouterBucketMetadataResponse
get_streaming(bucket_id, key, timeout=300, headers={}, verify=False) -> DataStream
get_to_file(bucket_id, key, chunk_size="1MB", sink_folder_path="/mictlanx/data", timeout=300, filename="", headers={}, extension="", verify=False) -> str
get_by_checksum_to_file(checksum, chunk_size="1MB", sink_folder_path="/mictlanx/data", timeout=300, filename="", headers={}, extension="", verify=False) -> str
delete(bucket_id, key, headers={}, verify=False, timeout=120) -> DeletedByKeyResponse
delete_by_ball_id(ball_id, bucket_id, timeout=120, headers={}, verify=False) -> DeletedByBallIdResponse
disable(bucket_id, key, headers={}, verify=False, timeout=120) -> bool
update_metadata(bucket_id, key, metadata, headers={}, verify=False, timeout=120) -> bool
add_peers(peers, headers={}, timeout=120) -> bool
get_stats(timeout=120, headers={}, verify=False) -> dict
"""

PEER = """
put_metadata(key, size, checksum, producer_id, content_type, ball_id, bucket_id, tags={}, timeout=120, is_disable=False, headers={}) -> PeerPutMetadataResponse
put_data(task_id, key, value, content_type, timeout=120, headers={}, file_id="data") -> bool
put_chunked(task_id, chunks, timeout=120, headers={}) -> PeerPutChunkedResponse
get_metadata(bucket_id, key, timeout=300, headers={}) -> GetMetadataResponse
get_by_ball_id(bucket_id, ball_id, timeout=120, headers={}) -> PeerBallResponse
get_chunks_metadata(ball_id, bucket_id="", timeout=120, headers={}) -> PeerBallResponse
get_bucket_metadata(bucket_id, timeout=120, headers={}) -> PeerBucketResponse
get_size(bucket_id, key, timeout=120, headers={}) -> GetSizeResponse
get_streaming(bucket_id, key, timeout=300, headers={}, verify=False) -> DataStream
get_to_file(bucket_id, key, chunk_size="1MB", sink_folder_path="/mictlanx/data", timeout=300, filename="", headers={}) -> str
delete(bucket_id, key, timeout=120, headers={}) -> DeletedByKeyResponse
delete_by_ball_id(ball_id, bucket_id, timeout=120, headers={}) -> DeletedByBallIdResponse
disable(bucket_id, key, headers={}) -> bool
replicate(bucket_id, key, timeout=120, headers={}) -> bool
get_stats(headers={}, timeout=120, start=0, end=0) -> PeerStats
get_state(headers={}, timeout=120, start=0, end=0) -> dict
get_all_ball_sizes(headers={}, timeout=120, start=0, end=0) -> list
get_balls(start=0, end=0, headers={}, timeout=120) -> list
get_balls_len(headers={}, timeout=120) -> int
get_ufs(timeout=120, headers={}) -> PeerUFs
flush_tasks(headers={}, timeout=120) -> bool
"""

PLAIN = {
    "AsyncRouter": "from_str(x)\nfrom_router(x, http2=False)\nbase_url()\nget_addr()",
    "AsyncPeer": "base_url()\nget_addr()\nto_dict()\nempty()",
    "Chunk": (
        "from_bytes(group_id, index, data, metadata={}, chunk_id=None)\n"
        "from_ndarray(group_id, index, ndarray, metadata={}, chunk_id=None)\n"
        "from_list(group_id, index, xs, metadata={}, chunk_id=None)\n"
        "to_ndarray()\nto_list()"
    ),
    "Chunks": "sort()",
}
"""Calls that send no request, by class."""

CONSTRUCTORS = {
    "AsyncRouter": 'AsyncRouter(router_id, ip_addr, port, protocol="http", http2=False, api_version=4)',
    "AsyncPeer": 'AsyncPeer(peer_id, ip_addr, port, protocol="http", api_version=4)',
    "Chunk": "Chunk(group_id, index, data, chunk_id=None, metadata={})",
    "Chunks": "Chunks(chs, n, strict=False)",
}

ABBREVIATED = (
    "get_by_checksum_to_file",
    "get_state",
    "get_all_ball_sizes",
    "from_ndarray",
    "from_list",
    "sort",
    "base_url",
    "get_addr",
)
"""Names whose call the page does not show in full."""


def parse_lines(text: str) -> list[Documented]:
    """Parse ``name(a, b=1) -> Result`` line by line."""
    found = []
    for line in text.strip().splitlines():
        call, _, result = line.partition(" -> ")
        documented = parse_call(call)
        documented.gives = result
        found.append(documented)
    return found


REQUESTS = {"AsyncRouter": parse_lines(ROUTER), "AsyncPeer": parse_lines(PEER)}
"""Calls that send a request, by class."""

WRITTEN_OUT = [
    line.partition(" -> ")[0] for text in (ROUTER, PEER, *PLAIN.values()) for line in text.strip().splitlines()
]
"""Every call as it is written above."""
