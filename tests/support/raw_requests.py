"""
Requests to a router without the client: what another writer sends, and what a reader sees.

Tests set up and check the storage space with these, so that a fault of the client cannot hide in both.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from tests.support.sample_bytes import sha256
from tests.support.vss import LocalVSS


class _Answer(NamedTuple):
    status: int
    body: bytes


class RawRequests:
    """Requests as another client would make them."""

    def __init__(self, vss: LocalVSS, router: int = 0) -> None:
        self.vss = vss
        self.api = f"{vss.api(router)}/buckets"

    def announce(
        self,
        bucket_id: str,
        ball_id: str,
        index: int,
        data: bytes,
        whole: bytes,
        num_chunks: int,
        rf: int = 1,
        tags: Mapping[str, str] | None = None,
        standard_tags: bool = True,
    ) -> tuple[str, list[str]]:
        """Announce a chunk; return its task and its peers."""
        standard = {
            "index": str(index),
            "num_chunks": str(num_chunks),
            "full_checksum": sha256(whole),
            "chunk_size": str(len(data)),
            "group_id": ball_id,
        }
        answer = self._checked(
            "POST",
            f"{self.api}/{bucket_id}/metadata",
            {
                "bucket_id": bucket_id,
                "key": f"{ball_id}_{index}",
                "ball_id": ball_id,
                "checksum": sha256(data),
                "size": len(data),
                "tags": {**(standard if standard_tags else {}), **(tags or {})},
                "producer_id": "another",
                "content_type": "application/octet-stream",
                "is_disabled": False,
                "replication_factor": rf,
            },
        )
        return answer["tasks_ids"][0], answer["replicas"]

    def send(self, task_id: str, data: bytes) -> list[str]:
        """Send the data of a task; return the peers that stored it."""
        answer = self._checked("POST", f"{self.api}/data/{task_id}/chunked", data)
        peers: list[str] = answer["peer_ids"]
        return peers

    def put(
        self,
        bucket_id: str,
        ball_id: str,
        chunks: Sequence[bytes],
        *,
        rf: int = 1,
        only: Sequence[int] | None = None,
        announced_only: Sequence[int] = (),
        tags: Mapping[str, str] | None = None,
        standard_tags: bool = True,
    ) -> dict[int, list[str]]:
        """Put a ball of these chunks, or ``only`` some of them; return the peers that stored each."""
        stored = {}
        for index, data in enumerate(chunks):
            if only is not None and index not in only:
                continue
            task, _ = self.announce(
                bucket_id, ball_id, index, data, b"".join(chunks), len(chunks), rf, tags, standard_tags
            )
            if index not in announced_only:
                stored[index] = self.send(task, data)
        return stored

    def announce_sizes(self, bucket_id: str, ball_id: str, sizes: Sequence[int]) -> None:
        """Announce the chunks of a ball, with these sizes."""
        for index, size in enumerate(sizes):
            announcement = {"bucket_id": bucket_id, "key": f"{ball_id}_{index}", "ball_id": ball_id, "size": size}
            announcement |= {"checksum": sha256(b""), "tags": {"num_chunks": str(len(sizes))}, "producer_id": "another"}
            self._checked("POST", f"{self.api}/{bucket_id}/metadata", announcement)

    def put_own_key(self, bucket_id: str, ball_id: str, key: str, data: bytes) -> None:
        """Put an object under a chunk key of its own, without tags."""
        announcement = {"bucket_id": bucket_id, "key": key, "ball_id": ball_id, "producer_id": "another"}
        announcement |= {"checksum": sha256(data), "size": len(data), "tags": {}, "replication_factor": 1}
        self.send(self._checked("POST", f"{self.api}/{bucket_id}/metadata", announcement)["tasks_ids"][0], data)

    def listed(self, bucket_id: str, ball_id: str) -> list[dict[str, Any]]:
        """Return the peers' listing of a ball."""
        answer = self._request("GET", f"{self.api}/{bucket_id}/metadata/{ball_id}/chunks")
        if answer.status == 404:
            return []
        assert answer.status < 400, answer
        chunks: list[dict[str, Any]] = json.loads(answer.body)["chunks"]
        return chunks

    def listed_in(self, bucket_id: str) -> list[dict[str, Any]]:
        """Return what the peers list of a bucket."""
        rows: list[dict[str, Any]] = self._checked("GET", f"{self.api}/{bucket_id}/metadata")["balls"]
        return rows

    def data(self, bucket_id: str, key: str, peer_id: str = "", force: bool = True) -> bytes | None:
        """Return the bytes of a chunk, or None."""
        headers = {**({"Force-Get": "1"} if force else {}), **({"Peer-Id": peer_id} if peer_id else {})}
        answer = self._request("GET", f"{self.api}/{bucket_id}/{key}", **headers)
        return answer.body if answer.status == 200 else None

    def peers_with(self, bucket_id: str, key: str, data: bytes) -> set[str]:
        """Return the peers that store exactly these bytes of a chunk."""
        peers = [f"peer-{number}" for number in range(self.vss.peers)]
        return {peer for peer in peers if self.data(bucket_id, key, peer) == data}

    def metadata(self, bucket_id: str, key: str) -> tuple[int, Any]:
        """Request a chunk's metadata; return status and body."""
        answer = self._request("GET", f"{self.api}/{bucket_id}/metadata/{key}")
        return answer.status, json.loads(answer.body)

    def delete(self, bucket_id: str, ball_id: str) -> int:
        answer = self._checked("DELETE", f"{self.api}/{bucket_id}/bid/{ball_id}", Force="1")
        number: int = answer["n_deletes"]
        return number

    def delete_chunk(self, bucket_id: str, key: str) -> int:
        answer = self._checked("DELETE", f"{self.api}/{bucket_id}/{key}", Force="1")
        number: int = answer["n_deletes"]
        return number

    def forget_at_peer(self, peer: int, bucket_id: str, ball_id: str) -> None:
        """Remove a ball from a peer, without telling the placement service."""
        self._checked("DELETE", f"{self.vss.peer_api(peer)}/buckets/{bucket_id}/bid/{ball_id}")

    def break_off_upload(self, task_id: str, data: bytes, size: int) -> None:
        """Begin to send ``size`` bytes, and close the connection after ``data``."""
        url = urlsplit(f"{self.api}/data/{task_id}/chunked")
        with socket.create_connection((url.hostname, url.port)) as connection:
            head = f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: {size}\r\n\r\n"
            connection.sendall(head.encode() + data)

    def _checked(self, method: str, url: str, *body: Any, **headers: str) -> Any:
        answer = self._request(method, url, *body, **headers)
        assert answer.status < 400, f"{method} {url}: {answer}"
        return json.loads(answer.body or b"null")

    @staticmethod
    def _request(method: str, url: str, body: Any = None, **headers: str) -> _Answer:
        """Send a request: bytes as they are, anything else as JSON. This takes a fifth of httpx's time."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        port, path = urlsplit(url).port, quote(url.partition("/api/")[2], safe="/%")
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request(method, f"/api/{path}", content, headers)
            answer = connection.getresponse()
            return _Answer(answer.status, answer.read())
