"""Tasks of every kind that write logs: finished, failed and retried, mapped, deferred twice, rescheduled, large."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, Context, get_current_context, task

log = logging.getLogger(__name__)
LINE = "x" * 1000
SOON = timedelta(seconds=10)
"""A task that resumes before a busy scheduler has noticed that it was deferred is a failure for Airflow."""


class DeferTwice(BaseOperator):
    def execute(self, context: Context) -> None:
        self.log.info("before the first trigger")
        self.defer(trigger=TimeDeltaTrigger(SOON), method_name="resume")

    def resume(self, context: Context, event: Any) -> None:
        self.log.info("between the triggers")
        self.defer(trigger=TimeDeltaTrigger(SOON), method_name="complete")

    def complete(self, context: Context, event: Any) -> None:
        self.log.info("after the second trigger")


class PokeForSeconds(BaseSensorOperator):
    def poke(self, context: Context) -> bool:
        self.log.info("a poke")
        first = context["ti"].get_first_reschedule_date(context)
        return first is not None and datetime.now(first.tzinfo) - first > SOON


@task
def finish() -> None:
    log.info("finished")


@task(retries=1, retry_delay=timedelta(seconds=1))
def fail() -> None:
    raise RuntimeError(f"try {get_current_context()['ti'].try_number} fails")


@task
def mapped(number: int) -> None:
    log.info("mapped %d", number)


with DAG("remote_logs", schedule=None, start_date=datetime(2025, 1, 1), catchup=False):
    finish()
    fail()
    mapped.expand(number=[7, 8, 9])
    DeferTwice(task_id="defer")
    PokeForSeconds(task_id="reschedule", mode="reschedule", poke_interval=5, timeout=120)


@task
def write(lines: int) -> None:
    for number in range(int(lines)):
        log.info("%d %s", number, LINE)


with DAG("remote_logs_large", schedule=None, start_date=datetime(2025, 1, 1), catchup=False, params={"lines": 0}):
    write("{{ params.lines }}")  # type: ignore[arg-type]
