"""Cells of Parquet files are files for the decoder: one at a time, in little memory, of one version."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.audio.files.slices import cell_address, file_of
from actors.audio.sources import open_audio
from actors.errors import RowError
from actors.process.isolation import Child
from pipelines.storage import files, parquet_cells

CELLS = [b"a%d" % number * (number + 1) for number in range(50)]


@pytest.fixture
def table(tmp_path: Path) -> str:
    values = [{"bytes": data, "path": f"{number}.wav"} for number, data in enumerate(CELLS)]
    columns = {
        "audio": [*values, {"bytes": None, "path": "x"}],
        "raw/x": pa.array([*CELLS, None], pa.binary()),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=20)
    return str(tmp_path / "t.parquet")


def read(uri: str) -> bytes:
    with open_audio(uri, retries=0) as file:
        data: bytes = file.read()
        return data


@pytest.mark.parametrize("column", ["audio", "raw/x"])
def test_cells_are_read_in_any_order(table: str, column: str) -> None:
    for number in (0, 1, 7, 3, 49, 20, 19, 20):
        assert read(cell_address(table, column, number // 20, number % 20)) == CELLS[number]


def test_cells_are_read_by_the_address_that_people_see(table: str) -> None:
    assert read(f"{table}#audio/1/5") == CELLS[25]
    assert file_of(f"{table}#audio/1/5") == table


def test_cells_are_read_by_many_threads(table: str) -> None:
    uris = [cell_address(table, "audio", number // 20, number % 20) for number in range(50)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, uris)) == CELLS


@pytest.mark.parametrize(
    ("column", "group", "row", "message"),
    [
        ("audio", 2, 10, "row 10 of row group 2 has no bytes"),
        ("audio", 2, 11, "no row 11 in row group 2"),
        ("audio", 3, 0, "no row 0 in row group 3"),
        ("speech", 0, 0, "no column 'speech' with bytes"),
    ],
)
def test_a_cell_that_is_not_there_is_not_found(
    table: str, column: str, group: int, row: int, message: str
) -> None:
    with pytest.raises(RowError, match=message) as raised:
        read(cell_address(table, column, group, row))
    assert raised.value.code == "audio_not_found"
    assert read(cell_address(table, "audio", 0, 0)) == CELLS[0]


def test_cells_are_read_from_a_store(s3_bucket: str, table: str, tmp_path: Path) -> None:
    uri = f"{s3_bucket}/{tmp_path.name}/t.parquet"
    files.write_atomic(uri, Path(table).read_bytes())
    assert read(cell_address(uri, "audio", 1, 3)) == CELLS[23]


def test_cells_are_read_in_a_child_with_little_memory(tmp_path: Path) -> None:
    """One row group of 600 MiB in a child that may use 0.5 GiB with its libraries."""
    cells = pa.array([os.urandom(1 << 20)] * 600, pa.large_binary())
    # Without these options pyarrow writes 1,024 values as one page.
    options = {"compression": "none", "use_dictionary": False, "write_batch_size": 1}
    pq.write_table(pa.table({"audio": cells}), tmp_path / "t.parquet", **options)
    child = Child(0.5, imports=(parquet_cells.__name__,))
    try:
        for number in (0, 50, 599):
            uri = cell_address(str(tmp_path / "t.parquet"), "audio", 0, number)
            etag, size = child.call("tests.pipelines.storage.test_parquet_cells:size_of", uri, timeout=60)
            assert (bool(etag), size) == (True, 1 << 20)
    finally:
        child.close()


def size_of(uri: str) -> tuple[str, int]:
    with open_audio(uri, retries=0) as file:
        return file.etag, len(file.read())


def test_the_etag_is_that_of_the_file(table: str) -> None:
    with open_audio(table) as whole, open_audio(cell_address(table, "audio", 0, 0)) as cell:
        assert cell.etag == whole.etag
