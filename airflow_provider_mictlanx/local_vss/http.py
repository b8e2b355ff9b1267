"""HTTP that routers and peers share: paths, errors, parsed requests, and bodies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import humanfriendly
from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from airflow_provider_mictlanx.local_vss.blobs import PIECE, ChunkData

T = TypeVar("T")

API = "/api/v4"
NO_DATA = "No found available replica peer or data, try again later."

_BUCKET_ROUTES = (
    # Before the data routes, because a bucket may have the name "data".
    ("POST", "/{bucket_id}/metadata", "put_metadata"),
    ("GET", "/{bucket_id}/metadata", "get_bucket_metadata"),
    ("POST", "/data/{task_id}/chunked", "put_chunked"),
    ("POST", "/data/{task_id}", "put_data"),
    ("GET", "/checksum/{checksum}", "get_by_checksum"),
    ("GET", "/{bucket_id}/metadata/{key}", "get_metadata"),
    ("DELETE", "/{bucket_id}/bid/{ball_id}", "delete_by_ball_id"),
    ("POST", "/{bucket_id}/{key}/disable", "disable"),
    ("GET", "/{bucket_id}/{key}/size", "get_size"),
    ("GET", "/{bucket_id}/{key}", "get_data"),
    ("DELETE", "/{bucket_id}/{key}", "delete"),
)


def bucket_routes(endpoints: Any) -> list[Route]:
    """Return the routes that routers and peers share; ``endpoints`` has their methods."""
    update = f"{API}/u/buckets/{{bucket_id}}/{{key}}"
    return [
        *(
            Route(f"{API}/buckets{path}", getattr(endpoints, name), methods=[method])
            for method, path, name in _BUCKET_ROUTES
        ),
        Route(update, endpoints.update_metadata, methods=["POST"]),
    ]


def application(routes: Sequence[Route]) -> Starlette:
    """Return an application with these routes, and with errors in the format of the protocol page."""
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error, Exception: _any_error})


class ProtocolError(HTTPException):
    """
    An answer with an error status.

    :param detail: detail of the answer: a str, a list or a dict
    """

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _any_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": f"{type(error).__name__}: {error}"}, 500)


async def read_json(request: Request, adapter: TypeAdapter[T]) -> T:
    """Parse the JSON of a request; answer 422 with all reasons if it is invalid."""
    try:
        return adapter.validate_json(await request.body())
    except ValidationError as error:
        reasons = json.loads(error.json(include_url=False, include_context=False))
        raise ProtocolError(422, [{**reason, "loc": ["body", *reason["loc"]]} for reason in reasons]) from error


async def read_form(request: Request) -> AsyncIterator[bytes]:
    """Yield the pieces of the file in the multipart field ``data``."""
    async with request.form() as form:
        upload = form.get("data")
        if upload is None or isinstance(upload, str):
            missing = {"type": "missing", "loc": ["body", "data"], "msg": "Field required", "input": None}
            raise ProtocolError(422, [missing])
        while piece := await upload.read(PIECE):
            yield piece


async def drain(request: Request) -> None:
    """Receive and discard a body, so that a client that is still sending gets the answer."""
    try:
        async for _ in request.stream():
            pass
    except ClientDisconnect:
        return


class DataResponse(StreamingResponse):
    """Stream bytes without Content-Length, in pieces of the size in the header ``Chunk-Size``."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the bytes, without Starlette's task that waits for a disconnect: uvicorn handles it."""
        await self.stream_response(send)


def answer_data(request: Request, data: ChunkData) -> Response:
    """Return an answer with the bytes, in pieces and under the name that the request names."""
    query = request.query_params
    headers = {}
    if query.get("attachment", "false").lower() in ("1", "true", "yes", "on"):
        name = query.get("filename") or request.path_params.get("key", "data")
        headers["Content-Disposition"] = f"attachment; filename={_header_safe(name)}"
    content_type = _header_safe(query.get("content_type") or data.content_type)
    return DataResponse(data.pieces(parse_chunk_size(request)), 200, headers, content_type)


def parse_slice(request: Request, end: int = 0) -> slice:
    """Return the rows that the query parameters ``start`` and ``end`` select; an ``end`` of 0 selects all of them."""
    query = request.query_params
    try:
        return slice(int(query.get("start", "0")), int(query.get("end", end)) or None)
    except ValueError as error:
        raise ProtocolError(422, f"start and end must be integers: {error}") from error


def parse_chunk_size(request: Request) -> int:
    """Return the header ``Chunk-Size`` in bytes; answer 500 to a malformed one, as the service does."""
    try:
        return max(1, int(humanfriendly.parse_size(request.headers.get("chunk-size", "10mb"))))
    except humanfriendly.InvalidSize as error:
        raise ProtocolError(500, str(error)) from error


def object_names(request: Request) -> tuple[str, str]:
    """Return the bucket id, and the key or the ball id, of the path."""
    parameters = request.path_params
    return parameters["bucket_id"], parameters.get("key") or parameters["ball_id"]


def _header_safe(text: str) -> str:
    return "".join(c if c.isprintable() and ord(c) < 256 else "_" for c in text)
