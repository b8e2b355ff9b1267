"""What a DAG file pays for importing the provider: modules that Airflow has not imported itself, and nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

ROOMS = ("operators", "sensors", "hooks")

SCRIPT = """
import importlib, json, os, sys
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseSensorOperator, Context, conf
import airflow.triggers.base
before = set(sys.modules)
for room in sys.argv[1:]:
    if not os.fork():
        importlib.import_module(f"airflow_provider_mictlanx.{room}.mictlanx")
        print(json.dumps([room, sorted(set(sys.modules) - before)]), flush=True)
        os._exit(0)
    os.wait()
"""

LIGHT = {
    *("airflow", "airflow_provider_mictlanx", "cachetools", "humanfriendly", "option", "tenacity"),
    *("msgspec", "pydantic", "annotated_types", "pydantic_core", "typing_inspection"),
}
"""Modules from outside Python. Airflow itself imports tenacity; Airflow 3 also imports msgspec and pydantic."""

PLUGIN = """
import json, sys
from importlib.metadata import entry_points
import pytest
before = set(sys.modules)
entry_points(group="pytest11")["mictlanx"].load()
print(json.dumps(sorted(set(sys.modules) - before)))
"""

WATCHERS = """
import json, sys
import airflow_provider_mictlanx.assets.mictlanx
from airflow_provider_mictlanx.triggers.events import MictlanXBulkCompleteEventTrigger, MictlanXObjectEventTrigger
for trigger in (MictlanXBulkCompleteEventTrigger(bulk_id="b"), MictlanXObjectEventTrigger(bucket_id="b")):
    trigger.trigger_id = 1  # as Airflow does in the triggerer
    trigger.shared_stream_key()
    trigger.create_shared_stream_producer(trigger.serialize()[1])
print(json.dumps(sorted(sys.modules)))
"""
"""The calls that Airflow makes in the event loop of the triggerer, for each event trigger and its asset."""

DEFERRED = """
import json, sys
from airflow_provider_mictlanx.triggers.mictlanx import MictlanXBulkCompleteTrigger, MictlanXObjectTrigger
for trigger_class, own in ((MictlanXBulkCompleteTrigger, "bulk_id"), (MictlanXObjectTrigger, "bucket_id")):
    trigger = trigger_class(mictlanx_conn_id="c", poke_interval=1, ends_at=None, **{own: "b"})
    trigger_class(**trigger.serialize()[1]).run()
print(json.dumps(sorted(sys.modules)))
"""
"""The same for the triggers of sensors."""

HEAVY = (
    "airflow.models.asset",
    "airflow.api_fastapi",
    "airflow.providers.openlineage",
    "airflow.providers_manager",
    "airflow_provider_mictlanx.client.transport.aiohttp_backend",
    "airflow_provider_mictlanx.client.transport.httpx_backend",
    "airflow_provider_mictlanx.local_vss",
)
"""What is Airflow's or our own, and is not needed before a task runs."""


@pytest.fixture(scope="module")
def imported_of_rooms() -> dict[str, list[str]]:
    """Return the modules that importing each package imports, in a process of its own, forked after Airflow is imported."""
    return dict(output_of(SCRIPT, *ROOMS))


@pytest.fixture(params=ROOMS)
def imported(request: pytest.FixtureRequest, imported_of_rooms: dict[str, list[str]]) -> list[str]:
    found = imported_of_rooms[request.param]
    assert "airflow_provider_mictlanx.client.async_client" in found
    return found


def output_of(script: str, *arguments: str) -> list[Any]:
    command = [sys.executable, "-c", script, *arguments]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in answer.stdout.splitlines() if line.startswith('["')]


def test_pytest_plugin_imports_nothing_else() -> None:
    """Every pytest run of every user loads it, before a conftest can set ``AIRFLOW_HOME``."""
    names = [name for name in output_of(PLUGIN)[-1] if name.partition(".")[0] not in sys.stdlib_module_names]
    assert names == ["airflow_provider_mictlanx", "airflow_provider_mictlanx.testing"]


def test_only_light_packages_come_along(imported: list[str]) -> None:
    tops = {name.partition(".")[0] for name in imported}
    others = {name for name in tops if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert others <= LIGHT


def test_nothing_comes_along_that_only_a_task_needs(imported: list[str]) -> None:
    assert [name for name in imported if name.startswith(HEAVY)] == []


def test_airflow_imports_no_client_on_the_event_loop() -> None:
    assert "airflow_provider_mictlanx.client" not in output_of(DEFERRED)[-1]


def test_airflow_imports_no_client_for_watchers_on_the_event_loop() -> None:
    pytest.importorskip("airflow.sdk", reason="asset watchers need Airflow 3")
    assert "airflow_provider_mictlanx.client" not in output_of(WATCHERS)[-1]
