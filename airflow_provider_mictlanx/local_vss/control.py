"""
Requests that control the local VSS: ``/_faults``, ``/_requests`` and ``/_data``.

They are answered on loopback only, for every listening address. They must be sent directly, not through a proxy or by a
web page.
"""

from __future__ import annotations

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from airflow_provider_mictlanx.local_vss import http
from airflow_provider_mictlanx.local_vss.faults import Fault
from airflow_provider_mictlanx.local_vss.http import ProtocolError
from airflow_provider_mictlanx.local_vss.options import is_loopback
from airflow_provider_mictlanx.local_vss.request_log import RequestLog
from airflow_provider_mictlanx.local_vss.storage_space import StorageSpace

_FAULTS: TypeAdapter[Fault | list[Fault]] = TypeAdapter(Fault | list[Fault])

_FORWARDED = frozenset(
    {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "origin", "sec-fetch-site"}
)
"""Headers that proxies add to requests, and that browsers add to requests of web pages."""


class ControlApp:
    """ASGI application that switches faults on and off, reads the request log, and deletes all data."""

    def __init__(self, space: StorageSpace, log: RequestLog) -> None:
        self._space = space
        self._faults = space.faults
        self._log = log
        self._app = http.application(
            [
                Route("/_faults", self.list_faults),
                Route("/_faults", self.put_faults, methods=["PUT"]),
                Route("/_faults", self.clear_faults, methods=["DELETE"]),
                Route("/_faults/{fault_id}", self.delete_fault, methods=["DELETE"]),
                Route("/_requests", self.list_requests),
                Route("/_requests", self.clear_requests, methods=["DELETE"]),
                Route("/_data", self.clear_data, methods=["DELETE"]),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request from this machine, and refuse any other."""
        if _is_local(Request(scope)):
            await self._app(scope, receive, send)
        else:
            detail = f"{scope['path']} must be requested on loopback, and not through a proxy."
            await JSONResponse({"detail": detail}, 403)(scope, receive, send)

    async def list_faults(self, request: Request) -> Response:
        """List the faults that are switched on, with those whose ``count`` is reached."""
        return _answer_faults(list(self._faults.values()))

    async def put_faults(self, request: Request) -> Response:
        """Add a fault, or replace the one with its id; a list replaces all faults."""
        value = await http.read_json(request, _FAULTS)
        faults = value if isinstance(value, list) else [value]
        if isinstance(value, list):
            self._faults.clear()
        self._faults.update({fault.id: fault for fault in faults})
        return _answer_faults(faults)

    async def clear_faults(self, request: Request) -> Response:
        """Switch every fault off."""
        self._faults.clear()
        return Response(status_code=204)

    async def delete_fault(self, request: Request) -> Response:
        """Switch a fault off."""
        fault_id = request.path_params["fault_id"]
        if self._faults.pop(fault_id, None) is None:
            raise ProtocolError(404, f"fault {fault_id!r} is not switched on")
        return Response(status_code=204)

    async def list_requests(self, request: Request) -> Response:
        """List the latest requests."""
        return JSONResponse(self._log.report())

    async def clear_requests(self, request: Request) -> Response:
        """Clear the list of requests."""
        self._log.clear()
        return Response(status_code=204)

    async def clear_data(self, request: Request) -> Response:
        """Delete all data of the storage space."""
        await self._space.clear()
        return Response(status_code=204)


def _answer_faults(faults: list[Fault]) -> Response:
    return JSONResponse({"faults": [fault.model_dump() for fault in faults]})


def _is_local(request: Request) -> bool:
    """Return whether a program on this machine sent the request, not through a proxy or a web page."""
    if request.client is None or not is_loopback(request.client.host):
        return False
    return not _FORWARDED & set(request.headers.keys()) and is_loopback(request.url.hostname or "")
