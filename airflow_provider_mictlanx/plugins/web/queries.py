"""Query Airflow's database for bulks and connections that a user may see."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.models.connection import Connection
from airflow.models.renderedtifields import RenderedTaskInstanceFields as RenderedFields
from airflow.models.taskinstance import TaskInstance
from airflow.utils.state import State
from sqlalchemy import and_, case, select
from sqlalchemy.orm import Session

OPERATOR = "MictlanXBulkPutOperator"

MAX_TASKS = 500
"""Maximum number of task instances that are read: the unfinished ones, then those that started last."""

MAX_BULKS = 25
"""Maximum number of bulks on the page; each of them may take a request to the storage."""

MAX_LINKED_TASKS = 10
"""Maximum number of tasks of a bulk that the page links to."""

_VARIABLE = "AIRFLOW_CONN_"
_IS_MICTLANX = re.compile(r'\s*(?:mictlanx:|\{.*"conn_type"\s*:\s*"mictlanx")', re.DOTALL)


@dataclass(frozen=True)
class UploadTask:
    """A task instance that uploads a bulk, or one shard of it; ``try_id`` differs for every try."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None
    try_id: Any

    @property
    def active(self) -> bool:
        """True if it runs, or will run."""
        return self.state in State.unfinished


@dataclass(frozen=True)
class BulkTasks:
    """A bulk, with the tasks that upload it."""

    conn_id: str
    bulk_id: str
    tasks: list[UploadTask]

    @property
    def active(self) -> bool:
        """True if a task uploads it, or will."""
        return any(task.active for task in self.tasks)

    @property
    def failed(self) -> bool:
        """True if a task failed, and none is active."""
        return not self.active and any(task.state == "failed" for task in self.tasks)

    @property
    def tries(self) -> frozenset[Any]:
        """The tries of its tasks: others after a retry, or after a task was cleared."""
        return frozenset(task.try_id for task in self.tasks)

    def linked_tasks(self) -> list[dict[str, Any]]:
        """Return the first tasks, active and failed ones first: ``dag_id, run_id, task_id, map_index, state``."""
        order = {"failed": 1, "success": 3}
        first = sorted(
            self.tasks, key=lambda task: (0 if task.active else order.get(task.state or "", 2), task.map_index)
        )
        names = ("dag_id", "run_id", "task_id", "map_index", "state")
        return [{name: getattr(task, name) for name in names} for task in first[:MAX_LINKED_TASKS]]


def find_bulks(session: Session, user: Any, conn_id: str | None, bulk_id: str | None) -> list[BulkTasks]:
    """
    Return the bulks that tasks of the user's DAGs upload or uploaded, active ones first, then the latest.

    Airflow keeps the rendered fields, which name the bulk, only for a task's latest runs.

    :param conn_id: with ``bulk_id``: return only this bulk
    """
    dag_ids = get_auth_manager().get_authorized_dag_ids(user=user, method="GET", session=session)
    task, rendered = TaskInstance, RenderedFields
    same = [getattr(task, name) == getattr(rendered, name) for name in ("dag_id", "run_id", "task_id", "map_index")]
    rows = session.execute(
        select(task.dag_id, task.run_id, task.task_id, task.map_index, task.state, task.id, rendered.rendered_fields)
        .join(rendered, and_(*same))
        .where(task.operator == OPERATOR, task.dag_id.in_(dag_ids))
        .order_by(case((task.state.in_([*filter(None, State.unfinished)]), 0), else_=1), task.start_date.desc())
        .limit(MAX_TASKS)
    )
    found: defaultdict[tuple[str, str], list[UploadTask]] = defaultdict(list)
    for *names, fields in rows:
        key = (fields.get("mictlanx_conn_id"), fields.get("bulk_id"))
        if all(isinstance(name, str) for name in key):  # a template can render to anything
            found[key].append(UploadTask(*names))
    bulks = [BulkTasks(*key, tasks) for key, tasks in found.items()]
    if conn_id is not None and bulk_id is not None:
        return [bulk for bulk in bulks if (bulk.conn_id, bulk.bulk_id) == (conn_id, bulk_id)]
    return bulks[:MAX_BULKS]


def find_connections(session: Session, user: Any) -> list[str]:
    """
    Return the ids of the MictlanX connections that the user may read, of the database and the environment.

    Those of other secrets backends can't be listed; the page asks for them by their id.
    """
    manager = get_auth_manager()
    stored = manager.get_authorized_connections(user=user, method="GET", session=session)
    of_type = select(Connection.conn_id).where(Connection.conn_type == "mictlanx", Connection.conn_id.in_(stored))
    of_environment = manager.filter_authorized_connections(conn_ids=set(_from_environment()), user=user, method="GET")
    return sorted({*session.scalars(of_type), *of_environment})


def _from_environment() -> Iterable[str]:
    for name, value in os.environ.items():
        if name.startswith(_VARIABLE) and _IS_MICTLANX.match(value):
            yield name.removeprefix(_VARIABLE).lower()
