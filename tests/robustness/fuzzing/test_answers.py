"""
Answers of routers with something wrong in them: every call ends in a value or in an error of the client's tree.

A router in front of a real one spoils one of its answers: another value in one place of the JSON, a place that is missing, or
another body altogether.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from airflow_provider_mictlanx.client import AsyncClient, MictlanXError
from tests.support.intercepting_router import Asked, Reply, intercepting
from tests.support.malformed_values import spoilt, texts
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import cut, pattern
from tests.support.vss import LocalVSS

DATA = pattern(900)
CALLS: dict[str, Callable[[AsyncClient, str], Awaitable[Any]]] = {
    "get": lambda client, bucket: client.get(bucket, "k", max_retries=2),
    "get_metadata": lambda client, bucket: client.get_metadata(bucket, "k"),
    "exists": lambda client, bucket: client.exists(bucket, "k", check_storage=True),
    "exists not": lambda client, bucket: client.exists(bucket, "none"),
    "list": lambda client, bucket: client.list_balls(bucket),
    "put": lambda client, bucket: client.put(bucket, "new", DATA, "400", rf=2, max_tries=2),
    "put again": lambda client, bucket: client.put(bucket, "k", DATA, "400", max_tries=2),
    "replace": lambda client, bucket: client.put(bucket, "k", DATA[1:], max_tries=2, replace=True),
    "delete": lambda client, bucket: client.delete("k", bucket),
    "delete chunk": lambda client, bucket: client.delete_by_key("k_0", bucket),
    "delete bucket": lambda client, bucket: client.delete_bucket(bucket),
}


@pytest.mark.usefixtures("no_retry_waits", "short_grace")
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(name=st.sampled_from(sorted(CALLS)), number=st.integers(1, 4), always=st.booleans(), data=st.data())
def test_spoilt_answer(vss: LocalVSS, name: str, number: int, always: bool, data: st.DataObject) -> None:
    bucket_id = f"bucket-{uuid.uuid4().hex}"
    RawRequests(vss).put(bucket_id, "k", cut(DATA, 300, 300))
    spoilt_body: dict[str, bytes] = {}

    async def handler(asked: Asked, pass_on: Callable[[Asked], Awaitable[Reply]]) -> Reply | None:
        nonlocal number
        number -= 1
        if number > 0 or (number < 0 and not always):
            return None
        reply = await pass_on(asked)
        route = f"{asked.method} {asked.path}"
        if route not in spoilt_body:  # the same wrong answer to the same question
            spoilt_body[route] = _spoilt(data, reply.body)
        return Reply(reply.status, spoilt_body[route], reply.headers)

    async def scenario() -> None:
        async with intercepting(handler, vss) as interceptor, AsyncClient(interceptor.uri, "tests") as client:
            result = await CALLS[name](client, bucket_id)
        if result.is_err:
            assert isinstance(result.unwrap_err(), MictlanXError)
            assert str(result.unwrap_err())
        elif name == "get":
            assert bytes(result.unwrap().data) == DATA

    asyncio.run(scenario())


def _spoilt(data: st.DataObject, body: bytes) -> bytes:
    try:
        told = json.loads(body)
    except ValueError:
        return data.draw(st.binary(max_size=40))
    wrong: Any = data.draw(spoilt(told).map(json.dumps) | texts)
    return str(wrong).encode("utf-8", "replace")
