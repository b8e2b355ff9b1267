"""The routers' HTTP: every request of the protocol's page, as the transcript shows it."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_mictlanx.client.models import PutMetadataRequest
from airflow_provider_mictlanx.client.object_ids import is_safe_id
from airflow_provider_mictlanx.local_vss import http
from airflow_provider_mictlanx.local_vss.blobs import IncomingBody
from airflow_provider_mictlanx.local_vss.peer import Peer
from airflow_provider_mictlanx.local_vss.placement import Task, normalised
from airflow_provider_mictlanx.local_vss.request_log import RequestLog
from airflow_provider_mictlanx.local_vss.router import ProtocolError, Router

API = "/api/v4"

AddPeer = Callable[[str, int], Awaitable[Peer]]


class MetadataChange(BaseModel):
    """What an update may change of a chunk's metadata; what is left out stays as it is."""

    tags: dict[str, str] | None = None
    content_type: str | None = None
    producer_id: str | None = None
    is_disabled: bool | None = None

    def apply(self, metadata: dict[str, Any]) -> None:
        """Change the metadata."""
        metadata.update(self.model_dump(exclude_none=True))


class NewPeer(BaseModel):
    """A peer that is to be added."""

    peer_id: str
    port: int = Field(default=0, ge=0, le=65535)


class RouterApp:
    """
    The HTTP of one router.

    :param add_peer: starts a further peer of this process: id, port (0 = any free one)
    """

    def __init__(self, router: Router, log: RequestLog, add_peer: AddPeer) -> None:
        self._router = router
        self._space = router.space
        self._log = log
        self._add_peer = add_peer
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
            Route(f"{buckets}/{{bucket_id}}/metadata/{{ball_id}}/chunks", self.get_chunks_metadata, methods=["GET"]),
            Route(f"{buckets}/{{bucket_id}}/bid/{{ball_id}}", self.delete_by_ball_id, methods=["DELETE"]),
            Route(f"{buckets}/{{bucket_id}}/{{ball_id}}/merge", self.get_merged, methods=["GET"]),
            Route(f"{buckets}/{{bucket_id}}/{{key}}/disable", self.disable, methods=["POST"]),
            Route(f"{buckets}/{{bucket_id}}/{{key}}", self.get_data, methods=["GET"]),
            Route(f"{buckets}/{{bucket_id}}/{{key}}", self.delete, methods=["DELETE"]),
            Route(f"{API}/peers", self.get_peers, methods=["GET"]),
            Route(f"{API}/peers", self.add_peers, methods=["POST"]),
            Route(f"{API}/peers/stats", self.get_stats, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]

    async def put_metadata(self, request: Request) -> Response:
        """Announce a chunk."""
        started = time.perf_counter_ns()
        bucket_id = request.path_params["bucket_id"]
        announcement = await http.read_model(request, PutMetadataRequest)
        if announcement.bucket_id != bucket_id:
            raise ProtocolError(400, f"Bucket ID mismatch: {bucket_id} != {announcement.bucket_id}")
        task = await self._router.announce(announcement)
        return JSONResponse(
            {
                "key": normalised(announcement.key),
                "service_time": time.perf_counter_ns() - started,
                "tasks_ids": [task.task_id],
                "bucket_id": normalised(bucket_id),
                "replicas": list(task.peer_ids),
                "extra": {},
            }
        )

    async def put_chunked(self, request: Request) -> Response:
        """Send the data of a task as the body."""
        http.piece_size(request)
        task, peer_ids = await self._deliver(request, http.receive_body)
        return JSONResponse(
            {
                "peer_ids": peer_ids,
                "combined_key": f"{task.bucket_id}@{task.key}",
                "bucket_id": task.bucket_id,
                "key": task.key,
                "size": task.size,
            }
        )

    async def put_data(self, request: Request) -> Response:
        """Send the data of a task as multipart field ``data``: the answer says nothing of what was stored."""
        await self._deliver(request, http.receive_form)
        return Response(status_code=201)

    async def _deliver(self, request: Request, receive: Any) -> tuple[Task, list[str]]:
        body = self._space.incoming_body()
        try:
            try:
                task = self._router.task(request.path_params["task_id"])
            except ProtocolError:
                await _drain(request)  # so that the answer reaches a client that is still sending
                raise
            try:
                await receive(request, self._space, body)
            except ClientDisconnect as error:
                # What came before the client went away is what the cache will answer.
                self._router.remember(task, body)
                raise ProtocolError(499, "Client closed the request") from error
            return task, await self._store(task, body)
        finally:
            body.discard()

    async def _store(self, task: Task, body: IncomingBody) -> list[str]:
        self._router.remember(task, body)
        await http.finish_body(self._space, body)
        return await self._router.send(task, body)

    async def get_by_checksum(self, request: Request) -> Response:
        """By content: the present service answers 404."""
        raise ProtocolError(404, "Not Found")

    async def get_metadata(self, request: Request) -> Response:
        """Give the metadata of a chunk."""
        started = time.perf_counter_ns()
        replica = await self._router.metadata(request.path_params["bucket_id"], request.path_params["key"])
        peer_id, spent = replica.peer_id, time.perf_counter_ns() - started
        text = f'{{"service_time":{spent},"peer_id":"{peer_id}","local_peer_id":"{peer_id}","metadata":'
        return Response(f"{text}{replica.metadata}}}", media_type="application/json")

    async def get_bucket_metadata(self, request: Request) -> Response:
        """Give the metadata of all chunks of a bucket."""
        bucket_id = request.path_params["bucket_id"]
        await self._router.wait_for_peers()

        def listing() -> bytes:
            answered, listed = self._router.bucket(bucket_id)
            head = http.compact_json({"bucket_id": bucket_id, "peers_ids": answered})
            return f'{head[:-1]},"balls":[{",".join(listed)}]}}'.encode()

        return Response(await http.run_in_thread(self._space, listing), media_type="application/json")

    async def get_chunks_metadata(self, request: Request) -> Response:
        """Give the metadata of all chunks of a ball."""
        await self._router.wait_for_peers()
        return JSONResponse(self._router.ball(request.path_params["bucket_id"], request.path_params["ball_id"]))

    async def get_data(self, request: Request) -> Response:
        """Give the bytes of a chunk."""
        data = await self._router.data(
            request.path_params["bucket_id"],
            request.path_params["key"],
            force=request.headers.get("force-get", "0").strip() == "1",
            peer_id=request.headers.get("peer-id"),
        )
        return await http.answer_data(request, self._space, data)

    async def get_merged(self, request: Request) -> Response:
        """Give the bytes of a ball."""
        content_type, pieces = await self._router.merged(
            request.path_params["bucket_id"], request.path_params["ball_id"]
        )
        return http.DataResponse(pieces, content_type)

    async def delete(self, request: Request) -> Response:
        """Delete a chunk. ``Force`` is taken and changes nothing: the page gives it no meaning."""
        key = request.path_params["key"]
        return JSONResponse(
            {"n_deletes": await self._router.delete_key(request.path_params["bucket_id"], key), "key": key}
        )

    async def delete_by_ball_id(self, request: Request) -> Response:
        """Delete the chunks of a ball."""
        ball_id = request.path_params["ball_id"]
        n_deletes = await self._router.delete_ball(request.path_params["bucket_id"], ball_id)
        return JSONResponse({"n_deletes": n_deletes, "ball_id": ball_id})

    async def disable(self, request: Request) -> Response:
        """Mark a chunk as disabled: the page gives the mark no further meaning, so its data is answered as before."""

        def mark(metadata: dict[str, Any]) -> None:
            metadata["is_disabled"] = True

        await self._router.change(request.path_params["bucket_id"], request.path_params["key"], mark)
        return Response(status_code=204)

    async def update_metadata(self, request: Request) -> Response:
        """Change a chunk's tags and the like. The page names no path for it; this one is chosen after the others."""
        started = time.perf_counter_ns()
        bucket_id, key = request.path_params["bucket_id"], request.path_params["key"]
        change = await http.read_model(request, MetadataChange)
        await self._router.change(bucket_id, key, change.apply)
        return JSONResponse({"bucket_id": bucket_id, "key": key, "service_time": time.perf_counter_ns() - started})

    async def get_peers(self, request: Request) -> Response:
        """Give the peers that answer, and those that don't."""
        known: dict[str, list[dict[str, Any]]] = {"available": [], "unavailable": []}
        for peer in self._space.peers.values():
            known["unavailable" if peer.is_unavailable else "available"].append(
                {
                    "peer_id": peer.peer_id,
                    "ip_addr": self._space.options.host,
                    "port": peer.port,
                    "protocol": "http",
                    "api_version": 4,
                }
            )
        return JSONResponse(known)

    async def add_peers(self, request: Request) -> Response:
        """
        Add peers: each one that is not known starts as a further peer of this process, on the port that it names.

        The real service would look for a peer at the address; here there are no other peers than this process's own.
        """
        value = await http.read_json(request)
        peers = [http.validated(NewPeer, peer) for peer in (value if isinstance(value, list) else [value])]
        for peer in peers:
            if not is_safe_id(peer.peer_id):
                raise ProtocolError(400, f"{peer.peer_id!r} is no peer id: only letters, digits, '-' and '_'")
        for peer in peers:
            if peer.peer_id not in self._space.peers:
                try:
                    await self._add_peer(peer.peer_id, peer.port)
                except OSError as error:
                    raise ProtocolError(400, f"Peer {peer.peer_id} can't listen on {peer.port}: {error}") from error
        return Response(status_code=204)

    async def get_stats(self, request: Request) -> Response:
        """Give every peer's use of its disk, and what it holds."""

        def stats() -> list[dict[str, Any]]:
            up = [peer for peer in self._space.peers.values() if not peer.is_down]
            return [{**peer.usage(), "peers": [other.peer_id for other in up if other is not peer]} for peer in up]

        return JSONResponse(await http.run_in_thread(self._space, stats))

    async def openapi(self, request: Request) -> Response:
        """Describe the requests."""
        paths: dict[str, dict[str, Any]] = {}
        for route in self.routes:
            for method in sorted((route.methods or set()) - {"HEAD"}):
                summary = (route.endpoint.__doc__ or "").strip().split("\n")[0]
                paths.setdefault(route.path, {})[method.lower()] = {
                    "summary": summary,
                    "operationId": route.endpoint.__name__,
                    "parameters": [
                        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                        for name in re.findall(r"{(\w+)}", route.path)
                    ],
                    "responses": {"200": {"description": "Successful Response"}},
                }
        info = {"title": "MictlanX local VSS", "version": "0.1.0", "description": "A development tool."}
        return JSONResponse({"openapi": "3.1.0", "info": info, "paths": paths})

    async def metrics(self, request: Request) -> Response:
        """Give Prometheus counters of this router's requests."""
        lines = [
            "# HELP http_requests_total Total number of requests by method, status and handler.",
            "# TYPE http_requests_total counter",
        ]
        for (server, method, route, status), number in sorted(self._log.totals.items()):
            if server == self._router.router_id:
                labels = f'handler="{route}",method="{method}",status="{status}"'
                lines.append(f"http_requests_total{{{labels}}} {number}")
        return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


async def _drain(request: Request) -> None:
    try:
        async for _ in request.stream():
            pass
    except ClientDisconnect:
        return
