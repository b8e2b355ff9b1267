"""A task that is stopped in the middle of many objects ends within two seconds; what is there is whole, and the next try goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import (
    MictlanXCopyOperator,
    MictlanXDeleteOperator,
    MictlanXGetToFolderOperator,
)
from tests.support.operator_runs import run
from tests.support.task_stopping import HOW, STOPPED_WITHIN, stop
from tests.support.vss import LocalVSS

DATA = {f"in/{number}": os.urandom(100_000) for number in range(6)}


@pytest.fixture
def slow_vss(own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str) -> LocalVSS:
    vss = own_vss(peers=1)
    connect(vss)
    hook = MictlanXHook()
    for key, data in DATA.items():
        hook.put(bucket_id, key, data, chunk_size="50kb")
    return vss


@pytest.mark.parametrize("how", ["airflow 3", "execution_timeout"])
def test_stopped_read_into_a_folder(slow_vss: LocalVSS, bucket_id: str, tmp_path: Path, how: str) -> None:
    arguments = {"bucket_id": bucket_id, "output_path": str(tmp_path / "out"), "max_concurrency": 2}
    slow = slow_vss.set_fault("latency", method="GET", path=r"/\w+_\d+$", skip=5, seconds=15)
    outcome = stop(slow, how, False, "get_bulk", **arguments)
    assert outcome["error"] == HOW[how]
    assert outcome["seconds"] < STOPPED_WITHIN
    there = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert there.items() <= {key.removeprefix("in/"): data for key, data in DATA.items()}.items()
    assert 0 < len(there) < len(DATA)
    slow.off()
    retry = run(MictlanXGetToFolderOperator(task_id="get", **arguments))
    assert (retry["skipped"], retry["downloaded"]) == (len(there), len(DATA) - len(there))


@pytest.mark.usefixtures("short_grace")
def test_stopped_copy(slow_vss: LocalVSS, bucket_id: str) -> None:
    arguments = {"bucket_id": bucket_id, "prefix": "in/", "dest_bucket_id": bucket_id, "dest_prefix": "out/"}
    slow = slow_vss.set_fault("latency", method="POST", path="/buckets/data/", skip=5, seconds=15)
    outcome = stop(slow, "airflow 3", False, "copy", **arguments, max_concurrency=2)
    assert outcome["error"] == HOW["airflow 3"]
    assert outcome["seconds"] < STOPPED_WITHIN
    slow.off()
    hook = MictlanXHook()
    retry = run(MictlanXCopyOperator(task_id="copy", **arguments, max_backoff=0.1))
    assert (retry["copied"] + retry["skipped"], retry["failed"]) == (len(DATA), 0)
    assert retry["skipped"] >= 1, "what was copied is not copied again"
    assert {key: hook.get(bucket_id, key.replace("in/", "out/")) for key in DATA} == DATA


def test_stopped_delete(slow_vss: LocalVSS, bucket_id: str) -> None:
    slow = slow_vss.set_fault("latency", method="DELETE", skip=4, seconds=15)
    outcome = stop(slow, "airflow 3", False, "delete", bucket_id=bucket_id, prefix="in/", max_concurrency=1)
    assert outcome["error"] == HOW["airflow 3"]
    assert outcome["seconds"] < STOPPED_WITHIN
    slow.off()
    run(MictlanXDeleteOperator(task_id="delete", bucket_id=bucket_id, prefix="in/"))
    assert MictlanXHook().list_keys(bucket_id) == []
