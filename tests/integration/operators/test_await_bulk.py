"""The operator that awaits a bulk: deferred or not, one result, one timeout, the same errors."""

from __future__ import annotations

import json
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_provider_mictlanx.client.errors import MictlanXError, RequestTimeoutError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXAwaitBulkOperator
from tests.support.airflow_bulks import await_bulk, later, put_bulk
from tests.support.vss import LocalVSS

deferred_or_not = pytest.mark.parametrize("deferrable", [False, True])


@pytest.fixture(autouse=True)
def _connected(connected: LocalVSS) -> None:
    pass


@deferred_or_not
@pytest.mark.parametrize("first", [True, False])
def test_result(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path, deferrable: bool, first: bool) -> None:
    timer = later(lambda: put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder), 0 if first else 0.3)
    if first:
        timer.join()
    result = await_bulk(bulk_id, deferrable=deferrable)
    timer.join()
    assert json.loads(json.dumps(result)) == result == hook.await_bulk(bulk_id, timeout=0)
    assert (result["state"], result["succeeded"], result["uploaded_size"]) == ("complete", 3, 6)


@deferred_or_not
def test_items_and_removal(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path, deferrable: bool) -> None:
    timer = later(lambda: put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder))
    arguments = {"deferrable": deferrable, "include_items": True, "remove_on_completion": True}
    result = await_bulk(bulk_id, **arguments)
    timer.join()
    assert sorted(ball["key"] for ball in result.pop("successes")) == ["a", "b", "sub/c"]
    assert result["failures"] == []
    assert hook.bulk_status(bulk_id)["result"] == result
    assert await_bulk(bulk_id, deferrable=deferrable, remove_on_completion=True) == result, (
        "a cleared task gives it again"
    )


@deferred_or_not
@pytest.mark.parametrize("first", [True, False])
def test_failed_for_good(
    hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path, deferrable: bool, first: bool
) -> None:
    hook.put(bucket_id, "b", "other bytes")
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": folder, "fail_on_error": False}
    timer = later(lambda: put_bulk(**arguments), 0 if first else 0.3)
    if first:
        timer.join()
    with pytest.raises(AirflowFailException, match=r"BulkFailedError: .*failed permanently.*b: "):
        await_bulk(bulk_id, deferrable=deferrable)
    timer.join()
    result = await_bulk(bulk_id, deferrable=deferrable, fail_on_error=False, include_items=True)
    assert [(failure["key"], failure["code"]) for failure in result["failures"]] == [("b", 405)]
    assert sorted(ball["key"] for ball in result["successes"]) == ["a", "sub/c"]


@deferred_or_not
@pytest.mark.parametrize("timeout", [0, 0.3, timedelta(seconds=0.3)])
def test_end_of_the_wait_is_that_of_a_sensor(bulk_id: str, deferrable: bool, timeout: Any) -> None:
    with pytest.raises(AirflowSensorTimeout, match=f"{bulk_id[-8:]}' failed: it is not finished after"):
        await_bulk(bulk_id, deferrable=deferrable, timeout=timeout)


@deferred_or_not
def test_wait_without_end(bulk_id: str, bucket_id: str, folder: Path, deferrable: bool) -> None:
    timer = later(lambda: put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder))
    assert await_bulk(bulk_id, deferrable=deferrable, timeout=None)["succeeded"] == 3
    timer.join()


@deferred_or_not
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"timeout": -1}, "timeout must be a timedelta or a number of seconds of at least 0, got -1"),
        ({"timeout": "60"}, "timeout must be a timedelta"),
        ({"poke_interval": float("nan")}, "poke_interval must be a timedelta"),
        ({"bulk_id": ""}, "bulk_id must be a non-empty str"),
        *(
            ({flag: "False"}, f"{flag} must be True or False, got 'False'")
            for flag in ("fail_on_error", "include_items", "remove_on_completion")
        ),
    ],
)
def test_bad_input(deferrable: bool, arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(AirflowFailException, match=why):
        await_bulk(**{"bulk_id": "b", "deferrable": deferrable, **arguments})


@deferred_or_not
def test_request_timeout(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bulk_id: str, deferrable: bool
) -> None:
    vss = own_vss(peers=1)
    connect(vss)
    vss.set_fault("latency", path="/metadata$", seconds=5)
    with pytest.raises(RequestTimeoutError):
        await_bulk(bulk_id, deferrable=deferrable, request_timeout=0.1)


def awaiting(bulk_id: str, **arguments: Any) -> MictlanXAwaitBulkOperator:
    return MictlanXAwaitBulkOperator(task_id="await", bulk_id=bulk_id, **arguments)


def test_deferral(bulk_id: str) -> None:
    with pytest.raises(TaskDeferred) as caught:
        awaiting(bulk_id, deferrable=True, timeout=600, poke_interval=timedelta(minutes=1)).execute({})
    assert timedelta(seconds=590) < caught.value.timeout < timedelta(seconds=600)
    arguments = caught.value.trigger.serialize()[1]
    assert json.loads(json.dumps(arguments)) == arguments
    assert arguments["poke_interval"] == 60
    assert abs(arguments["ends_at"] - time.time() - 600) < 10
    with pytest.raises(TaskDeferred) as caught:
        awaiting(bulk_id, deferrable=True).execute({})
    assert (caught.value.timeout, caught.value.trigger.serialize()[1]["ends_at"]) == (None, None)


@pytest.mark.parametrize("said", ["Trigger timeout", "Trigger/execution timeout"])
def test_timeout_by_airflow_itself(bulk_id: str, said: str) -> None:
    with pytest.raises(AirflowSensorTimeout):
        awaiting(bulk_id, timeout=60).resume_execution("__fail__", {"error": said}, {})
    with pytest.raises(Exception, match=said) as caught:
        awaiting(bulk_id).resume_execution("__fail__", {"error": said}, {})
    assert not isinstance(caught.value, AirflowSensorTimeout), "the task has no timeout of its own: it was Airflow's"


def test_trigger_that_broke_is_retried(bulk_id: str) -> None:
    with pytest.raises(Exception, match="Trigger failure") as caught:
        awaiting(bulk_id, timeout=60).resume_execution("__fail__", {"error": "Trigger failure"}, {})
    assert type(caught.value).__name__ == "TaskDeferralError"


def test_unexpected_event_is_an_error(bulk_id: str) -> None:
    for event in (None, {}, {"status": "of no kind"}):
        with pytest.raises(MictlanXError, match="unexpected trigger event"):
            awaiting(bulk_id).execute_complete({}, event)


def test_on_kill(bulk_id: str) -> None:
    operator = awaiting(bulk_id, poke_interval=600)  # the next look is later than pytest's own limit
    assert operator.hook
    threading.Timer(0.5, operator.on_kill).start()
    with pytest.raises(CancelledError):
        operator.execute({})


def test_every_id_is_templated(bulk_id: str, bucket_id: str, folder: Path) -> None:
    put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    operator = awaiting(bulk_id[:-3] + "{{ tail }}", mictlanx_conn_id="mictlanx_{{ name }}")
    operator.render_template_fields({"tail": bulk_id[-3:], "name": "default"})
    assert operator.execute({})["succeeded"] == 3
