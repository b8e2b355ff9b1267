"""The gate in every mode, against the local VSS: it opens after the last ball, says the same, and fails the same way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.client.errors import RequestTimeoutError, UnavailableError
from airflow_provider_mictlanx.hooks.errors import error_event, error_from_event
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.sensors.mictlanx import BulkCompleteSensor
from airflow_provider_mictlanx.triggers.mictlanx import MictlanXBulkCompleteTrigger
from tests.support.airflow_bulks import ONE_TRY, gate, later, put_bulk, task_of
from tests.support.sensor_modes import Wait, run_elsewhere
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


def fail_for_good(bulk_id: str, bucket_id: str, folder: Path) -> None:
    """Upload three balls, of which one can't be stored, because other bytes are there."""
    MictlanXHook().put(bucket_id, "b", "other bytes")
    with pytest.raises(AirflowFailException, match=r"1 of 3 objects are not stored: b: .*other"):
        put_bulk(task_of(max_tries=3), bulk_id=bulk_id, bucket_id=bucket_id, source=folder)


# When it opens, and with what


def test_opens_at_the_first_poke(wait: Wait, hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path) -> None:
    put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    result = wait(bulk_id=bulk_id)
    assert result == hook.await_bulk(bulk_id, timeout=0)
    assert (result["state"], result["total_balls"], result["succeeded"], result["uploaded_size"]) == (
        "complete",
        3,
        3,
        6,
    )
    assert (result["failed"], result["failures"], result["problems"]) == (0, [], [])


def test_waits_for_a_bulk_that_nobody_has_planned(
    wait: Wait, hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    upload = later(lambda: put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder))
    result = wait(bulk_id=bulk_id)
    upload.join()
    assert result == hook.await_bulk(bulk_id, timeout=0)


def test_opens_after_the_last_shard(wait: Wait, bulk_id: str, bucket_id: str, folder: Path) -> None:
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": folder, "shards": 2}
    put_bulk(task_of(map_index=0), shard=0, **arguments)
    with pytest.raises(AirflowSensorTimeout):
        wait(bulk_id=bulk_id, timeout=0.2)
    wait.began = None
    timer = later(lambda: put_bulk(task_of(map_index=1), shard=1, **arguments))
    result = wait(bulk_id=bulk_id)
    timer.join()
    assert (result["shards"], result["total_balls"], result["succeeded"]) == (2, 3, 3)


def test_bulk_of_no_balls(wait: Wait, bulk_id: str, bucket_id: str, tmp_path: Path) -> None:
    put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=str(tmp_path / "*.none"), allow_empty=True)
    assert wait(bulk_id=bulk_id)["total_balls"] == 0


def test_closed_bulk_answers_as_before(
    wait: Wait, hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    assert hook.await_bulk(bulk_id, remove_on_completion=True) == wait(bulk_id=bulk_id)
    wait.began = None
    with pytest.raises(AirflowFailException, match="use remove_on_completion only after the check"):
        wait(bulk_id=bulk_id, check_storage=True)


def test_bulk_that_failed_stays_so_when_it_is_closed(
    wait: Wait, hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    fail_for_good(bulk_id, bucket_id, folder)
    result = hook.await_bulk(bulk_id, fail_on_error=False, remove_on_completion=True)
    assert (result["failed"], result) == (1, wait(bulk_id=bulk_id, fail_on_error=False))
    wait.began = None
    with pytest.raises(AirflowFailException, match="failed permanently"):
        wait(bulk_id=bulk_id)


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize("timeout", [0, 0.3])
def test_end_of_the_wait(wait: Wait, bulk_id: str, soft_fail: bool, timeout: float) -> None:
    with pytest.raises(AirflowSkipException if soft_fail else AirflowSensorTimeout, match="Sensor has timed out"):
        wait(bulk_id=bulk_id, timeout=timeout, soft_fail=soft_fail)


# Failures


@pytest.mark.parametrize("soft_fail", [False, True])
@pytest.mark.parametrize("first", [True, False])
def test_bulk_that_failed_for_good(
    wait: Wait, bulk_id: str, bucket_id: str, folder: Path, first: bool, soft_fail: bool
) -> None:
    """Soft or not: soft_fail skips at the end of the wait, and hides no failure."""
    timer = later(lambda: fail_for_good(bulk_id, bucket_id, folder), 0 if first else 0.3)
    if first:
        timer.join()
    with pytest.raises(AirflowFailException, match=r"failed permanently: 1 of 3 objects are not stored.*b: "):
        wait(bulk_id=bulk_id, soft_fail=soft_fail)
    timer.join()


@pytest.mark.parametrize("first", [True, False])
def test_bulk_that_failed_for_good_opens_if_told_so(
    wait: Wait, hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path, first: bool
) -> None:
    timer = later(lambda: fail_for_good(bulk_id, bucket_id, folder), 0 if first else 0.3)
    if first:
        timer.join()
    result = wait(bulk_id=bulk_id, fail_on_error=False)
    timer.join()
    assert result == hook.await_bulk(bulk_id, fail_on_error=False, timeout=0)
    assert (result["state"], result["succeeded"], result["failed"], result["uploaded_size"]) == ("failed", 2, 1, 4)
    assert [(failure["key"], failure["bucket_id"]) for failure in result["failures"]] == [("b", bucket_id)]


def test_retry_mends_it(
    wait: Wait, quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path, logged: Callable[[], list[str]]
) -> None:
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": folder, **ONE_TRY}
    with quiet_vss.fault("refuse_data", bucket=bucket_id, key="b_0"), pytest.raises(BulkFailedError) as caught:
        put_bulk(task_of(try_number=1, max_tries=1), **arguments)
    assert not caught.value.permanent
    timer = later(lambda: put_bulk(task_of(try_number=2, max_tries=1), **arguments))
    result = wait(bulk_id=bulk_id)
    timer.join()
    assert (result["state"], result["succeeded"], result["failed"]) == ("complete", 3, 0)
    assert any("1 failed, which a retry may still fix" in line for line in logged())


def test_last_try_that_fails_breaks_it(
    wait: Wait, quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": folder, **ONE_TRY}
    with quiet_vss.fault("refuse_data", bucket=bucket_id, key="b_0"):
        for try_number in (1, 2):
            with pytest.raises(BulkFailedError):
                put_bulk(task_of(try_number=try_number, max_tries=1), **arguments)
    with pytest.raises(AirflowFailException, match="failed permanently"):
        wait(bulk_id=bulk_id)


def test_upload_that_only_reports_its_failures_is_not_waited_for(
    wait: Wait, quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """A task that succeeds is not run again, whatever retries it has."""
    with quiet_vss.fault("refuse_data", bucket=bucket_id, key="b_0"):
        result = put_bulk(
            task_of(max_tries=3), bulk_id=bulk_id, bucket_id=bucket_id, source=folder, fail_on_error=False, **ONE_TRY
        )
    assert result["failed"] == 1
    assert wait(bulk_id=bulk_id, fail_on_error=False)["failed"] == 1


def test_shards_that_saw_different_sources(wait: Wait, bulk_id: str, bucket_id: str, folder: Path) -> None:
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": folder, "shards": 2}
    put_bulk(task_of(map_index=0), shard=0, **arguments)
    (folder / "d").write_text("4444")
    for refused in (lambda: put_bulk(task_of(map_index=1), shard=1, **arguments), lambda: wait(bulk_id=bulk_id)):
        with pytest.raises(AirflowFailException, match=r"shards saw different sources: shard 0 saw 3 .*shard 1 saw 4"):
            refused()


def test_peer_that_is_away_is_no_reason_to_open(
    wait: Wait, quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """Nor to fail: from a listing that lacks a peer only what is good is believed."""
    fail_for_good(bulk_id, bucket_id, folder)
    with quiet_vss.fault("peer_down", peer="peer-0"), pytest.raises(AirflowSensorTimeout):
        wait(bulk_id=bulk_id, timeout=0, fail_on_error=False)


def test_request_timeout(wait: Wait, quiet_vss: LocalVSS, bulk_id: str) -> None:
    quiet_vss.set_fault("latency", path="/metadata$", seconds=5)
    with pytest.raises(RequestTimeoutError):
        wait(bulk_id=bulk_id, request_timeout=0.1)


# Reading back


def test_check_storage(
    wait: Wait, quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, make_files: Callable[..., Path]
) -> None:
    folder = make_files({f"f{number:02}": "x" * number for number in range(1, 31)})
    put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    plain = wait(bulk_id=bulk_id)
    wait.began = None
    quiet_vss.reset_requests()
    assert wait(bulk_id=bulk_id, check_storage=True, poke_interval=0.01) == plain
    read = [seen["path"] for seen in quiet_vss.requests("GET", rf"/buckets/{bucket_id}/f\d\d_0$")]
    assert len(read) == len(set(read)) == 30, "every chunk is read once, over however many pokes"


def test_check_storage_finds_what_is_lost(
    wait: Wait, quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    MictlanXHook().delete(bucket_id, "b")
    assert wait(bulk_id=bulk_id)["state"] == "complete"
    wait.began = None
    with pytest.raises(BulkFailedError, match=r"1 acknowledged object can't be read: b: "):
        wait(bulk_id=bulk_id, check_storage=True)
    wait.began = None
    result = wait(bulk_id=bulk_id, check_storage=True, fail_on_error=False)
    assert (result["state"], result["succeeded"], result["failed"]) == ("failed", 2, 1)
    assert [failure["key"] for failure in result["failures"]] == ["b"]


def test_check_storage_while_a_peer_is_away(
    wait: Wait, quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    """Not a failure of the bulk: it can't be told, and the task is retried."""
    put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    with quiet_vss.fault("peer_down", peer="peer-0"), pytest.raises(UnavailableError):
        wait(bulk_id=bulk_id, check_storage=True)


def test_check_goes_on_in_the_trigger_where_the_sensor_stopped(
    quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, make_files: Callable[..., Path]
) -> None:
    folder = make_files({f"f{number:02}": "x" * number for number in range(1, 31)})
    put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    with pytest.raises(TaskDeferred) as caught:
        gate("deferrable").sensor(bulk_id=bulk_id, check_storage=True, poke_interval=0).execute({})
    before = len(quiet_vss.requests("GET", rf"/buckets/{bucket_id}/f\d\d_0$"))
    assert 0 < before < 30
    assert run_elsewhere(caught.value.trigger)["status"] == "success"
    assert len(quiet_vss.requests("GET", rf"/buckets/{bucket_id}/f\d\d_0$")) == 30


def test_check_begins_anew_when_the_task_runs_again(
    quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path
) -> None:
    put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    for try_number in (1, 1, 2):
        quiet_vss.reset_requests()
        gate("poke").sensor(bulk_id=bulk_id, check_storage=True).execute(task_of(try_number=try_number))
    assert len(quiet_vss.requests("GET", rf"/buckets/{bucket_id}/[^/]*_0$")) == 3


# What it costs, what it tells


def test_poke_is_one_listing(wait: Wait, quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    quiet_vss.reset_requests()
    wait(bulk_id=bulk_id)
    assert [(seen["method"], seen["path"].rpartition("/")[2]) for seen in quiet_vss.requests()] == [("GET", "metadata")]


def test_log_tells_where_the_bulk_stands(
    wait: Wait, bulk_id: str, bucket_id: str, folder: Path, logged: Callable[[], list[str]]
) -> None:
    with pytest.raises(AirflowSensorTimeout):
        wait(bulk_id=bulk_id, timeout=0)
    assert f"Bulk {bulk_id!r} is not planned yet" in logged()
    put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    wait.began = None
    wait(bulk_id=bulk_id)
    assert any(
        line.startswith(f"Bulk {bulk_id!r} is complete: 3 of 3 objects, 6 bytes of 6 bytes")
        and "last record at" in line
        for line in logged()
    )


def test_trigger_says_no_secret_and_only_json(vss: LocalVSS, connect: Callable[..., None], bulk_id: str) -> None:
    connect(vss, password="s3cret-token", headers={"X-Key": "s3cret-header"})
    with pytest.raises(TaskDeferred) as caught:
        gate("deferrable").sensor(bulk_id=bulk_id, check_storage=True).execute({})
    path, arguments = caught.value.trigger.serialize()
    assert json.loads(json.dumps(arguments)) == arguments
    assert "s3cret" not in f"{path} {arguments} {caught.value.trigger!r}"


def test_failure_survives_the_event() -> None:
    error = BulkFailedError("bulk 'b' failed for good", permanent=True, result={"failed": 1})
    again = error_from_event(json.loads(json.dumps(error_event(error))))
    assert type(again) is BulkFailedError
    assert (str(again), again.permanent, again.transient) == (str(error), True, False)


def test_making_a_sensor_looks_nothing_up() -> None:
    sensor = BulkCompleteSensor(task_id="wait", bulk_id="", mictlanx_conn_id="no_such_connection")
    assert (sensor.deferrable, sensor.fail_on_error, sensor.check_storage) == (False, True, False)


def test_every_id_is_templated(bulk_id: str, bucket_id: str, folder: Path) -> None:
    put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    sensor = BulkCompleteSensor(
        task_id="wait", bulk_id=bulk_id[:-3] + "{{ tail }}", mictlanx_conn_id="mictlanx_{{ name }}"
    )
    sensor.render_template_fields({"tail": bulk_id[-3:], "name": "default"})
    assert sensor.execute({})["succeeded"] == 3


def test_bad_id_fails_at_once(wait: Wait) -> None:
    with pytest.raises(AirflowFailException, match="bulk_id must be a non-empty str"):
        wait(bulk_id="", soft_fail=True)


def test_trigger_without_its_connection_reports_it() -> None:
    arguments: dict[str, Any] = {"mictlanx_conn_id": "nobody_made_this_one", "poke_interval": 0, "ends_at": None}
    payload = run_elsewhere(MictlanXBulkCompleteTrigger(bulk_id="b", **arguments))
    assert (payload["status"], payload["kind"], payload["permanent"]) == ("error", "ValidationError", True)
