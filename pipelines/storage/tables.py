"""Parquet files at any address, as Arrow tables, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.storage.requests import ask
from pipelines.storage.stores import arrow_filesystem

READERS = 16  # parallel requests while many small objects are read: latency-bound, not CPU-bound


def read_table(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """One Parquet file, or some columns of it."""
    store, path = arrow_filesystem(uri)

    def read() -> pa.Table:
        with store.open_input_file(path) as file:
            return pq.ParquetFile(file).read(columns=columns)

    return ask("read", uri, read)


def read_all(uris: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Parquet files, one table each, in this order; read ahead, so that many small objects cost bandwidth and not round trips."""
    with ThreadPoolExecutor(READERS) as pool:
        for first in range(0, len(uris), 4 * READERS):
            yield from pool.map(lambda uri: read_table(uri, columns), uris[first : first + 4 * READERS])
