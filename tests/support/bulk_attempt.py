"""
One attempt to upload a folder as a bulk, in a process of its own that can be told when to die.

It is told ``uri, bulk_id, bucket_id, folder``, and perhaps ``die_at``: with the n-th request it makes, ``how``: ``before`` it is
sent, ``after`` it was answered, or in the ``middle`` of it. ``die_after``: the first POST (or the ``nth``) to a path that ends or
begins so was answered. ``temporary``: its folder for temporary files.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import sys
import tempfile
from typing import Any

from airflow_provider_mictlanx.bulks import attempt as bulk_attempt
from airflow_provider_mictlanx.bulks.attempt import ShardUpload
from airflow_provider_mictlanx.bulks.options import AttemptOptions, BulkSpec
from airflow_provider_mictlanx.bulks.sources import list_sources
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.transport.aiohttp_backend import AiohttpBackend, AiohttpStream


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_with_a_request(number: int, how: str) -> None:
    sent = 0
    original = AiohttpBackend.begin

    async def begin(self: AiohttpBackend, *args: Any) -> AiohttpStream:
        nonlocal sent
        sent += 1
        mine = sent == number
        if mine and how == "before":
            die()
        if mine and how == "middle":
            asyncio.get_running_loop().call_later(0.001, die)
        answer = await original(self, *args)
        if mine and how == "after":
            die()
        return answer

    AiohttpBackend.begin = begin  # type: ignore[method-assign]


def die_after_a_post(part: str, nth: int) -> None:
    sent = 0
    original = AiohttpBackend.begin

    async def begin(self: AiohttpBackend, method: str, url: str, *args: Any) -> AiohttpStream:
        nonlocal sent
        answer = await original(self, method, url, *args)
        sent += method == "POST" and (url.endswith(part) or f"v4{part}" in url)
        if sent == nth:
            die()
        return answer

    AiohttpBackend.begin = begin  # type: ignore[method-assign]


async def attempt(told: dict[str, Any]) -> dict[str, Any]:
    async with AsyncClient(told["uri"], "tests", debug=False, log_output_path=None) as client:
        result = await ShardUpload(
            client,
            BulkSpec(told["bulk_id"], [told["folder"]], told["bucket_id"], rf=told.get("rf", 1)),
            0,
            lambda: list_sources(told["folder"], told["bucket_id"]),
            {"dag_id": "nightly", "task_id": "upload"},
            AttemptOptions(will_retry=True, **told.get("options", {})),
            lambda line: None,
        ).run()
        return dataclasses.asdict(result)


def main(told: dict[str, Any]) -> None:
    """Run the attempt, and print its outcome as JSON."""
    tempfile.tempdir = told.get("temporary")
    bulk_attempt.FIRST_PART = bulk_attempt.LAST_PART = told.get("part", 0.03)
    if "die_at" in told:
        die_with_a_request(told["die_at"], told["how"])
    if "die_after" in told:
        die_after_a_post(told["die_after"], told.get("nth", 1))
    sys.stdout.write(json.dumps(asyncio.run(attempt(told))) + "\n")
