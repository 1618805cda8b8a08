"""Parquet files at any address, as Arrow tables, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.storage.filesystems import arrow_filesystem
from pipelines.storage.requests import ask

ARRAY_BYTES = 1 << 30  # of text in one array of a column; its offsets end at twice as much
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
    """Parquet files, one table each, in this order; read ahead, so that many small objects cost bandwidth and not round trips."""
    with ThreadPoolExecutor(READERS) as pool:
        for first in range(0, len(uris), 4 * READERS):
            yield from pool.map(lambda uri: read_table(uri, columns), uris[first : first + 4 * READERS])
