"""Parquet files at any address, as Arrow tables, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.storage.requests import ask
from pipelines.storage.stores import arrow_filesystem

WIDE = 1 << 29  # bytes of a result from which on its columns may not fit into one array
STEP = 1024  # rows that surely do
READERS = 16  # parallel requests while many small objects are read: latency-bound, not CPU-bound


def read_table(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """One Parquet file, or some columns of it."""
    store, path = arrow_filesystem(uri)

    def read() -> pa.Table:
        with store.open_input_file(path) as file:
            return pq.ParquetFile(file).read(columns=columns)

    return ask("read", uri, read)


def rows_at(table: pa.Table, numbers: np.ndarray) -> pa.Table:
    """Rows by number, in this order, however much text they have: Arrow's own `take` makes one array of a column, which ends at 2 GiB."""
    if table.nbytes * max(1.0, len(numbers) / max(1, table.num_rows)) < WIDE:
        return table.take(pa.array(numbers))
    fields = [field.with_type(pa.large_string()) if field.type == pa.string() else field for field in table.schema]
    whole = table.cast(pa.schema(fields)).combine_chunks()
    pieces = [whole.take(pa.array(numbers[first : first + STEP])).cast(table.schema) for first in range(0, len(numbers), STEP)]
    return pa.concat_tables(pieces) if pieces else table.slice(0, 0)


def read_all(uris: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Parquet files, one table each, in this order; read ahead, so that many small objects cost bandwidth and not round trips."""
    with ThreadPoolExecutor(READERS) as pool:
        for first in range(0, len(uris), 4 * READERS):
            yield from pool.map(lambda uri: read_table(uri, columns), uris[first : first + 4 * READERS])
