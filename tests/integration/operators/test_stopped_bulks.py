"""SIGTERM, execution_timeout and on_kill end bulk uploads and waits within two seconds; the next try goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.airflow_bulks import put_bulk
from tests.support.task_stopping import HOW, SLOW, STOPPED_WITHIN, stop
from tests.support.vss import LocalVSS


@pytest.fixture
def slow_vss(own_vss: Callable[..., LocalVSS], connect: Callable[..., None]) -> LocalVSS:
    vss = own_vss(peers=2)
    connect(vss)
    return vss


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("in_a_loop", [False, True], ids=["no-loop", "in-a-running-loop"])
@pytest.mark.parametrize("how", HOW)
def test_stopped_upload(
    slow_vss: LocalVSS, bulk_id: str, bucket_id: str, tmp_path: Path, how: str, in_a_loop: bool
) -> None:
    contents = {f"f{number:02}": os.urandom(10_000) for number in range(20)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": str(tmp_path), "max_concurrency": 2}
    # The first posts of data are those of start and plan; some balls go through, then all others hang.
    slow = slow_vss.set_fault("latency", method="POST", path="/buckets/data/", skip=12, seconds=SLOW)
    outcome = stop(slow, how, in_a_loop, "put_bulk", **arguments)
    assert outcome["error"] == HOW[how]
    assert outcome["seconds"] < STOPPED_WITHIN
    slow.off()
    hook = MictlanXHook()
    assert hook.bulk_status(bulk_id)["state"] in ("uploading", "failed")
    retry = put_bulk({}, **arguments)
    assert (retry["total_balls"], retry["failed"]) == (20, 0)
    assert retry["skipped"] >= 1, "what was sent is not sent again"
    assert hook.await_bulk(bulk_id, timeout=0)["succeeded"] == 20
    assert {name: hook.get(bucket_id, name) for name in contents} == contents


@pytest.mark.parametrize("how", HOW)
def test_stopped_wait(slow_vss: LocalVSS, bulk_id: str, how: str) -> None:
    looked = slow_vss.set_fault("latency", path="/metadata$", seconds=0)
    outcome = stop(looked, how, False, "await_bulk", bulk_id=bulk_id, poke_interval=SLOW)
    assert outcome["error"] == HOW[how]
    assert outcome["seconds"] < STOPPED_WITHIN
