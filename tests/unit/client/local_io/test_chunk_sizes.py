"""How a file is cut where nobody says so, and how much of it is in flight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.local_io.chunk_sizes import (
    DEFAULT_CHUNK,
    MAX_CHUNK,
    MAX_CHUNKS,
    MAX_IN_FLIGHT,
    MEMORY_BUDGET,
    MIN_IN_FLIGHT,
    chunk_size_for,
    concurrency_for,
)

GB = 1_000_000_000


@pytest.mark.parametrize(
    ("size", "chunk_size", "in_flight"),
    [
        (0, 8_000_000, 4),
        (10_000, 8_000_000, 4),
        (64 * 1024**2, 8_000_000, 4),
        (8 * GB, 8_000_000, 4),
        (8 * GB + 1, 9_000_000, 3),
        (16 * GB, 16_000_000, 2),
        (20 * GB, 20_000_000, 2),
        (1000 * GB, 32_000_000, 2),
    ],
)
def test_table_of_the_documentation(size: int, chunk_size: int, in_flight: int) -> None:
    assert chunk_size_for(size) == chunk_size
    assert concurrency_for(chunk_size) == in_flight


@given(st.integers(0, 2**50))
def test_bounds(size: int) -> None:
    chunk = chunk_size_for(size)
    assert DEFAULT_CHUNK <= chunk <= MAX_CHUNK
    assert -(-size // chunk) <= MAX_CHUNKS or chunk == MAX_CHUNK
    in_flight = concurrency_for(chunk)
    assert MIN_IN_FLIGHT <= in_flight <= MAX_IN_FLIGHT
    assert chunk * in_flight <= max(MEMORY_BUDGET, MIN_IN_FLIGHT * MAX_CHUNK)


@pytest.mark.parametrize(
    ("chunk_size", "in_flight"), [(1, 64), (256_000, 64), (1_000_000, 32), (4_000_000, 8), (100_000_000, 2)]
)
def test_fewer_of_larger_chunks_are_in_flight(chunk_size: int, in_flight: int) -> None:
    assert concurrency_for(chunk_size) == in_flight


def test_what_somebody_has_chosen_wins() -> None:
    assert chunk_size_for(10**12, "256kb") == 256_000
    assert chunk_size_for(0, 5) == 5
    assert concurrency_for(100_000_000, 40) == 40
    with pytest.raises(ValidationError):
        chunk_size_for(10, "many")
