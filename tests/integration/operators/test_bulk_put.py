"""The operator that uploads a bulk: whose it is, what it gives to XCom, shards by mapping, retries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.bulks.records import RECORD_TAG, records_bucket
from airflow_provider_mictlanx.client.errors import UnavailableError
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXBulkPutOperator
from tests.support.airflow_bulks import ONE_TRY, put_bulk, task_of
from tests.support.vss import LocalVSS

BALLS = [{"key": "a", "data": "x"}]


@pytest.fixture(autouse=True)
def _connected(connected: LocalVSS) -> None:
    pass


@pytest.fixture
def quiet_vss(own_vss: Callable[..., LocalVSS], connect: Callable[..., None]) -> LocalVSS:
    vss = own_vss(peers=2)
    connect(vss)
    return vss


def records(hook: MictlanXHook, bulk_id: str, kind: str) -> list[dict[str, Any]]:
    """Return the records of a kind, the oldest first."""
    balls = [ball for ball in hook.list_balls(records_bucket(bulk_id)) if ball["ball_id"].startswith(kind)]
    return [json.loads(ball["tags"][RECORD_TAG]) for ball in sorted(balls, key=lambda ball: ball["updated_at"])]


def test_xcom(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path) -> None:
    result = put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    assert result.pop("response_time") > 0
    assert result == {
        "bulk_id": bulk_id,
        "shard": 0,
        "shards": 1,
        "total_balls": 3,
        "uploaded": 3,
        "skipped": 0,
        "failed": 0,
        "uploaded_size": 6,
    }


def test_xcom_stays_small(hook: MictlanXHook, bulk_id: str, bucket_id: str) -> None:
    """However many fail, with however long reasons and keys."""
    keys = [f"{'ñ' * 500}-{number}" for number in range(30)]
    for key in keys:
        hook.put(bucket_id, key, "other bytes")
    result = put_bulk(
        bulk_id=bulk_id, bucket_id=bucket_id, balls=[{"key": key, "data": "x"} for key in keys], fail_on_error=False
    )
    assert result["failed"] == 30
    assert 1 <= len(result["failures"]) < 30
    summary = hook.await_bulk(bulk_id, fail_on_error=False, timeout=0)
    assert summary["failed"] == 30
    for told in (result, summary):
        assert len(json.dumps(told)) < 2000, told


def test_owner_is_the_task(hook: MictlanXHook, bulk_id: str, bucket_id: str) -> None:
    put_bulk(task_of(run_id="run-1", map_index=2), bulk_id=bulk_id, bucket_id=bucket_id, balls=BALLS, shards=1)
    (start,) = records(hook, bulk_id, "start")
    assert start["owner"] == {"dag_id": "dag", "run_id": "run-1", "task_id": "upload", "map_index": "2"}


def test_without_a_task(hook: MictlanXHook, bulk_id: str, bucket_id: str) -> None:
    put_bulk({}, bulk_id=bulk_id, bucket_id=bucket_id, balls=BALLS)
    (start,) = records(hook, bulk_id, "start")
    assert start["owner"] == {"owner": "airflow"}


def test_two_runs_that_share_a_bulk_id(bulk_id: str, bucket_id: str, folder: Path) -> None:
    put_bulk(task_of("run-1"), bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    with pytest.raises(
        AirflowFailException, match=r"belongs to .*run_id run-1.*not to .*run_id run-2.*include the run id"
    ):
        put_bulk(task_of("run-2"), bulk_id=bulk_id, bucket_id=bucket_id, source=folder)
    assert put_bulk(task_of("run-1"), bulk_id=bulk_id, bucket_id=bucket_id, source=folder)["skipped"] == 3


@pytest.mark.parametrize(
    ("try_number", "max_tries", "expected"),
    [(1, 0, False), (1, 1, True), (2, 1, False), (2, 2, True), (3, 2, False), (2, 4, True)],
)
def test_record_of_a_failure_tells_whether_a_retry_follows(
    quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, try_number: int, max_tries: int, expected: bool
) -> None:
    with quiet_vss.fault("refuse_data", bucket=bucket_id), pytest.raises(BulkFailedError):
        put_bulk(
            task_of(try_number=try_number, max_tries=max_tries),
            bulk_id=bulk_id,
            bucket_id=bucket_id,
            balls=BALLS,
            **ONE_TRY,
        )
    (done,) = records(MictlanXHook(), bulk_id, "done")
    assert (done["failed"], done["will_retry"]) == (1, expected)


def test_failure_that_no_retry_can_mend_fails_at_once(hook: MictlanXHook, bulk_id: str, bucket_id: str) -> None:
    hook.put(bucket_id, "a", "other bytes")
    with pytest.raises(AirflowFailException, match=r"BulkFailedError: .*No retry can fix this"):
        put_bulk(task_of(max_tries=3), bulk_id=bulk_id, bucket_id=bucket_id, balls=BALLS)
    (done,) = records(hook, bulk_id, "done")
    assert done["will_retry"] is False, "who waits for the bulk is not to wait for a retry that never comes"


def test_source_that_is_wrong_breaks_the_bulk(hook: MictlanXHook, bulk_id: str, bucket_id: str, tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match="has no objects"):
        put_bulk(task_of(max_tries=3), bulk_id=bulk_id, bucket_id=bucket_id, source=str(tmp_path / "*.none"))
    with pytest.raises(BulkFailedError, match="has no objects"):
        hook.await_bulk(bulk_id, timeout=0)


def test_peer_that_is_away_is_retried(quiet_vss: LocalVSS, bulk_id: str, bucket_id: str) -> None:
    with quiet_vss.fault("peer_down", peer="peer-0"), pytest.raises(UnavailableError):
        put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, balls=BALLS, **ONE_TRY)
    assert put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, balls=BALLS)["uploaded"] == 1


def test_retry_sends_only_what_is_missing(quiet_vss: LocalVSS, bulk_id: str, bucket_id: str, folder: Path) -> None:
    arguments = {"bulk_id": bulk_id, "bucket_id": bucket_id, "source": folder, **ONE_TRY}
    with quiet_vss.fault("refuse_data", bucket=bucket_id, key="b_0"), pytest.raises(BulkFailedError) as caught:
        put_bulk(task_of(max_tries=1), **arguments)
    assert (caught.value.result["uploaded"], caught.value.result["failed"]) == (2, 1)
    result = put_bulk(task_of(try_number=2, max_tries=1), **arguments)
    assert (result["uploaded"], result["skipped"], result["failed"], result["uploaded_size"]) == (1, 2, 0, 2)


# Shards


@pytest.mark.parametrize("as_text", [False, True])
def test_mapped_shards(
    hook: MictlanXHook, bulk_id: str, bucket_id: str, make_files: Callable[..., Path], as_text: bool
) -> None:
    folder = make_files({f"f{number}": "x" * number * 1000 for number in range(1, 13)})
    shards = [
        put_bulk(
            task_of(map_index=shard),
            bulk_id=bulk_id,
            bucket_id=bucket_id,
            source=folder,
            shard=str(shard) if as_text else shard,
            shards="4" if as_text else 4,
        )
        for shard in range(4)
    ]
    assert [result["shard"] for result in shards] == [0, 1, 2, 3]
    assert sum(result["uploaded"] for result in shards) == 12
    assert max(result["uploaded_size"] for result in shards) < 30_000, "split by bytes"
    assert hook.await_bulk(bulk_id, timeout=0)["succeeded"] == 12
    assert len(hook.list_balls(bucket_id)) == 12


def test_shard_that_gets_nothing_succeeds(bulk_id: str, bucket_id: str, folder: Path) -> None:
    shards = [
        put_bulk(task_of(map_index=shard), bulk_id=bulk_id, bucket_id=bucket_id, source=folder, shard=shard, shards=5)
        for shard in range(5)
    ]
    assert sorted(result["total_balls"] for result in shards) == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("shard", "shards", "why"),
    [
        (4, 4, "shard must be from 0 to shards - 1, got 4 of 4"),
        ("-1", 4, "got -1 of 4"),
        (0, 0, "shard must be from 0"),
        ("one", 4, "shard must be an int, got 'one'"),
        (0, "{{ many }}", "shards must be an int"),
        (1.5, 4, "shard must be an int, got 1.5"),
    ],
)
def test_bad_shard(bulk_id: str, bucket_id: str, folder: Path, shard: Any, shards: Any, why: str) -> None:
    with pytest.raises(AirflowFailException, match=why):
        put_bulk(bulk_id=bulk_id, bucket_id=bucket_id, source=folder, shard=shard, shards=shards)


def test_mapping_over_balls_needs_shards(hook: MictlanXHook, bulk_id: str, bucket_id: str) -> None:
    with pytest.raises(AirflowFailException, match=r"expand_kwargs\(\[\{'shard': 0, 'balls'.*set shards=1"):
        put_bulk(task_of(map_index=0), bulk_id=bulk_id, bucket_id=bucket_id, balls=BALLS)
    assert hook.bulk_status(bulk_id)["state"] == "unplanned"
    put_bulk(task_of(map_index=0), bulk_id=bulk_id, bucket_id=bucket_id, balls=BALLS, shards=1)
    put_bulk(task_of(map_index=1), bulk_id=f"{bulk_id}-2", bucket_id=bucket_id, balls=BALLS, shards=1)


def test_mapping_over_sources_of_one_bulk(bulk_id: str, bucket_id: str, folder: Path) -> None:
    put_bulk(task_of(map_index=0), bulk_id=bulk_id, bucket_id=bucket_id, source=folder / "a")
    with pytest.raises(AirflowFailException, match=r"one mapped operator: .*set shard for each"):
        put_bulk(task_of(map_index=1), bulk_id=bulk_id, bucket_id=bucket_id, source=folder / "b")


# Parameters


@pytest.mark.parametrize("given", [{}, {"source": "s", "balls": []}])
def test_either_source_or_balls(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one of source and balls"):
        MictlanXBulkPutOperator(task_id="upload", bulk_id="b", **given)


def test_everything_is_templated(hook: MictlanXHook, bulk_id: str, bucket_id: str, folder: Path) -> None:
    operator = MictlanXBulkPutOperator(
        task_id="upload",
        bulk_id=bulk_id[:-3] + "{{ tail }}",
        bucket_id=bucket_id[:-3] + "{{ bucket }}",
        source=[f"{folder}/{{{{ name }}}}", folder / "b"],
        shard="{{ shard }}",
        shards="{{ shard + 1 }}",
        key_prefix="{{ name }}/",
        tags={"run": "{{ tail }}"},
        mictlanx_conn_id="mictlanx_{{ conn }}",
    )
    context = {"tail": bulk_id[-3:], "bucket": bucket_id[-3:], "name": "a", "shard": 0, "conn": "default"}
    operator.render_template_fields(context)
    assert operator.execute({})["uploaded"] == 2
    assert [ball["key"] for ball in hook.list_balls(bucket_id)] == ["a/a", "a/b"]
    assert hook.get_metadata(bucket_id, "a/a")["tags"]["run"] == bulk_id[-3:]


def test_items_are_templated(hook: MictlanXHook, bulk_id: str, bucket_id: str) -> None:
    operator = MictlanXBulkPutOperator(
        task_id="upload", bulk_id=bulk_id, bucket_id=bucket_id, balls=[{"key": "{{ ds }}/a", "data": "{{ ds }}"}]
    )
    operator.render_template_fields({"ds": "2026-11-23"})
    operator.execute({})
    assert hook.get(bucket_id, "2026-11-23/a") == b"2026-11-23"


def test_making_an_operator_looks_nothing_up() -> None:
    operator = MictlanXBulkPutOperator(task_id="upload", bulk_id="", source="", mictlanx_conn_id="no_such_connection")
    operator.on_kill()
