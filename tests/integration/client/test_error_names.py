"""Every error of the surface names the bucket and the key as the caller wrote it, before anything else, and the router."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import AsyncClient, Chunk, MictlanXError
from airflow_provider_mictlanx.client.object_ids import make_ball_id
from tests.support.clients import checked_client
from tests.support.vss import LocalVSS

Call = Callable[[AsyncClient, str, str, Path], Awaitable[Any]]

UNSAFE = "2026/a report.csv"
LONG_ID = re.compile(r"[0-9a-f]{64}")


async def _first_of_chunks(client: AsyncClient, bucket_id: str, key: str, _: Path) -> None:
    async for _ in client.get_chunks(bucket_id, key, max_retries=2):
        return


CALLS: dict[str, Call] = {
    "put": lambda c, b, k, _: c.put(b, k, b"1", max_tries=2),
    "put_chunks": lambda c, b, k, _: c.put_chunks(b, k, [Chunk("x", 0, b"1")], max_tries=2),
    "put_single_chunk": lambda c, b, k, _: c.put_single_chunk(b, k, Chunk("x", 0, b"1"), max_tries=2),
    "get": lambda c, b, k, _: c.get(b, k, max_retries=2),
    "get_chunk": lambda c, b, k, _: c.get_chunk(b, k, 0, max_retries=2),
    "get_chunks": _first_of_chunks,
    "get_to_file": lambda c, b, k, folder: c.get_to_file(b, k, folder, max_retries=2),
    "download": lambda c, b, k, folder: c.download(b, k, folder, max_tries=2),
    "copy": lambda c, b, k, _: c.copy(b, k, f"{b}-copy", f"copies/{k}", max_tries=2),
    "exists": lambda c, b, k, _: c.exists(b, k),
    "exists_by_reading": lambda c, b, k, _: c.exists(b, k, check_storage=True),
    "get_metadata": lambda c, b, k, _: c.get_metadata(b, k),
    "delete": lambda c, b, k, _: c.delete(k, b),
}
OF_BUCKETS: dict[str, Callable[[AsyncClient, str], Awaitable[Any]]] = {
    "list_balls": lambda c, b: c.list_balls(b),
    "get_bucket_metadata": lambda c, b: c.get_bucket_metadata(b),
    "get_chunks_by_bucket_id": lambda c, b: c.get_chunks_by_bucket_id(b),
    "delete_bucket": lambda c, b: c.delete_bucket(b),
}


@pytest.fixture(scope="module")
def own_space(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with LocalVSS(tmp_path_factory.mktemp("named"), peers=2) as running:
        yield running


async def error_of(awaited: Awaitable[Any]) -> MictlanXError:
    try:
        result = await awaited
    except MictlanXError as error:
        return error
    error = result.unwrap_err()
    assert isinstance(error, MictlanXError)
    return error


def assert_named(error: MictlanXError, named: str, key: str, vss: LocalVSS) -> None:
    message = str(error)
    before, found, _ = message.partition(named)
    assert found, message
    assert not re.search(r"router|peer|http|status|[0-9a-f]{12}…", before), message
    assert vss.url() in message, message
    assert error.args[0] == message
    if key == UNSAFE:
        assert not LONG_ID.search(message), message


@pytest.mark.parametrize("key", ["safe-key", UNSAFE])
@pytest.mark.parametrize("status", [403, 404, 500])
@pytest.mark.parametrize("call", CALLS)
async def test_refusal_names_bucket_key_and_router(
    own_space: LocalVSS, bucket_id: str, tmp_path: Path, call: str, status: int, key: str
) -> None:
    async with checked_client(own_space) as client:
        with own_space.fault("status", path=f"/buckets/{bucket_id}/", status=status):
            error = await error_of(CALLS[call](client, bucket_id, key, tmp_path))
        assert_named(error, f"{bucket_id}/{key}", key, own_space)


@pytest.mark.parametrize("key", ["safe-key", UNSAFE])
@pytest.mark.parametrize("call", ["get", "get_chunk", "get_chunks", "get_to_file", "download", "copy", "get_metadata"])
async def test_absent_object_is_named_with_the_router(
    own_space: LocalVSS, bucket_id: str, tmp_path: Path, call: str, key: str
) -> None:
    async with checked_client(own_space) as client:
        error = await error_of(CALLS[call](client, bucket_id, key, tmp_path))
        assert error.error_code == 404
        assert_named(error, f"{bucket_id}/{key}", key, own_space)


@pytest.mark.parametrize("call", ["get", "get_chunks", "get_to_file", "download", "copy", "exists_by_reading"])
async def test_lost_data_names_bucket_key_and_router(
    own_space: LocalVSS, bucket_id: str, tmp_path: Path, call: str
) -> None:
    """The last peer is away, so that nothing can be read, nor be said to be absent."""
    async with checked_client(own_space) as client:
        (await client.put(bucket_id, UNSAFE, b"1" * 100)).unwrap()
        data = rf"/buckets/{bucket_id}/{make_ball_id(UNSAFE)}_0$"
        with own_space.fault("status", method="GET", path=data, status=404):
            away = own_space.set_fault("status", method="GET", path="/peers$", status=503)
            error = await error_of(CALLS[call](client, bucket_id, UNSAFE, tmp_path))
            away.off()
        assert_named(error, f"{bucket_id}/{UNSAFE}", UNSAFE, own_space)


async def test_other_bytes_and_deadline_name_bucket_key_and_router(own_space: LocalVSS, bucket_id: str) -> None:
    async with checked_client(own_space) as client:
        named = f"{bucket_id}/{UNSAFE}"
        (await client.put(bucket_id, UNSAFE, b"1")).unwrap()
        assert_named(await error_of(client.put(bucket_id, UNSAFE, b"2")), named, UNSAFE, own_space)
        with own_space.fault("latency", path=f"/buckets/{bucket_id}/", seconds=5):
            assert_named(await error_of(client.get(bucket_id, UNSAFE, deadline=0.2)), named, UNSAFE, own_space)


@pytest.mark.parametrize("call", OF_BUCKETS)
async def test_error_of_a_bucket_names_it_and_the_router(own_space: LocalVSS, bucket_id: str, call: str) -> None:
    async with checked_client(own_space) as client:
        with own_space.fault("status", path=f"/buckets/{bucket_id}/", status=403):
            assert_named(await error_of(OF_BUCKETS[call](client, bucket_id)), bucket_id, "", own_space)


async def test_copy_names_both_objects(own_space: LocalVSS, bucket_id: str) -> None:
    async with checked_client(own_space) as client:
        (await client.put(bucket_id, UNSAFE, b"1")).unwrap()
        with own_space.fault("status", path=f"/buckets/{bucket_id}-copy/", status=403):
            error = await error_of(CALLS["copy"](client, bucket_id, UNSAFE, Path()))
        assert_named(error, f"{bucket_id}/{UNSAFE}", UNSAFE, own_space)
        assert f"{bucket_id}-copy/copies/{UNSAFE}" in str(error)


async def test_ball_id_that_the_caller_wrote_stays_whole(own_space: LocalVSS, bucket_id: str) -> None:
    ball_id = make_ball_id(UNSAFE)
    async with checked_client(own_space) as client:
        assert f"{bucket_id}/{ball_id} does not exist" in str(await error_of(client.get(bucket_id, ball_id)))


async def test_several_routers_are_named_and_many_are_counted(own_space: LocalVSS, bucket_id: str) -> None:
    where = f"127.0.0.1:{own_space.port}"

    async def absent(number: int) -> str:
        routers = ",".join(f"r{index}@{where}" for index in range(number))
        async with AsyncClient(f"mictlanx://{routers}/?protocol=http", "tests", False, log_output_path=None) as client:
            return str(await error_of(client.get(bucket_id, "a")))

    async with checked_client(own_space) as _:
        url = own_space.url()
        assert (await absent(2)).endswith(f" [r0 {url}, r1 {url}]")
        assert (await absent(5)).endswith(f" [r0 {url}, r1 {url}, r2 {url} and 2 more]")


async def test_403_says_what_to_check(own_space: LocalVSS, bucket_id: str) -> None:
    async with checked_client(own_space) as client:
        with own_space.fault("status", path=f"/buckets/{bucket_id}/", status=403):
            error = await error_of(client.get(bucket_id, "a"))
        assert "status 403" in str(error)
        assert "check" in str(error)
        assert "token" in str(error)
        assert "proxy" in str(error)


async def test_failures_of_a_bulk_name_their_balls(own_space: LocalVSS, bucket_id: str) -> None:
    balls: list[Any] = [{"bucket_id": bucket_id, "key": f"in/{n}", "source": b"1", "max_tries": 1} for n in range(3)]
    async with checked_client(own_space) as client:
        with own_space.fault("status", path=f"/buckets/{bucket_id}/", status=403):
            (await client.put_bulk("bulk", balls, max_concurrency=1, stop_on_failure=True)).unwrap()
            response = (await client.await_bulk("bulk")).unwrap()
        assert response["failed"] == 3
        for failure in response["failures"]:
            assert f"{bucket_id}/{failure['item']['key']}" in str(failure["error"])


async def test_a_wrong_argument_is_not_blamed_on_a_router(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        error = await error_of(client.get(bucket_id, "a", deadline=-1))
        assert "deadline" in str(error)
        assert vss.url() not in str(error)
