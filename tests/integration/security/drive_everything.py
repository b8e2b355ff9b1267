"""
Run as a process of its own: uses everything that a connection with secrets is used for, and prints whatever can be seen of it.

Arguments: a folder. The connections ``mictlanx_default`` (works), ``mictlanx_echo`` (a router that repeats in its errors what it was
sent), and ``mictlanx_away`` (nobody answers) are in the environment. Logging is at DEBUG, of every library.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
from airflow.providers.common.compat.sdk import DAG, BaseOperator, TaskDeferred
from tenacity import wait_none

from airflow_provider_mictlanx.client import retry
from airflow_provider_mictlanx.hooks.failures import event_of
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXAwaitBulkOperator,
    MictlanXBulkPutOperator,
    MictlanXDeleteBucketOperator,
    MictlanXDeleteOperator,
    MictlanXGetToFileOperator,
    MictlanXPutOperator,
)
from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor, MictlanXObjectSensor

CONNECTIONS = ("mictlanx_default", "mictlanx_echo", "mictlanx_away")
BUCKET = "secrets"
done: list[str] = []


def say(*parts: object) -> None:
    sys.stdout.write(" ".join(map(str, parts)) + "\n")


def show(what: str, value: object) -> None:
    """Print a thing in every form in which somebody may see or keep it."""
    say(f"== {what}: {value!r} {value}")
    for keep in (pickle.dumps, copy.deepcopy):
        try:
            say(f"== {what}, {keep.__name__}: {keep(value)!r}")  # type: ignore[operator]
        except Exception as error:
            say(f"== {what}, {keep.__name__}: {error!r}")


def attempt(what: str, call: Callable[[], Any]) -> None:
    """Do something, and print what it gives or fails with."""
    try:
        result = call()
    except TaskDeferred as deferral:
        show(what, deferral)
        show(f"{what}, trigger", deferral.trigger)
        say(json.dumps(deferral.trigger.serialize()), deferral.kwargs)
        asyncio.run(first_event(deferral.trigger))
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        show(f"{what}, error", error)
        show(f"{what}, its cause", error.__cause__)
        if hasattr(error, "error_code"):
            say(json.dumps(event_of(error)))  # type: ignore[arg-type]
        done.append(f"{what}: {type(error).__name__}")
    else:
        show(what, result)
        done.append(what)


async def first_event(trigger: Any) -> None:
    async def wait() -> None:
        async for event in trigger.run():
            show("event", event)
            say(json.dumps(event.payload))
            return

    try:
        await asyncio.wait_for(wait(), 0.5)
    except TimeoutError:
        say("no event yet")


def operators(conn_id: str, folder: Path) -> list[BaseOperator]:
    how: dict[str, Any] = {"mictlanx_conn_id": conn_id, "timeout": 5}
    where = {"bucket_id": BUCKET, "key": "key"}
    bulk = f"bulk-of-{conn_id}"
    waits = {"mictlanx_conn_id": conn_id, "request_timeout": 5, "poke_interval": 0.1, "timeout": 60}
    return [
        MictlanXPutOperator(task_id="put", data="data", max_tries=1, **where, **how),
        MictlanXPutOperator(task_id="conflict", data="other", max_tries=1, **where, **how),
        MictlanXGetToFileOperator(task_id="get", output_path=str(folder), max_tries=1, **where, **how),
        MictlanXGetToFileOperator(
            task_id="nothing", bucket_id=BUCKET, key="nothing", output_path=str(folder), max_tries=1, **how
        ),
        MictlanXBulkPutOperator(
            task_id="bulk", bulk_id=bulk, bucket_id=BUCKET, source=str(folder), max_tries=1, retries=0, **how
        ),
        MictlanXAwaitBulkOperator(task_id="await", bulk_id=bulk, **{**waits, "timeout": 1}),
        MictlanXObjectSensor(task_id="there", deferrable=True, **where, **waits),
        MictlanXObjectSensor(task_id="absent", deferrable=True, bucket_id=BUCKET, key="nothing", **waits),
        BulkCompleteSensor(task_id="gate", bulk_id=bulk, deferrable=True, **waits),
        BulkCompleteSensor(task_id="waiting", bulk_id="nobody-plans-it", deferrable=True, **waits),
        MictlanXDeleteOperator(task_id="delete", deadline=3, **where, **how),
        MictlanXDeleteBucketOperator(task_id="delete_bucket", bucket_id=BUCKET, deadline=3, **how),
    ]


def main(folder: Path) -> None:
    retry.wait_random_exponential = lambda **_: wait_none()  # type: ignore[assignment, misc]
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, force=True)
    (folder / "file").write_text("content")
    for conn_id in CONNECTIONS:
        hook = MictlanXHook(conn_id)
        attempt(f"{conn_id}: test", hook.test_connection)
        say(repr(hook.settings), hook.settings)  # which hold them, and are never handed on
        for what, value in (("hook", hook), ("client", hook.get_conn())):
            show(f"{conn_id}: {what}", value)
            show(f"{conn_id}: {what}, inside", {name: repr(inner) for name, inner in vars(value).items()})
        attempt(f"{conn_id}: list", lambda hook=hook: hook.list_balls(BUCKET, timeout=5, deadline=3))
        with DAG(f"dag_{conn_id}", start_date=datetime(2026, 1, 1, tzinfo=UTC), schedule=None):
            for operator in operators(conn_id, folder):
                attempt(f"{conn_id}: {operator.task_id}", lambda operator=operator: operator.execute({}))
                rendered = {name: getattr(operator, name) for name in operator.template_fields}
                show(f"{conn_id}: {operator.task_id}, rendered", rendered)
                show(f"{conn_id}: {operator.task_id}, operator", operator)
                say({name: repr(value) for name, value in vars(operator).items()})
    show("lineage", get_hook_lineage_collector().collected_assets)  # type: ignore[no-untyped-call]
    say("DONE", json.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
