"""Every error of hook, operators, sensors and triggers names bucket and key as they were written, the connection and the router."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mictlanx.batches.runner import BatchError
from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.client.errors import MictlanXError, NotFoundError, ValidationError
from airflow_provider_mictlanx.hooks.bucket_inactivity import InactivityMonitor
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators import mictlanx as operators
from airflow_provider_mictlanx.sensors import mictlanx as sensors
from airflow_provider_mictlanx.triggers import mictlanx as triggers
from tests.support.public_names import OPERATORS, SENSORS, TRIGGERS, async_twins, hook_methods
from tests.support.sensor_modes import MODES, Wait, events_of
from tests.support.vss import LocalVSS

CONN_ID = "the_storage"
KEY = "2026/a report.csv"

Call = Callable[[str, Path], dict[str, Any]]

CALLS: dict[str, Call] = {
    "put": lambda b, _: {"bucket_id": b, "key": KEY, "data": "1"},
    "put_file": lambda b, _: {"bucket_id": b, "key": KEY, "path": __file__},
    "get": lambda b, _: {"bucket_id": b, "key": KEY},
    "get_text": lambda b, _: {"bucket_id": b, "key": KEY},
    "get_to_file": lambda b, folder: {"bucket_id": b, "key": KEY, "output_path": folder},
    "exists": lambda b, _: {"bucket_id": b, "key": KEY},
    "get_metadata": lambda b, _: {"bucket_id": b, "key": KEY},
    "find": lambda b, _: {"bucket_id": b, "key": KEY},
    "find_objects": lambda b, _: {"bucket_id": b, "keys": [KEY]},
    "delete": lambda b, _: {"bucket_id": b, "key": KEY},
    "delete_keys": lambda b, _: {"bucket_id": b, "keys": [KEY]},
    "copy": lambda b, _: {"bucket_id": b, "key": KEY, "dest_bucket_id": f"{b}-copy"},
}
"""The hook's calls for objects that are named by their key."""

OF_MANY: dict[str, Call] = {
    "list_balls": lambda b, _: {"bucket_id": b},
    "list_keys": lambda b, _: {"bucket_id": b},
    "find_unchanged_bucket": lambda b, _: {
        "monitor": InactivityMonitor(b, "", inactivity_period=1, min_objects=1, allow_delete=False)
    },
    "delete_bucket": lambda b, _: {"bucket_id": b},
    "delete_matching": lambda b, _: {"bucket_id": b, "prefix": "2026/"},
    "sweep": lambda b, _: {"bucket_id": b, "older_than": "1d"},
    "copy_prefix": lambda b, _: {"bucket_id": b, "prefix": "2026/", "dest_bucket_id": f"{b}-copy"},
    "get_to_folder": lambda b, folder: {"bucket_id": b, "output_path": folder},
    "synchronize": lambda b, folder: {"source": f"mictlanx://{b}", "destination": str(folder)},
}
OF_BULKS: dict[str, Call] = {
    "put_bulk": lambda b, _: {"bulk_id": f"the bulk {b}", "bucket_id": b, "source": __file__},
    "await_bulk": lambda b, _: {"bulk_id": f"the bulk {b}"},
    "find_bulk": lambda b, _: {"bulk_id": f"the bulk {b}"},
    "bulk_status": lambda b, _: {"bulk_id": f"the bulk {b}"},
    "delete_bulk": lambda b, _: {"bulk_id": f"the bulk {b}"},
}


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVSS]:
    with LocalVSS(tmp_path_factory.mktemp("named"), peers=2) as running:
        yield running


@pytest.fixture
def refusing(space: LocalVSS, connect: Callable[..., None], bucket_id: str) -> Iterator[LocalVSS]:
    """A storage space that answers 403 to whatever is asked about a bucket."""
    connect(space, CONN_ID)
    with space.fault("status", path="/buckets/", status=403):
        yield space


def assert_named(message: str, named: str, vss: LocalVSS) -> None:
    before, found, _ = message.partition(named)
    assert found, message
    assert not re.search(r"router|http|status|connection", before), message
    assert vss.url() in message, message
    assert message.count(f"connection '{CONN_ID}'") == 1, message
    assert not re.search(r"/[0-9a-f]{64}", message), message


def error_of(call: Callable[[], Any]) -> MictlanXError:
    with pytest.raises(MictlanXError) as caught:
        call()
    assert caught.value.args[0] == str(caught.value)
    return caught.value


def test_every_call_of_the_hook_is_looked_at() -> None:
    others = {"aget_settings", "get_conn", "open_client", "cancel", "test_connection"}
    assert {*CALLS, *OF_MANY, *OF_BULKS} == hook_methods() - async_twins() - others


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("method", [*CALLS, *OF_MANY, *OF_BULKS])
def test_error_of_the_hook(refusing: LocalVSS, bucket_id: str, tmp_path: Path, method: str, awaited: bool) -> None:
    arguments = {**CALLS, **OF_MANY, **OF_BULKS}[method](bucket_id, tmp_path)
    hook = MictlanXHook(CONN_ID)
    if awaited:
        error = error_of(lambda: asyncio.run(getattr(hook, f"a{method}")(**arguments)))
    else:
        error = error_of(lambda: getattr(hook, method)(**arguments))
    named = f"bulk 'the bulk {bucket_id}'" if method in OF_BULKS else bucket_id
    assert_named(str(error), f"{bucket_id}/{KEY}" if method in CALLS else named, refusing)


def test_client_of_the_hook_names_the_connection(refusing: LocalVSS, bucket_id: str) -> None:
    async def scenario() -> None:
        async with MictlanXHook(CONN_ID).open_client() as client:
            raise (await client.get(bucket_id, KEY)).unwrap_err()

    assert_named(str(error_of(lambda: asyncio.run(scenario()))), f"{bucket_id}/{KEY}", refusing)


def test_failures_of_many_objects(space: LocalVSS, connect: Callable[..., None], bucket_id: str) -> None:
    connect(space, CONN_ID)
    hook = MictlanXHook(CONN_ID)
    hook.put(bucket_id, KEY, "1")
    with space.fault("status", path=f"/buckets/{bucket_id}-copy/", status=403):
        copied = error_of(lambda: hook.copy_prefix(bucket_id, "2026/", f"{bucket_id}-copy"))
        result = hook.copy_prefix(bucket_id, "2026/", f"{bucket_id}-copy", fail_on_error=False)
        bulk_id = uuid.uuid4().hex
        balls = [{"key": KEY, "data": "1"}]
        put = error_of(lambda: hook.put_bulk(bulk_id, f"{bucket_id}-copy", balls=balls))
    assert isinstance(copied, BatchError)
    assert isinstance(put, BulkFailedError)
    assert_named(str(copied), f"{bucket_id}/{KEY}", space)
    assert_named(str(put), f"{bucket_id}-copy/{KEY}", space)
    # What goes to XCom is short: the task knows its connection.
    assert "connection" not in result["failures"][0]["message"]


def test_copy_to_another_connection_names_both(
    space: LocalVSS, vss: LocalVSS, connect: Callable[..., None], bucket_id: str
) -> None:
    connect(space, CONN_ID)
    connect(vss, "another")
    hook = MictlanXHook(CONN_ID)
    hook.put(bucket_id, KEY, "1")
    MictlanXHook("another").put(bucket_id, KEY, "2")
    message = str(error_of(lambda: hook.copy(bucket_id, KEY, bucket_id, dest_conn_id="another")))
    assert f"connection '{CONN_ID}'" in message
    assert "connection 'another'" in message


def test_connection_that_is_named_already_is_not_named_twice(connect: Callable[..., None], bucket_id: str) -> None:
    assert str(error_of(lambda: MictlanXHook("nowhere").put(bucket_id, KEY, "1"))).count("'nowhere'") == 1


def test_unpickled_error_says_the_same(refusing: LocalVSS, bucket_id: str) -> None:
    import pickle

    error = error_of(lambda: MictlanXHook(CONN_ID).get(bucket_id, KEY))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


# Operators

TASKS: dict[str, Call] = {
    "MictlanXPutOperator": lambda b, _: {"bucket_id": b, "key": KEY, "data": "1"},
    "MictlanXGetOperator": lambda b, _: {"bucket_id": b, "key": KEY},
    "MictlanXGetToFileOperator": lambda b, folder: {"bucket_id": b, "key": KEY, "output_path": str(folder)},
    "MictlanXGetToFolderOperator": lambda b, folder: {"bucket_id": b, "output_path": str(folder)},
    "MictlanXSyncOperator": lambda b, folder: {"source": str(folder), "destination": f"mictlanx://{b}"},
    "MictlanXListOperator": lambda b, _: {"bucket_id": b},
    "MictlanXCopyOperator": lambda b, _: {"bucket_id": b, "key": KEY, "dest_bucket_id": f"{b}-copy"},
    "MictlanXDeleteOperator": lambda b, _: {"bucket_id": b, "key": KEY},
    "MictlanXDeleteBucketOperator": lambda b, _: {"bucket_id": b},
    "MictlanXSweepOperator": lambda b, _: {"bucket_id": b, "older_than": "1d"},
    "MictlanXDeleteBulkOperator": lambda b, _: {"bulk_id": f"the bulk {b}"},
    "MictlanXBulkPutOperator": lambda b, _: {"bulk_id": f"the bulk {b}", "bucket_id": b, "source": __file__},
    "MictlanXAwaitBulkOperator": lambda b, _: {"bulk_id": f"the bulk {b}", "timeout": 5},
}


def test_every_operator_is_looked_at() -> None:
    assert set(TASKS) == {kind.__name__ for kind in OPERATORS}


@pytest.mark.parametrize("name", TASKS)
def test_error_of_an_operator(refusing: LocalVSS, bucket_id: str, tmp_path: Path, name: str) -> None:
    arguments = TASKS[name](bucket_id, tmp_path)
    with pytest.raises(AirflowFailException) as caught:
        getattr(operators, name)(task_id="task", mictlanx_conn_id=CONN_ID, **arguments).execute({})
    named = f"{bucket_id}/{KEY}" if "key" in arguments else arguments.get("bulk_id", bucket_id)
    assert_named(str(caught.value), named, refusing)
    assert "check what the token" in str(caught.value)


def test_operator_that_was_given_nothing_names_its_connection(bucket_id: str) -> None:
    operator = operators.MictlanXPutOperator(
        task_id="task", mictlanx_conn_id=CONN_ID, bucket_id=bucket_id, key=KEY, data="x"
    )
    operator.data = None
    with pytest.raises(AirflowFailException, match=f"task_id: task.*data and file_path.*connection '{CONN_ID}'"):
        operator.execute({})


def test_objects_that_could_not_be_deleted_name_the_connection(
    space: LocalVSS, connect: Callable[..., None], bucket_id: str
) -> None:
    connect(space, CONN_ID)
    MictlanXHook(CONN_ID).put(bucket_id, "a", "1")
    with (
        space.fault("status", method="DELETE", path=f"/buckets/{bucket_id}/", status=403),
        pytest.raises(MictlanXError, match=f"1 of 1 objects of bucket '{bucket_id}'.*connection '{CONN_ID}'"),
    ):
        operators.MictlanXDeleteBucketOperator(task_id="task", mictlanx_conn_id=CONN_ID, bucket_id=bucket_id).execute(
            {}
        )


# Sensors and triggers

WAITS: dict[str, Call] = {
    "MictlanXObjectSensor": lambda b, _: {"bucket_id": b, "key": KEY},
    "MictlanXBucketUnchangedSensor": lambda b, _: {"bucket_id": b},
    "BulkCompleteSensor": lambda b, _: {"bulk_id": f"the bulk {b}"},
}
TRIGGERED: dict[str, Call] = {
    "MictlanXObjectTrigger": lambda b, _: {"bucket_id": b, "key": KEY},
    "MictlanXBucketUnchangedTrigger": lambda b, _: {
        "bucket_id": b,
        "prefix": "",
        "inactivity_period": 1.0,
        "min_objects": 1,
        "allow_delete": False,
        "state": None,
    },
    "MictlanXBulkCompleteTrigger": lambda b, _: {"bulk_id": f"the bulk {b}"},
}


def test_every_sensor_and_trigger_is_looked_at() -> None:
    assert set(WAITS) == {kind.__name__ for kind in SENSORS}
    assert set(TRIGGERED) == {kind.__name__ for kind in TRIGGERS}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", WAITS)
def test_error_of_a_sensor(
    refusing: LocalVSS, bucket_id: str, tmp_path: Path, make_wait: Callable[..., Wait], name: str, mode: str
) -> None:
    arguments = WAITS[name](bucket_id, tmp_path)
    with pytest.raises(AirflowFailException) as caught:
        make_wait(mode, getattr(sensors, name))(mictlanx_conn_id=CONN_ID, **arguments)
    named = f"{bucket_id}/{KEY}" if "key" in arguments else arguments.get("bulk_id", bucket_id)
    assert_named(str(caught.value), named, refusing)


@pytest.mark.parametrize("name", TRIGGERED)
def test_error_of_a_trigger(refusing: LocalVSS, bucket_id: str, tmp_path: Path, name: str) -> None:
    arguments = TRIGGERED[name](bucket_id, tmp_path)
    trigger = getattr(triggers, name)(mictlanx_conn_id=CONN_ID, poke_interval=0.01, ends_at=None, **arguments)
    (event,) = asyncio.run(events_of(trigger))
    assert event.payload["kind"] == "PermissionError"
    named = f"{bucket_id}/{KEY}" if "key" in arguments else arguments.get("bulk_id", bucket_id)
    assert_named(json.loads(json.dumps(event.payload))["message"], named, refusing)


def test_sensor_with_wrong_parameters_names_its_connection(
    space: LocalVSS, connect: Callable[..., None], bucket_id: str
) -> None:
    connect(space, CONN_ID)
    sensor = sensors.MictlanXObjectSensor(
        task_id="task", mictlanx_conn_id=CONN_ID, bucket_id=bucket_id, key="a", min_objects=2
    )
    with pytest.raises(AirflowFailException, match=f"min_objects.*connection '{CONN_ID}'"):
        sensor.execute({})


def test_kinds_of_errors_stay(space: LocalVSS, connect: Callable[..., None], bucket_id: str) -> None:
    """Naming an error changes neither its class nor what may be done about it."""
    connect(space, CONN_ID)
    error = error_of(lambda: MictlanXHook(CONN_ID).get(bucket_id, KEY))
    assert (type(error), error.status_code, error.permanent) == (NotFoundError, 404, False)
    wrong = error_of(lambda: MictlanXHook(CONN_ID).get("no bucket", KEY))
    assert (type(wrong), wrong.permanent) == (ValidationError, True)
