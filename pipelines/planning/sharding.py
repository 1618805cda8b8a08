"""Cutting recordings into shards of equal length with stable ids: pure computation on tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import RunConfig
from pipelines.planning.header_scan import HEADER
from pipelines.schema import PLAN
from pipelines.storage.parquet import rows_at

# With the error code of headers that could not be read. For the estimate; not stored.
PLANNED = PLAN.append(HEADER.field("probe_error"))


def cut_into_shards(table: pa.Table, shard_duration: float, settings: str) -> pa.Table:
    """One row per shard, from one row per recording.

    Args:
        table: RECORDINGS columns of `planner` and HEADER columns.
        shard_duration: longest shard in seconds.
        settings: part of the shard ids: see `settings_key`.

    Returns:
        PLANNED columns.
    """
    duration = table["duration"].to_numpy()
    with np.errstate(invalid="ignore"):
        counts = np.maximum(1, np.ceil(np.nan_to_num(duration / shard_duration) - 1e-9)).astype(np.int64)
    owner = np.repeat(np.arange(table.num_rows), counts)
    index = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    count = counts[owner]
    length = np.nan_to_num(duration[owner]) / count
    window_start, window_end = _window(table, "start")[owner], _window(table, "end")[owner]
    first_second = np.nan_to_num(window_start)
    # Rounded to milliseconds, equally on both sides of a boundary.
    start, end = np.round(first_second + index * length, 3), np.round(first_second + (index + 1) * length, 3)
    last = index == count - 1
    # The borders of a window are exact.
    start = np.where(index == 0, first_second, start)
    end = np.where(last, window_end, end)
    rows = rows_at(table, owner)
    columns = {name: rows[name] for name in rows.column_names}
    columns |= {
        "index": pa.array(index.astype(np.int32)),
        "shard_count": pa.array(count.astype(np.int32)),
        "start": pa.array(start),
        "end": pa.array(end, mask=np.isnan(end)),
    }
    columns["earlier"] = pa.nulls(rows.num_rows, pa.string())
    columns["shard_id"] = pa.array(_ids(columns, settings), pa.string())
    return pa.table([columns[name] for name in PLANNED.names], schema=PLANNED)


def _ids(columns: dict[str, pa.ChunkedArray], settings: str) -> Iterator[str]:
    """Stable ids: equal in every run for the same span of the same object with the same settings."""
    extra = zip(*(columns[name].to_pylist() for name in ("window", "raw_format", "track")), strict=True)
    names = ("recording_id", "audio", "etag", "audio_bytes", "start", "end", "channel")
    rows = zip(*(columns[name].to_pylist() for name in (*names, "attempt")), extra, strict=True)
    for *facts, attempt, (window, raw_format, track) in rows:
        # Only what is set, because earlier versions had only the rest.
        facts += [one for one in (window, raw_format, track) if one and one != "auto"]
        digest = hashlib.sha256("\0".join([*map(str, facts), settings]).encode()).hexdigest()[:24]
        yield digest if attempt == 1 else f"{digest}.{attempt}"


def settings_key(config: RunConfig, whole: bool) -> str:
    """The settings that determine where shards and segments are cut, as text."""
    identity = config.identity()
    return json.dumps([identity["audio"], identity["segmenter"], identity["plan"], whole], sort_keys=True)


def _window(table: pa.Table, name: str) -> np.ndarray:
    """A border of each recording's window, in seconds of its file; NaN where it has none."""
    values: np.ndarray = pc.struct_field(table["window"], name).cast(pa.float64()).to_numpy()
    return values
