"""Balls written by one client are read by the other: both layouts of the official client, its tags and its ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_mictlanx.client import AsyncRouter, PutMetadataRequest
from tests.support.clients import checked_client, client_of
from tests.support.sample_bytes import pattern, sha256
from tests.support.vss import LocalVSS

CHUNK = 1000
DATA = pattern(3250)

LAYOUTS = {
    "put": [1000, 1000, 1250],  # of bytes: what is left over is appended to the last chunk
    "put_file": [1000, 1000, 1000, 250],  # of a file: what is left over is a chunk of its own
}


def router_of(vss: LocalVSS) -> AsyncRouter:
    return AsyncRouter("router-0", "127.0.0.1", vss.port)


def pieces(sizes: list[int]) -> list[bytes]:
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [DATA[start : start + size] for start, size in zip(starts, sizes, strict=True)]


async def write_as_the_official_client(
    router: AsyncRouter, bucket_id: str, ball_id: str, parts: list[bytes], tags: dict[str, str]
) -> None:
    """Announce and send each chunk; ``chunk_size`` is what was asked for, whatever the last chunk has."""
    for index, part in enumerate(parts):
        announcement = PutMetadataRequest(
            bucket_id=bucket_id,
            key=f"{ball_id}_{index}",
            ball_id=ball_id,
            checksum=sha256(part),
            size=len(part),
            producer_id="official",
            replication_factor=2,
            tags={
                "index": str(index),
                "num_chunks": str(len(parts)),
                "full_checksum": sha256(b"".join(parts)),
                "chunk_size": str(CHUNK),
                "group_id": ball_id,
                "updated_at": "1",
                **tags,
            },
        )
        task = (await router.announce(announcement)).unwrap()
        assert len((await router.put_chunked(task.tasks_ids[0], part)).unwrap().peer_ids) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_what_the_official_client_writes_is_read(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, layout: str
) -> None:
    file_tags = {
        "fullname": "frame.jpg",
        "filename": "frame",
        "extension": "jpg",
        "bucket_relative_path": "2026/",
        "full_path": "2026/frame.jpg",
    }
    async with checked_client(vss) as client:
        async with router_of(vss) as router:
            await write_as_the_official_client(router, bucket_id, "frame", pieces(LAYOUTS[layout]), file_tags)
        got = (await client.get(bucket_id, "frame")).unwrap()
        assert bytes(got.data) == DATA
        assert [metadata.size for metadata in got.metadatas] == LAYOUTS[layout]
        path = (await client.get_to_file(bucket_id, "frame", str(tmp_path))).unwrap()
        assert path == str(tmp_path / "frame.jpg")
        assert Path(path).read_bytes() == DATA
        chunks = [bytes(data) async for _, data in client.get_chunks(bucket_id, "frame", order=True)]
        assert chunks == pieces(LAYOUTS[layout])
        ball = (await client.get_metadata(bucket_id, "frame")).unwrap()
        assert (ball.key, ball.size, ball.fullname, ball.extension) == ("frame", len(DATA), "frame.jpg", "jpg")
        # The same bytes are stored, however they are cut: nothing is sent.
        assert (await client.put(bucket_id, "frame", DATA, chunk_size=CHUNK)).unwrap() is False
        (tmp_path / "source").write_bytes(DATA)
        assert (await client.put_file(bucket_id, "frame", tmp_path / "source", chunk_size=CHUNK)).unwrap() is False
        assert (await client.delete("frame", bucket_id)).unwrap().n_deletes == 2 * len(LAYOUTS[layout])


async def test_sha256_ids_are_found_by_name_and_by_id(vss: LocalVSS, bucket_id: str) -> None:
    """An application stores under the SHA-256 of a name and keeps the name in a tag; so does this client."""
    name = "studies/2026/scan 1.dcm"
    async with checked_client(vss) as client:
        async with router_of(vss) as router:
            ball_id = sha256(name.encode())
            await write_as_the_official_client(router, bucket_id, ball_id, [DATA], {"full_path": name})
        assert bytes((await client.get(bucket_id, name)).unwrap().data) == DATA
        assert bytes((await client.get(bucket_id, ball_id)).unwrap().data) == DATA
        assert [ball.key for ball in (await client.list_balls(bucket_id)).unwrap()] == [name]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("key", ["frame", "2026/frame.jpg"])
async def test_what_this_client_writes_has_the_official_layout(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, layout: str, key: str
) -> None:
    async with client_of(vss) as client, router_of(vss) as router:
        if layout == "put":
            (await client.put(bucket_id, key, DATA, chunk_size="1kb", rf=2, tags={"colour": "red"})).unwrap()
        else:
            (tmp_path / "frame.jpg").write_bytes(DATA)
            path = tmp_path / "frame.jpg"
            (await client.put_file(bucket_id, key, path, chunk_size="1kb", rf=2, tags={"colour": "red"})).unwrap()
        ball_id = key if key == "frame" else sha256(key.encode())
        listed = (await router.get_chunks_metadata(ball_id, bucket_id)).unwrap().chunks
        parts = pieces(LAYOUTS[layout])
        by_index = {chunk.index: chunk for chunk in listed}
        assert sorted(chunk.key for chunk in listed) == sorted(2 * [f"{ball_id}_{n}" for n in range(len(parts))])
        for index, part in enumerate(parts):
            chunk = by_index[index]
            assert (chunk.key, chunk.ball_id, chunk.bucket_id) == (f"{ball_id}_{index}", ball_id, bucket_id)
            assert (chunk.size, chunk.checksum, chunk.producer_id) == (len(part), sha256(part), "tests")
            tags = {name: tag for name, tag in chunk.tags.items() if name != "updated_at"}
            expected = {
                "index": str(index),
                "num_chunks": str(len(parts)),
                "full_checksum": sha256(DATA),
                "chunk_size": str(len(part)),
                "group_id": ball_id,
                "colour": "red",
            }
            of_file = {"fullname": "frame.jpg", "filename": "frame", "extension": "jpg"}
            if key != "frame":
                expected |= of_file | {"full_path": key, "bucket_relative_path": "2026/"}
            elif layout == "put_file":
                expected |= of_file | {"full_path": "frame.jpg"}
            assert tags == expected
            async with (await router.get_streaming(bucket_id, chunk.key)).unwrap() as stream:
                assert b"".join([piece async for piece in stream]) == part
