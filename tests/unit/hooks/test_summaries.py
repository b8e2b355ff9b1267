"""What a log says of a result."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_mictlanx.hooks import summaries

ONE = {"bucket_id": "b", "key": "k", "size": 300_000, "num_chunks": 2}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (summaries.transfer_line({**ONE, "response_time": 0.5}), "b/k: 300 KB in 2 chunks, 0.5 s, 600 KB/s"),
        (summaries.transfer_line({**ONE, "response_time": 0.0}), "b/k: 300 KB in 2 chunks"),
        (summaries.transfer_line(ONE, speed=False), "b/k: 300 KB in 2 chunks"),
        (summaries.found_line(ONE), "Found b/k: 300 KB in 2 chunks"),
        (summaries.found_line({"bucket_id": "b", "count": 1, "total_size": 1}), "Bucket b: found 1 object, 1 byte"),
        (
            summaries.found_line({"bucket_id": "b", "count": 1200, "total_size": 3}),
            "Bucket b: found 1,200 objects, 3 bytes",
        ),
    ],
)
def test_objects(line: str, expected: str) -> None:
    assert line == expected


def test_quiet() -> None:
    result: dict[str, Any] = {"bucket_id": "b", "prefix": "", "count": 0, "total_size": 0, "updated_at": 0}
    assert summaries.inactivity_line(result) == "Bucket b: 0 objects, 0 bytes"
    result |= {"prefix": "2026/", "count": 2, "total_size": 5, "updated_at": 1_750_000_000 * 10**9}
    assert (
        summaries.inactivity_line(result)
        == "Bucket b, keys that begin with '2026/': 2 objects, 5 bytes, last written to at 2025-06-15 15:06:40 UTC"
    )


def test_bulk() -> None:
    result = {"bulk_id": "n", "state": "failed", "succeeded": 1, "uploaded_size": 5, "failed": 1200}
    assert summaries.bulk_line(result) == "Bulk 'n': failed, 1 object stored, 5 bytes; 1,200 failed"
