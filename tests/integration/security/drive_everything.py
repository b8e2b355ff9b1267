"""
Run as a process of its own: uses everything that a connection with secrets is used for, and prints whatever can be seen of it.

Arguments: a folder, and a secret that somebody pasted into the URI of an asset. The connections ``mictlanx_default`` (works), ``mictlanx_second`` (works, with other secrets), ``mictlanx_echo`` (a router
that repeats in its errors what it was sent), and ``mictlanx_away`` (nobody answers) are in the environment. Logging is at DEBUG, of
every library. What a thing says stands between its lines ``BEGIN`` and ``END``, of which the latter tells how it went.
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
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
from airflow.providers.common.compat.sdk import DAG, BaseOperator, TaskDeferred
from tenacity import wait_none

from airflow_provider_mictlanx.assets import mictlanx as assets
from airflow_provider_mictlanx.client import retry
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.hooks.bucket_inactivity import InactivityMonitor
from airflow_provider_mictlanx.hooks.errors import error_event
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.links import mictlanx as links
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXAwaitBulkOperator,
    MictlanXBulkPutOperator,
    MictlanXCopyOperator,
    MictlanXDeleteBucketOperator,
    MictlanXDeleteBulkOperator,
    MictlanXDeleteOperator,
    MictlanXGetOperator,
    MictlanXGetToFileOperator,
    MictlanXGetToFolderOperator,
    MictlanXListOperator,
    MictlanXPutOperator,
    MictlanXSweepOperator,
    MictlanXSyncOperator,
)
from airflow_provider_mictlanx.sensors.mictlanx import (
    BulkCompleteSensor,
    MictlanXBucketUnchangedSensor,
    MictlanXObjectSensor,
)

CONNECTIONS = ("mictlanx_default", "mictlanx_echo", "mictlanx_away")
SECOND = "mictlanx_second"
BUCKET = "secrets"
COPIES = "secrets-copied"


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


def drive(what: str, call: Callable[[], Any]) -> None:
    """Do something, and print what it gives or fails with."""
    say("BEGIN", what)
    try:
        result = call()
    except TaskDeferred as deferral:
        show("deferral", deferral)
        show("trigger", deferral.trigger)
        say(json.dumps(deferral.trigger.serialize()), deferral.kwargs)
        asyncio.run(first_event(deferral.trigger))
        outcome = "deferred"
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        show("error", error)
        show("its cause", error.__cause__)
        if hasattr(error, "error_code"):
            say(json.dumps(error_event(error)))  # type: ignore[arg-type]
        outcome = type(error).__name__
    else:
        show("result", result)
        outcome = "done"
    say("END", outcome)


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


# The hook


async def open_client(hook: MictlanXHook) -> Any:
    async with hook.open_client() as client:
        show("open client", client)
        return unwrap(await client.list_balls(BUCKET, timeout=5))


async def settings(hook: MictlanXHook) -> Any:
    return repr(await hook.aget_settings())  # which hold the secrets, and are never handed on


def unopened_client(hook: MictlanXHook) -> Any:
    client = hook.get_conn()
    say({name: repr(inner) for name, inner in vars(client).items()})
    return client


def cancelled(hook: MictlanXHook) -> Any:
    hook.cancel()
    try:
        return hook.put(BUCKET, "never", "x")
    except asyncio.CancelledError as error:
        return f"refused: {error!r}"


def hook_calls(conn_id: str, folder: Path) -> dict[str, Callable[[MictlanXHook], Any]]:
    """Return a call of every public method, in an order in which each finds the objects that it needs."""
    once: dict[str, Any] = {"request_timeout": 5, "max_tries": 1}
    soon: dict[str, Any] = {"request_timeout": 5, "deadline": 3}
    bulk = f"hook-of-{conn_id}"
    return {
        "test_connection": lambda hook: hook.test_connection(),
        "get_conn": unopened_client,
        "open_client": lambda hook: asyncio.run(open_client(hook)),
        "aget_settings": lambda hook: asyncio.run(settings(hook)),
        "put": lambda hook: hook.put(BUCKET, "hook/text", "text", **once),
        "put_file": lambda hook: hook.put_file(BUCKET, "hook/file", folder / "file", **once),
        "exists": lambda hook: hook.exists(BUCKET, "hook/text", check_storage=True, **soon),
        "get_metadata": lambda hook: hook.get_metadata(BUCKET, "hook/text", **soon),
        "list_balls": lambda hook: hook.list_balls(BUCKET, **soon),
        "list_keys": lambda hook: hook.list_keys(BUCKET, "hook/", **soon),
        "find": lambda hook: hook.find(BUCKET, "hook/text", request_timeout=5),
        "find_objects": lambda hook: hook.find_objects(BUCKET, glob="hook/*", request_timeout=5),
        "find_unchanged_bucket": lambda hook: hook.find_unchanged_bucket(
            InactivityMonitor(BUCKET, inactivity_period=0), request_timeout=5
        ),
        "get": lambda hook: hook.get(BUCKET, "hook/text", **once),
        "get_text": lambda hook: hook.get_text(BUCKET, "hook/text", **once),
        "get_to_file": lambda hook: hook.get_to_file(BUCKET, "hook/file", folder / "out", **once),
        "get_to_folder": lambda hook: hook.get_to_folder(folder / "out", BUCKET, "hook/", **once, deadline=3),
        "copy": lambda hook: hook.copy(BUCKET, "hook/text", COPIES, dest_conn_id=SECOND, **once),
        "synchronize": lambda hook: hook.synchronize(
            f"mictlanx://{BUCKET}/hook", f"mictlanx://{COPIES}/hook", **once, deadline=3
        ),
        "copy_prefix": lambda hook: hook.copy_prefix(BUCKET, "hook/", COPIES, dest_conn_id=SECOND, **once, deadline=3),
        "delete": lambda hook: hook.delete(BUCKET, "hook/text", **soon),
        "delete_keys": lambda hook: hook.delete_keys(BUCKET, ["hook/text", "hook/file"], **soon),
        "delete_matching": lambda hook: hook.delete_matching(COPIES, "hook/", **soon),
        "put_bulk": lambda hook: hook.put_bulk(bulk, BUCKET, folder / "file", **once),
        "bulk_status": lambda hook: hook.bulk_status(bulk, request_timeout=5),
        "find_bulk": lambda hook: hook.find_bulk(bulk, request_timeout=5),
        "await_bulk": lambda hook: hook.await_bulk(bulk, poke_interval=0.1, timeout=1, request_timeout=5),
        "sweep": lambda hook: hook.sweep(COPIES, "1d", dry_run=False, **soon),
        "delete_bulk": lambda hook: hook.delete_bulk(bulk, request_timeout=5),
        "delete_bucket": lambda hook: hook.delete_bucket(BUCKET, **soon),
        "cancel": cancelled,
    }


def drive_hook(conn_id: str, folder: Path) -> None:
    hook = MictlanXHook(conn_id)
    for name, call in hook_calls(conn_id, folder).items():
        drive(f"{conn_id} MictlanXHook {name}", lambda call=call: call(hook))
    show("hook", hook)
    say({name: repr(inner) for name, inner in vars(hook).items()})
    show("trace", hook.trace)


# Operators and sensors


def operators(conn_id: str, folder: Path) -> list[BaseOperator]:
    here = {"mictlanx_conn_id": conn_id}
    how: dict[str, Any] = {**here, "request_timeout": 5, "max_tries": 1}
    look: dict[str, Any] = {**here, "request_timeout": 5, "deadline": 3}
    bucket = {"bucket_id": BUCKET}
    one = {**bucket, "key": "key"}
    copied = {**bucket, "dest_bucket_id": COPIES, "deadline": 3, **how}
    bulk = f"bulk-of-{conn_id}"
    waits: dict[str, Any] = {**here, "request_timeout": 5, "poke_interval": 0.1}
    now: dict[str, Any] = {**waits, "timeout": 1, "deferrable": False}
    later: dict[str, Any] = {**waits, "timeout": 60, "deferrable": True}
    return [
        MictlanXPutOperator(task_id="put", data="data", **one, **how),
        MictlanXPutOperator(task_id="conflict", data="other", **one, **how),
        MictlanXBulkPutOperator(task_id="bulk", bulk_id=bulk, source=str(folder / "file"), **bucket, **how),
        MictlanXListOperator(task_id="list", glob="*", **bucket, **look),
        MictlanXCopyOperator(task_id="copy", key="key", dest_key="copy", **copied),
        MictlanXCopyOperator(task_id="copy_prefix", prefix="k", **copied),
        MictlanXCopyOperator(task_id="copy_to_second", key="key", dest_key="second", dest_conn_id=SECOND, **copied),
        MictlanXCopyOperator(task_id="copy_to_echo", prefix="k", dest_conn_id="mictlanx_echo", **copied),
        MictlanXCopyOperator(task_id="copy_to_away", key="key", dest_conn_id="mictlanx_away", **copied),
        MictlanXSyncOperator(task_id="sync", source=str(folder), destination=f"mictlanx://{COPIES}/in", **how),
        MictlanXGetOperator(task_id="get", **one, **how),
        MictlanXGetToFileOperator(task_id="get_to_file", output_path=str(folder / "got"), **one, **how),
        MictlanXGetToFileOperator(task_id="nothing", key="nothing", output_path=str(folder), **bucket, **how),
        MictlanXGetToFolderOperator(
            task_id="get_folder", prefix="k", output_path=str(folder / "many"), deadline=3, **bucket, **how
        ),
        MictlanXGetToFolderOperator(
            task_id="get_bulk", bulk_id=bulk, output_path=str(folder / "many"), deadline=3, **how
        ),
        MictlanXObjectSensor(task_id="there", **one, **later),
        MictlanXObjectSensor(task_id="absent", key="nothing", **bucket, **later),
        MictlanXObjectSensor(task_id="too_late", key="nothing", **bucket, **now),
        MictlanXObjectSensor(task_id="keys", key=["key", "file"], **bucket, **now),
        MictlanXObjectSensor(task_id="absent_keys", key=["key", "nothing"], **bucket, **later),
        MictlanXObjectSensor(task_id="prefix", prefix="k", **bucket, **now),
        MictlanXObjectSensor(task_id="glob", glob="*ey", **bucket, **later),
        MictlanXBucketUnchangedSensor(task_id="quiet", inactivity_period=0, **bucket, **now),
        MictlanXBucketUnchangedSensor(task_id="changing", **bucket, **later),
        BulkCompleteSensor(task_id="gate", bulk_id=bulk, check_storage=True, **now),
        BulkCompleteSensor(task_id="waiting", bulk_id="nobody-plans-it", **later),
        MictlanXAwaitBulkOperator(task_id="await", bulk_id=bulk, include_items=True, **now),
        MictlanXAwaitBulkOperator(task_id="waiting_operator", bulk_id="nobody-plans-it", **later),
        MictlanXDeleteOperator(task_id="delete", **one, **look),
        MictlanXDeleteOperator(task_id="delete_keys", keys=["key", "file"], **bucket, **look),
        MictlanXDeleteOperator(task_id="delete_prefix", bucket_id=COPIES, prefix="k", **look),
        MictlanXSweepOperator(task_id="sweep", bucket_id=COPIES, older_than="1d", dry_run=False, **look),
        MictlanXDeleteBulkOperator(
            task_id="delete_bulk", bulk_id="no bulk", mictlanx_conn_id=conn_id, request_timeout=5
        ),
        MictlanXDeleteBucketOperator(task_id="delete_bucket", **bucket, **look),
    ]


class TaskInstance:
    """Keeps XComs, and prints them."""

    dag_id, run_id, map_index, try_number, max_tries = "dag", "run", -1, 1, 0

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.kept: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        say(f"== XCom {key}: {json.dumps(value)}")
        self.kept[key] = value


def drive_operator(conn_id: str, operator: Any) -> None:
    task_instance = TaskInstance(operator.task_id)
    what = f"{conn_id} {type(operator).__name__} {operator.task_id}"
    context: Any = {"ti": task_instance} if operator.operator_extra_links else {}
    drive(what, lambda: operator.execute(context))
    say("== rendered:", {name: getattr(operator, name) for name in operator.template_fields})
    show("operator", operator)
    say({name: repr(value) for name, value in vars(operator).items()})
    links.XCom = SimpleNamespace(get_value=lambda key, ti_key: task_instance.kept.get(key))  # type: ignore[misc, assignment]
    for link in operator.operator_extra_links:
        drive(f"{what} build_url {link.xcom_key}", lambda link=link: link.build_url(operator))
        drive(f"{what} get_link {link.xcom_key}", lambda link=link: link.get_link(operator, ti_key=None))
    if hasattr(operator, "get_openlineage_facets_on_complete"):
        drive(f"{what} openlineage", lambda: operator.get_openlineage_facets_on_complete(None))


# Assets and lineage


def drive_assets(pasted: str) -> None:
    asset = assets.create_asset(bucket=BUCKET, key="a key")
    for name, call in {
        "uri_of": lambda: assets.uri_of(BUCKET, "a key"),
        "create_asset": lambda: asset,
        "sanitize_uri": lambda: assets.sanitize_uri(urlsplit(f"mictlanx://{pasted}@{BUCKET}/key")),
        "sanitize_uri_of_a_router": lambda: assets.sanitize_uri(urlsplit(f"mictlanx://r:{pasted}@host:60666/?http2=1")),
        "convert_asset_to_openlineage": lambda: assets.convert_asset_to_openlineage(asset, None),
    }.items():
        drive(f"- assets {name}", call)


def lineage() -> dict[str, list[str]]:
    collected = get_hook_lineage_collector().collected_assets  # type: ignore[no-untyped-call]
    show("collected", collected)
    return {
        "read": [told.asset.uri for told in collected.inputs],
        "written": [told.asset.uri for told in collected.outputs],
    }


def main(folder: Path, pasted: str) -> None:
    retry.wait_random_exponential = lambda **_: wait_none()  # type: ignore[assignment, misc]
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, force=True)
    (folder / "file").write_text("content")
    for conn_id in CONNECTIONS:
        drive_hook(conn_id, folder)
        with DAG(f"dag_{conn_id}", start_date=datetime(2026, 1, 1, tzinfo=UTC), schedule=None):
            for operator in operators(conn_id, folder):
                drive_operator(conn_id, operator)
    drive_assets(pasted)
    say("LINEAGE", json.dumps(lineage()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
