"""Tasks of the same run that are cleared: upload and gate, after somebody deleted the bucket or a ball got lost."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.client.errors import NotFoundError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXDeleteBucketOperator
from tests.integration.conftest import write_files
from tests.support.airflow_bulks import ONE_TRY, await_bulk, later, put_bulk, task_of
from tests.support.sensor_modes import Wait
from tests.support.vss import LocalVSS


@pytest.fixture(autouse=True)
def _connected(connected: LocalVSS) -> None:
    pass


@pytest.fixture
def quiet_vss(own_vss: Callable[..., LocalVSS], connect: Callable[..., None]) -> LocalVSS:
    """A storage space that this test has for itself, behind the default connection."""
    vss = own_vss(peers=2)
    connect(vss)
    return vss


@pytest.fixture(params=[4, 20], ids=["asked one by one", "listed"])
def many(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with so many files."""
    return write_files(tmp_path / "many", {f"f{number:02}": f"content {number}" for number in range(request.param)})


def delete_bucket(bucket_id: str) -> None:
    operator = MictlanXDeleteBucketOperator(task_id="delete", bucket_id=bucket_id)
    inspect.unwrap(type(operator).execute)(operator, task_of())


def test_cleared_after_the_bucket_was_deleted(
    wait: Wait, hook: MictlanXHook, bulk_id: str, bucket_id: str, many: Path
) -> None:
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": many}
    contents = {path.name: path.read_bytes() for path in many.iterdir()}
    put_bulk(task_of(), **arguments)
    first = wait(bulk_id=bulk_id)
    delete_bucket(bucket_id)
    with pytest.raises(NotFoundError):
        hook.get(bucket_id, "f00")
    again = put_bulk(task_of(try_number=2, max_tries=1), **arguments)
    assert (again["uploaded"], again["skipped"], again["failed"]) == (len(contents), 0, 0)
    wait.began = None
    wait.try_number = 2
    second = wait(bulk_id=bulk_id, check_storage=True)
    assert {key: value for key, value in second.items() if key != "response_time"} == {
        key: value for key, value in first.items() if key != "response_time"
    }
    assert {key: hook.get(bucket_id, key) for key in contents} == contents


def test_ball_that_a_check_found_lost_is_mended(
    wait: Wait, quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, many: Path
) -> None:
    """The gate fails; upload and gate are cleared, as the error says, and it opens."""
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": many}
    put_bulk(task_of(), **arguments)
    MictlanXHook().delete(bucket_id, "f02")
    with pytest.raises(
        BulkFailedError,
        match=r"acknowledged objects? can't be read: f02: .*Clear the upload task, which sends them again",
    ):
        wait(bulk_id=bulk_id, check_storage=True)
    again = put_bulk(task_of(try_number=2, max_tries=1), **arguments)
    assert (again["uploaded"], again["skipped"]) == (1, again["total_balls"] - 1)
    wait.began = None
    wait.try_number = 2
    assert wait(bulk_id=bulk_id, check_storage=True)["succeeded"] == again["total_balls"]


def test_gate_waits_until_it_is_sent_again(
    wait: Wait, quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, many: Path
) -> None:
    """Upload and gate are cleared; the first try of the upload finds what is lost, and fails."""
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": many, **ONE_TRY}
    put_bulk(task_of(), **arguments)
    delete_bucket(bucket_id)
    with quiet_vss.fault("refuse_data", bucket=bucket_id, key="f02_0"), pytest.raises(BulkFailedError):
        put_bulk(task_of(try_number=2, max_tries=2), **arguments)
    with pytest.raises(AirflowSensorTimeout):
        wait(bulk_id=bulk_id, timeout=0)
    wait.began = None
    timer = later(lambda: put_bulk(task_of(try_number=3, max_tries=2), **arguments))
    assert wait(bulk_id=bulk_id)["state"] == "complete"
    timer.join()


def test_last_try_that_can_not_send_it_again_fails_the_gate(
    wait: Wait, quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, many: Path
) -> None:
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": many, **ONE_TRY}
    put_bulk(task_of(), **arguments)
    delete_bucket(bucket_id)
    with quiet_vss.fault("refuse_data", bucket=bucket_id, key="f02_0"), pytest.raises(BulkFailedError):
        put_bulk(task_of(try_number=2, max_tries=1), **arguments)
    with pytest.raises(AirflowFailException, match="failed permanently: 1 of "):
        wait(bulk_id=bulk_id)


def test_items_after_it_was_sent_again(hook: MictlanXHook, bulk_id: str, bucket_id: str, many: Path) -> None:
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": many}
    put_bulk(task_of(), **arguments)
    delete_bucket(bucket_id)
    total = put_bulk(task_of(try_number=2, max_tries=1), **arguments)["total_balls"]
    result = await_bulk(bulk_id, include_items=True, remove_on_completion=True)
    assert (len(result["successes"]), result["failures"]) == (total, [])


def test_closed_bulk_is_not_sent_again(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path) -> None:
    """What was planned is not known any more; the error names the ways out, and the second of them works."""
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": folder}
    put_bulk(task_of(), **arguments)
    await_bulk(bulk_id, remove_on_completion=True)
    delete_bucket(bucket_id)
    with pytest.raises(AirflowFailException, match=r"was awaited and closed.*another bulk_id.*delete_bulk"):
        put_bulk(task_of(try_number=2, max_tries=1), **arguments)
    hook.delete_bulk(bulk_id)
    assert put_bulk(task_of(try_number=3, max_tries=2), **arguments)["uploaded"] == 3


def test_file_that_changed_in_place_fails_without_a_retry(
    quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": folder, **ONE_TRY}
    with quiet_vss.fault("refuse_data", bucket=bucket_id, key="b_0"), pytest.raises(BulkFailedError):
        put_bulk(task_of(max_tries=3), **arguments)
    (folder / "a").write_text("9")
    with pytest.raises(AirflowFailException, match=r"changed after planning.*another bulk_id.*replace=True"):
        put_bulk(task_of(try_number=2, max_tries=3), **arguments)
