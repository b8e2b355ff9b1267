"""
Store and read the logs of DAG runs, each in a bucket of its own.

No object can be appended to, but Airflow uploads one log several times: a resumed task and a rescheduled sensor
continue their log, and on another worker they begin a new file. So a log is stored in *parts*. The name of a part
contains the log's path, a random id of the local file, and the offsets of its first byte and of its end. Log files only
grow, so uploads of one file agree about the bytes at an offset. The reader skips the bytes that it has read from
another part of the same file: an upload that was repeated, or that ran beside another, doubles no line.

A hidden file beside the log contains its id and the offset up to which its bytes are stored. It saves an upload from
listing the bucket, which contains every part of the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, ParamSpec, TypeVar

from airflow_provider_mictlanx.batches.delete import DeleteOptions, cutoff, list_by_key, newest
from airflow_provider_mictlanx.client.concurrency import for_each
from airflow_provider_mictlanx.client.errors import MictlanXError, UnavailableError
from airflow_provider_mictlanx.client.models import Ball
from airflow_provider_mictlanx.client.result import unwrap
from airflow_provider_mictlanx.client.retry import deadline_scope
from airflow_provider_mictlanx.client.versions import group_by_object, group_versions
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from airflow_provider_mictlanx.hooks.sync_runner import Runner, blocking

P = ParamSpec("P")
T = TypeVar("T")

PART_SIZE = 4 * 1024 * 1024
"""Maximum size of a part (bytes)."""

READ_AT_ONCE = 2 * PART_SIZE
"""Maximum size of the parts that are in memory while a log is read (bytes)."""

MAX_LINE_SIZE = 16 * PART_SIZE
"""Size (bytes) from which a line of several parts is cut, since it is in memory while a log is read."""

PARTS_AT_ONCE = 8
"""Maximum number of parts that are read at the same time."""

HEAD_SIZE = 4096
"""Number of bytes at the beginning of a local log that identify it."""

CONNECT_PATIENCE = 5.0
"""Seconds for which an upload waits while no router can be reached."""

REQUEST_TIMEOUT = 10.0
"""Seconds for one request."""

READ_TIMEOUT = 30.0
"""Seconds for listing the parts, and for reading each ``READ_AT_ONCE`` of them."""

_PART_KEY = re.compile(r"(?P<file>.+)\.part-(?P<origin>[0-9a-f]{16})-(?P<start>\d{12})-(?P<end>\d{12})", re.DOTALL)


class Span(NamedTuple):
    """
    A part of a log to read, without the bytes before ``skip``.

    :ivar continues: whether it begins where the span before it ends, which may be in the middle of a line
    """

    ball: Ball
    skip: int
    continues: bool


class Part(NamedTuple):
    """A stored part of a log file: its bytes from ``start`` to ``end``. ``origin`` is the id of the local file."""

    file: str
    origin: str
    start: int
    end: int
    ball: Ball

    @classmethod
    def from_ball(cls, ball: Ball) -> Part | None:
        """Return the part that is stored as a ball, or None if it is not a part of a log."""
        if (match := _PART_KEY.fullmatch(ball.key)) is None:
            return None
        return cls(match["file"], match["origin"], int(match["start"]), int(match["end"]), ball)


def part_key(file: str, origin: str, start: int, end: int) -> str:
    """Return the key of a part."""
    return f"{file}.part-{origin}-{start:012}-{end:012}"


@dataclass(frozen=True)
class LocalState:
    """
    The state of a local log file, which is recorded in the hidden file beside it.

    :ivar origin: random id of the file
    :ivar head: number of bytes that ``checksum`` covers
    :ivar checksum: SHA-256 of the first ``head`` bytes, in hex: a file with another beginning is another file
    :ivar stored: number of bytes from the beginning that are stored
    """

    origin: str
    head: int
    checksum: str
    stored: int = 0

    @staticmethod
    def path(log_file: Path) -> Path:
        """Return the path of the hidden file; Airflow shows every file whose name begins with the log's name."""
        return log_file.with_name(f".{log_file.name}.mictlanx")

    @classmethod
    def load(cls, log_file: Path, content: BinaryIO) -> LocalState:
        """Return the state of a log file; a new one if none is recorded, or if the file is another one since."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            state = cls(**json.loads(cls.path(log_file).read_text()))
            if _checksum(content, state.head) == state.checksum and state.stored <= os.fstat(content.fileno()).st_size:
                return state
        head = min(HEAD_SIZE, os.fstat(content.fileno()).st_size)
        return cls(secrets.token_hex(8), head, _checksum(content, head))

    def save(self, log_file: Path) -> None:
        """Record the state. A failure is not an error: a later upload then stores all lines again."""
        path = self.path(log_file)
        new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):
            try:
                new.write_text(json.dumps(asdict(self)))
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)


def _checksum(content: BinaryIO, size: int) -> str:
    content.seek(0)
    return hashlib.sha256(content.read(size)).hexdigest()


class LogStorage:
    """
    The logs of all DAG runs.

    A *run* is ``{dag_id}/{run_id}``. It is the key of the run's index object, whose content is the id of its bucket.
    """

    def __init__(self, mictlanx_conn_id: str, base_bucket: str) -> None:
        self.hook = MictlanXHook(mictlanx_conn_id)
        self.base_bucket = base_bucket

    def run_bucket(self, run: str) -> str:
        """Return the id of the bucket with the logs of a run."""
        return f"{self.base_bucket}-{hashlib.sha256(run.encode()).hexdigest()[:32]}"

    def _run(self, method: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        _ = self.hook.settings  # read before the event loop exists
        return Runner().run(partial(method, *args, **kwargs))

    async def aupload(self, run: str, file: str, path: Path, *, rf: int, timeout: float) -> int:
        """
        Store the lines of a local log that are not stored yet; return the number of its bytes that are stored now.

        :param file: path of the log below the folder of the logs
        :param path: the local log
        :param rf: number of peers that must store each part
        :param timeout: seconds, plus one second for each megabyte
        """
        with path.open("rb") as content:
            size = os.fstat(content.fileno()).st_size
            if not size:
                return 0
            state = LocalState.load(path, content)
            state.save(path)
            async with (
                self.hook.open_client(connect_patience=min(CONNECT_PATIENCE, timeout)) as client,
                deadline_scope(timeout + (size - state.stored) / 1e6, "the upload"),
            ):

                async def put(bucket_id: str, key: str, data: bytes) -> None:
                    put_ = client.upload(
                        bucket_id, key, data=data, chunk_size=PART_SIZE, rf=rf, timeout=REQUEST_TIMEOUT
                    )
                    unwrap(await put_)

                # First, so that ``delete_runs`` finds every bucket. All uploads of a run store the same bytes.
                await put(self.base_bucket, run, self.run_bucket(run).encode())
                while data := _read_part(content, state.stored, size):
                    end = state.stored + len(data)
                    await put(self.run_bucket(run), part_key(file, state.origin, state.stored, end), data)
                    state = replace(state, stored=end)
                    state.save(path)
        return state.stored

    upload = blocking(aupload)

    async def alist_files(self, run: str, file: str) -> tuple[dict[str, list[Span]], list[str]]:
        """
        List the stored logs of an attempt: its own log, and the logs of its triggers, which begin with its name.

        Returns the parts to read by path, in order, and the ids of peers whose parts are missing.

        :param file: path of the log below the folder of the logs
        """
        async with (
            self.hook.open_client(connect_patience=0) as client,
            deadline_scope(READ_TIMEOUT, "listing its parts"),
        ):
            listed = client.get_chunks_by_bucket_id(self.run_bucket(run), timeout=REQUEST_TIMEOUT, partial=True)
            listing = unwrap(await listed)
        found: dict[str, list[Part]] = {}
        for chunks in group_by_object(listing.balls).values():
            versions = group_versions(chunks)
            part = Part.from_ball(versions[0].as_ball()) if versions and versions[0].is_complete else None
            if part is not None and (part.file == file or part.file.startswith(f"{file}.")):
                found.setdefault(part.file, []).append(part)
        return {name: _spans(found[name]) for name in sorted(found)}, listing.extra["missing_peers"]

    list_files = blocking(alist_files)

    def lines(self, spans: Sequence[Span]) -> Iterator[bytes]:
        """Yield the lines of parts, each with its line end. A part that can't be read is one line that says so."""
        rest = b""
        for batch in _batches(spans):
            contents = self.read(batch)
            for span in batch:
                if rest and (not span.continues or len(rest) >= MAX_LINE_SIZE):
                    yield rest
                    rest = b""
                content, rest = rest + contents.pop(0), b""
                for line in io.BytesIO(content):
                    if line.endswith(b"\n"):
                        yield line
                    else:
                        rest = line
        if rest:
            yield rest

    async def aread(self, spans: Sequence[Span]) -> list[bytes]:
        """Read parts at the same time; return their bytes, or for a part that can't be read, a line that says so."""
        contents: dict[int, bytes] = {}
        async with (
            self.hook.open_client(connect_patience=0) as client,
            deadline_scope(READ_TIMEOUT, "reading its parts"),
        ):

            async def read(number: int) -> None:
                ball, skip, _ = spans[number]
                try:
                    chunks = [
                        unwrap(await client.read_chunk(ball, index, timeout=REQUEST_TIMEOUT, max_tries=2))
                        for index in range(ball.num_chunks)
                    ]
                except MictlanXError as error:
                    contents[number] = f"Lines are missing here: {error}\n".encode()
                else:
                    contents[number] = b"".join(chunks)[skip:]

            await for_each(range(len(spans)), read, PARTS_AT_ONCE)
        return [contents[number] for number in range(len(spans))]

    read = blocking(aread)

    async def adelete_runs(self, older_than: timedelta | datetime | str) -> dict[str, int]:
        """See ``MictlanXRemoteLogIO.delete_runs``."""
        result = {"deleted": 0, "kept": 0, "objects": 0}
        async with self.hook.open_client() as client:
            for index in unwrap(await client.list_balls(self.base_bucket)):
                bucket_id = self.run_bucket(index.key)
                if index.size != len(bucket_id) or index.checksum != hashlib.sha256(bucket_id.encode()).hexdigest():
                    continue  # other data in the base bucket
                parts, now = await list_by_key(client, bucket_id, DeleteOptions.timeout)
                if max(newest(rows) for rows in [index.chunks, *parts.values()]) >= cutoff(older_than, now):
                    result["kept"] += 1
                    continue
                deleted = unwrap(await client.delete_bucket(bucket_id))
                if deleted.failed:
                    raise UnavailableError(
                        f"deleting the logs of {index.key} failed: {deleted.failed} of {deleted.total} objects are "
                        f"left in bucket {bucket_id}; run it again"
                    )
                unwrap(await client.delete(index.key, self.base_bucket))
                result["deleted"] += 1
                result["objects"] += deleted.deleted
        return result

    delete_runs = blocking(adelete_runs)


def _read_part(content: BinaryIO, start: int, size: int) -> bytes:
    """Read the part from an offset; it ends with a line if possible, so that readers seldom join parts."""
    content.seek(start)
    data = content.read(min(PART_SIZE, size - start))
    if start + len(data) < size and b"\n" in data:
        return data[: data.rindex(b"\n") + 1]
    return data


def _spans(parts: Sequence[Part]) -> list[Span]:
    """Return what to read of the parts of one log: each byte once, and local files in the order of their uploads."""
    origins: dict[str, list[Part]] = {}
    for part in sorted(parts, key=lambda part: part.ball.updated_at):
        origins.setdefault(part.origin, []).append(part)
    spans = []
    for same_file in origins.values():
        covered = 0
        for part in sorted(same_file, key=lambda part: (part.start, -part.end)):
            if part.end > covered:
                spans.append(Span(part.ball, max(0, covered - part.start), 0 < covered >= part.start))
                covered = part.end
    return spans


def _batches(spans: Sequence[Span]) -> Iterator[list[Span]]:
    """Split parts into batches of at most ``READ_AT_ONCE`` bytes; a single larger part is a batch."""
    batch: list[Span] = []
    size = 0
    for span in spans:
        if batch and size + span.ball.size > READ_AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(span)
        size += span.ball.size
    if batch:
        yield batch
