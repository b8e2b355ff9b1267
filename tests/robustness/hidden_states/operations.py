"""
What is done to each hidden state. Every operation gives one word for how it ended, or the name of the error it ended in.

| word | means |
|---|---|
| sent | stored by this put |
| stored already | nothing was sent |
| reads ours, reads theirs | the bytes, and a file with them, are right |
| gone | deleted, and no failure is reported |
| yes, no, waits | of ``exists`` and the sensor |
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from unittest import mock

from option import Result

from airflow_provider_mictlanx.batches.copy import CopyOptions, copy_all
from airflow_provider_mictlanx.batches.download import list_bucket_items
from airflow_provider_mictlanx.client import AsyncClient, BallConflictError, MictlanXError
from airflow_provider_mictlanx.client.transfer import upload_window
from airflow_provider_mictlanx.sensors.mictlanx import MictlanXObjectSensor
from tests.robustness.hidden_states.states import KEY, OURS, THEIRS
from tests.support import bulk_uploads as bulks
from tests.support.clients import client_of
from tests.support.vss import LocalVSS

T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """Where an operation is done, and a folder of its own for files."""

    vss: LocalVSS
    bucket_id: str
    folder: Path
    bulk_id: str = field(default_factory=lambda: f"bulk {uuid.uuid4()}")

    @property
    def original(self) -> str:
        """Return the bucket from which a copy is made."""
        return f"{self.bucket_id}-original"


def put(cell: Cell) -> str:
    """``put`` of our bytes."""
    return _call(cell, lambda client: client.put(cell.bucket_id, KEY, OURS, "400", max_tries=3), _sent)


def put_file(cell: Cell) -> str:
    """``put_file`` of our bytes."""
    path = _file(cell)
    return _call(cell, lambda client: client.put_file(cell.bucket_id, KEY, path, chunk_size=400, max_tries=3), _sent)


def put_others(cell: Cell) -> str:
    """``put`` of other bytes, without ``replace``."""
    return _call(cell, lambda client: client.put(cell.bucket_id, KEY, THEIRS, "400", max_tries=3), _sent)


def replace(cell: Cell) -> str:
    """``put`` of our bytes with ``replace=True``."""
    return _call(cell, lambda client: client.put(cell.bucket_id, KEY, OURS, "400", max_tries=3, replace=True), _sent)


def windowed_bulk(cell: Cell) -> str:
    """A durable bulk of one file in one chunk, which is announced in a window."""
    with mock.patch.object(upload_window, "FEWEST_BALLS", 0):
        return bulk(cell, "1kb")


def windowed_copy(cell: Cell) -> str:
    """A copy of a bucket with our bytes in one chunk, which is announced in a window."""

    async def copy() -> str:
        async with client_of(cell.vss) as client:
            try:
                items = await list_bucket_items(client, cell.original)
                options = CopyOptions(max_tries=3)
                result = await copy_all(client, items, cell.bucket_id, str, dest=client, options=options)
            except MictlanXError as error:  # the bucket could not be listed
                return type(error).__name__
        if result.failed:
            [failure] = result.failures
            return (
                BallConflictError.__name__ if failure.code == BallConflictError.default_error_code else failure.message
            )
        return _sent(bool(result.done))

    with mock.patch.object(upload_window, "FEWEST_BALLS", 0):
        return asyncio.run(copy())


def bulk(cell: Cell, chunk_size: str = "400") -> str:
    """A durable bulk of one file with our bytes; called once more, the same run again."""
    source = _file(cell).parent

    async def attempt() -> str:
        async with bulks.uncached_client(cell.vss) as client:
            given = {"chunk_size": chunk_size, "options": {"max_tries": 3}}
            try:
                result = await bulks.upload(client, cell.bulk_id, cell.bucket_id, source, **given)
            except MictlanXError as error:  # its records could not be written
                return type(error).__name__
        if result.failed:
            [failure] = result.failures
            return (
                BallConflictError.__name__ if failure.code == BallConflictError.default_error_code else failure.message
            )
        return _sent(bool(result.uploaded))

    return asyncio.run(attempt())


def get(cell: Cell) -> str:
    """``get``."""
    return _call(cell, lambda client: client.get(cell.bucket_id, KEY), lambda got: _read(bytes(got.data)))


def get_to_file(cell: Cell) -> str:
    """``get_to_file``; what fails leaves no file behind."""
    folder = cell.folder / "out"
    ended = _call(
        cell,
        lambda client: client.get_to_file(cell.bucket_id, KEY, str(folder), "file"),
        lambda path: _read(Path(path).read_bytes()),
    )
    files = [path.name for path in folder.iterdir()] if folder.exists() else []
    assert files == (["file"] if ended.startswith("reads") else [])
    return ended


def exists(cell: Cell) -> str:
    """``exists``, which believes the listing."""
    return _call(cell, lambda client: client.exists(cell.bucket_id, KEY), _yes)


def exists_checked(cell: Cell) -> str:
    """``exists`` with ``check_storage=True``."""
    return _call(cell, lambda client: client.exists(cell.bucket_id, KEY, check_storage=True), _yes)


def sensor(cell: Cell) -> str:
    """One poke of ``MictlanXObjectSensor``."""
    found = MictlanXObjectSensor(task_id="wait", bucket_id=cell.bucket_id, key=KEY).poke({}).xcom_value
    return "waits" if found is None else "yes"


def delete(cell: Cell) -> str:
    """``delete``."""
    return _call(cell, lambda client: client.delete(KEY, cell.bucket_id), lambda _: "gone")


def delete_bucket(cell: Cell) -> str:
    """``delete_bucket``."""
    return _call(
        cell,
        lambda client: client.delete_bucket(cell.bucket_id),
        lambda report: "gone" if not report.failed else f"{report.failures}",
    )


WRITES: tuple[Callable[[Cell], str], ...] = (put, put_file, put_others, replace, bulk, windowed_bulk, windowed_copy)
OPERATIONS = (*WRITES, get, get_to_file, exists, exists_checked, sensor, delete, delete_bucket)


def _call(
    cell: Cell, call: Callable[[AsyncClient], Awaitable[Result[T, MictlanXError]]], told: Callable[[T], str]
) -> str:
    async def scenario() -> Result[T, MictlanXError]:
        async with client_of(cell.vss) as client:
            return await call(client)

    result = asyncio.run(scenario())
    return type(result.unwrap_err()).__name__ if result.is_err else told(result.unwrap())


def _file(cell: Cell) -> Path:
    path = cell.folder / "source" / KEY
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(OURS)
    return path


def _sent(sent: bool) -> str:
    return "sent" if sent else "stored already"


def _yes(there: bool) -> str:
    return "yes" if there else "no"


def _read(data: bytes) -> str:
    return {OURS: "reads ours", THEIRS: "reads theirs"}[data]
