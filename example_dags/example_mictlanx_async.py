"""
Async tasks (Airflow 3.2 and later): many concurrent calls through one client.

It uses the connection `mictlanx_default` and a bucket for this run only, and deletes everything at the end. On an older
Airflow this file contains no DAG.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.hooks.bucket_inactivity import InactivityMonitor
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

try:
    from airflow.sdk import BaseAsyncOperator
except ImportError:
    BaseAsyncOperator = None


async def store_and_read(run: str) -> int:
    """Store fifty strings and read them back."""
    bucket_id = f"airflow-example-{hashlib.sha256(run.encode()).hexdigest()[:12]}"
    texts = {f"note-{number}": f"note {number} of {run}" for number in range(50)}
    hook = MictlanXHook()

    # [START howto_hook_mictlanx_async]
    await hook.aput(bucket_id, "one", "every method has an awaitable version")
    async with hook.open_client() as client:  # one client for many calls
        puts = [client.put(bucket_id, key, text.encode()) for key, text in texts.items()]
        for result in await asyncio.gather(*puts):
            unwrap(result)  # the client's methods return a Result: unwrap returns its value or raises its error
        found = await asyncio.gather(*(client.get(bucket_id, key) for key in texts))
    # [END howto_hook_mictlanx_async]

    read = [bytes(unwrap(result).data).decode() for result in found]
    await hook.adelete_bucket(bucket_id)
    if read != list(texts.values()):
        raise ValueError("the data read differs from the data stored")
    return len(read)


async def call_every_method(run: str) -> dict[str, Any]:
    """Do the same as ``example_mictlanx_taskflow`` with the awaitable methods."""
    bucket_id = f"airflow-example-{hashlib.sha256(run.encode()).hexdigest()[12:24]}"
    bulk_id = f"example-async-{run}"
    hook = MictlanXHook()
    monitor = InactivityMonitor(bucket_id, "in/", inactivity_period=0)

    with tempfile.TemporaryDirectory() as folder:
        # [START howto_hook_mictlanx_twins]
        routers = (await hook.aget_settings()).uri.routers  # the parsed connection
        await hook.aput(bucket_id, "in/note", "a note")
        await hook.aput_file(bucket_id, "in/dag.py", __file__)
        await hook.acopy(bucket_id, "in/note", bucket_id, "latest")
        await hook.acopy_prefix(bucket_id, "in/", bucket_id, "out/")

        there = await hook.aexists(bucket_id, "latest")
        size = (await hook.aget_metadata(bucket_id, "latest"))["size"]
        keys = await hook.alist_keys(bucket_id, glob="out/*")
        balls = await hook.alist_balls(bucket_id)
        found = await hook.afind(bucket_id, "latest")  # from these three methods, None means "not yet"
        both = await hook.afind_objects(bucket_id, ["in/note", "in/dag.py"])
        quiet = await hook.afind_unchanged_bucket(monitor)

        data = await hook.aget(bucket_id, "in/note")
        text = await hook.aget_text(bucket_id, "in/note")
        file = await hook.aget_to_file(bucket_id, "in/dag.py", folder)
        many = await hook.aget_to_folder(folder, bucket_id, prefix="out/")

        await hook.aput_bulk(bulk_id, bucket_id, Path(__file__).parent, key_prefix="bulk/")
        state = (await hook.abulk_status(bulk_id))["state"]
        gate = await hook.afind_bulk(bulk_id)
        result = await hook.aawait_bulk(bulk_id, timeout=600)
        await hook.adelete_bulk(bulk_id)

        await hook.adelete(bucket_id, "latest")
        await hook.adelete_keys(bucket_id, ["in/note", "in/dag.py"])
        await hook.adelete_matching(bucket_id, "out/")
        await hook.asweep(bucket_id, older_than="7d")
        left = await hook.adelete_bucket(bucket_id)
        # [END howto_hook_mictlanx_twins]

    return {
        "read": [data.decode(), text, Path(file["path"]).name],
        "routers": len(routers),
        "there": there and found is not None and quiet is not None,
        "size": size,
        "keys": keys,
        "balls": len(balls),
        "both": (both or {}).get("count"),
        "downloaded": many["downloaded"],
        "state": state,
        "gate": gate == result,
        "left": left["failed"],
    }


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
        task(call_every_method)("{{ run_id }}")
