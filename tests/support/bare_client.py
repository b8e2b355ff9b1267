"""A bare client for the local VSS's own tests: one method per request, nothing retried or verified."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx

from tests.support.vss import LocalVSS


class BareClient:
    """Speaks to one router."""

    def __init__(self, vss: LocalVSS, router: int = 0) -> None:
        self.client = httpx.Client(base_url=vss.api(router), trust_env=False, timeout=30, verify=False)

    def announce(self, bucket_id: str, key: str, data: bytes, **fields: Any) -> httpx.Response:
        ball_id, _, index = key.rpartition("_")
        announcement = {
            "bucket_id": bucket_id,
            "key": key,
            "ball_id": ball_id,
            "checksum": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "tags": {"index": index, "num_chunks": "1"},
            "producer_id": "test",
            **fields,
        }
        return self.client.post(f"/buckets/{bucket_id}/metadata", json=announcement)

    def send(self, task_id: str, data: bytes) -> httpx.Response:
        return self.client.post(f"/buckets/data/{task_id}/chunked", content=data)

    def put(self, bucket_id: str, key: str, data: bytes, rf: int = 1, **fields: Any) -> list[str]:
        """Announce and send a chunk, and give the peers that stored it."""
        announced = self.announce(bucket_id, key, data, replication_factor=rf, **fields)
        assert announced.status_code == 200, announced.text
        sent = self.send(announced.json()["tasks_ids"][0], data)
        assert sent.status_code == 200, sent.text
        return list(sent.json()["peer_ids"])

    def get(self, bucket_id: str, key: str, **headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get(f"/buckets/{bucket_id}/{key}", headers=names)

    def metadata(self, bucket_id: str, key: str) -> httpx.Response:
        return self.client.get(f"/buckets/{bucket_id}/metadata/{key}")

    def chunks(self, bucket_id: str, ball_id: str) -> httpx.Response:
        return self.client.get(f"/buckets/{bucket_id}/metadata/{ball_id}/chunks")

    def listed(self, bucket_id: str) -> list[str]:
        """Return the keys of a bucket's listing, each once, in their order."""
        balls = self.client.get(f"/buckets/{bucket_id}/metadata").json()["balls"]
        return list(dict.fromkeys(ball["key"] for ball in balls))

    def delete(self, bucket_id: str, key: str) -> httpx.Response:
        return self.client.delete(f"/buckets/{bucket_id}/{key}", headers={"Force": "1"})

    def delete_ball(self, bucket_id: str, ball_id: str) -> httpx.Response:
        return self.client.delete(f"/buckets/{bucket_id}/bid/{ball_id}", headers={"Force": "1"})
