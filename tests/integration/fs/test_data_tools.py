"""pandas, pyarrow, polars and DuckDB on MictlanX: they read a file once, and write through the filesystem."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_mictlanx.fs.chunk_cache import CHUNKS
from airflow_provider_mictlanx.fs.filesystem import MictlanXFileSystem
from tests.support.vss import LocalVSS

# Each test imports its tools itself: every worker of a run collects this file, and few run its tests.
need = pytest.importorskip

CHUNK = 1_000_000
ROWS = 600_000
COLUMNS = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def table() -> Any:
    pyarrow = need("pyarrow")
    return pyarrow.table({name: pyarrow.array(memoryview(os.urandom(8 * ROWS)).cast("q")) for name in COLUMNS})


@pytest.fixture
def own(own_vss: Callable[..., LocalVSS]) -> tuple[LocalVSS, MictlanXFileSystem]:
    """A storage space of this test only, since its requests are counted, and a process that has read nothing."""
    CHUNKS.clear()
    vss = own_vss(peers=1)
    return vss, MictlanXFileSystem(uri=vss.uri, chunk_size=CHUNK)


def bytes_read(vss: LocalVSS, fs: MictlanXFileSystem, path: str) -> int:
    """Return the bytes of a file's chunks that were asked for, as often as they were."""
    info = fs.info(path)
    sizes = dict.fromkeys(range(info["num_chunks"] - 1), CHUNK)
    sizes[info["num_chunks"] - 1] = info["size"] - sum(sizes.values())
    chunk = re.compile(rf"/buckets/\w+/{info['ball_id']}_(\d+)$")
    found = (chunk.search(request["path"]) for request in vss.requests("GET"))
    return sum(sizes[int(match[1])] for match in found if match)


@pytest.fixture
def stored(own: tuple[LocalVSS, MictlanXFileSystem], table: Any) -> tuple[LocalVSS, MictlanXFileSystem, int]:
    parquet = need("pyarrow.parquet")
    vss, fs = own
    with fs.open("b/t.parquet", "wb") as file:
        parquet.write_table(table, file, row_group_size=ROWS // 8, compression="none")
    size = fs.size("b/t.parquet")
    vss.reset_requests()
    return vss, fs, size


def test_duckdb_reads_a_file_once(stored: tuple[LocalVSS, MictlanXFileSystem, int], table: Any) -> None:
    duckdb = need("duckdb")
    vss, fs, size = stored
    assert size > 20_000_000
    with duckdb.connect(config={"threads": 4}) as connection:
        connection.register_filesystem(fs)
        sums = ", ".join(f"sum({name}::HUGEINT)" for name in COLUMNS)
        found = connection.execute(f"SELECT {sums} FROM 'mictlanx://b/t.parquet'").fetchone()
    assert list(found) == [sum(table[name].to_pylist()) for name in COLUMNS]
    assert bytes_read(vss, fs, "b/t.parquet") <= 1.1 * size


def test_pandas_reads_a_file_once(stored: tuple[LocalVSS, MictlanXFileSystem, int], table: Any) -> None:
    pandas = need("pandas")
    vss, fs, size = stored
    frame = pandas.read_parquet("b/t.parquet", filesystem=fs)
    assert frame["e"].tolist() == table["e"].to_pylist()
    assert bytes_read(vss, fs, "b/t.parquet") <= 1.1 * size


def test_one_column_is_a_part_of_the_file(stored: tuple[LocalVSS, MictlanXFileSystem, int]) -> None:
    dataset = need("pyarrow.dataset")
    polars = need("polars")
    vss, fs, size = stored
    polars.scan_pyarrow_dataset(dataset.dataset("b/t.parquet", filesystem=fs)).select("c").collect()
    assert bytes_read(vss, fs, "b/t.parquet") <= 0.7 * size


def test_a_file_is_read_in_small_pieces_once(stored: tuple[LocalVSS, MictlanXFileSystem, int]) -> None:
    vss, fs, size = stored
    total = 0
    with fs.open("b/t.parquet") as file:
        while piece := file.read(50_000):
            total += len(piece)
    assert (total, bytes_read(vss, fs, "b/t.parquet")) == (size, size)
    assert len(vss.requests("GET", "metadata/.*/chunks")) <= 2  # of opening, and of this test's info


def test_pandas_reads_and_writes_urls(own: tuple[LocalVSS, MictlanXFileSystem]) -> None:
    pandas = need("pandas")
    _, fs = own
    options = {"uri": fs.uri}
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "ñ"]})
    frame.to_csv("mictlanx://b/t.csv.gz", index=False, storage_options=options)
    frame.to_parquet("mictlanx://b/t.parquet", storage_options=options)
    frame.to_json("mictlanx://b/t.json", storage_options=options)
    for read in (
        pandas.read_csv("mictlanx://b/t.csv.gz", storage_options=options),
        pandas.read_parquet("mictlanx://b/t.parquet", storage_options=options),
        pandas.read_json("mictlanx://b/t.json", storage_options=options),
    ):
        pandas.testing.assert_frame_equal(read, frame)


class Unwritable:
    """A value that pandas fails to write."""

    def __str__(self) -> str:
        raise RuntimeError("cannot be written")


def test_pandas_that_fails_half_way_stores_nothing(own: tuple[LocalVSS, MictlanXFileSystem]) -> None:
    pandas = need("pandas")
    _, fs = own
    frame = pandas.DataFrame({"a": [*range(200_000), Unwritable()]}, dtype=object)
    with pytest.raises(RuntimeError, match="cannot be written"):
        frame.to_csv("mictlanx://b/t.csv", storage_options={"uri": fs.uri})
    assert fs.find("b") == []


def test_duckdb_writes_partitions(own: tuple[LocalVSS, MictlanXFileSystem]) -> None:
    duckdb = need("duckdb")
    _, fs = own
    with duckdb.connect() as connection:
        connection.register_filesystem(fs)
        connection.execute("COPY (SELECT 1 AS a UNION SELECT 2) TO 'mictlanx://b/one.csv' (HEADER)")
        connection.execute(
            "COPY (SELECT range AS n, range % 3 AS part FROM range(9)) TO 'mictlanx://b/parts' "
            "(FORMAT parquet, PARTITION_BY (part))"
        )
        found = connection.execute("SELECT count(*), sum(n) FROM 'mictlanx://b/parts/*/*.parquet'").fetchone()
    assert found == (9, 36)
    assert len(fs.glob("b/parts/part=*/*.parquet")) == 3
    assert b"a" in fs.cat("b/one.csv")


def test_pyarrow_datasets_and_polars(own: tuple[LocalVSS, MictlanXFileSystem]) -> None:
    pyarrow = need("pyarrow")
    parquet = need("pyarrow.parquet")
    dataset = need("pyarrow.dataset")
    polars = need("polars")
    _, fs = own
    table = pyarrow.table({"n": list(range(100)), "part": [n % 4 for n in range(100)]})
    parquet.write_to_dataset(table, "b/set", partition_cols=["part"], filesystem=fs)
    assert dataset.dataset("b/set", filesystem=fs, partitioning="hive").count_rows() == 100
    frame = polars.DataFrame({"a": [1, 2, 3]})
    with fs.open("b/p.parquet", "wb") as file:
        frame.write_parquet(file)
    with fs.open("b/p.parquet") as file:
        assert polars.read_parquet(file).equals(frame)
