"""Hostile answers: no wrong body is accepted, every request ends within its bound, and the next one reads its own answer."""

from __future__ import annotations

import re
import ssl

import pytest

from airflow_provider_mictlanx.client import RequestTimeoutError
from airflow_provider_mictlanx.client.transport.backend import BackendFactory
from tests.robustness.hostile.answers import CASES, Case
from tests.robustness.hostile.checks import check_next_requests, outcome_of, transport_of
from tests.support.engines import each_engine
from tests.support.hostile_server import serving


def test_table_of_answers_is_complete() -> None:
    assert len(CASES) >= 70
    assert len({case.name for case in CASES}) == len(CASES)


async def check(engine: BackendFactory, case: Case, tls: ssl.SSLContext | None = None) -> None:
    """Send a request that meets the case, and another one."""
    async with serving(case.script, tls) as server, transport_of(engine) as transport:
        outcome = await outcome_of(transport, "GET", f"{server.url}/case", case.timeout)
        if outcome.response is not None:
            assert (outcome.response.status, outcome.response.body) in case.accepts, str(outcome)
        else:
            assert case.may_fail, str(outcome)
            assert case.waits or not isinstance(outcome.error, RequestTimeoutError), "it waited for more"
        await check_next_requests(transport, server)
        assert not server.seen("/elsewhere"), "a redirect was followed"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@each_engine
async def test_hostile_answer_is_no_wrong_body(engine: BackendFactory, case: Case) -> None:
    await check(engine, case)


ENDS = [case for case in CASES if re.search("behind|later|closed|reset|the end", case.name)]
"""Answers that are about the end of one, which TLS shifts: it hands over whole records, and has an end of its own."""


@pytest.mark.parametrize("case", ENDS, ids=lambda case: case.name)
@each_engine
async def test_hostile_end_over_tls_is_no_wrong_body(engine: BackendFactory, case: Case, tls: ssl.SSLContext) -> None:
    await check(engine, case, tls)
