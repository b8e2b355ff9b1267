"""Cut and concurrency in hook and operators: chosen by the size, by the connection, by the call; the nearest wins."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.transfer import upload
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.operators.mictlanx import MictlanXPutOperator
from tests.support.vss import LocalVSS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of 17 MB that takes no time to make."""
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 17_000_000)
    return path


@pytest.fixture
def in_flight(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many chunks each upload has in flight at the most."""
    seen: list[int] = []
    original = upload.for_each

    async def watched(items: Any, work: Any, max_concurrency: int) -> None:
        seen.append(max_concurrency)
        await original(items, work, max_concurrency)

    monkeypatch.setattr(upload, "for_each", watched)
    return seen


def test_chosen_by_the_size(connected: LocalVSS, bucket_id: str, file: Path, in_flight: list[int]) -> None:
    assert MictlanXHook().put_file(bucket_id, "file", file)["num_chunks"] == 3
    assert MictlanXHook().put(bucket_id, "bytes", bytes(1_000_000))["num_chunks"] == 1
    assert in_flight == [16, 16]


def test_the_connection_wins(
    vss: LocalVSS, connect: Callable[..., None], bucket_id: str, file: Path, in_flight: list[int]
) -> None:
    connect(vss, chunk_size="5MB", max_concurrency=3)
    assert MictlanXHook().put_file(bucket_id, "file", file)["num_chunks"] == 4
    assert in_flight == [3]


def test_the_call_wins(
    vss: LocalVSS, connect: Callable[..., None], bucket_id: str, file: Path, in_flight: list[int]
) -> None:
    connect(vss, chunk_size="5MB", max_concurrency=3)
    operator = MictlanXPutOperator(
        task_id="put", bucket_id=bucket_id, key="file", file_path=str(file), chunk_size="10MB", max_concurrency=7
    )
    assert operator.execute({})["num_chunks"] == 2
    assert in_flight == [7]


def test_more_of_smaller_chunks(connected: LocalVSS, bucket_id: str, file: Path, in_flight: list[int]) -> None:
    assert MictlanXHook().put_file(bucket_id, "file", file, chunk_size="1MB")["num_chunks"] == 17
    assert in_flight == [32]


def test_wrong_choices_are_refused(connected: LocalVSS, bucket_id: str, file: Path) -> None:
    for wrong in ({"chunk_size": "many"}, {"max_concurrency": 0}):
        with pytest.raises(ValidationError):
            MictlanXHook().put_file(bucket_id, "file", file, **wrong)


def test_a_bulk_records_the_cut(connected: LocalVSS, bucket_id: str, file: Path, in_flight: list[int]) -> None:
    """Each ball's own, so that a later attempt cuts as the first one did."""
    (file.parent / "small").write_bytes(b"x")
    hook = MictlanXHook()
    hook.put_bulk("cut", bucket_id, str(file.parent))
    by_key = {ball["key"]: ball["num_chunks"] for ball in hook.list_balls(bucket_id)}
    assert by_key == {"file": 3, "small": 1}
