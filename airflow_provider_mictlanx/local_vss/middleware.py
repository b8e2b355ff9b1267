"""
ASGI middleware: fault injection, request log, and the requests that control both.

The control requests (``/_faults``, ``/_requests``) are answered on loopback only, whatever the listening address, and only when sent
directly: not through a proxy, nor from a page in a browser.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_mictlanx.local_vss import http
from airflow_provider_mictlanx.local_vss.faults import Fault, FaultBoard, RequestContext
from airflow_provider_mictlanx.local_vss.placement import Tasks
from airflow_provider_mictlanx.local_vss.request_log import LoggedRequest, RequestLog, redact_headers
from airflow_provider_mictlanx.local_vss.router import ProtocolError
from airflow_provider_mictlanx.local_vss.router_app import API

_FAULTS = TypeAdapter(list[Fault])


class _Dropped(Exception):
    """The connection was closed on purpose."""


class FaultMiddleware:
    """
    An application with what stands before it.

    :param app: the application
    :param server_id: ``router-0`` … or ``peer-0`` …
    :param is_down: whether connections are to be closed unanswered just now
    :param tasks: what tells which chunk a data request is for
    :param path_prefix: a path that is left out where a request has it, as a reverse proxy does
    """

    def __init__(
        self,
        app: ASGIApp,
        server_id: str,
        faults: FaultBoard,
        log: RequestLog,
        tasks: Tasks,
        *,
        is_peer: bool,
        is_down: Callable[[], bool] = lambda: False,
        path_prefix: str = "",
    ) -> None:
        self._app = app
        self._server_id = server_id
        self._faults = faults
        self._log = log
        self._tasks = tasks
        self._is_peer = is_peer
        self._is_down = is_down
        self._prefix = path_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        self._strip_prefix(scope)
        if scope["path"].startswith(("/_faults", "/_requests")):
            await self._control(scope, receive, send)
            return
        status, generation, came = 0, self._log.generation, time.time()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answer(scope, receive, watched, send)
        except _Dropped:
            pass
        finally:
            self._note(scope, status, generation, came)

    async def _answer(self, scope: Scope, receive: Receive, watched: Send, send: Send) -> None:
        if not self._faults:
            await self._app(scope, receive, watched)
            return
        connection = _Connection(receive, send)
        if self._is_down():
            await connection.reset()
        context = self._context(scope)
        if fault := self._take("latency", context):
            await asyncio.sleep(fault.seconds)
        if fault := self._take("reset", context):
            if fault.when == "after":
                await self._app(scope, receive, _discard)
            await connection.reset()
        if fault := self._take("status", context):
            await _status_answer(fault)(scope, receive, watched)
            return
        cut = self._take("cut_body", context)
        await self._app(scope, receive, watched if cut is None else _Cutter(cut, watched, connection))

    def _take(self, kind: str, context: RequestContext) -> Fault | None:
        # A fault that names no server is the routers': a peer's own port misbehaves only when it is meant.
        return self._faults.take(kind, context, only_named_peers=self._is_peer)

    def _context(self, scope: Scope) -> RequestContext:
        bucket_id, key = self._subject(scope["path"])
        server = (
            {"peer": self._server_id, "router": None} if self._is_peer else {"peer": None, "router": self._server_id}
        )
        return {**server, "method": scope["method"], "path": scope["path"], "bucket": bucket_id, "key": key}

    def _subject(self, path: str) -> tuple[str | None, str | None]:
        """Give bucket and key (or ball) that a request is about, as far as its path or its task tells."""
        parts = path.removeprefix(f"{API}/buckets/").split("/") if path.startswith(f"{API}/buckets/") else []
        if len(parts) >= 2 and parts[0] == "data":
            task = self._tasks.look(parts[1])
            return (task.bucket_id, task.key) if task else (None, None)
        if len(parts) >= 3 and parts[1] in ("metadata", "bid"):
            return parts[0], parts[2]
        if len(parts) >= 2 and parts[1] != "metadata":
            return parts[0], parts[1]
        return (parts[0], None) if parts else (None, None)

    def _strip_prefix(self, scope: Scope) -> None:
        if self._prefix and scope["path"].startswith(self._prefix + "/"):
            scope["path"] = scope["path"][len(self._prefix) :]

    def _note(self, scope: Scope, status: int, generation: int, came: float) -> None:
        route = _route_of(scope)
        query = scope["query_string"].decode("latin-1")
        headers = redact_headers(scope["headers"])
        logged = LoggedRequest(self._server_id, scope["method"], scope["path"], query, route, status, headers, came)
        self._log.add(logged, generation)

    async def _control(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            if not _is_loopback(scope) or _is_forwarded(request):
                raise ProtocolError(403, "Faults and the request log are for loopback only, and not through a proxy.")
            response = await self._controlled(request)
        except ProtocolError as error:
            response = JSONResponse({"detail": error.detail}, error.status)
        await response(scope, receive, send)

    async def _controlled(self, request: Request) -> Response:
        _, name, *rest = request.url.path.split("/")
        if name == "_requests" and not rest and request.method == "GET":
            return JSONResponse(self._log.report())
        if name == "_requests" and not rest and request.method == "DELETE":
            self._log.clear()
            return Response(status_code=204)
        if name == "_faults" and not rest and request.method == "GET":
            return JSONResponse({"faults": [fault.model_dump() for fault in self._faults.all()]})
        if name == "_faults" and not rest and request.method == "PUT":
            return await self._put_faults(request)
        if name == "_faults" and request.method == "DELETE":
            return self._delete_faults(rest)
        raise ProtocolError(405, "GET, PUT and DELETE /_faults, DELETE /_faults/{id}, GET and DELETE /_requests")

    async def _put_faults(self, request: Request) -> Response:
        value = await http.read_json(request)
        try:
            faults = _FAULTS.validate_python(value if isinstance(value, list) else [value])
        except ValidationError as error:
            raise ProtocolError(422, json.loads(error.json(include_url=False, include_context=False))) from error
        if isinstance(value, list):
            self._faults.clear()
        for fault in faults:
            self._faults.add(fault)
        return JSONResponse({"faults": [fault.model_dump() for fault in faults]})

    def _delete_faults(self, rest: list[str]) -> Response:
        if not rest:
            self._faults.clear()
        elif not self._faults.remove(rest[0]):
            raise ProtocolError(404, f"no fault {rest[0]!r} is on")
        return Response(status_code=204)


class _Connection:
    """A client's connection, to be cut. ASGI has no word for that, so uvicorn's request cycle is asked."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        cycle: Any = getattr(send, "__self__", None)  # the outermost send is a method of the cycle
        self._transport: asyncio.Transport = cycle.transport

    async def reset(self) -> NoReturn:
        """Drop the connection at once, so that the client's system says "connection reset"."""
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # the client has closed it
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
        await self._gone()

    async def close(self) -> NoReturn:
        """Close the connection after what was sent so far."""
        self._transport.close()
        await self._gone()

    async def _gone(self) -> NoReturn:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise _Dropped


class _Cutter:
    """Lets so many bytes of a body pass, and ends it there: as if it were whole, or with a closed connection."""

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
            # A cut that is to look whole must not contradict a length that was promised.
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


def _status_answer(fault: Fault) -> Response:
    body = fault.body if isinstance(fault.body, str) else json.dumps(fault.body)
    return Response(body, fault.status, fault.headers, fault.content_type)


async def _discard(message: Message) -> None:
    """Send an answer that nobody gets."""


def _route_of(scope: Scope) -> str:
    endpoint = scope.get("endpoint")
    for route in getattr(scope.get("app"), "routes", ()):
        if getattr(route, "endpoint", None) == endpoint and endpoint is not None:
            return str(route.path)
    return "-"


_FORWARDED = frozenset(
    {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "origin", "sec-fetch-site"}
)
"""What proxies add to a request, and what browsers add to that of a page."""


def _is_forwarded(request: Request) -> bool:
    """Tell whether somebody else asks: through a proxy, or from a page whose host name leads here."""
    if _FORWARDED & set(request.headers.keys()):
        return True
    host = request.url.hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() != "localhost"


def _is_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
