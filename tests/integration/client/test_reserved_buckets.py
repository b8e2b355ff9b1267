"""Buckets that begin with ``bulk-`` contain the records of bulks: no call changes one unless it is told to."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import AsyncClient, Chunk, ValidationError
from tests.support.clients import checked_client
from tests.support.vss import LocalVSS

Call = Callable[..., Awaitable[Any]]

CHANGES: dict[str, dict[str, Any]] = {
    "upload": {"key": "a", "data": b"1"},
    "put": {"key": "a", "value": b"1"},
    "put_file": {"key": "a", "path": __file__},
    "put_chunks": {"key": "a", "chunks": [Chunk("a", 0, b"1")]},
    "put_single_chunk": {"ball_id": "a", "chunk": Chunk("a", 0, b"1")},
    "delete": {"ball_id": "a"},
    "delete_by_key": {"key": "a_0"},
    "delete_bucket": {},
}
"""The calls that change one bucket, with what else they need."""


@pytest.fixture
def reserved(bucket_id: str) -> str:
    return f"bulk-{bucket_id}"


@pytest.mark.parametrize("call", CHANGES)
async def test_reserved_bucket_is_refused_before_the_first_request(vss: LocalVSS, reserved: str, call: str) -> None:
    async with checked_client(vss) as client:
        change: Call = getattr(client, call)
        error = (await change(bucket_id=reserved, **CHANGES[call])).unwrap_err()
        assert type(error) is ValidationError, repr(error)
        assert str(error).startswith(f"bucket_id must not begin with 'bulk-', got '{reserved}'")
        assert "allow_reserved_bucket=True" in str(error)
        assert vss.requests(path=reserved) == []
        assert (await change(bucket_id=reserved, **CHANGES[call], allow_reserved_bucket=True)).is_ok
        assert vss.requests(path=reserved) != []


@pytest.mark.parametrize("bucket", ["bulk", "bulky-{}", "my-bulk-{}", "Bulk-{}"])
async def test_only_the_prefix_is_reserved(vss: LocalVSS, bucket_id: str, bucket: str) -> None:
    async with checked_client(vss) as client:
        named = bucket.format(bucket_id)
        assert (await client.put(named, bucket_id, b"1")).unwrap() is True
        assert (await client.delete(bucket_id, named)).is_ok


async def test_copy_into_a_reserved_bucket_is_refused(vss: LocalVSS, bucket_id: str, reserved: str) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "a", b"1")).unwrap()
        error = (await client.copy(bucket_id, "a", reserved)).unwrap_err()
        assert type(error) is ValidationError
        assert str(error).startswith(f"dest_bucket_id must not begin with 'bulk-', got '{reserved}'")
        assert vss.requests(path=reserved) == []
        assert (await client.copy(bucket_id, "a", reserved, allow_reserved_bucket=True)).unwrap().uploaded
        # Out of it nothing is changed.
        assert (await client.copy(reserved, "a", bucket_id, "b")).unwrap().uploaded


async def test_bulk_into_a_reserved_bucket_is_refused(
    vss: LocalVSS, bucket_id: str, reserved: str, tmp_path: Path
) -> None:
    path = tmp_path / "b"
    path.write_bytes(b"2")
    balls: list[Any] = [
        {"bucket_id": bucket_id, "key": "a", "source": b"1"},
        {"bucket_id": reserved, "key": "b", "source": str(path)},
        {"bucket_id": reserved, "key": "c", "source": b"3"},
    ]
    async with checked_client(vss) as client:
        error = (await client.put_bulk("bulk", balls)).unwrap_err()
        assert type(error) is ValidationError
        assert f"item 1 of the bulk: bucket_id must not begin with 'bulk-', got '{reserved}'" in str(error)
        assert vss.requests(path=bucket_id) == [], "none of its balls was begun"
        (await client.put_bulk("bulk", balls, allow_reserved_bucket=True)).unwrap()
        assert (await client.await_bulk("bulk")).unwrap()["successed"] == 3


@pytest.mark.parametrize("call", [*CHANGES, "copy", "put_bulk"])
async def test_flag_is_a_keyword_at_the_end_and_a_bool(vss: LocalVSS, bucket_id: str, call: str) -> None:
    """A text such as "False", as a template gives it, would be true."""
    parameter = inspect.signature(getattr(AsyncClient, call)).parameters["allow_reserved_bucket"]
    assert (parameter.kind, parameter.default) == (parameter.KEYWORD_ONLY, False)
    given: dict[str, dict[str, Any]] = {
        **{name: {"bucket_id": bucket_id, **others} for name, others in CHANGES.items()},
        "copy": {"bucket_id": bucket_id, "key": "a", "dest_bucket_id": "another"},
        "put_bulk": {"bulk_id": "bulk", "balls": [{"bucket_id": bucket_id, "key": "a", "source": b"1"}]},
    }
    async with checked_client(vss) as client:
        result = await getattr(client, call)(**given[call], allow_reserved_bucket="False")
        assert "allow_reserved_bucket must be True or False, got 'False'" in str(result.unwrap_err())
        assert vss.requests(path=bucket_id) == []
