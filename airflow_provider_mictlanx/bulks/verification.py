"""
Read every chunk of a bulk's balls once and verify it, for a limited time per call.

Records of the bulk (``checked-…``) store the progress, so any process can continue: the next poke of a rescheduled
sensor, another triggerer, a restarted worker.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from humanfriendly.text import pluralize

from airflow_provider_mictlanx.batches.runner import MAX_REPORTED, REQUEST_TIMEOUT, Failure, format_failures
from airflow_provider_mictlanx.bulks.errors import BulkConflictError, BulkFailedError
from airflow_provider_mictlanx.bulks.inventory import find_listed
from airflow_provider_mictlanx.bulks.plan import PlannedBall, read_plan
from airflow_provider_mictlanx.bulks.record_store import RecordStore
from airflow_provider_mictlanx.bulks.records import Checked, Plan, canonical, format_ranges, parse_ranges
from airflow_provider_mictlanx.bulks.status import State
from airflow_provider_mictlanx.bulks.summary import truncate_summary
from airflow_provider_mictlanx.client.async_client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import for_each, run_in_thread
from airflow_provider_mictlanx.client.errors import GetChunkError, IntegrityError, MictlanXError, NotFoundError
from airflow_provider_mictlanx.client.models import Ball
from airflow_provider_mictlanx.client.object_ids import ObjectId
from airflow_provider_mictlanx.client.result import unwrap

AT_ONCE = 8
"""Limit for the balls that are read at the same time."""


class StorageCheck:
    """
    Read and verify the balls of a complete bulk, with one plan in memory at a time.

    A check can be used in several event loops: every call takes a client.

    :param run: name of the check; the same name continues it in any process, another name starts a new one
    """

    def __init__(self, bulk_id: str, run: str = "") -> None:
        self.bulk_id = bulk_id
        self.run = run
        self.checked = 0
        self.failed = 0
        self.failures: list[Failure] = []
        self._total = 0
        self._id = secrets.token_hex(8)
        self._number = 0
        self._plans: list[Plan] | None = None
        self._left: dict[str, list[int]] = {}

    @property
    def line(self) -> str:
        """Log line for the progress."""
        failed = f", {self.failed:,} of them not readable" if self.failed else ""
        return f"Bulk {self.bulk_id!r}: {self.checked:,} of {self._total:,} objects read back{failed}"

    async def go_on(self, client: AsyncClient, seconds: float, request_timeout: float = REQUEST_TIMEOUT) -> bool:
        """
        Continue the check, with at least a few balls; return True when every ball was read.

        Raises ``UnavailableError`` if a peer does not answer; the next call reads the current balls again. Raises
        ``BulkConflictError`` if the bulk was closed, since its plan was deleted.

        :param seconds: approximate limit for this call
        :param request_timeout: seconds for each request
        """
        until = time.monotonic() + seconds
        store = RecordStore(client, self.bulk_id, request_timeout)
        if self._plans is None:
            self._plans = await self._begin(store)
        for plan in self._plans:
            while self._left[plan.digest]:
                await self._read_some(store, plan, until)
                if time.monotonic() >= until:
                    return not any(self._left.values())
        return True

    # -- progress --------------------------------------------------------------------------------------------------

    async def _begin(self, store: RecordStore) -> list[Plan]:
        """Compute from the records which balls were read, and which are left."""
        records = await store.read_completely()
        if records.closed:
            raise BulkConflictError(
                f"verifying bulk {self.bulk_id!r} failed: it was awaited and closed, and its plan deleted; use "
                "remove_on_completion only after the check"
            )
        plans = sorted(records.plans, key=lambda plan: (plan.shard, plan.digest))
        by_digest = {plan.digest: plan for plan in plans}
        read: dict[str, set[int]] = {plan.digest: set() for plan in plans}
        failures: dict[tuple[str, str], Failure] = {}
        ours = [check for check in records.checks if check.run == self.run and check.plan in by_digest]
        known = {check.name: items for check, items in await store.read_items(check for check in ours if check.failed)}
        for check in ours:
            if check.failed and check.name not in known:
                continue  # its failures can't be read, so its balls are read again
            read[check.plan] |= parse_ranges(check.read, by_digest[check.plan].balls)
            if check.failed:
                failures |= {(failure.bucket_id, failure.key): failure for failure in known[check.name].failures}
        self._total = sum(plan.balls for plan in plans)
        self.checked = sum(map(len, read.values()))
        self.failed = len(failures)
        self.failures = list(failures.values())[:MAX_REPORTED]
        self._left = {
            plan.digest: [index for index in range(plan.balls) if index not in read[plan.digest]] for plan in plans
        }
        return plans

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _read_some(self, store: RecordStore, plan: Plan, until: float) -> None:
        """Read balls of one plan until the time is over, and record them."""
        content = await store.read_content(plan)
        # Parsing in this thread would block a triggerer's event loop.
        balls = (await run_in_thread(lambda: read_plan(plan, content))).balls
        left = self._left[plan.digest]
        listed = await find_listed(store.client, balls, left, store.timeout)
        read: dict[int, Failure | None] = {}

        async def read_one(index: int) -> None:
            if len(read) < AT_ONCE or time.monotonic() < until:
                read[index] = await self._verify(store, balls[index], listed.get(index))

        problem: MictlanXError | None = None
        try:
            await for_each(left, read_one, AT_ONCE)
        except MictlanXError as error:  # balls read before it are recorded
            problem = error
        failures = [failure for failure in read.values() if failure]
        if read:
            await self._record(store, plan, read, failures)
        self._left[plan.digest] = [index for index in left if index not in read]
        self.checked += len(read)
        self.failed += len(failures)
        self.failures = [*self.failures, *failures][:MAX_REPORTED]
        if problem:
            raise problem

    async def _record(
        self, store: RecordStore, plan: Plan, read: Mapping[int, Failure | None], failures: list[Failure]
    ) -> None:
        number, self._number = self._number, self._number + 1
        record = Checked(
            shard=plan.shard,
            attempt=self._id,
            number=number,
            run=self.run,
            plan=plan.digest,
            read=format_ranges(read),
            failed=len(failures),
        )
        items = canonical({"failures": [failure.model_dump() for failure in failures]}).encode()
        await store.write(record, items, allow_fewer_replicas=True)

    async def _verify(self, store: RecordStore, ball: PlannedBall, listed: Ball | None) -> Failure | None:
        name = ObjectId(ball.bucket_id, ball.key)
        result = await store.client.get_metadata(
            ball.bucket_id, ball.key, store.timeout, check_storage=True, listed=listed
        )
        error: MictlanXError
        try:
            found = unwrap(result)
            if found.checksum == ball.checksum:
                return None
            error = IntegrityError(
                f"reading {name} failed: it has SHA-256 {found.checksum[:12]}… instead of {ball.checksum[:12]}…"
            )
        except (NotFoundError, GetChunkError, IntegrityError) as problem:
            await store.check_peers(
                f"reading {name} failed: a peer that may store it does not answer; try again when it answers"
            )
            error = problem
        return Failure(bucket_id=ball.bucket_id, key=ball.key, code=error.error_code, message=str(error))

    def result(self, summary: Mapping[str, Any], fail_on_error: bool) -> dict[str, Any]:
        """
        Return a bulk's summary with the failures of the check.

        Raises ``BulkFailedError`` if a ball could not be read and ``fail_on_error`` is True.

        :param summary: in the form of ``summarize``
        """
        if not self.failed:
            return dict(summary)
        problem = f"{pluralize(self.failed, 'acknowledged object')} can't be read"
        result = truncate_summary(
            {
                **summary,
                "state": State.FAILED.value,
                "succeeded": summary["succeeded"] - self.failed,
                "failed": self.failed,
                "failures": [failure.model_dump() for failure in self.failures],
                "problems": [*summary["problems"], problem],
            }
        )
        if fail_on_error:
            reasons = format_failures(self.failures)
            raise BulkFailedError(
                f"verifying bulk {self.bulk_id!r} failed: {problem}: {reasons}. Clear the upload task, which sends "
                "them again, and then this one",
                result=result,
            )
        return result
