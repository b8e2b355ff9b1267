"""Format the state of a bulk: result, log lines and errors."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import humanfriendly
from humanfriendly.text import pluralize

from airflow_provider_mictlanx.batches.progress import format_transfer
from airflow_provider_mictlanx.batches.runner import MAX_REPORTED, Failure, format_failures, truncate_failure
from airflow_provider_mictlanx.bulks.errors import BulkFailedError
from airflow_provider_mictlanx.bulks.options import UploadResult
from airflow_provider_mictlanx.bulks.status import BulkStatus, State
from airflow_provider_mictlanx.client.texts import truncate

MAX_SUMMARY_LENGTH = 1900
"""Approximate limit for a summary without its bulk id, in characters of JSON."""

SILENT_SECONDS = 300.0
"""Seconds without a record of a running shard, which writes one every minute, until the log mentions it."""


def summarize(status: BulkStatus) -> dict[str, Any]:
    """
    Return a bulk's result as a small dict.

    Its keys: ``bulk_id, state, shards, total_balls, succeeded, failed, uploaded_size`` (bytes of the stored balls),
    ``response_time`` (seconds), ``failures`` (the first few: ``{bucket_id, key, code, message}``), ``problems`` (str).
    """
    if status.closed:
        return status.closed.result.model_dump()
    missing = max(status.failed, status.total_balls - status.acknowledged) if status.finished else status.failed
    return truncate_summary(
        {
            "bulk_id": status.bulk_id,
            "state": status.state.value,
            "shards": status.shards,
            "total_balls": max(status.total_balls, status.acknowledged + missing),
            "succeeded": status.acknowledged,
            "failed": missing,
            "uploaded_size": status.acknowledged_size,
            "response_time": status.response_time,
            "failures": [failure.model_dump() for failure in status.failures],
            "problems": list(status.problems),
        }
    )


def truncate_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """Truncate a summary in place until it is small enough for XComs and for the tags of a record."""
    for longest, most in ((300, MAX_REPORTED), (150, MAX_REPORTED), (100, 3), (60, 2)):
        if len(json.dumps(summary)) <= MAX_SUMMARY_LENGTH:
            break
        summary["problems"] = [truncate(problem, longest) for problem in summary["problems"][:most]]
        summary["failures"] = [truncate_failure(failure, longest) for failure in summary["failures"][:most]]
    return summary


def status_line(status: BulkStatus, now: float | None = None) -> str:
    """
    Return the log line for the state of a bulk.

    :param now: seconds since 1970; default: the clock
    """
    if status.state is State.UNPLANNED:
        return f"Bulk {status.bulk_id!r} is not planned yet"
    if status.closed:
        return f"Bulk {status.bulk_id!r} is closed: only its result is kept"
    if not status.shards:
        return f"Bulk {status.bulk_id!r}: a peer does not answer, so it is unknown whether the bulk is planned"
    done = f"{status.acknowledged:,} of {status.total_balls:,} objects"
    size = f"{humanfriendly.format_size(status.acknowledged_size)} of {humanfriendly.format_size(status.total_size)}"
    parts = [f"Bulk {status.bulk_id!r} is {status.state.value}: {done}, {size}"]
    if status.response_time:
        parts.append(f"{humanfriendly.format_size(int(status.acknowledged_size / status.response_time))}/s")
    if status.shards > 1:
        parts.append(f"{status.shards_complete} of {status.shards} shards complete")
    if status.last_heard:
        heard = datetime.fromtimestamp(status.last_heard / 1e9, UTC)
        parts.append(f"last record at {heard:%H:%M:%S} UTC")
    seconds = (time.time() if now is None else now) - status.stalest_since / 1e9
    if status.stalest_since and seconds > SILENT_SECONDS:
        silent = humanfriendly.format_timespan(round(seconds), max_units=2)
        parts.append(f"no record of shard {status.stalest_shard} for {silent}, its worker may have died")
    if status.failed:
        parts.append(
            f"{status.failed:,} failed" + (", which a retry may still fix" if status.has_retryable_failures else "")
        )
    return ", ".join(parts)


def permanent_failure(status: BulkStatus) -> BulkFailedError:
    """Return the error for a bulk that failed permanently."""
    summary = summarize(status)
    failures = format_failures([Failure.model_validate(failure) for failure in summary["failures"]])
    reasons = "; ".join(filter(None, [*summary["problems"], failures])) or "No reason was recorded"
    failed, total = summary["failed"], summary["total_balls"]
    count = f"{failed} of {total} objects are not stored. " if failed else ""  # 0 before the plan
    what_to_do = (
        "It is closed: call delete_bulk, and upload it again"
        if status.closed
        else "Fix the causes and clear the upload task, which continues where it ended"
    )
    return BulkFailedError(
        f"bulk {status.bulk_id!r} failed permanently: {count}{reasons}. {what_to_do}",
        permanent=True,
        result=summary,
    )


def _shard_name(outcome: UploadResult) -> str:
    shard = f", shard {outcome.shard} of {outcome.shards}" if outcome.shards > 1 else ""
    return f"{outcome.bulk_id!r}{shard}"


def upload_line(outcome: UploadResult) -> str:
    """Return ``Bulk 'nightly', shard 0 of 4: 97 objects uploaded, 1.2 GB in 12.3 s, 97 MB/s; 2 skipped …``."""
    line = (
        f"Bulk {_shard_name(outcome)}: {pluralize(outcome.uploaded, 'object')} uploaded, "
        f"{format_transfer(outcome.uploaded_size, outcome.response_time)}; "
        f"{outcome.skipped:,} skipped, {outcome.failed:,} failed"
    )
    if outcome.slowest:
        line += "; slowest: " + ", ".join(f"{key} {seconds:.1f} s" for key, seconds in outcome.slowest)
    return line


def upload_error(outcome: UploadResult, result: dict[str, Any]) -> BulkFailedError:
    """
    Return the error for an upload in which balls failed.

    :param result: the result that the call would have returned
    """
    what_to_do = (
        "No retry can fix this: correct the source or the parameters, and use another bulk_id or delete_bulk"
        if outcome.permanently_failed
        else "Run it again: stored objects are not sent again"
    )
    return BulkFailedError(
        f"uploading bulk {_shard_name(outcome)} failed: {outcome.failed} of {outcome.total_balls} objects are not "
        f"stored: {format_failures(outcome.failures)}. {what_to_do}",
        permanent=outcome.permanently_failed,
        result=result,
    )
