"""
Async tasks (Airflow 3.2 and later): many calls at once, through one client.

It uses the connection `mictlanx_default`, a bucket that only this run knows, and leaves nothing behind. On an older Airflow this file has
no DAG.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_mictlanx.client.result import value_of
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

try:
    from airflow.sdk import BaseAsyncOperator
except ImportError:
    BaseAsyncOperator = None


async def store_and_read(run: str) -> int:
    """Store fifty texts and read them back."""
    bucket_id = f"airflow-example-{hashlib.sha256(run.encode()).hexdigest()[:12]}"
    texts = {f"note-{number}": f"note {number} of {run}" for number in range(50)}
    hook = MictlanXHook()

    # [START howto_hook_mictlanx_async]
    await hook.aput(bucket_id, "one", "every method has a twin that is awaited")
    async with hook.aget_conn() as client:  # one client for many calls
        puts = [client.put(bucket_id, key, text.encode()) for key, text in texts.items()]
        for result in await asyncio.gather(*puts):
            value_of(result)  # what the client's methods return is a Result: its value, or its error raised
        found = await asyncio.gather(*(client.get(bucket_id, key) for key in texts))
    # [END howto_hook_mictlanx_async]

    read = [bytes(value_of(result).data).decode() for result in found]
    await hook.adelete_bucket(bucket_id)
    if read != list(texts.values()):
        raise ValueError("what was read is not what was stored")
    return len(read)


if BaseAsyncOperator is not None:
    with DAG(
        dag_id="example_mictlanx_async",
        description="Async tasks with the MictlanX hook",
        doc_md=__doc__,
        schedule=None,
        start_date=datetime(2025, 1, 1),
        catchup=False,
        tags=["example", "mictlanx"],
    ) as dag:
        task(store_and_read)("{{ run_id }}")
