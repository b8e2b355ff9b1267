"""Build small results for XCom, and the log lines that describe them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from humanfriendly import format_size
from humanfriendly.text import pluralize, pluralize_raw

from airflow_provider_mictlanx.batches.delete import DeleteResult
from airflow_provider_mictlanx.batches.runner import BatchResult, truncate_failure
from airflow_provider_mictlanx.bulks.options import UploadResult
from airflow_provider_mictlanx.bulks.status import BulkStatus
from airflow_provider_mictlanx.bulks.summary import truncate_summary
from airflow_provider_mictlanx.bulks.sync import SyncResult
from airflow_provider_mictlanx.client.models import Ball, DeleteBucketResponse, FileReport, PutReport, RouterCheck
from airflow_provider_mictlanx.client.texts import clean, truncate

E = TypeVar("E")

_MAX_FAILURES_LENGTH = 1200
"""Limit for all reported failures together, in characters of JSON."""

_MAX_OBJECTS = 20
"""Limit for the number of objects in a summary …"""

_MAX_OBJECTS_LENGTH = 2000
"""… and for their list, in characters of JSON."""

_MAX_TEXT = 200
"""Limit for the key and for the message of a failure, in characters …"""

_MAX_TEXT_OF_ONE = 60
"""… and the limit if one failure alone would exceed ``_MAX_FAILURES_LENGTH``."""

# Results for XCom


def transfer_summary(report: PutReport | FileReport) -> dict[str, Any]:
    """Return a transfer report as a dict."""
    return dataclasses.asdict(report)


def ball_summary(ball: Ball) -> dict[str, Any]:
    """Return ``bucket_id, key, ball_id, size, checksum, num_chunks, verified, tags, updated_at`` of an object."""
    names = ("bucket_id", "key", "ball_id", "size", "checksum", "num_chunks", "verified")
    return {name: getattr(ball, name) for name in names} | {"tags": dict(ball.tags), "updated_at": ball.updated_at}


def objects_summary(bucket_id: str, balls: Sequence[Ball]) -> dict[str, Any]:
    """Return ``bucket_id, count, total_size, objects``; ``objects`` has the first few as ``{key, size}``."""
    first = _first_that_fit(
        ({"key": ball.key, "size": ball.size} for ball in balls[:_MAX_OBJECTS]), _MAX_OBJECTS_LENGTH
    )
    total_size = sum(ball.size for ball in balls)
    return {"bucket_id": bucket_id, "count": len(balls), "total_size": total_size, "objects": first}


def deleted_bucket_summary(response: DeleteBucketResponse) -> dict[str, Any]:
    """Return ``bucket_id, deleted, failed, total, response_time``; the lists of the response grow with the bucket."""
    return response.model_dump(include={"bucket_id", "deleted", "failed", "total", "response_time"})


def batch_summary(outcome: BatchResult, done: str, **selection: Any) -> dict[str, Any]:
    """
    Return the result of a call for many objects.

    Its keys are those of ``selection``, and ``total_balls, {done}, skipped, failed, {done}_size, response_time,
    failures``.

    :param done: verb in the keys, such as ``copied``
    :param selection: the parameters that selected the objects
    """
    return {
        **selection,
        "total_balls": outcome.total,
        done: outcome.done,
        "skipped": outcome.skipped,
        "failed": outcome.failed,
        f"{done}_size": outcome.done_size,
        "response_time": outcome.response_time,
        "failures": _first_failures(outcome),
    }


def deletion_summary(outcome: BatchResult, skipped: str, **selection: Any) -> dict[str, Any]:
    """
    Return the keys of ``selection``, and ``deleted, {skipped}, failed, total, response_time, failures``.

    :param skipped: name of the number of objects that needed no work, such as ``absent``
    """
    counts = {"deleted": outcome.done, skipped: outcome.skipped, "failed": outcome.failed, "total": outcome.total}
    times = {"response_time": outcome.response_time, "failures": _first_failures(outcome)}
    return {**selection, **counts, **times}


def upkeep_summary(outcome: DeleteResult, **selection: Any) -> dict[str, Any]:
    """Return the ``deletion_summary`` with ``kept``, and ``bytes, first``: the first keys that were deleted."""
    first = _first_that_fit(outcome.keys[:_MAX_OBJECTS], _MAX_OBJECTS_LENGTH)
    return deletion_summary(outcome, "kept", **selection) | {"bytes": outcome.done_size, "first": first}


def sync_summary(found: SyncResult, **places: Any) -> dict[str, Any]:
    """
    Return the result of a sync in the form of ``MictlanXHook.synchronize``.

    :param places: the sides, and whether it was a dry run
    """
    summary = batch_summary(found.outcome, "transferred", **places)
    return summary | {
        "deleted": len(found.deleted),
        "deleted_size": found.deleted_size,
        "first_transferred": _first_names(found.transferred),
        "first_deleted": _first_names(found.deleted),
    }


def upload_summary(outcome: UploadResult, *, with_failures: bool) -> dict[str, Any]:
    """Return the result of a shard's upload in the form of ``MictlanXHook.put_bulk``."""
    left_out = ("failures", "slowest", "permanently_failed")
    summary = {name: value for name, value in vars(outcome).items() if name not in left_out}
    return summary | {"failures": _first_failures(outcome)} if with_failures else summary


def status_summary(status: BulkStatus) -> dict[str, Any]:
    """Return the state of a bulk in the form of ``MictlanXHook.bulk_status``."""
    summary = {name: value for name, value in vars(status).items() if name != "closed"}
    summary |= {
        "state": status.state.value,
        "failures": [failure.model_dump() for failure in status.failures],
        "problems": list(status.problems),
        "result": status.closed.result.model_dump() if status.closed else None,
    }
    return truncate_summary(summary)


def _first_failures(outcome: BatchResult | UploadResult) -> list[dict[str, Any]]:
    """Return the first few failures with truncated texts: ``{bucket_id, key, code, message}``."""
    shortened = (truncate_failure(failure.model_dump(), _MAX_TEXT) for failure in outcome.failures)
    first = _first_that_fit(shortened, _MAX_FAILURES_LENGTH)
    return first or [truncate_failure(failure.model_dump(), _MAX_TEXT_OF_ONE) for failure in outcome.failures[:1]]


def _first_names(names: Sequence[str]) -> list[str]:
    return _first_that_fit((truncate(name, _MAX_TEXT) for name in names[:_MAX_OBJECTS]), _MAX_OBJECTS_LENGTH)


def _first_that_fit(entries: Iterable[E], max_length: int) -> list[E]:
    """Return as many entries from the start as fit into a length as JSON."""
    first: list[E] = []
    for entry in entries:
        if len(json.dumps([*first, entry])) > max_length:
            break
        first.append(entry)
    return first


# Connection test


_ROUTERS_SHOWN = 3
"""Limit for the routers that a connection test describes, those with a problem first …"""

_MAX_LINE = 250
"""… and for each of their lines, in characters."""


def connection_problem(conn_id: str, message: str) -> str:
    """Return the error of a connection test without the connection's id."""
    named = f"connection {conn_id!r}"
    for text in (f"reading {named} failed: ", f"{named}: ", f" ({named})"):
        message = message.replace(text, "")
    message = message.replace(f"AIRFLOW_CONN_{conn_id.upper()}", "its environment variable")
    return truncate(message.replace(named, "the connection"), 2 * _MAX_LINE)


def connection_test_summary(checks: Sequence[RouterCheck]) -> tuple[bool, str]:
    """
    Return whether all routers answer for one storage space, and a line for the first few routers.

    Every line is a sentence: Airflow's connection page shows them without line breaks.
    """
    answered = [check for check in checks if check.error is None]
    spaces = {frozenset((*check.available, *check.unavailable)) for check in answered}
    problems = []
    if failed := len(checks) - len(answered):
        problems.append(f"{failed} of {pluralize(len(checks), 'router')} failed")
    if len(spaces) > 1:
        problems.append("the routers name different peers: they belong to different storage spaces")
    if any(not check.available for check in answered):
        problems.append("no peer is available")
    if problems:
        summary = "; ".join(problems)
    else:
        peers = len(next(iter(spaces)))
        summary = f"{pluralize(len(checks), 'router')} of one storage space with {pluralize(peers, 'peer')}"
    first = sorted(checks, key=lambda check: check.error is None)[:_ROUTERS_SHOWN]
    lines = [truncate(clean(_router_line(check, len(spaces) > 1)), _MAX_LINE) for check in first]
    if more := len(checks) - len(first):
        lines.append(f"And {pluralize(more, 'router')} more.")
    return not problems, "\n".join([f"{summary}.", *lines])


def router_problem(check: RouterCheck) -> str | None:
    """Return why a router did not answer, without its name; None if it answered."""
    if check.error is None:
        return None
    return str(check.error).removeprefix(f"listing the peers of router {check.router_id} ({check.url}) failed: ")


def _router_line(check: RouterCheck, with_peer_ids: bool) -> str:
    router = f"{check.router_id} ({check.url})"
    if (problem := router_problem(check)) is not None:
        return f"{router}: {problem}"
    line = f"{router}: {pluralize(len(check.available), 'peer')} available, {check.milliseconds:.0f} ms"
    if with_peer_ids and check.available:
        line += f" ({', '.join(sorted(check.available))})"
    if check.unavailable:
        line += f"; unavailable: {', '.join(sorted(check.unavailable))}"
    return f"{line}."


# Log lines


def format_count(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 object``, ``1,200 objects``."""
    return f"{count:,} {pluralize_raw(count, noun)}"


def name_bucket(bucket_id: str, prefix: str) -> str:
    """Return the start of a log line about a bucket, or about its keys with a prefix."""
    return f"Bucket {bucket_id}, keys that begin with {prefix!r}" if prefix else f"Bucket {bucket_id}"


def transfer_line(result: Mapping[str, Any], *, speed: bool = True) -> str:
    """Return ``frames/a.jpg: 1.2 MB in 5 chunks, 0.4 s, 3 MB/s``."""
    chunks = pluralize(result["num_chunks"], "chunk")
    line = f"{result['bucket_id']}/{result['key']}: {format_size(result['size'])} in {chunks}"
    if speed and (seconds := result["response_time"]) > 0:
        line += f", {seconds:.1f} s, {format_size(round(result['size'] / seconds))}/s"
    return line


def found_line(result: Mapping[str, Any]) -> str:
    """Return the log line for the result of an object sensor: one object, or several."""
    if "key" in result:
        return f"Found {transfer_line(result, speed=False)}"
    count, size = format_count(result["count"], "object"), format_size(result["total_size"])
    return f"Bucket {result['bucket_id']}: found {count}, {size}"


def sync_line(found: SyncResult, dry_run: bool) -> str:
    """Return the log line for a sync, or for what it would do."""
    outcome, deleted = found.outcome, f"{len(found.deleted):,}, {format_size(found.deleted_size)}"
    if not dry_run:
        return outcome.line("transferred", "unchanged") + (f"; deleted: {deleted}" if found.deleted else "")
    return (
        f"{pluralize(outcome.done, 'object')} would be transferred, {format_size(outcome.done_size)}; "
        f"{outcome.skipped:,} unchanged, {outcome.failed:,} failed; would be deleted: {deleted}"
    )


def inactivity_line(result: Mapping[str, Any]) -> str:
    """Return the log line for a bucket that has stopped changing."""
    count, size = format_count(result["count"], "object"), format_size(result["total_size"])
    line = f"{name_bucket(result['bucket_id'], result['prefix'])}: {count}, {size}"
    if not result["updated_at"]:
        return line
    return f"{line}, last written to at {datetime.fromtimestamp(result['updated_at'] / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"


def bulk_line(result: Mapping[str, Any]) -> str:
    """Return the log line for the result of a bulk."""
    stored, size = format_count(result["succeeded"], "object"), format_size(result["uploaded_size"])
    return f"Bulk {result['bulk_id']!r}: {result['state']}, {stored} stored, {size}; {result['failed']:,} failed"
