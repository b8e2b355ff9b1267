"""``Chunk`` and ``Chunks``: constructors, arrays, and order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from option import NONE, Some

from airflow_provider_mictlanx.client import Chunk, Chunks, ValidationError

np = pytest.importorskip("numpy")


def data_of(chunks: Chunks) -> list[bytes]:
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert {chunk.group_id for chunk in chunks} == {"ball"}
    return [chunk.data for chunk in chunks]


def test_from_bytes_takes_metadata_before_chunk_id() -> None:
    chunk = Chunk.from_bytes("ball", 3, b"data", {"a": "b"}, "own")
    assert (chunk.group_id, chunk.index, chunk.data) == ("ball", 3, b"data")
    assert (chunk.metadata, chunk.chunk_id) == ({"a": "b"}, "own")
    assert Chunk.from_bytes("ball", 3, b"data").chunk_id == "ball_3"


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.arange(24, dtype=">f4").reshape(2, 3, 4),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(5.5),
        np.array([]),
        np.zeros((0, 3)),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.array(["a", "bcd"]),
        np.array([b"a", b"bcd"]),
        np.array(["2026-05-01"], dtype="datetime64[D]"),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_array_becomes_a_chunk_and_back(array: Any) -> None:
    chunk = Chunk.from_ndarray("ball", 1, array, {"color": "red"})
    assert chunk.metadata["color"] == "red"
    assert all(isinstance(value, str) for value in chunk.metadata.values())
    back = chunk.to_ndarray().unwrap()
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert np.array_equal(back, array)
    assert chunk.to_list().unwrap() == array.tolist()


@pytest.mark.parametrize("xs", [[1, 2, 3], [[1.5, 2], [3, 4]], ["a", "bc"], []], ids=repr)
def test_list_becomes_a_chunk_and_back(xs: list[Any]) -> None:
    chunk = Chunk.from_list("ball", 0, xs, {"color": "red"}, "own")
    assert chunk.to_list().unwrap() == xs
    assert (chunk.chunk_id, chunk.metadata["color"]) == ("own", "red")


def test_list_with_nan_is_taken() -> None:
    first, second = Chunk.from_list("ball", 0, [float("nan"), 1.5]).to_list().unwrap()
    assert (str(first), second) == ("nan", 1.5)


@pytest.mark.parametrize("xs", [[{"a": 1}], [None], [[1], [1, 2]], [1, "a"], ["a\0"], [2**53 + 1, 0.5]], ids=repr)
def test_list_that_would_change_is_refused(xs: list[Any]) -> None:
    with pytest.raises(ValidationError, match=r"must (contain (numbers|values)|be a list)"):
        Chunk.from_list("ball", 0, xs)


def test_records_are_refused() -> None:
    with pytest.raises(ValidationError, match="dtype"):
        Chunk.from_ndarray("ball", 0, np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]))


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"dtype": "<i8"},
        {"dtype": "<i8", "shape": "(3,)"},
        {"dtype": "<i8", "shape": "(-1,)"},
        {"dtype": "<i8", "shape": "(99999999999999999,)"},
        {"dtype": "<i8", "shape": "__import__('os')"},
        {"dtype": "O", "shape": "(1,)"},
        {"dtype": "nothing", "shape": "(1,)"},
        {"dtype": "i4,f8", "shape": "(1,)"},
        {"dtype": "<i7", "shape": "(1,)"},
    ],
    ids=repr,
)
def test_tags_of_another_writer_are_checked(tags: dict[str, str]) -> None:
    chunk = Chunk("ball", 0, bytes(16), metadata=tags)
    for result in (chunk.to_ndarray(), chunk.to_list()):
        assert type(result.unwrap_err()) is ValidationError
        assert "16 bytes" in str(result.unwrap_err())


def test_official_shape_tag_is_read() -> None:
    chunk = Chunk("ball", 0, np.arange(2, dtype="float32").tobytes(), metadata={"dtype": "float32", "shape": "(2,)"})
    assert chunk.to_list().unwrap() == [0.0, 1.0]


def test_numpy_is_imported_only_where_needed() -> None:
    script = (
        "import sys\n"
        "from airflow_provider_mictlanx.client import Chunk, Chunks\n"
        "Chunks.from_bytes(b'ab', 'ball', 1).unwrap().sort()\n"
        "assert 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({}, [b"abcdefg"]),
        ({"chunk_size": 3}, [b"abc", b"def", b"g"]),
        ({"chunk_size": "3 b"}, [b"abc", b"def", b"g"]),
        ({"chunk_size": Some(4)}, [b"abcd", b"efg"]),
        ({"chunk_size": NONE, "num_chunks": 2}, [b"abcd", b"efg"]),
        ({"num_chunks": 7}, [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]),
    ],
    ids=repr,
)
def test_bytes_and_files_are_split(tmp_path: Path, options: dict[str, Any], parts: list[bytes]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcdefg")
    assert data_of(Chunks.from_bytes(b"abcdefg", "ball", **options).unwrap()) == parts
    assert data_of(Chunks.from_file(path, "ball", **options).unwrap()) == parts


def test_no_bytes_are_one_empty_chunk() -> None:
    assert data_of(Chunks.from_bytes(b"", "ball", num_chunks=3).unwrap()) == [b""]


def test_array_is_split_along_its_first_axis() -> None:
    array = np.arange(10).reshape(5, 2)
    chunks = Chunks.from_ndarray(array, "ball", num_chunks=2).unwrap()
    assert [len(part) for part in data_of(chunks)] == [48, 32]
    assert np.array_equal(np.concatenate([chunk.to_ndarray().unwrap() for chunk in chunks]), array)
    assert data_of(Chunks.from_ndarray(array, "ball").unwrap()) == [array.tobytes()]


@pytest.mark.parametrize(("array", "count"), [(np.arange(2), 2), (np.array(5), 1), (np.array([]), 1)], ids=repr)
def test_array_has_no_empty_part_of_several(array: Any, count: int) -> None:
    assert len(Chunks.from_ndarray(array, "ball", num_chunks=9).unwrap()) == count


def test_iterator_has_a_chunk_per_item() -> None:
    chunks = Chunks.from_iterator(iter([b"a", b"bc"]), "ball").unwrap()
    assert data_of(chunks) == [b"a", b"bc"]
    assert (len(chunks), chunks.n) == (2, 2)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (Chunks.from_bytes(b"a", "ball", chunk_size=0), "chunk_size"),
        (Chunks.from_bytes(b"a", "ball", num_chunks=0), "num_chunks"),
        (Chunks.from_file("/nowhere/at/all", "ball"), "path must be a readable file, got '/nowhere/at/all'"),
        (Chunks.from_ndarray(np.array([None]), "ball"), "ndarray must contain"),
        (Chunks.from_ndarray(np.array([1]), "ball", 0), "num_chunks"),
    ],
    ids=["size 0", "no chunk", "no file", "objects", "no part"],
)
def test_invalid_arguments_are_errors(result: Any, said: str) -> None:
    assert type(result.unwrap_err()) is ValidationError
    assert said in str(result.unwrap_err())


def test_chunks_are_sorted() -> None:
    chunks = Chunks((Chunk("ball", index, bytes(size)) for index, size in ((2, 1), (0, 3), (1, 2))), 3)
    by_size = chunks.sorted_by(lambda chunk: chunk.size)
    assert [chunk.index for chunk in by_size] == [2, 1, 0]
    assert [chunk.index for chunk in chunks] == [2, 0, 1]
    chunks.sort()
    assert [chunk.index for chunk in chunks] == [0, 1, 2]
    assert [chunk.index for chunk in chunks.sorted_by(lambda chunk: chunk.size, reverse=True)] == [0, 1, 2]


@pytest.mark.parametrize(("indexes", "n"), [((0, 1), 3), ((0, 2), 2), ((0, 0), 2), ((), 1)], ids=repr)
def test_strict_refuses_a_gap(indexes: tuple[int, ...], n: int) -> None:
    chunks = [Chunk("ball", index, b"data") for index in indexes]
    assert len(Chunks(chunks, n)) == len(indexes)
    with pytest.raises(ValidationError, match=f"chs must be {n} chunks"):
        Chunks(chunks, n, strict=True)
    assert len(Chunks([Chunk("ball", 1, b""), Chunk("ball", 0, b"")], 2, strict=True)) == 2
