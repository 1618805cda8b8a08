"""Converts tables with audio to rows for the actors, and back, without copying the audio.

An hour of audio is 115 MB, and a GPU would wait for every copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from actors.records import Row
from pipelines.schema import DECODED

SEGMENTS, SAMPLES = "segments", "samples"
# Columns of a plan that decoded rows have in another form.
_REDACTED = frozenset({"audio", "location"})


def to_rows(table: pa.Table) -> list[Row]:
    """A table's rows. The samples of segments are views of the table's memory and keep it alive.

    Args:
        table: has a column `segments`, a list of structs with a large_binary `samples`; neither is ever null.
    """
    rows: list[Row] = _without_samples(table).to_pylist()
    views = iter(_sample_views(table[SEGMENTS]))
    for row in rows:
        for segment in row[SEGMENTS]:
            segment[SAMPLES] = next(views)
    return rows


def to_table(rows: Sequence[Row], schema: pa.Schema, source: pa.Table) -> pa.Table:
    """Rows from `to_rows(source)`, with more columns, as a table of `schema`.

    If every segment is still there, the samples are the source's own memory; if not, all are copied.
    """
    samples_now = [segment[SAMPLES] for row in rows for segment in row[SEGMENTS] or []]
    views = _sample_views(source[SEGMENTS])
    same = len(rows) == source.num_rows and len(samples_now) == len(views)
    if not same or any(
        _memory_range(now) != _memory_range(view) for now, view in zip(samples_now, views, strict=True)
    ):
        return pa.Table.from_pylist(list(rows), schema=schema)
    index = schema.get_field_index(SEGMENTS)
    segment_type = schema.field(index).type.value_type
    slim_fields = [field for field in segment_type if field.name != SAMPLES]
    slim_schema = schema.set(index, pa.field(SEGMENTS, pa.list_(pa.struct(slim_fields))))
    table = pa.Table.from_pylist(list(rows), schema=slim_schema)
    column = table[SEGMENTS].combine_chunks()
    chunks, first = [], 0
    for chunk in source[SEGMENTS].chunks:
        part = column.slice(first, len(chunk))
        first += len(chunk)
        values, samples = part.flatten(), _samples(chunk)
        fields = [samples if field.name == SAMPLES else values.field(field.name) for field in segment_type]
        structs = pa.StructArray.from_arrays(fields, fields=list(segment_type))
        chunks.append(pa.ListArray.from_arrays(_offsets(part), structs))
    return table.set_column(index, schema.field(index), pa.chunked_array(chunks, schema.field(index).type))


def decoded_table(rows: Sequence[Row], plan: pa.Table) -> pa.Table:
    """Decoded rows as a table of DECODED.

    Samples that follow each other in memory, as those of a row from a decoding process, are not copied.

    Args:
        rows: from `actors.decoder`, in the order of the plan; `audio` and `location` may be redacted.
        plan: the rows that they were made of, whose columns are taken as they are.
    """
    columns = []
    for field in DECODED:
        is_planned = field.name in plan.column_names and field.name not in _REDACTED
        if field.name == SEGMENTS:
            columns.append(_segment_lists(rows, field.type))
        elif is_planned and plan.schema.field(field.name).type == field.type:
            columns.append(plan[field.name])
        else:
            columns.append(pa.array([row.get(field.name) for row in rows], field.type))
    return pa.table(columns, schema=DECODED)


def _segment_lists(rows: Sequence[Row], kind: pa.ListType) -> pa.ListArray:
    segments = [segment for row in rows for segment in row[SEGMENTS]]
    fields = [
        _binary([segment[SAMPLES] for segment in segments])
        if field.name == SAMPLES
        else pa.array([segment.get(field.name) for segment in segments], field.type)
        for field in kind.value_type
    ]
    offsets = np.cumsum([0, *(len(row[SEGMENTS]) for row in rows)])
    structs = pa.StructArray.from_arrays(fields, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs, type=kind)


def _binary(values: Sequence[Any]) -> pa.LargeBinaryArray:
    """Buffers as an array; values that follow each other in memory stay where they are."""
    offsets = np.cumsum([0, *map(len, values)], dtype=np.int64)
    places = [_memory_range(value) for value in values if len(value)]
    if places and all(place + length == after for (place, length), (after, _) in pairwise(places)):
        data = pa.foreign_buffer(places[0][0], int(offsets[-1]), base=list(values))
    else:
        data = pa.allocate_buffer(int(offsets[-1]))
        whole = np.frombuffer(data, np.uint8)
        for value, start, end in zip(values, offsets[:-1], offsets[1:], strict=True):
            whole[start:end] = np.frombuffer(value, np.uint8)
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(values), [None, pa.py_buffer(offsets), data]
    )


def _without_samples(table: pa.Table) -> pa.Table:
    """The table without its samples; nothing is copied."""
    chunks = []
    segment_type = table.schema.field(SEGMENTS).type.value_type
    fields = [field for field in segment_type if field.name != SAMPLES]
    for chunk in table[SEGMENTS].chunks:
        values = chunk.flatten()
        slim = pa.StructArray.from_arrays([values.field(field.name) for field in fields], fields=fields)
        chunks.append(pa.ListArray.from_arrays(_offsets(chunk), slim))
    index = table.schema.get_field_index(SEGMENTS)
    return table.set_column(index, SEGMENTS, pa.chunked_array(chunks, pa.list_(pa.struct(fields))))


def _offsets(chunk: pa.ListArray) -> pa.Array:
    """Where each list begins in `chunk.flatten()`."""
    offsets = np.asarray(chunk.offsets)
    return pa.array(offsets - offsets[0], pa.int32())


def _sample_views(column: pa.ChunkedArray) -> list[memoryview]:
    """The samples of all segments, in order, as views of their bytes."""
    views = []
    for chunk in column.chunks:
        samples = _samples(chunk)
        if len(samples):
            _, offset_buffer, data = samples.buffers()
            offsets = np.frombuffer(offset_buffer, np.int64)
            offsets = offsets[samples.offset : samples.offset + len(samples) + 1]
            memory = memoryview(data) if data is not None else memoryview(b"")
            views += [memory[start:end] for start, end in pairwise(offsets.tolist())]
    return views


def _samples(chunk: pa.ListArray) -> pa.LargeBinaryArray:
    return chunk.flatten().field(SAMPLES)


def _memory_range(view: Any) -> tuple[int, int]:
    """The address of a buffer and its length in bytes."""
    array = np.frombuffer(view, np.uint8)
    return array.ctypes.data, len(array)
