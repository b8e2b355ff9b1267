"""What the tests of bulks share: an upload in one call, and a look at what is really stored, peer by peer."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_mictlanx.bulks.attempt import ShardUpload
from airflow_provider_mictlanx.bulks.options import AttemptOptions, BulkSpec, UploadResult
from airflow_provider_mictlanx.bulks.sources import SourceBall, list_sources
from airflow_provider_mictlanx.client import AsyncClient
from tests.support.clients import client_of
from tests.support.vss import LocalVSS

OWNER = {"dag_id": "nightly", "task_id": "upload"}


def uncached_client(vss: LocalVSS) -> AsyncClient:
    """Return a client that reads everything from the storage space."""
    return client_of(vss, capacity_storage=0)


def make_files(folder: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Write files of random bytes; return their contents by the path in the folder."""
    contents = {name: os.urandom(size) for name, size in sizes.items()}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return contents


async def upload(
    client: AsyncClient,
    bulk_id: str,
    bucket_id: str,
    source: Path | None = None,
    *,
    shard: int = 0,
    listing: Callable[[], list[SourceBall]] | None = None,
    owner: Mapping[str, str] = OWNER,
    lines: list[str] | None = None,
    options: Mapping[str, Any] | None = None,
    **spec: Any,
) -> UploadResult:
    """Run one attempt."""
    told = {"sources": [str(source)] if source else [], "bucket_id": bucket_id} | spec
    return await ShardUpload(
        client,
        BulkSpec(bulk_id, **told),
        shard,
        listing or (lambda: list_sources(str(source), bucket_id, told.get("key_prefix", ""))),
        owner,
        AttemptOptions(**({"max_tries": 2, "max_backoff": 0.01} | dict(options or {}))),
        (lines if lines is not None else []).append,
    ).run()


def on_peers(vss: LocalVSS, bucket_id: str, contents: Mapping[str, bytes]) -> dict[str, int]:
    """Return the number of peers with the right bytes of each one-chunk ball, read from the peers' files."""
    found = dict.fromkeys(contents, 0)
    with contextlib.closing(sqlite3.connect(vss.data / "metadata.sqlite3")) as books:
        asked = "select peer_id, key, blob from replicas where bucket_id = ? and blob is not null"
        for peer_id, chunk, blob in books.execute(asked, (bucket_id,)):
            if (key := chunk.removesuffix("_0")) in found:
                found[key] += (vss.data / "peers" / peer_id / blob).read_bytes() == contents[key]
    return found


async def versions(client: AsyncClient, bucket_id: str) -> dict[str, set[tuple[str, int]]]:
    """Return the versions of each listed chunk, as SHA-256 and size."""
    listing = (await client.get_chunks_by_bucket_id(bucket_id)).unwrap()
    found: dict[str, set[tuple[str, int]]] = {}
    for chunk in listing.balls:
        found.setdefault(chunk.key, set()).add((chunk.checksum, chunk.size))
    return found


def one_version_each(contents: Mapping[str, bytes]) -> dict[str, set[tuple[str, int]]]:
    """Return the expected result of ``versions`` if every one-chunk ball is stored once."""
    return {f"{key}_0": {(hashlib.sha256(data).hexdigest(), len(data))} for key, data in contents.items()}
