"""One pass over OUT/transcripts for all figures about them, a few thousand rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.reporting.figures.distributions import CHARACTERS, CONFIDENCES, DURATIONS, Distribution
from pipelines.reporting.figures.samples import LONGEST_TEXT, SampleChooser
from pipelines.reporting.flag_counts import FlagCounts
from pipelines.storage import files
from pipelines.storage.filesystems import call_store

_PROVENANCE = ("codec", "sampling_rate", "channels")
_SEGMENT = ("start", "end", "language", "text", "confidence", "flags")
# Words are not among these: they are most of a transcript.
COLUMNS = [
    *("recording_id", "duration", "silence", "language", "status", "flags"),
    *(f"provenance.{name}" for name in _PROVENANCE),
    *(f"segments.list.element.{name}" for name in _SEGMENT),
]
# Uncompressed bytes of the columns that are in memory at once, about.
_BATCH_BYTES = 16 << 20


@dataclass
class TranscriptFigures:
    """Sums, histograms and samples of transcripts."""

    transcripts: int = 0
    seconds: float = 0.0
    silence: float = 0.0
    judged_seconds: float = 0.0  # of transcripts that know their silence
    recording_ids: list[pa.Array] = field(default_factory=list)
    # Recordings and seconds by name.
    groups: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    segment_flags: FlagCounts = field(default_factory=FlagCounts)
    durations: Distribution = field(default_factory=lambda: Distribution(DURATIONS, 400 * 3600, True))
    confidence: Distribution = field(default_factory=lambda: Distribution(CONFIDENCES, 1.0))
    characters: Distribution = field(default_factory=lambda: Distribution(CHARACTERS, 200.0))
    samples: SampleChooser = field(default_factory=SampleChooser)

    def add(self, batch: pa.RecordBatch) -> None:
        """Count transcripts; columns that older versions did not write may be missing."""
        duration = _numbers(_column(batch, "duration", pa.float64()))
        silence = _numbers(_column(batch, "silence", pa.float64()))
        ids = _column(batch, "recording_id", pa.string())
        self.recording_ids.append(ids)
        self.transcripts += batch.num_rows
        self.seconds += float(np.nansum(duration))
        self.silence += float(np.nansum(silence))
        self.judged_seconds += float(np.nansum(duration[np.isfinite(silence)]))
        self.durations.add(duration)
        provenance = _column(batch, "provenance", pa.struct([]))
        for name, values, unknown in (
            ("status", _column(batch, "status", pa.string()), "unknown"),
            ("language", _column(batch, "language", pa.string()), "nothing said"),
            *((name, _field(provenance, name), "unknown") for name in _PROVENANCE),
        ):
            self._group(name, pc.fill_null(values.cast(pa.string()), unknown), duration)
        flags = _column(batch, "flags", pa.list_(pa.string()))
        names = pc.replace_substring_regex(pc.list_flatten(flags), pattern=":.*", replacement="")
        for row in pc.value_counts(names).to_pylist():
            self.flags[row["values"]] = self.flags.get(row["values"], 0) + row["counts"]
        if "segments" in batch.schema.names:
            self._add_segments(ids, batch.column("segments"))

    def _group(self, name: str, values: pa.Array, seconds: np.ndarray) -> None:
        totals = self.groups.setdefault(name, {})
        table = pa.table({"name": values, "seconds": pa.array(np.nan_to_num(seconds))})
        for row in table.group_by("name").aggregate([("seconds", "sum"), ("seconds", "count")]).to_pylist():
            total = totals.setdefault(row["name"], [0, 0.0])
            total[0] += row["seconds_count"]
            total[1] += row["seconds_sum"]

    def _add_segments(self, ids: pa.Array, lists: pa.ListArray) -> None:
        segments, parents = pc.list_flatten(lists), pc.list_parent_indices(lists)
        if not len(segments):
            return
        self.segment_flags.add(segments)
        start, end = _numbers(segments.field("start")), _numbers(segments.field("end"))
        confidence = _numbers(_field(segments, "confidence", pa.float64()))
        text = _field(segments, "text")
        length = _numbers(pc.fill_null(pc.utf8_length(text), 0))
        self.confidence.add(confidence)
        said = np.flatnonzero((length > 0) & (end > start))
        self.characters.add(length[said] / (end - start)[said])

        def sample(index: int) -> dict[str, Any]:
            place = int(said[index])
            whole = text[place].as_py()
            value = confidence[place]
            return {
                "recording_id": ids[parents[place].as_py()].as_py(),
                "start": round(float(start[place]), 3),
                "end": round(float(end[place]), 3),
                "language": _field(segments, "language", pa.string())[place].as_py(),
                "confidence": round(float(value), 4) if np.isfinite(value) else None,
                "flags": _field(segments, "flags", pa.list_(pa.string()))[place].as_py() or [],
                "text": whole if len(whole) <= LONGEST_TEXT else f"{whole[:LONGEST_TEXT]} …",
            }

        self.samples.add(confidence[said], (end - start)[said], sample)

    def ordered(self, name: str) -> dict[str, dict[str, float]]:
        """Recordings and hours of a group by name, the most hours first."""
        totals = sorted(self.groups.get(name, {}).items(), key=lambda item: (-item[1][1], item[0]))
        return {key: {"recordings": int(count), "hours": seconds / 3600} for key, (count, seconds) in totals}


def of_transcripts(out: str) -> TranscriptFigures:
    """The figures of the finished transcripts of an output directory."""
    figures = TranscriptFigures()
    for batch in _batches(files.join(out, "transcripts")):
        figures.add(batch)
    return figures


def _batches(folder: str) -> Iterator[pa.RecordBatch]:
    """Some rows at a time of all files, whatever size these have."""
    for uri in files.list(folder, ".parquet"):
        store, path = files.arrow_filesystem(uri)
        with call_store("read", uri, lambda: store.open_input_file(path)) as source:  # noqa: B023
            parquet = call_store("read", uri, lambda: pq.ParquetFile(source))
            size = sum(_bytes(parquet.metadata.row_group(n)) for n in range(parquet.num_row_groups))
            rows = int(_BATCH_BYTES * parquet.metadata.num_rows / max(size, 1))
            batches = parquet.iter_batches(min(max(rows, 16), 8192), columns=COLUMNS)
            while (batch := call_store("read", uri, lambda: next(batches, None))) is not None:  # noqa: B023
                yield batch


def _bytes(group: Any) -> int:
    """Uncompressed size of the columns that are read."""
    columns = (group.column(number) for number in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema in _PATHS)


_PATHS = frozenset(COLUMNS) | {"flags.list.element"}


def _column(batch: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.Array:
    if name not in batch.schema.names:
        return pa.nulls(batch.num_rows, kind)
    column = batch.column(name)
    return pa.nulls(batch.num_rows, kind) if pa.types.is_null(column.type) else column


def _field(structs: pa.Array, name: str, kind: pa.DataType | None = None) -> pa.Array:
    if structs.type.get_field_index(name) < 0:
        return pa.nulls(len(structs), kind or pa.string())
    # Null where the struct is null, which `structs.field` is not.
    found: pa.Array = pc.struct_field(structs, name)
    return found


def _numbers(values: pa.Array) -> np.ndarray:
    """Floats, nan where null."""
    numbers: np.ndarray = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return numbers
