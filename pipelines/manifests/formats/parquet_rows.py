"""Manifests in Parquet: tables that list files, and tables that hold the audio itself.

Audio in cells (Hugging Face's structs of `bytes` and `path`, or a column of bytes) is not read here: each row
gets the address of its cell, see `pipelines.storage.parquet_cells`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.audio.files.slices import cell_address
from actors.errors import UsageError
from actors.records import Row
from pipelines.manifests.columns import Embedded
from pipelines.storage import files, parquet_cells

# Rows read at once. With a dictionary, a small Parquet file can contain huge cells.
PARQUET_ROWS = 512
PARQUET_LIMIT = 512 * 2**20  # bytes of PARQUET_ROWS rows


def parquet_rows(uri: str, audio_columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Read the rows of a Parquet file.

    Args:
        uri: its address.
        audio_columns: names of the column with the audio's address, or with the audio.

    Yields:
        (number, columns) of each row, from 1.

    Raises:
        UsageError: the file cannot be read.
    """
    number = 0
    store, path = files.arrow_filesystem(uri)
    try:
        with store.open_input_file(path) as file:
            table = pq.ParquetFile(file)
            cells = _Cells.of(uri, table, audio_columns)
            if cells:
                # Streams the pages: a row group with audio may be larger than the memory.
                table = pq.ParquetFile(file, metadata=table.metadata, buffer_size=1 << 20)
            for group in range(table.num_row_groups):
                first = number
                for row in _group_rows(uri, table, group, cells, first):
                    number += 1
                    yield number, cells.add_to(row, group, number - first - 1, number) if cells else row
    except (pa.ArrowException, OSError, ValueError, ArithmeticError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{uri}: row {number + 1}: not a readable Parquet file ({reason}); "
            "check that the file is complete"
        ) from error


class _Cells:
    """The column of a table whose cells are audio."""

    def __init__(self, uri: str, table: pq.ParquetFile, column: str, kind: pa.DataType) -> None:
        self.uri, self.column = uri, column
        self.is_struct = pa.types.is_struct(kind)
        self._index = _leaf(table, f"{column}.bytes" if self.is_struct else column)

    @classmethod
    def of(cls, uri: str, table: pq.ParquetFile, audio_columns: Sequence[str]) -> _Cells | None:
        """The column with audio; None if the table names files."""
        schema = table.schema_arrow
        given = {name.lower(): name for name in schema.names} | {name: name for name in schema.names}
        named = [given[name] for name in audio_columns if name in given]
        # Without one of our names, the only column of this kind is meant.
        of_kind = [field.name for field in schema if _is_struct(field.type)] or [
            field.name for field in schema if _is_binary(field.type)
        ]
        column = named[0] if named else of_kind[0] if len(of_kind) == 1 else None
        if column is None:
            return None
        kind = schema.field(column).type
        if not (_is_struct(kind) or _is_binary(kind)):
            return None
        if "::" in uri:
            raise UsageError(
                f"{uri}: the audio in this table cannot be read through a chained address; copy it"
            )
        return cls(uri, table, column, kind)

    def has_all(self, table: pq.ParquetFile, group: int) -> bool:
        """Whether every row of a row group is known to have bytes."""
        statistics = table.metadata.row_group(group).column(self._index).statistics
        return statistics is not None and statistics.has_null_count and statistics.null_count == 0

    def other_columns(self, schema: pa.Schema) -> list[str]:
        """The columns of the file without the bytes."""
        names = [name for name in schema.names if name != self.column]
        if self.is_struct and schema.field(self.column).type.get_field_index("path") >= 0:
            names.append(f"{self.column}.path")
        return names

    def add_to(self, row: Row, group: int, row_in_group: int, number: int) -> Row:
        """The row with its audio as an address, if its cell has bytes."""
        value = row.pop(self.column, None)
        path = value.get("path") if isinstance(value, dict) else None
        if row.pop(_IS_EMPTY, False):
            return {**row, "audio": path}
        name = f"{self.uri}#{self.column}/{group}/{row_in_group}"
        # The path says what the audio is called, unless a row has none, or that of another row.
        default = path if isinstance(path, str) and path.strip() else f"{os.path.basename(self.uri)}#{number}"
        location = cell_address(self.uri, self.column, group, row_in_group)
        return {**row, "audio": Embedded(audio=name, location=location, id=default)}


# A mark in rows of a column of bytes whose cell has none.
_IS_EMPTY = "\0empty"


def _group_rows(
    uri: str, table: pq.ParquetFile, group: int, cells: _Cells | None, number: int
) -> Iterator[Row]:
    """The rows of a row group; of a column with audio, only whether a cell is empty."""
    columns, size = None, PARQUET_ROWS
    if cells is not None:
        if cells.has_all(table, group):
            columns = cells.other_columns(table.schema_arrow)
            if not columns:
                yield from ({} for _ in range(table.metadata.row_group(group).num_rows))
                return
        else:
            size = 1
    for batch in table.iter_batches(batch_size=size, row_groups=[group], columns=columns):
        if batch.nbytes > PARQUET_LIMIT:
            raise UsageError(
                f"{uri}: row {number + 1}: the next {batch.num_rows} rows take {batch.nbytes >> 20} MiB; "
                "this is not a manifest, which lists files and not their content"
            )
        # A few rows at a time: a dictionary value exists once in the table, but once per row in a list.
        for first in range(0, batch.num_rows, 16):
            for row in batch.slice(first, 16).to_pylist():
                number += 1
                if cells is not None and columns is None:
                    row[_IS_EMPTY] = not _content(row.get(cells.column))
                yield row


def _content(value: Any) -> Any:
    return value.get("bytes") if isinstance(value, dict) else value


def _is_struct(kind: pa.DataType) -> bool:
    return (
        pa.types.is_struct(kind)
        and kind.get_field_index("bytes") >= 0
        and _is_binary(kind.field("bytes").type)
    )


def _is_binary(kind: pa.DataType) -> bool:
    return parquet_cells.is_bytes(kind)


def _leaf(table: pq.ParquetFile, column: str) -> int:
    """The number of a column of the file by its dotted name."""
    return next(number for number in range(len(table.schema)) if table.schema.column(number).path == column)
