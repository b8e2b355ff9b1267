"""Every call of the official client's tables, by position and by name, against the local VSS."""

from __future__ import annotations

import inspect
import itertools
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from option import Ok, Result

from airflow_provider_mictlanx.client import (
    AsyncClient,
    AsyncGetResponse,
    AsyncPeer,
    AsyncRouter,
    Bucket,
    Chunk,
    Chunks,
    DataStream,
    DeleteBucketResponse,
    Metadata,
    PeerInfo,
    PeerStats,
    RetryPolicy,
    UnknownError,
    ValidationError,
)
from airflow_provider_mictlanx.client.retry import RetryConfig
from airflow_provider_mictlanx.client.transfer.router_pool import RequestSender
from tests.support.clients import client_of
from tests.support.documented_surface import REQUIRED, Documented, client_table
from tests.support.official_surface import REQUESTS
from tests.support.router_requests import Target, announce, chunk_of, error_of, peer_of, put, read, router_of
from tests.support.sample_bytes import sha256
from tests.support.vss import LocalVSS

DATA = b"some bytes of a chunk" * 10
HEADERS = {"X-Dialect": "official"}
WAYS = ["by position", "by name", "required only"]

ROWS = [(owner, documented) for owner, calls in REQUESTS.items() for documented in calls]
EITHER = {"AsyncRouter": router_of, "AsyncPeer": peer_of}


class OfficialChunk:
    """A chunk as another class has it."""

    def __init__(self, index: int, data: bytes, metadata: dict[str, str] | None = None) -> None:
        self.group_id, self.chunk_id = "another-group", f"another-key-{index}"
        self.index, self.data, self.metadata = index, data, metadata or {}


def call(target: Any, documented: Documented, way: str, values: dict[str, Any], needed: tuple[str, ...] = ()) -> Any:
    """Call a method with values for its documented parameters, and with the documented defaults of the others."""
    arguments = {name: values.get(name, default) for name, default in documented.parameters}
    assert REQUIRED not in arguments.values(), arguments
    method = getattr(target, documented.name)
    if way == "by position":
        return method(*arguments.values())
    if way == "by name":
        return method(**arguments)
    required = [arguments[name] for name, default in documented.parameters if default is REQUIRED]
    optional = [name for name, default in documented.parameters if default is not REQUIRED]
    return method(*required, **{name: arguments[name] for name in optional if name in needed})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("owner", "documented"), ROWS, ids=lambda value: getattr(value, "name", value))
async def test_every_request(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, owner: str, documented: Documented, way: str
) -> None:
    name = documented.name
    async with EITHER[owner](vss) as target:
        await put(target, bucket_id, "ball", DATA)
        values = {
            "bucket_id": bucket_id,
            "key": "ball" if name == "get_chunks_metadata" else "ball_0",
            "ball_id": "ball",
            "checksum": sha256(DATA),
            "size": len(DATA),
            "producer_id": "somebody",
            "content_type": "text/plain",
            "tags": {"index": "0"},
            "value": DATA,
            "chunks": [DATA[:5], DATA[5:]],
            "metadata": {"producer_id": "somebody"},
            "peers": [PeerInfo(peer_id="peer-0", ip_addr="127.0.0.1", port=vss.peer_port(0))],
            "sink_folder_path": str(tmp_path),
            "filename": "file",
            "timeout": 30,
            "headers": HEADERS,
            "end": 1_000_000,  # all that this process has stored so far
        }
        if name == "put_metadata":
            values |= {"ball_id": "new", "key": "new_0"}
        task_id = await announce(target, chunk_of(bucket_id, "waiting", DATA))
        if name in ("put_data", "put_chunked"):
            values |= {"task_id": task_id, "key": "waiting_0"}
        vss.reset_requests()
        needed = ("bucket_id", "sink_folder_path")
        if name == "get_by_checksum_to_file":  # only older routers answer it
            older = {"status": 200, "body": DATA.decode(), "content_type": "application/octet-stream"}
            with vss.fault("status", path="/checksum/", **older):
                result = await call(target, documented, way, values, needed)
        else:
            result = await call(target, documented, way, values, needed)
        assert isinstance(result, Result)
        if way != "required only":
            assert vss.requests(server="")[0]["headers"]["x-dialect"] == "official"
        if (owner, name) == ("AsyncRouter", "update_metadata"):  # routers of this version answer 500
            assert type(error_of(result)) is UnknownError
            return
        answer = result.unwrap()
        assert type(answer).__name__ == documented.gives
        await check_answer(target, name, answer, bucket_id, way)
        if name == "flush_tasks":
            assert (await target.put_chunked(task_id, DATA)).is_err
        if name == "replicate":
            async with peer_of(vss, 1) as other:
                assert await read(other, bucket_id, "ball_0") == DATA


async def check_answer(target: Target, name: str, answer: Any, bucket_id: str, way: str) -> None:
    """Check what a request returned, or what it changed."""
    if isinstance(answer, DataStream):
        async with answer as pieces:
            assert b"".join([piece async for piece in pieces]) == DATA
    elif name in ("get_to_file", "get_by_checksum_to_file"):
        assert Path(answer).read_bytes() == DATA
        if way != "required only":
            assert Path(answer).name == "file"
    elif name in ("delete", "delete_by_ball_id"):
        assert answer.n_deletes == 1
        assert (await target.get_streaming(bucket_id, "ball_0", headers={"Force-Get": "1"})).is_err
    elif name in ("put_chunked", "put_data"):
        assert await read(target, bucket_id, "waiting_0", headers={"Force-Get": "1"}) == DATA
    elif name == "put_metadata":
        known = (await target.get_metadata(bucket_id, "new_0")).unwrap().metadata
        assert (known.bucket_id, known.ball_id, known.key) == (bucket_id, "new", "new_0")
        assert (known.size, known.checksum) == (len(DATA), sha256(DATA))
        assert (known.producer_id, known.content_type) == ("somebody", "text/plain")
        if way != "required only":
            assert known.tags["index"] == "0"
    elif name == "disable":
        assert (await target.get_metadata(bucket_id, "ball_0")).unwrap().metadata.is_disabled
    elif name in ("get_chunks_metadata", "get_by_ball_id"):
        assert [chunk.key for chunk in answer.chunks] == ["ball_0"]
    elif name == "get_bucket_metadata":
        assert "ball_0" in {chunk.key for chunk in answer.balls}
    elif name in ("get_balls", "get_all_ball_sizes"):
        assert (bucket_id, "ball_0", len(DATA)) in answer
    elif name == "get_balls_len":
        assert isinstance(target, AsyncPeer)
        assert answer == len((await target.get_balls()).unwrap())
    elif name == "get_stats" and isinstance(target, AsyncRouter):
        assert {peer_id: type(stats) for peer_id, stats in answer.items()} == {
            f"peer-{number}": PeerStats for number in range(3)
        }


CLIENT_CALLS = client_table()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("documented", CLIENT_CALLS, ids=lambda documented: documented.name)
async def test_every_call_of_the_client(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, documented: Documented, way: str
) -> None:
    name = documented.name
    source = tmp_path / "source.txt"
    source.write_bytes(DATA)
    values = {
        "bucket_id": bucket_id,
        "key": "ball_0" if name in ("get_metadata_by_key", "delete_by_key") else "ball",
        "ball_id": "ball",
        "value": DATA,
        "path": str(source),
        "chunks": iter([OfficialChunk(1, DATA[5:]), OfficialChunk(0, DATA[:5], {"color": "red"})]),
        "chunk": OfficialChunk(0, DATA),
        "index": 0,
        "bulk_id": "bulk",
        "balls": [{"bucket_id": bucket_id, "ball_id": "ball", "source": DATA}],
        "output_path": str(tmp_path / "out"),
        "timeout": 30,
    }
    async with client_of(vss) as client:
        if name == "await_bulk":
            assert (await client.put_bulk("bulk", values["balls"])).is_ok
        elif not name.startswith("put"):
            assert (await client.put(bucket_id, "ball", DATA)).unwrap() is True
        answer = call(client, documented, way, values, ("bucket_id", "output_path"))
        if name == "get_chunks":
            found = [(metadata, bytes(data)) async for metadata, data in answer]
            assert [(type(metadata), data) for metadata, data in found] == [(Metadata, DATA)]
            return
        result = await answer
        assert isinstance(result, Result)
        value = result.unwrap()
        expected = typing.get_type_hints(getattr(AsyncClient, name))["return"]
        assert type(value) is (dict if typing.is_typeddict(expected) else typing.get_origin(expected) or expected)
        if name == "put_bulk":
            assert (await client.await_bulk("bulk")).unwrap()["successed"] == 1
        if name.startswith("put"):
            assert value is True
            assert bytes((await client.get(bucket_id, "ball")).unwrap().data) == DATA
        if isinstance(value, AsyncGetResponse):
            assert bytes(value.data) == DATA
        if isinstance(value, Bucket):
            assert [ball.ball_id for ball in value] == ["ball"]
        if isinstance(value, DeleteBucketResponse):
            assert (value.deleted, value.failed) == (1, 0)
        if name == "get_to_file":
            assert Path(value).read_bytes() == DATA
        if name in ("delete", "delete_by_key"):
            assert value.n_deletes == 1


async def test_chunks_of_another_class_keep_their_tags(vss: LocalVSS, bucket_id: str) -> None:
    chunks = [OfficialChunk(0, b"first", {"color": "red"}), OfficialChunk(1, b"second")]
    async with client_of(vss) as client:
        assert (await client.put_chunks(bucket_id, "ball", chunks)).unwrap() is True  # type: ignore[arg-type]
        first, second = (await client.get(bucket_id, "ball")).unwrap().metadatas
        assert (first.key, first.tags["color"]) == ("ball_0", "red")
        assert "color" not in second.tags


async def test_answer_is_converted_to_a_dict(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        (await client.put(bucket_id, "ball", DATA)).unwrap()
        answer = (await client.get_metadata_by_key(bucket_id, "ball_0")).unwrap()
        assert msgspec.to_builtins(answer)["metadata"]["checksum"] == sha256(DATA)


async def test_chunks_object_is_put(vss: LocalVSS, bucket_id: str) -> None:
    async with client_of(vss) as client:
        chunks = Chunks.from_bytes(DATA, "ball", chunk_size=100).unwrap()
        assert (await client.put_chunks(bucket_id, "ball", chunks)).unwrap() is True
        got = (await client.get(bucket_id, "ball")).unwrap()
        assert bytes(got.data) == DATA
        assert [metadata.size for metadata in got.metadatas] == [100, 100, 10]


async def test_array_is_put_and_read_back(vss: LocalVSS, bucket_id: str) -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(6, dtype="float64").reshape(2, 3)
    async with client_of(vss) as client:
        assert (await client.put_single_chunk(bucket_id, "ball", Chunk.from_ndarray("ball", 0, array))).unwrap() is True
        chunk, _ = (await client.get_chunk(bucket_id, "ball", 0)).unwrap()
        assert np.array_equal(chunk.to_ndarray().unwrap(), array)
        assert chunk.to_list().unwrap() == array.tolist()


async def test_bucket_is_required(vss: LocalVSS) -> None:
    """The official default of an empty bucket id names no object."""
    async with router_of(vss) as router, peer_of(vss) as peer:
        for target in (router, peer):
            error = error_of(await target.get_chunks_metadata("ball"))
            assert type(error) is ValidationError
            assert "bucket_id" in str(error)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": -1}, "size must be greater than or equal to 0, got -1"),
        ({"key": 5}, "key must be a valid string, got 5"),
        ({"tags": {"a": 1}}, "tags.a must be a valid string, got 1"),
    ],
    ids=repr,
)
async def test_invalid_announcement_is_not_sent(vss: LocalVSS, changes: dict[str, Any], said: str) -> None:
    fields = {"key": "a_0", "size": 1, "checksum": sha256(b"a"), "producer_id": "me", "content_type": "text/plain"}
    async with router_of(vss) as router, peer_of(vss) as peer:
        vss.reset_requests()
        for target in (router, peer):
            error = error_of(await target.put_metadata(**{**fields, "ball_id": "a", "bucket_id": "b", **changes}))
            assert type(error) is ValidationError
            assert str(error) == said
        assert not vss.requests(server="")


def test_only_documented_parameters_are_positional_in_the_client() -> None:
    for documented in CLIENT_CALLS:
        parameters = inspect.signature(getattr(AsyncClient, documented.name)).parameters.values()
        positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
        assert positional == [name for name, _ in documented.parameters]


FORCED: dict[str, Callable[[AsyncClient, str, Path, bool], Any]] = {
    "get": lambda client, bucket, _, force: client.get(bucket, "ball", force=force),
    "get_chunk": lambda client, bucket, _, force: client.get_chunk(bucket, "ball", 1, force=force),
    "get_chunks": lambda client, bucket, _, force: _read_chunks(client, bucket, force),
    "get_to_file": lambda client, bucket, folder, force: client.get_to_file(bucket, "ball", folder, force=force),
    "delete": lambda client, bucket, _, force: client.delete("ball", bucket, force=force),
    "delete_by_key": lambda client, bucket, _, force: client.delete_by_key("ball_1", bucket, force=force),
    "delete_bucket": lambda client, bucket, _, force: client.delete_bucket(bucket, force=force),
}


async def _read_chunks(client: AsyncClient, bucket_id: str, force: bool, **options: int) -> Result[int, Any]:
    return Ok(len([data async for _, data in client.get_chunks(bucket_id, "ball", force=force, **options)]))


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("name", FORCED)
async def test_force_is_sent_as_a_header(vss: LocalVSS, bucket_id: str, tmp_path: Path, name: str, force: bool) -> None:
    async with client_of(vss) as client:
        (await client.put(bucket_id, "ball", DATA, chunk_size=100)).unwrap()
        vss.reset_requests()
        assert (await FORCED[name](client, bucket_id, tmp_path, force)).is_ok
    asked = [request["headers"] for request in vss.requests(path=f"{bucket_id}/ball_[01]$")]
    assert asked
    if name.startswith("get"):
        assert {headers.get("force-get") for headers in asked} == {"1" if force else None}
    else:
        assert {headers["force"] for headers in asked} == {"1" if force else "0"}


WAITS = {"timeout": 7, "max_tries": 3, "max_retries": 3, "max_backoff": 2, "max_delay": 4, "delay": 0.4}
WAITS |= {"backoff_factor": 0.5, "jitter": False}
POLICY = RetryPolicy(retries=2, initial_delay=0.2, backoff_factor=3, max_delay=2, jitter=False)


def expected_retries(documented: Documented) -> RetryConfig:
    """Return what the documented parameters mean, with the values above."""
    names = dict(documented.parameters)
    if "max_retries" in names:
        return RetryConfig(3, 2 if "max_backoff" in names else 4, 0.2, jitter=False)
    if {"retry_policy", "restart_policy"} & names.keys():
        return RetryConfig(3, 2, 0.2, 3, jitter=False)
    return RetryConfig(3, 2) if "max_tries" in names else RetryConfig()


@pytest.mark.parametrize(
    "documented", [d for d in CLIENT_CALLS if "timeout" in dict(d.parameters)], ids=lambda value: value.name
)
async def test_timeout_and_retries_are_those_of_the_call(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documented: Documented
) -> None:
    used: list[tuple[float, RetryConfig]] = []

    def sender(client: AsyncClient, timeout: float, headers: Any, retry: RetryConfig | None = None) -> RequestSender:
        made = make_sender(client, timeout, headers, retry)
        used.append((made.options["timeout"], made.retry))
        return made

    make_sender = AsyncClient._sender
    monkeypatch.setattr(AsyncClient, "_sender", sender)
    (tmp_path / "source").write_bytes(DATA)
    values = WAITS | {
        "bucket_id": bucket_id,
        "key": "ball_0" if documented.name in ("get_metadata_by_key", "delete_by_key") else "ball",
        "ball_id": "ball",
        "value": DATA,
        "path": tmp_path / "source",
        "chunks": [Chunk("ball", 0, DATA)],
        "chunk": Chunk("ball", 0, DATA),
        "index": 0,
        "output_path": tmp_path,
        "retry_policy": POLICY,
        "restart_policy": POLICY,
    }
    async with client_of(vss) as client:
        (await client.put(bucket_id, "ball", DATA)).unwrap()
        used.clear()
        answer = call(client, documented, "by name", values)
        if documented.name == "get_chunks":
            assert [data async for _, data in answer]
        else:
            assert (await answer).is_ok
    assert used == [(7, expected_retries(documented))]


async def test_options_of_a_bulk_item_are_those_of_its_put(
    vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"tags": {"a": "b"}, "rf": 2, "chunk_size": "1kb", "timeout": 7}
    given |= {"max_tries": 3, "max_concurrency": 4, "max_backoff": 2}
    used: list[dict[str, Any]] = []
    upload = AsyncClient.upload

    async def spied(client: AsyncClient, **options: Any) -> Any:
        used.append({name: options[name] for name in given})
        return await upload(client, **options)

    monkeypatch.setattr(AsyncClient, "upload", spied)
    async with client_of(vss) as client:
        item = {"bucket_id": bucket_id, "ball_id": "ball", "source": DATA, **given}
        (await client.put_bulk("bulk", [item])).unwrap()  # type: ignore[list-item]
        assert (await client.await_bulk("bulk")).unwrap()["successed"] == 1
    assert used == [given]


IN_FLIGHT: dict[str, Callable[[AsyncClient, str, Path, int], Any]] = {
    "get": lambda client, bucket, _, limit: client.get(bucket, "ball", max_paralell_gets=limit),
    "get_chunks": lambda client, bucket, _, limit: _read_chunks(client, bucket, False, max_parallel_gets=limit),
    "get_to_file": lambda client, bucket, folder, limit: client.get_to_file(
        bucket, "ball", folder / "out", max_paralell_gets=limit
    ),
    "put": lambda client, bucket, _, limit: client.put(bucket, "new", DATA, chunk_size=60, max_concurrency=limit),
    "put_file": lambda client, bucket, folder, limit: client.put_file(
        bucket, "new", folder / "source", chunk_size=60, max_concurrency=limit
    ),
    "put_chunks": lambda client, bucket, _, limit: client.put_chunks(
        bucket, "new", Chunks.from_bytes(DATA, "new", chunk_size=60).unwrap(), max_concurrency=limit
    ),
}


@pytest.mark.parametrize("name", IN_FLIGHT)
async def test_one_chunk_in_flight_is_one_at_a_time(vss: LocalVSS, bucket_id: str, tmp_path: Path, name: str) -> None:
    (tmp_path / "source").write_bytes(DATA)
    data = "/data/" if name.startswith("put") else f"{bucket_id}/ball_[0-9]$"
    async with client_of(vss) as client:
        (await client.put(bucket_id, "ball", DATA, chunk_size=60)).unwrap()
        vss.reset_requests()
        with vss.fault("latency", path=data, seconds=0.1):
            assert (await IN_FLIGHT[name](client, bucket_id, tmp_path, 1)).is_ok
    times = sorted(request["at"] for request in vss.requests(path=data))
    assert len(times) >= 3
    assert all(after - before > 0.09 for before, after in itertools.pairwise(times))


WHOLE = {"num_chunks": "2", "full_checksum": sha256(DATA + b"rest")}
OPTIONS: dict[str, Callable[..., Any]] = {
    "put": lambda client, bucket, _, **options: client.put(bucket, "ball", DATA, **options),
    "put_file": lambda client, bucket, path, **options: client.put_file(bucket, "ball", path, **options),
    "put_chunks": lambda client, bucket, _, **options: client.put_chunks(
        bucket, "ball", [Chunk("ball", 0, DATA)], **options
    ),
    "put_single_chunk": lambda client, bucket, _, **options: client.put_single_chunk(
        bucket, "ball", Chunk("ball", 0, DATA), **options
    ),
    "one of several": lambda client, bucket, _, **options: client.put_single_chunk(
        bucket, "ball", Chunk("ball", 0, DATA, metadata=WHOLE), **options
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
async def test_rf_and_tags_are_those_of_the_call(vss: LocalVSS, bucket_id: str, tmp_path: Path, name: str) -> None:
    (tmp_path / "source").write_bytes(DATA)
    async with client_of(vss) as client, router_of(vss) as router:
        tags = {"color": "red", "index": "7", "group_id": "another"}
        assert (await OPTIONS[name](client, bucket_id, tmp_path / "source", rf=2, tags=tags)).unwrap() is True
        chunks = (await router.get_chunks_metadata("ball", bucket_id)).unwrap().chunks
    assert [(chunk.key, chunk.tags["color"]) for chunk in chunks] == [("ball_0", "red")] * 2
    assert {(chunk.tags["index"], chunk.tags["group_id"]) for chunk in chunks} == {("0", "ball")}
