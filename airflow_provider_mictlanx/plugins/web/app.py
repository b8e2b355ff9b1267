"""
The routes behind the page. They only read, and each requires a login and the right to see its subject.

Airflow lets anybody call a plugin's routes, so the permissions are dependencies of the routers, and the generated
documentation is switched off. Airflow's dependencies are imported at the top: annotations are strings here, and FastAPI
takes one that it cannot resolve for a query parameter.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_connection, requires_access_dag
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from airflow_provider_mictlanx.client.errors import MictlanXError, ValidationError
from airflow_provider_mictlanx.client.texts import clean
from airflow_provider_mictlanx.plugins.web import looks
from airflow_provider_mictlanx.plugins.web.bulk_view import describe_bulk
from airflow_provider_mictlanx.plugins.web.queries import BulkTasks, find_bulks, find_connections


class CleanResponse(JSONResponse):
    """JSON whose texts contain no secret, and no character that is not printable."""

    def render(self, content: Any) -> bytes:
        """Return the content as JSON."""
        return super().render(_clean_texts(content))


def _clean_texts(content: Any) -> Any:
    if isinstance(content, str):
        return clean(content)
    if isinstance(content, dict):
        return {name: _clean_texts(value) for name, value in content.items()}
    return [_clean_texts(value) for value in content] if isinstance(content, list) else content


bulk_routes = APIRouter(dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))])
connection_routes = APIRouter(prefix="/connections", dependencies=[Depends(requires_access_connection("GET"))])


def visible_bulks(
    session: SessionDep, user: GetUserDep, connection: str | None = None, bulk: str | None = None
) -> list[BulkTasks]:
    """Return the bulks of DAGs that the user may read, or one of them."""
    return find_bulks(session, user, connection, bulk)


@bulk_routes.get("/bulks")
async def get_bulks(bulks: Annotated[list[BulkTasks], Depends(visible_bulks)]) -> CleanResponse:
    """Return running and recent bulks, each in the form of ``describe_bulk``."""
    statuses = await asyncio.gather(*map(looks.look_at_tasks, bulks))
    return CleanResponse([describe_bulk(bulk, status) for bulk, status in zip(bulks, statuses, strict=True)])


@connection_routes.get("")
def get_connections(session: SessionDep, user: GetUserDep) -> CleanResponse:
    """Return the ids of the user's MictlanX connections."""
    return CleanResponse(find_connections(session, user))


@connection_routes.get("/{connection_id}/routers")
async def get_routers(connection_id: str) -> CleanResponse:
    """Return the routers and peers of a connection."""
    return CleanResponse(await looks.look_at_routers(connection_id))


@connection_routes.get("/{connection_id}/bulk")
async def get_bulk(connection_id: str, bulk: str) -> CleanResponse:
    """Return one bulk by its id, whoever uploads it: the hook can do it outside of DAGs."""
    status = await looks.look_at_bulk(connection_id, bulk)
    return CleanResponse(describe_bulk(BulkTasks(connection_id, bulk, []), status))


@connection_routes.get("/{connection_id}/bucket")
async def get_bucket(connection_id: str, bucket: str, prefix: str = "") -> CleanResponse:
    """Return the first objects of a bucket."""
    return CleanResponse(await looks.look_at_bucket(connection_id, bucket, prefix))


app = FastAPI(title="MictlanX", docs_url=None, redoc_url=None, openapi_url=None)
app.include_router(bulk_routes)
app.include_router(connection_routes)
app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))


@app.exception_handler(MictlanXError)
def report_error(request: Request, error: MictlanXError) -> CleanResponse:
    """Return what the storage, or the connection, is to blame for."""
    return CleanResponse({"detail": str(error)}, status_code=400 if isinstance(error, ValidationError) else 502)
