"""
The commands, as coroutines: each receives an open client and the parsed arguments.

They only choose the engine and format its result; ``definition.py`` has their arguments.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import shutil
import signal
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from humanfriendly import format_size

from airflow_provider_mictlanx.batches import delete, download, folder_versions
from airflow_provider_mictlanx.batches.runner import BatchResult, TransferOptions, batch_error, select_options
from airflow_provider_mictlanx.batches.upload import UploadItem, UploadOptions, upload_all
from airflow_provider_mictlanx.bulks import monitor, summary
from airflow_provider_mictlanx.bulks.attempt import ShardUpload
from airflow_provider_mictlanx.bulks.options import AttemptOptions, BulkSpec
from airflow_provider_mictlanx.bulks.sources import list_sources
from airflow_provider_mictlanx.bulks.status import BulkStatus, State
from airflow_provider_mictlanx.bulks.sweep import sweep_bucket
from airflow_provider_mictlanx.bulks.sync import BucketPath, BucketSide, Side, SyncOptions, side_of
from airflow_provider_mictlanx.bulks.sync import sync as run_sync
from airflow_provider_mictlanx.cli.output import Row, as_rows, format_time, show_progress
from airflow_provider_mictlanx.cli.storage import open_client
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.concurrency import run_in_thread
from airflow_provider_mictlanx.client.errors import MictlanXError, NetworkError, NotFoundError, ValidationError
from airflow_provider_mictlanx.client.models import Ball
from airflow_provider_mictlanx.client.object_ids import check_bucket_may_change, make_ball_id, safe_file_name
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.transfer.copy import KEY_TAGS, LAYOUT_TAGS
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
    :ivar table: for people: the rows of a table, or lines
    :ivar error: reported after the result; it decides the exit code
    :ivar exit_code: without an error
    """

    data: Any
    table: Sequence[Row] | Sequence[str]
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
    balls = unwrap(await client.list_balls(bucket_id, prefix, timeout=args.timeout))
    folders, others = ([], balls) if args.recursive else _group(balls, prefix)
    data = [*folders, *(summaries.ball_summary(ball) for ball in others)]
    rows = [
        {
            "size": format_size(entry["size"]),
            "modified": format_time(entry["updated_at"]),
            "key": entry["prefix"] if "prefix" in entry else entry["key"],
        }
        for entry in data
    ]
    return Output(data, rows, None if data else _nothing_matches(bucket_id, prefix, ""))


async def du(client: AsyncClient, args: Namespace) -> Output:
    """Count the objects and bytes of a bucket, and of the folders below a prefix."""
    bucket_id, prefix = _bucket_and_prefix(args)
    balls = unwrap(await client.list_balls(bucket_id, prefix, timeout=args.timeout))
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
        bucket_id, key = _bucket_and_key(name)
        ball = await client.get_metadata(bucket_id, key, args.timeout, check_storage=args.check)
        found.append(summaries.ball_summary(unwrap(ball)))
    rows = [row for result in found for row in as_rows(result | {"tags": _own_tags(result["tags"])})]
    return Output(found, rows)


def _own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags without those for the chunk layout and for the key."""
    return {name: value for name, value in tags.items() if name not in LAYOUT_TAGS | KEY_TAGS}


async def cat(client: AsyncClient, args: Namespace) -> None:
    """Write objects to standard output; every chunk is verified before it is written."""
    for name in args.objects:
        bucket_id, key = _bucket_and_key(name)
        at_once = args.max_concurrency or 4
        chunks = client.get_chunks(bucket_id, key, max_parallel_gets=at_once, timeout=args.timeout, order=True)
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
            "objects": f"{status.acknowledged:,} of {status.total_balls:,}",
            "size": f"{format_size(status.acknowledged_size)} of {format_size(status.total_size)}",
            "failed": status.failed,
            "last record": format_time(status.last_heard),
            "problems": "; ".join(status.problems),
        }
        for status in statuses
    ]
    codes = {State.FAILED: 1, State.UNPLANNED: 3, State.UPLOADING: 5}
    states = {summary.summarize(status)["state"] for status in statuses}  # of a closed bulk, that of its result
    worst = next((code for state, code in codes.items() if state.value in states), 0)
    return Output([summaries.status_summary(status) for status in statuses], rows, exit_code=worst)


async def _bulk_status(client: AsyncClient, args: Namespace, bulk_id: str) -> BulkStatus:
    while True:
        status = await monitor.bulk_status(client, bulk_id, args.timeout)
        log.info("%s", summary.status_line(status))
        if not args.wait or monitor.is_wait_over(status, fail_on_error=False):
            return status
        await asyncio.sleep(POLL_SECONDS)


# Read


async def get(client: AsyncClient, args: Namespace) -> Output:
    """Read an object into a file, or many into a folder."""
    if args.path in ("", "-"):
        raise ValidationError(f"PATH must be a file or folder, got {args.path!r}; for standard output use mictlanx cat")
    if args.recursive or args.glob:
        return await _get_folder(client, args)
    bucket_id, key = _bucket_and_key(args.object, _FOLDER_HINT)
    folder, filename = _target(args.path, key)
    try:
        ball = unwrap(await client.get_metadata(bucket_id, key, args.timeout))
    except NotFoundError as error:
        raise NotFoundError(f"{error}{_FOLDER_HINT}") from error
    with show_progress(f"Reading {key}", size=ball.size):
        report = await client.download(
            bucket_id,
            key,
            folder,
            filename=filename,
            replace=args.replace,
            listed=ball,
            **_transfer(args).for_one_of(1),
        )
    result = summaries.transfer_summary(unwrap(report))
    return Output(result, _transfer_lines(result, "" if result["downloaded"] else "; the file existed"))


def _target(path: str, key: str) -> tuple[str, str]:
    """Return folder and name of the file for an object: ``path`` itself, or a file in the folder ``path``."""
    folder, filename = os.path.split(path)
    if not filename or os.path.isdir(path):
        return path, safe_file_name(key) or make_ball_id(key)
    return folder or ".", filename


async def _get_folder(client: AsyncClient, args: Namespace) -> Output:
    bucket_id, prefix, pattern = _selection(args.object, args.glob)
    items = await download.list_bucket_items(client, bucket_id, prefix, pattern, args.timeout)
    if not items:
        raise _nothing_matches(bucket_id, prefix, pattern)
    root, case_insensitive = await download.prepare_folder(args.path)
    with show_progress("Reading"):
        outcome = await download.download_items(
            client,
            items,
            root,
            prefix=prefix,
            case_insensitive=case_insensitive,
            replace=args.replace,
            options=_transfer(args),
        )
    selection = {"bucket_id": bucket_id, "prefix": prefix, "glob": pattern, "output_path": str(root)}
    result = summaries.batch_summary(outcome, "downloaded", **selection, unverified=outcome.unverified)
    return _batch_output(f"reading {args.object} into {root}", outcome, result, [outcome.line("read", "unchanged")])


# Store


async def put(client: AsyncClient, args: Namespace) -> Output:
    """Store a file or standard input as an object, or a folder or glob as many objects."""
    bucket_id, key = _split(args.object)
    if _is_many(args.source):
        return await _put_many(client, args, bucket_id, f"{key.rstrip('/')}/" if key else "")
    if args.bulk_id:
        raise ValidationError(f"--bulk-id needs a folder or glob, got {args.source!r}")
    if not key or key.endswith("/"):
        if args.source == "-":
            raise ValidationError(f"standard input needs a key, got {args.object!r}")
        key += os.path.basename(args.source)
    with _local_file(args.source, key) as path, show_progress(f"Storing {key}", size=_size(path)):
        report = await client.upload(
            bucket_id,
            key,
            path=path,
            tags=_tags(args),
            chunk_size=args.chunk_size,
            rf=args.rf,
            timeout=args.timeout,
            max_concurrency=args.max_concurrency,
            replace=args.replace,
        )
    result = summaries.transfer_summary(unwrap(report))
    return Output(result, _transfer_lines(result, "" if result["uploaded"] else "; it was already stored"))


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
        with open(path, "wb") as file, _interruptible():
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let signals end a blocking read: the handlers of asyncio only cancel the task, which the read does not notice."""
    handlers = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0  # the upload reports it


async def _put_many(client: AsyncClient, args: Namespace, bucket_id: str, key_prefix: str) -> Output:
    check_bucket_may_change(bucket_id, False)
    listing = partial(list_sources, [args.source], bucket_id, key_prefix)
    given, tags = vars(args), _tags(args)
    if args.bulk_id:
        names = {"sources": [args.source], "bucket_id": bucket_id, "key_prefix": key_prefix, "tags": tags}
        spec, options = select_options(BulkSpec, given, **names), select_options(AttemptOptions, given)
        upload = ShardUpload(client, spec, 0, listing, {"owner": client.client_id}, options)
        with show_progress("Storing"):
            outcome = await upload.run()
        result = summaries.upload_summary(outcome, with_failures=True)
        error = summary.upload_error(outcome, result) if outcome.failures else None
        return Output(result, [summary.upload_line(outcome)], error)
    items = [
        UploadItem(ball.bucket_id, ball.key, ball.size, content={**ball.given(), "tags": tags})
        for ball in await run_in_thread(listing)
    ]
    if not items:
        raise ValidationError(f"source must contain files, got {args.source!r}")
    with show_progress("Storing"):
        stored = await upload_all(client, items, select_options(UploadOptions, given))
    result = summaries.batch_summary(stored, "uploaded", source=args.source, bucket_id=bucket_id, key_prefix=key_prefix)
    line = stored.line("stored", "already stored")
    return _batch_output(f"storing {args.source} in {bucket_id}/{key_prefix}", stored, result, [line])


async def sync(client: AsyncClient, args: Namespace) -> Output:
    """Make a destination like its source."""
    options = select_options(SyncOptions, vars(args), check_storage=not args.trust_listing)
    async with contextlib.AsyncExitStack() as stack:
        sides: list[Side] = []
        for location in (args.source, args.destination):
            side = side_of(location)
            if isinstance(side, BucketPath):
                own = client
                if side.conn_id not in ("", args.conn_id):
                    other = Namespace(**vars(args) | {"uri": None, "conn_id": side.conn_id})
                    own = await stack.enter_async_context(open_client(other, waits=True))
                sides.append(BucketSide(own, side))
            else:
                sides.append(side)
        with show_progress("Syncing"):
            found = await run_sync(sides[0], sides[1], options)
    places = {"source": str(sides[0]), "destination": str(sides[1]), "dry_run": args.dry_run}
    names = {"transferred_names": found.transferred, "deleted_names": found.deleted}
    result = {name: value for name, value in summaries.sync_summary(found, **places).items() if "first_" not in name}
    lines = [*(f"+ {name}" for name in found.transferred), *(f"- {name}" for name in found.deleted)]
    lines = [*(lines if args.dry_run else []), summaries.sync_line(found, args.dry_run)]
    return _batch_output(f"syncing {sides[0]} to {sides[1]}", found.outcome, result | names, lines)


async def publish(client: AsyncClient, args: Namespace) -> Output:
    """Publish a folder as the current version of a DAG bundle."""
    with show_progress("Publishing"):
        result = await folder_versions.publish(
            client, args.folder, args.bucket, args.bundle, rf=args.rf, options=_transfer(args)
        )
    return Output(result, [folder_versions.publication_line(result)])


# Delete


async def rm(client: AsyncClient, args: Namespace) -> Output:
    """Delete objects of one bucket by key, or those that are selected."""
    if args.recursive or args.glob:
        return await _rm_selected(client, args)
    if args.older_than or args.keep_last is not None or args.dry_run:
        raise ValidationError("--older-than, --keep-last and --dry-run need --recursive or --glob")
    names = [_bucket_and_key(name) for name in args.objects]
    bucket_id = check_bucket_may_change(names[0][0], False)
    if other := next((bucket for bucket, _ in names if bucket != bucket_id), None):
        raise ValidationError(f"all objects must be in one bucket, got {bucket_id} and {other}")
    with show_progress("Deleting", counts_bytes=False):
        outcome = await delete.delete_keys(client, bucket_id, [key for _, key in names], _deletion(args))
    result = summaries.deletion_summary(outcome, "absent", bucket_id=bucket_id)
    line = outcome.line("deleted", "not stored")
    output = _batch_output(f"deleting from bucket {bucket_id}", outcome, result, [line])
    if outcome.skipped and not output.error and not args.force:
        return replace(output, error=NotFoundError(f"{outcome.skipped} of {outcome.total} objects did not exist"))
    return output


async def _rm_selected(client: AsyncClient, args: Namespace) -> Output:
    if len(args.objects) != 1:
        raise ValidationError(f"one BUCKET or BUCKET/FOLDER must be given to select objects, got {len(args.objects)}")
    bucket_id, prefix, pattern = _selection(args.objects[0], args.glob)
    check_bucket_may_change(bucket_id, False)
    selection = delete.Selection(prefix, pattern, args.older_than, args.keep_last, args.allow_whole_bucket)
    with show_progress("Deleting", counts_bytes=False):
        outcome = await delete.delete_matching(client, bucket_id, selection, _deletion(args), dry_run=args.dry_run)
    if not (outcome.total or args.force):
        raise _nothing_matches(bucket_id, prefix, pattern)
    selected = {"bucket_id": bucket_id, "prefix": prefix, "glob": pattern}
    return _deletion_output(
        f"deleting {pattern or f'{prefix}*'} of bucket {bucket_id}", outcome, selected, args.dry_run
    )


async def sweep(client: AsyncClient, args: Namespace) -> Output:
    """Delete the uploads of a bucket that stopped half-way, and old records of a bulk."""
    dry_run = not args.delete
    with show_progress("Sweeping", counts_bytes=False):
        outcome = await sweep_bucket(client, args.bucket, args.older_than, _deletion(args), dry_run=dry_run)
    return _deletion_output(f"sweeping bucket {args.bucket}", outcome, {"bucket_id": args.bucket}, dry_run)


def _deletion(args: Namespace) -> delete.DeleteOptions:
    return delete.DeleteOptions(timeout=args.timeout, max_concurrency=args.max_concurrency or 8)


def _deletion_output(action: str, outcome: delete.DeleteResult, selected: Row, dry_run: bool) -> Output:
    """Return the output of a selective deletion; a dry run names every key."""
    result = summaries.upkeep_summary(outcome, **selected, dry_run=dry_run) | {"keys": outcome.keys}
    del result["first"]
    line = outcome.line("to delete" if dry_run else "deleted", "kept")
    return _batch_output(action, outcome, result, [*outcome.keys, line] if dry_run else [line])


# Arguments and results


def _split(name: str) -> tuple[str, str]:
    """Split ``BUCKET[/KEY]``; ``mictlanx://BUCKET/KEY``, as in Airflow's assets, is accepted too."""
    bucket_id, _, key = name.removeprefix(SCHEME).partition("/")
    return bucket_id, key


_FOLDER_HINT = "; for a folder use --recursive"


def _bucket_and_key(name: str, hint: str = "") -> tuple[str, str]:
    bucket_id, key = _split(name)
    if not key:
        raise ValidationError(f"an object must be named BUCKET/KEY, got {name!r}{hint}")
    return bucket_id, key


def _bucket_and_prefix(args: Namespace) -> tuple[str, str]:
    bucket_id, prefix = _split(args.bucket)
    return bucket_id, prefix + args.prefix


def _selection(name: str, pattern: str) -> tuple[str, str, str]:
    """Return bucket, prefix and glob of ``BUCKET[/FOLDER]``; a folder does not select those with a longer name."""
    bucket_id, folder = _split(name)
    if folder and pattern:
        raise ValidationError(f"--glob selects from a complete bucket, got {name!r}")
    return bucket_id, f"{folder.rstrip('/')}/" if folder else "", pattern


def _nothing_matches(bucket_id: str, prefix: str, pattern: str) -> NotFoundError:
    return NotFoundError(f"bucket {bucket_id} has no object {pattern or f'{prefix}*'}")


def _tags(args: Namespace) -> dict[str, str]:
    pairs = [text.partition("=") for text in args.tags]
    if wrong := next((name for name, equals, _ in pairs if not equals), None):
        raise ValidationError(f"--tag must be NAME=VALUE, got {wrong!r}")
    return {name: value for name, _, value in pairs}


def _transfer(args: Namespace) -> TransferOptions:
    return select_options(TransferOptions, vars(args))


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


def _transfer_lines(result: Row, suffix: str) -> list[str]:
    return [f"{summaries.transfer_line(result, speed=not suffix)}{suffix}"]


def _batch_output(action: str, outcome: BatchResult, result: dict[str, Any], lines: Sequence[str]) -> Output:
    return Output(result, lines, batch_error(action, outcome, result) if outcome.failures else None)
