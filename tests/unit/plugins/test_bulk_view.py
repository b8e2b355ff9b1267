"""The one word for a bulk, from its records and its tasks."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_mictlanx.links.page import HAS_PAGE

if not HAS_PAGE:
    pytest.skip("the page exists since Airflow 3.2", allow_module_level=True)

from airflow_provider_mictlanx.plugins.web.bulk_view import judge
from airflow_provider_mictlanx.plugins.web.queries import BulkTasks, UploadTask

NOW = 1_800_000_000.0
UPLOADING = {"state": "uploading", "shards": 2}
UNPLANNED = {"state": "unplanned", "shards": 0}
FAILED = {"state": "failed", "shards": 1}
CLOSED = {"state": "closed", "shards": 0}


@pytest.mark.parametrize(
    ("status", "task_states", "verdict"),
    [
        ({"error": "no connection"}, ["running"], "unknown"),
        ({"state": "uploading", "shards": 0}, ["running"], "unknown"),
        (UNPLANNED, ["running"], "running"),
        (UNPLANNED, ["success"], "absent"),
        (UNPLANNED, ["failed", "success"], "failed"),
        (UNPLANNED, ["failed", "queued"], "running"),
        (UNPLANNED, [], "absent"),
        (UPLOADING, ["running", "success"], "running"),
        (UPLOADING, ["up_for_retry"], "running"),
        (UPLOADING, ["failed", "success"], "stopped"),
        (UPLOADING, [], "running"),
        (UPLOADING | {"stalest_since": (NOW - 299) * 1e9}, ["running"], "running"),
        (UPLOADING | {"stalest_since": (NOW - 301) * 1e9}, ["running"], "silent"),
        (UPLOADING | {"stalest_since": (NOW - 301) * 1e9}, ["failed"], "stopped"),
        (FAILED, ["failed"], "failed"),
        (FAILED, ["queued"], "running"),
        (FAILED, [], "failed"),
        ({"state": "complete", "shards": 1}, ["running"], "complete"),
        (CLOSED | {"result": {"state": "complete"}}, ["success"], "complete"),
        (CLOSED | {"result": {"state": "failed"}}, ["success"], "failed"),
    ],
)
def test_verdict(status: dict[str, Any], task_states: list[str], verdict: str) -> None:
    tasks = [UploadTask("dag", "run", "upload", index, state, index) for index, state in enumerate(task_states)]
    known = {"result": None, "stalest_since": 0} | status
    assert judge(BulkTasks("default", "nightly", tasks), known, NOW) == verdict
