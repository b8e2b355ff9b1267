"""
The commands, as coroutines: each receives an open client and the parsed arguments.

They only choose the engine and format its result; ``definition.py`` has their arguments.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import secrets
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from humanfriendly import format_size

from airflow_provider_mictlanx.batches import delete, download
from airflow_provider_mictlanx.batches.runner import BatchResult, TransferOptions, batch_error
from airflow_provider_mictlanx.bulks import monitor, summary
from airflow_provider_mictlanx.bulks.attempt import ShardUpload
from airflow_provider_mictlanx.bulks.options import AttemptOptions, BulkSpec
from airflow_provider_mictlanx.bulks.sources import list_sources
from airflow_provider_mictlanx.bulks.status import BulkStatus, State
from airflow_provider_mictlanx.cli.output import Row, as_rows, format_time, show_progress
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.errors import MictlanXError, NetworkError, NotFoundError, ValidationError
from airflow_provider_mictlanx.client.models import Ball
from airflow_provider_mictlanx.client.object_ids import check_bucket_may_change, make_ball_id, safe_file_name
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.uri import SCHEME
from airflow_provider_mictlanx.hooks import summaries

log = get_logger(__name__)

CHECK_TIMEOUT = 10.0
"""Limit for the answer of a router to ``check``, in seconds."""

POLL_SECONDS = 2.0
"""Seconds between two looks at a bulk that ``bulk --wait`` waits for."""


@dataclass(frozen=True)
class Output:
    """
    The result of a command.

    :ivar data: for JSON and YAML
    :ivar rows: of the table
    :ivar error: reported after the result; it decides the exit code
    :ivar exit_code: without an error
    """

    data: Any
    rows: Sequence[Row]
    error: MictlanXError | None = None
    exit_code: int = 0


# Look


async def check(client: AsyncClient, args: Namespace) -> Output:
    """Ask every router for its peers; an unusable storage space is an error."""
    checks = unwrap(await client.check_routers(min(args.timeout, CHECK_TIMEOUT)))
    usable, text = summaries.connection_test_summary(checks)
    data = [vars(one) | {"error": str(one.error) if one.error else None} for one in checks]
    rows = [
        {
            "router": one.router_id,
            "url": one.url,
            "available": len(one.available),
            "unavailable": ", ".join(one.unavailable),
            "ms": f"{one.milliseconds:.0f}",
            "error": str(one.error or ""),
        }
        for one in checks
    ]
    kind = NetworkError if all(one.error for one in checks) else MictlanXError
    return Output(data, rows, None if usable else kind(text.partition("\n")[0]))


async def ls(client: AsyncClient, args: Namespace) -> Output:
    """List objects, and the folders below a prefix."""
    bucket_id, prefix = _bucket_and_prefix(args)
    balls = await _list(client, args, bucket_id, prefix)
    folders, others = ([], balls) if args.recursive else _group(balls, prefix)
    data = [*folders, *(summaries.ball_summary(ball) for ball in others)]
    rows = [
        {
            "size": format_size(entry["size"]),
            "modified": format_time(entry["updated_at"]),
            "key": entry.get("prefix", entry.get("key")),
        }
        for entry in data
    ]
    return Output(data, rows)


async def du(client: AsyncClient, args: Namespace) -> Output:
    """Count the objects and bytes of a bucket, and of the folders below a prefix."""
    bucket_id, prefix = _bucket_and_prefix(args)
    balls = await _list(client, args, bucket_id, prefix)
    folders, _ = _group(balls, prefix)
    total = {"prefix": prefix, "objects": len(balls), "size": sum(ball.size for ball in balls)}
    rows = [
        {
            "size": format_size(entry["size"]),
            "objects": f"{entry['objects']:,}",
            "key": f"{bucket_id}/{entry['prefix']}",
        }
        for entry in (*folders, total)
    ]
    return Output({"bucket_id": bucket_id, **total, "folders": folders}, rows)


async def stat(client: AsyncClient, args: Namespace) -> Output:
    """Show the metadata of objects."""
    found = []
    for name in args.objects:
        ball = await client.get_metadata(*_bucket_and_key(name), check_storage=args.check, timeout=args.timeout)
        found.append(summaries.ball_summary(unwrap(ball)))
    return Output(found, [row for result in found for row in as_rows(result)])


async def cat(client: AsyncClient, args: Namespace) -> None:
    """Write objects to standard output; every chunk is verified before it is written."""
    for name in args.objects:
        chunks = client.get_chunks(
            *_bucket_and_key(name), max_parallel_gets=args.max_concurrency or 4, order=True, timeout=args.timeout
        )
        async with contextlib.aclosing(chunks):
            async for _, data in chunks:
                sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


async def bulk(client: AsyncClient, args: Namespace) -> Output:
    """Show the state of bulks, at once or when none of them is being uploaded any more."""
    statuses = [await _bulk_status(client, args, bulk_id) for bulk_id in args.bulk_ids]
    rows = [
        {
            "bulk": status.bulk_id,
            "state": status.state.value,
            "balls": f"{status.acknowledged:,} of {status.total_balls:,}",
            "size": f"{format_size(status.acknowledged_size)} of {format_size(status.total_size)}",
            "failed": status.failed,
            "last record": format_time(status.last_heard),
            "problems": "; ".join(status.problems),
        }
        for status in statuses
    ]
    codes = {State.FAILED: 1, State.UNPLANNED: 3, State.UPLOADING: 5}
    worst = next((code for state, code in codes.items() if state in {status.state for status in statuses}), 0)
    return Output([summaries.status_summary(status) for status in statuses], rows, exit_code=worst)


async def _bulk_status(client: AsyncClient, args: Namespace, bulk_id: str) -> BulkStatus:
    while True:
        status = await monitor.bulk_status(client, bulk_id, args.timeout)
        log.info("%s", summary.status_line(status))
        if not args.wait or monitor.is_open(status, fail_on_error=False):
            return status
        await asyncio.sleep(POLL_SECONDS)


# Read


async def get(client: AsyncClient, args: Namespace) -> Output:
    """Read an object into a file, or every object with a prefix into a folder."""
    if args.recursive:
        return await _get_folder(client, args)
    bucket_id, key = _bucket_and_key(args.object)
    folder, filename = _target(args.path, key)
    transfer = _transfer(args).for_one_of(1)
    ball = unwrap(await client.get_metadata(bucket_id, key, timeout=args.timeout))
    with show_progress(f"Reading {key}", size=ball.size):
        report = await client.download(bucket_id, key, folder, filename=filename, replace=args.replace, **transfer)
    result = summaries.transfer_summary(unwrap(report))
    return Output(result, as_rows(result))


def _target(path: str, key: str) -> tuple[str, str]:
    """Return folder and name of the file for an object: ``path`` itself, or a file in the folder ``path``."""
    folder, filename = os.path.split(path)
    if not filename or os.path.isdir(path):
        return path, safe_file_name(key) or make_ball_id(key)
    return folder or ".", filename


async def _get_folder(client: AsyncClient, args: Namespace) -> Output:
    bucket_id, prefix = _split(args.object)
    transfer = _transfer(args)
    root, case_insensitive = await download.prepare_folder(args.path)
    items = await download.list_bucket_items(client, bucket_id, prefix, timeout=transfer.timeout)
    if not items:
        raise _nothing_matches(bucket_id, prefix)
    with show_progress("Reading"):
        outcome = await download.download_items(
            client,
            items,
            root,
            case_insensitive=case_insensitive,
            replace=args.replace,
            options=transfer,
        )
    selection = {"bucket_id": bucket_id, "prefix": prefix, "output_path": str(root)}
    result = summaries.batch_summary(outcome, "downloaded", **selection, unverified=outcome.unverified)
    return _batch_output(f"reading {args.object} into {root}", outcome, result)


# Store


async def put(client: AsyncClient, args: Namespace) -> Output:
    """Store a file or standard input as an object, or a folder or glob as many."""
    bucket_id, key = _split(args.object)
    tags = dict(_parse_tag(text) for text in args.tags)
    if _is_many(args.source):
        return await _put_folder(client, args, bucket_id, key, tags)
    if args.bulk_id:
        raise ValidationError(f"--bulk-id needs a folder or glob, got the file {args.source!r}")
    if not key or key.endswith("/"):
        if args.source == "-":
            raise ValidationError(f"standard input needs a key, got {args.object!r}")
        key += os.path.basename(args.source)
    with _local_file(args.source, key) as path, show_progress(f"Storing {key}", size=_size(path)):
        report = await client.upload(
            bucket_id,
            key,
            path=path,
            tags=tags,
            chunk_size=args.chunk_size,
            rf=args.rf,
            max_concurrency=args.max_concurrency,
            replace=args.replace,
            timeout=args.timeout,
        )
    result = summaries.transfer_summary(unwrap(report))
    return Output(result, as_rows(result))


def _is_many(source: str) -> bool:
    """Return whether a source is a folder or a glob."""
    return os.path.isdir(source) or (glob.has_magic(source) and not os.path.lexists(source))


@contextlib.contextmanager
def _local_file(source: str, key: str) -> Iterator[str]:
    """Yield the path of a source. Standard input is copied to the disk, since it is hashed before it is sent."""
    if source != "-":
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="mictlanx-") as folder:
        path = os.path.join(folder, safe_file_name(key) or "stdin")  # an object's tags name its file
        with open(path, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0  # the upload reports it


async def _put_folder(
    client: AsyncClient, args: Namespace, bucket_id: str, key: str, tags: Mapping[str, str]
) -> Output:
    """
    Upload a bulk. Without an id of the user its records are deleted at the end.

    A repeated put then looks at every object, and sends only what is missing.
    """
    key_prefix = f"{key.rstrip('/')}/" if key else ""
    bulk_id = args.bulk_id or f"shell-{secrets.token_hex(8)}"
    spec = BulkSpec(
        bulk_id,
        [args.source],
        bucket_id,
        key_prefix,
        rf=args.rf,
        chunk_size=args.chunk_size,
        tags=tags,
    )
    options = AttemptOptions(max_concurrency=args.max_concurrency, replace=args.replace, timeout=args.timeout)
    listing = partial(list_sources, [args.source], bucket_id, key_prefix)
    upload = ShardUpload(client, spec, 0, listing, {"owner": client.client_id}, options)
    try:
        with show_progress("Storing"):
            outcome = await upload.run()
    finally:
        if not args.bulk_id:
            await _forget(client, bulk_id)
    result = summaries.upload_summary(outcome, with_failures=True)
    return Output(result, as_rows(result), summary.upload_error(outcome, result) if outcome.failures else None)


async def _forget(client: AsyncClient, bulk_id: str) -> None:
    try:
        await monitor.delete_bulk(client, bulk_id)
    except MictlanXError as error:
        log.warning("Deleting the records of bulk %s failed, mictlanx sweep deletes them later: %s", bulk_id, error)


# Delete


async def rm(client: AsyncClient, args: Namespace) -> Output:
    """Delete objects by key."""
    options = delete.DeleteOptions(max_concurrency=args.max_concurrency or 8, timeout=args.timeout)
    by_bucket: dict[str, list[str]] = {}
    for name in args.objects:
        bucket_id, key = _bucket_and_key(name)
        by_bucket.setdefault(check_bucket_may_change(bucket_id, False), []).append(key)
    results = []
    error: MictlanXError | None = None
    with show_progress("Deleting", counts_bytes=False):
        for bucket_id, keys in by_bucket.items():
            outcome = await delete.delete_keys(client, bucket_id, keys, options)
            results.append(result := summaries.deletion_summary(outcome, bucket_id))
            if outcome.failures:
                error = batch_error(f"deleting from bucket {bucket_id}", outcome, result)
            elif outcome.skipped and not args.force and error is None:
                error = NotFoundError(
                    f"{outcome.skipped} of {outcome.total} objects of bucket {bucket_id} did not exist"
                )
    return Output(results, [row for result in results for row in as_rows(result)], error)


# Arguments and results


def _split(name: str) -> tuple[str, str]:
    """Split ``BUCKET[/KEY]``; ``mictlanx://BUCKET/KEY``, as in Airflow's assets, is accepted too."""
    bucket_id, _, key = name.removeprefix(SCHEME).partition("/")
    return bucket_id, key


def _bucket_and_key(name: str) -> tuple[str, str]:
    bucket_id, key = _split(name)
    if not key:
        raise ValidationError(f"an object must be named BUCKET/KEY, got {name!r}")
    return bucket_id, key


def _bucket_and_prefix(args: Namespace) -> tuple[str, str]:
    bucket_id, prefix = _split(args.bucket)
    return bucket_id, prefix + args.prefix


def _parse_tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValidationError(f"--tag must be NAME=VALUE, got {text!r}")
    return name, value


def _transfer(args: Namespace) -> TransferOptions:
    return TransferOptions(max_concurrency=args.max_concurrency, timeout=args.timeout)


async def _list(client: AsyncClient, args: Namespace, bucket_id: str, prefix: str) -> list[Ball]:
    return unwrap(await client.list_balls(bucket_id, prefix, timeout=args.timeout))


def _group(balls: Iterable[Ball], prefix: str) -> tuple[list[dict[str, Any]], list[Ball]]:
    """Return the folders below a prefix as ``{prefix, objects, size, updated_at}``, and the objects beside them."""
    folders: dict[str, list[Ball]] = {}
    others = []
    for ball in balls:
        folder, slash, _ = ball.key.removeprefix(prefix).partition("/")
        if slash:
            folders.setdefault(f"{prefix}{folder}/", []).append(ball)
        else:
            others.append(ball)
    return [
        {
            "prefix": name,
            "objects": len(inside),
            "size": sum(ball.size for ball in inside),
            "updated_at": max(ball.updated_at for ball in inside),
        }
        for name, inside in folders.items()
    ], others


def _nothing_matches(bucket_id: str, prefix: str) -> NotFoundError:
    return NotFoundError(f"no object of bucket {bucket_id} has a key that begins with {prefix!r}")


def _batch_output(action: str, outcome: BatchResult, result: dict[str, Any]) -> Output:
    return Output(result, as_rows(result), batch_error(action, outcome, result) if outcome.failures else None)
