"""Permissions of the page's routes: every route is listed, and none answers without a login."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.routing import Mount

from airflow_provider_mictlanx.plugins.web.app import app
from tests.support.vss import LocalVSS

ROUTES = {
    "/bulks": {"connection", "bulk"},
    "/connections": set(),
    "/connections/{connection_id}/routers": set(),
    "/connections/{connection_id}/bulk": {"bulk"},
    "/connections/{connection_id}/bucket": {"bucket", "prefix"},
}
"""Every route, with the parameters of its query."""

INJECTED = ("user", "session", "request", "bulks", "method", "inner", "dag_id", "_oauth_token", "bearer_credentials")
"""Names of dependencies, which a query must not be able to replace."""

EVERY_PARAMETER = dict.fromkeys(
    (*INJECTED, "connection_id", "connection", "bulk", "bucket", "prefix", "token"), "bucket"
)


def routes(found: Iterable[Any] = app.routes) -> Iterator[APIRoute]:
    for route in found:
        if (included := getattr(route, "original_router", None)) is not None:  # of later releases of FastAPI
            yield from routes(included.routes)
        elif not isinstance(route, Mount):
            assert isinstance(route, APIRoute), route
            yield route


def query_of(dependant: Dependant) -> set[str]:
    """Return the parameters of a query that a route, or one of its dependencies, reads."""
    return {parameter.name for parameter in dependant.query_params}.union(*map(query_of, dependant.dependencies))


def path(route: str) -> str:
    return route.format(connection_id="mictlanx_default")


def test_routes_are_known_with_their_parameters() -> None:
    found = {route.path: query_of(route.dependant) for route in routes()}
    assert found == ROUTES
    assert all(route.methods == {"GET"} for route in routes())
    assert [route.path for route in app.routes if isinstance(route, Mount)] == ["/static"]


@pytest.mark.parametrize("query", [{}, EVERY_PARAMETER], ids=["alone", "with every parameter"])
def test_every_route_without_login_answers_401(
    sign_in: Callable[..., TestClient], connected: LocalVSS, query: dict[str, str]
) -> None:
    connected.reset_requests()
    answers = {route: sign_in().get(path(route), params=query).status_code for route in ROUTES}
    assert answers == dict.fromkeys(ROUTES, 401)
    assert connected.requests() == []


def test_routes_with_a_forged_token_answer_403(sign_in: Callable[..., TestClient]) -> None:
    nobody = sign_in()
    answers = {nobody.get(path(route), headers={"Authorization": "Bearer forged"}).status_code for route in ROUTES}
    assert answers == {403}


def test_static_file_needs_no_login_and_docs_are_off(sign_in: Callable[..., TestClient]) -> None:
    script = sign_in().get("/static/main.js")
    assert script.status_code == 200
    assert script.headers["content-type"].startswith("text/javascript")
    hidden = ("/docs", "/redoc", "/openapi.json", "/static/", "/static/../app.py", "/static/%2e%2e/app.py")
    assert {name: sign_in().get(name).status_code for name in hidden} == dict.fromkeys(hidden, 404)


@pytest.mark.parametrize(
    ("role", "bulks", "connections"), [("viewer", 200, 403), ("user", 200, 403), ("op", 200, 200), ("admin", 200, 200)]
)
def test_roles(
    sign_in: Callable[..., TestClient], connected: LocalVSS, role: str, bulks: int, connections: int
) -> None:
    client = sign_in(role)
    answers = {route: client.get(path(route), params=EVERY_PARAMETER).status_code for route in ROUTES}
    assert answers == {route: bulks if route == "/bulks" else connections for route in ROUTES}


def test_bulks_are_those_of_readable_dags(
    sign_in: Callable[..., TestClient], connected: LocalVSS, upload: Callable[..., None]
) -> None:
    upload("seen", dag_id="dag")
    upload("kept secret", dag_id="hidden")
    upload("shared", dag_id="dag", map_index=0)
    upload("shared", dag_id="hidden", map_index=1)
    client = sign_in("admin")

    def listed(**query: str) -> dict[str, set[Any]]:
        answer = client.get("/bulks", params=query).raise_for_status().json()
        return {bulk["bulk_id"]: {task["dag_id"] for task in bulk["tasks"]} for bulk in answer}

    assert listed() == {"seen": {"dag"}, "shared": {"dag"}}
    assert listed(connection="mictlanx_default", bulk="kept secret") == {}
    assert listed(connection="mictlanx_default", bulk="seen") == {"seen": {"dag"}}
    assert client.get("/bulks", params={"dag_id": "hidden"}).status_code == 403


def test_connections_are_those_of_type_mictlanx(
    sign_in: Callable[..., TestClient], connected: LocalVSS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BY_URI", connected.uri)
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "postgres://host")
    monkeypatch.setenv("AIRFLOW_CONN_OTHER_JSON", '{"conn_type": "http", "host": "mictlanx"}')
    assert sign_in("op").get("/connections").json() == ["by_uri", "mictlanx_default"]
