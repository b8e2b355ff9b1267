"""
The operations that meet the faults: each can be set up, done, and looked at afterwards, past the client.

``run`` raises the client's own error. ``verify`` fails unless everything is done, to the last byte; ``verify_untouched`` fails
where something half done can be seen by anybody after an error.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from option import Result

from airflow_provider_mictlanx.client import AsyncClient, MictlanXError
from airflow_provider_mictlanx.client.transfer.router_pool import CONNECT_PATIENCE
from tests.robustness.faults.space import PEERS, Space, sha256
from tests.support.new_threads import NewThreads

CHUNK = 24_000
SIZE = 2 * CHUNK  # so that bytes and files are cut alike
RF = 2
TOKEN = "s3cr3t-token"


@dataclass(frozen=True)
class How:
    """
    How patient an operation is, where it can be told.

    :ivar timeout: of a request (seconds)
    :ivar tries: of each
    :ivar deadline: of the whole call (seconds)
    :ivar replace: of writers
    :ivar rf: of writers
    :ivar roll_call: of the client's roll-calls (seconds)
    :ivar connect_patience: while no router can be reached (seconds)
    """

    timeout: float = 30.0
    tries: int = 5
    deadline: float | None = None
    replace: bool = False
    rf: int = RF
    roll_call: float = 10.0
    connect_patience: float = CONNECT_PATIENCE

    @property
    def writer_options(self) -> dict[str, Any]:
        """The client's arguments for a put or a copy, one chunk after the other."""
        return {
            "rf": self.rf,
            "max_concurrency": 1,
            "timeout": self.timeout,
            "max_tries": self.tries,
            "deadline": self.deadline,
            "replace": self.replace,
        }


@dataclass
class Cell:
    """What an operation works on: names that nobody else uses, bytes, and a folder."""

    space: Space
    folder: Path
    bucket_id: str = field(default_factory=lambda: f"b-{uuid.uuid4().hex}")
    data: bytes = b""
    bulk_id: str = ""
    connect_patience: float = CONNECT_PATIENCE

    def __post_init__(self) -> None:
        self.bulk_id = f"of-{self.bucket_id}"
        self.data = random.Random(self.bucket_id).randbytes(SIZE)

    @property
    def chunks(self) -> list[bytes]:
        return [self.data[:CHUNK], self.data[CHUNK:]]

    @property
    def original(self) -> str:
        """The bucket from which copies are made."""
        return f"from-{self.bucket_id}"

    @property
    def old(self) -> bytes:
        """What is replaced."""
        return self.data[::-1]

    @property
    def old_chunks(self) -> list[bytes]:
        return [self.old[:CHUNK], self.old[CHUNK:]]

    def client(self, work: Callable[[AsyncClient], Awaitable[Result[Any, MictlanXError]]]) -> Any:
        """Do something with a client of one's own, and see that nothing of it is left."""

        async def scenario() -> Any:
            uri = self.space.uri
            told_nowhere = {"debug": False, "log_output_path": None, "capacity_storage": 0}
            patience = self.connect_patience
            async with AsyncClient(uri, "tests", token=TOKEN, connect_patience=patience, **told_nowhere) as client:
                result = await work(client)
            await no_tasks_left()
            if result.is_err:
                raise result.unwrap_err()
            return result.unwrap()

        return asyncio.run(scenario())

    def seen(self) -> bytes | None:
        """Read the ball as any reader would, by the real router; None where it can't be read."""

        async def scenario() -> bytes | None:
            async with AsyncClient(self.space.vss.uri, "reader", debug=False, log_output_path=None) as client:
                result = await client.get(self.bucket_id, "ball", max_retries=1)
                return None if result.is_err else bytes(result.unwrap().data)

        return asyncio.run(scenario())


class Operation:
    """One of the operations."""

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    """The requests that it makes where nothing goes wrong."""

    takes_deadline: ClassVar[bool] = True

    before_deleting: ClassVar[frozenset[str]] = frozenset()
    """The requests that it makes before its roll-call is over: a peer that is silent in them stops it."""

    def prepare(self, cell: Cell) -> None:
        """Set up what has to be there."""

    def run(self, cell: Cell, how: How) -> str:
        """Run it; return ``done``."""
        raise NotImplementedError

    def verify(self, cell: Cell) -> None:
        """Fail unless it is done."""
        raise NotImplementedError

    def verify_untouched(self, cell: Cell) -> None:
        """Fail where half of it can be seen."""
        assert cell.seen() in (None, cell.data)
        for index, chunk in enumerate(cell.chunks):
            copies = cell.space.copies(cell.bucket_id, f"ball_{index}")
            assert set(copies.values()) <= {chunk}, "wrong bytes are stored"

    def subject(self, cell: Cell) -> tuple[str, str]:
        """Return the name that an error must contain: the bucket, and the key in it."""
        return cell.bucket_id, "ball"


class Put(Operation):
    name = "put"
    kinds: ClassVar[tuple[str, ...]] = ("metadata", "announce", "chunks", "data")

    def run(self, cell: Cell, how: How) -> str:
        self._put(cell, how, data=cell.data)
        return "done"

    def _put(self, cell: Cell, how: How, **source: Any) -> None:
        cell.client(
            lambda client: client.upload(cell.bucket_id, "ball", chunk_size=CHUNK, **how.writer_options, **source)
        )

    def verify(self, cell: Cell) -> None:
        for index, chunk in enumerate(cell.chunks):
            copies = cell.space.copies(cell.bucket_id, f"ball_{index}")
            assert set(copies.values()) == {chunk}
            assert len(copies) >= RF


class PutFile(Put):
    name = "put_file"

    def run(self, cell: Cell, how: How) -> str:
        path = cell.folder / "source.bin"
        path.write_bytes(cell.data)
        self._put(cell, how, path=path)
        assert path.read_bytes() == cell.data
        return "done"


class Replace(Put):
    name = "replace"
    kinds = ("metadata", "chunks", "peers", "bucket", "delete chunk", "announce", "data")
    before_deleting = frozenset({"metadata", "chunks", "peers", "bucket"})

    def prepare(self, cell: Cell) -> None:
        cell.space.put(cell.bucket_id, "ball", cell.old_chunks)

    def run(self, cell: Cell, how: How) -> str:
        return super().run(cell, replace(how, replace=True))

    def verify_untouched(self, cell: Cell) -> None:
        assert cell.seen() in (None, cell.data, cell.old)
        for index, chunk in enumerate(cell.chunks):
            copies = set(cell.space.copies(cell.bucket_id, f"ball_{index}").values())
            assert copies in (set(), {chunk}, {cell.old_chunks[index]}), "old and new bytes are stored side by side"


class Copy(Put):
    """A copy of a ball of two chunks; its listings and announcements are those of ``get`` and ``put``."""

    name = "copy"
    kinds = ("read", "data")

    def prepare(self, cell: Cell) -> None:
        cell.space.put(cell.original, "ball", cell.chunks)

    def run(self, cell: Cell, how: How) -> str:
        cell.client(lambda client: client.copy(cell.original, "ball", cell.bucket_id, **how.writer_options))
        return "done"


class Get(Operation):
    name = "get"
    kinds = ("chunks", "read")

    def prepare(self, cell: Cell) -> None:
        cell.space.put(cell.bucket_id, "ball", cell.chunks)

    def run(self, cell: Cell, how: How) -> str:
        got = cell.client(
            lambda client: client.get(
                cell.bucket_id,
                "ball",
                max_paralell_gets=1,
                timeout=how.timeout,
                max_retries=how.tries,
                deadline=how.deadline,
            )
        )
        assert bytes(got.data) == cell.data
        return "done"

    def verify(self, cell: Cell) -> None:
        """The bytes were compared when they came."""


class GetToFile(Get):
    name = "get_to_file"

    def prepare(self, cell: Cell) -> None:
        super().prepare(cell)
        self._target(cell).parent.mkdir()
        self._target(cell).write_bytes(b"older")

    def _target(self, cell: Cell) -> Path:
        return cell.folder / "out" / "file.bin"

    def run(self, cell: Cell, how: How) -> str:
        cell.client(
            lambda client: client.get_to_file(
                cell.bucket_id,
                "ball",
                str(self._target(cell).parent),
                "file.bin",
                max_paralell_gets=1,
                timeout=how.timeout,
                max_retries=how.tries,
                deadline=how.deadline,
                replace=True,
            )
        )
        return "done"

    def verify(self, cell: Cell) -> None:
        assert self._target(cell).read_bytes() == cell.data
        assert os.listdir(self._target(cell).parent) == ["file.bin"]

    def verify_untouched(self, cell: Cell) -> None:
        super().verify_untouched(cell)
        assert self._target(cell).read_bytes() == b"older"
        # What is there of it already waits under a hidden name for the retry, which takes it up and clears it away.
        parts = {name for name in os.listdir(self._target(cell).parent) if name.startswith(".mictlanx-")}
        assert set(os.listdir(self._target(cell).parent)) - parts == {"file.bin"}


class Delete(Operation):
    name = "delete"
    kinds = ("peers", "bucket", "chunks", "delete chunk")
    before_deleting = frozenset({"peers", "bucket"})

    def prepare(self, cell: Cell) -> None:
        cell.space.put(cell.bucket_id, "ball", cell.chunks)

    def run(self, cell: Cell, how: How) -> str:
        cell.client(
            lambda client: client.delete("ball", cell.bucket_id, timeout=how.timeout, deadline=how.deadline),
        )
        return "done"

    def verify(self, cell: Cell) -> None:
        assert cell.space.listed(cell.bucket_id) == set()
        for index in range(len(cell.chunks)):
            assert cell.space.copies(cell.bucket_id, f"ball_{index}") == {}


class DeleteBucket(Delete):
    name = "delete_bucket"
    kinds = ("bucket", "peers", "delete chunk")
    before_deleting = frozenset({"bucket"})

    def prepare(self, cell: Cell) -> None:
        super().prepare(cell)
        cell.space.put(cell.bucket_id, "second", [cell.data])

    def run(self, cell: Cell, how: How) -> str:
        report = cell.client(
            lambda client: client.delete_bucket(
                cell.bucket_id, timeout=how.timeout, max_concurrency=1, deadline=how.deadline
            )
        )
        assert report.total == report.deleted + report.failed
        if report.failed:
            assert all(report.failures.values()), "each ball that is left has its reason"
            return "reported"
        return "done"

    def verify(self, cell: Cell) -> None:
        super().verify(cell)
        assert cell.space.copies(cell.bucket_id, "second_0") == {}

    def subject(self, cell: Cell) -> tuple[str, str]:
        return cell.bucket_id, cell.bucket_id


class AirflowOperation(Operation):
    """One that goes through a connection of Airflow."""

    takes_deadline = False

    def run(self, cell: Cell, how: How) -> str:
        return self.run_at(cell.space.uri, cell, how)

    def run_at(self, uri: str, cell: Cell, how: How) -> str:
        extra = {"uri": uri, "timeout": how.timeout, "connect_patience": cell.connect_patience}
        connection: dict[str, Any] = {"conn_type": "mictlanx", "extra": extra}
        connection["password"] = TOKEN
        with mock.patch.dict(os.environ, {"AIRFLOW_CONN_MICTLANX_DEFAULT": json.dumps(connection)}):
            return self.work(cell, how)

    def work(self, cell: Cell, how: How) -> str:
        raise NotImplementedError


class Bulk(AirflowOperation):
    name = "bulk"
    kinds = ("bucket", "peers", "announce", "data")  # what else there is, is the puts' own
    chunk_size = CHUNK

    def prepare(self, cell: Cell) -> None:
        (cell.folder / "source").mkdir()
        (cell.folder / "source" / "ball").write_bytes(cell.data)

    def work(self, cell: Cell, how: How) -> str:
        from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

        async def scenario() -> None:
            try:
                await MictlanXHook().aput_bulk(
                    cell.bulk_id,
                    cell.bucket_id,
                    cell.folder / "source",
                    chunk_size=str(self.chunk_size),
                    rf=how.rf,
                    max_concurrency=1,
                    max_tries=how.tries,
                    request_timeout=how.timeout,
                    replace=how.replace,
                )
            finally:
                await no_tasks_left()

        asyncio.run(scenario())
        return "done"

    def verify(self, cell: Cell) -> None:
        Put().verify(cell)
        assert self._state(cell) == "complete"

    def verify_untouched(self, cell: Cell) -> None:
        super().verify_untouched(cell)
        assert self._state(cell) != "complete" or cell.seen() == cell.data

    def _state(self, cell: Cell) -> str:
        from airflow_provider_mictlanx.bulks.monitor import bulk_status

        async def scenario() -> str:
            async with AsyncClient(cell.space.vss.uri, "reader", debug=False, log_output_path=None) as client:
                return (await bulk_status(client, cell.bulk_id)).state.value

        return asyncio.run(scenario())

    def subject(self, cell: Cell) -> tuple[str, str]:
        return cell.bucket_id, ""


class WindowedBulk(Bulk):
    """A bulk of three balls of one chunk, which are announced in one window."""

    name = "windowed bulk"
    kinds = ("bucket", "peers", "metadata", "announce", "data")
    chunk_size = SIZE
    keys = ("ball", "second", "third")

    def prepare(self, cell: Cell) -> None:
        (cell.folder / "source").mkdir()
        for key in self.keys:
            (cell.folder / "source" / key).write_bytes(cell.data)

    def work(self, cell: Cell, how: How) -> str:
        with mock.patch("airflow_provider_mictlanx.client.transfer.upload_window.FEWEST_BALLS", 0):
            return super().work(cell, how)

    def verify(self, cell: Cell) -> None:
        verify_stored(cell, self.keys)
        assert self._state(cell) == "complete"

    def verify_untouched(self, cell: Cell) -> None:
        assert cell.seen() in (None, cell.data)
        stored = [set(cell.space.copies(cell.bucket_id, f"{key}_0").values()) for key in self.keys]
        assert all(copies <= {cell.data} for copies in stored), "wrong bytes are stored"
        assert self._state(cell) != "complete" or all(stored)


class ClearedBulk(Bulk):
    """The same run once more: its records acknowledge the ball, and somebody deleted the bucket since then."""

    name = "cleared bulk"

    def prepare(self, cell: Cell) -> None:
        super().prepare(cell)
        assert self.run_at(cell.space.vss.uri, cell, How()) == "done"
        for index in range(len(cell.chunks)):
            cell.space.ask("DELETE", cell.space.vss.port, f"/api/v4/buckets/{cell.bucket_id}/ball_{index}")

    def work(self, cell: Cell, how: How) -> str:
        with mock.patch("airflow_provider_mictlanx.bulks.inventory.FEWEST_BALLS", 0):  # its bucket is listed
            return super().work(cell, how)

    def verify_untouched(self, cell: Cell) -> None:
        """Nothing was announced that an old record could be believed for."""
        Operation.verify_untouched(self, cell)
        if cell.space.listed(cell.bucket_id):
            assert self._state(cell) != "complete" or cell.seen() == cell.data


class WindowedCopy(AirflowOperation):
    """
    A copy of two balls of one chunk, which are announced in one window before the first is read.

    Its placement looks and announcements are those of ``windowed bulk``.
    """

    name = "windowed copy"
    kinds = ("bucket", "read", "data")
    keys = ("ball", "second")

    def prepare(self, cell: Cell) -> None:
        for key in self.keys:
            cell.space.put(cell.original, key, [cell.data])

    def work(self, cell: Cell, how: How) -> str:
        from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

        async def scenario() -> None:
            try:
                await MictlanXHook().acopy_prefix(
                    cell.original,
                    "",
                    cell.bucket_id,
                    rf=how.rf,
                    max_concurrency=1,
                    max_tries=how.tries,
                    request_timeout=how.timeout,
                    replace=how.replace,
                )
            finally:
                await no_tasks_left()

        with mock.patch("airflow_provider_mictlanx.client.transfer.upload_window.FEWEST_BALLS", 0):
            asyncio.run(scenario())
        return "done"

    def verify(self, cell: Cell) -> None:
        verify_stored(cell, self.keys)

    def verify_untouched(self, cell: Cell) -> None:
        assert cell.seen() in (None, cell.data)
        for key in self.keys:
            assert set(cell.space.copies(cell.bucket_id, f"{key}_0").values()) <= {cell.data}, "wrong bytes are stored"

    def subject(self, cell: Cell) -> tuple[str, str]:
        return cell.bucket_id, ""


class Sensor(AirflowOperation, Get):
    name = "sensor"
    kinds = ("chunks", "read")

    def work(self, cell: Cell, how: How) -> str:
        from airflow.providers.common.compat.sdk import AirflowFailException

        from airflow_provider_mictlanx.sensors.mictlanx import MictlanXObjectSensor

        sensor = MictlanXObjectSensor(task_id="wait", bucket_id=cell.bucket_id, key="ball")
        try:
            found = sensor.poke({}).xcom_value
        except AirflowFailException as failure:
            raise failure.__context__ or failure from None  # the matrix has the errors of the client
        if found is None:
            return "waits"
        assert found["checksum"] == sha256(cell.data)
        return "done"


OPERATIONS: tuple[Operation, ...] = (
    Put(),
    PutFile(),
    Replace(),
    Bulk(),
    WindowedBulk(),
    ClearedBulk(),
    Copy(),
    WindowedCopy(),
    Get(),
    GetToFile(),
    Delete(),
    DeleteBucket(),
    Sensor(),
)


def verify_stored(cell: Cell, keys: Sequence[str]) -> None:
    """Fail unless balls of one chunk are stored."""
    for key in keys:
        copies = cell.space.copies(cell.bucket_id, f"{key}_0")
        assert set(copies.values()) == {cell.data}
        assert len(copies) >= RF


async def no_tasks_left() -> None:
    """Fail unless every task has ended, but for a few turns of the loop: generators that nobody goes on with are closed."""
    for _ in range(20):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"tasks are left: {left}")


def nothing_left_running(space: Space, new_threads: NewThreads) -> None:
    """Fail unless every connection and every new thread of the client ends."""
    for _ in range(500):
        threads = [thread.name for thread in new_threads.alive()]
        if not threads and not space.front.connections and not space.second.connections:
            return
        time.sleep(0.01)
    raise AssertionError(f"left running: {threads}, {space.front.connections + space.second.connections} connections")


assert PEERS > RF
