"""HTTP of the peers: the routers' paths, with the peers' formats."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pydantic import Field, TypeAdapter
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_mictlanx.client.models import PutMetadataRequest, UpdateMetadataRequest
from airflow_provider_mictlanx.local_vss import http
from airflow_provider_mictlanx.local_vss.blobs import ChunkData
from airflow_provider_mictlanx.local_vss.http import API, NO_DATA, ProtocolError
from airflow_provider_mictlanx.local_vss.peer import Peer, Replica
from airflow_provider_mictlanx.local_vss.placement import Task
from airflow_provider_mictlanx.local_vss.storage_space import StorageSpace


class PeerAnnouncement(PutMetadataRequest):
    """The announcement of a chunk in the peers' format."""

    is_disabled: bool = Field(default=False, validation_alias="is_disable")


_ANNOUNCEMENT = TypeAdapter(PeerAnnouncement)
_CHANGE = TypeAdapter(UpdateMetadataRequest)


class PeerApp:
    """The HTTP endpoints of one peer."""

    def __init__(self, peer: Peer, space: StorageSpace) -> None:
        self._peer = peer
        self._space = space

    def application(self) -> Starlette:
        """Return the ASGI application."""
        buckets = f"{API}/buckets"
        return http.application(
            [
                *http.bucket_routes(self),
                Route(f"{buckets}/{{bucket_id}}/metadata/{{ball_id}}/group", self.get_group),
                Route(f"{buckets}/{{bucket_id}}/{{key}}/replicate", self.replicate, methods=["POST"]),
                Route(f"{API}/tasks", self.flush_tasks, methods=["DELETE"]),
                Route(f"{API}/stats", self.get_stats),
                Route(f"{API}/stats/ufs", self.get_ufs),
                # The protocol page does not describe the state: it has the fields of the statistics.
                Route(f"{API}/peers/state", self.get_stats),
                # The protocol page gives both the same rows.
                Route(f"{API}/xballs", self.get_sizes),
                Route(f"{API}/xballs/size", self.get_sizes),
                Route(f"{API}/balls/len", self.get_balls_len),
                # The protocol page names no prefix of /health, so both forms answer.
                Route(f"{API}/health", self.health),
                Route("/health", self.health),
            ]
        )

    async def put_metadata(self, request: Request) -> Response:
        """Announce a chunk. A chunk with other bytes is replaced only with the header ``Update: 1``."""
        started = time.perf_counter_ns()
        bucket_id = request.path_params["bucket_id"]
        announced = await http.read_json(request, _ANNOUNCEMENT)
        if announced.bucket_id != bucket_id:
            raise ProtocolError(400, f"Bucket ID mismatch: {bucket_id} != {announced.bucket_id}")
        known = self._peer.find(bucket_id, announced.key)
        is_same = known is None or (known.size, known.checksum) == (announced.size, announced.checksum)
        if not is_same and request.headers.get("update", "0").strip() != "1":
            raise ProtocolError(409, f"{bucket_id}@{announced.key} already exists")
        node = self._peer.peer_id
        task = Task(request.headers.get("task-id") or str(uuid.uuid4()), announced, [node])
        async with self._space.database.transaction():
            self._peer.announce(task)
        self._peer.tasks[task.task_id] = task
        spent = time.perf_counter_ns() - started
        return JSONResponse({"key": announced.key, "service_time": spent, "task_id": task.task_id, "node_id": node})

    async def put_chunked(self, request: Request) -> Response:
        """Receive the data of a task as the body; answer 400 unless size and SHA-256 are the announced ones."""
        started = time.perf_counter_ns()
        task, received = await self._deliver(request, request.stream())
        spent = max(1, time.perf_counter_ns() - started)
        bucket_id, key = task.announced.bucket_id, task.announced.key
        return JSONResponse(
            {
                "node_id": self._peer.peer_id,
                "combined_key": f"{bucket_id}@{key}",
                "bucket_id": bucket_id,
                "key": key,
                "size": task.announced.size,
                "throughput": received * 1e9 / spent,
                "service_time": spent,
            }
        )

    async def put_data(self, request: Request) -> Response:
        """Receive the data of a task as multipart field ``data``."""
        await self._deliver(request, http.read_form(request))
        return Response(status_code=201)

    async def _deliver(self, request: Request, pieces: AsyncIterator[bytes]) -> tuple[Task, int]:
        body = self._space.incoming_body()
        try:
            await body.receive(pieces)
            task_id = request.path_params["task_id"]
            task = self._peer.tasks.pop(task_id, None)
            if task is None:
                raise ProtocolError(500, f"Task({task_id}) not found")
            await body.finish()
            if not await self._peer.store(task, body):
                name = f"{task.announced.bucket_id}@{task.announced.key}"
                raise ProtocolError(400, f"{name}: the data is not what was announced")
            return task, body.size
        except ClientDisconnect as error:
            raise ProtocolError(499, "Client closed the request") from error
        finally:
            body.close()

    async def get_by_checksum(self, request: Request) -> Response:
        """Return the bytes with a SHA-256."""
        return self._answer_data(request, self._peer.read_content(request.path_params["checksum"]))

    async def get_data(self, request: Request) -> Response:
        """Return the bytes of a chunk."""
        return self._answer_data(request, self._peer.read(*http.object_names(request)))

    @staticmethod
    def _answer_data(request: Request, data: ChunkData | None) -> Response:
        if data is None:
            raise ProtocolError(404, NO_DATA)
        return http.answer_data(request, data)

    async def get_metadata(self, request: Request) -> Response:
        """Return the metadata of a chunk."""
        started = time.perf_counter_ns()
        metadata = json.loads(self._find(request).metadata)
        node, spent = self._peer.peer_id, time.perf_counter_ns() - started
        return JSONResponse({"service_time": spent, "peer_id": node, "local_peer_id": node, "metadata": metadata})

    async def get_size(self, request: Request) -> Response:
        """Return the size of a chunk."""
        size = self._find(request).size
        bucket_id, key = http.object_names(request)
        return JSONResponse({"bucket_id": bucket_id, "key": key, "peer_id": self._peer.peer_id, "size": size})

    def _find(self, request: Request) -> Replica:
        bucket_id, key = http.object_names(request)
        replica = self._peer.find(bucket_id, key)
        if replica is None:
            raise ProtocolError(404, f"No metadata found for {bucket_id}@{key}")
        return replica

    async def update_metadata(self, request: Request) -> Response:
        """Change tags and other metadata of a chunk."""
        change = await http.read_json(request, _CHANGE)
        return await self._change(request, change.model_dump(exclude_none=True))

    async def disable(self, request: Request) -> Response:
        """Mark a chunk as disabled."""
        return await self._change(request, {"is_disabled": True})

    async def _change(self, request: Request, changes: Mapping[str, Any]) -> Response:
        self._find(request)
        self._peer.change(*http.object_names(request), changes)
        return Response(status_code=204)

    async def get_bucket_metadata(self, request: Request) -> Response:
        """Return the metadata of the peer's chunks of a bucket."""
        balls = ",".join(metadata for _, metadata in self._peer.bucket(request.path_params["bucket_id"]))
        return Response(f'{{"peer_id":"{self._peer.peer_id}","balls":[{balls}]}}', media_type="application/json")

    async def get_group(self, request: Request) -> Response:
        """Return the metadata of the peer's chunks of a ball."""
        bucket_id, ball_id = http.object_names(request)
        balls = [json.loads(replica.metadata) for replica in self._peer.ball(bucket_id, ball_id)]
        size = sum(ball["size"] for ball in balls)
        return JSONResponse({"bucket_id": bucket_id, "ball_id": ball_id, "size": size, "balls": balls})

    async def delete(self, request: Request) -> Response:
        """Delete a chunk."""
        async with self._space.database.transaction():
            deleted = self._peer.delete_key(*http.object_names(request))
        return Response(status_code=204, headers={"n-deletes": str(len(deleted))})

    async def delete_by_ball_id(self, request: Request) -> Response:
        """Delete the chunks of a ball."""
        async with self._space.database.transaction():
            deleted = self._peer.delete_ball(*http.object_names(request))
        return Response(status_code=204, headers={"n-deletes": str(len(deleted))})

    async def replicate(self, request: Request) -> Response:
        """Copy a chunk to the next peer without one. The protocol page leaves the choice and the answer open."""
        bucket_id, replica = request.path_params["bucket_id"], self._find(request)
        others = (peer for peer in self._space.peers.values() if not peer.is_down)
        chosen = [peer for peer in others if peer.find(bucket_id, replica.key) is None][:1]
        if replica.blob is None or not chosen:
            raise ProtocolError(404, "No available peers.")
        async with self._space.database.transaction():
            self._peer.copy_to(chosen[0], replica, bucket_id)
        return JSONResponse({"bucket_id": bucket_id, "key": replica.key, "peer_ids": [chosen[0].peer_id]})

    async def flush_tasks(self, request: Request) -> Response:
        """Forget the peer's tasks, also those that routers announced."""
        self._peer.flush_tasks()
        return Response(status_code=204)

    async def get_sizes(self, request: Request) -> Response:
        """Return bucket id, key and size of every stored chunk."""
        sizes = await asyncio.to_thread(self._peer.sizes)
        return JSONResponse(sizes[http.parse_slice(request)])

    async def get_balls_len(self, request: Request) -> Response:
        """Return the number of stored chunks."""
        return JSONResponse({"len": len(await asyncio.to_thread(self._peer.sizes))})

    async def get_stats(self, request: Request) -> Response:
        """Return the disk usage, and the stored chunks."""
        usage = await asyncio.to_thread(self._peer.usage, http.parse_slice(request))
        return JSONResponse(
            {**usage, "peers": [peer_id for peer_id in self._space.peers if peer_id != self._peer.peer_id]}
        )

    async def get_ufs(self, request: Request) -> Response:
        """Return the disk usage."""
        usage = await asyncio.to_thread(self._peer.usage, slice(0))
        return JSONResponse({name: usage[name] for name in ("total_disk", "used_disk", "disk_uf")})

    async def health(self, request: Request) -> Response:
        """Confirm that the peer answers."""
        return JSONResponse({"status": "ok", "peer_id": self._peer.peer_id})
