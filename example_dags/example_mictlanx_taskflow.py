"""
Use the hook in your own tasks: store, look up, read, copy and delete objects, and upload a bulk.

It uses the connection `mictlanx_default` and a bucket for this run only, and deletes everything at the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, setup, task, teardown

from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.hooks.bucket_inactivity import InactivityMonitor
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook


@setup
def name_bucket(run: str) -> str:
    """Return a bucket id for this run only; a cleared task gets the same id. The first put creates the bucket."""
    hook = MictlanXHook()
    # [START howto_hook_mictlanx_connection]
    ok, message = hook.test_connection()
    # [END howto_hook_mictlanx_connection]
    if not ok:
        raise ValueError(message)
    return f"airflow-example-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


@task
def store(bucket_id: str) -> dict[str, Any]:
    """Store a string and a file, and copy them."""
    # [START howto_hook_mictlanx_store]
    hook = MictlanXHook("mictlanx_default")
    hook.put(bucket_id, "in/summary.json", '{"rows": 12}', tags={"kind": "summary"})
    stored = hook.put_file(bucket_id, "in/dag.py", __file__, rf=2)
    # [END howto_hook_mictlanx_store]

    # [START howto_hook_mictlanx_copy]
    hook.copy(bucket_id, "in/summary.json", bucket_id, "latest.json")
    hook.copy_prefix(bucket_id, "in/", bucket_id, "out/")
    # [END howto_hook_mictlanx_copy]
    return stored


@task
def look(bucket_id: str) -> dict[str, Any]:
    """Find the stored objects."""
    hook = MictlanXHook()
    # [START howto_hook_mictlanx_look]
    readable = hook.exists(bucket_id, "latest.json", check_storage=True)  # reads the object; by default only a listing
    kind = hook.get_metadata(bucket_id, "in/summary.json")["tags"]["kind"]
    keys = hook.list_keys(bucket_id, prefix="out/")
    size = sum(ball["size"] for ball in hook.list_balls(bucket_id, glob="in/*"))
    # [END howto_hook_mictlanx_look]

    # [START howto_hook_mictlanx_find]
    tomorrow = hook.find(bucket_id, "tomorrow.json")  # None: not yet
    both = hook.find_objects(bucket_id, prefix="in/", min_objects=2)
    monitor = InactivityMonitor(bucket_id, "in/", inactivity_period=0)  # seconds without a write
    quiet = hook.find_unchanged_bucket(monitor)
    # [END howto_hook_mictlanx_find]
    waited_for = {"tomorrow": tomorrow, "both": both, "quiet": quiet}
    return {"readable": readable, "kind": kind, "keys": keys, "size": size, **waited_for}


@task
def read(bucket_id: str) -> int:
    """Read into memory and into temporary files."""
    hook = MictlanXHook()
    with tempfile.TemporaryDirectory() as folder:
        # [START howto_hook_mictlanx_read]
        data = hook.get(bucket_id, "in/summary.json", max_size=1_000_000)
        text = hook.get_text(bucket_id, "in/summary.json", max_size="1MB")
        file = hook.get_to_file(bucket_id, "in/dag.py", folder)
        many = hook.get_to_folder(folder, bucket_id, prefix="out/")
        # [END howto_hook_mictlanx_read]
        files = {Path(file["path"]).read_bytes(), Path(folder, "out", "dag.py").read_bytes()}
    if data.decode() != text or files != {Path(__file__).read_bytes()}:
        raise ValueError("the data read differs from the data stored")
    return many["downloaded"]


# [START howto_hook_mictlanx_gather]
async def read_all(client: AsyncClient, bucket_id: str, keys: list[str]) -> list[bytes]:
    """Read many objects at the same time."""
    async with client:
        found = await asyncio.gather(*(client.get(bucket_id, key) for key in keys))
    return [bytes(unwrap(result).data) for result in found]


# [END howto_hook_mictlanx_gather]


@task
def read_at_once(bucket_id: str) -> int:
    """Read with the client instead of the hook."""
    hook = MictlanXHook()
    # [START howto_hook_mictlanx_get_conn]
    client = hook.get_conn()  # not open yet; the connection lookup blocks, so call it outside an event loop
    contents = asyncio.run(read_all(client, bucket_id, hook.list_keys(bucket_id)))
    # [END howto_hook_mictlanx_get_conn]
    return len(contents)


@task
def give_up(run: str) -> str:
    """Stop a call from another thread."""
    # [START howto_hook_mictlanx_cancel]
    hook = MictlanXHook()
    threading.Timer(0.5, hook.cancel).start()  # from another thread, or from a signal handler
    try:
        hook.await_bulk(f"never uploaded in {run}", timeout=600)
    except asyncio.CancelledError:
        outcome = "stopped"  # this hook refuses further calls
    # [END howto_hook_mictlanx_cancel]
    return outcome


@task
def bulk(bucket_id: str, run: str) -> dict[str, Any]:
    """Upload a bulk, wait for it, delete its records."""
    hook = MictlanXHook()
    # [START howto_hook_mictlanx_bulk]
    bulk_id = f"example-{run}"
    hook.put_bulk(bulk_id, bucket_id, Path(__file__).parent, key_prefix="bulk/")
    state = hook.bulk_status(bulk_id)["state"]  # unplanned, uploading, complete, failed, closed
    gate = hook.find_bulk(bulk_id)  # one poke of a sensor; None: not yet
    result = hook.await_bulk(bulk_id, timeout=600)
    hook.delete_bulk(bulk_id)  # deletes its records, not its objects
    # [END howto_hook_mictlanx_bulk]
    return {"state": state, "gate": gate, "result": result}


@teardown
def tidy(bucket_id: str) -> int:
    """Delete one object, a list of keys, a prefix, and the complete bucket."""
    hook = MictlanXHook()
    # [START howto_hook_mictlanx_delete]
    hook.delete(bucket_id, "latest.json")
    hook.delete_keys(bucket_id, ["in/summary.json", "in/dag.py"])
    hook.delete_matching(bucket_id, "out/")
    left = hook.delete_bucket(bucket_id)
    # [END howto_hook_mictlanx_delete]
    return left["failed"]


with DAG(
    dag_id="example_mictlanx_taskflow",
    description="The MictlanX hook in your own tasks",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2025, 1, 1),
    catchup=False,
    tags=["example", "mictlanx"],
) as dag:
    bucket_id = name_bucket("{{ run_id }}")
    stored = store(bucket_id)
    (
        stored
        >> [look(bucket_id), read(bucket_id), read_at_once(bucket_id), give_up("{{ run_id }}")]
        >> bulk(bucket_id, "{{ run_id }}")
        >> tidy(bucket_id)
    )
