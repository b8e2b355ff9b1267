"""SIGTERM, execution_timeout and on_kill end a running transfer within two seconds and leave nothing half-written."""

from __future__ import annotations

import os
import threading
from asyncio import CancelledError
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_mictlanx.client.errors import MictlanXError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXPutOperator
from tests.support.task_stopping import HOW, SLOW, STOPPED_WITHIN, stop, wait_until_it_hangs
from tests.support.vss import LocalVSS

DATA = os.urandom(1_000_000)


@pytest.fixture
def slow_vss(own_vss: Callable[..., LocalVSS], connect: Callable[..., None]) -> LocalVSS:
    vss = own_vss(peers=1)
    connect(vss)
    return vss


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("in_a_loop", [False, True], ids=["no-loop", "in-a-running-loop"])
@pytest.mark.parametrize("how", HOW)
def test_stopped_put(slow_vss: LocalVSS, bucket_id: str, tmp_path: Path, how: str, in_a_loop: bool) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    arguments = {"bucket_id": bucket_id, "key": "key", "file_path": str(source), "chunk_size": "100kb"}
    slow = slow_vss.set_fault("latency", method="POST", path="/buckets/data/", skip=3, seconds=SLOW)
    outcome = stop(slow, how, in_a_loop, "put", **arguments, max_concurrency=2)
    assert outcome["error"] == HOW[how]
    assert outcome["seconds"] < STOPPED_WITHIN
    slow.off()
    hook = MictlanXHook()
    with pytest.raises(MictlanXError):
        hook.get(bucket_id, "key", max_tries=1)
    retry = MictlanXPutOperator(task_id="put", **arguments, max_backoff=0.1).execute({})
    assert retry["uploaded"], "a retry of my own half-done work is no conflict"
    assert hook.get(bucket_id, "key") == DATA


@pytest.mark.parametrize("in_a_loop", [False, True], ids=["no-loop", "in-a-running-loop"])
@pytest.mark.parametrize("how", HOW)
def test_stopped_get(slow_vss: LocalVSS, bucket_id: str, tmp_path: Path, how: str, in_a_loop: bool) -> None:
    MictlanXHook().put(bucket_id, "key", DATA, chunk_size="100kb")
    folder = tmp_path / "out"
    slow = slow_vss.set_fault("latency", method="GET", path=r"/key_\d+$", skip=3, seconds=SLOW)
    arguments = {"bucket_id": bucket_id, "key": "key", "output_path": str(folder)}
    outcome = stop(slow, how, in_a_loop, "get", **arguments, max_concurrency=2)
    assert outcome["error"] == HOW[how]
    assert outcome["seconds"] < STOPPED_WITHIN
    assert list(folder.rglob("*")) == []


def test_stopped_get_leaves_the_file_that_was_there(slow_vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    MictlanXHook().put(bucket_id, "key", DATA, chunk_size="100kb")
    (tmp_path / "key").write_text("what was there")
    slow = slow_vss.set_fault("latency", method="GET", path=r"/key_\d+$", skip=3, seconds=SLOW)
    arguments = {"bucket_id": bucket_id, "key": "key", "output_path": str(tmp_path), "replace": True}
    assert stop(slow, "airflow 3", False, "get", **arguments)["error"] == "CancelledError"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert (tmp_path / "key").read_text() == "what was there"


def test_on_kill_from_another_thread(slow_vss: LocalVSS, bucket_id: str) -> None:
    operator = MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="key", data=DATA)
    slow = slow_vss.set_fault("latency", method="POST", path="/buckets/data/", seconds=SLOW)

    def kill() -> None:
        wait_until_it_hangs(slow)
        operator.on_kill()

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(CancelledError):
        operator.execute({})  # the request takes longer than pytest gives a test


def test_nothing_begins_after_on_kill(slow_vss: LocalVSS, bucket_id: str) -> None:
    """A SIGTERM of Airflow 3 may come between two calls of a task, which then goes on."""
    operator = MictlanXPutOperator(task_id="put", bucket_id=bucket_id, key="key", data="x")
    assert operator.hook
    operator.on_kill()
    slow_vss.reset_requests()
    with pytest.raises(CancelledError, match="the task was killed"):
        operator.execute({})
    assert slow_vss.requests() == []


def test_on_kill_before_anything_began_is_harmless() -> None:
    MictlanXPutOperator(task_id="put", bucket_id="b", key="k", data="x").on_kill()
