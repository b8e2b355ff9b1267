"""What becomes of a bulk's result and of its errors on the way into a task: small, JSON, and the same class again."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

import airflow_provider_mictlanx.operators.mictlanx as operators
import airflow_provider_mictlanx.sensors.mictlanx as sensors
import airflow_provider_mictlanx.triggers.mictlanx as triggers
from airflow_provider_mictlanx.batches.runner import Failure
from airflow_provider_mictlanx.bulks.errors import BulkConflictError, BulkFailedError
from airflow_provider_mictlanx.bulks.options import UploadResult
from airflow_provider_mictlanx.hooks import summaries
from airflow_provider_mictlanx.hooks.errors import TaskErrors, error_event, error_from_event
from airflow_provider_mictlanx.operators.mictlanx import MictlanXListOperator, _will_retry


def outcome(failures: int, message: str = "m", key: str = "k") -> UploadResult:
    failed = [Failure(bucket_id="b", key=f"{key}{n}", code=502, message=message) for n in range(failures)]
    return UploadResult("bulk", 0, 1, failures, 0, 0, failures, 0, 1.5, failures=failed, slowest=[("k", 1.0)])


def test_upload_without_failures_of_balls() -> None:
    told = summaries.upload_summary(outcome(3), with_failures=False)
    assert list(told) == [
        *("bulk_id", "shard", "shards", "total_balls", "uploaded", "skipped", "failed", "uploaded_size"),
        "response_time",
    ]


@pytest.mark.parametrize("message", ["short", "long " * 1000, "ñ" * 5000, "\x00" * 500])
@pytest.mark.parametrize("count", [0, 1, 5, 500])
def test_failures_are_few_and_short(message: str, count: int) -> None:
    told = summaries.upload_summary(outcome(count, message, key="ñ" * 900), with_failures=True)
    assert len(json.dumps(told)) < 2000
    assert bool(told["failures"]) is bool(count)
    assert all(list(failure) == ["bucket_id", "key", "code", "message"] for failure in told["failures"])


def test_short_failures_are_not_cut() -> None:
    told = summaries.upload_summary(outcome(4), with_failures=True)
    assert [failure["key"] for failure in told["failures"]] == ["k0", "k1", "k2", "k3"]


@pytest.mark.parametrize(
    "error",
    [
        BulkFailedError("failed", permanent=True, result={"failed": 1}),
        BulkFailedError("not yet"),
        BulkConflictError("belongs to another run"),
    ],
)
def test_errors_survive_the_event(error: Any) -> None:
    again = error_from_event(json.loads(json.dumps(error_event(error))))
    assert type(again) is type(error)
    assert (str(again), again.permanent, again.transient) == (str(error), error.permanent, error.transient)


def test_only_what_no_retry_can_mend_fails_at_once() -> None:
    task = MictlanXListOperator(task_id="list", bucket_id="b")
    for error, expected in (
        (BulkFailedError("x", permanent=True), AirflowFailException),
        (BulkFailedError("x"), BulkFailedError),
        (BulkConflictError("x"), AirflowFailException),
    ):
        with pytest.raises(expected), TaskErrors(task):
            raise error


@pytest.mark.parametrize(
    ("try_number", "max_tries", "expected"),
    [
        (1, 0, False),
        (1, 1, True),
        (2, 1, False),
        (1, 3, True),
        (4, 3, False),
        (3, 2, False),  # cleared, of a task without retries
        (3, 4, True),  # cleared after two tries, of a task with two retries
    ],
)
def test_will_retry_is_airflows_own_rule(try_number: int, max_tries: int, expected: bool) -> None:
    """As ``is_eligible_to_retry`` of Airflow 2 and ``_is_eligible_to_retry`` of Airflow 3 say it."""
    task_instance = SimpleNamespace(try_number=try_number, max_tries=max_tries)
    assert _will_retry({"ti": task_instance}) is expected  # type: ignore[typeddict-item]
    try:
        from airflow.api_fastapi.execution_api.routes.task_instances import _is_eligible_to_retry
    except ImportError:  # Airflow 2
        from airflow.models.taskinstance import _is_eligible_to_retry as of_airflow_2

        task_instance.state, task_instance.task = "running", None
        if max_tries:  # without its task it guesses, and leaves out that there have to be retries
            assert of_airflow_2(task_instance=task_instance) is expected
    else:
        assert _is_eligible_to_retry("running", try_number, max_tries) is expected


def test_will_retry_without_a_task() -> None:
    assert _will_retry({}) is False


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (operators, "MictlanXBulkPutOperator"),
        (operators, "MictlanXAwaitBulkOperator"),
        (sensors, "BulkCompleteSensor"),
        (triggers, "MictlanXBulkCompleteTrigger"),
    ],
)
def test_names_that_users_import(module: Any, name: str) -> None:
    assert getattr(module, name).__name__ == name


def test_defaults_of_the_await() -> None:
    operator = operators.MictlanXAwaitBulkOperator(task_id="t", bulk_id="b")
    assert (operator.remove_on_completion, operator.timeout, operator.poke_interval) == (False, None, 60)
    assert (operator.include_items, operator.fail_on_error) == (False, True)
