"""A bulk in four mapped shards under the CeleryExecutor: two workers with a prefork pool each, and a real Redis."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from scripts.running_airflow import RunningAirflow
from tests.e2e.distributed.conftest import SLOTS, WORKERS
from tests.support import slow_storage as storage
from tests.support.airflow_runs import BUCKETS, FILES, Run, time_of, write_files
from tests.support.vss import LocalVSS

SHARDS = 4


def shards_of(airflow: RunningAirflow, run: Run, worker: str) -> set[int]:
    """Return the shards whose uploads a worker ran, from its log."""
    upload = re.compile(rf"Executing workload.*run_id={re.escape(run.run_id)}/task_id=upload/map_index=(\d+)/")
    lines = airflow.log_of(worker).read_text(encoding="utf-8", errors="replace").splitlines()
    return {int(match[1]) for line in lines if (match := upload.search(line))}


def begun(vss: LocalVSS) -> set[str]:
    """Return the shards that began, from the bulk's records."""
    return {
        ball_id.split("-")[1]
        for records in storage.bulk_buckets(vss)
        for ball_id in storage.balls_in(vss, records)
        if ball_id.startswith("start-")
    }


def test_four_mapped_shards_on_two_workers(celery_airflow: RunningAirflow, vss: LocalVSS, tmp_path: Path) -> None:
    source = write_files(tmp_path / "source")
    # Four balls per shard, one at a time: time for all four to begin before the first one ends.
    slow, kept = storage.slow_down(vss, BUCKETS, seconds=15), storage.put_off_deletes(vss)
    run = Run(celery_airflow, "example_mictlanx_bulk_mapped", source=str(source))
    celery_airflow.wait_for("all shards to begin", lambda: len(begun(vss)) == SHARDS, 180)
    records = run.wait_for_pokes(vss, "ready")
    bucket_id = run.xcom("name_bucket")

    assert {task["state"] for task in run.tasks("upload")} == {"running"}
    released = datetime.now(UTC)
    slow.off()
    run.wait_for_success("upload", "ready")
    last_ball, end_of_upload = storage.last_written(vss, bucket_id), storage.last_written(vss, records, "done-")
    kinds = sorted(ball_id.split("-")[0] for ball_id in storage.balls_in(vss, records))
    stored = storage.checksums_in(vss, bucket_id)
    kept.off()
    run.finish()

    assert stored == storage.checksums_of(source)
    assert {kind: kinds.count(kind) for kind in ("start", "plan", "done")} == dict.fromkeys(
        ("start", "plan", "done"), 4
    )
    uploads, ready = run.tasks("upload"), run.task("ready")
    assert len(uploads) == SHARDS
    assert max(time_of(task, "start_date") for task in uploads) < released
    assert released < last_ball < end_of_upload < time_of(ready, "end_date")
    results = [run.xcom("upload", shard) for shard in range(SHARDS)]
    assert [result["shard"] for result in results] == list(range(SHARDS))
    assert all(result["uploaded"] == result["total_balls"] > 0 for result in results)
    assert sum(result["uploaded"] for result in results) == FILES
    assert run.xcom("ready").items() >= {"state": "complete", "shards": SHARDS, "succeeded": FILES, "failed": 0}.items()
    assert storage.chunks_in(vss, bucket_id) == storage.chunks_in(vss, records) == []
    taken = [shards_of(celery_airflow, run, worker) for worker in WORKERS]
    assert all(taken), taken
    assert sorted(shard for shards in taken for shard in shards) == list(range(SHARDS))
    for worker in WORKERS:
        assert f"concurrency: {SLOTS} (prefork)" in celery_airflow.log_of(worker).read_text(encoding="utf-8")
