"""What the routers' and the peers' HTTP have in common: answers, errors, bodies on their way in and out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import humanfriendly
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from airflow_provider_mictlanx.local_vss.blobs import INLINE, Data, IncomingBody
from airflow_provider_mictlanx.local_vss.router import ProtocolError
from airflow_provider_mictlanx.local_vss.storage_space import Space

Model = TypeVar("Model", bound=BaseModel)

DEFAULT_PIECE = "10mb"


class DataResponse(Response):
    """
    Bytes as a stream without Content-Length.

    :param pieces: the bytes
    :param content_type: of the answer
    """

    def __init__(self, pieces: AsyncIterator[bytes], content_type: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(None, 200, headers, content_type)
        self._pieces = pieces
        # What Response adds for an empty body: a stream says nothing of its length.
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def application(routes: Sequence[Route]) -> Starlette:
    """Give an application that answers these routes, and errors as the protocol's page says."""
    return Starlette(
        routes=list(routes),
        exception_handlers={ProtocolError: _protocol_error, HTTPException: _http_error, Exception: _any_error},
    )


async def _protocol_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ProtocolError):
        raise error
    return JSONResponse({"detail": error.detail}, error.status)


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _any_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": f"{type(error).__name__}: {error}"}, 500)


async def read_json(request: Request) -> Any:
    """Give the request's JSON; anything else is answered with 422."""
    body = await request.body()
    try:
        return json.loads(body)
    except ValueError as error:
        at = error.pos if isinstance(error, json.JSONDecodeError) else 0
        raise ProtocolError(
            422, [{"type": "json_invalid", "loc": ["body", at], "msg": "JSON decode error", "input": {}}]
        ) from error


async def read_model(request: Request, model: type[Model]) -> Model:
    """Give the request's JSON as a model; what does not fit is answered with 422 and every reason."""
    return validated(model, await read_json(request))


def validated(model: type[Model], value: Any) -> Model:
    """Give JSON as a model; what does not fit is answered with 422 and every reason."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        reasons = json.loads(error.json(include_url=False, include_context=False))
        raise ProtocolError(422, [_in_body(reason) for reason in reasons]) from error


def _in_body(reason: dict[str, Any]) -> dict[str, Any]:
    ordered = {"type": reason["type"], "loc": ["body", *reason["loc"]], "msg": reason["msg"]}
    return {**ordered, "input": reason.get("input")}


def compact_json(value: Any) -> str:
    """Give JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def receive_body(request: Request, space: Space, body: IncomingBody) -> None:
    """Collect the request's body; raises ``ClientDisconnect`` where the client goes away before its end."""
    async for piece in request.stream():
        body.add(piece)
        if body.is_due:
            await run_in_thread(space, body.flush)


async def finish_body(space: Space, body: IncomingBody) -> None:
    """Work out the checksum of a body that came."""
    if body.size <= INLINE:
        body.finish()
    else:
        await run_in_thread(space, body.finish)


async def receive_form(request: Request, space: Space, body: IncomingBody) -> None:
    """Collect the file in the multipart field ``data``."""
    async with request.form() as form:
        upload = form.get("data")
        if upload is None or isinstance(upload, str):
            raise ProtocolError(
                422, [{"type": "missing", "loc": ["body", "data"], "msg": "Field required", "input": None}]
            )
        while piece := await upload.read(INLINE):
            body.add(piece)
            if body.is_due:
                await run_in_thread(space, body.flush)


async def run_in_thread(space: Space, function: Callable[[], Any]) -> Any:
    """Run something that blocks in a thread."""
    return await asyncio.get_running_loop().run_in_executor(space.threads, function)


async def answer_data(request: Request, space: Space, data: Data) -> Response:
    """Answer bytes, in the pieces and under the name that the request asks for."""
    query = request.query_params
    headers: dict[str, str] = {}
    attachment = query.get("attachment", "false").lower() in ("1", "true", "yes", "on")
    if attachment:
        name = query.get("filename") or request.path_params.get("key", "data")
        headers["Content-Disposition"] = f"attachment; filename={_header_safe(name)}"
    content_type = _header_safe(query.get("content_type") or data.content_type)
    pieces = data.pieces(space.threads, piece_size(request))
    return DataResponse(await _with_first_piece(pieces), content_type, headers)


async def _with_first_piece(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Read the first piece before the answer begins: a file that went away is no data, not a broken answer."""
    try:
        first = await anext(pieces, b"")
    except OSError as error:
        raise ProtocolError(404, "No found available replica peer or data, try again later.") from error

    async def all_of_it() -> AsyncIterator[bytes]:
        if first:
            yield first
        async for piece in pieces:
            yield piece

    return all_of_it()


def piece_size(request: Request) -> int:
    """Give the header ``Chunk-Size`` in bytes; one that is no size is a fault of the service (500), as any other."""
    text = request.headers.get("chunk-size", DEFAULT_PIECE)
    try:
        size = int(humanfriendly.parse_size(text))
    except humanfriendly.InvalidSize as error:
        raise ProtocolError(500, str(error)) from error
    return max(1, size)


def _header_safe(text: str) -> str:
    return "".join(c if c.isprintable() and ord(c) < 256 else "_" for c in text)
