"""Audio in the cells of Parquet files, as files of their own for `actors.audio.sources`.

A cell has the address `cell://COLUMN/ROW_GROUP/ROW/FILE`. Importing this module makes fsspec know it, in
every process that decodes (see `actors.process.isolation.Child`). Only there is a cell read, one at a time,
and the pages of its column are streamed, so that a row group may be larger than the memory.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import fsspec

from actors.audio.files.slices import CELL
from actors.audio.sources import AudioFile, open_file

_PATH = re.compile(r"([^/]+)/(\d+)/(\d+)/(.+)", re.DOTALL)
# Bytes of cells that are remembered, the last one in any case: several threads read headers in one file.
_REMEMBERED_BYTES = 32 << 20
# Seconds after which a file is opened again, because another one may have replaced it.
_MAX_AGE = 300.0


class CellFileSystem(fsspec.AbstractFileSystem):
    """Read-only; its files are cells."""

    protocol = "cell"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(CELL)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Size, type and etag of a cell; the etag is that of its Parquet file."""
        data, etag = _cell(path)
        return {"name": path, "size": len(data), "type": "file", "ETag": etag}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """The bytes of a cell, or those in [start, end)."""
        return _cell(path)[0][start:end]


class _Reader:
    """The cells of one column, forwards as a stream, and backwards by starting again."""

    def __init__(self, address: str, column: str) -> None:
        # Arrow's own allocator reserves more address space at once than a child may have.
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.address, self.column, self.opened_at = address, column, time.monotonic()
        self.file: AudioFile = open_file(address)
        self._table = pq.ParquetFile(
            pa.PythonFile(self.file, mode="r"), buffer_size=1 << 20, pre_buffer=False
        )
        self._leaf = _leaf_of(self._table.schema_arrow, column, address)
        self._cells: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._group, self._next = -1, 0
        self._rows: Iterator[Any] = iter(())

    def cell(self, group: int, row: int) -> bytes:
        """The bytes of a cell.

        Raises:
            FileNotFoundError: there is no such row, or it has no bytes.
        """
        if (group, row) not in self._cells:
            self._read_up_to(group, row)
        self._cells.move_to_end((group, row))
        return self._cells[group, row]

    def close(self) -> None:
        """Close the Parquet file."""
        self._rows = iter(())
        self._table.close(force=True)
        self.file.close()

    def _read_up_to(self, group: int, row: int) -> None:
        if group >= self._table.num_row_groups or row >= self._table.metadata.row_group(group).num_rows:
            raise FileNotFoundError(errno.ENOENT, f"it has no row {row} in row group {group}", self.address)
        if group != self._group or row < self._next:
            self._rows = self._table.iter_batches(
                batch_size=1, row_groups=[group], columns=[self._leaf], use_threads=False
            )
            self._group, self._next = group, 0
        for batch in self._rows:
            value = batch.column(0)[0].as_py()
            # The bytes of a struct are read as a struct with this one field.
            data = value.get("bytes") if isinstance(value, dict) else value
            self._cells[group, self._next] = data or b""
            self._next += 1
            while len(self._cells) > 1 and sum(map(len, self._cells.values())) > _REMEMBERED_BYTES:
                self._cells.popitem(last=False)
            if self._next > row:
                break
        if data is None:
            raise FileNotFoundError(
                errno.ENOENT, f"row {row} of row group {group} has no bytes", self.address
            )


def _leaf_of(schema: Any, column: str, address: str) -> str:
    """The dotted name of the bytes of a column.

    Raises:
        FileNotFoundError: there is no such column, or it has no bytes.
    """
    from pyarrow import types

    kind = schema.field(column).type if column in schema.names else None
    is_struct, content = False, kind
    if kind is not None and types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        is_struct, content = True, kind.field("bytes").type
    if content is None or not is_bytes(content):
        raise FileNotFoundError(errno.ENOENT, f"it has no column {column!r} with bytes", address)
    return f"{column}.bytes" if is_struct else column


def is_bytes(kind: Any) -> bool:
    """Whether an Arrow type is one of bytes, also of a fixed size or with a dictionary."""
    from pyarrow import types

    content = kind.value_type if types.is_dictionary(kind) else kind
    return bool(
        types.is_binary(content)
        or types.is_large_binary(content)
        or types.is_fixed_size_binary(content)
        or types.is_binary_view(content)
    )


_lock = threading.Lock()
_reader: _Reader | None = None


def _cell(path: str) -> tuple[bytes, str]:
    """The bytes of a cell and the etag of its file."""
    global _reader
    found = _PATH.fullmatch(path)
    if not found:
        raise FileNotFoundError(errno.ENOENT, "not the address of a cell of a Parquet file", path)
    column, address = unquote(found[1]), found[4]
    with _lock:
        reader, _reader = _reader, None
        is_same = reader is not None and (reader.address, reader.column) == (address, column)
        if reader is None or not is_same or time.monotonic() - reader.opened_at > _MAX_AGE:
            if reader is not None:
                reader.close()
            reader = _Reader(address, column)
        # After an error the stream may stand anywhere: the reader is dropped.
        data = reader.cell(int(found[2]), int(found[3]))
        _reader = reader
        return data, reader.file.etag


fsspec.register_implementation("cell", CellFileSystem, clobber=True)
