"""
A sync or an export in a process of its own, which dies with the n-th request that it makes.

It is told ``uri, source, destination, die_at, how`` (as of ``bulk_attempt``). A destination ``file://…`` is a folder as another store.
"""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

from upath import UPath

from airflow_provider_mictlanx.batches.export import Store
from airflow_provider_mictlanx.bulks.sync import BucketPath, BucketSide, Side, StoreSide, SyncOptions, side_of, sync
from airflow_provider_mictlanx.client import AsyncClient
from tests.support.bulk_attempt import die_with_a_request


def side(location: str, client: AsyncClient) -> Side:
    if location.startswith("file://"):  # a path on this machine is no other store, unless a test says so
        path = UPath(location)
        return StoreSide(path, Store(path.fs, path.path, location))
    found = side_of(location)
    return BucketSide(client, found) if isinstance(found, BucketPath) else found


async def run(uri: str, source: str, destination: str, **options: Any) -> Any:
    """Sync once, and return the result."""
    async with AsyncClient(uri, "tests", debug=False, log_output_path=None, capacity_storage=0) as client:
        return await sync(side(source, client), side(destination, client), SyncOptions(**options))


def main(told: dict[str, Any]) -> None:
    """Run the sync until it dies."""
    tempfile.tempdir = told.pop("temporary")
    die_with_a_request(told.pop("die_at"), told.pop("how"))
    asyncio.run(run(**told))
