"""ASGI middleware: fault injection at the sockets, and the request log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from typing import Any, NoReturn, cast

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from airflow_provider_mictlanx.local_vss.control import ControlApp
from airflow_provider_mictlanx.local_vss.faults import Fault, RequestContext
from airflow_provider_mictlanx.local_vss.peer import Peer
from airflow_provider_mictlanx.local_vss.request_log import RequestLog, redact_headers
from airflow_provider_mictlanx.local_vss.storage_space import StorageSpace


class _Dropped(Exception):
    """A fault closed the connection."""


class FaultMiddleware:
    """
    The application of one server, with faults at its sockets and the request log.

    :param app: the application
    :param server_id: ``router-0`` … or ``peer-0`` …
    :param peer: the peer of this server; None for a router
    """

    def __init__(
        self, app: Starlette, server_id: str, space: StorageSpace, log: RequestLog, peer: Peer | None = None
    ) -> None:
        self._app = app
        self._server_id = server_id
        self._faults = space.faults
        self._log = log
        self._peer = peer
        self._tasks = peer.tasks if peer else space.tasks
        self._prefix = "" if peer else space.options.path_prefix
        self._control = ControlApp(space, log)
        self._routes = cast(list[Route], app.routes)
        self._paths: dict[Any, str] = {route.endpoint: route.path for route in self._routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if self._prefix and scope["path"].startswith(self._prefix + "/"):
            scope["path"] = scope["path"].removeprefix(self._prefix)  # as a reverse proxy does
        if scope["path"].startswith(("/_faults", "/_requests", "/_data")):
            await self._control(scope, receive, send)
            return
        status, generation, came = 0, self._log.generation, time.time()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with contextlib.suppress(_Dropped, ClientDisconnect):  # nobody is left to answer
                await self._answer(scope, receive, watched, send)
        finally:
            self._log.add(
                generation,
                {
                    "server": self._server_id,
                    "method": scope["method"],
                    "path": scope["path"],
                    "query": scope["query_string"].decode("latin-1"),
                    "route": self._paths.get(scope.get("endpoint"), "-"),
                    "status": status,
                    "headers": redact_headers(scope["headers"]),
                    "at": came,
                },
            )

    async def _answer(self, scope: Scope, receive: Receive, watched: Send, send: Send) -> None:
        if not self._faults:
            await self._app(scope, receive, watched)
            return
        connection = _Connection(receive, send)
        if self._peer and self._peer.is_down:
            await connection.reset()
        context = self._context(scope)
        if fault := self._take("latency", context):
            await asyncio.sleep(fault.seconds)
        if fault := self._take("reset", context):
            if fault.when == "after":
                await self._app(scope, receive, _discard)
            await connection.reset()
        if fault := self._take("status", context):
            body = fault.body if isinstance(fault.body, str) else json.dumps(fault.body)
            await Response(body, fault.status, fault.headers, fault.content_type)(scope, receive, watched)
            return
        cut = self._take("cut_body", context)
        await self._app(scope, receive, watched if cut is None else _BodyCutter(cut, watched, connection))

    def _take(self, kind: str, context: RequestContext) -> Fault | None:
        # Faults at the sockets affect a peer's port only if they name the peer.
        return self._faults.take(kind, context, only_named_peers=self._peer is not None)

    def _context(self, scope: Scope) -> RequestContext:
        """Return the values that faults are matched with; bucket and key come from the path, or from the task."""
        names = self._path_params(scope)
        server = {"peer" if self._peer else "router": self._server_id}
        context = {**server, "method": scope["method"], "path": scope["path"], "bucket": names.get("bucket_id")}
        if task := self._tasks.get(names.get("task_id", "")):
            return {**context, "bucket": task.announced.bucket_id, "key": task.announced.key}
        return {**context, "key": names.get("key") or names.get("ball_id")}

    def _path_params(self, scope: Scope) -> dict[str, str]:
        for route in self._routes:
            match, found = route.matches(scope)
            if match is not Match.NONE:
                return cast(dict[str, str], found["path_params"])
        return {}


class _Connection:
    """A client's connection. ASGI cannot close one, so uvicorn's transport is used."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        cycle: Any = getattr(send, "__self__", None)  # send is a method of uvicorn's request cycle
        self._transport: asyncio.Transport = cycle.transport

    async def reset(self) -> NoReturn:
        """Drop the connection at once, so that the client gets "connection reset"."""
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # the client has closed it
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
        await self._wait_until_closed()

    async def close(self) -> NoReturn:
        """Close the connection after the bytes sent so far."""
        self._transport.close()
        await self._wait_until_closed()

    async def _wait_until_closed(self) -> NoReturn:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise _Dropped


class _BodyCutter:
    """Send the first bytes of a body, then end it as if it were complete, or close the connection."""

    def __init__(self, fault: Fault, watched: Send, connection: _Connection) -> None:
        self._left = fault.at
        self._clean = fault.clean
        self._watched = watched
        self._connection = connection
        self._ended = False

    async def __call__(self, message: Message) -> None:
        if self._ended:
            return
        if message["type"] == "http.response.start":
            # A cut body that looks complete must not contradict its Content-Length.
            promised = [(n, v) for n, v in message.get("headers", []) if not (self._clean and n == b"content-length")]
            await self._watched({**message, "headers": promised})
            return
        body = message.get("body", b"")
        if len(body) < self._left:
            self._left -= len(body)
            await self._watched(message)
            return
        self._ended = True
        part = {"type": "http.response.body", "body": body[: self._left], "more_body": not self._clean}
        await self._watched(part)
        if not self._clean:
            await self._connection.close()


async def _discard(message: Message) -> None:
    """Discard a message of an answer."""
