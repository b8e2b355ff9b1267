"""
What is forked from a process that has imported Airflow: a run of an example DAG, a migration, and the look-up of a task's link.

Importing Airflow and building its execution API takes longer than most of the DAG runs.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

import httpx
from airflow import settings
from airflow.listeners.listener import get_listener_manager
from airflow.models import TaskInstance
from airflow.utils.db import upgradedb
from airflow.utils.session import create_session
from sqlalchemy.orm import configure_mappers

import airflow_provider_mictlanx.operators.mictlanx
import airflow_provider_mictlanx.sensors.mictlanx  # noqa: F401
from scripts import run_example_dag

try:
    import airflow.sdk.execution_time.task_runner  # noqa: F401
    from airflow.sdk.execution_time.supervisor import in_process_api_server
    from airflow.serialization.serialized_objects import DagSerialization
except ImportError:  # Airflow 2
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
else:

    async def prepare_api() -> None:
        """Send a first request: the routes are generated then, which takes longer than most DAG runs."""
        async with httpx.AsyncClient(transport=in_process_api_server().atransport, base_url="http://api") as client:
            await client.get("/no-route")

    asyncio.run(prepare_api())  # in an event loop that ends here, since no thread is forked

configure_mappers()
settings.dispose_orm()  # no connection is shared with the children


def run(arguments: Sequence[str]) -> int:
    """Run ``scripts/run_example_dag.py``: the file for its output, then its own arguments."""
    output, *sys.argv[1:] = arguments
    with open(output, "wb") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    _adopt_environment()
    try:
        return run_example_dag.main()
    finally:
        get_listener_manager().hook.before_stopping(component=None)  # OpenLineage ends its processes


def migrate(_: None) -> None:
    """Make the tables of the database in ``AIRFLOW_HOME``, as ``airflow db migrate`` does."""
    _adopt_environment()
    upgradedb()
    settings.dispose_orm()  # moves all of SQLite's log into the database, which is to be copied


def show_link(arguments: Sequence[str]) -> None:
    """Print a task's link as the web server builds it: from the serialized DAG, without the operator itself."""
    _adopt_environment()
    dag_id, task_id, link = arguments
    dag = DagSerialization.from_dict(DagSerialization.to_dict(run_example_dag.load_dag(dag_id)))
    with create_session() as session:
        ti = session.query(TaskInstance).filter_by(dag_id=dag_id, task_id=task_id).one()
        sys.stdout.write(f"LINK {dag.get_task(task_id).get_extra_links(ti, link)}\n")


def _adopt_environment() -> None:
    """Read again what Airflow has read from the environment when it was imported."""
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{os.environ['AIRFLOW_HOME']}/airflow.db"
    settings.configure_vars()
    settings.configure_orm()
