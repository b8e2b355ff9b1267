"""The object sensor for a list of keys, a prefix and a glob, in every mode: any, all, or so many of them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.sensors.mictlanx import (
    BulkCompleteSensor,
    MictlanXBucketUnchangedSensor,
    MictlanXObjectSensor,
    MictlanXSensor,
)
from tests.support.raw_requests import RawRequests
from tests.support.sensor_modes import MODES, Wait
from tests.support.vss import LocalVSS


@pytest.fixture(params=MODES)
def wait(request: pytest.FixtureRequest, make_wait: Callable[..., Wait]) -> Wait:
    return make_wait(request.param, MictlanXObjectSensor)


@pytest.fixture
def hook(connected: LocalVSS) -> MictlanXHook:
    return MictlanXHook()


@pytest.fixture
def own(own_vss: Callable[..., LocalVSS], connect: Callable[..., None]) -> LocalVSS:
    vss = own_vss(peers=2)
    connect(vss)
    return vss


def fill(bucket_id: str, **contents: str) -> None:
    for key, content in contents.items():
        MictlanXHook().put(bucket_id, key.replace("__", "/"), content)


def test_all_keys_of_a_list_are_waited_for(wait: Wait, hook: MictlanXHook, bucket_id: str) -> None:
    fill(bucket_id, d__a="1", empty="")
    timer = threading.Timer(0.5, lambda: fill(bucket_id, b="22"))
    timer.start()
    found = wait(bucket_id=bucket_id, key=["d/a", "b", "empty", "d/a"])
    timer.join()
    assert found == {
        "bucket_id": bucket_id,
        "count": 3,
        "total_size": 3,
        "objects": [{"key": "d/a", "size": 1}, {"key": "b", "size": 2}, {"key": "empty", "size": 0}],
    }


@pytest.mark.parametrize("which", [{"prefix": "out/_SUCCESS"}, {"prefix": "out/"}, {"glob": "*/_SUCCESS"}])
@pytest.mark.parametrize("check_storage", [True, False])
def test_empty_object_opens_a_gate_by_prefix(
    wait: Wait, hook: MictlanXHook, bucket_id: str, which: dict[str, str], check_storage: bool
) -> None:
    timer = threading.Timer(0.3, lambda: fill(bucket_id, out___SUCCESS=""))
    timer.start()
    found = wait(bucket_id=bucket_id, check_storage=check_storage, **which)
    timer.join()
    expected = {"count": 1, "total_size": 0, "objects": [{"key": "out/_SUCCESS", "size": 0}]}
    assert found == {"bucket_id": bucket_id, **expected}


def test_any_key_of_a_list(wait: Wait, hook: MictlanXHook, bucket_id: str) -> None:
    fill(bucket_id, b="22")
    with pytest.raises(AirflowSensorTimeout):
        wait(bucket_id=bucket_id, key=["a", "b"], timeout=0)
    wait.began = None
    found = wait(bucket_id=bucket_id, key=["a", "b"], min_objects=1)
    assert (found["count"], found["objects"]) == (1, [{"key": "b", "size": 2}])


@pytest.mark.parametrize("which", [{"prefix": "in/"}, {"glob": "in/*"}])
def test_so_many_of_them(wait: Wait, hook: MictlanXHook, bucket_id: str, which: dict[str, str]) -> None:
    fill(bucket_id, in__b="22", other="x")
    assert wait(bucket_id=bucket_id, **which)["objects"] == [{"key": "in/b", "size": 2}]
    wait.began = None
    with pytest.raises(AirflowSensorTimeout):
        wait(bucket_id=bucket_id, **which, min_objects=2, timeout=0)
    wait.began = None
    fill(bucket_id, in__a="1")
    found = wait(bucket_id=bucket_id, **which, min_objects=2)
    assert found["objects"] == [{"key": "in/a", "size": 1}, {"key": "in/b", "size": 2}]
    assert found == json.loads(json.dumps(found))


def test_what_can_not_be_read_does_not_count(wait: Wait, own: LocalVSS, bucket_id: str) -> None:
    fill(bucket_id, good="1")
    with own.fault("ack_without_storing", bucket=bucket_id):
        fill(bucket_id, hollow="22")
    assert wait(bucket_id=bucket_id, prefix="")["objects"] == [{"key": "good", "size": 1}]
    wait.began = None
    with pytest.raises(AirflowSensorTimeout):
        wait(bucket_id=bucket_id, key=["good", "hollow"], timeout=0)
    wait.began = None
    assert wait(bucket_id=bucket_id, key=["good", "hollow"], check_storage=False)["count"] == 2


@pytest.mark.parametrize("which", [{"prefix": "", "min_objects": 2}, {"key": ["a", "b"]}])
def test_nothing_is_read_twice_nor_before_enough_is_stored(
    own: LocalVSS, bucket_id: str, which: dict[str, Any]
) -> None:
    sensor = Wait("deferrable", MictlanXObjectSensor).sensor(bucket_id=bucket_id, **which)
    fill(bucket_id, a="1")
    own.reset_requests()
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute({})
    assert not own.requests("GET", rf"/buckets/{bucket_id}/[ab]_0$")
    fill(bucket_id, b="22")

    async def poke_twice() -> None:
        hook, condition = MictlanXHook(), caught.value.trigger.create_condition()
        async with hook.open_client() as client:
            for _ in range(2):
                assert await condition.apoke(hook, client)

    asyncio.run(poke_twice())
    assert len(own.requests("GET", rf"/buckets/{bucket_id}/[ab]_0$")) == 2
    sensor = Wait("poke", MictlanXObjectSensor).sensor(bucket_id=bucket_id, **which)
    for _ in range(2):
        assert sensor.poke({})
    assert len(own.requests("GET", rf"/buckets/{bucket_id}/[ab]_0$")) == 4


def test_peer_that_is_away_is_waited_for(own: LocalVSS, bucket_id: str) -> None:
    fill(bucket_id, a="1", b="2", c="3")
    hook = MictlanXHook()
    with own.fault("peer_down", peer="peer-0"):
        assert hook.find_objects(bucket_id, prefix="") is None
    found = hook.find_objects(bucket_id, prefix="")
    assert found is not None
    assert found["count"] == 3


def test_result_is_small(hook: MictlanXHook, bucket_id: str) -> None:
    for number in range(25):
        hook.put(bucket_id, f"{number:02}/" + "long" * 25, "x")
    found = hook.find_objects(bucket_id, prefix="")
    assert found is not None
    assert (found["count"], found["total_size"]) == (25, 25)
    assert 5 < len(found["objects"]) < 20
    assert len(json.dumps(found)) < 2500


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"key": "a", "min_objects": 1}, "min_objects must be None with one key, got 1"),
        ({"key": []}, "key must not be an empty list"),
        ({"key": ["a", 1]}, "key must be a list of"),
        ({"key": 7}, "key must be a list of str"),
        ({"key": "a", "check_storage": "False"}, "check_storage must be True or False"),
        ({"prefix": "a", "check_storage": 1}, "check_storage must be True or False"),
        ({"key": ["a", "a"], "min_objects": 2}, "min_objects must be at most 1"),
        ({"prefix": "a", "min_objects": 0}, "min_objects must be an int of at least 1"),
        ({"prefix": 5}, "prefix must be a str"),
        ({"glob": ""}, "glob must not be empty"),
        ({"key": ["a", ""]}, "key must be a list of non-empty str"),
    ],
)
@pytest.mark.parametrize("deferrable", [False, True])
def test_bad_input_fails_at_once(
    connected: LocalVSS, bucket_id: str, deferrable: bool, arguments: dict[str, Any], why: str
) -> None:
    with pytest.raises(AirflowFailException, match=why):
        MictlanXObjectSensor(task_id="wait", bucket_id=bucket_id, deferrable=deferrable, **arguments).execute({})


@pytest.mark.parametrize(
    ("sensor", "arguments"),
    [
        (MictlanXObjectSensor, {"bucket_id": "b", "key": "a", "deferrable": "False"}),
        (MictlanXBucketUnchangedSensor, {"bucket_id": "b", "allow_delete": "False"}),
        (BulkCompleteSensor, {"bulk_id": "b", "fail_on_error": "False"}),
        (BulkCompleteSensor, {"bulk_id": "b", "check_storage": "False"}),
    ],
)
def test_flag_that_is_no_bool_fails_at_once(
    connected: LocalVSS, sensor: type[MictlanXSensor], arguments: dict[str, Any]
) -> None:
    with pytest.raises(AirflowFailException, match=f"{list(arguments)[-1]} must be True or False, got 'False'"):
        sensor(task_id="wait", **arguments).execute({})


@pytest.mark.parametrize(
    ("arguments", "got"),
    [({}, "none"), ({"key": "a", "prefix": ""}, "key and prefix"), ({"prefix": "", "glob": "*"}, "prefix and glob")],
)
def test_what_is_waited_for_is_said_once(arguments: dict[str, Any], got: str) -> None:
    with pytest.raises(ValueError, match=f"exactly one of key, prefix and glob must be given, got {got}"):
        MictlanXObjectSensor(task_id="wait", bucket_id="b", **arguments)


def test_check_fn_that_is_no_function_is_refused_at_parse_time() -> None:
    with pytest.raises(ValueError, match=r"\(task_id: s\): check_fn must be a function, got 'len'"):
        MictlanXObjectSensor(task_id="s", bucket_id="b", key="a", check_fn="len")


def test_every_way_is_templated(hook: MictlanXHook, bucket_id: str) -> None:
    fill(bucket_id, d__a="1")
    for which in ({"key": ["{{ d }}/a"]}, {"prefix": "{{ d }}/"}, {"glob": "{{ d }}/*"}):
        sensor = MictlanXObjectSensor(task_id="wait", bucket_id=bucket_id, **which)
        sensor.render_template_fields({"d": "d"})
        assert sensor.execute({})["count"] == 1


@pytest.mark.parametrize("which", [{"prefix": "in/"}, {"key": ["in/a", "in/b"]}, {"key": "in/b"}])
def test_check_fn_judges_what_was_found(wait: Wait, hook: MictlanXHook, bucket_id: str, which: dict[str, Any]) -> None:
    hook.put(bucket_id, "in/a", "1", tags={"kind": "raw"})
    hook.put(bucket_id, "in/b", "22", chunk_size="1kb")
    judged: list[list[dict[str, Any]]] = []

    def old_enough(objects: list[dict[str, Any]]) -> bool:
        judged.append(objects)
        return all(found["age"] >= 0.6 for found in objects)

    found = wait(bucket_id=bucket_id, check_fn=old_enough, **which)
    one = isinstance(which.get("key"), str)
    assert (found["size"] if one else found["total_size"]) == (2 if one else 3)
    assert len(judged) > 1
    assert judged[0][-1]["key"] == "in/b"
    assert one or judged[0][0]["tags"]["kind"] == "raw"
    ages = [objects[-1]["age"] for objects in judged]
    assert ages == sorted(ages)
    assert ages[-2] < 0.6 <= ages[-1]


@pytest.mark.parametrize("which", [{"prefix": "a"}, {"key": ["a"]}, {"key": "a"}])
def test_check_fn_judges_the_version_that_is_readable(
    wait: Wait, connected: LocalVSS, bucket_id: str, which: dict[str, Any]
) -> None:
    """The listing shows a newer version, whose data is not there yet."""
    wire = RawRequests(connected)
    wire.put(bucket_id, "a", [b"old"])
    task, _ = wire.announce(bucket_id, "a", 0, b"new!", b"new!", 1)

    def is_new(objects: list[dict[str, Any]]) -> bool:
        return all(found["size"] == 4 for found in objects)

    with pytest.raises(AirflowSensorTimeout):
        wait(bucket_id=bucket_id, timeout=0.4, check_fn=is_new, **which)
    wire.send(task, b"new!")
    wait.began = None
    found = wait(bucket_id=bucket_id, check_fn=is_new, **which)
    assert found.get("size", found.get("total_size")) == 4


def test_check_fn_that_never_agrees_times_out(wait: Wait, hook: MictlanXHook, bucket_id: str) -> None:
    fill(bucket_id, a="1")
    with pytest.raises(AirflowSensorTimeout):
        wait(bucket_id=bucket_id, key="a", timeout=0.4, check_fn=lambda objects: False)


def test_error_of_check_fn_fails_the_task(wait: Wait, hook: MictlanXHook, bucket_id: str) -> None:
    fill(bucket_id, a="1")
    answers = iter([False])
    with pytest.raises(RuntimeError, match="no more"):
        wait(bucket_id=bucket_id, key="a", check_fn=lambda objects: next_of(answers))


def next_of(answers: Any) -> bool:
    for answer in answers:
        return bool(answer)
    raise RuntimeError("no more")


def test_unaccepted_objects_are_not_read(wait: Wait, connected: LocalVSS, bucket_id: str) -> None:
    fill(bucket_id, a="1", b="2")
    reads = f"/buckets/{bucket_id}/[ab]_0$"
    connected.reset_requests()
    with pytest.raises(AirflowSensorTimeout):
        wait(bucket_id=bucket_id, prefix="", timeout=0.2, check_fn=lambda objects: False)
    assert connected.requests("GET", reads) == []
    wait.began = None
    wait(bucket_id=bucket_id, prefix="", check_fn=lambda objects: True)
    assert len(connected.requests("GET", reads)) == 2
