"""What a log says of a result, in a line. Imports nothing of the package."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from humanfriendly import format_size
from humanfriendly.text import pluralize, pluralize_raw


def counted(count: int, what: str) -> str:
    """Say how many: ``1 object``, ``1,200 objects``."""
    return f"{count:,} {pluralize_raw(count, what)}"


def of_transfer(result: Mapping[str, Any], *, speed: bool = True) -> str:
    """Say what went over the wire: ``frames/a.jpg: 1.2 MB in 5 chunks, 0.4 s, 3 MB/s``."""
    size = format_size(result["size"])
    chunks = pluralize(result["num_chunks"], "chunk")
    text = f"{result['bucket_id']}/{result['key']}: {size} in {chunks}"
    if speed and (seconds := result["response_time"]) > 0:
        text += f", {seconds:.1f} s, {format_size(round(result['size'] / seconds))}/s"
    return text


def of_found(result: Mapping[str, Any]) -> str:
    """Say what an object sensor found: one object, or several."""
    if "key" in result:
        return f"There is {of_transfer(result, speed=False)}"
    count, size = counted(result["count"], "object"), format_size(result["total_size"])
    return f"Bucket {result['bucket_id']}: {count} there, {size}"


def of_quiet(result: Mapping[str, Any]) -> str:
    """Say which bucket nobody writes to any more."""
    below = f", keys that begin with {result['prefix']!r}" if result["prefix"] else ""
    line = f"Bucket {result['bucket_id']}{below}: {counted(result['count'], 'object')}, {format_size(result['total_size'])}"
    if not result["updated_at"]:
        return line
    return f"{line}, last written to at {datetime.fromtimestamp(result['updated_at'] / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"


def of_bulk(result: Mapping[str, Any]) -> str:
    """Say what came of a bulk."""
    stored, size = counted(result["successed"], "ball"), format_size(result["uploaded_size"])
    return f"Bulk {result['bulk_id']!r}: {result['state']}, {stored} stored, {size}; {result['failed']:,} failed"
