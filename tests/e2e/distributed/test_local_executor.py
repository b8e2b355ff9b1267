"""Bulks under a real scheduler with the LocalExecutor, with gates that wait in a real triggerer."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from airflow_provider_mictlanx.client.object_ids import make_ball_id
from scripts.running_airflow import RunningAirflow
from tests.support import slow_storage as storage
from tests.support.airflow_runs import BUCKETS, FILES, Run, time_of, write_files
from tests.support.vss import LocalVSS


def test_gate_opens_after_the_last_ball_and_not_before(
    local_airflow: RunningAirflow, vss: LocalVSS, tmp_path: Path
) -> None:
    source = write_files(tmp_path / "source")
    slow, kept = storage.slow_down(vss, BUCKETS, seconds=3), storage.put_off_deletes(vss)
    run = Run(local_airflow, "example_mictlanx_bulk", source=str(source), target=str(tmp_path / "copies"))
    records = run.wait_for_pokes(vss, "ready")
    bucket_id = run.xcom("name_bucket")

    assert run.state_of("upload") == "running"
    assert len(storage.balls_in(vss, bucket_id)) < FILES
    released = datetime.now(UTC)
    slow.off()
    run.wait_for_success("upload", "ready")
    last_ball, end_of_upload = storage.last_written(vss, bucket_id), storage.last_written(vss, records, "done-")
    stored = storage.checksums_in(vss, bucket_id)
    kept.off()
    run.finish()

    upload, ready = run.task("upload"), run.task("ready")
    assert stored == storage.checksums_of(source)
    assert time_of(ready, "start_date") < released < last_ball < end_of_upload < time_of(ready, "end_date")
    assert time_of(upload, "start_date") < released < time_of(upload, "end_date")
    assert time_of(ready, "end_date") < time_of(run.task("result"), "start_date")
    assert upload["try_number"] == ready["try_number"] == 1
    for task_id in ("ready", "result"):
        assert run.xcom(task_id).items() >= {"state": "complete", "total_balls": FILES, "failed": 0}.items()
    assert storage.chunks_in(vss, bucket_id) == storage.chunks_in(vss, records) == []


def test_retry_that_mends_an_upload_does_not_break_the_gate(
    local_airflow: RunningAirflow, vss: LocalVSS, tmp_path: Path, bucket_id: str
) -> None:
    source = write_files(tmp_path / "source")
    chunks = f"{make_ball_id('1/file-07.bin')}_*"
    fault = vss.set_fault("status", method="POST", path="/buckets/data/", bucket=bucket_id, key=chunks, status=500)
    run = Run(local_airflow, "bulk_mended_by_retry", source=str(source), bucket_id=bucket_id)
    local_airflow.wait_for("a failed try", lambda: run.state_of("upload") == "up_for_retry", 180)
    records = run.wait_for_pokes(vss, "gate")

    assert fault.triggered >= 1
    fault.off()
    run.finish()

    upload, gate = run.task("upload"), run.task("gate")
    assert upload["try_number"] > 1
    assert gate["try_number"] == 1
    assert run.xcom("upload").items() >= {"total_balls": FILES, "uploaded": 1, "skipped": FILES - 1}.items()
    assert run.xcom("gate").items() >= {"state": "complete", "succeeded": FILES, "failed": 0}.items()
    last_ball, end_of_upload = storage.last_written(vss, bucket_id), storage.last_written(vss, records, "done-")
    assert last_ball < end_of_upload < time_of(gate, "end_date")
    assert storage.checksums_in(vss, bucket_id) == storage.checksums_of(source)


def test_upload_that_somebody_stops_goes_on_when_it_is_cleared(
    local_airflow: RunningAirflow, vss: LocalVSS, tmp_path: Path, bucket_id: str
) -> None:
    source = write_files(tmp_path / "source")
    slow = storage.slow_down(vss, bucket_id, seconds=3)
    run = Run(local_airflow, "bulk_mended_by_retry", source=str(source), bucket_id=bucket_id)
    run.wait_for_pokes(vss, "gate")
    local_airflow.wait_for("some balls", lambda: len(storage.balls_in(vss, bucket_id)) > 2, 120)

    run.mark("upload", "failed")
    told = run.wait_until_told("upload")
    time.sleep(5)
    assert max(seen["at"] for seen in vss.requests(path=f"/{bucket_id}/")) <= told + 2
    assert len(storage.balls_in(vss, bucket_id)) < FILES
    assert (run.state_of("upload"), run.state_of("gate")) == ("failed", "deferred")

    slow.off()
    run.clear("upload")
    run.finish()
    uploaded = run.xcom("upload")
    assert (uploaded["total_balls"], uploaded["failed"]) == (FILES, 0)
    assert uploaded["skipped"] > 0, "what was acknowledged before is not sent again"
    assert storage.checksums_in(vss, bucket_id) == storage.checksums_of(source)
