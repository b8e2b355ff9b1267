"""``copy``: within a storage space and between two, verified on both sides, nothing sent twice."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.client import (
    BallConflictError,
    IntegrityError,
    NotFoundError,
    ValidationError,
)
from airflow_provider_mictlanx.client.result import unwrap
from tests.support.clients import checked_client, client_of
from tests.support.raw_requests import RawRequests
from tests.support.sample_bytes import cut, pattern, sha256
from tests.support.vss import LocalVSS

DATA = pattern(1000)


async def copied(vss: LocalVSS, bucket_id: str, **arguments: Any) -> Any:
    """Copy ``ball`` of the bucket to ``copy`` of the same one."""
    given: dict[str, Any] = {"dest_bucket_id": bucket_id, "dest_key": "copy", "max_tries": 2, **arguments}
    async with checked_client(vss) as client:
        return unwrap(await client.copy(bucket_id, "ball", **given))


async def test_copy_keeps_the_cut_and_the_tags(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, "ball", cut(DATA, 300, 10), tags={"run": "r1", "extension": "bin", "fullname": "a.bin"})
    report = await copied(vss, bucket_id, rf=2)
    assert (report.size, report.checksum, report.num_chunks, report.replicas) == (1000, sha256(DATA), 3, 2)
    assert (report.uploaded, report.ball_id) == (True, "copy")
    listed = {int(chunk["tags"]["index"]): chunk for chunk in wire.listed(bucket_id, "copy")}
    assert [listed[index]["size"] for index in range(3)] == [300, 10, 690]
    tags = listed[0]["tags"]
    assert (tags["run"], tags["extension"], tags["fullname"], tags["group_id"]) == ("r1", "bin", "a.bin", "copy")
    assert b"".join(wire.data(bucket_id, f"copy_{index}") or b"" for index in range(3)) == DATA


async def test_unsafe_key_is_kept_in_tags_of_its_own_ball_only(vss: LocalVSS, bucket_id: str) -> None:
    async with checked_client(vss) as client:
        (await client.put(bucket_id, "a/one.txt", b"x", tags={"run": "r1"})).unwrap()
        (await client.copy(bucket_id, "a/one.txt", bucket_id, "b/two.txt")).unwrap()
        (await client.copy(bucket_id, "a/one.txt", bucket_id, "three")).unwrap()
        balls = {ball.key: ball for ball in (await client.get_bucket_metadata(bucket_id)).unwrap()}
        assert set(balls) == {"a/one.txt", "b/two.txt", "three"}
        assert {ball.tags["run"] for ball in balls.values()} == {"r1"}
        assert balls["b/two.txt"].fullname == "two.txt"
        assert balls["three"].full_path == ""


@pytest.mark.parametrize("data", [b"", b"x", DATA])
async def test_same_bytes_again_send_nothing(vss: LocalVSS, bucket_id: str, data: bytes) -> None:
    RawRequests(vss).put(bucket_id, "ball", [data])
    assert (await copied(vss, bucket_id)).uploaded is True or data == b""
    vss.reset_requests()
    report = await copied(vss, bucket_id)
    assert (report.uploaded, report.size) == (False, len(data))
    assert not vss.requests("POST")
    assert not vss.requests("GET", rf"/buckets/{bucket_id}/ball_0$") or data == b"", "the original is not read"


async def test_what_was_begun_in_another_cut_is_gone_on_with(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, "ball", cut(DATA, 400, 400))
    wire.put(bucket_id, "copy", cut(DATA, 300, 300, 300), only=[0, 2])
    assert (await copied(vss, bucket_id)).num_chunks == 4
    assert b"".join(wire.data(bucket_id, f"copy_{index}") or b"" for index in range(4)) == DATA


async def test_other_bytes_are_a_conflict_unless_replaced(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, "ball", cut(DATA, 500))
    wire.put(bucket_id, "copy", [b"other"])
    with pytest.raises(BallConflictError):
        await copied(vss, bucket_id)
    assert wire.data(bucket_id, "copy_0") == b"other"
    assert (await copied(vss, bucket_id, replace=True)).uploaded
    assert wire.data(bucket_id, "copy_1") == DATA[500:]


async def test_a_wrong_original_is_told_before_anything_is_replaced(vss: LocalVSS, bucket_id: str) -> None:
    """Every chunk is as announced, but together they are not what the writer said of the whole."""
    wire = RawRequests(vss)
    for index, data in enumerate(cut(DATA, 500)):
        task, _ = wire.announce(bucket_id, "ball", index, data, b"something else", 2)
        wire.send(task, data)
    wire.put(bucket_id, "copy", [b"what was there"])
    vss.reset_requests()
    with pytest.raises(IntegrityError, match="announced wrong chunks"):
        await copied(vss, bucket_id, replace=True)
    assert wire.data(bucket_id, "copy_0") == b"what was there"
    assert not vss.requests("POST", "metadata")


async def test_copy_with_newest_version_lost_takes_next_older(vss: LocalVSS, bucket_id: str) -> None:
    wire = RawRequests(vss)
    wire.put(bucket_id, "ball", cut(DATA, 500))
    wire.put(bucket_id, "ball", [b"announced, never sent"], announced_only=[0])
    assert (await copied(vss, bucket_id)).checksum == sha256(DATA)


async def test_nothing_there(vss: LocalVSS, bucket_id: str) -> None:
    with pytest.raises(NotFoundError):
        await copied(vss, bucket_id)
    with pytest.raises(ValidationError, match="safe id"):
        await copied(vss, bucket_id, dest_bucket_id="a.b")


async def test_to_another_space_in_bounded_memory(
    vss: LocalVSS, own_vss: Callable[..., LocalVSS], bucket_id: str
) -> None:
    size, chunk = 8_000_000, 200_000
    checksum = sha256(pattern(chunk) * (size // chunk))
    other = own_vss(peers=1)

    async with checked_client(vss) as client:
        data = pattern(chunk) * (size // chunk)
        (await client.put(bucket_id, "ball", data, chunk_size=chunk)).unwrap()
        del data
    async with client_of(vss) as client, client_of(other, client_id="copier") as dest:
        tracemalloc.start()
        try:
            report = (await client.copy(bucket_id, "ball", bucket_id, dest=dest, max_concurrency=3)).unwrap()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (report.checksum, report.uploaded) == (checksum, True)
        ball = (await dest.get_metadata(bucket_id, "ball", check_storage=True)).unwrap()
        assert (ball.checksum, ball.num_chunks, ball.chunks[0].producer_id) == (checksum, 40, "copier")
    assert peak < size / 2
