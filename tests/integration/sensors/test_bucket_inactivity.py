"""The sensor that waits until a bucket is left alone, in every mode: writes, deletes, other clocks, restarts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_provider_mictlanx.client.models import GetRouterBucketMetadataResponse
from airflow_provider_mictlanx.hooks.bucket_inactivity import InactivityMonitor
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.sensors.mictlanx import MictlanXBucketUnchangedSensor
from airflow_provider_mictlanx.triggers.mictlanx import MictlanXBucketUnchangedTrigger
from tests.support.sensor_modes import MODES, Wait, run_elsewhere
from tests.support.vss import LocalVSS


@pytest.fixture(params=[*MODES, "reschedule without a memory"])
def wait(request: pytest.FixtureRequest, make_wait: Callable[..., Wait]) -> Wait:
    mode = request.param.partition(" ")[0]
    return make_wait(mode, MictlanXBucketUnchangedSensor, remembers=request.param == "reschedule")


@pytest.fixture
def hook(connected: LocalVSS) -> MictlanXHook:
    return MictlanXHook()


def test_opens_when_nothing_was_written_for_so_long(wait: Wait, hook: MictlanXHook, bucket_id: str) -> None:
    hook.put(bucket_id, "in/a", "1")
    timer = threading.Timer(0.5, lambda: hook.put(bucket_id, "in/b", "22"))
    timer.start()
    found = wait(bucket_id=bucket_id, inactivity_period=timedelta(seconds=2))
    opened = time.time()
    timer.join()
    last = hook.get_metadata(bucket_id, "in/b")["updated_at"]
    assert found == {"bucket_id": bucket_id, "prefix": "", "count": 2, "total_size": 3, "updated_at": last}
    assert opened - last / 1e9 > 1.9


def test_empty_objects_count_and_restart_the_period(wait: Wait, hook: MictlanXHook, bucket_id: str) -> None:
    hook.put(bucket_id, "a", "")
    timer = threading.Timer(0.5, lambda: hook.put(bucket_id, "b", ""))
    timer.start()
    found = wait(bucket_id=bucket_id, inactivity_period=timedelta(seconds=2))
    opened = time.time()
    timer.join()
    assert (found["count"], found["total_size"]) == (2, 0)
    assert opened - found["updated_at"] / 1e9 > 1.9


def test_so_many_objects(wait: Wait, hook: MictlanXHook, bucket_id: str) -> None:
    with pytest.raises(AirflowSensorTimeout):
        wait(bucket_id=bucket_id, inactivity_period=0, timeout=0)
    wait.began = None
    assert wait(bucket_id=bucket_id, inactivity_period=0, min_objects=0)["count"] == 0
    wait.began = None
    hook.put(bucket_id, "a", "1")
    with pytest.raises(AirflowSensorTimeout):
        wait(bucket_id=bucket_id, inactivity_period=0, min_objects=2, timeout=0)


def test_peer_that_is_away_is_waited_for(
    own_vss: Callable[..., LocalVSS], connect: Callable[..., None], bucket_id: str
) -> None:
    vss = own_vss(peers=2)
    connect(vss)
    hook, watch = MictlanXHook(), InactivityMonitor(bucket_id, inactivity_period=0, min_objects=0)
    hook.put(bucket_id, "a", "1")
    with vss.fault("peer_down", peer="peer-0"):
        assert hook.find_unchanged_bucket(watch) is None
        assert watch.state is None
    assert hook.find_unchanged_bucket(watch) is not None


@pytest.mark.parametrize("mode", MODES)
def test_objects_that_go(make_wait: Callable[..., Wait], hook: MictlanXHook, bucket_id: str, mode: str) -> None:
    for key in ("a", "b"):
        hook.put(bucket_id, key, "1")
    timer = threading.Timer(0.5, lambda: hook.delete(bucket_id, "a"))
    timer.start()
    waiting = make_wait(mode, MictlanXBucketUnchangedSensor, remembers=True)
    with pytest.raises(AirflowFailException, match="1 of the earlier objects disappeared"):
        waiting(bucket_id=bucket_id, inactivity_period=10, allow_delete=False)
    timer.join()
    if mode != "deferrable":
        return
    waiting.try_number = 2
    assert waiting(bucket_id=bucket_id, inactivity_period=1, allow_delete=False)["count"] == 1, "a new try begins anew"


def test_reschedule_without_a_memory_says_what_it_can_not_do(
    make_wait: Callable[..., Wait], hook: MictlanXHook, bucket_id: str
) -> None:
    with pytest.raises(AirflowFailException, match="allow_delete must be True with mode='reschedule'"):
        make_wait("reschedule", MictlanXBucketUnchangedSensor)(bucket_id=bucket_id, allow_delete=False)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"bucket_id": "a.b"}, "safe id"),
        ({"prefix": None}, "prefix must be a str"),
        ({"inactivity_period": -1}, "inactivity_period must be a timedelta or a number of seconds of at least 0"),
        ({"inactivity_period": "60"}, "inactivity_period must be a timedelta"),
        ({"min_objects": -1}, "min_objects must be an int of at least 0"),
    ],
)
def test_bad_input_fails_at_once(wait: Wait, connected: LocalVSS, arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(AirflowFailException, match=why):
        wait(**{"bucket_id": "b", "soft_fail": True, **arguments})


def test_every_id_is_templated(hook: MictlanXHook, bucket_id: str) -> None:
    hook.put(bucket_id, "in/a", "1")
    sensor = MictlanXBucketUnchangedSensor(
        task_id="wait", bucket_id="{{ b }}", prefix="{{ p }}/", mictlanx_conn_id="mictlanx_{{ c }}", inactivity_period=0
    )
    sensor.render_template_fields({"b": bucket_id, "p": "in", "c": "default"})
    assert sensor.execute({})["count"] == 1


# A triggerer that takes over


def test_trigger_goes_on_from_what_the_sensor_saw(hook: MictlanXHook, bucket_id: str) -> None:
    for key in ("a", "b"):
        hook.put(bucket_id, key, "1")
    sensor = Wait("deferrable", MictlanXBucketUnchangedSensor).sensor(bucket_id=bucket_id, allow_delete=False)
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute({})
    trigger = caught.value.trigger
    _, arguments = trigger.serialize()
    assert json.loads(json.dumps(arguments)) == arguments
    assert len(json.dumps(arguments)) < 1000
    hook.delete(bucket_id, "a")
    payload = run_elsewhere(trigger)
    assert (payload["status"], payload["permanent"]) == ("error", True)
    assert "disappeared" in payload["message"]


def test_trigger_taking_over_inactive_bucket_waits_no_more(hook: MictlanXHook, bucket_id: str) -> None:
    hook.put(bucket_id, "a", "1")
    arguments: dict[str, Any] = {"bucket_id": bucket_id, "prefix": "", "min_objects": 1, "allow_delete": True}
    watch = InactivityMonitor(bucket_id, inactivity_period=3600)
    hook.find_unchanged_bucket(watch)
    assert watch.state is not None
    long_ago = watch.state | {"since": time.time() - 7200}
    trigger = MictlanXBucketUnchangedTrigger(
        **arguments,
        inactivity_period=0.5,
        state=long_ago,
        mictlanx_conn_id="mictlanx_default",
        poke_interval=0.05,
        ends_at=time.time() + 20,
    )
    assert run_elsewhere(trigger)["status"] == "success"


# What one listing after the other tells


def listing(at: float | None, **chunks: float) -> GetRouterBucketMetadataResponse:
    """Make a listing of one-chunk balls, ``at`` by the router's clock; each chunk was written at its time."""
    balls = [
        {
            "key": f"{name}_0",
            "size": 1,
            "checksum": name,
            "ball_id": name,
            "bucket_id": "b",
            "tags": {"index": "0", "num_chunks": "1", "updated_at": str(int(written * 1e9))},
        }
        for name, written in chunks.items()
    ]
    told = {"bucket_id": "b", "peers_ids": ["p"], "balls": balls * 2, "answered_at": at}
    return msgspec.convert(told, GetRouterBucketMetadataResponse)


def watching(**options: Any) -> InactivityMonitor:
    return InactivityMonitor("b", **{"inactivity_period": 60, **options})


@pytest.mark.parametrize("now", [1_000_000.0, 4_000_000_000.0])
def test_the_storage_tells_the_time(now: float) -> None:
    """A worker whose clock is days off opens neither too early nor too late."""
    assert watching().update(listing(now, a=now - 59)) is None
    assert watching().update(listing(now, a=now - 61)) is not None


def test_own_clock_where_the_router_does_not_tell() -> None:
    assert watching().update(listing(None, a=time.time() - 30)) is None
    assert watching().update(listing(None, a=time.time() - 90)) is not None


def test_where_no_peer_tells_the_wait_begins_now() -> None:
    watch = watching()
    assert watch.update(listing(1000, a=0)) is None
    assert watch.update(listing(1061, a=0)) is not None


def test_every_change_begins_the_wait_anew() -> None:
    watch = watching()
    assert watch.update(listing(1000, a=930, b=935)) is not None
    assert watch.update(listing(1010, a=930)) is None, "a delete"
    assert watch.update(listing(1069, a=930)) is None
    assert watch.update(listing(1071, a=930)) is not None
    assert watch.update(listing(1080, a=930, c=1075)) is None, "a write"
    assert watch.update(listing(1145, a=930, c=1075)) is not None
    assert watch.update(listing(1200, a=930, c=1190)) is None, "the same bytes again"


def test_write_of_peer_with_late_clock_is_a_change() -> None:
    watch = watching()
    watch.update(listing(1000, a=990))
    assert watch.update(listing(1055, a=990, late=500)) is None
    assert watch.update(listing(1110, a=990, late=500)) is None
    assert watch.update(listing(1116, a=990, late=500)) is not None


def test_state_goes_on_in_another_process() -> None:
    watch = watching()
    watch.update(listing(1000, a=990))
    again = watching(state=json.loads(json.dumps(watch.state)))
    assert again.update(listing(1049, a=990)) is None
    assert again.update(listing(1051, a=990)) is not None
    changed = watching(state=json.loads(json.dumps(watch.state)))
    assert changed.update(listing(1100)) is None


def test_what_is_gone_is_found_by_name_though_as_much_came() -> None:
    watch = watching(allow_delete=False)
    watch.update(listing(1000, a=990, b=990))
    with pytest.raises(Exception, match="1 of the earlier objects disappeared"):
        watch.update(listing(1010, b=990, c=1005))


def test_only_the_prefix_counts() -> None:
    watch = watching(prefix="in")
    found = watch.update(listing(1000, in1=930, in2=935, other=999))
    assert found == {"bucket_id": "b", "prefix": "in", "count": 2, "total_size": 2, "updated_at": 935 * 10**9}
    assert watch.update(listing(1010, in1=930, in2=935)) is not None, "what goes elsewhere is no change"


def test_line_for_people() -> None:
    watch = watching(prefix="a", min_objects=2)
    watch.update(listing(1000, a=990))
    assert watch.line == "Bucket b, keys that begin with 'a': 1 object, at least 2 required"
    watch.update(listing(1000, a=990, ab=995))
    assert watch.line.startswith("Bucket b, keys that begin with 'a': 2 objects, unchanged for 0 seconds of 1 minute")
