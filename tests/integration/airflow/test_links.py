"""Links from tasks to the storage: where they lead, when they are kept, and that they hold no secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXAwaitBulkOperator,
    MictlanXBulkPutOperator,
    MictlanXGetOperator,
    MictlanXGetToFileOperator,
    MictlanXPutOperator,
)
from tests.vss import LocalVSS


class TaskInstance:
    """Takes down what a task keeps as XCom."""

    dag_id, run_id, task_id, map_index, try_number, max_tries = "dag", "run", "task", -1, 1, 0

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.kept[key] = value


def links_of(operator: Any, *, expected: type[Exception] | None = None) -> dict[str, Any]:
    """Run the operator, which may fail as expected, and give what it kept."""
    task_instance = TaskInstance()
    if expected is None:
        operator.execute({"ti": task_instance})
    else:
        with pytest.raises(expected):
            operator.execute({"ti": task_instance})
    return task_instance.kept


def told_by(url: str) -> Any:
    """Ask as a browser does, which brings no token."""
    return httpx.get(url, trust_env=False).raise_for_status().json()


@pytest.mark.parametrize("key", ["plain", "2026/05/año nuevo?.bin"])
def test_object(connected: LocalVSS, bucket_id: str, key: str, tmp_path: Path) -> None:
    put = MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key=key, data="four words are here")
    get = MictlanXGetOperator(task_id="get", bucket_id=bucket_id, key=key)
    to_file = MictlanXGetToFileOperator(
        task_id="file", bucket_id=bucket_id, key=key, output_path=tmp_path, filename="f"
    )
    kept = links_of(put)
    assert kept == links_of(get) == links_of(to_file)
    told = told_by(kept["mictlanx_object"])
    assert told["size_bytes"] == 19
    assert {chunk["tags"].get("full_path", chunk["ball_id"]) for chunk in told["chunks"]} == {key}


def test_of_a_task_that_failed(connected: LocalVSS, bucket_id: str) -> None:
    """It shows what is in the way."""
    MictlanXPutOperator(task_id="first", bucket_id=bucket_id, key="k", data="what is there").execute({})
    put = MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="k", data="something else")
    kept = links_of(put, expected=AirflowFailException)
    assert told_by(kept["mictlanx_object"])["size_bytes"] == len("what is there")


def test_bulk(connected: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    bulk_id = f"bulk of {bucket_id}"
    kept = links_of(MictlanXBulkPutOperator(task_id="put", bulk_id=bulk_id, bucket_id=bucket_id, source=str(tmp_path)))
    awaited = links_of(MictlanXAwaitBulkOperator(task_id="await", bulk_id=bulk_id, deferrable=False, poke_interval=0.1))
    assert kept == awaited
    kinds = {chunk["ball_id"].split("-")[0] for chunk in told_by(kept["mictlanx_bulk"])["balls"]}
    assert kinds >= {"start", "plan", "done"}


def test_holds_no_token(vss: LocalVSS, connect: Callable[..., None], bucket_id: str) -> None:
    connect(vss, password="s3cr3t", headers={"X-Key": "s3cr3t-too"})
    kept = links_of(MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="k", data="v"))
    assert kept == {"mictlanx_object": f"{vss.api()}/buckets/{bucket_id}/metadata/k/chunks"}
