"""Combine what the storage records of a bulk with what Airflow knows about its tasks."""

from __future__ import annotations

import time
from typing import Any

from airflow_provider_mictlanx.bulks.status import State
from airflow_provider_mictlanx.bulks.summary import SILENT_SECONDS
from airflow_provider_mictlanx.plugins.web.queries import BulkTasks

_COUNTS = ("shards", "shards_complete", "total_balls", "total_size", "acknowledged", "acknowledged_size", "failed")
_OTHERS = ("failures", "problems", "last_heard", "response_time", "has_retryable_failures")


def describe_bulk(bulk: BulkTasks, status: dict[str, Any], now: float | None = None) -> dict[str, Any]:
    """
    Return a bulk for the page.

    Keys: ``connection, bulk_id, verdict, error`` (why its state is unknown), ``tasks`` (the first), ``task_count``, and
    unless there is an error ``shards, shards_complete, total_balls, total_size, acknowledged, acknowledged_size,
    failed, failures, problems, last_heard`` (nanoseconds since 1970), ``response_time`` (seconds),
    ``has_retryable_failures, stalest_shard, stalest_since``.

    :param status: a result of ``look_at_tasks``
    :param now: seconds since 1970; default: the clock
    """
    view = {
        "connection": bulk.conn_id,
        "bulk_id": bulk.bulk_id,
        "verdict": judge(bulk, status, time.time() if now is None else now),
        "error": status.get("error"),
        "tasks": bulk.linked_tasks(),
        "task_count": len(bulk.tasks),
    }
    if view["error"] is None:
        view |= {name: status[name] for name in (*_COUNTS, *_OTHERS, "stalest_shard", "stalest_since")}
        view |= _kept_result(status)
    return view


def _kept_result(status: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a closed bulk, of which only the result is kept."""
    if not (result := status["result"]):
        return {}
    view = {name: result[name] for name in ("shards", "total_balls", "failed", "failures", "problems", "response_time")}
    size = result["uploaded_size"]
    return view | {"acknowledged": result["succeeded"], "acknowledged_size": size, "shards_complete": result["shards"]}


def judge(bulk: BulkTasks, status: dict[str, Any], now: float) -> str:
    """
    Return one word for a bulk.

    ``unknown``: the storage, or a peer that may have the records, did not answer. ``failed``: objects could not be
    stored, or its tasks failed before they recorded anything. ``stopped``: it is incomplete, and no task continues it.
    ``silent``: a task runs, but has recorded nothing for minutes. ``running``. ``complete``. ``absent``: it has no
    records.
    """
    if "error" in status:
        return "unknown"
    state = (status["result"] or status)["state"]
    if state == State.UPLOADING and not status["shards"]:
        return "unknown"
    if state == State.COMPLETE:
        return "complete"
    if not bulk.active:
        if state == State.FAILED or (state == State.UNPLANNED and bulk.failed):
            return "failed"
        if state == State.UNPLANNED:
            return "absent"
        if bulk.tasks:
            return "stopped"
    silent = status["stalest_since"] and now - status["stalest_since"] / 1e9 > SILENT_SECONDS
    return "silent" if silent else "running"
