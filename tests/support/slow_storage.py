"""What the storage space itself tells of a bulk, asked over plain HTTP and not through the provider; and how it is slowed down."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.support.vss import FaultHandle, LocalVSS


def slow_down(vss: LocalVSS, bucket_id: str, seconds: float = 1) -> FaultHandle:
    """Delay every chunk's data in the matching buckets, until the test has seen what it checks."""
    return vss.set_fault("latency", method="POST", path="/buckets/data/", bucket=bucket_id, seconds=seconds)


def put_off_deletes(vss: LocalVSS, seconds: float = 15) -> FaultHandle:
    """Delay every delete, so that there is time to check what a DAG cleans up."""
    return vss.set_fault("latency", method="DELETE", seconds=seconds)


def chunks_in(vss: LocalVSS, bucket_id: str) -> list[dict[str, Any]]:
    """Return the chunks of a bucket, announced ones included."""
    answer = httpx.get(f"{vss.api()}/buckets/{bucket_id}/metadata", trust_env=False, verify=False)
    chunks: list[dict[str, Any]] = answer.raise_for_status().json()["balls"]
    return chunks


def balls_in(vss: LocalVSS, bucket_id: str) -> set[str]:
    """Return the ids of a bucket's balls; those of a bulk's own bucket are its records: ``start-0-…``, ``plan-0-…`` …"""
    return {chunk["ball_id"] for chunk in chunks_in(vss, bucket_id)}


def last_written(vss: LocalVSS, bucket_id: str, prefix: str = "") -> datetime:
    """Return when the youngest chunk of the balls with this prefix was written, by the peers' clock."""
    chunks = [chunk for chunk in chunks_in(vss, bucket_id) if chunk["ball_id"].startswith(prefix)]
    return datetime.fromtimestamp(max(int(chunk["tags"]["updated_at"]) for chunk in chunks) / 1e9, UTC)


def bulk_buckets(vss: LocalVSS) -> set[str]:
    """Return the buckets of the bulks that were requested since the request log was cleared."""
    return {request["path"].split("/")[4] for request in vss.requests("GET", "/buckets/bulk-[^/]*/metadata$")}


def pokes(vss: LocalVSS, bulk_bucket: str) -> int:
    """Return how often the bulk's bucket was listed since the request log was cleared."""
    return len(vss.requests("GET", f"/buckets/{bulk_bucket}/metadata$"))


def checksums_in(vss: LocalVSS, bucket_id: str) -> dict[str, str]:
    """Read every chunk of every ball from the peers, past the router's cache, and give the SHA-256 of the balls by key."""
    balls: dict[str, dict[int, str]] = {}
    for chunk in chunks_in(vss, bucket_id):
        balls.setdefault(chunk["tags"]["full_path"], {})[int(chunk["tags"]["index"])] = chunk["key"]
    found = {}
    for key, chunks in balls.items():
        digest = hashlib.sha256()
        for _, name in sorted(chunks.items()):
            digest.update(_content_of(vss, bucket_id, name))
        found[key] = digest.hexdigest()
    return found


def _content_of(vss: LocalVSS, bucket_id: str, chunk: str) -> bytes:
    """Ask as often as there are peers: reads go round, and a try that failed leaves announcements without data behind."""
    for _ in range(vss.peers):
        url = f"{vss.api()}/buckets/{bucket_id}/{chunk}"
        answer = httpx.get(url, headers={"Force-Get": "1"}, trust_env=False, verify=False)
        if answer.status_code != httpx.codes.NOT_FOUND:
            break
    return answer.raise_for_status().content


def checksums_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file, by its path relative to the folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
