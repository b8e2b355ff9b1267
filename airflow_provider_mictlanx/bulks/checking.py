"""Reading a bulk's balls back: every chunk of every planned ball once, verified, as much at a time as there is time for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.bulks.plan import PlannedBall, read_plan
from airflow_provider_mictlanx.bulks.records import Failure, Plan
from airflow_provider_mictlanx.bulks.status import FIRST_FAILURES, State
from airflow_provider_mictlanx.bulks.storage import REQUEST_TIMEOUT, RecordStore
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.errors import GetChunkError, IntegrityError, NotFoundError
from airflow_provider_mictlanx.client.lookup import Name
from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.client.workers import for_each

AT_ONCE = 8
"""How many balls are read at the same time."""


class StorageCheck:
    """
    Reads the balls of a complete bulk, in the order of its plans, one plan in memory at a time.

    It belongs to no event loop: every call brings its client. Where it stands is JSON, so that another process goes on with it.

    :param state: where an earlier one stood
    """

    def __init__(self, bulk_id: str, state: Mapping[str, Any] | None = None) -> None:
        stood = state or {}
        self.bulk_id = bulk_id
        self.checked: int = stood.get("checked", 0)
        self.failed: int = stood.get("failed", 0)
        self.failures = [Failure.model_validate(failure) for failure in stood.get("failures", [])]
        self._plans: list[Plan] | None = None
        self._open: tuple[Plan, list[PlannedBall]] | None = None

    @property
    def state(self) -> dict[str, Any]:
        """Where it stands: ``checked`` and ``failed`` balls, and the first few ``failures``."""
        failures = [failure.model_dump() for failure in self.failures]
        return {"checked": self.checked, "failed": self.failed, "failures": failures}

    @property
    def line(self) -> str:
        """The same for people."""
        total = sum(plan.balls for plan in self._plans or [])
        failed = f", {self.failed:,} of them not readable" if self.failed else ""
        return f"Bulk {self.bulk_id!r}: {self.checked:,} of {total:,} balls read back{failed}"

    async def go_on(self, client: AsyncClient, seconds: float, request_timeout: float = REQUEST_TIMEOUT) -> bool:
        """
        Read for about so many seconds, at least a few balls; gives True when everything was read.

        ``UnavailableError``: a peer is away, so that it can't be told; what was being read is read again by the next call.

        :param request_timeout: of each request (seconds)
        """
        until = time.monotonic() + seconds
        store = RecordStore(client, self.bulk_id, request_timeout)
        if self._plans is None:
            records = await store.read_completely()
            self._plans = sorted(records.plans, key=lambda plan: (plan.shard, plan.digest))
        while batch := await self._next_batch(store, self._plans):
            await self._check(store, batch)
            if time.monotonic() >= until:
                return self.checked >= sum(plan.balls for plan in self._plans)
        return True

    async def _next_batch(self, store: RecordStore, plans: list[Plan]) -> list[PlannedBall]:
        before = 0
        for plan in plans:
            if self.checked < before + plan.balls:
                balls = await self._balls_of(store, plan)
                return balls[self.checked - before :][:AT_ONCE]
            before += plan.balls
        return []

    async def _balls_of(self, store: RecordStore, plan: Plan) -> list[PlannedBall]:
        if self._open is None or self._open[0] != plan:
            self._open = plan, read_plan(plan, await store.content_of(plan)).balls
        return self._open[1]

    async def _check(self, store: RecordStore, batch: list[PlannedBall]) -> None:
        failures: list[Failure] = []

        async def check(ball: PlannedBall) -> None:
            if failure := await self._looked_at(store, ball):
                failures.append(failure)

        await for_each(batch, check, AT_ONCE)
        self.checked += len(batch)
        self.failed += len(failures)
        self.failures = [*self.failures, *failures][:FIRST_FAILURES]

    async def _looked_at(self, store: RecordStore, ball: PlannedBall) -> Failure | None:
        name = Name(ball.bucket_id, ball.key)
        looked = await store.client.get_metadata(ball.bucket_id, ball.key, store.timeout, check_storage=True)
        try:
            found = value_of(looked)
        except (NotFoundError, GetChunkError, IntegrityError) as error:
            return Failure(bucket_id=ball.bucket_id, key=ball.key, code=error.error_code, message=str(error))
        if found.checksum == ball.checksum:
            return None
        message = f"{name} has SHA-256 {found.checksum[:12]}… instead of {ball.checksum[:12]}…"
        return Failure(bucket_id=ball.bucket_id, key=ball.key, code=IntegrityError.default_error_code, message=message)

    def result(self, summary: Mapping[str, Any], fail_on_error: bool) -> dict[str, Any]:
        """
        Give a bulk's summary with what was found.

        ``BulkFailedError``: a ball could not be read, and ``fail_on_error`` is true.

        :param summary: what ``summary_of`` gives
        """
        if not self.failed:
            return dict(summary)
        problem = f"{self.failed} balls were acknowledged, but can't be read any more"
        told = {
            **summary,
            "state": State.FAILED.value,
            "successed": summary["successed"] - self.failed,
            "failed": self.failed,
            "failures": [failure.model_dump() for failure in self.failures],
            "problems": [*summary["problems"], problem],
        }
        if fail_on_error:
            reasons = "; ".join(f"{failure.key}: {failure.message}" for failure in self.failures)
            raise BulkFailedError(
                f"bulk {self.bulk_id!r}: {problem}: {reasons}. If no peer brings them back, delete_bulk and upload again",
                result=told,
            )
        return told
