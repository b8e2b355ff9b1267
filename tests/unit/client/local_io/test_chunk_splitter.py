"""How bytes and files are cut, and the hashes of the pieces."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_mictlanx.client.concurrency import Threads
from airflow_provider_mictlanx.client.errors import IntegrityError, ValidationError
from airflow_provider_mictlanx.client.local_io import chunk_splitter
from airflow_provider_mictlanx.client.local_io.chunk_splitter import (
    STREAMED_PIECE,
    FileChunk,
    hash_source,
    infer_layout,
    layout_with_long_tail,
    layout_with_short_tail,
    read_planned,
)
from airflow_provider_mictlanx.client.local_io.sources import BytesSource, SharedDescriptor, open_file
from airflow_provider_mictlanx.client.transport.backend import SLICE
from airflow_provider_mictlanx.client.validation import parse_size

SIZES = st.integers(0, 10_000)
CHUNK_SIZES = st.integers(1, 2_000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("256kb", 256_000),
        ("1MB", 1_000_000),
        ("1KiB", 1024),
        ("8MiB", 8 * 1024 * 1024),
        ("10", 10),
        (7, 7),
        ("1.5kb", 1500),
    ],
)
def test_sizes(text: str | int, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("bad", ["", "abc", "0", 0, -1, "-1kb", None, True, 1.5, [], "1 quux", b"1kb"])
def test_sizes_that_are_none(bad: object) -> None:
    with pytest.raises(ValidationError, match="chunk_size"):
        parse_size(bad)  # type: ignore[arg-type]


@given(SIZES, CHUNK_SIZES)
def test_long_tail_is_appended_to_the_last_chunk(size: int, chunk_size: int) -> None:
    layout = layout_with_long_tail(size, chunk_size)
    assert sum(layout) == size
    assert len(layout) == max(size // chunk_size, 1)
    assert all(piece == chunk_size for piece in layout[:-1])
    assert size < chunk_size or chunk_size <= layout[-1] < 2 * chunk_size


@given(SIZES, CHUNK_SIZES)
def test_short_tail_is_a_chunk_of_its_own(size: int, chunk_size: int) -> None:
    layout = layout_with_short_tail(size, chunk_size)
    assert sum(layout) == size
    assert len(layout) == max(-(-size // chunk_size), 1)
    assert all(piece == chunk_size for piece in layout[:-1])
    assert 0 < layout[-1] <= chunk_size or size == 0


@given(st.integers(1, 10_000), CHUNK_SIZES, st.data())
def test_either_cut_is_inferred_from_any_one_chunk(size: int, chunk_size: int, data: st.DataObject) -> None:
    for layout in (layout_with_long_tail(size, chunk_size), layout_with_short_tail(size, chunk_size)):
        index = data.draw(st.integers(0, len(layout) - 1))
        assert infer_layout(size, len(layout), index, layout[index]) == layout


@given(SIZES, st.integers(1, 50), st.integers(0, 49), SIZES)
def test_inferred_cut_is_a_cut_or_none(size: int, num_chunks: int, index: int, chunk_size: int) -> None:
    layout = infer_layout(size, num_chunks, min(index, num_chunks - 1), chunk_size)
    if layout is not None:
        assert sum(layout) == size
        assert len(layout) == num_chunks
        assert layout[min(index, num_chunks - 1)] == chunk_size


@pytest.mark.parametrize(
    ("size", "num_chunks", "index", "chunk_size"),
    [(10, 1, 0, 9), (10, 3, 0, 5), (10, 3, 2, 1), (10, 2, 0, 0), (10, 2, 1, 10)],
)
def test_chunks_that_make_up_no_even_cut(size: int, num_chunks: int, index: int, chunk_size: int) -> None:
    assert infer_layout(size, num_chunks, index, chunk_size) is None


@given(st.binary(max_size=5000), st.lists(st.integers(1, 1500), max_size=8), st.integers(1, 700))
def test_plan_has_the_hash_of_every_chunk_and_of_the_whole(data: bytes, sizes: list[int], piece: int) -> None:
    """Whatever the cut, and wherever the pieces end in which the source is read."""
    layout: list[int] = []
    for size in sizes:
        if sum(layout) + size < len(data):
            layout.append(size)
    layout.append(len(data) - sum(layout))

    async def scenario() -> None:
        plan = await hash_source(BytesSource(data), layout, Threads(1))
        assert (plan.size, plan.checksum) == (len(data), hashlib.sha256(data).hexdigest())
        assert [chunk.size for chunk in plan.chunks] == layout
        at = 0
        for index, chunk in enumerate(plan.chunks):
            assert (chunk.index, chunk.offset) == (index, at)
            assert chunk.checksum == hashlib.sha256(data[at : at + chunk.size]).hexdigest()
            assert await read_planned(BytesSource(data), chunk, Threads(1)) == data[at : at + chunk.size]
            at += chunk.size

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk_splitter, "PIECE", piece)
        asyncio.run(scenario())


def _plan_and_change(path: Path, layout: Sequence[int], changed: bytes) -> None:
    """Plan a file, change it, and send its first chunk."""

    async def scenario() -> None:
        threads = Threads(1)
        async with open_file(path, threads) as source:
            plan = await hash_source(source, layout, threads)
            path.write_bytes(changed)
            await read_planned(source, plan.chunks[0], threads)

    asyncio.run(scenario())


def test_chunk_of_a_file_that_changed_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(2_000_000))
    with pytest.raises(IntegrityError, match="changed"):
        _plan_and_change(path, [1_000_000, 1_000_000], b"\1" * 2_000_000)


def test_chunk_of_a_file_that_became_shorter_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(2_000_000))
    with pytest.raises(IntegrityError, match="shorter"):
        _plan_and_change(path, [1_000_000, 1_000_000], b"short")


@pytest.mark.parametrize("changed", [b"\1" * 3_000_000, bytes(2_999_999) + b"\1"])
async def test_large_chunk_of_a_changed_file_is_never_sent_completely(tmp_path: Path, changed: bytes) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(3_000_000))
    async with open_file(path, Threads(1)) as source:
        plan = await hash_source(source, [3_000_000], Threads(1))
        path.write_bytes(changed)
        body = await read_planned(source, plan.chunks[0], Threads(1))
        assert isinstance(body, FileChunk)
        pieces = aiter(body)
        sent = sum([len(await anext(pieces)) for _ in range(2 * STREAMED_PIECE // SLICE)])
        with pytest.raises(IntegrityError, match=r"changed during the upload: chunk 0 .*differs"):
            await anext(pieces)
    assert sent == 2 * STREAMED_PIECE


async def test_large_chunk_of_a_file_is_read_anew_for_every_request(tmp_path: Path) -> None:
    path = tmp_path / "source"
    content = os.urandom(5_000_000)
    path.write_bytes(content)
    async with open_file(path, Threads(1)) as source:
        plan = await hash_source(source, [1_500_000, 3_500_000], Threads(1))
        for chunk in plan.chunks:
            body = await read_planned(source, chunk, Threads(1))
            assert isinstance(body, FileChunk)
            assert body.size == chunk.size
            for _ in range(2):
                pieces = [bytes(piece) async for piece in body]
                assert b"".join(pieces) == content[chunk.offset : chunk.offset + chunk.size]
                assert max(map(len, pieces)) <= SLICE


async def test_sent_pieces_of_a_file_are_released(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(4 * STREAMED_PIECE))
    async with open_file(path, Threads(1)) as source:
        plan = await hash_source(source, [4 * STREAMED_PIECE], Threads(1))
        body = await read_planned(source, plan.chunks[0], Threads(1))
        assert isinstance(body, FileChunk)
        tracemalloc.start()
        try:
            async for _piece in body:  # as an HTTP engine, keep the last piece until the next one
                pass
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < STREAMED_PIECE + 2 * SLICE


def test_descriptor_is_closed_after_its_last_use(tmp_path: Path) -> None:
    """Else a thread would read another file that got the same descriptor."""
    path = tmp_path / "source"
    path.write_bytes(b"content")
    shared = SharedDescriptor(os.open(path, os.O_RDONLY))
    with shared.use() as descriptor:
        shared.release()  # the owner closes it while a thread reads
        assert os.pread(descriptor, 7, 0) == b"content"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"), shared.use():
        pass


async def test_small_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"before")
    async with open_file(path, Threads(1)) as source:
        path.write_bytes(b"after!")
        assert source.is_immutable
        assert await source.read(0, 6) == b"before"


async def test_file_changed_before_end_of_hashing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(2_000_000))
    async with open_file(path, Threads(1)) as source:
        os.utime(path, ns=(1, 1))
        with pytest.raises(IntegrityError, match="changed"):
            await hash_source(source, [2_000_000], Threads(1))


@pytest.mark.parametrize("kind", ["none", "folder", "fifo"])
async def test_what_is_no_regular_file_is_refused_and_left_closed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "source"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ValidationError, match=str(path)):
        async with open_file(path, Threads(1)):
            pass
    assert len(os.listdir("/proc/self/fd")) == before
