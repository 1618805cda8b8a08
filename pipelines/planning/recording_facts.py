"""What the headers of the files say about the recordings of a manifest, which may be windows of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import UsageError
from pipelines.config import RunConfig
from pipelines.planning.found_names import find_names
from pipelines.planning.header_scan import ProbeFunction, Progress, plausible, read_headers
from pipelines.planning.members import addresses
from pipelines.planning.raw_samples import with_raw_samples

# How far a duration of the manifest may be below that of the header without a window: seconds, or a part of
# it.
_MAX_BELOW = (1.0, 0.1)


def with_headers(
    table: pa.Table, config: RunConfig, probe: ProbeFunction | None, progress: Progress | None
) -> pa.Table:
    """Append HEADER columns to RECORDINGS columns; `duration` is that of the recording.

    For trusted recordings (`plan.trust_durations`) it is the claimed one. A file is read once, however many
    recordings are in it.

    Raises:
        UsageError: the manifest claims a much shorter duration than the header, without a window.
    """
    is_trusted = (
        pc.is_valid(table["claimed"]).to_numpy()
        if config.plan.trust_durations
        else np.zeros(table.num_rows, bool)
    )
    facts = _facts(addresses(table), ~is_trusted, table, config, probe, progress)
    facts = with_raw_samples(facts, addresses(table), table["raw_format"], config.plan.probe_concurrency)
    table = _append(table, facts)
    table, is_found = find_names(table, config.plan.allowed_uris)
    if is_found.any():
        numbers = pa.array(np.flatnonzero(is_found))
        again = read_headers(
            addresses(table).take(numbers), np.ones(len(numbers), bool), config.plan, config.audio, probe
        )
        position = np.arange(table.num_rows)
        position[is_found] = table.num_rows + np.arange(len(numbers))
        facts = pa.concat_tables([facts, again]).take(pa.array(position))
        table = _append(table.drop_columns(facts.column_names), facts)
    _refuse_unsaid_windows(table, is_trusted)
    return _with_durations(table, is_trusted)


def _facts(
    uris: pa.ChunkedArray,
    is_wanted: np.ndarray,
    table: pa.Table,
    config: RunConfig,
    probe: ProbeFunction | None,
    progress: Progress | None,
) -> pa.Table:
    """HEADER columns, one row per address."""
    if table["window"].null_count == table.num_rows:
        return read_headers(uris, is_wanted, config.plan, config.audio, probe, progress)
    # Windows of one file: it is read once.
    unique = pc.unique(uris.filter(pa.array(is_wanted)))
    once = read_headers(
        pa.chunked_array([unique], pa.string()),
        np.ones(len(unique), bool),
        config.plan,
        config.audio,
        probe,
        progress,
    )
    position = pc.index_in(uris, value_set=unique)
    position = pc.if_else(pa.array(is_wanted), position, pa.scalar(None, pa.int32()))
    return (
        once.take(position)
        if len(unique)
        else read_headers(uris, is_wanted, config.plan, config.audio, probe)
    )


def _append(table: pa.Table, facts: pa.Table) -> pa.Table:
    for name in facts.column_names:
        table = table.append_column(name, facts[name])
    return table


def _refuse_unsaid_windows(table: pa.Table, is_trusted: np.ndarray) -> None:
    """Refuse a duration that is far below the header's: the rest would be transcribed, too."""
    claimed, header = _floats(table["claimed"]), _floats(table["duration"])
    with np.errstate(invalid="ignore"):
        is_below = claimed < header - np.maximum(_MAX_BELOW[0], _MAX_BELOW[1] * header)
    is_below &= pc.is_null(table["window"]).to_numpy() & ~is_trusted
    if is_below.any():
        row = table.slice(int(np.flatnonzero(is_below)[0]), 1).to_pylist()[0]
        raise UsageError(
            f"{row['origin'] or row['recording_id']}: `duration` is {row['claimed']:g} s, but the header of "
            f"{row['audio']} says {row['duration']:g} s; for a part of the file add `offset` (0: from its "
            "start), for all of it correct `duration` or leave it out"
        )


def _with_durations(table: pa.Table, is_trusted: np.ndarray) -> pa.Table:
    """The durations of the recordings: of the file, or of a window of it."""
    duration = _floats(table["duration"])
    if is_trusted.any():
        believed = [plausible(seconds, None) for seconds in table["claimed"].to_pylist()]
        duration = np.where(is_trusted, np.array(believed, np.float64), duration)
    if table["window"].null_count < table.num_rows:
        start, end = (_floats(pc.struct_field(table["window"], name)) for name in ("start", "end"))
        is_read = pc.is_null(table["probe_error"]).to_numpy()
        is_open = np.isnan(end) & ~np.isnan(start) & ~is_trusted
        duration = np.where(is_open, duration - start, duration)
        duration = np.where(~np.isnan(end) & is_read, end - start, duration)
        duration = np.where(duration > 0, duration, np.nan)
    column = table.schema.get_field_index("duration")
    return table.set_column(column, "duration", pa.array(duration, pa.float64(), mask=np.isnan(duration)))


def _floats(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    values: np.ndarray = column.cast(pa.float64()).to_numpy()
    return values
