"""Reads OUT/transcripts a few rows at a time, in parts that processes can share, with filters.

Every command over transcripts reads them here: exports, curation, corrections, the browser.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.errors import UsageError
from actors.records import Row
from pipelines.output.transcript_filters import Filters
from pipelines.schema import PLAN, TRANSCRIPT
from pipelines.storage import files
from pipelines.storage.filesystems import call_store
from pipelines.storage.parquet import conform

# Bytes of Arrow data that are turned into rows at once. Rows of Python take about ten times as much.
_BATCH_BYTES = 4 << 20
_MAX_BATCH_ROWS = 256


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of one row group of a file of transcripts."""

    uri: str
    row_group: int
    first: int  # row within the row group
    rows: int
    bytes: int  # uncompressed


def find_parts(out: str) -> list[Part]:
    """All transcripts of a run: one part for each row group, in the order of the files' names.

    Raises:
        UsageError: `out` is not the output directory of a run.
    """
    found: list[Part] = []
    for uri in files.list(files.join(out, "transcripts"), ".parquet", recursive=False):
        metadata = _open(uri).metadata
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            if group.num_rows:
                found.append(Part(uri, number, 0, group.num_rows, group.total_byte_size))
    if not found and not files.exists(files.join(out, "run.json")):
        raise UsageError(f"{out} has no transcripts: it is not the output directory of a run")
    return found


def divide(parts: Sequence[Part], rows: int) -> list[Part]:
    """Parts of at most `rows` rows, so that many processes can share a large row group."""
    divided: list[Part] = []
    for part in parts:
        for offset in range(0, part.rows, rows):
            count = min(rows, part.rows - offset)
            size = part.bytes * count // part.rows
            divided.append(Part(part.uri, part.row_group, part.first + offset, count, size))
    return divided


def iter_tables(
    parts: Sequence[Part], filters: Filters | None = None, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Small tables of the transcripts in some parts that pass the filters.

    Args:
        parts: from `find_parts`.
        filters: None: all rows, without corrections.
        columns: of the result, in this order; None: all of `pipelines.schema.TRANSCRIPT`. Fields that older
            versions did not write are null.
    """
    filters = filters or Filters()
    wanted = list(columns) if columns is not None else list(TRANSCRIPT.names)
    is_corrected = bool(filters.corrections)
    needed = pa.schema(
        [field for field in TRANSCRIPT if is_corrected or field.name in {*wanted, *filters.columns}]
    )
    for part in parts:
        for batch in _batches(part, needed.names):
            table = conform(pa.Table.from_batches([batch]), needed)
            if is_corrected:
                table = _corrected(table, filters)
            table = filters.apply(table)
            if table.num_rows:
                yield table.select(wanted)


def _corrected(table: pa.Table, filters: Filters) -> pa.Table:
    """A table of all columns with corrections; only a batch that has one is turned into rows."""
    corrected = filters.corrections.recording_ids
    if corrected.isdisjoint(table["recording_id"].to_pylist()):
        return table
    rows = [filters.corrections.apply(row) for row in table.to_pylist()]
    return pa.Table.from_pylist(rows, schema=table.schema)


def _batches(part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    parquet = _open(part.uri)
    rows = max(1, min(_MAX_BATCH_ROWS, _BATCH_BYTES * part.rows // max(part.bytes, 1)))
    known = [name for name in columns if name in parquet.schema_arrow.names]
    batches = parquet.iter_batches(rows, row_groups=[part.row_group], columns=known)
    place, end = 0, part.first + part.rows
    while place < end:
        batch = call_store("read", part.uri, lambda: next(batches, None))
        if batch is None:
            return
        first, last = max(part.first - place, 0), min(end - place, batch.num_rows)
        place += batch.num_rows
        if first < last:
            yield batch.slice(first, last - first)


def iter_transcripts(
    parts: Sequence[Part], filters: Filters | None = None, columns: Sequence[str] | None = None
) -> Iterator[Row]:
    """`iter_tables` as rows; those with corrections say in the field `corrected` who made them, and when."""
    for table in iter_tables(parts, filters, columns):
        for row in table.to_pylist():
            is_whole = columns is None and filters is not None
            yield filters.corrections.apply(row) if is_whole else row  # type: ignore[union-attr]


def audio_sources(out: str, recording_ids: Sequence[str]) -> dict[str, Row]:
    """Where the audio of some recordings is, and how it was decoded, from OUT/plan.

    Transcripts have addresses without credentials; only the plan has those that open the file.

    Returns:
        By recording id: `audio`, `location`, `channel`, `track`, `raw_format`, `window`, `duration`.
        Recordings of which the plan knows nothing any more are missing.
    """
    columns = ["recording_id", "index", "attempt", *_SOURCE]
    wanted = pa.array(recording_ids, pa.string())
    found: dict[str, Row] = {}
    schema = pa.schema([PLAN.field(name) for name in columns])
    for uri in files.list(files.join(out, "plan"), (".parquet",), recursive=False):
        parquet = _open(uri)
        known = [name for name in schema.names if name in parquet.schema_arrow.names]
        table = conform(parquet.read(columns=known), schema)
        table = table.filter(pc.is_in(table["recording_id"], wanted))
        for row in table.to_pylist():
            before = found.get(row["recording_id"])
            if before is None or row["attempt"] >= before["attempt"]:
                found[row["recording_id"]] = row
    return {name: {key: row[key] for key in _SOURCE} for name, row in found.items()}


_SOURCE = ("audio", "location", "channel", "track", "raw_format", "window", "duration")


def _open(uri: str) -> pq.ParquetFile:
    store, path = files.arrow_filesystem(uri)
    opened: Any = call_store("read", uri, lambda: pq.ParquetFile(store.open_input_file(path)))
    return opened
