"""What operations cost, exactly: requests by kind, bytes hashed, connections opened. The table of ``docs/performance.md``."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from airflow_provider_mictlanx.batches.copy import CopyOptions, copy_all
from airflow_provider_mictlanx.batches.delete import DeleteOptions, Selection, delete_keys, delete_matching
from airflow_provider_mictlanx.batches.download import download_items, list_bucket_items
from airflow_provider_mictlanx.batches.runner import TransferOptions
from airflow_provider_mictlanx.bulks.attempt import ShardUpload
from airflow_provider_mictlanx.bulks.monitor import bulk_status, list_bulk_items
from airflow_provider_mictlanx.bulks.options import AttemptOptions, BulkSpec
from airflow_provider_mictlanx.bulks.sources import list_sources
from airflow_provider_mictlanx.bulks.verification import StorageCheck
from airflow_provider_mictlanx.client import AsyncClient
from airflow_provider_mictlanx.client.result import unwrap
from tests.support.vss import LocalVSS

SIZE = 4_000_000
"""Of a ball of four chunks (bytes)."""

SMALL = 10_000
"""Of a ball of one chunk (bytes)."""

ONE_AT_A_TIME = TransferOptions(max_concurrency=1)

PAGE = Path(__file__).parents[3] / "docs" / "performance.md"


@dataclass
class Costs:
    """What was counted."""

    requests: Counter[str] = field(default_factory=Counter)
    hashed: int = 0
    connections: int = 0


KINDS = {
    ("POST", "/api/v4/buckets/{bucket_id}/metadata"): "announce",
    ("POST", "/api/v4/buckets/data/{task_id}/chunked"): "send",
    ("GET", "/api/v4/buckets/{bucket_id}/metadata/{key}"): "look",
    ("GET", "/api/v4/buckets/{bucket_id}/metadata/{ball_id}/chunks"): "list",
    ("GET", "/api/v4/buckets/{bucket_id}/metadata"): "list bucket",
    ("GET", "/api/v4/buckets/{bucket_id}/{key}"): "data",
    ("GET", "/api/v4/peers"): "peers",
    ("DELETE", "/api/v4/buckets/{bucket_id}/bid/{ball_id}"): "delete ball",
    ("DELETE", "/api/v4/buckets/{bucket_id}/{key}"): "delete chunk",
}


class CountingHash:
    """SHA-256 that counts the bytes of streams."""

    def __init__(self, costs: Costs, data: Any = b"") -> None:
        self._costs = costs
        self._hash = SHA256(data)  # of a name: it does not count

    def update(self, data: Any) -> None:
        self._costs.hashed += len(data)
        self._hash.update(data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def digest(self) -> bytes:
        return self._hash.digest()


SHA256 = hashlib.sha256


@pytest.fixture(scope="module")
def counted_vss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVSS]:
    """A storage space that nobody else asks, so that every request counts."""
    with LocalVSS(tmp_path_factory.mktemp("costs")) as running:
        yield running


Operation = Callable[[AsyncClient, Path], Awaitable[Any]]


@pytest.fixture
def cost_of(
    counted_vss: LocalVSS, no_window_ends_by_time: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Costs]:
    """Return the cost of an operation, with a client of its own; the requests of ``before`` are not counted."""

    def measure(operation: Operation, before: Operation | None = None) -> Costs:
        costs = Costs()
        tracing = aiohttp.TraceConfig()

        async def connected(*event: Any) -> None:
            costs.connections += 1

        tracing.on_connection_create_end.append(connected)
        session = partial(aiohttp.ClientSession, trace_configs=[tracing])

        async def run() -> None:
            if before:
                async with AsyncClient(counted_vss.uri, "tests", debug=False, log_output_path=None) as client:
                    await before(client, tmp_path)
            counted_vss.reset_requests()
            async with AsyncClient(counted_vss.uri, "tests", debug=False, log_output_path=None) as client:
                with monkeypatch.context() as patch:
                    patch.setattr(aiohttp, "ClientSession", session)
                    patch.setattr(hashlib, "sha256", lambda data=b"": CountingHash(costs, data))
                    await operation(client, tmp_path)
            costs.requests.update(KINDS[seen["method"], seen["route"]] for seen in counted_vss.requests())

        asyncio.run(run())
        return costs

    return measure


# -- operations ----------------------------------------------------------------------------------------------------------


def put(size: int, at_once: int = 1, first: int = 0, **options: Any) -> Operation:
    async def operation(client: AsyncClient, folder: Path) -> None:
        data = bytes([first]) + bytes(size - 1)
        unwrap(await client.put("b", "k", data, chunk_size="1MB", max_concurrency=at_once, **options))

    return operation


def put_file(size: int, at_once: int = 1) -> Operation:
    async def operation(client: AsyncClient, folder: Path) -> None:
        (folder / "file").write_bytes(bytes(size))
        unwrap(await client.put_file("b", "k", folder / "file", chunk_size="1MB", max_concurrency=at_once))

    return operation


def call(name: str, *arguments: Any, **options: Any) -> Operation:
    async def operation(client: AsyncClient, folder: Path) -> None:
        unwrap(await getattr(client, name)(*arguments, **options))

    return operation


async def get_to_file(client: AsyncClient, folder: Path) -> None:
    unwrap(await client.get_to_file("b", "k", str(folder / "out"), max_paralell_gets=1))


async def get_twice(client: AsyncClient, folder: Path) -> None:
    for _ in range(2):
        unwrap(await client.get("b", "k", max_paralell_gets=1))


async def poke(client: AsyncClient, folder: Path) -> None:
    await bulk_status(client, "bulk")


async def put_bulk(client: AsyncClient, folder: Path) -> None:
    await put_bulk_again("bulk")(client, folder)


def put_bulk_again(bulk_id: str, balls: int = 20) -> Operation:
    async def operation(client: AsyncClient, folder: Path) -> None:
        (folder / "files").mkdir(exist_ok=True)
        for number in range(balls):
            (folder / "files" / f"{number}").write_bytes(bytes(100))
        bucket_id = f"{bulk_id}ed"
        listing = list_sources(str(folder / "files"), bucket_id)
        spec = BulkSpec(bulk_id, ["files"], bucket_id)
        await ShardUpload(client, spec, 0, lambda: listing, {"owner": "tests"}, AttemptOptions(max_concurrency=1)).run()

    return operation


MANY = 20
"""Objects of one chunk; a listing serves all of them."""


async def put_many(client: AsyncClient, folder: Path) -> None:
    unwrap(await client.delete_bucket("many"))
    for number in range(MANY):
        unwrap(await client.put("many", f"k/{number}", bytes([number]) + bytes(SMALL // MANY - 1)))


async def read_many(client: AsyncClient, folder: Path) -> None:
    items = await list_bucket_items(client, "many")
    assert (await download_items(client, items, folder, options=ONE_AT_A_TIME)).done == MANY


async def read_bulk(client: AsyncClient, folder: Path) -> None:
    items = await list_bulk_items(client, "bulk")
    assert (await download_items(client, items, folder, options=ONE_AT_A_TIME)).done == MANY


async def check_bulk(client: AsyncClient, folder: Path) -> None:
    assert await StorageCheck("bulk").go_on(client, 60)


async def delete_many(client: AsyncClient, folder: Path) -> None:
    assert (await delete_matching(client, "many", Selection("k/"), DeleteOptions(max_concurrency=1))).done == MANY


async def delete_many_keys(client: AsyncClient, folder: Path) -> None:
    keys = [f"k/{number}" for number in range(MANY)]
    assert (await delete_keys(client, "many", keys, DeleteOptions(max_concurrency=1))).done == MANY


async def copy_many(client: AsyncClient, folder: Path) -> None:
    items = await list_bucket_items(client, "many")
    options = CopyOptions(max_concurrency=1)
    assert (await copy_all(client, items, "copies", str, dest=client, options=options)).done == MANY


async def clear(client: AsyncClient, folder: Path) -> None:
    unwrap(await client.delete("k", "b"))


def after(*operations: Operation) -> Operation:
    async def all_of_them(client: AsyncClient, folder: Path) -> None:
        await clear(client, folder)
        for operation in operations:
            await operation(client, folder)

    return all_of_them


@dataclass(frozen=True)
class Case:
    """
    An operation, what comes before it, and what it costs.

    :ivar hashed: bytes, as multiples of what is moved
    """

    before: Operation
    operation: Operation
    requests: dict[str, int]
    hashed: int = 0
    connections: int = 1
    size: int = SIZE


NEW = {"look": 1, "announce": 4, "list": 1, "send": 4}
NEW_SMALL = {"look": 1, "announce": 1, "list": 1, "send": 1}
ABSENT = {"list": 1, "look": 2, "peers": 1, "list bucket": 1, "data": 3}
"""Another client may have stored the key as that of a chunk: one more look, and a question to each of three peers."""
WITH_FOLDERS = {"list": 1, "look": 1, "peers": 1, "list bucket": 1}

CASES = {
    "put, one chunk": Case(after(), put(SMALL), NEW_SMALL, 1, size=SMALL),
    "put, four chunks": Case(after(), put(SIZE), NEW, 2),
    "put, four chunks, two at once": Case(after(), put(SIZE, at_once=2), NEW, 2, connections=2),
    "put_file, one chunk": Case(after(), put_file(SMALL), NEW_SMALL, 1, size=SMALL),
    "put_file, four chunks": Case(after(), put_file(SIZE), NEW, 3),
    "put of what is stored, four chunks": Case(after(put(SIZE)), put(SIZE), {"look": 1, "list": 1, "data": 4}, 3),
    "put over other bytes, four chunks": Case(
        after(put(SIZE)),
        put(SIZE, first=1, replace=True),
        {"look": 1, "announce": 4, "list": 4, "send": 4, "peers": 1, "list bucket": 2, "delete chunk": 4},
        2,
    ),
    "get, one chunk": Case(
        after(put(SMALL)), call("get", "b", "k", max_paralell_gets=1), {"list": 1, "data": 1}, 1, size=SMALL
    ),
    "get, four chunks": Case(after(put(SIZE)), call("get", "b", "k", max_paralell_gets=1), {"list": 1, "data": 4}, 2),
    "get twice, four chunks, the second time from the cache": Case(
        after(put(SIZE)), get_twice, {"list": 2, "data": 4}, 2
    ),
    "get_to_file, one chunk": Case(after(put(SMALL)), get_to_file, {"list": 1, "data": 1}, 1, size=SMALL),
    "get_to_file, four chunks": Case(after(put(SIZE)), get_to_file, {"list": 1, "data": 4}, 2),
    "get of what is absent": Case(after(), lambda client, folder: client.get("b", "k"), ABSENT, connections=3),
    "get_metadata": Case(after(put(SIZE)), call("get_metadata", "b", "k"), {"list": 1}),
    "exists": Case(after(put(SIZE)), call("exists", "b", "k"), {"list": 1}),
    "exists with check_storage, four chunks": Case(
        after(put(SIZE)), call("exists", "b", "k", check_storage=True), {"list": 1, "data": 4}, 1, connections=4
    ),
    "exists of what is absent": Case(after(), call("exists", "b", "k"), ABSENT, connections=3),
    "exists of what is absent, a key with folders": Case(after(), call("exists", "b", "f/k"), WITH_FOLDERS),
    "delete, four chunks": Case(
        after(put(SIZE)),
        clear,
        {"list": 2, "peers": 1, "list bucket": 2, "delete chunk": 4},
        connections=3,
    ),
    "delete of what is absent": Case(after(), clear, ABSENT, connections=3),
    "get_to_folder, 20 objects": Case(put_many, read_many, {"list bucket": 1, "peers": 1, "data": 20}, 1, size=SMALL),
    "copy_prefix, 20 objects": Case(
        after(put_many, call("delete_bucket", "copies")),
        copy_many,
        {"list bucket": 3, "peers": 3, "data": 20, "look": 20, "announce": 20, "send": 20},
        2,
        size=SMALL,
    ),
    "delete_matching, 20 objects": Case(put_many, delete_many, {"list bucket": 2, "peers": 2, "delete chunk": 20}),
    "delete_keys, 20 objects": Case(put_many, delete_many_keys, {"list bucket": 2, "peers": 2, "delete chunk": 20}),
    "delete_bucket, 20 objects": Case(
        put_many,
        call("delete_bucket", "many", max_concurrency=1),
        {"list bucket": 2, "peers": 2, "delete chunk": 20},
    ),
    "poke of a bulk that is complete": Case(put_bulk, poke, {"list bucket": 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_costs(name: str, cost_of: Callable[..., Costs]) -> None:
    case = CASES[name]
    costs = cost_of(case.operation, case.before)
    assert dict(costs.requests) == case.requests
    assert costs.hashed == case.hashed * case.size
    assert costs.connections == case.connections


RECORDS = Counter({"look": 3, "announce": 3, "list": 3, "send": 3, "list bucket": 2, "peers": 2})
"""Of a new shard: a put of start, plan and end, and two complete listings of the records."""


@pytest.mark.parametrize(
    ("balls", "bucket", "confirmed"),
    [
        (16, {"list": 16}, {"list": 16}),
        (20, {"list bucket": 2, "peers": 2}, {"list bucket": 1, "peers": 1}),
        (200, {"list bucket": 3, "peers": 3}, {"list bucket": 1, "peers": 1}),
    ],
    ids=["few", "many", "two windows"],
)
def test_costs_of_a_bulk(
    cost_of: Callable[..., Costs], balls: int, bucket: dict[str, int], confirmed: dict[str, int]
) -> None:
    """Each ball is looked at, announced and sent; its bucket is listed before the first window and after each one."""
    upload_again = put_bulk_again(f"of-{balls}", balls)
    each = Counter({"look": balls, "announce": balls, "send": balls})
    costs = cost_of(upload_again)
    assert costs.requests == RECORDS + each + Counter(bucket)
    if balls == 200:
        to_peers = sum(costs.requests.values()) - costs.requests["look"] - costs.requests["peers"]
        assert to_peers / balls <= 2.1, "records included"
        assert costs.requests["list bucket"] + costs.requests["list"] <= 8, "the requests that ask every peer"
    # It lists the records once: the plan is found, read back and read; of start and end, each is written; the end is read.
    again = Counter({"list bucket": 1, "peers": 2, "look": 3, "announce": 2, "send": 2, "list": 5, "data": 5})
    assert cost_of(upload_again).requests == again + Counter(confirmed)


@pytest.mark.parametrize(
    ("operation", "of_records"),
    [
        (read_bulk, {"list bucket": 1, "list": 2, "data": 2}),
        (check_bulk, {"list bucket": 1, "list": 2, "data": 1, "peers": 1, "look": 1, "announce": 1, "send": 1}),
    ],
    ids=["get_to_folder", "storage check"],
)
def test_costs_of_the_balls_of_a_bulk(
    cost_of: Callable[..., Costs], operation: Operation, of_records: dict[str, int]
) -> None:
    """One listing of the bulk's bucket, and the data of each ball; besides, the bulk's own records are read."""
    of_balls = Counter({"list bucket": 1, "peers": 1, "data": MANY})
    assert cost_of(operation, put_bulk).requests == of_balls + Counter(of_records)


def test_costs_of_put_bulk(cost_of: Callable[..., Costs]) -> None:
    """Nothing is hashed twice but what is sent: once before the announcement, and once before the data."""

    async def upload(client: AsyncClient, folder: Path) -> None:
        balls: list[Any] = [
            {"bucket_id": "of-put-bulk", "key": f"{number}", "source": bytes([number]) * 100} for number in range(200)
        ]
        unwrap(await client.put_bulk("bulk", balls))
        assert unwrap(await client.await_bulk("bulk"))["successed"] == 200

    costs = cost_of(upload)
    assert costs.requests == {"look": 200, "announce": 200, "send": 200, "list bucket": 3, "peers": 3}
    assert costs.hashed == 2 * 200 * 100


def test_the_documentation_tells_them() -> None:
    told = PAGE.read_text(encoding="utf-8").splitlines()
    for name, case in CASES.items():
        kinds = ", ".join(f"{number} × {kind}" for kind, number in sorted(case.requests.items()))
        row = f"| {name} | {sum(case.requests.values())} | {kinds} | {case.hashed or ''} | {case.connections} |"
        assert row in told
