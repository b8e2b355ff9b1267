"""
One router: it answers the requests of the protocol page from the placement service, the peers and a cache.

If the protocol page does not specify an answer, a comment names the choice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import humanfriendly
from cachetools import LRUCache
from pydantic import BaseModel, Field, TypeAdapter
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from airflow_provider_mictlanx.client.models import PutMetadataRequest
from airflow_provider_mictlanx.local_vss import http
from airflow_provider_mictlanx.local_vss.blobs import ChunkData, IncomingBody
from airflow_provider_mictlanx.local_vss.http import API, NO_DATA, ProtocolError
from airflow_provider_mictlanx.local_vss.peer import Peer, PeerDownError, Replica, updated_at
from airflow_provider_mictlanx.local_vss.placement import NoPeerLeftError, Task, normalized
from airflow_provider_mictlanx.local_vss.request_log import RequestLog
from airflow_provider_mictlanx.local_vss.storage_space import StorageSpace
from airflow_provider_mictlanx.safe_ids import is_safe_id


class NewPeer(BaseModel):
    """A peer to add. All peers run in this process, so ``hostname`` and ``protocol`` have no effect."""

    protocol: str
    peer_id: str
    hostname: str
    port: int = Field(ge=-1, le=65535)


_ANNOUNCEMENT = TypeAdapter(PutMetadataRequest)
_NEW_PEER = TypeAdapter(NewPeer)
_NEW_PEERS = TypeAdapter(list[NewPeer])
_PEER_IDS: TypeAdapter[list[NewPeer | str]] = TypeAdapter(list[NewPeer | str])


class Router:
    """
    One router of the storage space.

    :param router_id: ``router-0`` …
    :param start_peer: function that starts a further peer of this process: id, port (0 = any free port)
    """

    def __init__(
        self, router_id: str, space: StorageSpace, log: RequestLog, start_peer: Callable[[str, int], None]
    ) -> None:
        self._router_id = router_id
        self._space = space
        self._log = log
        self._start_peer = start_peer
        self._cache: LRUCache[tuple[str, str], ChunkData] = LRUCache(
            space.options.cache_size, getsizeof=lambda data: data.size
        )
        space.caches.append(self._cache)
        self._turns: LRUCache[tuple[str, str, str], int] = LRUCache(10_000)

    def application(self) -> Starlette:
        """Return the ASGI application."""
        buckets = f"{API}/buckets"
        return http.application(
            [
                *http.bucket_routes(self),
                Route(f"{buckets}/{{bucket_id}}/metadata/{{ball_id}}/chunks", self.get_chunks_metadata),
                Route(f"{buckets}/{{bucket_id}}/{{ball_id}}/merge", self.get_merged),
                Route(f"{API}/peers", self.get_peers),
                Route(f"{API}/peers", self.add_peer, methods=["POST"]),
                Route(f"{API}/peers/stats", self.get_stats),
                Route(f"{API}/peers/{{peer_id}}", self.remove_peer, methods=["DELETE"]),
                Route(f"{API}/xpeers", self.add_peers, methods=["POST"]),
                Route(f"{API}/xpeers", self.remove_peers, methods=["DELETE"]),
                Route(f"{API}/cache", self.list_cache),
                Route(f"{API}/cache/stats", self.get_cache_stats),
                Route(f"{API}/cache/reset", self.clear_cache, methods=["DELETE"]),
                Route("/openapi.json", self.openapi),
                Route("/metrics", self.metrics),
            ]
        )

    # -- writing -------------------------------------------------------------------------------------------------------

    async def put_metadata(self, request: Request) -> Response:
        """Announce a chunk: place it, announce it to the chosen peers, and create its task."""
        started = time.perf_counter_ns()
        bucket_id = request.path_params["bucket_id"]
        announced = await http.read_json(request, _ANNOUNCEMENT)
        if announced.bucket_id != bucket_id:
            raise ProtocolError(400, f"Bucket ID mismatch: {bucket_id} != {announced.bucket_id}")
        task, missed = await self._announce(announced)
        for peer in missed:
            await peer.wait_while_hung()
        if missed:
            silent = ", ".join(peer.peer_id for peer in missed)
            raise ProtocolError(500, f"Announcement failed: peer {silent} did not answer")
        self._space.tasks[task.task_id] = task
        return JSONResponse(
            {
                "key": normalized(announced.key),
                "service_time": time.perf_counter_ns() - started,
                "tasks_ids": [task.task_id],
                "bucket_id": normalized(bucket_id),
                "replicas": task.peer_ids,
                "extra": {},
            }
        )

    async def _announce(self, announced: PutMetadataRequest) -> tuple[Task, list[Peer]]:
        """Return the task, and the chosen peers that did not answer. If there are any, nothing is placed."""
        placement, peers = self._space.placement, self._space.peers
        bucket_id, key = announced.bucket_id, announced.key
        available = {peer_id for peer_id, peer in peers.items() if not peer.is_unavailable}
        async with self._space.database.transaction():
            try:
                chosen = placement.choose(bucket_id, key, announced.replication_factor, list(peers), available)
            except NoPeerLeftError as error:
                raise _no_peer_left(announced, error) from None
            task = Task(str(uuid.uuid4()), announced, chosen)
            missed = [peers[peer_id] for peer_id in sorted(chosen) if peers[peer_id].is_down]
            for peer_id in chosen:
                if not peers[peer_id].is_down:
                    peers[peer_id].announce(task)
            if not missed:
                placement.add(bucket_id, key, chosen)
        return task, missed

    async def put_chunked(self, request: Request) -> Response:
        """Receive the data of a task as the body."""
        http.parse_chunk_size(request)
        task, peer_ids = await self._deliver(request, request.stream())
        bucket_id, key = task.announced.bucket_id, task.announced.key
        return JSONResponse(
            {
                "peer_ids": peer_ids,
                "combined_key": f"{bucket_id}@{key}",
                "bucket_id": bucket_id,
                "key": key,
                "size": task.announced.size,
            }
        )

    async def put_data(self, request: Request) -> Response:
        """Receive the data of a task as multipart field ``data``; the answer does not name the peers that stored it."""
        await self._deliver(request, http.read_form(request))
        return Response(status_code=201)

    async def _deliver(self, request: Request, pieces: AsyncIterator[bytes]) -> tuple[Task, list[str]]:
        """Send the data of a task to its peers; return the task, and the ids of the peers that stored it."""
        task_id = request.path_params["task_id"]
        task = self._space.tasks.get(task_id)
        if task is None:
            await http.drain(request)
            raise ProtocolError(500, f"Task({task_id}) not found")
        body = self._space.incoming_body()
        try:
            await body.receive(pieces)
            self._remember(task, body)
            await body.finish()
            return task, await self._store(task, body)
        except ClientDisconnect as error:
            # The real router, too, caches the bytes received before a disconnect.
            self._remember(task, body)
            raise ProtocolError(499, "Client closed the request") from error
        finally:
            body.close()

    def _remember(self, task: Task, body: IncomingBody) -> None:
        """Cache the received bytes, even incomplete ones, before any peer has accepted them."""
        name = task.announced.bucket_id, task.announced.key
        self._cache.pop(name, None)
        if body.is_in_memory and self._fits_cache(body.size):
            self._cache[name] = ChunkData(task.announced.content_type, bytes(body.content), body.size)

    def _fits_cache(self, size: int) -> bool:
        return size <= self._cache.maxsize // 2

    async def _store(self, task: Task, body: IncomingBody) -> list[str]:
        announced = task.announced
        if announced.size == 0 and body.size > 0:
            raise ProtocolError(500, f"Unexpected data of {body.size} bytes for a chunk of size 0")
        peers = [peer for peer_id in task.peer_ids if (peer := self._space.peers.get(peer_id))]
        for peer in peers:
            await peer.wait_while_hung()
        stored = await asyncio.gather(*(peer.store(task, body) for peer in peers))
        if self._space.faults.take("fail_after_storing", {"bucket": announced.bucket_id, "key": announced.key}):
            raise ProtocolError(500, "500: the placement service did not answer")
        # A task stays valid until all its peers were tried.
        self._space.tasks.pop(task.task_id, None)
        return [peer.peer_id for peer, is_stored in zip(peers, stored, strict=True) if is_stored]

    async def disable(self, request: Request) -> Response:
        """Mark a chunk as disabled. The protocol page gives this no effect, so its data can still be read."""
        await self._change(request, {"is_disabled": True})
        return Response(status_code=204)

    async def update_metadata(self, request: Request) -> Response:
        """Answer 500 in plain text, as the real service does."""
        return PlainTextResponse("Internal Server Error", 500)

    async def _change(self, request: Request, changes: Mapping[str, Any]) -> None:
        bucket_id, key = http.object_names(request)
        async with self._space.database.transaction():
            changed = [peer.change(bucket_id, key, changes) for peer in self._reachable_peers()]
        if not any(changed):
            raise ProtocolError(404, f"{bucket_id}@{key} not found")

    # -- reading -------------------------------------------------------------------------------------------------------

    async def get_metadata(self, request: Request) -> Response:
        """Return the metadata of a chunk, from its next replica in turn."""
        started = time.perf_counter_ns()
        bucket_id, key = http.object_names(request)
        peer = self._next_holder("metadata", bucket_id, key)
        if peer is None:
            raise ProtocolError(500, "404: No available peers")
        await peer.wait_while_hung(300)
        try:
            replica = peer.find(bucket_id, key)
        except PeerDownError as error:
            raise ProtocolError(404, f"Fail to fetch metadata from peer {error.peer_id}, try again later.") from error
        if replica is None:
            raise ProtocolError(500, f"404: No metadata found for {bucket_id}@{key}")
        peer_id, spent = replica.peer_id, time.perf_counter_ns() - started
        text = f'{{"service_time":{spent},"peer_id":"{peer_id}","local_peer_id":"{peer_id}","metadata":'
        return Response(f"{text}{replica.metadata}}}", media_type="application/json")

    async def get_bucket_metadata(self, request: Request) -> Response:
        """Return the metadata of all chunks of a bucket."""
        bucket_id = request.path_params["bucket_id"]
        await self._wait_for_peers()
        return Response(await asyncio.to_thread(self._list_bucket, bucket_id), media_type="application/json")

    def _list_bucket(self, bucket_id: str) -> bytes:
        """Return the listing (JSON). As the real one, it repeats for every peer the newest entry per key so far."""
        answered: list[str] = []
        newest: dict[str, str] = {}
        listed: list[str] = []
        for peer in list(self._space.peers.values()):
            try:
                rows = peer.bucket(bucket_id)
            except PeerDownError:
                continue  # as the real router, which never reports an incomplete listing
            for key, metadata in rows:
                known = newest.setdefault(key, metadata)
                if known is not metadata and updated_at(known) < updated_at(metadata):
                    newest[key] = metadata
            answered.append(peer.peer_id)
            listed.extend(newest.values())
        head = json.dumps({"bucket_id": bucket_id, "peers_ids": answered}, separators=(",", ":"))
        return f'{head[:-1]},"balls":[{",".join(listed)}]}}'.encode()

    async def get_chunks_metadata(self, request: Request) -> Response:
        """Return every announced chunk of a ball from the peers that answer, without chunks of size 0."""
        bucket_id, ball_id = http.object_names(request)
        await self._wait_for_peers()
        chunks = [json.loads(replica.metadata) for replica in self._list_ball(bucket_id, ball_id) if replica.size > 0]
        if not chunks:
            raise ProtocolError(404, f"{bucket_id}@{ball_id} not found")
        by_age = sorted(chunks, key=lambda chunk: int(chunk["tags"]["updated_at"]))
        # The protocol page gives no rule for repeated replicas: every chunk counts once, with its oldest replica.
        size = sum({chunk["key"]: chunk["size"] for chunk in reversed(by_age)}.values())
        return JSONResponse(
            {
                "bucket_id": bucket_id,
                "ball_id": ball_id,
                "size": humanfriendly.format_size(size),
                "size_bytes": size,
                "checksum": by_age[0]["tags"].get("full_checksum", ""),
                "chunks": chunks,
            }
        )

    def _list_ball(self, bucket_id: str, ball_id: str) -> list[Replica]:
        known: list[Replica] = []
        for peer in self._space.peers.values():
            try:
                known.extend(peer.ball(bucket_id, ball_id))
            except PeerDownError:
                continue  # as the real router, which never reports an incomplete listing
        return known

    async def get_data(self, request: Request) -> Response:
        """Return the bytes of a chunk: from the cache, or from its next replica in turn."""
        name = bucket_id, key = http.object_names(request)
        if (peer_id := request.headers.get("peer-id")) is not None:
            # This header bypasses the placement service and the cache.
            return http.answer_data(request, await self._read(self._space.peers.get(peer_id), bucket_id, key))
        is_forced = request.headers.get("force-get", "0").strip() == "1"
        if not is_forced and (cached := self._cache.get(name)) is not None:
            return http.answer_data(request, cached)
        data = await self._read(self._next_holder("data", bucket_id, key), bucket_id, key)
        if not is_forced and self._fits_cache(data.size):
            content = b"".join([piece async for piece in data.pieces()])
            data = self._cache[name] = ChunkData(data.content_type, content, len(content))
        return http.answer_data(request, data)

    async def _read(self, peer: Peer | None, bucket_id: str, key: str) -> ChunkData:
        if peer is None:
            raise ProtocolError(404, NO_DATA)
        await peer.wait_while_hung()
        try:
            data = peer.read(bucket_id, key)
        except PeerDownError as error:
            raise ProtocolError(404, f"Fail to fetch data from peer {error.peer_id}, try again later.") from error
        if data is None:
            raise ProtocolError(404, NO_DATA)
        return data

    async def get_size(self, request: Request) -> Response:
        """Return the size of every placed replica whose peer answers."""
        bucket_id, key = http.object_names(request)
        sizes = []
        for peer in [self._space.peers[peer_id] for peer_id in self._space.placement.holders(bucket_id, key)]:
            await peer.wait_while_hung(10)
            with contextlib.suppress(PeerDownError):
                if replica := peer.find(bucket_id, key):
                    sizes.append({"bucket_id": bucket_id, "key": key, "peer_id": peer.peer_id, "size": replica.size})
        return JSONResponse(sizes)

    async def get_merged(self, request: Request) -> Response:
        """Return the bytes of a ball. A failure after the first chunk only ends the body early."""
        bucket_id, ball_id = http.object_names(request)

        def index(key: str) -> tuple[int, str]:
            text = key.removeprefix(f"{ball_id}_")
            return (int(text) if text.isascii() and text.isdigit() else -1, key)

        keys = sorted({replica.key for replica in self._list_ball(bucket_id, ball_id)}, key=index)
        chunks = (await self._read(self._next_holder("data", bucket_id, key), bucket_id, key) for key in keys)
        try:
            first = await anext(chunks)
        except (ProtocolError, StopAsyncIteration):
            raise ProtocolError(404, "No available peer; try again later.") from None

        async def pieces() -> AsyncIterator[bytes | memoryview]:
            async for piece in first.pieces():
                yield piece
            try:
                async for chunk in chunks:
                    async for piece in chunk.pieces():
                        yield piece
            except ProtocolError:
                return

        return http.DataResponse(pieces(), media_type=first.content_type)

    async def get_by_checksum(self, request: Request) -> Response:
        """Answer 404, as the real service does."""
        raise ProtocolError(404, "Not Found")

    def _next_holder(self, what: str, bucket_id: str, key: str) -> Peer | None:
        """Return the next peer of a chunk: requests use its replicas in turn."""
        name, holders = (what, bucket_id, key), self._space.placement.holders(bucket_id, key)
        turn = self._turns[name] = self._turns.get(name, -1) + 1
        return self._space.peers[holders[turn % len(holders)]] if holders else None

    # -- deleting ------------------------------------------------------------------------------------------------------

    async def delete(self, request: Request) -> Response:
        """Delete a chunk at every peer that answers, and its placement; ignore the header ``Force``."""
        bucket_id, key = http.object_names(request)
        await self._wait_for_peers(30)
        deleted: list[str] = []
        async with self._space.database.transaction():
            holders = self._space.placement.holders(bucket_id, key)
            self._space.placement.forget(bucket_id, key)
            for peer in self._reachable_peers() if holders else ():
                deleted += peer.delete_key(bucket_id, key)
        self._cache.pop((bucket_id, key), None)
        if not holders:
            raise ProtocolError(404, f"{bucket_id}@{key} not found")
        return JSONResponse({"n_deletes": len(deleted), "key": key})

    async def delete_by_ball_id(self, request: Request) -> Response:
        """Delete the chunks of a ball at the peers that answer, and the placement of these chunks."""
        bucket_id, ball_id = http.object_names(request)
        await self._wait_for_peers()
        deleted: list[str] = []
        async with self._space.database.transaction():
            for peer in self._reachable_peers():
                deleted += peer.delete_ball(bucket_id, ball_id)
            for key in set(deleted):
                # The placement service keeps names that it normalized, because it cannot find them.
                self._space.placement.forget(bucket_id, key)
        for key in set(deleted):
            self._cache.pop((bucket_id, key), None)
        return JSONResponse({"n_deletes": len(deleted), "ball_id": ball_id})

    # -- peers and the router itself -----------------------------------------------------------------------------------

    def _reachable_peers(self) -> list[Peer]:
        return [peer for peer in self._space.peers.values() if not peer.is_down]

    async def _wait_for_peers(self, timeout: float = 120) -> None:
        """Wait for hung peers, one after another, as a router does that asks all peers."""
        for peer in list(self._space.peers.values()):
            await peer.wait_while_hung(timeout)

    async def get_peers(self, request: Request) -> Response:
        """Return the peers that are available according to the placement service, and the others."""
        known: dict[str, list[dict[str, Any]]] = {"available": [], "unavailable": []}
        for peer in self._space.peers.values():
            address = {"ip_addr": self._space.options.host, "port": peer.port, "protocol": "http", "api_version": 4}
            known["unavailable" if peer.is_unavailable else "available"].append({"peer_id": peer.peer_id, **address})
        return JSONResponse(known)

    async def add_peer(self, request: Request) -> Response:
        """Add a peer."""
        return self._add([await http.read_json(request, _NEW_PEER)])

    async def add_peers(self, request: Request) -> Response:
        """Add peers."""
        return self._add(await http.read_json(request, _NEW_PEERS))

    def _add(self, peers: list[NewPeer]) -> Response:
        """
        Add peers: every new one starts in this process, on the requested port.

        The real service connects to a peer at the address; here, all peers run in this process.
        """
        for peer in peers:
            if not is_safe_id(peer.peer_id):
                raise ProtocolError(400, f"peer_id must have only letters, digits, '-' and '_', got {peer.peer_id!r}")
        for peer in peers:
            if peer.peer_id not in self._space.peers and not self._space.restore_peer(peer.peer_id):
                try:
                    self._start_peer(peer.peer_id, max(0, peer.port))
                except OSError as error:
                    raise ProtocolError(400, f"Peer {peer.peer_id} can't listen on {peer.port}: {error}") from error
        return Response(status_code=204)

    async def remove_peer(self, request: Request) -> Response:
        """Remove a peer. It keeps running, with its replicas."""
        peer_id = request.path_params["peer_id"]
        if not self._space.remove_peer(peer_id):
            raise ProtocolError(404, f"Peer {peer_id} not found")
        return Response(status_code=204)

    async def remove_peers(self, request: Request) -> Response:
        """Remove peers. The protocol page says "a list": of ids, or of what ``POST`` takes."""
        for peer in await http.read_json(request, _PEER_IDS):
            self._space.remove_peer(peer if isinstance(peer, str) else peer.peer_id)
        return Response(status_code=204)

    async def list_cache(self, request: Request) -> Response:
        """Return the names of the cached chunks."""
        return JSONResponse({"keys": [f"{bucket_id}@{key}" for bucket_id, key in self._cache]})

    async def get_cache_stats(self, request: Request) -> Response:
        """Return the size and the use of the cache (bytes)."""
        total, used = int(self._cache.maxsize), int(self._cache.currsize)
        uf = used / total if total else 0.0
        return JSONResponse({"total": total, "used": used, "available": total - used, "uf": uf})

    async def clear_cache(self, request: Request) -> Response:
        """Clear the cache of this router."""
        self._cache.clear()
        return Response(status_code=204)

    async def get_stats(self, request: Request) -> Response:
        """Return the disk usage and the stored chunks of every peer that answers, by peer id."""
        peers, rows = self._reachable_peers(), http.parse_slice(request, 100)

        def stats() -> dict[str, dict[str, Any]]:
            ids = [peer.peer_id for peer in peers]
            return {
                peer.peer_id: {**peer.usage(rows), "peers": [other for other in ids if other != peer.peer_id]}
                for peer in peers
            }

        return JSONResponse(await asyncio.to_thread(stats))

    async def openapi(self, request: Request) -> Response:
        """Return the OpenAPI description of the requests."""
        from starlette.schemas import BaseSchemaGenerator  # imports PyYAML, which would slow down every start

        info = {"title": "MictlanX local VSS", "version": "0.1.0", "description": "A development tool."}
        paths: dict[str, dict[str, Any]] = {}
        for path, method, endpoint in BaseSchemaGenerator().get_endpoints(request.app.routes):
            responses = {"200": {"description": "Successful Response"}}
            paths.setdefault(path, {})[method] = {"operationId": endpoint.__name__, "responses": responses}
        return JSONResponse({"openapi": "3.1.0", "info": info, "paths": paths})

    async def metrics(self, request: Request) -> Response:
        """Return Prometheus counters of this router's requests."""
        lines = [
            "# HELP http_requests_total Total number of requests by method, status and handler.",
            "# TYPE http_requests_total counter",
        ]
        for (server, method, route, status), number in sorted(self._log.totals.items()):
            if server == self._router_id:
                labels = f'handler="{route}",method="{method}",status="{status}"'
                lines.append(f"http_requests_total{{{labels}}} {number}")
        return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


def _no_peer_left(announced: PutMetadataRequest, error: NoPeerLeftError) -> ProtocolError:
    if not error.everywhere:
        # Peers without a replica exist, but are unavailable: a temporary failure.
        return ProtocolError(404, "No available peers.")
    return ProtocolError(
        404,
        {
            "msg": "No available peers.",
            "suggestion": "Add more peers or delete replicas.",
            "bucket_id": normalized(announced.bucket_id),
            "key": normalized(announced.key),
            "replicas": error.holders,
            "code": 666,
        },
    )
