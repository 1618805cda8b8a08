"""Parquet files at any address, read in parallel as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.storage.filesystems import arrow_filesystem, call_store

# Bytes of text in one array of a column. Its 32-bit offsets allow twice as much.
ARRAY_BYTES = 1 << 30
# Parallel requests for many small objects, which are bound by latency and not by the CPU.
READERS = 16


def read_table(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one Parquet file, or some of its columns."""
    store, path = arrow_filesystem(uri)

    def read() -> pa.Table:
        with store.open_input_file(path) as file:
            return pq.ParquetFile(file).read(columns=columns)

    return call_store("read", uri, read)


def iter_rows(uri: str, schema: pa.Schema, batch_rows: int) -> Iterator[dict[str, Any]]:
    """The rows of one Parquet file as dictionaries, with `batch_rows` of them in memory.

    Args:
        uri: address of the file.
        schema: of the rows: see `conform`.
        batch_rows: rows that are read at once.
    """
    store, path = arrow_filesystem(uri)
    with call_store("read", uri, lambda: store.open_input_file(path)) as file:
        for batch in pq.ParquetFile(file).iter_batches(batch_rows, columns=schema.names):
            yield from conform(pa.Table.from_batches([batch]), schema).to_pylist()


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns of `schema`; every reader of stored rows uses it, or a function that does.

    Columns that the table lacks are null, and so are fields that its structs lack, however deep in lists:
    older versions did not write them. What `schema` does not have is dropped.
    """
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    # Fields are added to structs, too, and `cast` only fills in those.
    return pa.table(columns, names=schema.names).cast(schema)


def rows_at(table: pa.Table, numbers: np.ndarray) -> pa.Table:
    """Rows by number, in this order, with any amount of text.

    Arrow's own `take` builds one array per column, which cannot exceed 2 GiB of text.
    """
    texts = [index for index, field in enumerate(table.schema) if field.type == pa.string()]
    sizes = np.zeros(table.num_rows, np.int64)
    for index in texts:
        sizes += pc.fill_null(pc.binary_length(table.column(index)), 0).to_numpy()
    ends = np.cumsum(sizes[numbers])
    if sizes.sum() < ARRAY_BYTES and (not len(ends) or ends[-1] < ARRAY_BYTES):
        return table.take(pa.array(numbers))
    fields = [
        field.with_type(pa.large_string()) if index in texts else field
        for index, field in enumerate(table.schema)
    ]
    whole = table.cast(pa.schema(fields)).combine_chunks()
    pieces, first = [table.slice(0, 0)], 0
    while first < len(numbers):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + ARRAY_BYTES, side="right")))
        pieces.append(whole.take(pa.array(numbers[first:last])).cast(table.schema))
        first = last
    return pa.concat_tables(pieces)


def read_all(uris: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Read Parquet files, one table each, in this order.

    Files are read ahead in parallel, so that many small objects cost bandwidth instead of round trips.
    """
    with ThreadPoolExecutor(READERS) as pool:
        for first in range(0, len(uris), 4 * READERS):
            yield from pool.map(lambda uri: read_table(uri, columns), uris[first : first + 4 * READERS])
