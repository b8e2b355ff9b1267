"""The page's routes as Airflow mounts them, with its own auth manager and a database of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import tests.support.airflow_home  # noqa: F401, before anything imports Airflow
from airflow_provider_mictlanx.links.page import HAS_PAGE

if not HAS_PAGE:
    collect_ignore_glob = ["test_*.py"]
else:
    from airflow import settings
    from airflow.api_fastapi.app import _AuthManagerState, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.models import import_all_models
    from airflow.models.base import Base
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.taskinstance import TaskInstance
    from cachetools import TTLCache
    from fastapi import FastAPI
    from fastapi.testclient import TestClient
    from sqlalchemy import delete, insert

    from airflow_provider_mictlanx.plugins.mictlanx import MictlanXPlugin
    from airflow_provider_mictlanx.plugins.web import looks

    class AuthManager(SimpleAuthManager):
        """Airflow's own, but nobody may see the DAG ``hidden``."""

        def is_authorized_dag(self, *, details: Any = None, **arguments: Any) -> bool:
            hidden = details is not None and details.id == "hidden"
            return not hidden and super().is_authorized_dag(details=details, **arguments)


@pytest.fixture(scope="session")
def database() -> None:
    """The tables of Airflow's database, without the minutes of its migrations' history."""
    import_all_models()
    Base.metadata.create_all(settings.engine)
    with settings.Session() as session:
        session.execute(insert(DagBundleModel).values(name="dags"))
        session.commit()


@pytest.fixture
def upload(database: None) -> Iterator[Callable[..., None]]:
    """Put a task that uploads a bulk into Airflow's database: ``upload("nightly", state="running", dag_id="dag")``."""
    tables = (RenderedTaskInstanceFields, TaskInstance, DagRun, DagModel)
    dags: set[str] = set()

    def add(bulk_id: Any, *, state: str | None = "success", dag_id: str = "dag", **others: Any) -> None:
        row = {"dag_id": dag_id, "run_id": "run", "task_id": "upload", "map_index": -1} | {
            name: others.pop(name) for name in ("task_id", "map_index") if name in others
        }
        fields = {"bulk_id": bulk_id, "mictlanx_conn_id": others.pop("conn_id", "mictlanx_default")}
        started = datetime.now(UTC) - timedelta(seconds=others.pop("age", 0))
        with settings.Session() as session:
            if dag_id not in dags:
                dags.add(dag_id)
                limits = {"max_active_tasks": 1, "max_consecutive_failed_dag_runs": 0}
                session.execute(
                    insert(DagModel).values(
                        dag_id=dag_id, bundle_name="dags", has_task_concurrency_limits=False, **limits
                    )
                )
                session.execute(
                    insert(DagRun).values(dag_id=dag_id, run_id="run", run_type="manual", run_after=started)
                )
            values = {"operator": "MictlanXBulkPutOperator", "pool": "default_pool", "max_tries": 0} | others
            session.execute(insert(TaskInstance).values(**row, state=state, start_date=started, **values))
            session.execute(insert(RenderedTaskInstanceFields).values(**row, rendered_fields=fields))
            session.commit()

    yield add
    with settings.Session() as session:
        for table in tables:
            session.execute(delete(table))
        session.commit()


@pytest.fixture
def sign_in(database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TestClient]]:
    """Make a client of the routes: ``sign_in("viewer")``, and ``sign_in()`` for nobody. All share what was looked up."""
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "of these tests, " * 5)
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    monkeypatch.setattr(_AuthManagerState, "instance", AuthManager())
    # A busy machine takes longer than users wait.
    monkeypatch.setattr(looks, "LOOK_SECONDS", 60)
    monkeypatch.setattr(looks, "REQUEST_SECONDS", 50)
    monkeypatch.setattr(looks, "_shared", TTLCache(maxsize=1000, ttl=600))
    airflow = FastAPI()
    for mounted in MictlanXPlugin.fastapi_apps:
        airflow.mount(mounted["url_prefix"], mounted["app"])
    with TestClient(airflow, base_url="http://testserver/mictlanx") as nobody:

        def make(role: str | None = None) -> TestClient:
            if role is None:
                return nobody
            client = TestClient(airflow, base_url="http://testserver/mictlanx")
            client.portal = nobody.portal  # one event loop for all, as in the API server
            token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="somebody", role=role))
            client.cookies.set("_token", token)
            return client

        yield make
    looks._finished.clear()
