"""The peers' HTTP: the same paths as the routers', in the peers' dialect."""

from __future__ import annotations

import json
import time
from typing import Any

from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_mictlanx.local_vss import http, replicas
from airflow_provider_mictlanx.local_vss.peer import Peer
from airflow_provider_mictlanx.local_vss.placement import Task
from airflow_provider_mictlanx.local_vss.router import NO_DATA, ProtocolError
from airflow_provider_mictlanx.local_vss.router_app import API, MetadataChange
from airflow_provider_mictlanx.local_vss.storage_space import Space


class PeerAnnouncement(BaseModel):
    """The announcement of a chunk in the peers' dialect."""

    bucket_id: str
    key: str
    ball_id: str
    checksum: str
    size: int = Field(ge=0, lt=2**63)
    tags: dict[str, str] = Field(default_factory=dict)
    producer_id: str
    content_type: str = "application/octet-stream"
    is_disable: bool = False

    def metadata(self) -> dict[str, Any]:
        """Give the replica's metadata."""
        return {**self.model_dump(exclude={"is_disable"}), "is_disabled": self.is_disable}


class PeerApp:
    """The HTTP of one peer."""

    def __init__(self, peer: Peer, space: Space) -> None:
        self._peer = peer
        self._space = space
        self.routes = self._routes()

    def application(self) -> Starlette:
        """Give the ASGI application."""
        return http.application(self.routes)

    def _routes(self) -> list[Route]:
        buckets = f"{API}/buckets"
        return [
            # Before the data route: a bucket may be called "data", and no task is called "metadata".
            Route(f"{buckets}/{{bucket_id}}/metadata", self.put_metadata, methods=["POST"]),
            Route(f"{buckets}/{{bucket_id}}/metadata", self.get_bucket_metadata, methods=["GET"]),
            Route(f"{buckets}/data/{{task_id}}/chunked", self.put_chunked, methods=["POST"]),
            Route(f"{buckets}/data/{{task_id}}", self.put_data, methods=["POST"]),
            Route(f"{buckets}/checksum/{{checksum}}", self.get_by_checksum, methods=["GET"]),
            Route(f"{buckets}/{{bucket_id}}/metadata/{{key}}", self.get_metadata, methods=["GET"]),
            Route(f"{buckets}/{{bucket_id}}/metadata/{{key}}", self.update_metadata, methods=["PUT", "POST"]),
            Route(f"{buckets}/{{bucket_id}}/metadata/{{ball_id}}/group", self.get_group, methods=["GET"]),
            Route(f"{buckets}/{{bucket_id}}/bid/{{ball_id}}", self.delete_by_ball_id, methods=["DELETE"]),
            Route(f"{buckets}/{{bucket_id}}/{{key}}/size", self.get_size, methods=["GET"]),
            Route(f"{buckets}/{{bucket_id}}/{{key}}/disable", self.disable, methods=["POST"]),
            Route(f"{buckets}/{{bucket_id}}/{{key}}", self.get_data, methods=["GET"]),
            Route(f"{buckets}/{{bucket_id}}/{{key}}", self.delete, methods=["DELETE"]),
            Route(f"{API}/stats", self.get_stats, methods=["GET"]),
            Route(f"{API}/stats/ufs", self.get_ufs, methods=["GET"]),
            # The page gives /health no prefix of its own, so it answers with and without the others'.
            Route(f"{API}/health", self.health, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
        ]

    async def put_metadata(self, request: Request) -> Response:
        """Announce a chunk. Known with other bytes, it is only replaced with the header ``Update: 1``."""
        started = time.perf_counter_ns()
        bucket_id = request.path_params["bucket_id"]
        announcement = await http.read_model(request, PeerAnnouncement)
        if announcement.bucket_id != bucket_id:
            raise ProtocolError(400, f"Bucket ID mismatch: {bucket_id} != {announcement.bucket_id}")
        known = self._peer.find(bucket_id, announcement.key)
        same = known is None or (known.size, known.checksum) == (announcement.size, announcement.checksum)
        if not same and request.headers.get("update", "0").strip() != "1":
            raise ProtocolError(409, f"{bucket_id}@{announcement.key} already exists")
        metadata = announcement.metadata()
        task = Task.of(metadata, [self._peer.peer_id], request.headers.get("task-id") or None)
        await self._peer.announce(task, metadata)
        self._peer.tasks.add(task)
        spent = time.perf_counter_ns() - started
        node = self._peer.peer_id
        return JSONResponse({"key": task.key, "service_time": spent, "task_id": task.task_id, "node_id": node})

    async def put_chunked(self, request: Request) -> Response:
        """Send the data of a task as the body; refused with 400 unless size and SHA-256 are as announced."""
        started = time.perf_counter_ns()
        task, received = await self._deliver(request, http.receive_body)
        spent = max(1, time.perf_counter_ns() - started)
        return JSONResponse(
            {
                "node_id": self._peer.peer_id,
                "combined_key": f"{task.bucket_id}@{task.key}",
                "bucket_id": task.bucket_id,
                "key": task.key,
                "size": task.size,
                "throughput": received * 1e9 / spent,
                "service_time": spent,
            }
        )

    async def put_data(self, request: Request) -> Response:
        """Send the data of a task as multipart field ``data``."""
        await self._deliver(request, http.receive_form)
        return Response(status_code=201)

    async def _deliver(self, request: Request, receive: Any) -> tuple[Task, int]:
        body = self._space.incoming_body()
        try:
            await receive(request, self._space, body)
            task_id = request.path_params["task_id"]
            task = self._peer.tasks.spend(task_id)
            if task is None:
                raise ProtocolError(500, f"Task({task_id}) not found")
            await http.finish_body(self._space, body)
            if not await self._peer.store(task, body):
                raise ProtocolError(400, f"{task.bucket_id}@{task.key}: the data is not what was announced")
            return task, body.size
        except ClientDisconnect as error:
            raise ProtocolError(499, "Client closed the request") from error
        finally:
            body.discard()

    async def get_by_checksum(self, request: Request) -> Response:
        """Give bytes by their content."""
        data = self._peer.read_content(request.path_params["checksum"])
        if data is None:
            raise ProtocolError(404, NO_DATA)
        return await http.answer_data(request, self._space, data)

    async def get_metadata(self, request: Request) -> Response:
        """Give the metadata of a chunk."""
        started = time.perf_counter_ns()
        bucket_id, key = request.path_params["bucket_id"], request.path_params["key"]
        replica = self._peer.find(bucket_id, key)
        if replica is None:
            raise ProtocolError(404, f"No metadata found for {bucket_id}@{key}")
        node = self._peer.peer_id
        spent = time.perf_counter_ns() - started
        known = {"service_time": spent, "peer_id": node, "local_peer_id": node}
        return JSONResponse({**known, "metadata": json.loads(replica.metadata)})

    async def update_metadata(self, request: Request) -> Response:
        """Change a chunk's tags and the like."""
        change = await http.read_model(request, MetadataChange)
        await self._change(request, change.apply)
        return Response(status_code=204)

    async def disable(self, request: Request) -> Response:
        """Mark a chunk as disabled."""
        await self._change(request, lambda metadata: metadata.update(is_disabled=True))
        return Response(status_code=204)

    async def _change(self, request: Request, how: Any) -> None:
        bucket_id, key = request.path_params["bucket_id"], request.path_params["key"]
        changed = await self._space.database.write(
            lambda connection: replicas.change(connection, self._peer.peer_id, bucket_id, key, how)
        )
        if not changed:
            raise ProtocolError(404, f"No metadata found for {bucket_id}@{key}")

    async def get_bucket_metadata(self, request: Request) -> Response:
        """Give the metadata of the peer's chunks of a bucket."""
        balls = ",".join(self._peer.bucket(request.path_params["bucket_id"]))
        return Response(f'{{"peer_id":"{self._peer.peer_id}","balls":[{balls}]}}', media_type="application/json")

    async def get_group(self, request: Request) -> Response:
        """Give the metadata of the peer's chunks of a ball."""
        bucket_id, ball_id = request.path_params["bucket_id"], request.path_params["ball_id"]
        found = self._peer.ball(bucket_id, ball_id)
        return JSONResponse(
            {
                "bucket_id": bucket_id,
                "ball_id": ball_id,
                "size": sum(replica.size for replica in found),
                "balls": [json.loads(replica.metadata) for replica in found],
            }
        )

    async def get_data(self, request: Request) -> Response:
        """Give the bytes of a chunk."""
        data = self._peer.read(request.path_params["bucket_id"], request.path_params["key"])
        if data is None:
            raise ProtocolError(404, NO_DATA)
        return await http.answer_data(request, self._space, data)

    async def get_size(self, request: Request) -> Response:
        """Give the size of a chunk."""
        bucket_id, key = request.path_params["bucket_id"], request.path_params["key"]
        replica = self._peer.find(bucket_id, key)
        if replica is None:
            raise ProtocolError(404, f"No metadata found for {bucket_id}@{key}")
        return JSONResponse({"bucket_id": bucket_id, "key": key, "peer_id": self._peer.peer_id, "size": replica.size})

    async def delete(self, request: Request) -> Response:
        """Delete a chunk."""
        bucket_id, key = request.path_params["bucket_id"], request.path_params["key"]
        number, blobs = await self._space.database.write(
            lambda connection: self._peer.delete_key(connection, bucket_id, key)
        )
        self._peer.blobs.remove(blobs)
        return Response(status_code=204, headers={"n-deletes": str(number)})

    async def delete_by_ball_id(self, request: Request) -> Response:
        """Delete the chunks of a ball."""
        bucket_id, ball_id = request.path_params["bucket_id"], request.path_params["ball_id"]
        keys, blobs = await self._space.database.write(
            lambda connection: self._peer.delete_ball(connection, bucket_id, ball_id)
        )
        self._peer.blobs.remove(blobs)
        return Response(status_code=204, headers={"n-deletes": str(len(keys))})

    async def get_stats(self, request: Request) -> Response:
        """Give the use of the disk, and what the peer holds."""
        usage = await http.run_in_thread(self._space, self._peer.usage)
        peers = [peer_id for peer_id in self._space.peers if peer_id != self._peer.peer_id]
        return JSONResponse({**usage, "peers": peers})

    async def get_ufs(self, request: Request) -> Response:
        """Give the use of the disk."""
        usage = await http.run_in_thread(self._space, self._peer.usage)
        return JSONResponse({name: usage[name] for name in ("total_disk", "used_disk", "disk_uf")})

    async def health(self, request: Request) -> Response:
        """Say that the peer is up."""
        return JSONResponse({"status": "ok", "peer_id": self._peer.peer_id})
