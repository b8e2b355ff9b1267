"""The sensor in every mode, against the local VSS: one XCom, one timeout, one soft_fail, the same errors."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_provider_mictlanx.client.errors import (
    BallConflictError,
    ConnectFailedError,
    MictlanXError,
    UnavailableError,
    ValidationError,
)
from airflow_provider_mictlanx.hooks.errors import error_event, error_from_event
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.sensors.mictlanx import MictlanXObjectSensor
from airflow_provider_mictlanx.triggers.mictlanx import MictlanXObjectTrigger
from tests.support.sensor_modes import MODES, Wait, events_of, run_elsewhere
from tests.support.vss import LocalVSS


@pytest.fixture(params=MODES)
def wait(request: pytest.FixtureRequest, make_wait: Callable[..., Wait]) -> Wait:
    return make_wait(request.param, MictlanXObjectSensor)


@pytest.fixture
def hook(connected: LocalVSS) -> MictlanXHook:
    return MictlanXHook()


def deferrable() -> Wait:
    return Wait("deferrable", MictlanXObjectSensor)


Later = Callable[..., None]


@pytest.fixture
def later() -> Iterator[Later]:
    """Do some work after a while, in a thread that ends with the test."""
    timers: list[threading.Timer] = []

    def start(work: Callable[[], Any], seconds: float = 0.3) -> None:
        timers.append(threading.Timer(seconds, work))
        timers[-1].start()

    yield start
    for timer in timers:
        timer.join()


# What is found


def test_found_at_the_first_poke(wait: Wait, hook: MictlanXHook, bucket_id: str) -> None:
    hook.put(bucket_id, "a/key", "x", tags={"run": "r1"})
    found = wait(bucket_id=bucket_id, key="a/key")
    assert found == hook.get_metadata(bucket_id, "a/key")
    assert (found["key"], found["size"], found["tags"]["run"]) == ("a/key", 1, "r1")


def test_found_later(wait: Wait, hook: MictlanXHook, bucket_id: str, later: Later) -> None:
    later(lambda: hook.put(bucket_id, "key", "x"))
    found = wait(bucket_id=bucket_id, key="key")
    assert found == hook.get_metadata(bucket_id, "key")


@pytest.mark.parametrize("poke_that_finds", ["first", "later"])
def test_log_says_what_was_found(
    wait: Wait,
    hook: MictlanXHook,
    bucket_id: str,
    logged: Callable[[], list[str]],
    later: Later,
    poke_that_finds: str,
) -> None:
    """On the worker: after a deferral too, where another process's log has the pokes."""
    if poke_that_finds == "first":
        hook.put(bucket_id, "key", "five!")
    else:
        later(lambda: hook.put(bucket_id, "key", "five!"))
    wait(bucket_id=bucket_id, key="key")
    assert f"Found {bucket_id}/key: 5 bytes in 1 chunk" in logged()


def test_empty_object_is_found(wait: Wait, hook: MictlanXHook, bucket_id: str) -> None:
    hook.put(bucket_id, "key", "")
    assert wait(bucket_id=bucket_id, key="key")["size"] == 0


def test_announced_object_is_waited_for_until_it_is_readable(
    wait: Wait, own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str
) -> None:
    vss = own_vss(peers=2)
    connect(vss)
    hook = MictlanXHook()
    with vss.fault("ack_without_storing", bucket=bucket_id):
        hook.put(bucket_id, "key", "x")
    assert wait(bucket_id=bucket_id, key="key", check_storage=False)["size"] == 1
    with pytest.raises(AirflowSensorTimeout):
        wait(bucket_id=bucket_id, key="key", timeout=0)


def test_pokes_read_no_data_before_something_is_listed(
    wait: Wait, own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str
) -> None:
    vss = own_vss(peers=1)
    connect(vss)
    MictlanXHook().put(bucket_id, "other", "x")
    vss.reset_requests()
    with pytest.raises(AirflowSensorTimeout):
        wait(bucket_id=bucket_id, key="key", timeout=0)
    assert not vss.requests("GET", rf"/buckets/{bucket_id}/key_\d+$")
    vss.reset_requests()
    wait(bucket_id=bucket_id, key="other")
    assert len(vss.requests("GET", rf"/buckets/{bucket_id}/other_0$")) == 1


# The end of the wait


@pytest.mark.parametrize("timeout", [0, 0.3])
def test_timeout(wait: Wait, hook: MictlanXHook, bucket_id: str, timeout: float) -> None:
    with pytest.raises(AirflowSensorTimeout, match="Sensor has timed out"):
        wait(bucket_id=bucket_id, key="key", timeout=timeout)


@pytest.mark.parametrize("timeout", [0, 0.3])
def test_timeout_is_a_skip_with_soft_fail(wait: Wait, hook: MictlanXHook, bucket_id: str, timeout: float) -> None:
    with pytest.raises(AirflowSkipException, match="Sensor has timed out"):
        wait(bucket_id=bucket_id, key="key", timeout=timeout, soft_fail=True)


def test_deferral_is_bounded_by_what_is_left(hook: MictlanXHook, bucket_id: str) -> None:
    with pytest.raises(TaskDeferred) as caught:
        deferrable().sensor(bucket_id=bucket_id, key="key", timeout=600).execute({})
    deferred = caught.value
    assert deferred.timeout is not None
    assert timedelta(seconds=590) < deferred.timeout < timedelta(seconds=600)
    assert deferred.method_name == "execute_complete"
    assert not deferred.kwargs, "dag.test drops them"
    assert abs(deferred.trigger.ends_at - time.time() - deferred.timeout.total_seconds()) < 5


@pytest.mark.parametrize("said", ["Trigger timeout", "Trigger/execution timeout"])
@pytest.mark.parametrize("soft_fail", [False, True])
def test_timeout_by_airflow_itself(bucket_id: str, said: str, soft_fail: bool) -> None:
    sensor = deferrable().sensor(bucket_id=bucket_id, key="a\nkey", soft_fail=soft_fail, timeout=timedelta(days=30))
    with pytest.raises(AirflowSkipException if soft_fail else AirflowSensorTimeout, match="timed out") as caught:
        sensor.resume_execution("__fail__", {"error": said}, {})
    assert rf"after 2592000 s: {bucket_id}/a\nkey is not available" in str(caught.value), "one line, without exponents"


@pytest.mark.parametrize("soft_fail", [False, True])
def test_trigger_that_broke_is_retried(bucket_id: str, soft_fail: bool) -> None:
    sensor = deferrable().sensor(bucket_id=bucket_id, key="key", soft_fail=soft_fail)
    with pytest.raises(Exception, match="Trigger failure") as caught:
        sensor.resume_execution("__fail__", {"error": "Trigger failure"}, {})
    assert type(caught.value).__name__ == "TaskDeferralError"


def test_unexpected_event_is_an_error(bucket_id: str) -> None:
    for event in (None, {}, {"status": "of no kind"}):
        with pytest.raises(MictlanXError, match="unexpected trigger event"):
            deferrable().sensor(bucket_id=bucket_id, key="key").execute_complete({}, event)


# Errors


def test_peer_that_is_away_is_waited_for(
    wait: Wait, own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str
) -> None:
    vss = own_vss(peers=1)
    connect(vss)
    MictlanXHook().put(bucket_id, "key", "content")
    away = vss.set_fault("peer_down", peer="peer-0")
    back = threading.Timer(1.0, away.off)
    back.start()
    try:
        assert wait(bucket_id=bucket_id, key="key", timeout=60)["size"] == 7
    finally:
        back.join()


def test_bad_input_fails_at_once_and_is_not_softened(wait: Wait, connected: LocalVSS) -> None:
    with pytest.raises(AirflowFailException, match="safe id"):
        wait(bucket_id="a.b", key="key", soft_fail=True)


def fail_once(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, first: int, arrival: Callable[[], object] = lambda: None
) -> None:
    """Make one poke fail, the first or a later one; call ``arrival`` directly before."""
    original, pokes = MictlanXHook.afind, 0

    async def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal pokes
        pokes += 1
        if pokes == first:
            await asyncio.to_thread(arrival)
            raise error
        return await original(*args, **kwargs)

    monkeypatch.setattr(MictlanXHook, "afind", failing)


MAY_PASS = ConnectFailedError("router r0 is away")
NEVER_MENDED = BallConflictError("other bytes")
UNFORESEEN = RuntimeError("a bug, or Airflow's own")


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize(
    ("error", "options", "outcome"),
    [
        (MAY_PASS, {}, ConnectFailedError),
        (MAY_PASS, {"soft_fail": True}, ConnectFailedError),
        (MAY_PASS, {"never_fail": True}, AirflowSkipException),
        (MAY_PASS, {"silent_fail": True}, None),
        (NEVER_MENDED, {}, AirflowFailException),
        (NEVER_MENDED, {"soft_fail": True}, AirflowFailException),
        (NEVER_MENDED, {"never_fail": True}, AirflowSkipException),
        (NEVER_MENDED, {"silent_fail": True}, AirflowFailException),
        (NEVER_MENDED, {"silent_fail": True, "soft_fail": True}, AirflowFailException),
        (NEVER_MENDED, {"silent_fail": True, "never_fail": True}, AirflowSkipException),
        (UNFORESEEN, {"never_fail": True}, AirflowSkipException),
        (UNFORESEEN, {"silent_fail": True}, None),
        (UNFORESEEN, {"silent_fail": True, "soft_fail": True}, None),
    ],
)
def test_errors_are_the_same_in_every_mode(
    wait: Wait,
    hook: MictlanXHook,
    bucket_id: str,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    error: Exception,
    options: dict[str, Any],
    outcome: type[Exception] | None,
) -> None:
    fail_once(monkeypatch, error, first, lambda: hook.put(bucket_id, "key", "x"))
    if outcome is None:
        assert wait(bucket_id=bucket_id, key="key", **options)["key"] == "key"
    else:
        with pytest.raises(outcome):
            wait(bucket_id=bucket_id, key="key", **options)


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ({}, AirflowTaskTimeout),
        ({"soft_fail": True}, AirflowSkipException),
        ({"never_fail": True}, AirflowSkipException),
    ],
)
def test_execution_timeout_in_a_poke(
    wait: Wait,
    connected: LocalVSS,
    bucket_id: str,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    outcome: type[BaseException],
) -> None:
    fail_once(monkeypatch, AirflowTaskTimeout("too long"), 1)
    with pytest.raises(outcome):
        wait(bucket_id=bucket_id, key="key", **options)


@pytest.mark.parametrize(
    "error",
    [
        MAY_PASS,
        NEVER_MENDED,
        ValidationError("x"),
        MictlanXError("y", 502, 1005, transient=True),
        UnavailableError("z", permanent=True),
    ],
)
def test_error_survives_the_event(error: MictlanXError) -> None:
    again = error_from_event(json.loads(json.dumps(error_event(error))))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_unknown_kind_of_error_is_the_base_of_all() -> None:
    assert (
        type(error_from_event({"status": "error", "kind": "PutChunksErrorOfTomorrow", "message": "m"})) is MictlanXError
    )
    assert type(error_from_event({"status": "error", "kind": "annotations"})) is MictlanXError


# The trigger


def test_trigger_says_no_secret_and_only_json(vss: LocalVSS, connect: Callable[..., None], bucket_id: str) -> None:
    connect(vss, password="s3cret-token", headers={"X-Key": "s3cret-header"})
    sensor = deferrable().sensor(bucket_id=bucket_id, key="key", max_wait=timedelta(minutes=1))
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute({})
    path, arguments = caught.value.trigger.serialize()
    assert json.loads(json.dumps(arguments)) == arguments
    assert arguments["max_wait"] == 60
    assert "s3cret" not in f"{path} {arguments} {caught.value.trigger!r}"


def trigger(bucket_id: str, **arguments: Any) -> MictlanXObjectTrigger:
    given = {"mictlanx_conn_id": "mictlanx_default", "poke_interval": 0.05, "ends_at": time.time() + 20, **arguments}
    return MictlanXObjectTrigger(bucket_id=bucket_id, key="key", **given)


def test_trigger_survives_a_restart(hook: MictlanXHook, bucket_id: str) -> None:
    waiting = trigger(bucket_id)

    async def interrupted() -> None:
        running = asyncio.create_task(events_of(waiting))
        await asyncio.sleep(0.3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(interrupted())
    hook.put(bucket_id, "key", "x")
    assert run_elsewhere(waiting)["result"]["key"] == "key"


def test_trigger_whose_time_is_over_pokes_once_more(hook: MictlanXHook, bucket_id: str) -> None:
    """A triggerer that was down for long must not miss what came meanwhile."""
    assert run_elsewhere(trigger(bucket_id, ends_at=time.time() - 100)) == {"status": "timeout"}
    hook.put(bucket_id, "key", "x")
    assert run_elsewhere(trigger(bucket_id, ends_at=time.time() - 100))["status"] == "success"


def test_many_triggers_in_one_loop(hook: MictlanXHook, bucket_id: str) -> None:
    async def run() -> list[Any]:
        waiting = [asyncio.create_task(events_of(trigger(bucket_id))) for _ in range(20)]
        await asyncio.sleep(0.2)
        await hook.aput(bucket_id, "key", "x")
        return [(await task)[0].payload["status"] for task in waiting]

    assert asyncio.run(run()) == ["success"] * 20


def test_trigger_without_its_connection_reports_it() -> None:
    payload = run_elsewhere(trigger("bucket", mictlanx_conn_id="nobody_made_this_one"))
    assert (payload["status"], payload["kind"], payload["permanent"]) == ("error", "ValidationError", True)


def test_pauses_grow_as_airflows_do() -> None:
    growing = trigger("bucket", poke_interval=10, exponential_backoff=True, max_wait=100).create_condition()
    for pokes, (least, most) in enumerate([(5, 10), (10, 20), (20, 40), (40, 80), (80, 100), (100, 100)], start=1):
        assert all(least <= growing._pause(pokes) <= most for _ in range(20)), pokes
    assert growing._pause(10_000) == 100
    assert trigger("bucket", poke_interval=10).create_condition()._pause(7) == 10


# Before anything is done


def test_making_a_sensor_looks_nothing_up() -> None:
    sensor = MictlanXObjectSensor(task_id="wait", bucket_id="", key="", mictlanx_conn_id="no_such_connection")
    assert sensor.deferrable is False


def test_every_id_is_templated(hook: MictlanXHook, bucket_id: str) -> None:
    hook.put(bucket_id, "2026/key", "x")
    sensor = MictlanXObjectSensor(
        task_id="wait",
        bucket_id=bucket_id[:-3] + "{{ tail }}",
        key="{{ year }}/key",
        mictlanx_conn_id="mictlanx_{{ name }}",
    )
    sensor.render_template_fields({"tail": bucket_id[-3:], "year": "2026", "name": "default"})
    assert sensor.execute({})["key"] == "2026/key"
