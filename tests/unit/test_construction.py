"""Making operators, sensors, triggers and the hook asks nobody: no connection is looked up, no socket or file is opened."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.triggers.mictlanx import MictlanXBulkCompleteTrigger
from tests.support.public_names import OPERATORS, SENSORS

CONN: dict[str, Any] = {"task_id": "task", "mictlanx_conn_id": "there-is-none"}
B: dict[str, Any] = {**CONN, "bucket_id": "b"}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "MictlanXPutOperator": {**B, "key": "k", "file_path": "/there/is/none"},
    "MictlanXGetOperator": {**B, "key": "k"},
    "MictlanXGetToFileOperator": {**B, "key": "k", "output_path": "/there/is/none"},
    "MictlanXListOperator": B,
    "MictlanXCopyOperator": {**B, "dest_bucket_id": "c", "key": "k"},
    "MictlanXDeleteOperator": {**B, "key": "k"},
    "MictlanXDeleteBucketOperator": B,
    "MictlanXSweepOperator": {**B, "older_than": "1d"},
    "MictlanXDeleteBulkOperator": {"task_id": "task", "mictlanx_conn_id": "there-is-none", "bulk_id": "bulk"},
    "MictlanXBulkPutOperator": {**B, "bulk_id": "bulk", "source": "/there/is/none"},
    "MictlanXGetToFolderOperator": {**B, "output_path": "/there/is/none"},
    "MictlanXSyncOperator": {**CONN, "source": "/there/is/none", "destination": "mictlanx://b"},
    "MictlanXAwaitBulkOperator": {"task_id": "task", "mictlanx_conn_id": "there-is-none", "bulk_id": "bulk"},
    "BulkCompleteSensor": {"task_id": "task", "mictlanx_conn_id": "there-is-none", "bulk_id": "bulk"},
    "MictlanXObjectSensor": {**B, "key": "k"},
    "MictlanXBucketUnchangedSensor": B,
}

LOOKED_AT = ("socket.", "open", "os.listdir", "os.mkdir", "os.scandir", "subprocess.Popen", "sqlite3.connect")
"""Audit events of what reaches outside the process."""

watching = False
seen: list[str] = []


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if watching and event.startswith(LOOKED_AT):
        seen.append(f"{event} {arguments!r}"[:200])


sys.addaudithook(watch)  # it can't be taken away again; it only looks while it is told to


CLASSES = [*OPERATORS, *SENSORS]


@pytest.mark.parametrize("of_class", [*CLASSES, MictlanXHook, MictlanXBulkCompleteTrigger], ids=lambda c: c.__name__)
def test_nobody_is_asked(of_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    global watching
    arguments = ARGUMENTS.get(of_class.__name__, {})
    if of_class is MictlanXBulkCompleteTrigger:
        arguments = {"bulk_id": "bulk", "mictlanx_conn_id": "there-is-none", "poke_interval": 1, "ends_at": None}
    of_class(**arguments)  # what is imported or read once for all
    monkeypatch.setattr(MictlanXHook, "get_connection", lambda *_: pytest.fail("a connection was looked up"))
    watching = True
    try:
        of_class(**arguments)
    finally:
        watching = False
    assert not seen


def test_every_class_is_tried() -> None:
    assert {of_class.__name__ for of_class in CLASSES} == set(ARGUMENTS)
