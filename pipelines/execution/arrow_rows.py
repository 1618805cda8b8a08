"""Tables with audio to rows for the actors, and back, without copying the audio: an hour of it is 115 MB, and a GPU would wait for every copy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from actors.records import Row

SEGMENTS, SAMPLES = "segments", "samples"


def to_rows(table: pa.Table) -> list[Row]:
    """A table's rows; the samples of segments are views of the table's memory, which lives as long as they do.

    Args:
        table: with a column `segments`, a list of structs with a large_binary `samples`; neither is ever null.
    """
    rows: list[Row] = _slim(table).to_pylist()
    views = iter(_views(table[SEGMENTS]))
    for row in rows:
        for segment in row[SEGMENTS]:
            segment[SAMPLES] = next(views)
    return rows


def to_table(rows: Sequence[Row], schema: pa.Schema, source: pa.Table) -> pa.Table:
    """Rows that came of `to_rows(source)`, with more in them, as a table of `schema`.

    Where every segment is still there, the samples are the source's own memory; else all are copied.
    """
    kept = [segment[SAMPLES] for row in rows for segment in row[SEGMENTS] or []]
    views = _views(source[SEGMENTS])
    same = len(rows) == source.num_rows and len(kept) == len(views)
    if not same or any(_place(one) != _place(other) for one, other in zip(kept, views, strict=True)):
        return pa.Table.from_pylist(list(rows), schema=schema)
    at = schema.get_field_index(SEGMENTS)
    segment_type = schema.field(at).type.value_type
    slim = schema.set(
        at,
        pa.field(SEGMENTS, pa.list_(pa.struct([field for field in segment_type if field.name != SAMPLES]))),
    )
    table = pa.Table.from_pylist(list(rows), schema=slim)
    column = table[SEGMENTS].combine_chunks()
    chunks, first = [], 0
    for chunk in source[SEGMENTS].chunks:
        part = column.slice(first, len(chunk))
        first += len(chunk)
        values, samples = part.flatten(), _samples(chunk)
        fields = [samples if field.name == SAMPLES else values.field(field.name) for field in segment_type]
        chunks.append(
            pa.ListArray.from_arrays(
                _offsets(part), pa.StructArray.from_arrays(fields, fields=list(segment_type))
            )
        )
    return table.set_column(at, schema.field(at), pa.chunked_array(chunks, schema.field(at).type))


def _slim(table: pa.Table) -> pa.Table:
    """The table without its samples; nothing is copied."""
    chunks = []
    kind = table.schema.field(SEGMENTS).type.value_type
    fields = [field for field in kind if field.name != SAMPLES]
    for chunk in table[SEGMENTS].chunks:
        values = chunk.flatten()
        slim = pa.StructArray.from_arrays([values.field(field.name) for field in fields], fields=fields)
        chunks.append(pa.ListArray.from_arrays(_offsets(chunk), slim))
    at = table.schema.get_field_index(SEGMENTS)
    return table.set_column(at, SEGMENTS, pa.chunked_array(chunks, pa.list_(pa.struct(fields))))


def _offsets(chunk: pa.ListArray) -> pa.Array:
    """Where each list begins in `chunk.flatten()`."""
    places = np.asarray(chunk.offsets)
    return pa.array(places - places[0], pa.int32())


def _views(column: pa.ChunkedArray) -> list[memoryview]:
    """The samples of all segments, in order, as bytes in place."""
    views = []
    for chunk in column.chunks:
        samples = _samples(chunk)
        if len(samples):
            _, offsets, data = samples.buffers()
            places = np.frombuffer(offsets, np.int64)[
                samples.offset : samples.offset + len(samples) + 1
            ].tolist()
            memory = memoryview(data) if data is not None else memoryview(b"")
            views += [memory[start:end] for start, end in pairwise(places)]
    return views


def _samples(chunk: pa.ListArray) -> pa.LargeBinaryArray:
    return chunk.flatten().field(SAMPLES)


def _place(view: Any) -> tuple[int, int]:
    """Where in memory something lies, and how long it is."""
    array = np.frombuffer(view, np.uint8)
    return array.ctypes.data, len(array)
